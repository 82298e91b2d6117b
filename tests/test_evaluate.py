"""evaluate.py: mteb's scores (golden values), what is embedded, what is kept, the command line.

All scores of all task types are mteb's on data full of traps (parity/cases.py; parity/test_mteb.py
made the golden values).

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
import report
from evaluate import evaluate_task
from files import InputError, read_json, write_json
from mteb_nl import NAMED, TYPES, read_tasks

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


def recorded(encode=cases.embed):
    """(encode, the list of (kind, texts) that it is given)."""
    calls = []

    def encode_and_record(texts, kind):
        calls.append((kind, texts))
        return encode(texts, kind)

    return encode_and_record, calls


IGNORED = [  # length of a ranking, whether a document with the query's id is ignored, MRR
    (1000, False, [1 / 2, 1 / 2]),
    (1000, True, [1, 1 / 2]),
    (1, True, [0, 0]),
]


@pytest.mark.parametrize("length, ignore, expected", IGNORED)
def test_identical_ids_are_ignored_after_the_cut(tmp_path, monkeypatch, length, ignore, expected):
    monkeypatch.setattr(metrics, "CUTS", (1, length))
    write_beir(tmp_path / "a", corpus=("1", "a", "2"), qrels=(("1", "a", 1), ("2", "a", 1)))
    embeddings = {
        " vraag 1": [1, 0], " vraag 2": [1, 0], "titel  tekst a": [1, 0.2], "tekst 1": [1, 0.1],
        "tekst 2": [0, 1],
    }  # fmt: skip
    entry = {"name": "A", "type": "Retrieval", "splits": {"test": "a"}, "main_score": "accuracy"}
    (task,) = read_tasks(write_tasks(tmp_path, entry | {"ignore_identical_ids": ignore}))
    encode = lambda texts, kind: np.float32([embeddings[text] for text in texts])  # noqa: E731
    _, items = evaluate_task(task, encode)["test"]
    assert items[f"mrr_at_{length}"].tolist() == expected


POLICIES = [  # policy; kind of symmetric texts, queries, documents; what is before the first two
    ("mteb", "none", "query", "passage", ""),
    ("none", "none", "none", "none", ""),
    ("e5", "query", "query", "passage", ""),
    ("instruct", "none", "none", "none", "Instruct: {}\nQuery: "),
]


@pytest.mark.parametrize("policy, symmetric, query, document, before", POLICIES)
def test_prefix_policies(tmp_path, policy, symmetric, query, document, before):
    """Instructions are mteb's for the type, or the task's own."""
    write_beir(tmp_path / "a")
    texts = {"train.jsonl": [["w0", "w1"]] * 2, "sts.jsonl": [["a b", "a b"], ["a b c", "d"]]}
    retrieval = {"name": "R", "type": "Retrieval", "splits": {"test": "a"}}
    entries = [
        (sts_entry(), "Retrieve semantically similar text."),
        (TRAINED | {"splits": {"test": "train.jsonl"}}, "Classify user passages."),
        (retrieval, "Retrieve text based on user query."),
        (retrieval | {"prompt": "Zoek."}, "Zoek."),
    ]
    for entry, prompt in entries:
        path = write_tasks(tmp_path, entry, sts=STS_ROWS[:2], train=rows([0, 1]))
        words, (encode, calls) = before.format(prompt), recorded()
        evaluate_task(*read_tasks(path), encode, policy)
        if entry["name"] == "R":
            documents = ["tekst c", "tekst b", "titel  tekst a"]
            queries = [f"{words} vraag {i}" for i in "12"]
            assert calls == [(query, queries), (document, documents)]
        else:
            expected = texts[entry["splits"]["test"]]
            assert [(kind, sorted(given)) for kind, given in calls] == [
                (symmetric, [words + text for text in column]) for column in expected
            ]


def test_instructions_are_those_of_training():
    """Of a type, where neither a row nor a task has its own."""
    types = {
        "retrieval": "Retrieval",
        "classification": "Classification",
        "symmetric_sts": "STS",
        "symmetric_clustering": "Clustering",
    }
    asked = {source: TYPES[type].prompt for source, type in types.items()}
    assert asked == data.INSTRUCTIONS


def test_only_drawn_training_texts_are_embedded(tmp_path):
    train, test = rows(["zelden"] + ["veel"] * 399), rows(["veel", "zelden"])
    entry = TRAINED | {"samples_per_label": 3}
    (task,) = read_tasks(write_tasks(tmp_path, entry, train=train, test=test))
    encode, calls = recorded()
    evaluate_task(task, encode)
    draws = metrics.draw_rows([row["label"] for row in train], 3)
    used = {train[i]["text"] for drawn in draws for i in drawn}
    (_, embedded), (_, of_test) = calls
    assert len(embedded) == len(used) < 40 and set(embedded) == used
    assert of_test == ["w0", "w1"]


def test_random_draws_continue_over_the_splits_of_a_task(tmp_path):
    cases.write_case("SIB200ClusteringS2S", tmp_path)
    files = ["a.jsonl", "b.jsonl"]
    entry = {"name": "Twice", "type": "Clustering", "splits": {"one": files, "two": files}}
    (task,) = read_tasks(write_tasks(tmp_path, entry))
    twice = evaluate_task(task, cases.embed)
    assert twice["one"][0]["v_measures"] != twice["two"][0]["v_measures"]
    assert evaluate_task(task, cases.embed)["two"][0] == twice["two"][0]


UNFIT = [  # what is done to the embeddings of the second sentences; see also test_cache.py
    (lambda x: x[:, 1:], r"the model gave embeddings \(3, 23\) for 3 texts; expected \(3, 24\)"),
    (lambda x: x * [[1], [np.nan], [1]], "NaN or infinite for 1 of 3 texts, the first is 'd'"),
    (lambda x: 0 * x + x[0], r"split test: cosine_spearman is nan; is it defined for these labels"),
]


@pytest.mark.filterwarnings("ignore:.*constant")
@pytest.mark.parametrize("change, message", UNFIT)
def test_embeddings_that_cannot_be_scored(tmp_path, change, message):
    (task,) = read_tasks(write_tasks(tmp_path, sts_entry(), sts=STS_ROWS))
    first = cases.embed(["a", "a", "a"], "none")

    def encode(texts, kind):
        return first if texts == ["a b", "a b", "c d"] else change(cases.embed(texts, kind))

    with pytest.raises(InputError, match=f"^Sts: .*{message}"):
        evaluate_task(task, encode)


UNFIT_LABELS = [  # type, labels of training and test, message
    ("Classification", [0, 1], ["0", "1"], "labels are texts in one of train and test, numbers in"),
    ("MultilabelClassification", [[0], [1]] * 2, [[0], [1]], "4 training rows with labels; 5 near"),
]


@pytest.mark.parametrize("type, train, test, message", UNFIT_LABELS)
def test_labels_that_cannot_be_learned(tmp_path, type, train, test, message):
    path = write_tasks(tmp_path, TRAINED | {"type": type}, train=rows(train), test=rows(test))
    with pytest.raises(InputError, match=f"^C: {message}"):
        evaluate_task(*read_tasks(path), cases.embed)


# --- the run --------------------------------------------------------------------------------------


def run_of(folder, tasks_file, out, *words) -> list[str]:
    """The command `run` of a model on a task file."""
    paths = "--model", folder, "--tasks-file", tasks_file, "--out", out
    return ["run", *map(str, paths), *words]


@pytest.fixture
def sts_file(tmp_path):
    """A task file with two tasks."""
    return write_tasks(tmp_path, sts_entry(), sts_entry(name="Other"), sts=STS_ROWS)


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
    tmp_path, make_model, tokenizer, capsys, sts_file, prompts, given, policy, note
):
    e5nl.save(make_model(**({"prompts": prompts} if prompts else {})), tokenizer, tmp_path / "m")
    words = ["--prefix", given] if given else []
    evaluate.main(run_of(tmp_path / "m", sts_file, tmp_path / "out", "--tasks", "Sts", *words))
    settings = read_json(tmp_path / "out" / "Sts.json")["settings"]
    assert settings["prefix"] == policy and settings["dtype"] == "float32"
    assert len(settings["weights"]) == 64 and {"query", "passage"} < settings["prompts"].keys()
    printed = capsys.readouterr().out
    assert "1/1 Sts: cosine_spearman" in printed and printed.count("note:") == (note is not None)
    assert note is None or f"note: --prefix {policy}, but the folder {note}\n" in printed


def test_runs_may_share_a_cache(tmp_path, folder, sts_file, monkeypatch):
    shared = ["--cache", str(tmp_path / "shared")]
    evaluate.main(run_of(folder, sts_file, tmp_path / "one", *shared))
    monkeypatch.setattr(e5nl, "embed_windows", lambda *_, **__: pytest.fail("again"))
    evaluate.main(run_of(folder, sts_file, tmp_path / "two", *shared))
    assert not list(tmp_path.glob("*/cache"))


LANGUAGES = [  # --language, of the tasks that name none; those of the results, or a message
    (None, ["nld-Latn", "afr-Latn"]),
    ("fry-Latn", ["fry-Latn", "afr-Latn"]),
    ("nl", "language is 'nl'; expected a language and a script as in nld-Latn"),
]


@pytest.mark.parametrize("language, expected", LANGUAGES)
def test_results_say_the_language_of_the_task(tmp_path, folder, language, expected):
    entries = sts_entry(), sts_entry(name="Z", language="afr-Latn")
    path = write_tasks(tmp_path, *entries, sts=STS_ROWS)
    command = run_of(folder, path, tmp_path / "out")
    command += ["--language", language] if language else []
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            evaluate.main(command)
        return
    evaluate.main(command)
    results = [read_json(tmp_path / "out" / f"{name}.json") for name in ("Sts", "Z")]
    assert [x["scores"]["test"][0]["languages"] for x in results] == [[x] for x in expected]


def test_the_benchmark_has_its_own_language(tmp_path, folder):
    command = ["run", "--model", str(folder), "--out", str(tmp_path), "--language", "fry-Latn"]
    with pytest.raises(InputError, match="--language is for the tasks of a --tasks-file"):
        evaluate.main(command)


def test_results_of_another_width_are_other_results(tmp_path, folder):
    path = write_tasks(tmp_path, sts_entry(main_score="pearson"), sts=STS_ROWS)
    words, scores = run_of(folder, path, tmp_path / "out"), []
    for width in ([], ["--dim", "5"], []):
        evaluate.main([*words, *width, "--overwrite"])
        result = read_json(tmp_path / "out" / "Sts.json")
        assert result["settings"].get("truncate_dim") == (5 if width else None)
        scores.append(result["main_score"])
        with pytest.raises(InputError, match="result of another run .truncate_dim"):
            evaluate.main([*words, *([] if width else ["--dim", "5"])])
    assert scores[0] == scores[2] != scores[1], "each width has embeddings of its own in the cache"

    # As by the embeddings themselves
    model = e5nl.load(folder, truncate_dim=5)
    encode = lambda texts, kind: e5nl.embed(*model, texts, kind)  # noqa: E731
    assert evaluate_task(*read_tasks(path), encode)["test"][0]["main_score"] == scores[1]


def test_download_then_run_without_the_hub(tmp_path, folder, hub, capsys):
    names = "SIB200Classification SIB200ClusteringS2S SciFact-NL.v2".split()
    for name in names:
        test_mteb_nl.add_to(hub, NAMED[name], test_mteb_nl.hub_rows(NAMED[name]), "parquet")
    evaluate.main(["download", "--tasks", *names])
    paths = ["--model", str(folder), "--out", str(tmp_path / "one")]
    evaluate.main(["run", *paths, "--tasks", *names])
    size = "6 with 30 characters, mteb counts 701 with 101,519 characters"
    printed = capsys.readouterr().out
    assert printed.count(f"train: {size}") == 2, "by the download and by the run"
    results = report.read_results(tmp_path / "one")
    assert list(results) == sorted(names)
    for name, result in results.items():
        assert result["dataset_revision"] == NAMED[name].revision
        assert len(result["scores"]["test"][0]["remarks"]) > 0
    absent = "NFCorpus-NL.v2: .*neither here nor available from the hub"
    with pytest.raises(InputError, match=absent):
        evaluate.main(["download", "--tasks", "NFCorpus-NL.v2"])


def test_two_processes_share_the_embedding(tmp_path, monkeypatch, folder, capsys, sts_file):
    monkeypatch.chdir(tmp_path)
    evaluate.main(run_of(folder, sts_file, "one"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, evaluate.__file__, *run_of(folder, sts_file, "two")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = capsys.readouterr().out.count("\n")
    assert result.stdout.count("\n") == lines, "only the first process prints"
    one, two = (report.read_results(tmp_path / name) for name in ("one", "two"))
    for task in ("Sts", "Other"):
        assert one[task]["main_score"] == pytest.approx(two[task]["main_score"], abs=1e-6)

    # Each of the five texts is embedded by one of the two, of each of two lists a part each
    files = list((tmp_path / "two" / "cache").rglob("*.npy"))
    assert len(files) == 4 and sum(len(np.load(file)) for file in files) == 5


@pytest.fixture
def two_tasks(tmp_path):
    """Entries of two tasks, one with two splits, one with a score that is not defined (ap), and the
    tasks."""
    files = {"sts": STS_ROWS, "dev": [row | {"score": -row["score"]} for row in STS_ROWS]}
    files["train"] = rows(["a", "b"] * 3)
    splits = {"dev": "dev.jsonl", "test": "sts.jsonl"}
    other = {"name": "Other", "language": "fry-Latn", "splits": {"test": "train.jsonl"}}
    entries = [sts_entry(splits=splits), TRAINED | other]
    return entries, read_tasks(write_tasks(tmp_path, *entries, **files))


def test_results_and_their_summary(tmp_path, two_tasks):
    out, settings, (_, tasks) = tmp_path / "out", {"model": "words"}, two_tasks
    results = [result for result, _ in evaluate.run(tasks, cases.embed, out, settings)]
    assert results == [read_json(out / f"{task.name}.json") for task in tasks]
    result = results[0]
    expected = evaluate_task(tasks[0], cases.embed)
    dev, test = (expected[split][0]["cosine_spearman"] for split in ("dev", "test"))
    assert dev != test and result["main_score"] == pytest.approx((dev + test) / 2)
    scores = {split: values["main_score"] for split, [values] in result["scores"].items()}
    assert scores == {"dev": dev, "test": test}
    ours, others = (x["scores"]["test"][0] for x in results)
    assert (ours["hf_subset"], ours["languages"]) == ("default", ["nld-Latn"])
    assert (others["languages"], others["ap"]) == (["fry-Latn"], None), "NaN is no JSON"
    about = (result["task_name"], result["task_type"], result["dataset_revision"])
    assert about == ("Sts", "STS", "local")
    assert {"prefix": "mteb", **settings}.items() <= result["settings"].items()
    assert "sklearn" in result["settings"]["versions"]
    summary = read_json(out / "summary.json")
    assert summary["tasks"] == {"Sts": result["main_score"], "Other": results[1]["main_score"]}
    assert summary["mean_tasks"] == pytest.approx(sum(summary["tasks"].values()) / 2)


def test_results_are_kept_unless_something_decisive_differs(tmp_path, capsys, two_tasks):
    entries, tasks = two_tasks

    def fail(*_):
        pytest.fail("evaluated again")

    def kept(tasks=tasks, encode=fail, overwrite=False, **changes):
        settings = {"model": "words", "weights": "abc"} | changes
        results = evaluate.run(tasks, encode, tmp_path / "out", settings, overwrite)
        return [earlier for _, earlier in results]

    assert kept(encode=cases.embed) == [False, False]
    assert kept() == kept(model="./words") == [True, True], "the same weights"
    (tmp_path / "out" / "Other.json").unlink()
    assert kept(encode=cases.embed) == [True, False] and not capsys.readouterr().out
    (tmp_path / "out" / "Other.json").write_text("{")
    assert kept(encode=cases.embed) == [True, False] and kept() == [True, True]
    assert re.search("out/Other.json:1: not JSON .*; it is made again\n", capsys.readouterr().out)

    scored = read_tasks(write_tasks(tmp_path, entries[0] | {"main_score": "pearson"}))
    for changes, message in (
        ({"weights": "def"}, "weights is 'abc', not 'def'.; choose another"),
        ({"prefix": "e5"}, "prefix is 'mteb', not 'e5'"),
        ({"tasks": scored}, "task is "),
    ):
        with pytest.raises(InputError, match=f"json: result of another run .{message}"):
            kept(**changes)
    other_data = read_tasks(write_tasks(tmp_path, *entries, dev=STS_ROWS))
    with pytest.raises(InputError, match="Sts.json: result of another run .task "):
        kept(other_data)
    assert kept(other_data, cases.embed, True, weights="def") == [False, False]

    # Before any is evaluated
    (tmp_path / "out" / "Sts.json").unlink()
    with pytest.raises(InputError, match="Other.json: result of another run .weights is 'def'"):
        kept()
    assert kept(other_data, cases.embed, weights="def") == [False, True]

    # Nor may tasks with other settings share the folder: a report would average them
    with pytest.raises(InputError, match="Other.json: result of another run .weights is .def"):
        kept(tasks[:1], overwrite=True)
    write_json(tmp_path / "out" / "note.json", {"mine": 1})
    assert kept(other_data[:1], weights="def") == [True]


# --- for others' tools ----------------------------------------------------------------------------


def test_results_are_written_again_for_mteb(tmp_path, folder):
    """parity/test_mteb.py loads them with mteb; here: where they are, and what they say."""
    name = "STSBenchmarkMultilingualSTS"
    entry = sts_entry(name=name, splits={"dev": "sts.jsonl", "test": "sts.jsonl"})
    path, out = write_tasks(tmp_path, entry, sts_entry(), sts=STS_ROWS), tmp_path / "out"
    evaluate.main(run_of(folder, path, out, "--dim", "5"))
    (revision,) = (out / "results" / "local__model").iterdir()
    assert sorted(file.name for file in revision.iterdir()) == [f"{name}.json", "model_meta.json"]
    meta = read_json(revision / "model_meta.json")
    assert (meta["name"], meta["revision"]) == ("local/model", revision.name)
    pieces = read_json(folder / "config.json")["vocab_size"]
    assert (meta["n_embedding_parameters"], meta["embed_dim"]) == (pieces * 24, 5)
    assert meta["max_tokens"] == 64 and meta["n_parameters"] > 2 * meta["n_embedding_parameters"]

    # The same but for the benchmark's name of the subset
    first, second = (read_json(place / f"{name}.json") for place in (out, revision))
    assert revision.name == first["settings"]["weights"][:40]
    for values in first["scores"].values():
        values[0]["hf_subset"] = "nl"
    assert first == second


@pytest.fixture
def card_of(folder, tmp_path):
    """card_of(*words): put the results in tmp_path/out into the card of `folder`; its text."""

    def card(*words) -> str:
        evaluate.main(["card", str(tmp_path / "out"), "--model", str(folder), *words])
        return (folder / "README.md").read_text()

    return card


def test_a_card_states_its_scores_and_their_settings(
    tmp_path, folder, sts_file, monkeypatch, card_of
):
    run, out, uploads = run_of(folder, sts_file, tmp_path / "out"), tmp_path / "out", []
    monkeypatch.setattr("card.push", lambda *arguments: uploads.append(arguments))
    evaluate.main([*run, "--tasks", "Sts", "--dim", "5"])
    with pytest.raises(InputError, match="^--push a/b/c: expected owner/name"):
        card_of("--push", "a/b/c")
    assert not (folder / "README.md").exists()
    content = card_of("--push", "owner/name")
    assert uploads == [(folder, "owner/name")] and "name: owner/name" in content
    assert re.search(r"\| Sts +\| STS +\|", content)
    score = read_json(out / "Sts.json")["main_score"]
    assert f"value: {round(score, 6)}\n" in content
    assert "Main scores x 100, `--prefix mteb`, float32, embeddings cut to 5.\n" in content

    # Results of other settings beside these, prompts that the folder has no more, other weights
    def change(name: str, field: str, value):
        result = read_json(out / f"{name}.json")
        result["settings"][field] = value
        write_json(out / f"{name}.json", result)

    for name, field, value, message in [
        ("Other", "prefix", "e5", "Other and Sts are of two runs .prefix is 'e5', not 'mteb'."),
        ("Other", "truncate_dim", 4, "Other and Sts are of two runs .truncate_dim is 4, not 5."),
        ("Sts", "prompts", {"query": "zoek"}, "results of prompts .*'zoek'.*, but the model"),
        ("Sts", "weights", "0" * 64, "results of weights 0{64}, but .*; evaluate this model"),
    ]:
        for path in out.glob("*.json"):
            path.unlink()
        evaluate.main([*run, "--tasks", "Sts", *["Other"] * (name == "Other"), "--dim", "5"])
        change(name, field, value)
        with pytest.raises(InputError, match=f"out: {message}"):
            card_of()
        assert (folder / "README.md").read_text() == content


@pytest.mark.parametrize("field", ["main_score_name", "dataset_revision"])
def test_results_without_what_a_card_needs_are_named(field):
    result = {"task_type": "STS", "main_score_name": "x", "dataset_revision": "local", "scores": {}}
    del result[field]
    with pytest.raises(InputError, match=f"^result of Sts: no field '{field}'$"):
        evaluate.model_index({"Sts": result})


def test_the_model_index_names_data_sets_of_the_hub():
    scores = {"test": [{"main_score": 0.12345678, "hf_subset": "default"}]}
    about = {"task_type": "Clustering", "main_score_name": "v_measure", "scores": scores}
    task = NAMED["VABBClusteringP2P"]
    results = {task.name: about | {"dataset_revision": task.revision}}
    results["Own"] = about | {"dataset_revision": "local"}
    first, second = evaluate.model_index(results)
    assert first["metrics"] == [{"name": "v_measure", "type": "v_measure", "value": 0.123457}]
    assert first["dataset"] == {
        "name": "VABBClusteringP2P (default)",
        "type": "clips/mteb-nl-vabb-cls",
        "split": "test",
        "config": "default",
        "revision": task.revision,
    }
    assert second["dataset"] == {"name": "Own (default)", "type": "Own", "split": "test"}
