"""MTEB-NL without mteb: a model scored on 40 tasks of seven types, with mteb's numbers (arXiv
2509.12340, the benchmark and the results).

In: a model folder and tasks (`mteb_nl.py`). Out: one JSON file per task in mteb's layout, with what
decides a number (prefixes, dtype, weights, versions); in `items/` the predictions or similarities
that the score was made of (`metrics.py`); and tables and comparisons of such folders. For models
with published scores (`published.json`, from mteb's results repository) their main scores are
known.

A task's score is the plain mean over its evaluation splits. A benchmark has two means: over tasks,
and over types (of their means). Which prefix a text gets is a policy, `--prefix`, stored in every
result:

    mteb      `query: ` and `passage: ` in retrieval and reranking, nothing elsewhere: what the
              leaderboard does to E5
    e5        `query: ` on all other texts too, as E5's authors advise
    instruct  `Instruct: {the task's instruction}\\nQuery: ` on all texts but documents, for
              multilingual-e5-large-instruct and models trained with `--prefix instruct`
    none      nothing anywhere

    python evaluate.py run --model runs/toy --tasks-file demo/tasks.json --tasks STS --out runs/sts
    python evaluate.py download                     # the 40 tasks' data, to the hub's cache
    python evaluate.py run --model clips/e5-base-trm-nl --out runs/e5-base-trm-nl
    torchrun --nproc_per_node 8 evaluate.py run …   # the embedding shared by 8 GPUs
    python evaluate.py report runs/e5-base-trm-nl clips/e5-base-trm-nl
    python evaluate.py compare runs/e5-base-trm-nl runs/other

Each distinct text is embedded once, prefix included, whatever tasks share it, and kept in
`<out>/cache` (or `--cache`), so a killed run resumes. Finished tasks are skipped. Memory is that of
the largest task: 371 thousand documents.
"""

import argparse
import functools
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import torch

import e5nl
import metrics
import model_folder
from cache import Cache, check_embeddings, model_cache
from data import INSTRUCT
from files import (
    InputError,
    cli,
    new_file,
    output_folder,
    read_json,
    reading,
    refuse_plot,
    whole_number,
    write_json,
)
from metrics import SEED, Embeddings, Items, Scores
from mteb_nl import (
    FILE_NAME,
    PUBLISHED,
    RANKING,
    TASKS,
    TRAINED,
    TYPES,
    Task,
    fingerprint,
    flat_labels,
    is_number,
    naming,
    nearest,
    read_columns,
    read_ranking,
    read_tasks,
    remarks,
    select_tasks,
)

# The kind of text (see `e5nl.embed`) by its role in a task; see also `with_policy`
POLICIES = {
    "mteb": {"symmetric": "none", "query": "query", "document": "passage"},
    "e5": {"symmetric": "query", "query": "query", "document": "passage"},
    "instruct": {"symmetric": "none", "query": "none", "document": "none"},
    "none": {"symmetric": "none", "query": "none", "document": "none"},
}

Encode = Callable[[list[str], str], Embeddings]  # (texts, kind) -> embeddings, as e5nl.embed


# --- one task -------------------------------------------------------------------------------------


class Job(NamedTuple):
    """One split of a task: what to embed, and the function that makes scores of the embeddings."""

    split: str
    texts: list[tuple[str, list[str]]]  # (role, texts)
    score: Callable[..., Scores]  # of the embeddings, in the order of `texts`
    remarks: list[str]  # on the data


def jobs(task: Task) -> Iterator[Job]:
    """The splits of a task, in the order in which they have to be scored.

    Random draws start afresh with each task and continue from one split to the next, as those of a
    new task object of mteb do.
    """
    shuffles, draws = random.Random(SEED), np.random.default_rng(SEED)
    train = read_columns(task, "train") if task.type in TRAINED else {}
    for split in task.splits:
        # Queries in a corpus, or in lists of candidates
        if task.type in RANKING:
            yield _ranking_job(task, split)
            continue

        # What is said of the data: of the training texts with the first split
        rows = read_columns(task, split)
        lines = remarks(task, split, rows)
        if train and split == task.splits[0] != "train":
            lines = remarks(task, "train", train) + lines

        # Texts with labels, texts to cluster, or pairs of texts
        if train:
            texts, score = _trained(task, split, train, rows, draws)
        elif task.type == "Clustering":
            texts = [rows["text"]]
            score = functools.partial(metrics.clustering, labels=rows["label"], generator=shuffles)
        else:
            texts = [rows["sentence1"], rows["sentence2"]]
            score = metrics.sts if task.type == "STS" else metrics.pair_classification
            score = functools.partial(score, gold=flat_labels(rows))
        yield Job(split, [("symmetric", column) for column in texts], score, lines)


def _trained(task: Task, split: str, train: dict, rows: dict, generator) -> tuple[list, Callable]:
    """Texts and score of a classification. Only the training texts that are drawn are embedded."""
    labels = train["label"]
    if isinstance(flat_labels(train)[0], str) != isinstance(flat_labels(rows)[0], str):
        advice = "numbers in the other; write all in one way"
        raise InputError(f"labels are texts in one of train and {split}, {advice}")

    # The training rows of each experiment
    if task.type == "Classification":
        classify, draws = metrics.classification, metrics.draw_rows(labels, task.samples_per_label)
    else:
        classify = metrics.multilabel_classification
        draws = metrics.draw_multilabel_rows(labels, task.samples_per_label, generator)
        if (fewest := min(map(len, draws))) < (needed := metrics.NEIGHBOURS):
            reason = f"{needed} nearest neighbours need as many"
            raise InputError(f"{fewest} training rows with labels; {reason}")

    # Of the training texts keep those drawn; draws are then places among them
    used = sorted(set().union(*draws))
    place = {row: number for number, row in enumerate(used)}
    draws = [[place[row] for row in rows] for rows in draws]
    labels = [labels[row] for row in used]

    def score(train: Embeddings, test: Embeddings) -> Scores:
        return classify(train, labels, test, rows["label"], draws)

    return [[train["text"][row] for row in used], rows["text"]], score


def _ranking_job(task: Task, split: str) -> Job:
    # Documents by descending id: see `metrics.rank_corpus`
    content = read_ranking(task, split)
    queries, ids = list(content.queries), sorted(content.corpus, reverse=True)

    def score(q: Embeddings, p: Embeddings) -> Scores:
        if content.candidates:
            ranking = metrics.rank_candidates(queries, q, ids, p, content.candidates)
        else:
            ranking = metrics.rank_corpus(queries, q, ids, p)
        # After the ranking was cut, as in mteb
        if task.ignore_identical_ids:
            for query, (documents, scores) in ranking.items():
                other = [id != query for id in documents]
                ranking[query] = [id for id in documents if id != query], scores[other]
        return metrics.retrieval(ranking, content.qrels)

    documents = [content.corpus[id] for id in ids]
    texts = [("query", list(content.queries.values())), ("document", documents)]
    return Job(split, texts, score, remarks(task, split, content))


def with_policy(task: Task, job: Job, policy: str) -> list[tuple[list[str], str]]:
    """(texts, kind) for the encoder, of a job under a prefix policy."""
    inputs = []
    for role, texts in job.texts:
        if policy == "instruct" and role != "document":
            texts = [INSTRUCT.format(task.prompt) + text for text in texts]
        inputs.append((texts, POLICIES[policy][role]))
    return inputs


def evaluate_task(task: Task, encode: Encode, prefix: str = "mteb") -> dict[str, Scores]:
    """{split: (scores with `main_score` and `remarks`, items)} of one task."""
    with naming(task.name):
        results = {}
        for job in jobs(task):
            # All texts of a split with embeddings of one width
            embeddings, width = [], None
            for texts, kind in with_policy(task, job, prefix):
                embeddings.append(check_embeddings(encode(texts, kind), texts, width))
                width = embeddings[0].shape[1]

            # Scores of the split
            scores, items = job.score(*embeddings)
            main = scores[task.main_score]
            if not np.isfinite(main):
                reason = f"{task.main_score} is {main}; is it defined for these labels?"
                raise InputError(f"split {job.split}: {reason}")
            results[job.split] = {"main_score": main, "remarks": job.remarks} | scores, items
        return results


# --- the run --------------------------------------------------------------------------------------


def finished(
    task: Task, out: Path, settings: dict, overwrite: bool
) -> tuple[dict, dict | None, str]:
    """All settings of a task's result; the result of an earlier run, if it is complete and of these
    settings; 'done', 'kept' or 'damaged file replaced', for the log."""
    # Is there one that can be read?
    path, settings = out / f"{task.name}.json", settings | {"task": fingerprint(task)}
    if overwrite or not path.exists():
        return settings, None, "done"
    try:
        result = read_result(path)
    except InputError:
        return settings, None, "damaged file replaced"

    # Of the same settings: the model's name does not matter where its weights are known
    for field in (*settings, "truncate_dim"):
        value, before = settings.get(field), result["settings"].get(field)
        if before != value and not (field == "model" and "weights" in settings):
            found = f"result of another run ({field} {before!r}, now it is {value!r})"
            advice = "choose another output folder, or add --overwrite to replace it"
            raise InputError(f"{path}: {found}; {advice}")
    return settings, result, "kept"


def run(
    tasks: list[Task], encode: Encode, out, settings: dict, prefix="mteb", overwrite=False
) -> Iterator[tuple[dict, str]]:
    """Evaluate tasks; write `<out>/<task>.json` and `<out>/summary.json`. Yields (result, state).

    settings: what decides the numbers apart from the data (model, weights, dtype, …); it is stored
    with the prefix policy, the task's fingerprint and the versions. An earlier result is kept when
    all of it agrees, unless `overwrite`; versions may differ, and the model's name may where the
    weights are known. state: see `finished`.
    """
    out, settings, results = Path(out), {"prefix": prefix} | settings, []
    versions = {module.__name__: module.__version__ for module in (torch, sklearn, np)}
    versions["python"] = platform.python_version()
    for task in tasks:
        with naming(task.name):
            decisive, result, state = finished(task, out, settings, overwrite)
        if result is None:
            start = time.perf_counter()
            splits = evaluate_task(task, encode, prefix)
            seconds = time.perf_counter() - start
            # The result file last: where it is, everything is
            write_items(out, task, {split: items for split, (_, items) in splits.items()})
            scores = {split: scores for split, (scores, _) in splits.items()}
            result = _plain(result_of(task, scores, seconds, decisive | {"versions": versions}))
            write_json(out / f"{task.name}.json", result)
        results.append(result)
        yield result, state
    summary = summarise({result["task_name"]: result for result in results})
    write_json(out / "summary.json", {"settings": settings | {"versions": versions}, **summary})


def result_of(task: Task, scores: dict[str, dict], seconds: float, settings: dict) -> dict:
    """A result file's content, in mteb's layout with fields of our own."""
    about = {"hf_subset": task.subset, "languages": [task.language]}
    return {
        "task_name": task.name,
        "task_type": task.type,
        "dataset_revision": task.revision,
        "mteb_version": None,
        "main_score": float(np.mean([values["main_score"] for values in scores.values()])),
        "main_score_name": task.main_score,
        "translated": task.translated,
        "evaluation_time": seconds,
        "kg_co2_emissions": None,
        "scores": {split: [values | about] for split, values in scores.items()},
        "settings": settings,
    }


def write_items(out: Path, task: Task, splits: dict[str, Items]) -> None:
    """`<out>/items/<task>.npz`: of each split the arrays that the main score is made of."""
    arrays = {}
    for split, items in splits.items():
        # Of the many measures of a ranking the one that counts
        if task.type in RANKING:
            items = {name: items[name] for name in ("query", metrics.ranking_item(task.main_score))}
        arrays |= {f"{split}/{name}": array for name, array in items.items()}
    with new_file(out / "items" / f"{task.name}.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def _plain(value):
    """For strict JSON: numpy numbers become Python's, NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


# --- result files ---------------------------------------------------------------------------------

MODEL_META = "model_meta.json"  # what mteb writes next to its results

Results = dict[str, dict]  # task: its result


def read_result(path: Path) -> dict:
    """One result file of `run` or of mteb, checked."""
    result = read_json(path)
    if "mteb_version" in result and "settings" not in result:
        result = _from_mteb(path, result)
    settings = result.get("settings")
    checks = {
        "task_name": re.fullmatch(FILE_NAME, str(result.get("task_name") or "")),
        "task_type": str(result.get("task_type")) in TYPES,
        "main_score": is_number(result.get("main_score")),
        "scores": isinstance(result.get("scores"), dict),
        "settings": isinstance(settings, dict) and isinstance(settings.get("versions", {}), dict),
    }
    for field, fits in checks.items():
        if not fits:
            value = str(result.get(field))[:60]
            raise InputError(f"{path}: not a result file of evaluate.py: {field} is {value!r}")
    return result


def _from_mteb(path: Path, result: dict) -> dict:
    """A result file that mteb wrote, with the fields of ours. Its main score is that of the Dutch
    part of a task of the benchmark."""
    facts, name = {task.name: task for task in TASKS}, result.get("task_name")
    if name not in facts:
        raise InputError(f"{path}: task {name!r} is not in MTEB-NL")
    task = facts[name]

    # Its mean as the benchmark takes it: other languages and splits may be in the file too
    with reading(path):
        scores = {
            (split, subset["hf_subset"]): subset["main_score"]
            for split, subsets in result["scores"].items()
            for subset in subsets
        }
        main_score = float(np.mean([scores[split, task.subset] for split in task.splits]))
    return result | {
        "task_type": task.type,
        "main_score": main_score,
        "main_score_name": task.main_score,
        "translated": task.translated,
        "settings": {"by mteb": f"{_short_name(path.parent)}, mteb {result['mteb_version']}"},
    }


def _short_name(name) -> str:
    """What a folder of results is called in tables. mteb names the model in `model_meta.json`."""
    folder = Path(name)
    model = read_json(folder / MODEL_META) if (folder / MODEL_META).is_file() else {}
    return model.get("name") or (folder.resolve().name if folder.is_dir() else str(name))


def read_results(name, notes: list[str]) -> Results:
    """The results in a folder that `run` or mteb wrote, or of a model with published scores (main
    scores only).

    notes: gets a line for each file of the folder that is no result file.
    """
    if not Path(name).is_dir():
        return _published(str(name))

    # A file of another kind is skipped, unless there is nothing else
    results, refused = {}, []
    for path in sorted(Path(name).glob("*.json")):
        if path.name in ("summary.json", MODEL_META):
            continue
        try:
            result = read_result(path)
            if (task := result["task_name"]) in results:
                raise InputError(f"{path}: task_name is {task!r}, and so is that of another file")
            results[task] = result
        except InputError as error:
            refused.append(f"{error}")
    if not results:
        expected = "expected a folder that `run` wrote, or mteb (results/<model>/<revision>)"
        raise InputError(refused[0] if refused else f"{name}: no result files; {expected}")
    notes += [f"skipped: {line}" for line in refused]
    return results


def _published(name: str) -> Results:
    published = read_json(PUBLISHED)
    if name not in published["models"]:
        close = nearest(name, published["models"]) if "/" in name else "e.g. clips/e5-small-trm-nl"
        raise FileNotFoundError(
            f"{name}: no such folder, and no model with published scores; {close}"
        )
    model, facts = published["models"][name], {task.name: task for task in TASKS}
    settings = {"by mteb": f"{name}, revision {model['revision'][:8]}, published"}
    return {
        task: {
            "task_name": task, "task_type": facts[task].type, "main_score": score,
            "translated": facts[task].translated, "settings": settings,
        }
        for task, score in zip(published["tasks"], model["scores"], strict=True)
    }  # fmt: skip


# --- tables ---------------------------------------------------------------------------------------

# The paper's names of the types, in its order
SHORT = {
    "Classification": "Cls",
    "MultilabelClassification": "MLCls",
    "PairClassification": "PCls",
    "Reranking": "Rrnk",
    "Retrieval": "Rtr",
    "Clustering": "Clust",
    "STS": "STS",
}


def summarise(results: Results, tasks: dict[str, str] | None = None) -> dict:
    """Scores by task, their means by type, the mean over tasks and the mean over types.

    tasks: {task: type}, if not those of the results. A mean is None where one of its tasks is
    missing: means over different tasks cannot be compared.
    """
    if tasks is None:
        tasks = {name: result["task_type"] for name, result in results.items()}
    scores = {task: results[task]["main_score"] if task in results else None for task in tasks}
    types = {
        type: _mean(scores[task] for task in tasks if tasks[task] == type)
        for type in dict.fromkeys(tasks.values())
    }
    means = {"mean_tasks": _mean(scores.values()), "mean_types": _mean(types.values())}
    return {"tasks": scores, "types": types, **means}


def _mean(scores) -> float | None:
    scores = list(scores)
    return None if None in scores else float(np.mean(scores))


def read_columns_of(names: list, notes: list[str]) -> dict[str, Results]:
    """{short name: results} of several folders or published models. notes: see `read_results`."""
    columns = {}
    for name in names:
        short = _short_name(name)
        columns[str(name) if short in columns else short] = read_results(name, notes)
    return columns


def _every(columns: dict[str, Results]) -> Results:
    """A result of each task that a column has."""
    return {name: result for results in columns.values() for name, result in results.items()}


def only_tasks(columns: dict[str, Results], wanted: list[str]) -> dict[str, Results]:
    """The results of the tasks that `wanted` lists by name or type."""
    every = _every(columns)
    known = sorted(every.keys() | {result["task_type"] for result in every.values()})
    for name in wanted:
        if name not in known:
            raise InputError(f"task {name!r} is in none of these results; {nearest(name, known)}")
    return {
        model: {
            name: result
            for name, result in results.items()
            if name in wanted or result["task_type"] in wanted
        }
        for model, results in columns.items()
    }


def report_types(columns: dict[str, Results]) -> list[list[str]]:
    """Cells: models down, types and means across; of all tasks, and of those on native and on
    translated text alone. Left open (-): see `summarise`."""
    # The types that there are, in the paper's order
    every = _every(columns)
    used = {result["task_type"] for result in every.values()}
    types = [type for type in SHORT if type in used]
    cells = [["model", "text", "tasks", *map(SHORT.get, types), "mean tasks", "mean types"]]

    # All models on all texts, then on native ones, then on translated ones
    for text, translated in (("all", None), ("native", False), ("translated", True)):
        tasks = {
            name: result["task_type"]
            for name, result in every.items()
            if translated is None or result.get("translated") is translated
        }
        for model, results in columns.items() if tasks else ():
            means = summarise(results, tasks)
            scores = [*map(means["types"].get, types), means["mean_tasks"], means["mean_types"]]
            cells.append([model, text, str(len(results.keys() & tasks)), *map(_cell, scores)])
    return cells


def report_tasks(columns: dict[str, Results]) -> list[list[str]]:
    """Cells: tasks down, models across, then the means. Left open (-): see `summarise`."""
    # Type by type, by name
    order = list(TYPES)
    every = {name: result["task_type"] for name, result in _every(columns).items()}
    tasks = dict(sorted(every.items(), key=lambda item: (order.index(item[1]), item[0])))

    # A line of cells for each task, each type and each of the two means
    summaries = [summarise(results, tasks) for results in columns.values()]
    cells = [["task", "type", *columns]]
    for name, type in tasks.items():
        cells.append([name, type, *(_cell(summary["tasks"][name]) for summary in summaries)])
    for type in dict.fromkeys(tasks.values()):
        cells.append([f"mean {type}", "", *(_cell(x["types"][type]) for x in summaries)])
    for name in ("tasks", "types"):
        scores = (_cell(summary[f"mean_{name}"]) for summary in summaries)
        cells.append([f"mean over {name}", "", *scores])
    return cells


def _cell(score: float | None) -> str:
    return "-" if score is None else f"{100 * score:.2f}"


def table(cells: list[list[str]], format: str, left: int) -> str:
    """Cells as text or markdown; the first `left` columns are words, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        [
            cell.rjust(width) if i >= left else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]
    # Markdown sets a column of numbers to the right by a colon
    end = ":" if format == "markdown" else "-"
    rule = ["-" * (width - 1) + ("-" if i < left else end) for i, width in enumerate(widths)]
    lines.insert(1, rule)
    if format == "markdown":
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def plot(path, columns: dict[str, Results]) -> None:
    """Bars: the types and the two means, one colour per model: the light and the dark of each hue,
    for a model and what was made of it."""
    import matplotlib.figure  # optional: only --plot needs it

    head, *rows = [row for row in report_types(columns) if row[1] in ("text", "all")]
    places, width = np.arange(len(head) - 3), 0.8 / len(columns)
    axes = matplotlib.figure.Figure((1.5 + 1.1 * len(places), 4), layout="constrained").subplots()
    for number, (model, _, _, *scores) in enumerate(rows):
        heights = [0 if score == "-" else float(score) for score in scores]
        shift = (number - (len(columns) - 1) / 2) * width
        colour = matplotlib.colormaps["Paired"](number % 12)
        axes.bar(places + shift, heights, width, label=model, color=colour)
    axes.set_xticks(places, head[3:])
    axes.set_ylabel("main score x 100")
    axes.legend(frameon=False, fontsize="small")
    with new_file(path) as temporary:
        axes.figure.savefig(temporary, format=Path(path).suffix[1:], dpi=150)


# --- comparing two --------------------------------------------------------------------------------


def compare(a, b, resamples: int, notes: list[str]) -> tuple[list[dict], list[str]]:
    """What B has over A: a row for each task that both have, and a line for each difference in
    settings.

    A row has the scores, their difference, and the ends of its 95 % interval (None where there are
    no items to draw from). notes: gets a line for each file that cannot be used.
    """
    first, second = read_results(a, notes), read_results(b, notes)
    tasks = [name for name in first if name in second]
    if not tasks:
        raise InputError(f"{a} and {b} have no task in common")
    rows = []
    for name in tasks:
        # Without an interval the scores can be compared all the same
        low, high = None, None
        try:
            low, high = interval(Path(a), Path(b), first[name], second[name], resamples)
        except InputError as error:
            notes.append(f"no interval for {name}: {error}")
        x, y = first[name]["main_score"], second[name]["main_score"]
        row = {"task": name, "type": first[name]["task_type"], "a": x, "b": y, "difference": y - x}
        rows.append(row | {"low": low, "high": high})
    return rows, differences([(first[name], second[name]) for name in tasks])


def interval(
    a: Path, b: Path, first: dict, second: dict, resamples: int
) -> tuple[float | None, float | None]:
    """The 2.5th and 97.5th percentile of the difference between two results of a task when its
    texts, queries or pairs are drawn with replacement, the same for both (a paired bootstrap).

    None where the two have no items or not the same, or where a draw has no score.
    """
    type, score = first["task_type"], first.get("main_score_name")
    if (type, score) != (second["task_type"], second.get("main_score_name")):
        return None, None
    items = [read_items(folder, result) for folder, result in ((a, first), (b, second))]
    about = [_about(splits) for splits in items]
    if not about[0] or about[0] != about[1]:
        return None, None

    def score_of(items: Items, chosen: np.ndarray) -> float:
        items = {name: array[chosen] for name, array in items.items()}
        return metrics.score_items(type, score, items)

    # Each draw: as many items as there are, with replacement, and what B has over A on them
    generator, gains = np.random.default_rng(SEED), []
    for _ in range(resamples):
        of_splits = []
        for split, arrays in items[0].items():
            count = len(next(iter(arrays.values())))
            chosen = generator.integers(0, count, count)
            x, y = (score_of(splits[split], chosen) for splits in items)
            of_splits.append(y - x)
        gains.append(np.mean(of_splits))
    # Of very few items some draws have no score: all pairs may be the same one
    if not np.isfinite(gains).all():
        return None, None
    return tuple(np.percentile(gains, [2.5, 97.5]).tolist())


def _about(splits: dict[str, Items]) -> dict:
    """What tells items from others: their queries, labels or human scores."""
    return {
        (split, name): items[name].tolist()
        for split, items in splits.items()
        for name in ("query", "label", "score")
        if name in items
    }


def read_items(folder: Path, result: dict) -> dict[str, Items]:
    """{split: items} of a result, as `write_items` wrote them; empty without the file.

    An InputError unless its main score is made of them.
    """
    path = folder / "items" / f"{result['task_name']}.npz"
    if not path.is_file():
        return {}
    splits = {}
    with reading(path):
        with np.lib.npyio.NpzFile(path, allow_pickle=False) as stored:
            for name in stored.files:
                split, _, item = name.partition("/")
                splits.setdefault(split, {})[item] = stored[name]
        type, score = result["task_type"], result["main_score_name"]
        again = [metrics.score_items(type, score, items) for items in splits.values()]
    if splits and not abs((again := np.mean(again)) - result["main_score"]) < 1e-6:
        found = f"{score} of it is {again:.6f}"
        raise InputError(f"{path}: {found}; the result file says {result['main_score']:.6f}")
    return splits


def differences(pairs: list[tuple[dict, dict]]) -> list[str]:
    """What pairs of results of the same tasks differ in, apart from the scores: one line each."""
    lines = {}  # a set that keeps its order
    for pair in pairs:
        # Of mteb's results little more is known than the data set
        a, b = map(_settings, pair)
        fields = a | b
        for settings in (a, b):
            if "by mteb" in settings:
                prefixes = "mteb gives E5 its prefixes as --prefix mteb does"
                lines.setdefault(f"{settings['by mteb']}: settings not recorded; {prefixes}")
                known = a["data set revision"] and b["data set revision"]
                fields = ["data set revision"] if known else []

        # Each field that differs; of hashes the first digits
        for field in [name for name in fields if a.get(name) != b.get(name)]:
            x, y = a.get(field), b.get(field)
            if field in ("task", "weights"):
                x, y = (value and str(value)[:12] for value in (x, y))
            name = "data or protocol" if field == "task" else field
            where = f" of {pair[0]['task_name']}" if field in ("task", "data set revision") else ""
            lines.setdefault(f"{name}{where}: {x!r} and {y!r}")
        if {_new_batches(a), _new_batches(b)} == {True, False}:
            advice = "clustering scores of the two cannot be compared"
            lines.setdefault(f"scikit-learn draws other batches from 1.9 on: {advice}")
    return list(lines)


def _new_batches(settings: dict) -> bool | None:
    """Whether scikit-learn was 1.9 or later; None if the version does not say."""
    version = re.match(r"(\d+)\.(\d+)", str(settings.get("sklearn")))
    return version and (int(version[1]), int(version[2])) >= (1, 9)


def _settings(result: dict) -> dict:
    settings = result["settings"] | {"data set revision": result.get("dataset_revision")}
    return settings | settings.pop("versions", {})


def describe_comparison(rows: list[dict], a: str, b: str) -> list[list[str]]:
    """Cells: the rows of `compare`, then the two means."""
    cells = [["task", "type", a, b, "difference", "95 % interval", ""]]
    for row in rows:
        low, high = row["low"], row["high"]
        ends = "-" if low is None else f"{100 * low:+.2f} to {100 * high:+.2f}"
        mark = "" if low is None or low <= 0 <= high else "*"
        scores = _cell(row["a"]), _cell(row["b"]), f"{100 * row['difference']:+.2f}"
        cells.append([row["task"], row["type"], *scores, ends, mark])

    # The means of the tasks that both have
    summaries = []
    for side in "ab":
        results = {x["task"]: {"task_type": x["type"], "main_score": x[side]} for x in rows}
        summaries.append(summarise(results))
    for name in ("tasks", "types"):
        x, y = (summary[f"mean_{name}"] for summary in summaries)
        cells.append([f"mean over {name}", "", _cell(x), _cell(y), f"{100 * (y - x):+.2f}", "", ""])
    return cells


# --- command line ---------------------------------------------------------------------------------


def _tasks(args) -> list[Task]:
    if args.language and not args.tasks_file:
        advice = "the benchmark's are nld-Latn"
        raise InputError(f"--language is for the tasks of a --tasks-file; {advice}")
    tasks = read_tasks(args.tasks_file, args.language or "nld-Latn") if args.tasks_file else TASKS
    return select_tasks(tasks, args.tasks)


def _run(args) -> None:
    with e5nl.processes() as (rank, world):
        _run_share(args, rank, world)


def _run_share(args, rank: int, world: int) -> None:
    """The run, by one of `world` processes, which share the embedding."""
    # Mistakes that can be seen before the model is read
    tasks, out, folder = _tasks(args), Path(args.out), e5nl.find(args.model)
    for path in filter(None, (args.out, args.cache)):
        output_folder(path)

    # What decides the numbers
    dtype = getattr(torch, args.dtype)
    model, tokenizer = e5nl.load(folder, dtype=dtype, truncate_dim=args.dim)
    args.prefix = args.prefix or ("mteb" if model.config.policy == "e5" else "instruct")
    prompts, weights = dict(model.config.prompts), model_folder.weights_hash(folder)
    settings = {"model": str(args.model), "weights": weights, "dtype": args.dtype}
    settings |= {"prompts": prompts}
    if model.config.truncate_dim:
        settings["truncate_dim"] = model.config.truncate_dim
    prefixes = f"--prefix {args.prefix}, {model_folder.describe_prefixes(model.config)}"
    print(f"{args.model}: {len(tasks)} tasks, {prefixes}, {args.dtype}, weights {weights[:12]}")
    if note := model_folder.other_policy(model.config, args.prefix):
        print(note)

    # Each process embeds its share, between the times when all read the files; then one scores
    cache = model_cache(args.cache or out / "cache", model, tokenizer, weights)
    if world > 1:
        e5nl.wait()
        for task in tasks:
            if finished(task, out, {"prefix": args.prefix} | settings, args.overwrite)[1] is None:
                _embed_share(task, cache, args.prefix, (rank, world))
        e5nl.wait()
        cache.read()
    if rank:
        return

    results = run(tasks, cache, out, settings, args.prefix, args.overwrite)
    for number, (result, state) in enumerate(results, 1):
        name, score = result.get("main_score_name", "score"), 100 * result["main_score"]
        seconds = f"{result.get('evaluation_time', 0):.1f} s"
        seconds += "" if state == "done" else f", {state}"
        line = f"{number}/{len(tasks)} {result['task_name']}: {name} {score:.2f} ({seconds})"
        print(line, flush=True)
        for split, (scores, *_) in result["scores"].items():
            for remark in scores.get("remarks", ()):
                print(f"    {split}: {remark}", flush=True)
    embeddings = f"{len(cache.places):,} embeddings in {cache.folder}"
    print(f"{out}: {len(tasks)} results and summary.json; {embeddings}")


def _embed_share(task: Task, cache: Cache, prefix: str, share: tuple[int, int]) -> None:
    """Embed one process's share of a task's texts."""
    with naming(task.name):
        for job in jobs(task):
            for texts, kind in with_policy(task, job, prefix):
                cache.fill(texts, kind, share)


def _download(args) -> None:
    tasks = select_tasks(TASKS, args.tasks)
    for number, task in enumerate(tasks, 1):
        with naming(task.name):
            lines = [remark for job in jobs(task) for remark in job.remarks]
        about = "; ".join(lines) or "texts and characters as mteb counts them"
        print(f"{number}/{len(tasks)} {task.name}: {about}", flush=True)


def _report(args) -> None:
    refuse_plot(args.plot, args.overwrite)
    notes = []
    columns = read_columns_of(args.results, notes)
    if args.tasks:
        columns = only_tasks(columns, args.tasks)
    cells = report_types(columns) if args.by == "type" else report_tasks(columns)
    print(table(cells, args.format, 2))
    _print_notes(notes)
    if args.plot:
        plot(args.plot, columns)


def _print_notes(notes: list[str]) -> None:
    print(*notes, sep="\n", end="\n" * bool(notes), file=sys.stderr)


def _compare(args) -> None:
    notes = []
    rows, lines = compare(args.a, args.b, args.resamples, notes)
    names = [_short_name(args.a), _short_name(args.b)]
    if names[0] == names[1]:
        names = [str(args.a), str(args.b)]
    print(table(describe_comparison(rows, *names), args.format, 2))
    print("\nsettings that differ:" if lines else "\nno settings differ", *lines, sep="\n  ")
    _print_notes(notes)


def main(argv=None) -> None:
    about = "Score embeddings on MTEB-NL, with mteb's numbers."
    parser = argparse.ArgumentParser(description=about)
    commands = parser.add_subparsers(dest="command", required=True)

    def add_command(name: str, function, help: str):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        command = commands.add_parser(name, help=help, formatter_class=formatter)
        command.set_defaults(function=function)
        return command.add_argument

    add = add_command("run", _run, "evaluate a model")
    add("--model", required=True, help="model folder or hub name")
    wanted = "names or types of tasks, native, translated or all"
    add("--tasks", nargs="+", default=["all"], help=wanted)
    add("--tasks-file", help="JSON file of tasks next to their data, instead of the benchmark's")
    add("--language", help="of the tasks in --tasks-file that name none (nld-Latn)")
    add("--out", required=True, help="folder of the result files")
    add("--cache", help="folder of embeddings, which several runs may share; without it OUT/cache")
    add("--overwrite", action="store_true", help="evaluate finished tasks again")
    policy = "policy, see the top of evaluate.py (mteb, or instruct where the model was trained so)"
    add("--prefix", choices=list(POLICIES), help=policy)
    add("--dim", type=whole_number(1), help="width of the embeddings, as of `e5nl.py embed`")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="published: float32")

    add = add_command("download", _download, "fetch the tasks' data to the hub's cache")
    add("--tasks", nargs="+", default=["all"], help=wanted)

    results = "that `run` or mteb wrote, or a model with published scores"
    add = add_command("report", _report, "print a table of results")
    add("results", nargs="+", help=f"folder {results}")
    add("--tasks", nargs="+", help="only these tasks, by name or type")
    add("--by", choices=["type", "task"], default="type", help="types of tasks, or each task")
    add("--format", choices=["text", "markdown"], default="text", help="of the table")
    add("--plot", metavar="FILE", help="bars of the types' means (.png, .svg, .pdf)")
    add("--overwrite", action="store_true", help="replace --plot")

    add = add_command("compare", _compare, "B over A, task by task, with intervals")
    add("a", help=f"folder {results}")
    add("b", help="likewise")
    add("--resamples", type=whole_number(1), default=1000, help="draws of the bootstrap")
    add("--format", choices=["text", "markdown"], default="text", help="of the table")

    args = parser.parse_args(argv)
    args.function(args)


if __name__ == "__main__":
    cli(main)
