"""The real mteb and evaluate.py score the same embeddings: every task type, every protocol variant, every score that mteb reports.

The same texts and embeddings (cases.py) go through mteb's own task classes, their data replaced and their protocol untouched, and through
`evaluate_task`. `golden_mteb.json` holds what mteb gave; the default tests compare with it, and this one checks that it is still true.

In an environment with mteb and this project's requirements, from the repository's root:
    python -m pytest tests/parity/test_mteb.py -o addopts=
    PYTHONPATH=. python tests/parity/test_mteb.py           # writes golden_mteb.json
"""

import json
from pathlib import Path

import cases
import datasets
import mteb
import numpy as np
import pytest

import data
import evaluate

GOLDEN = Path(__file__).with_name("golden_mteb.json")


class Model:
    """What mteb wants of a model, over `cases.embed`."""

    mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "parity/words", "revision": "1"})

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        kind = {None: "none", "query": "query", "document": "passage"}[prompt_type and prompt_type.value]
        return cases.embed([text for batch in inputs for text in batch["text"]], kind)

    def similarity(self, a, b):
        from sentence_transformers.util import cos_sim

        return cos_sim(a, b)

    def similarity_pairwise(self, a, b):
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(a, b)


def mteb_scores(task: evaluate.Task, files: dict, model=None) -> dict[str, dict]:
    """{split: scores} that mteb's task of the same name gives for these rows."""
    (reference,) = mteb.get_tasks(tasks=[task.name], languages=["nld"], exclusive_language_filter=True)
    (subset,) = reference.hf_subsets
    if task.type in evaluate.RANKING:
        qrels = {}
        for line in files["beir/qrels/test.tsv"].splitlines()[1:]:
            query, document, grade = line.split("\t")
            qrels.setdefault(query, {})[document] = int(grade)
        rename = lambda rows: datasets.Dataset.from_list([{"id": row["_id"]} | row for row in rows]).remove_columns("_id")  # noqa: E731
        top_ranked = {row["query-id"]: row["corpus-ids"] for row in files.get("beir/top_ranked.jsonl", [])}
        queries = [row for row in files["beir/queries.jsonl"] if row["_id"] in qrels]  # mteb drops the others when it loads
        content = {"corpus": rename(files["beir/corpus.jsonl"]), "queries": rename(queries), "relevant_docs": qrels}
        reference.dataset = {subset: {"test": content | {"top_ranked": top_ranked or None}}}
    else:
        splits = {"train": task.train} | task.splits
        rows = {split: [row for path in paths for row in files[path.name]] for split, paths in splits.items()}
        content = datasets.DatasetDict({split: datasets.Dataset.from_list(some) for split, some in rows.items() if some})
        reference.dataset = {subset: content} if reference.metadata.is_multilingual else content
    reference.data_loaded = True
    settings = {"show_progress_bar": False}
    return {split: dict(reference.evaluate(model or Model(), split, encode_kwargs=settings)[subset]) for split in task.splits}


def same(found, expected, tolerance: float) -> bool:
    """Whether two scores, or lists or dicts of scores, agree; NaN and nothing are the same."""
    if isinstance(expected, dict):
        return all(same(found[key], value, tolerance) for key, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(same(*pair, tolerance) for pair in zip(found, expected, strict=True))
    missing = [value is None or np.isnan(value) for value in (found, expected)]
    return all(missing) if any(missing) else abs(found - expected) <= tolerance


@pytest.mark.parametrize("name", cases.CASES)
def test_scores_are_mtebs(tmp_path, name):
    files = cases.write_case(name, tmp_path)
    (task,) = evaluate.read_tasks(tmp_path / "tasks.json")
    reference, golden = mteb.get_task(name), json.loads(GOLDEN.read_text())[name]
    assert task.main_score == reference.metadata.main_score
    for setting in ("samples_per_label", "ignore_identical_ids"):
        assert not hasattr(reference, setting) or getattr(task, setting) == getattr(reference, setting)
    found = {split: scores for split, (scores, _) in evaluate.evaluate_task(task, evaluate.remember(cases.embed)).items()}
    for split, expected in mteb_scores(task, files).items():
        for score, value in expected.items():
            rounded = task.type in evaluate.RANKING and not score.startswith(("mrr", "nauc"))  # mteb rounds these to 5 decimals
            assert same(found[split][score], value, 5.0001e-6 if rounded else 1e-9), (split, score, found[split][score], value)
            if score in golden[split]:
                assert same(golden[split][score], value, 1e-6), "golden_mteb.json is out of date"
        assert found[split]["main_score"] == found[split][task.main_score]


def test_mteb_reads_our_result_files(tmp_path):
    from mteb.results.task_result import TaskResult

    cases.write_case("STSBenchmarkMultilingualSTS", tmp_path)
    ((result, _),) = evaluate.run(evaluate.read_tasks(tmp_path / "tasks.json"), cases.embed, tmp_path / "out", {"model": "words"})
    read = TaskResult.from_disk(tmp_path / "out" / "STSBenchmarkMultilingualSTS.json")
    assert read.get_score() == pytest.approx(result["main_score"], abs=1e-12)
    assert read.task_type == "STS" and read.eval_splits == ["dev", "test"]


def write_golden() -> None:
    import tempfile

    golden = {}
    for name in cases.CASES:
        with tempfile.TemporaryDirectory() as folder:
            files = cases.write_case(name, Path(folder))
            (task,) = evaluate.read_tasks(Path(folder) / "tasks.json")
            for split, scores in mteb_scores(task, files).items():
                # the abstention curves are 105 numbers a task: two of them are enough to keep
                kept = {k: v for k, v in scores.items() if isinstance(v, int | float) and ("nauc" not in k or "nauc_ndcg_at_10_" in k)}
                golden.setdefault(name, {})[split] = {score: round(float(value), 7) for score, value in kept.items() if not np.isnan(value)}
    data.write_json(GOLDEN, golden)


if __name__ == "__main__":
    write_golden()
