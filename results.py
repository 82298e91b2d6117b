"""Result files: reading them, their means, tables of several models, and the comparison of two (arXiv 2509.12340, the results).

A result is what `evaluate.py run` writes, one JSON file a task with mteb's fields, and its items, `items/<task>.npz`: what was found for
each text, query or pair. Of models with published scores (`published.json`) the main scores are known and nothing else.

    python evaluate.py report runs/e5-base-trm-nl clips/e5-base-trm-nl
    python evaluate.py compare runs/e5-base-trm-nl runs/other
"""

import csv
import functools
import io
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from files import InputError, new_file, read_json
from mteb_nl import FILE_NAME, NUMBER, TASKS, TYPES, nearest
from scoring import SEED, Items, items_needed, score_again

E5_NL = [f"clips/e5-{size}-trm-nl" for size in ("small", "base", "large")]  # the paper's own
PUBLISHED = Path(__file__).with_name("published.json")
SHORT = {"Classification": "Cls", "MultilabelClassification": "MLCls", "PairClassification": "PCls", "Reranking": "Rrnk",
         "Retrieval": "Rtr", "Clustering": "Clust", "STS": "STS"}  # fmt: skip  # the paper's names, in its order


FIELDS = {  # of a result file: what must be there, and how
    "task_name": (lambda value: isinstance(value, str) and re.fullmatch(FILE_NAME, value), "the name of a task"),
    "task_type": (lambda value: isinstance(value, str) and value in TYPES, f"one of {', '.join(TYPES)}"),
    "main_score": (NUMBER.good, "a number"),
    "scores": (lambda value: isinstance(value, dict), "an object"),
    "settings": (lambda value: isinstance(value, dict) and isinstance(value.get("versions", {}), dict), "an object"),
}


def read_result(path) -> dict:
    """One result file, checked."""
    result = read_json(path)
    for field, (good, expected) in FIELDS.items():
        if not good(result.get(field)):
            raise InputError(f"{path}: not a result file of evaluate.py: {field} is {str(result.get(field))[:60]!r}; expected {expected}")
    return result


def read_items(path: Path, type: str, score: str) -> dict[str, Items]:
    """{split: items} as `write_items` wrote them for a task of this type and main score; empty where there are none."""
    if not path.is_file():
        return {}
    splits = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            for name in stored.files:
                split, _, item = name.partition("/")
                splits.setdefault(split, {})[item] = stored[name]
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged ({error}); evaluate the task again with --overwrite") from None
    for split, items in splits.items():
        for name, (kinds, axes) in items_needed(type, score).items():
            if name not in items:
                raise InputError(f"{path}: no array {split}/{name}, of which {score} is made")
            if items[name].dtype.kind not in kinds or items[name].ndim != axes:
                raise InputError(f"{path}: {split}/{name} is {items[name].dtype} with {items[name].ndim} axes; expected {axes} axes")
        rows = max(len(array) if array.ndim else 0 for array in items.values())
        for name, array in items.items():
            if array.shape[:1] != (rows,) or not array.size or (array.dtype.kind == "f" and not np.isfinite(array).all()):
                raise InputError(f"{path}: {split}/{name} has shape {array.shape}; expected {rows} items, as the others, all finite")
        if type == "MultilabelClassification" and items["label"].shape[1] != items["predicted"].shape[2]:
            raise InputError(f"{path}: {split}/predicted has {items['predicted'].shape[2]} labels, {split}/label {items['label'].shape[1]}")
    return splits


def read_results(name, notes: list[str] | None = None) -> dict[str, dict]:
    """{task: result} of a folder that `run` wrote, or of a model whose scores are published (those have a main score only).

    notes: gets a line for each file that is no result file; without it, or where no file is one, the first is an error.
    """
    if Path(name).is_dir():
        files = sorted(path for path in Path(name).glob("*.json") if path.name != "summary.json")
        if not files:
            raise FileNotFoundError(f"{name}: no result files; expected a folder that `evaluate.py run` wrote")
        results, refused = {}, []
        for file in files:
            try:
                result = read_result(file)
                if (task := result["task_name"]) in results:
                    raise InputError(f"{file}: task_name is {task!r}, of which there is another file; expected one file a task")
                results[task] = result
            except InputError as error:
                refused.append(error)
        if refused and (notes is None or not results):
            raise refused[0]
        if refused:
            notes += [f"skipped: {error}" for error in refused]
        return results
    published = read_json(PUBLISHED)
    if str(name) not in published["models"]:
        close = nearest(name, list(published["models"])) if "/" in str(name) else f"e.g. {', '.join(E5_NL)}"
        raise FileNotFoundError(f"{name}: no such folder, and no model with published scores; {close}")
    facts = {task.name: task for task in TASKS}
    return {
        task: {"task_name": task, "task_type": facts[task].type, "main_score": score, "translated": facts[task].translated,
               "settings": {"published": f"{name}, revision {published['models'][name]['revision'][:8]}"}}
        for task, score in zip(published["tasks"], published["models"][name]["scores"], strict=True)
    }  # fmt: skip


def summarise(results: list[dict]) -> dict:
    """Scores by task, their means by type, the mean over tasks and the mean over types."""
    scores, by_type = {result["task_name"]: result["main_score"] for result in results}, {}
    for result in results:
        by_type.setdefault(result["task_type"], []).append(result["main_score"])
    types = {type: float(np.mean(values)) for type, values in by_type.items()}
    means = {name: float(np.mean(list(values.values()))) for name, values in (("mean_tasks", scores), ("mean_types", types))}
    return {"tasks": scores, "types": types, **means}


# --- tables ---------------------------------------------------------------------------------------------------------------------


def read_columns_of(names: list, notes: list[str] | None = None) -> dict[str, dict[str, dict]]:
    """{short name: its results} of several folders or published models. notes: see `read_results`."""
    columns = {}
    for name in names:
        short = Path(name).resolve().name if Path(name).is_dir() else str(name)
        columns[short if short not in columns else str(name)] = read_results(name, notes)
    return columns


def report_types(columns: dict[str, dict[str, dict]]) -> list[list[str]]:
    """Cells: models down, types and means across; of all tasks, and of those on native and on translated text alone.

    A mean is left open (-) where a model lacks one of its tasks: means over different tasks cannot be compared.
    """
    every = {name: result for results in columns.values() for name, result in results.items()}
    types = [type for type in SHORT if type in {result["task_type"] for result in every.values()}]
    cells = [["model", "text", "tasks", *(SHORT[type] for type in types), "mean tasks", "mean types"]]
    for text, which in (("all", None), ("native", False), ("translated", True)):
        chosen = {name: result for name, result in every.items() if which is None or result.get("translated") is which}
        for model, results in columns.items() if chosen else ():
            own = summarise([result for name, result in results.items() if name in chosen]) if results.keys() & chosen.keys() else None
            complete = chosen.keys() <= results.keys()
            row = [model, text, str(len(results.keys() & chosen.keys()))]
            for type in types:
                tasks = {name for name, result in chosen.items() if result["task_type"] == type}
                row.append(_cell(own["types"][type] if tasks and tasks <= results.keys() else None))
            cells.append(row + [_cell(own[mean] if complete else None) for mean in ("mean_tasks", "mean_types")])
    return cells


def report_tasks(columns: dict[str, dict[str, dict]]) -> list[list[str]]:
    """Cells: tasks down, models across, then the means; left open as in `report_types`."""
    every = {name: result["task_type"] for results in columns.values() for name, result in results.items()}
    order = dict(sorted(every.items(), key=lambda item: (list(TYPES).index(item[1]), item[0])))
    summaries = [(results.keys(), summarise(list(results.values()))) for results in columns.values()]

    def line(name: str, type: str, tasks, *path: str) -> list[str]:
        return [name, type, *(_cell(functools.reduce(dict.get, path, own) if set(tasks) <= names else None) for names, own in summaries)]

    cells = [["task", "type", *columns], *(line(task, type, [task], "tasks", task) for task, type in order.items())]
    cells += [line(f"mean {type}", "", [t for t in order if order[t] == type], "types", type) for type in dict.fromkeys(order.values())]
    return cells + [line(name, "", order, field) for name, field in (("mean over tasks", "mean_tasks"), ("mean over types", "mean_types"))]


def _cell(score: float | None) -> str:
    return "-" if score is None else f"{100 * score:.2f}"


def table(cells: list[list[str]], format: str, left: int) -> str:
    """Cells as text, markdown or csv; the first `left` columns are words, the others numbers."""
    if format == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(cells)
        return text.getvalue().rstrip("\n")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [[f"{cell:{'<' if i < left else '>'}{widths[i]}}" for i, cell in enumerate(row)] for row in cells]
    if format == "markdown":
        padded.insert(1, ["-" * (width - (i >= left)) + ":" * (i >= left) for i, width in enumerate(widths)])
        return "\n".join(f"| {' | '.join(row)} |" for row in padded)
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(row).rstrip() for row in padded)


def plot(path, columns: dict[str, dict[str, dict]]) -> None:
    """Bars: the types and the two means, one colour a model: the light and the dark of each hue, for a model and what was made of it."""
    import matplotlib.figure  # optional: only --plot needs it

    cells = [row for row in report_types(columns) if row[1] in ("text", "all")]
    names, width = cells[0][3:], 0.8 / len(columns)
    axes = matplotlib.figure.Figure((1.5 + 1.1 * len(names), 4), layout="constrained").subplots()
    for number, (model, _, _, *scores) in enumerate(cells[1:]):
        colour = matplotlib.colormaps["Paired"](number % 12)
        places = np.arange(len(names)) + (number - (len(columns) - 1) / 2) * width
        axes.bar(places, [0 if score == "-" else float(score) for score in scores], width, label=model, color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("main score x 100")
    axes.legend(frameon=False, fontsize="small")
    with new_file(path) as temporary:
        axes.figure.savefig(temporary, format=Path(path).suffix[1:], dpi=150)


# --- comparing two --------------------------------------------------------------------------------------------------------------


def compare(a, b, resamples: int = 1000, notes: list[str] | None = None) -> tuple[list[dict], list[str]]:
    """What B has over A: a row for each task that both have, and in words which settings differ.

    A row has the scores, their difference, and the ends of its 95 % interval (None where there are no items to draw from): texts,
    queries or pairs are drawn again with replacement, the same for both (a paired bootstrap). notes: see `read_results`; also of items.
    """
    found = [read_results(name, notes) for name in (a, b)]
    tasks = [name for name in found[0] if name in found[1]]
    if not tasks:
        raise InputError(f"{a} and {b} have no task in common")
    rows = []
    for name in tasks:
        first, second = (results[name] for results in found)
        row = {"task": name, "type": first["task_type"], "a": first["main_score"], "b": second["main_score"]}
        low, high = None, None
        if Path(a).is_dir() and Path(b).is_dir():
            try:
                low, high = interval(Path(a), Path(b), first, second, resamples)
            except InputError as error:  # the scores can be compared all the same
                if notes is None:
                    raise
                notes.append(f"no interval for {name}: {error}")
        rows.append(row | {"difference": row["b"] - row["a"], "low": low, "high": high})
    return rows, differences([found[0][name] for name in tasks], [found[1][name] for name in tasks])


def interval(a: Path, b: Path, first: dict, second: dict, resamples: int) -> tuple[float | None, float | None]:
    """The 2.5th and 97.5th percentile of the difference between two results of a task over drawn items; None where that cannot be."""
    name, type, score = first["task_name"], first["task_type"], first.get("main_score_name")
    if type != second["task_type"] or score != second.get("main_score_name") or not re.fullmatch(TYPES[type].scores, str(score)):
        return None, None
    items = [read_items(folder / "items" / f"{name}.npz", type, score) for folder in (a, b)]
    about = [{(split, key): array for split, some in one.items() for key, array in some.items() if key in ("query", "label", "score")}
             for one in items]  # fmt: skip
    alike = about[0].keys() == about[1].keys() and all(np.array_equal(array, about[1][key]) for key, array in about[0].items())
    if not about[0] or not alike:  # the two are not about the same items
        return None, None
    for one in items:
        for some in one.values():
            some.pop("query", None)  # a name: nothing to score
    generator, drawn = np.random.default_rng(SEED), []
    for _ in range(resamples):
        differences = []
        for split in items[0]:
            count = len(next(iter(items[0][split].values())))
            chosen = generator.integers(0, count, count)
            values = [score_again(type, score, {key: array[chosen] for key, array in one[split].items()}) for one in items]
            if None in values:
                return None, None
            differences.append(values[1] - values[0])
        drawn.append(np.mean(differences))
    return tuple(float(end) for end in np.percentile(drawn, [2.5, 97.5]))


def differences(first: list[dict], second: list[dict]) -> list[str]:
    """In words: what two lists of results of the same tasks differ in, beside the numbers."""
    said = {}
    for one, other in zip(first, second, strict=True):
        a, b = ({**result["settings"], **result["settings"].get("versions", {}), "data set revision": result.get("dataset_revision")}
                for result in (one, other))  # fmt: skip
        for published in (result["settings"]["published"] for result in (one, other) if "published" in result["settings"]):
            said[f"{published}: published, settings not recorded here; mteb gives E5 its prefixes as --prefix mteb does"] = None
            a = b = {}
        for field in dict.fromkeys([*a, *b]):
            if field != "versions" and a.get(field) != b.get(field):
                where = f" of {one['task_name']}" if field in ("task", "data set revision") else ""
                what, values = field, (a.get(field), b.get(field))
                if field in ("task", "weights"):  # hashes
                    what, values = {"task": "data or protocol"}.get(field, field), [value and str(value)[:12] for value in values]
                said[f"{what}{where}: {values[0]!r} and {values[1]!r}"] = None
        versions = [re.match(r"(\d+)\.(\d+)", str(x.get("sklearn"))) for x in (a, b)]
        if all(versions) and len({(int(version[1]), int(version[2])) >= (1, 9) for version in versions}) == 2:
            said["scikit-learn draws other batches from 1.9 on: clustering scores of the two cannot be compared"] = None
    return list(said)


def describe_comparison(rows: list[dict], a: str, b: str) -> list[list[str]]:
    """Cells: the rows of `compare`, then the two means."""
    cells = [["task", "type", a, b, "difference", "95 % interval", ""]]
    for row in rows:
        known = row["low"] is not None
        between = f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}" if known else "-"
        mark = "" if not known or row["low"] <= 0 <= row["high"] else "*"
        cells.append([row["task"], row["type"], _cell(row["a"]), _cell(row["b"]), f"{100 * row['difference']:+.2f}", between, mark])
    for name, field in (("mean over tasks", "mean_tasks"), ("mean over types", "mean_types")):
        sides = ([{"task_name": row["task"], "task_type": row["type"], "main_score": row[side]} for row in rows] for side in "ab")
        means = [summarise(side)[field] for side in sides]
        cells.append([name, "", *map(_cell, means), f"{100 * (means[1] - means[0]):+.2f}", "", ""])
    return cells
