"""search.py against the slow obvious search, bit for bit: chunks, precisions, threads, ties,
storage.

python -m pytest tests/test_search.py
"""

import numpy as np
import pytest
import torch

import search
from files import InputError
from search import score, top_k


def slow_top_k(queries, corpus, k):
    """Every score, sorted by (score descending, number ascending) as Python sorts tuples."""
    scores, numbers = [], []
    for query in queries.astype(np.float64):
        row = [float(np.float32(np.dot(query, passage))) for passage in corpus.astype(np.float64)]
        best = sorted(range(len(corpus)), key=lambda i: (-row[i], i))[:k]
        scores.append([row[i] for i in best])
        numbers.append(best)
    return scores, numbers


def check(queries, corpus, k, stored=None, precision="float32"):
    stored = corpus if stored is None else stored
    scores, numbers = top_k(queries, stored, k, precision=precision)
    assert (scores.dtype, numbers.dtype) == (np.float32, np.int64)
    assert (scores.tolist(), numbers.tolist()) == slow_top_k(queries, corpus, k)


@pytest.fixture
def chunks(monkeypatch):
    """chunks(queries, passages): how many of them one matrix product has."""
    return lambda *sizes: monkeypatch.setitem(search.CHUNKS, "cpu", sizes)


def unit(rows, width, seed):
    vectors = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


PRECISIONS = pytest.mark.parametrize("precision", ["float32", "bfloat16"])


@PRECISIONS
@pytest.mark.parametrize("sizes", [(512, 8192), (2, 3), (7, 50), (1, 1000)])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_search_is_exact_whatever_the_chunks(chunks, sizes, k, precision):
    chunks(*sizes)
    queries, corpus = unit(7, 24, 0), unit(131, 24, 1)
    corpus[[40, 90, 130]] = corpus[3]  # ties
    check(queries, corpus, k, precision=precision)


def near_duplicates():
    """2,000 passages that differ in the last digits: more than the candidates are in doubt."""
    noise = np.random.default_rng(4).standard_normal((2000, 16)).astype(np.float32)
    return unit(3, 16, 2), np.repeat(unit(1, 16, 3), 2000, axis=0) + np.float32(1e-8) * noise


def negative_scores():
    return -abs(unit(4, 16, 0)), abs(unit(400, 16, 1))


def equal_passages():
    return unit(2, 8, 0), np.repeat(unit(1, 8, 1), 300, axis=0)


def zeros():
    """A query of zeros ties with all passages; a passage of zeros has a score of 0 like any
    other."""
    queries, corpus = unit(11, 16, 5), unit(300, 16, 6)
    queries[4], corpus[::7] = 0, 0
    return queries, corpus


def wide_range():
    """Lengths from 1e-8 to 1e8."""
    lengths = 10.0 ** np.arange(-8, 9)
    return unit(3, 12, 7), (unit(170, 12, 8) * np.tile(lengths, 10)[:, None]).astype(np.float32)


HARD = [near_duplicates, negative_scores, equal_passages, zeros, wide_range]


@PRECISIONS
@pytest.mark.parametrize("data", HARD)
@pytest.mark.parametrize(("k", "sizes"), [(6, (512, 70)), (150, (2, 300))])
def test_search_is_exact_on_hard_data(chunks, monkeypatch, data, k, sizes, precision):
    chunks(*sizes)
    monkeypatch.setattr(search, "MOST_CELLS", 5000)
    check(*data(), k, precision=precision)


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same(chunks, threads):
    chunks(512, 70)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        check(unit(11, 16, threads), unit(300, 16, threads + 1), 160)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_search_reads_half_precision_from_disk(chunks, tmp_path, stored):
    chunks(512, 10)
    queries, corpus = unit(5, 12, 0), torch.from_numpy(unit(77, 12, 1))
    rounded = corpus.to(getattr(torch, stored))
    written = rounded.view(torch.uint16) if stored == "bfloat16" else rounded
    np.save(tmp_path / "corpus.npy", written.numpy())
    on_disk = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    check(queries, rounded.float().numpy(), 9, on_disk)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_within_the_error_that_is_reckoned_with(dtype):
    numbers = np.random.default_rng(2).integers(-9, 10, (320, 40)).astype(np.float32)
    for rows in (unit(320, 40, 0), numbers):  # whole numbers: exact in bfloat16, unlike products
        q, c = torch.from_numpy(rows[:20]), torch.from_numpy(rows[20:])
        norms = [search.largest_norms(x, dtype, "row", 0) for x in (q, c)]
        products = (q.to(dtype) @ c.to(dtype).T).float()
        off = (products - q.double() @ c.double().T).abs()
        assert (off < search.rounding_error(*norms, 40, dtype)(products)).all()
        assert off.any() or rows is numbers and dtype == torch.float32


def test_search_in_nothing_and_for_nothing():
    assert top_k(unit(3, 4, 0), unit(0, 4, 0), 5)[1].shape == (3, 0)
    assert top_k(unit(0, 4, 0), unit(3, 4, 0), 5)[0].shape == (0, 3)


MESSAGES = [  # a number in the queries, one in the passages, width of the passages, message
    (0, np.nan, 4, "embedding of passage 6 holds NaN or infinity"),
    (np.inf, 0, 4, "embedding of query 1 holds NaN or infinity"),
    (0, 0, 5, r"shapes \(2, 4\) and \(9, 5\)"),
]


@pytest.mark.parametrize("in_query, in_passage, width, message", MESSAGES)
def test_embeddings_that_cannot_be_searched(chunks, in_query, in_passage, width, message):
    chunks(512, 4)
    queries, corpus = unit(2, 4, 1), unit(9, width, 0)
    queries[1, 1] += in_query
    corpus[6, 1] += in_passage
    with pytest.raises(InputError, match=message):
        top_k(queries, corpus, 3)


def test_score_is_the_rounded_product():
    q, p = unit(3, 300, 0), unit(3, 300, 1)
    exact = [sum(float(a) * float(b) for a, b in zip(q[i], p[i], strict=True)) for i in range(3)]
    assert score(q, p).tolist() == pytest.approx(np.float32(exact).tolist(), abs=2**-24)
    assert score(q, p).tolist() == [score(q[i], p[i : i + 1]).item() for i in range(3)]
    assert score(q[0], p).dtype == np.float32 and score(q[0], p[:0]).shape == (0,)
