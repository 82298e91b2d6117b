"""search.py against the slow obvious search, bit for bit: chunks, precisions, threads, ties, storage.

    python -m pytest tests/test_search.py
"""

import numpy as np
import pytest
import torch

import search
from files import InputError
from search import score, top_k


def slow_top_k(queries, corpus, k):
    """Every score, sorted by (score descending, index ascending) as Python sorts tuples."""
    scores, indices = [], []
    for query in queries:
        row = [float(np.float32(np.dot(query.astype(np.float64), passage.astype(np.float64)))) for passage in corpus]
        best = sorted(range(len(corpus)), key=lambda i: (-row[i], i))[:k]
        scores.append([row[i] for i in best])
        indices.append(best)
    return np.array(scores, np.float32), np.array(indices)


def unit(rows, width, seed):
    vectors = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("query_chunk", "corpus_chunk"), [(None, None), (2, 3), (7, 50), (1, 1000)])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_search_is_exact_whatever_the_chunks(query_chunk, corpus_chunk, k, precision):
    queries, corpus = unit(7, 24, 0), unit(131, 24, 1)
    corpus[[40, 90, 130]] = corpus[3]  # ties
    scores, indices = top_k(queries, corpus, k, query_chunk=query_chunk, corpus_chunk=corpus_chunk, precision=precision)
    expected_scores, expected = slow_top_k(queries, corpus, k)
    assert indices.tolist() == expected.tolist() and scores.tolist() == expected_scores.tolist()
    assert scores.dtype == np.float32 and indices.shape == (7, min(k, 131))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_search_among_near_duplicates_looks_again(precision):
    """2,000 passages that differ in the last digits only: more than the spare candidates lie within rounding of the k-th score."""
    queries = unit(3, 16, 2)
    noise = np.random.default_rng(4).standard_normal((2000, 16)).astype(np.float32)
    corpus = np.repeat(unit(1, 16, 3), 2000, axis=0) + np.float32(1e-8) * noise
    scores, indices = top_k(queries, corpus, 6, precision=precision, corpus_chunk=300)
    expected_scores, expected = slow_top_k(queries, corpus, 6)
    assert indices.tolist() == expected.tolist() and scores.tolist() == expected_scores.tolist()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_search_where_all_scores_are_negative(precision):
    queries, corpus = -abs(unit(4, 16, 0)), abs(unit(400, 16, 1))
    scores, indices = top_k(queries, corpus, 5, precision=precision, corpus_chunk=60)
    expected_scores, expected = slow_top_k(queries, corpus, 5)
    assert scores.max() < 0 and indices.tolist() == expected.tolist() and scores.tolist() == expected_scores.tolist()


def test_equal_passages_come_in_order():
    scores, indices = top_k(unit(2, 8, 0), np.repeat(unit(1, 8, 1), 300, axis=0), 4, corpus_chunk=64)
    assert indices.tolist() == [[0, 1, 2, 3]] * 2 and (scores == scores[:, :1]).all()


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_search_reads_half_precision_from_disk(tmp_path, stored):
    queries, corpus = unit(5, 12, 0), unit(77, 12, 1).astype(np.float16)
    if stored == "bfloat16":
        tensor = torch.from_numpy(unit(77, 12, 1)).bfloat16()
        corpus = tensor.view(torch.uint16).numpy()
        assert np.array_equal(search.as_float32(corpus), tensor.float().numpy())
    np.save(tmp_path / "corpus.npy", corpus)
    scores, indices = top_k(queries, np.load(tmp_path / "corpus.npy", mmap_mode="r"), 9, corpus_chunk=10)
    expected_scores, expected = slow_top_k(queries, search.as_float32(corpus), 9)
    assert indices.tolist() == expected.tolist() and scores.tolist() == expected_scores.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("data", ["unit vectors", "whole numbers"])  # small whole numbers are exact in bfloat16, their products are not
def test_products_lie_within_the_error_that_is_reckoned_with(dtype, data):
    q, c = unit(20, 40, 0), unit(300, 40, 1)
    if data == "whole numbers":
        q, c = (np.random.default_rng(rows).integers(-9, 10, (rows, 40)).astype(np.float32) for rows in (20, 300))
    q, c = torch.from_numpy(q), torch.from_numpy(c)
    norms = [search.largest_norms(x, dtype, "", 0) for x in (q, c)]
    products = (q.to(dtype) @ c.to(dtype).T).float()
    off = (products - q.double() @ c.double().T).abs()
    assert (off <= search.rounding_error(*norms, 40, dtype)(products)).all()
    moved = (off > 0).sum()
    assert moved or (data == "whole numbers" and dtype == torch.float32)


def test_keys_are_ordered_by_score_then_index():
    scores = torch.tensor([2.5, 0.5, 0.5, -0.0, 0.0, -1e-30, -0.5, -3.0])
    indices = torch.tensor([2**32 - 2, 3, 4, 6, 7, 0, 5, 1])
    keys = search.pack(scores, indices)
    assert (keys.diff() < 0).all() and (keys > search.EMPTY).all()
    assert all(torch.equal(*pair) for pair in zip(search.unpack(keys), (scores, indices), strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_search_with_vectors_of_zeros_by_any_number_of_threads(precision, threads):
    """A query of zeros ties with all passages, of which the first ones count; a passage of zeros has a score of 0 like any other."""
    queries, corpus = unit(11, 16, threads), unit(300, 16, threads + 1)  # others each time: freed memory may hold the last result
    queries[4], corpus[::7] = 0, 0
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        scores, indices = top_k(queries, corpus, 160, precision=precision, corpus_chunk=70)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    expected_scores, expected = slow_top_k(queries, corpus, 160)
    assert indices.tolist() == expected.tolist() and scores.tolist() == expected_scores.tolist()


def test_search_in_nothing_and_for_nothing():
    assert top_k(unit(3, 4, 0), unit(0, 4, 0), 5)[1].shape == (3, 0)
    assert top_k(unit(0, 4, 0), unit(3, 4, 0), 5)[0].shape == (0, 3)


def test_embeddings_that_cannot_be_searched_are_named():
    corpus = unit(9, 4, 0)
    corpus[6, 1] = np.nan
    with pytest.raises(InputError, match="embedding of passage 6 holds NaN or infinity"):
        top_k(unit(2, 4, 1), corpus, 3, corpus_chunk=4)
    with pytest.raises(InputError, match=r"shapes \(2, 4\) and \(9, 5\)"):
        top_k(unit(2, 4, 1), unit(9, 5, 0), 3)


def test_score_is_the_rounded_product():
    q, p = unit(1, 300, 0)[0], unit(5, 300, 1)
    expected = [np.float32(sum(float(a) * float(b) for a, b in zip(q, row, strict=True))) for row in p]
    assert score(q, p).tolist() == pytest.approx([float(one) for one in expected], abs=2**-24)
    assert score(q, p).dtype == np.float32 and torch.from_numpy(score(q, p[:0])).shape == (0,)
