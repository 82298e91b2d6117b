"""Results of MTEB-NL, read and shown: tables, comparisons, pictures.

In: folders of result files that `evaluate.py run` or mteb wrote, or models with published scores
(`published.json`, from mteb's results repository), whose main scores are known. Out: a table by
type or by task (`report`), what one model has over another with bootstrap intervals (`compare`),
bars. The commands are those of `evaluate.py`:

    python evaluate.py report runs/e5-base-trm-nl clips/e5-base-trm-nl
    python evaluate.py compare runs/e5-base-trm-nl runs/other

A task's score is the plain mean over its evaluation splits. A benchmark has two means: over tasks,
and over types (of their means).
"""

import re
import sys
from pathlib import Path

import numpy as np

import metrics
from files import InputError, new_file, read_json, reading, refuse_plot
from metrics import SEED, Items
from mteb_nl import FILE_NAME, PUBLISHED, TASKS, TYPES, is_number, nearest

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


# --- commands -------------------------------------------------------------------------------------


def print_report(args) -> None:
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


def print_comparison(args) -> None:
    notes = []
    rows, lines = compare(args.a, args.b, args.resamples, notes)
    names = [_short_name(args.a), _short_name(args.b)]
    if names[0] == names[1]:
        names = [str(args.a), str(args.b)]
    print(table(describe_comparison(rows, *names), args.format, 2))
    print("\nsettings that differ:" if lines else "\nno settings differ", *lines, sep="\n  ")
    _print_notes(notes)
