"""scoring.py: against mteb's scores (golden values), against hand calculation and against slow obvious versions.

Properties: the random draws are those of the protocol; sparse rows score like dense ones; ties are broken as trec_eval does; nothing
given is changed; the items alone give the main score again. That all scores are mteb's is tested in test_evaluate.py (golden values)
and in parity/test_mteb.py (mteb itself).

    python -m pytest tests/test_scoring.py
"""

import doctest
import json
import random
from collections import Counter

import numpy as np
import pytest
import scipy.sparse
from sklearn import metrics

import scoring
from files import InputError
from scoring import retrieval, score_again


def test_examples_in_docstrings():
    assert doctest.testmod(scoring).failed == 0 and doctest.testmod(scoring).attempted >= 3


# --- classification ---------------------------------------------------------------------------------------------------------


def test_draws_apply_one_permutation_again_and_again():
    labels = np.random.default_rng(0).integers(0, 4, 37).tolist()
    permutation = list(range(37))
    np.random.RandomState(42).shuffle(permutation)
    order = list(range(37))
    for rows in scoring.draw_rows(labels, 3):
        order = [order[i] for i in permutation]
        assert rows == [i for place, i in enumerate(order) if [labels[j] for j in order[:place]].count(labels[i]) < 3]
    assert Counter(labels[i] for i in rows) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert len(scoring.draw_rows(["a"] * 9 + ["b"], 8)[0]) == 9  # a rare label gives what it has


def test_multilabel_draws_use_one_stream():
    labels = [[0, 1], [0], [], [1, 2], [0, 2], [], [2], [0, 1, 2], [1]] * 4
    generator, reference = np.random.default_rng(42), np.random.default_rng(42)
    for rows in scoring.draw_multilabel_rows(labels, 2, generator):
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
    scores, items = scoring.classification(train, ["a", "b", "c"] * 6, test, ["a", "b", "b", "d"], [list(range(18))] * 2)
    assert scores["accuracy"] == 0.5
    assert scores["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)  # c is only predicted, d only true: both count
    assert scores["f1_weighted"] == pytest.approx((2 / 3 + 2 * 2 / 3 + 0) / 4)
    assert scores["precision"] == pytest.approx((1 / 2 + 1 + 0 + 0) / 4) and scores["recall"] == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert items["label"].tolist() == [0, 1, 1, 3] and items["predicted"].tolist() == [[0, 0], [1, 1], [0, 0], [2, 2]]
    assert np.isnan(scores["ap"])


def test_classification_average_precision_of_two_labels():
    train, test = np.float32([[1, 0], [0, 1]] * 6), np.float32([[1, 0], [0, 1], [0, 1], [1, 0]])  # predicted: 0, 1, 1, 0
    scores, _ = scoring.classification(train, [0, 1] * 6, test, [0, 1, 0, 1], [list(range(12))])
    assert scores["ap"] == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 4)  # at the prediction 1: precision 1/2, recall 1/2; then everything


@pytest.mark.filterwarnings("error")  # labels that only the training rows have are no surprise
def test_multilabel_by_hand():
    train, test = np.eye(5, dtype=np.float32), np.eye(4, 5, dtype=np.float32)  # 5 neighbours of 5 rows: the majority, x and y, everywhere
    labels = [["x"], ["x"], ["x", "y"], ["y", "only in train"], ["y", "only in train"]]
    scores, items = scoring.multilabel_classification(train, labels, test, [["y", "x"], ["x"], [], ["x", "y"]], [[0, 1, 2, 3, 4]])
    assert scores["accuracy"] == 0.5 and items["predicted"].shape == (4, 1, 2) and items["predicted"].all()
    assert items["label"].tolist() == [[True, True], [True, False], [False, False], [True, True]]
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
    found = scoring.similarities(first, second)
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
    scores, items = scoring.pair_classification(first, second, labels)
    assert items.pop("label").tolist() == labels
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
        assert scores[f"{name}_ap"] == pytest.approx(ap) == pytest.approx(metrics.average_precision_score(labels, value))
    assert scores["max_ap"] == max(scores[f"{name}_ap"] for name in items) and len(items) == 5


def test_equal_pairs_cannot_be_told_apart():
    same = np.ones((4, 3), np.float32)
    scores, _ = scoring.pair_classification(same, same, [1, 0, 0, 1])
    assert (scores["max_accuracy"], scores["max_f1"], scores["max_ap"]) == (0, 0, 0.5)


def test_sts_against_mean_ranks():
    first, second = make_pairs()
    gold = [float(i % 5) for i in range(61)]
    scores, items = scoring.sts(first, second, gold)
    ranks = [[sum(w < v for w in values) + sum(w == v for w in values) / 2 for v in values] for values in (gold, items["cosine"])]
    assert scores["cosine_spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert scores["manhattan_pearson"] == pytest.approx(np.corrcoef(gold, items["manhattan"])[0, 1])
    assert scores["spearman"] != scores["cosine_spearman"]  # equal texts tie in one and not in the other


# --- clustering -------------------------------------------------------------------------------------------------------------


def test_clustering_draws_and_perfect_clusters():
    labels = ["een", "twee", "drie"] * 11
    embeddings = np.eye(3, 5, dtype=np.float32)[np.arange(33) % 3]
    generator, reference = random.Random(42), random.Random(42)
    scores, _ = scoring.clustering(embeddings, labels, generator)
    reference.sample(range(33), 33)
    for _ in range(10):
        reference.choices(range(33), k=16384)
    assert generator.getstate() == reference.getstate()
    assert scores["v_measure"] == pytest.approx(1) and scores["ami"] == pytest.approx(1) and scores["v_measure_std"] == pytest.approx(0)
    assert len(scores["v_measures"]["Level 0"]) == 10
    assert scoring.clustering(np.ones((33, 5), np.float32), labels, random.Random(42))[0]["v_measure"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_sparse_rows_score_like_dense_ones(form):
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 3, 60).tolist()
    x = np.abs(generator.standard_normal((60, 11))).astype(np.float32) * (generator.random((60, 11)) < 0.4)
    x[np.arange(60), labels] += 2
    y = np.roll(x, 1, axis=0)
    draws, gold = scoring.draw_rows(labels, 8), (generator.random(60) > 0.5).astype(int).tolist()
    several = [[label] * (i % 4 > 0) + [3] * (i % 3) for i, label in enumerate(labels)]
    scored = []
    for make in (np.asarray, form):
        a, b = make(x), make(y)
        scored.append([
            scoring.classification(a, labels, b, labels, draws)[0]["f1"],
            scoring.multilabel_classification(a, several, b, several, draws)[0]["f1"],
            scoring.pair_classification(a, b, gold)[0]["dot_ap"],
            scoring.pair_classification(a, b, gold)[0]["manhattan_ap"],
            scoring.sts(a, b, gold)[0]["spearman"],
            scoring.sts(a, b, gold)[0]["euclidean_pearson"],
            scoring.clustering(a, labels, random.Random(42))[0]["v_measure"],
        ])  # fmt: skip
        found = scoring.best_documents(a[:5], b, [str(i) for i in range(60)], 7)
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
    assert items.pop("query").tolist() == list(qrels)
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
    assert scoring.nauc(np.array([1, 2, 3, 4, 5]), values) == pytest.approx(1)
    assert scoring.nauc(np.ones(5), values) == pytest.approx(0)  # equal confidence: abstaining changes nothing
    assert scoring.nauc(np.array([5, 4, 3, 2, 1]), values) == pytest.approx(-1)
    assert np.isnan(scoring.nauc(np.array([1, 2, 3]), np.ones(3)))
    # two queries: up to 20 % both stay, from 30 % on the last one alone (round(0.5) is 0)
    curve = [0.5, 0.5, 0.5] + [1.0] * 7
    area, flat = 0.1 * (sum(curve) - (curve[0] + curve[-1]) / 2), 0.5 * 0.9
    assert scoring.nauc(np.array([1, 2]), np.array([0.0, 1.0])) == pytest.approx((area - flat) / (area - flat))
    assert scoring.nauc(np.array([2, 1]), np.array([0.0, 1.0])) == pytest.approx((-area + 2 * flat - flat) / (area - flat))


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_search_breaks_ties_by_id(form):
    corpus = np.float32([[1, 0, 0], [0, 1, 0], [2, 0, 0], [0, 0, 1], [3, 0, 0]])  # cosine: the lengths do not matter
    found = scoring.best_documents(form(np.float32([[1, 0, 0], [0, 2, 1]])), form(corpus), ["10", "b", "9", "a", "1"], 4)
    assert [ids for ids, _ in found] == [["9", "10", "1", "b"], ["b", "a", "9", "10"]]
    assert found[1][1] == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0, 0])
    assert len(scoring.best_documents(form(np.float32([[1, 0, 0]])), form(corpus), list("edcba"), 1000)[0][0]) == 5


# --- the main score of some of the items ------------------------------------------------------------------------------------


def test_scores_again_of_some_items_are_scores_of_those_alone():
    """What a bootstrap computes from items is what the scores of a task with only these items would be."""
    generator = np.random.default_rng(3)
    train, test = (generator.standard_normal((n, 6)).astype(np.float32) for n in (60, 47))
    labels, chosen = generator.integers(0, 5, 107), generator.integers(0, 47, 30)
    texts = ["abcde"[i] for i in labels]
    draws = scoring.draw_rows(texts[:60], 8)
    _, items = scoring.classification(train, texts[:60], test, texts[60:], draws)
    alone, _ = scoring.classification(train, texts[:60], test[chosen], [texts[60 + i] for i in chosen], draws)
    some = {name: array[chosen] for name, array in items.items()}
    for score in ("accuracy", "f1"):
        assert score_again("Classification", score, some) == pytest.approx(alone[score])
    without = np.flatnonzero((items["label"] != 4) & (items["predicted"] != 4).all(1))  # a label that neither occurs nor is predicted
    alone, _ = scoring.classification(train, texts[:60], test[without], [texts[60 + i] for i in without], draws)
    assert 5 < len(without) < 47 and 4 in items["label"]
    assert score_again("Classification", "f1", {name: array[without] for name, array in items.items()}) == pytest.approx(alone["f1"])
    run = {"q": (["a", "b"], [2, 1]), "r": (["a", "b"], [2, 1])}
    scores, ranked = retrieval(run, {"q": {"a": 1, "b": 1}, "r": {"b": 1}})
    assert score_again("Retrieval", "accuracy", ranked) == scores["accuracy"] == 0.25
    assert score_again("Classification", "precision", some) is None and score_again("Clustering", "v_measure", {}) is None

    several = [[int(i)] * bool(i) + [7] * (n % 3 == 0) + [8] * (n == 70) for n, i in enumerate(labels)]
    draws = scoring.draw_multilabel_rows(several[:60], 8, generator)
    _, items = scoring.multilabel_classification(train, several[:60], test, several[60:], draws)
    chosen = chosen[chosen != 10]  # the only text with label 8: among the others it does not occur
    alone, _ = scoring.multilabel_classification(train, several[:60], test[chosen], [several[60 + i] for i in chosen], draws)
    for score in ("accuracy", "f1"):
        some = {name: array[chosen] for name, array in items.items()}
        assert score_again("MultilabelClassification", score, some) == pytest.approx(alone[score])

    first, second = make_pairs()
    gold = (generator.random(61) < 0.4).astype(int).tolist()
    for type, score, name in (("STS", scoring.sts, "cosine_spearman"), ("STS", scoring.sts, "pearson"),
                              ("PairClassification", scoring.pair_classification, "max_ap")):  # fmt: skip
        _, items = score(first, second, gold)
        alone, _ = score(first[chosen], second[chosen], [gold[i] for i in chosen])
        assert score_again(type, name, {key: array[chosen] for key, array in items.items()}) == pytest.approx(alone[name])
