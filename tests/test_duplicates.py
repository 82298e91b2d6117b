"""duplicates.py: hashes against runs of words, signatures against the shares that they estimate.

python -m pytest tests/test_duplicates.py
"""

import random

import numpy as np
import pytest

import duplicates


def slow_shingles(text, size):
    return {tuple(text[i : i + size]) for i in range(max(1, len(text) - size + 1))}


@pytest.mark.parametrize("size", [1, 3, 13])
def test_shingles_are_the_runs_of_words(size):
    generator = random.Random(size)
    lengths = (20, 1, 3, 2, 13, 14, 40, 12)
    texts = [[generator.choice("abcdefgh") for _ in range(n)] for n in lengths]
    hashes, starts = duplicates.shingles(texts, size)
    assert np.diff(starts).tolist() == [max(1, n - size + 1) for n in lengths]
    runs = {}
    for text, start, end in zip(texts, starts, starts[1:], strict=False):
        for i, value in enumerate(hashes[start:end].tolist()):
            run = tuple(text[i : i + size])
            assert runs.setdefault(value, run) == run, "one hash, one run"
    assert len(runs) == len(set(runs.values()))


def test_signatures_estimate_the_share_of_common_shingles():
    generator = random.Random(0)
    for changed in (0, 2, 5, 10, 30, 100):
        a = [f"w{generator.randrange(10**6)}" for _ in range(100)]
        b = list(a)
        for i in generator.sample(range(100), changed):
            b[i] = f"x{generator.randrange(10**6)}"
        sets = slow_shingles(a, 3), slow_shingles(b, 3)
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        signatures = [duplicates.minhash([a, b], seed) for seed in range(8)]
        estimate = np.mean([one == two for one, two in signatures])
        assert abs(estimate - true) <= 4 * np.sqrt(true * (1 - true) / (8 * 128)), changed


def test_near_duplicates_are_those_that_comparing_all_finds():
    generator = random.Random(1)
    texts = []
    for i in range(400):
        if i % 4 == 0:
            texts.append([f"w{generator.randrange(10**5)}" for _ in range(60)])
        else:  # a copy of an earlier one with some words changed
            copy = list(generator.choice(texts))
            for place in generator.sample(range(60), generator.choice([0, 1, 2, 8, 20])):
                copy[place] = f"v{generator.randrange(10**5)}"
            texts.append(copy)
    signatures = duplicates.minhash(texts, seed=3)
    near = duplicates.near_duplicates(signatures, 0.8)
    shares = [(signatures[:i] == signatures[i]).mean(1).max(initial=0) for i in range(400)]
    expected = np.array(shares) >= 0.8
    assert 50 < expected.sum() < 300 and not (near & ~expected).any()
    assert (expected & ~near).sum() <= 2, "bands may miss a pair"


def test_a_stranger_in_a_band_hides_no_duplicate():
    """b has a's first band and three of four numbers of every other one, the stranger only the
    first band. It is found by comparing with the first of the band, and with the one before."""
    a = np.arange(128, dtype=np.uint32)
    b, stranger = a.copy(), a + 1000
    b[4::4] += 1
    stranger[:4] = a[:4]
    for rows in ((a, stranger, b), (stranger, a, b)):
        assert duplicates.near_duplicates(np.stack(rows), 0.75).tolist() == [False, False, True]
