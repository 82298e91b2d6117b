"""evaluate.py: every score against mteb's (golden values), against hand calculation and against slow obvious versions.

Properties: all scores of all task types are mteb's on data full of traps (parity/cases.py; parity/test_mteb.py made the golden values);
the random draws are those of the protocol; sparse rows score like dense ones; ties are broken as trec_eval does; nothing given is
changed; each distinct (kind, text) is embedded once; prefixes follow the policy; finished results are kept, damaged or foreign ones
are not; a user's mistake is one clear line.

    python -m pytest tests/test_evaluate.py
"""

import doctest
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from parity import cases

import evaluate
from data import InputError, write_json, write_jsonl
from evaluate import evaluate_task, read_tasks, remember, retrieval

GOLDEN = json.loads((Path(__file__).parent / "parity" / "golden_mteb.json").read_text())


def test_examples_in_docstrings():
    assert doctest.testmod(evaluate).failed == 0 and doctest.testmod(evaluate).attempted >= 3


@pytest.mark.parametrize("name", cases.CASES)
def test_scores_are_mtebs(tmp_path, name):
    cases.write_case(name, tmp_path)
    (task,) = read_tasks(tmp_path / "tasks.json")
    results = evaluate_task(task, remember(cases.embed))
    assert list(results) == list(GOLDEN[name])
    # mteb rounds retrieval means to 5 decimals; k-means may take another turn on another processor's last digits
    tolerance = {"Retrieval": 5.1e-6, "Reranking": 5.1e-6, "Clustering": 5e-3}.get(task.type, 1e-6)
    for split, (scores, _) in results.items():
        assert len(GOLDEN[name][split]) >= 5
        for score, value in GOLDEN[name][split].items():
            assert scores[score] == pytest.approx(value, abs=tolerance), (split, score)


# --- classification ---------------------------------------------------------------------------------------------------------


def test_draws_apply_one_permutation_again_and_again():
    labels = np.random.default_rng(0).integers(0, 4, 37).tolist()
    permutation = list(range(37))
    np.random.RandomState(42).shuffle(permutation)
    order = list(range(37))
    for rows in evaluate.draw_rows(labels, 3):
        order = [order[i] for i in permutation]
        assert rows == [i for place, i in enumerate(order) if [labels[j] for j in order[:place]].count(labels[i]) < 3]
    assert Counter(labels[i] for i in rows) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert len(evaluate.draw_rows(["a"] * 9 + ["b"], 8)[0]) == 9  # a rare label gives what it has


def test_multilabel_draws_use_one_stream():
    labels = [[0, 1], [0], [], [1, 2], [0, 2], [], [2], [0, 1, 2], [1]] * 4
    generator, reference = np.random.default_rng(42), np.random.default_rng(42)
    for rows in evaluate.draw_multilabel_rows(labels, 2, generator):
        order, counts, expected = list(range(len(labels))), {0: 0, 1: 0, 2: 0}, []
        reference.shuffle(order)
        for i in order:
            if [label for label in labels[i] if counts[label] < 2]:
                expected.append(i)
                for label in labels[i]:
                    counts[label] += 1
        assert rows == expected and all(labels[i] for i in rows)
    assert generator.bit_generator.state == reference.bit_generator.state


def test_classification_by_hand():
    train = np.float32([[1, 0], [0, 1], [-1, -1]] * 6)
    test = np.float32([[1, 0], [0, 1], [0.9, 0.1], [-1, -1]])  # predicted: a, b, a, c
    scores, items = evaluate.classification(train, ["a", "b", "c"] * 6, test, ["a", "b", "b", "d"], [list(range(18))] * 2)
    assert scores["accuracy"] == 0.5
    assert scores["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)  # c is only predicted, d only true: both count
    assert scores["f1_weighted"] == pytest.approx((2 / 3 + 2 * 2 / 3 + 0) / 4)
    assert scores["precision"] == pytest.approx((1 / 2 + 1 + 0 + 0) / 4) and scores["recall"] == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert items["accuracy"].tolist() == [1, 1, 0, 0] and np.isnan(scores["ap"])


def test_classification_average_precision_of_two_labels():
    train, test = np.float32([[1, 0], [0, 1]] * 6), np.float32([[1, 0], [0, 1], [0, 1], [1, 0]])  # predicted: 0, 1, 1, 0
    scores, _ = evaluate.classification(train, [0, 1] * 6, test, [0, 1, 0, 1], [list(range(12))])
    assert scores["ap"] == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 4)  # at the prediction 1: precision 1/2, recall 1/2; then everything


@pytest.mark.filterwarnings("error")  # labels that only the training rows have are no surprise
def test_multilabel_by_hand():
    train, test = np.eye(5, dtype=np.float32), np.eye(4, 5, dtype=np.float32)  # 5 neighbours of 5 rows: the majority, x and y, everywhere
    labels = [["x"], ["x"], ["x", "y"], ["y", "only in train"], ["y", "only in train"]]
    scores, items = evaluate.multilabel_classification(train, labels, test, [["y", "x"], ["x"], [], ["x", "y"]], [[0, 1, 2, 3, 4]])
    assert scores["accuracy"] == 0.5 and items["accuracy"].tolist() == [1, 0, 0, 1]
    assert scores["f1"] == pytest.approx((6 / 7 + 4 / 6) / 2)
    assert scores["hamming"] == pytest.approx((1 + 1 / 2 + 0 + 1) / 4)
    assert scores["lrap"] == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)  # equal scores: each label's rank is 2; of none wanted it is 1


# --- pairs ------------------------------------------------------------------------------------------------------------------


def make_pairs(n=61, seed=6):
    generator = np.random.default_rng(seed)
    first, second = generator.standard_normal((2, n, 7)).astype(np.float32)
    second[::3] += 2 * first[::3]
    second[::9] = first[::9]
    second[1::12] = second[1]
    first[1::12] = first[1]  # ties
    return first, second


def test_similarities_by_definition():
    first, second = make_pairs()
    unit = [x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    found = evaluate.similarities(first, second)
    for name, expected in {
        "similarity": (unit[0] * unit[1]).sum(1),
        "cosine": (unit[0] * unit[1]).sum(1),
        "manhattan": -np.abs(first - second).sum(1),
        "euclidean": -np.linalg.norm(first - second, axis=1),
        "dot": (first * second).sum(1),
    }.items():
        assert found[name] == pytest.approx(expected, abs=3e-6) and found[name].dtype == np.float64
    assert (found["cosine"][::9] == 1).all()


def test_pair_classification_against_all_thresholds():
    first, second = make_pairs()
    labels = [int(i % 3 == 0 or i % 7 == 0) for i in range(61)]
    scores, items = evaluate.pair_classification(first, second, labels)
    for name, value in items.items():
        best, precisions = {"accuracy": 0, "f1": 0}, []
        for threshold in sorted(set(value), reverse=True):
            taken = [label for label, v in zip(labels, value, strict=True) if v >= threshold]
            right, wrong = sum(taken), len(taken) - sum(taken)
            precisions.append((right / sum(labels), right / len(taken)))
            if len(taken) < len(labels):  # the threshold below all pairs is none
                best["accuracy"] = max(best["accuracy"], (right + len(labels) - sum(labels) - wrong) / len(labels))
                best["f1"] = max(best["f1"], 2 * right / (len(taken) + sum(labels)))
        recalls = [0, *(recall for recall, _ in precisions)]
        ap = sum((recall - before) * precision for (recall, precision), before in zip(precisions, recalls, strict=False))
        assert {score: scores[f"{name}_{score}"] for score in best} == pytest.approx(best)
        assert scores[f"{name}_ap"] == pytest.approx(ap)
    assert scores["max_ap"] == max(scores[f"{name}_ap"] for name in items) and len(items) == 5


def test_equal_pairs_cannot_be_told_apart():
    same = np.ones((4, 3), np.float32)
    scores, _ = evaluate.pair_classification(same, same, [1, 0, 0, 1])
    assert (scores["max_accuracy"], scores["max_f1"], scores["max_ap"]) == (0, 0, 0.5)


def test_sts_against_mean_ranks():
    first, second = make_pairs()
    gold = [float(i % 5) for i in range(61)]
    scores, items = evaluate.sts(first, second, gold)
    ranks = [[sum(w < v for w in values) + sum(w == v for w in values) / 2 for v in values] for values in (gold, items["cosine"])]
    assert scores["cosine_spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert scores["manhattan_pearson"] == pytest.approx(np.corrcoef(gold, items["manhattan"])[0, 1])
    assert scores["spearman"] != scores["cosine_spearman"]  # equal texts tie in one and not in the other


# --- clustering -------------------------------------------------------------------------------------------------------------


def test_clustering_draws_and_perfect_clusters():
    labels = ["een", "twee", "drie"] * 11
    embeddings = np.eye(3, 5, dtype=np.float32)[np.arange(33) % 3]
    generator, reference = random.Random(42), random.Random(42)
    scores, _ = evaluate.clustering(embeddings, labels, generator)
    reference.sample(range(33), 33)
    for _ in range(10):
        reference.choices(range(33), k=16384)
    assert generator.getstate() == reference.getstate()
    assert scores["v_measure"] == pytest.approx(1) and scores["ami"] == pytest.approx(1) and scores["v_measure_std"] == pytest.approx(0)
    assert len(scores["v_measures"]["Level 0"]) == 10
    assert evaluate.clustering(np.ones((33, 5), np.float32), labels, random.Random(42))[0]["v_measure"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_sparse_rows_score_like_dense_ones(form):
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 3, 60).tolist()
    x = np.abs(generator.standard_normal((60, 11))).astype(np.float32) * (generator.random((60, 11)) < 0.4)
    x[np.arange(60), labels] += 2
    y = np.roll(x, 1, axis=0)
    draws, gold = evaluate.draw_rows(labels, 8), (generator.random(60) > 0.5).astype(int).tolist()
    several = [[label] * (i % 4 > 0) + [3] * (i % 3) for i, label in enumerate(labels)]
    scored = []
    for make in (np.asarray, form):
        a, b = make(x), make(y)
        scored.append([
            evaluate.classification(a, labels, b, labels, draws)[0]["f1"],
            evaluate.multilabel_classification(a, several, b, several, draws)[0]["f1"],
            evaluate.pair_classification(a, b, gold)[0]["dot_ap"],
            evaluate.pair_classification(a, b, gold)[0]["manhattan_ap"],
            evaluate.sts(a, b, gold)[0]["spearman"],
            evaluate.sts(a, b, gold)[0]["euclidean_pearson"],
            evaluate.clustering(a, labels, random.Random(42))[0]["v_measure"],
        ])  # fmt: skip
        found = evaluate.search(a[:5], b, [str(i) for i in range(60)], 7)
        scored[-1] += [score for _, scores in found for score in scores] + [int(id) for ids, _ in found for id in ids]
    assert scored[0] == pytest.approx(scored[1], abs=1e-5)


# --- retrieval --------------------------------------------------------------------------------------------------------------


def test_retrieval_by_hand():
    qrels = {"q": {"a": 3, "b": 0, "c": 1, "d": -2, "not in the corpus": 2}, "nothing relevant": {"a": 0}, "not in the run": {"a": 1}}
    qrels |= {"unjudged": {}, "nor this": {"c": 1}}
    run = {"q": (["x", "b", "c", "d", "a"], [0.5, 0.9, 0.5, 0.5, 0.1]), "nothing relevant": (["a"], [1.0]), "unjudged": (["a"], [1.0])}
    scores, items = retrieval(run, qrels)  # q is ranked b, x, d, c, a: ties by id, descending
    log = np.log2
    assert items["ndcg_at_10"] == pytest.approx([(1 / log(5) + 3 / log(6)) / (3 / log(2) + 2 / log(3) + 1 / log(4)), 0, 0, 0])
    assert items["ndcg_at_3"].tolist() == [0, 0, 0, 0]
    assert items["map_at_5"] == pytest.approx([(1 / 4 + 2 / 5) / 3, 0, 0, 0])
    assert items["recall_at_5"] == pytest.approx([2 / 3, 0, 0, 0]) and items["precision_at_20"] == pytest.approx([2 / 20, 0, 0, 0])
    assert items["mrr_at_10"].tolist() == [1 / 4, 0, 0, 0] and items["mrr_at_3"].tolist() == [0, 0, 0, 0]
    assert items["hit_rate_at_5"].tolist() == [1, 0, 0, 0]
    assert scores["map_at_5"] == pytest.approx((1 / 4 + 2 / 5) / 12)
    assert scores["accuracy"] == scores["recall_at_1"]


def test_retrieval_ties_are_those_of_float32_and_bytes():
    close = (["9", "10", "é", "z"], np.array([0.3, 0.3 + 1e-9, 0.3 - 1e-9, 0.3]))
    for place, id in enumerate(["é", "z", "9", "10"], 1):
        assert retrieval({"q": close}, {"q": {id: 1}})[0]["mrr_at_10"] == 1 / place
    ids = [str(i) for i in range(40)]
    constant = {id: (ids, np.zeros(40)) for id in ids}
    assert retrieval(constant, {id: {id: 1} for id in ids})[0]["mrr_at_100"] == pytest.approx(sum(1 / n for n in range(1, 41)) / 40)


def test_retrieval_measures_are_bounded_and_change_nothing():
    generator = np.random.default_rng(1)
    ids = [f"d{i}" for i in range(50)]
    qrels = {str(q): {id: int(g) for id, g in zip(ids, generator.integers(-1, 4, 50), strict=True)} for q in range(9)}
    run = {q: (ids[::-1], generator.integers(0, 9, 50).astype(np.float32)) for q in qrels}
    before = json.dumps([qrels, {q: (ids, s.tolist()) for q, (ids, s) in run.items()}])
    scores, items = retrieval(run, qrels)
    assert json.dumps([qrels, {q: (ids, s.tolist()) for q, (ids, s) in run.items()}]) == before
    assert all(0 <= value.min() and value.max() <= 1 for value in items.values())
    best = retrieval({q: (ids, [judged[id] for id in ids]) for q, judged in qrels.items()}, qrels)[0]
    assert best["ndcg_at_10"] == best["map_at_1000"] == best["mrr_at_1"] == pytest.approx(1)


@pytest.mark.parametrize("ids, scores", [("ab", [1, np.nan]), ("ab", [1, np.inf]), ("aa", [1, 2]), ("ab", [1]), ("ab", [[1, 2]])])
def test_rankings_that_cannot_be_measured(ids, scores):
    with pytest.raises(InputError, match="ranking of query 'q': expected each document once, with a finite score"):
        retrieval({"q": (list(ids), np.array(scores))}, {"q": {"a": 1}})
    with pytest.raises(InputError, match="no query is judged"):
        retrieval({"q": (["a"], [1])}, {"q": {}})


def test_nauc_by_hand():
    values = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    assert evaluate.nauc(np.array([1, 2, 3, 4, 5]), values) == pytest.approx(1)
    assert evaluate.nauc(np.ones(5), values) == pytest.approx(0)  # equal confidence: abstaining changes nothing
    assert evaluate.nauc(np.array([5, 4, 3, 2, 1]), values) == pytest.approx(-1)
    assert np.isnan(evaluate.nauc(np.array([1, 2, 3]), np.ones(3)))
    # two queries: up to 20 % both stay, from 30 % on the last one alone (round(0.5) is 0)
    curve = [0.5, 0.5, 0.5] + [1.0] * 7
    area, flat = 0.1 * (sum(curve) - (curve[0] + curve[-1]) / 2), 0.5 * 0.9
    assert evaluate.nauc(np.array([1, 2]), np.array([0.0, 1.0])) == pytest.approx((area - flat) / (area - flat))
    assert evaluate.nauc(np.array([2, 1]), np.array([0.0, 1.0])) == pytest.approx((-area + 2 * flat - flat) / (area - flat))


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_search_breaks_ties_by_id(form):
    corpus = np.float32([[1, 0, 0], [0, 1, 0], [2, 0, 0], [0, 0, 1], [3, 0, 0]])  # cosine: the lengths do not matter
    found = evaluate.search(form(np.float32([[1, 0, 0], [0, 2, 1]])), form(corpus), ["9", "b", "10", "a", "1"], 4)
    assert [ids for ids, _ in found] == [["9", "10", "1", "b"], ["b", "a", "9", "10"]]
    assert found[1][1] == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0, 0])
    assert len(evaluate.search(form(np.float32([[1, 0, 0]])), form(corpus), list("edcba"), 1000)[0][0]) == 5


# --- tasks ------------------------------------------------------------------------------------------------------------------


def write_tasks(folder, *entries, **files):
    """A task file with these tasks, and JSON Lines files by name."""
    for name, rows in files.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    write_json(folder / "tasks.json", {"tasks": list(entries)})
    return folder / "tasks.json"


def sts_entry(**changes):
    return {"name": "Sts", "type": "STS", "splits": {"test": "sts.jsonl"}} | changes


STS_ROWS = [{"sentence1": "a b", "sentence2": "a b c", "score": 4}, {"sentence1": "a b", "sentence2": "d", "score": 1.5},
            {"sentence1": "c d", "sentence2": "d e", "score": 3}]  # fmt: skip
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
    assert all(task.splits == {"test": [tmp_path / "sts.jsonl"]} for task in tasks)
    assert evaluate.select_tasks(tasks, ["Other"]) == tasks[1:] and evaluate.select_tasks(tasks, ["STS"]) == tasks
    assert evaluate.select_tasks(tasks, ["all"]) == tasks
    with pytest.raises(InputError, match="task 'oth' is unknown; did you mean Other"):
        evaluate.select_tasks(tasks, ["oth"])
    with pytest.raises(InputError, match="task 'Othr' is unknown; did you mean Other"):
        evaluate.select_tasks(tasks, ["Sts", "Othr"])
    with pytest.raises(InputError, match="task 'Sts' is given more than once"):
        read_tasks(write_tasks(tmp_path, sts_entry(), sts_entry()))
    with pytest.raises(InputError, match="expected {\"tasks\""):
        read_tasks(write_tasks(tmp_path))


BAD_ROWS = [  # type, changes of one row (None: taken out), message
    ("STS", {"sentence2": None}, r"^Task: .*test.jsonl:2: no column 'sentence2'; the row has sentence1, score, label, text"),
    ("STS", {"score": "4"}, r"test.jsonl:2: column 'score' is '4'; expected a number"),
    ("STS", {"sentence1": 7}, r"test.jsonl:2: column 'sentence1' is '7'; expected a text"),
    ("PairClassification", {"label": 2}, r"test.jsonl:2: column 'label' is '2'; expected 0 or 1"),
    ("PairClassification", {"label": 1}, r"Task: .*test.jsonl: all labels are 1; there is nothing to tell apart"),
    ("Clustering", {"label": None}, r"test.jsonl:2: no column 'labels' or 'label'; the row has"),
    ("Clustering", {"label": True}, r"test.jsonl:2: column 'label' is 'True'; expected a text or a whole number"),
    ("Clustering", {"label": "nul"}, r"Task: .*some labels are texts and some are numbers"),
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
        evaluate_task(task, cases.embed)


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


def test_columns_can_be_renamed(tmp_path):
    rows = [{"kop": "a", "zin": "b c", "cijfer": 1}, {"kop": "a b", "zin": "b", "cijfer": 2}, {"kop": "c", "zin": "c d", "cijfer": 5}]
    (task,) = read_tasks(write_tasks(tmp_path, sts_entry(columns={"sentence1": "kop", "sentence2": "zin", "score": "cijfer"}), sts=rows))
    found = evaluate.read_rows(task, task.splits["test"])
    assert found == {"sentence1": ["a", "a b", "c"], "sentence2": ["b c", "b", "c d"], "score": [1, 2, 5]}


def test_mtebs_own_column_comes_first(tmp_path):
    rows = [{"text": "x", "sentences": f"s{i}", "label": 7, "labels": i} for i in range(3)]
    (task,) = read_tasks(write_tasks(tmp_path, {"name": "C", "type": "Clustering", "splits": {"test": "rows.jsonl"}}, rows=rows))
    assert evaluate.read_rows(task, task.splits["test"]) == {"text": ["s0", "s1", "s2"], "label": [0, 1, 2]}


def write_beir(folder, corpus=("a", "b", "c"), queries=("1", "2"), qrels=(("1", "a", 1), ("1", "b", 0), ("2", "c", 2))):
    write_jsonl(folder / "corpus.jsonl.gz", [{"_id": id, "title": "titel" if id == "a" else "", "text": f" tekst {id} "} for id in corpus])
    write_jsonl(folder / "queries.jsonl", [{"_id": id, "text": f" vraag {id}"} for id in queries])
    (folder / "qrels").mkdir(exist_ok=True)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in qrels))


def test_retrieval_texts_and_shared_corpus(tmp_path):
    write_beir(tmp_path / "a")
    write_beir(tmp_path / "b", queries=("1", "3"), qrels=(("1", "a", 1), ("4", "a", 1)))
    (tmp_path / "b" / "corpus.jsonl.gz").unlink()
    entries = [{"name": "A", "type": "Retrieval", "splits": {"test": "a"}},
               {"name": "B", "type": "Retrieval", "splits": {"test": {"folder": "b", "corpus": "a/corpus.jsonl"}}}]  # fmt: skip
    tasks = read_tasks(write_tasks(tmp_path, *entries))
    queries, corpus, qrels, candidates = evaluate.read_ranking(tasks[1], tasks[1].splits["test"], "test")
    assert corpus == {"a": "titel  tekst a", "b": "tekst b", "c": "tekst c"} and candidates == {}
    assert queries == {"1": " vraag 1"} and qrels == {"1": {"a": 1}}  # query 3 is not judged, query 4 does not exist
    assert evaluate.read_ranking(tasks[0], tasks[0].splits["test"], "test")[1] == corpus


def test_reranking_candidates(tmp_path):
    write_beir(tmp_path / "a")
    (task,) = read_tasks(write_tasks(tmp_path, {"name": "A", "type": "Reranking", "splits": {"test": "a"}}))
    read = lambda: evaluate.read_ranking(task, task.splits["test"], "test")[3]  # noqa: E731
    assert read() == {"1": ["a", "b"], "2": ["c"]}  # the judged documents, zeros included
    ranked = tmp_path / "a" / "top_ranked.jsonl"
    write_jsonl(ranked, [{"query-id": "1", "corpus-ids": ["c", "a", "c"]}, {"query-id": "2", "corpus-ids": ["b"]}])
    assert read() == {"1": ["c", "a"], "2": ["b"]}
    found = evaluate_task(task, cases.embed)["test"][1]
    assert found["recall_at_1000"].tolist() == [1, 0]  # c is relevant for 2, and no candidate
    for rows, message in (([{"query-id": "1", "corpus-ids": ["c"]}], "^A: .*: query '2' has no candidates"),
                          ([{"query-id": q, "corpus-ids": ["x"]} for q in "12"], "^A: candidate 'x' of query '1' is not in .*corpus"),
                          ([{"query": "1"}], "top_ranked.jsonl:1: expected 'query-id', a text, and 'corpus-ids'")):  # fmt: skip
        write_jsonl(ranked, rows)
        with pytest.raises(InputError, match=message):
            evaluate_task(task, cases.embed)


def test_identical_ids_are_ignored_after_the_cut(tmp_path, monkeypatch):
    write_beir(tmp_path / "a", corpus=("1", "a", "2"), qrels=(("1", "a", 1), ("2", "a", 1)))
    embeddings = {" vraag 1": [1, 0], " vraag 2": [1, 0], "titel  tekst a": [1, 0.2], "tekst 1": [1, 0.1], "tekst 2": [0, 1]}
    encode = lambda texts, kind: np.float32([embeddings[text] for text in texts])  # noqa: E731
    for cut, ignore, expected in ((1000, False, [1 / 2, 1 / 2]), (1000, True, [1, 1 / 2]), (1, True, [0, 0])):
        monkeypatch.setattr(evaluate, "CUTS", (1, cut))
        entry = {"name": "A", "type": "Retrieval", "splits": {"test": "a"}, "ignore_identical_ids": ignore}
        (task,) = [*read_tasks(write_tasks(tmp_path, entry | {"main_score": "accuracy"}))]
        assert evaluate_task(task, encode)["test"][1][f"mrr_at_{cut}"].tolist() == expected


@pytest.mark.parametrize("policy, symmetric, ranking", [("mteb", {"none"}, {"query", "passage"}), ("none", {"none"}, {"none"}),
                                                        ("e5", {"query"}, {"query", "passage"})])  # fmt: skip
def test_prefix_policies(tmp_path, policy, symmetric, ranking):
    write_beir(tmp_path / "a")
    rows = [{"text": f"w{i}", "label": i % 2} for i in range(9)]
    entries = [sts_entry(), {"name": "C", "type": "Classification", "train": "rows.jsonl", "splits": {"test": "rows.jsonl"}},
               *({"name": type, "type": type, "splits": {"test": "a"}} for type in ("Retrieval", "Reranking"))]  # fmt: skip
    for task in read_tasks(write_tasks(tmp_path, *entries, sts=STS_ROWS, rows=rows)):
        seen = {}

        def encode(texts, kind):
            seen.setdefault(kind, []).extend(texts)
            return cases.embed(texts, kind)

        evaluate_task(task, encode, policy)
        assert set(seen) == (ranking if task.type in evaluate.RANKING else symmetric)
        if policy != "none" and task.type in evaluate.RANKING:
            assert seen == {"query": [" vraag 1", " vraag 2"], "passage": ["titel  tekst a", "tekst b", "tekst c"]}


def test_only_drawn_training_texts_are_embedded(tmp_path):
    train = [{"text": f"w{i}", "label": "veel" if i else "zelden"} for i in range(400)]
    test = [{"text": f"v{i}", "label": ["veel", "zelden"][i % 2]} for i in range(5)]
    entry = {"name": "C", "type": "Classification", "train": "train.jsonl", "splits": {"test": "test.jsonl"}, "samples_per_label": 3}
    (task,) = read_tasks(write_tasks(tmp_path, entry, train=train, test=test))
    seen = []
    scores = evaluate_task(task, lambda texts, kind: (seen.extend(texts), cases.embed(texts, kind))[1])["test"][0]
    drawn = evaluate.draw_rows([row["label"] for row in train], 3)
    assert sorted(seen) == sorted({f"w{i}" for rows in drawn for i in rows} | {row["text"] for row in test})
    everything = [cases.embed([row["text"] for row in rows], "none") for rows in (train, test)]
    labels = [[row["label"] for row in rows] for rows in (train, test)]
    assert scores["accuracy"] == evaluate.classification(everything[0], labels[0], everything[1], labels[1], drawn)[0]["accuracy"]


def test_random_streams_go_on_over_the_splits_of_a_task(tmp_path):
    cases.write_case("SIB200ClusteringS2S", tmp_path)
    entry = {"name": "Twice", "type": "Clustering", "splits": {"one": ["a.jsonl", "b.jsonl"], "two": ["a.jsonl", "b.jsonl"]}}
    (task,) = read_tasks(write_tasks(tmp_path, entry))
    twice = evaluate_task(task, cases.embed)
    assert twice["one"][0]["v_measures"] != twice["two"][0]["v_measures"]
    assert evaluate_task(task, cases.embed)["two"][0] == twice["two"][0]


# --- the run ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_each_text_is_embedded_once(form):
    calls = []

    def encode(texts, kind):
        calls.append((kind, texts))
        return form(cases.embed(texts, kind))

    once = remember(encode)
    dense = lambda x: x.toarray() if scipy.sparse.issparse(x) else x  # noqa: E731
    for texts, kind in ((["a", "b", "a"], "query"), (["c", "a"], "query"), (["a"], "passage"), (["b"], "query")):
        assert np.array_equal(dense(once(texts, kind)), cases.embed(texts, kind))
    assert calls == [("query", ["a", "b"]), ("query", ["c"]), ("passage", ["a"])]


@pytest.mark.parametrize("bad, message", [
    (lambda x: x[1:], r"the model gave embeddings \(1, 24\) for 2 texts; expected \(2, 24\)"),
    (lambda x: x[:, 1:], r"the model gave embeddings \(2, 23\) for 2 texts; expected \(2, 24\)"),
    (lambda x: np.where([[False], [True]], np.nan, x), "NaN or infinite for 1 of 2 texts, the first is 'tweede'"),
    (lambda x: x * [[0], [1]], "all zero for 1 of 2 texts, the first is 'eerste'"),
])  # fmt: skip
def test_embeddings_that_cannot_be_scored(bad, message):
    once = remember(lambda texts, kind: cases.embed(texts, kind) if kind == "passage" else bad(cases.embed(texts, kind)))
    once(["iets"], "passage")
    with pytest.raises(InputError, match=message):
        once(["eerste", "tweede"], "query")


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


def test_undefined_scores_are_null_in_files(tmp_path):
    cases.write_case("VaccinChatNLClassification", tmp_path)
    ((result, _),) = evaluate.run(read_tasks(tmp_path / "tasks.json"), cases.embed, tmp_path / "out", {})
    text = (tmp_path / "out" / "VaccinChatNLClassification.json").read_text()
    assert "NaN" not in text and json.loads(text)["scores"]["test"][0]["ap"] is None and json.loads(text) == result


def write_results(folder, **scores):
    types = {"S": "STS", "C1": "Clustering", "C2": "Clustering"}
    for task, score in scores.items():
        result = {"task_name": task, "task_type": types[task], "main_score": score, "scores": {}, "settings": {}}
        write_json(folder / f"{task}.json", result)


def test_report_by_hand(tmp_path):
    write_results(tmp_path / "a", S=0.5, C1=0.2, C2=0.1)
    write_results(tmp_path / "b", S=0.75, C2=0.3)
    write_json(tmp_path / "a" / "summary.json", {"anything": 1})
    assert evaluate.report([tmp_path / "a", tmp_path / "b"], "csv").splitlines() == [
        "task,type,a,b",
        "C1,Clustering,20.00,-",
        "C2,Clustering,10.00,30.00",
        "S,STS,50.00,75.00",
        "mean Clustering,,15.00,-",
        "mean STS,,50.00,75.00",
        "mean over tasks,,26.67,-",
        "mean over types,,32.50,-",
    ]
    text, markdown = (evaluate.report([tmp_path / "a", tmp_path / "b"], form).splitlines() for form in ("text", "markdown"))
    assert text[0].split() == ["task", "type", "a", "b"] and text[2].split() == ["C1", "Clustering", "20.00", "-"] and len(text) == 10
    assert markdown[1].replace("-", "") == "|  |  | : | : |" and len({len(line) for line in markdown}) == 1
    with pytest.raises(FileNotFoundError, match="c: no result files"):
        evaluate.report([tmp_path / "c"])
    write_json(tmp_path / "b" / "x.json", {"task_name": "x"})
    with pytest.raises(InputError, match="x.json: not a result file of evaluate.py .task_type is None"):
        evaluate.report([tmp_path / "b"])


def test_command_line(tmp_path, folder, capsys):
    path = write_tasks(tmp_path, sts_entry(), sts_entry(name="Other"), sts=STS_ROWS)
    arguments = ["run", "--model", str(folder), "--tasks-file", str(path), "--out", str(tmp_path / "out")]
    evaluate.main([*arguments, "--tasks", "Sts", "--prefix", "e5"])
    printed = capsys.readouterr().out
    settings = json.loads((tmp_path / "out" / "Sts.json").read_text())["settings"]
    assert settings["prefix"] == "e5" and settings["dtype"] == "float32" and len(settings["weights"]) == 64
    assert settings["prompts"]["query"] == "query: " and "1/1 Sts: cosine_spearman" in printed
    evaluate.main(["report", str(tmp_path / "out")])
    assert "mean over tasks" in capsys.readouterr().out
    with pytest.raises(InputError, match="task 'othr' is unknown; did you mean Other"):
        evaluate.main([*arguments, "--tasks", "othr"])
