"""Hard negatives for a training source (arXiv 2509.12340): exact search, then a rule.

In: a training source (JSON Lines, see data.py). The passages searched are all its positives, with
`--include-negatives` its negatives too, with `--corpus` also a corpus (BEIR's or MS MARCO's, see
data.py). They get the prefix that the source's type gives them in training.

Out: the same rows with `neg`, `pos_scores` and `neg_scores`, and next to them `<out>.json` with
settings and report. Other fields of a row stay. Negatives and scores of its own are replaced, which
is counted on the screen; with `--keep-negatives` its negatives come first, without repeats.

For a query q let p be its positive of the lowest score, s a score (cosine), and n run through those
of the `--top` best passages that are neither positives of q nor q itself. NV-Retriever (arXiv
2407.15831) keeps n while its score is strictly below a threshold, then takes the best:

    topk                no threshold
    topk-shifted        no threshold, but the first N are left out             N = 10
    topk-abs            s(q,n) < m                                             m = 0.7
    topk-marginpos      s(q,n) < s(q,p) - m                                    m = 0.05
    topk-percpos        s(q,n) < s(q,p) - (1 - m) |s(q,p)|                     m = 0.95
                        (that is m s(q,p), and right for negative scores too)
    topk-stdmarginpos   s(q,n) < s(q,p) - m sigma                              m = 1

**TopK-STDMarginPos is E5-NL's rule, and nothing public defines it**: neither sigma nor m, K or the
model that mined. Its name says TopK-MarginPos with a standard deviation as the margin. Three
readings, `--sigma`:

    query        sigma_q = std { s(q,n) : n as above }        of each query (default)
    positives    sigma   = std { s(q,p) : all pairs of the data set }
    difference   sigma   = std { s(q,p) - s(q,n) : all q, n of the data set }

The default is the only one that adapts to the query, as a summary of the paper says the mining
does ("dynamic"), and needs nothing but the query's own list. All three follow the width of the
model's score band, which a fixed margin does not: the cosines of E5 models lie between 0.7 and 1,
where topk-percpos may leave nearly nothing. With sigma 0 (equal scores, or fewer than two n) a
negative must score strictly below the positive. sigma is the population's (divided by the count,
in float64).

    python mine.py --model runs/toy --data demo/train/dekamer_title_answer.jsonl.gz --sweep \
        --out runs/mined.jsonl.gz
    python mine.py --model intfloat/multilingual-e5-base --data mmarco.jsonl.gz \
        --corpus beir-nl-mmarco --cache runs/cache --store bfloat16 --precision bfloat16 \
        --out runs/mined/mmarco.jsonl.gz                     # 8.8 million passages: patience
    torchrun --nproc_per_node 8 mine.py …                    # the same on 8 GPUs; needs --cache
    python mine.py --data source.jsonl --write-texts texts   # what to embed, for any model
    python mine.py --data source.jsonl --query-embeddings q.npy --corpus-embeddings c.npy \
        --out mined.jsonl

Given embeddings belong to texts by their order alone. Those that `e5nl.py embed` wrote carry a
digest of their texts, which is compared.

Left out on purpose: approximate indexes, rescoring by a cross-encoder. The texts are held in
memory, the embeddings need not be (`--cache`). numpy has no bfloat16: embeddings stored so are
uint16 arrays, the upper halves of float32. Letters: Q queries, K candidates of each, N passages, D
width.
"""

import argparse
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import e5nl
import long_runs
import model_folder
from cache import model_cache, stored_as
from data import KINDS, Source, beir_files, normalise, prefixes, read_id_texts, read_source
from files import (
    InputError,
    ShowDefaults,
    cli,
    digest_of,
    output_folder,
    read_array,
    read_jsonl,
    real_number,
    refuse_existing,
    refuse_other_suffix,
    whole_number,
    write_json,
    write_jsonl,
)
from search import as_float32, score, top_k

# --- the rules ------------------------------------------------------------------------------------

# Their usual margins: NV-Retriever's, but for the paper's own rule, of which none is known
RULES = {
    "topk": 0.0,
    "topk-shifted": 10,
    "topk-abs": 0.7,
    "topk-marginpos": 0.05,
    "topk-percpos": 0.95,
    "topk-stdmarginpos": 1.0,
}

# What became of a candidate. The first two survived the rule
REASONS = ("taken", "not needed", "positive", "query itself", "shifted", "above threshold")
TAKEN, NOT_NEEDED, POSITIVE, QUERY, SHIFTED, ABOVE = range(len(REASONS))


class Candidates(NamedTuple):
    """The best passages of each query, and what the rules need of them."""

    passages: np.ndarray  # (Q, K) numbers of passages, best first
    scores: np.ndarray  # (Q, K) float32
    known: np.ndarray  # (Q, K) uint8: POSITIVE or QUERY for what must never be a negative, else 0
    positives: list[np.ndarray]  # s(q,p) of every positive of each query


def known_reasons(candidates: np.ndarray, positives: list, own: np.ndarray) -> np.ndarray:
    """(Q, K) uint8: POSITIVE or QUERY for what must never be a negative, else 0.

    candidates (Q, K), positives (Q lists) and own (Q; -1: none) are numbers of *texts*: passages
    whose texts are equal but for case and white space have one number, so a positive is known under
    every id.

    >>> known_reasons(np.array([[4, 2, 7, 9]]), [[7]], np.array([4])).tolist()
    [[3, 0, 2, 0]]
    """
    known = np.zeros(candidates.shape, np.uint8)
    known[candidates == own[:, None]] = QUERY

    # Where a candidate is a positive. In blocks: all pairs at once would take much memory
    query, number = _flat(positives)
    for start in range(0, len(query), 4096):
        rows = query[start : start + 4096]
        pair, column = (candidates[rows] == number[start : start + 4096, None]).nonzero()
        known[rows[pair], column] = POSITIVE
    return known


def _flat(positives: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(query, text) of every positive of every query."""
    counts = [len(numbers) for numbers in positives]
    numbers = np.fromiter(itertools.chain(*positives), np.int64, sum(counts))
    return np.repeat(np.arange(len(positives)), counts), numbers


def thresholds(
    candidates: Candidates, rule: str, margin: float, sigma: str = "query"
) -> np.ndarray:
    """The score (Q,) float64 that a negative of each query must stay below."""
    p = np.array([scores.min() for scores in candidates.positives], np.float64)
    if rule in ("topk", "topk-shifted"):
        return np.full(len(p), np.inf)
    if rule == "topk-abs":
        return np.full(len(p), float(margin))
    if rule == "topk-marginpos":
        return p - margin
    if rule == "topk-percpos":
        return p - (1 - margin) * np.abs(p)

    # topk-stdmarginpos: sigma is over what may be a negative at all, in float64
    s, free = candidates.scores.astype(np.float64), candidates.known == 0
    if sigma == "query":
        return p - margin * _row_std(s, free)
    if sigma == "positives":
        values = np.concatenate(candidates.positives).astype(np.float64)
    else:
        values = (p[:, None] - s)[free]
    return p - margin * (values.std() if values.size else 0.0)


def _row_std(s: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The standard deviation (Q,) of the free scores of each row; 0 of none."""
    count = np.maximum(free.sum(1), 1)
    mean = np.where(free, s, 0).sum(1) / count
    return np.sqrt((np.where(free, s - mean[:, None], 0) ** 2).sum(1) / count)


def choose(
    candidates: Candidates,
    rule: str,
    *,
    margin: float,
    sigma: str = "query",
    negatives: int = 7,
) -> tuple[np.ndarray, np.ndarray]:
    """Negatives of each query: their columns (Q, negatives) int64, and reasons (Q, K) uint8.

    The columns are in order, hardest first, -1 where there are too few.

    >>> scores, known = np.array([[0.9, 0.8, 0.7, 0.5]]), np.array([[POSITIVE, 0, 0, 0]])
    >>> candidates = Candidates(None, scores, known, [np.array([0.9])])
    >>> columns, reasons = choose(candidates, "topk-marginpos", margin=0.15, negatives=1)
    >>> columns.tolist(), [REASONS[reason] for reason in reasons[0]]
    ([[2]], ['positive', 'above threshold', 'taken', 'not needed'])
    """
    # What survives the rule
    free = candidates.known == 0
    reasons = np.where(free, np.uint8(NOT_NEEDED), candidates.known).astype(np.uint8)
    limit = thresholds(candidates, rule, margin, sigma)
    reasons[free & ~(candidates.scores < limit[:, None])] = ABOVE
    if rule == "topk-shifted":
        reasons[free & (free.cumsum(1) <= margin)] = SHIFTED
    survived = reasons == NOT_NEEDED

    # The first of them
    taken = survived & (survived.cumsum(1, dtype=np.int32) <= negatives)
    reasons[taken] = TAKEN

    # From one mark per candidate to a list of columns per query
    columns = np.full((len(survived), negatives), -1)
    query, column = taken.nonzero()
    columns[query, np.arange(len(query)) - np.searchsorted(query, query)] = column
    return columns, reasons


# --- texts and their embeddings -------------------------------------------------------------------


class Texts(NamedTuple):
    """The distinct queries and passages of a source, and which row has which, by number.

    Texts that are equal after `normalise` have the same number.
    """

    queries: list[str]
    passages: list[str]
    row_query: list[int]
    row_positives: list[list[int]]
    row_negatives: list[list[int]]  # empty unless negatives are searched
    positives: list[list[int]]  # of each query, over all rows that ask it
    own: np.ndarray  # (Q,) the passage that is the query itself, or -1


class _Numbers(dict):
    """Digest of a normalised text (it may be long) -> number; `texts` has the first of each."""

    def __init__(self):
        self.texts = []

    def __call__(self, text: str) -> int:
        key = hashlib.blake2b(normalise(text).encode(), digest_size=16).digest()
        if key not in self:
            self[key] = len(self)
            self.texts.append(text)
        return self[key]


def number_texts(source: Source, corpus=(), include_negatives: bool = False) -> Texts:
    """Number the texts as they first occur: those of `corpus`, then positives, then negatives."""
    query, passage = _Numbers(), _Numbers()
    for text in corpus:
        passage(text)

    # What each row has, by number
    row_query = [query(row.query) for row in source.rows]
    row_positives = [[passage(text) for text in row.pos] for row in source.rows]
    searched = (row.neg if include_negatives else () for row in source.rows)
    row_negatives = [[passage(text) for text in negatives] for negatives in searched]

    # A query's positives are those of all rows that ask it
    positives = [{} for _ in query]
    for number, of_row in zip(row_query, row_positives, strict=True):
        positives[number] |= dict.fromkeys(of_row)
    positives = [list(numbers) for numbers in positives]
    # Queries and passages have the same digest where their texts are equal
    own = np.array([passage.get(key, -1) for key in query])
    of_rows = (row_query, row_positives, row_negatives)
    return Texts(query.texts, passage.texts, *of_rows, positives, own)


def with_instructions(source: Source, texts: Texts) -> Texts:
    """The texts with what `prefixes` puts before them; that of one row where several have a text.

    Passages that no row has as a positive are treated as those of the first row.
    """
    before = [prefixes(source, row, "instruct") for row in source.rows]
    queries = {n: before[i][0] for i, n in enumerate(texts.row_query)}
    passages = {n: before[i][1] for i, row in enumerate(texts.row_positives) for n in row}
    return texts._replace(
        queries=[queries[n] + text for n, text in enumerate(texts.queries)],
        passages=[passages.get(n, before[0][1]) + text for n, text in enumerate(texts.passages)],
    )


def embed_texts(
    model,
    tokenizer,
    texts: list[str],
    kind: str,
    max_length: int,
    store: str,
    cache,
    weights,
    share,
):
    """Embeddings (N, D) stored as `store`: an array, or left on disk in `cache`, a folder.

    weights: their hash. share: (rank, world) of one of several processes that fill the cache.
    """
    if not cache:
        options = {"max_length": max_length, "progress": True}
        return stored_as(store, e5nl.embed(model, tokenizer, texts, kind, **options))
    embeddings = model_cache(cache, model, tokenizer, weights, max_length, store)
    # No process writes before all have read, and none searches before all have written
    long_runs.wait()
    embeddings.fill(texts, kind, share)
    long_runs.wait()
    embeddings.read()
    return embeddings.stored(texts, kind)


def read_embeddings(path, texts: list[str], what: str) -> np.ndarray:
    """A `.npy` of normalised rows, one for each text, memory-mapped."""
    array, digest = read_array(path)
    if array.ndim != 2 or array.dtype not in (np.float32, np.float16, np.uint16):
        expected = "float32, float16 or uint16 (bfloat16), one row per text"
        raise InputError(f"{path}: {array.dtype} of shape {array.shape}; expected {expected}")
    # Rows belong to texts by their place alone
    count, advice = len(texts), "--write-texts DIR writes the texts to embed, in their order"
    if len(array) != count:
        raise InputError(f"{path}: {len(array):,} rows for {count:,} {what}; {advice}")
    if digest and digest != digest_of(texts):
        found = f"embeddings of other texts than the {count:,} {what}, or in another order"
        raise InputError(f"{path}: {found}; {advice}")
    # A dot product is the cosine only where every row has length 1 (which NaN has not)
    for start in range(0, count, 8192):
        lengths = np.linalg.norm(as_float32(array[start : start + 8192]), axis=1)
        wrong = ~(abs(lengths - 1) < 0.01)
        if wrong.any():
            row = int(wrong.argmax())
            found = f"row {start + row} has length {lengths[row]:.3g}"
            raise InputError(f"{path}: {found}; expected rows of length 1, since s is the cosine")
    return array


# --- candidates, and rows with negatives ----------------------------------------------------------


def top_k_together(
    q, p, k: int, precision: str, rank: int, world: int
) -> tuple[np.ndarray, np.ndarray]:
    """`top_k` by `world` processes, each for its share of the queries; all get all results."""
    share = slice(rank * len(q) // world, (rank + 1) * len(q) // world)
    results = top_k(q[share], p, k, precision=precision, progress=not rank)
    if world == 1:
        return results

    # Each fills its rows of a table of zeros, and the tables are added up
    device, together = "cuda" if torch.cuda.is_available() else "cpu", []
    for part in map(torch.from_numpy, results):
        table = torch.zeros(len(q), part.shape[1], dtype=part.dtype, device=device)
        table[share] = part.to(device)
        together.append(long_runs.add_up(table).cpu().numpy())
    return tuple(together)


def label(
    texts: Texts, q: np.ndarray, p: np.ndarray, scores: np.ndarray, passages: np.ndarray
) -> Candidates:
    """What the rules need, from what `top_k` returned for queries q (Q, D) in passages p (N, D)."""
    # Scores of positives, in blocks that fit into memory
    query, numbers = _flat(texts.positives)
    blocks = [slice(start, start + 1024) for start in range(0, len(query), 1024)]
    positives = np.concatenate([score(q[query[block]], p[numbers[block]]) for block in blocks])
    # One part per query: each has at least one positive
    positives = np.split(positives, np.flatnonzero(np.diff(query)) + 1)
    known = known_reasons(passages, texts.positives, texts.own)
    return Candidates(passages, scores, known, positives)


def fill(numbers: list[int], limit: float, forbidden: list, wanted: int, q, p, generator) -> list:
    """`numbers` with random passages added up to `wanted`.

    None comes twice, none is forbidden, all score below the limit. Fewer than `wanted` when twenty
    draws for each do not find them.
    """
    drawn = generator.integers(len(p), size=20 * (wanted - len(numbers))).tolist()
    drawn = [n for n in dict.fromkeys(drawn) if n not in numbers and n not in forbidden]
    below = [n for n, s in zip(drawn, score(q, p[drawn]), strict=True) if s < limit]
    return numbers + below[: wanted - len(numbers)]


def mined_rows(
    path, source: Source, texts: Texts, negatives: list[list[int]], q, p, args
) -> Iterator[dict]:
    """The rows of `path`, which `source` was read from, with negatives; their other fields stay.

    negatives: those of each query. args: of the command line.
    """
    least = args.negatives if args.when_short == "drop" else 0
    numbers = zip(texts.row_query, texts.row_positives, texts.row_negatives, strict=True)
    rows = zip(read_jsonl(path), source.rows, numbers, strict=True)
    for (_, fields), row, (query, positives, own) in rows:
        # Its own negatives first, then the mined ones, without repeats
        chosen = {}
        for number, text in zip(own, row.neg, strict=True) if args.keep_negatives else ():
            chosen.setdefault(number, text)
        for number in negatives[query]:
            chosen.setdefault(number, texts.passages[number])
        if len(chosen) < least:
            continue

        scores = score(q[query], p[positives + list(chosen)]).tolist()
        mined = {"query": row.query, "pos": list(row.pos), "neg": list(chosen.values())}
        mined |= {"pos_scores": scores[: len(positives)], "neg_scores": scores[len(positives) :]}
        mined["type"] = source.type
        # A field such as neg_ids would describe other negatives
        fields = {name: fields[name] for name in fields if not name.startswith("neg_")}
        yield mined | {name: fields[name] for name in fields if name not in mined}


def replaced(path, keep_negatives: bool) -> str:
    """What mining replaces in the rows of `path`: the names of fields, and of how many rows."""
    prefixes = ("neg_" if keep_negatives else "neg", "pos_scores")
    counts = Counter()
    for _, row in read_jsonl(path):
        counts.update(name for name, value in row.items() if value and name.startswith(prefixes))
    return ", ".join(f"{name} of {count:,} rows" for name, count in sorted(counts.items()))


# --- the report -----------------------------------------------------------------------------------


def summarise(candidates: Candidates, columns: np.ndarray, reasons: np.ndarray) -> dict:
    """The figures of a report on what `choose` returned."""
    # Perhaps no negatives: those above the lowest positive (margin 0)
    scores, taken = candidates.scores, reasons == TAKEN
    above_lowest = scores > thresholds(candidates, "topk-marginpos", 0)[:, None]
    return {
        "queries": len(columns),
        "candidates": reasons.size,
        "became of them": {
            reason: int((reasons == code).sum()) for code, reason in enumerate(REASONS)
        },
        "short of negatives": int((columns < 0).any(1).sum()),
        "without negatives": int((columns < 0).all(1).sum()),
        "s(q,p)": _quantiles(np.concatenate(candidates.positives)),
        "s(q,n) taken": _quantiles(scores[taken]),
        "s(q,n) above threshold": _quantiles(scores[reasons == ABOVE]),
        "taken above a positive": _mean(above_lowest[taken]) or 0.0,
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    if not values.size:
        return None
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    names = [f"{share:.0%}" for share in shares]
    return dict(zip(names, np.quantile(values, shares).tolist(), strict=True))


def describe(figures: dict) -> str:
    """The figures of `summarise`, to read."""
    count = figures["candidates"]
    lines = [f"{count:,} candidates of {figures['queries']:,} queries"]
    for reason, n in figures["became of them"].items():
        lines.append(f"  {reason:<24}{n:>13,}{n / max(1, count):>9.1%}")
    lines.append(f"{'scores':<26}" + "".join(f"{name:>8}" for name in figures["s(q,p)"]))
    for name in ("s(q,p)", "s(q,n) taken", "s(q,n) above threshold"):
        lines.append(
            f"  {name:<24}" + "".join(f"{value:>8.3f}" for value in (figures[name] or {}).values())
        )
    short, without = figures["short of negatives"], figures["without negatives"]
    lines.append(f"short of negatives: {short:,} queries; without any: {without:,}")
    lines.append(
        f"taken negatives above a positive of their query: {figures['taken above a positive']:.2%}"
    )
    return "\n".join(lines)


def examples(texts: Texts, candidates: Candidates, columns: np.ndarray, count: int) -> str:
    """Queries spread over the source, each with its first positive and its hardest negative."""
    mined = (columns >= 0).any(1).nonzero()[0]
    spread = np.linspace(0, len(mined) - 1, count if len(mined) else 0)
    lines = []
    for query in mined[np.unique(spread.astype(int))]:
        hardest = columns[query, 0]
        positive, negative = texts.positives[query][0], candidates.passages[query, hardest]
        scores = candidates.positives[query][0], candidates.scores[query, hardest]
        lines.append(f"        {_short(texts.queries[query])}")
        lines.append(f"+ {scores[0]:.3f} {_short(texts.passages[positive])}")
        lines.append(f"- {scores[1]:.3f} {_short(texts.passages[negative])}\n")
    return "\n".join(lines)


def _short(text: str) -> str:
    return " ".join(text.split())[:140]


GRID = {  # (rule, sigma): margins
    ("topk", None): [0],
    ("topk-shifted", None): [5, 10, 20],
    ("topk-abs", None): [0.6, 0.7, 0.8, 0.9],
    ("topk-marginpos", None): [0.0, 0.02, 0.05, 0.1],
    ("topk-percpos", None): [0.99, 0.95, 0.9, 0.8],
    ("topk-stdmarginpos", "query"): [0.5, 1.0, 2.0],
    ("topk-stdmarginpos", "positives"): [0.5, 1.0, 2.0],
    ("topk-stdmarginpos", "difference"): [0.5, 1.0, 2.0],
}


def sweep(candidates: Candidates, negatives: int) -> list[dict]:
    """Every rule over a grid of margins, on one search: one dict per line of the table."""
    lines = []
    for (rule, sigma), margins in GRID.items():
        for margin in margins:
            settings = {"margin": margin, "sigma": sigma, "negatives": negatives}
            columns, reasons = choose(candidates, rule, **settings)
            lines.append({
                "rule": rule,
                "sigma": sigma,
                "margin": margin,
                "survivors": float((reasons <= NOT_NEEDED).sum(1).mean()),
                "short": int((columns < 0).any(1).sum()),
                "mean score": _mean(candidates.scores[reasons == TAKEN]),
            })  # fmt: skip
    return lines


def describe_sweep(lines: list[dict]) -> str:
    head = f"{'rule':<18}{'sigma':<12}{'margin':>7}{'survivors':>11}{'short':>9}{'mean score':>12}"
    table = [head]
    for line in lines:
        mean = "-" if line["mean score"] is None else f"{line['mean score']:.3f}"
        start = f"{line['rule']:<18}{line['sigma'] or '':<12}{line['margin']:>7}"
        table.append(f"{start}{line['survivors']:>11.1f}{line['short']:>9,}{mean:>12}")
    return "\n".join(table)


# --- command line ---------------------------------------------------------------------------------


def _read(args) -> tuple[Source, Texts]:
    source = read_source(args.data)
    documents = read_id_texts(beir_files(args.corpus, "corpus.jsonl")) if args.corpus else ()
    # Real corpora have empty passages, and a training source may have none
    corpus = (text for _, _, text in documents if text.strip())
    texts = number_texts(source, corpus, args.include_negatives or args.keep_negatives)
    counts = f"{len(texts.queries):,} queries, {len(texts.passages):,} passages"
    print(f"{args.data}: {len(source.rows):,} rows, {counts}", flush=True)
    return source, texts


def _write_texts(folder, texts: Texts, kinds: tuple[str, str]) -> None:
    for name, kind in zip(("queries", "passages"), kinds, strict=True):
        path = Path(folder) / f"{name}.jsonl"
        write_jsonl(path, ({"text": text} for text in getattr(texts, name)))
        print(f"{path}: {len(getattr(texts, name)):,} texts, to embed as {kind}")


def _embeddings(args, source: Source, texts: Texts, rank: int, world: int):
    """Embeddings of queries and passages, given or made, and what says which they are."""
    if args.query_embeddings:
        q = read_embeddings(args.query_embeddings, texts.queries, "queries")
        p = read_embeddings(args.corpus_embeddings, texts.passages, "passages")
        return q, p, {}
    folder = e5nl.find(args.model)
    weights = model_folder.weights_hash(folder)
    model, tokenizer = e5nl.load(folder, dtype=getattr(torch, args.dtype))
    print(e5nl.summary(model, tokenizer), flush=True)
    kinds, config = KINDS[source.type], model.config
    made_by = {"weights": weights, "prompts": dict(config.prompts)} | config.cut
    if config.policy == "instruct":
        texts, kinds = with_instructions(source, texts), ("none", "none")
    options = (args.store, args.cache, weights, (rank, world))
    q = embed_texts(model, tokenizer, texts.queries, kinds[0], args.query_length, *options)
    p = embed_texts(model, tokenizer, texts.passages, kinds[1], args.passage_length, *options)
    return q, p, made_by


def _mine(args, rank: int, world: int) -> None:
    source, texts = _read(args)
    if args.write_texts:
        return _write_texts(args.write_texts, texts, KINDS[source.type])

    # Candidates: the best passages of each query
    q, p, made_by = _embeddings(args, source, texts, rank, world)
    best = top_k_together(q, p, args.top, args.precision, rank, world)
    if rank:
        return
    candidates = label(texts, q, p, *best)

    # Negatives: those that the rule takes
    rule = {"rule": args.rule, "margin": args.margin, "sigma": args.sigma}
    columns, reasons = choose(candidates, **rule, negatives=args.negatives)

    # Report
    figures = summarise(candidates, columns, reasons)
    named = f"{args.rule}, margin {args.margin:g}, sigma {args.sigma}"
    print(f"\n{named}, the best {args.top} passages")
    print(describe(figures))
    if args.sweep:
        figures["sweep"] = sweep(candidates, args.negatives)
        print("\n" + describe_sweep(figures["sweep"]))
    print("\n" + examples(texts, candidates, columns, args.examples), end="")
    if not args.out:
        return

    # Those of each query, with random ones where they are too few
    best = zip(candidates.passages, columns, strict=True)
    negatives = [passages[of_query[of_query >= 0]].tolist() for passages, of_query in best]
    if args.when_short == "random":
        limits = thresholds(candidates, **rule)
        for query in (columns < 0).any(1).nonzero()[0].tolist():
            generator = np.random.default_rng((args.seed, query))
            forbidden = [*texts.positives[query], texts.own[query]]
            more = (limits[query], forbidden, args.negatives, q[query], p, generator)
            negatives[query] = fill(negatives[query], *more)

    # Rows, and what is said of them
    rows = list(mined_rows(args.data, source, texts, negatives, q, p, args))
    if not rows:
        advice = "lower --margin or --negatives, raise --top, or choose --when-short keep"
        raise InputError(f"{args.data}: no row got {args.negatives} negatives; {advice}")
    if names := replaced(args.data, args.keep_negatives):
        print(f"{args.data}: replaced {names} (--keep-negatives keeps a row's own negatives)")
    write_jsonl(args.out, rows)

    left_out = ("out", "overwrite", "cache")
    settings = {name: value for name, value in vars(args).items() if name not in left_out}
    about = {"settings": settings | made_by, "rows": len(rows), "report": figures}
    write_json(f"{args.out}.json", about)
    average = sum(len(row["neg"]) for row in rows) / len(rows)
    print(f"{args.out}: {len(rows):,} rows, {average:.1f} negatives per row")


def _parse(argv) -> argparse.Namespace:
    description = "Hard negatives for a training source."
    parser = argparse.ArgumentParser(description=description, formatter_class=ShowDefaults)
    add = parser.add_argument
    add("--data", required=True, help="training source (.jsonl, .jsonl.gz)")
    add("--out", help="the same rows with negatives; <out>.json gets settings and report")
    add("--overwrite", action="store_true", help="replace --out")

    add = parser.add_argument_group("passages").add_argument
    add("--corpus", help="searched too: BEIR folder, hub repository, or files (see data.py)")
    add("--include-negatives", action="store_true", help="search the source's negatives too")
    help = "a row's own negatives stay; implies --include-negatives"
    add("--keep-negatives", action="store_true", help=help)

    add = parser.add_argument_group("embeddings").add_argument
    add("--model", help="model folder or hub name")
    add("--query-embeddings", help="instead of a model: .npy, one row per distinct query")
    add("--corpus-embeddings", help="instead of a model: .npy, one row per distinct passage")
    help = "write queries.jsonl and passages.jsonl to embed, in order, and stop"
    add("--write-texts", metavar="DIR", help=help)
    add("--query-length", type=whole_number(3), default=450, help="tokens")
    add("--passage-length", type=whole_number(3), default=500, help="tokens")
    default = "bfloat16" if torch.cuda.is_available() else "float32"
    floats = ["float32", "bfloat16", "float16"]
    add("--dtype", choices=floats[:2], default=default, help="of the encoder")
    add("--store", choices=floats, default="float32", help="of the embeddings searched")
    help = "of the products that choose candidates; changes the time, not the result"
    add("--precision", choices=floats[:2], default="float32", help=help)
    add("--cache", help="keep embeddings in this folder, search them there, resume a killed run")

    add = parser.add_argument_group("rule (see the top of mine.py)").add_argument
    help = "candidates per query; the paper does not say"
    add("--top", type=whole_number(1), default=100, help=help)
    add("--rule", choices=list(RULES), default="topk-stdmarginpos")
    usual = ", ".join(f"{rule} {margin}" for rule, margin in RULES.items())
    add("--margin", type=real_number(-1e6), help=f"N, m, factor of sigma; {usual}")
    add("--sigma", choices=["query", "positives", "difference"], default="query")
    add("--negatives", type=whole_number(1), default=7)
    help = "a row with fewer: leave it out, keep it, or add random passages"
    add("--when-short", choices=["drop", "keep", "random"], default="keep", help=help)
    add("--seed", type=whole_number(0), default=42)

    add = parser.add_argument_group("report").add_argument
    add("--sweep", action="store_true", help="also print every rule over a grid of margins")
    add("--examples", type=whole_number(0), default=10, help="queries to print with texts")

    args = parser.parse_args(argv)
    given = {bool(args.query_embeddings), bool(args.corpus_embeddings)}
    if not args.write_texts and (len(given) > 1 or bool(args.model) in given):
        parser.error("give --model, or both --query-embeddings and --corpus-embeddings")
    if not args.write_texts and not args.out and not args.sweep:
        parser.error("give --out, or --sweep alone to see what the rules would do")
    if args.query_embeddings and args.cache:
        parser.error("--cache is for embeddings made here, not for given ones")
    return args


def main(argv=None) -> None:
    args = _parse(argv)

    # Mistakes that can be seen before anything is read
    if args.out:
        refuse_other_suffix(args.out, ".jsonl", ".jsonl.gz")
        if Path(args.out).resolve() == Path(args.data).resolve():
            raise InputError(f"--out {args.out} is the source itself; choose another name")
        for path in (args.out, f"{args.out}.json"):
            refuse_existing(path, args.overwrite)
    if args.rule == "topk" and args.margin:
        advice = "leave it out, or choose another --rule"
        raise InputError(f"--margin {args.margin:g}: the rule topk has none; {advice}")
    if args.margin is None:
        args.margin = RULES[args.rule]
    if args.data.endswith(".json"):
        advice = "mine one of the sources that it lists (.jsonl, .jsonl.gz)"
        raise InputError(f"{args.data}: is a manifest; {advice}")
    for folder in filter(None, (args.cache, args.write_texts)):
        output_folder(folder)

    with long_runs.processes() as (rank, world):
        if world > 1 and not args.cache:
            raise InputError("several processes share embeddings through a folder: add --cache DIR")
        _mine(args, rank, world)


if __name__ == "__main__":
    cli(main)
