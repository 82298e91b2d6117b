"""mteb_nl.py: the table of tasks, and what is read of each task's files, in the hub's layout and a
user's.

Every one of the 40 tasks is read from small files of its own layout; transformations are worked out
by hand; the four real tasks in demo/ have mteb's sizes. That the table is mteb's:
parity/test_mteb.py.

    python -m pytest tests/test_mteb_nl.py
"""

import csv
import dataclasses
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from parity.cases import STS_ROWS, sts_entry, write_beir, write_tasks

import metrics
import mteb_nl
from files import InputError
from mteb_nl import (
    NAMED,
    RANKING,
    TASKS,
    TYPES,
    read_columns,
    read_ranking,
    read_tasks,
    select_tasks,
)

DEMO = Path(__file__).parent.parent / "demo"


# --- the table ------------------------------------------------------------------------------------


def test_the_table():
    """parity/test_mteb.py compares every field, and every size that is stored, with mteb's."""
    assert Counter(task.type for task in TASKS) == {
        "Classification": 12, "PairClassification": 2, "MultilabelClassification": 3,
        "Clustering": 8, "Reranking": 1, "Retrieval": 12, "STS": 2,
    }  # fmt: skip
    assert len(NAMED) == 40
    for task in TASKS:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", task.repository), task.name
        assert re.fullmatch(TYPES[task.type].scores, task.main_score), task.name
        assert task.prompt and task.translated in (True, False) and task.language == "nld-Latn"
        assert re.fullmatch(mteb_nl.FILE_NAME, task.name)
        parts = {"corpus", "queries"} if task.type in RANKING else {*mteb_nl.splits_read(task)}
        assert mteb_nl.published()["sizes"][task.name].keys() == parts


def test_the_scores_of_rankings_are_those_that_are_measured():
    for name in metrics.measures(["a"], {"a": 1}):
        assert re.fullmatch(mteb_nl.RANKED, name), name
    assert not re.fullmatch(mteb_nl.RANKED, "ndcg_at_4")


def names(*wanted):
    return [task.name for task in select_tasks(TASKS, list(wanted))]


def test_tasks_are_chosen_by_name_type_and_origin():
    assert names("all") == list(NAMED)
    sts = ["XLWICNLPairClassification", "SICK-NL-STS", "STSBenchmarkMultilingualSTS"]
    assert names("STS", "XLWICNLPairClassification") == sts
    native, translated = set(names("native")), set(names("translated"))
    assert native | translated == set(NAMED) and not native & translated
    assert "BelebeleRetrieval" in translated and "bBSARDNLRetrieval" in native


UNKNOWN = [
    ("SIB200Clasification", "did you mean SIB200Classification"),
    ("sick", "did you mean SICK-NL-STS"),
    ("web", "did you mean WebFAQRetrieval"),
    ("zzz", "expected one of all, native, Classification, DutchBook.*"),
]


@pytest.mark.parametrize("wrong, hint", UNKNOWN)
def test_unknown_tasks(wrong, hint):
    with pytest.raises(InputError, match=f"task '{wrong}' is unknown; {hint}"):
        names(wrong)


def test_the_real_tasks_have_mtebs_sizes():
    """SIB-200 and SICK-NL are complete in demo/: as many texts and characters as mteb counts."""
    demo = {task.name: task for task in read_tasks(DEMO / "tasks.json")}
    assert len(NAMED.keys() & demo) == 4
    for name in NAMED.keys() & demo:
        task = NAMED[name]
        for field in ("splits", "main_score", "prompt", "translated", "samples_per_label"):
            assert getattr(demo[name], field) == getattr(task, field), (name, field)
        for split in mteb_nl.splits_read(task):
            columns = read_columns(demo[name], split)
            assert mteb_nl.remarks(task, split, columns) == [], (name, split)
            columns[next(iter(columns))][0] += "x"
            (line,) = mteb_nl.remarks(task, split, columns)
            assert line.startswith(f"{split}: ")


# --- the hub's layout -----------------------------------------------------------------------------


def cell(task, what: str, i: int):
    """A value of row i of a column; text0 is a text, 0 a score, and [0, 5] or 0 a label."""
    if what not in ("label", "score"):
        return f"{what}{i}"
    return [i % 2, 5] if task.type == "MultilabelClassification" else i % 2


def usual(task, i: int) -> dict:
    columns = TYPES[task.type].columns.items()
    row = {task.columns.get(what, names[0]): cell(task, what, i) for what, (names, _) in columns}
    return row | {"index_id": 1}  # which mteb does not read


def belebele(task, i: int) -> dict:
    """The first of five questions is asked about two passages."""
    return {"question": f"v{i % 5}", "link": f"l{i // 2}", "flores_passage": f"stuk {i // 2}"}


def covid(task, i: int) -> dict:
    answers = {f"q{q}_label": ["no", "yes"][q == i] for q in range(2, 8)}
    return {"text": f"text{i}", "q1_label": ["no", "yes"][i > 0], **answers}


def hatecheck(task, i: int) -> dict:
    hateful = ["hateful", "non-hateful"][i % 3 > 0]
    return {"text": f"text{i}", "is_hateful": hateful, "functionality": f"f{i % 7}"}


def vabb(task, i: int) -> dict:
    return {"title": f"kop{i}", "abstract": f"stuk{i}", "org_discipline": f"vak {i % 2}"}


ROWS = {  # of a task with this transformation
    mteb_nl.belebele_tables: belebele,
    mteb_nl.covid_labels: covid,
    mteb_nl.hatecheck_split: hatecheck,
    mteb_nl.title_and_abstract: vabb,
}
TRANSFORMED = {  # what is read of six such rows
    mteb_nl.covid_labels: {
        "text": ["text1", "text2", "text3", "text4", "text5"],
        "label": [[], [0], [1], [2], [3]],
    },
    mteb_nl.title_and_abstract: {
        "text": [f"kop{i}\nstuk{i}" for i in range(6)],
        "label": ["vak 0", "vak 1"] * 3,
    },
}


def hub_rows(task) -> dict[str, list[dict]]:
    """Small tables as the hub has them of a task: {configuration/split: rows}."""
    if task.type not in RANKING or task.transform:
        count = 2100 if task.transform is mteb_nl.hatecheck_split else 6
        rows = [ROWS.get(task.transform, usual)(task, i) for i in range(count)]
        if task.only_lang:
            rows = [row | {"lang": lang} for row in rows for lang in ("de", task.only_lang)]
        parts = (task.parts.get(split, (split,)) for split in mteb_nl.splits_read(task))
        config = task.config or task.subset
        return {f"{config}/{part}": rows for part in sorted({x for names in parts for x in names})}

    prefix = "" if task.subset == "default" else f"{task.subset}-"
    judged = [("q0", "1", 2), ("q2", "0", 0)]
    tables = {
        f"{prefix}corpus/corpus": [
            {"_id": i, "title": "kop" if i else "", "text": f" stuk {i} "} for i in range(3)
        ],
        f"{prefix}queries/queries": [{"_id": f"q{i}", "text": f" vraag {i}"} for i in range(3)],
        f"{prefix}qrels/test" if prefix else "default/test": [
            {"query-id": query, "corpus-id": id, "score": grade} for query, id, grade in judged
        ],
    }
    if task.type == "Reranking":
        ranked = [{"query-id": f"q{i}", "corpus-ids": ["2", "1"]} for i in range(3)]
        tables[f"{prefix}top_ranked/test"] = ranked
    return tables


def encode_table(rows: list[dict], form: str) -> bytes:
    if form == "parquet":
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        return file.getvalue()
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def hub_files(tables: dict[str, list[dict]], form: str) -> dict[str, bytes]:
    """A hub repository: the tables, in two files each, and the README.md that lists them."""
    files, configs = {}, {}
    for name, rows in tables.items():
        config, split = name.split("/")
        half = max(1, len(rows) // 2)
        for number, part in enumerate((rows[:half], rows[half:])):
            files[f"{name}-0000{number}.{form}"] = encode_table(part, form)
        configs.setdefault(config, []).append({"split": split, "path": f"{name}-*"})
    card = {"configs": [{"config_name": name, "data_files": x} for name, x in configs.items()]}
    return files | {
        "README.md": f"---\n{json.dumps(card)}\n---\n# A data set".encode()
    }  # JSON is YAML


def add_to(hub, task, tables, form="jsonl") -> Path:
    return hub(task.repository.partition("@")[0], hub_files(tables, form), commit=task.revision)


def read(task):
    """All that a task reads: {split: columns} or a ranking."""
    if task.type in RANKING:
        return read_ranking(task, "test")
    return {split: read_columns(task, split) for split in mteb_nl.splits_read(task)}


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("name", NAMED)
def test_every_task_is_read_from_the_hubs_layout(hub, name, form):
    task = NAMED[name]
    add_to(hub, task, hub_rows(task), form)
    content = read(task)
    if task.transform is mteb_nl.belebele_tables:
        assert content.corpus == {f"C{i}": f"stuk {i}" for i in range(3)}
        assert content.queries == {f"Q{i}": f"v{i}" for i in range(5)} and content.candidates == {}
        qrels = {f"Q{i}": {f"C{i // 2}": 1} for i in range(5)}
        assert content.qrels == qrels | {"Q0": {"C0": 1, "C2": 1}}
    elif task.type in RANKING:
        assert content.corpus == {"0": "stuk 0", "1": "kop  stuk 1", "2": "kop  stuk 2"}
        assert content.queries == {"q0": " vraag 0", "q2": " vraag 2"}
        assert content.qrels == {"q0": {"1": 2}, "q2": {"0": 0}}
        candidates = {"q0": ["2", "1"], "q2": ["2", "1"]}
        assert content.candidates == (candidates if task.type == "Reranking" else {})
    elif task.transform is mteb_nl.hatecheck_split:
        for columns in content.values():
            assert len(columns["text"]) == len(set(columns["text"])) == 1000
            assert set(columns["label"]) == {0, 1}
    else:
        whats = TYPES[task.type].columns
        once = {what: [cell(task, what, i) for i in range(6)] for what in whats}
        once = TRANSFORMED.get(task.transform, once)
        for split, columns in content.items():
            repeats = len(task.parts.get(split, (split,)))
            assert columns == {what: values * repeats for what, values in once.items()}, split


@pytest.mark.parametrize("name", NAMED)
def test_a_missing_column_is_named_with_task_and_file(hub, name):
    """Each column of each table in turn: either it is not needed, or the message names it."""
    task, needed = NAMED[name], 0
    for table, rows in hub_rows(task).items():
        for column in rows[0]:
            if column == "index_id" or (column == "title" and task.type in RANKING):
                continue  # not read; may be missing
            without = [{key: value for key, value in row.items() if key != column} for row in rows]
            folder = add_to(hub, task, hub_rows(task) | {table: without})
            with pytest.raises(InputError, match=f"{folder}.*{column}"):
                read(task)
            needed += 1
    assert needed >= 2


def task_of(type: str, file, **fields):
    """A task of one split, in one file."""
    return mteb_nl._task("Task", type, "", files={"test": {"rows": [file]}}, **fields)


WRITTEN = [  # type, form, labels or scores as written, as read
    ("Clustering", "csv", ["01", "1", "2"], ["01", "1", "2"]),
    ("Clustering", "csv", ["1.0", "2.0", "1.0"], ["1.0", "2.0", "1.0"]),
    ("Clustering", "csv", ["-3", "0", "12"], [-3, 0, 12]),
    ("Clustering", "csv", ["9" * 30, "1", "nan"], ["9" * 30, "1", "nan"]),
    ("Clustering", "csv", ["0", "faq", "2"], ["0", "faq", "2"]),
    ("Clustering", "parquet", ["01", "1", "2"], ["01", "1", "2"]),
    ("Clustering", "jsonl", [1.0, 2.0, 1.0], [1, 2, 1]),
    ("STS", "csv", ["0.5", "1", "2.5"], [0.5, 1.0, 2.5]),
]


@pytest.mark.parametrize("type, form, written, expected", WRITTEN)
def test_labels_and_scores_are_what_is_written(tmp_path, type, form, written, expected):
    texts = {"text": "7", "sentence1": "7", "sentence2": "b"}
    rows = [texts | {"label": value, "score": value} for value in written]
    (tmp_path / f"rows.{form}").write_bytes(encode_table(rows, form))
    (text, *_), *_, values = read_columns(task_of(type, tmp_path / f"rows.{form}"), "test").values()
    assert text == "7" and values == expected
    assert [x.__class__ for x in values] == [x.__class__ for x in expected]


HEAD = "configs:\n- config_name: x\n  data_files:\n"
TWO = f"{HEAD}  - {{split: dev, path: d}}\n  - {{split: test, path: t}}"
USUAL = ["test.*", "test-*", "test/*", "data/test.*", "data/test-*", "data/test/*"]
CARDS = [  # the head of a README.md, configuration, split, its patterns or a message
    ("configs:\n- config_name: corpus\n  data_files: c.jsonl", "corpus", "train", ["c.jsonl"]),
    (f"{HEAD}  - a*.jsonl\n  - b.jsonl", "x", "train", ["a*.jsonl", "b.jsonl"]),
    (f"{HEAD}  - {{split: test, path: [t1.csv, t2.csv]}}", "default", "test", ["t1.csv", "t2.csv"]),
    ("license: mit", "default", "test", USUAL),
    (TWO, "x", "test", ["t"]),
    (TWO, "y", "test", "README.md lists no split 'test' of configuration 'y'"),
    (TWO, "x", "y", "README.md lists no split 'y' of configuration 'x'"),
    ("configs: [a", "x", "test", "README.md: cannot be read .ParserError"),
    ("configs:\n- config_name: x", "x", "test", "README.md: no field 'data_files'"),
    ("- a", "x", "test", "README.md: cannot be read .ValueError"),
]  # fmt: skip


@pytest.mark.parametrize("head, config, split, expected", CARDS)
def test_what_a_card_says(tmp_path, head, config, split, expected):
    path = tmp_path / "README.md"
    path.write_text(f"---\n{head}\n---\n# tekst\n---\n")
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            mteb_nl.split_patterns(mteb_nl.read_card(path), config, split)
    else:
        assert mteb_nl.split_patterns(mteb_nl.read_card(path), config, split) == expected


def test_a_ranking_may_name_its_tables_otherwise(hub):
    """A configuration of one split may name it as it likes; queries may be in `query`."""
    task = NAMED["VABBRetrieval"]
    names = {"queries/queries": "query/test", "default/test": "qrels/test"}
    tables = {names.get(name, name): rows for name, rows in hub_rows(task).items()}
    add_to(hub, task, tables, "parquet")
    assert list(read_ranking(task, "test").queries) == ["q0", "q2"]


def test_a_card_leads_to_no_file_outside_its_repository(tmp_path):
    with pytest.raises(InputError, match="'../../geheim.jsonl' is not a file name inside"):
        mteb_nl.matching(tmp_path, ["../../geheim.jsonl"])


def test_files_that_a_repository_lacks_are_named(hub):
    task = NAMED["DutchColaClassification"]
    files = hub_files(hub_rows(task), "jsonl")
    files = {name: content for name, content in files.items() if "test" not in name}
    hub(task.repository.partition("@")[0], files, commit=task.revision)
    with pytest.raises(
        FileNotFoundError, match=r"no file default/test-\*; download the task again"
    ):
        read_columns(task, "test")


# --- transformations ------------------------------------------------------------------------------


def test_stratified_split_is_that_of_datasets():
    """datasets 5.2: train_test_split(train_size=23, test_size=17, seed=42, stratify_by_column=…),
    of all 40 rows; parity/test_mteb.py has more."""
    strata = [f"s{i * i % 7 * (i % 3)}" for i in range(40)]
    expected = (
        "34 7 15 5 0 38 21 39 12 33 16 8 37 17 14 1 28 36 24 2 31 25 4",
        "19 35 27 9 13 18 23 11 3 26 20 10 6 22 29 30 32",
    )
    parts = mteb_nl.stratified_split(strata, (23, 17), np.random.default_rng(42))
    assert [" ".join(map(str, part)) for part in parts] == list(expected)


def test_the_fingerprint_is_of_all_that_decides(tmp_path):
    def fingerprint(rows=STS_ROWS, **changes) -> str:
        (task,) = read_tasks(write_tasks(tmp_path, sts_entry(**changes), sts=rows))
        return mteb_nl.fingerprint(task)

    same = fingerprint()
    for irrelevant in ({"name": "B"}, {"translated": True}, {"language": "fry-Latn"}):
        assert fingerprint(**irrelevant) == same
    decisive = [
        {"samples_per_label": 9},
        {"ignore_identical_ids": True},
        {"main_score": "pearson"},
        {"columns": {"score": "other"}},
        {"prompt": "x"},
        {"splits": {"dev": "sts.jsonl"}},
        {"rows": [*STS_ROWS[:2], STS_ROWS[2] | {"sentence1": "x"}]},
    ]
    assert len({same, *(fingerprint(**changes) for changes in decisive)}) == 8


def test_remarks_on_sizes_and_missing_documents():
    task, columns = NAMED["SICK-NL-STS"], {"sentence1": ["ab"], "sentence2": ["c"], "score": [1]}
    assert mteb_nl.remarks(task, "test", columns) == [
        "test: 1 with 3 characters, mteb counts 4,902 with 463,327 characters; "
        "is this revision 7f88f003fc4e?"
    ]
    assert mteb_nl.remarks(dataclasses.replace(task, repository=""), "test", columns) == []
    qrels = {"q": {"a": 1, "weg": 1, "ook weg": 0}}
    ranking = mteb_nl.Ranking({"q": "vraag"}, {"a": "x"}, qrels, {})
    lines = mteb_nl.remarks(NAMED["SciFact-NL.v2"], "test", ranking)
    assert [re.split("[,;]", line)[0] for line in lines] == [
        "2 judged documents are not in the corpus",
        "corpus: 1 with 1 characters",
        "queries: 1 with 5 characters",
    ]
    assert "the first is 'weg'; they count as not found" in lines[0]


# --- a user's task files --------------------------------------------------------------------------

TASK = "tasks.json: task 'Sts': "
BAD_ENTRIES = [  # changes of an entry (None: taken out), message
    ({"name": "../x"}, "name is '../x'; expected letters"),
    ({"name": "summary"}, "name is 'summary'; expected .* not summary"),
    ({"type": "Sts"}, TASK + "type 'Sts' is unknown; did you mean STS?"),
    ({"splits": {}}, TASK + r"splits is \{\}; expected {split: files"),
    ({"splits": {"../../geheim": "sts.jsonl"}}, TASK + "splits is .*expected {split: files"),
    ({"splits": ["test"]}, TASK + "splits is .*expected {split: files"),
    ({"splits": {"test": []}}, TASK + r"test: found \[\]; expected a file or a list of files"),
    ({"splits": {"test": 7}}, TASK + "test: found 7; expected a file or a list of files"),
    ({"splits": {"test": "../sts.jsonl"}}, TASK + "'../sts.jsonl' is not a file name inside"),
    ({"splits": {"test": "other.jsonl"}}, TASK + ".*other.jsonl: no such file"),
    ({"splits": None}, TASK + "no field 'splits'"),
    ({"train": "sts.jsonl"}, TASK + "STS has no field 'train'"),
    ({"main_score": "accuracy"}, TASK + "main_score is 'accuracy'; expected a score of STS, such"),
    ({"columns": {"text": "zin"}}, TASK + "columns is .*; expected .* of .*sentence2', 'score'"),
    ({"columns": {"score": ["x"]}}, TASK + "columns is .*; expected {what: column} of"),
    ({"columns": "zin"}, TASK + "columns is 'zin'; expected {what: column} of"),
    ({"samples_per_label": 0}, TASK + "samples_per_label is 0; expected a whole number above 0"),
    ({"ignore_identical_ids": 1}, TASK + "ignore_identical_ids is 1; expected true or false"),
    ({"language": "nl"}, TASK + "language is 'nl'; expected a language and a script as in nld-L"),
    ({"mainscore": "x"}, TASK + "STS has no field 'mainscore'; did you mean main_score?"),
    ({"type": "Classification"}, TASK + "no field 'train'"),
    ({"type": "Retrieval", "splits": {"test": {"folder": ".", "x": "y"}}}, "expected a folder, or"),
    ({"type": "Retrieval", "splits": {"test": ["sts.jsonl"]}}, TASK + "test: found .*a folder, or"),
    ({"type": ["STS"]}, TASK + "type .'STS'. is unknown"),
    ({"type": "Retrieval", "splits": {"test": "."}}, "corpus.jsonl: no such file"),
]


@pytest.mark.parametrize("changes, message", BAD_ENTRIES, ids=[x[:40] for _, x in BAD_ENTRIES])
def test_mistakes_in_a_task_file(tmp_path, changes, message):
    entry = {key: value for key, value in sts_entry(**changes).items() if value is not None}
    with pytest.raises((InputError, FileNotFoundError), match=message):
        read_tasks(write_tasks(tmp_path, entry, sts=STS_ROWS))


BAD_FILES = [
    ('{"tasks": [{}]}', "tasks.json: no field 'name'"),
    ('{"tasks": ["Sts"]}', 'tasks.json: expected {"tasks"'),
    ('{"tasks": []}', 'tasks.json: expected {"tasks"'),
    ('{"tasks": [{}], "task": []}', 'tasks.json: expected {"tasks".*and no other field'),
    ("{}", 'tasks.json: expected {"tasks"'),
]


@pytest.mark.parametrize("content, message", BAD_FILES)
def test_files_that_list_no_tasks(tmp_path, content, message):
    (tmp_path / "tasks.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_tasks(tmp_path / "tasks.json")


def test_task_files(tmp_path):
    entries = sts_entry(), sts_entry(name="Other", main_score="pearson", language="fry-Latn")
    tasks = read_tasks(write_tasks(tmp_path, *entries, sts=STS_ROWS), "afr-Latn")
    fields = [(task.name, task.main_score, task.language) for task in tasks]
    assert fields == [("Sts", "cosine_spearman", "afr-Latn"), ("Other", "pearson", "fry-Latn")]
    for task in tasks:
        assert task.files == {"test": {"rows": [tmp_path / "sts.jsonl"]}}
    assert select_tasks(tasks, ["Other"]) == tasks[1:] and select_tasks(tasks, ["STS"]) == tasks
    with pytest.raises(InputError, match="task 'native' is unknown; expected one of all, STS, Sts"):
        select_tasks(tasks, ["native"])
    with pytest.raises(InputError, match="task 'Sts': is given more than once"):
        read_tasks(write_tasks(tmp_path, sts_entry(), sts_entry()))


NUMBER = "expected a number"
WHOLE = "expected a text or a whole number"
BAD_ROWS = [  # type, changes of one row (None: taken out), message
    ("STS", {"sentence2": None}, "2: no column 'sentence2'; the row has sentence1, text, score"),
    ("STS", {"score": "4"}, f"2: score is '4'; {NUMBER}"),
    ("STS", {"score": float("nan")}, f"2: score is 'None'; {NUMBER}"),
    ("STS", {"score": 10**400}, f"2: score is '1000.*'; {NUMBER}"),
    ("STS", {"sentence1": 7}, "2: sentence1 is '7'; expected a text"),
    ("PairClassification", {"label": 2}, "2: label is '2'; expected 0 or 1"),
    ("PairClassification", {"label": 1}, r" labels are like \[1\]; expected two or more, all"),
    ("Clustering", {"label": None}, "2: no column 'labels' or 'label'; the row has"),
    ("Clustering", {"label": True}, f"2: label is 'True'; {WHOLE}"),
    ("Clustering", {"label": 1.5}, f"2: label is '1.5'; {WHOLE}"),
    ("Clustering", {"label": 10**400}, f"2: label is '1000.*'; {WHOLE}"),
    ("Clustering", {"label": "nul"}, r" labels are like \[1, 'nul'\]; expected two or more, all t"),
    ("MultilabelClassification", {}, "1: label is '1'; expected a list of texts or whole numbers"),
]


@pytest.mark.parametrize("type, changes, message", BAD_ROWS, ids=[x[:40] for *_, x in BAD_ROWS])
def test_mistakes_in_data(tmp_path, type, changes, message):
    row = {"sentence1": "a", "sentence2": "b", "text": "c"}
    rows = [row | {"score": i, "label": 1 - (i == 1)} for i in range(3)]
    rows[1] = {key: value for key, value in (rows[1] | changes).items() if value is not None}
    write_tasks(tmp_path, test=rows)
    with pytest.raises(InputError, match=f"test.jsonl:{message}"):
        read_columns(task_of(type, tmp_path / "test.jsonl"), "test")


def test_splits_without_rows_are_named(tmp_path):
    """Also where a language is wanted that no row has."""
    write_tasks(tmp_path, test=[{"lang": "de", "text": "x", "label": 1}])
    task = task_of("Clustering", tmp_path / "test.jsonl", only_lang="nl")
    with pytest.raises(InputError, match="test.jsonl: no rows with lang 'nl'"):
        read_columns(task, "test")


def test_names_of_columns(tmp_path):
    """mteb's own names come before those that a user may write, and a task may give others."""
    rows = [{"text": "x", "label": 7, "sentences": f"s{i}", "labels": i, "kop": i} for i in (0, 1)]
    write_tasks(tmp_path, rows=rows)
    for columns, texts in (({}, ["s0", "s1"]), ({"text": "text", "label": "kop"}, ["x", "x"])):
        task = task_of("Clustering", tmp_path / "rows.jsonl", columns=columns)
        assert read_columns(task, "test") == {"text": texts, "label": [0, 1]}


def test_retrieval_texts_and_shared_corpus(tmp_path):
    write_beir(tmp_path / "a")
    write_beir(tmp_path / "b", queries=("1", "3"), qrels=(("1", "a", 1), ("4", "a", 1)))
    (tmp_path / "b" / "corpus.jsonl.gz").unlink()
    shared = {"folder": "b", "corpus": "a/corpus.jsonl"}
    entry = {"name": "B", "type": "Retrieval", "splits": {"test": shared}}
    (task,) = read_tasks(write_tasks(tmp_path, entry))
    queries, corpus, qrels, candidates = read_ranking(task, "test")
    assert corpus == {"a": "titel  tekst a", "b": "tekst b", "c": "tekst c"} and candidates == {}
    # 3 is not judged, 4 does not exist
    assert queries == {"1": " vraag 1"} and qrels == {"1": {"a": 1}}


CANDIDATES = [  # rows of top_ranked.jsonl (None: no file), candidates or message
    (None, {"1": ["a", "b"], "2": ["c"]}),  # the judged documents, those of grade 0 included
    ([("1", ["c", "a", "c"]), ("2", ["b"])], {"1": ["c", "a"], "2": ["b"]}),
    ([("1", ["c"])], "top_ranked.jsonl: candidates of query '2': none"),
    ([("1", ["c", "x"])], "candidates of query '1': 'x' is not in .*corpus"),
    ([("1", "abc")], "top_ranked.jsonl:1: expected 'query-id' and 'corpus-ids', a list of ids"),
    ([(None, ["a"])], "top_ranked.jsonl:1: expected 'query-id' and 'corpus-ids', a list of ids"),
]


@pytest.mark.parametrize("ranked, expected", CANDIDATES)
def test_candidates_of_reranking(tmp_path, ranked, expected):
    write_beir(tmp_path / "a")
    if ranked:
        rows = [{"query-id": query, "corpus-ids": ids} for query, ids in ranked]
        (tmp_path / "a" / "top_ranked.jsonl").write_bytes(encode_table(rows, "jsonl"))
    entry = {"name": "A", "type": "Reranking", "splits": {"test": "a"}}
    (task,) = read_tasks(write_tasks(tmp_path, entry))
    if isinstance(expected, dict):
        assert read_ranking(task, "test").candidates == expected
    else:
        with pytest.raises(InputError, match=expected):
            read_ranking(task, "test")
