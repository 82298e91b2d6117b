"""The bundled data: nothing is both trained and evaluated on, the four real MTEB-NL tasks are
unchanged, every file is accounted for.

    python -m pytest tests/test_demo_data.py

Overlap is judged on `data.normalise` texts in three ways: equal texts, texts that begin alike (they
may have been cut at different lengths), and an evaluation text inside a longer one. The counts and
character totals of the four tasks are those that the `mteb` package publishes (descriptive_stats of
SIB200Classification, SIB200ClusteringS2S, SICK-NL-STS, SICKNLPairClassification).
"""

import collections
import gzip
import hashlib
import lzma
import re
from pathlib import Path

import pytest

from data import beir_file, normalise, qrels_of, read_source, texts_by_id
from files import read_json, read_jsonl, read_texts

DEMO = Path(__file__).parent.parent / "demo"
TRAIN = sorted(DEMO.glob("train/*.jsonl.gz"))
CORPUS = sorted(DEMO.glob("corpus/*.jsonl.gz"))
EVAL = sorted(DEMO.glob("eval/**/*.jsonl.gz"))


def rows(name: str) -> list[dict]:
    return [row for _, row in read_jsonl(DEMO / name)]


@pytest.fixture(scope="module")
def seen() -> dict[str, set[str]]:
    """{file: its normalised texts} of everything that the demo trains or trims on."""
    texts = {path.name: list(read_texts(path)) for path in CORPUS}
    for path in TRAIN:
        source = read_source(path).rows
        texts[path.name] = [text for row in source for text in (row.query, *row.pos, *row.neg)]
    return {name: set(map(normalise, file)) for name, file in texts.items()}


@pytest.fixture(scope="module")
def evaluated() -> set[str]:
    """The normalised texts of all evaluation files."""
    fields = ("text", "title", "sentence1", "sentence2")
    every = (row for path in EVAL for _, row in read_jsonl(path))
    return {normalise(row[field]) for row in every for field in fields if field in row}


@pytest.mark.parametrize("length", [0, 120])
def test_no_text_nor_its_beginning_is_both_trained_and_evaluated_on(seen, evaluated, length):
    """A text cut at two lengths would not be equal, but would begin alike."""

    def beginnings(texts: set[str]) -> set[str]:
        return {text[: length or None] for text in texts if len(text) >= length}

    assert len(seen) == len(TRAIN) + len(CORPUS) >= 10 and len(evaluated) > 10_000
    shared = {name: beginnings(texts) & beginnings(evaluated) for name, texts in seen.items()}
    assert not any(shared.values()), shared


def test_no_training_text_contains_an_evaluation_text(seen, evaluated):
    # Evaluation texts of more than 60 characters, by their first three words.
    by_start = collections.defaultdict(list)
    for text in evaluated:
        if len(text) > 60:
            by_start[tuple(text.split()[:3])].append(text)

    contained = []
    for name, texts in seen.items():
        for text in texts:
            words = text.split()
            for start in range(len(words) - 2):
                inner = by_start.get(tuple(words[start : start + 3]), ())
                contained += [(name, other) for other in inner if other in text]
    assert contained == []


def test_no_title_of_a_question_to_parliament_is_both_trained_and_evaluated_on():
    queries = texts_by_id([beir_file(DEMO / "eval/dekamer_answers", "queries.jsonl")])
    trained = read_source(DEMO / "train/dekamer_title_question.jsonl.gz").rows

    def bare(text: str) -> str:
        """Without the number that a question had when it was first put: (MV 14925)."""
        return re.sub(r" ?\(mv[^)]*\)", "", normalise(text)).strip(" .")

    assert not {bare(row.query) for row in trained} & set(map(bare, queries.values()))


@pytest.mark.parametrize("task", ["dekamer_themes", "sib200"])
def test_classifier_training_text_is_not_in_the_test_split(task):
    train, test = (
        {normalise(row["text"])[:300] for row in rows(f"eval/{task}/{part}.jsonl.gz")}
        for part in ("train", "test")
    )
    assert train and test and not train & test


@pytest.mark.parametrize("name, count, characters", [
    ("sib200/train", 701, {"text": 101_519}),
    ("sib200/validation", 99, {"text": 13_304}),
    ("sib200/test", 204, {"text": 29_778}),
    ("sick_nl/sts_test", 4_902, {"sentence1": 233_941, "sentence2": 229_386}),
    ("sick_nl/pairs_test", 2_115, {"sentence1": 100_505, "sentence2": 94_064}),
])  # fmt: skip
def test_tasks_of_the_benchmark_are_the_real_ones(name, count, characters):
    part = rows(f"eval/{name}.jsonl.gz")
    assert len(part) == count
    assert characters == {field: sum(len(row[field]) for row in part) for field in characters}
    labels = "science/technology travel politics sports health entertainment geography"
    if name == "sick_nl/sts_test":
        assert all(1 <= row["score"] <= 5 for row in part)
    elif name == "sick_nl/pairs_test":
        assert collections.Counter(row["label"] for row in part) == {1: 1_404, 0: 711}
    else:
        assert {row["label"] for row in part} == set(labels.split())


def test_training_sources_load_and_state_their_types():
    types = set()
    for path in TRAIN:
        source = read_source(path)
        types.add(source.type)
        assert next(read_jsonl(path))[1]["type"] == source.type and len(source.rows) >= 250
        for row in source.rows:
            assert normalise(row.query) not in map(normalise, row.pos)
            assert len(set(row.pos)) == len(row.pos) and not row.neg
    assert types == {"retrieval", "symmetric_sts", "symmetric_clustering"}


@pytest.mark.parametrize(
    "name", ["algoritmekader", "captions", "dekamer_answers", "rijksoverheid_faq"]
)
def test_judgements_name_every_query_and_known_documents(name):
    folder = DEMO / "eval" / name
    files = [beir_file(folder, f"{part}.jsonl") for part in ("corpus", "queries")]
    corpus, queries = (texts_by_id([file]) for file in files)
    judgements = qrels_of([beir_file(folder, "qrels/test.tsv")])
    assert set(judgements) == set(queries) and not set(queries) & set(corpus)
    for judged in judgements.values():
        assert set(judged) <= set(corpus) and sum(judged.values()) >= 1
        if name == "algoritmekader":  # reranking: every requirement is judged for every page
            assert set(judged) == set(corpus) and 0 in judged.values()


def test_every_theme_has_rows_to_learn_from():
    train, test = (
        collections.Counter(
            label for row in rows(f"eval/dekamer_themes/{part}.jsonl.gz") for label in row["label"]
        )
        for part in ("train", "test")
    )
    assert set(train) == set(test) and len(test) == 10
    tasks = {task["name"]: task for task in read_json(DEMO / "tasks.json")["tasks"]}
    assert min(train.values()) >= tasks["DekamerThemes"]["samples_per_label"]


def test_tokenizer_is_the_published_file():
    packed = (DEMO / "tokenizer.json.xz").read_bytes()
    digest = "2c3387be76557bd40970cec13153b3bbf80407865484b209e655e5e4729076b8"
    assert hashlib.sha256(lzma.decompress(packed)).hexdigest() == digest


def test_sources_page_lists_every_file_with_its_rows_and_bytes():
    page = (DEMO / "SOURCES.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `([^`]+)` \| ([\d,]*) \| ([\d,]+) \|", page, re.M)
    files = {str(path.relative_to(DEMO)): path for path in DEMO.rglob("*") if path.is_file()}
    licences = {name for name in files if name.startswith("LICENSES/")}
    assert set(files) == {name for name, *_ in lines} | licences | {"SOURCES.md"}
    assert set(re.findall(r"LICENSES/[^`)]+", page)) == licences
    for name, count, size in lines:
        assert int(size.replace(",", "")) == files[name].stat().st_size, name
        if name.endswith(".gz"):
            with gzip.open(files[name]) as file:
                found = sum(1 for _ in file) - name.endswith(".tsv.gz")  # judgements have a header
            assert int(count.replace(",", "")) == found, name
    assert sum(path.stat().st_size for path in files.values()) <= 8_000_000


def test_tasks_name_files_that_exist():
    tasks = read_json(DEMO / "tasks.json")["tasks"]
    assert len({task["name"] for task in tasks}) == len(tasks) >= 9
    assert len({task["type"] for task in tasks}) == 7
    text = (DEMO / "tasks.json").read_text(encoding="utf-8")
    named = {DEMO / name for name in re.findall(r'"(eval/[^"]+)"', text)}
    assert all(path.exists() for path in named)
    assert all(named & {path, *path.parents} for path in EVAL)
