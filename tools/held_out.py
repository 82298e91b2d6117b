"""The bundled training sources, split: most to train on, the rest to choose settings by.

A tenth of the documents is held out (a document: all texts that chains of rows connect, whatever
their sources), and becomes tasks in the format of `evaluate.py --tasks-file`:

    HeldOutRetrieval   titles of questions to parliament, and their answers
    HeldOutClustering  sentences of news and encyclopedia articles, by article
    HeldOutPairs       paraphrases, against the most similar sentences that are none (by characters)
    HeldOutSTS         pairs of sentences of every degree of similarity, scored by the encoder that
                       training starts from: how much of its judgement is kept

Settings of the demo were chosen by these, so that nothing was chosen by the evaluation's own tasks.
"""

import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline

import demo
import e5nl
from data import Row, Source, normalise, read_sources
from files import new_file, read_texts, write_json, write_jsonl

RETRIEVAL = "dekamer_title_answer"
CLUSTERING = "ntrex_sentence_following", "ud_sentence_following"
PARAPHRASES, SIMILAR = demo.PARAPHRASES, demo.LEFT_OUT
MOST = 400  # rows of a source that become questions of a task


def documents(sources: list[Source]) -> dict[str, int]:
    """{normalised text: its document}, as far as texts alone tell.

    Two texts are of one document when a row holds both (as query or positive), or when a chain of
    rows leads from one to the other, whatever their sources.

    >>> rows = [Row("a", ("b",), ()), Row("d", ("e",), ()), Row("B", ("c",), ())]
    >>> documents([Source("one", "retrieval", rows)])
    {'a': 0, 'b': 0, 'd': 1, 'e': 1, 'c': 0}
    """
    ids: dict[str, int] = {}

    def number(text: str) -> int:
        return ids.setdefault(normalise(text), len(ids))

    rows = [row for source in sources for row in source.rows]
    links = [(number(row.query), number(positive)) for row in rows for positive in row.pos]
    graph = scipy.sparse.coo_array((np.ones(len(links)), np.transpose(links)), 2 * (len(ids),))
    _, numbers = connected_components(graph, directed=False)
    return dict(zip(ids, numbers.tolist(), strict=True))


def split(files: list[Path], start: Path, out: Path) -> tuple[list[Path], Path]:
    """(training files, task file), written into the folder `out`.

    start: the model folder that training starts from, for HeldOutSTS.
    """
    sources = read_sources(files)
    document = documents(sources)
    first = {}  # of each document, the first of its texts
    for text, number in document.items():
        first[number] = min(first.get(number, text), text)

    def is_held_out(row: Row) -> bool:
        return zlib.crc32(first[document[normalise(row.query)]].encode()) % 10 == 0

    train, held = [], {}
    for source, file in zip(sources, files, strict=True):
        held[source.name] = [row for row in source.rows if is_held_out(row)]
        others = [row for row in source.rows if not is_held_out(row)]
        train.append(out / "train" / file.name)
        rows = ({"query": row.query, "pos": row.pos, "neg": row.neg} for row in others)
        write_jsonl(train[-1], (row | {"type": source.type} for row in rows))

    texts = [row.query for name in CLUSTERING for row in held[name]]
    labels = [document[normalise(text)] for text in texts]
    sizes = Counter(labels)
    clustered = [
        {"text": text, "label": str(label)}
        for text, label in zip(texts, labels, strict=True)
        if sizes[label] >= 5
    ]
    write_jsonl(out / "clustering.jsonl", clustered)
    write_jsonl(out / "pairs.jsonl", paraphrase_pairs(held[PARAPHRASES][:MOST]))
    write_jsonl(out / "sts.jsonl", similar_pairs(held[SIMILAR][::5], start))
    write_beir(out / "retrieval", held[RETRIEVAL][:MOST])
    tasks = {
        "Retrieval": ("retrieval", "ndcg_at_10"),
        "Clustering": ("clustering.jsonl", "v_measure"),
        "PairClassification": ("pairs.jsonl", "max_ap"),
        "STS": ("sts.jsonl", "cosine_spearman"),
    }
    write_json(out / "tasks.json", {
        "tasks": [
            {"name": f"HeldOut{type}", "type": type, "splits": {"test": file}, "main_score": score}
            for type, (file, score) in tasks.items()
        ]
    })  # fmt: skip
    return train, out / "tasks.json"


def paraphrase_pairs(rows: list) -> list[dict]:
    """Each query with its first positive (1), and with the sentence most like it (0).

    The latter, by its characters, is of the corpus that is only trimmed on, which holds no
    paraphrase of any row.
    """
    queries = [row.query for row in rows]
    others = list(read_texts(demo.DEMO / "corpus" / "tatoeba.jsonl.gz"))
    # Runs of 3 to 5 characters, weighted by their rarity; sparse.
    grams = HashingVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), n_features=2**15, norm=None, alternate_sign=False
    )
    weigh = make_pipeline(grams, TfidfTransformer(sublinear_tf=True)).fit(others).transform
    similarity = weigh(queries) @ weigh(others).T
    nearest = np.ravel(similarity.argmax(axis=1)).tolist()
    pairs = [(row.query, row.pos[0], 1) for row in rows]
    pairs += [(query, others[i], 0) for query, i in zip(queries, nearest, strict=True)]
    return [{"sentence1": a, "sentence2": b, "label": label} for a, b, label in pairs]


def similar_pairs(rows: list, start: Path) -> list[dict]:
    """Pairs of captions: of one picture, and of pictures near each other in a random order."""
    texts = [row.query for row in rows]
    order = np.random.default_rng(0).permutation(len(rows))
    pairs = [(row.query, row.pos[0]) for row in rows]
    model, tokenizer = e5nl.load(start)
    x = e5nl.embed(model, tokenizer, texts, "none")
    # Of each text the nearest, one in the middle and a random one: all degrees of similarity.
    ranked = np.argsort(-(x @ x.T), axis=1, kind="stable")
    for i in range(len(texts)):
        pairs += [(texts[i], texts[j]) for j in (ranked[i, 1], ranked[i, 20], order[i])]
    sides = [e5nl.embed(model, tokenizer, list(side), "none") for side in zip(*pairs, strict=True)]
    scores = (sides[0] * sides[1]).sum(1).tolist()
    return [
        {"sentence1": a, "sentence2": b, "score": score}
        for (a, b), score in zip(pairs, scores, strict=True)
    ]


def write_beir(folder: Path, rows: list) -> None:
    """A retrieval task: each query with its positives."""
    passages = dict.fromkeys(text for row in rows for text in row.pos)
    ids = {text: f"d{number}" for number, text in enumerate(passages)}
    corpus = [{"_id": id, "title": "", "text": text} for text, id in ids.items()]
    write_jsonl(folder / "corpus.jsonl", corpus)
    queries = [{"_id": f"q{i}", "text": row.query} for i, row in enumerate(rows)]
    write_jsonl(folder / "queries.jsonl", queries)
    lines = ["query-id\tcorpus-id\tscore"]
    lines += [f"q{i}\t{ids[text]}\t1" for i, row in enumerate(rows) for text in row.pos]
    with new_file(folder / "qrels" / "test.tsv") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
