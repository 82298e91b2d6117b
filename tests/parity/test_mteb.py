"""The real mteb and evaluate.py score the same embeddings.

Every task type, every protocol variant, every score that mteb reports. The same texts and
embeddings (cases.py) go through mteb's own task classes, their data replaced and their protocol
untouched, and through `evaluate_task`. `golden_mteb.json` holds what mteb gave; the default tests
compare with it, and this one checks that it is still true.

In an environment with mteb and this project's requirements, from the repository's root:
    python -m pytest tests/parity/test_mteb.py -o addopts=
    PYTHONPATH=.:tests python tests/parity/test_mteb.py           # writes golden_mteb.json
"""

import json
import shutil
from pathlib import Path

import cases
import datasets
import mteb
import numpy as np
import pytest
import test_mteb_nl
from sentence_transformers.util import cos_sim, pairwise_cos_sim

import e5nl
import evaluate
import mteb_nl
import report
from files import read_jsonl, write_json

GOLDEN = Path(__file__).with_name("golden_mteb.json")


class Model:
    """What mteb wants of a model, over `cases.embed`."""

    mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "parity/words", "revision": "1"})

    similarity, similarity_pairwise = staticmethod(cos_sim), staticmethod(pairwise_cos_sim)

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        kinds = {"query": "query", "document": "passage"}
        kind = kinds.get(prompt_type and prompt_type.value, "none")
        return cases.embed([text for batch in inputs for text in batch["text"]], kind)


def mteb_task(name: str):
    """mteb's task, its Dutch part alone."""
    return mteb.get_tasks(tasks=[name], languages=["nld"], exclusive_language_filter=True)[0]


def table(rows: list[dict]):
    return datasets.Dataset.from_list(rows)


def ranking_of(files: dict) -> dict:
    """What mteb has in memory of the files of a ranking."""
    qrels = {}
    for line in files["beir/qrels/test.tsv"].splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    # mteb drops the queries without judgements when it loads
    queries = [row for row in files["beir/queries.jsonl"] if row["_id"] in qrels]
    ranked = files.get("beir/top_ranked.jsonl", [])
    return {
        "corpus": table(files["beir/corpus.jsonl"]).rename_column("_id", "id"),
        "queries": table(queries).rename_column("_id", "id"),
        "relevant_docs": qrels,
        "top_ranked": {row["query-id"]: row["corpus-ids"] for row in ranked} or None,
    }


def mteb_scores(task: mteb_nl.Task, files: dict, model=None) -> dict[str, dict]:
    """{split: scores} that mteb's task of the same name gives for these rows."""
    reference = mteb_task(task.name)
    (subset,) = reference.hf_subsets
    if task.type in mteb_nl.RANKING:
        reference.dataset = {subset: {"test": ranking_of(files)}}
    else:
        content = datasets.DatasetDict()
        for split, of_split in task.files.items():
            content[split] = table(sum((files[path.name] for path in of_split["rows"]), []))
        reference.dataset = {subset: content} if reference.metadata.is_multilingual else content
    reference.data_loaded = True
    quiet = {"show_progress_bar": False}
    return {
        split: dict(reference.evaluate(model or Model(), split, encode_kwargs=quiet)[subset])
        for split in task.splits
    }


def mteb_result(task: mteb_nl.Task, files: dict) -> mteb.TaskResult:
    """mteb's own result of the task, with its scores of these rows."""
    reference, scores = mteb_task(task.name), mteb_scores(task, files)
    scores = {split: {reference.hf_subsets[0]: values} for split, values in scores.items()}
    return mteb.TaskResult.from_task_results(reference, scores, evaluation_time=1.5)


@pytest.mark.parametrize("name", cases.CASES)
def test_scores_are_mtebs(tmp_path, name):
    files = cases.write_case(name, tmp_path)
    (task,) = mteb_nl.read_tasks(tmp_path / "tasks.json")
    golden = json.loads(GOLDEN.read_text())[name]
    results = evaluate.evaluate_task(task, cases.embed)
    for split, expected in mteb_scores(task, files).items():
        scores, _ = results[split]
        assert scores["main_score"] == scores[task.main_score]
        for score, value in expected.items():
            # Not computed here; lists of experiments, whose means are compared
            if score.startswith("nauc") or isinstance(value, list | dict):
                continue
            # mteb has nothing where a score is not defined, and rounds to 5 decimals
            value = np.nan if value is None else value
            rounded = task.type in mteb_nl.RANKING and not score.startswith("mrr")
            tolerance = 5.0001e-6 if rounded else 1e-9
            assert scores[score] == pytest.approx(value, rel=0, abs=tolerance, nan_ok=True), score
            stored = golden[split].get(score, value)
            assert stored == pytest.approx(value, abs=1e-6, nan_ok=True), "golden_mteb.json is old"


# --- the table ------------------------------------------------------------------------------------

BENCHMARK = {task.metadata.name: task for task in mteb.get_benchmark("MTEB(nld, v1)").tasks}


def test_the_benchmarks_tasks_are_these_in_this_order():
    assert [task.name for task in mteb_nl.TASKS] == list(BENCHMARK)


@pytest.mark.parametrize("task", mteb_nl.TASKS, ids=lambda task: task.name)
def test_the_table_is_mtebs(task):
    theirs = BENCHMARK[task.name]
    facts, ranking = theirs.metadata, task.type in mteb_nl.RANKING
    ours = task.type, task.main_score, task.splits
    assert ours == (facts.type, facts.main_score, tuple(facts.eval_splits))
    assert task.repository == f"{facts.dataset['path']}@{facts.dataset['revision']}"
    assert [task.subset] == theirs.hf_subsets
    assert task.samples_per_label == getattr(theirs, "samples_per_label", 8)
    assert task.ignore_identical_ids == getattr(theirs, "ignore_identical_ids", False)
    prompt = facts.prompt.get("query") if isinstance(facts.prompt, dict) else facts.prompt
    assert task.prompt == (prompt or mteb.get_task(task.name).abstask_prompt)
    translated = "translated" in facts.sample_creation or task.name == "BelebeleRetrieval"
    assert task.translated == translated

    # All languages in one configuration; what is done to the rows
    at_once = facts.is_multilingual and theirs.fast_loading
    language = (task.subset, "default") if at_once else ("", task.config)
    assert (task.only_lang, task.config) == language
    transformed = "dataset_transform" in vars(type(theirs))
    assert task.transform or task.columns or task.parts if transformed else not task.parts

    # Texts and characters
    sizes = mteb_nl.published()["sizes"][task.name]
    for what, (number, characters) in sizes.items():
        part = facts.descriptive_stats["test" if ranking else what]
        part = part.get("hf_subset_descriptive_stats", {}).get(task.subset, part)
        kinds = ["text", "text1", "text2", {"corpus": "documents_text"}.get(what, f"{what}_text")]
        lengths = [part.get(f"{kind}_statistics", {}).get("total_text_length", 0) for kind in kinds]
        count = sum(count for count, _ in sizes.values()) if ranking else number
        assert (part["num_samples"], sum(lengths)) == (count, characters), what


TRANSFORMED = [
    task.name
    for task in mteb_nl.TASKS
    if (task.transform or task.columns or task.parts) and task.type not in mteb_nl.RANKING
]


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations_are_mtebs(hub, name):
    """The rows of the hub's layout (test_mteb_nl.py makes them), transformed by mteb and by us."""
    task, theirs = mteb_nl.NAMED[name], mteb_task(name)
    tables = test_mteb_nl.hub_rows(task)
    test_mteb_nl.add_to(hub, task, tables)
    content = datasets.DatasetDict()
    for name, rows in tables.items():
        rows = [row for row in rows if row.get("lang", task.only_lang) == task.only_lang]
        rows = [{x: row[x] for x in row if x != "lang"} for row in rows]
        content[name.split("/")[1]] = table(rows)
    theirs.dataset = {task.subset: content} if theirs.metadata.is_multilingual else content
    theirs.dataset_transform()
    content = theirs.dataset[task.subset] if theirs.metadata.is_multilingual else theirs.dataset

    columns = {"text": "input_column_name", "label": "label_column_name"}
    for split in mteb_nl.splits_read(task):
        for what, values in mteb_nl.read_columns(task, split).items():
            column = getattr(theirs, columns.get(what, ""), None) or what
            expected = list(content[split][column])
            # Labels that mteb numbers (`class_encode_column`) may be names here, in that order
            pairs = set(zip(map(str, values), map(str, expected), strict=True))
            assert len(pairs) == len(set(map(str, values))) == len(set(map(str, expected)))
            in_order = [number for _, number in sorted(pairs)]
            assert in_order == sorted(in_order) or values == expected, (split, what)


@pytest.mark.parametrize("seed", range(8))
def test_stratified_split_is_that_of_datasets(seed):
    generator = np.random.default_rng(seed)
    strata = [f"s{i}" for i in generator.integers(0, generator.integers(2, 9), 61)]
    strata += ["s0", "s1"] * 2
    sizes = [(20, 20), (45, 20), (12, 50), (33, 9)][seed % 4]
    rows = table([{"row": i, "stratum": stratum} for i, stratum in enumerate(strata)])
    rows = rows.class_encode_column("stratum")
    split = rows.train_test_split(*sizes[::-1], seed=42, stratify_by_column="stratum")
    ours = mteb_nl.stratified_split(strata, sizes, np.random.default_rng(42))
    theirs = [list(split[name]["row"]) for name in ("train", "test")]
    assert [part.tolist() for part in ours] == theirs


def test_belebele_is_mtebs(monkeypatch):
    task = mteb_nl.NAMED["BelebeleRetrieval"]
    theirs = mteb.get_task(task.name, hf_subsets=[task.subset])
    rows = [
        {"question": f"v{i % 7}", "link": f"l{i * i % 5}", "flores_passage": f"stuk {i * i % 5}"}
        for i in range(11)
    ]
    module = "mteb.tasks.retrieval.multilingual.belebele_retrieval"
    monkeypatch.setattr(f"{module}.load_dataset", lambda **_: {"test": rows})
    theirs.load_data()
    corpus, queries, qrels = mteb_nl.belebele_tables(rows, "test")
    content = [getattr(theirs, x)[task.subset]["test"] for x in ("queries", "relevant_docs")]
    assert content == [queries, qrels]
    documents = theirs.corpus[task.subset]["test"]
    assert {id: document["text"] for id, document in documents.items()} == corpus


def test_lengths_of_documents_are_counted_as_mteb_counts(tmp_path):
    """A document's characters: title, space and text, without white space at the ends."""
    files = cases.write_case("SciFact-NL.v2", tmp_path)
    content = mteb_nl.read_ranking(*mteb_nl.read_tasks(tmp_path / "tasks.json"), "test")
    reference = mteb_task("SciFact-NL.v2")
    reference.dataset, reference.data_loaded = {"default": {"test": ranking_of(files)}}, True
    counted = reference._calculate_descriptive_statistics_from_split("test")
    for kind, texts in (("documents", content.corpus), ("queries", content.queries)):
        lengths = counted[f"{kind}_text_statistics"]["total_text_length"]
        assert sum(map(len, texts.values())) == lengths


# --- complete tasks -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["VABBClusteringS2S", "STSBenchmarkMultilingualSTS"])
def test_we_read_mtebs_result_files(tmp_path, name):
    files = cases.write_case(name, tmp_path)
    result = mteb_result(*mteb_nl.read_tasks(tmp_path / "tasks.json"), files)
    folder = tmp_path / "results" / "parity__words" / "1"
    folder.mkdir(parents=True)
    result.to_disk(folder / f"{name}.json")
    write_json(folder / "model_meta.json", Model.mteb_model_meta.to_dict())
    ours = report.read_columns_of([folder])["parity/words"][name]["main_score"]
    assert ours == pytest.approx(result.get_score(), abs=1e-6)


EVERY_TYPE = [
    "SIB200Classification", "VABBMultiLabelClassification", "XLWICNLPairClassification",
    "VABBClusteringS2S", "SciFact-NL.v2", "WikipediaRerankingMultilingual",
    "STSBenchmarkMultilingualSTS",
]  # fmt: skip


def test_mtebs_loader_shows_our_results_next_to_its_own(tmp_path, monkeypatch):
    """The same embeddings scored here and by mteb, in one cache of mteb's, under two names."""
    cache, model = mteb.ResultCache(tmp_path / "cache"), "clips/e5-small-trm-nl"
    tasks = []
    for name in EVERY_TYPE:
        (tmp_path / name).mkdir()
        files = cases.write_case(name, tmp_path / name)
        tasks += mteb_nl.read_tasks(tmp_path / name / "tasks.json")
        cache.save_to_cache(mteb_result(tasks[-1], files), Model.mteb_model_meta)
    settings = {"model": model, "weights": "f" * 64}
    results = list(evaluate.run(tasks, cases.embed, tmp_path / "out", settings))
    (path,) = tmp_path.glob("out/results/*/*/model_meta.json")
    meta = mteb.models.ModelMeta.model_validate_json_resolved(path.read_text())
    assert (meta.name, meta.revision, meta.languages) == (model, "f" * 40, ["nld-Latn"])
    shutil.copytree(tmp_path / "out/results", tmp_path / "cache/results", dirs_exist_ok=True)

    # Each type's file alone: its mean, type, language and splits
    for result, _ in results:
        read = mteb.TaskResult.from_disk(tmp_path / "out" / f"{result['task_name']}.json")
        assert read.get_score() == pytest.approx(result["main_score"], abs=1e-12)
        assert (read.task_type, read.languages) == (result["task_type"], ["nld"])
        assert read.eval_splits == list(result["scores"])

    # A row of each task, with both models' scores
    expected = cache.load_results(["parity/words"]).to_dataframe().set_index("task_name")
    references = [mteb_task(name) for name in EVERY_TYPE]
    for options in ({}, {"tasks": references, "validate_and_filter": True}):
        frame = cache.load_results(**options).to_dataframe().set_index("task_name")
        assert sorted(frame.index) == sorted(EVERY_TYPE)
        assert np.allclose(frame[model], expected["parity/words"], atol=5e-6)

    # The other loader, and the benchmark's table, which shows models that mteb knows
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    with pytest.warns(DeprecationWarning):
        read = mteb.load_results(download_latest=False)
    counts = {(x.model_name, x.model_revision): len(x.task_results) for x in read.model_results}
    assert counts == {("parity/words", "1"): 7, (model, "f" * 40): 7}
    benchmark = mteb.get_benchmark("MTEB(nld, v1)")
    shown = cache.load_results(tasks=benchmark).get_benchmark_result()
    assert len(shown) == 1 and model.split("/")[1] in shown["Model"].iloc[0]


REAL = ["SIB200Classification", "SIB200ClusteringS2S", "SICKNLPairClassification", "SICK-NL-STS"]


ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A real encoder folder: the real tokenizer of XLM-R and random weights."""
    folder = tmp_path_factory.mktemp("encoder") / "model"
    options = "--width 64 --layers 2 --out".split()
    tokenizer = str(ROOT / "demo/tokenizer.json.xz")
    e5nl.main(["init", "--tokenizer", tokenizer, *options, str(folder)])
    return folder


def peer_of(encoder, prefix: str):
    """The encoder in sentence-transformers, with mteb's wrapper that gives it these prefixes."""
    if prefix == "mteb":
        from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

        prompts = {"query": "query: ", "document": "passage: "}
        return SentenceTransformerEncoderWrapper(str(encoder), model_prompts=prompts)
    from mteb.models.instruct_wrapper import InstructSentenceTransformerModel

    template = "Instruct: {instruction}\nQuery: "
    options = {"instruction_template": template, "apply_instruction_to_passages": False}
    return InstructSentenceTransformerModel(str(encoder), None, **options)


@pytest.mark.parametrize("prefix, names", [("mteb", REAL), ("instruct", REAL[1:3])])
def test_the_real_tasks_end_to_end(tmp_path, encoder, prefix, names):
    """MTEB-NL's four complete tasks in demo/: all ours, and mteb with sentence-transformers."""
    file, model = ROOT / "demo/tasks.json", peer_of(encoder, prefix)
    paths = ["--model", str(encoder), "--tasks-file", str(file), "--out", str(tmp_path / "out")]
    evaluate.main(["run", *paths, "--prefix", prefix, "--tasks", *names])
    results = report.read_results(tmp_path / "out")
    for task in mteb_nl.select_tasks(mteb_nl.read_tasks(file), names):
        # mteb's names of the columns
        renamed = {"label": "labels"} if task.type in ("Clustering", "PairClassification") else {}
        if task.type == "Clustering":
            renamed["text"] = "sentences"
        files = {}
        for path in (path for split in task.files.values() for path in split["rows"]):
            rows = (row for _, row in read_jsonl(path))
            files[path.name] = [{renamed.get(x, x): row[x] for x in row} for row in rows]
        for split, expected in mteb_scores(task, files, model).items():
            # Embeddings of the two differ in their last digits (1e-7): a prediction may flip, and
            # k-means take another turn
            tolerance = 5e-3 if task.type == "Clustering" else 1e-4
            if task.type == "Classification":
                tolerance = 2.1 / len(files[f"{split}.jsonl.gz"])
            ours = results[task.name]["scores"][split][0]["main_score"]
            assert abs(ours - expected[task.main_score]) <= tolerance, (task.name, split)


def write_golden() -> None:
    import tempfile

    golden = {}
    for name in cases.CASES:
        with tempfile.TemporaryDirectory() as folder:
            files = cases.write_case(name, Path(folder))
            (task,) = mteb_nl.read_tasks(Path(folder) / "tasks.json")
            for split, scores in mteb_scores(task, files).items():
                golden.setdefault(name, {})[split] = {
                    score: round(float(value), 7)
                    for score, value in scores.items()
                    if isinstance(value, int | float) and "nauc" not in score and value == value
                }
    write_json(GOLDEN, golden)


if __name__ == "__main__":
    write_golden()
