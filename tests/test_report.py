"""report.py: results read, tables and comparisons.

Tables are judged by hand, the bootstrap by its definition, the published scores by the benchmark's
own page.

    python -m pytest tests/test_report.py
"""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from parity import cases
from parity.cases import STS_ROWS, sts_entry, write_tasks

import evaluate
import report
from files import InputError, write_json, write_jsonl
from mteb_nl import TASKS, read_tasks
from report import compare, read_columns_of, report_tasks, report_types, table

E5_BASE = "clips/e5-base-trm-nl"


# --- tables ---------------------------------------------------------------------------------------


def write_results(folder, **scores):
    types, translated = (
        {"S": "STS", "C1": "Clustering", "C2": "Clustering"},
        {"S": True, "C1": False},
    )
    for task, score in scores.items():
        result = {"task_name": task, "task_type": types[task], "main_score": score, "scores": {}}
        result |= {"settings": {}, "translated": translated.get(task)}
        write_json(folder / f"{task}.json", result)


def words(cells):
    return [" ".join(row) for row in cells]


def test_report_by_hand(tmp_path):
    write_results(tmp_path / "a", S=0.5, C1=0.2, C2=0.1)
    write_results(tmp_path / "b", S=0.75, C2=0.3)
    write_json(tmp_path / "a" / "summary.json", {"anything": 1})
    columns = read_columns_of([tmp_path / "a", tmp_path / "b"], [])
    assert words(report_tasks(columns)) == [
        "task type a b",
        "C1 Clustering 20.00 -",
        "C2 Clustering 10.00 30.00",
        "S STS 50.00 75.00",
        "mean Clustering  15.00 -",
        "mean STS  50.00 75.00",
        "mean over tasks  26.67 -",
        "mean over types  32.50 -",
    ]
    assert words(report_types(columns)) == [
        "model text tasks Clust STS mean tasks mean types",
        "a all 3 15.00 50.00 26.67 32.50",
        "b all 2 - 75.00 - -",
        "a native 1 20.00 - 20.00 20.00",
        "b native 0 - - - -",
        "a translated 1 - 50.00 50.00 50.00",
        "b translated 1 - 75.00 75.00 75.00",
    ]


def test_report_of_some_tasks(tmp_path, capsys):
    write_results(tmp_path / "a", S=0.5, C1=0.2, C2=0.1)
    write_results(tmp_path / "b", S=0.75, C2=0.3)
    columns = read_columns_of([tmp_path / "a", tmp_path / "b", E5_BASE], [])
    some = words(report_tasks(report.only_tasks(columns, ["C2", "S"])))
    assert [row for row in some if "mean" not in row] == [
        f"task type a b {E5_BASE}",
        "C2 Clustering 10.00 30.00 -",
        "S STS 50.00 75.00 -",
    ]
    assert some[-2:] == ["mean over tasks  30.00 52.50 -", "mean over types  30.00 52.50 -"]
    evaluate.main(["report", str(tmp_path / "a"), "--tasks", "Clustering"])
    assert "a      all         2  15.00       15.00       15.00\n" in capsys.readouterr().out


def test_folders_of_one_name_are_called_as_they_are_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, folder in enumerate(("old/run", "run", "other"), 1):
        write_results(tmp_path / folder, S=number / 10)
    for names in (["old/run", "run", "other"], ["run", "other", "old/run"]):
        head, scores, *_ = report_tasks(read_columns_of(names, []))
        assert head[2:] == names
        assert dict(zip(names, scores[2:], strict=True)) == {
            "old/run": "10.00", "run": "20.00", "other": "30.00"
        }  # fmt: skip


@pytest.mark.parametrize(
    "name, shown", [(None, "a"), (7, "7"), (["x", "y"], "['x', 'y']"), (" x\ny ", "x y")]
)
def test_the_name_that_mteb_s_file_gives_is_one_line(tmp_path, name, shown):
    write_results(tmp_path / "a", S=0.5)
    write_json(tmp_path / "a" / report.MODEL_META, {"name": name})
    assert list(read_columns_of([tmp_path / "a"], [])) == [shown]


def test_tables_as_text_and_markdown():
    cells = [["task", "a", "b"], ["C1", "20.00", "-"]]
    text = "task      a  b\n----  -----  -\nC1    20.00  -"
    markdown = "| task |     a | b |\n| ---- | ----: | : |\n| C1   | 20.00 | - |"
    assert (table(cells, "text", 1), table(cells, "markdown", 1)) == (text, markdown)


def test_the_docs_have_all_tasks_and_the_report_as_it_is_printed():
    root = report.PUBLISHED.parent
    tasks = re.split(r"[ ,|]+", (root / "docs/evaluation.md").read_text())
    for task in TASKS:
        assert task.name + r"\*" * task.translated in tasks, task.name
    readme = (root / "README.md").read_text()
    names = re.search("evaluate.py report --format markdown (clips.*)`", readme)[1].split()
    assert table(report_types(read_columns_of(names, [])), "markdown", 2) in readme


def test_published_scores():
    """Means that the benchmark's own page gives for the paper's models (tasks, types)."""
    published = json.loads(report.PUBLISHED.read_text())
    assert published["tasks"] == [task.name for task in TASKS] and len(published["models"]) == 128
    assert {len(model["scores"]) for model in published["models"].values()} == {40}
    expected = {
        "clips/e5-small-trm-nl": (0.533046, 0.602270),
        "clips/e5-base-trm-nl": (0.544533, 0.613754),
        "clips/e5-large-trm-nl": (0.564127, 0.631724),
        "intfloat/multilingual-e5-base": (0.523672, 0.597478),
    }
    for name, means in expected.items():
        summary = report.summarise(report.read_results(name, []))
        assert (summary["mean_tasks"], summary["mean_types"]) == pytest.approx(means, abs=1e-6)
    results = report.read_results("clips/e5-base-trm-nl", [])
    assert results["SICK-NL-STS"]["main_score"] == 0.737476
    assert [row[2] for row in report_types({"x": results})[1:]] == ["40", "28", "12"]


# --- comparing two --------------------------------------------------------------------------------


def worse(texts, kind):
    """Embeddings with noise of their own."""
    noise = np.random.default_rng(len(texts)).standard_normal((len(texts), cases.WIDTH))
    x = cases.embed(texts, kind) + np.float32(0.2) * noise.astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """evaluated(folder, *names): two runs of these tasks, in folder/a and folder/b."""
    import shutil

    root = tmp_path_factory.mktemp("evaluated")

    def evaluate_both(folder, *names):
        for name in names:
            if not (root / name).exists():
                (root / name).mkdir()
                cases.write_case(name, root / name)
                tasks = read_tasks(root / name / "tasks.json")
                a, b = {"model": "words"}, {"model": "noise", "dtype": "x"}
                list(evaluate.run(tasks, cases.embed, root / name / "a", a))
                list(evaluate.run(tasks, worse, root / name / "b", b, "e5"))
            for run in "ab":
                shutil.copytree(root / name / run, folder / run, dirs_exist_ok=True)
        return folder / "a", folder / "b"

    return evaluate_both


EVERY_TYPE = [
    "SIB200Classification", "VaccinChatNLClassification", "VABBMultiLabelClassification",
    "XLWICNLPairClassification", "VABBClusteringS2S", "SciFact-NL.v2",
    "WikipediaRerankingMultilingual",
    "STSBenchmarkMultilingualSTS",
]  # fmt: skip


def test_intervals_of_every_type(tmp_path, evaluated):
    a, b = evaluated(tmp_path, *EVERY_TYPE)
    rows, lines = compare(a, b, 30, notes := [])
    assert {row["task"] for row in rows} == set(EVERY_TYPE) and not notes
    for row in rows:
        assert row["difference"] == row["b"] - row["a"]
        if row["type"] == "Clustering":
            assert row["low"] is None
        else:
            assert row["low"] < row["high"], row
            assert row["low"] - 0.05 < row["difference"] < row["high"] + 0.05, row
    assert set(lines) == {
        "prefix: 'mteb' and 'e5'",
        "model: 'words' and 'noise'",
        "dtype: None and 'x'",
    }
    same, nothing = compare(a, a, 5, [])
    assert all(row["difference"] == 0 and {row["low"], row["high"]} <= {0, None} for row in same)
    assert nothing == []

    # A star where 0 is outside the interval
    cells = report.describe_comparison(rows, "a", "b")
    beyond = [row["low"] is not None and row["low"] * row["high"] > 0 for row in rows]
    assert {True, False} == set(beyond)
    assert [row[6] for row in cells[1:-2]] == ["*" if outside else "" for outside in beyond]
    assert [row[0] for row in cells[-2:]] == ["mean over tasks", "mean over types"]
    assert cells[1][5] == f"{100 * rows[0]['low']:+.2f} to {100 * rows[0]['high']:+.2f}"


def test_the_bootstrap_draws_both_alike(tmp_path, evaluated):
    """For a mean of values per query the draws are those of the differences."""
    a, b = evaluated(tmp_path, "SciFact-NL.v2")
    first, second = (
        np.load(run / "items" / "SciFact-NL.v2.npz")["test/ndcg_at_10"] for run in (a, b)
    )
    difference, generator = second - first, np.random.default_rng(42)
    count = len(difference)
    means = [difference[generator.integers(0, count, count)].mean() for _ in range(200)]
    (row,), _ = compare(a, b, 200, [])
    assert (row["low"], row["high"]) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=1e-12)
    assert row["difference"] == pytest.approx(difference.mean())


def test_no_interval_where_the_items_are_not_the_same(tmp_path, evaluated):
    names = ("SciFact-NL.v2", "STSBenchmarkMultilingualSTS", "XLWICNLPairClassification")
    a, b = evaluated(tmp_path, *names)
    path = b / "items" / "SciFact-NL.v2.npz"
    stored = dict(np.load(path))
    np.savez(path, **stored | {"test/query": stored["test/query"][::-1]})
    (b / "items" / "STSBenchmarkMultilingualSTS.npz").unlink()
    change_result(b, "XLWICNLPairClassification", main_score_name="cosine_ap")
    rows, _ = compare(a, b, 5, notes := [])
    assert [row["low"] for row in rows] == [None, None, None] and not notes


@pytest.mark.filterwarnings("ignore:.*constant")
def test_no_interval_where_a_draw_has_no_score(tmp_path):
    """Of three pairs a draw may be one pair three times, which has no correlation."""
    tasks = read_tasks(write_tasks(tmp_path, sts_entry(), sts=STS_ROWS))
    for out, encode in (("a", cases.embed), ("b", worse)):
        list(evaluate.run(tasks, encode, tmp_path / out, {}))
    (row,), _ = compare(tmp_path / "a", tmp_path / "b", 99, [])
    assert (row["low"], row["high"]) == (None, None)


def change_result(run, name, **changes):
    result = json.loads((run / f"{name}.json").read_text()) | changes
    write_json(run / f"{name}.json", result)


def test_comparison_with_published_scores(tmp_path, evaluated):
    a, _ = evaluated(tmp_path, "VABBClusteringS2S")
    rows, lines = compare(a, "clips/e5-base-trm-nl", 5, [])
    found = [(row["task"], row["b"], row["low"]) for row in rows]
    assert found == [("VABBClusteringS2S", 0.353201, None)]
    assert lines == [
        "clips/e5-base-trm-nl, revision 6bd5722f, published: settings not recorded; "
        "mteb gives E5 its prefixes as --prefix mteb does"
    ]


def write_mteb_results(folder, *changes):
    """Result files as mteb 2.26 writes them: rounded scores of each split and language."""

    def subset(main_score, name):
        return {"pearson": 0.5, "main_score": main_score, "hf_subset": name, "languages": ["x"]}

    name = "STSBenchmarkMultilingualSTS"
    content = {
        "dataset_revision": "29afa256",
        "task_name": name,
        "mteb_version": "2.26.24",
        "scores": {
            "dev": [subset(0.9, "fr"), subset(0.25, "nl")],
            "test": [subset(0.75, "nl")],
            "train": [subset(0.8, "nl")],
        },
        "evaluation_time": 1.5,
        "kg_co2_emissions": None,
    }
    write_json(folder / f"{name}.json", content)
    for number, change in enumerate(changes):
        write_json(folder / f"{number}.json", content | change)
    write_json(folder / "model_meta.json", {"name": "clips/e5", "revision": "abc"})


def test_results_of_mteb_are_read(tmp_path, capsys, evaluated):
    name, of_mteb = "STSBenchmarkMultilingualSTS", tmp_path / "results" / "clips__e5" / "abc"
    others = [{"task_name": "STS12"}, {"scores": {"test": []}}]
    write_mteb_results(of_mteb, *others)
    (short,) = columns = read_columns_of([of_mteb], notes := [])
    result = columns[short][name]
    assert short == "clips/e5" and result["task_type"] == "STS" and result["translated"]
    assert result["main_score"] == 0.5, "of the Dutch part of the splits that count"
    assert "0.json: task 'STS12' is not in MTEB-NL" in notes[0]
    assert "1.json: no field ('dev', 'nl')" in notes[1] and len(notes) == 2

    a, _ = evaluated(tmp_path, name)
    (row,), lines = compare(a, of_mteb, 5, [])
    assert (row["b"], row["low"]) == (0.5, None)
    assert lines == [
        "clips/e5, mteb 2.26.24: settings not recorded; "
        "mteb gives E5 its prefixes as --prefix mteb does",
        f"data set revision of {name}: 'local' and '29afa256'",
    ]
    (of_mteb / "model_meta.json").unlink()
    evaluate.main(["report", str(of_mteb)])
    assert "abc    all" in capsys.readouterr().out


def test_settings_that_differ_are_listed(tmp_path, evaluated):
    a, b = evaluated(tmp_path, "VABBClusteringS2S")
    warning = "scikit-learn draws other batches from 1.9 on: "
    warning += "clustering scores of the two cannot be compared"
    settings = json.loads((b / "VABBClusteringS2S.json").read_text())["settings"]
    settings |= {"task": "f" * 64, "weights": "e" * 64}
    settings["versions"]["sklearn"] = "1.9.1"
    change_result(b, "VABBClusteringS2S", settings=settings)
    _, lines = compare(a, b, 5, [])
    assert f"weights: None and '{'e' * 12}'" in lines and warning in lines
    data = [line for line in lines if line.startswith("data or protocol of VABBClusteringS2S: '")]
    assert len(data) == 1 and data[0].endswith(f"' and '{'f' * 12}'")
    for version in ("dev", None, [1, 9]):  # of other tools: shown as they are
        settings["versions"]["sklearn"] = version
        change_result(b, "VABBClusteringS2S", settings=settings)
        _, lines = compare(a, b, 5, [])
        assert any(re.fullmatch(f"sklearn: '.*' and {re.escape(repr(version))}", x) for x in lines)
        assert warning not in lines


OTHER_RESULTS = [  # fields of a result file changed (None: taken out), what the note says
    ({"task_name": None}, "task_name is 'None'"),
    ({"task_name": "../../other"}, "task_name is '../../other'"),
    ({"task_type": "BitextMining"}, "task_type is 'BitextMining'"),
    ({"main_score": "0.5"}, "main_score is '0.5'"),
    ({"main_score": float("nan")}, "main_score is 'nan'"),
    ({"scores": [1]}, "scores is '.1.'"),
    ({"settings": {"versions": "dev"}}, "settings is .*"),
    (
        {"task_name": "STSBenchmarkMultilingualSTS"},
        "task_name is 'STS.*', and so is that of another file",
    ),
]


@pytest.mark.parametrize("changes, message", OTHER_RESULTS)
def test_files_that_are_no_results_are_skipped_and_named(tmp_path, evaluated, changes, message):
    name = "STSBenchmarkMultilingualSTS"
    _, b = evaluated(tmp_path, name)
    result = json.loads((b / f"{name}.json").read_text()) | {"task_name": "Other"} | changes
    result = {field: value for field, value in result.items() if value is not None}
    (b / "Zother.json").write_text(json.dumps(result))
    assert list(report.read_results(b, notes := [])) == [name]
    assert re.fullmatch(f"skipped: .*b/Zother.json: .*{message}", *notes)
    (b / f"{name}.json").unlink()
    if "another file" not in message:
        with pytest.raises(InputError, match=f"b/Zother.json: .*{message}"):
            report.read_results(b, [])


OTHER_ITEMS = [  # task, what is done to an array of it (None: taken out), what the note says
    ("STSBenchmarkMultilingualSTS", "dev/cosine", lambda x: x[:-1], "cannot be read"),
    ("STSBenchmarkMultilingualSTS", "dev/cosine", lambda x: -x, "of it is .*; the result file say"),
    ("STSBenchmarkMultilingualSTS", "test/cosine", lambda x: x * np.nan, "spearman of it is nan"),
    ("SciFact-NL.v2", "test/ndcg_at_10", None, "no field 'ndcg_at_10'"),
    ("VaccinChatNLClassification", "test/predicted", lambda x: x[:, 0], "cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize("task, name, change, message", OTHER_ITEMS)
def test_items_that_are_not_ours_cost_their_interval_alone(
    tmp_path, evaluated, task, name, change, message
):
    a, b = evaluated(tmp_path, task)
    path = b / "items" / f"{task}.npz"
    stored = dict(np.load(path))
    changed = stored.pop(name)
    np.savez(path, **stored | ({name: change(changed)} if change else {}))
    for words in (message, "cannot be read .BadZipFile"):
        (row,), _ = compare(a, b, 5, notes := [])
        assert row["low"] is None and row["difference"] == row["b"] - row["a"]
        assert re.match(f"no interval for {task}: .*b/items/{task}.npz: .*{words}", notes[0])
        path.write_bytes(b"PK")


# --- a page ---------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The text of a page's cells, the styles of its bars, its tags and attributes."""

    def __init__(self, path):
        super().__init__()
        self.rows, self.tags, self.styles, self.paths = [], set(), [], []
        self.content = path.read_text(encoding="utf-8")
        self.feed(self.content)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("i", "b"):
            self.styles.append((tag, dict(attributes)["style"], len(self.rows) - 1))
        if tag == "path":
            self.paths.append(dict(attributes)["d"])

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()

    def handle_endtag(self, tag):
        if tag == "table":
            self.rows.append([])

    def bars(self, tag: str) -> list[tuple[list[str], float, float]]:
        """(cells of its row, left, width) of each bar (i) or interval (b)."""
        numbers = r"left:([\d.]+)%;width:([\d.]+)%"
        places = [(row, re.match(numbers, style)) for t, style, row in self.styles if t == tag]
        return [(self.rows[row], float(x[1]), float(x[2])) for row, x in places]


@pytest.fixture
def page_of(tmp_path, capsys):
    """page_of(*words): the page that `report` writes."""

    def make(*words) -> Page:
        command = ["report", *map(str, words), "--html", str(tmp_path / "page.html")]
        evaluate.main([*command, "--overwrite"])
        return Page(tmp_path / "page.html")

    return make


def test_bars_are_as_long_as_the_numbers_next_to_them_say(tmp_path, page_of):
    write_results(tmp_path / "a", S=0.5, C1=0.2, C2=0.1)
    write_results(tmp_path / "b", S=-0.75, C2=0.3)
    page = page_of(tmp_path / "a", tmp_path / "b")
    found = {}
    for (model, _, number, *_), left, width in page.bars("i"):
        assert left == 0 and width == pytest.approx(max(0, float(number)), abs=0.01)
        found.setdefault(model, []).append(number)
    # Types and means, native and translated, tasks
    assert found["a"] == "15.00 50.00 26.67 32.50 20.00 50.00 20.00 50.00 20.00 10.00 50.00".split()
    assert found["b"] == "-75.00 -75.00 -75.00 30.00 -75.00".split()
    assert not page.bars("b")


def test_a_page_needs_nothing_else_and_escapes_what_files_say(tmp_path, page_of):
    name = 'a<script>&"'
    write_results(tmp_path / name, S=0.5)
    (tmp_path / "run").mkdir()
    lines = [{"step": 1, "source": "<b>x</b>", "loss": 1.5, "accuracy": 0.5}]
    write_jsonl(tmp_path / "run" / "log.jsonl", lines)
    write_json(tmp_path / "run" / "<i>.jsonl.json", {"report": MINED | {"s(<u>)": MINED["s(q,p)"]}})
    page = page_of(tmp_path / name, "--runs", tmp_path / "run")
    assert not page.tags & {"script", "u", "link", "img", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import|src=", page.content)
    assert sum(row[:1] == [name] for row in page.rows) >= 3
    assert "&lt;b&gt;x&lt;/b&gt;</span>" in page.content and "<i>.jsonl" not in page.content


def test_intervals_of_a_page_are_of_the_task_s_items(tmp_path, page_of, evaluated):
    a, b = evaluated(tmp_path, "SciFact-NL.v2", "VABBClusteringS2S")
    page, generator = page_of(a, "--resamples", 150), np.random.default_rng(42)
    values = 100 * np.load(a / "items" / "SciFact-NL.v2.npz")["test/ndcg_at_10"]
    draws = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(150)]
    low, high = np.percentile(draws, [2.5, 97.5])
    (((*_, text), left, width),) = page.bars("b")
    assert text == f"{low:.2f} to {high:.2f}"
    assert (left, left + width) == pytest.approx((low, high), abs=0.02)


def test_items_that_are_not_ours_cost_a_page_their_interval_alone(
    tmp_path, page_of, evaluated, capsys
):
    a, _ = evaluated(tmp_path, "SciFact-NL.v2")
    (a / "items" / "SciFact-NL.v2.npz").write_bytes(b"PK")
    page = page_of(a)
    assert not page.bars("b") and page.bars("i")
    assert capsys.readouterr().err.startswith("no interval for SciFact-NL.v2: ")


def test_size_and_score_of_published_models_on_the_tasks_that_all_have(tmp_path, page_of):
    types = {"SICK-NL-STS": "STS", "SIB200ClusteringS2S": "Clustering", "Own": "STS"}
    for name, type in types.items():
        result = {"task_name": name, "task_type": type, "main_score": 0.5, "scores": {}}
        write_json(tmp_path / "a" / f"{name}.json", result | {"settings": {"weights": "f" * 64}})
    for revision, size in (("0" * 40, 1), ("f" * 40, 29116416)):
        meta = tmp_path / "a/results/local__a" / revision / "model_meta.json"
        write_json(meta, {"name": "local/a", "n_parameters": size})
    page = page_of(tmp_path / "a", "intfloat/multilingual-e5-base")
    rows = {row[0]: row[1:] for row in page.rows if len(row) == 3}
    assert rows["a"] == ["29.1", "50.00"]
    published = json.loads(report.PUBLISHED.read_text())
    places = [published["tasks"].index(name) for name in list(types)[:2]]
    sizes = {"clips/e5-small-trm-nl": "40.8", "intfloat/multilingual-e5-base": "278.0"}
    for name, size in sizes.items():
        scores = [published["models"][name]["scores"][place] for place in places]
        assert rows[name] == [size, f"{50 * sum(scores):.2f}"]
    assert len([row for row in rows if "/" in row]) == 128
    assert [path.count("M") for path in page.paths] == [127, 1, 1]


def test_a_model_may_be_called_published(tmp_path, page_of):
    result = {"task_name": "SICK-NL-STS", "task_type": "STS", "main_score": 0.5, "scores": {}}
    write_json(tmp_path / "published" / "SICK-NL-STS.json", result | {"settings": {}})
    meta = {"name": "published", "n_parameters": 1000}
    write_json(tmp_path / "published" / report.MODEL_META, meta)
    page = page_of(tmp_path / "published")
    assert [path.count("M") for path in page.paths] == [128, 1]


@pytest.mark.parametrize("content", [None, {}, {"summary.json": "{}"}])
def test_folders_of_runs_have_something_to_draw(tmp_path, page_of, content):
    write_results(tmp_path / "a", S=0.5)
    for name, text in (content or {}).items():
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    with pytest.raises(InputError, match="--runs .*run: no log.jsonl of training, no report"):
        page_of(tmp_path / "a", "--runs", tmp_path / "run")
    assert not (tmp_path / "page.html").exists()
    with pytest.raises(InputError, match="--runs is for the page: add --html FILE"):
        evaluate.main(["report", str(tmp_path / "a"), "--runs", str(tmp_path)])


def test_curves_of_training(tmp_path, page_of):
    """130 steps in windows of 3; in the first one the source b has no batch."""
    write_results(tmp_path / "a", S=0.5)
    lines = [
        {"step": n, "source": "b" if n in (5, 6) else "a", "loss": n, "accuracy": n / 130}
        for n in range(1, 131)
    ]
    write_jsonl(tmp_path / "run" / "log.jsonl", lines)
    page = page_of(tmp_path / "a", "--runs", tmp_path / "run")
    rows = [row for row in page.rows if len(row) == 3 and row[0].isdigit()]
    assert len(rows) == 2 * 44 and rows[:3] == [
        ["3", "2.000", ""],
        ["6", "4.000", "5.500"],
        ["9", "8.000", ""],
    ]
    assert rows[43] == ["130", "130.000", ""] and rows[44] == ["3", "0.015", ""]
    a, b, *_ = page.paths
    assert (a.count("L"), b.count("L")) == (43, 0) and b == "M4.00 96.33h0"


MINED = {
    "queries": 2,
    "candidates": 40,
    "became of them": {"taken": 10, "positive": 30},
    "s(q,p)": {"5%": 0.5, "25%": 0.6, "50%": 0.7, "75%": 0.8, "95%": 1.0},
    "s(q,n) taken": None,
}


def test_reports_of_mining(tmp_path, page_of):
    write_results(tmp_path / "a", S=0.5)
    write_json(tmp_path / "run" / "x.jsonl.gz.json", {"report": MINED})
    write_json(tmp_path / "run" / "y.jsonl.gz.json", {"other": 1})
    page = page_of(tmp_path / "a", "--runs", tmp_path / "run")
    found = {cells[0]: (cells[2:], left, width) for cells, left, width in page.bars("i")}
    assert found["taken"] == (["10", "25.0%"], 0, 25)
    assert found["s(q,p)"] == (["0.700", "0.500 to 1.000"], 33.33, 33.33), "on a scale from 0.4"
    assert page.bars("b")[-1][1:] == (16.67, 83.33)
    write_json(tmp_path / "run" / "y.jsonl.gz.json", {"report": {"became of them": {}}})
    with pytest.raises(InputError, match="y.jsonl.gz.json: no field 'candidates'"):
        page_of(tmp_path / "a", "--runs", tmp_path / "run")


def test_marks_of_an_axis_are_round_and_hold_all_values():
    assert report.even_marks([0, 40]) == [0, 10, 20, 30, 40]
    for values in ([0.52], [0.1, 0.13], [-3, 4.2], [33.1, 89.4], [0, 0]):
        marks = report.even_marks(values)
        assert marks[0] <= min(values) and max(values) <= marks[-1] and 2 <= len(marks) <= 7
