"""Exact search: the k passages of the highest dot product with each query, to the last bit.

What mining (`mine.py`) and the scores of retrieval (`metrics.py`) search with. The embeddings may
be memory-mapped. Three steps:

1. Matrix products of chunks, in float32 or bfloat16, choose candidates: for each query the passages
   with the largest products, more than k of them.
2. Those that may be among the k best, given how far rounding can move a product, are scored again
   in float64.
3. Where a passage that was no candidate may be among the k best (many nearly equal passages), the
   query is searched once more, and every passage that may be is scored.

So neither the chunks, nor the precision of the products, nor the number of threads change a result,
only the time (`python -m tools.bench search`). Left out on purpose: approximate indexes.

Letters for dimensions: Q queries, R some of them, N passages, C some of them, D width, K
candidates.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from files import InputError

SPARE = 32  # candidates beyond 2k: with them step 3 is rare
QUERIES = {"cpu": 512, "cuda": 4096}  # of one matrix product
PASSAGES = {"cpu": 2048, "cuda": 65536}


def as_float32(array: np.ndarray) -> np.ndarray:
    """Embeddings as float32, stored as float32, float16, or bfloat16 in a uint16 array."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return np.require(array, np.float32, "CW")


def score(query: np.ndarray, passages: np.ndarray) -> np.ndarray:
    """Scores (C,) float32 of passages (C, D) for one query (D,), or for one query each (C, D).

    Dot products in float64, rounded once: no chunk size and no other passage changes them.
    """
    query, passages = (as_float32(x) if x.dtype == np.uint16 else x for x in (query, passages))
    return np.vecdot(passages.astype(np.float64), query.astype(np.float64)).astype(np.float32)


def top_k(
    queries: np.ndarray,
    corpus: np.ndarray,
    k: int,
    *,
    precision: str = "float32",
    query_chunk: int | None = None,
    corpus_chunk: int | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The k' = min(k, N) passages of the highest dot product with each query, best first.

    queries (Q, D), corpus (N < 2^32, D): see `as_float32`. precision: float32 or bfloat16 products.
    Returns scores (Q, k') float32, see `score`, and the passages' numbers (Q, k') int64; of equal
    scores the lower number comes first. On the CPU the queries are shared by as many threads as
    torch may use.
    """
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        expected = "expected (queries, D) and (passages, D) of one model"
        raise InputError(f"embeddings of shapes {queries.shape} and {corpus.shape}: {expected}")
    # A memory map as such is slow to index
    queries = np.asarray(queries) if isinstance(queries, np.ndarray) else queries
    corpus = np.asarray(corpus) if isinstance(corpus, np.ndarray) else corpus
    k, candidates = min(k, len(corpus)), min(2 * k + SPARE, len(corpus))
    scores = np.empty((len(queries), k), np.float32)
    numbers = np.empty((len(queries), k), np.int64)
    if not scores.size:
        return scores, numbers

    # Where, and how many at a time
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads() if device == "cpu" else 1
    query_chunk = min(query_chunk or QUERIES[device], -(-len(queries) // threads))
    parts = [slice(start, start + query_chunk) for start in range(0, len(queries), query_chunk)]
    corpus_chunk = corpus_chunk or PASSAGES[device]
    starts = range(0, len(corpus), corpus_chunk)

    # Queries, lengths (for the error of rounding), and no candidates yet (see `pack`)
    dtype = getattr(torch, precision)
    q = torch.from_numpy(as_float32(queries)).to(device)
    q_norms = np.max([largest_norms(q[rows], dtype, "query", rows.start) for rows in parts], axis=0)
    c_norms = np.zeros(2)
    best = torch.full((len(q), candidates), EMPTY, device=device)  # keys (Q, K), ascending

    with _threads(threads) as pool:
        # 1. The candidates: passages whose product is among the K largest
        for start in tqdm(starts, "search", unit="chunk", disable=None if progress else True):
            c = torch.from_numpy(as_float32(corpus[start : start + corpus_chunk])).to(device)
            c_norms = np.maximum(c_norms, largest_norms(c, dtype, "passage", start))
            error = rounding_error(q_norms, c_norms, q.shape[1], dtype)
            c = c.to(dtype)

            def choose(rows: slice) -> None:
                products = q[rows].to(dtype) @ c.T
                kth = unpack(best[rows, -k])[0] if start else kth_largest(products.float(), k)
                # k passages have better scores than any below it
                floor = kth - 2 * error(kth)
                _add(best[rows], products, floor, start)

            list(pool.map(choose, parts))

        # 2. The scores of those that may be among the k best
        def settle(rows: slice) -> None:
            products, passages = (x.cpu() for x in unpack(best[rows]))
            kth = products[:, -k]
            possible = (products > (kth - 2 * error(kth))[:, None]).numpy()
            exact = torch.full(products.shape, LOWEST)
            for row, query in enumerate(queries[rows]):
                chosen = passages.numpy()[row, possible[row]]
                exact.numpy()[row, possible[row]] = score(query, corpus.take(chosen, axis=0))
            scores[rows], numbers[rows] = unpack(_largest(pack(exact, passages), k).flip(1))

        list(pool.map(settle, parts))

        # 3. Once more, where a passage that is no candidate may reach the k-th score: none has a
        # larger product than the last candidate
        least = unpack(best[:, 0])[0].cpu()
        unsettled = np.flatnonzero(scores[:, -1] <= (least + error(least)).numpy())
        error = rounding_error(q_norms * [1, 0], c_norms * [1, 0], q.shape[1], torch.float32)
        for i in range(0, len(unsettled) if candidates < len(corpus) else 0, query_chunk):
            rows = unsettled[i : i + query_chunk]
            floor = scores[rows, -1] - error(scores[rows, -1])
            again = _score_above(floor, q[rows], queries[rows], corpus, k, corpus_chunk)
            scores[rows], numbers[rows] = again
    return scores, numbers


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that share the queries: torch would share a product alone, not what follows it.

    Meanwhile a GPU, too, sums products in float32, without TF32.
    """
    cuda = torch.backends.cuda.matmul
    before = torch.get_num_threads(), cuda.allow_tf32, cuda.allow_bf16_reduced_precision_reduction
    torch.set_num_threads(1)
    cuda.allow_tf32 = cuda.allow_bf16_reduced_precision_reduction = False
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool
    finally:
        torch.set_num_threads(before[0])
        cuda.allow_tf32, cuda.allow_bf16_reduced_precision_reduction = before[1:]


# --- how far rounding can move a product ----------------------------------------------------------


def largest_norms(x: Tensor, dtype: torch.dtype, what: str, first: int) -> tuple[float, float]:
    """The largest |x| and the largest |x - x'| of rows x (R, D), where x' is x rounded to
    `dtype`."""
    norms = torch.stack([x.norm(dim=1), (x - x.to(dtype)).norm(dim=1)])
    finite = norms[0].isfinite()
    if not finite.all():
        number = first + int(finite.int().argmin())
        found = f"the embedding of {what} {number} holds NaN or infinity"
        raise InputError(f"{found}; make the embeddings again")
    return tuple(norms.amax(1).tolist())


def rounding_error(q_norms, c_norms, width: int, dtype: torch.dtype):
    """A function of products or scores: how far at most a product lies from its score; never 0.

    q' and c' are q and c rounded to `dtype`:  |q·c - q'·c'| <= |q - q'| |c| + |q'| |c - c'|.
    q'·c' is summed in float32, in any order (and cut, not rounded, as a GPU may do): within
    D 2^-23 |q'| |c'|. The sum is rounded to `dtype`, the score to float32. q_norms and c_norms: of
    all queries and all passages, see `largest_norms`. One percent is for the rounding of all this.
    """
    (q, q_lost), (c, c_lost) = q_norms, c_norms
    lost = q_lost * (c + c_lost) + q * c_lost
    summed = (width + 2) * 2.0**-23 * q * c
    rounded = torch.finfo(dtype).eps / 2
    return lambda value: 1.01 * (lost + summed + rounded * abs(value)) + 2.0**-100


# --- candidates -----------------------------------------------------------------------------------

# A candidate is one whole number, its key: the better of two candidates has the larger key.
LOWEST, LAST = torch.finfo(torch.float32).min, 2**32 - 1


def pack(scores: Tensor, numbers: Tensor) -> Tensor:
    """Keys of scores (float32) and passages: the score in the upper half, LAST - number below."""
    # + 0.0 makes 0.0 of -0.0
    bits = (scores + 0.0).view(torch.int32)
    # So that below 0, too, a higher score is a larger number
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (bits.long() << 32) + (LAST - numbers)


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and numbers of passages."""
    bits = (keys >> 32).int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32), LAST - (keys & LAST)


EMPTY = pack(torch.tensor(LOWEST), torch.tensor(LAST)).item()  # no candidate yet


def kth_largest(products: Tensor, k: int) -> Tensor:
    """The k-th largest of each row, or the smallest of fewer."""
    k = min(k, products.shape[1])
    if products.is_cuda:
        return products.topk(k).values[:, -1]
    return torch.from_numpy(np.partition(products.numpy(), -k)[:, -k])


def _largest(keys: Tensor, count: int) -> Tensor:
    """The `count` largest of each row, ascending. numpy sorts ten times faster than torch."""
    if keys.is_cuda:
        return keys.topk(count).values.flip(-1)
    return torch.from_numpy(np.sort(keys.numpy())[..., -count:])


def _flat_above(products: Tensor, floor: Tensor) -> np.ndarray:
    """Where the flattened products are above each row's floor (R, 1); numpy is much faster here.

    numpy has no bfloat16, but above 0 such numbers are in the order of their bits.
    """
    if products.dtype == torch.bfloat16 and floor.min() >= 0:
        products, floor = products.view(torch.int16), (floor.view(torch.int32) >> 16).short()
    elif products.dtype == torch.bfloat16:
        products = products.float()
    return np.flatnonzero(products.numpy() > floor.numpy())


def _add(best: Tensor, products: Tensor, floor: Tensor, start: int) -> None:
    """Merge the products (R, C) above each row's floor (R,) into its keys (R, K), in place.

    start: the number of the first passage.
    """
    # The keys of the products above the floor, row after row
    rows, columns = products.shape
    floor = torch.maximum(floor, unpack(best[:, 0])[0])[:, None]
    if products.is_cuda:
        flat = (products > floor).flatten().nonzero().squeeze(1)
    else:
        flat = torch.from_numpy(_flat_above(products, floor))
    keys = pack(products.flatten()[flat].float(), start + flat % columns)

    # One line of keys per query, as long as the longest, filled up with EMPTY
    ends = torch.searchsorted(flat, columns * torch.arange(rows + 1, device=best.device))
    counts = ends.diff()
    lines = best.new_full((rows, int(counts.max())), EMPTY)
    lines.masked_scatter_(torch.arange(lines.shape[1], device=best.device) < counts[:, None], keys)

    # The best of the old and the new
    best.copy_(_largest(torch.cat([best, lines], dim=1), best.shape[1]))


def _score_above(
    floor: np.ndarray, q: Tensor, queries, corpus, k: int, corpus_chunk: int
) -> tuple[Tensor, Tensor]:
    """`top_k` of some queries (R, D) by scoring each passage whose product reaches the floor (R,).

    q: the queries in float32, where products are computed.
    """
    best = torch.full((len(q), k), EMPTY)
    for start in range(0, len(corpus), corpus_chunk):
        c = torch.from_numpy(as_float32(corpus[start : start + corpus_chunk])).to(q.device)
        reached = (q @ c.T).cpu().numpy() >= floor[:, None]
        for row in np.flatnonzero(reached.any(1)):
            passages = start + np.flatnonzero(reached[row])
            exact = torch.from_numpy(score(queries[row], corpus.take(passages, axis=0)))
            keys = torch.cat([best[row], pack(exact, torch.from_numpy(passages))])
            best[row] = _largest(keys, k)
    return unpack(best.flip(1))
