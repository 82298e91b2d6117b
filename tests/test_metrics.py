"""metrics.py against hand calculation, scikit-learn and slow obvious versions.

That every score of every type is mteb's, random draws, ties and odd labels included, is tested in
test_evaluate.py (golden values) and in parity/test_mteb.py. Here is what these do not show.

    python -m pytest tests/test_metrics.py
"""

import doctest
from collections import Counter

import numpy as np
import pytest
import sklearn.metrics

import metrics
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


# --- pairs ----------------------------------------------------------------------------------------


def make_pairs():
    """61 pairs, some alike, some equal, some with the same similarity."""
    first, second = np.random.default_rng(6).standard_normal((2, 61, 7)).astype(np.float32)
    second[::3] += 2 * first[::3]
    second[::9] = first[::9]
    first[1::12], second[1::12] = first[1], second[1]
    return first, second


def test_pair_classification_against_all_thresholds():
    labels = np.array([i % 3 == 0 or i % 7 == 0 for i in range(61)])
    scores, items = metrics.pair_classification(*make_pairs(), labels)
    assert items.pop("label").tolist() == labels.tolist() and len(items) == 5
    for name, values in items.items():
        thresholds = sorted(set(values), reverse=True)[:-1]  # the last would take all pairs
        above = [values >= threshold for threshold in thresholds]
        best = max(np.mean(taken == labels) for taken in above)
        assert scores[f"{name}_accuracy"] == pytest.approx(best)
        best = max(sklearn.metrics.f1_score(labels, taken) for taken in above)
        assert scores[f"{name}_f1"] == pytest.approx(best)
        ap = sklearn.metrics.average_precision_score(labels, values)
        assert scores[f"{name}_ap"] == pytest.approx(ap)
    assert scores["max_ap"] == max(scores[f"{name}_ap"] for name in items)


def test_equal_pairs_cannot_be_told_apart():
    same = np.ones((4, 3), np.float32)
    scores, _ = metrics.pair_classification(same, same, [1, 0, 0, 1])
    assert (scores["max_accuracy"], scores["max_f1"], scores["max_ap"]) == (0, 0, 0.5)


# --- retrieval ------------------------------------------------------------------------------------


def test_retrieval_by_hand():
    qrels = {
        "q": {"a": 3, "b": 0, "c": 1, "d": -2, "not in the corpus": 2},
        "nothing relevant": {"a": 0},
        "not ranked": {"a": 1},
        "unjudged": {},
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
        assert items[name] == pytest.approx([value, 0, 0]), name
        assert scores[name] == pytest.approx(value / 3)
    assert items["query"].tolist() == ["q", "nothing relevant", "not ranked"]
    assert scores["accuracy"] == scores["recall_at_1"]


def test_retrieval_ties_are_those_of_float32_and_bytes():
    close = (["9", "10", "é", "z"], np.array([0.3, 0.3 + 1e-9, 0.3 - 1e-9, 0.3]))
    for place, id in enumerate(["é", "z", "9", "10"], 1):
        assert retrieval({"q": close}, {"q": {id: 1}})[0]["mrr_at_10"] == 1 / place


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


def test_a_score_of_drawn_texts_is_that_of_those_texts_alone():
    """Also where a label neither occurs nor is predicted among them."""
    label, predicted = np.array([0, 1, 1, 3, 2]), np.array([[0, 0], [1, 3], [0, 1], [3, 1], [3, 2]])
    chosen, f1 = [1, 2, 2, 3], sklearn.metrics.f1_score
    runs = [f1(label[chosen], predicted[chosen, run], average="macro") for run in (0, 1)]
    items = drawn({"label": label, "predicted": predicted}, chosen)
    assert score_items("Classification", "f1", items) == np.mean(runs)


PAIRS = [
    ("STS", metrics.sts, "cosine_spearman"),
    ("PairClassification", metrics.pair_classification, "max_ap"),
]


@pytest.mark.parametrize("type, score, name", PAIRS)
def test_a_score_of_drawn_pairs_is_that_of_those_alone(type, score, name):
    first, second = make_pairs()
    gold, chosen = np.arange(61) % 5 < 2, np.arange(30) * 7 % 31
    _, items = score(first, second, gold)
    alone, _ = score(first[chosen], second[chosen], gold[chosen])
    assert score_items(type, name, drawn(items, chosen)) == pytest.approx(alone[name])


def test_a_score_of_drawn_queries_is_that_of_those_alone():
    ranking = {"q": (["a", "b"], [2, 1]), "r": (["a", "b"], [2, 1])}
    scores, items = retrieval(ranking, {"q": {"a": 1, "b": 1}, "r": {"b": 1}})
    assert score_items("Retrieval", "accuracy", items) == scores["accuracy"] == 0.25
    assert score_items("Reranking", "map_at_5", drawn(items, [1, 1])) == 0.5
