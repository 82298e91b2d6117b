"""The scores of the seven types of tasks, with mteb's numbers (arXiv 2509.12340, the benchmark).

In: embeddings and labels. Out: mteb's scores by name, and for each text, pair or query what the
scores were computed from (`Items`), so that a bootstrap can draw items and score them again. How a
type is scored (all seeds are 42; read in mteb 2.20 to 2.26, compared in `tests/parity/`):

    Classification            10 times: logistic regression on 8 training texts per label, accuracy
    MultilabelClassification  10 times: 5 nearest neighbours of about 8 training texts per label, F1
    PairClassification        average precision of five similarities of the pairs, the best one
    Clustering                10 times: MiniBatchKMeans of 16,384 texts drawn, V-measure
    Retrieval                 the 1,000 most similar documents (cosine), nDCG at 10 as in trec_eval
    Reranking                 likewise for the given candidates, MAP at 1,000
    STS                       rank correlation of the cosine and the human score of the pairs

Nothing given is changed, nothing is rounded. Departures from mteb: it rounds means of retrieval to
5 decimals; a query that a ranking lacks counts as 0 here (mteb's rankings lack none); multi-label
splits are scored in full (mteb cuts some, none of this benchmark, to 3,000 texts); the areas under
abstention curves that mteb adds to retrieval (`nauc_…`) are not computed.
"""

import math
import random
from collections import Counter

import numpy as np
import scipy.stats
import sklearn.metrics
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MultiLabelBinarizer
from threadpoolctl import threadpool_limits

import search

SEED, EXPERIMENTS = 42, 10
CLUSTERED = 16_384  # texts of one clustering, drawn with replacement however few there are
NEIGHBOURS = 5
CUTS = (1, 3, 5, 10, 20, 100, 1000)  # ranks at which a ranking is measured; the last is its length

Embeddings = np.ndarray  # (N, D) float32
Items = dict[str, np.ndarray]  # the first axis of each array runs over the items
Scores = tuple[dict, Items]  # mteb's scores by name, and the items


def _means(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


# --- classification -------------------------------------------------------------------------------


def draw_rows(labels: list, samples_per_label: int) -> list[list[int]]:
    """Training rows of each experiment: the first `samples_per_label` of each label in random
    order.

    Subtle: each experiment shuffles the order that the one before it left, with the same seed. All
    use one permutation, applied once, twice, …, ten times. It does not depend on the evaluation
    split: every split is scored with the same ten classifiers.

    >>> draw_rows(["a", "b", "a", "a"], 1)[:4]
    [[1, 3], [3, 1], [2, 1], [0, 1]]
    """
    # `order` is never reset: see above.
    order, draws = list(range(len(labels))), []
    for _ in range(EXPERIMENTS):
        np.random.RandomState(SEED).shuffle(order)
        taken, rows = Counter(), []
        for row in order:
            if taken[labels[row]] < samples_per_label:
                taken[labels[row]] += 1
                rows.append(row)
        draws.append(rows)
    return draws


def classification(
    train: Embeddings,
    train_labels: list,
    test: Embeddings,
    test_labels: list,
    draws: list[list[int]],
) -> Scores:
    """Logistic regression on each of `draws` (rows of `train`), scored on `test`; means over them.

    Labels are texts or whole numbers. `ap`, of the hard predictions, exists where the test set has
    two labels, one of them the number 1; else it is NaN. Items: the true `label` (N,) and those
    `predicted` (N, experiments), as places in the sorted list of all labels.
    """
    # Labels as places in the sorted list of all
    names, numbers = np.unique(np.concatenate([train_labels, test_labels]), return_inverse=True)
    targets, label = numbers[: len(train_labels)], numbers[len(train_labels) :]
    truth = names[label]
    has_ap = names.dtype.kind in "iu" and len(np.unique(truth)) == 2 and 1 in truth
    runs, predictions = [], []
    for rows in draws:
        # The same few texts train one classifier, which labels the test set.
        model = LogisticRegression(max_iter=100, random_state=SEED)
        predicted = model.fit(train[rows], targets[rows]).predict(test)
        run = label_scores(label, predicted)
        ap = sklearn.metrics.average_precision_score(truth, names[predicted]) if has_ap else np.nan
        runs.append(run | {"ap": ap, "ap_weighted": ap})
        predictions.append(predicted)
    items = {"label": label, "predicted": np.stack(predictions, axis=1)}
    return {**_means(runs), "scores_per_experiment": runs}, items


def label_scores(label: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, and F1, precision and recall averaged over labels, plainly and by their frequency.

    label and predicted (N,): whole numbers from 0. The labels averaged over are those that occur or
    are predicted here; one that is only predicted adds a 0.
    """
    # Of each label: how often it is right, true, predicted.
    count = int(max(label.max(), predicted.max())) + 1
    right = np.bincount(label[label == predicted], minlength=count)
    true, given = np.bincount(label, minlength=count), np.bincount(predicted, minlength=count)
    here = true + given > 0
    right, true, given = right[here], true[here], given[here]

    # Averages over labels: plainly (macro), and by how often each is true (weighted).
    scores = {"accuracy": float(np.mean(label == predicted))}
    for name, values in {
        "f1": 2 * right / (true + given),
        "precision": right / np.maximum(given, 1),
        "recall": right / np.maximum(true, 1),
    }.items():
        scores[name] = float(np.average(values))
        scores[f"{name}_weighted"] = float(np.average(values, weights=true))
    return scores


def draw_multilabel_rows(
    labels: list[list], samples_per_label: int, generator: np.random.Generator
) -> list[list[int]]:
    """Training rows of each experiment: in random order, each row with a label of which fewer than
    `samples_per_label` rows were taken; it then counts for all its labels.

    Rows without labels are never taken. All experiments draw from one generator.
    """
    draws = []
    for _ in range(EXPERIMENTS):
        order, taken, rows = np.arange(len(labels)), Counter(), []
        generator.shuffle(order)
        for row in order.tolist():
            if any(taken[label] < samples_per_label for label in labels[row]):
                taken.update(labels[row])
                rows.append(row)
        draws.append(rows)
    return draws


def multilabel_classification(
    train: Embeddings,
    train_labels: list[list],
    test: Embeddings,
    test_labels: list[list],
    draws: list[list[int]],
) -> Scores:
    """Nearest neighbours on each of `draws` (rows of `train`), scored on `test`; means over them.

    The labels are those of the test set: others of the training rows are ignored. `lrap` is that of
    the hard predictions, as in mteb.
    Items: the true `label` (N, labels) and those `predicted` (N, experiments, labels), bool.
    """
    # Labels as columns of 0 and 1.
    binarizer = MultiLabelBinarizer()
    label = binarizer.fit_transform(test_labels).astype(bool)
    known, runs, predictions = set(binarizer.classes_), [], []
    for rows in draws:
        targets = [[label for label in train_labels[row] if label in known] for row in rows]
        model = KNeighborsClassifier(NEIGHBOURS).fit(train[rows], binarizer.transform(targets))
        predicted = model.predict(test)
        lrap = sklearn.metrics.label_ranking_average_precision_score(label, predicted)
        predictions.append(predicted.astype(bool))
        scores = multilabel_scores(label, predictions[-1])
        runs.append({"accuracy": scores["accuracy"], "lrap": float(lrap), **scores})
    items = {"label": label, "predicted": np.stack(predictions, axis=1)}
    return {**_means(runs), "scores_per_experiment": runs}, items


def multilabel_scores(label: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Scores of predicted labels (N, labels) bool.

    `accuracy`: the share of texts whose labels are all right. `f1`: averaged over the labels that
    occur. `hamming`: the labels right among those true or predicted, averaged over texts.
    """
    both, either = (predicted & label).sum(1), (predicted | label).sum(1)
    occurs = label.any(0)
    hits = (predicted & label).sum(0)[occurs]
    return {
        "accuracy": float(np.mean((predicted == label).all(1))),
        "f1": float(np.average(2 * hits / (predicted.sum(0) + label.sum(0))[occurs])),
        "hamming": float(np.where(either == 0, 1.0, both / np.maximum(either, 1)).mean()),
    }


# --- pairs ----------------------------------------------------------------------------------------

SIMILARITIES = ("similarity", "cosine", "manhattan", "euclidean", "dot")


def similarities(first: Embeddings, second: Embeddings) -> Items:
    """SIMILARITIES (N,) float64 of row i of `first` and row i of `second`; more is more similar.

    Subtle: `similarity` and `cosine` are the same quantity, computed in float32 as a product of
    normalised rows and as 1 - |a - b|² / 2. Only the second is exactly 1 for equal rows, so the two
    rank near-duplicates differently; mteb reports both.
    """
    similarity = (_unit(first) * _unit(second)).sum(-1).numpy()
    dot = np.array([a @ b for a, b in zip(first, second, strict=True)])
    cosine = 1 - pairwise.paired_cosine_distances(first, second)
    manhattan = -pairwise.paired_manhattan_distances(first, second)
    euclidean = -pairwise.paired_euclidean_distances(first, second)
    values = similarity, cosine, manhattan, euclidean, dot
    return {name: np.asarray(x, np.float64) for name, x in zip(SIMILARITIES, values, strict=True)}


def _unit(x: Embeddings) -> torch.Tensor:
    """Rows of length 1, so that cosines are their products."""
    return F.normalize(torch.from_numpy(x))


def pair_classification(first: Embeddings, second: Embeddings, gold: list[int]) -> Scores:
    """How well each similarity tells pairs with label 1 from pairs with label 0, and the best of
    them.

    Items: the similarities and the `label`.
    """
    items = similarities(first, second) | {"label": np.asarray(gold, np.int64)}
    return pair_scores(items), items


def pair_scores(items: Items) -> dict[str, float]:
    """For each similarity: average precision; the best accuracy, and the best F1 with its precision
    and recall, that a threshold gives. `max_…`: the largest of the five."""
    each = {name: _thresholds(items[name], items["label"]) for name in SIMILARITIES}
    names = ("accuracy", "f1", "precision", "recall", "ap")
    each["max"] = {name: max(scores[name] for scores in each.values()) for name in names}
    return {
        f"{key}_{name}": value for key, scores in each.items() for name, value in scores.items()
    }


def _thresholds(similarity: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Subtle: pairs of equal similarity fall on one side of a threshold; no threshold takes all
    pairs, but the average precision counts that point too."""
    # From the most similar pair down: how many pairs a threshold takes, how many of them rightly.
    order = np.argsort(-similarity, kind="stable")
    last = np.flatnonzero(np.diff(similarity[order]))  # of the pairs above each threshold
    taken = np.r_[last + 1, len(label)]
    true, positive = np.cumsum(label[order])[taken - 1], label.sum()
    precision, recall = true / taken, true / max(positive, 1)

    # Average precision: the precision at each threshold, by what it adds to the recall.
    ap = float(np.sum(np.diff(recall, prepend=0) * precision))

    # The best threshold, of those between two pairs.
    taken, true, precision, recall = taken[:-1], true[:-1], precision[:-1], recall[:-1]
    if not len(taken):  # all pairs are equally similar
        return dict.fromkeys(("accuracy", "f1", "precision", "recall"), 0.0) | {"ap": ap}
    accuracy = (true + (len(label) - positive) - (taken - true)) / len(label)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = np.argmax(f1)
    scores = accuracy.max(), f1[best], precision[best], recall[best], ap
    names = ("accuracy", "f1", "precision", "recall", "ap")
    return {name: float(value) for name, value in zip(names, scores, strict=True)}


def sts(first: Embeddings, second: Embeddings, gold: list[float]) -> Scores:
    """Pearson and Spearman correlation (mean ranks for ties) of similarity and human score.

    Items: the similarities and the `score`.
    """
    items = similarities(first, second) | {"score": np.asarray(gold, np.float64)}
    kinds = ("", "cosine_", "manhattan_", "euclidean_")
    names = [f"{kind}{score}" for kind in kinds for score in ("pearson", "spearman")]
    return {name: correlation(name, items) for name in names}, items


def correlation(name: str, items: Items) -> float:
    """`pearson` or `spearman`, perhaps after the name of a similarity."""
    similarity, _, kind = name.rpartition("_")
    correlate = scipy.stats.pearsonr if kind == "pearson" else scipy.stats.spearmanr
    return float(correlate(items["score"], items[similarity or "similarity"])[0])


# --- clustering -----------------------------------------------------------------------------------


def clustering(embeddings: Embeddings, labels: list, generator: random.Random) -> Scores:
    """V-measure and adjusted mutual information of ten clusterings with the labels. No items.

    Subtle: the generator first permutes the texts, although all are kept, and each k-means starts
    from the same seed. scikit-learn draws other batches from 1.9 on, which moves every score by up
    to 3 points: the published numbers were made with 1.8.
    """
    # Sampling as many as there are only permutes them.
    order = generator.sample(range(len(labels)), len(labels))
    embeddings, labels = embeddings[order], np.asarray(labels)[order]
    kmeans = MiniBatchKMeans(len(np.unique(labels)), batch_size=512, n_init=1, random_state=SEED)

    # Ten draws of texts, each clustered anew
    v, ami = [], []
    for _ in range(EXPERIMENTS):
        rows = generator.choices(range(len(labels)), k=CLUSTERED)
        # Several threads would give the same numbers, on a busy machine 50 times later
        with threadpool_limits(1):
            clusters = kmeans.fit_predict(embeddings[rows])
        v.append(float(sklearn.metrics.v_measure_score(labels[rows], clusters)))
        ami.append(float(sklearn.metrics.adjusted_mutual_info_score(labels[rows], clusters)))

    # As mteb reports them
    scores = {}
    for several, name, values in (("v_measures", "v_measure", v), ("ami_scores", "ami", ami)):
        scores[several] = {"Level 0": values}
        scores |= {name: float(np.mean(values)), f"{name}_std": float(np.std(values))}
    return scores, {}


# --- retrieval and reranking ----------------------------------------------------------------------

Ranking = dict[str, tuple[list[str], np.ndarray]]  # query id: document ids, their scores (float32)


def rank_corpus(queries: list[str], q: Embeddings, ids: list[str], p: Embeddings) -> Ranking:
    """The documents of highest cosine for each query, as many as the last of CUTS, best first.

    queries, ids: of the rows of q and p. The ids are in descending order: of equal scores the
    search keeps and returns the first, trec_eval the one with the higher id.
    """
    assert all(a > b for a, b in zip(ids, ids[1:], strict=False))
    names = np.array(ids, object)
    scores, best = search.top_k(_unit(q).numpy(), _unit(p).numpy(), CUTS[-1])
    ranked = (names[numbers].tolist() for numbers in best)
    return dict(zip(queries, zip(ranked, scores, strict=True), strict=True))


def rank_candidates(
    queries: list[str],
    q: Embeddings,
    ids: list[str],
    p: Embeddings,
    candidates: dict[str, list[str]],
) -> Ranking:
    """The cosines of the candidates of each query. queries, ids: of the rows of q and p."""
    q, p = _unit(q).numpy(), _unit(p).numpy()
    place = {id: number for number, id in enumerate(ids)}
    ranking = {}
    for number, query in enumerate(queries):
        documents = p[[place[id] for id in candidates[query]]]
        ranking[query] = candidates[query], search.score(q[[number]], documents)
    return ranking


def retrieval(ranking: Ranking, qrels: dict[str, dict[str, int]]) -> Scores:
    """trec_eval's measures of ranked documents at the ranks CUTS, means over the queries of `qrels`
    (as in mteb, also for reranking).

    Documents are ranked by score as float32, ties by id in descending byte order. The gain of a
    document is its grade; grades of 0 and below are not relevant. Judged documents that were not
    ranked count in the ideal ranking and in the number of relevant ones. A query without relevant
    documents scores 0, and so does one that the ranking lacks; one without judgements is left out.
    Items: the `query`, and every measure.

    >>> ranking = {"q": (["a", "b", "c"], np.float32([0.9, 0.9, 0.1]))}  # b is before a
    >>> scores, _ = retrieval(ranking, {"q": {"a": 1, "c": 0}})
    >>> scores["mrr_at_10"], scores["precision_at_1"], round(scores["ndcg_at_10"], 4)
    (0.5, 0.0, 0.6309)
    """
    queries = [query for query in qrels if qrels[query]]
    measured = []
    for query in queries:
        ids, scores = ranking.get(query, ([], []))
        scores = np.asarray(scores, np.float32)
        if not (scores[1:] < scores[:-1]).all():  # else it is sorted, without ties
            ids = [id for _, id in sorted(zip(scores, ids, strict=True), reverse=True)]
        measured.append(measures(ids, qrels[query]))
    # Means over queries.
    items = {name: np.array([values[name] for values in measured]) for name in measured[0]}
    means = {name: float(np.mean(values)) for name, values in items.items()}
    return means | {"accuracy": means["recall_at_1"]}, items | {"query": np.array(queries)}


def measures(ids: list[str], judged: dict[str, int]) -> dict[str, float]:
    """The measures of one query, whose documents are ranked."""
    # The ranks of the relevant documents that were ranked, and the best order there could be.
    relevant = {id: grade for id, grade in judged.items() if grade > 0}
    ideal = sorted(relevant.values(), reverse=True)
    hits = sorted((ids.index(id) + 1, relevant[id]) for id in relevant.keys() & set(ids))
    scores = {}
    for k in CUTS:
        # nDCG: grades discounted by the logarithm of the rank, compared with the best order.
        above = [(rank, grade) for rank, grade in hits if rank <= k]
        gain = sum(grade / math.log2(rank + 1) for rank, grade in above)
        best = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(ideal[:k], 1))
        # MAP: the precision at each relevant document, 0 for those not found.
        precisions = [number / rank for number, (rank, _) in enumerate(above, 1)]
        scores[f"ndcg_at_{k}"] = gain / best if best else 0.0
        scores[f"map_at_{k}"] = sum(precisions) / max(len(ideal), 1)
        scores[f"recall_at_{k}"] = len(above) / max(len(ideal), 1)
        scores[f"precision_at_{k}"] = len(above) / k
        scores[f"mrr_at_{k}"] = 1 / above[0][0] if above else 0.0
        scores[f"hit_rate_at_{k}"] = float(bool(above))
    return scores


# --- a score of drawn items -----------------------------------------------------------------------


def score_items(type: str, score: str, items: Items) -> float:
    """The score of a task of this type from some or all of its items.

    A KeyError where items do not tell: clustering, `ap`, `lrap`.
    """
    if type in ("Classification", "MultilabelClassification"):
        scores = label_scores if type == "Classification" else multilabel_scores
        runs = np.moveaxis(items["predicted"], 1, 0)
        return float(np.mean([scores(items["label"], predicted)[score] for predicted in runs]))
    if type == "PairClassification":
        return pair_scores(items)[score]
    if type == "STS":
        return correlation(score, items)
    return float(items[ranking_item(score)].mean())


def ranking_item(score: str) -> str:
    """The item whose mean is this score of a ranking."""
    return "recall_at_1" if score == "accuracy" else score
