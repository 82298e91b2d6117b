"""Hard negatives for a training source: exact search, the rules of NV-Retriever and TopK-STDMarginPos (arXiv 2509.12340, training data).

In: a training source (JSON Lines, see data.py). The passages searched are all its positives, with `--include-negatives` its negatives
too, with `--corpus` also a corpus (BEIR's or MS MARCO's, see data.py). Out: the same rows with `neg`, `pos_scores` and `neg_scores`, and
beside them `<out>.json` with settings and report. The passages get the prefix that the source's type gives them in training.

For a query q let p be its positive, s a score (cosine), and n run through those of the `--top` best passages that are neither
positives of q nor q itself. NV-Retriever (arXiv 2407.15831) keeps n while its score is strictly below a threshold, then takes the best:

    topk                no threshold
    topk-shifted        no threshold, but the first N are left out             N = 10
    topk-abs            s(q,n) < m                                             m = 0.7
    topk-marginpos      s(q,n) < s(q,p) - m                                    m = 0.05
    topk-percpos        s(q,n) < s(q,p) - (1 - m) |s(q,p)|                     m = 0.95   (m s(q,p), right for negative scores too)
    topk-stdmarginpos   s(q,n) < s(q,p) - m sigma                              m = 1

**TopK-STDMarginPos is E5-NL's rule, and nothing public defines it**: neither sigma nor m, K or the model that mined. Its name says
TopK-MarginPos with a standard deviation as the margin. Three readings, `--sigma`:

    query        sigma_q = std { s(q,n) : n as above }                         one for each query  (default)
    positives    sigma   = std { s(q,p) : all pairs of the data set }          one for the data set
    difference   sigma   = std { s(q,p) - s(q,n) : all q, n of the data set }  one for the data set

The default is the only one that adapts to the query, as a summary of the paper says the mining does ("dynamic"), and needs nothing
but the query's own list. All three follow the width of the model's score band, which a fixed margin does not: the cosines of E5
models lie between 0.7 and 1, where topk-percpos may leave nearly nothing. With sigma 0 (equal scores, or fewer than two n) a negative
must score strictly below the positive. sigma is the population's (divided by the count, in float64).

    python mine.py --model runs/toy --data demo/train/dekamer_title_answer.jsonl.gz --out runs/mined.jsonl.gz --sweep
    python mine.py --model intfloat/multilingual-e5-base --data mmarco.jsonl.gz --corpus beir-nl-mmarco --cache runs/cache \
        --store bfloat16 --precision bfloat16 --out runs/mined/mmarco.jsonl.gz    # 8.8 million passages: disk and patience
    torchrun --nproc_per_node 8 mine.py …                         # the same on 8 GPUs; needs --cache
    python mine.py --data source.jsonl --write-texts texts        # what to embed, in order, for any other model; then
    python mine.py --data source.jsonl --query-embeddings q.npy --corpus-embeddings c.npy --out mined.jsonl

Left out on purpose: approximate indexes, rescoring by a cross-encoder. The texts are held in memory, the embeddings need not be
(`--cache`). numpy has no bfloat16: embeddings stored so are uint16 arrays, the upper halves of float32.
"""

import argparse
import hashlib
import itertools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import e5nl
import model_folder
from cache import model_cache, stored_as
from data import KINDS, Source, beir_files, normalise, read_id_texts, read_source
from files import (
    InputError,
    cli,
    new_file,
    real_number,
    refuse_existing,
    refuse_plot,
    whole_number,
    write_array,
    write_json,
    write_jsonl,
)
from search import as_float32, score, top_k

# --- the rules --------------------------------------------------------------------------------------------------------------

# Names, and the margins that are usual: NV-Retriever's, but for the paper's rule, of which none is known.
RULES = {"topk": 0.0, "topk-shifted": 10, "topk-abs": 0.7, "topk-marginpos": 0.05, "topk-percpos": 0.95, "topk-stdmarginpos": 1.0}

# What became of a candidate. The first two survived the rule.
REASONS = ("taken", "not needed", "positive", "query itself", "duplicate", "shifted", "above threshold")
TAKEN, NOT_NEEDED, POSITIVE, QUERY, DUPLICATE, SHIFTED, ABOVE = range(len(REASONS))


def known_reasons(candidates: np.ndarray, positives: list, own: np.ndarray) -> np.ndarray:
    """(Q, K) uint8: POSITIVE, QUERY or DUPLICATE (of an earlier candidate) for what must never be a negative, else 0.

    candidates (Q, K), positives (Q lists), own (Q; -1: none) are numbers of *texts*: passages whose texts are equal but for case
    and white space have one number, so that a positive is known under every id.

    >>> known_reasons(np.array([[4, 2, 7, 2, 9]]), [[7]], np.array([4])).tolist()
    [[3, 0, 2, 4, 0]]
    """
    known = np.zeros(candidates.shape, np.uint8)
    ascending = np.sort(candidates, axis=1)
    for row in np.flatnonzero((ascending[:, 1:] == ascending[:, :-1]).any(1)):  # few: a search finds a passage once
        repeated = np.ones(candidates.shape[1], bool)
        repeated[np.unique(candidates[row], return_index=True)[1]] = False
        known[row, repeated] = DUPLICATE
    known[candidates == own[:, None]] = QUERY
    query, numbers = _flat(positives)
    texts = 1 + max(candidates.max(initial=0), numbers.max(initial=0))  # (query, text) as one number
    keys = query * texts + numbers
    for start in range(0, len(candidates), 4096):  # in parts: the memory of a million queries would be large
        part = candidates[start : start + 4096]
        found = np.isin(np.arange(start, start + len(part))[:, None] * texts + part, keys)
        known[start : start + 4096][found] = POSITIVE
    return known


def _flat(positives: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(query, text) of every positive of every query."""
    counts = [len(numbers) for numbers in positives]
    return np.repeat(np.arange(len(positives)), counts), np.fromiter(itertools.chain(*positives), np.int64, sum(counts))


def thresholds(scores: np.ndarray, free: np.ndarray, positives: list[np.ndarray], rule: str, margin: float, sigma: str = "query",
               anchor: str = "min") -> np.ndarray:
    """The score (Q,) float64 that a negative of each query must stay below. For the arguments see `choose`; free (Q, K): known == 0."""
    s = scores.astype(np.float64)
    p = np.array([getattr(one, anchor)() for one in positives], np.float64)
    if rule in ("topk", "topk-shifted"):
        return np.full(len(s), np.inf)
    if rule == "topk-abs":
        return np.full(len(s), float(margin))
    if rule == "topk-marginpos":
        return p - margin
    if rule == "topk-percpos":
        return p - (1 - margin) * np.abs(p)
    if rule != "topk-stdmarginpos":
        raise InputError(f"rule {rule!r} is unknown; expected one of {', '.join(RULES)}")
    if sigma == "query":
        return p - margin * _row_std(s, free)
    values = np.concatenate(positives).astype(np.float64) if sigma == "positives" else (p[:, None] - s)[free]
    return p - margin * (values.std() if values.size else 0.0)


def _row_std(s: np.ndarray, free: np.ndarray) -> np.ndarray:
    count = np.maximum(free.sum(1), 1)
    mean = np.where(free, s, 0).sum(1) / count
    return np.sqrt((np.where(free, s - mean[:, None], 0) ** 2).sum(1) / count)


def choose(scores: np.ndarray, known: np.ndarray, positives: list[np.ndarray], rule: str, *, margin: float, sigma: str = "query",
           anchor: str = "min", negatives: int = 7, select: str = "top", seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """Negatives of each query: columns (Q, negatives) int64, hardest first, -1 where there are too few; reasons (Q, K) uint8.

    scores (Q, K) float32: of the candidates, best first. known (Q, K): of `known_reasons`. positives: s(q,p) of every positive of
    each query. anchor: which of them is s(q,p) in the rule, the 'min' or the 'max'. select: the 'top' survivors, or 'random' ones.

    >>> scores, known = np.array([[0.9, 0.8, 0.7, 0.5]]), np.array([[POSITIVE, 0, 0, 0]])
    >>> columns, reasons = choose(scores, known, [np.array([0.9])], "topk-marginpos", margin=0.15, negatives=1)
    >>> columns.tolist(), [REASONS[reason] for reason in reasons[0]]
    ([[2]], ['positive', 'above threshold', 'taken', 'not needed'])
    """
    free = known == 0
    reasons = np.where(free, np.uint8(NOT_NEEDED), known).astype(np.uint8)
    limit = thresholds(scores, free, positives, rule, margin, sigma, anchor)
    reasons[free & ~(scores < limit[:, None])] = ABOVE
    if rule == "topk-shifted":
        reasons[free & (free.cumsum(1) <= margin)] = SHIFTED
    survived = reasons == NOT_NEEDED
    order = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    if select == "random":
        order = np.random.default_rng(seed).random(scores.shape)
    first = np.argsort(np.where(survived, order, np.inf), axis=1, kind="stable")[:, :negatives]
    first = np.where(np.take_along_axis(survived, first, 1), first, scores.shape[1])
    first.sort(axis=1)
    columns = np.full((len(scores), negatives), -1)
    columns[:, : first.shape[1]] = np.where(first < scores.shape[1], first, -1)
    row, place = (columns >= 0).nonzero()
    reasons[row, columns[row, place]] = TAKEN
    return columns, reasons


# --- texts and their embeddings ---------------------------------------------------------------------------------------------


class Texts(NamedTuple):
    """The distinct queries and passages of a source, and which row has which: numbers, the same for texts equal after `normalise`."""

    queries: list[str]
    passages: list[str]
    row_query: list[int]
    row_positives: list[list[int]]
    positives: list[list[int]]  # of each query, over all rows that ask it
    own: np.ndarray  # (Q,) the passage that is the query itself, or -1


def collect(source: Source, corpus=(), include_negatives: bool = False) -> Texts:
    """Number the texts: passages of `corpus` first, then positives, then negatives, each where it first occurs."""
    queries, passages, numbers, query_numbers = [], [], {}, {}

    def number(text: str, texts: list, known: dict) -> int:
        key = hashlib.blake2b(normalise(text).encode(), digest_size=16).digest()  # a text may be long
        if key not in known:
            known[key] = len(texts)
            texts.append(text)
        return known[key]

    for text in corpus:
        number(text, passages, numbers)
    row_query = [number(row.query, queries, query_numbers) for row in source.rows]
    row_positives = [[number(text, passages, numbers) for text in row.pos] for row in source.rows]
    if include_negatives:
        for row in source.rows:
            for text in row.neg:
                number(text, passages, numbers)
    positives = [{} for _ in queries]
    for query, row in zip(row_query, row_positives, strict=True):
        positives[query] |= dict.fromkeys(row)
    own = np.array([numbers.get(key, -1) for key in query_numbers])
    return Texts(queries, passages, row_query, row_positives, [list(one) for one in positives], own)


SHARD = 8192  # given embeddings checked at a time


def embed_texts(model, tokenizer, texts: list[str], kind: str, max_length: int | None, store: str,
                cache=None, weights: str = "", rank: int = 0, world: int = 1):  # fmt: skip
    """Embeddings (N, D) stored as `store` (float32, float16, bfloat16): an array, or with `cache`, a
    folder, left on disk (see `cache.Stored`). Of several processes (rank of world) each embeds a share.
    """
    if cache is None:
        embeddings = e5nl.embed(model, tokenizer, texts, kind, max_length=max_length, progress=True)
        return stored_as(store, embeddings)
    kept = model_cache(cache, model, tokenizer, weights, max_length, store)
    for path in kept.damaged:
        print(f"{path}: damaged; its texts are embedded again")
    e5nl.wait()  # until all have read the same files
    kept.fill(texts, kind, (rank, world))
    e5nl.wait()
    kept.read()
    return kept.stored(texts, kind)


def read_embeddings(path, count: int, what: str) -> np.ndarray:
    """A `.npy` of `count` normalised rows, memory-mapped."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a .npy of numbers ({error})") from None
    if array.ndim != 2 or array.dtype not in (np.float32, np.float16, np.uint16):
        raise InputError(f"{path}: {array.dtype} of shape {array.shape}; expected float32, float16 or uint16 (bfloat16), one row a text")
    if len(array) != count:
        raise InputError(f"{path}: {len(array):,} rows for {count:,} {what}; --write-texts DIR writes the texts to embed, in their order")
    for start in range(0, count, SHARD):
        lengths = np.linalg.norm(as_float32(array[start : start + SHARD]), axis=1)
        if (bad := ~(abs(lengths - 1) < 0.01)).any():
            row = int(bad.argmax())
            raise InputError(f"{path}: row {start + row} has length {lengths[row]:.3g}; expected rows of length 1, since s is the cosine")
    return array


# --- rows in, rows out ------------------------------------------------------------------------------------------------------


class Search(NamedTuple):
    """What the rules need, for U queries, or for U pairs of a query and one of its positives (`--anchor each`)."""

    query: np.ndarray  # (U,) number of the query
    candidates: np.ndarray  # (U, K) passages, best first
    scores: np.ndarray  # (U, K) float32
    known: np.ndarray  # (U, K) uint8, see known_reasons
    positive_numbers: list[list[int]]
    positives: list[np.ndarray]  # their scores s(q,p)


def top_k_together(q: np.ndarray, p: np.ndarray, k: int, precision: str, cache, rank: int, world: int) -> tuple[np.ndarray, np.ndarray]:
    """`top_k` by `world` processes, each for its share of the queries; the shares meet as files in `cache`, read by the first process."""
    share = slice(rank * len(q) // world, (rank + 1) * len(q) // world)
    found = top_k(q[share], p, k, precision=precision, progress=not rank)
    if world == 1:
        return found
    run = os.environ["MASTER_PORT"]  # another run may share the folder
    names = [[Path(cache) / f"search.{run}.{other}.{what}.npy" for what in ("scores", "indices")] for other in range(world)]
    for path, array in zip(names[rank], found, strict=True):
        write_array(path, array)
    e5nl.wait()
    if rank:
        return found
    shares = [[np.load(path) for path in paths] for paths in names]
    for path in sum(names, []):
        path.unlink()
    return tuple(np.concatenate(parts) for parts in zip(*shares, strict=True))


def judge(texts: Texts, q: np.ndarray, p: np.ndarray, found: tuple[np.ndarray, np.ndarray], anchor: str) -> Search:
    """What the rules need, from what `top_k` found for the queries q (Q, D) in the passages p (N, D); positives are scored alike."""
    scores, candidates = found
    known = known_reasons(candidates, texts.positives, texts.own)
    query, numbers = _flat(texts.positives)
    parts = [slice(start, start + 1024) for start in range(0, len(query), 1024)]
    positives = np.concatenate([score(q[query[part]], p[numbers[part]]) for part in parts])
    positives = np.split(positives, np.flatnonzero(np.diff(query)) + 1)  # each query has at least one
    if anchor != "each":
        return Search(np.arange(len(q)), candidates, scores, known, texts.positives, positives)
    query = np.repeat(np.arange(len(q)), [len(numbers) for numbers in texts.positives])
    numbers = [[number] for numbers in texts.positives for number in numbers]
    return Search(query, candidates[query], scores[query], known[query], numbers, list(np.concatenate(positives)[:, None]))


def fill(found: list[int], limit: float, forbidden: list[int], wanted: int, q: np.ndarray, p: np.ndarray, generator) -> list[int]:
    """`found` with random passages added up to `wanted`: none twice, none forbidden, all of a score below the limit.

    Fewer than `wanted` when twenty draws for each do not find them.
    """
    drawn = list(dict.fromkeys(generator.integers(len(p), size=20 * (wanted - len(found))).tolist()))
    drawn = [number for number in drawn if number not in found and number not in forbidden]
    return found + [number for number, s in zip(drawn, score(q, p[drawn]), strict=True) if s < limit][: wanted - len(found)]


def mined_rows(source: Source, texts: Texts, found: Search, negatives: list[list[int]], q, p, anchor: str, least: int):
    """The rows of `source` with their negatives, for JSON Lines; those with fewer than `least` are left out."""
    keys = zip(found.query.tolist(), found.positive_numbers, strict=True)
    unit = {(query, *numbers) if anchor == "each" else query: u for u, (query, numbers) in enumerate(keys)}
    for row, query, numbers in zip(source.rows, texts.row_query, texts.row_positives, strict=True):
        if anchor == "each":
            parts = [([text], [number], unit[query, number]) for text, number in zip(row.pos, numbers, strict=True)]
        else:
            parts = [(list(row.pos), numbers, unit[query])]
        for pos, own, u in parts:
            if len(negatives[u]) >= least:
                neg, scores = [texts.passages[number] for number in negatives[u]], score(q[query], p[own + negatives[u]]).tolist()
                row_scores = {"pos_scores": scores[: len(own)], "neg_scores": scores[len(own) :]}
                yield {"query": row.query, "pos": pos, "neg": neg, **row_scores, "type": source.type}


# --- what came out ----------------------------------------------------------------------------------------------------------


def summarise(found: Search, columns: np.ndarray, reasons: np.ndarray) -> dict:
    """The figures of a report on what `choose` returned."""
    taken, free = reasons == TAKEN, found.known == 0
    lowest = np.array([one.min() for one in found.positives])
    narrow = (found.scores >= thresholds(found.scores, free, found.positives, "topk-percpos", 0.95)[:, None])[free]
    return {
        "queries": len(columns),
        "candidates": reasons.size,
        "became of them": {reason: int((reasons == code).sum()) for code, reason in enumerate(REASONS)},
        "short of negatives": int((columns < 0).any(1).sum()),
        "without negatives": int((columns < 0).all(1).sum()),
        "s(q,p)": _quantiles(np.concatenate(found.positives)),
        "s(q,n) taken": _quantiles(found.scores[taken]),
        "s(q,n) above threshold": _quantiles(found.scores[reasons == ABOVE]),
        "taken above a positive": float((found.scores > lowest[:, None])[taken].mean()) if taken.any() else 0.0,
        "above a 5% margin": float(narrow.mean()) if narrow.size else 0.0,
    }


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    return dict(zip((f"{share:.0%}" for share in shares), np.quantile(values, shares).tolist(), strict=True)) if values.size else None


def describe(figures: dict) -> str:
    """The figures of `summarise`, to read."""
    lines = [f"{figures['candidates']:,} candidates of {figures['queries']:,} queries"]
    lines += [f"  {reason:<24}{n:>13,}{n / max(1, figures['candidates']):>9.1%}" for reason, n in figures["became of them"].items()]
    lines += [f"{'scores':<26}" + "".join(f"{name:>8}" for name in figures["s(q,p)"])]
    for name in ("s(q,p)", "s(q,n) taken", "s(q,n) above threshold"):
        lines += [f"  {name:<24}" + "".join(f"{value:>8.3f}" for value in (figures[name] or {}).values())]
    lines += [f"short of negatives: {figures['short of negatives']:,} queries; without any: {figures['without negatives']:,}"]
    lines += [f"taken negatives above a positive of their query: {figures['taken above a positive']:.2%}"]
    if figures["above a 5% margin"] > 0.9:
        share = f"{figures['above a 5% margin']:.0%}"
        lines += [f"note: the scores lie in a narrow band; topk-percpos with its usual 0.95 would leave out {share} of the candidates"]
    return "\n".join(lines)


def examples(texts: Texts, found: Search, columns: np.ndarray, count: int) -> str:
    """Queries spread over the source, each with its first positive and its hardest negative."""
    chosen = [u for u in (columns >= 0).any(1).nonzero()[0]]
    chosen = [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, count).astype(int))] if chosen else []
    short, lines = lambda text: " ".join(text.split())[:140], []  # noqa: E731
    for u in chosen:
        positive, negative = found.positive_numbers[u][0], found.candidates[u, columns[u, 0]]
        lines += [f"        {short(texts.queries[found.query[u]])}", f"+ {found.positives[u][0]:.3f} {short(texts.passages[positive])}"]
        lines += [f"- {found.scores[u, columns[u, 0]]:.3f} {short(texts.passages[negative])}", ""]
    return "\n".join(lines)


def plot(path, found: Search, reasons: np.ndarray) -> None:
    """Histograms of the scores of positives, of negatives taken, and of candidates that the rule left out."""
    import matplotlib.figure  # optional: only --plot needs it

    figure = matplotlib.figure.Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    parts = {"positives": np.concatenate(found.positives), "negatives taken": found.scores[reasons == TAKEN]}
    parts["left out by the rule"] = found.scores[(reasons == ABOVE) | (reasons == SHIFTED)]
    for name, values in parts.items():
        axes.hist(values, 60, density=True, histtype="step", label=f"{name} ({values.size:,})")
    axes.set(xlabel="score", ylabel="density")
    axes.legend()
    with new_file(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:])


GRID = [
    *[(rule, None, margin) for rule, margins in {
        "topk": [0], "topk-shifted": [5, 10, 20], "topk-abs": [0.6, 0.7, 0.8, 0.9], "topk-marginpos": [0.0, 0.02, 0.05, 0.1],
        "topk-percpos": [0.99, 0.95, 0.9, 0.8]}.items() for margin in margins],
    *[("topk-stdmarginpos", sigma, margin) for sigma in ("query", "positives", "difference") for margin in (0.5, 1.0, 2.0)],
]  # fmt: skip


def sweep(found: Search, anchor: str, negatives: int) -> list[dict]:
    """Every rule over a grid of margins, on one search. A dict a line of the table.

    'known positives' tests a rule against labels: of the queries with several positives, each positive in turn is the only one that is
    known, and the share of the negatives taken that are among the others is counted. None without such queries.
    """
    pairs = [(u, n) for u, numbers in enumerate(found.positive_numbers) if len(numbers) > 1 for n in range(len(numbers))]
    unit = np.array([u for u, _ in pairs], int)
    number = np.array([found.positive_numbers[u][n] for u, n in pairs], int)
    labelled = (found.known == POSITIVE)[unit] & (found.candidates[unit] != number[:, None])
    hidden = np.where(labelled, 0, found.known[unit])
    lines = []
    for rule, sigma, margin in GRID:
        settings = {"margin": margin, "sigma": sigma, "negatives": negatives}
        columns, reasons = choose(found.scores, found.known, found.positives, rule, anchor=anchor, **settings)
        taken = found.scores[reasons == TAKEN]
        line = {"rule": rule, "sigma": sigma, "margin": margin, "survivors": float((reasons <= NOT_NEEDED).sum(1).mean())}
        line |= {"short": int((columns < 0).any(1).sum()), "mean score": float(taken.mean()) if taken.size else None}
        line["known positives"] = None
        if pairs:
            one = [found.positives[u][n : n + 1] for u, n in pairs]
            taken = choose(found.scores[unit], hidden, one, rule, **settings)[1] == TAKEN
            line["known positives"] = float(labelled[taken].mean()) if taken.any() else None
        lines.append(line)
    return lines


def describe_sweep(lines: list[dict]) -> str:
    table = [f"{'rule':<18}{'sigma':<12}{'margin':>7}{'survivors':>11}{'short':>9}{'mean score':>12}{'known positives':>17}"]
    for line in lines:
        mean, share = ("-" if line[name] is None else f"{line[name]:.3f}" for name in ("mean score", "known positives"))
        start = f"{line['rule']:<18}{line['sigma'] or '':<12}{line['margin']:>7}"
        table.append(f"{start}{line['survivors']:>11.1f}{line['short']:>9,}{mean:>12}{share:>17}")
    return "\n".join(table)


# --- command line -----------------------------------------------------------------------------------------------------------


def _embeddings(args, texts: Texts, kinds: tuple[str, str], rank: int, world: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """Of the queries and of the passages, given or made; and what says which they are."""
    if args.query_embeddings:
        q = read_embeddings(args.query_embeddings, len(texts.queries), "queries")
        p = read_embeddings(args.corpus_embeddings, len(texts.passages), "passages")
        return q, p, {"query_embeddings": str(args.query_embeddings), "corpus_embeddings": str(args.corpus_embeddings)}
    folder = e5nl.find(args.model)
    weights = model_folder.weights_hash(folder)
    model, tokenizer = e5nl.load(folder, dtype=getattr(torch, args.dtype))
    print(e5nl.summary(model, tokenizer), flush=True)
    options = {"store": args.store, "cache": args.cache, "weights": weights, "rank": rank, "world": world}
    q = embed_texts(model, tokenizer, texts.queries, kinds[0], args.query_length, **options)
    p = embed_texts(model, tokenizer, texts.passages, kinds[1], args.passage_length, **options)
    return q, p, {"model": str(args.model), "weights": weights, "prompts": dict(model.config.prompts)}


def _mine(args, margin: float, rank: int, world: int) -> None:
    source = read_source(args.data)
    passages = read_id_texts(beir_files(args.corpus, "corpus.jsonl")) if args.corpus else ()
    corpus = (text for _, _, text in passages if text.strip())  # real corpora have empty passages, and a source may have none
    texts = collect(source, corpus, args.include_negatives)
    print(f"{args.data}: {len(source.rows):,} rows, {len(texts.queries):,} queries, {len(texts.passages):,} passages", flush=True)
    if args.write_texts:
        for name, part in (("queries", texts.queries), ("passages", texts.passages)):
            write_jsonl(Path(args.write_texts) / f"{name}.jsonl", ({"text": text} for text in part))
            print(f"{Path(args.write_texts) / f'{name}.jsonl'}: {len(part):,} texts, to embed as {KINDS[source.type][name == 'passages']}")
        return

    q, p, made_by = _embeddings(args, texts, KINDS[source.type], rank, world)
    best = top_k_together(q, p, args.top, args.precision, args.cache, rank, world)
    if rank:  # the first process has the results of all
        return
    found = judge(texts, q, p, best, args.anchor)
    anchor = "min" if args.anchor == "each" else args.anchor  # each pair of query and positive has one positive
    limit = {"margin": margin, "sigma": args.sigma, "anchor": anchor}
    options = {"negatives": args.negatives, "select": args.select, "seed": args.seed}
    columns, reasons = choose(found.scores, found.known, found.positives, args.rule, **limit, **options)
    figures = summarise(found, columns, reasons)
    print(f"\n{args.rule}, margin {margin:g}, sigma {args.sigma}, anchor {args.anchor}, the best {args.top} passages")
    print(describe(figures))
    if args.sweep:
        figures["sweep"] = sweep(found, anchor, args.negatives)
        print("\n" + describe_sweep(figures["sweep"]))
    print("\n" + examples(texts, found, columns, args.examples), end="")
    if args.plot:
        plot(args.plot, found, reasons)
    if not args.out:
        return

    negatives = [found.candidates[u, row[row >= 0]].tolist() for u, row in enumerate(columns)]
    if args.when_short == "random":
        limits = thresholds(found.scores, found.known == 0, found.positives, args.rule, **limit)
        for u in (columns < 0).any(1).nonzero()[0]:
            query, generator = found.query[u], np.random.default_rng((args.seed, int(u)))
            forbidden = [*texts.positives[query], texts.own[query]]
            negatives[u] = fill(negatives[u], limits[u], forbidden, args.negatives, q[query], p, generator)
    least = args.negatives if args.when_short == "drop" else 0
    rows = list(mined_rows(source, texts, found, negatives, q, p, args.anchor, least))
    if not rows:
        advice = "lower --margin or --negatives, raise --top, or choose --when-short keep"
        raise InputError(f"{args.data}: no row got {args.negatives} negatives; {advice}")
    write_jsonl(args.out, rows)
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "overwrite", "cache")} | {"margin": margin}
    write_json(f"{args.out}.json", {"settings": settings | made_by, "rows": len(rows), "report": figures})
    print(f"{args.out}: {len(rows):,} rows, {sum(len(row['neg']) for row in rows) / len(rows):.1f} negatives a row")


def main(argv=None) -> None:
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Hard negatives for a training source.", formatter_class=defaults)
    parser.add_argument("--data", required=True, help="training source (.jsonl, .jsonl.gz)")
    parser.add_argument("--out", help="the same rows with negatives; beside them <out>.json with settings and report")
    parser.add_argument("--overwrite", action="store_true", help="replace --out")
    group = parser.add_argument_group("passages")
    group.add_argument("--corpus", help="search this corpus too: BEIR folder or hub repository, or files (see data.py)")
    group.add_argument("--include-negatives", action="store_true", help="search the source's negatives too")
    group = parser.add_argument_group("embeddings")
    group.add_argument("--model", help="model folder or hub name")
    group.add_argument("--query-embeddings", help="instead of a model: .npy, a row a distinct query")
    group.add_argument("--corpus-embeddings", help="instead of a model: .npy, a row a distinct passage")
    group.add_argument("--write-texts", metavar="DIR", help="write queries.jsonl and passages.jsonl to embed, in order, and stop")
    group.add_argument("--query-length", type=whole_number(3), default=450, help="tokens")
    group.add_argument("--passage-length", type=whole_number(3), default=500, help="tokens")
    default = "bfloat16" if torch.cuda.is_available() else "float32"
    group.add_argument("--dtype", choices=["float32", "bfloat16"], default=default, help="of the encoder")
    group.add_argument("--store", choices=["float32", "float16", "bfloat16"], default="float32", help="of the embeddings searched")
    group.add_argument("--precision", choices=["float32", "bfloat16"], default="float32",
                       help="of the products that choose candidates; changes the time, not the result")  # fmt: skip
    group.add_argument("--cache", help="keep embeddings in this folder, search them from disk, go on where a killed run was")
    group = parser.add_argument_group("rule (see the top of mine.py)")
    group.add_argument("--top", type=whole_number(1), default=100, help="candidates a query; the paper does not say")
    group.add_argument("--rule", choices=list(RULES), default="topk-stdmarginpos")
    group.add_argument("--margin", type=real_number(-1e6), help=f"N, m, factor of sigma; {', '.join(f'{r} {m}' for r, m in RULES.items())}")
    group.add_argument("--sigma", choices=["query", "positives", "difference"], default="query")
    group.add_argument("--anchor", choices=["min", "max", "each"], default="min",
                       help="with several positives: the worst or the best is p, or each in a row of its own")  # fmt: skip
    group.add_argument("--negatives", type=whole_number(1), default=7)
    group.add_argument("--select", choices=["top", "random"], default="top", help="which of those that the rule keeps")
    group.add_argument("--when-short", choices=["drop", "keep", "random"], default="keep",
                       help="a row with fewer: leave it out, keep it, or add random passages")  # fmt: skip
    group.add_argument("--seed", type=whole_number(0), default=42)
    group = parser.add_argument_group("report")
    group.add_argument("--sweep", action="store_true", help="also print every rule over a grid of margins")
    group.add_argument("--examples", type=whole_number(0), default=10, help="queries to print with a positive and the hardest negative")
    group.add_argument("--plot", metavar="FILE", help="histograms of the scores (.png, .svg, .pdf)")
    args = parser.parse_args(argv)

    given = bool(args.query_embeddings), bool(args.corpus_embeddings)
    if not args.write_texts and (any(given) == bool(args.model) or given[0] != given[1]):
        parser.error("give --model, or both --query-embeddings and --corpus-embeddings")
    if not args.write_texts and not args.out and not args.sweep:
        parser.error("give --out, or --sweep alone to see what the rules would do")
    if args.query_embeddings and args.cache:
        parser.error("--cache is for embeddings made here, not for given ones")
    if args.out:
        if not args.out.endswith((".jsonl", ".jsonl.gz")):
            raise InputError(f"--out {args.out}: expected a name that ends in .jsonl or .jsonl.gz")
        if Path(args.out).resolve() == Path(args.data).resolve():
            raise InputError(f"--out {args.out} is the source itself; choose another name")
        for path in (args.out, f"{args.out}.json"):
            refuse_existing(path, args.overwrite)
    refuse_plot(args.plot, args.overwrite)
    margin = RULES[args.rule] if args.margin is None else args.margin
    if args.rule == "topk" and margin:
        raise InputError(f"--margin {margin:g}: the rule topk has none; leave it out, or choose another --rule")

    if args.data.endswith(".json"):
        raise InputError(f"{args.data}: is a manifest; mine one of the sources that it lists (.jsonl, .jsonl.gz)")
    with e5nl.processes() as (rank, world):
        if world > 1 and not args.cache:
            raise InputError("several processes share their embeddings and results through a folder: add --cache DIR")
        _mine(args, margin, rank, world)


if __name__ == "__main__":
    cli(main)
