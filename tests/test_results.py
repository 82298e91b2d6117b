"""results.py: tables and comparisons by hand, the bootstrap against its definition, the published scores.

python -m pytest tests/test_results.py
"""

import json
import re

import numpy as np
import pytest
from parity import cases

import evaluate
import results
from files import InputError, write_json
from mteb_nl import TASKS, read_tasks
from results import compare, read_columns_of, report_tasks, report_types, table


def write_results(folder, **scores):
    types, translated = {"S": "STS", "C1": "Clustering", "C2": "Clustering"}, {"S": True, "C1": False}
    for task, score in scores.items():
        result = {"task_name": task, "task_type": types[task], "main_score": score, "scores": {}, "settings": {}}
        result["translated"] = translated.get(task)
        write_json(folder / f"{task}.json", result)


def test_report_by_hand(tmp_path):
    write_results(tmp_path / "a", S=0.5, C1=0.2, C2=0.1)
    write_results(tmp_path / "b", S=0.75, C2=0.3)
    write_json(tmp_path / "a" / "summary.json", {"anything": 1})
    columns = read_columns_of([tmp_path / "a", tmp_path / "b"])
    assert table(report_tasks(columns), "csv", 2).splitlines() == [
        "task,type,a,b",
        "C1,Clustering,20.00,-",
        "C2,Clustering,10.00,30.00",
        "S,STS,50.00,75.00",
        "mean Clustering,,15.00,-",
        "mean STS,,50.00,75.00",
        "mean over tasks,,26.67,-",
        "mean over types,,32.50,-",
    ]
    assert table(report_types(columns), "csv", 2).splitlines() == [
        "model,text,tasks,Clust,STS,mean tasks,mean types",
        "a,all,3,15.00,50.00,26.67,32.50",
        "b,all,2,-,75.00,-,-",
        "a,native,1,20.00,-,20.00,20.00",
        "b,native,0,-,-,-,-",
        "a,translated,1,-,50.00,50.00,50.00",
        "b,translated,1,-,75.00,75.00,75.00",
    ]
    text, markdown = (table(report_tasks(columns), form, 2).splitlines() for form in ("text", "markdown"))
    assert text[0].split() == ["task", "type", "a", "b"] and text[2].split() == ["C1", "Clustering", "20.00", "-"] and len(text) == 9
    assert markdown[1].replace("-", "") == "|  |  | : | : |" and len({len(line) for line in markdown}) == 1
    with pytest.raises(FileNotFoundError, match="c: no such folder, and no model with published scores"):
        read_columns_of([tmp_path / "c"])
    (tmp_path / "c").mkdir()
    with pytest.raises(FileNotFoundError, match="c: no result files"):
        read_columns_of([tmp_path / "c"])
    write_json(tmp_path / "b" / "x.json", {"task_name": "x"})
    with pytest.raises(InputError, match="x.json: not a result file of evaluate.py: task_type is 'None'"):
        read_columns_of([tmp_path / "b"])


def test_csv_cells_with_commas_are_quoted():
    assert table([["a, b", 'c "d"'], ["1", "2"]], "csv", 1) == '"a, b","c ""d"""\n1,2'


def test_readme_has_all_tasks_and_the_report_as_it_is_printed():
    readme, tasks = ((results.PUBLISHED.parent / name).read_text() for name in ("README.md", "docs/evaluation.md"))
    table_of_tasks = tasks[tasks.index("## MTEB-NL") : tasks.index("python evaluate.py download")]
    for task in TASKS:
        assert task.name + r"\*" * task.translated in re.split(r"[ ,|]+", table_of_tasks), task.name
    names = re.search("python evaluate.py report (clips.*)`", readme)[1].split()
    assert table(report_types(read_columns_of(names)), "markdown", 2) in readme


def test_published_scores():
    """Means that the benchmark's own page gives for the paper's models (tasks, types; x 100)."""
    published = json.loads(results.PUBLISHED.read_text())
    assert published["tasks"] == [task.name for task in TASKS] and len(published["models"]) == 128
    assert all(len(scores) == 40 and 0 <= min(scores) <= max(scores) <= 1 for scores in (m["scores"] for m in published["models"].values()))
    expected = {"clips/e5-small-trm-nl": (0.533046, 0.602270), "clips/e5-base-trm-nl": (0.544533, 0.613754),
                "clips/e5-large-trm-nl": (0.564127, 0.631724), "intfloat/multilingual-e5-base": (0.523672, 0.597478)}  # fmt: skip
    for name, means in expected.items():
        summary = results.summarise(list(results.read_results(name).values()))
        assert (summary["mean_tasks"], summary["mean_types"]) == pytest.approx(means, abs=1e-6)
    assert results.read_results("clips/e5-base-trm-nl")["SICK-NL-STS"]["main_score"] == 0.737476
    cells = report_types(read_columns_of(["clips/e5-base-trm-nl"]))
    assert cells[0] == ["model", "text", "tasks", "Cls", "MLCls", "PCls", "Rrnk", "Rtr", "Clust", "STS", "mean tasks", "mean types"]
    assert cells[1][3:] == ["59.95", "35.94", "78.37", "87.38", "56.54", "34.24", "77.21", "54.45", "61.38"]
    assert [int(row[2]) for row in cells[1:]] == [40, 28, 12]
    with pytest.raises(FileNotFoundError, match="and no model with published scores; did you mean clips/e5-base-trm-nl"):
        results.read_results("clips/e5-base-trm")


# --- comparing two --------------------------------------------------------------------------------------------------------------


def worse(texts, kind):
    """Embeddings with noise of their own."""
    noise = np.random.default_rng(len(texts)).standard_normal((len(texts), cases.WIDTH)).astype(np.float32)
    x = cases.embed(texts, kind) + 0.2 * noise
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def evaluated(folder, *names):
    """Two runs of these tasks, in folder/a and folder/b."""
    for name in names:
        (folder / name).mkdir()
        cases.write_case(name, folder / name)
        (task,) = read_tasks(folder / name / "tasks.json")
        for out, encode, settings in (("a", cases.embed, {"model": "words"}), ("b", worse, {"model": "noise", "dtype": "x"})):
            list(evaluate.run([task], encode, folder / out, settings, "e5" if out == "b" else "mteb"))
    return folder / "a", folder / "b"


NAMES = ["SIB200Classification", "VaccinChatNLClassification", "VABBMultiLabelClassification", "XLWICNLPairClassification",
         "VABBClusteringS2S", "SciFact-NL.v2", "WikipediaRerankingMultilingual", "STSBenchmarkMultilingualSTS"]  # fmt: skip


def test_intervals_of_every_type(tmp_path):
    a, b = evaluated(tmp_path, *NAMES)
    rows, said = compare(a, b, resamples=30)
    assert {row["task"] for row in rows} == set(NAMES)
    for row in rows:
        assert row["difference"] == row["b"] - row["a"]
        if row["type"] == "Clustering":
            assert row["low"] is None
        else:
            assert row["low"] < row["high"] and row["low"] - 0.05 < row["difference"] < row["high"] + 0.05, row
    assert {"prefix: 'mteb' and 'e5'", "model: 'words' and 'noise'", "dtype: None and 'x'"} <= set(said) and len(said) == 3
    same, nothing = compare(a, a, resamples=5)
    assert all(row["difference"] == 0 and row["low"] in (0, None) and row["high"] in (0, None) for row in same) and nothing == []
    cells = results.describe_comparison(rows, "a", "b")
    marks = {row[0]: row[6] for row in cells[1:-2]}
    assert marks == {row["task"]: "*" if row["low"] is not None and row["low"] * row["high"] > 0 else "" for row in rows}
    assert set(marks.values()) == {"", "*"} and [row[0] for row in cells[-2:]] == ["mean over tasks", "mean over types"]
    assert cells[1][5] == f"{100 * rows[0]['low']:+.2f} to {100 * rows[0]['high']:+.2f}"


def test_the_bootstrap_draws_both_alike(tmp_path):
    """Of a mean of per-query values the draws are those of the differences."""
    a, b = evaluated(tmp_path, "SciFact-NL.v2")
    stored = [np.load(folder / "items" / "SciFact-NL.v2.npz") for folder in (a, b)]
    values = [items["test/ndcg_at_10"] for items in stored]
    difference, generator = values[1] - values[0], np.random.default_rng(42)
    drawn = [difference[generator.integers(0, len(difference), len(difference))].mean() for _ in range(200)]
    (row,), _ = compare(a, b, resamples=200)
    assert (row["low"], row["high"]) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=1e-12)
    assert row["difference"] == pytest.approx(difference.mean())


def test_no_interval_where_the_items_are_not_the_same(tmp_path):
    a, b = evaluated(tmp_path, "SciFact-NL.v2", "STSBenchmarkMultilingualSTS")
    path = b / "items" / "SciFact-NL.v2.npz"
    stored = dict(np.load(path))
    np.savez(path, **stored | {"test/query": stored["test/query"][::-1]})
    (b / "items" / "STSBenchmarkMultilingualSTS.npz").unlink()
    evaluated(tmp_path, "XLWICNLPairClassification")
    other = json.loads((b / "XLWICNLPairClassification.json").read_text()) | {"main_score_name": "cosine_ap"}
    write_json(b / "XLWICNLPairClassification.json", other)
    rows, _ = compare(a, b, resamples=5)
    assert [row["low"] for row in rows] == [None, None, None]
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match="SciFact-NL.v2.npz: damaged .*; evaluate the task again with --overwrite"):
        compare(a, b, resamples=5)


def test_comparison_with_published_scores(tmp_path):
    evaluated(tmp_path, "VABBClusteringS2S")
    rows, said = compare(tmp_path / "a", "clips/e5-base-trm-nl")
    assert [(row["task"], row["b"], row["low"]) for row in rows] == [("VABBClusteringS2S", 0.353201, None)]
    assert said == ["clips/e5-base-trm-nl, revision 6bd5722f: published, settings not recorded here; "
                    "mteb gives E5 its prefixes as --prefix mteb does"]  # fmt: skip
    write_results(tmp_path / "other", S=0.5)
    with pytest.raises(InputError, match="have no task in common"):
        compare(tmp_path / "other", "clips/e5-base-trm-nl")


def test_versions_of_scikit_learn_are_told(tmp_path):
    a, b = evaluated(tmp_path, "VABBClusteringS2S")
    path = b / "VABBClusteringS2S.json"
    result = json.loads(path.read_text())
    result["settings"]["versions"]["sklearn"] = "1.9.1"
    write_json(path, result)
    result["settings"] |= {"task": "f" * 64, "weights": "e" * 64}
    write_json(path, result)
    _, said = compare(a, b)
    assert f"weights: None and '{'e' * 12}'" in said
    assert any(line.startswith("data or protocol of VABBClusteringS2S: '") and line.endswith(f"' and '{'f' * 12}'") for line in said)
    assert "scikit-learn draws other batches from 1.9 on: clustering scores of the two cannot be compared" in said


def test_pictures_have_names_of_pictures_and_replace_none(tmp_path):
    with pytest.raises(InputError, match="--plot bars.txt: expected a name that ends in .png, .svg or .pdf"):
        evaluate.main(["report", "clips/e5-base-trm-nl", "--plot", "bars.txt"])
    (tmp_path / "bars.svg").write_text("another picture")
    with pytest.raises(InputError, match="bars.svg: exists already"):
        evaluate.main(["report", "clips/e5-base-trm-nl", "--plot", str(tmp_path / "bars.svg")])


# --- files of other tools and versions --------------------------------------------------------------------------------------------

OTHER_RESULTS = [  # fields of a result file changed (None: taken out), what the note says
    ({"task_name": None}, "task_name is 'None'; expected the name of a task"),
    ({"task_name": "../../other"}, r"task_name is '../../other'; expected the name of a task"),
    ({"task_type": "BitextMining"}, "task_type is 'BitextMining'; expected one of Classification"),
    ({"main_score": None}, "main_score is 'None'; expected a number"),
    ({"main_score": "0.5"}, "main_score is '0.5'; expected a number"),
    ({"main_score": float("nan")}, "main_score is 'nan'; expected a number"),
    ({"scores": [1]}, "scores is '.1.'; expected an object"),
    ({"settings": {"versions": "dev"}}, "settings is .*; expected an object"),
    ({"task_name": "STSBenchmarkMultilingualSTS"}, "task_name is 'STS.*', of which there is another file"),
]


@pytest.mark.parametrize("changes, message", OTHER_RESULTS, ids=[message[:30] for _, message in OTHER_RESULTS])
def test_files_that_are_no_results_are_skipped_and_named(tmp_path, capsys, changes, message):
    a, b = evaluated(tmp_path, "STSBenchmarkMultilingualSTS")
    result = json.loads((b / "STSBenchmarkMultilingualSTS.json").read_text()) | {"task_name": "Other"} | changes
    (b / "Zother.json").write_text(json.dumps({field: value for field, value in result.items() if value is not None}))
    for command in (["compare", str(a), str(b), "--resamples", "5"], ["report", str(a), str(b), "--by", "task"]):
        evaluate.main([*command, "--format", "csv"])
        printed = capsys.readouterr()
        assert re.fullmatch(f"skipped: .*b/Zother.json: .*{message}.*\n", printed.err)
        assert "\nSTSBenchmarkMultilingualSTS,STS," in printed.out and "Other" not in printed.out


OTHER_ITEMS = [  # task, change of its items, what the note says
    ("STSBenchmarkMultilingualSTS", {"dev/cosine": lambda x: x[:-1]}, r"dev/cosine has shape \(90,\); expected 91 items"),
    ("STSBenchmarkMultilingualSTS", {"dev/cosine": None}, "no array dev/cosine, of which cosine_spearman is made"),
    ("STSBenchmarkMultilingualSTS", {"test/cosine": lambda x: x * np.nan}, "test/cosine has shape .*, all finite"),
    ("STSBenchmarkMultilingualSTS", {"dev/cosine": lambda x: x[:, None]}, "dev/cosine is float64 with 2 axes; expected 1 axes"),
    ("STSBenchmarkMultilingualSTS", {"dev/cosine": lambda x: x.astype(str)}, "dev/cosine is <U32 with 1 axes"),
    ("SciFact-NL.v2", {"test/ndcg_at_10": None}, "no array test/ndcg_at_10, of which ndcg_at_10 is made"),
    ("XLWICNLPairClassification", {"test/dot": None}, "no array test/dot, of which max_ap is made"),
    ("VaccinChatNLClassification", {"test/predicted": lambda x: x[:, 0]}, "test/predicted is int64 with 1 axes; expected 2 axes"),
    ("VABBMultiLabelClassification", {"test/predicted": lambda x: x[:, :, 1:]}, "test/predicted has 5 labels, test/label 6"),
]  # fmt: skip


@pytest.mark.parametrize("task, changes, message", OTHER_ITEMS, ids=[message[:30] for _, _, message in OTHER_ITEMS])
def test_items_that_are_not_ours_cost_their_interval_alone(tmp_path, capsys, task, changes, message):
    a, b = evaluated(tmp_path, task)
    path = b / "items" / f"{task}.npz"
    stored = dict(np.load(path))
    for name, change in changes.items():
        if change is None:
            del stored[name]
        else:
            stored[name] = change(stored[name])
    np.savez(path, **stored)
    evaluate.main(["compare", str(a), str(b), "--resamples", "5", "--format", "csv"])
    printed = capsys.readouterr()
    assert re.fullmatch(f"no interval for {task}: .*b/items/{task}.npz: {message}.*\n", printed.err)
    row = next(line for line in printed.out.splitlines() if line.startswith(task)).split(",")
    assert float(row[4]) == pytest.approx(float(row[3]) - float(row[2]), abs=0.011) and row[5] == "-"


def test_a_folder_without_any_result_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.json").write_text("{}")
    with pytest.raises(InputError, match="a/x.json: not a result file of evaluate.py: task_name is 'None'"):
        evaluate.main(["report", str(tmp_path / "a")])


@pytest.mark.parametrize("version", ["dev", "1", "", None, [1, 9], "2.x"])
def test_versions_that_are_no_numbers_are_shown_as_they_are(tmp_path, version):
    a, b = evaluated(tmp_path, "VABBClusteringS2S")
    path = b / "VABBClusteringS2S.json"
    result = json.loads(path.read_text())
    result["settings"]["versions"]["sklearn"] = version
    result["settings"]["weights"] = 7
    write_json(path, result)
    said = compare(a, b)[1]
    assert any(line.startswith("sklearn: '") and line.endswith(f" and {version!r}") for line in said) and "weights: None and '7'" in said
