"""The bundled data: nothing in training that is evaluated on, the four real MTEB-NL tasks to the character, every file accounted for.

    python -m pytest tests/test_demo_data.py

Overlap is judged on `data.normalise` texts in three ways: equal texts, texts that begin alike (they may have been cut at different
lengths), and an evaluation text that stands inside a longer one. The counts and character totals of the four tasks are those that
the `mteb` package publishes (descriptive_stats of SIB200Classification, SIB200ClusteringS2S, SICK-NL-STS, SICKNLPairClassification).
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
TRAIN, CORPUS = sorted(DEMO.glob("train/*.jsonl.gz")), sorted(DEMO.glob("corpus/*.jsonl.gz"))
EVAL = sorted(DEMO.glob("eval/**/*.jsonl.gz"))


def rows(name):
    return [row for _, row in read_jsonl(DEMO / name)]


@pytest.fixture(scope="module")
def seen():
    """{file: its normalised texts} of everything that the demo trains or trims on."""
    sources = {path: [text for row in read_source(path).rows for text in (row.query, *row.pos, *row.neg)] for path in TRAIN}
    corpora = {path: list(read_texts(path)) for path in CORPUS}
    return {path.name: {normalise(text) for text in texts} for path, texts in (sources | corpora).items()}


@pytest.fixture(scope="module")
def evaluated():
    """The normalised texts of all evaluation files."""
    fields = ("text", "title", "sentence1", "sentence2")
    return {normalise(row[field]) for path in EVAL for _, row in read_jsonl(path) for field in fields if field in row}


def test_no_text_is_both_trained_and_evaluated_on(seen, evaluated):
    assert len(seen) == len(TRAIN) + len(CORPUS) >= 10 and len(evaluated) > 10_000
    assert {name: shared for name, texts in seen.items() if (shared := texts & evaluated)} == {}


def test_no_two_texts_begin_alike(seen, evaluated):
    """A text cut at one length in training and at another in evaluation would not be equal, but would begin alike."""
    begin = 120
    starts = {text[:begin] for text in evaluated if len(text) >= begin}
    assert {name: shared for name, texts in seen.items() if (shared := {text[:begin] for text in texts} & starts)} == {}


def test_no_training_text_holds_a_whole_evaluation_text(seen, evaluated):
    wanted = collections.defaultdict(list)  # an evaluation text of more than 60 characters, by its first three words
    for text in evaluated:
        if len(text) > 60:
            wanted[tuple(text.split()[:3])].append(text)
    found = []
    for name, texts in seen.items():
        for text in texts:
            words = text.split()
            for start in range(len(words) - 2):
                found += [(name, inner) for inner in wanted.get(tuple(words[start : start + 3]), ()) if inner in text]
    assert found == []


def test_dekamer_is_split_by_title_question_and_answer(seen):
    titles, answers = (texts_by_id([beir_file(DEMO / "eval/dekamer_answers", f"{name}.jsonl")]).values() for name in ("queries", "corpus"))
    questions = {row["text"] for part in ("train", "test") for row in rows(f"eval/dekamer_themes/{part}.jsonl.gz")}
    trained = {part: read_source(DEMO / f"train/dekamer_{part}.jsonl.gz").rows for part in ("title_question", "question_answer")}

    def bare(text):  # without the number that a question carried when it was first put: (MV 14925)
        return re.sub(r" ?\(mv[^)]*\)", "", normalise(text)).strip(" .")

    assert not {bare(row.query) for row in trained["title_question"]} & set(map(bare, titles))

    def start(texts):  # training and evaluation texts are cut at different lengths
        return {normalise(text)[:300] for text in texts}

    assert not start(text for row in trained["title_question"] for text in row.pos) & start(questions)
    assert not start(row.query for row in trained["question_answer"]) & start(questions)
    assert not start(text for row in trained["question_answer"] for text in row.pos) & start(answers)


def test_classifier_training_text_is_not_in_the_test_split():
    for task in ("dekamer_themes", "sib200"):
        train, test = ({normalise(row["text"])[:300] for row in rows(f"eval/{task}/{part}.jsonl.gz")} for part in ("train", "test"))
        assert train and test and not train & test


@pytest.mark.parametrize(
    "name, count, characters",
    [("train", 701, 101_519), ("validation", 99, 13_304), ("test", 204, 29_778)],
)
def test_sib200_is_the_real_task(name, count, characters):
    found = rows(f"eval/sib200/{name}.jsonl.gz")
    assert (len(found), sum(len(row["text"]) for row in found)) == (count, characters)
    labels = {"science/technology", "travel", "politics", "sports", "health", "entertainment", "geography"}
    assert {row["label"] for row in found} == labels


@pytest.mark.parametrize(
    "name, count, characters1, characters2",
    [("sts_test", 4_902, 233_941, 229_386), ("pairs_test", 2_115, 100_505, 94_064)],
)
def test_sick_nl_is_the_real_task(name, count, characters1, characters2):
    found = rows(f"eval/sick_nl/{name}.jsonl.gz")
    assert len(found) == count
    assert [sum(len(row[field]) for row in found) for field in ("sentence1", "sentence2")] == [characters1, characters2]
    if name == "sts_test":
        assert all(1 <= row["score"] <= 5 for row in found)
    else:
        assert collections.Counter(row["label"] for row in found) == {1: 1_404, 0: 711}


@pytest.mark.parametrize("path", TRAIN, ids=lambda path: path.name)
def test_training_source_loads_and_says_its_type(path):
    source = read_source(path)
    assert next(read_jsonl(path))[1]["type"] == source.type
    assert len(source.rows) >= 250
    for row in source.rows:
        assert normalise(row.query) not in map(normalise, row.pos) and len(set(row.pos)) == len(row.pos) and not row.neg


def test_training_types():
    assert {read_source(path).type for path in TRAIN} == {"retrieval", "symmetric_sts", "symmetric_clustering"}


@pytest.mark.parametrize("name", ["algoritmekader", "captions", "dekamer_answers", "rijksoverheid_faq"])
def test_qrels_name_every_query_and_known_documents(name):
    folder = DEMO / "eval" / name
    corpus, queries = (texts_by_id([beir_file(folder, f"{name}.jsonl")]) for name in ("corpus", "queries"))
    qrels = qrels_of([beir_file(folder, "qrels/test.tsv")])
    assert set(qrels) == set(queries) and not set(queries) & set(corpus)
    for judged in qrels.values():
        assert set(judged) <= set(corpus) and sum(judged.values()) >= 1
    if name == "algoritmekader":  # reranking: every requirement is judged for every page
        assert all(set(judged) == set(corpus) and 0 in judged.values() for judged in qrels.values())


def test_every_theme_has_rows_to_learn_from():
    parts = [rows(f"eval/dekamer_themes/{part}.jsonl.gz") for part in ("train", "test")]
    train, test = (collections.Counter(label for row in part for label in row["label"]) for part in parts)
    assert set(train) == set(test) and len(test) == 10
    task = next(task for task in read_json(DEMO / "tasks.json")["tasks"] if task["name"] == "DekamerThemes")
    assert min(train.values()) >= task["samples_per_label"]


def test_tokenizer_is_the_published_file():
    packed = (DEMO / "tokenizer.json.xz").read_bytes()
    assert hashlib.sha256(lzma.decompress(packed)).hexdigest() == "2c3387be76557bd40970cec13153b3bbf80407865484b209e655e5e4729076b8"


def test_sources_page_names_every_file_with_its_rows_and_bytes():
    page = (DEMO / "SOURCES.md").read_text(encoding="utf-8")
    listed = {name: (count, size) for name, count, size in re.findall(r"^\| `([^`]+)` \| ([\d,]*) \| ([\d,]+) \|", page, re.M)}
    files = {str(path.relative_to(DEMO)): path for path in DEMO.rglob("*") if path.is_file()}
    licences = {name for name in files if name.startswith("LICENSES/")}
    assert set(files) == set(listed) | licences | {"SOURCES.md"}
    assert set(re.findall(r"LICENSES/[^`)]+", page)) == licences
    for name, (count, size) in listed.items():
        assert int(size.replace(",", "")) == files[name].stat().st_size, name
        if name.endswith(".gz"):
            with gzip.open(files[name]) as file:
                lines = sum(1 for _ in file) - name.endswith(".tsv.gz")  # a qrels file has a header
            assert int(count.replace(",", "")) == lines, name
    assert sum(path.stat().st_size for path in files.values()) <= 8_000_000


def test_tasks_name_files_that_are_there():
    tasks = read_json(DEMO / "tasks.json")["tasks"]
    assert len({task["name"] for task in tasks}) == len(tasks) >= 9
    assert len({task["type"] for task in tasks}) == 7
    named = set(re.findall(r'"(eval/[^"]+)"', (DEMO / "tasks.json").read_text(encoding="utf-8")))
    assert all((DEMO / name).exists() for name in named)
    assert {path for path in EVAL if not any((DEMO / name) in (path, *path.parents) for name in named)} == set()  # each file is of use
