"""MTEB-NL without mteb: a model scored on 40 tasks of seven types, with mteb's numbers (arXiv 2509.12340, the benchmark).

In: a model folder and tasks (`mteb_nl.py`). Out: one JSON file a task in mteb's layout, with what decides a number (prefixes, dtype,
weights, versions), and beside it in `items/` what was found for each text, query or pair. How a task is scored: `scoring.py`.

A task's score is the plain mean over its evaluation splits. A benchmark has two means: over tasks, and over types (of their means).

Which prefix a text gets is a policy, `--prefix`, stored in every result:

    mteb      `query: ` and `passage: ` in retrieval and reranking, nothing elsewhere: what the leaderboard does to E5
    e5        `query: ` on all other texts too, as E5's authors advise
    instruct  `Instruct: {the task's instruction}\\nQuery: ` on all texts but documents, for multilingual-e5-large-instruct
    none      nothing anywhere

    python evaluate.py run --model runs/toy --tasks-file demo/tasks.json --tasks STS SIB200Classification --out runs/toy-results
    python evaluate.py download --out mteb-nl                       # once, where there is a network: 40 tasks, then all is offline
    python evaluate.py run --model clips/e5-base-trm-nl --data mteb-nl --tasks all --out runs/e5-base-trm-nl
    torchrun --nproc_per_node 8 evaluate.py run …                   # the embedding shared by 8 GPUs
    python evaluate.py report runs/e5-base-trm-nl clips/e5-base-trm-nl intfloat/multilingual-e5-base
    python evaluate.py compare runs/e5-base-trm-nl clips/e5-base-trm-nl

Every distinct text that the encoder gets, prefix included, is embedded once, whatever tasks share it, and kept in `<out>/cache` (or
`--cache`): a killed run goes on where it was. Finished tasks are skipped. Names of models stand for their published scores
(`published.json`, from the results repository of mteb). Memory is that of the largest task: 371 thousand documents.
"""

import argparse
import functools
import hashlib
import io
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
import sklearn
import torch

import e5nl
import model_folder
import scoring
from files import InputError, cli, new_file, refuse_plot, whole_number, write_json
from mteb_nl import (
    LANGUAGE_FORM,
    RANKING,
    TASKS,
    TRAINED,
    Task,
    fetch,
    fingerprint,
    flat_labels,
    is_language,
    naming,
    read_columns,
    read_ranking,
    read_tasks,
    remarks,
    select_tasks,
)
from results import compare, describe_comparison, plot, read_columns_of, read_result, report_tasks, report_types, summarise, table
from scoring import SEED, Embeddings, Items, Scores

# The kind of text (see `e5nl.embed`) by its role in a task. `instruct` puts words of its own before texts without a prefix.
POLICIES = {
    "mteb": {"symmetric": "none", "query": "query", "document": "passage"},
    "e5": {"symmetric": "query", "query": "query", "document": "passage"},
    "instruct": {"symmetric": "none", "query": "none", "document": "none"},
    "none": {"symmetric": "none", "query": "none", "document": "none"},
}

Encode = Callable[[list[str], str], Embeddings]  # (texts, kind) -> embeddings, as e5nl.embed


# --- one task -------------------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """One split of a task: what to embed, and the function that makes scores of the embeddings."""

    split: str
    texts: list[tuple[str, list[str]]]  # (role, texts)
    score: Callable[..., Scores]  # of the embeddings, in the order of `texts`
    remarks: list[str]  # on the data


def jobs(task: Task, folder=None) -> Iterator[Job]:
    """The splits of a task, read from `folder` (see `mteb_nl.locate`), in the order in which they have to be scored.

    Random draws start afresh with each task and go on from one split to the next, as a new task object of mteb does.
    """
    generators = random.Random(SEED), np.random.default_rng(SEED)
    train = read_columns(task, "train", folder) if task.type in TRAINED else {}
    for split in task.splits:
        if task.type in RANKING:
            yield _ranking_job(task, split, folder)
            continue
        rows = read_columns(task, split, folder)
        said = remarks(task, split, rows)
        if task.type in TRAINED:
            if split == task.splits[0] and split != "train":
                said = remarks(task, "train", train) + said
            texts, score = _trained(task, split, train, rows, generators[1])
        elif task.type == "Clustering":
            texts = [rows["text"]]
            score = functools.partial(scoring.clustering, labels=rows["label"], generator=generators[0])
        else:
            texts = [rows["sentence1"], rows["sentence2"]]
            score = functools.partial(scoring.sts if task.type == "STS" else scoring.pair_classification, gold=flat_labels(rows))
        yield Job(split, [("symmetric", some) for some in texts], score, said)


def _trained(task: Task, split: str, train: dict, rows: dict, generator: np.random.Generator) -> tuple[list, Callable[..., Scores]]:
    """Classification: only the training texts that are drawn are embedded."""
    labels, multilabel = train["label"], task.type == "MultilabelClassification"
    if isinstance(flat_labels(train)[0], str) != isinstance(flat_labels(rows)[0], str):
        raise InputError(f"labels are texts in one of train and {split}, numbers in the other; write all in one way")
    if multilabel:
        draws = scoring.draw_multilabel_rows(labels, task.samples_per_label, generator)
        if min(map(len, draws)) < scoring.NEIGHBOURS:
            raise InputError(f"{min(map(len, draws))} training rows with labels; {scoring.NEIGHBOURS} nearest neighbours need as many")
    else:
        draws = scoring.draw_rows(labels, task.samples_per_label)
    used = sorted(set().union(*draws))
    place = {row: number for number, row in enumerate(used)}
    draws, chosen = [[place[row] for row in drawn] for drawn in draws], [labels[row] for row in used]
    classify = scoring.multilabel_classification if multilabel else scoring.classification
    score = lambda train, test: classify(train, chosen, test, rows["label"], draws)  # noqa: E731
    return [[train["text"][row] for row in used], rows["text"]], score


def _ranking_job(task: Task, split: str, folder) -> Job:
    found = read_ranking(task, split, folder)
    ids = sorted(found.corpus, reverse=True)  # the order in which `search` wants them: no second copy of the embeddings

    def score(q: Embeddings, p: Embeddings) -> Scores:
        run = scoring.rank(list(found.queries), q, ids, p, found.candidates, task.ignore_identical_ids)
        return scoring.retrieval(run, found.qrels)

    texts = [("query", list(found.queries.values())), ("document", [found.corpus[id] for id in ids])]
    return Job(split, texts, score, remarks(task, split, found))


def dressed(task: Task, job: Job, policy: str) -> list[tuple[list[str], str]]:
    """What the encoder gets of a job under a prefix policy: (texts, kind)."""
    given = []
    for role, texts in job.texts:
        if policy == "instruct" and role != "document":
            texts = [f"Instruct: {task.prompt}\nQuery: {text}" for text in texts]
        given.append((texts, POLICIES[policy][role]))
    return given


def evaluate_task(task: Task, encode: Encode, prefix: str = "mteb", folder=None) -> dict[str, Scores]:
    """{split: (scores with `main_score` and `remarks`, items)} of one task."""
    with naming(task.name):
        results = {}
        for job in jobs(task, folder):
            embeddings = []
            for texts, kind in dressed(task, job, prefix):
                embeddings.append(checked(encode(texts, kind), texts, embeddings[0].shape[1] if embeddings else None))
            scores, items = job.score(*embeddings)
            if not np.isfinite(scores[task.main_score]):
                raise InputError(f"split {job.split}: {task.main_score} is {scores[task.main_score]}; is it defined for these labels?")
            results[job.split] = ({"main_score": scores[task.main_score], "remarks": job.remarks} | scores, items)
        return results


def checked(embeddings: Embeddings, texts: list[str], width: int | None = None) -> Embeddings:
    """The embeddings as float32, when they can be scored. width: of the embeddings before these."""
    expected = len(texts), width or embeddings.shape[-1]
    if embeddings.shape != expected:
        raise InputError(f"the model gave embeddings {embeddings.shape} for {len(texts)} texts; expected {expected}")
    if scipy.sparse.issparse(embeddings):  # a baseline: a text without any known word is a row of zeros
        return scipy.sparse.csr_matrix(embeddings)
    embeddings = np.asarray(embeddings, np.float32)
    finite = np.isfinite(embeddings.sum(1, dtype=np.float64))  # of a row: no second matrix
    for bad, what in ((~finite, "NaN or infinite"), (~embeddings.any(1), "all zero")):
        if bad.any():
            text = texts[int(np.argmax(bad))]
            raise InputError(f"the model's embedding is {what} for {bad.sum()} of {len(texts)} texts, the first is {text[:60]!r}")
    return embeddings


# --- each text once -------------------------------------------------------------------------------------------------------------


class Cache:
    """An `Encode` that keeps embeddings on disk, by the text that the encoder gets, prefix included.

    A file holds the rows (key of the text, embedding) of one window of texts, as `.npy`; its name is the hash of its content. A
    damaged file is removed and its texts are embedded again; `damaged` names it. Memory: about 150 bytes a text, and what is asked for.

    made_by: whatever decides the embeddings beside the texts; it becomes the name of the folder.
    windows: (texts, kind, share) -> windows, as `e5nl.embed_windows`. prefixes: {kind: prefix}.
    """

    def __init__(self, folder, made_by: dict, windows, prefixes: dict[str, str], width: int):
        digest = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
        self.folder, self.windows, self.prefixes, self.width = Path(folder) / digest[:24], windows, prefixes, width
        self.row = np.dtype([("text", "V16"), ("embedding", np.float32, (width,))])
        self.places: dict[bytes, int] = {}  # key -> row, counted through all files
        self.files: dict[str, tuple[int, np.ndarray]] = {}  # name -> (its first row, its rows on disk)
        self.planned: set[bytes] = set()  # what some process was told to embed
        self.damaged: list[Path] = []
        self.made_by = made_by
        self.read()

    def read(self) -> None:
        """Take up the files that this object does not know."""
        for path in sorted(self.folder.glob("*.npy")):
            if path.name not in self.files:
                with open(path, "rb") as file:
                    whole = hashlib.file_digest(file, "sha256").hexdigest() == path.stem
                if whole:
                    self._add(path)
                else:
                    self.damaged.append(path)
                    path.unlink(missing_ok=True)

    def _add(self, path: Path) -> None:
        rows, first = np.load(path, mmap_mode="r"), sum(len(rows) for _, rows in self.files.values())
        self.files[path.name] = first, rows
        self.places.update(zip((key.tobytes() for key in rows["text"]), range(first, first + len(rows)), strict=True))

    def _keys(self, texts: list[str], kind: str) -> list[bytes]:
        prefix = self.prefixes[kind]
        return [hashlib.blake2b((prefix + text).encode(), digest_size=16).digest() for text in texts]

    def fill(self, texts: list[str], kind: str, share: tuple[int, int] = (0, 1)) -> None:
        """Embed what is not there yet. share: (rank, world) of one of several processes, all of which are told of the same texts."""
        known = self.planned | self.places.keys() if self.planned else self.places
        new = {key: text for key, text in zip(self._keys(texts, kind), texts, strict=True) if key not in known}
        if share[1] > 1:
            self.planned |= new.keys()
        keys, texts = list(new), list(new.values())
        for start, embeddings in self.windows(texts, kind, share) if texts else ():
            rows = np.empty(len(embeddings), self.row)
            rows["text"] = np.frombuffer(b"".join(keys[start : start + len(rows)]), "V16")
            rows["embedding"] = checked(embeddings, texts[start : start + len(rows)], self.width)
            if not (about := self.folder / "made_by.json").exists():
                write_json(about, self.made_by)
            content = io.BytesIO()
            np.save(content, rows, allow_pickle=False)
            path = self.folder / f"{hashlib.sha256(content.getvalue()).hexdigest()}.npy"
            with new_file(path) as temporary:
                temporary.write_bytes(content.getvalue())
            self._add(path)

    def __call__(self, texts: list[str], kind: str) -> np.ndarray:
        self.fill(texts, kind)
        keys = self._keys(texts, kind)
        if missing := sum(key not in self.places for key in keys):
            raise InputError(f"the model gave no embeddings for {missing} of {len(texts)} texts")
        numbers = np.array([self.places[key] for key in keys])
        embeddings = np.empty((len(texts), self.width), np.float32)
        for first, rows in self.files.values():
            here = np.flatnonzero((numbers >= first) & (numbers < first + len(rows)))
            embeddings[here] = rows["embedding"][numbers[here] - first]
        return embeddings


# --- the run --------------------------------------------------------------------------------------------------------------------


def finished(task: Task, out: Path, settings: dict, overwrite: bool, folder) -> tuple[dict, dict | None, str]:
    """All settings of the result to be; the result that is there already, when it is whole and of these settings; what became of it."""
    path, decisive = out / f"{task.name}.json", settings | {"task": fingerprint(task, folder)}
    if overwrite or not path.exists():
        return decisive, None, "done"
    try:
        result = read_result(path)
    except InputError:
        return decisive, None, "damaged file replaced"
    for field, value in decisive.items():
        if result["settings"].get(field) != value and not (field == "model" and "weights" in decisive):
            found = f"{field} {result['settings'].get(field)!r}, now it is {value!r}"
            raise InputError(f"{path}: result of another run ({found}); choose another output folder, or add --overwrite to replace it")
    return decisive, result, "kept"


def embed_share(tasks: list[Task], cache: Cache, out, settings: dict, prefix: str, overwrite: bool, folder, share: tuple) -> None:
    """Embed one process's share of the texts of all tasks that are not finished."""
    e5nl.wait()  # until all have read the same files
    for task in tasks:
        with naming(task.name):
            if finished(task, Path(out), {"prefix": prefix} | settings, overwrite, folder)[1]:
                continue
            for job in jobs(task, folder):
                for texts, kind in dressed(task, job, prefix):
                    cache.fill(texts, kind, share)
    e5nl.wait()
    cache.read()


def run(tasks: list[Task], encode: Encode, out, settings: dict, prefix="mteb", overwrite=False, folder=None) -> Iterator[tuple[dict, str]]:
    """Evaluate tasks; write `<out>/<task>.json` and `<out>/summary.json`. Yields (result, 'done' or 'kept' or 'damaged file replaced').

    `settings` says what decides the numbers beside the data (model, weights, dtype, …); it is stored with the prefix policy, the task's
    fingerprint and the versions. A result that is there already is kept when all of it agrees, unless `overwrite`; versions may differ,
    and so may the model's name where the weights are known.
    """
    out, settings, results = Path(out), {"prefix": prefix} | settings, []
    versions = {module.__name__: module.__version__ for module in (torch, sklearn, np)} | {"python": platform.python_version()}
    for task in tasks:
        with naming(task.name):
            decisive, result, state = finished(task, out, settings, overwrite, folder)
        if result is None:
            start = time.perf_counter()
            found = evaluate_task(task, encode, prefix, folder)
            where = {"hf_subset": task.subset, "languages": [task.language]}
            write_items(out, task, {split: items for split, (_, items) in found.items()})
            result = _plain({
                "task_name": task.name,
                "task_type": task.type,
                "dataset_revision": task.revision,
                "mteb_version": None,
                "main_score": float(np.mean([scores["main_score"] for scores, _ in found.values()])),
                "main_score_name": task.main_score,
                "translated": task.translated,
                "evaluation_time": time.perf_counter() - start,
                "kg_co2_emissions": None,
                "scores": {split: [scores | where] for split, (scores, _) in found.items()},
                "settings": decisive | {"versions": versions},
            })  # fmt: skip
            write_json(out / f"{task.name}.json", result)
        results.append(result)
        yield result, state
    write_json(out / "summary.json", {"settings": settings | {"versions": versions}, **summarise(results)})


def write_items(out: Path, task: Task, splits: dict[str, Items]) -> None:
    """`<out>/items/<task>.npz`: of each split the arrays from which the main score can be computed again."""
    arrays = {}
    for split, items in splits.items():
        if task.type in RANKING:
            items = {name: items[name] for name in ("query", "recall_at_1" if task.main_score == "accuracy" else task.main_score)}
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


# --- command line ---------------------------------------------------------------------------------------------------------------


def _tasks(args) -> list[Task]:
    tasks = read_tasks(args.tasks_file, args.language or "nld-Latn") if args.tasks_file else TASKS
    return select_tasks(tasks, args.tasks)


def _run(args, rank: int, world: int) -> None:
    tasks = _tasks(args)
    folder = e5nl.find(args.model)
    model, tokenizer = e5nl.load(folder, dtype=getattr(torch, args.dtype))
    prompts, weights = dict(model.config.prompts), model_folder.weights_hash(folder)
    settings = {"model": str(args.model), "weights": weights, "dtype": args.dtype, "prompts": prompts}
    print(f"{args.model}: {len(tasks)} tasks, prefixes {args.prefix}, {args.dtype}, weights {weights[:12]}")

    made_by = {"weights": weights, "tokenizer": hashlib.sha256(tokenizer.json).hexdigest(), "dtype": args.dtype,
               "pooling": model.config.pooling, "max_length": model.config.max_length}  # fmt: skip
    windows = functools.partial(e5nl.embed_windows, model, tokenizer, progress=True)
    cache = Cache(args.cache or Path(args.out) / "cache", made_by, windows, prompts, model.config.hidden_size)
    for path in cache.damaged:
        print(f"{path}: damaged; its texts are embedded again")
    if world > 1:
        embed_share(tasks, cache, args.out, settings, args.prefix, args.overwrite, args.data, (rank, world))
    if rank:  # one scores
        return
    for number, (result, state) in enumerate(run(tasks, cache, args.out, settings, args.prefix, args.overwrite, args.data), 1):
        seconds = f"{result.get('evaluation_time', 0):.1f} s" + ("" if state == "done" else f", {state}")
        name, score = result["task_name"], f"{result.get('main_score_name', 'score')} {100 * result['main_score']:.2f}"
        print(f"{number}/{len(tasks)} {name}: {score} ({seconds})", flush=True)
        for split, (scores, *_) in result["scores"].items():
            for remark in scores.get("remarks", ()):
                print(f"    {split}: {remark}", flush=True)
    print(f"{args.out}: {len(tasks)} results and summary.json; {len(cache.places):,} embeddings in {cache.folder}")


def _download(args) -> None:
    tasks = _tasks(args)
    for number, task in enumerate(tasks, 1):
        with naming(task.name):
            copied = fetch(task, args.out)
            said = [remark for job in jobs(task, args.out) for remark in job.remarks]
        said = "; ".join(said) or "texts and characters as mteb counts them"
        print(f"{number}/{len(tasks)} {task.name}: {copied} files copied; {said}", flush=True)
    print(f"{args.out}: give it to `evaluate.py run` as --data")


def _report(args) -> None:
    notes = []
    columns = read_columns_of(args.results, notes)
    cells = report_types(columns) if args.by == "type" else report_tasks(columns)
    print(table(cells, args.format, 2))
    print(*notes, sep="\n", end="\n" * bool(notes), file=sys.stderr)
    if args.plot:
        plot(args.plot, columns)


def _compare(args) -> None:
    notes = []
    rows, said = compare(args.a, args.b, args.resamples, notes)
    names = [Path(name).resolve().name if Path(name).is_dir() else str(name) for name in (args.a, args.b)]
    names = names if names[0] != names[1] else [str(args.a), str(args.b)]
    print(table(describe_comparison(rows, *names), args.format, 2))
    print("\nsettings that differ:" if said else "\nno settings differ", *said, sep="\n  ")
    print(*notes, sep="\n", end="\n" * bool(notes), file=sys.stderr)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Score embeddings on MTEB-NL, with mteb's numbers.")
    commands = parser.add_subparsers(dest="command", required=True)
    defaults = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    command = commands.add_parser("run", help="evaluate a model", **defaults)
    command.add_argument("--model", required=True, help="model folder or hub name")
    command.add_argument("--tasks", nargs="+", default=["all"], help="names of tasks, types of tasks, native, translated or all")
    command.add_argument("--tasks-file", help="JSON file that lists tasks beside their data, instead of the benchmark's")
    command.add_argument("--language", help="of the texts of --tasks-file where it does not say, for the result files (nld-Latn)")
    command.add_argument("--data", help="folder that `download` made; without it the hub's cache, and the hub")
    command.add_argument("--out", required=True, help="folder of the result files")
    command.add_argument("--cache", help="folder of embeddings, which several runs may share; without it OUT/cache")
    command.add_argument("--overwrite", action="store_true", help="evaluate again what is there already")
    command.add_argument("--prefix", choices=list(POLICIES), default="mteb", help="which texts get a prefix, see the top of evaluate.py")
    command.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the encoder; published: float32")
    command.set_defaults(run=None)

    command = commands.add_parser("download", help="copy the tasks' data from the hub to a folder", **defaults)
    command.add_argument("--out", required=True)
    command.add_argument("--tasks", nargs="+", default=["all"], help="as for `run`")
    command.set_defaults(run=_download, tasks_file=None, language=None)

    command = commands.add_parser("report", help="print a table of results")
    command.add_argument("results", nargs="+", help="folders that `run` wrote, and names of models with published scores")
    command.add_argument("--by", choices=["type", "task"], default="type")
    command.add_argument("--format", choices=["text", "markdown", "csv"], default="text")
    command.add_argument("--plot", metavar="FILE", help="bars of the types' means (.png, .svg, .pdf)")
    command.add_argument("--overwrite", action="store_true", help="replace --plot")
    command.set_defaults(run=_report)

    command = commands.add_parser("compare", help="what B has over A, task by task, with bootstrap intervals", **defaults)
    command.add_argument("a", help="a folder that `run` wrote, or a model with published scores")
    command.add_argument("b")
    command.add_argument("--resamples", type=whole_number(1), default=1000, help="draws of the bootstrap")
    command.add_argument("--format", choices=["text", "markdown", "csv"], default="text")
    command.set_defaults(run=_compare)

    args = parser.parse_args(argv)
    if args.command == "report":
        refuse_plot(args.plot, args.overwrite)
    if args.command == "run":
        if args.language and not args.tasks_file:
            raise InputError("--language is for the tasks of a --tasks-file; the benchmark's are nld-Latn")
        if args.language and not is_language(args.language):
            raise InputError(f"--language {args.language}: expected {LANGUAGE_FORM}")
        if args.tasks_file and args.data:
            raise InputError("--data is for the benchmark's tasks, the data of --tasks-file lies beside that file; leave one of them out")
        with e5nl.processes() as (rank, world):
            _run(args, rank, world)
    else:
        args.run(args)


if __name__ == "__main__":
    cli(main)
