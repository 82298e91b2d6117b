"""What the peers and the default tests both judge: small tasks of every type with an embedding for their texts, and small encoders.

The traps of the tasks: equal texts, and unequal ones with equal embeddings (exact ties); text and number labels, labels that only train or
only test has, texts without labels, empty texts; graded, zero and negative judgements, queries without relevant documents or without
judgements, judged documents that are not in the corpus, ids that sort differently as numbers; several evaluation splits.
"""

import functools
import gzip
import json
import zlib

import numpy as np
from safetensors.numpy import save_file

WIDTH = 24


@functools.cache
def word_vector(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(WIDTH)


def embed(texts, kind) -> np.ndarray:
    """A bag of words: sorted, so that texts of the same words have the same embedding to the last bit. Each kind has vectors of its own."""
    rows = [word_vector(f"#{kind}") + sum(word_vector(word) for word in sorted(text.split())) for text in texts]
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def texts(generator, topics: list) -> list[str]:
    """Text i has words of topic(s) topics[i] and words of all. Some are equal, some are permutations of others, one is empty."""
    made = []
    for topic in topics:
        own = [f"t{t}w{w}" for t in (topic if isinstance(topic, list) else [topic]) for w in generator.integers(0, 9, 2)]
        made.append(" ".join([*own, *(f"w{w}" for w in generator.integers(0, 40, generator.integers(1, 6)))]))
    for i in range(7, len(made), 11):
        made[i] = made[i - 1] if i % 2 else " ".join(reversed(made[i - 1].split()))
    made[5] = ""
    return made


def classification(seed, labels, samples, main_score, splits):
    generator, files = np.random.default_rng(seed), {}
    for split, n in (("train", 97), ("validation", 31), ("test", 53)):
        drawn = generator.choice(len(labels) - (split == "test" and len(labels) > 2), n)  # the last label is missing from test
        topics = [int(generator.integers(0, len(labels))) if generator.random() < 0.4 else int(i) for i in drawn]
        rows = zip(texts(generator, topics), drawn, strict=True)
        files[f"{split}.jsonl"] = [{"text": text, "label": labels[i]} for text, i in rows]
    entry = {"type": "Classification", "train": "train.jsonl", "splits": {split: f"{split}.jsonl" for split in splits}}
    return entry | {"main_score": main_score, "samples_per_label": samples}, files


def multilabel_classification(seed, form, samples, main_score):
    generator, files = np.random.default_rng(seed), {}
    for split, n, labels in (("train", 301, 7), ("test", 61, 6)):  # one label is missing from test, some texts have none
        drawn = [sorted(map(int, generator.choice(labels, generator.integers(0, 4), replace=False))) for _ in range(n)]
        rows = zip(texts(generator, drawn), drawn, strict=True)
        files[f"{split}.jsonl"] = [{"text": text, "label": [form(i) for i in some]} for text, some in rows]
    entry = {"type": "MultilabelClassification", "train": "train.jsonl", "splits": {"test": "test.jsonl"}}
    return entry | {"main_score": main_score, "samples_per_label": samples}, files


def pairs(generator, n) -> list[tuple[str, str]]:
    first, second = (texts(generator, [int(i) for i in generator.integers(0, 4, n)]) for _ in range(2))
    for i in range(0, n, 3):  # a third shares most of its words or all
        second[i] = " ".join(first[i].split()[: None if i % 2 else -1])
    return list(zip(first, second, strict=True))


def pair_classification(seed):
    generator = np.random.default_rng(seed)
    rows = enumerate(pairs(generator, 113))
    rows = [{"sentence1": a, "sentence2": b, "labels": int(i % 3 == 0 or generator.random() < 0.2)} for i, (a, b) in rows]
    return {"type": "PairClassification", "splits": {"test": "test.jsonl"}}, {"test.jsonl": rows}


def sts(seed):
    generator, files = np.random.default_rng(seed), {}
    for split, n in (("dev", 91), ("test", 67)):
        rows = pairs(generator, n)
        files[f"{split}.jsonl"] = [{"sentence1": a, "sentence2": b, "score": float(generator.integers(0, 26) / 5)} for a, b in rows]
    return {"type": "STS", "splits": {"dev": "dev.jsonl", "test": "test.jsonl"}}, files


def clustering(seed, labels):
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(labels), 149)
    topics = [int(generator.integers(0, len(labels))) if generator.random() < 0.3 else int(i) for i in drawn]
    rows = [{"sentences": text, "labels": labels[i]} for text, i in zip(texts(generator, topics), drawn, strict=True)]
    return {"type": "Clustering", "splits": {"test": ["a.jsonl", "b.jsonl"]}}, {"a.jsonl": rows[:50], "b.jsonl": rows[50:]}


def ranking(seed, type, documents, queries, ignore_identical_ids=False):
    generator = np.random.default_rng(seed)
    topics, asked = ([int(i) for i in generator.integers(0, 12, n)] for n in (documents, queries))
    corpus = enumerate(texts(generator, topics))
    corpus = [{"_id": str(i), "title": f"t{topics[i]}w0" if i % 3 else "", "text": text} for i, text in corpus]
    # Duplicates, so that ids decide; not for reranking, where mteb's float32 product gives them other last digits on other processors.
    for i in range(20, documents if type == "Retrieval" else 0, 13):
        corpus[i] = corpus[i - 17] | {"_id": corpus[i]["_id"]}
    rows = [{"_id": str(3 * i), "text": text} for i, text in enumerate(texts(generator, asked))]
    qrels = {}
    for row, topic in zip(rows, asked, strict=True):
        near = [i for i in range(documents) if topics[i] == topic]
        judged = {str(i): int(generator.integers(-1, 4)) for i in generator.choice(near, min(len(near), 9), replace=False)}
        qrels[row["_id"]] = judged | {str(i): 0 for i in generator.integers(0, documents, 3) if str(i) not in judged}
    qrels["0"] = dict.fromkeys(qrels["0"], 0)  # judged, nothing relevant
    qrels["3"] |= {"not in the corpus": 2}
    del qrels["6"]  # not judged at all
    lines = ["query-id\tcorpus-id\tscore\n"]
    lines += [f"{query}\t{document}\t{grade}\n" for query, judged in qrels.items() for document, grade in judged.items()]
    files = {"beir/corpus.jsonl": corpus, "beir/queries.jsonl": rows, "beir/qrels/test.tsv": "".join(lines)}
    if type == "Reranking":
        given = {query: sorted({"100", "101", *judged} - {"not in the corpus"}) for query, judged in qrels.items()}
        files["beir/top_ranked.jsonl"] = [{"query-id": query, "corpus-ids": ids} for query, ids in given.items()]
    return {"type": type, "splits": {"test": "beir"}, "ignore_identical_ids": ignore_identical_ids}, files


CASES = {  # tasks of the benchmark that differ in how they are scored
    "SIB200Classification": (classification, 1, [3, 0, 1, 5, 4], 8, "accuracy", ["train", "validation", "test"]),
    "VaccinChatNLClassification": (classification, 2, ["vraag", "antwoord", "groet", "faq_ask_mondmasker"], 8, "f1", ["test"]),
    "MultiHateClassification": (classification, 3, [0, 1], 8, "accuracy", ["test"]),
    "IconclassClassification": (classification, 4, [0, 1, 2], 32, "f1", ["test"]),
    "CovidDisinformationNLMultiLabelClassification": (multilabel_classification, 5, int, 8, "f1"),
    "VABBMultiLabelClassification": (multilabel_classification, 6, "thema {}".format, 128, "f1"),
    "MultiEURLEXMultilabelClassification": (multilabel_classification, 7, int, 8, "accuracy"),
    "XLWICNLPairClassification": (pair_classification, 8),
    "VABBClusteringS2S": (clustering, 9, ["recht", "taal", "taalkunde", "economie"]),
    "SIB200ClusteringS2S": (clustering, 10, [4, 0, 1, 2, 3]),
    "SciFact-NL.v2": (ranking, 11, "Retrieval", 211, 37),
    "ArguAna-NL.v2": (ranking, 12, "Retrieval", 211, 41, True),
    "VABBRetrieval": (ranking, 13, "Retrieval", 1511, 23),
    "WikipediaRerankingMultilingual": (ranking, 14, "Reranking", 157, 29),
    "STSBenchmarkMultilingualSTS": (sts, 15),
}


def write_case(name: str, folder) -> dict:
    """Write the task `name` as a task file and its data under `folder`; {file: rows} of what was written."""
    make, *arguments = CASES[name]
    entry, files = make(*arguments)
    for file, rows in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "tasks.json").write_text(json.dumps({"tasks": [{"name": name} | entry]}))
    return files


def write_tasks(folder, *entries, **files):
    """A task file with these tasks, and JSON Lines files by name."""
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tasks.json").write_text(json.dumps({"tasks": list(entries)}))
    return folder / "tasks.json"


STS_ROWS = [{"sentence1": "a b", "sentence2": "a b c", "score": 4}, {"sentence1": "a b", "sentence2": "d", "score": 1.5},
            {"sentence1": "c d", "sentence2": "d e", "score": 3}]  # fmt: skip


def sts_entry(**changes):
    return {"name": "Sts", "type": "STS", "splits": {"test": "sts.jsonl"}} | changes


def write_beir(folder, corpus=("a", "b", "c"), queries=("1", "2"), qrels=(("1", "a", 1), ("1", "b", 0), ("2", "c", 2))):
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    rows = [{"_id": id, "title": "titel" if id == "a" else "", "text": f" tekst {id} "} for id in corpus]
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    (folder / "queries.jsonl").write_text("".join(json.dumps({"_id": id, "text": f" vraag {id}"}) + "\n" for id in queries))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in qrels))


# --- encoders ---------------------------------------------------------------------------------------------------------------

ENCODERS = [(model_type, scale) for model_type in ("bert", "roberta", "camembert", "xlm-roberta") for scale in (0.3, 0.02)]
LENGTHS = [512, 100, 100, 37, 8, 8, 8, 2, 1]


def write_encoder(model_type: str, scale: float, folder, tokenizer_json: bytes) -> list[list[int]]:
    """Write a checkpoint whose every tensor is random, as transformers names them; give the ids of some texts of mixed lengths.

    numpy draws the numbers, name by name: the same everywhere. Every size differs from the others, and from the library's defaults.
    """
    config = {
        "model_type": model_type, "vocab_size": 212, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 88, "max_position_embeddings": 512 if model_type == "bert" else 514, "type_vocab_size": 2,
        "layer_norm_eps": 3e-5, "hidden_act": "gelu", "pad_token_id": 0 if model_type == "bert" else 1,
    }  # fmt: skip
    width, inner = config["hidden_size"], config["intermediate_size"]
    tables = {"word": config["vocab_size"], "position": config["max_position_embeddings"], "token_type": config["type_vocab_size"]}
    linear = dict.fromkeys([f"attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense")], (width, width))
    linear |= {"intermediate.dense": (inner, width), "output.dense": (width, inner)}
    layers = [f"encoder.layer.{i}" for i in range(config["num_hidden_layers"])]
    linear = {f"{layer}.{name}": shape for layer in layers for name, shape in linear.items()} | {"pooler.dense": (width, width)}
    norms = ["embeddings.LayerNorm", *(f"{layer}.{part}.LayerNorm" for layer in layers for part in ("attention.output", "output"))]
    shapes = {f"embeddings.{name}_embeddings.weight": (rows, width) for name, rows in tables.items()}
    for name, shape in (linear | dict.fromkeys(norms, (width,))).items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    draw = {name: np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape) for name, shape in shapes.items()}
    save_file({name: (scale * value).astype(np.float32) for name, value in draw.items()}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    return [np.random.default_rng(length * 10 + i).integers(4, config["vocab_size"], length).tolist() for i, length in enumerate(LENGTHS)]
