"""Hard negatives from given embeddings, compared with sentence-transformers (torch and faiss)."""

from functools import partial

import numpy as np
import torch

import mine
import search
from data import Row, Source
from tools.bench import measure

WIDTH, NEGATIVES = 384, 4
TOP = 10 * NEGATIVES + 1  # candidates, as many as sentence-transformers has by default
COLUMNS = ["seconds", "extra MB", "to ours", "rows that differ"]


# Each variant gives the numbers of the negatives (rows, NEGATIVES), -1 where there are too few.
# The positive of query q3 is the passage p3; their cosine is about 0.7.


def ours(q: np.ndarray, p: np.ndarray, precision: str) -> np.ndarray:
    rows = [Row(f"q{i}", (f"p{i}",), ()) for i in range(len(q))]
    texts = mine.number_texts(Source("bench", "retrieval", rows))
    candidates = mine.label(texts, q, p, *search.top_k(q, p, TOP, precision=precision))
    rule = {"rule": "topk-percpos", "margin": 0.95, "negatives": NEGATIVES}
    columns, _ = mine.choose(candidates, **rule)
    numbers = np.take_along_axis(candidates.passages, columns, 1)
    return np.where(columns >= 0, numbers, -1)


def peer(q: np.ndarray, p: np.ndarray, use_faiss: bool) -> np.ndarray:
    import datasets
    from sentence_transformers.util import dot_score, mine_hard_negatives, pairwise_dot_score

    if use_faiss:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())

    class Model:
        """Has the embeddings of all texts already: text q3 the third row of q."""

        device = "cpu"
        similarity, similarity_pairwise = staticmethod(dot_score), staticmethod(pairwise_dot_score)

        def get_embedding_dimension(self):
            return WIDTH

        def encode_query(self, texts, **_):
            return q[[int(text[1:]) for text in texts]]

        def encode_document(self, texts, **_):
            return p[[int(text[1:]) for text in texts]]

    texts = {"query": [f"q{i}" for i in range(len(q))], "passage": [f"p{i}" for i in range(len(p))]}
    mined = mine_hard_negatives(
        datasets.Dataset.from_dict(texts),
        Model(),
        relative_margin=0.05,
        num_negatives=NEGATIVES,
        output_format="n-tuple",
        batch_size=16384,
        use_faiss=use_faiss,
        verbose=False,
    )
    negatives = np.full((len(q), NEGATIVES), -1)
    numbers = [int(query[1:]) for query in mined["query"]]
    for column in range(NEGATIVES):
        negatives[numbers, column] = [int(text[1:]) for text in mined[f"negative_{column + 1}"]]
    return negatives


PACKAGES = "sentence_transformers", "datasets"
VARIANTS = {
    "ours, float32": (partial(ours, precision="float32"),),
    "ours, bfloat16 candidates": (partial(ours, precision="bfloat16"),),
    "sentence-transformers": (partial(peer, use_faiss=False), *PACKAGES),
    "sentence-transformers, faiss": (partial(peer, use_faiss=True), "faiss", *PACKAGES),
}


def mine_negatives(variant, rows: int) -> dict:
    """The process of one figure."""
    p = measure.vectors(rows, WIDTH, 0)
    q = p + measure.vectors(rows, WIDTH, 1)
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    variant(q[:300], p[:300])  # warm up
    negatives, figures = measure.timed(lambda: variant(q, p))
    return figures | {"negatives": negatives}


def add_options(add) -> None:
    add("--rows", type=int, nargs="+", default=[5000, 10000, 20000, 40000], help="queries")


def run(args) -> None:
    variants = measure.installed(VARIANTS)
    for count in args.rows:
        calls = {name: (mine_negatives, variant, count) for name, variant in variants.items()}
        rows = measure.compare(calls, args)
        ours = rows["ours, float32"]["negatives"]
        for row in rows.values():
            row["rows that differ"] = (row["negatives"] != ours).any(1).sum()
        title = f"{count:,} x {count:,}, {WIDTH} wide, {measure.machine(args)}"
        measure.print_table(title, COLUMNS, rows)
