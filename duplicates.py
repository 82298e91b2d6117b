"""Near duplicates among texts, by MinHash (Broder 1997): hashes are compared, not texts.

In: texts as lists of words. Out: which of them nearly repeat an earlier one. Two texts are alike by
the share of their runs of three words that both have (Jaccard). A text costs 512 bytes of memory,
however long it is.
"""

import functools
import hashlib
import itertools
import zlib
from collections.abc import Iterable, Iterator

import numpy as np


def in_parts(rows, size: int = 1024) -> Iterator[list]:
    rows = iter(rows)
    while part := list(itertools.islice(rows, size)):
        yield part


def hash_words(words: list[str]) -> int:
    """64 bits of a digest: what equal lists of words are recognised by."""
    digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8)
    return int.from_bytes(digest.digest())


FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd; of the polynomial that makes one number of several


def shingles(texts: list[list[str]], size: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes (uint64) of all runs of `size` words of every text, where each text's begin (N + 1)).

    A shorter text is one run.
    """
    # A number for every word, the texts one after the other, short ones padded with zeros.
    padded = np.array([max(len(text), size) for text in texts])
    starts = np.concatenate([[0], padded.cumsum()])
    words = np.zeros(starts[-1] + size - 1, np.uint64)
    for start, text in zip(starts, texts, strict=False):
        numbers = map(zlib.crc32, " ".join(text).encode().split())
        words[start : start + len(text)] = np.fromiter(numbers, np.uint64, len(text))

    # The run that begins at each place: a polynomial of its words, modulo 2^64.
    hashes = np.zeros(starts[-1], np.uint64)
    for place in range(size):
        hashes = hashes * FACTOR + words[place : place + starts[-1]]

    # Places too near the end of their text begin no run.
    begins = np.arange(starts[-1]) <= np.repeat(starts[1:] - size, padded)
    return hashes[begins], np.concatenate([[0], (padded - size + 1).cumsum()])


# Of a signature. Two texts that share a part s of their shingles are compared with probability
# 1 - (1 - s^4)^32.
BANDS, ROWS = 32, 4
NEAR = 0.8  # share of three-word runs that makes two texts near duplicates


def minhash(texts: Iterable[list[str]], seed: int = 42) -> np.ndarray:
    """Signatures (N, BANDS * ROWS) uint32. The texts are read as they are needed.

    Two agree at a place with the Jaccard similarity of their texts' runs of three words.
    """
    # Two numbers for each place of a signature.
    generator = np.random.default_rng(seed)
    numbers = generator.integers(2**64, size=(BANDS * ROWS, 2), dtype=np.uint64)

    def signatures() -> Iterator[np.ndarray]:
        # A few texts at a time, since some are long.
        for part in in_parts(texts, 64):
            # A place is the smallest of a text's hashes, mixed by numbers of its own.
            hashes, starts = shingles(part, 3)
            columns = (hashes * (factor | 1) + offset >> 32 for factor, offset in numbers)
            smallest = [np.minimum.reduceat(column, starts[:-1]) for column in columns]
            yield from np.stack(smallest, axis=1).astype(np.uint32)

    return np.fromiter(signatures(), np.dtype((np.uint32, BANDS * ROWS)))


def near_duplicates(signatures: np.ndarray, threshold: float = NEAR) -> np.ndarray:
    """(N,) bool: the signature agrees with an earlier one in at least `threshold` of its places.

    Compared are rows that agree in a complete band, each with the first such row and with the one
    before it: linear, whatever the data.
    """
    near = np.zeros(len(signatures), bool)
    for band in np.split(signatures, BANDS, axis=1):
        # One number for the band, modulo 2^64.
        columns = band.T.astype(np.uint64)
        keys = functools.reduce(lambda key, column: key * FACTOR + column, columns)

        # Rows with an equal band are brought together, in their order.
        order = np.argsort(keys, kind="stable")
        repeats = np.append(False, keys[order][1:] == keys[order][:-1])
        first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(order))))

        # Each is compared with the first of its band and with the one before, in bounded memory.
        places = np.flatnonzero(repeats)
        for start in range(0, len(places), 1 << 16):
            later = places[start : start + (1 << 16)]
            for earlier in (first[later], later - 1):
                a, b = order[earlier], order[later]
                near[b[(signatures[a] == signatures[b]).mean(1) >= threshold]] = True
    return near
