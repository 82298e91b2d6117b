"""report.py: results read, tables, comparisons and a page.

Tables are judged by hand, the bootstrap by its definition, the published scores by the benchmark's
own page.

    python -m pytest tests/test_report.py
"""

import json
import re
import shutil
from html import unescape

import numpy as np
import pytest
from parity import cases
from parity.cases import STS_ROWS, sts_entry, write_tasks

import evaluate
import report
from files import InputError, write_json, write_jsonl
from mteb_nl import NAMED, published, read_tasks
from report import compare, read_columns_of, report_tasks, report_types, table

# --- results and tables ---------------------------------------------------------------------------


def write_result(folder, task, type, score, **fields):
    result = {"task_name": task, "task_type": type, "main_score": score, "scores": {}}
    write_json(folder / f"{task}.json", result | {"settings": {}} | fields)


def write_results(folder, **scores):
    """Results of S (translated), C1 (native) and C2."""
    for task, score in scores.items():
        type = "STS" if task == "S" else "Clustering"
        translated = {"S": True, "C1": False}.get(task)
        write_result(folder, task, type, score, translated=translated)


def words(cells):
    return [" ".join(row) for row in cells]


def test_report_by_hand(tmp_path):
    write_results(tmp_path / "a", S=0.5, C1=0.2, C2=0.1)
    write_results(tmp_path / "b", S=0.75, C2=0.3)
    write_json(tmp_path / "a" / "summary.json", {"anything": 1})
    columns = read_columns_of([tmp_path / "a", tmp_path / "b"])
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
    # Some tasks alone, by name and by type, and means over these
    for wanted, means in ((["C2", "S"], "30.00 52.50"), (["Clustering"], "15.00 -")):
        *_, last = words(report_tasks(report.only_tasks(columns, wanted)))
        assert last == f"mean over types  {means}"


NAMES = [  # folders, the name that mteb's file gives to the first, columns
    (["old/run", "run", "other"], None, ["old/run", "run", "other"]),
    (["run", "other", "old/run"], None, ["run", "other", "old/run"]),
    (["old/run"], None, ["run"]),
    (["run"], 7, ["7"]),
    (["run"], ["x", "y"], ["['x', 'y']"]),
    (["run"], " x\ny ", ["x y"]),
]


@pytest.mark.parametrize("names, given, expected", NAMES)
def test_names_of_columns(tmp_path, monkeypatch, names, given, expected):
    """Folders of one name are called as they are given, and keep their own scores."""
    monkeypatch.chdir(tmp_path)
    scores = {"old/run": 0.1, "run": 0.2, "other": 0.3}
    for name in names:
        write_results(tmp_path / name, S=scores[name])
    write_json(tmp_path / names[0] / report.MODEL_META, {"name": given})
    columns = read_columns_of(names)
    assert list(columns) == expected
    assert [x["S"]["main_score"] for x in columns.values()] == [scores[name] for name in names]


def test_tables_as_text_and_markdown():
    cells = [["task", "a", "b"], ["C1", "20.00", "-"]]
    text = "task      a  b\n----  -----  -\nC1    20.00  -"
    markdown = "| task |     a | b |\n| ---- | ----: | : |\n| C1   | 20.00 | - |"
    assert (table(cells, "text", 1), table(cells, "markdown", 1)) == (text, markdown)


def test_the_docs_have_all_tasks_and_the_report_as_it_is_printed(request):
    tasks = re.split(r"[ ,|]+", (request.config.rootpath / "docs/evaluation.md").read_text())
    for task in NAMED.values():
        assert task.name + r"\*" * task.translated in tasks, task.name
    readme = (request.config.rootpath / "README.md").read_text()
    names = re.search("evaluate.py report --format markdown (clips.*)`", readme)[1].split()
    assert table(report_types(read_columns_of(names)), "markdown", 2) in readme


def test_published_scores():
    """Means that the benchmark's own page gives for the paper's models (tasks, types)."""
    assert published()["tasks"] == list(NAMED) and len(published()["models"]) == 128
    assert {len(model["scores"]) for model in published()["models"].values()} == {40}
    expected = {
        "clips/e5-small-trm-nl": (0.533046, 0.602270),
        "clips/e5-base-trm-nl": (0.544533, 0.613754),
        "clips/e5-large-trm-nl": (0.564127, 0.631724),
        "intfloat/multilingual-e5-base": (0.523672, 0.597478),
    }
    columns = read_columns_of(list(expected))
    for name, means in expected.items():
        summary = report.summarise(columns[name])
        assert (summary["mean_tasks"], summary["mean_types"]) == pytest.approx(means, abs=1e-6)
    assert columns["clips/e5-base-trm-nl"]["SICK-NL-STS"]["main_score"] == 0.737476
    assert [row[2] for row in report_types(columns)[1::4]] == ["40", "28", "12"]


def of_mteb(main_score, name):
    return {"pearson": 0.5, "main_score": main_score, "hf_subset": name, "languages": ["x"]}


MTEB = {  # a result file as mteb 2.26 writes it: rounded scores of each split and language
    "dataset_revision": "29afa256",
    "task_name": "STSBenchmarkMultilingualSTS",
    "mteb_version": "2.26.24",
    "scores": {
        "dev": [of_mteb(0.9, "fr"), of_mteb(0.25, "nl")],
        "test": [of_mteb(0.75, "nl")],
        "train": [of_mteb(0.8, "nl")],
    },
    "evaluation_time": 1.5,
    "kg_co2_emissions": None,
}


def test_results_of_mteb_are_read(tmp_path, capsys, evaluated):
    name, folder = MTEB["task_name"], tmp_path / "results" / "clips__e5" / "abc"
    others = {"0": {"task_name": "STS12"}, "1": {"scores": {"test": []}}}
    for file, change in ({name: {}} | others).items():
        write_json(folder / f"{file}.json", MTEB | change)
    write_json(folder / "model_meta.json", {"name": "clips/e5", "revision": "abc"})
    ((short, results),) = read_columns_of([folder]).items()
    assert short == "clips/e5" and results[name]["translated"]
    assert results[name]["main_score"] == 0.5, "of the Dutch part of the splits that count"
    notes = capsys.readouterr().err.splitlines()
    assert "0.json: task 'STS12' is not in MTEB-NL" in notes[0]
    assert "1.json: no field ('dev', 'nl')" in notes[1] and len(notes) == 2

    # Its versions may differ from task to task
    other = MTEB | {"task_name": "SICK-NL-STS", "mteb_version": "1.0"}
    scores = {split: [of_mteb(0.5, "default")] for split in ("train", "validation", "test")}
    write_json(folder / "2.json", other | {"scores": scores})
    assert "SICK-NL-STS" in report.read_results(folder)
    capsys.readouterr()

    a, _ = evaluated(tmp_path, name)
    rows, lines = compare(a, folder, 5)
    assert rows[0][3:] == (0.5, None, None)
    assert lines == [
        "clips/e5, mteb 2.26.24: settings not recorded; "
        "mteb gives E5 its prefixes as --prefix mteb does",
        f"data set revision of {name}: 'local' and '29afa256'",
    ]


OTHER_FILES = [  # fields of a result file changed (None: taken out), what the note says
    ({"task_name": None}, "task_name is 'None'"),
    ({"task_name": "../../other"}, "task_name is '../../other'"),
    ({"task_type": "BitextMining"}, "task_type is 'BitextMining'"),
    ({"main_score": "0.5"}, "main_score is '0.5'"),
    ({"main_score": float("nan")}, "main_score is 'nan'"),
    ({"scores": [1]}, "scores is '.1.'"),
    ({"settings": {"versions": "dev"}}, "settings is .*"),
    ({"task_name": "S"}, "task_name is 'S', and so is that of another file"),
]


@pytest.mark.parametrize("changes, message", OTHER_FILES)
def test_files_that_are_no_results_are_skipped_and_named(tmp_path, capsys, changes, message):
    write_results(tmp_path, S=0.5)
    result = json.loads((tmp_path / "S.json").read_text()) | {"task_name": "Other"} | changes
    result = {field: value for field, value in result.items() if value is not None}
    (tmp_path / "T.json").write_text(json.dumps(result))
    assert list(report.read_results(tmp_path)) == ["S"]
    assert re.fullmatch(f"skipped: .*/T.json: .*{message}\n", capsys.readouterr().err)


def test_results_of_two_runs_are_not_averaged(tmp_path):
    """Of one run, whatever the names of the model and the versions."""
    for task, settings, alike in [
        ("S", {"prefix": "e5", "weights": "a", "model": "m", "versions": {"numpy": "2"}}, True),
        ("C1", {"prefix": "e5", "weights": "a", "model": "./m", "task": "data"}, True),
        ("C2", {"prefix": "e5", "weights": "b"}, False),
    ]:
        write_result(tmp_path, task, "STS", 0.5, settings=settings)
        if alike:
            assert task in report.read_results(tmp_path)
    with pytest.raises(InputError, match="C1 and C2 are of two runs .weights is 'a', not 'b'"):
        report.read_results(tmp_path)


# --- comparing two --------------------------------------------------------------------------------


def worse(texts, kind):
    """Embeddings with noise of their own."""
    noise = np.random.default_rng(len(texts)).standard_normal((len(texts), cases.WIDTH))
    x = cases.embed(texts, kind) + np.float32(0.2) * noise.astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """evaluated(folder, *names): two runs of these tasks, in folder/a and folder/b."""
    root = tmp_path_factory.mktemp("evaluated")

    def evaluate_both(folder, *names):
        for name in names:
            if not (root / name).exists():
                (root / name).mkdir()
                cases.write_case(name, root / name)
                tasks = read_tasks(root / name / "tasks.json")
                a, b = {"model": "words"}, {"model": "noise", "dtype": "x", "prefix": "e5"}
                list(evaluate.run(tasks, cases.embed, root / name / "a", a))
                list(evaluate.run(tasks, worse, root / name / "b", b))
            for run in "ab":
                shutil.copytree(root / name / run, folder / run, dirs_exist_ok=True)
        return folder / "a", folder / "b"

    return evaluate_both


EVERY_TYPE = [
    "SIB200Classification", "VaccinChatNLClassification", "VABBMultiLabelClassification",
    "XLWICNLPairClassification", "VABBClusteringS2S", "SciFact-NL.v2",
    "WikipediaRerankingMultilingual", "STSBenchmarkMultilingualSTS",
]  # fmt: skip


def test_intervals_of_every_type(tmp_path, capsys, evaluated):
    a, b = evaluated(tmp_path, *EVERY_TYPE)
    rows, lines = compare(a, b, 30)
    assert [row[0] for row in rows] == [*sorted(EVERY_TYPE), "mean over tasks", "mean over types"]
    assert not capsys.readouterr().err
    for name, type, x, y, low, high in rows:
        if type in ("Clustering", ""):
            assert low is None
        else:
            assert low < high and low - 0.05 < y - x < high + 0.05, name
    assert set(lines) == {
        "prefix: 'mteb' and 'e5'",
        "model: 'words' and 'noise'",
        "dtype: None and 'x'",
    }
    for _, _, x, y, *ends in compare(a, a, 5)[0]:
        assert x == y and set(ends) <= {0, None}
    assert compare(a, a, 5)[1] == []

    # A star where 0 is outside the interval
    cells = report.describe_comparison(rows, "a", "b")[1:]
    beyond = [low is not None and low * high > 0 for *_, low, high in rows]
    assert {True, False} == set(beyond)
    assert [row[6] for row in cells] == ["*" if outside else "" for outside in beyond]
    _, _, x, y, low, high = rows[0]
    assert cells[0][4:6] == [f"{100 * (y - x):+.2f}", f"{100 * low:+.2f} to {100 * high:+.2f}"]


def bootstrap(values, count: int) -> np.ndarray:
    """By its definition: the interval of the mean of values drawn with replacement."""
    generator = np.random.default_rng(42)
    draws = [values[generator.integers(0, len(values), len(values))] for _ in range(count)]
    return np.percentile([draw.mean() for draw in draws], [2.5, 97.5])


def test_the_bootstrap_draws_both_alike(tmp_path, evaluated, page_of):
    """For a mean of values per query the draws are those of the differences."""
    a, b = evaluated(tmp_path, "SciFact-NL.v2", "VABBClusteringS2S")
    first, second = (
        np.load(run / "items" / "SciFact-NL.v2.npz")["test/ndcg_at_10"] for run in (a, b)
    )
    (_, _, x, y, *ends), *_ = compare(a, b, 200)[0]
    assert ends == pytest.approx(bootstrap(second - first, 200), abs=1e-12)
    assert y - x == pytest.approx((second - first).mean())

    # On a page a score has its own
    ((cells, left, width),) = bars_of(page_of(a, "--resamples", 150), "b")
    low, high = 100 * bootstrap(first, 150)
    assert cells[-1] == f"{low:.2f} to {high:.2f}"
    assert (left, left + width) == pytest.approx((low, high), abs=0.02)


def change_result(run, name, **changes):
    result = json.loads((run / f"{name}.json").read_text()) | changes
    write_json(run / f"{name}.json", result)


def test_no_interval_where_the_items_are_not_the_same(tmp_path, capsys, evaluated):
    names = ("SciFact-NL.v2", "STSBenchmarkMultilingualSTS", "XLWICNLPairClassification")
    a, b = evaluated(tmp_path, *names)
    path = b / "items" / "SciFact-NL.v2.npz"
    stored = dict(np.load(path))
    np.savez(path, **stored | {"test/query": stored["test/query"][::-1]})
    (b / "items" / "STSBenchmarkMultilingualSTS.npz").unlink()
    change_result(b, "XLWICNLPairClassification", main_score_name="cosine_ap")
    rows, _ = compare(a, b, 5)
    assert [row[4] for row in rows] == [None] * 5 and "no interval" not in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*constant")
def test_no_interval_where_a_draw_has_no_score(tmp_path):
    """Of three pairs a draw may be one pair three times, which has no correlation."""
    tasks = read_tasks(write_tasks(tmp_path, sts_entry(), sts=STS_ROWS))
    for out, encode in (("a", cases.embed), ("b", worse)):
        list(evaluate.run(tasks, encode, tmp_path / out, {}))
    assert compare(tmp_path / "a", tmp_path / "b", 99)[0][0][4:] == (None, None)


def test_comparison_with_published_scores(tmp_path, evaluated):
    a, _ = evaluated(tmp_path, "VABBClusteringS2S")
    rows, lines = compare(a, "clips/e5-base-trm-nl", 5)
    assert rows[0][0] == "VABBClusteringS2S" and rows[0][3:] == (0.353201, None, None)
    assert lines == [
        "clips/e5-base-trm-nl, revision 6bd5722f, published: settings not recorded; "
        "mteb gives E5 its prefixes as --prefix mteb does"
    ]


def test_settings_that_differ_are_listed(tmp_path, evaluated):
    a, b = evaluated(tmp_path, "VABBClusteringS2S")
    settings = json.loads((b / "VABBClusteringS2S.json").read_text())["settings"]
    settings |= {"task": "f" * 64, "weights": "e" * 64}
    settings["versions"]["sklearn"] = "1.9.1"
    change_result(b, "VABBClusteringS2S", settings=settings)
    _, lines = compare(a, b, 5)
    assert f"weights: None and '{'e' * 12}'" in lines
    for pattern in (
        f"data or protocol of VABBClusteringS2S: '[0-9a-f]{{12}}' and '{'f' * 12}'",
        "sklearn: '.*' and '1.9.1'; clustering scores .* cannot be compared",
    ):
        assert len([line for line in lines if re.fullmatch(pattern, line)]) == 1


OTHER_ITEMS = [  # task, what is done to an array of it (None: taken out), what the note says
    ("STSBenchmarkMultilingualSTS", "dev/cosine", lambda x: x[:-1], "cannot be read"),
    ("STSBenchmarkMultilingualSTS", "dev/cosine", lambda x: -x, "of it is .*; the result file say"),
    ("STSBenchmarkMultilingualSTS", "test/cosine", lambda x: x * np.nan, "spearman of it is nan"),
    ("SciFact-NL.v2", "test/ndcg_at_10", None, "no field 'ndcg_at_10'"),
    ("VaccinChatNLClassification", "test/predicted", lambda x: x[:, 0], "cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize("task, name, change, message", OTHER_ITEMS)
def test_items_that_are_not_ours_cost_their_interval_alone(
    tmp_path, capsys, evaluated, page_of, task, name, change, message
):
    a, b = evaluated(tmp_path, task)
    path = b / "items" / f"{task}.npz"
    stored = dict(np.load(path))
    changed = stored.pop(name)
    np.savez(path, **stored | ({name: change(changed)} if change else {}))
    for words in (message, "cannot be read .BadZipFile"):
        row, *_ = compare(a, b, 5)[0]
        assert row[2] != row[3] and row[4:] == (None, None)
        note = f"no interval for {task}: .*b/items/{task}.npz: .*{words}"
        assert re.match(note, capsys.readouterr().err)
        path.write_bytes(b"PK")
    page = page_of(b)
    assert bars_of(page, "i") and not bars_of(page, "b")


# --- a page ---------------------------------------------------------------------------------------


def rows_of(page: str) -> list[tuple[list[str], str]]:
    """(text of its cells, HTML) of each row of a page's tables."""
    rows = []
    for row in page.split("<tr>")[1:]:
        row = row.partition("</table>")[0]
        cells = re.split("<t[dh][^>]*>", row)[1:]
        rows.append(([unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in cells], row))
    return rows


def bars_of(page: str, tag: str) -> list[tuple[list[str], float, float]]:
    """(cells of its row, left, width) of each bar (i) or interval (b)."""
    numbers = rf'<{tag} style="left:([\d.]+)%;width:([\d.]+)%'
    places = [(cells, re.search(numbers, row)) for cells, row in rows_of(page)]
    return [(cells, float(x[1]), float(x[2])) for cells, x in places if x]


def paths_of(page: str) -> list[str]:
    return re.findall('<path d="([^"]*)"', page)


@pytest.fixture
def page_of(tmp_path):
    """page_of(*words): the page that `report` writes."""

    def make(*words) -> str:
        file = tmp_path / "page.html"
        evaluate.main(["report", *map(str, words), "--html", str(file), "--overwrite"])
        return file.read_text(encoding="utf-8")

    return make


def test_bars_are_as_long_as_the_numbers_next_to_them_say(tmp_path, page_of):
    write_results(tmp_path / "a", S=0.5, C1=0.2, C2=0.1)
    write_results(tmp_path / "b", S=-0.75, C2=0.3)
    page, numbers = page_of(tmp_path / "a", tmp_path / "b"), {}
    for (model, _, number, *_), left, width in bars_of(page, "i"):
        assert left == 0 and width == pytest.approx(max(0, float(number)), abs=0.01)
        numbers.setdefault(model, []).append(number)
    # Types and means, native and translated, tasks
    assert " ".join(numbers["a"]) == (
        "15.00 50.00 26.67 32.50 20.00 50.00 20.00 50.00 20.00 10.00 50.00"
    )
    assert " ".join(numbers["b"]) == "-75.00 -75.00 -75.00 30.00 -75.00"
    assert not bars_of(page, "b")


MINED = {  # a report of mine.py
    "queries": 2,
    "candidates": 40,
    "became of them": {"taken": 10, "positive": 30},
    "s(q,p)": {"5%": 0.5, "25%": 0.6, "50%": 0.7, "75%": 0.8, "95%": 1.0},
    "s(q,n) taken": None,
}


def test_a_page_needs_nothing_else_and_escapes_what_files_say(tmp_path, page_of):
    name = 'a<script>&"'
    write_result(tmp_path / name, "SICK-NL-STS", "STS", 0.5)
    lines = [{"step": 1, "source": "<u>x</u>", "loss": 1.5, "accuracy": 0.5}]
    write_jsonl(tmp_path / "<b>" / "log.jsonl", lines)
    mined = MINED | {"s(<u>)": MINED["s(q,p)"]}
    write_json(tmp_path / "<b>" / "<i>.jsonl.json", {"report": mined})
    page = page_of(tmp_path / name, "--runs", tmp_path / "<b>")
    assert not set(re.findall(r"<\s*(\w+)", page)) & set("script u link img iframe object".split())
    assert not re.search(r"https?:|url\(|@import|src=", page)
    assert sum(cells[:1] == [name] for cells, _ in rows_of(page)) >= 3
    assert "&lt;u&gt;x&lt;/u&gt;</span>" in page and "&lt;b&gt;</h2>" in page
    assert "s(&lt;u&gt;)" in page and "&lt;i&gt;.jsonl.json</h2>" in page


def test_size_and_score_of_published_models_on_the_tasks_that_all_have(tmp_path, page_of):
    folder = tmp_path / "published"  # a model may be called so
    types = {"SICK-NL-STS": "STS", "SIB200ClusteringS2S": "Clustering", "Own": "STS"}
    for name, type in types.items():
        write_result(folder, name, type, 0.5, settings={"weights": "f" * 64})
    for revision, size in (("0" * 40, 1), ("f" * 40, 29116416)):
        write_json(folder / "results/x" / revision / "model_meta.json", {"n_parameters": size})
    page = page_of(folder, "intfloat/multilingual-e5-base")
    rows = {cells[0]: cells[1:] for cells, _ in rows_of(page) if len(cells) == 3}
    assert rows["published"] == ["29.1", "50.00"] and "over the 2 tasks that all have" in page
    sizes = {"clips/e5-small-trm-nl": "40.8", "intfloat/multilingual-e5-base": "278.0"}
    for name, size in sizes.items():
        scores = dict(zip(NAMED, published()["models"][name]["scores"], strict=True))
        mean = 50 * (scores["SICK-NL-STS"] + scores["SIB200ClusteringS2S"])
        assert rows[name] == [size, f"{mean:.2f}"]
    assert len([name for name in rows if "/" in name]) == 128
    paths = paths_of(page)
    assert [path.count("M") for path in paths] == [127, 1, 1]

    # Where the marks of the axes say
    x, y = map(float, re.fullmatch(r"M([\d.]+) ([\d.]+)h0", paths[1]).groups())
    lefts = {float(n): float(place) for place, n in re.findall(r'left:([^%]*)%">([^<]*) M<', page)}
    tops = {float(n): float(place) for place, n in re.findall(r'top:([^%]*)%">([^<]*)<', page)}
    assert x == pytest.approx(np.interp(np.log10(29.1), [1, 2], [lefts[10], lefts[100]]), abs=0.1)
    assert y == pytest.approx(np.interp(50, sorted(tops), [tops[n] for n in sorted(tops)]), abs=0.1)


def test_curves_of_training(tmp_path, page_of):
    """130 steps, two of them of the source a; those of b in 60 groups of 3 or 2. Sources by name,
    so that a colour is the same one in every run."""
    write_results(tmp_path / "a", S=0.5)
    lines = [
        {"step": n, "source": "a" if n in (5, 6) else "b", "loss": n, "accuracy": n / 130}
        for n in range(1, 131)
    ]
    write_jsonl(tmp_path / "run" / "log.jsonl", lines)
    page = page_of(tmp_path / "a", "--runs", tmp_path / "run")
    rows = [cells for cells, _ in rows_of(page) if len(cells) == 4 and cells[1].isdigit()]
    assert len(rows) == 60 + 2
    assert rows[:2] == [["a", "5", "5.000", "0.038"], ["a", "6", "6.000", "0.046"]]
    assert rows[2:4] == [["b", "2", "2.000", "0.015"], ["b", "6", "6.333", "0.049"]]
    a, b, *_ = paths_of(page)
    assert (b.count("L"), a) == (59, "M3.33 96.67L4.00 96.00h0") and "<p>130 steps; " in page


def test_reports_of_mining(tmp_path, page_of):
    write_results(tmp_path / "a", S=0.5)
    write_json(tmp_path / "run" / "x.jsonl.gz.json", {"report": MINED})
    write_json(tmp_path / "run" / "y.jsonl.gz.json", {"other": 1})
    page = page_of(tmp_path / "a", "--runs", tmp_path / "run")
    drawn = {cells[0]: (cells[2:], left, width) for cells, left, width in bars_of(page, "i")}
    assert drawn["taken"] == (["10", "25.0%"], 0, 25)
    assert drawn["s(q,p)"] == (["0.700", "0.500 to 1.000"], 33.33, 33.33), "on a scale from 0.4"
    assert bars_of(page, "b")[-1][1:] == (16.67, 83.33)


@pytest.mark.parametrize("values", [[0, 40], [0.52], [0.1, 0.13], [-3, 4.2], [33.1, 89.4], [0, 0]])
def test_marks_of_an_axis_are_round_and_hold_all_values(values):
    marks = report.even_marks(values)
    assert marks[0] <= min(values) and max(values) <= marks[-1] and 2 <= len(marks) <= 7
    assert f"{marks[1] - marks[0]:.0e}"[0] in "125"
    assert np.allclose(np.diff(marks), marks[1] - marks[0])


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES = [  # arguments, message
    ("report clips/e5-base-trm", "no such folder, and .* did you mean clips/e5-base-trm-nl"),
    ("report nergens", "nergens: no such folder, and no model with published scores; e.g. clips/"),
    ("report results --tasks S C3", "task 'C3' is in none of these results; expected one of S"),
    ("report run", "run: no result files; expected a folder that `run` wrote, or mteb"),
    ("report results --plot x.txt", "expected a name that ends in .png, .svg or .pdf"),
    ("report results --plot bars.svg", "bars.svg: exists already"),
    ("report results --html bars.svg", "bars.svg: exists already"),
    ("report results --runs run", "--runs is for the page: add --html FILE"),
    ("report results --html x --runs run", "--runs run: no log.jsonl of training, no report of mi"),
    ("report results --html x --runs weg", "--runs weg: no log.jsonl of training, no report of mi"),
    ("report results --html x --runs log", "log.jsonl: cannot be read .TypeError"),
    ("report results --html x --runs mined", "mined/y.jsonl.gz.json: no field 'candidates'"),
    ("compare results clips/e5-base-trm-nl", "results and clips/.* have no task in common"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES, ids=[words for words, _ in MISTAKES])
def test_mistakes_are_one_clear_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bars.svg").write_text("another picture")
    write_results(tmp_path / "results", S=0.5)
    write_json(tmp_path / "run" / "summary.json", {})
    write_json(tmp_path / "mined" / "y.jsonl.gz.json", {"report": {"became of them": {}}})
    line = {"step": 1, "source": "s", "loss": None, "accuracy": 1}
    write_jsonl(tmp_path / "log" / "log.jsonl", [line])
    with pytest.raises((InputError, FileNotFoundError), match=message):
        evaluate.main(arguments.split())
    assert not (tmp_path / "x").exists()
