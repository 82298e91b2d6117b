"""The tasks of MTEB-NL, `MTEB(nld, v1)`: which data, how it is read, what is scored (arXiv 2509.12340, the benchmark).

`TASKS` is the whole benchmark: 40 tasks of seven types. A task names its files on the Hugging Face hub by repository, revision and
configuration; which files those are the repository's own README.md says, as for the `datasets` library. They come from the hub's
cache (downloaded when they are not in it), or from a folder that `python evaluate.py download --out DIR` has made, `--data DIR`.

A task of one's own stands in a task file, beside its data; file names are relative to it and never lead out of its folder:

    {"tasks": [
      {"name": "Sib", "type": "Classification", "train": "sib/train.jsonl.gz", "splits": {"test": "sib/test.jsonl.gz"}},
      {"name": "SibClusters", "type": "Clustering", "splits": {"test": ["sib/train.jsonl.gz", "sib/test.jsonl.gz"]}},
      {"name": "Faq", "type": "Retrieval", "splits": {"test": "faq"}, "translated": false},
      {"name": "FaqReranking", "type": "Reranking", "splits": {"test": {"folder": "rerank", "corpus": "faq/corpus.jsonl"}}}]}

Files are tables (JSON Lines, parquet, CSV) with mteb's columns (see TYPES; `"columns": {"text": "headline"}` renames), several files of
a split are read one after the other. A retrieval split is a folder in BEIR layout; the candidates of a query stand in its
`top_ranked.jsonl` (`query-id`, `corpus-ids`), or else are the judged documents of the qrels, zeros included. Other fields of a task:
`main_score`, `samples_per_label`, `ignore_identical_ids`, `prompt`, `translated`, `language` (`fry-Latn`; else that of `--language`).

Left out on purpose: other languages of the benchmark's multilingual tasks, tasks with images or instructions of each query's own.
"""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from data import beir_file, qrels_of, texts_by_id
from files import InputError, hub_folder, inside, kind_of, new_file, read_json, read_rows

# --- what a task of each type has ----------------------------------------------------------------------------------------------

CUTS = (1, 3, 5, 10, 20, 100, 1000)  # ranks at which a ranking is measured; the last is the length of a run


class Kind(NamedTuple):
    """What may stand in a column: the test, and what to expect instead."""

    good: Callable[[object], bool]
    expected: str


def _is_label(value) -> bool:
    if isinstance(value, str):
        return True
    return _is_number(value) and abs(value) < 2**63 and value == int(value)


def _is_number(value) -> bool:
    """Whether it is a number that a float can hold: not NaN, not infinite, not of 400 digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


TEXT = Kind(lambda value: isinstance(value, str), "a text")
LABEL = Kind(_is_label, "a text or a whole number")
LABELS = Kind(lambda value: isinstance(value, list) and all(map(_is_label, value)), "a list of texts or whole numbers")
BINARY = Kind(lambda value: isinstance(value, int | float) and value in (0, 1), "0 or 1")
NUMBER = Kind(_is_number, "a number")


class Type(NamedTuple):
    """A type of tasks: its usual main score, the possible ones, {what: (columns that may hold it, their kind)}, and mteb's instruction
    for a task that has none of its own."""

    main_score: str
    scores: str
    columns: dict[str, tuple[list[str], Kind]]
    prompt: str


PAIR = {"sentence1": (["sentence1"], TEXT), "sentence2": (["sentence2"], TEXT)}
RANKED = rf"(ndcg|map|recall|precision|mrr|hit_rate)_at_({'|'.join(map(str, CUTS))})|accuracy"
TYPES = {
    "Classification": Type("accuracy", "accuracy|(f1|precision|recall)(_weighted)?|ap(_weighted)?",
                           {"text": (["text"], TEXT), "label": (["label"], LABEL)}, "Classify user passages."),
    "MultilabelClassification": Type("f1", "f1|accuracy|lrap|hamming",
                                     {"text": (["text"], TEXT), "label": (["label"], LABELS)}, "Classify user passages."),
    "PairClassification": Type("max_ap", "(max|similarity|cosine|manhattan|euclidean|dot)_(ap|accuracy|f1|precision|recall)",
                               PAIR | {"label": (["labels", "label"], BINARY)},
                               "Retrieve text that are semantically similar to the given text."),
    "Clustering": Type("v_measure", "v_measure|ami", {"text": (["sentences", "text"], TEXT), "label": (["labels", "label"], LABEL)},
                       "Identify categories in user passages."),
    "Reranking": Type("map_at_1000", RANKED, {}, "Retrieve text based on user query."),
    "Retrieval": Type("ndcg_at_10", RANKED, {}, "Retrieve text based on user query."),
    "STS": Type("cosine_spearman", "((cosine|manhattan|euclidean)_)?(spearman|pearson)", PAIR | {"score": (["score"], NUMBER)},
                "Retrieve semantically similar text."),
}  # fmt: skip
TRAINED, RANKING = ("Classification", "MultilabelClassification"), ("Retrieval", "Reranking")
FILE_NAME = r"\w[\w.-]*"  # what a task or a split may be called: it becomes part of a file's name

Table = list[dict]  # rows


@dataclasses.dataclass(frozen=True)
class Task:
    """One task: what to read and how to score it. Of the fields after `splits` few tasks have any; they say all that is special."""

    name: str
    type: str
    repository: str  # owner/name@revision on the hub; empty: the task's data lies in `files`
    main_score: str
    prompt: str  # the instruction for models that want one
    splits: tuple[str, ...] = ("test",)  # those that are scored
    subset: str = "default"  # the hub's name of the Dutch part
    samples_per_label: int = 8  # training texts of each label in one experiment
    ignore_identical_ids: bool = False  # take the document with the query's id out of its ranking
    config: str = ""  # the hub's configuration, where it is not the subset
    only_lang: str = ""  # the configuration holds all languages: keep the rows with this `lang`
    parts: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # a split that is made of other splits of the hub
    columns: dict[str, str] = dataclasses.field(default_factory=dict)  # {what: column}, where mteb renames
    transform: Callable[[Table, str], object] | None = None  # (rows, split) -> rows, or the three tables of a ranking
    needs: tuple[str, ...] = ()  # the columns that the transform reads
    language: str = "nld-Latn"  # what the result file says: ISO 639-3 and ISO 15924
    translated: bool | None = None  # from another language by people or machines; None: not known
    sizes: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)  # mteb's count of texts (of pairs) and characters
    files: dict[str, dict[str, list[Path]]] = dataclasses.field(default_factory=dict)  # a user's: {split: as from `locate`}

    @property
    def revision(self) -> str:
        return self.repository.partition("@")[2] or "local"


def _task(name: str, type: str, repository: str, **fields) -> Task:
    usual = {"main_score": TYPES[type].main_score, "prompt": TYPES[type].prompt, "translated": False if repository else None}
    return Task(name, type, repository, **(usual | fields))


# --- what a task does beyond its type -------------------------------------------------------------------------------------------

COVID_QUESTIONS = ("text", *(f"q{i}_label" for i in range(1, 8)))


def covid_labels(rows: Table, split: str) -> Table:
    """Only texts that make a claim that can be checked (question 1); the labels are the other six questions that say yes, 0 to 5."""
    questions = COVID_QUESTIONS[2:]
    return [{"text": row["text"], "label": [i for i, question in enumerate(questions) if row[question] == "yes"]}
            for row in rows if row["q1_label"] == "yes"]  # fmt: skip


def title_and_abstract(rows: Table, split: str) -> Table:
    """The text is both, on two lines."""
    return [row | {"text": f"{row['title']}\n{row['abstract']}"} for row in rows]


def hatecheck_split(rows: Table, split: str) -> Table:
    """1,000 texts to train on and 1,000 others to test, in the proportions of the kinds of hate; 'hateful' is label 0."""
    numbers = stratified_split([row["functionality"] for row in rows], (1000, 1000), np.random.default_rng(42))
    names = sorted({str(row["is_hateful"]) for row in rows})
    chosen = numbers[0 if split == "train" else 1]
    return [{"text": rows[i]["text"], "label": names.index(str(rows[i]["is_hateful"]))} for i in chosen]


def stratified_split(strata: list, sizes: tuple[int, ...], generator: np.random.Generator) -> list[np.ndarray]:
    """Disjoint random rows, as many as each of `sizes`, in the proportions of the strata; the draws of `datasets`' train_test_split.

    Each stratum gives its share rounded down; the rows still missing come from those with the largest remainders, ties drawn.
    """
    names, stratum = np.unique(strata, return_inverse=True)
    left, shares = np.bincount(stratum), []
    for size in sizes:
        exact = size * left / left.sum()
        share = np.floor(exact)
        remainder, missing = exact - share, size - int(share.sum())
        for value in np.unique(remainder)[::-1]:
            if missing:
                equal = np.flatnonzero(remainder == value)
                chosen = generator.choice(equal, min(missing, len(equal)), replace=False)
                share[chosen] += 1
                missing -= len(chosen)
        shares.append(share.astype(int))
        left = left - shares[-1]
    parts = [[] for _ in sizes]
    for number in range(len(names)):
        rows = generator.permutation(np.flatnonzero(stratum == number))
        for part, share in zip(parts, shares, strict=True):
            part += rows[: share[number]].tolist()
            rows = rows[share[number] :]
    return [generator.permutation(part) for part in parts]


def belebele_tables(rows: Table, split: str) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """Corpus, queries and qrels: the distinct passages, the distinct questions, and for each question the passage it was asked about."""
    passages, questions, qrels = {}, {}, {}
    for row in rows:
        passages.setdefault(row["link"], (f"C{len(passages)}", row["flores_passage"]))
        query = questions.setdefault(row["question"], f"Q{len(questions)}")
        qrels.setdefault(query, {})[passages[row["link"]][0]] = 1
    return dict(passages.values()), {id: question for question, id in questions.items()}, qrels


# --- the table ------------------------------------------------------------------------------------------------------------------

# Facts as in mteb 2.26 (tests/parity/test_mteb.py compares every field). `translated` is mteb's account of how a text was made, but for
# Belebele: mteb says "created", its passages are FLORES', which people translated from English. `sizes` are mteb's descriptive statistics.
TASKS = [
    # Classification
    _task("DutchBookReviewSentimentClassification.v2", "Classification",
          "mteb/dutch_book_review_sentiment@73cffedb578b628588db03b8608880cf95688bb2",
          sizes={"train": (20_012, 29_161_136), "test": (2_223, 3_209_173)},
          prompt="Classificeer de gegeven boekrecensie als positieve of negatieve sentiment"),
    _task("MassiveIntentClassification", "Classification", "mteb/amazon_massive_intent@4672e20407010da34463acc759c162ca9734bca6",
          subset="nl", splits=("validation", "test"), config="default", only_lang="nl", translated=True,
          sizes={"train": (11_514, 458_912), "validation": (2_033, 80_046), "test": (2_974, 117_126)},
          prompt="Given a user utterance as query, find the user intents"),
    _task("MassiveScenarioClassification", "Classification", "mteb/amazon_massive_scenario@fad2c6e8459f9e1c45d9315f4953d921437d70f8",
          subset="nl", splits=("validation", "test"), config="default", only_lang="nl", translated=True,
          sizes={"train": (11_514, 458_912), "validation": (2_033, 80_046), "test": (2_974, 117_126)},
          prompt="Given a user utterance as query, find the user scenarios"),
    _task("SIB200Classification", "Classification", "mteb/sib200@a74d7350ea12af010cfb1c21e34f1f81fd2e615b",
          subset="nld_Latn", splits=("train", "validation", "test"), columns={"label": "category"}, translated=True,
          sizes={"train": (701, 101_519), "validation": (99, 13_304), "test": (204, 29_778)}),
    _task("MultiHateClassification", "Classification", "mteb/multi-hatecheck@8f95949846bb9e33c6aaf730ccfdb8fe6bcfb7a9",
          subset="nld", config="default", only_lang="nld", transform=hatecheck_split, needs=("text", "is_hateful", "functionality"),
          parts={"train": ("test",), "test": ("test",)}, sizes={"train": (1_000, 53_534), "test": (1_000, 53_056)}),
    _task("VaccinChatNLClassification", "Classification", "clips/VaccinChatNL@bd27d0058bea2ad52470d9072a3b5da6b97c1ac3",
          main_score="f1", columns={"text": "sentence1"}, sizes={"train": (10_542, 471_783), "test": (1_170, 52_630)},
          prompt="Gegeven een gebruikersuiting als query, bepaal de gebruikersintenties"),
    _task("DutchColaClassification", "Classification", "clips/mteb-nl-dutch-cola@2269ed7d95d8abaab829f1592b4b2047372e9f81",
          main_score="f1", samples_per_label=128, sizes={"train": (19_893, 761_416), "test": (2_400, 92_146)},
          prompt="Classificeer de gegeven zin als grammaticaal aanvaardbaar of niet aanvaardbaar"),
    _task("DutchGovernmentBiasClassification", "Classification",
          "clips/mteb-nl-dutch-government-bias-detection@bf5e20ee2d3ce2e24e4de50f5dd8573e0e0e2fec",
          main_score="f1", samples_per_label=32, sizes={"train": (1_718, 390_362), "test": (752, 171_956)},
          prompt="Classificeer het gegeven overheidsdocument als bevooroordeeld of niet bevooroordeeld"),
    _task("DutchSarcasticHeadlinesClassification", "Classification",
          "clips/mteb-nl-sarcastic-headlines@7e520e36394795859583f84f81fcb97de915d05a",
          main_score="f1", columns={"text": "headline", "label": "is_sarcastic"},
          sizes={"train": (10_609, 658_787), "test": (1_326, 82_644)},
          prompt="Classificeer de gegeven krantenkop als sarcastisch of niet sarcastisch"),
    _task("DutchNewsArticlesClassification", "Classification", "clips/mteb-nl-news-articles-cls@0a7227d31f85c5676be92767f8df5405ea93de54",
          main_score="f1", sizes={"train": (5_600, 9_620_538), "test": (1_200, 2_034_506)},
          prompt="Classificeer het gegeven nieuwsartikel in het juiste onderwerp of thema"),
    _task("OpenTenderClassification", "Classification", "clips/mteb-nl-opentender-cls-pr@9af5657575a669dc18c7f897a67287ff7d1a0c65",
          main_score="f1", sizes={"train": (20_777, 10_089_834), "test": (4_485, 2_177_123)},
          prompt="Classificeer de gegeven aanbestedingsbeschrijving in het juiste onderwerp of thema"),
    _task("IconclassClassification", "Classification", "clips/mteb-nl-iconclass-cls@1cd02f1579dab39fedc95de8cc15fd620557a9f2",
          main_score="f1", samples_per_label=32, sizes={"train": (945, 52_510), "test": (202, 11_827)},
          prompt="Classificeer de gegeven titel van het kunstwerk in het juiste onderwerp of thema"),
    # PairClassification
    _task("SICKNLPairClassification", "PairClassification", "clips/mteb-nl-sick-pcls-pr@a13a1892bcb4c077dc416d390389223eea5f20f0",
          translated=True, sizes={"test": (2_115, 194_569)}, prompt="Zoek tekst die semantisch vergelijkbaar is met de gegeven tekst."),
    _task("XLWICNLPairClassification", "PairClassification", "clips/mteb-nl-xlwic@0b33ce358b1b5d500ff3715ba3d777b4d2c21cb0",
          sizes={"test": (1_004, 103_768)}, prompt="Zoek tekst die semantisch vergelijkbaar is met de gegeven tekst."),
    # MultilabelClassification
    _task("CovidDisinformationNLMultiLabelClassification", "MultilabelClassification",
          "clips/mteb-nl-COVID-19-disinformation@7ad922bdef875db1f530847c6ffff05fc154f2e8",
          transform=covid_labels, needs=COVID_QUESTIONS, sizes={"train": (929, 174_673), "test": (252, 48_963)},
          prompt="Classificeer COVID-19-gerelateerde sociale media-berichten in alle toepasselijke desinformatiecategorieën"),
    _task("MultiEURLEXMultilabelClassification", "MultilabelClassification",
          "mteb/eurlex-multilingual@2aea5a6dc8fdcfeca41d0fb963c0a338930bde5c",
          main_score="accuracy", subset="nl", sizes={"train": (55_000, 426_734_054), "test": (5_000, 64_289_871)}),
    _task("VABBMultiLabelClassification", "MultilabelClassification",
          "clips/mteb-nl-vabb-mlcls-pr@584c70f5104671772119f21e9f8a3c912ac07d4a",
          samples_per_label=128, sizes={"train": (6_471, 5_847_151), "test": (3_235, 2_927_178)},
          prompt="Classificeer de onderwerpen van een wetenschappelijk artikel op basis van de abstract"),
    # Clustering
    _task("DutchNewsArticlesClusteringS2S", "Clustering", "clips/mteb-nl-news-articles-cls@0a7227d31f85c5676be92767f8df5405ea93de54",
          columns={"text": "title", "label": "label"}, sizes={"test": (1_200, 59_242)},
          prompt="Identificeer de hoofdcategorie van nieuwsartikelen op basis van de titels"),
    _task("DutchNewsArticlesClusteringP2P", "Clustering", "clips/mteb-nl-news-articles-cls@0a7227d31f85c5676be92767f8df5405ea93de54",
          columns={"text": "text", "label": "label"}, sizes={"test": (1_200, 2_034_506)},
          prompt="Identificeer de hoofdcategorie van nieuwsartikelen op basis van de titels en de inhoud"),
    _task("SIB200ClusteringS2S", "Clustering", "mteb/sib200@a74d7350ea12af010cfb1c21e34f1f81fd2e615b",
          subset="nld_Latn", columns={"text": "text", "label": "category"}, parts={"test": ("train", "validation", "test")},
          translated=True, sizes={"test": (1_004, 144_601)}),
    _task("VABBClusteringS2S", "Clustering", "clips/mteb-nl-vabb-cls@544acc2e46909eab2b49962b043a18b9c9772770",
          columns={"text": "title", "label": "org_discipline"}, sizes={"test": (195, 14_155)},
          prompt="Identificeer de hoofdcategorie van wetenschappelijke artikelen op basis van de titels"),
    _task("VABBClusteringP2P", "Clustering", "clips/mteb-nl-vabb-cls@544acc2e46909eab2b49962b043a18b9c9772770",
          columns={"text": "text", "label": "org_discipline"}, transform=title_and_abstract, needs=("title", "abstract"),
          sizes={"test": (195, 186_620)},
          prompt="Identificeer de hoofdcategorie van wetenschappelijke artikelen op basis van de titels en abstracts"),
    _task("OpenTenderClusteringS2S", "Clustering", "clips/mteb-nl-opentender-clst-s2s-pr@ad86cf1813d130e17dda0092d1c4f2c664e68d0c",
          sizes={"test": (4_381, 264_422)}, prompt="Identificeer de hoofdcategorie van aanbestedingen op basis van de titels"),
    _task("OpenTenderClusteringP2P", "Clustering", "clips/mteb-nl-opentender-cls-pr@9af5657575a669dc18c7f897a67287ff7d1a0c65",
          columns={"text": "text", "label": "label"}, sizes={"test": (4_485, 2_177_123)},
          prompt="Identificeer de hoofdcategorie van aanbestedingen op basis van de titels en beschrijvingen"),
    _task("IconclassClusteringS2S", "Clustering", "clips/mteb-nl-iconclass-cls@1cd02f1579dab39fedc95de8cc15fd620557a9f2",
          columns={"text": "text", "label": "label"}, sizes={"test": (202, 11_827)},
          prompt="Identificeer het onderwerp of thema van kunstwerken op basis van de titels"),
    # Reranking
    _task("WikipediaRerankingMultilingual", "Reranking", "mteb/WikipediaRerankingMultilingual@803771c366038ed587b21e3d8fe25f8f73134fad",
          subset="nl", sizes={"corpus": (13_500, 5_071_539), "queries": (1_500, 98_017)}),
    # Retrieval
    _task("ArguAna-NL.v2", "Retrieval", "clips/beir-nl-arguana@4cd085d148fe2cac923bb7758d6ef585926170ba",
          ignore_identical_ids=True, translated=True, sizes={"corpus": (8_674, 9_897_099), "queries": (1_406, 1_844_920)},
          prompt="Gegeven een bewering, vind documenten die de bewering weerleggen"),
    _task("SCIDOCS-NL.v2", "Retrieval", "clips/beir-nl-scidocs@4e018aa220029f9d1bd5a31de3650e322e32ea38",
          translated=True, sizes={"corpus": (25_657, 34_181_168), "queries": (1_000, 80_314)},
          prompt="Gegeven de titel van een wetenschappelijk artikel, haal de abstracts op van artikelen die "
                 "door het gegeven artikel worden geciteerd"),
    _task("SciFact-NL.v2", "Retrieval", "clips/beir-nl-scifact@856d8dfc294b138856bbf3042450e3782321e44e",
          translated=True, sizes={"corpus": (5_183, 8_496_576), "queries": (300, 30_086)},
          prompt="Given a scientific claim, retrieve documents that support or refute the claim"),
    _task("NFCorpus-NL.v2", "Retrieval", "clips/beir-nl-nfcorpus@942953e674fd0f619ff89897abb806dc3df5dd39",
          translated=True, sizes={"corpus": (3_633, 6_337_710), "queries": (323, 7_638)},
          prompt="Gegeven een vraag, haal relevante documenten op die de vraag het beste beantwoorden"),
    _task("BelebeleRetrieval", "Retrieval", "mteb/belebele@979a211276faa22f671e69d096634193567cfd05",
          subset="nld_Latn-nld_Latn", config="nld_Latn", transform=belebele_tables, needs=("question", "link", "flores_passage"),
          translated=True, sizes={"corpus": (488, 258_222), "queries": (900, 67_813)}),
    _task("WebFAQRetrieval", "Retrieval", "mteb/WebFAQRetrieval@f64f483ad0f31d2e78209d524c14a4a867965959",
          subset="nld", sizes={"corpus": (370_662, 119_455_444), "queries": (10_000, 497_021)}),
    _task("DutchNewsArticlesRetrieval", "Retrieval", "clips/mteb-nl-news-articles-ret@c8042a86f3eb0d1fcec79a4a44ebf1eafe635462",
          sizes={"corpus": (255_524, 414_968_472), "queries": (1_000, 48_130)},
          prompt="Gegeven een titel, haal het nieuwsartikel op dat het beste bij de titel past"),
    _task("bBSARDNLRetrieval", "Retrieval", "clips/mteb-nl-bbsard@52027c212ba9765a3e9737c9cbf9a06ae83cbb93",
          ignore_identical_ids=True, sizes={"corpus": (22_415, 21_197_901), "queries": (222, 20_710)},
          prompt="Gegeven een juridische vraag, haal documenten op die kunnen helpen bij het beantwoorden van de vraag"),
    _task("LegalQANLRetrieval", "Retrieval", "clips/mteb-nl-legalqa-pr@8f593522dfbe7ec07055ca9d38a700e7643d3882",
          ignore_identical_ids=True, sizes={"corpus": (30_803, 20_619_027), "queries": (102, 10_638)},
          prompt="Gegeven een juridische vraag, haal documenten op die kunnen helpen bij het beantwoorden van de vraag"),
    _task("OpenTenderRetrieval", "Retrieval", "clips/mteb-nl-opentender-ret@83eec1aa9c58f1dc8acfac015f653a9c25bda3f4",
          sizes={"corpus": (137_633, 59_576_581), "queries": (1_000, 63_054)},
          prompt="Gegeven een titel, haal de aanbestedingsbeschrijving op die het beste bij de titel past"),
    _task("VABBRetrieval", "Retrieval", "clips/mteb-nl-vabb-ret@af4a1e5b3ed451103894f86ff6b3ce85085d7b48",
          sizes={"corpus": (9_318, 7_765_564), "queries": (1_000, 73_852)},
          prompt="Gegeven een titel, haal de wetenschappelijke abstract op die het beste bij de titel past"),
    _task("WikipediaRetrievalMultilingual", "Retrieval", "mteb/WikipediaRetrievalMultilingual@5f6c91d21f2f5b9afb663858d19848fbd223c775",
          subset="nl", sizes={"corpus": (13_500, 5_071_539), "queries": (1_500, 98_017)}),
    # STS
    _task("SICK-NL-STS", "STS", "clips/mteb-nl-sick-sts-pr@7f88f003fc4e37ed8cd9ade84e390d871b032fef",
          translated=True, sizes={"test": (4_902, 463_327)}, prompt="Haal semantisch vergelijkbare tekst op"),
    _task("STSBenchmarkMultilingualSTS", "STS", "mteb/stsb_multi_mt@29afa2569dcedaaa2fe6a3dcfebab33d28b82e8c",
          subset="nl", splits=("dev", "test"), config="default", only_lang="nl", columns={"score": "similarity_score"}, translated=True,
          sizes={"dev": (1_500, 216_574), "test": (1_379, 166_173)}),
]  # fmt: skip


# --- which tasks ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """The user's mistakes found in the block are reported with `where` before them."""
    try:
        yield
    except (InputError, FileNotFoundError) as error:
        raise type(error)(f"{where}: {error}") from None


def nearest(name, names) -> str:
    """For an error message: the names closest to an unknown one, those that hold it, or all."""
    lower, unknown = {known.lower(): known for known in names}, str(name).lower()
    close = difflib.get_close_matches(unknown, lower, n=3, cutoff=0.4) or [known for known in lower if unknown and unknown in known][:3]
    return f"did you mean {' or '.join(lower[known] for known in close)}?" if close else f"expected one of {', '.join(names)}"


def select_tasks(tasks: list[Task], wanted: list[str]) -> list[Task]:
    """The tasks that `wanted` names: names, types, `native`, `translated` or `all`; in the order of `tasks`."""
    names = [task.name for task in tasks] + list(dict.fromkeys(task.type for task in tasks)) + ["native", "translated", "all"]
    for name in wanted:
        if name not in names:
            raise InputError(f"task {name!r} is unknown; {nearest(name, names)}")
    origin = {True: "translated", False: "native", None: "all"}
    chosen = [task for task in tasks if {"all", task.name, task.type, origin[task.translated]} & set(wanted)]
    if not chosen:
        raise InputError(f"none of the {len(tasks)} tasks is known to be {' or '.join(wanted)}; name tasks, types of tasks or all")
    return chosen


LANGUAGE_FORM = "a language and a script as in nld-Latn"


def is_language(value) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[a-z]{3}-[A-Z][a-z]{3}", value))


def read_tasks(path, language: str = "nld-Latn") -> list[Task]:
    """The tasks of a task file, checked; the files that they name exist. language: of those that do not name one."""
    path = Path(path)
    entries = read_json(path).get("tasks")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f'{path}: expected {{"tasks": [{{"name": …, "type": …, "splits": …}}, …]}}')
    tasks = [_parse_task({"language": language} | entry, path) for entry in entries]
    if repeated := [name for name, times in Counter(task.name for task in tasks).items() if times > 1]:
        raise InputError(f"{path}: task {repeated[0]!r} is given more than once")
    return tasks


def _parse_task(entry: dict, path: Path) -> Task:
    name, type = entry.get("name"), entry.get("type")
    if not isinstance(name, str) or not re.fullmatch(FILE_NAME, name) or name == "summary":
        raise InputError(f"{path}: a task is named {name!r}; expected letters, digits, '.', '_' and '-', and not summary")
    where = f"{path}: task {name}"
    if not isinstance(type, str) or type not in TYPES:
        raise InputError(f"{where}: type {type!r} is unknown; {nearest(type, TYPES)}")
    main_score, possible, columns, _ = TYPES[type]
    checks = {  # field: (test, what is expected)
        "name": (lambda v: True, ""),
        "type": (lambda v: True, ""),
        "splits": (lambda v: isinstance(v, dict) and v and all(re.fullmatch(FILE_NAME, split) for split in v), "{split: files, …}"),
        "train": (lambda v: type in TRAINED, f"no training data in a task of type {type}"),
        "main_score": (lambda v: isinstance(v, str) and re.fullmatch(possible, v), f"a score of {type}, such as {main_score}"),
        "columns": (
            lambda v: isinstance(v, dict) and v.keys() <= columns.keys() and all(isinstance(name, str) for name in v.values()),
            f"{{what: column}} for what in {', '.join(columns)}",
        ),
        "samples_per_label": (lambda v: isinstance(v, int) and v > 0, "a whole number above 0"),
        "ignore_identical_ids": (lambda v: isinstance(v, bool), "true or false"),
        "prompt": (lambda v: isinstance(v, str), "a text"),
        "translated": (lambda v: isinstance(v, bool), "true or false"),
        "language": (is_language, LANGUAGE_FORM),
    }
    for field, value in entry.items():
        if field not in checks:
            raise InputError(f"{where}: field {field!r} is unknown; {nearest(field, checks)}")
        if not checks[field][0](value):
            raise InputError(f"{where}: {field} is {value!r}; expected {checks[field][1]}")
    for field in ["splits", "train"] if type in TRAINED else ["splits"]:
        if field not in entry:
            raise InputError(f"{where}: no field {field!r}; a task of type {type} needs it")
    named = entry["splits"] | ({"train": entry["train"]} if "train" in entry else {})
    files = {split: _user_files(some, type, path.parent, split, f"{where}: {split}") for split, some in named.items()}
    fields = {field: value for field, value in entry.items() if field not in ("train", "splits")}
    return _task(**fields, repository="", splits=tuple(entry["splits"]), files=files)


def _user_files(named, type: str, folder: Path, split: str, where: str) -> dict[str, list[Path]]:
    """The files of a split, none of them outside `folder`; they exist."""
    if type not in RANKING:
        named = [named] if isinstance(named, str) else named
        if not isinstance(named, list) or not named:
            raise InputError(f"{where}: found {named!r}; expected a file or a list of files")
        paths, ranked = {number: inside(folder, name, where) for number, name in enumerate(named)}, []
    else:
        named = {"folder": named} if isinstance(named, str) else named
        if not isinstance(named, dict) or "folder" not in named or not named.keys() <= {"folder", "corpus", "queries"}:
            raise InputError(f'{where}: found {named!r}; expected a folder, or {{"folder": …, "corpus": file, "queries": file}}')
        paths = {what: inside(folder, name, where) for what, name in named.items()}
        own = paths.pop("folder")
        paths = {"corpus": own / "corpus.jsonl", "queries": own / "queries.jsonl", "qrels": own / "qrels" / f"{split}.tsv"} | paths
        ranked = sorted(own.glob("top_ranked.jsonl*"))
    with naming(where):
        files = {what: [beir_file(path.parent, path.name)] for what, path in paths.items()}
    return files | {"top_ranked": ranked} if type in RANKING else {"rows": [path for some in files.values() for path in some]}


# --- where their files are ------------------------------------------------------------------------------------------------------


def read_card(path) -> dict[str, dict[str, list[str]]]:
    """{configuration: {split: patterns of its files}} as the README.md of a hub repository states it in its YAML head."""
    path = Path(path)
    head = re.match(r"\ufeff?---\r?\n(.*?)\r?\n---", path.read_text(encoding="utf-8"), re.S) if path.is_file() else None
    try:
        configs = ((yaml.safe_load(head[1]) if head else None) or {}).get("configs") or []
        card = {}
        for config in configs:
            files = config["data_files"]
            if isinstance(files, str) or not all(isinstance(part, dict) for part in files):
                files = [{"split": "train", "path": files}]  # `datasets` calls a split without a name so
            paths = {str(part["split"]): part["path"] for part in files}
            card[config["config_name"]] = {split: [some] if isinstance(some, str) else list(some) for split, some in paths.items()}
        return card
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: its YAML head has no list of configs with data_files that can be read ({reason})") from None


def split_patterns(card: dict, config: str, split: str, alone: bool = False) -> list[str]:
    """The patterns of a split's files. alone: when a configuration has one split only, that one, whatever its name."""
    if not card and config == "default":  # a repository without configurations: what `datasets` looks for
        return [pattern.format(split) for pattern in ("{}.*", "{}-*", "{}/*", "data/{}.*", "data/{}-*", "data/{}/*")]
    if config == "default" and config not in card and len(card) == 1:
        config = next(iter(card))
    if config not in card:
        raise InputError(f"README.md lists no configuration {config!r}; {nearest(config, card)}")
    splits = card[config]
    if split not in splits and alone and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        raise InputError(f"README.md lists no split {split!r} of configuration {config!r}; {nearest(split, splits)}")
    return splits[split]


def patterns(task: Task, split: str, card: dict) -> dict[str, list[str]]:
    """{what: patterns of files} of a split in the task's repository; what as in `locate`."""
    if task.type not in RANKING or task.transform:
        found = [split_patterns(card, task.config or task.subset, part) for part in task.parts.get(split, (split,))]
        return {"rows": [pattern for part in found for pattern in part]}
    prefix = "" if task.subset == "default" else f"{task.subset}-"
    configs = {"corpus": f"{prefix}corpus", "queries": f"{prefix}queries", "qrels": f"{prefix}qrels"}
    if "query" in card:
        configs["queries"] = "query"
    if not prefix and "default" in card:
        configs["qrels"] = "default"
    if task.type == "Reranking":
        configs["top_ranked"] = f"{prefix}top_ranked"
    return {what: split_patterns(card, config, split, alone=True) for what, config in configs.items()}


@functools.cache
def hub_copy(repository: str, some: tuple[str, ...]) -> Path:
    """`hub_folder`, asked once a process: the hub counts requests."""
    return hub_folder(repository, list(some))


def repository_folder(task: Task, folder=None) -> tuple[Path, dict[str, dict[str, list[str]]]]:
    """The local copy of a task's repository with the files that the task reads, and {split: their patterns as from `patterns`}.

    folder: one that `download` made. Without it the hub's cache, and the hub itself for what is not there.
    """
    name = task.repository.partition("@")[0]
    if folder is not None:
        copy = Path(folder) / name
        if not (copy / "README.md").is_file():
            raise FileNotFoundError(f"{copy / 'README.md'}: no such file; `python evaluate.py download --out {folder}` writes it")
    else:
        copy = hub_copy(task.repository, ("README.md",))
    card = read_card(copy / "README.md")
    found = {split: patterns(task, split, card) for split in splits_read(task)}
    if folder is None:
        copy = hub_copy(task.repository, ("README.md", *(p for some in found.values() for part in some.values() for p in part)))
    return copy, found


def matching(folder: Path, some: list[str]) -> list[Path]:
    """The files in a folder that match any of the patterns: those of one pattern by name, one pattern after the other."""
    found = {path: None for p in some for path in sorted(folder.glob(str(inside(folder, p, "README.md").relative_to(folder))))}
    files = [path for path in found if path.is_file()]
    if not files:
        raise FileNotFoundError(f"{folder}: no file {' or '.join(some)}; download the task again")
    return files


def splits_read(task: Task) -> list[str]:
    """The splits that a task needs: those it is scored on, and the one that it is trained on."""
    return list(dict.fromkeys((["train"] if task.type in TRAINED else []) + list(task.splits)))


def locate(task: Task, split: str, folder=None) -> dict[str, list[Path]]:
    """{what: its files} of a split: `rows` or, in retrieval and reranking, `corpus`, `queries`, `qrels` and perhaps `top_ranked`."""
    if not task.repository:
        return task.files[split]
    copy, found = repository_folder(task, folder)
    return {what: matching(copy, some) for what, some in found[split].items()}


def fetch(task: Task, out) -> int:
    """Copy what a task needs from the hub to `<out>/owner/name`, for `--data`; the number of files copied (others are there already)."""
    source, found = repository_folder(task)
    files = [source / "README.md", *(path for some in found.values() for part in some.values() for path in matching(source, part))]
    copied = 0
    for path in dict.fromkeys(files):
        target = Path(out) / task.repository.partition("@")[0] / path.relative_to(source)
        if not target.is_file() or target.stat().st_size != path.stat().st_size:
            with new_file(target) as temporary, open(path, "rb") as stored, open(temporary, "wb") as file:
                while block := stored.read(1 << 24):
                    file.write(block)
            copied += 1
    return copied


def fingerprint(task: Task, folder=None) -> str:
    """SHA-256 of all that decides what a task scores, its files' content included: whether a result is still the task's."""
    decisive = ("type", "main_score", "splits", "samples_per_label", "ignore_identical_ids", "only_lang", "parts", "columns", "prompt")
    fields = [getattr(task, field) for field in decisive] + [task.transform and task.transform.__name__]
    digest = hashlib.sha256(repr(fields).encode())
    for split in splits_read(task):
        for what, files in locate(task, split, folder).items():
            digest.update(f"{split} {what}".encode())
            for path in files:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


# --- reading them ---------------------------------------------------------------------------------------------------------------


def _raw_rows(task: Task, split: str, files: list[Path]) -> list[tuple[str, dict]]:
    """(file:row, row) of a split, of the task's language."""
    alternatives = {what: [task.columns[what]] if what in task.columns else names for what, (names, _) in TYPES[task.type].columns.items()}
    rows, names = [], [] if task.transform else list(map(tuple, alternatives.values()))  # a transform makes the columns
    needs = [*task.needs, *(["lang"] if task.only_lang else []), *names]
    for file in files:
        for number, row in read_rows(file, needs, ["text", *sum(alternatives.values(), [])]):
            if not task.only_lang or row["lang"] == task.only_lang:
                rows.append((f"{file}:{number}", row))
    if not rows:
        raise InputError(f"{', '.join(map(str, files))}: no rows" + (f" with lang {task.only_lang!r}" if task.only_lang else ""))
    return rows


def read_columns(task: Task, split: str, folder=None) -> dict[str, list]:
    """The columns of a split: {'text': […], 'label': […]} or {'sentence1': …, 'sentence2': …, 'label' or 'score': …}."""
    files = locate(task, split, folder)["rows"]
    rows = _raw_rows(task, split, files)
    if task.transform:
        rows = [(f"{files[0]}, after {task.transform.__name__}", row) for row in task.transform([row for _, row in rows], split)]
    found = {}
    for what, (names, kind) in TYPES[task.type].columns.items():
        names, values = [task.columns[what]] if what in task.columns else names, []
        for where, row in rows:
            name = next((name for name in names if name in row), None)
            if name is None:
                raise InputError(f"{where}: no column {' or '.join(map(repr, names))}; the row has {', '.join(row) or 'nothing'}")
            values.append(row[name])
        if kind is not TEXT and kind_of(files[0]) in (".csv", ".tsv"):
            values = _whole_numbers(values) if kind is LABEL else _numbers(values)
        for (where, _), value in zip(rows, values, strict=True):
            if not kind.good(value):
                raise InputError(f"{where}: column {name!r} is {str(value)[:60]!r}; expected {kind.expected}")
        found[what] = [int(value) if kind is LABEL and isinstance(value, float) else value for value in values]
    labels = flat_labels(found)
    if len(set(labels)) < 2:
        raise InputError(f"{files[-1]}: all labels are {labels[0] if labels else 'empty'!r}; there is nothing to tell apart")
    if len({isinstance(label, str) for label in labels}) == 2:
        raise InputError(f"{files[-1]}: some labels are texts and some are numbers; write all in one way")
    return found


def _numbers(values: list[str]) -> list:
    """A column of a CSV file, where all is text, as numbers when each of them is one."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return values


def _whole_numbers(values: list[str]) -> list:
    """Labels of a CSV file as numbers when each is written as Python writes a whole number; `01` and `1` are two labels."""
    return [int(value) for value in values] if all(re.fullmatch("0|-?[1-9][0-9]{0,17}", str(value)) for value in values) else values


def flat_labels(rows: dict[str, list]) -> list:
    """The labels (or scores) of a split; of a multi-label split, those of all rows one after the other."""
    values = rows.get("label", rows.get("score"))
    return [label for row in values for label in row] if isinstance(values[0], list) else values


class Ranking(NamedTuple):
    """A split of a retrieval or reranking task. candidates is empty in retrieval: there the whole corpus is searched."""

    queries: dict[str, str]  # id: text
    corpus: dict[str, str]  # id: text, its title before it
    qrels: dict[str, dict[str, int]]  # query id: {document id: grade}
    candidates: dict[str, list[str]]  # query id: document ids


def read_ranking(task: Task, split: str, folder=None) -> Ranking:
    """Queries without judgements are left out, and so are judgements of queries that do not exist (as in mteb)."""
    files = locate(task, split, folder)
    if task.transform:
        corpus, queries, qrels = task.transform([row for _, row in _raw_rows(task, split, files["rows"])], split)
    else:
        corpus, queries, qrels = texts_by_id(files["corpus"]), texts_by_id(files["queries"]), qrels_of(files["qrels"])
    corpus = {id: text.strip() for id, text in corpus.items()}
    qrels = {query: judged for query, judged in qrels.items() if query in queries}
    queries = {query: text for query, text in queries.items() if query in qrels}
    if not queries:
        raise InputError(f"no query of {files['queries'][0]} is judged in {files['qrels'][0]}")
    if task.type == "Retrieval":
        return Ranking(queries, corpus, qrels, {})
    candidates, given = {query: list(qrels[query]) for query in queries}, files.get("top_ranked") or []
    if given:
        ranked = {}
        for file in given:
            for number, row in read_rows(file):
                ids = row.get("corpus-ids")
                if not isinstance(row.get("query-id"), str | int) or not isinstance(ids, list):
                    raise InputError(f"{file}:{number}: expected 'query-id' and 'corpus-ids', a list of ids")
                ranked[str(row["query-id"])] = list(dict.fromkeys(map(str, ids)))
        candidates = {query: ranked.get(query, []) for query in queries}
    for query, ids in candidates.items():
        if not ids:
            raise InputError(f"{', '.join(map(str, given or files['qrels']))}: query {query!r} has no candidates")
        if missing := [id for id in ids if id not in corpus]:
            raise InputError(f"candidate {missing[0]!r} of query {query!r} is not in {files['corpus'][0]}")
    return Ranking(queries, corpus, qrels, candidates)


def remarks(task: Task, split: str, found: dict | Ranking) -> list[str]:
    """What is to be said about the data of a split: other sizes than mteb counts, judged documents that do not exist."""
    said = []
    if isinstance(found, Ranking):
        texts = {"corpus": found.corpus.values(), "queries": found.queries.values()}
        counts = {what: (len(some), sum(map(len, some))) for what, some in texts.items()}
        if lacking := [id for judged in found.qrels.values() for id in judged if id not in found.corpus]:
            said.append(f"{len(lacking):,} judged documents are not in the corpus, the first is {lacking[0]!r}; they count as not found")
    else:
        texts = [text for what in ("text", "sentence1", "sentence2") for text in found.get(what, ())]
        counts = {split: (len(next(iter(found.values()))), sum(map(len, texts)))}
    for what, size in counts.items():
        if size != task.sizes.get(what, size):
            ours, mtebs = ("{:,} with {:,} characters".format(*some) for some in (size, task.sizes[what]))
            said.append(f"{what}: {ours}, mteb counts {mtebs}; is this revision {task.revision[:12]}?")
    return said
