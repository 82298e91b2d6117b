"""The scores of the seven types of tasks: pure functions of embeddings and labels, with mteb's numbers (arXiv 2509.12340, the benchmark).

How a type is scored. All seeds are 42. Read in mteb 2.20 to 2.26 and compared with it in `tests/parity/`.

    type                      what is done with the embeddings                                                         main score
    Classification            10 times: logistic regression on 8 training texts a label (see `draw_rows`)              accuracy or f1
    MultilabelClassification  10 times: 5 nearest neighbours on about 8 training texts a label                         f1 or accuracy
    PairClassification        average precision of five similarities of the pairs, the best of them                    max_ap
    Clustering                10 times: MiniBatchKMeans of 16,384 texts drawn with replacement, against the labels     v_measure
    Retrieval                 the 1,000 most similar documents (cosine), trec_eval's measures                          ndcg_at_10
    Reranking                 the same measures of the given candidates                                                map_at_1000
    STS                       rank correlation of cosine and human score of the pairs                                  cosine_spearman

Every function returns mteb's scores by their names, and arrays of what it found for each single item, from which `score_again` computes
the main score of any choice of the items: that is what a bootstrap needs. Nothing given is changed, nothing is rounded.

Departures from mteb: it rounds retrieval means to 5 decimals; a query that a run lacks counts as 0 here (mteb's runs lack none); and a
multi-label split is scored whole (mteb cuts to 3,000 rows those splits that the benchmark does not have).
"""

import math
import random
from collections import Counter

import numpy as np
import scipy.sparse
import scipy.stats
import torch
import torch.nn.functional as F
from sklearn import metrics
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import paired_cosine_distances, paired_euclidean_distances, paired_manhattan_distances
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MultiLabelBinarizer, normalize
from threadpoolctl import threadpool_limits

import search
from files import InputError
from mteb_nl import CUTS, RANKING

SEED, EXPERIMENTS = 42, 10
CLUSTERED = 16_384  # texts of one clustering, drawn with replacement however few there are
NEIGHBOURS = 5
BLOCK = 32  # queries whose candidates are gathered at once

Embeddings = np.ndarray | scipy.sparse.csr_matrix | scipy.sparse.csr_array  # (N, D) float32, or the sparse rows of a baseline
Items = dict[str, np.ndarray]  # what was found for each item; the first axis runs over the items
Scores = tuple[dict, Items]  # mteb's scores by name, and the items


# --- classification ---------------------------------------------------------------------------------------------------------


def draw_rows(labels: list, samples_per_label: int) -> list[list[int]]:
    """Training rows of each experiment: in a random order, the first `samples_per_label` of each label, in that order.

    Subtle: each experiment shuffles the order that the one before it left, with the same seed. All use one permutation, applied
    once, twice, …, ten times. It does not depend on the evaluation split: each is scored with the same ten classifiers.

    >>> draw_rows(["a", "b", "a", "a"], 1)[:4]
    [[1, 3], [3, 1], [2, 1], [0, 1]]
    """
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


def classification(train: Embeddings, train_labels: list, test: Embeddings, test_labels: list, draws: list[list[int]]) -> Scores:
    """Logistic regression on each of `draws` (row numbers of `train`), scored on the whole of `test`; means over the draws.

    Labels are strings or whole numbers. Macro means are over all labels that occur or are predicted in the test set: a label that is
    only predicted adds a 0. `ap` is that of the hard predictions and exists for two labels of which one is 1 (else NaN).
    Items: the true `label` (N,) and the `predicted` ones (N, experiments), as numbers.
    """
    y, train_labels, runs, found = np.asarray(test_labels), np.asarray(train_labels), [], []
    has_ap = y.dtype.kind in "iu" and len(np.unique(y)) == 2 and 1 in y
    for rows in draws:
        predicted = LogisticRegression(max_iter=100, random_state=SEED).fit(train[rows], train_labels[rows]).predict(test)
        found.append(predicted)
        run = {"accuracy": metrics.accuracy_score(y, predicted)}
        for name, score in (("f1", metrics.f1_score), ("precision", metrics.precision_score), ("recall", metrics.recall_score)):
            run[name] = score(y, predicted, average="macro", zero_division=0)
            run[f"{name}_weighted"] = score(y, predicted, average="weighted", zero_division=0)
        run["ap"] = run["ap_weighted"] = metrics.average_precision_score(y, predicted) if has_ap else np.nan
        runs.append(run)
    names = np.unique(np.concatenate([train_labels, y]))  # the same for every model
    items = {"label": np.searchsorted(names, y), "predicted": np.searchsorted(names, np.stack(found, 1))}
    return {**_means(runs), "scores_per_experiment": runs}, items


def _means(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def draw_multilabel_rows(labels: list[list], samples_per_label: int, generator: np.random.Generator) -> list[list[int]]:
    """Training rows of each experiment: in a random order, every row that has a label of which fewer than `samples_per_label` were
    taken; it then counts for all its labels. Rows without labels are never taken. All experiments draw from one generator."""
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
    train: Embeddings, train_labels: list[list], test: Embeddings, test_labels: list[list], draws: list[list[int]]
) -> Scores:
    """Nearest neighbours on each of `draws` (row numbers of `train`), scored on the whole of `test`; means over the draws.

    The labels are those of the test set: others of the training rows are ignored. `accuracy` is the share of texts whose labels are
    all right and none too many; `lrap` is that of the hard predictions, as in mteb.
    Items: the true `label` (N, labels) and the `predicted` ones (N, experiments, labels), bool.
    """
    binarizer = MultiLabelBinarizer()
    y, runs, found = binarizer.fit_transform(test_labels), [], []
    known = set(binarizer.classes_)
    for rows in draws:
        targets = binarizer.transform([[label for label in train_labels[row] if label in known] for row in rows])
        predicted = KNeighborsClassifier(NEIGHBOURS).fit(train[rows], targets).predict(test)
        found.append(predicted.astype(bool))
        both, either = (predicted & y).sum(1), (predicted | y).sum(1)
        runs.append({
            "accuracy": metrics.accuracy_score(y, predicted),
            "lrap": metrics.label_ranking_average_precision_score(y, predicted),
            "f1": metrics.f1_score(y, predicted, average="macro", zero_division=0),
            "hamming": float(np.where(either == 0, 1.0, both / np.maximum(either, 1)).mean()),
        })  # fmt: skip
    return {**_means(runs), "scores_per_experiment": runs}, {"label": y.astype(bool), "predicted": np.stack(found, 1)}


# --- pairs ------------------------------------------------------------------------------------------------------------------


def similarities(first: Embeddings, second: Embeddings) -> dict[str, np.ndarray]:
    """Five similarities (N,) float64 of row i of `first` and row i of `second`; more is more similar.

    Subtle: `similarity` and `cosine` are the same quantity, computed in float32 as a product of normalised rows and as
    1 - |a - b|² / 2. Only the second is exactly 1 for equal rows, so the two rank near-duplicates differently; mteb reports both.
    """
    if scipy.sparse.issparse(first):
        product, own = (np.asarray(a.multiply(b).sum(1)).ravel() for a, b in ((first, second), (normalize(first), normalize(second))))
    else:
        product = np.array([a @ b for a, b in zip(first, second, strict=True)])
        own = (F.normalize(torch.from_numpy(first)) * F.normalize(torch.from_numpy(second))).sum(-1).numpy()
    values = {
        "similarity": own,
        "cosine": 1 - paired_cosine_distances(first, second),
        "manhattan": -paired_manhattan_distances(first, second),
        "euclidean": -paired_euclidean_distances(first, second),
        "dot": product,
    }
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def pair_classification(first: Embeddings, second: Embeddings, gold: list[int]) -> Scores:
    """How well a similarity tells pairs with label 1 from pairs with label 0: average precision, and the best accuracy and F1 that a
    threshold between two different similarities gives; for each of the five similarities, and the maximum. Items: similarities, `label`."""
    items = similarities(first, second) | {"label": np.asarray(gold, np.int64)}
    return _pair_scores(items), items


def _pair_scores(items: Items) -> dict[str, float]:
    each = {name: _thresholds(value, items["label"]) for name, value in items.items() if name != "label"}
    best = {score: max(one[score] for one in each.values()) for score in ("accuracy", "f1", "precision", "recall", "ap")}
    return {f"{name}_{score}": value for name, one in (each | {"max": best}).items() for score, value in one.items()}


def _thresholds(value: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Best accuracy; best F1 with its precision and recall; average precision. Pairs of equal similarity fall on one side.

    Subtle: no threshold takes all pairs, but the average precision has that point too.
    """
    order = np.argsort(-value, kind="stable")
    taken = np.r_[1 + np.flatnonzero(np.diff(value[order])), len(y)]  # numbers of pairs that a threshold can take, then all
    true, positive = np.cumsum(y[order])[taken - 1], y.sum()
    precision, recall = true / taken, true / max(positive, 1)
    scores = {"ap": float(np.sum(np.diff(recall, prepend=0) * precision))}
    taken, true, precision, recall = taken[:-1], true[:-1], precision[:-1], recall[:-1]
    if not len(taken):
        return dict.fromkeys(("accuracy", "f1", "precision", "recall"), 0.0) | scores
    accuracy = (true + (len(y) - positive) - (taken - true)) / len(y)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = np.argmax(f1)
    best = {"f1": float(f1[best]), "precision": float(precision[best]), "recall": float(recall[best])}
    return {"accuracy": float(accuracy.max())} | best | scores


def sts(first: Embeddings, second: Embeddings, gold: list[float]) -> Scores:
    """Pearson and Spearman correlation (mean ranks for ties) of similarity and human score. Items: the similarities, `score`."""
    items = similarities(first, second) | {"score": np.asarray(gold, np.float64)}
    names = [f"{prefix}{score}" for prefix in ("", "cosine_", "manhattan_", "euclidean_") for score in ("pearson", "spearman")]
    return {name: _correlation(name, items) for name in names}, items


def _correlation(name: str, items: Items) -> float:
    similarity, _, score = name.rpartition("_")
    correlate = scipy.stats.pearsonr if score == "pearson" else scipy.stats.spearmanr
    return float(correlate(items["score"], items[similarity or "similarity"])[0])


# --- clustering -------------------------------------------------------------------------------------------------------------


def clustering(embeddings: Embeddings, labels: list, generator: random.Random) -> Scores:
    """V-measure and adjusted mutual information of ten clusterings with the labels; means and standard deviations.

    Subtle: the generator first permutes the texts, although none is left out, and each k-means starts from the same seed.
    scikit-learn draws other batches from 1.9 on, which moves every score by up to 3 points: 1.8 is what the published numbers have.
    """
    order = generator.sample(range(len(labels)), len(labels))
    embeddings, labels = embeddings[order], np.asarray(labels)[order]
    kmeans = MiniBatchKMeans(len(np.unique(labels)), batch_size=512, n_init=1, random_state=SEED)
    v, ami = [], []
    for _ in range(EXPERIMENTS):
        rows = generator.choices(range(len(labels)), k=CLUSTERED)
        with threadpool_limits(1):  # 512 rows a step: threads give the same numbers, on a busy machine 50 times later
            clusters = kmeans.fit_predict(embeddings[rows])
        v.append(float(metrics.v_measure_score(labels[rows], clusters)))
        ami.append(float(metrics.adjusted_mutual_info_score(labels[rows], clusters)))
    scores = {"v_measures": {"Level 0": v}, "v_measure": float(np.mean(v)), "v_measure_std": float(np.std(v))}
    return scores | {"ami_scores": {"Level 0": ami}, "ami": float(np.mean(ami)), "ami_std": float(np.std(ami))}, {}


# --- retrieval and reranking ------------------------------------------------------------------------------------------------

Run = dict[str, tuple[list[str], np.ndarray]]  # query id -> document ids and their scores, float32
DISCOUNTS = [math.log2(rank + 1) if rank else math.inf for rank in range(CUTS[-1] + 1)]  # of a gain, by rank


def retrieval(run: Run, qrels: dict[str, dict[str, int]]) -> Scores:
    """trec_eval's measures of ranked documents at the ranks CUTS, means over the queries of `qrels` (as in mteb, also for reranking).

    Documents are ranked by score as float32, ties by id in descending byte order. The gain of a document is its grade; grades of 0
    and below are not relevant. Judged documents that were not ranked count in the ideal ranking and in the number of relevant ones.
    A query without relevant documents scores 0, and so does one that the run lacks; one without any judgement is left out.
    Items: every measure for each query that counts, in the order of `qrels`.

    >>> scores, _ = retrieval({"q": (["a", "b", "c"], np.float32([0.9, 0.9, 0.1]))}, {"q": {"a": 1, "c": 0}})
    >>> scores["mrr_at_10"], scores["precision_at_1"], round(scores["ndcg_at_10"], 4)  # b is ranked before a
    (0.5, 0.0, 0.6309)
    """
    queries, items, confidences = [query for query in qrels if qrels[query]], [], []
    if not queries:
        raise InputError("no query is judged: there is nothing to measure")
    for query in queries:
        ids, scores = run.get(query, ([], []))
        scores = np.asarray(scores, np.float32)
        if scores.shape != (len(ids),) or len(set(ids)) < len(ids) or not np.isfinite(scores).all():
            raise InputError(f"ranking of query {query!r}: expected each document once, with a finite score; found {len(ids)} ids "
                             f"({len(set(ids))} different), scores of shape {scores.shape}")  # fmt: skip
        if not (scores[1:] < scores[:-1]).all():  # sorted and without ties, as a search returns it: nothing to do
            order = sorted(range(len(ids)), key=lambda i: (scores[i], ids[i]), reverse=True)
            ids, scores = [ids[i] for i in order], scores[order]
        items.append(_measures(ids, qrels[query]))
        scores = scores.astype(np.float64)
        confidences.append((scores[0], scores.std(), scores[0] - scores[1] if len(ids) > 1 else 0.0) if len(ids) else (0.0, 0.0, 0.0))
    items = {name: np.array([item[name] for item in items]) for name in items[0]}
    means = {name: float(np.mean(values)) for name, values in items.items()}
    means["accuracy"] = means["recall_at_1"]
    for name, values in items.items():
        if not name.startswith("hit_rate"):
            for kind, confidence in zip(("max", "std", "diff1"), np.array(confidences).T, strict=True):
                means[f"nauc_{name}_{kind}"] = nauc(confidence, values)
    return means, items | {"query": np.array(queries)}


def _measures(ids: list[str], judged: dict[str, int]) -> dict[str, float]:
    """The measures of one query whose documents are ranked already."""
    relevant = {id: grade for id, grade in judged.items() if grade > 0}
    hits = sorted((ids.index(id) + 1, relevant[id]) for id in relevant.keys() & set(ids))  # (rank, grade)
    ideal = sorted(relevant.values(), reverse=True)
    measures = {}
    for k in CUTS:
        found = [(rank, grade) for rank, grade in hits if rank <= k]
        gain = sum(grade / DISCOUNTS[rank] for rank, grade in found)
        best = sum(grade / DISCOUNTS[rank] for rank, grade in enumerate(ideal[:k], 1))
        measures[f"ndcg_at_{k}"] = gain / best if best else 0.0
        measures[f"map_at_{k}"] = sum(n / rank for n, (rank, _) in enumerate(found, 1)) / max(len(ideal), 1)
        measures[f"recall_at_{k}"] = len(found) / max(len(ideal), 1)
        measures[f"precision_at_{k}"] = len(found) / k
        measures[f"mrr_at_{k}"] = 1 / found[0][0] if found else 0.0
        measures[f"hit_rate_at_{k}"] = float(bool(found))
    return measures


def nauc(confidence: np.ndarray, values: np.ndarray) -> float:
    """Normalised area under the abstention curve (arXiv 2402.12997): does a high similarity mean a good ranking? At most 1.

    The curve is the mean of `values` (Q,) when the least confident 0, 10, …, 90 % of the queries are left out; 0 is a confidence that
    says nothing, 1 the best one. Queries of equal confidence share their mean. NaN when all values are equal.
    """
    rates = np.linspace(0, 1, 11)[:-1]

    def area(by: np.ndarray) -> tuple[float, float]:
        order = np.argsort(by, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(by[order]) != 0])
        sizes = np.diff(np.r_[starts, len(by)])
        shared = np.repeat(np.add.reduceat(values[order], starts) / sizes, sizes)
        curve = [shared[min(round(rate * len(by)), len(by) - 1) :].mean() for rate in rates]
        return metrics.auc(rates, curve), curve[0]

    (found, _), (best, mean) = area(confidence), area(values)
    flat = mean * (rates[-1] - rates[0])
    return float((found - flat) / (best - flat)) if best != flat else float("nan")


def best_documents(queries: Embeddings, corpus: Embeddings, ids: list[str], k: int) -> list[tuple[list[str], np.ndarray]]:
    """The k documents of highest cosine for each query (ties: higher id first) with their scores, best first."""
    order = sorted(range(len(ids)), key=ids.__getitem__, reverse=True)  # among equal scores, top-k keeps and returns the first
    if order != list(range(len(ids))):
        corpus, ids = corpus[order], [ids[i] for i in order]
    queries, corpus, ids = _unit(queries), _unit(corpus), np.array(ids, object)
    if scipy.sparse.issparse(queries):
        found = []
        for start in range(0, queries.shape[0], 256):
            scores = (queries[start : start + 256] @ corpus.T).toarray()
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            found += zip(np.take_along_axis(scores, best, 1), best, strict=True)
    else:
        found = zip(*search.top_k(queries, corpus, k), strict=True)
    return [(ids[best].tolist(), np.asarray(scores)) for scores, best in found]


def _unit(x: Embeddings) -> Embeddings:
    """Rows of length 1: cosines are their products (computed in float64 and rounded once, so that equal documents tie everywhere)."""
    return normalize(x) if scipy.sparse.issparse(x) else F.normalize(torch.from_numpy(x)).numpy()


def rank(
    queries: list[str], q: Embeddings, ids: list[str], p: Embeddings, candidates: dict[str, list[str]], ignore_identical_ids: bool
) -> Run:
    """The best documents of the corpus for each query or, where there are candidates, those. queries, ids: of the rows of q and p.

    `ignore_identical_ids` takes the document that has the query's id out of the ranking, after the cut (as mteb does).
    """
    if candidates:
        row, found = {id: number for number, id in enumerate(ids)}, []
        for start in range(0, len(queries), BLOCK):
            some = queries[start : start + BLOCK]
            counts = [len(candidates[query]) for query in some]
            asked = _unit(q[start : start + BLOCK])[np.repeat(np.arange(len(some)), counts)]
            given = _unit(p[[row[id] for query in some for id in candidates[query]]])
            sparse = scipy.sparse.issparse(p)
            scores = np.asarray(asked.multiply(given).sum(1)).ravel() if sparse else search.score(asked, given)
            found += zip([candidates[query] for query in some], np.split(scores, np.cumsum(counts)[:-1]), strict=True)
    else:
        found = best_documents(q, p, ids, CUTS[-1])
    ranked = dict(zip(queries, found, strict=True))
    if ignore_identical_ids:
        for query, (ids, scores) in ranked.items():
            other = [id != query for id in ids]
            ranked[query] = [id for id in ids if id != query], scores[other]
    return ranked


# --- the main score of some of the items ----------------------------------------------------------------------------------------


def items_needed(type: str, score: str) -> dict[str, tuple[str, int]]:
    """{name of an array: (kinds of its dtype, number of its axes)} from which `score_again` makes this score of a task of this type."""
    if type in RANKING:
        return {"query": ("U", 1), "recall_at_1" if score == "accuracy" else score: ("f", 1)}
    if type == "STS":
        return {"score": ("f", 1), score.rpartition("_")[0] or "similarity": ("f", 1)}
    return {
        "Classification": {"label": ("iu", 1), "predicted": ("iu", 2)},
        "MultilabelClassification": {"label": ("b", 2), "predicted": ("b", 3)},
        "PairClassification": {"label": ("iu", 1)} | dict.fromkeys(("similarity", "cosine", "manhattan", "euclidean", "dot"), ("f", 1)),
        "Clustering": {},
    }[type]


def score_again(type: str, name: str, items: Items) -> float | None:
    """The score `name` of a task of this type from the items alone, all or some of them; None where they do not tell.

    Macro F1 is over the labels that occur among these items (or are predicted, where a text has one label).
    """
    if type in RANKING:
        return float(items["recall_at_1" if name == "accuracy" else name].mean())
    if type == "STS":
        return _correlation(name, items)
    if type == "PairClassification":
        return _pair_scores(items)[name]
    if type not in ("Classification", "MultilabelClassification") or name not in ("accuracy", "f1"):
        return None
    label, predicted = items["label"], items["predicted"]
    if name == "accuracy":
        right = predicted == label[:, None]
        return float((right if type == "Classification" else right.all(2)).mean())
    if type == "Classification":
        count = int(max(label.max(), predicted.max())) + 1
        hits, found = np.array([(np.bincount(one[one == label], minlength=count), np.bincount(one, minlength=count))
                                for one in predicted.T]).swapaxes(0, 1)  # fmt: skip
        total = found + np.bincount(label, minlength=count)  # (experiments, labels)
        return float(np.mean([(2 * h[t > 0] / t[t > 0]).mean() for h, t in zip(hits, total, strict=True)]))
    occurs = label.any(0)
    label, predicted = label[:, occurs], predicted[:, :, occurs]
    hits = (predicted & label[:, None]).sum(0)  # (experiments, labels)
    return float((2 * hits / (predicted.sum(0) + label.sum(0))).mean())
