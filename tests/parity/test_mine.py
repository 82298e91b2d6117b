"""Hard negatives against sentence-transformers' `mine_hard_negatives`: the same passages are taken.

    pip install -r tests/parity/requirements.txt && python -m pytest tests/parity/test_mine.py

Their absolute margin is topk-marginpos, their relative margin topk-percpos, their `max_score`
topk-abs (they keep a score at the threshold, which random vectors do not hit). They too take the
lowest-scoring positive of a query.
"""

import datasets
import numpy as np
import pytest
import torch
from sentence_transformers.util import mine_hard_negatives

import mine
from data import Row, Source
from files import read_jsonl, write_jsonl

ROWS, NEGATIVES, WIDTH = 300, 4, 16


@pytest.fixture(scope="module")
def rows():
    """300 rows, every tenth query asked again with another answer."""
    return [(f"vraag {i if i % 10 else i // 20 * 20}", f"antwoord {i}") for i in range(ROWS)]


@pytest.fixture(scope="module")
def vectors(rows):
    """{text: unit vector}; an answer lies near its question."""
    generator, found = np.random.default_rng(0), {}
    for query, passage in rows:
        found.setdefault(query, generator.standard_normal(WIDTH))
        found[passage] = found[query] + 1.2 * generator.standard_normal(WIDTH)
    return {
        text: (vector / np.linalg.norm(vector)).astype(np.float32) for text, vector in found.items()
    }


class Model:
    """What mine_hard_negatives asks of a SentenceTransformer, over vectors that are given."""

    device = "cpu"

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts, **_):
        return np.stack([self.vectors[text] for text in texts])

    encode_query = encode_document = encode

    @staticmethod
    def similarity(a, b):
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    @staticmethod
    def similarity_pairwise(a, b):
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1)


@pytest.mark.parametrize(
    ("rule", "margin", "theirs"),
    [
        ("topk", 0, {}),
        ("topk-abs", 0.55, {"max_score": 0.55}),
        ("topk-marginpos", 0.1, {"absolute_margin": 0.1}),
        ("topk-percpos", 0.8, {"relative_margin": 0.2}),
    ],
)
def test_the_same_negatives(tmp_path, rows, vectors, rule, margin, theirs):
    dataset = datasets.Dataset.from_dict(
        {"query": [query for query, _ in rows], "answer": [passage for _, passage in rows]}
    )
    found = mine_hard_negatives(
        dataset,
        Model(vectors),
        num_negatives=NEGATIVES,
        range_max=ROWS,
        output_format="triplet",
        verbose=False,
        **theirs,
    )
    expected = {}
    for row in found:
        expected.setdefault((row["query"], row["answer"]), []).append(row["negative"])

    source = tmp_path / "rows.jsonl"
    write_jsonl(source, [{"query": query, "pos": [passage]} for query, passage in rows])
    texts = mine.number_texts(
        Source("rows", "retrieval", [Row(query, (passage,), ()) for query, passage in rows])
    )
    for name, part in (("q", texts.queries), ("p", texts.passages)):
        np.save(tmp_path / f"{name}.npy", np.stack([vectors[text] for text in part]))
    given = [
        "--query-embeddings",
        str(tmp_path / "q.npy"),
        "--corpus-embeddings",
        str(tmp_path / "p.npy"),
        "--top",
        str(ROWS),
    ]
    rule = ["--rule", rule, "--margin", str(margin), "--negatives", str(NEGATIVES)]
    mine.main(["--data", str(source), "--out", str(tmp_path / "mined.jsonl"), *given, *rule])
    ours = {
        (row["query"], row["pos"][0]): row["neg"] for _, row in read_jsonl(tmp_path / "mined.jsonl")
    }

    assert len(ours) == ROWS and sum(map(len, ours.values())) > ROWS
    assert {key: negatives for key, negatives in ours.items() if negatives} == expected
