"""mteb_nl.py: the table of tasks, and what is read of each task's files, in the hub's layout and in a user's.

Properties: every one of the 40 tasks is read from small files of its own layout, parquet, JSON Lines and CSV, and a column that is
missing is named with task and file; transformations by hand; the four real tasks in demo/ have mteb's sizes; a folder made by
`download` gives what the hub's cache gives; a mistake in a task file or in data is one clear line. That the table is mteb's is tested
in parity/test_mteb.py.

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

import mteb_nl
from files import InputError
from mteb_nl import RANKING, TASKS, TRAINED, TYPES, read_columns, read_ranking, read_tasks, select_tasks

DEMO = Path(__file__).parent.parent / "demo"
NAMED = {task.name: task for task in TASKS}


# --- the table ------------------------------------------------------------------------------------------------------------------


def test_the_table_as_a_whole():
    assert len(NAMED) == len(TASKS) == 40
    assert Counter(task.type for task in TASKS) == {"Classification": 12, "PairClassification": 2, "MultilabelClassification": 3,
                                                    "Clustering": 8, "Reranking": 1, "Retrieval": 12, "STS": 2}  # fmt: skip
    for task in TASKS:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", task.repository) and re.fullmatch(TYPES[task.type].scores, task.main_score)
        assert set(task.sizes) == ({"corpus", "queries"} if task.type in RANKING else set(mteb_nl.splits_read(task))), task.name
        assert task.prompt and task.translated in (True, False) and re.fullmatch(mteb_nl.FILE_NAME, task.name)


def test_tasks_are_chosen_by_name_type_and_origin():
    names = lambda *wanted: [task.name for task in select_tasks(TASKS, list(wanted))]  # noqa: E731
    assert len(names("all")) == 40 and names("STS", "XLWICNLPairClassification") == [NAMED[n].name for n in
        ("XLWICNLPairClassification", "SICK-NL-STS", "STSBenchmarkMultilingualSTS")]  # fmt: skip
    assert set(names("native")) | set(names("translated")) == set(NAMED) and not set(names("native")) & set(names("translated"))
    assert "BelebeleRetrieval" in names("translated") and "bBSARDNLRetrieval" in names("native")
    for wrong, hint in (("SIB200Clasification", "did you mean SIB200Classification"), ("sick", "did you mean SICK-NL-STS"),
                        ("web", "did you mean WebFAQRetrieval"), ("zzz", "expected one of Dutch.*, native, translated, all")):  # fmt: skip
        with pytest.raises(InputError, match=f"task '{wrong}' is unknown; {hint}"):
            names(wrong)


def test_the_real_tasks_have_mtebs_sizes():
    """SIB-200 and SICK-NL lie in demo/ whole: as many texts and characters as mteb counted of the hub's files."""
    real = ["SIB200Classification", "SIB200ClusteringS2S", "SICKNLPairClassification", "SICK-NL-STS"]
    demo = {task.name: task for task in read_tasks(DEMO / "tasks.json")}
    for name in real:
        for field in ("splits", "main_score", "prompt", "translated", "samples_per_label"):
            assert getattr(demo[name], field) == getattr(NAMED[name], field), (name, field)
        for split in mteb_nl.splits_read(NAMED[name]):
            rows = read_columns(demo[name], split)
            texts = [text for what in ("text", "sentence1", "sentence2") for text in rows.get(what, [])]
            assert (len(rows.get("text", rows.get("sentence1"))), sum(map(len, texts))) == NAMED[name].sizes[split], (name, split)
            assert mteb_nl.remarks(NAMED[name], split, rows) == []


# --- the hub's layout -----------------------------------------------------------------------------------------------------------


def hub_rows(task) -> dict[str, list[dict]]:
    """Small tables as the hub has them of a task: {configuration/split: rows}. Every column that mteb reads, and one that it does not."""
    if task.type in RANKING and not task.transform:
        prefix = "" if task.subset == "default" else f"{task.subset}-"
        tables = {
            f"{prefix}corpus/corpus": [{"_id": i, "title": "kop" if i else "", "text": f" stuk {i} "} for i in range(3)],
            f"{prefix}queries/queries": [{"_id": f"q{i}", "text": f" vraag {i}"} for i in range(3)],
            f"{prefix}qrels/test" if prefix else "default/test": [{"query-id": "q0", "corpus-id": "1", "score": 2},
                                                                  {"query-id": "q2", "corpus-id": "0", "score": 0}],
        }  # fmt: skip
        if task.type == "Reranking":
            tables[f"{prefix}top_ranked/test"] = [{"query-id": f"q{i}", "corpus-ids": ["2", "1"]} for i in range(3)]
        return tables
    special = {
        mteb_nl.belebele_tables: lambda i: {"question": f"v{i}", "link": f"l{i // 2}", "flores_passage": f"stuk {i // 2}"},
        mteb_nl.covid_labels: lambda i: {"text": f"t{i}", "q1_label": ["no", "yes"][i > 0]}
        | {f"q{q}_label": ["no", "yes"][q == i] for q in range(2, 8)},
        mteb_nl.hatecheck_split: lambda i: {"text": f"t{i}", "is_hateful": ["hateful", "non-hateful"][i % 3 > 0],
                                            "functionality": f"f{i % 7}"},
        mteb_nl.title_and_abstract: lambda i: {"title": f"k{i}", "abstract": f"s{i}", "org_discipline": f"vak {i % 2}"},
    }  # fmt: skip
    values = {"text": "t{}", "sentence1": "a{}", "sentence2": "b{}"}

    def usual(i: int) -> dict:
        label = {"MultilabelClassification": [i % 2, 5]}.get(task.type, i % 2)
        columns = TYPES[task.type].columns.items()
        return {task.columns.get(what, names[0]): values.get(what, "").format(i) or label for what, (names, _) in columns} | {"index_id": 1}

    make = special.get(task.transform, usual)
    rows = [make(i) for i in range(2100 if task.transform is mteb_nl.hatecheck_split else 6)]
    if task.only_lang:
        rows = [row | {"lang": lang} for row in rows for lang in ("de", task.only_lang)]
    splits = {part for split in mteb_nl.splits_read(task) for part in task.parts.get(split, (split,))}
    return {f"{task.config or task.subset}/{split}": rows for split in sorted(splits)}


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
    """A hub repository: the tables in files, two of each where there are rows enough, and the README.md that lists them."""
    files, card = {}, ["---", "license: mit", "configs:"]
    for name, rows in tables.items():
        config, split = name.split("/")
        half = max(1, len(rows) // 2)
        for number, part in enumerate((rows[:half], rows[half:])):
            files[f"{name}-0000{number}.{form}"] = encode_table(part, form)
        if f"- config_name: {config}" not in card:
            card += [f"- config_name: {config}", "  data_files:"]
        place = card.index(f"- config_name: {config}") + 2
        card[place:place] = [f"  - split: {split}", f"    path: {name}-*"]
    return files | {"README.md": "\n".join([*card, "---", "# A data set"]).encode()}


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("name", NAMED)
def test_every_task_is_read_from_the_hubs_layout(hub, name, form):
    task = NAMED[name]
    tables = hub_rows(task)
    hub(task.repository.partition("@")[0], hub_files(tables, form), commit=task.revision)
    if task.type in RANKING:
        found = read_ranking(task, "test")
        if task.transform:
            assert found.corpus == {"C0": "stuk 0", "C1": "stuk 1", "C2": "stuk 2"} and found.queries["Q5"] == "v5"
            assert found.qrels == {f"Q{i}": {f"C{i // 2}": 1} for i in range(6)}
        else:
            assert found.corpus == {"0": "stuk 0", "1": "kop  stuk 1", "2": "kop  stuk 2"}
            assert found.queries == {"q0": " vraag 0", "q2": " vraag 2"} and found.qrels == {"q0": {"1": 2}, "q2": {"0": 0}}
        assert found.candidates == ({"q0": ["2", "1"], "q2": ["2", "1"]} if task.type == "Reranking" else {})
        return
    for split in mteb_nl.splits_read(task):
        rows = read_columns(task, split)
        repeats = len(task.parts.get(split, (split,)))
        if task.transform is mteb_nl.hatecheck_split:
            assert len(rows["text"]) == len(set(rows["text"])) == 1000 and set(rows["label"]) == {0, 1}
            continue
        if task.transform is mteb_nl.covid_labels:
            assert rows == {"text": [f"t{i}" for i in range(1, 6)], "label": [[], [0], [1], [2], [3]]}
            continue
        texts = {what: [f"{letter}{i}" for i in range(6)] for what, letter in (("text", "t"), ("sentence1", "a"), ("sentence2", "b"))}
        labels = [i % 2 for i in range(6)]
        if task.transform is mteb_nl.title_and_abstract:
            texts["text"], labels = [f"k{i}\ns{i}" for i in range(6)], [f"vak {i % 2}" for i in range(6)]
        if task.type == "MultilabelClassification":
            labels = [[i % 2, 5] for i in range(6)]
        expected = texts | {"label": labels, "score": labels}
        assert rows == {what: expected[what] * repeats for what in TYPES[task.type].columns}, split
    assert task.type not in TRAINED or "train" in mteb_nl.splits_read(task)


@pytest.mark.parametrize("name", NAMED)
def test_a_missing_column_is_named_with_task_and_file(hub, name):
    """Each column of each table in turn: either it is not needed, or the message says which it is and where."""
    task, needed = NAMED[name], 0
    for table, rows in hub_rows(task).items():
        for column in rows[0]:
            if column == "index_id" or (column == "title" and task.type in RANKING):
                continue  # not read; may be missing
            tables = {other: [{key: value for key, value in row.items() if (other, key) != (table, column)} for row in some]
                      for other, some in hub_rows(task).items()}  # fmt: skip
            folder = hub(task.repository.partition("@")[0], hub_files(tables, "jsonl"), commit=task.revision)
            with pytest.raises(InputError) as error:
                read_ranking(task, "test") if task.type in RANKING else [read_columns(task, s) for s in mteb_nl.splits_read(task)]
            assert str(folder) in str(error.value) and (column in str(error.value)), (column, str(error.value))
            needed += 1
    assert needed >= 2


def test_csv_columns_are_numbers_where_all_are(hub):
    task = NAMED["STSBenchmarkMultilingualSTS"]
    rows = [{"sentence1": f"{i}", "sentence2": "b", "similarity_score": f"{i}.5", "lang": "nl"} for i in range(3)]
    hub(task.repository.partition("@")[0], hub_files({"default/dev": rows, "default/test": rows}, "csv"), commit=task.revision)
    assert read_columns(task, "dev") == {"sentence1": ["0", "1", "2"], "sentence2": ["b"] * 3, "score": [0.5, 1.5, 2.5]}
    task = NAMED["VaccinChatNLClassification"]
    rows = [{"sentence1": f"{i}", "label": f"{i}"} for i in range(3)]
    hub(task.repository.partition("@")[0], hub_files({"default/train": rows, "default/test": rows}, "csv"), commit=task.revision)
    assert read_columns(task, "test") == {"text": ["0", "1", "2"], "label": [0, 1, 2]}
    rows[1]["label"] = "faq"
    hub(task.repository.partition("@")[0], hub_files({"default/train": rows, "default/test": rows}, "csv"), commit=task.revision)
    assert read_columns(task, "test")["label"] == ["0", "faq", "2"]


CSV_LABELS = [  # as written, as read: numbers only where all are written as numbers are
    (["01", "1", "2"], ["01", "1", "2"]),
    (["1.1", "1.2", "1.1"], ["1.1", "1.2", "1.1"]),
    (["1.0", "2.0", "1.0"], ["1.0", "2.0", "1.0"]),
    (["-3", "0", "12"], [-3, 0, 12]),
    (["1e2", "100", "7"], ["1e2", "100", "7"]),
    (["9" * 30, "1", "nan"], ["9" * 30, "1", "nan"]),
]


@pytest.mark.parametrize("form", ["csv", "tsv"])
@pytest.mark.parametrize("written, expected", CSV_LABELS, ids=[",".join(written)[:12] for written, _ in CSV_LABELS])
def test_labels_of_csv_files_are_what_is_written(tmp_path, form, written, expected):
    rows = [f"{i}{',' if form == 'csv' else chr(9)}{label}" for i, label in enumerate(written)]
    (tmp_path / f"rows.{form}").write_text("\n".join([rows[0].replace(f"0{rows[0][1]}{written[0]}", f"text{rows[0][1]}label"), *rows]))
    (task,) = read_tasks(write_tasks(tmp_path, {"name": "C", "type": "Clustering", "splits": {"test": f"rows.{form}"}}))
    assert read_columns(task, "test") == {"text": ["0", "1", "2"], "label": expected}


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize("labels, expected", [(["01", "1", "2"], ["01", "1", "2"]), ([1, 2, 3], [1, 2, 3]), ([1.0, 2.0, 1.0], [1, 2, 1])])
def test_labels_of_parquet_and_json_keep_their_types(tmp_path, form, labels, expected):
    (tmp_path / f"rows.{form}").write_bytes(encode_table([{"text": str(i), "label": label} for i, label in enumerate(labels)], form))
    (task,) = read_tasks(write_tasks(tmp_path, {"name": "C", "type": "Clustering", "splits": {"test": f"rows.{form}"}}))
    found = read_columns(task, "test")["label"]
    assert found == expected and list(map(type, found)) == list(map(type, expected))


CARDS = [  # the head of a README.md, configuration, split, what is found
    ("configs:\n- config_name: corpus\n  data_files: c.jsonl", "corpus", "train", ["c.jsonl"]),
    ("configs:\n- config_name: corpus\n  data_files:\n  - a*.jsonl\n  - b.jsonl", "corpus", "train", ["a*.jsonl", "b.jsonl"]),
    ("configs:\n- config_name: x\n  data_files:\n  - split: test\n    path: [t1.csv, t2.csv]", "default", "test", ["t1.csv", "t2.csv"]),
    ("license: mit", "default", "test", ["test.*", "test-*", "test/*", "data/test.*", "data/test-*", "data/test/*"]),
]


@pytest.mark.parametrize("head, config, split, expected", CARDS)
def test_what_a_card_says(tmp_path, head, config, split, expected):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n# tekst\n---\n")
    assert mteb_nl.split_patterns(mteb_nl.read_card(tmp_path / "README.md"), config, split) == expected


def test_cards_that_do_not_say_it(tmp_path):
    card = {"nl-corpus": {"corpus": ["c"]}, "nl-queries": {"dev": ["d"], "test": ["t"]}}
    assert mteb_nl.split_patterns(card, "nl-corpus", "test", alone=True) == ["c"]
    assert mteb_nl.split_patterns(card, "nl-queries", "test", alone=True) == ["t"]
    with pytest.raises(InputError, match="no configuration 'nl-querys'; did you mean nl-queries"):
        mteb_nl.split_patterns(card, "nl-querys", "test")
    with pytest.raises(InputError, match="no split 'validation' of configuration 'nl-queries'; expected one of dev, test"):
        mteb_nl.split_patterns(card, "nl-queries", "validation", alone=True)
    for head in ("configs: [a", "configs:\n- config_name: x", "- a", "configs: 3"):
        (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
        with pytest.raises(InputError, match="README.md: its YAML head has no list of configs"):
            mteb_nl.read_card(tmp_path / "README.md")
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: ../../geheim.jsonl\n---\n")
    with pytest.raises(InputError, match="'../../geheim.jsonl' is not a file name inside"):
        mteb_nl.matching(tmp_path, mteb_nl.split_patterns(mteb_nl.read_card(tmp_path / "README.md"), "default", "train"))


def test_the_other_names_that_retrieval_tables_may_have(hub):
    task = NAMED["VABBRetrieval"]
    rows = hub_rows(task)
    rows = {"corpus/corpus": rows["corpus/corpus"], "query/test": rows["queries/queries"], "qrels/test": rows["default/test"]}
    hub(task.repository.partition("@")[0], hub_files(rows, "parquet"), commit=task.revision)
    assert list(read_ranking(task, "test").queries) == ["q0", "q2"]


def test_files_that_a_repository_lacks_are_named(hub):
    task = NAMED["DutchColaClassification"]
    files = {name: content for name, content in hub_files(hub_rows(task), "jsonl").items() if "test" not in name}
    hub(task.repository.partition("@")[0], files, commit=task.revision)
    with pytest.raises(FileNotFoundError, match=r"no file default/test-\*; download the task again"):
        read_columns(task, "test")


# --- transformations ------------------------------------------------------------------------------------------------------------


def test_belebele_by_hand():
    rows = [{"question": q, "link": link, "flores_passage": p} for q, link, p in
            (("wie?", "b", "B"), ("wat?", "a", "A"), ("wie?", "a", "A"), ("hoe?", "b", "B"))]  # fmt: skip
    corpus, queries, qrels = mteb_nl.belebele_tables(rows, "test")
    assert corpus == {"C0": "B", "C1": "A"} and queries == {"Q0": "wie?", "Q1": "wat?", "Q2": "hoe?"}
    assert qrels == {"Q0": {"C0": 1, "C1": 1}, "Q1": {"C1": 1}, "Q2": {"C0": 1}}


def test_stratified_split_is_that_of_datasets():
    """Golden rows: datasets 5.2 `train_test_split(train_size=9, test_size=11, seed=42, stratify_by_column=…)`, see parity/test_mteb.py."""
    strata = [f"s{i * i % 7}" for i in range(40)]
    train, test = mteb_nl.stratified_split(strata, (9, 11), np.random.default_rng(42))
    assert train.tolist() == [12, 21, 15, 29, 31, 9, 39, 38, 8] and test.tolist() == [36, 3, 34, 19, 5, 23, 17, 22, 14, 18, 0]
    assert not set(train) & set(test)
    uneven = [f"s{i * i % 7 * (i % 3)}" for i in range(40)]
    train23, test17 = mteb_nl.stratified_split(uneven, (23, 17), np.random.default_rng(42))  # all 40: what the first leaves
    assert train23.tolist() == [34, 7, 15, 5, 0, 38, 21, 39, 12, 33, 16, 8, 37, 17, 14, 1, 28, 36, 24, 2, 31, 25, 4]
    assert test17.tolist() == [19, 35, 27, 9, 13, 18, 23, 11, 3, 26, 20, 10, 6, 22, 29, 30, 32]
    expected = Counter(strata)
    for part, size in ((train, 9), (test, 11)):
        counts = Counter(strata[i] for i in part)
        assert sum(counts.values()) == size and all(abs(counts[s] - size * n / 40) < 2 for s, n in expected.items())


def test_the_fingerprint_is_of_all_that_decides(tmp_path):
    rows = [{"text": f"t{i}", "label": i % 2, "other": i % 3} for i in range(6)]
    entry = {"name": "A", "type": "Classification", "train": "a.jsonl", "splits": {"test": "b.jsonl"}}

    def fingerprint(**changes) -> str:
        (task,) = read_tasks(write_tasks(tmp_path, entry | changes, a=rows, b=rows))
        return mteb_nl.fingerprint(task)

    same, several = fingerprint(), {"dev": "b.jsonl", "test": "b.jsonl"}
    assert fingerprint() == same == fingerprint(name="B") == fingerprint(translated=True)
    changes = [{"samples_per_label": 9}, {"main_score": "f1"}, {"columns": {"label": "other"}}, {"prompt": "x"}, {"splits": several}]
    different = [fingerprint(**change) for change in changes]
    rows[5] = rows[5] | {"text": "x"}
    assert len({same, fingerprint(), *different}) == 7


def test_remarks_on_sizes_and_missing_documents():
    task = NAMED["SICK-NL-STS"]
    assert mteb_nl.remarks(task, "test", {"sentence1": ["ab"], "sentence2": ["c"], "score": [1]}) == [
        "test: 1 with 3 characters, mteb counts 4,902 with 463,327 characters; is this revision 7f88f003fc4e?"
    ]
    task = dataclasses.replace(task, sizes={"test": (1, 4)})
    assert mteb_nl.remarks(task, "test", {"sentence1": ["ab"], "sentence2": ["cd"], "score": [1]}) == []
    assert "1 with 5 characters" in mteb_nl.remarks(task, "test", {"sentence1": ["ab"], "sentence2": ["cde"], "score": [1]})[0]
    found = mteb_nl.Ranking({"q": "vraag"}, {"a": "x"}, {"q": {"a": 1, "weg": 1, "ook weg": 0}}, {})
    said = mteb_nl.remarks(NAMED["SciFact-NL.v2"], "test", found)
    assert said[0] == "2 judged documents are not in the corpus, the first is 'weg'; they count as not found"
    assert [line.partition(",")[0] for line in said[1:]] == ["corpus: 1 with 1 characters", "queries: 1 with 5 characters"]


# --- a user's task files --------------------------------------------------------------------------------------------------------

BAD_ENTRIES = [
    ({"name": "../x"}, "a task is named '../x'; expected letters"),
    ({"type": "Sts"}, "task Sts: type 'Sts' is unknown; did you mean STS?"),
    ({"splits": {}}, r"splits is \{\}; expected"),
    ({"splits": {"test": []}}, r"task Sts: test: found \[\]; expected a file or a list of files"),
    ({"splits": {"test": "../sts.jsonl"}}, "task Sts: test: '../sts.jsonl' is not a file name inside"),
    ({"splits": {"test": "other.jsonl"}}, "task Sts: test: .*other.jsonl: no such file"),
    ({"train": "sts.jsonl"}, "train is 'sts.jsonl'; expected no training data in a task of type STS"),
    ({"main_score": "accuracy"}, "main_score is 'accuracy'; expected a score of STS, such as cosine_spearman"),
    ({"columns": {"text": "zin"}}, "columns is .*; expected .* for what in sentence1, sentence2, score"),
    ({"samples_per_label": 0}, "samples_per_label is 0; expected a whole number above 0"),
    ({"ignore_identical_ids": 1}, "ignore_identical_ids is 1; expected true or false"),
    ({"language": "nl"}, "language is 'nl'; expected a language and a script as in nld-Latn"),
    ({"mainscore": "x"}, "field 'mainscore' is unknown; did you mean main_score?"),
    ({"type": "Classification"}, "task Sts: no field 'train'; a task of type Classification needs it"),
    ({"type": "Retrieval", "splits": {"test": ["sts.jsonl"]}}, "test: found .*; expected a folder, or"),
    ({"type": "Retrieval", "splits": {"test": "."}}, "corpus.jsonl: no such file"),
]


@pytest.mark.parametrize("changes, message", BAD_ENTRIES, ids=[message[:30] for _, message in BAD_ENTRIES])
def test_mistakes_in_a_task_file(tmp_path, changes, message):
    path = write_tasks(tmp_path, sts_entry(**changes), sts=STS_ROWS)
    with pytest.raises((InputError, FileNotFoundError), match=message):
        read_tasks(path)


def test_task_files_as_a_whole(tmp_path):
    path = write_tasks(tmp_path, sts_entry(), sts_entry(name="Other", main_score="pearson"), sts=STS_ROWS)
    tasks = read_tasks(path)
    assert [(task.name, task.main_score) for task in tasks] == [("Sts", "cosine_spearman"), ("Other", "pearson")]
    assert all(task.splits == ("test",) and task.files == {"test": {"rows": [tmp_path / "sts.jsonl"]}} for task in tasks)
    assert select_tasks(tasks, ["Other"]) == tasks[1:] and select_tasks(tasks, ["STS"]) == tasks
    assert select_tasks(tasks, ["all"]) == tasks
    with pytest.raises(InputError, match="none of the 2 tasks is known to be native or translated; name tasks"):
        select_tasks(tasks, ["native", "translated"])
    with pytest.raises(InputError, match="task 'oth' is unknown; did you mean Other"):
        select_tasks(tasks, ["oth"])
    with pytest.raises(InputError, match="task 'Othr' is unknown; did you mean Other"):
        select_tasks(tasks, ["Sts", "Othr"])
    with pytest.raises(InputError, match="task 'Sts' is given more than once"):
        read_tasks(write_tasks(tmp_path, sts_entry(), sts_entry()))
    with pytest.raises(InputError, match='expected {"tasks"'):
        read_tasks(write_tasks(tmp_path))


BAD_ROWS = [  # type, changes of one row (None: taken out), message
    ("STS", {"sentence2": None}, r"test.jsonl:2: no column 'sentence2'; the row has sentence1, score, label, text"),
    ("STS", {"score": "4"}, r"test.jsonl:2: column 'score' is '4'; expected a number"),
    ("STS", {"score": float("nan")}, r"test.jsonl:2: column 'score' is 'nan'; expected a number"),
    ("STS", {"score": 10**400}, r"test.jsonl:2: column 'score' is '1000.*'; expected a number"),
    ("Clustering", {"label": 1.5}, r"test.jsonl:2: column 'label' is '1.5'; expected a text or a whole number"),
    ("Clustering", {"label": 10**400}, r"test.jsonl:2: column 'label' is '1000.*'; expected a text or a whole number"),
    ("STS", {"sentence1": 7}, r"test.jsonl:2: column 'sentence1' is '7'; expected a text"),
    ("PairClassification", {"label": 2}, r"test.jsonl:2: column 'label' is '2'; expected 0 or 1"),
    ("PairClassification", {"label": 1}, r"test.jsonl: all labels are 1; there is nothing to tell apart"),
    ("Clustering", {"label": None}, r"test.jsonl:2: no column 'labels' or 'label'; the row has"),
    ("Clustering", {"label": True}, r"test.jsonl:2: column 'label' is 'True'; expected a text or a whole number"),
    ("Clustering", {"label": "nul"}, r"test.jsonl: some labels are texts and some are numbers"),
    ("Classification", {"text": None}, r"test.jsonl:2: no column 'text'"),
    ("MultilabelClassification", {}, r"train.jsonl:1: column 'label' is '0'; expected a list of texts or whole numbers"),
]


@pytest.mark.parametrize("type, changes, message", BAD_ROWS, ids=[message[:40] for _, _, message in BAD_ROWS])
def test_mistakes_in_data(tmp_path, type, changes, message):
    rows = [{"sentence1": "a", "sentence2": "b", "score": i, "label": 1 - (i == 1), "text": "c"} for i in range(3)]
    train = [{"text": "x", "label": i % 2} for i in range(6)]
    rows[1] = {key: value for key, value in (rows[1] | changes).items() if value is not None}
    entry = {"name": "Task", "type": type, "splits": {"test": "test.jsonl"}}
    if type in ("Classification", "MultilabelClassification"):
        entry["train"] = "train.jsonl"
    (task,) = read_tasks(write_tasks(tmp_path, entry, test=rows, train=train))
    with pytest.raises(InputError, match=message):
        [read_columns(task, split) for split in mteb_nl.splits_read(task)]


def test_columns_can_be_renamed(tmp_path):
    rows = [{"kop": "a", "zin": "b c", "cijfer": 1}, {"kop": "a b", "zin": "b", "cijfer": 2}, {"kop": "c", "zin": "c d", "cijfer": 5}]
    (task,) = read_tasks(write_tasks(tmp_path, sts_entry(columns={"sentence1": "kop", "sentence2": "zin", "score": "cijfer"}), sts=rows))
    found = read_columns(task, "test")
    assert found == {"sentence1": ["a", "a b", "c"], "sentence2": ["b c", "b", "c d"], "score": [1, 2, 5]}


def test_mtebs_own_column_comes_first(tmp_path):
    rows = [{"text": "x", "sentences": f"s{i}", "label": 7, "labels": i} for i in range(3)]
    (task,) = read_tasks(write_tasks(tmp_path, {"name": "C", "type": "Clustering", "splits": {"test": "rows.jsonl"}}, rows=rows))
    assert read_columns(task, "test") == {"text": ["s0", "s1", "s2"], "label": [0, 1, 2]}


def test_retrieval_texts_and_shared_corpus(tmp_path):
    write_beir(tmp_path / "a")
    write_beir(tmp_path / "b", queries=("1", "3"), qrels=(("1", "a", 1), ("4", "a", 1)))
    (tmp_path / "b" / "corpus.jsonl.gz").unlink()
    entries = [{"name": "A", "type": "Retrieval", "splits": {"test": "a"}},
               {"name": "B", "type": "Retrieval", "splits": {"test": {"folder": "b", "corpus": "a/corpus.jsonl"}}}]  # fmt: skip
    tasks = read_tasks(write_tasks(tmp_path, *entries))
    queries, corpus, qrels, candidates = read_ranking(tasks[1], "test")
    assert corpus == {"a": "titel  tekst a", "b": "tekst b", "c": "tekst c"} and candidates == {}
    assert queries == {"1": " vraag 1"} and qrels == {"1": {"a": 1}}  # query 3 is not judged, query 4 does not exist
    assert read_ranking(tasks[0], "test").corpus == corpus


@pytest.mark.parametrize("changes, message", [
    ({"name": "summary"}, "a task is named 'summary'"),
    ({"name": "../Sts"}, r"a task is named '\.\./Sts'"),
    ({"splits": {"../../geheim": "sts.jsonl"}}, "splits is .*expected {split: files"),
    ({"type": ["STS"]}, r"type \['STS'\] is unknown"),
    ({"columns": {"score": ["x"]}}, "columns is .*expected {what: column}"),
])  # fmt: skip
def test_names_in_a_task_file_lead_nowhere_else(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_tasks(write_tasks(tmp_path, sts_entry() | changes, sts=STS_ROWS))
