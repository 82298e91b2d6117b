"""Scores of given embeddings, compared with mteb: the types whose scores take longest."""

import dataclasses
import itertools
import tempfile
from pathlib import Path

import numpy as np

import evaluate
import mteb_nl
from files import write_jsonl
from tools.bench import measure

WIDTH = 384
# type: (a task of the benchmark, its texts at the benchmark's sizes)
TASKS = {
    "Classification": ("OpenTenderClassification", {"train": 20_777, "test": 5_000}),
    "Clustering": ("OpenTenderClusteringP2P", {"test": 4_485}),
    "Retrieval": ("VABBRetrieval", {"queries": 1_000, "corpus": 50_000}),  # fewer than it has
}


def make_data(type: str) -> tuple[dict[str, list[dict]], dict[str, np.ndarray]]:
    """{table: its rows} and {letter: embeddings}: the text "c12" has row 12 of "c".

    What belongs together is somewhat near.
    """
    generator, (_, sizes) = np.random.default_rng(3), TASKS[type]
    if type == "Retrieval":  # each query has one answer
        corpus = measure.vectors(sizes["corpus"], WIDTH, 0)
        answers = generator.choice(len(corpus), sizes["queries"], replace=False)
        tables = {
            name: [{"_id": f"{name[0]}{i}", "text": f"{name[0]}{i}"} for i in range(count)]
            for name, count in sizes.items()
        }
        tables["qrels"] = [
            {"query-id": f"q{i}", "corpus-id": f"c{answer}", "score": 1}
            for i, answer in enumerate(answers)
        ]
        return tables, {"c": corpus, "q": near(corpus[answers])}

    label = generator.integers(0, 30, sum(sizes.values()))
    text, field = ("sentences", "labels") if type == "Clustering" else ("text", "label")
    rows = iter([{text: f"t{i}", field: int(value)} for i, value in enumerate(label)])
    tables = {split: list(itertools.islice(rows, count)) for split, count in sizes.items()}
    return tables, {"t": near(measure.vectors(30, WIDTH, 0)[label])}


def near(centres: np.ndarray) -> np.ndarray:
    x = centres + 8 * measure.vectors(len(centres), WIDTH, 1)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def look_up(embeddings: dict[str, np.ndarray], texts: list[str]) -> np.ndarray:
    return embeddings[texts[0][0]][[int(text[1:]) for text in texts]]


# Each variant reads the data first, then scores the task.


def ours(type: str) -> dict:
    tables, embeddings = make_data(type)
    (task,) = mteb_nl.select_tasks(mteb_nl.TASKS, [TASKS[type][0]])
    with tempfile.TemporaryDirectory() as folder:
        files = {name: [Path(folder, f"{name}.jsonl")] for name in tables}
        for name, rows in tables.items():
            write_jsonl(files[name][0], rows)
        splits = {name: {"rows": file} for name, file in files.items()}
        splits = {"test": files} if type == "Retrieval" else splits
        task = dataclasses.replace(task, repository="", files=splits, columns={})
        (job,) = evaluate.jobs(task)
    given = [look_up(embeddings, texts) for _, texts in job.texts]
    (scores, _), figures = measure.timed(lambda: job.score(*given))
    return figures | {"score": scores[task.main_score]}


def mteb(type: str) -> dict:
    import datasets
    import mteb
    from sentence_transformers.util import cos_sim, pairwise_cos_sim

    tables, embeddings = make_data(type)

    class Model:
        mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "a/b", "revision": "1"})
        similarity = staticmethod(cos_sim)
        similarity_pairwise = staticmethod(pairwise_cos_sim)

        def encode(self, inputs, **_):
            return look_up(embeddings, [text for batch in inputs for text in batch["text"]])

    (task,) = mteb.get_tasks(tasks=[TASKS[type][0]])
    (subset,) = task.hf_subsets
    content = {name: datasets.Dataset.from_list(rows) for name, rows in tables.items()}
    if type == "Retrieval":
        answers = {row["query-id"]: {row["corpus-id"]: row["score"]} for row in tables["qrels"]}
        content = {name: content[name].rename_column("_id", "id") for name in ("corpus", "queries")}
        content |= {"relevant_docs": answers, "top_ranked": None}
        task.dataset = {subset: {"test": content}}
    else:
        task.dataset = datasets.DatasetDict(content)
    task.data_loaded = True

    quiet = {"show_progress_bar": False}
    scores, figures = measure.timed(lambda: task.evaluate(Model(), "test", encode_kwargs=quiet))
    return figures | {"score": scores[subset]["main_score"]}


def add_options(add) -> None:
    add("--types", choices=list(TASKS), nargs="+", default=list(TASKS))
    measure.add_common_options(add, rounds=3)


def run(args) -> None:
    variants, rows = measure.installed({"ours": (ours,), "mteb": (mteb, "mteb", "datasets")}), {}
    for type in args.types:
        calls = {f"{type}, {name}": (variant, type) for name, variant in variants.items()}
        figures = measure.compare(calls, args)
        for figure in figures.values():
            figure["differs by"] = abs(figure["score"] - figures[f"{type}, ours"]["score"])
        rows |= figures
    columns = ["seconds", "to ours", "extra MB", "differs by"]
    measure.print_table(f"scoring of embeddings, {measure.machine(args)}", columns, rows)
