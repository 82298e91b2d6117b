"""Files in, batches out: the formats, the prefixes and the batch plan of E5-NL (arXiv 2509.12340).

A *source* is one data set in one JSON Lines file (`.gz` or not). A row of a training source:

    {"query": "hoe oud wordt een olifant", "pos": ["Tot 70 jaar."], "neg": ["Ze eten gras."]}

Its `type` is `retrieval` (default), `classification`, `symmetric_sts` or `symmetric_clustering`,
the same in all rows. `neg` may be empty or absent; `instruction` says what the row's task is, for
training with instructions (see `prefixes`); other fields are ignored. FlagEmbedding (which calls
`retrieval` `normal`) and the files that the authors' code writes have this format too. What cannot
be in a row is in a manifest, a small `.json` file:

    {"sources": [{"file": "mmarco.jsonl.gz", "ratio": 0.75, "instruction": "Given a question, …"},
                 {"file": "ls.jsonl", "in_batch_negatives": false}]}

A retrieval corpus has the BEIR layout: `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl`
(`_id`, `text`), `qrels/<split>.tsv` (`query-id`, `corpus-id`, `score`, in any order). `prepare`
makes a source from one, or from files without a header line: MS MARCO's texts `id<TAB>text` and
triples `query<TAB>positive<TAB>negative`, and judgements as MS MARCO and TREC write them, `query 0
passage grade`. An id holds a digit: a first line without one is a header, and must have the names
above.

`pairs` makes a source from text that nobody annotated. The query is a title, and the passage its
text; or a heading or question, and the paragraph after it; or a question, and its answer; or the
first sentence of a paragraph, and the rest of it.

    python data.py check demo/train/*.jsonl.gz          # what a training run would see
    python data.py prepare --corpus demo/eval/dekamer_answers --split test --out runs/dk.jsonl.gz
    python data.py prepare --corpus clips/beir-nl-hotpotqa --qrels BeIR/hotpotqa-qrels:train.tsv \
        --out runs/hotpotqa.jsonl.gz
    python data.py pairs --data demo/corpus/law.jsonl.gz --out runs/weak.jsonl.gz

Tables are JSON Lines, parquet, CSV or TSV (see files.py); `owner/name[@revision][:files]` means
files of a data set on the Hugging Face hub.

Left out on purpose: random subsets by size, several files per source, text shuffling (in the
authors' loader, unused by the paper).
"""

import argparse
import hashlib
import itertools
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from duplicates import hash_words, minhash, near_duplicates
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
    refuse_other_suffix,
    shown,
    whole_number,
    write_jsonl,
)

# Of E5 (arXiv 2212.03533, section 3.2)
PREFIXES = {"query": "query: ", "passage": "passage: ", "none": ""}

# Which kind of text the query and the passages of a source are. Symmetric sources get `query: `
# on both sides (authors' loader)
KINDS = {
    "retrieval": ("query", "passage"),
    "classification": ("query", "passage"),
    "symmetric_sts": ("query", "query"),
    "symmetric_clustering": ("query", "query"),
}

# What is put before texts, see `prefixes`
POLICIES = ("e5", "instruct")

# Of multilingual-e5-large-instruct (arXiv 2402.05672)
INSTRUCT = "Instruct: {}\nQuery: "

# The task of a source that says none: mteb's words for such tasks, which evaluation uses too
INSTRUCTIONS = {
    "retrieval": "Retrieve text based on user query.",
    "classification": "Classify user passages.",
    "symmetric_sts": "Retrieve semantically similar text.",
    "symmetric_clustering": "Identify categories in user passages.",
}


def normalise(text: str) -> str:
    """The form in which two texts are compared: NFC, case folded, white space collapsed.

    >>> normalise(" Cafe\u0301  NOORD ") == normalise("caf\u00e9 noord")
    True
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def split_words(text: str) -> list[str]:
    """The words of a text, without case and punctuation: what is compared and counted."""
    return re.findall(r"\w+", normalise(text))


# --- training sources -----------------------------------------------------------------------------


class Row(NamedTuple):
    """One training example: any of `pos` answers `query`, none of `neg` does."""

    query: str
    pos: tuple[str, ...]
    neg: tuple[str, ...]
    instruction: str = ""  # what its task is


class Source(NamedTuple):
    """One data set with what a training run needs to know of it."""

    name: str
    type: str
    rows: list[Row]
    in_batch_negatives: bool = True
    batch_factor: float = 1.0  # the batch of this source, as a share of the run's batch
    negatives: int | None = None  # per row in training; None: the run's setting

    def digest(self) -> str:
        """What distinguishes these rows and settings from others."""
        digest = hashlib.blake2b(repr(self._replace(rows=[])).encode(), digest_size=16)
        for row in self.rows:
            digest.update(repr(row[: 4 if row.instruction else 3]).encode())
        return digest.hexdigest()


def parse_row(row: dict, where: str) -> Row:
    """Check one row of a training source. `where` is `file:line`, for the message."""
    query, pos, neg = row.get("query"), row.get("pos"), row.get("neg", [])
    if not _is_text(query):
        raise InputError(f"{where}: 'query' is {shown(query)}; expected a text to search with")
    for field, texts, least in (("pos", pos, 1), ("neg", neg, 0)):
        if not isinstance(texts, list) or len(texts) < least or not all(map(_is_text, texts)):
            expected = f"expected a list of {least} or more texts, none of them empty"
            raise InputError(f"{where}: {field!r} is {shown(texts)}; {expected}")
    return Row(query, tuple(pos), tuple(neg), parse_instruction(row.get("instruction"), where))


def parse_instruction(value, where: str) -> str:
    """What the task is, or "". `prefixes` adds what goes around it."""
    text = "" if value is None else as_text(value, f"{where}: 'instruction'").strip()
    if text.startswith("Instruct:"):
        advice = "leave out 'Instruct:' and 'Query:', which are added"
        raise InputError(f"{where}: 'instruction' is {text[:60]!r}; {advice}")
    return text


def _is_text(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def parse_type(type, where: str) -> str:
    """The type of a row. FlagEmbedding calls `retrieval` `normal`."""
    if type == "normal":
        return "retrieval"
    if type not in list(KINDS):
        expected = f"expected one of {', '.join(KINDS)}, in the rows or in a manifest"
        raise InputError(f"{where}: type {type!r} is unknown; {expected}")
    return type


def read_source(
    path,
    type: str | None = None,
    ratio: float = 1.0,
    seed: int = 42,
    batch_factor: float | None = None,
    instruction: str | None = None,
    complete: bool = False,
    **settings,
) -> Source:
    """Read one source. Its rows must have one type, unless `type` says what they are.

    instruction: of all rows, whatever they say. complete: all rows must have one, or none.
    `ratio` < 1 keeps that share of the rows, drawn with `seed`, in file order (the paper: 0.75 of
    mMARCO-NL). Symmetric sources get half the batch unless `batch_factor` says otherwise, as in the
    authors' loader.
    """
    given = type and parse_type(type, str(path))
    instruction = parse_instruction(instruction, str(path))
    rows, type = [], given
    for number, fields in read_jsonl(path):
        where = f"{path}:{number}"
        row = parse_row(fields, where)
        row = row._replace(instruction=instruction or row.instruction)
        if complete and rows and bool(row.instruction) != bool(rows[0].instruction):
            problem = f"{'an' if row.instruction else 'no'} instruction, unlike the rows before it"
            advice = "give all rows one, in the rows or in a manifest, or none"
            raise InputError(f"{where}: {problem}; {advice}")
        rows.append(row)
        # One type in all rows; a row that names none has that of the rows before it
        of_row = given or parse_type(fields.get("type", type or "retrieval"), where)
        if type not in (None, of_row):
            advice = "a source has one type; split the file, or set the type in a manifest"
            raise InputError(f"{where}: type {of_row!r}, after rows of type {type!r}; {advice}")
        type = of_row

    # A share of the rows, in file order
    if ratio < 1:
        kept = np.random.default_rng(seed).permutation(len(rows))[: max(1, int(len(rows) * ratio))]
        rows = [rows[i] for i in np.sort(kept)]
    if batch_factor is None:
        batch_factor = 0.5 if type.startswith("symmetric") else 1.0
    name = Path(path).name.removesuffix(".gz").removesuffix(".jsonl")
    return Source(name, type, rows, batch_factor=batch_factor, **settings)


# What a manifest may say of a source: (types, test, what is expected)
_SETTINGS = {
    "file": ([str], bool, "a text"),  # see also `inside`
    "type": ([str], lambda v: v in (*KINDS, "normal"), f"one of {', '.join(KINDS)}"),
    "ratio": ([int, float], lambda v: 0 < v <= 1, "a number above 0, at most 1"),
    "in_batch_negatives": ([bool], lambda v: True, "true or false"),
    "batch_factor": ([int, float], lambda v: 0 < v <= 16, "a number above 0, at most 16"),
    "negatives": ([int], lambda v: 0 <= v <= 1000, "a whole number from 0 to 1000"),
    "instruction": ([str], str.strip, "a text"),
}


def read_sources(paths, seed: int = 42, prefix: str = "e5") -> list[Source]:
    """Read training sources: JSON Lines files, and manifests (`.json`) that list such files.

    prefix: with `instruct`, a source where only some rows have an instruction is refused.
    """
    sources = []
    for path in map(Path, paths):
        for settings in _read_manifest(path) if path.suffix == ".json" else [{"file": path.name}]:
            file = inside(path.parent, settings.pop("file"), path)
            settings |= {"seed": seed, "complete": prefix == "instruct"}
            sources.append(read_source(file, **settings))
    # Names are what reports and resumed runs know a source by
    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            raise InputError(f"source {name!r} is given more than once; rename one of the files")
    return sources


def _read_manifest(path: Path) -> list[dict]:
    """The checked entries of a manifest: a file, and settings of `read_source`."""
    expected = 'a .json file is a manifest, {"sources": [{"file": …}]}; a file of rows is .jsonl'
    try:
        manifest = read_json(path)
    except InputError as error:
        raise InputError(f"{error}; {expected}") from None

    # Nothing that would be silently ignored
    entries = manifest.get("sources")
    if set(manifest) != {"sources"} or not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: {expected}")

    for entry in entries:
        if not isinstance(entry, dict) or "file" not in entry:
            raise InputError(f"{path}: every source needs 'file'; found {shown(entry)}")
        where = f"{path}: source {entry['file']!r}"
        for field, value in entry.items():
            if field not in _SETTINGS:
                known = ", ".join(_SETTINGS)
                raise InputError(f"{where}: {field!r} is unknown; it may have {known}")
            types, test, expected = _SETTINGS[field]
            if type(value) not in types or not test(value):
                raise InputError(f"{where}: {field} is {shown(value)}; expected {expected}")
    return entries


def prefixes(
    source: Source, row: Row, policy: str, prompts: dict[str, str] = PREFIXES
) -> tuple[str, str]:
    """What the encoder gets before the query and before the passages of a row.

    e5: the prompts of the kinds of text that the source's type has. instruct: the instruction
    before the query, and in symmetric sources before the passages too: the authors' loader treats
    both sides of these alike; their variants with instructions put none before any passage.
    """
    if policy == "instruct":
        instruction = INSTRUCT.format(row.instruction or INSTRUCTIONS[source.type])
        prompts = {"query": instruction, "passage": ""}
    query, passage = KINDS[source.type]
    return prompts[query], prompts[passage]


# --- batches --------------------------------------------------------------------------------------


def batch_sizes(sources: list[Source], batch_size: int) -> list[int]:
    """Rows per batch of each source."""
    return [max(1, int(batch_size * source.batch_factor)) for source in sources]


def lacking_negatives(
    sources: list[Source],
    batch_size: int,
    batching: str = "source",
    negatives: int = 1,
    in_batch: str = "as-given",
) -> str:
    """How many rows of which sources would be compared with nothing, or "".

    Their loss is 0, so they teach nothing. A row's negatives are its own (`negatives` of them) and
    the passages of the other rows of its batch. The arguments are those of `e5nl.train`.
    """
    mixed = [batch_size] * len(sources)
    sizes = batch_sizes(sources, batch_size) if batching == "source" else mixed

    # Where no other row of the batch helps, a row needs negatives of its own
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
    lost = f"no negatives for {', '.join(lacking)}: their loss would be 0"
    advice = "draw one or more of those that the rows have, set in_batch_negatives: true, or raise"
    return f"{lost}; mine negatives (mine.py), {advice} --batch-size"


def plan_batches(
    rows: list[int], sizes: list[int], seed: int, epoch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch, each of one source: [(source of each row, its number there), …].

    A pure function of (rows of each source, batch size of each source, seed, epoch). Rows are
    shuffled within their source, the last partial batch of a source is dropped, and the batches are
    shuffled over all sources: a large source comes up often.

    >>> [sources.tolist() for sources, rows in plan_batches([10, 7], [4, 3], seed=0, epoch=0)]
    [[1, 1, 1], [1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    # Rows are shuffled within their source and cut into batches
    generator = np.random.default_rng((seed, epoch))
    batches = []
    for source, (n, size) in enumerate(zip(rows, sizes, strict=True)):
        order = generator.permutation(n)
        for start in range(0, n - size + 1, size):
            batches.append((np.full(size, source), order[start : start + size]))

    # Batches are shuffled over all sources
    return [batches[i] for i in generator.permutation(len(batches))]


def plan_mixed_batches(
    rows: list[int], size: int, seed: int, epoch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """As `plan_batches`, but every batch is drawn from the rows of all sources at once.

    The paper's batches are compared with these.
    """
    # All rows as pairs of source and number, shuffled, then cut into batches
    sources = np.repeat(np.arange(len(rows)), rows)
    numbers = np.concatenate([np.arange(n) for n in rows])
    order = np.random.default_rng((seed, epoch)).permutation(len(sources))
    starts = range(0, len(order) - size + 1, size)
    return [(sources[order[i : i + size]], numbers[order[i : i + size]]) for i in starts]


def plan_epoch(sources: list[Source], batch_size: int, batching: str, seed: int, epoch: int):
    """The batches of one epoch: of `plan_batches` ('source') or `plan_mixed_batches` ('mixed')."""
    rows = [len(source.rows) for source in sources]
    if batching == "source":
        return plan_batches(rows, batch_sizes(sources, batch_size), seed, epoch)
    return plan_mixed_batches(rows, batch_size, seed, epoch)


def sample_group(row: Row, negatives: int, generator: np.random.Generator) -> list[str]:
    """One positive, then `negatives` negatives, drawn without replacement.

    They are repeated when the row has fewer (authors' loader). A row without negatives gives its
    positive alone: it learns from the other rows of its batch.
    """
    positive = row.pos[generator.integers(len(row.pos))]
    if not negatives or not row.neg:
        return [positive]
    # The numbers of the negatives, as often as it takes to have enough
    pool = np.tile(np.arange(len(row.neg)), -(-negatives // len(row.neg)))
    return [positive, *(row.neg[i] for i in generator.permutation(pool)[:negatives])]


def draw_batch(
    sources: list[Source],
    numbers: np.ndarray,
    chosen: np.ndarray,
    negatives: int,
    generator: np.random.Generator,
) -> tuple[list[Source], list[Row], list[list[str]]]:
    """A planned batch as (source of each row, rows, passages of each: `sample_group`).

    numbers: the source of each row; chosen: its number there.
    """
    batch_sources = [sources[number] for number in numbers]
    rows = [source.rows[i] for source, i in zip(batch_sources, chosen, strict=True)]

    # A source's own number of negatives goes before the run's
    passages = []
    for source, row in zip(batch_sources, rows, strict=True):
        wanted = negatives if source.negatives is None else source.negatives
        passages.append(sample_group(row, wanted, generator))
    return batch_sources, rows, passages


# --- texts and judgements -------------------------------------------------------------------------


def beir_file(folder, *names: str) -> Path:
    """The first of these files that a BEIR folder has, each with `.gz` or not."""
    paths = [Path(folder) / f"{name}{end}" for name in names for end in ("", ".gz")]
    for path in paths:
        if path.is_file():
            return path
    others = sorted(other.name for other in paths[0].parent.glob("*"))[:9]
    found = f"found {', '.join(others) or 'nothing'}"
    raise FileNotFoundError(f"{paths[0]}: no such file (nor with .gz); {found}")


def texts_by_id(files, wanted: Collection[str] | None = None) -> dict[str, str]:
    """The texts of `read_id_texts` as {id: text}.

    With `wanted` of these ids alone: the memory is theirs, however large the files are.
    """
    # An id that occurs twice would silently mean the last of its texts
    texts = {}
    for where, id, text in read_id_texts(files):
        if wanted is None or id in wanted:
            if id in texts:
                raise InputError(f"{where}: id {id!r} occurs twice")
            texts[id] = text
    return texts


def read_id_texts(files) -> Iterator[tuple[str, str, str]]:
    """(file:line, id, text) of tables with `_id` (or `id`), `text` and perhaps `title`.

    A title is put before its text, as mteb does. A `.tsv` without a header line is MS MARCO's:
    id<TAB>text.
    """
    for path in files:
        # By the names of its columns, or by their place
        if kind_of(path) == ".tsv" and not _is_header(path):
            rows = _read_ms_marco(path)
        else:
            rows = read_rows(path, [("_id", "id"), "text"], ["title"])
        for number, row in rows:
            where = f"{path}:{number}"
            id = as_id(row["_id"] if "_id" in row else row["id"], where)
            text = as_text(row["text"], f"{where}: column 'text'")
            # What pandas and others write for no title
            title = row.get("title")
            if title not in (None, ""):
                text = f"{as_text(title, f'{where}: title')} {text}".strip()
            yield where, id, text


def _is_header(path, column: int = 0) -> bool:
    """Whether a tab-separated file begins with names of columns: ids and grades have a digit."""
    _, line = next(read_lines(path), (1, ""))
    return not re.search("[0-9]", line.split("\t")[column])


def _read_ms_marco(path) -> Iterator[tuple[int, dict]]:
    """Lines id<TAB>text. A text may hold tabs; a line without one is the end of a quoted cell."""
    for number, line in read_lines(path):
        id, tab, text = line.partition("\t")
        if not tab:
            raise InputError(f"{path}:{number}: expected id<TAB>text, found {line[:60]!r}")
        yield number, {"_id": id, "text": text}


def qrels_of(files) -> dict[str, dict[str, int]]:
    """Tables with `query-id`, `corpus-id` and `score` as {query id: {document id: grade}}.

    A `.tsv` may lack its header line. What is no table holds TREC's judgements, separated by white
    space: query, 0, document, grade.
    """
    qrels = {}
    for path in files:
        for number, cells in _read_judgements(path):
            where, grade = f"{path}:{number}", str(cells[-1]).strip()
            if len(cells) != 3 or not re.fullmatch(r"-?[0-9]{1,9}(\.0+)?", grade):
                found = f"found {' | '.join(map(str, cells))[:80]!r}"
                expected = "query-id, corpus-id and a whole number"
                raise InputError(f"{where}: expected {expected}, {found}")
            query, document = (as_id(id, where) for id in cells[:2])
            qrels.setdefault(query, {})[document] = int(float(grade))
    if not qrels:
        expected = "expected query-id, corpus-id and score"
        raise InputError(f"{', '.join(map(str, files))}: no relevance judgements; {expected}")
    return qrels


def _read_judgements(path) -> Iterator[tuple[int, list]]:
    """(line number, [query id, document id, grade]), without TREC's second column, of zeros."""
    # A table, by the names of its columns; else lines of cells, by their place
    if kind_of(path) in TABLES and (kind_of(path) != ".tsv" or _is_header(path, -1)):
        for number, row in read_rows(path, columns := ["query-id", "corpus-id", "score"]):
            yield number, [row[column] for column in columns]
        return
    for number, line in read_lines(path):
        cells = line.split("\t") if "\t" in line else line.split()
        yield number, cells if len(cells) != 4 else [cells[0], *cells[2:]]


def triples_of(files) -> dict[str, dict[str, int]]:
    """MS MARCO's `query<TAB>positive<TAB>negative` as {query id: {passage id: 1}}.

    The negatives are left out. Most pairs come many times.
    """
    qrels = {}
    for path in files:
        for number, line in read_lines(path):
            cells = line.split("\t")
            if len(cells) != 3 or number == 1 and _is_header(path):
                expected = "three ids, query<TAB>positive<TAB>negative"
                raise InputError(f"{path}:{number}: expected {expected}, found {line[:80]!r}")
            qrels.setdefault(cells[0], {})[cells[1]] = 1
    if not qrels:
        expected = "expected query<TAB>positive<TAB>negative"
        raise InputError(f"{', '.join(map(str, files))}: no triples; {expected}")
    return qrels


# --- retrieval data as a training source ----------------------------------------------------------


def beir_files(name, *parts: str) -> list[Path]:
    """The first of `parts` (`corpus.jsonl`, …) that a BEIR folder or hub repository has.

    Any other name means files: see `find_files`.
    """
    if not _is_data_set(name):
        return find_files(name)
    if is_hub_name(name):
        name = hub_folder(str(name), [f"{part}*" for part in parts])
    return [beir_file(name, *parts)]


def _is_data_set(name) -> bool:
    return Path(name).is_dir() or is_hub_name(name) and not HUB_NAME.fullmatch(str(name))[3]


def join(
    qrels: dict[str, dict[str, int]],
    queries: dict[str, str],
    passages: dict[str, str],
    left_out: Counter,
) -> Iterator[dict]:
    """Rows of a training source: each query with all its positives, in the order of the judgements.

    Negatives are for `mine.py`. left_out counts the judgements that make no pair, by reason.
    """
    for id, grades in qrels.items():
        query, positives = queries.get(id), {}  # keys alone: a set that keeps its order
        for passage, grade in grades.items():
            text = passages.get(passage)
            if grade <= 0:
                left_out["judged not relevant"] += 1
            elif query is None:
                left_out["whose query is missing"] += 1
            elif not query.strip():
                left_out["whose query is empty"] += 1
            elif text is None:
                left_out["whose passage is missing"] += 1
            elif not text.strip():
                left_out["whose passage is empty"] += 1
            elif text in positives:
                left_out["of equal passages"] += 1
            else:
                positives[text] = None
        if positives:
            yield {"query": query, "pos": list(positives), "type": "retrieval"}


# --- text without annotation as a training source -------------------------------------------------

# Columns of a table, by preference: one of the first finds one of the second
HEADS, BODIES = ("question", "title", "heading"), ("answer", "text", "body", "section")

# A line that ends as no sentence does, or a question; Markdown's headings
HEADING = re.compile(r"#+ .*|.{2,100}[^.!:;,\"”’]")
# The first sentence, of 40 characters or more (shorter ones may be abbreviations), and the rest
OPENING = re.compile(r"(.{40,}?[.!?]) ([^a-z].*)")

LEAST_WORDS = 10  # of a passage
MOST_PAIRS = 3  # that may have one text; what more have is boilerplate


def cut_pairs(paragraphs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(query, passage) of neighbouring paragraphs.

    >>> list(cut_pairs(["Fietsen", "Een fiets heeft twee wielen.", "Wie fietst?", "Iedereen."]))
    [('Fietsen', 'Een fiets heeft twee wielen.'), ('Wie fietst?', 'Iedereen.')]
    >>> list(cut_pairs(["Een fiets kost minder dan een auto of een bus. Hij is ook stiller."]))
    [('Een fiets kost minder dan een auto of een bus.', 'Hij is ook stiller.')]
    """
    heading = ""
    for paragraph in filter(None, (" ".join(text.split()) for text in paragraphs)):
        if HEADING.fullmatch(paragraph):
            heading = paragraph.lstrip("# ")
            continue
        if heading:
            yield heading, paragraph
        elif parts := OPENING.fullmatch(paragraph):
            yield parts.groups()
        heading = ""


def read_pairs(names, fields=()) -> Iterator[tuple[str, str]]:
    """(query, passage) of text files, tables and hub data sets.

    A row of a table has two texts that belong together, by the names of its columns, or one, whose
    lines are paragraphs, as those of a text file are. fields: the columns, instead of HEADS and
    BODIES; the last is that of the texts.
    """
    heads, bodies = (fields[:-1], fields[-1:]) if fields else (HEADS, BODIES)
    for path in find_files(*names):
        if kind_of(path) not in TABLES:
            yield from cut_pairs(line for _, line in read_lines(path))
            continue
        for number, row in read_rows(path, fields or [BODIES], heads):
            cells = {}
            for name in (*heads, *bodies):
                cells[name] = as_text(row.get(name) or "", f"{path}:{number}: column {name!r}")
            head, body = (next(filter(str.strip, map(cells.get, n)), "") for n in (heads, bodies))
            pair = " ".join(head.split()), " ".join(body.split())
            yield from [pair] if head else cut_pairs(body.splitlines())


def judge_pairs(pairs: Callable[[], Iterable[tuple[str, str]]]) -> tuple[np.ndarray, Counter]:
    """Which pairs are kept (N,) bool; how many are and are not, by reason.

    pairs: called for each pass over the texts, of which only hashes are kept: 17 bytes for a pair,
    and 512 for each that reaches the last comparison.
    """
    # What is wrong with a pair by itself; hashes of the texts of all others
    kept, hashes, counts = array("b"), array("Q"), Counter()
    for query, passage in pairs():
        words = split_words(query), split_words(passage)
        short = not words[0] or len(words[1]) < LEAST_WORDS
        fault = "too short" if short else "" if re.search("[.!?]", passage) else "no sentence"
        counts[fault] += 1
        kept.append(not fault)
        hashes.extend(() if fault else map(hash_words, words))

    # Texts that many pairs have
    kept = np.array(kept, bool)
    _, text, times = np.unique(np.array(hashes), return_inverse=True, return_counts=True)
    kept[kept] = (times[text] <= MOST_PAIRS).reshape(-1, 2).all(1)
    counts["boilerplate"] = counts.pop("", 0) - kept.sum()

    # Pairs that nearly repeat an earlier one
    distinct = itertools.compress(pairs(), kept)
    near = near_duplicates(minhash(split_words(" ".join(pair)) for pair in distinct))
    kept[kept] = ~near
    counts["near duplicate"], counts["kept"] = near.sum(), kept.sum()
    return kept, counts


# --- command line ---------------------------------------------------------------------------------


def describe(sources: list[Source], batch_size: int, batching: str = "source") -> str:
    """What a training run would see of these sources, as a table, and what it would not see."""
    width = max(12, *(len(source.name) for source in sources))
    head = f"{'source':<{width}} {'type':<20} {'rows':>9} {'batch':>6} {'batches':>8}"
    lines = [f"{head} {'neg/row':>8}   median (max) characters: query / pos / neg"]
    unseen, total_rows, total_batches = [], 0, 0
    for source, size in zip(sources, batch_sizes(sources, batch_size), strict=True):
        # As `plan_batches` would make them
        rows, batches = len(source.rows), len(source.rows) // size
        total_rows, total_batches = total_rows + rows, total_batches + batches
        positives = [text for row in source.rows for text in row.pos]
        negatives = [text for row in source.rows for text in row.neg]
        texts = ([row.query for row in source.rows], positives, negatives)
        lengths = " / ".join(map(_lengths, texts))
        figures = f"{rows:>9,} {size:>6} {batches:>8} {len(negatives) / rows:>8.1f}"
        lines.append(f"{source.name:<{width}} {source.type:<20} {figures}   {lengths}")
        if not batches and batching == "source":
            advice = "give it a smaller batch_factor in a manifest, or join it with another source"
            problem = f"none of its {rows} rows will be seen, since a batch takes {size}"
            unseen.append(f"{source.name}: {problem}; lower --batch-size, {advice}")
    lines.append(f"{'in all':<{width}} {'':<20} {total_rows:>9,} {'':>6} {total_batches:>8}")
    return "\n".join(lines + unseen)


def _lengths(texts: list[str]) -> str:
    lengths = [len(text) for text in texts]
    return f"{np.median(lengths):.0f} ({max(lengths)})" if lengths else "-"


def _check(args) -> None:
    sources = read_sources(args.files, args.seed, args.prefix)
    print(describe(sources, args.batch_size))
    for source in sources:
        row = source.rows[0]
        query, passage = prefixes(source, row, args.prefix)
        print(f"\n{source.name}, first row as the encoder gets it:\n  {query}{row.query[:160]}")
        for mark, texts in (("+", row.pos), ("-", row.neg)):
            for text in texts[:2]:
                print(f"  {mark} {passage}{text[:160]}")
    if lacking := lacking_negatives(sources, args.batch_size):
        print(f"\ntraining stops here: {lacking}")


def _refuse_out(args) -> None:
    refuse_other_suffix(args.out, ".jsonl", ".jsonl.gz")
    refuse_existing(args.out, args.overwrite)


def _listed(counts: Counter) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def _pairs(args) -> None:
    _refuse_out(args)
    pairs = partial(read_pairs, args.data, args.fields)
    kept, counts = judge_pairs(pairs)
    if not kept.any():
        raise InputError(f"{args.data[0]}: no pair is left ({_listed(counts)})")
    pairs = itertools.compress(pairs(), kept)
    write_jsonl(args.out, ({"query": q, "pos": [p], "type": "retrieval"} for q, p in pairs))
    print(f"{args.out}: of {len(kept):,} pairs {_listed(counts)}")


def _prepare(args) -> None:
    # Mistakes that can be seen before anything is read
    _refuse_out(args)
    instruction = parse_instruction(args.instruction, "--instruction")
    for name in filter(None, (args.corpus, args.queries, args.qrels, args.triples)):
        if not is_hub_name(name) and not Path(name).exists():
            expected = "expected one, or the name of a hub repository (owner/name)"
            raise FileNotFoundError(f"{name}: no such file or folder; {expected}")
    if not (args.queries and (args.qrels or args.triples) or _is_data_set(args.corpus)):
        advice = "give --queries and --qrels (or --triples) too"
        raise InputError(f"--corpus {args.corpus} is no BEIR folder or repository; {advice}")
    if args.split and (args.triples or args.qrels and not _is_data_set(args.qrels)):
        advice = "--qrels or --triples names a file, so leave it out"
        raise InputError(f"--split chooses among the judgements of a BEIR data set; {advice}")

    # Judgements, then the texts that they name
    if args.triples:
        qrels = triples_of(find_files(args.triples))
    else:
        names = [f"qrels/{args.split or 'train'}{end}" for end in (".tsv", ".jsonl")]
        qrels = qrels_of(beir_files(args.qrels or args.corpus, *names))
    queries = texts_by_id(beir_files(args.queries or args.corpus, "queries.jsonl"), qrels)
    judged = {id for grades in qrels.values() for id in grades}
    passages = texts_by_id(beir_files(args.corpus, "corpus.jsonl"), judged)

    # One row per query, written as it is made
    left_out, total = Counter(), sum(map(len, qrels.values()))
    rows = join(qrels, queries, passages, left_out)
    first = next(rows, None)
    if not first:
        problem = f"no row can be made of {total:,} judgements ({_listed(left_out)})"
        query, grades = next(iter(qrels.items()))
        ids = f"the first judgement is of query {query!r} and passage {next(iter(grades))!r}"
        raise InputError(f"{args.corpus}: {problem}; {ids}; do these belong together?")
    fields = {"instruction": instruction} if instruction else {}
    count = write_jsonl(args.out, (row | fields for row in itertools.chain([first], rows)))

    pairs = total - left_out.total()
    expected = f" ({args.expect:,} expected: {pairs / args.expect:.1%})" if args.expect else ""
    print(f"{args.out}: {count:,} rows, {pairs:,} pairs of query and positive{expected}")
    if left_out:
        print(f"left out of {total:,} judgements: {_listed(left_out)}")


def main(argv=None) -> None:
    description = "Training data: check what a training run would see, make sources."
    parser = argparse.ArgumentParser(description=description)
    commands = parser.add_subparsers(dest="command", required=True)

    def add_out(add: Callable) -> None:
        add("--out", required=True, help="the source (.jsonl, .jsonl.gz)")
        add("--overwrite", action="store_true", help="replace --out")

    help = "read training sources or manifests; print sources, rows, batches, lengths, examples"
    command = commands.add_parser("check", help=help)
    add = command.add_argument
    add("files", nargs="+", help="JSON Lines sources (.jsonl, .jsonl.gz) or manifests (.json)")
    add("--batch-size", type=whole_number(2), default=1024, help="queries per batch (the paper's)")
    add("--seed", type=whole_number(0), default=42)
    add("--prefix", choices=POLICIES, default="e5", help="as for `e5nl.py train`")
    command.set_defaults(run=_check)

    help = "make a training source of a BEIR data set or of MS MARCO's files"
    command = commands.add_parser("prepare", help=help)
    add, either = command.add_argument, command.add_mutually_exclusive_group()
    where = "BEIR folder or hub repository, or a file or files of the hub (owner/name:pattern)"
    add("--corpus", required=True, help=f"passages: {where}")
    add("--queries", help="likewise; without it those of --corpus")
    either.add_argument("--qrels", help="judgements: likewise")
    triples = "instead of judgements: query<TAB>positive<TAB>negative, ids of MS MARCO"
    either.add_argument("--triples", metavar="FILE", help=triples)
    add("--split", help="of the judgements of a BEIR data set (default: train)")
    add("--instruction", help="what the task is, for all rows")
    add("--expect", type=whole_number(1), metavar="N", help="pairs to expect, to be compared")
    add_out(add)
    command.set_defaults(run=_prepare)

    help = "make a training source of text: titles and texts, headings and sections, …"
    command = commands.add_parser("pairs", help=help)
    add = command.add_argument
    help = "text files (one paragraph per line), tables, or hub data sets (owner/name:pattern)"
    add("--data", nargs="+", required=True, help=help)
    help = f"of tables: the columns of queries, if any, and of texts ({', '.join(HEADS + BODIES)})"
    add("--fields", nargs="+", default=(), metavar="COLUMN", help=help)
    add_out(add)
    command.set_defaults(run=_pairs)

    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    cli(main)
