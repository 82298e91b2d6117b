"""MTEB-NL without mteb: embeddings scored on seven types of tasks, with mteb's numbers (arXiv 2509.12340, the benchmark).

In: a model folder and tasks. Out: one JSON file a task in mteb's layout, with what decides a number (prefixes, dtype, weights, versions).

How a task type is scored. All seeds are 42. Read in mteb 2.20 to 2.26 and compared with it in `tests/parity/`.

    type                      what is done with the embeddings                                                         main score
    Classification            10 times: logistic regression on 8 training texts a label (see `draw_rows`)              accuracy or f1
    MultilabelClassification  10 times: 5 nearest neighbours on about 8 training texts a label                         f1 or accuracy
    PairClassification        average precision of five similarities of the pairs, the best of them                    max_ap
    Clustering                10 times: MiniBatchKMeans of 16,384 texts drawn with replacement, against the labels     v_measure
    Retrieval                 the 1,000 most similar documents (cosine), trec_eval's measures                          ndcg_at_10
    Reranking                 the same measures of the given candidates                                                map_at_1000
    STS                       rank correlation of cosine and human score of the pairs                                  cosine_spearman

A task's score is the plain mean over its evaluation splits. A benchmark has two means: over tasks, and over types (of their means).

A task file lists tasks beside their data; file names are relative to it and never lead out of its folder:

    {"tasks": [
      {"name": "Sib", "type": "Classification", "train": "sib/train.jsonl.gz", "splits": {"test": "sib/test.jsonl.gz"}},
      {"name": "SibClusters", "type": "Clustering", "splits": {"test": ["sib/train.jsonl.gz", "sib/test.jsonl.gz"]}},
      {"name": "Faq", "type": "Retrieval", "splits": {"test": "faq"}},
      {"name": "FaqReranking", "type": "Reranking", "splits": {"test": {"folder": "rerank", "corpus": "faq/corpus.jsonl"}}}]}

Files are JSON Lines with mteb's columns (see TYPES; `"columns": {"text": "headline"}` renames), several files of a split are read one
after the other. A retrieval split is a folder in BEIR layout; the candidates of a query stand in its `top_ranked.jsonl`
(`query-id`, `corpus-ids`), or else are the judged documents of the qrels, zeros included. Other fields of a task: `main_score`,
`samples_per_label`, `ignore_identical_ids`.

    python evaluate.py run --model runs/toy --tasks-file demo/tasks.json --tasks STS SIB200Classification --out runs/toy-results
    python evaluate.py run --model clips/e5-base-trm-nl --tasks-file demo/tasks.json --tasks all --out runs/e5-base-trm-nl
    python evaluate.py report runs/toy-results runs/e5-base-trm-nl

Departures from mteb: nothing is rounded (mteb rounds retrieval means to 5 decimals, files to 6), a query that a run lacks counts as 0
(mteb's runs lack none), and a multi-label split is scored whole (mteb cuts to 3,000 rows those splits that the benchmark does not have).
"""

import argparse
import contextlib
import dataclasses
import difflib
import hashlib
import platform
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.sparse
import scipy.stats
import sklearn
import torch
import torch.nn.functional as F
from sklearn import metrics
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import paired_cosine_distances, paired_euclidean_distances, paired_manhattan_distances
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MultiLabelBinarizer, normalize
from threadpoolctl import threadpool_limits

import e5nl
import mine
import model_folder
from data import InputError, cli, inside, read_json, read_jsonl, read_qrels, read_texts_by_id, write_json

SEED, EXPERIMENTS = 42, 10
CLUSTERED = 16_384  # texts of one clustering, drawn with replacement however few there are
NEIGHBOURS = 5
CUTS = (1, 3, 5, 10, 20, 100, 1000)  # ranks at which a ranking is measured; the last is the length of a run

Embeddings = np.ndarray | scipy.sparse.csr_matrix | scipy.sparse.csr_array  # (N, D) float32, or the sparse rows of a baseline
Scores = tuple[dict, dict[str, np.ndarray]]  # mteb's scores by name; values of single items, where the scores have such


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
    Per item: `accuracy`, the share of the experiments that were right.
    """
    y, train_labels, runs, right = np.asarray(test_labels), np.asarray(train_labels), [], np.zeros(len(test_labels))
    has_ap = y.dtype.kind in "iu" and len(np.unique(y)) == 2 and 1 in y
    for rows in draws:
        predicted = LogisticRegression(max_iter=100, random_state=SEED).fit(train[rows], train_labels[rows]).predict(test)
        right += predicted == y
        run = {"accuracy": metrics.accuracy_score(y, predicted)}
        for name, score in (("f1", metrics.f1_score), ("precision", metrics.precision_score), ("recall", metrics.recall_score)):
            run[name] = score(y, predicted, average="macro", zero_division=0)
            run[f"{name}_weighted"] = score(y, predicted, average="weighted", zero_division=0)
        run["ap"] = run["ap_weighted"] = metrics.average_precision_score(y, predicted) if has_ap else np.nan
        runs.append(run)
    return {**_means(runs), "scores_per_experiment": runs}, {"accuracy": right / len(runs)}


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
    all right and none too many; `lrap` is that of the hard predictions, as in mteb. Per item: `accuracy`.
    """
    binarizer = MultiLabelBinarizer()
    y, runs, right = binarizer.fit_transform(test_labels), [], np.zeros(len(test_labels))
    known = set(binarizer.classes_)
    for rows in draws:
        targets = binarizer.transform([[label for label in train_labels[row] if label in known] for row in rows])
        predicted = KNeighborsClassifier(NEIGHBOURS).fit(train[rows], targets).predict(test)
        right += (predicted == y).all(1)
        both, either = (predicted & y).sum(1), (predicted | y).sum(1)
        runs.append({
            "accuracy": metrics.accuracy_score(y, predicted),
            "lrap": metrics.label_ranking_average_precision_score(y, predicted),
            "f1": metrics.f1_score(y, predicted, average="macro", zero_division=0),
            "hamming": float(np.where(either == 0, 1.0, both / np.maximum(either, 1)).mean()),
        })  # fmt: skip
    return {**_means(runs), "scores_per_experiment": runs}, {"accuracy": right / len(runs)}


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


def pair_classification(first: Embeddings, second: Embeddings, labels: list[int]) -> Scores:
    """How well a similarity tells pairs with label 1 from pairs with label 0: average precision, and the best accuracy and F1 that a
    threshold between two different similarities gives; for each of the five similarities, and the maximum. Per item: the similarities."""
    y, scores, values = np.asarray(labels, np.int64), {}, similarities(first, second)
    for name, value in values.items():
        scores |= {f"{name}_{score}": x for score, x in _thresholds(value, y).items()}
        scores[f"{name}_ap"] = float(metrics.average_precision_score(y, value))
    for score in ("accuracy", "f1", "precision", "recall", "ap"):
        scores[f"max_{score}"] = max(scores[f"{name}_{score}"] for name in values)
    return scores, values


def _thresholds(value: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Best accuracy; best F1 with its precision and recall. Pairs of equal similarity fall on one side."""
    order = np.argsort(-value, kind="stable")
    taken = 1 + np.flatnonzero(np.diff(value[order]))  # numbers of pairs that a threshold can take
    if not len(taken):
        return dict.fromkeys(("accuracy", "f1", "precision", "recall"), 0.0)
    true, positive = np.cumsum(y[order])[taken - 1], y.sum()
    accuracy = (true + (len(y) - positive) - (taken - true)) / len(y)
    precision, recall = true / taken, true / positive
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = np.argmax(f1)
    return {"accuracy": float(accuracy.max()), "f1": float(f1[best]), "precision": float(precision[best]), "recall": float(recall[best])}


def sts(first: Embeddings, second: Embeddings, gold: list[float]) -> Scores:
    """Pearson and Spearman correlation (mean ranks for ties) of similarity and human score. Per item: the similarities."""
    scores, values = {}, similarities(first, second)
    for name, prefix in (("similarity", ""), ("cosine", "cosine_"), ("manhattan", "manhattan_"), ("euclidean", "euclidean_")):
        scores[f"{prefix}pearson"] = float(scipy.stats.pearsonr(gold, values[name])[0])
        scores[f"{prefix}spearman"] = float(scipy.stats.spearmanr(gold, values[name])[0])
    return scores, values


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


def retrieval(run: Run, qrels: dict[str, dict[str, int]]) -> Scores:
    """trec_eval's measures of ranked documents at the ranks CUTS, means over the queries of `qrels` (as in mteb, also for reranking).

    Documents are ranked by score as float32, ties by id in descending byte order. The gain of a document is its grade; grades of 0
    and below are not relevant. Judged documents that were not ranked count in the ideal ranking and in the number of relevant ones.
    A query without relevant documents scores 0, and so does one that the run lacks; one without any judgement is left out.
    Per item: every measure for each query that counts, in the order of `qrels`.

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
    return means, items


def _measures(ids: list[str], judged: dict[str, int]) -> dict[str, float]:
    """The measures of one query whose documents are ranked already."""
    hits = [(rank, judged[id]) for rank, id in enumerate(ids, 1) if judged.get(id, 0) > 0]
    ideal = sorted((grade for grade in judged.values() if grade > 0), reverse=True)
    measures = {}
    for k in CUTS:
        found = [(rank, grade) for rank, grade in hits if rank <= k]
        gain = sum(grade / np.log2(rank + 1) for rank, grade in found)
        best = sum(grade / np.log2(rank + 1) for rank, grade in enumerate(ideal[:k], 1))
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


def search(queries: Embeddings, corpus: Embeddings, ids: list[str], k: int) -> list[tuple[list[str], np.ndarray]]:
    """The k documents of highest cosine for each query (ties: higher id first) with their scores, best first."""
    order = sorted(range(len(ids)), key=ids.__getitem__, reverse=True)  # among equal scores, top-k keeps and returns the first
    corpus, ids = corpus[order], np.array([ids[i] for i in order], object)
    if scipy.sparse.issparse(queries):
        found = []
        for start in range(0, queries.shape[0], 256):
            scores = cosine(queries[start : start + 256], corpus)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            found += zip(np.take_along_axis(scores, best, 1), best, strict=True)
    else:
        found = zip(*mine.top_k(*(F.normalize(torch.from_numpy(x)).numpy() for x in (queries, corpus)), k), strict=True)
    return [(ids[best].tolist(), np.asarray(scores)) for scores, best in found]


def cosine(queries: Embeddings, corpus: Embeddings) -> np.ndarray:
    """Cosine (Q, P) float32 of every query with every document: rounded once, so that equal documents tie on every processor."""
    if scipy.sparse.issparse(queries):
        return (normalize(queries) @ normalize(corpus).T).toarray().astype(np.float32)
    q, p = (F.normalize(torch.from_numpy(x)).double() for x in (queries, corpus))
    return (q @ p.T).float().numpy()


# --- tasks and their data ---------------------------------------------------------------------------------------------------


def _is_label(value) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


TEXT = lambda value: isinstance(value, str), "a text"
LABEL = _is_label, "a text or a whole number"
LABELS = lambda value: isinstance(value, list) and all(map(_is_label, value)), "a list of texts or whole numbers"
BINARY = lambda value: isinstance(value, int | float) and value in (0, 1), "0 or 1"
NUMBER = lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"
PAIR = {"sentence1": (["sentence1"], TEXT), "sentence2": (["sentence2"], TEXT)}
RANKED = rf"(ndcg|map|recall|precision|mrr|hit_rate)_at_({'|'.join(map(str, CUTS))})|accuracy"

# type: (its usual main score, the possible ones, {what: (columns that may hold it, what it must be)})
TYPES = {
    "Classification": (
        "accuracy",
        "accuracy|(f1|precision|recall)(_weighted)?|ap(_weighted)?",
        {"text": (["text"], TEXT), "label": (["label"], LABEL)},
    ),
    "MultilabelClassification": ("f1", "f1|accuracy|lrap|hamming", {"text": (["text"], TEXT), "label": (["label"], LABELS)}),
    "PairClassification": (
        "max_ap",
        "(max|similarity|cosine|manhattan|euclidean|dot)_(ap|accuracy|f1|precision|recall)",
        PAIR | {"label": (["labels", "label"], BINARY)},
    ),
    "Clustering": ("v_measure", "v_measure|ami", {"text": (["sentences", "text"], TEXT), "label": (["labels", "label"], LABEL)}),
    "Reranking": ("map_at_1000", RANKED, {}),
    "Retrieval": ("ndcg_at_10", RANKED, {}),
    "STS": ("cosine_spearman", "((cosine|manhattan|euclidean)_)?(spearman|pearson)", PAIR | {"score": (["score"], NUMBER)}),
}
FILE_NAME = r"\w[\w.-]*"  # what a task or a split may be called: it becomes part of a file's name
TRAINED, RANKING = ("Classification", "MultilabelClassification"), ("Retrieval", "Reranking")

# The kind of symmetric tasks' texts, of queries, of documents. `mteb` is what the leaderboard does to E5; `e5` is its authors' advice.
POLICIES = {"mteb": ("none", "query", "passage"), "e5": ("query", "query", "passage"), "none": ("none", "none", "none")}


@dataclasses.dataclass(frozen=True)
class Task:
    """One task: what to read and how to score it. A split of a retrieval or reranking task has the paths `folder`, `corpus`, `queries`."""

    name: str
    type: str
    main_score: str
    splits: dict[str, list[Path] | dict[str, Path]]
    train: list[Path] = dataclasses.field(default_factory=list)
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    samples_per_label: int = 8
    ignore_identical_ids: bool = False
    revision: str = "local"
    subset: str = "default"


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """The user's mistakes found in the block are reported with `where` before them."""
    try:
        yield
    except (InputError, FileNotFoundError) as error:
        raise type(error)(f"{where}: {error}") from None


def nearest(name, names) -> str:
    """For an error message: the names closest to an unknown one, or all."""
    lower = {known.lower(): known for known in names}
    close = [lower[known] for known in difflib.get_close_matches(str(name).lower(), lower, n=3, cutoff=0.4)]
    return f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(names)}"


def read_tasks(path) -> list[Task]:
    """The tasks of a task file, checked; the files that they name exist."""
    path = Path(path)
    entries = read_json(path).get("tasks")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f'{path}: expected {{"tasks": [{{"name": …, "type": …, "splits": …}}, …]}}')
    tasks = [_parse_task(entry, path) for entry in entries]
    if repeated := [name for name, times in Counter(task.name for task in tasks).items() if times > 1]:
        raise InputError(f"{path}: task {repeated[0]!r} is given more than once")
    return tasks


def _parse_task(entry: dict, path: Path) -> Task:
    name, type = entry.get("name"), entry.get("type")
    if not isinstance(name, str) or not re.fullmatch(FILE_NAME, name) or name == "summary":
        raise InputError(f"{path}: a task is named {name!r}; expected letters, digits, '.', '_' and '-', and not summary")
    where = f"{path}: task {name}"
    if not isinstance(type, str) or type not in TYPES:
        raise InputError(f"{where}: type {type!r} is unknown; {nearest(type, TYPES)}")
    main_score, possible, columns = TYPES[type]
    checks = {  # field: (test, what is expected)
        "name": (lambda v: True, ""),
        "type": (lambda v: True, ""),
        "splits": (lambda v: isinstance(v, dict) and v and all(re.fullmatch(FILE_NAME, split) for split in v), "{split: files, …}"),
        "train": (lambda v: type in TRAINED, f"no training data in a task of type {type}"),
        "main_score": (lambda v: isinstance(v, str) and re.fullmatch(possible, v), f"a score of {type}, such as {main_score}"),
        "columns": (
            lambda v: isinstance(v, dict) and v.keys() <= columns.keys() and all(isinstance(name, str) for name in v.values()),
            f"{{what: column}} for what in {', '.join(columns)}",
        ),
        "samples_per_label": (lambda v: isinstance(v, int) and v > 0, "a whole number above 0"),
        "ignore_identical_ids": (lambda v: isinstance(v, bool), "true or false"),
    }
    for field, value in entry.items():
        if field not in checks:
            raise InputError(f"{where}: field {field!r} is unknown; {nearest(field, checks)}")
        if not checks[field][0](value):
            raise InputError(f"{where}: {field} is {value!r}; expected {checks[field][1]}")
    for field in ["splits", "train"] if type in TRAINED else ["splits"]:
        if field not in entry:
            raise InputError(f"{where}: no field {field!r}; a task of type {type} needs it")
    files = {"splits": {split: _paths(files, type, path.parent, f"{where}: {split}") for split, files in entry["splits"].items()}}
    if "train" in entry:
        files["train"] = _paths(entry["train"], type, path.parent, f"{where}: train")
    return Task(**({"main_score": main_score} | entry | files))


def _paths(files, type: str, folder: Path, where: str) -> list[Path] | dict[str, Path]:
    """The files of a split as paths that exist (or exist with `.gz`), none of them outside `folder`."""
    if type in RANKING:
        files = {"folder": files} if isinstance(files, str) else files
        if not isinstance(files, dict) or "folder" not in files or not files.keys() <= {"folder", "corpus", "queries"}:
            raise InputError(f'{where}: found {files!r}; expected a folder, or {{"folder": …, "corpus": file, "queries": file}}')
        paths = {what: inside(folder, name, where) for what, name in files.items()}
        paths = {"corpus": paths["folder"] / "corpus.jsonl", "queries": paths["folder"] / "queries.jsonl"} | paths
    else:
        files = [files] if isinstance(files, str) else files
        if not isinstance(files, list) or not files:
            raise InputError(f"{where}: found {files!r}; expected a file or a list of files")
        paths = [inside(folder, name, where) for name in files]
    for file in paths.values() if type in RANKING else paths:
        if not file.exists() and not (type in RANKING and file.with_name(f"{file.name}.gz").exists()):
            raise FileNotFoundError(f"{where}: {file}: no such file")
    return paths


def select_tasks(tasks: list[Task], wanted: list[str]) -> list[Task]:
    """The tasks that `wanted` names: names, types, or `all`; in the order of `tasks`."""
    names = [task.name for task in tasks] + list(dict.fromkeys(task.type for task in tasks)) + ["all"]
    for name in wanted:
        if name not in names:
            raise InputError(f"task {name!r} is unknown; {nearest(name, names)}")
    return [task for task in tasks if {"all", task.name, task.type} & set(wanted)]


def read_rows(task: Task, files: list[Path]) -> dict[str, list]:
    """The columns of a split: {'text': […], 'label': […]} or {'sentence1': …, 'sentence2': …, 'label' or 'score': …}."""
    found = {what: [] for what in TYPES[task.type][2]}
    for file in files:
        for number, row in read_jsonl(file):
            where = f"{file}:{number}"
            for what, (names, (good, expected)) in TYPES[task.type][2].items():
                names = [task.columns[what]] if what in task.columns else names
                name = next((name for name in names if name in row), None)
                if name is None:
                    raise InputError(f"{where}: no column {' or '.join(map(repr, names))}; the row has {', '.join(row) or 'nothing'}")
                if not good(row[name]):
                    raise InputError(f"{where}: column {name!r} is {str(row[name])[:60]!r}; expected {expected}")
                found[what].append(row[name])
    labels = flat_labels(found)
    if len(set(labels)) < 2:
        raise InputError(f"{file}: all labels are {labels[0] if labels else 'empty'!r}; there is nothing to tell apart")
    if len({isinstance(label, str) for label in labels}) == 2:
        raise InputError(f"{file}: some labels are texts and some are numbers; write all in one way")
    return found


def flat_labels(rows: dict[str, list]) -> list:
    """The labels (or scores) of a split; of a multi-label split, those of all rows one after the other."""
    values = rows.get("label", rows.get("score"))
    return [label for row in values for label in row] if isinstance(values[0], list) else values


def read_ranking(task: Task, paths: dict[str, Path], split: str) -> tuple[dict[str, str], dict[str, str], dict, dict]:
    """queries {id: text}, corpus {id: text}, qrels {query id: {document id: grade}}, candidates {query id: [document id, …]}.

    Queries without judgements are left out, and so are judgements of queries that do not exist (as in mteb).
    """
    corpus, queries = (read_texts_by_id(paths[what].parent, paths[what].name) for what in ("corpus", "queries"))
    corpus = {id: text.strip() for id, text in corpus.items()}
    qrels = {query: judged for query, judged in read_qrels(paths["folder"], split).items() if query in queries}
    queries = {query: text for query, text in queries.items() if query in qrels}
    if not queries:
        raise InputError(f"{paths['folder']}: no query of {paths['queries']} is judged in qrels/{split}.tsv")
    if task.type == "Retrieval":
        return queries, corpus, qrels, {}
    candidates = {query: list(qrels[query]) for query in queries}
    file = next((file for file in sorted(paths["folder"].glob("top_ranked.jsonl*"))), None)
    if file:
        given = {}
        for number, row in read_jsonl(file):
            ids = row.get("corpus-ids")
            if not isinstance(row.get("query-id"), str) or not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
                raise InputError(f"{file}:{number}: expected 'query-id', a text, and 'corpus-ids', a list of texts")
            given[row["query-id"]] = list(dict.fromkeys(ids))
        candidates = {query: given.get(query, []) for query in queries}
    for query, ids in candidates.items():
        if not ids:
            raise InputError(f"{file}: query {query!r} has no candidates")
        if missing := [id for id in ids if id not in corpus]:
            raise InputError(f"candidate {missing[0]!r} of query {query!r} is not in {paths['corpus']}")
    return queries, corpus, qrels, candidates


# --- evaluation -------------------------------------------------------------------------------------------------------------

Encode = Callable[[list[str], str], Embeddings]  # (texts, kind) -> embeddings, as e5nl.embed


def remember(encode: Encode) -> Encode:
    """`encode` that embeds each distinct (kind, text) once, and stops at embeddings that cannot be scored.

    The kind is part of the key: the same text is another input as a query than as a passage.
    """
    rows: dict[str, dict[str, int]] = {}  # kind -> {text: row of its embeddings}
    stored: dict[str, Embeddings] = {}

    def encode_once(texts: list[str], kind: str) -> Embeddings:
        known = rows.setdefault(kind, {})
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            embeddings = encode(new, kind)
            width = next((old.shape[1] for old in stored.values()), embeddings.shape[-1])
            if embeddings.shape != (len(new), width):
                raise InputError(f"the model gave embeddings {embeddings.shape} for {len(new)} texts; expected {(len(new), width)}")
            if scipy.sparse.issparse(embeddings):  # a baseline: a text without any known word is a row of zeros
                embeddings = scipy.sparse.csr_matrix(embeddings)
                stored[kind] = scipy.sparse.vstack([stored[kind], embeddings], "csr") if known else embeddings
            else:
                embeddings = np.asarray(embeddings, np.float32)
                for bad, what in ((~np.isfinite(embeddings).all(1), "NaN or infinite"), (~embeddings.any(1), "all zero")):
                    if bad.any():
                        text = new[int(np.argmax(bad))]
                        raise InputError(f"the model's embedding is {what} for {bad.sum()} of {len(new)} texts, the first is {text[:60]!r}")
                stored[kind] = np.concatenate([stored[kind], embeddings]) if known else embeddings
            known.update(zip(new, range(len(known), len(known) + len(new)), strict=True))
        return stored[kind][[known[text] for text in texts]]

    return encode_once


def evaluate_task(task: Task, encode: Encode, prefix: str = "mteb") -> dict[str, Scores]:
    """{split: (scores with `main_score`, per-item values)} of one task.

    Random draws start afresh with each task and go on from one split to the next, as a new task object of mteb does.
    """
    symmetric, query_kind, passage_kind = POLICIES[prefix]
    with naming(task.name):
        train = read_rows(task, task.train) if task.train else {}
        stdlib, generator, results = random.Random(SEED), np.random.default_rng(SEED), {}
        for split, files in task.splits.items():
            if task.type in RANKING:
                queries, corpus, qrels, candidates = read_ranking(task, files, split)
                kinds = (query_kind, passage_kind)
                scores, items = retrieval(rank(queries, corpus, candidates, encode, kinds, task.ignore_identical_ids), qrels)
            else:
                rows = read_rows(task, files)
                if task.type in TRAINED:
                    scores, items = _train_and_score(task, split, train, rows, generator, lambda texts: encode(texts, symmetric))
                elif task.type == "Clustering":
                    scores, items = clustering(encode(rows["text"], symmetric), rows["label"], stdlib)
                else:
                    score = sts if task.type == "STS" else pair_classification
                    scores, items = score(encode(rows["sentence1"], symmetric), encode(rows["sentence2"], symmetric), flat_labels(rows))
            if not np.isfinite(scores[task.main_score]):
                raise InputError(f"split {split}: {task.main_score} is {scores[task.main_score]}; is it defined for these labels?")
            results[split] = ({"main_score": scores[task.main_score]} | scores, items)
    return results


def rank(queries: dict, corpus: dict, candidates: dict, encode: Encode, kinds: tuple[str, str], ignore_identical_ids: bool) -> Run:
    """Embed and rank: the best of the corpus for each query or, where there are candidates, those.

    `ignore_identical_ids` takes the document that has the query's id out of the ranking, after the cut (as mteb does).
    """
    q, p, ids = encode(list(queries.values()), kinds[0]), encode(list(corpus.values()), kinds[1]), list(corpus)
    if candidates:
        row = {id: number for number, id in enumerate(ids)}
        found = ((given := candidates[query], cosine(q[[i]], p[[row[id] for id in given]])[0]) for i, query in enumerate(queries))
    else:
        found = search(q, p, ids, CUTS[-1])
    ranked = dict(zip(queries, found, strict=True))
    if ignore_identical_ids:
        for query, (ids, scores) in ranked.items():
            other = [id != query for id in ids]
            ranked[query] = [id for id in ids if id != query], scores[other]
    return ranked


def _train_and_score(task: Task, split: str, train: dict, rows: dict, generator: np.random.Generator, encode) -> Scores:
    """Embed the training texts that are drawn, and no others; then classify."""
    labels, multilabel = train["label"], task.type == "MultilabelClassification"
    if isinstance(flat_labels(train)[0], str) != isinstance(flat_labels(rows)[0], str):
        raise InputError(f"labels are texts in one of train and {split}, numbers in the other; write all in one way")
    draws = draw_multilabel_rows(labels, task.samples_per_label, generator) if multilabel else draw_rows(labels, task.samples_per_label)
    if multilabel and min(map(len, draws)) < NEIGHBOURS:
        raise InputError(f"{min(map(len, draws))} training rows with labels; {NEIGHBOURS} nearest neighbours need as many")
    used = sorted(set().union(*draws))
    place = {row: number for number, row in enumerate(used)}
    draws = [[place[row] for row in drawn] for drawn in draws]
    score = multilabel_classification if multilabel else classification
    return score(encode([train["text"][row] for row in used]), [labels[row] for row in used], encode(rows["text"]), rows["label"], draws)


def fingerprint(task: Task) -> str:
    """SHA-256 of a task's fields and of its files' content: whether a result is still the task's."""
    paths = list(task.train)
    for split, files in task.splits.items():
        if task.type in RANKING:
            folder = files["folder"]
            paths += [files["corpus"], files["queries"], folder / f"qrels/{split}.tsv", *sorted(folder.glob("top_ranked.jsonl*"))]
        else:
            paths += files
    fields = dataclasses.asdict(task) | {"splits": list(task.splits), "train": len(task.train)}
    digest = hashlib.sha256(repr(sorted(fields.items())).encode())
    for path in (path if path.exists() else path.with_name(f"{path.name}.gz") for path in paths):
        if path.is_file():  # else evaluation says what is missing
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def run(tasks: list[Task], encode: Encode, out, settings: dict, prefix: str = "mteb", overwrite=False) -> Iterator[tuple[dict, str]]:
    """Evaluate tasks; write `<out>/<task>.json` and `<out>/summary.json`. Yields (result, 'done' or 'kept' or 'damaged file replaced').

    `settings` says what decides the numbers beside the data (model, weights, dtype, …); it is stored with the prefix policy, the task's
    fingerprint and the versions. A result that is there already is kept when all of it agrees, unless `overwrite`; versions may differ,
    and so may the model's name where the weights are known.
    """
    out, encode, settings, results = Path(out), remember(encode), {"prefix": prefix} | settings, []
    versions = {module.__name__: module.__version__ for module in (torch, sklearn, np)} | {"python": platform.python_version()}
    for task in tasks:
        path, state, result, decisive = out / f"{task.name}.json", "done", None, settings | {"task": fingerprint(task)}
        if path.exists() and not overwrite:
            try:
                result, state = read_result(path), "kept"
            except InputError:
                state = "damaged file replaced"
        if result is None:
            start = time.perf_counter()
            scores = {split: scores for split, (scores, _) in evaluate_task(task, encode, prefix).items()}
            result = _plain({
                "task_name": task.name,
                "task_type": task.type,
                "dataset_revision": task.revision,
                "mteb_version": None,
                "main_score": float(np.mean([split["main_score"] for split in scores.values()])),
                "main_score_name": task.main_score,
                "evaluation_time": time.perf_counter() - start,
                "kg_co2_emissions": None,
                "scores": {split: [{**one, "hf_subset": task.subset, "languages": ["nld-Latn"]}] for split, one in scores.items()},
                "settings": decisive | {"versions": versions},
            })  # fmt: skip
            write_json(path, result)
        for field, value in decisive.items():
            if result["settings"].get(field) != value and not (field == "model" and "weights" in decisive):
                found = f"{field} {result['settings'].get(field)!r}, now it is {value!r}"
                raise InputError(f"{path}: result of another run ({found}); choose another output folder, or add --overwrite to replace it")
        results.append(result)
        yield result, state
    write_json(out / "summary.json", {"settings": settings | {"versions": versions}, **summarise(results)})


def _plain(value):
    """For strict JSON: numpy numbers become Python's, NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


# --- results ----------------------------------------------------------------------------------------------------------------


def read_result(path) -> dict:
    """One result file, checked."""
    result = read_json(path)
    for field, kind in {"task_name": str, "task_type": str, "main_score": float, "scores": dict, "settings": dict}.items():
        if not isinstance(result.get(field), kind) or (field == "task_type" and result[field] not in TYPES):
            raise InputError(f"{path}: not a result file of evaluate.py ({field} is {result.get(field)!r})")
    return result


def summarise(results: list[dict]) -> dict:
    """Scores by task, their means by type, the mean over tasks and the mean over types."""
    scores, by_type = {result["task_name"]: result["main_score"] for result in results}, {}
    for result in results:
        by_type.setdefault(result["task_type"], []).append(result["main_score"])
    types = {type: float(np.mean(values)) for type, values in by_type.items()}
    means = {name: float(np.mean(list(values.values()))) for name, values in (("mean_tasks", scores), ("mean_types", types))}
    return {"tasks": scores, "types": types, **means}


def report(folders: list, format: str = "text") -> str:
    """A table of the main scores x 100: tasks down, a column for each folder of results, then the means.

    A mean is left open (-) where a folder lacks one of its tasks: means over different tasks cannot be compared.
    """
    columns, order = {}, {}
    for folder in map(Path, folders):
        files = sorted(path for path in folder.glob("*.json") if path.name != "summary.json")
        if not files:
            raise FileNotFoundError(f"{folder}: no result files; expected a folder that `evaluate.py run` wrote")
        results = list(map(read_result, files))
        name = folder.resolve().name
        columns[name if name not in columns else str(folder)] = summarise(results)
        order |= {result["task_name"]: result["task_type"] for result in results}
    order = dict(sorted(order.items(), key=lambda item: (list(TYPES).index(item[1]), item[0])))

    def line(name, type, tasks, field, key=None):
        """A row of the table: field[key] of every column that has all of `tasks`."""
        whole = [summary if order.keys() & set(tasks) <= summary["tasks"].keys() else None for summary in columns.values()]
        return [name, type, *("-" if s is None else f"{100 * (s[field][key] if key else s[field]):.2f}" for s in whole)]

    rows = [line(task, type, [task], "tasks", task) for task, type in order.items()]
    means = [line(f"mean {type}", "", [t for t in order if order[t] == type], "types", type) for type in dict.fromkeys(order.values())]
    means += [line(name, "", order, field) for name, field in (("mean over tasks", "mean_tasks"), ("mean over types", "mean_types"))]
    cells = [["task", "type", *columns], *rows, *means]
    if format == "csv":
        return "\n".join(",".join(row) for row in cells)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(row)] for row in cells]
    if format == "markdown":
        padded.insert(1, ["-" * (width - (i > 1)) + ":" * (i > 1) for i, width in enumerate(widths)])
        return "\n".join(f"| {' | '.join(row)} |" for row in padded)
    rule = ["-" * width for width in widths]
    return "\n".join("  ".join(row).rstrip() for row in [padded[0], rule, *padded[1 : 1 + len(rows)], rule, *padded[1 + len(rows) :]])


# --- command line -----------------------------------------------------------------------------------------------------------


def _run(args) -> None:
    tasks = select_tasks(read_tasks(args.tasks_file), args.tasks)
    folder = e5nl.find(args.model)
    model, tokenizer = e5nl.load(folder)
    model.to(getattr(torch, args.dtype))
    settings = {"model": str(args.model), "weights": model_folder.weights_hash(folder), "dtype": args.dtype}
    settings["prompts"] = dict(model.config.prompts)
    print(f"{args.model}: {len(tasks)} tasks, prefixes {args.prefix}, {args.dtype}, weights {settings['weights'][:12]}")

    def encode(texts, kind):
        return e5nl.embed(model, tokenizer, texts, kind, progress=True)

    for number, (result, state) in enumerate(run(tasks, encode, args.out, settings, args.prefix, args.overwrite), 1):
        seconds = f"{result.get('evaluation_time', 0):.1f} s" + ("" if state == "done" else f", {state}")
        name, score = result["task_name"], f"{result.get('main_score_name', 'score')} {100 * result['main_score']:.2f}"
        print(f"{number}/{len(tasks)} {name}: {score} ({seconds})", flush=True)
    print(f"{args.out}: {len(tasks)} results and summary.json")


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Score embeddings on MTEB-NL's types of tasks, with mteb's numbers.")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("run", help="evaluate a model", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("--model", required=True, help="model folder or hub name")
    command.add_argument("--tasks-file", required=True, help="JSON file that lists tasks, beside their data")
    command.add_argument("--tasks", nargs="+", default=["all"], help="names of tasks, types of tasks, or all")
    command.add_argument("--out", required=True, help="folder of the result files")
    command.add_argument("--overwrite", action="store_true", help="evaluate again what is there already")
    command.add_argument("--prefix", choices=list(POLICIES), default="mteb",
                         help="texts that get `query: ` and `passage: `: those of retrieval and reranking (mteb, as the leaderboard does "
                              "for E5), all (e5, its authors' advice) or none")  # fmt: skip
    command.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the encoder; published: float32")
    command.set_defaults(run=_run)

    command = commands.add_parser("report", help="print a table of results")
    command.add_argument("results", nargs="+", help="folders that `run` wrote")
    command.add_argument("--format", choices=["text", "markdown", "csv"], default="text")
    command.set_defaults(run=lambda args: print(report(args.results, args.format)))

    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    cli(main)
