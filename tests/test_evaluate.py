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
from test_report import write_results

import data
import e5nl
import evaluate
import metrics
import mteb_nl
import report
from evaluate import evaluate_task
from files import InputError
from mteb_nl import RANKING, read_tasks

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
    results = report.read_results(tmp_path / "one", [])
    assert list(results) == sorted(names)
    for name, result in results.items():
        assert result["dataset_revision"] == test_mteb_nl.NAMED[name].revision
        assert len(result["scores"]["test"][0]["remarks"]) > 0
    absent = "NFCorpus-NL.v2: .*neither here nor available from the hub"
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
    one, two = (report.read_results(tmp_path / name, []) for name in ("one", "two"))
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


# --- for others' tools ----------------------------------------------------------------------------


def test_results_are_written_again_for_mteb(tmp_path, folder):
    """parity/test_mteb.py loads them with mteb; here: where they are, and what they say."""
    cases.write_case("STSBenchmarkMultilingualSTS", tmp_path)
    entries = json.loads((tmp_path / "tasks.json").read_text())["tasks"]
    sts = dict.fromkeys(entries[0]["splits"], "sts.jsonl")
    path = write_tasks(tmp_path, *entries, sts_entry(splits=sts), sts=STS_ROWS)
    evaluate.main(run_of(folder, path, tmp_path / "out"))
    (revision,) = (tmp_path / "out" / "results" / "local__model").iterdir()
    assert sorted(file.name for file in revision.iterdir()) == [
        "STSBenchmarkMultilingualSTS.json",
        "model_meta.json",
    ]
    meta = json.loads((revision / "model_meta.json").read_text())
    assert (meta["name"], meta["revision"]) == ("local/model", revision.name)
    pieces = json.loads((folder / "config.json").read_text())["vocab_size"]
    assert (meta["n_embedding_parameters"], meta["embed_dim"]) == (pieces * 24, 24)
    evaluate.main([*run_of(folder, path, tmp_path / "short"), "--dim", "5"])
    (short,) = (tmp_path / "short").glob("results/*/*/model_meta.json")
    assert json.loads(short.read_text()) == meta | {"embed_dim": 5}
    assert meta["max_tokens"] == 64 and meta["n_parameters"] > 2 * meta["n_embedding_parameters"]
    first, second = (
        json.loads((place / "STSBenchmarkMultilingualSTS.json").read_text())
        for place in (tmp_path / "out", revision)
    )
    for values in second["scores"].values():
        assert values[0].pop("hf_subset") == "nl", "the benchmark's name of it"
    for values in first["scores"].values():
        del values[0]["hf_subset"]
    assert first == second and revision.name == first["settings"]["weights"][:40]


def test_scores_get_into_the_card_of_their_model_alone(tmp_path, folder, monkeypatch, capsys):
    path = write_tasks(tmp_path, sts_entry(), sts=STS_ROWS)
    evaluate.main(run_of(folder, path, tmp_path / "out"))
    uploads = []
    monkeypatch.setattr("card.push", lambda *arguments: uploads.append(arguments))
    command = ["card", str(tmp_path / "out"), "--model", str(folder)]
    evaluate.main([*command, "--push", "owner/name"])
    assert uploads == [(folder, "owner/name")]
    content = (folder / "README.md").read_text()
    assert re.search(r"\| Sts +\| STS +\|", content) and "name: owner/name" in content
    result = json.loads((tmp_path / "out" / "Sts.json").read_text())
    assert f"value: {round(result['main_score'], 6)}\n" in content
    with pytest.raises(InputError, match="--push a/b/c: expected owner/name"):
        evaluate.main([*command, "--push", "a/b/c"])
    result["settings"]["weights"] = "0" * 64
    (tmp_path / "out" / "Sts.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="out: Sts is of weights 0{64}, .*model has "):
        evaluate.main(command)
    assert (folder / "README.md").read_text() == content


def test_a_card_states_the_settings_of_all_its_scores(tmp_path, folder):
    path = write_tasks(tmp_path, sts_entry(), sts_entry(name="Other"), sts=STS_ROWS)
    run, out = run_of(folder, path, tmp_path / "out"), tmp_path / "out"
    command = ["card", str(out), "--model", str(folder)]
    evaluate.main([*run, "--tasks", "Sts", "--dim", "5"])
    evaluate.main(command)
    about = "Main scores x 100, `--prefix mteb`, float32, embeddings cut to 5.\n"
    assert about in (content := (folder / "README.md").read_text())

    # Other prefixes, another width, prompts that the folder has no more
    mistakes = [
        ("--prefix e5 --dim 5", "Sts is of prefix mteb, another result has e5"),
        ("--dim 4", "Sts is of truncate_dim 5, another result has 4"),
        ("--dim 5", "Other is of prompts .*'query: '.*, .*model has .*'zoek: '.*"),
    ]
    for words, message in mistakes:
        evaluate.main([*run, "--tasks", "Other", "--overwrite", *words.split()])
        if "prompts" in message:
            stored = folder / "config_sentence_transformers.json"
            stored.write_text(stored.read_text().replace('"query: "', '"zoek: "'))
        with pytest.raises(InputError, match=f"out: {message}; evaluate this model, all"):
            evaluate.main(command)
        assert (folder / "README.md").read_text() == content


@pytest.mark.parametrize("field", ["main_score_name", "dataset_revision"])
def test_results_without_what_a_card_needs_are_named(tmp_path, folder, field):
    path = write_tasks(tmp_path, sts_entry(), sts=STS_ROWS)
    evaluate.main(run_of(folder, path, tmp_path / "out"))
    result = json.loads((tmp_path / "out" / "Sts.json").read_text())
    del result[field]
    (tmp_path / "out" / "Sts.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match=f"^result of Sts: no field '{field}'$"):
        evaluate.main(["card", str(tmp_path / "out"), "--model", str(folder)])


def test_the_model_index_names_data_sets_of_the_hub(tmp_path):
    scores = {"test": [{"main_score": 0.12345678, "hf_subset": "default"}]}
    about = {"task_type": "Clustering", "main_score_name": "v_measure", "scores": scores}
    task = test_mteb_nl.NAMED["VABBClusteringP2P"]
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
