"""Files in, batches out: the formats, the prefixes and the batch plan of E5-NL (arXiv 2509.12340, training data and training).

A *source* is one data set in one JSON Lines file (`.gz` or not). A row of a training source:

    {"query": "hoe oud wordt een olifant", "pos": ["Olifanten worden 60 tot 70 jaar."], "neg": ["Olifanten eten gras."]}

`type` may stand in the rows (the first row's counts): `retrieval` (default), `classification`, `symmetric_sts` or
`symmetric_clustering`. `neg` may be empty or absent; other fields are ignored. FlagEmbedding and the files that the authors' code
writes have this format too. What cannot stand in a row stands in a manifest, a small `.json` file:

    {"sources": [{"file": "mmarco.jsonl.gz", "ratio": 0.75}, {"file": "ls.jsonl", "in_batch_negatives": false}]}

A retrieval corpus has the BEIR layout: `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`), `qrels/<split>.tsv`
(`query-id`, `corpus-id`, `score`). `prepare` makes a source of one, or of MS MARCO's files without header lines: texts `id<TAB>text`,
judgements `query<TAB>0<TAB>passage<TAB>1` or triples `query<TAB>positive<TAB>negative`.

    python data.py check demo/train/*.jsonl.gz          # what a training run would see
    python data.py prepare --corpus demo/eval/dekamer_answers --split test --out runs/dekamer.jsonl.gz
    python data.py prepare --corpus clips/beir-nl-hotpotqa --qrels BeIR/hotpotqa-qrels:train.tsv --out runs/hotpotqa.jsonl.gz

Tables are JSON Lines, parquet, CSV or TSV; `owner/name[@revision][:files]` stands for files of a data set on the Hugging Face hub.

Left out on purpose: random subsets by size, several files a source, text shuffling (in the authors' loader, unused by the paper).
"""

import argparse
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from files import (
    HUB_NAME,
    TABLES,
    InputError,
    as_id,
    as_text,
    cli,
    find_files,
    hub_folder,
    inside,
    is_hub_name,
    kind_of,
    read_json,
    read_jsonl,
    read_lines,
    read_rows,
    refuse_existing,
    whole_number,
    write_jsonl,
)

PREFIXES = {"query": "query: ", "passage": "passage: ", "none": ""}  # of E5 (arXiv 2212.03533, section 3.2)

# Which kind of text the query and the passages of a source are. Symmetric sources get `query: ` on both sides (authors' loader).
KINDS = {
    "retrieval": ("query", "passage"),
    "classification": ("query", "passage"),
    "symmetric_sts": ("query", "query"),
    "symmetric_clustering": ("query", "query"),
}


def normalise(text: str) -> str:
    """The form in which two texts are compared: NFC, case folded, white space collapsed.

    >>> normalise(" Cafe\\u0301  NOORD ") == normalise("caf\\u00e9 noord")
    True
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


# --- training sources -------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One training example: any of `pos` answers `query`, none of `neg` does."""

    query: str
    pos: tuple[str, ...]
    neg: tuple[str, ...]


class Source(NamedTuple):
    """One data set with what a training run needs to know of it."""

    name: str
    type: str
    rows: list[Row]
    in_batch_negatives: bool = True
    batch_factor: float = 1.0  # the batch of this source, as a share of the run's batch
    negatives: int | None = None  # negatives a row in training; None: the run's setting

    def digest(self) -> str:
        """What tells these rows and settings from others, in a line."""
        digest = hashlib.blake2b(repr(self._replace(rows=[])).encode(), digest_size=16)
        for row in self.rows:
            digest.update(repr(tuple(row)).encode())
        return digest.hexdigest()


def parse_row(row: dict, where: str) -> Row:
    """Check one row of a training source. `where` is `file:line`, for the message."""
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"{where}: 'query' is {json.dumps(query)[:60]}; every row needs a text to search with")
    texts = {}
    for field, least in (("pos", 1), ("neg", 0)):
        value = row.get(field, [])
        if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value) or len(value) < least:
            expected = "a list of one or more texts" if least else "a list of texts (it may be empty)"
            raise InputError(f"{where}: {field!r} is {json.dumps(value, ensure_ascii=False)[:60]}; expected {expected}, none of them empty")
        texts[field] = tuple(value)
    return Row(query, **texts)


def parse_type(type, where: str) -> str:
    """The type of a row. FlagEmbedding calls `retrieval` `normal`."""
    if type == "normal":
        return "retrieval"
    if type == "symmetric_class":
        advice = "write symmetric_clustering ('query: ' on both sides) or classification"
        raise InputError(f"{where}: type 'symmetric_class' is FlagEmbedding's; {advice}, here or in a manifest")
    if not isinstance(type, str) or type not in KINDS:
        raise InputError(f"{where}: type {type!r} is unknown; expected one of {', '.join(KINDS)}")
    return type


def read_source(
    path,
    type: str | None = None,
    ratio: float = 1.0,
    seed: int = 42,
    batch_factor: float | None = None,
    **settings,
) -> Source:
    """Read one source. With `type` that of the rows does not count; without, they must all have the same.

    `ratio` < 1 keeps that share of the rows, drawn with `seed`, in file order (the paper: 0.75 of
    mMARCO-NL). Symmetric sources get half the batch unless `batch_factor` says otherwise, as in the
    authors' loader.
    """
    rows, given = [], type
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        if given is None:
            row_type = parse_type(row.get("type", type or "retrieval"), where)
            if rows and row_type != type:
                advice = "a source has one type; split the file, or set the type in a manifest"
                raise InputError(f"{where}: type {row_type!r}, after rows of type {type!r}; {advice}")
            type = row_type
        rows.append(parse_row(row, where))
    if ratio < 1:
        kept = np.sort(np.random.default_rng(seed).permutation(len(rows))[: max(1, int(len(rows) * ratio))])
        rows = [rows[i] for i in kept]
    if batch_factor is None:
        batch_factor = 0.5 if type.startswith("symmetric") else 1.0
    name = Path(path).name.removesuffix(".gz").removesuffix(".jsonl")
    return Source(name, type, rows, batch_factor=batch_factor, **settings)


_MANIFEST = {  # field -> (types, test, what is expected)
    "type": (str, lambda v: v in KINDS, f"one of {', '.join(KINDS)}"),
    "ratio": ((int, float), lambda v: 0 < v <= 1, "a number above 0, at most 1"),
    "in_batch_negatives": (bool, lambda v: True, "true or false"),
    "batch_factor": ((int, float), lambda v: 0 < v <= 16, "a number above 0, at most 16"),
    "negatives": (int, lambda v: 0 <= v <= 1000, "a whole number from 0 to 1000"),
}


def read_sources(paths, seed: int = 42) -> list[Source]:
    """Read training sources: JSON Lines files, and manifests (`.json`) that list such files with their settings."""
    sources = []
    for path in map(Path, paths):
        if path.suffix != ".json":
            sources.append(read_source(path, seed=seed))
            continue
        expected = '{"sources": [{"file": …}, …]} and nothing else; name a file of rows .jsonl'
        try:
            manifest = read_json(path)
        except InputError as error:
            raise InputError(f"{error}; a .json file is a manifest, {expected}") from None
        entries = manifest.get("sources")
        if set(manifest) != {"sources"} or not isinstance(entries, list) or not entries:
            raise InputError(f"{path}: a .json file is a manifest; expected {expected}")
        for entry in entries:
            if not isinstance(entry, dict) or "file" not in entry:
                raise InputError(f"{path}: every source needs 'file'; found {json.dumps(entry)[:80]}")
            for field, value in entry.items():
                kind, good, expected = _MANIFEST.get(field, (object, lambda v: True, ""))
                if field != "file" and field not in _MANIFEST:
                    raise InputError(f"{path}: source {entry['file']!r}: {field!r} is unknown; it may have file, {', '.join(_MANIFEST)}")
                if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool) or not good(value):
                    raise InputError(f"{path}: source {entry['file']!r}: {field} is {json.dumps(value)}; expected {expected}")
            settings = {field: value for field, value in entry.items() if field != "file"}
            sources.append(read_source(inside(path.parent, entry["file"], path), seed=seed, **settings))
    names = [source.name for source in sources]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(f"source {sorted(repeated)[0]!r} is given more than once; rename one of the files")
    return sources


def batch_sizes(sources: list[Source], batch_size: int) -> list[int]:
    """Rows a batch of each source."""
    return [max(1, int(batch_size * source.batch_factor)) for source in sources]


def lacking_negatives(
    sources: list[Source],
    batch_size: int,
    batching: str = "source",
    negatives: int = 1,
    in_batch: str = "as-given",
) -> str:
    """How many rows of which sources would be compared with nothing: their loss is 0, and they teach nothing. Else "".

    A row's negatives are its own (`negatives` of them) and the passages of the other rows of its batch.
    The arguments are those of `e5nl.train`.
    """
    sizes = [batch_size] * len(sources)
    if batching == "source":
        sizes = batch_sizes(sources, batch_size)

    lacking = []
    for source, size in zip(sources, sizes, strict=True):
        if size == 1:
            reason = "batches of 1 row"
        elif in_batch == "as-given" and not source.in_batch_negatives:
            reason = "in_batch_negatives: false"
        else:
            continue
        drawn = negatives if source.negatives is None else source.negatives
        count = sum(not (drawn and row.neg) for row in source.rows)
        if count:
            lacking.append(f"{count:,} of {len(source.rows):,} rows of {source.name} ({reason})")
    if not lacking:
        return ""
    return (
        f"no negatives for {', '.join(lacking)}: their loss would be 0; mine negatives (mine.py), draw one or "
        "more of those that the rows have, set in_batch_negatives: true, or raise --batch-size"
    )


def unseen_sources(sources: list[Source], batch_size: int) -> list[str]:
    """A line about each source that has too few rows for one of its batches, and so is not trained on."""
    lines = []
    for source, size in zip(sources, batch_sizes(sources, batch_size), strict=True):
        rows = len(source.rows)
        if rows < size:
            lines.append(
                f"{source.name}: none of its {rows} rows will be seen, since a batch takes {size}; "
                "lower --batch-size, give it a smaller batch_factor in a manifest, or join it with another source"
            )
    return lines


def count_batches(rows: list[int], sizes: list[int]) -> list[int]:
    """Batches of each source in one epoch: the last partial one is dropped."""
    return [n // size for n, size in zip(rows, sizes, strict=True)]


def plan_batches(rows: list[int], sizes: list[int], seed: int, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch, each of one source: [(source of each row, its number there), …].

    A pure function of (rows of each source, batch size of each source, seed, epoch). Rows are shuffled within their source,
    the last partial batch of a source is dropped, and the batches are shuffled over all sources: a large source comes up often.

    >>> [sources.tolist() for sources, rows in plan_batches([10, 7], [4, 3], seed=0, epoch=0)]
    [[1, 1, 1], [1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    generator = np.random.default_rng((seed, epoch))
    batches = []
    for source, (n, size) in enumerate(zip(rows, sizes, strict=True)):
        order = generator.permutation(n)
        batches += [(np.full(size, source), order[start : start + size]) for start in range(0, n - size + 1, size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def plan_mixed_batches(rows: list[int], size: int, seed: int, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """As `plan_batches`, but every batch is drawn from the rows of all sources at once: what the paper's batches are compared with."""
    sources, numbers = np.repeat(np.arange(len(rows)), rows), np.concatenate([np.arange(n) for n in rows])
    order = np.random.default_rng((seed, epoch)).permutation(len(sources))
    chosen = (order[start : start + size] for start in range(0, len(order) - size + 1, size))
    return [(sources[some], numbers[some]) for some in chosen]


def sample_group(row: Row, negatives: int, generator: np.random.Generator) -> list[str]:
    """One positive, then `negatives` negatives, drawn without replacement; repeated when the row has fewer (authors' loader).

    A row without negatives gives its positive alone: it learns from the other rows of its batch.
    """
    positive = row.pos[generator.integers(len(row.pos))]
    if not negatives or not row.neg:
        return [positive]
    pool = np.tile(np.arange(len(row.neg)), -(-negatives // len(row.neg)))
    return [positive, *(row.neg[i] for i in generator.permutation(pool)[:negatives])]


def plan_epoch(sources: list[Source], batch_size: int, batching: str, seed: int, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch of training: `plan_batches` (batching 'source') or `plan_mixed_batches` ('mixed')."""
    counts = [len(source.rows) for source in sources]
    if batching == "source":
        return plan_batches(counts, batch_sizes(sources, batch_size), seed, epoch)
    return plan_mixed_batches(counts, batch_size, seed, epoch)


def draw_batch(sources: list[Source], numbers: np.ndarray, chosen: np.ndarray, negatives: int, generator: np.random.Generator):
    """A planned batch (source of each row, its number there) as (source of each row, rows, passages of each: `sample_group`)."""
    of_row = [sources[number] for number in numbers]
    rows = [source.rows[i] for source, i in zip(of_row, chosen, strict=True)]
    wanted = [negatives if source.negatives is None else source.negatives for source in of_row]
    return of_row, rows, [sample_group(row, n, generator) for row, n in zip(rows, wanted, strict=True)]


# --- BEIR layout ------------------------------------------------------------------------------------------------------------


def beir_file(folder, name: str) -> Path:
    """A file of a BEIR folder, or the same with `.gz`."""
    path = Path(folder) / name
    for found in (path, Path(f"{path}.gz")):
        if found.is_file():
            return found
    there = sorted(other.name for other in path.parent.glob("*")) if path.parent.is_dir() else []
    hint = f"there are {', '.join(there[:9])}" if there else "expected corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
    raise FileNotFoundError(f"{path}: no such file (.gz neither); {hint}")


def read_texts_by_id(folder, name: str) -> dict[str, str]:
    """`corpus.jsonl` or `queries.jsonl` of a BEIR folder as {id: text}."""
    return texts_by_id([beir_file(folder, name)])


def texts_by_id(files, wanted: Collection[str] | None = None) -> dict[str, str]:
    """The texts of `read_id_texts` as {id: text}.

    With `wanted` of these ids alone: the memory is theirs, however large the files are.
    """
    texts = {}
    for where, id, text in read_id_texts(files):
        if wanted is None or id in wanted:
            if id in texts:
                raise InputError(f"{where}: id {id!r} occurs twice")
            texts[id] = text
    return texts


def read_id_texts(files) -> Iterator[tuple[str, str, str]]:
    """(file:line, id, text) of tables with `_id` (or `id`), `text` and perhaps `title`.

    A title is put before its text, as mteb does. A `.tsv` without a header line is MS MARCO's: id<TAB>text.
    """
    for path in files:
        headless = kind_of(path) == ".tsv" and not _is_header(path)
        rows = _read_ms_marco(path) if headless else read_rows(path, [("_id", "id"), "text"], ["title"])
        for number, row in rows:
            where = f"{path}:{number}"
            id = as_id(row["_id"] if "_id" in row else row["id"], where)
            text = as_text(row["text"], f"{where}: column 'text'")
            title = row.get("title")
            if title not in (None, ""):
                text = f"{as_text(title, f'{where}: title')} {text}".strip()
            yield where, id, text


def _is_header(path, column: int = 0) -> bool:
    """Whether the first line of a tab-separated file names columns: ids and grades hold a digit, names do not."""
    _, line = next(read_lines(path), (1, ""))
    return not re.search("[0-9]", line.split("\t")[column])


def _read_ms_marco(path) -> Iterator[tuple[int, dict]]:
    """Lines id<TAB>text. A text may hold tabs; a line without one continues a quoted cell, say, and is refused."""
    for number, line in read_lines(path):
        id, tab, text = line.partition("\t")
        if not tab:
            raise InputError(f"{path}:{number}: expected id<TAB>text, found {line[:60]!r}")
        yield number, {"_id": id, "text": text}


def read_qrels(folder, split: str = "test") -> dict[str, dict[str, int]]:
    """`qrels/<split>.tsv` of a BEIR folder as {query id: {document id: grade}}."""
    return qrels_of([beir_file(folder, f"qrels/{split}.tsv")])


def qrels_of(files) -> dict[str, dict[str, int]]:
    """Tables with `query-id`, `corpus-id` and `score` as {query id: {document id: grade}}.

    A `.tsv` may lack its header line. What is no table holds TREC's judgements, separated by white space:
    query, 0, document, grade.
    """
    qrels = {}
    for path in files:
        for number, cells in _read_judgements(path):
            where = f"{path}:{number}"
            grade = str(cells[-1]).strip()
            if len(cells) != 3 or not re.fullmatch(r"-?[0-9]{1,9}(\.0+)?", grade):
                found = " | ".join(map(str, cells))[:80]
                raise InputError(f"{where}: expected query-id, corpus-id and a whole number, found {found!r}")
            query, document = (as_id(id, where) for id in cells[:2])
            qrels.setdefault(query, {})[document] = int(float(grade))
    if not qrels:
        names = ", ".join(map(str, files))
        raise InputError(f"{names}: no relevance judgements; expected query-id, corpus-id and score")
    return qrels


def _read_judgements(path) -> Iterator[tuple[int, list]]:
    """(line number, [query id, document id, grade]); TREC's second column, of zeros, is left out."""
    if kind_of(path) in TABLES and (kind_of(path) != ".tsv" or _is_header(path, -1)):
        for number, row in read_rows(path, columns := ["query-id", "corpus-id", "score"]):
            yield number, [row[column] for column in columns]
    else:
        for number, line in read_lines(path):
            cells = line.split("\t") if "\t" in line else line.split()
            yield number, cells if len(cells) != 4 else [cells[0], *cells[2:]]


# --- retrieval data as a training source --------------------------------------------------------------------------------------


def beir_files(name, *parts: str) -> list[Path]:
    """Of a BEIR folder or hub repository the first of `parts` (`corpus.jsonl`, …) that it has; of any other name see `find_files`."""
    if not _is_data_set(name):
        return find_files(name)
    if is_hub_name(name):
        name = hub_folder(str(name), [f"{part}*" for part in parts])
    there = [part for part in parts if any((Path(name) / f"{part}{end}").is_file() for end in ("", ".gz"))]
    return [beir_file(name, (there or parts)[0])]


def _is_data_set(name) -> bool:
    return Path(name).is_dir() or (is_hub_name(name) and not HUB_NAME.fullmatch(str(name))[3])


def triples_of(files) -> dict[str, dict[str, int]]:
    """MS MARCO's `query<TAB>positive<TAB>negative`, without the negatives, as {query id: {passage id: 1}}. Most pairs come many times."""
    qrels = {}
    for path in files:
        for number, line in read_lines(path):
            fields = line.split("\t")
            if len(fields) != 3 or number == 1 and _is_header(path):
                raise InputError(f"{path}:{number}: expected query<TAB>positive<TAB>negative, found {line[:80]!r}")
            qrels.setdefault(fields[0], {})[fields[1]] = 1
    if not qrels:
        raise InputError(f"{', '.join(map(str, files))}: no triples; expected query<TAB>positive<TAB>negative")
    return qrels


def join(qrels: dict[str, dict[str, int]], queries: dict[str, str], passages: dict[str, str], counts: Counter) -> Iterator[dict]:
    """Rows of a training source: each query with all its positives together, in the order of the judgements. Negatives are for `mine.py`.

    counts: gets the rows, their pairs of query and positive, and for what reasons judgements were left out.
    """
    for id, grades in qrels.items():
        texts = {}  # a set that keeps its order
        for passage, grade in grades.items():
            if grade <= 0:
                counts["judged not relevant"] += 1
            elif not queries.get(id, "").strip():
                counts["whose query is empty" if id in queries else "whose query is missing"] += 1
            elif not passages.get(passage, "").strip():
                counts["whose passage is empty" if passage in passages else "whose passage is missing"] += 1
            elif passages[passage] in texts:
                counts["of equal passages"] += 1
            else:
                texts[passages[passage]] = None
        if texts:
            counts["rows"] += 1
            counts["pairs"] += len(texts)
            yield {"query": queries[id], "pos": list(texts), "type": "retrieval"}


# --- command line -----------------------------------------------------------------------------------------------------------


def describe(sources: list[Source], batch_size: int, batching: str = "source") -> str:
    """What a training run would see of these sources, as a table, and a line about each that it would not see."""
    sizes = batch_sizes(sources, batch_size)
    counts = count_batches([len(source.rows) for source in sources], sizes)
    width = max(12, *(len(source.name) for source in sources))
    head = f"{'source':<{width}} {'type':<20} {'rows':>9} {'batch':>6} {'batches':>8} {'neg/row':>8}"
    lines = [f"{head}   median (max) characters: query / pos / neg"]
    for source, size, batches in zip(sources, sizes, counts, strict=True):
        lengths = []
        for texts in ([r.query for r in source.rows], [t for r in source.rows for t in r.pos], [t for r in source.rows for t in r.neg]):
            lengths.append(f"{np.median([len(t) for t in texts]):.0f} ({max(map(len, texts))})" if texts else "-")
        negatives = sum(len(r.neg) for r in source.rows) / len(source.rows)
        figures = f"{len(source.rows):>9,} {size:>6} {batches:>8} {negatives:>8.1f}"
        lines.append(f"{source.name:<{width}} {source.type:<20} {figures}   {' / '.join(lengths)}")
    lines.append(f"{'in all':<{width}} {'':<20} {sum(len(s.rows) for s in sources):>9,} {'':>6} {sum(counts):>8}")
    if batching == "source":
        lines += unseen_sources(sources, batch_size)
    return "\n".join(lines)


def examples(sources: list[Source]) -> str:
    """The first row of each source as the encoder gets it."""
    lines = []
    for source in sources:
        row = source.rows[0]
        query, passage = (PREFIXES[kind] for kind in KINDS[source.type])
        lines += ["", f"{source.name}, first row as the encoder gets it:", f"  {query}{row.query[:160]}"]
        lines += [f"  + {passage}{text[:160]}" for text in row.pos[:2]] + [f"  - {passage}{text[:160]}" for text in row.neg[:2]]
    return "\n".join(lines)


def _check(args) -> None:
    sources = read_sources(args.files, args.seed)
    print(describe(sources, args.batch_size))
    print(examples(sources))
    if lacking := lacking_negatives(sources, args.batch_size):
        print(f"\ntraining stops here: {lacking}")


def _prepare(args) -> None:
    if not args.out.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(f"--out {args.out}: expected a name that ends in .jsonl or .jsonl.gz")
    refuse_existing(args.out, args.overwrite)
    for name in filter(None, (args.corpus, args.queries, args.qrels, args.triples)):
        if not is_hub_name(name) and not Path(name).exists():
            raise FileNotFoundError(f"{name}: no such file or folder; expected one, or the name of a hub repository (owner/name)")
    if not (args.queries and (args.qrels or args.triples) or _is_data_set(args.corpus)):
        raise InputError(f"--corpus {args.corpus} is no BEIR folder or repository; give --queries and --qrels (or --triples) too")
    if args.split and (args.triples or args.qrels and not _is_data_set(args.qrels)):
        raise InputError("--split chooses among the judgements of a BEIR data set; --qrels or --triples names a file, so leave it out")
    judged = [f"qrels/{args.split or 'train'}{end}" for end in (".tsv", ".jsonl")]
    qrels = triples_of(find_files(args.triples)) if args.triples else qrels_of(beir_files(args.qrels or args.corpus, *judged))
    queries = texts_by_id(beir_files(args.queries or args.corpus, "queries.jsonl"), qrels)
    passages = texts_by_id(beir_files(args.corpus, "corpus.jsonl"), {id for grades in qrels.values() for id in grades})
    counts, given = Counter(), sum(map(len, qrels.values()))

    def rows() -> Iterator[dict]:
        yield from join(qrels, queries, passages, counts)
        if not counts["rows"]:  # here: an error leaves no file
            query, grades = next(iter(qrels.items()))
            found = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
            ids = f"the first judgement is of query {query!r} and passage {next(iter(grades))!r}"
            raise InputError(f"{args.corpus}: no row can be made of {given:,} judgements ({found}); {ids}; do these belong together?")

    write_jsonl(args.out, rows())
    expected = f" ({args.expect:,} expected: {counts['pairs'] / args.expect:.1%})" if args.expect else ""
    print(f"{args.out}: {counts.pop('rows'):,} rows, {counts.pop('pairs'):,} pairs of query and positive{expected}")
    if counts:
        left = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        print(f"left out of {given:,} judgements: {left}")


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Training data: check what a training run would see, make sources of retrieval data.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="read training sources or manifests; print sources, rows, batches, lengths, examples")
    check.add_argument("files", nargs="+", help="JSON Lines sources (.jsonl, .jsonl.gz) or manifests (.json)")
    check.add_argument("--batch-size", type=whole_number(2), default=1024, help="queries a batch (the paper's 1024)")
    check.add_argument("--seed", type=whole_number(0), default=42)
    check.set_defaults(run=_check)
    command = commands.add_parser("prepare", help="make a training source of a BEIR data set or of MS MARCO's files")
    where = "BEIR folder or hub repository, or a file or files of the hub (owner/name:pattern)"
    command.add_argument("--corpus", required=True, help=f"passages: {where}")
    command.add_argument("--queries", help="likewise; without it those of --corpus")
    either = command.add_mutually_exclusive_group()
    either.add_argument("--qrels", help="judgements: likewise")
    either.add_argument("--triples", metavar="FILE", help="instead of judgements: query<TAB>positive<TAB>negative, ids of MS MARCO")
    command.add_argument("--split", help="of the judgements of a BEIR data set (default: train)")
    command.add_argument("--expect", type=whole_number(1), metavar="N", help="pairs that there should be, to be printed beside those found")
    command.add_argument("--out", required=True, help="the source (.jsonl, .jsonl.gz)")
    command.add_argument("--overwrite", action="store_true", help="replace --out")
    command.set_defaults(run=_prepare)
    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    cli(main)
