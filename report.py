"""Results of MTEB-NL, read and shown: tables, comparisons, pictures.

In: folders of result files that `evaluate.py run` or mteb wrote, or models with published scores
(`published.json`, from mteb's results repository), whose main scores are known. Out: a table by
type or by task, bars, or an HTML page (`report`); the differences between two models, with
bootstrap intervals (`compare`). The commands are those of `evaluate.py`:

    python evaluate.py report runs/e5-base-trm-nl clips/e5-base-trm-nl
    python evaluate.py compare runs/e5-base-trm-nl runs/other

A task's score is the plain mean over its evaluation splits. A benchmark has two means: over tasks,
and over types (of their means).
"""

import importlib.util
import math
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

import metrics
from files import (
    InputError,
    new_file,
    read_json,
    read_jsonl,
    reading,
    refuse_existing,
)
from metrics import SEED, Items
from mteb_nl import FILE_NAME, NAMED, TYPES, is_number, nearest, published

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
    task = NAMED.get(result.get("task_name"))
    if not task:
        raise InputError(f"{path}: task {result.get('task_name')!r} is not in MTEB-NL")

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
    of_folder = folder.resolve().name if folder.is_dir() else str(name)
    return " ".join(str(model.get("name") or of_folder).split())


def note(line: str) -> None:
    """Tell the user, not whoever reads the table."""
    print(line, file=sys.stderr)


def read_results(name) -> Results:
    """The results in a folder that `run` or mteb wrote, or of a model with published scores (main
    scores only). Other files of the folder are skipped, and named."""
    if not Path(name).is_dir():
        return _published(str(name))
    results = {}
    for path in sorted(Path(name).glob("*.json")):
        if path.name in ("summary.json", MODEL_META):
            continue
        try:
            result = read_result(path)
            if (task := result["task_name"]) in results:
                raise InputError(f"{path}: task_name is {task!r}, and so is that of another file")
            results[task] = result
        except InputError as error:
            note(f"skipped: {error}")
    if not results:
        expected = "expected a folder that `run` wrote, or mteb (results/<model>/<revision>)"
        raise InputError(f"{name}: no result files; {expected}")
    first, *others = results
    for other in others:
        if found := other_setting(results[first], results[other]["settings"]):
            advice = "keep each run in a folder of its own, or evaluate all tasks with --overwrite"
            raise InputError(f"{name}: {first} and {other} are of two runs ({found}); {advice}")
    return results


def other_setting(result: dict, settings: dict) -> str:
    """The first setting in which a result differs from these, in words; "" if there is none.

    Versions may differ, and so do tasks; the model's name may where its weights are known.
    """
    before = result["settings"]
    may_differ = {"task", "versions", "by mteb"} | ({"model"} if "weights" in settings else set())
    for field in settings | before:
        if field not in may_differ and before.get(field) != settings.get(field):
            found, expected = (repr(values.get(field))[:80] for values in (before, settings))
            return f"{field} is {found}, not {expected}"
    return ""


def _published(name: str) -> Results:
    models = published()["models"]
    if name not in models:
        close = nearest(name, models) if "/" in name else "e.g. clips/e5-small-trm-nl"
        raise FileNotFoundError(
            f"{name}: no such folder, and no model with published scores; {close}"
        )
    settings = {"by mteb": f"{name}, revision {models[name]['revision'][:8]}, published"}
    scores = zip(published()["tasks"], models[name]["scores"], strict=True)
    return {
        task: {
            "task_name": task, "task_type": NAMED[task].type, "main_score": score,
            "translated": NAMED[task].translated, "settings": settings,
        }
        for task, score in scores
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


def column_names(names: list) -> list[str]:
    """Short names of folders or published models; those that two would share are as given."""
    shorts = [_short_name(name) for name in names]
    pairs = zip(names, shorts, strict=True)
    return [str(name) if shorts.count(short) > 1 else short for name, short in pairs]


def read_columns_of(names: list) -> dict[str, Results]:
    """{short name: results} of several folders or published models."""
    return dict(zip(column_names(names), map(read_results, names), strict=True))


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
        cells.append([name, type, *(_cell(x["tasks"][name]) for x in summaries)])
    for type in dict.fromkeys(tasks.values()):
        cells.append([f"mean {type}", "", *(_cell(x["types"][type]) for x in summaries)])
    for name in ("tasks", "types"):
        cells.append([f"mean over {name}", "", *(_cell(x[f"mean_{name}"]) for x in summaries)])
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


def refuse_plot(path, overwrite: bool) -> None:
    """Stop before the work when the picture that `--plot` asks for cannot be drawn or written."""
    if path is None:
        return
    refuse_existing(path, overwrite)
    if Path(path).suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot {path}: expected a name that ends in .png, .svg or .pdf")
    if not importlib.util.find_spec("matplotlib"):
        advice = "pip install matplotlib, or leave --plot out"
        raise InputError(f"--plot {path}: needs matplotlib, which is not installed; {advice}")


def plot(path, columns: dict[str, Results]) -> None:
    """Bars: the types and the two means, one colour per model: the light and the dark of each hue,
    for a model and what was made of it."""
    import matplotlib.figure  # optional: only --plot needs it

    # The lines on all texts; an open mean has no bar
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


def compare(a, b, resamples: int) -> tuple[list[tuple], list[str]]:
    """What B has over A: a row for each task that both have and for the two means, and a line for
    each difference in settings.

    A row: name, type, the scores of A and B, the ends of the 95 % interval of their difference
    (None: see `interval`).
    """
    first, second = read_results(a), read_results(b)
    tasks = [name for name in first if name in second]
    if not tasks:
        raise InputError(f"{a} and {b} have no task in common")

    # Task by task, then the means over these tasks
    rows = []
    for name in tasks:
        x, y = first[name], second[name]
        ends = interval([(a, x), (b, y)], resamples)
        rows.append((name, x["task_type"], x["main_score"], y["main_score"], *ends))
    means = [summarise({name: results[name] for name in tasks}) for results in (first, second)]
    for mean in ("tasks", "types"):
        scores = (summary[f"mean_{mean}"] for summary in means)
        rows.append((f"mean over {mean}", "", *scores, None, None))
    return rows, differences([(first[name], second[name]) for name in tasks])


def interval(runs: list[tuple], resamples: int) -> tuple[float | None, float | None]:
    """The 2.5th and 97.5th percentile of a score, or of the difference between two of one task,
    when its texts, queries or pairs are drawn with replacement (two: the same ones for both, a
    paired bootstrap).

    runs: (folder, result). None where there are no items, two runs have not the same, or a draw has
    no score.
    """
    # A score can be shown without its interval too
    task = runs[0][1]
    try:
        items = [read_items(Path(folder), result) for folder, result in runs]
    except InputError as error:
        note(f"no interval for {task['task_name']}: {error}")
        return None, None
    scores = [(result["task_type"], result.get("main_score_name")) for _, result in runs]
    if not items[0] or scores[0] != scores[-1] or _about(items[0]) != _about(items[-1]):
        return None, None

    # Of very few items a draw may be one item alone, which has no score
    draws = resample(*scores[0], items, resamples)
    draws = (draws[1] - draws[0] if len(runs) > 1 else draws[0]).mean(1)
    if not np.isfinite(draws).all():
        return None, None
    return tuple(np.percentile(draws, [2.5, 97.5]).tolist())


def resample(type: str, score: str, models: list[dict[str, Items]], resamples: int) -> np.ndarray:
    """Scores (models, resamples, splits) of as many items as there are, drawn with replacement, the
    same for all models."""
    generator = np.random.default_rng(SEED)
    scores = np.empty((len(models), resamples, len(models[0])))
    for draw in range(resamples):
        for number, (split, arrays) in enumerate(models[0].items()):
            count = len(next(iter(arrays.values())))
            chosen = generator.integers(0, count, count)
            for model, splits in enumerate(models):
                items = {name: array[chosen] for name, array in splits[split].items()}
                scores[model, draw, number] = metrics.score_items(type, score, items)
    return scores


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

    # Its arrays are called split/item
    splits = {}
    with reading(path):
        with np.lib.npyio.NpzFile(path, allow_pickle=False) as stored:
            for name in stored.files:
                split, _, item = name.partition("/")
                splits.setdefault(split, {})[item] = stored[name]
        # Items of other results would give an interval that is silently wrong
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
            advice = "; clustering scores from before 1.9 and from then on cannot be compared"
            advice = advice if field == "sklearn" else ""
            lines.setdefault(f"{name}{where}: {x!r} and {y!r}{advice}")
    return list(lines)


def _settings(result: dict) -> dict:
    settings = result["settings"] | {"data set revision": result.get("dataset_revision")}
    return settings | settings.pop("versions", {})


def describe_comparison(rows: list[tuple], a: str, b: str) -> list[list[str]]:
    """Cells: the rows of `compare`, with a star where an interval excludes 0."""
    cells = [["task", "type", a, b, "difference", "95 % interval", ""]]
    for name, type, x, y, low, high in rows:
        ends = "-" if low is None else f"{100 * low:+.2f} to {100 * high:+.2f}"
        mark = "" if low is None or low <= 0 <= high else "*"
        cells.append([name, type, _cell(x), _cell(y), f"{100 * (y - x):+.2f}", ends, mark])
    return cells


# --- a page ---------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --dim: #6b6b6b; --line: #dcdcdc; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --dim: #9a9a9a; --line: #3a3a3a; --paper: #161616 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 54rem; margin: 2rem auto; padding: 0 1rem }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .3rem } h3 { font-size: 1rem; font-weight: normal }
p, summary, th[colspan], .plot span { color: var(--dim) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem }
th, td { text-align: left; font-weight: normal; padding: .1rem .7rem .1rem 0 }
td { text-align: right; white-space: nowrap } details { overflow: auto; max-height: 32rem }
.bars { width: 100% } .bars th { width: 32%; overflow-wrap: anywhere } .bars td { width: 1% }
.bars td:nth-child(2) { width: auto } .bars th[colspan] { padding-top: .7rem }
@media (max-width: 36rem) {
  .bars tr { display: grid; grid-template-columns: 1fr 3.4rem; align-items: center }
  .noted tr { grid-template-columns: 1fr 3.4rem 7.4rem }
  .bars th { grid-column: 1 / -1; width: auto } .bars td { width: auto } }
.bar { position: relative; height: .75rem; background: var(--line) }
.bar *, .plot svg, .plot span { position: absolute }
.bar i { height: 100%; background: var(--hue) }
.bar b { top: calc(50% - 1px); height: 2px; background: var(--ink) }
.plot { position: relative; height: 15rem; margin: .5rem 1rem 2.5rem 2.5rem;
  border: solid var(--line); border-width: 0 0 1px 1px }
.plot svg { width: 100%; height: 100%; overflow: visible }
.plot path { fill: none; stroke: var(--hue); stroke-linecap: round;
  vector-effect: non-scaling-stroke }
.plot span { font-size: .75rem; white-space: nowrap; left: -.4rem;
  transform: translate(-100%, -50%) }
.plot .x { transform: translate(-50%, .2rem); top: 100% }
.legend span { display: inline-block; margin-right: 1rem; font-size: .85rem }
.legend span::before { content: "\\25a0 "; color: var(--hue) }
"""
# By Okabe and Ito: colour-blind readers can tell them apart, on light and on dark
HUES = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8a7fd1", "#a0a000"]
CURVE_POINTS = 60  # of a source in training; more are drawn as means of neighbouring steps


def page(columns: dict[str, Results], folders: dict, runs: list, resamples: int) -> str:
    """Results as an HTML page that needs no other file. Every number that is drawn is text too.

    folders: {short name: folder} of the columns. runs: folders with a `log.jsonl` of training or
    reports of mining.
    """
    sections = [
        ("Types of tasks", "Main scores x 100.", bars(_bars_of_types(columns, ["all"]))),
        ("Native and translated text", "Paler: text that was translated to Dutch.",
         bars(_bars_of_types(columns, ["native", "translated"]))),
        ("Tasks", f"Line: 95 % interval, of {resamples:,} draws of a task's items.",
         bars(_bars_of_tasks(columns, folders, resamples), [0, 1])),
        *_size_section(columns, folders),
        *(section for run in runs for section in _run_sections(Path(run))),
    ]  # fmt: skip
    body = "".join(
        f"<h2>{escape(title)}</h2>\n<p>{escape(about)}</p>\n{content}\n"
        for title, about, content in sections
        if content
    )
    title = "Scores on Dutch tasks"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><h1>{title}</h1>\n{body}</body></html>\n"
    )


class Bar(NamedTuple):
    """A number, drawn from `start` to `end`, with a line over it where it has an interval."""

    label: str
    text: str
    note: str
    hue: int
    end: float
    start: float = 0
    interval: tuple[float | None, float | None] = (None, None)
    opacity: float = 1


def bars(groups: dict[str, list[Bar]], scale=(0, 100)) -> str:
    """A table of bars in groups. scale: its least number and its greatest."""

    def drawn(tag: str, start: float, end: float, style: str = "") -> str:
        left, right = np.clip([_percent(x, scale) for x in (start, end)], 0, 100)
        return f'<{tag} style="left:{left:.2f}%;width:{right - left:.2f}%;{style}"></{tag}>'

    # Notes have a column of their own where there are any
    noted, lines = any(row.note for rows in groups.values() for row in rows), []
    for group, rows in groups.items():
        lines.append(f'<tr><th colspan="4">{escape(group)}')
        for row in rows:
            bar = drawn("i", row.start, row.end, f"{_hue(row.hue)};opacity:{row.opacity}")
            bar += "" if None in row.interval else drawn("b", *row.interval)
            note = f"<td>{escape(row.note)}" if noted else ""
            lines.append(
                f'<tr><th>{escape(row.label)}<td><div class="bar">{bar}</div>'
                f"<td>{escape(row.text)}{note}"
            )
    content = "\n".join(lines)
    return f'<table class="bars{" noted" * noted}">{content}</table>' if lines else ""


def _percent(x: float, scale) -> float:
    return 100 * (x - scale[0]) / (scale[-1] - scale[0])


def _hue(number: int) -> str:
    return f"--hue:{HUES[number % len(HUES)]}" if number >= 0 else "--hue:var(--dim)"


def _bars_of_types(columns: dict[str, Results], texts: list[str]) -> dict[str, list[Bar]]:
    """Types and means, of tasks on such text; of several texts those that have a score on each."""
    # A group for each column of the table that is filled on all these texts
    head, *rows = report_types(columns)
    models, groups = list(columns), {}
    for place, name in enumerate(head[3:], 3):
        scores = [row for row in rows if row[1] in texts and row[place] != "-"]
        if {text for _, text, *_ in scores} == set(texts):
            groups[name] = [
                Bar(row[0], row[place], row[1] if texts[1:] else "", models.index(row[0]),
                    float(row[place]), opacity=0.5 if row[1] == "translated" else 1)
                for row in scores
            ]  # fmt: skip
    return groups


def _bars_of_tasks(columns: dict[str, Results], folders: dict, resamples: int) -> dict:
    groups = {}
    for name, type, *_ in report_tasks(columns)[1:]:
        for hue, (model, results) in enumerate(columns.items()):
            if name in results:
                score = results[name]["main_score"]
                low, high = interval([(folders[model], results[name])], resamples)
                note = "" if low is None else f"{_cell(low)} to {_cell(high)}"
                bar = Bar(model, _cell(score), note, hue, score, interval=(low, high))
                groups.setdefault(f"{name}, {type}", []).append(bar)
    return groups


def _parameters(folder, results: Results) -> int | None:
    """Of the model as it was scored: `run` and mteb write it for mteb."""
    revision = str(next(iter(results.values()))["settings"].get("weights"))[:40]
    for name in (MODEL_META, f"results/*/{revision}/{MODEL_META}"):
        for path in Path(folder).glob(name):
            size = read_json(path).get("n_parameters")
            return size if is_number(size) and size > 0 else None
    return None


def _size_section(columns: dict[str, Results], folders: dict) -> Iterator[tuple]:
    """Every model with published scores, and these, on the tasks that all have: dots and
    a table."""
    tasks = [name for name in NAMED if all(name in results for results in columns.values())]
    if not tasks:
        return

    # {model: (logarithm of its parameters, mean score x 100)}
    models, points = published()["models"], {}
    for name, results in ({name: _published(name) for name in models} | columns).items():
        known = models.get(name, {}).get("parameters")
        if size := _parameters(folders.get(name, name), results) or known:
            mean = np.mean([results[task]["main_score"] for task in tasks])
            points[name] = math.log10(size), 100 * mean

    # One colour for those of others, and one for each column
    series = [("published", -1, [points[name] for name in points if name not in columns])]
    series += [(name, hue, [points[name]]) for hue, name in enumerate(columns) if name in points]
    xs, ys = zip(*points.values(), strict=True)
    powers = range(math.floor(min(xs)), math.ceil(max(xs)) + 1)
    drawn = drawing(
        series, powers, even_marks(ys), True,
        lambda x: f"{10**x / 1e9:g} B" if x > 8 else f"{10**x / 1e6:g} M",
    )  # fmt: skip

    # The same as a table, best first
    ordered = sorted(points.items(), key=lambda item: -item[1][1])
    cells = [[name, f"{10**x / 1e6:,.1f}", f"{y:.2f}"] for name, (x, y) in ordered]
    drawn += folded_table([["model", "parameters (M)", "mean"], *cells])
    about = f"Mean of main scores x 100 over the {len(tasks)} tasks that all have, by parameters."
    yield "Size and score", about, drawn


def _run_sections(folder: Path) -> Iterator[tuple]:
    """What a folder has of training and of mining."""
    paths = [*folder.glob("log.jsonl"), *sorted(folder.glob("*.jsonl*.json"))]
    if not paths:
        raise InputError(f"--runs {folder}: no log.jsonl of training, no report of mining there")
    for path in paths:
        with reading(path):
            yield _training_section(path) if path.name == "log.jsonl" else _mining_section(path)


def _training_section(path: Path) -> tuple:
    """Loss and in-batch accuracy of each source."""
    sources = {}
    for number, line in read_jsonl(path):
        with reading(path, number):
            point = line["step"], line["loss"], line["accuracy"]
            sources.setdefault(line["source"], []).append(point)

    # Of many steps the means of neighbouring ones
    curves = {
        source: [part.mean(0) for part in np.array_split(points, min(len(points), CURVE_POINTS))]
        for source, points in sorted(sources.items())  # of two runs in the same colours
    }
    marks = [even_marks([0, *column]) for column in zip(*sum(curves.values(), []), strict=True)]
    drawn = ""
    for place, what in ((1, "loss"), (2, "accuracy")):
        series = [
            (source, hue, [(point[0], point[place]) for point in curve])
            for hue, (source, curve) in enumerate(curves.items())
        ]
        drawn += f"<h3>{what}</h3>{drawing(series, marks[0], marks[place])}"

    # The same as a table
    cells = [["source", "step", "loss", "accuracy"]]
    for source, curve in curves.items():
        cells += [[source, f"{x:.0f}", f"{y:.3f}", f"{z:.3f}"] for x, y, z in curve]
    count = sum(map(len, sources.values()))
    about = f"{count:,} steps; means of each source's, in at most {CURVE_POINTS} groups."
    return f"Training of {path.parent.resolve().name}", about, drawn + folded_table(cells)


def _mining_section(path: Path) -> tuple:
    """What became of the candidates of a source, and how scores lie."""
    figures = read_json(path).get("report") or {}
    if "became of them" not in figures or not figures["candidates"]:
        return "", "", ""
    total = figures["candidates"]
    reasons = [
        Bar(reason, f"{count:,}", f"{count / total:.1%}", 0, count)
        for reason, count in figures["became of them"].items()
    ]
    scores = [
        Bar(name, f"{x['50%']:.3f}", f"{x['5%']:.3f} to {x['95%']:.3f}", 1, x["75%"], x["25%"],
            (x["5%"], x["95%"]))
        for name, x in figures.items()
        if name.startswith("s(") and x
    ]  # fmt: skip
    scale = even_marks([end for bar in scores for end in bar.interval])
    drawn = bars({"candidates": reasons}, [0, total])
    drawn += bars({"scores: median, and 5 % to 95 %": scores}, scale)
    about = f"{total:,} candidates of {figures['queries']:,} queries; of scores the middle half."
    return f"Mining of {path.name}", about, drawn


def folded_table(cells: list[list[str]]) -> str:
    """A table of words and numbers, that a click opens."""
    content = "\n".join("<tr><th>" + "<td>".join(map(escape, row)) for row in cells)
    return f"<details><summary>numbers</summary><table>{content}</table></details>"


def drawing(series: list[tuple[str, int, list]], xs, ys, dots=False, label="{:g}".format) -> str:
    """Curves or dots. series: (name, hue, points); xs, ys: the marks, from end to end; label: what
    is written at those of x."""
    # A line of no length, with round ends, is a dot whose shape does not depend on the page's
    paths, legend = [], []
    for name, hue, points in series:
        places = [f"{_percent(x, xs):.2f} {100 - _percent(y, ys):.2f}" for x, y in points]
        path = ("h0M" if dots else "L").join(places)
        width = (6 if hue < 0 else 9) if dots else 1.5
        paths.append(f'<path d="M{path}h0" stroke-width="{width}" style="{_hue(hue)}"/>')
        legend.append(f'<span style="{_hue(hue)}">{escape(name)}</span>')
    marks = [f'<span class="x" style="left:{_percent(x, xs):.2f}%">{label(x)}</span>' for x in xs]
    marks += [f'<span style="top:{100 - _percent(y, ys):.2f}%">{y:g}</span>' for y in ys]
    svg = f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(paths)}</svg>'
    plot = f'<div class="plot">{svg}{"".join(marks)}</div>'
    return f'<div class="legend">{"".join(legend)}</div>{plot}'


def even_marks(values) -> list[float]:
    """Round numbers from below the least value to above the greatest, about five."""
    low, high = min(values), max(values)
    least = (high - low or 1) / 4
    size = 10 ** math.floor(math.log10(least))
    step = next(x * size for x in (1, 2, 5, 10) if x * size >= least)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [n * step for n in range(first, last + 1)]


# --- commands -------------------------------------------------------------------------------------


def print_report(args) -> None:
    refuse_plot(args.plot, args.overwrite)
    if args.runs and not args.html:
        raise InputError("--runs is for the page: add --html FILE")
    if args.html:
        refuse_existing(args.html, args.overwrite)
    columns = read_columns_of(args.results)
    if args.tasks:
        columns = only_tasks(columns, args.tasks)
    cells = report_types(columns) if args.by == "type" else report_tasks(columns)
    print(table(cells, args.format, 2))
    if args.plot:
        plot(args.plot, columns)
    if args.html:
        folders = dict(zip(column_names(args.results), args.results, strict=True))
        content = page(columns, folders, args.runs, args.resamples)
        with new_file(args.html) as temporary:
            temporary.write_text(content, encoding="utf-8")


def print_comparison(args) -> None:
    rows, lines = compare(args.a, args.b, args.resamples)
    names = column_names([args.a, args.b])
    print(table(describe_comparison(rows, *names), args.format, 2))
    print("\nsettings that differ:" if lines else "\nno settings differ", *lines, sep="\n  ")
