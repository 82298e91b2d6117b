"""MTEB-NL without mteb: a model scored on 40 tasks of seven types, with mteb's numbers (arXiv
2509.12340, the benchmark and the results).

In: a model folder and tasks (`mteb_nl.py`). Out: one JSON file per task in mteb's layout, with what
decides a number (prefixes, dtype, weights, versions), and in `items/` the predictions or
similarities that the score was made of (`metrics.py`). Tables and comparisons of such folders are
made by `report.py`.

A task's score is the plain mean over its evaluation splits. Which prefix a text gets is a policy,
`--prefix`, stored in every result:

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
import json
import platform
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import torch

import card
import e5nl
import metrics
import model_folder
from cache import check_embeddings, model_cache
from data import INSTRUCT
from files import (
    InputError,
    ShowDefaults,
    cli,
    hub_repository,
    new_file,
    output_folder,
    reading,
    whole_number,
    write_json,
)
from metrics import SEED, Embeddings, Items, Scores
from mteb_nl import (
    NAMED,
    RANKING,
    TASKS,
    TRAINED,
    Task,
    fingerprint,
    flat_labels,
    naming,
    read_columns,
    read_ranking,
    read_tasks,
    remarks,
    select_tasks,
)
from report import (
    MODEL_META,
    Results,
    other_setting,
    print_comparison,
    print_report,
    read_result,
    read_results,
    report_tasks,
    summarise,
    table,
)

# The kind of text (see `e5nl.embed`) by its role in a task; see also `_with_policy`
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
    inputs: list[tuple[list[str], str]]  # (texts, kind) for the encoder
    score: Callable[..., Scores]  # of the embeddings, in the order of `inputs`
    remarks: list[str]  # on the data


def jobs(task: Task, policy: str) -> Iterator[Job]:
    """The splits of a task under a prefix policy, in the order in which they have to be scored.

    Random draws start afresh with each task and continue from one split to the next, as those of a
    new task object of mteb do.
    """
    shuffles, draws = random.Random(SEED), np.random.default_rng(SEED)
    train = read_columns(task, "train") if task.type in TRAINED else {}
    for split in task.splits:
        # Queries in a corpus, or in lists of candidates
        if task.type in RANKING:
            yield _ranking_job(task, split, policy)
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
        inputs = [_with_policy(task, policy, "symmetric", column) for column in texts]
        yield Job(split, inputs, score, lines)


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


def _ranking_job(task: Task, split: str, policy: str) -> Job:
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
    texts = {"query": list(content.queries.values()), "document": documents}
    inputs = [_with_policy(task, policy, *item) for item in texts.items()]
    return Job(split, inputs, score, remarks(task, split, content))


def _with_policy(task: Task, policy: str, role: str, texts: list[str]) -> tuple[list[str], str]:
    """Texts as the encoder gets them, and their kind."""
    if policy == "instruct" and role != "document":
        texts = [INSTRUCT.format(task.prompt) + text for text in texts]
    return texts, POLICIES[policy][role]


def evaluate_task(task: Task, encode: Encode, prefix: str = "mteb") -> dict[str, Scores]:
    """{split: (scores with `main_score` and `remarks`, items)} of one task."""
    with naming(task.name):
        results = {}
        for job in jobs(task, prefix):
            # All texts of a split with embeddings of one width
            embeddings, width = [], None
            for texts, kind in job.inputs:
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


def finished(task: Task, out: Path, settings: dict, overwrite: bool) -> tuple[dict, dict | None]:
    """All settings of a task's result, and the result of an earlier run with these settings."""
    path, settings = out / f"{task.name}.json", settings | {"task": fingerprint(task)}
    if overwrite or not path.exists():
        return settings, None

    # A damaged one is made again
    try:
        result = read_result(path)
    except InputError as error:
        print(f"{error}; it is made again")
        return settings, None

    # All other settings are the same, see `refuse_mixture`
    if (before := result["settings"].get("task")) != settings["task"]:
        found = f"task is {before!r}, not {settings['task']!r}"
        advice = "choose another output folder, or add --overwrite to replace it"
        raise InputError(f"{path}: result of another run ({found}); {advice}")
    return settings, result


def refuse_mixture(out: Path, tasks: list[Task], settings: dict, overwrite: bool) -> None:
    """Stop when `out` has results, but for those to be replaced, that were made with other
    settings: a report would average both."""
    replaced = {f"{task.name}.json" for task in tasks} if overwrite else set()
    for path in sorted(out.glob("*.json")):
        if path.name == "summary.json" or path.name in replaced:
            continue
        try:
            result = read_result(path)
        except InputError:
            continue  # named by `finished`, or by `report`
        if found := other_setting(result, settings):
            advice = "choose another output folder, or add --overwrite to evaluate all tasks again"
            raise InputError(f"{path}: result of another run ({found}); {advice}")


# The fields of mteb's `model_meta.json` (`ModelMeta`), unless `run` is given more
MTEB_META = dict.fromkeys(
    "loader release_date n_parameters n_embedding_parameters memory_usage_mb max_tokens embed_dim "
    "license open_weights public_training_code public_training_data use_instructions "
    "training_datasets".split()
) | {"languages": ["nld-Latn"], "framework": ["PyTorch"], "similarity_fn_name": "cosine"}


def run(
    tasks: list[Task],
    encode: Encode,
    out,
    settings: dict,
    overwrite=False,
    about: dict | None = None,
) -> Iterator[tuple[dict, bool]]:
    """Evaluate tasks; write `<out>/<task>.json` and `<out>/summary.json`. Yields (result, whether
    it was kept from an earlier run).

    settings: what decides the numbers apart from the data (prefix policy, model, weights, dtype,
    …); it is stored with the task's fingerprint and the versions. An earlier result is kept when
    all of it agrees, unless `overwrite`; versions may differ, and the model's name may where the
    weights are known. about: facts on the model for `write_for_mteb`.
    """
    out, settings, results = Path(out), {"prefix": "mteb"} | settings, []
    refuse_mixture(out, tasks, settings, overwrite)
    versions = {module.__name__: module.__version__ for module in (torch, sklearn, np)}
    versions["python"] = platform.python_version()
    for task in tasks:
        with naming(task.name):
            decisive, earlier = finished(task, out, settings, overwrite)
        result = earlier
        if not earlier:
            start = time.perf_counter()
            splits = evaluate_task(task, encode, settings["prefix"])
            seconds = time.perf_counter() - start
            # The result file last: where it is, everything is
            write_items(out, task, {split: items for split, (_, items) in splits.items()})
            scores = {split: scores for split, (scores, _) in splits.items()}
            result = result_of(task, scores, seconds, decisive | {"versions": versions})
            write_json(out / f"{task.name}.json", result)
        results.append(result)
        yield result, bool(earlier)
    summary = summarise({result["task_name"]: result for result in results})
    write_for_mteb(out, results, settings, about or {})
    write_json(out / "summary.json", {"settings": settings | {"versions": versions}, **summary})


def result_of(task: Task, scores: dict[str, dict], seconds: float, settings: dict) -> dict:
    """A result file's content, in mteb's layout with fields of our own."""
    about = {"hf_subset": task.subset, "languages": [task.language]}
    result = {
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
    # For strict JSON: numpy's numbers become Python's, NaN becomes null
    return json.loads(json.dumps(result, default=float), parse_constant=lambda name: None)


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


def write_for_mteb(out: Path, results: list[dict], settings: dict, about: dict) -> None:
    """The benchmark's tasks once more, in `<out>/results/<model>/<revision>` as mteb's cache has
    them: `mteb.ResultCache(out).load_results()` reads them. The revision is the weights' hash.

    about: facts on the model, by mteb's names in `model_meta.json`.
    """
    model = str(settings.get("model", "model"))
    name = hub_repository(model) or f"local/{Path(model).resolve().name}"
    revision = settings.get("weights", "no_revision_available")[:40]
    folder = out / "results" / name.replace("/", "__").replace(" ", "_") / revision
    known = [result for result in results if result["task_name"] in NAMED]
    for result in known:
        # A task file may have the benchmark's data, but has no subsets
        subset = {"hf_subset": NAMED[result["task_name"]].subset}
        scores = {split: [values[0] | subset] for split, values in result["scores"].items()}
        write_json(folder / f"{result['task_name']}.json", result | {"scores": scores})
    if known:
        meta = MTEB_META | {"name": name, "revision": revision} | about
        write_json(folder / MODEL_META, meta)


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
    prefix = args.prefix or ("mteb" if model.config.policy == "e5" else "instruct")
    prompts, weights = dict(model.config.prompts), model_folder.weights_hash(folder)
    settings = {"prefix": prefix, "model": str(args.model), "weights": weights}
    settings |= {"dtype": args.dtype, "prompts": prompts} | model.config.cut
    prefixes = f"--prefix {prefix}, {model_folder.describe_prefixes(model.config)}"
    print(f"{args.model}: {len(tasks)} tasks, {prefixes}, {args.dtype}, weights {weights[:12]}")
    if note := model_folder.other_policy(model.config, prefix):
        print(note)

    # Each process embeds its share, between the times when all read the files; then one scores
    cache = model_cache(args.cache or out / "cache", model, tokenizer, weights)
    if world > 1:
        e5nl.wait()
        refuse_mixture(out, tasks, settings, args.overwrite)
        for task in tasks:
            with naming(task.name):
                if finished(task, out, settings, args.overwrite)[1]:
                    continue
                for job in jobs(task, prefix):
                    for texts, kind in job.inputs:
                        cache.fill(texts, kind, (rank, world))
        e5nl.wait()
        cache.read()
    if rank:
        return

    table, config = model.words.weight, model.config
    about = {
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "n_embedding_parameters": table.numel(),
        "max_tokens": config.max_length,
        "embed_dim": config.width,
    }
    results = run(tasks, cache, out, settings, args.overwrite, about)
    for number, (result, kept) in enumerate(results, 1):
        name, score = result.get("main_score_name", "score"), 100 * result["main_score"]
        seconds = f"{result.get('evaluation_time', 0):.1f} s" + ", kept" * kept
        line = f"{number}/{len(tasks)} {result['task_name']}: {name} {score:.2f} ({seconds})"
        print(line, flush=True)
        for split, (scores, *_) in result["scores"].items():
            for remark in scores.get("remarks", ()):
                print(f"    {split}: {remark}", flush=True)
    embeddings = f"{len(cache.places):,} embeddings in {cache.folder}"
    print(f"{out}: {len(tasks)} results and summary.json; {embeddings}")


def _download(args) -> None:
    tasks = select_tasks(TASKS, args.tasks)
    for number, task in enumerate(tasks, 1):
        with naming(task.name):
            lines = [remark for job in jobs(task, "none") for remark in job.remarks]
        about = "; ".join(lines) or "texts and characters as mteb counts them"
        print(f"{number}/{len(tasks)} {task.name}: {about}", flush=True)


def _card(args) -> None:
    """Put results into the card of the model that was scored; perhaps upload both."""
    folder = Path(args.model)
    if args.push and not re.fullmatch(r"[\w.-]+/[\w.-]+", args.push):
        raise InputError(f"--push {args.push}: expected owner/name, as of a repository on the hub")
    results, config = read_results(args.results), model_folder.parse_config(folder)

    # Of this model, whose settings the card states
    settings = next(iter(results.values()))["settings"]
    prefix, dtype, width = (settings.get(name) for name in ("prefix", "dtype", "truncate_dim"))
    expected = {"weights": model_folder.weights_hash(folder), "prompts": dict(config.prompts)}
    for field, value in expected.items():
        if (other := settings.get(field)) != value:
            found = f"results of {field} {str(other)[:80]}, but the model has {str(value)[:80]}"
            raise InputError(f"{args.results}: {found}; evaluate this model")
    if not (folder / card.CARD).is_file():
        card.write(folder)
    name = args.push or folder.resolve().name
    cut = f", embeddings cut to {width}" if width else ""
    about = f"Main scores x 100, `--prefix {prefix}`, {dtype}{cut}.\n\n"
    scores = about + table(report_tasks({name: results}), "markdown", 2)
    card.add_scores(folder, name, model_index(results), scores)
    print(f"{folder / card.CARD}: {len(results)} results")
    if args.push:
        print(f"uploaded: {card.push(folder, args.push)}")


def model_index(results: Results) -> list[dict]:
    """Entries of the hub's model-index: the main score of each split of each task, as mteb names
    and scales them."""
    entries = []
    for name, result in results.items():
        with reading(f"result of {name}"):
            metric, revision = result["main_score_name"], result["dataset_revision"]
            for split, (scores, *_) in result["scores"].items():
                data = {"name": f"{name} ({scores['hf_subset']})", "type": name, "split": split}
                if revision != "local":
                    repository = NAMED[name].repository.partition("@")[0]
                    data |= {"type": repository, "config": scores["hf_subset"]}
                    data |= {"revision": revision}
                value = {"name": metric, "type": metric, "value": round(scores["main_score"], 6)}
                task = {"name": result["task_type"], "type": result["task_type"]}
                entries.append({"task": task, "dataset": data, "metrics": [value]})
    return entries


def main(argv=None) -> None:
    about = "Score embeddings on MTEB-NL, with mteb's numbers."
    parser = argparse.ArgumentParser(description=about)
    commands = parser.add_subparsers(dest="command", required=True)

    def add_command(name: str, function, help: str):
        command = commands.add_parser(name, help=help, formatter_class=ShowDefaults)
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
    add = add_command("report", print_report, "print a table of results")
    add("results", nargs="+", help=f"folder {results}")
    add("--tasks", nargs="+", help="only these tasks, by name or type")
    add("--by", choices=["type", "task"], default="type", help="types of tasks, or each task")
    add("--format", choices=["text", "markdown"], default="text", help="of the table")
    add("--plot", metavar="FILE", help="bars of the types' means (.png, .svg, .pdf)")
    add("--html", metavar="FILE", help="a page with bars, intervals, sizes, training, mining")
    runs = "folders for --html: with a log of training, or reports of mining"
    add("--runs", nargs="+", default=[], metavar="FOLDER", help=runs)
    add("--resamples", type=whole_number(1), default=200, help="draws of the intervals of --html")
    add("--overwrite", action="store_true", help="replace --plot and --html")

    add = add_command("compare", print_comparison, "B over A, task by task, with intervals")
    add("a", help=f"folder {results}")
    add("b", help="likewise")
    add("--resamples", type=whole_number(1), default=1000, help="draws of the bootstrap")
    add("--format", choices=["text", "markdown"], default="text", help="of the table")

    add = add_command("card", _card, "put results into a model folder's README.md")
    add("results", help="folder of results that `run` wrote")
    add("--model", required=True, help="folder of the model that was scored")
    add("--push", metavar="OWNER/NAME", help="upload the model with its card to the hub")

    args = parser.parse_args(argv)
    args.function(args)


if __name__ == "__main__":
    cli(main)
