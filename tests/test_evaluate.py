"""evaluate.py: mteb's scores (golden values), what is embedded and what is kept.

Properties: all scores of all task types are mteb's on data full of traps (parity/cases.py; parity/test_mteb.py made the golden values),
and the items that are kept give the main score again; prefixes follow the policy; each distinct text is embedded once, whatever asks
for it, on disk, by one process or several, and a damaged file costs no more than its texts; finished results are kept, damaged or
foreign ones are not; a user's mistake is one clear line.

    python -m pytest tests/test_evaluate.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import test_mteb_nl
from parity import cases
from parity.cases import STS_ROWS, sts_entry, write_beir, write_tasks

import evaluate
import mteb_nl
import metrics
from evaluate import evaluate_task
from files import InputError, write_jsonl
from mteb_nl import RANKING, read_tasks

GOLDEN = json.loads((Path(__file__).parent / "parity" / "golden_mteb.json").read_text())


@pytest.mark.parametrize("name", cases.CASES)
def test_scores_are_mtebs(tmp_path, name):
    cases.write_case(name, tmp_path)
    (task,) = read_tasks(tmp_path / "tasks.json")
    found = evaluate_task(task, cases.embed)
    assert list(found) == list(GOLDEN[name])
    # mteb rounds retrieval means to 5 decimals; k-means may take another turn on another processor's last digits
    tolerance = {"Retrieval": 5.1e-6, "Reranking": 5.1e-6, "Clustering": 5e-3}.get(task.type, 1e-6)
    for split, (scores, items) in found.items():
        assert len(GOLDEN[name][split]) >= 5
        for score, value in GOLDEN[name][split].items():
            assert scores[score] == pytest.approx(value, abs=tolerance), (split, score)
        again = metrics.score_again(task.type, task.main_score, items)
        assert again == pytest.approx(scores["main_score"], abs=1e-12) or (again is None and task.type == "Clustering")


# --- a task -----------------------------------------------------------------------------------------------------------------------


def test_train_and_test_must_name_labels_alike(tmp_path):
    train, test = [{"text": "x", "label": i % 2} for i in range(6)], [{"text": "x", "label": str(i % 2)} for i in range(6)]
    entry = {"name": "Task", "type": "Classification", "train": "train.jsonl", "splits": {"test": "test.jsonl"}}
    (task,) = read_tasks(write_tasks(tmp_path, entry, test=test, train=train))
    with pytest.raises(InputError, match="^Task: labels are texts in one of train and test, numbers in the other"):
        evaluate_task(task, cases.embed)
    train, test = [{"text": "x", "label": [i % 2]} for i in range(4)], [{"text": "x", "label": [i % 2]} for i in range(6)]
    (task,) = read_tasks(write_tasks(tmp_path, entry | {"type": "MultilabelClassification"}, test=test, train=train))
    with pytest.raises(InputError, match="^Task: 4 training rows with labels; 5 nearest neighbours need as many"):
        evaluate_task(task, cases.embed)


def test_reranking_candidates(tmp_path):
    write_beir(tmp_path / "a")
    path = write_tasks(tmp_path, {"name": "A", "type": "Reranking", "splits": {"test": "a"}})
    read = lambda: mteb_nl.read_ranking(read_tasks(path)[0], "test").candidates  # noqa: E731
    assert read() == {"1": ["a", "b"], "2": ["c"]}  # the judged documents, zeros included
    ranked = tmp_path / "a" / "top_ranked.jsonl"
    write_jsonl(ranked, [{"query-id": "1", "corpus-ids": ["c", "a", "c"]}, {"query-id": "2", "corpus-ids": ["b"]}])
    assert read() == {"1": ["c", "a"], "2": ["b"]}
    (task,) = read_tasks(path)
    found = evaluate_task(task, cases.embed)["test"][1]
    assert found["recall_at_1000"].tolist() == [1, 0]  # c is relevant for 2, and no candidate
    for rows, message in (([{"query-id": "1", "corpus-ids": ["c"]}], "^A: .*: query '2' has no candidates"),
                          ([{"query-id": q, "corpus-ids": ["x"]} for q in "12"], "^A: candidate 'x' of query '1' is not in .*corpus"),
                          ([{"query": "1"}], "top_ranked.jsonl:1: expected 'query-id' and 'corpus-ids', a list of ids")):  # fmt: skip
        write_jsonl(ranked, rows)
        with pytest.raises(InputError, match=message):
            evaluate_task(task, cases.embed)


def test_identical_ids_are_ignored_after_the_cut(tmp_path, monkeypatch):
    write_beir(tmp_path / "a", corpus=("1", "a", "2"), qrels=(("1", "a", 1), ("2", "a", 1)))
    embeddings = {" vraag 1": [1, 0], " vraag 2": [1, 0], "titel  tekst a": [1, 0.2], "tekst 1": [1, 0.1], "tekst 2": [0, 1]}
    encode = lambda texts, kind: np.float32([embeddings[text] for text in texts])  # noqa: E731
    for cut, ignore, expected in ((1000, False, [1 / 2, 1 / 2]), (1000, True, [1, 1 / 2]), (1, True, [0, 0])):
        monkeypatch.setattr(scoring, "CUTS", (1, cut))
        entry = {"name": "A", "type": "Retrieval", "splits": {"test": "a"}, "ignore_identical_ids": ignore}
        (task,) = [*read_tasks(write_tasks(tmp_path, entry | {"main_score": "accuracy"}))]
        assert evaluate_task(task, encode)["test"][1][f"mrr_at_{cut}"].tolist() == expected


POLICIES = [  # policy; kind of symmetric texts, queries, documents; what stands before the first two
    ("mteb", "none", "query", "passage", ""),
    ("none", "none", "none", "none", ""),
    ("e5", "query", "query", "passage", ""),
    ("instruct", "none", "none", "none", "Instruct: {}\nQuery: "),
]


@pytest.mark.parametrize("policy, symmetric, query, document, before", POLICIES)
def test_prefix_policies(tmp_path, policy, symmetric, query, document, before):
    write_beir(tmp_path / "a")
    rows = [{"text": f"w{i}", "label": i % 2} for i in range(9)]
    entries = [sts_entry(), {"name": "C", "type": "Classification", "train": "rows.jsonl", "splits": {"test": "rows.jsonl"}},
               {"name": "Reranking", "type": "Reranking", "splits": {"test": "a"}},
               {"name": "Own", "type": "Retrieval", "splits": {"test": "a"}, "prompt": "Zoek."}]  # fmt: skip
    prompts = ["Retrieve semantically similar text.", "Classify user passages.", "Retrieve text based on user query.", "Zoek."]
    for task, prompt in zip(read_tasks(write_tasks(tmp_path, *entries, sts=STS_ROWS, rows=rows)), prompts, strict=True):
        seen = []

        def encode(texts, kind):
            seen.append((kind, texts))
            return cases.embed([text.removeprefix(before.format(prompt)) for text in texts], kind)

        evaluate_task(task, encode, policy)
        assert len(seen) == 2
        if task.type in RANKING:
            assert seen[0] == (query, [before.format(prompt) + f" vraag {i}" for i in "12"])
            assert seen[1] == (document, ["tekst c", "tekst b", "titel  tekst a"])
        else:
            assert {kind for kind, _ in seen} == {symmetric}
            assert all(text.startswith(before.format(prompt)) for _, some in seen for text in some)


def test_prefixes_of_instruct_are_what_mteb_gives_e5_instruct(tmp_path):
    """The words as the encoder gets them, from mteb's template and its instruction of the task."""
    task = next(task for task in mteb_nl.TASKS if task.name == "SIB200ClusteringS2S")
    job = evaluate.Job("test", [("symmetric", ["De fiets."]), ("document", ["De fiets."])], None, [])
    assert evaluate.dressed(task, job, "instruct") == [
        (["Instruct: Identify categories in user passages.\nQuery: De fiets."], "none"), (["De fiets."], "none")]  # fmt: skip


def test_only_drawn_training_texts_are_embedded(tmp_path):
    train = [{"text": f"w{i}", "label": "veel" if i else "zelden"} for i in range(400)]
    test = [{"text": f"v{i}", "label": ["veel", "zelden"][i % 2]} for i in range(5)]
    entry = {"name": "C", "type": "Classification", "train": "train.jsonl", "splits": {"test": "test.jsonl"}, "samples_per_label": 3}
    (task,) = read_tasks(write_tasks(tmp_path, entry, train=train, test=test))
    seen = []
    scores = evaluate_task(task, lambda texts, kind: (seen.extend(texts), cases.embed(texts, kind))[1])["test"][0]
    drawn = metrics.draw_rows([row["label"] for row in train], 3)
    assert sorted(seen) == sorted({f"w{i}" for rows in drawn for i in rows} | {row["text"] for row in test})
    everything = [cases.embed([row["text"] for row in rows], "none") for rows in (train, test)]
    labels = [[row["label"] for row in rows] for rows in (train, test)]
    assert scores["accuracy"] == metrics.classification(everything[0], labels[0], everything[1], labels[1], drawn)[0]["accuracy"]


def test_random_streams_go_on_over_the_splits_of_a_task(tmp_path):
    cases.write_case("SIB200ClusteringS2S", tmp_path)
    entry = {"name": "Twice", "type": "Clustering", "splits": {"one": ["a.jsonl", "b.jsonl"], "two": ["a.jsonl", "b.jsonl"]}}
    (task,) = read_tasks(write_tasks(tmp_path, entry))
    twice = evaluate_task(task, cases.embed)
    assert twice["one"][0]["v_measures"] != twice["two"][0]["v_measures"]
    assert evaluate_task(task, cases.embed)["two"][0] == twice["two"][0]

    cases.write_case("VABBMultiLabelClassification", tmp_path)
    entry = {"type": "MultilabelClassification", "train": "train.jsonl", "splits": {"one": "test.jsonl", "two": "test.jsonl"}}
    (task,) = read_tasks(write_tasks(tmp_path, entry | {"name": "Twice", "samples_per_label": 4}))
    twice = evaluate_task(task, cases.embed)
    assert twice["one"][0]["scores_per_experiment"] != twice["two"][0]["scores_per_experiment"]
    (again,) = read_tasks(write_tasks(tmp_path, entry | {"name": "Once", "samples_per_label": 4, "splits": {"one": "test.jsonl"}}))
    assert evaluate_task(again, cases.embed)["one"][0]["f1"] == twice["one"][0]["f1"]


# --- the run ----------------------------------------------------------------------------------------------------------------------


class Windows:
    """What a Cache asks for new embeddings: two texts at a time, and notes which."""

    def __init__(self, change=lambda x: x):
        self.calls, self.change = [], change

    def __call__(self, texts, kind, share):
        for start in range(0, len(texts), 2):
            part = texts[start : start + 2]
            self.calls.append((kind, part))
            yield start, self.change(cases.embed([PREFIXES[kind] + text for text in part], "none"))


PREFIXES = {"query": "q: ", "passage": "p: ", "none": ""}


def new_cache(folder, windows, **made_by) -> evaluate.Cache:
    return evaluate.Cache(folder, made_by, windows, PREFIXES, cases.WIDTH)


def test_each_text_is_embedded_once_and_kept(tmp_path):
    windows = Windows()
    cache = new_cache(tmp_path, windows)
    asked = ((["a", "b", "a", "c"], "query"), (["c", "d"], "query"), (["q: a", "e"], "none"), (["a"], "passage"), (["b", "b"], "query"))
    for texts, kind in asked:
        assert np.array_equal(cache(texts, kind), cases.embed([PREFIXES[kind] + text for text in texts], "none"))
    # `q: a` without a prefix is what `a` is as a query: the encoder gets the same
    assert windows.calls == [("query", ["a", "b"]), ("query", ["c"]), ("query", ["d"]), ("none", ["e"]), ("passage", ["a"])]
    nothing = lambda texts, kind, share: pytest.fail("embedded again")  # noqa: E731
    again = new_cache(tmp_path, nothing)
    for texts, kind in asked:
        assert np.array_equal(again(texts, kind), cases.embed([PREFIXES[kind] + text for text in texts], "none"))
    assert again.damaged == [] and len(again.places) == 6
    assert json.loads((cache.folder / "made_by.json").read_text()) == {}
    other = new_cache(tmp_path, windows, weights="others")
    assert len(other.places) == 0 and other.folder != cache.folder and not other.folder.exists()


def test_a_killed_run_goes_on(tmp_path):
    def killed(texts, kind, share):
        yield from list(Windows()(texts, kind, share))[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_cache(tmp_path, killed)(list("abcdefg"), "none")
    windows = Windows()
    assert np.array_equal(new_cache(tmp_path, windows)(list("abcdefg"), "none"), cases.embed(list("abcdefg"), "none"))
    assert windows.calls == [("none", ["e", "f"]), ("none", ["g"])]


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:-3] + b"xyz", lambda b: b"", lambda b: b"niets"])
def test_damaged_files_cost_their_texts_only(tmp_path, damage):
    cache = new_cache(tmp_path, Windows())
    cache(list("abcd"), "none")
    files = sorted(cache.folder.glob("*.npy"))
    files[0].write_bytes(damage(files[0].read_bytes()))
    windows = Windows()
    again = new_cache(tmp_path, windows)
    assert again.damaged == [files[0]] and not files[0].exists()
    assert np.array_equal(again(list("abcd"), "none"), cases.embed(list("abcd"), "none")) and len(windows.calls) == 1


@pytest.mark.parametrize("bad, message", [
    (lambda x: x[1:], r"the model gave embeddings \(1, 24\) for 2 texts; expected \(2, 24\)"),
    (lambda x: x[:, 1:], r"the model gave embeddings \(2, 23\) for 2 texts; expected \(2, 24\)"),
    (lambda x: np.where([[False], [True]], np.nan, x), "NaN or infinite for 1 of 2 texts, the first is 'tweede'"),
    (lambda x: x * [[0], [1]], "all zero for 1 of 2 texts, the first is 'eerste'"),
])  # fmt: skip
def test_embeddings_that_cannot_be_scored(tmp_path, bad, message):
    cache = new_cache(tmp_path, Windows(bad))
    with pytest.raises(InputError, match="no embeddings for 1 of 2 texts" if r"\(1, 24\)" in message else message):
        cache(["eerste", "tweede"], "query")
    assert len(list(cache.folder.glob("*.npy"))) == (r"\(1, 24\)" in message), "bad embeddings are not kept"
    rows = [{"sentence1": text, "sentence2": text, "score": i} for i, text in enumerate(("eerste", "tweede"))]
    (task,) = read_tasks(write_tasks(tmp_path, sts_entry(), sts=rows))
    calls = []

    def encode(texts, kind):
        calls.append(texts)
        return bad(cases.embed(texts, kind)) if len(calls) == 2 else cases.embed(texts, kind)

    with pytest.raises(InputError, match=f"^Sts: .*{message}"):
        evaluate_task(task, encode)


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_sparse_embeddings_may_have_rows_of_zeros(tmp_path, form):
    (task,) = read_tasks(write_tasks(tmp_path, sts_entry(), sts=STS_ROWS))
    sparse = evaluate_task(task, lambda texts, kind: form(cases.embed(texts, kind) * [[text != "d"] for text in texts]))
    assert sparse["test"][1]["dot"][1] == 0


def test_download_then_run_without_the_hub(tmp_path, folder, hub, capsys):
    names = ["SIB200Classification", "SIB200ClusteringS2S", "SciFact-NL.v2", "WikipediaRerankingMultilingual", "XLWICNLPairClassification",
             "DutchColaClassification"]  # fmt: skip
    for name in names:
        task = test_mteb_nl.NAMED[name]
        hub(task.repository.partition("@")[0], test_mteb_nl.hub_files(test_mteb_nl.hub_rows(task), "parquet"), commit=task.revision)
    run = ["run", "--model", str(folder), "--tasks", *names]
    evaluate.main([*run, "--out", str(tmp_path / "one")])
    evaluate.main(["download", "--out", str(tmp_path / "data"), "--tasks", *names])
    printed = capsys.readouterr().out
    assert printed.count("train: 6 with 12 characters, mteb counts 19,893") == 2, "by the run and by the download"
    assert "1/6 SIB200Classification" in printed and "test: 6 with 12 characters, mteb counts 204 with 29,778 characters" in printed
    (tmp_path / "hub").rename(tmp_path / "nowhere")
    mteb_nl.hub_copy.cache_clear()
    evaluate.main([*run, "--out", str(tmp_path / "two"), "--data", str(tmp_path / "data")])
    one, two = (results.read_results(tmp_path / name) for name in ("one", "two"))
    assert list(one) == list(two) == sorted(names)
    for name in names:
        assert one[name]["scores"] == two[name]["scores"] and one[name]["settings"]["task"] == two[name]["settings"]["task"]
        assert one[name]["dataset_revision"] == test_mteb_nl.NAMED[name].revision and len(one[name]["scores"]["test"][0]["remarks"]) > 0
    with pytest.raises(InputError, match="SciFact-NL.v2: .*neither here nor to be had from the hub"):
        evaluate.main([*run[:-6], "SciFact-NL.v2", "--out", str(tmp_path / "three")])


def test_two_processes_share_the_embedding(tmp_path, folder):
    path = write_tasks(tmp_path, sts_entry(), sts_entry(name="Other", main_score="pearson"), sts=STS_ROWS)
    settings = ["run", "--model", str(folder), "--tasks-file", str(path)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    commands = [[*start, evaluate.__file__, *settings, "--out", name] for start, name in (([sys.executable], "one"), (torchrun, "two"))]
    options = {"cwd": tmp_path, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True, "check": True}
    printed = [subprocess.run(command, **options).stdout for command in commands]
    one, two = (results.read_results(tmp_path / name) for name in ("one", "two"))
    assert all(one[task]["main_score"] == pytest.approx(two[task]["main_score"], abs=1e-6) for task in ("Sts", "Other"))
    assert [len(line.split("(")[0]) for line in printed[0].splitlines()] == [len(line.split("(")[0]) for line in printed[1].splitlines()]
    files = [list((tmp_path / name / "cache").rglob("*.npy")) for name in ("one", "two")]
    keys = [[key for file in some for key in np.load(file)["text"].tolist()] for some in files]
    assert sorted(keys[0]) == sorted(keys[1]) and len(set(keys[0])) == len(keys[0]) == 5, "each text once, by one of the two"
    assert len(files[1]) == 4, "of each of two lists a part each"


def test_collapsed_embeddings_are_an_error(tmp_path):
    (task,) = read_tasks(write_tasks(tmp_path, sts_entry(), sts=STS_ROWS))
    with pytest.warns(match="constant"), pytest.raises(InputError, match="^Sts: split test: cosine_spearman is nan"):
        evaluate_task(task, lambda texts, kind: np.ones((len(texts), 3), np.float32))


def test_results_are_written_kept_and_checked(tmp_path):
    files = {"sts": STS_ROWS, "dev": [row | {"score": -row["score"]} for row in STS_ROWS]}
    entries = [sts_entry(splits={"dev": "dev.jsonl", "test": "sts.jsonl"}), sts_entry(name="Other", main_score="pearson")]
    tasks = read_tasks(write_tasks(tmp_path, *entries, **files))
    out, settings = tmp_path / "out", {"model": "words", "weights": "abc"}
    results = list(evaluate.run(tasks, cases.embed, out, settings))
    assert [state for _, state in results] == ["done", "done"]
    result = json.loads((out / "Sts.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    expected = evaluate_task(tasks[0], cases.embed)
    assert expected["dev"][0]["cosine_spearman"] != expected["test"][0]["cosine_spearman"]
    assert result["main_score"] == pytest.approx((expected["dev"][0]["cosine_spearman"] + expected["test"][0]["cosine_spearman"]) / 2)
    assert result["scores"]["dev"][0]["main_score"] == expected["dev"][0]["cosine_spearman"] and list(result["scores"]) == ["dev", "test"]
    assert result["scores"]["test"][0]["hf_subset"] == "default" and result["scores"]["test"][0]["languages"] == ["nld-Latn"]
    assert (result["task_name"], result["task_type"], result["dataset_revision"]) == ("Sts", "STS", "local")
    assert {"prefix": "mteb", **settings}.items() <= result["settings"].items() and "sklearn" in result["settings"]["versions"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["tasks"] == {"Sts": result["main_score"], "Other": results[1][0]["main_score"]}
    assert summary["mean_tasks"] == pytest.approx(sum(summary["tasks"].values()) / 2)

    nothing = lambda texts, kind: pytest.fail("a finished task was evaluated again")  # noqa: E731
    assert [state for _, state in evaluate.run(tasks, nothing, out, settings)] == ["kept", "kept"]
    (out / "Other.json").write_text("{")
    assert [state for _, state in evaluate.run(tasks, cases.embed, out, settings)] == ["kept", "damaged file replaced"]
    with pytest.raises(InputError, match="Sts.json: result of another run .weights 'abc', now it is 'def'.; choose another output folder"):
        list(evaluate.run(tasks, nothing, out, settings | {"weights": "def"}))
    with pytest.raises(InputError, match="prefix 'mteb', now it is 'e5'"):
        list(evaluate.run(tasks, nothing, out, settings, "e5"))
    assert [state for _, state in evaluate.run(tasks, nothing, out, settings | {"model": "./words"})] == ["kept", "kept"], "same weights"
    for changed in ({"main_score": "pearson"}, {"splits": {"dev": "dev.jsonl", "test": "sts.jsonl"}, "columns": {"score": "score"}}):
        (other, _) = read_tasks(write_tasks(tmp_path, entries[0] | changed, entries[1]))
        with pytest.raises(InputError, match="Sts.json: result of another run .task "):
            list(evaluate.run([other], nothing, out, settings))
    tasks = read_tasks(write_tasks(tmp_path, *entries, dev=STS_ROWS))
    with pytest.raises(InputError, match="Sts.json: result of another run .task "):  # the same task, but its data changed
        list(evaluate.run(tasks, nothing, out, settings))
    assert [state for _, state in evaluate.run(tasks, cases.embed, out, settings | {"weights": "def"}, overwrite=True)] == ["done", "done"]


@pytest.mark.parametrize(
    "entry, arguments, expected",
    [
        ({}, [], "nld-Latn"),
        ({}, ["--language", "fry-Latn"], "fry-Latn"),
        ({"language": "afr-Latn"}, ["--language", "fry-Latn"], "afr-Latn"),
    ],
)
def test_results_say_the_language_of_the_task(tmp_path, folder, entry, arguments, expected):
    path = write_tasks(tmp_path, sts_entry(**entry), sts=STS_ROWS)
    evaluate.main(["run", "--model", str(folder), "--tasks-file", str(path), "--out", str(tmp_path / "out"), *arguments])
    assert json.loads((tmp_path / "out" / "Sts.json").read_text())["scores"]["test"][0]["languages"] == [expected]


def test_undefined_scores_are_null_in_files(tmp_path):
    cases.write_case("VaccinChatNLClassification", tmp_path)
    ((result, _),) = evaluate.run(read_tasks(tmp_path / "tasks.json"), cases.embed, tmp_path / "out", {})
    text = (tmp_path / "out" / "VaccinChatNLClassification.json").read_text()
    assert "NaN" not in text and json.loads(text)["scores"]["test"][0]["ap"] is None and json.loads(text) == result


def test_command_line(tmp_path, folder, capsys):
    path = write_tasks(tmp_path, sts_entry(), sts_entry(name="Other"), sts=STS_ROWS)
    arguments = ["run", "--model", str(folder), "--tasks-file", str(path), "--out", str(tmp_path / "out")]
    evaluate.main([*arguments, "--tasks", "Sts", "--prefix", "e5"])
    printed = capsys.readouterr().out
    settings = json.loads((tmp_path / "out" / "Sts.json").read_text())["settings"]
    assert settings["prefix"] == "e5" and settings["dtype"] == "float32" and len(settings["weights"]) == 64
    assert settings["prompts"]["query"] == "query: " and "1/1 Sts: cosine_spearman" in printed
    evaluate.main(["report", str(tmp_path / "out")])
    assert "mean tasks" in capsys.readouterr().out
    with pytest.raises(InputError, match="task 'othr' is unknown; did you mean Other"):
        evaluate.main([*arguments, "--tasks", "othr"])
    with pytest.raises(InputError, match="--language nl: expected a language and a script as in nld-Latn"):
        evaluate.main([*arguments, "--language", "nl"])
    with pytest.raises(InputError, match="--language is for the tasks of a --tasks-file"):
        evaluate.main(["run", "--model", str(folder), "--out", "x", "--language", "fry-Latn"])
    with pytest.raises(InputError, match="--data is for the benchmark's tasks, the data of --tasks-file lies beside that file"):
        evaluate.main([*arguments, "--data", str(tmp_path)])
