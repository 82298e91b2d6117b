"""Scores compared with mteb's: of given embeddings, the types whose scores take longest; with
`--model`, four tasks of the benchmark from texts to scores, mteb with sentence-transformers.
"""

import dataclasses
import itertools
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

import evaluate
import mteb_nl
import report
from files import write_jsonl
from tools.bench import measure
from tools.samples import DEMO

WIDTH, LABELS = 384, 30
# type: (a task of the benchmark, its texts at the benchmark's sizes)
TASKS = {
    "Classification": ("OpenTenderClassification", {"train": 20_777, "test": 5_000}),
    "MultilabelClassification": ("VABBMultiLabelClassification", {"train": 6_471, "test": 3_235}),
    "Clustering": ("OpenTenderClusteringP2P", {"test": 4_485}),
}


def make_data(type: str) -> tuple[dict[str, list[dict]], np.ndarray]:
    """{split: its rows}, and embeddings: the text "12" has row 12. Texts of a label are near."""
    _, sizes = TASKS[type]
    label = np.random.default_rng(3).integers(0, LABELS, sum(sizes.values()))
    values = label.tolist()
    if type == "MultilabelClassification":  # with another label
        values = [sorted({value, i % LABELS}) for i, value in enumerate(values)]
    text, field = ("sentences", "labels") if type == "Clustering" else ("text", "label")
    rows = iter([{text: str(i), field: value} for i, value in enumerate(values)])
    splits = {split: list(itertools.islice(rows, count)) for split, count in sizes.items()}

    centres = measure.vectors(LABELS, WIDTH, 0)[label]
    embeddings = centres + 8 * measure.vectors(len(label), WIDTH, 1)
    return splits, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def ours(type: str) -> dict:
    """Reading the data is part of it, while mteb has them in memory."""
    splits, embeddings = make_data(type)
    (task,) = mteb_nl.select_tasks(mteb_nl.TASKS, [TASKS[type][0]])
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, rows in splits.items():
            path = Path(folder, f"{name}.jsonl")
            write_jsonl(path, rows)
            files[name] = {"rows": [path]}
        task = dataclasses.replace(task, repository="", files=files, columns={})

        def encode(texts: list[str], kind: str) -> np.ndarray:
            return embeddings[list(map(int, texts))]

        results, figures = measure.timed(lambda: evaluate.evaluate_task(task, encode))
    scores, _ = results["test"]
    return figures | {"score": scores["main_score"]}


def mteb(type: str) -> dict:
    import datasets
    import mteb
    from sentence_transformers.util import cos_sim, pairwise_cos_sim

    splits, embeddings = make_data(type)

    # As its encoders: the text of row 12 is "12".
    class Model:
        mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "a/b", "revision": "1"})
        similarity = staticmethod(cos_sim)
        similarity_pairwise = staticmethod(pairwise_cos_sim)

        def encode(self, inputs, **_):
            return embeddings[[int(text) for batch in inputs for text in batch["text"]]]

    (task,) = mteb.get_tasks(tasks=[TASKS[type][0]])
    tables = {split: datasets.Dataset.from_list(rows) for split, rows in splits.items()}
    task.dataset, task.data_loaded = datasets.DatasetDict(tables), True
    quiet = {"show_progress_bar": False}
    scores, figures = measure.timed(lambda: task.evaluate(Model(), "test", encode_kwargs=quiet))
    return figures | {"score": scores[task.hf_subsets[0]]["main_score"]}


# --- from texts to scores -------------------------------------------------------------------------

# Tasks of the benchmark that the demo has, and what mteb calls their columns.
REAL = {
    "SIB200Classification": {},
    "SIB200ClusteringS2S": {"text": "sentences", "label": "labels"},
    "SICKNLPairClassification": {"label": "labels"},
    "SICK-NL-STS": {},
}


def ours_from_texts(folder: str) -> dict:
    with tempfile.TemporaryDirectory() as out:
        options = ["--model", folder, "--tasks-file", str(DEMO / "tasks.json"), "--out", out]
        command = partial(evaluate.main, ["run", *options, "--tasks", *REAL])
        _, figures = measure.timed(command)
        results = report.read_results(out)
    return figures | {"scores": {name: results[name]["main_score"] for name in REAL}}


def mteb_from_texts(folder: str) -> dict:
    import datasets
    import mteb
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    # Its task classes, with the demo's data.
    tasks = []
    for task in mteb_nl.select_tasks(mteb_nl.read_tasks(DEMO / "tasks.json"), REAL):
        (theirs,) = mteb.get_tasks([task.name], ["nld"], exclusive_language_filter=True)
        (subset,) = theirs.hf_subsets
        content = datasets.DatasetDict()
        for split in task.files:
            columns = mteb_nl.read_columns(task, split)
            renamed = {REAL[task.name].get(name, name): x for name, x in columns.items()}
            content[split] = datasets.Dataset.from_dict(renamed)
        theirs.dataset = {subset: content} if theirs.metadata.is_multilingual else content
        theirs.data_loaded = True
        tasks.append((theirs, task.splits))

    def score() -> dict[str, float]:
        prompts, means = {"query": "query: ", "document": "passage: "}, {}
        model = SentenceTransformerEncoderWrapper(folder, model_prompts=prompts)
        for task, splits in tasks:
            quiet = {"show_progress_bar": False}
            scores = [task.evaluate(model, split, encode_kwargs=quiet) for split in splits]
            means[task.metadata.name] = np.mean(
                [values[task.hf_subsets[0]]["main_score"] for values in scores]
            )
        return means

    scores, figures = measure.timed(score)
    return figures | {"scores": scores}


def add_options(add) -> None:
    add("--types", choices=list(TASKS), nargs="*", default=list(TASKS), help="of given embeddings")
    add("--model", help="model folder: also four tasks from texts to scores")


def run(args) -> None:
    variants, rows = measure.installed({"ours": (ours,), "mteb": (mteb, "mteb", "datasets")}), {}
    for type in args.types:
        calls = {f"{type}, {name}": (variant, type) for name, variant in variants.items()}
        figures = measure.compare(calls, args)
        for figure in figures.values():
            figure["differs by"] = abs(figure["score"] - figures[f"{type}, ours"]["score"])
        rows |= figures
    columns = ["seconds", "to ours", "extra MB", "differs by"]
    if rows:
        measure.print_table(f"scoring of embeddings, {measure.machine(args)}", columns, rows)

    if args.model:
        variants = {"ours": (ours_from_texts,), "mteb": (mteb_from_texts, "mteb", "datasets")}
        calls = {name: (x, args.model) for name, x in measure.installed(variants).items()}
        rows = measure.compare(calls, args)
        scores = rows["ours"]["scores"]
        for row in rows.values():
            row["differs by"] = max(abs(row["scores"][name] - scores[name]) for name in REAL)
        columns = ["seconds", "CPU s", "to ours", "peak MB", "differs by"]
        title = f"{args.model}: four tasks, from texts to scores, {measure.machine(args)}"
        measure.print_table(title, columns, rows)
