"""Exact search: the k passages of the highest dot product with each query, to the last bit.

What mining (`mine.py`) and the scores of retrieval (`metrics.py`) search with. The embeddings may
be memory-mapped. Three steps:

1. Matrix products of chunks, in float32 or bfloat16, choose candidates: for each query the K
   passages with the largest products, more than k of them.
2. Those that may be among the k best, given how far rounding can move a product, are scored again
   in float64.
3. Where a passage that is no candidate may be among the k best (many nearly equal passages), the
   query is searched once more, with more candidates.

So neither the chunks, nor the precision of the products, nor the number of threads change a result,
only the time (`python -m tools.bench search`). Left out on purpose: approximate indexes.

Letters for dimensions: Q queries, R some of them, N passages, C some of them, D width, K
candidates.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from files import InputError

SPARE = 32  # candidates beyond those that are wanted: with them step 3 is rare
CHUNKS = {"cpu": (512, 8192), "cuda": (4096, 65536)}  # queries and passages of one matrix product
MOST_CELLS = 2**24  # of queries x candidates in step 3


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


@contextlib.contextmanager
def _float32_sums() -> Iterator[None]:
    """On a GPU, too, products are summed in float32: without TF32, or partial sums in bfloat16."""
    cuda = torch.backends.cuda.matmul
    before = cuda.allow_tf32, cuda.allow_bf16_reduced_precision_reduction
    cuda.allow_tf32 = cuda.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        cuda.allow_tf32, cuda.allow_bf16_reduced_precision_reduction = before


@_float32_sums()
def top_k(
    queries: np.ndarray,
    corpus: np.ndarray,
    k: int,
    *,
    precision: str = "float32",
    candidates: int | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The k' = min(k, N) passages of the highest dot product with each query, best first.

    queries (Q, D), corpus (N < 2^31, D): see `as_float32`. precision: float32 or bfloat16 products.
    candidates: K, see above. Returns scores (Q, k') float32, see `score`, and the passages' numbers
    (Q, k') int64; of equal scores the lower number comes first.
    """
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        expected = "expected (queries, D) and (passages, D) of one model"
        raise InputError(f"embeddings of shapes {queries.shape} and {corpus.shape}: {expected}")
    k = min(k, len(corpus))
    wanted = 4 * k if precision == "bfloat16" else k  # rounding moves these products further
    candidates = min(candidates or wanted + SPARE, len(corpus))
    scores = np.empty((len(queries), k), np.float32)
    numbers = np.empty((len(queries), k), np.int64)
    if not scores.size:
        return scores, numbers

    # No candidates yet: products (Q, K), best first, and the numbers of their passages
    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, precision)
    query_chunk, corpus_chunk = CHUNKS[device]
    q = torch.from_numpy(as_float32(queries[:])).to(device)
    parts = [slice(start, start + query_chunk) for start in range(0, len(q), query_chunk)]
    q_norms = np.max([largest_norms(q[rows], dtype, "query", rows.start) for rows in parts], axis=0)
    c_norms = np.zeros(2)
    best = torch.full((len(q), candidates), -torch.inf, device=device)
    passages = torch.zeros(best.shape, dtype=torch.int32, device=device)

    # 1. The candidates, merged with those of each chunk
    starts = range(0, len(corpus), corpus_chunk)
    for start in tqdm(starts, "search", unit="chunk", disable=None if progress else True):
        c = torch.from_numpy(as_float32(corpus[start : start + corpus_chunk])).to(device)
        c_norms = np.maximum(c_norms, largest_norms(c, dtype, "passage", start))
        c = c.to(dtype)
        for rows in parts:
            products, columns = choose((q[rows].to(dtype) @ c.T).float(), best[rows])
            merged = torch.cat([best[rows], products], 1).topk(candidates)
            both = torch.cat([passages[rows], start + columns.int()], 1)
            best[rows], passages[rows] = merged.values, both.gather(1, merged.indices)

    # 2. The scores of those that may be among the k best: k passages have better scores than any
    # whose product is below the floor
    best, passages = best.cpu().numpy(), passages.cpu().numpy()
    error = rounding_error(q_norms, c_norms, q.shape[1], dtype)
    floors = best[:, k - 1] - 2 * error(best[:, k - 1])
    for i, query in enumerate(q.cpu().numpy()):
        likely = passages[i, best[i] > floors[i]]
        exact = score(query, corpus.take(likely, axis=0))
        order = np.lexsort((likely, -exact))[:k]
        scores[i], numbers[i] = exact[order], likely[order]

    # 3. Once more, where a passage that is no candidate may reach the k-th score: none has a
    # larger product than the last candidate
    reached = scores[:, -1] <= best[:, -1] + error(best[:, -1])
    unsettled = np.flatnonzero(reached) if candidates < len(corpus) else ()
    step = max(1, MOST_CELLS // (8 * candidates))
    for i in range(0, len(unsettled), step):
        rows = unsettled[i : i + step]
        scores[rows], numbers[rows] = top_k(queries[rows], corpus, k, candidates=8 * candidates)
    return scores, numbers


def choose(products: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """The products (R, C) that may be among each row's K largest, and their columns.

    best (R, K): its largest before, descending. One line per row, filled up with -inf.
    """
    (rows, columns), count = products.shape, best.shape[1]
    if products.is_cuda:
        return products.topk(min(count, columns))
    # Few are above the last of those before; numpy finds them much faster than torch
    products, floor = products.numpy(), best[:, -1:].numpy()
    if floor[0] == -np.inf and columns > count:
        kth = np.partition(products, -count)[:, -count, None]
        floor = np.nextafter(kth, np.float32(-np.inf))
    flat = np.flatnonzero(products > floor)
    counts = np.bincount(flat // columns, minlength=rows)
    filled = np.arange(counts.max()) < counts[:, None]
    lines, places = np.full(filled.shape, -np.inf, np.float32), np.zeros(filled.shape, np.int64)
    lines[filled], places[filled] = products.ravel()[flat], flat % columns
    return torch.from_numpy(lines), torch.from_numpy(places)


# --- how far rounding can move a product ----------------------------------------------------------


def largest_norms(x: Tensor, dtype: torch.dtype, what: str, first: int) -> tuple[float, float]:
    """The largest |x| and |x - x'| of rows x (R, D), where x' is x rounded to `dtype`."""
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
