"""evaluate.py: mteb's scores (golden values), what is embedded, what is kept, tables and
comparisons.

All scores of all task types are mteb's on data full of traps (parity/cases.py; parity/test_mteb.py
made the golden values). Tables are judged by hand, the bootstrap by its definition, the published
scores by the benchmark's own page.

    python -m pytest tests/test_evaluate.py
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_mteb_nl
from parity import cases
from parity.cases import STS_ROWS, sts_entry, write_beir, write_tasks

import data
import e5nl
import evaluate
import metrics
import mteb_nl
from evaluate import compare, evaluate_task, read_columns_of, report_tasks, report_types, table
from files import InputError, write_json
from mteb_nl import RANKING, TASKS, read_tasks

E5_BASE = "clips/e5-base-trm-nl"
GOLDEN = json.loads((Path(__file__).parent / "parity" / "golden_mteb.json").read_text())


@pytest.mark.parametrize("name", cases.CASES)
def test_scores_are_mtebs(tmp_path, name):
    cases.write_case(name, tmp_path)
    (task,) = read_tasks(tmp_path / "tasks.json")
    splits = evaluate_task(task, cases.embed)
    assert list(splits) == list(GOLDEN[name])
    # mteb rounds retrieval means to 5 decimals; k-means may turn on another processor's last digits
    tolerance = {"Retrieval": 5.1e-6, "Reranking": 5.1e-6, "Clustering": 5e-3}.get(task.type, 1e-6)
    for split, (scores, items) in splits.items():
        assert len(GOLDEN[name][split]) >= 5
        for score, value in GOLDEN[name][split].items():
            assert scores[score] == pytest.approx(value, abs=tolerance), (split, score)
        if task.type != "Clustering":
            again = metrics.score_items(task.type, task.main_score, items)
            assert again == pytest.approx(scores["main_score"], abs=1e-12)


# --- a task ---------------------------------------------------------------------------------------


def rows(labels):
    return [{"text": f"w{i}", "label": label} for i, label in enumerate(labels)]


TRAINED = {
    "name": "C",
    "type": "Classification",
    "train": "train.jsonl",
    "splits": {"test": "test.jsonl"},
}
UNFIT = [
    ({}, [0, 1] * 3, ["0", "1"], "labels are texts in one of train and test, numbers in the other"),
    (
        {"type": "MultilabelClassification"},
        [[0], [1]] * 2,
        [[0], [1]],
        "4 training rows with labels; 5",
    ),
]


@pytest.mark.parametrize("changes, train, test, message", UNFIT)
def test_training_data_that_does_not_fit(tmp_path, changes, train, test, message):
    (task,) = read_tasks(
        write_tasks(tmp_path, TRAINED | changes, train=rows(train), test=rows(test))
    )
    with pytest.raises(InputError, match=f"^C: {message}"):
        evaluate_task(task, cases.embed)


def test_identical_ids_are_ignored_after_the_cut(tmp_path, monkeypatch):
    write_beir(tmp_path / "a", corpus=("1", "a", "2"), qrels=(("1", "a", 1), ("2", "a", 1)))
    embeddings = {
        " vraag 1": [1, 0], " vraag 2": [1, 0], "titel  tekst a": [1, 0.2], "tekst 1": [1, 0.1],
        "tekst 2": [0, 1],
    }  # fmt: skip
    entry = {"name": "A", "type": "Retrieval", "splits": {"test": "a"}, "main_score": "accuracy"}
    for cut, ignore, expected in (
        (1000, False, [1 / 2, 1 / 2]),
        (1000, True, [1, 1 / 2]),
        (1, True, [0, 0]),
    ):
        monkeypatch.setattr(metrics, "CUTS", (1, cut))
        (task,) = read_tasks(write_tasks(tmp_path, entry | {"ignore_identical_ids": ignore}))
        encode = lambda texts, kind: np.float32([embeddings[text] for text in texts])  # noqa: E731
        _, items = evaluate_task(task, encode)["test"]
        assert items[f"mrr_at_{cut}"].tolist() == expected


POLICIES = [  # policy; kind of symmetric texts, queries, documents; what is before the first two
    ("mteb", "none", "query", "passage", ""),
    ("none", "none", "none", "none", ""),
    ("e5", "query", "query", "passage", ""),
    ("instruct", "none", "none", "none", "Instruct: {}\nQuery: "),
]


@pytest.mark.parametrize("policy, symmetric, query, document, before", POLICIES)
def test_prefix_policies(tmp_path, policy, symmetric, query, document, before):
    write_beir(tmp_path / "a")
    prompts = {  # mteb's instruction for the type, or the task's own
        "Sts": "Retrieve semantically similar text.",
        "C": "Classify user passages.",
        "R": "Retrieve text based on user query.",
        "Own": "Zoek.",
    }
    entries = [
        sts_entry(),
        TRAINED | {"splits": {"test": "train.jsonl"}},
        {"name": "R", "type": "Reranking", "splits": {"test": "a"}},
        {"name": "Own", "type": "Retrieval", "splits": {"test": "a"}, "prompt": "Zoek."},
    ]
    path = write_tasks(tmp_path, *entries, sts=STS_ROWS, train=rows([0, 1] * 4))
    for task in read_tasks(path):
        inputs, words = [], before.format(prompts[task.name])

        def encode(texts, kind, inputs=inputs, words=words):
            inputs.append((kind, texts))
            return cases.embed([text.removeprefix(words) for text in texts], kind)

        evaluate_task(task, encode, policy)
        if task.type in RANKING:
            queries = [f"{words} vraag {i}" for i in "12"]
            assert inputs == [
                (query, queries),
                (document, ["tekst c", "tekst b", "titel  tekst a"]),
            ]
        else:
            assert len(inputs) == 2 and {kind for kind, _ in inputs} == {symmetric}
            assert all(text.startswith(words) for _, texts in inputs for text in texts)


def test_instructions_are_those_of_training():
    """Of a type, where neither a row nor a task has its own."""
    types = {
        "retrieval": "Retrieval",
        "classification": "Classification",
        "symmetric_sts": "STS",
        "symmetric_clustering": "Clustering",
    }
    asked = {source: mteb_nl.TYPES[type].prompt for source, type in types.items()}
    assert asked == data.INSTRUCTIONS


INSTRUCT = (("query", "Instruct: Zoek.\nQuery: "), ("passage", ""), ("none", ""))
FOLDERS = [  # prompts that the folder stores, --prefix; the policy, what is noted
    (None, None, "mteb", None),
    (None, "e5", "e5", None),
    (None, "instruct", "instruct", "does not say that it was trained with instructions"),
    (INSTRUCT, None, "instruct", None),
    (INSTRUCT, "e5", "e5", "was trained with instructions"),
    (INSTRUCT, "mteb", "mteb", "was trained with instructions"),
]


@pytest.mark.parametrize("prompts, given, policy, note", FOLDERS)
def test_the_policy_is_that_of_the_folder_unless_given(
    tmp_path, make_model, tokenizer, capsys, prompts, given, policy, note
):
    e5nl.save(make_model(**({"prompts": prompts} if prompts else {})), tokenizer, tmp_path / "m")
    path = write_tasks(tmp_path, sts_entry(), sts=STS_ROWS)
    words = ["--prefix", given] if given else []
    evaluate.main([*run_of(tmp_path / "m", path, tmp_path / "out"), *words])
    result = json.loads((tmp_path / "out" / "Sts.json").read_text())
    assert result["settings"]["prefix"] == policy
    printed = capsys.readouterr().out
    assert printed.count("note:") == (note is not None)
    assert note is None or f"note: --prefix {policy}, but the folder {note}\n" in printed


def test_results_of_another_width_are_other_results(tmp_path, folder):
    path = write_tasks(tmp_path, sts_entry(main_score="pearson"), sts=STS_ROWS)
    words = run_of(folder, path, tmp_path / "out")
    scores = []
    for width in ([], ["--dim", "5"], []):
        evaluate.main([*words, *width, "--overwrite"])
        result = json.loads((tmp_path / "out" / "Sts.json").read_text())
        assert result["settings"].get("truncate_dim") == (5 if width else None)
        scores.append(result["main_score"])
        with pytest.raises(InputError, match="result of another run .truncate_dim"):
            evaluate.main([*words, *([] if width else ["--dim", "5"])])
    assert scores[0] == scores[2] != scores[1], "each width has embeddings of its own in the cache"

    # As by the embeddings themselves
    (task,) = read_tasks(path)
    model = e5nl.load(folder, truncate_dim=5)
    encode = lambda texts, kind: e5nl.embed(*model, texts, kind)  # noqa: E731
    assert evaluate_task(task, encode)["test"][0]["main_score"] == scores[1]


def test_only_drawn_training_texts_are_embedded(tmp_path):
    train, test, embedded = rows(["zelden"] + ["veel"] * 399), rows(["veel", "zelden"]), []
    entry = TRAINED | {"samples_per_label": 3}
    (task,) = read_tasks(write_tasks(tmp_path, entry, train=train, test=test))

    def encode(texts, kind):
        embedded.append(texts)
        return cases.embed(texts, kind)

    evaluate_task(task, encode)
    draws = metrics.draw_rows([row["label"] for row in train], 3)
    used = {train[i]["text"] for drawn in draws for i in drawn}
    assert len(embedded[0]) == len(used) < 40 and set(embedded[0]) == used
    assert embedded[1] == ["w0", "w1"]


def test_random_draws_continue_over_the_splits_of_a_task(tmp_path):
    cases.write_case("SIB200ClusteringS2S", tmp_path)
    files = ["a.jsonl", "b.jsonl"]
    entry = {"name": "Twice", "type": "Clustering", "splits": {"one": files, "two": files}}
    (task,) = read_tasks(write_tasks(tmp_path, entry))
    twice = evaluate_task(task, cases.embed)
    assert twice["one"][0]["v_measures"] != twice["two"][0]["v_measures"]
    assert evaluate_task(task, cases.embed)["two"][0] == twice["two"][0]


UNFIT_EMBEDDINGS = [  # see also test_cache.py
    (lambda x: x[:, 1:], r"the model gave embeddings \(3, 23\) for 3 texts; expected \(3, 24\)"),
    (lambda x: x * [[1], [np.nan], [1]], "NaN or infinite for 1 of 3 texts, the first is 'd'"),
    (lambda x: 0 * x + x[0], r"split test: cosine_spearman is nan; is it defined for these labels"),
]


@pytest.mark.filterwarnings("ignore:.*constant")
@pytest.mark.parametrize("change, message", UNFIT_EMBEDDINGS)
def test_embeddings_that_cannot_be_scored(tmp_path, change, message):
    (task,) = read_tasks(write_tasks(tmp_path, sts_entry(), sts=STS_ROWS))
    first = cases.embed(["a", "a", "a"], "none")

    def encode(texts, kind):
        return first if texts == ["a b", "a b", "c d"] else change(cases.embed(texts, kind))

    with pytest.raises(InputError, match=f"^Sts: .*{message}"):
        evaluate_task(task, encode)


# --- the run --------------------------------------------------------------------------------------


def test_download_then_run_without_the_hub(tmp_path, folder, hub, capsys):
    names = "SIB200Classification SIB200ClusteringS2S SciFact-NL.v2".split()
    for name in names:
        task = test_mteb_nl.NAMED[name]
        test_mteb_nl.add_to(hub, task, test_mteb_nl.hub_rows(task), "parquet")
    evaluate.main(["download", "--tasks", *names])
    paths = ["--model", str(folder), "--out", str(tmp_path / "one")]
    evaluate.main(["run", *paths, "--tasks", *names])
    printed = capsys.readouterr().out
    size = "6 with 12 characters, mteb counts 701 with 101,519 characters"
    assert printed.count(f"train: {size}") == 2, "by the download and by the run"
    results = evaluate.read_results(tmp_path / "one", [])
    assert list(results) == sorted(names)
    for name, result in results.items():
        assert result["dataset_revision"] == test_mteb_nl.NAMED[name].revision
        assert len(result["scores"]["test"][0]["remarks"]) > 0
    absent = "NFCorpus-NL.v2: .*neither here nor to be had from the hub"
    with pytest.raises(InputError, match=absent):
        evaluate.main(["download", "--tasks", "NFCorpus-NL.v2"])


def test_two_processes_share_the_embedding(tmp_path, monkeypatch, folder, capsys):
    monkeypatch.chdir(tmp_path)
    other = sts_entry(name="Other", main_score="pearson")
    path = write_tasks(tmp_path, sts_entry(), other, sts=STS_ROWS)
    evaluate.main(run_of(folder, path, "one"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, evaluate.__file__, *run_of(folder, path, "two")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = capsys.readouterr().out.count("\n")
    assert result.stdout.count("\n") == lines, "only the first process prints"
    one, two = (evaluate.read_results(tmp_path / name, []) for name in ("one", "two"))
    for task in ("Sts", "Other"):
        assert one[task]["main_score"] == pytest.approx(two[task]["main_score"], abs=1e-6)

    # Each of the five texts is embedded by one of the two, of each of two lists a part each
    files = list((tmp_path / "two" / "cache").rglob("*.npy"))
    assert len(files) == 4 and sum(len(np.load(file)) for file in files) == 5


@pytest.fixture
def two_tasks(tmp_path):
    """Entries of two tasks, one with two splits, and the tasks."""
    files = {"sts": STS_ROWS, "dev": [row | {"score": -row["score"]} for row in STS_ROWS]}
    splits = {"dev": "dev.jsonl", "test": "sts.jsonl"}
    entries = [sts_entry(splits=splits), sts_entry(name="Other", main_score="pearson")]
    return entries, read_tasks(write_tasks(tmp_path, *entries, **files))


def test_results_and_their_summary(tmp_path, two_tasks):
    out, settings, (_, tasks) = tmp_path / "out", {"model": "words"}, two_tasks
    results = [result for result, _ in evaluate.run(tasks, cases.embed, out, settings)]
    result = json.loads((out / "Sts.json").read_text(), parse_constant=pytest.fail)
    expected = evaluate_task(tasks[0], cases.embed)
    dev, test = (expected[split][0]["cosine_spearman"] for split in ("dev", "test"))
    assert dev != test and result["main_score"] == pytest.approx((dev + test) / 2)
    scores = {split: values["main_score"] for split, [values] in result["scores"].items()}
    assert scores == {"dev": dev, "test": test}
    assert result["scores"]["test"][0]["hf_subset"] == "default"
    about = (result["task_name"], result["task_type"], result["dataset_revision"])
    assert about == ("Sts", "STS", "local")
    assert {"prefix": "mteb", **settings}.items() <= result["settings"].items()
    assert "sklearn" in result["settings"]["versions"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["tasks"] == {"Sts": result["main_score"], "Other": results[1]["main_score"]}
    assert summary["mean_tasks"] == pytest.approx(sum(summary["tasks"].values()) / 2)


def test_results_are_kept_unless_something_decisive_differs(tmp_path, two_tasks):
    entries, tasks = two_tasks

    def fail(*_):
        pytest.fail("evaluated again")

    def states(tasks=tasks, encode=fail, weights="abc", model="words", **options):
        settings = {"model": model, "weights": weights}
        results = evaluate.run(tasks, encode, tmp_path / "out", settings, **options)
        return [state for _, state in results]

    assert states(encode=cases.embed) == ["done", "done"]
    assert states() == states(model="./words") == ["kept", "kept"], "the same weights"
    (tmp_path / "out" / "Other.json").write_text("{")
    assert states(encode=cases.embed) == ["kept", "damaged file replaced"]

    other = "Sts.json: result of another run "
    with pytest.raises(InputError, match=f"{other}.weights 'abc', now it is 'def'.; choose ano"):
        states(weights="def")
    with pytest.raises(InputError, match=f"{other}.prefix 'mteb', now it is 'e5'"):
        states(prefix="e5")
    changed = read_tasks(write_tasks(tmp_path, entries[0] | {"main_score": "pearson"}))
    with pytest.raises(InputError, match=f"{other}.task "):
        states(changed)
    changed = read_tasks(write_tasks(tmp_path, *entries, dev=STS_ROWS))  # its data
    with pytest.raises(InputError, match=f"{other}.task "):
        states(changed)
    again = states(changed, cases.embed, "def", overwrite=True)
    assert again == ["done", "done"]


def run_of(folder, tasks_file, out) -> list[str]:
    """The command `run` of a model on a task file."""
    paths = {"--model": folder, "--tasks-file": tasks_file, "--out": out}
    return ["run", *(word for option, path in paths.items() for word in (option, str(path)))]


LANGUAGES = [
    ({}, [], "nld-Latn"),
    ({}, ["--language", "fry-Latn"], "fry-Latn"),
    ({"language": "afr-Latn"}, ["--language", "fry-Latn"], "afr-Latn"),
]


@pytest.mark.parametrize("entry, arguments, expected", LANGUAGES)
def test_results_say_the_language_of_the_task(tmp_path, folder, entry, arguments, expected):
    path = write_tasks(tmp_path, sts_entry(**entry), sts=STS_ROWS)
    command = run_of(folder, path, tmp_path / "out")
    evaluate.main([*command, *arguments])
    result = json.loads((tmp_path / "out" / "Sts.json").read_text())
    assert result["scores"]["test"][0]["languages"] == [expected]


def test_undefined_scores_are_null_in_files(tmp_path):
    cases.write_case("VaccinChatNLClassification", tmp_path)
    ((result, _),) = evaluate.run(
        read_tasks(tmp_path / "tasks.json"), cases.embed, tmp_path / "out", {}
    )
    text = (tmp_path / "out" / "VaccinChatNLClassification.json").read_text()
    assert "NaN" not in text and json.loads(text) == result
    assert result["scores"]["test"][0]["ap"] is None


@pytest.mark.filterwarnings("ignore:.*constant")
def test_command_line(tmp_path, folder, capsys):
    path = write_tasks(tmp_path, sts_entry(), sts_entry(name="Other"), sts=STS_ROWS)
    command = run_of(folder, path, tmp_path / "out")
    evaluate.main([*command, "--tasks", "Sts", "--prefix", "e5"])
    assert "1/1 Sts: cosine_spearman" in capsys.readouterr().out
    settings = json.loads((tmp_path / "out" / "Sts.json").read_text())["settings"]
    assert settings["prefix"] == "e5" and settings["dtype"] == "float32"
    assert len(settings["weights"]) == 64 and settings["prompts"]["query"] == "query: "
    (tmp_path / "out" / "niets.json").write_text("{}")
    for command_line in (["report"], ["compare", str(tmp_path / "out")]):
        evaluate.main([*command_line, str(tmp_path / "out")])
        printed = capsys.readouterr()
        assert "mean" in printed.out and printed.err.startswith("skipped: ")
    cached = next((tmp_path / "out" / "cache").rglob("*.npy"))
    cached.write_bytes(b"niets")
    evaluate.main([*command, "--tasks", "Sts", "--prefix", "e5"])
    assert f"{cached}: damaged; its texts are embedded again" in capsys.readouterr().out


MISTAKES = [  # arguments, message
    (
        "run --model M --out x --tasks-file T --tasks othr",
        "task 'othr' is unknown; did you mean Other",
    ),
    (
        "run --model M --out x --tasks-file T --language nl",
        "language is 'nl'; expected a language and a",
    ),
    ("run --model M --out x --language fry-Latn", "--language is for the tasks of a --tasks-file"),
    (
        "report clips/e5-base-trm",
        "and no model with published scores; did you mean clips/e5-base-trm-nl",
    ),
    (
        "report nergens",
        "nergens: no such folder, and no model with published scores; e.g. clips/e5-small",
    ),
    ("report results --tasks S C3", "task 'C3' is in none of these results; expected one of S"),
    ("report .", r"\.: no result files; expected a folder that `run` wrote, or mteb"),
    (
        "report clips/e5-base-trm-nl --plot bars.txt",
        "expected a name that ends in .png, .svg or .pdf",
    ),
    ("report clips/e5-base-trm-nl --plot bars.svg", "bars.svg: exists already"),
    (
        "compare results clips/e5-base-trm-nl",
        "results and clips/e5-base-trm-nl have no task in common",
    ),
]


@pytest.mark.parametrize("words, message", MISTAKES, ids=[words for words, _ in MISTAKES])
def test_mistakes_are_one_clear_line(tmp_path, monkeypatch, folder, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bars.svg").write_text("another picture")
    write_results(tmp_path / "results", S=0.5)
    path = write_tasks(tmp_path / "model", sts_entry(), sts_entry(name="Other"), sts=STS_ROWS)
    paths = {"M": str(folder), "T": str(path)}
    (tmp_path / "bars.svg").write_text("another picture")
    with pytest.raises((InputError, FileNotFoundError), match=message):
        evaluate.main([paths.get(word, word) for word in words.split()])


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
    some = words(report_tasks(evaluate.only_tasks(columns, ["C2", "S"])))
    assert [row for row in some if "mean" not in row] == [
        f"task type a b {E5_BASE}",
        "C2 Clustering 10.00 30.00 -",
        "S STS 50.00 75.00 -",
    ]
    assert some[-2:] == ["mean over tasks  30.00 52.50 -", "mean over types  30.00 52.50 -"]
    evaluate.main(["report", str(tmp_path / "a"), "--tasks", "Clustering"])
    assert "a      all         2  15.00       15.00       15.00\n" in capsys.readouterr().out


def test_tables_as_text_and_markdown():
    cells = [["task", "a", "b"], ["C1", "20.00", "-"]]
    text = "task      a  b\n----  -----  -\nC1    20.00  -"
    markdown = "| task |     a | b |\n| ---- | ----: | : |\n| C1   | 20.00 | - |"
    assert (table(cells, "text", 1), table(cells, "markdown", 1)) == (text, markdown)


def test_the_docs_have_all_tasks_and_the_report_as_it_is_printed():
    root = evaluate.PUBLISHED.parent
    tasks = re.split(r"[ ,|]+", (root / "docs/evaluation.md").read_text())
    for task in TASKS:
        assert task.name + r"\*" * task.translated in tasks, task.name
    readme = (root / "README.md").read_text()
    names = re.search("evaluate.py report --format markdown (clips.*)`", readme)[1].split()
    assert table(report_types(read_columns_of(names, [])), "markdown", 2) in readme


def test_published_scores():
    """Means that the benchmark's own page gives for the paper's models (tasks, types)."""
    published = json.loads(evaluate.PUBLISHED.read_text())
    assert published["tasks"] == [task.name for task in TASKS] and len(published["models"]) == 128
    assert {len(model["scores"]) for model in published["models"].values()} == {40}
    expected = {
        "clips/e5-small-trm-nl": (0.533046, 0.602270),
        "clips/e5-base-trm-nl": (0.544533, 0.613754),
        "clips/e5-large-trm-nl": (0.564127, 0.631724),
        "intfloat/multilingual-e5-base": (0.523672, 0.597478),
    }
    for name, means in expected.items():
        summary = evaluate.summarise(evaluate.read_results(name, []))
        assert (summary["mean_tasks"], summary["mean_types"]) == pytest.approx(means, abs=1e-6)
    results = evaluate.read_results("clips/e5-base-trm-nl", [])
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
    cells = evaluate.describe_comparison(rows, "a", "b")
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
def test_no_interval_where_a_draw_has_no_score(tmp_path, two_tasks):
    """Of three pairs a draw may be one pair three times, which has no correlation."""
    for out, encode in (("a", cases.embed), ("b", worse)):
        list(evaluate.run(two_tasks[1][:1], encode, tmp_path / out, {}))
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
    assert list(evaluate.read_results(b, notes := [])) == [name]
    assert re.fullmatch(f"skipped: .*b/Zother.json: .*{message}", *notes)
    (b / f"{name}.json").unlink()
    if "another file" not in message:
        with pytest.raises(InputError, match=f"b/Zother.json: .*{message}"):
            evaluate.read_results(b, [])


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
