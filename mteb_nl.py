"""The tasks of MTEB-NL, `MTEB(nld, v1)`: which data, how it is read, what is scored (arXiv
2509.12340).

`TASKS` is the benchmark: 40 tasks of seven types. A task names its files on the Hugging Face hub by
repository, revision and configuration; which files those are the repository's own README.md says,
as for the `datasets` library. They are read from the hub's cache (`HF_HOME` says where that is),
and downloaded when they are not in it; with HF_HUB_OFFLINE=1 nothing is.

A task of one's own is described in a task file, next to its data; the names of files are relative
to it and never lead out of its folder:

    {"tasks": [
      {"name": "Sib", "type": "Classification", "train": "sib/train.jsonl.gz",
       "splits": {"test": "sib/test.jsonl.gz"}},
      {"name": "SibClusters", "type": "Clustering",
       "splits": {"test": ["sib/train.jsonl.gz", "sib/test.jsonl.gz"]}},
      {"name": "Faq", "type": "Retrieval", "splits": {"test": "faq"}, "translated": false},
      {"name": "FaqReranking", "type": "Reranking",
       "splits": {"test": {"folder": "rerank", "corpus": "faq/corpus.jsonl"}}}]}

Files are tables (JSON Lines, parquet, CSV) with mteb's columns (see TYPES; `"columns": {"text":
"headline"}` names others); several files of a split are read one after the other. A split of a
retrieval task is a folder in BEIR layout. The candidates of a query are listed in its
`top_ranked.jsonl` (`query-id`, `corpus-ids`); without that file they are the judged documents,
those of grade 0 included. Other fields of a task: `main_score`, `samples_per_label`,
`ignore_identical_ids`, `prompt`, `translated`, `language` (`fry-Latn`).

Left out on purpose: other languages of the benchmark's multilingual tasks; tasks with images, or
with instructions for each query.
"""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import beir_file, qrels_of, texts_by_id
from files import InputError, hub_folder, inside, kind_of, read_json, read_rows, reading

# --- what a task of each type has -----------------------------------------------------------------


class Kind(NamedTuple):
    """What a value may be: the test, and what to expect instead."""

    fits: Callable[[object], bool]
    expected: str


def is_number(value) -> bool:
    """Whether it is a number that a float can hold: not NaN, not infinite, not of 400 digits."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def is_label(value) -> bool:
    return isinstance(value, str) or (
        is_number(value) and value == int(value) and abs(value) < 2**63
    )


TEXT = Kind(lambda value: isinstance(value, str), "a text")
LABEL = Kind(is_label, "a text or a whole number")
LABELS = Kind(
    lambda value: isinstance(value, list) and all(map(is_label, value)),
    "a list of texts or whole numbers",
)
BINARY = Kind(lambda value: isinstance(value, int | float) and value in (0, 1), "0 or 1")
NUMBER = Kind(is_number, "a number")
FLAG = Kind(lambda value: isinstance(value, bool), "true or false")


def text_like(pattern: str, expected: str) -> Kind:
    """A text that a regular expression matches."""
    return Kind(lambda value: isinstance(value, str) and re.fullmatch(pattern, value), expected)


def dict_like(pattern: str, kind: type, expected: str) -> Kind:
    """One or more values of a kind, by names that a regular expression matches."""

    def fits(key: str, value) -> bool:
        return bool(re.fullmatch(pattern, key)) and isinstance(value, kind)

    return Kind(
        lambda x: isinstance(x, dict) and x and all(fits(*item) for item in x.items()), expected
    )


class Type(NamedTuple):
    """A type of tasks: its usual main score and the possible ones (a regular expression), {what:
    (names that its column may have, kind)}, and mteb's instruction where a task has none."""

    main_score: str
    scores: str
    columns: dict[str, tuple[list[str], Kind]]
    prompt: str


PAIR = {"sentence1": (["sentence1"], TEXT), "sentence2": (["sentence2"], TEXT)}
RANKED = "(ndcg|map|recall|precision|mrr|hit_rate)_at_(1|3|5|10|20|100|1000)|accuracy"
TYPES = {
    "Classification": Type(
        "accuracy", "accuracy|(f1|precision|recall)(_weighted)?|ap(_weighted)?",
        {"text": (["text"], TEXT), "label": (["label"], LABEL)}, "Classify user passages."),
    "MultilabelClassification": Type(
        "f1", "f1|accuracy|lrap|hamming",
        {"text": (["text"], TEXT), "label": (["label"], LABELS)}, "Classify user passages."),
    "PairClassification": Type(
        "max_ap",
        "(max|similarity|cosine|manhattan|euclidean|dot)_(ap|accuracy|f1|precision|recall)",
        PAIR | {"label": (["labels", "label"], BINARY)},
        "Retrieve text that are semantically similar to the given text."),
    "Clustering": Type(
        "v_measure", "v_measure|ami",
        {"text": (["sentences", "text"], TEXT), "label": (["labels", "label"], LABEL)},
        "Identify categories in user passages."),
    "Reranking": Type("map_at_1000", RANKED, {}, "Retrieve text based on user query."),
    "Retrieval": Type("ndcg_at_10", RANKED, {}, "Retrieve text based on user query."),
    "STS": Type(
        "cosine_spearman", "((cosine|manhattan|euclidean)_)?(spearman|pearson)",
        PAIR | {"score": (["score"], NUMBER)}, "Retrieve semantically similar text."),
}  # fmt: skip
TRAINED, RANKING = ("Classification", "MultilabelClassification"), ("Retrieval", "Reranking")
# What a task or a split may be called: it becomes part of a file's name; summary.json is taken
FILE_NAME = r"(?!summary$)\w[\w.-]*"

Table = list[dict]  # rows


@dataclasses.dataclass(frozen=True)
class Task:
    """One task: what to read and how to score it. Few tasks have fields beyond `splits`."""

    name: str
    type: str
    repository: str  # owner/name@revision on the hub; empty: the task's data is in `files`
    main_score: str
    prompt: str  # the instruction for models that want one
    splits: tuple[str, ...] = ("test",)  # those that are scored
    subset: str = "default"  # the hub's name of the Dutch part
    samples_per_label: int = 8  # training texts of each label in one experiment
    ignore_identical_ids: bool = False  # take the document with the query's id out of its ranking
    config: str = ""  # the hub's configuration, where it is not the subset
    only_lang: str = ""  # the configuration holds all languages: keep the rows with this `lang`
    parts: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # a split of splits
    columns: dict[str, str] = dataclasses.field(default_factory=dict)  # {what: its column}
    transform: Callable[[Table, str], object] | None = None  # (rows, split) -> rows or a Ranking
    language: str = "nld-Latn"  # for the result file: ISO 639-3 and ISO 15924
    translated: bool | None = None  # from another language by people or machines; None: not known
    # See `locate`
    files: dict[str, dict[str, list[Path]]] = dataclasses.field(default_factory=dict)

    @property
    def revision(self) -> str:
        return self.repository.partition("@")[2] or "local"


def _task(name: str, type: str, repository: str, **fields) -> Task:
    """A task with its type's main score and prompt; one of the benchmark is native unless said."""
    usual = {"main_score": TYPES[type].main_score, "prompt": TYPES[type].prompt}
    usual["translated"] = False if repository else None
    return Task(name, type, repository, **(usual | fields))


# --- what a task does beyond its type -------------------------------------------------------------


def covid_labels(rows: Table, split: str) -> Table:
    """Only texts with a claim that can be checked (question 1); the labels are those of the other
    six questions whose answer is yes, numbered from 0."""

    def yes(row: dict) -> list[int]:
        return [i for i in range(6) if row[f"q{i + 2}_label"] == "yes"]

    checkable = (row for row in rows if row["q1_label"] == "yes")
    return [{"text": row["text"], "label": yes(row)} for row in checkable]


def title_and_abstract(rows: Table, split: str) -> Table:
    """The text is both, on two lines."""
    return [row | {"text": f"{row['title']}\n{row['abstract']}"} for row in rows]


def hatecheck_split(rows: Table, split: str) -> Table:
    """1,000 texts to train on and 1,000 others to test on, in the proportions of the kinds of hate;
    'hateful' is label 0."""
    strata = [row["functionality"] for row in rows]
    parts = stratified_split(strata, (1000, 1000), np.random.default_rng(42))
    names = sorted({str(row["is_hateful"]) for row in rows})
    chosen = [rows[i] for i in parts[0 if split == "train" else 1]]
    return [{"text": row["text"], "label": names.index(str(row["is_hateful"]))} for row in chosen]


def stratified_split(
    strata: list, sizes: tuple[int, ...], generator: np.random.Generator
) -> list[np.ndarray]:
    """Disjoint random rows, as many as each of `sizes`, in the proportions of the strata.

    The draws of `datasets`' train_test_split: each stratum gives its share rounded down; the rows
    still missing come from those with the largest remainders, ties drawn.
    """
    # How many rows of each stratum each part gets, of those that the parts before it left
    names, stratum = np.unique(strata, return_inverse=True)
    left, shares = np.bincount(stratum), []
    for size in sizes:
        exact = size * left / left.sum()
        share = np.floor(exact)
        remainder, missing = exact - share, size - int(share.sum())
        # From the largest remainder down
        for value in np.unique(remainder)[::-1]:
            if missing:
                equal = np.flatnonzero(remainder == value)
                chosen = generator.choice(equal, min(missing, len(equal)), replace=False)
                share[chosen] += 1
                missing -= len(chosen)
        shares.append(share.astype(int))
        left = left - shares[-1]

    # Which rows: each stratum in random order, then each part
    parts = [[] for _ in sizes]
    for number in range(len(names)):
        rows = generator.permutation(np.flatnonzero(stratum == number))
        for part, share in zip(parts, shares, strict=True):
            part += rows[: share[number]].tolist()
            rows = rows[share[number] :]
    return [generator.permutation(part) for part in parts]


def belebele_tables(rows: Table, split: str) -> tuple[dict, dict, dict]:
    """Corpus, queries and qrels (see `Ranking`): the distinct passages, the distinct questions, and
    for each question the passages it was asked about."""
    passages, questions, qrels = {}, {}, {}
    for row in rows:
        passages.setdefault(row["link"], (f"C{len(passages)}", row["flores_passage"]))
        query = questions.setdefault(row["question"], f"Q{len(questions)}")
        qrels.setdefault(query, {})[passages[row["link"]][0]] = 1
    return dict(passages.values()), {id: question for question, id in questions.items()}, qrels


# --- the table ------------------------------------------------------------------------------------

# Facts as in mteb 2.26 (tests/parity/test_mteb.py compares every field). `translated` is mteb's
# account of how a text was made, except for Belebele: mteb says "created", but its passages are
# those of FLORES, translated from English by people.
TASKS = [
    # Classification
    _task("DutchBookReviewSentimentClassification.v2", "Classification",
        "mteb/dutch_book_review_sentiment@73cffedb578b628588db03b8608880cf95688bb2",
        prompt="Classificeer de gegeven boekrecensie als positieve of negatieve sentiment"),
    _task("MassiveIntentClassification", "Classification",
        "mteb/amazon_massive_intent@4672e20407010da34463acc759c162ca9734bca6",
        subset="nl", splits=("validation", "test"), config="default", only_lang="nl",
        translated=True,
        prompt="Given a user utterance as query, find the user intents"),
    _task("MassiveScenarioClassification", "Classification",
        "mteb/amazon_massive_scenario@fad2c6e8459f9e1c45d9315f4953d921437d70f8",
        subset="nl", splits=("validation", "test"), config="default", only_lang="nl",
        translated=True,
        prompt="Given a user utterance as query, find the user scenarios"),
    _task("SIB200Classification", "Classification",
        "mteb/sib200@a74d7350ea12af010cfb1c21e34f1f81fd2e615b",
        subset="nld_Latn", splits=("train", "validation", "test"), columns={"label": "category"},
        translated=True),
    _task("MultiHateClassification", "Classification",
        "mteb/multi-hatecheck@8f95949846bb9e33c6aaf730ccfdb8fe6bcfb7a9",
        subset="nld", config="default", only_lang="nld", transform=hatecheck_split,
        parts={"train": ("test",), "test": ("test",)}),
    _task("VaccinChatNLClassification", "Classification",
        "clips/VaccinChatNL@bd27d0058bea2ad52470d9072a3b5da6b97c1ac3",
        main_score="f1", columns={"text": "sentence1"},
        prompt="Gegeven een gebruikersuiting als query, bepaal de gebruikersintenties"),
    _task("DutchColaClassification", "Classification",
        "clips/mteb-nl-dutch-cola@2269ed7d95d8abaab829f1592b4b2047372e9f81",
        main_score="f1", samples_per_label=128,
        prompt="Classificeer de gegeven zin als grammaticaal aanvaardbaar of niet aanvaardbaar"),
    _task("DutchGovernmentBiasClassification", "Classification",
        "clips/mteb-nl-dutch-government-bias-detection@bf5e20ee2d3ce2e24e4de50f5dd8573e0e0e2fec",
        main_score="f1", samples_per_label=32,
        prompt="Classificeer het gegeven overheidsdocument als bevooroordeeld of niet "
            "bevooroordeeld"),
    _task("DutchSarcasticHeadlinesClassification", "Classification",
        "clips/mteb-nl-sarcastic-headlines@7e520e36394795859583f84f81fcb97de915d05a",
        main_score="f1", columns={"text": "headline", "label": "is_sarcastic"},
        prompt="Classificeer de gegeven krantenkop als sarcastisch of niet sarcastisch"),
    _task("DutchNewsArticlesClassification", "Classification",
        "clips/mteb-nl-news-articles-cls@0a7227d31f85c5676be92767f8df5405ea93de54",
        main_score="f1",
        prompt="Classificeer het gegeven nieuwsartikel in het juiste onderwerp of thema"),
    _task("OpenTenderClassification", "Classification",
        "clips/mteb-nl-opentender-cls-pr@9af5657575a669dc18c7f897a67287ff7d1a0c65",
        main_score="f1",
        prompt="Classificeer de gegeven aanbestedingsbeschrijving in het juiste "
            "onderwerp of thema"),
    _task("IconclassClassification", "Classification",
        "clips/mteb-nl-iconclass-cls@1cd02f1579dab39fedc95de8cc15fd620557a9f2",
        main_score="f1", samples_per_label=32,
        prompt="Classificeer de gegeven titel van het kunstwerk in het juiste onderwerp of thema"),
    # PairClassification
    _task("SICKNLPairClassification", "PairClassification",
        "clips/mteb-nl-sick-pcls-pr@a13a1892bcb4c077dc416d390389223eea5f20f0",
        translated=True,
        prompt="Zoek tekst die semantisch vergelijkbaar is met de gegeven tekst."),
    _task("XLWICNLPairClassification", "PairClassification",
        "clips/mteb-nl-xlwic@0b33ce358b1b5d500ff3715ba3d777b4d2c21cb0",
        prompt="Zoek tekst die semantisch vergelijkbaar is met de gegeven tekst."),
    # MultilabelClassification
    _task("CovidDisinformationNLMultiLabelClassification", "MultilabelClassification",
        "clips/mteb-nl-COVID-19-disinformation@7ad922bdef875db1f530847c6ffff05fc154f2e8",
        transform=covid_labels,
        prompt="Classificeer COVID-19-gerelateerde sociale media-berichten in alle "
            "toepasselijke desinformatiecategorieën"),
    _task("MultiEURLEXMultilabelClassification", "MultilabelClassification",
        "mteb/eurlex-multilingual@2aea5a6dc8fdcfeca41d0fb963c0a338930bde5c",
        main_score="accuracy", subset="nl"),
    _task("VABBMultiLabelClassification", "MultilabelClassification",
        "clips/mteb-nl-vabb-mlcls-pr@584c70f5104671772119f21e9f8a3c912ac07d4a",
        samples_per_label=128,
        prompt="Classificeer de onderwerpen van een wetenschappelijk artikel op basis "
            "van de abstract"),
    # Clustering
    _task("DutchNewsArticlesClusteringS2S", "Clustering",
        "clips/mteb-nl-news-articles-cls@0a7227d31f85c5676be92767f8df5405ea93de54",
        columns={"text": "title", "label": "label"},
        prompt="Identificeer de hoofdcategorie van nieuwsartikelen op basis van de titels"),
    _task("DutchNewsArticlesClusteringP2P", "Clustering",
        "clips/mteb-nl-news-articles-cls@0a7227d31f85c5676be92767f8df5405ea93de54",
        columns={"text": "text", "label": "label"},
        prompt="Identificeer de hoofdcategorie van nieuwsartikelen op basis van de "
            "titels en de inhoud"),
    _task("SIB200ClusteringS2S", "Clustering",
        "mteb/sib200@a74d7350ea12af010cfb1c21e34f1f81fd2e615b",
        subset="nld_Latn", columns={"text": "text", "label": "category"},
        parts={"test": ("train", "validation", "test")}, translated=True),
    _task("VABBClusteringS2S", "Clustering",
        "clips/mteb-nl-vabb-cls@544acc2e46909eab2b49962b043a18b9c9772770",
        columns={"text": "title", "label": "org_discipline"},
        prompt="Identificeer de hoofdcategorie van wetenschappelijke artikelen op "
            "basis van de titels"),
    _task("VABBClusteringP2P", "Clustering",
        "clips/mteb-nl-vabb-cls@544acc2e46909eab2b49962b043a18b9c9772770",
        columns={"text": "text", "label": "org_discipline"}, transform=title_and_abstract,
        prompt="Identificeer de hoofdcategorie van wetenschappelijke artikelen op "
            "basis van de titels en abstracts"),
    _task("OpenTenderClusteringS2S", "Clustering",
        "clips/mteb-nl-opentender-clst-s2s-pr@ad86cf1813d130e17dda0092d1c4f2c664e68d0c",
        prompt="Identificeer de hoofdcategorie van aanbestedingen op basis van de titels"),
    _task("OpenTenderClusteringP2P", "Clustering",
        "clips/mteb-nl-opentender-cls-pr@9af5657575a669dc18c7f897a67287ff7d1a0c65",
        columns={"text": "text", "label": "label"},
        prompt="Identificeer de hoofdcategorie van aanbestedingen op basis van de "
            "titels en beschrijvingen"),
    _task("IconclassClusteringS2S", "Clustering",
        "clips/mteb-nl-iconclass-cls@1cd02f1579dab39fedc95de8cc15fd620557a9f2",
        columns={"text": "text", "label": "label"},
        prompt="Identificeer het onderwerp of thema van kunstwerken op basis van de titels"),
    # Reranking
    _task("WikipediaRerankingMultilingual", "Reranking",
        "mteb/WikipediaRerankingMultilingual@803771c366038ed587b21e3d8fe25f8f73134fad",
        subset="nl"),
    # Retrieval
    _task("ArguAna-NL.v2", "Retrieval",
        "clips/beir-nl-arguana@4cd085d148fe2cac923bb7758d6ef585926170ba",
        ignore_identical_ids=True, translated=True,
        prompt="Gegeven een bewering, vind documenten die de bewering weerleggen"),
    _task("SCIDOCS-NL.v2", "Retrieval",
        "clips/beir-nl-scidocs@4e018aa220029f9d1bd5a31de3650e322e32ea38",
        translated=True,
        prompt="Gegeven de titel van een wetenschappelijk artikel, haal de abstracts "
            "op van artikelen die door het gegeven artikel worden geciteerd"),
    _task("SciFact-NL.v2", "Retrieval",
        "clips/beir-nl-scifact@856d8dfc294b138856bbf3042450e3782321e44e",
        translated=True,
        prompt="Given a scientific claim, retrieve documents that support or refute the claim"),
    _task("NFCorpus-NL.v2", "Retrieval",
        "clips/beir-nl-nfcorpus@942953e674fd0f619ff89897abb806dc3df5dd39",
        translated=True,
        prompt="Gegeven een vraag, haal relevante documenten op die de vraag het "
            "beste beantwoorden"),
    _task("BelebeleRetrieval", "Retrieval",
        "mteb/belebele@979a211276faa22f671e69d096634193567cfd05",
        subset="nld_Latn-nld_Latn", config="nld_Latn", transform=belebele_tables, translated=True),
    _task("WebFAQRetrieval", "Retrieval",
        "mteb/WebFAQRetrieval@f64f483ad0f31d2e78209d524c14a4a867965959",
        subset="nld"),
    _task("DutchNewsArticlesRetrieval", "Retrieval",
        "clips/mteb-nl-news-articles-ret@c8042a86f3eb0d1fcec79a4a44ebf1eafe635462",
        prompt="Gegeven een titel, haal het nieuwsartikel op dat het beste bij de titel past"),
    _task("bBSARDNLRetrieval", "Retrieval",
        "clips/mteb-nl-bbsard@52027c212ba9765a3e9737c9cbf9a06ae83cbb93",
        ignore_identical_ids=True,
        prompt="Gegeven een juridische vraag, haal documenten op die kunnen helpen "
            "bij het beantwoorden van de vraag"),
    _task("LegalQANLRetrieval", "Retrieval",
        "clips/mteb-nl-legalqa-pr@8f593522dfbe7ec07055ca9d38a700e7643d3882",
        ignore_identical_ids=True,
        prompt="Gegeven een juridische vraag, haal documenten op die kunnen helpen "
            "bij het beantwoorden van de vraag"),
    _task("OpenTenderRetrieval", "Retrieval",
        "clips/mteb-nl-opentender-ret@83eec1aa9c58f1dc8acfac015f653a9c25bda3f4",
        prompt="Gegeven een titel, haal de aanbestedingsbeschrijving op die het beste "
            "bij de titel past"),
    _task("VABBRetrieval", "Retrieval",
        "clips/mteb-nl-vabb-ret@af4a1e5b3ed451103894f86ff6b3ce85085d7b48",
        prompt="Gegeven een titel, haal de wetenschappelijke abstract op die het "
            "beste bij de titel past"),
    _task("WikipediaRetrievalMultilingual", "Retrieval",
        "mteb/WikipediaRetrievalMultilingual@5f6c91d21f2f5b9afb663858d19848fbd223c775",
        subset="nl"),
    # STS
    _task("SICK-NL-STS", "STS",
        "clips/mteb-nl-sick-sts-pr@7f88f003fc4e37ed8cd9ade84e390d871b032fef",
        translated=True,
        prompt="Haal semantisch vergelijkbare tekst op"),
    _task("STSBenchmarkMultilingualSTS", "STS",
        "mteb/stsb_multi_mt@29afa2569dcedaaa2fe6a3dcfebab33d28b82e8c",
        subset="nl", splits=("dev", "test"), config="default", only_lang="nl",
        columns={"score": "similarity_score"}, translated=True),
]  # fmt: skip
NAMED = {task.name: task for task in TASKS}


@functools.cache
def published() -> dict:
    """What mteb publishes of tasks and models."""
    return read_json(Path(__file__).with_name("published.json"))


# --- which tasks ----------------------------------------------------------------------------------


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """The user's mistakes that the block finds are reported with `where` before them."""
    try:
        yield
    except (InputError, FileNotFoundError) as error:
        raise type(error)(f"{where}: {error}") from None


def nearest(name, names) -> str:
    """For a message: the names closest to an unknown one, or those that contain it, or all."""
    lower, unknown = {known.lower(): known for known in names}, str(name).lower()
    close = difflib.get_close_matches(unknown, lower, cutoff=0.4)
    close = close or [known for known in lower if unknown and unknown in known][:3]
    if close:
        return f"did you mean {' or '.join(lower[known] for known in close)}?"
    listed, many = list(names), len(names) > 100
    return f"expected one of {', '.join(listed[:3] if many else listed)}{', …' * many}"


def select_tasks(tasks: list[Task], wanted: list[str]) -> list[Task]:
    """Those tasks, in their order, that `wanted` lists by name or type, as `native`, `translated`
    (from another language) or `all`."""
    # All that each task may be called; of some it is not known whether they are translated
    origin = {True: "translated", False: "native", None: "all"}
    called = [("all", origin[task.translated], task.type, task.name) for task in tasks]
    known = dict.fromkeys(name for names in called for name in names)
    for name in wanted:
        if name not in known:
            raise InputError(f"task {name!r} is unknown; {nearest(name, known)}")
    return [task for task, names in zip(tasks, called, strict=True) if set(names) & set(wanted)]


def read_tasks(path, language: str = "nld-Latn") -> list[Task]:
    """The tasks of a task file, checked; their files exist. language: of tasks that name none."""
    content, tasks = read_json(path), {}
    entries = content.get("tasks")
    fits = isinstance(entries, list) and {*map(type, entries)} == {dict}
    if not fits or content.keys() != {"tasks"}:
        expected = '{"tasks": [{"name": …, "type": …, "splits": …}, …]}'
        raise InputError(f"{path}: expected {expected} and no other field")
    with reading(path):
        for entry in entries:
            name = entry["name"]
            with reading(f"{path}: task {name!r}") as where:
                if name in tasks:
                    raise InputError(f"{where}: is given more than once")
                entry = {"language": language} | entry
                tasks[name] = _parse_task(entry, Path(path).parent, where)
    return list(tasks.values())


def _parse_task(entry: dict, folder: Path, where) -> Task:
    """A task from its entry in a task file. where: for messages."""
    type = entry["type"]
    if str(type) not in TYPES:
        raise InputError(f"{where}: type {type!r} is unknown; {nearest(type, TYPES)}")
    columns, scores = TYPES[type].columns, TYPES[type].scores

    # Its fields; an unknown one would silently change nothing
    fields = {
        "name": text_like(FILE_NAME, "letters, digits, '.', '_' and '-', and not summary"),
        "type": TEXT,
        "splits": dict_like(FILE_NAME, object, "{split: files, …}"),
        "main_score": text_like(scores, f"a score of {type}, such as {TYPES[type].main_score}"),
        "columns": dict_like("|".join(columns), str, f"{{what: column}} of {list(columns)}"),
        "samples_per_label": Kind(lambda x: isinstance(x, int) and x > 0, "a whole number above 0"),
        "ignore_identical_ids": FLAG,
        "prompt": TEXT,
        "translated": FLAG,
        "language": text_like("[a-z]{3}-[A-Z][a-z]{3}", "a language and a script as in nld-Latn"),
    }
    if type in TRAINED:
        fields["train"] = Kind(bool, "a file or a list of files")
    for field, value in entry.items():
        if field not in fields:
            raise InputError(f"{where}: {type} has no field {field!r}; {nearest(field, fields)}")
        if not fields[field].fits(value):
            raise InputError(f"{where}: {field} is {value!r}; expected {fields[field].expected}")

    # Its files exist
    splits = entry.pop("splits")
    named = splits | ({"train": entry.pop("train")} if type in TRAINED else {})
    find = _ranking_files if type in RANKING else _table_files
    files = {split: find(names, folder, split, where) for split, names in named.items()}
    return _task(**entry, repository="", splits=tuple(splits), files=files)


def _table_files(names, folder: Path, split: str, where) -> dict[str, list[Path]]:
    """The tables of a split: they exist, inside the folder."""
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not names:
        raise InputError(f"{where}: {split}: found {names!r}; expected a file or a list of files")
    return {"rows": [_existing(inside(folder, name, where), where) for name in names]}


def _ranking_files(names, folder: Path, split: str, where) -> dict[str, list[Path]]:
    """The files of a split in BEIR layout: they exist, inside the folder."""
    names = {"folder": names} if isinstance(names, str) else names
    known = {"folder", "corpus", "queries"}
    if not isinstance(names, dict) or "folder" not in names or not names.keys() <= known:
        expected = 'expected a folder, or {"folder": …, "corpus": file, "queries": file}'
        raise InputError(f"{where}: {split}: found {names!r}; {expected}")

    # The usual names, but for the files that are elsewhere
    paths = {what: inside(folder, name, where) for what, name in names.items()}
    own = paths.pop("folder")
    usual = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": f"qrels/{split}.tsv"}
    paths = {what: own / name for what, name in usual.items()} | paths
    files = {what: [_existing(path, where)] for what, path in paths.items()}
    return files | {"top_ranked": sorted(own.glob("top_ranked.jsonl*"))}


def _existing(path: Path, where) -> Path:
    """The file, or the one with `.gz` added."""
    with naming(where):
        return beir_file(path.parent, path.name)


# --- where their files are ------------------------------------------------------------------------


def read_card(path: Path) -> dict[str, dict[str, list[str]]]:
    """{configuration: {split: patterns of its files}}, from the YAML head of the README.md of a hub
    repository."""
    from huggingface_hub import metadata_load  # here: slow to import, and only hub names need it

    card = {}
    with reading(path):
        head = metadata_load(path) if path.is_file() else None
        for config in (head or {}).get("configs") or []:
            # Files alone are the split train, as in `datasets`
            files = config["data_files"]
            if isinstance(files, str) or not isinstance(files[0], dict):
                files = [{"split": "train", "path": files}]
            splits = card[config["config_name"]] = {}
            for part in files:
                paths = part["path"]
                splits[part["split"]] = [paths] if isinstance(paths, str) else paths
    return card


def split_patterns(card: dict, config: str, split: str, alone: bool = False) -> list[str]:
    """The patterns of a split's files. alone: a configuration's only split counts, whatever its
    name."""
    # A repository without configurations: where `datasets` looks
    if not card and config == "default":
        return [f"{folder}{split}{end}" for folder in ("", "data/") for end in (".*", "-*", "/*")]

    if config == "default" and len(card) == 1:
        (config,) = card
    splits = card.get(config, {})
    if alone and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        raise InputError(f"README.md lists no split {split!r} of configuration {config!r}")
    return splits[split]


def patterns(task: Task, split: str, card: dict) -> dict[str, list[str]]:
    """{what: patterns of files} of a split in the task's repository; what as in `locate`."""
    if task.type not in RANKING or task.transform:
        config, parts = task.config or task.subset, task.parts.get(split, (split,))
        return {"rows": [name for part in parts for name in split_patterns(card, config, part)]}
    # A ranking has a configuration for each of its tables
    prefix = "" if task.subset == "default" else f"{task.subset}-"
    configs = {what: f"{prefix}{what}" for what in ("corpus", "queries", "qrels")}
    if "query" in card:
        configs["queries"] = "query"
    if not prefix and "default" in card:
        configs["qrels"] = "default"
    if task.type == "Reranking":
        configs["top_ranked"] = f"{prefix}top_ranked"
    return {
        what: split_patterns(card, config, split, alone=True) for what, config in configs.items()
    }


@functools.cache
def hub_copy(repository: str, names: tuple[str, ...]) -> Path:
    """`hub_folder`, asked once in a process: the hub counts requests."""
    return hub_folder(repository, list(names))


def matching(folder: Path, names: list[str]) -> list[Path]:
    """The files in a folder that match: those of one pattern by name, one pattern after the
    other."""
    files = {}
    for name in names:
        pattern = inside(folder, name, "README.md").relative_to(folder)
        files |= {path: None for path in sorted(folder.glob(str(pattern))) if path.is_file()}
    if not files:
        raise FileNotFoundError(f"{folder}: no file {' or '.join(names)}; download the task again")
    return list(files)


def splits_read(task: Task) -> list[str]:
    """The splits that a task needs: the one that it is trained on, and those that are scored."""
    return list(dict.fromkeys((["train"] if task.type in TRAINED else []) + list(task.splits)))


def locate(task: Task, split: str) -> dict[str, list[Path]]:
    """{what: its files} of a split: `rows`, or `corpus`, `queries`, `qrels` and perhaps
    `top_ranked`."""
    if not task.repository:
        return task.files[split]
    # First the list of files, then all that the task needs, at once
    card = read_card(hub_copy(task.repository, ("README.md",)) / "README.md")
    wanted = {part: patterns(task, part, card) for part in splits_read(task)}
    names = [name for part in wanted.values() for names in part.values() for name in names]
    folder = hub_copy(task.repository, ("README.md", *names))
    return {what: matching(folder, names) for what, names in wanted[split].items()}


def fingerprint(task: Task) -> str:
    """SHA-256 of all that decides a task's scores, the content of its files included."""
    names = "type main_score splits samples_per_label ignore_identical_ids only_lang parts columns"
    fields = [getattr(task, name) for name in [*names.split(), "prompt"]]
    fields.append(task.transform and task.transform.__name__)
    digest = hashlib.sha256(repr(fields).encode())
    for split in splits_read(task):
        for what, files in locate(task, split).items():
            digest.update(f"{split} {what}".encode())
            for path in files:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


# --- reading them ---------------------------------------------------------------------------------


def _rows_of(task: Task, split: str, files: list[Path], columns: list) -> list[tuple[str, dict]]:
    """(file:row, row) of a split, of the task's language, transformed. columns: see `read_rows`."""
    # A transform may use any column
    wanted = None if task.transform else columns + (["lang"] if task.only_lang else [])
    with reading(", ".join(map(str, files))) as place:
        rows = [
            (f"{file}:{number}", row)
            for file in files
            for number, row in read_rows(file, wanted)
            if not task.only_lang or row["lang"] == task.only_lang
        ]
        if not rows:
            only = f" with lang {task.only_lang!r}" if task.only_lang else ""
            raise InputError(f"{place}: no rows{only}")

        # What mteb makes of them
        if not task.transform:
            return rows
        changed = task.transform([row for _, row in rows], split)
        return [(f"{place}, after {task.transform.__name__}", row) for row in changed]


def read_columns(task: Task, split: str) -> dict[str, list]:
    """The columns of a split: {'text': […], 'label': […]} or {'sentence1': …, 'sentence2': …,
    'label' or 'score': …}."""
    # What they are called: as the task says, or as is usual
    kinds = TYPES[task.type].columns
    names = {what: usual for what, (usual, _) in kinds.items()}
    names |= {what: [name] for what, name in task.columns.items()}
    files = locate(task, split)["rows"]
    rows = _rows_of(task, split, files, [*names.values()])

    columns = {}
    for what, (_, kind) in kinds.items():
        values = []
        for where, row in rows:
            name = next((name for name in names[what] if name in row), names[what][-1])
            with reading(where):
                values.append(row[name])
        # A CSV file has texts alone
        if kind is not TEXT and kind_of(files[0]) in (".csv", ".tsv"):
            values = _numbers(values, whole=kind is LABEL)
        for (where, _), value in zip(rows, values, strict=True):
            if not kind.fits(value):
                found = f"{what} is {str(value)[:60]!r}"
                raise InputError(f"{where}: {found}; expected {kind.expected}")
        # A label may be written as 2.0
        whole = kind is LABEL
        columns[what] = [int(x) if whole and isinstance(x, float) else x for x in values]

    # Labels, or scores, that can be told apart; numpy would make texts of numbers next to texts
    labels = flat_labels(columns)
    examples = {isinstance(label, str): label for label in labels}
    if len(set(labels)) < 2 or len(examples) > 1:
        found = f"labels are like {str([*examples.values()])[:60]}"
        raise InputError(f"{files[-1]}: {found}; expected two or more, all texts or all numbers")
    return columns


def _numbers(values: list[str], whole: bool) -> list:
    """A column of a CSV file as numbers, if each of its texts is one.

    whole: labels, which are numbers only as Python writes whole ones: `01` and `1` are two labels.
    """
    if whole:
        written = all(re.fullmatch("0|-?[1-9][0-9]{0,17}", str(value)) for value in values)
        return [int(value) for value in values] if written else values
    try:
        return [float(value) for value in values]
    except ValueError:
        return values


def flat_labels(columns: dict[str, list]) -> list:
    """The labels (or scores) of a split; of a multi-label split those of all rows, one after
    another."""
    values = columns.get("label", columns.get("score"))
    return [label for row in values for label in row] if isinstance(values[0], list) else values


class Ranking(NamedTuple):
    """A split of a retrieval or reranking task."""

    queries: dict[str, str]  # id: text
    corpus: dict[str, str]  # id: text, its title before it
    qrels: dict[str, dict[str, int]]  # query id: {document id: grade}
    candidates: dict[str, list[str]]  # query id: document ids; empty: the corpus is searched


def read_ranking(task: Task, split: str) -> Ranking:
    """Queries without judgements are skipped, and so are judgements of unknown queries (as in
    mteb)."""
    # The three tables
    files = locate(task, split)
    if task.transform:
        corpus, queries, qrels = (table for _, table in _rows_of(task, split, files["rows"], []))
    else:
        corpus, queries = texts_by_id(files["corpus"]), texts_by_id(files["queries"])
        qrels = qrels_of(files["qrels"])
    corpus = {id: text.strip() for id, text in corpus.items()}

    # Queries with judgements, and judgements with a query
    qrels = {query: judged for query, judged in qrels.items() if query in queries}
    queries = {query: text for query, text in queries.items() if query in qrels}
    if not queries:
        raise InputError(f"no query of {files['queries'][0]} is judged in {files['qrels'][0]}")
    if task.type == "Retrieval":
        return Ranking(queries, corpus, qrels, {})

    # The candidates of each query are documents
    ranked = files.get("top_ranked")
    where, given = (ranked[0], _top_ranked(ranked)) if ranked else (files["qrels"][0], qrels)
    candidates = {query: list(given.get(query, ())) for query in queries}
    for query, ids in candidates.items():
        unknown = [id for id in ids if id not in corpus]
        if unknown or not ids:
            found = f"{unknown[0]!r} is not in {files['corpus'][0]}" if unknown else "none"
            raise InputError(f"{where}: candidates of query {query!r}: {found}")
    return Ranking(queries, corpus, qrels, candidates)


def _top_ranked(files: list[Path]) -> dict[str, list[str]]:
    """{query id: ids of its candidates, each once}."""
    ranked = {}
    for file in files:
        for number, row in read_rows(file):
            query, ids = row.get("query-id"), row.get("corpus-ids")
            if not isinstance(query, str | int) or not isinstance(ids, list):
                expected = "expected 'query-id' and 'corpus-ids', a list of ids"
                raise InputError(f"{file}:{number}: {expected}")
            ranked[str(query)] = list(dict.fromkeys(map(str, ids)))
    return ranked


def remarks(task: Task, split: str, content: dict | Ranking) -> list[str]:
    """What a user should know of a split: judged documents that do not exist, and texts of the
    benchmark that are not as many, or as long, as mteb counts."""
    lines, sizes = [], {}
    if isinstance(content, Ranking):
        for what, texts in (("corpus", content.corpus), ("queries", content.queries)):
            sizes[what] = [len(texts), sum(map(len, texts.values()))]
        judged = [id for grades in content.qrels.values() for id in grades]
        if missing := [id for id in judged if id not in content.corpus]:
            found = f"{len(missing):,} judged documents are not in the corpus, the first is"
            lines.append(f"{found} {missing[0]!r}; they count as not found")
    else:
        columns = [content[what] for what in ("text", "sentence1", "sentence2") if what in content]
        sizes[split] = [len(columns[0]), sum(len(text) for texts in columns for text in texts)]

    # As many as mteb counts?
    expected = published()["sizes"][task.name] if task.repository else {}
    for what, size in sizes.items():
        if size != expected.get(what, size):
            ours, mtebs = ("{:,} with {:,} characters".format(*x) for x in (size, expected[what]))
            advice = f"is this revision {task.revision[:12]}?"
            lines.append(f"{what}: {ours}, mteb counts {mtebs}; {advice}")
    return lines
