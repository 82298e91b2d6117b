"""metrics.py against hand calculation, scikit-learn and slow obvious versions.

That all scores are mteb's is tested in test_evaluate.py (golden values) and in parity/test_mteb.py.

    python -m pytest tests/test_metrics.py
"""

import copy
import doctest
import random
from collections import Counter

import numpy as np
import pytest
import sklearn.metrics

import metrics
from files import InputError
from metrics import label_scores, multilabel_scores, retrieval, score_items


def test_examples_in_docstrings():
    results = doctest.testmod(metrics)
    assert results.failed == 0 and results.attempted >= 3


# --- classification -------------------------------------------------------------------------------


def test_draws_apply_one_permutation_again_and_again():
    labels = np.random.default_rng(0).integers(0, 4, 37).tolist()
    permutation, order = list(range(37)), list(range(37))
    np.random.RandomState(42).shuffle(permutation)
    for rows in metrics.draw_rows(labels, 3):
        order = [order[i] for i in permutation]
        before = {i: [labels[j] for j in order[:place]] for place, i in enumerate(order)}
        assert rows == [i for i in order if before[i].count(labels[i]) < 3]
    assert Counter(labels[i] for i in rows) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert len(metrics.draw_rows(["a"] * 9 + ["b"], 8)[0]) == 9, "a rare label gives what it has"


def test_multilabel_draws_use_one_stream():
    labels = [[0, 1], [0], [], [1, 2], [0, 2], [], [2], [0, 1, 2], [1]] * 4
    generator, reference = np.random.default_rng(42), np.random.default_rng(42)
    for rows in metrics.draw_multilabel_rows(labels, 2, generator):
        order, counts, expected = list(range(len(labels))), Counter(), []
        reference.shuffle(order)
        for i in order:
            if [label for label in labels[i] if counts[label] < 2]:
                expected.append(i)
                counts.update(labels[i])
        assert rows == expected and all(labels[i] for i in rows)
    assert generator.bit_generator.state == reference.bit_generator.state


def test_classification_by_hand():
    train = np.float32([[1, 0], [0, 1], [-1, -1]] * 6)
    test = np.float32([[1, 0], [0, 1], [0.9, 0.1], [-1, -1]])  # predicted: a, b, a, c
    draws = [list(range(18))] * 2
    labels = ["a", "b", "b", "d"]
    scores, items = metrics.classification(train, ["a", "b", "c"] * 6, test, labels, draws)
    assert scores["accuracy"] == 0.5
    # c is only predicted, d is only true: both count
    assert scores["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)
    assert scores["f1_weighted"] == pytest.approx((2 / 3 + 2 * 2 / 3 + 0) / 4)
    assert scores["precision"] == pytest.approx((1 / 2 + 1 + 0 + 0) / 4)
    assert scores["recall"] == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert items["label"].tolist() == [0, 1, 1, 3]
    assert items["predicted"].tolist() == [[0, 0], [1, 1], [0, 0], [2, 2]]
    assert np.isnan(scores["ap"])


def test_average_precision_of_two_labels():
    train, test = np.float32([[1, 0], [0, 1]] * 6), np.float32([[1, 0], [0, 1], [0, 1], [1, 0]])
    scores, _ = metrics.classification(train, [0, 1] * 6, test, [0, 1, 0, 1], [list(range(12))])
    # predicted 0, 1, 1, 0: at the prediction 1 precision 1/2 and recall 1/2, then everything
    assert scores["ap"] == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 4)


@pytest.mark.parametrize("seed", range(40))
def test_scores_of_labels_are_those_of_scikit_learn_to_the_last_bit(seed):
    generator = np.random.default_rng(seed)
    label, predicted = generator.integers(0, generator.integers(1, 9), (2, 29))
    label = label * 2  # labels that only one of the two has
    scores = label_scores(label, predicted)
    assert scores["accuracy"] == sklearn.metrics.accuracy_score(label, predicted)
    for name in ("f1", "precision", "recall"):
        score = getattr(sklearn.metrics, f"{name}_score")
        for average, key in (("macro", name), ("weighted", f"{name}_weighted")):
            assert scores[key] == score(label, predicted, average=average, zero_division=0), key

    label, predicted = generator.random((2, 31, 5)) < 0.3
    label[0] = True  # each label occurs, as in a test set
    scores = multilabel_scores(label, predicted)
    assert scores["accuracy"] == sklearn.metrics.accuracy_score(label, predicted)
    f1 = sklearn.metrics.f1_score(label, predicted, average="macro", zero_division=0)
    assert scores["f1"] == f1


@pytest.mark.filterwarnings("error")  # labels that only the training rows have are no surprise
def test_multilabel_by_hand():
    # 5 neighbours of 5 rows: the majority, x and y, everywhere
    train, test = np.eye(5, dtype=np.float32), np.eye(4, 5, dtype=np.float32)
    train_labels = [["x"], ["x"], ["x", "y"], ["y", "only in train"], ["y", "only in train"]]
    test_labels, draws = [["y", "x"], ["x"], [], ["x", "y"]], [[0, 1, 2, 3, 4]]
    score = metrics.multilabel_classification
    scores, items = score(train, train_labels, test, test_labels, draws)
    assert items["predicted"].shape == (4, 1, 2) and items["predicted"].all()
    assert items["label"].tolist() == [[True, True], [True, False], [False, False], [True, True]]
    assert scores["accuracy"] == 0.5
    assert scores["f1"] == pytest.approx((6 / 7 + 4 / 6) / 2)
    assert scores["hamming"] == pytest.approx((1 + 1 / 2 + 0 + 1) / 4)
    # equal scores: each label's rank is 2; where no label is true, lrap is 1
    assert scores["lrap"] == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)


# --- pairs ----------------------------------------------------------------------------------------


def make_pairs(n=61, seed=6):
    generator = np.random.default_rng(seed)
    first, second = generator.standard_normal((2, n, 7)).astype(np.float32)
    second[::3] += 2 * first[::3]
    second[::9] = first[::9]
    second[1::12] = second[1]
    first[1::12] = first[1]  # ties
    return first, second


def test_similarities_by_definition():
    a, b = make_pairs()
    unit = [x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    cosine = (unit[0] * unit[1]).sum(1)
    expected = {
        "similarity": cosine,
        "cosine": cosine,
        "manhattan": -np.abs(a - b).sum(1),
        "euclidean": -np.linalg.norm(a - b, axis=1),
        "dot": (a * b).sum(1),
    }
    found = metrics.similarities(a, b)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert values == pytest.approx(expected[name], abs=3e-6) and values.dtype == np.float64
    assert (found["cosine"][::9] == 1).all()


def test_pair_classification_against_all_thresholds():
    first, second = make_pairs()
    labels = [int(i % 3 == 0 or i % 7 == 0) for i in range(61)]
    scores, items = metrics.pair_classification(first, second, labels)
    assert items.pop("label").tolist() == labels and len(items) == 5
    for name, values in items.items():
        accuracies, f1s = [], []
        for threshold in sorted(set(values), reverse=True)[:-1]:  # the last would take all pairs
            taken = values >= threshold
            right = taken[np.array(labels) == 1].sum()
            accuracies.append(np.mean(taken == labels))
            f1s.append(2 * right / (taken.sum() + sum(labels)))
        assert scores[f"{name}_accuracy"] == pytest.approx(max(accuracies))
        assert scores[f"{name}_f1"] == pytest.approx(max(f1s))
        ap = sklearn.metrics.average_precision_score(labels, values)
        assert scores[f"{name}_ap"] == pytest.approx(ap)
    assert scores["max_ap"] == max(scores[f"{name}_ap"] for name in items)


def test_equal_pairs_cannot_be_told_apart():
    same = np.ones((4, 3), np.float32)
    scores, _ = metrics.pair_classification(same, same, [1, 0, 0, 1])
    assert (scores["max_accuracy"], scores["max_f1"], scores["max_ap"]) == (0, 0, 0.5)


def test_sts_against_mean_ranks():
    gold = [float(i % 5) for i in range(61)]
    scores, items = metrics.sts(*make_pairs(), gold)
    ranks = [
        [sum(w < v for w in values) + sum(w == v for w in values) / 2 for v in values]
        for values in (gold, items["cosine"])
    ]
    assert scores["cosine_spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert scores["manhattan_pearson"] == pytest.approx(np.corrcoef(gold, items["manhattan"])[0, 1])
    assert scores["spearman"] != scores["cosine_spearman"], (
        "equal texts tie in one, not in the other"
    )


# --- clustering -----------------------------------------------------------------------------------


def test_clustering_draws_and_perfect_clusters():
    labels = ["een", "twee", "drie"] * 11
    embeddings = np.eye(3, 5, dtype=np.float32)[np.arange(33) % 3]
    generator, reference = random.Random(42), random.Random(42)
    scores, items = metrics.clustering(embeddings, labels, generator)
    reference.sample(range(33), 33)
    for _ in range(10):
        reference.choices(range(33), k=16384)
    assert generator.getstate() == reference.getstate()
    assert (scores["v_measure"], scores["ami"], scores["v_measure_std"]) == pytest.approx((1, 1, 0))
    assert len(scores["v_measures"]["Level 0"]) == 10 and items == {}
    same = np.ones((33, 5), np.float32)
    scores, _ = metrics.clustering(same, labels, random.Random(42))
    assert scores["v_measure"] == pytest.approx(0, abs=1e-6)


# --- retrieval ------------------------------------------------------------------------------------


def test_retrieval_by_hand():
    qrels = {
        "q": {"a": 3, "b": 0, "c": 1, "d": -2, "not in the corpus": 2},
        "nothing relevant": {"a": 0},
        "not ranked": {"a": 1},
        "unjudged": {},
        "nor this": {"c": 1},
    }
    ranking = {
        "q": (["x", "b", "c", "d", "a"], [0.5, 0.9, 0.5, 0.5, 0.1]),  # b, x, d, c, a: ties by id
        "nothing relevant": (["a"], [1.0]),
        "unjudged": (["a"], [1.0]),
    }
    scores, items = retrieval(ranking, qrels)
    log = np.log2
    ideal = 3 / log(2) + 2 / log(3) + 1 / log(4)
    expected = {
        "ndcg_at_10": (1 / log(5) + 3 / log(6)) / ideal,
        "ndcg_at_3": 0,
        "map_at_5": (1 / 4 + 2 / 5) / 3,
        "recall_at_5": 2 / 3,
        "precision_at_20": 2 / 20,
        "mrr_at_10": 1 / 4,
        "mrr_at_3": 0,
        "hit_rate_at_5": 1,
    }
    for name, value in expected.items():
        assert items[name] == pytest.approx([value, 0, 0, 0]), name
    assert items["query"].tolist() == ["q", "nothing relevant", "not ranked", "nor this"]
    assert scores["map_at_5"] == pytest.approx((1 / 4 + 2 / 5) / 12)
    assert scores["accuracy"] == scores["recall_at_1"]


def test_retrieval_ties_are_those_of_float32_and_bytes():
    close = (["9", "10", "é", "z"], np.array([0.3, 0.3 + 1e-9, 0.3 - 1e-9, 0.3]))
    for place, id in enumerate(["é", "z", "9", "10"], 1):
        assert retrieval({"q": close}, {"q": {id: 1}})[0]["mrr_at_10"] == 1 / place


def test_retrieval_measures_are_bounded_and_change_nothing():
    generator = np.random.default_rng(1)
    ids = [f"d{i}" for i in range(50)]
    grades = generator.integers(-1, 4, (9, 50)).tolist()
    qrels = {str(q): dict(zip(ids, row, strict=True)) for q, row in enumerate(grades)}
    ranking = {q: (ids[::-1], generator.integers(0, 9, 50).tolist()) for q in qrels}
    before = copy.deepcopy((qrels, ranking))
    _, items = retrieval(ranking, qrels)
    assert (qrels, ranking) == before
    assert items.pop("query").tolist() == list(qrels)
    assert all(0 <= values.min() and values.max() <= 1 for values in items.values())
    ideal = {q: (ids, list(judged.values())) for q, judged in qrels.items()}
    best, _ = retrieval(ideal, qrels)
    assert best["ndcg_at_10"] == best["map_at_1000"] == best["mrr_at_1"] == pytest.approx(1)


BAD = [("ab", [1, np.nan]), ("ab", [1, np.inf]), ("aa", [1, 2]), ("ab", [1]), ("ab", [[1, 2]])]


@pytest.mark.parametrize("ids, scores", BAD)
def test_rankings_that_cannot_be_measured(ids, scores):
    with pytest.raises(
        InputError, match="ranking of query 'q': expected each document once, with a"
    ):
        retrieval({"q": (list(ids), np.array(scores))}, {"q": {"a": 1}})
    with pytest.raises(InputError, match="no query is judged"):
        retrieval({"q": (["a"], [1])}, {"q": {}})


def test_ranking_by_cosine_with_ties_by_id():
    ids = ["b", "a", "9", "10", "1"]
    corpus = np.float32([[0, 1, 0], [0, 0, 1], [2, 0, 0], [1, 0, 0], [3, 0, 0]])
    queries = np.float32([[1, 0, 0], [0, 2, 1]])
    ranking = metrics.rank_corpus(["q", "r"], queries, ids, corpus)
    assert ranking["q"][0] == ["9", "10", "1", "b", "a"], "the lengths do not matter"
    assert ranking["r"][0] == ["b", "a", "9", "10", "1"]
    assert ranking["r"][1] == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0, 0, 0])
    given = {"q": ["1", "a"], "r": ["a", "b", "9"]}
    ranking = metrics.rank_candidates(["q", "r"], queries, ids, corpus, given)
    assert {query: names for query, (names, _) in ranking.items()} == given
    assert ranking["q"][1].tolist() == [1, 0]
    assert ranking["r"][1] == pytest.approx([1 / 5**0.5, 2 / 5**0.5, 0])


# --- a score of drawn items -----------------------------------------------------------------------


def drawn(items, chosen):
    return {name: array[chosen] for name, array in items.items()}


@pytest.mark.parametrize("several", [False, True])
def test_classification_of_some_items_is_that_of_those_texts_alone(several):
    """Also where a label neither occurs nor is predicted among them."""
    generator = np.random.default_rng(3)
    train, test = (generator.standard_normal((n, 6)).astype(np.float32) for n in (60, 47))
    numbers = generator.integers(0, 5, 107).tolist()
    type = "MultilabelClassification" if several else "Classification"
    classify = metrics.multilabel_classification if several else metrics.classification
    labels = [[i] * bool(i) + [7] * (n % 3 == 0) + [8] * (n == 70) for n, i in enumerate(numbers)]
    if not several:
        labels = ["abcde"[i] for i in numbers]
    draw = metrics.draw_multilabel_rows if several else metrics.draw_rows
    draws = draw(labels[:60], 8, *([generator] if several else []))
    _, items = classify(train, labels[:60], test, labels[60:], draws)
    often = generator.integers(0, 47, 30)
    rare = (items["label"] != 4) & (items["predicted"] != 4).all(1) if not several else [True] * 47
    for chosen in (often[often != 10], np.flatnonzero(rare)):  # 10 alone has the label 8
        some = [labels[60 + i] for i in chosen]
        alone, _ = classify(train, labels[:60], test[chosen], some, draws)
        for score in ("accuracy", "f1"):
            assert score_items(type, score, drawn(items, chosen)) == pytest.approx(alone[score])


def test_scores_of_some_pairs_and_queries():
    generator = np.random.default_rng(3)
    first, second = make_pairs()
    gold, chosen = (generator.random(61) < 0.4).astype(int).tolist(), generator.integers(0, 61, 30)
    for type, score, name in (
        ("STS", metrics.sts, "cosine_spearman"),
        ("STS", metrics.sts, "pearson"),
        ("PairClassification", metrics.pair_classification, "max_ap"),
    ):
        _, items = score(first, second, gold)
        alone, _ = score(first[chosen], second[chosen], [gold[i] for i in chosen])
        assert score_items(type, name, drawn(items, chosen)) == pytest.approx(alone[name])
    ranking = {"q": (["a", "b"], [2, 1]), "r": (["a", "b"], [2, 1])}
    scores, items = retrieval(ranking, {"q": {"a": 1, "b": 1}, "r": {"b": 1}})
    assert score_items("Retrieval", "accuracy", items) == scores["accuracy"] == 0.25
    assert score_items("Reranking", "map_at_5", drawn(items, [1, 1])) == 0.5
