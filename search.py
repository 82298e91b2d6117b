"""Exact search: the k passages of the highest dot product with each query, to the last bit, in little memory.

What mining (`mine.py`) and retrieval's scores (`scoring.py`) search with. The embeddings may lie on disk. Products, in float32 or
bfloat16, choose candidates; those that rounding leaves in doubt are scored again in float64. So neither the chunks nor the number of
threads nor the precision of the products change a result, only the time (`python -m tools.bench search`, `… mine`).

Left out on purpose: approximate indexes.

Letters for dimensions: Q queries, N passages, D width, R some of the queries, C passages of a chunk, K candidates kept.
"""

import concurrent.futures
import contextlib

import numpy as np
import torch
from tqdm import tqdm

from files import InputError

SPARE = 32  # candidates kept beyond 2k: enough that nearly every query is settled without a second search


def as_float32(array: np.ndarray) -> np.ndarray:
    """Embeddings as float32, whatever they are stored as: float32, float16, or bfloat16 in a uint16 array."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return np.require(array, np.float32, "CW")


def score(query: np.ndarray, passages: np.ndarray) -> np.ndarray:
    """Scores (P,) float32 of one query (D,), or one for each (P, D), with passages (P, D): dot products in float64, rounded once, so
    that no chunk size and no neighbour changes them."""
    query, passages = ((as_float32(x) if x.dtype == np.uint16 else x).astype(np.float64) for x in (query, passages))
    return np.vecdot(passages, query).astype(np.float32)


def top_k(queries, corpus, k: int, *, query_chunk: int | None = None, corpus_chunk: int | None = None, precision: str = "float32",
          device=None, progress: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The k passages of the highest dot product with each query: scores (Q, k') float32, best first, and their indices (Q, k') int64.

    queries (Q, D), corpus (N < 2^32, D): as `as_float32` takes them, memory-mapped or not; k' = min(k, N). Ties: lower index first.
    Exact: the scores are those of `score`, and neither the chunks nor the precision of the products (float32 or bfloat16) change the
    result, only the time. The products of a chunk choose candidates; those that can be among the k best, given how far rounding can
    move a product, are scored again. A query with too many of them to keep (nearly equal passages) is searched once more.
    On the CPU the queries are shared among as many threads as torch may use.
    """
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise InputError(f"embeddings of shapes {queries.shape} and {corpus.shape}: expected (queries, D) and (passages, D) of one model")
    queries, corpus = np.asarray(queries), np.asarray(corpus)  # a memory map as such is slow to index
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    count, n, k, dtype = len(queries), len(corpus), min(k, len(corpus)), getattr(torch, precision)
    scores, indices = np.empty((count, k), np.float32), np.empty((count, k), np.int64)
    if not scores.size:
        return scores, indices
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    query_chunk = min(query_chunk or (512 if device.type == "cpu" else 4096), -(-count // threads))
    query_chunk = -(-count // -(-count // query_chunk))  # as many chunks, but equal ones
    corpus_chunk = min(corpus_chunk or (2048 if device.type == "cpu" else 65536), n)

    q = _tensor(queries, "query", 0, device)
    rounding = Rounding(q, dtype)
    best = torch.full((count, min(n, 2 * k + SPARE)), EMPTY, device=device)  # keys of candidates, ascending
    buffers = torch.empty(threads, query_chunk * corpus_chunk, dtype=dtype, device=device)
    with _threads(threads, count, query_chunk) as run:
        for start in tqdm(range(0, n, corpus_chunk), "search", unit="chunk", disable=None if progress else True):
            c = rounding.see(_tensor(corpus[start : start + corpus_chunk], "passage", start, device))

            def keep_best(rows: slice, thread: int) -> None:
                part = q[rows].to(dtype)
                products = torch.mm(part, c.T, out=buffers[thread, : len(part) * len(c)].view(len(part), len(c)))
                kth = _kth(products, k) if start == 0 and len(c) >= k else _unpack(best[rows, -k])[0]
                _keep_best(best[rows], products, kth - 2 * rounding.error(kth, rows), start)  # k passages have better scores than the rest

            run(keep_best)

        def settle(rows: slice, thread: int) -> None:
            products, candidates = _unpack(best[rows])
            kth = products[:, -k]
            possible = (products > (kth - 2 * rounding.error(kth, rows))[:, None]).cpu().numpy()
            exact = torch.full(products.shape, LOWEST)
            pairs = zip(queries[rows], candidates.cpu().numpy(), possible, strict=True)
            exact.numpy()[possible] = np.concatenate([score(query, corpus.take(some[kept], axis=0)) for query, some, kept in pairs])
            scores[rows], indices[rows] = _unpack(_largest(_pack(exact, candidates.cpu()), k).flip(1))

        run(settle)
        if best.shape[1] < n:
            least = _unpack(best[:, 0])[0]  # whatever was left out for want of room has no higher product
            unsettled = np.flatnonzero(scores[:, -1] <= (least + rounding.error(least)).cpu().numpy())
            for rows in np.split(unsettled, range(query_chunk, len(unsettled), query_chunk)) if len(unsettled) else []:
                scores[rows], indices[rows] = _search_above(queries[rows], corpus, scores[rows, -1], k, corpus_chunk, device)
    return scores, indices


@contextlib.contextmanager
def _threads(threads: int, count: int, chunk: int):
    """run(function): calls function(rows, number of the thread) for each chunk of rows. The threads share the chunks, not the work within
    one: torch would share a product alone, and what follows it costs as much. Products are summed in float32, without TF32."""
    cuda, usual = torch.backends.cuda.matmul, torch.get_num_threads()
    precision, reduced = torch.get_float32_matmul_precision(), cuda.allow_bf16_reduced_precision_reduction
    slices = [slice(first, first + chunk) for first in range(0, count, chunk)]

    def run(function) -> None:
        def share(thread: int) -> None:
            for rows in slices[thread::threads]:
                function(rows, thread)

        list((map if threads == 1 else pool.map)(share, range(threads)))

    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    cuda.allow_bf16_reduced_precision_reduction = False
    try:
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            yield run
    finally:
        torch.set_num_threads(usual)
        torch.set_float32_matmul_precision(precision)
        cuda.allow_bf16_reduced_precision_reduction = reduced


def _tensor(array, what: str, first: int, device) -> torch.Tensor:
    """float32 on the device; a view where that is possible."""
    tensor = torch.from_numpy(as_float32(array))
    if not (good := tensor.sum(1).isfinite()).all():
        raise InputError(f"the embedding of {what} {first + int(good.int().argmin())} holds NaN or infinity; make the embeddings again")
    return tensor.to(device)


class Rounding:
    """How far the product of a query and a passage, computed in `dtype`, can lie from their score.

    q' and c' are q and c rounded to `dtype`:  |q.c - q'.c'| <= |q - q'| |c| + |q'| |c - c'|.  Their product, summed in float32 in any
    order (and cut, not rounded, as a GPU may do), lies within D 2^-23 |q'| |c'| of q'.c', and is rounded to `dtype` once.
    """

    def __init__(self, q: torch.Tensor, dtype: torch.dtype):
        self.dtype, self.width = dtype, q.shape[1]
        self.q, self.q_lost = map(torch.cat, zip(*map(self._norms, q.split(4096)), strict=True))  # (Q,) |q| and |q - q'|
        self.c = self.c_lost = 0.0  # the largest |c| and |c - c'| of the passages seen

    def _norms(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.norm(dim=1), (x - x.to(self.dtype)).norm(dim=1)

    def see(self, c: torch.Tensor) -> torch.Tensor:
        """c', after taking note of its norms."""
        self.c, self.c_lost = (max(old, new.max().item()) for old, new in zip((self.c, self.c_lost), self._norms(c), strict=True))
        return c.to(self.dtype)

    def error(self, value: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        """(R,) for each query in `rows` with any passage seen, given its product or its score; never 0, and one percent for the rest."""
        summed = (self.width + 2) * 2.0**-23 * self.q[rows] * self.c
        lost = self.q_lost[rows] * (self.c + self.c_lost) + self.q[rows] * self.c_lost
        return 1.01 * (summed + lost + torch.finfo(self.dtype).eps / 2 * value.abs()) + 2.0**-100


# A candidate is one whole number, its key: the score above, the index below, so that the better of two has the larger key.
LOWEST, LAST = torch.finfo(torch.float32).min, 2**32 - 1


def _pack(scores: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Keys of scores (float32) and indices: the larger of two keys has the higher score or, if these are equal, the lower index."""
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 makes -0.0 the same as 0.0
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # below 0 as well, a higher score is now a larger number
    return (bits.long() << 32) + (LAST - indices)


def _unpack(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    bits = (keys >> 32).int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32), LAST - (keys & LAST)


EMPTY = _pack(torch.tensor(LOWEST), torch.tensor(LAST)).item()  # where there is no candidate yet


def _largest(keys: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` largest of each row, ascending; on the CPU by numpy, which sorts whole numbers ten times faster than torch."""
    if keys.is_cuda:
        return keys.topk(count, dim=1).values.flip(1)
    return torch.from_numpy(np.sort(keys.numpy(), axis=1)[:, -count:])


def _kth(products: torch.Tensor, k: int) -> torch.Tensor:
    """The k-th largest of each row."""
    if products.is_cuda:
        return products.topk(k, dim=1).values[:, -1].float()
    return torch.from_numpy(np.partition(products.float().numpy(), -k, axis=1)[:, -k])


def _keep_best(best: torch.Tensor, products: torch.Tensor, floor: torch.Tensor, start: int) -> None:
    """Merge those products (R, C) of passages start, start + 1, … that exceed the floor (R,) into each row's best keys (R, K), in place."""
    rows, columns = products.shape
    flat = _above(products, torch.maximum(floor, _unpack(best[:, 0])[0]))
    keys = _pack(products.flatten()[flat].float(), start + flat % columns)
    counts = torch.searchsorted(flat, torch.arange(rows + 1, device=flat.device) * columns).diff()
    found = best.new_full((rows, int(counts.max())), EMPTY)
    found.masked_scatter_(torch.arange(found.shape[1], device=flat.device) < counts[:, None], keys)
    best.copy_(_largest(torch.cat([best, found], 1), best.shape[1]))


def _above(products: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Where the flattened products (R, C) are above the floor (R,), ascending; on the CPU by numpy, several times faster than torch."""
    floor = floor[:, None]
    if products.is_cuda:
        return (products > floor).flatten().nonzero().squeeze(1)
    if products.dtype == torch.bfloat16 and floor.min() >= 0:  # ordered as their bits are; the floor loses its lower half: rounded down
        products, floor = products.view(torch.int16), (floor.view(torch.int32) >> 16).short()
    elif products.dtype == torch.bfloat16:
        products = products.float()
    return torch.from_numpy(np.flatnonzero(products.numpy() > floor.numpy()))


def _search_above(queries, corpus, least: np.ndarray, k: int, corpus_chunk: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """`top_k` of a few hard queries (R, D): all passages are scored that can reach the query's `least` (R,), a score of k of them."""
    q, least = _tensor(queries, "query", 0, device), torch.from_numpy(least).to(device)
    rounding = Rounding(q, torch.float32)
    best = [torch.empty(1, 0, dtype=torch.int64)] * len(q)
    for start in range(0, len(corpus), corpus_chunk):
        c = rounding.see(_tensor(corpus[start : start + corpus_chunk], "passage", start, device))
        possible = (torch.mm(q, c.T) >= (least - rounding.error(least))[:, None]).cpu()
        for row in possible.any(1).nonzero().flatten().tolist():
            columns = start + possible[row].nonzero().flatten()
            keys = _pack(torch.from_numpy(score(queries[row], corpus.take(columns.numpy(), axis=0))), columns)
            best[row] = _largest(torch.cat([best[row], keys[None]], 1), k)
    return _unpack(torch.cat(best).flip(1))
