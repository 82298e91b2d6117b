"""What the default tests and those of the peers both judge: small tasks of every type with an
embedding for their texts, and small encoders.

The traps of the tasks: equal texts, and unequal ones with equal embeddings (exact ties); labels
that are texts or numbers, labels that only train or only test has, texts without labels, empty
texts; graded, zero and negative judgements, queries without relevant documents or without
judgements, judged documents that are not in the corpus, ids that sort differently as numbers;
several evaluation splits.

The golden values depend on every number that is drawn, and on the order of drawing.
"""

import functools
import gzip
import json
import zlib

import numpy as np
from safetensors.numpy import save_file

WIDTH = 24


def generator_of(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


@functools.cache
def word_vector(word: str) -> np.ndarray:
    return generator_of(word).standard_normal(WIDTH)


def embed(texts, kind) -> np.ndarray:
    """A bag of words, of each kind with vectors of its own.

    Sorted, so that texts of the same words have the same embedding to the last bit.
    """
    sums = [sum(word_vector(word) for word in sorted(text.split())) for text in texts]
    rows = np.array([word_vector(f"#{kind}") + row for row in sums], np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- texts ----------------------------------------------------------------------------------------


def texts(generator, topics: list) -> list[str]:
    """Text i has words of the topic, or topics, topics[i], and words of all topics.

    Some are equal, some are permutations of others, one is empty.
    """
    made = []
    for topic in topics:
        words = []
        for t in topic if isinstance(topic, list) else [topic]:
            words += [f"t{t}w{w}" for w in generator.integers(0, 9, 2)]
        words += [f"w{w}" for w in generator.integers(0, 40, generator.integers(1, 6))]
        made.append(" ".join(words))
    for i in range(7, len(made), 11):
        made[i] = made[i - 1] if i % 2 else " ".join(reversed(made[i - 1].split()))
    made[5] = ""
    return made


def noisy(generator, drawn, count: int, noise: float) -> list[int]:
    """The topics of texts with the labels `drawn`: a share `noise` of them at random."""
    return [
        int(generator.integers(0, count)) if generator.random() < noise else int(label)
        for label in drawn
    ]


def pairs(generator, count: int) -> list[tuple[str, str]]:
    first, second = (
        texts(generator, generator.integers(0, 4, count).tolist()) for _ in range(2)
    )
    for i in range(0, count, 3):  # a third shares most of its words or all
        second[i] = " ".join(first[i].split()[: None if i % 2 else -1])
    return list(zip(first, second, strict=True))


# --- tasks: each gives its entry in a task file, and {file: rows} ---------------------------------

TRAIN_AND_TEST = {"train": "train.jsonl", "splits": {"test": "test.jsonl"}}


def classification(seed, labels, samples, main_score, splits):
    generator, files = np.random.default_rng(seed), {}
    for split, count in (("train", 97), ("validation", 31), ("test", 53)):
        # The last label is missing from test.
        missing = split == "test" and len(labels) > 2
        drawn = generator.choice(len(labels) - missing, count)
        made = texts(generator, noisy(generator, drawn, len(labels), 0.4))
        rows = zip(made, drawn, strict=True)
        files[f"{split}.jsonl"] = [{"text": text, "label": labels[i]} for text, i in rows]
    entry = {"type": "Classification", "main_score": main_score, "samples_per_label": samples}
    entry |= TRAIN_AND_TEST | {"splits": {split: f"{split}.jsonl" for split in splits}}
    return entry, files


def multilabel_classification(seed, form, samples, main_score):
    generator, files = np.random.default_rng(seed), {}
    # One label is missing from test, and some texts have none.
    for split, count, labels in (("train", 301, 7), ("test", 61, 6)):
        drawn = []
        for _ in range(count):
            number = generator.integers(0, 4)
            drawn.append(sorted(generator.choice(labels, number, replace=False).tolist()))
        rows = zip(texts(generator, drawn), drawn, strict=True)
        files[f"{split}.jsonl"] = [
            {"text": text, "label": [form(label) for label in labels]} for text, labels in rows
        ]
    entry = {"type": "MultilabelClassification", "main_score": main_score}
    return entry | {"samples_per_label": samples} | TRAIN_AND_TEST, files


def pair_classification(seed):
    generator = np.random.default_rng(seed)
    rows = [
        {"sentence1": a, "sentence2": b, "labels": int(i % 3 == 0 or generator.random() < 0.2)}
        for i, (a, b) in enumerate(pairs(generator, 113))
    ]
    return {"type": "PairClassification", "splits": {"test": "test.jsonl"}}, {"test.jsonl": rows}


def sts(seed):
    generator, files = np.random.default_rng(seed), {}
    for split, count in (("dev", 91), ("test", 67)):
        files[f"{split}.jsonl"] = [
            {"sentence1": a, "sentence2": b, "score": float(generator.integers(0, 26) / 5)}
            for a, b in pairs(generator, count)
        ]
    return {"type": "STS", "splits": {"dev": "dev.jsonl", "test": "test.jsonl"}}, files


def clustering(seed, labels):
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(labels), 149)
    made = texts(generator, noisy(generator, drawn, len(labels), 0.3))
    rows = zip(made, drawn, strict=True)
    rows = [{"sentences": text, "labels": labels[i]} for text, i in rows]
    files = {"a.jsonl": rows[:50], "b.jsonl": rows[50:]}
    return {"type": "Clustering", "splits": {"test": list(files)}}, files


def ranking(seed, type, documents, queries, ignore_identical_ids=False):
    generator = np.random.default_rng(seed)
    topics, asked = (generator.integers(0, 12, count).tolist() for count in (documents, queries))
    corpus = [
        {"_id": str(i), "title": f"t{topics[i]}w0" if i % 3 else "", "text": text}
        for i, text in enumerate(texts(generator, topics))
    ]
    # Duplicates, so that ids decide.
    for i in range(20, documents if type == "Retrieval" else 0, 13):
        corpus[i] = corpus[i - 17] | {"_id": corpus[i]["_id"]}
    # Not for reranking: mteb's float32 product gives equal embeddings other last digits, and other
    # ones on other processors. There every document has a word of its own.
    for document in corpus if type == "Reranking" else ():
        document["text"] += f" d{document['_id']}"
    asked_texts = enumerate(texts(generator, asked))
    rows = [{"_id": str(3 * i), "text": text} for i, text in asked_texts]

    qrels = {}
    for row, topic in zip(rows, asked, strict=True):
        near = [i for i in range(documents) if topics[i] == topic]
        chosen = generator.choice(near, min(len(near), 9), replace=False)
        judged = {str(i): int(generator.integers(-1, 4)) for i in chosen}
        others = map(str, generator.integers(0, documents, 3))
        qrels[row["_id"]] = judged | {i: 0 for i in others if i not in judged}
    qrels["0"] = dict.fromkeys(qrels["0"], 0)  # judged, nothing relevant
    qrels["3"] |= {"not in the corpus": 2}
    del qrels["6"]  # not judged at all

    table = [(q, d, grade) for q, judged in qrels.items() for d, grade in judged.items()]
    files = {
        "beir/corpus.jsonl": corpus,
        "beir/queries.jsonl": rows,
        "beir/qrels/test.tsv": qrels_table(table),
    }
    if type == "Reranking":
        files["beir/top_ranked.jsonl"] = [
            {
                "query-id": query,
                "corpus-ids": sorted({"100", "101", *judged} - {"not in the corpus"}),
            }
            for query, judged in qrels.items()
        ]
    entry = {"type": type, "splits": {"test": "beir"}}
    return entry | {"ignore_identical_ids": ignore_identical_ids}, files


def qrels_table(rows) -> str:
    lines = [("query-id", "corpus-id", "score"), *rows]
    return "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in lines)


FAQ = ["vraag", "antwoord", "groet", "faq_ask_mondmasker"]
THEMES = ["recht", "taal", "taalkunde", "economie"]
SPLITS = ["train", "validation", "test"]
CASES = {  # tasks of the benchmark that differ in how they are scored
    "SIB200Classification": (classification, 1, [3, 0, 1, 5, 4], 8, "accuracy", SPLITS),
    "VaccinChatNLClassification": (classification, 2, FAQ, 8, "f1", ["test"]),
    "MultiHateClassification": (classification, 3, [0, 1], 8, "accuracy", ["test"]),
    "IconclassClassification": (classification, 4, [0, 1, 2], 32, "f1", ["test"]),
    "CovidDisinformationNLMultiLabelClassification": (multilabel_classification, 5, int, 8, "f1"),
    "VABBMultiLabelClassification": (multilabel_classification, 6, "thema {}".format, 128, "f1"),
    "MultiEURLEXMultilabelClassification": (multilabel_classification, 7, int, 8, "accuracy"),
    "XLWICNLPairClassification": (pair_classification, 8),
    "VABBClusteringS2S": (clustering, 9, THEMES),
    "SIB200ClusteringS2S": (clustering, 10, [4, 0, 1, 2, 3]),
    "SciFact-NL.v2": (ranking, 11, "Retrieval", 211, 37),
    "ArguAna-NL.v2": (ranking, 12, "Retrieval", 211, 41, True),
    "VABBRetrieval": (ranking, 13, "Retrieval", 1511, 23),
    "WikipediaRerankingMultilingual": (ranking, 14, "Reranking", 157, 29),
    "STSBenchmarkMultilingualSTS": (sts, 15),
}


def json_lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_case(name: str, folder) -> dict:
    """Write the task `name` as a task file and its data under `folder`; {file: its rows}."""
    make, *arguments = CASES[name]
    entry, files = make(*arguments)
    for file, rows in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(rows if isinstance(rows, str) else json_lines(rows))
    (folder / "tasks.json").write_text(json.dumps({"tasks": [{"name": name} | entry]}))
    return files


def write_tasks(folder, *entries, **files):
    """A task file with these tasks, and JSON Lines files by name."""
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text(json_lines(rows))
    (folder / "tasks.json").write_text(json.dumps({"tasks": list(entries)}))
    return folder / "tasks.json"


STS_ROWS = [
    {"sentence1": "a b", "sentence2": "a b c", "score": 4},
    {"sentence1": "a b", "sentence2": "d", "score": 1.5},
    {"sentence1": "c d", "sentence2": "d e", "score": 3},
]


def sts_entry(**changes):
    return {"name": "Sts", "type": "STS", "splits": {"test": "sts.jsonl"}} | changes


JUDGED = (("1", "a", 1), ("1", "b", 0), ("2", "c", 2))


def write_beir(folder, corpus=("a", "b", "c"), queries=("1", "2"), qrels=JUDGED):
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    documents = [
        {"_id": id, "title": "titel" if id == "a" else "", "text": f" tekst {id} "}
        for id in corpus
    ]
    questions = [{"_id": id, "text": f" vraag {id}"} for id in queries]
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(json_lines(documents).encode()))
    (folder / "queries.jsonl").write_text(json_lines(questions))
    (folder / "qrels/test.tsv").write_text(qrels_table(qrels))


# --- encoders -------------------------------------------------------------------------------------

MODEL_TYPES = ("bert", "roberta", "camembert", "xlm-roberta")
ENCODERS = [(model_type, scale) for model_type in MODEL_TYPES for scale in (0.3, 0.02)]
LENGTHS = [512, 100, 100, 37, 8, 8, 8, 2, 1]


def write_encoder(model_type: str, scale: float, folder, tokenizer_json: bytes) -> list[list[int]]:
    """Write a checkpoint whose every tensor is random, as transformers names them; give the ids of
    texts of the LENGTHS.

    numpy draws the numbers, name by name: the same everywhere. Every size differs from the others,
    and from the library's defaults.
    """
    bert = model_type == "bert"
    config = {
        "model_type": model_type,
        "vocab_size": 212,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 88,
        "max_position_embeddings": 512 if bert else 514,
        "type_vocab_size": 2,
        "layer_norm_eps": 3e-5,
        "hidden_act": "gelu",
        "pad_token_id": 0 if bert else 1,
    }
    tensors = {
        name: (scale * generator_of(name).standard_normal(shape)).astype(np.float32)
        for name, shape in encoder_shapes(config).items()
    }
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    return [
        np.random.default_rng(length * 10 + i).integers(4, config["vocab_size"], length).tolist()
        for i, length in enumerate(LENGTHS)
    ]


def encoder_shapes(config: dict) -> dict[str, tuple]:
    """{name: shape} of the tensors of a BERT and its kind."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    tables = {
        "word": config["vocab_size"],
        "position": config["max_position_embeddings"],
        "token_type": config["type_vocab_size"],
    }
    modules = {"embeddings.LayerNorm": (width,), "pooler.dense": (width, width)}
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            modules[f"{layer}.attention.{part}"] = (width, width)
        modules[f"{layer}.attention.output.LayerNorm"] = (width,)
        modules[f"{layer}.intermediate.dense"] = (inner, width)
        modules[f"{layer}.output.dense"] = (width, inner)
        modules[f"{layer}.output.LayerNorm"] = (width,)

    shapes = {f"embeddings.{name}_embeddings.weight": (n, width) for name, n in tables.items()}
    for name, shape in modules.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
