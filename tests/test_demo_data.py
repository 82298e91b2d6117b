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


def test_no_text_is_both_trained_and_evaluated_on(seen, evaluated):
    assert len(seen) == len(TRAIN) + len(CORPUS) >= 10 and len(evaluated) > 10_000
    assert {name: shared for name, texts in seen.items() if (shared := texts & evaluated)} == {}


def test_no_two_texts_begin_alike(seen, evaluated):
    """A text cut at two lengths would not be equal, but would begin alike."""
    starts = {text[:120] for text in evaluated if len(text) >= 120}
    shared = {name: {text[:120] for text in texts} & starts for name, texts in seen.items()}
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


def test_dekamer_is_split_by_title_question_and_answer():
    titles, answers = (
        texts_by_id([beir_file(DEMO / "eval/dekamer_answers", f"{name}.jsonl")]).values()
        for name in ("queries", "corpus")
    )
    themes = [rows(f"eval/dekamer_themes/{part}.jsonl.gz") for part in ("train", "test")]
    questions = [row["text"] for part in themes for row in part]
    by_title, by_question = (
        read_source(DEMO / f"train/dekamer_{name}.jsonl.gz").rows
        for name in ("title_question", "question_answer")
    )

    def bare(text: str) -> str:
        """Without the number that a question had when it was first put: (MV 14925)."""
        return re.sub(r" ?\(mv[^)]*\)", "", normalise(text)).strip(" .")

    def starts(texts) -> set[str]:
        """Training and evaluation texts are cut at different lengths."""
        return {normalise(text)[:300] for text in texts}

    assert not {bare(row.query) for row in by_title} & set(map(bare, titles))
    assert not starts(text for row in by_title for text in row.pos) & starts(questions)
    assert not starts(row.query for row in by_question) & starts(questions)
    assert not starts(text for row in by_question for text in row.pos) & starts(answers)


def test_classifier_training_text_is_not_in_the_test_split():
    for task in ("dekamer_themes", "sib200"):
        train, test = (
            {normalise(row["text"])[:300] for row in rows(f"eval/{task}/{part}.jsonl.gz")}
            for part in ("train", "test")
        )
        assert train and test and not train & test


@pytest.mark.parametrize(
    "name, count, characters",
    [("train", 701, 101_519), ("validation", 99, 13_304), ("test", 204, 29_778)],
)
def test_sib200_is_the_real_task(name, count, characters):
    part = rows(f"eval/sib200/{name}.jsonl.gz")
    assert (len(part), sum(len(row["text"]) for row in part)) == (count, characters)
    labels = "science/technology travel politics sports health entertainment geography"
    assert {row["label"] for row in part} == set(labels.split())


@pytest.mark.parametrize(
    "name, count, characters",
    [("sts_test", 4_902, [233_941, 229_386]), ("pairs_test", 2_115, [100_505, 94_064])],
)
def test_sick_nl_is_the_real_task(name, count, characters):
    pairs = rows(f"eval/sick_nl/{name}.jsonl.gz")
    assert len(pairs) == count
    sides = ("sentence1", "sentence2")
    assert [sum(len(row[side]) for row in pairs) for side in sides] == characters
    if name == "sts_test":
        assert all(1 <= row["score"] <= 5 for row in pairs)
    else:
        assert collections.Counter(row["label"] for row in pairs) == {1: 1_404, 0: 711}


@pytest.mark.parametrize("path", TRAIN, ids=lambda path: path.name)
def test_training_source_loads_and_states_its_type(path):
    source = read_source(path)
    assert next(read_jsonl(path))[1]["type"] == source.type
    assert len(source.rows) >= 250
    for row in source.rows:
        assert normalise(row.query) not in map(normalise, row.pos)
        assert len(set(row.pos)) == len(row.pos) and not row.neg


def test_training_types():
    types = {read_source(path).type for path in TRAIN}
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
    unused = [path for path in EVAL if not named & {path, *path.parents}]
    assert unused == []
