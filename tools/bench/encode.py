"""Texts to embeddings, with random weights in real shapes, compared with sentence-transformers."""

import itertools
import tempfile

import numpy as np
import torch

from files import whole_number
from tools.bench import measure

COLUMNS = ["seconds", "tokens/s", "to ours", "peak MB", "lowest cosine"]


# Each variant imports what it needs, loads the model and returns a function of texts.


def ours(folder: str, dtype: torch.dtype):
    import e5nl

    model, tokenizer = e5nl.load(folder, dtype=dtype)
    return lambda texts: e5nl.embed(model, tokenizer, texts, "passage")


def sentence_transformers(folder: str, dtype: torch.dtype):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, model_kwargs={"dtype": dtype})
    return lambda texts: model.encode(texts, prompt="passage: ", normalize_embeddings=True)


VARIANTS = {
    "ours": (ours,),
    "sentence-transformers": (sentence_transformers, "sentence_transformers"),
}


def encode_texts(variant, folder: str, dtype: str, texts: list[str]) -> dict:
    """The process of one figure."""
    encode = variant(folder, getattr(torch, dtype))
    encode(texts[:64])  # warm up
    embeddings, figures = measure.timed(lambda: encode(texts))
    return figures | {"embeddings": embeddings.astype(np.float32)}


def add_options(add) -> None:
    add("--shapes", nargs="+", default=["small", "base"], help="small, base, large")
    add("--texts", choices=["short", "long"], nargs="+", default=["short", "long"])
    add("--count", type=whole_number(64, 2048), default=2048, help="of the texts of each kind")
    add("--dtypes", nargs="+", default=["float32", "bfloat16"])
    measure.add_common_options(add, rounds=3)


def run(args) -> None:
    # Here, since the processes of figures need not import them.
    from model_folder import read_tokenizer
    from tools.samples import demo_texts, make_model

    variants = measure.installed(VARIANTS)
    with tempfile.TemporaryDirectory() as folder:
        for shape, kind in itertools.product(args.shapes, args.texts):
            make_model(shape, folder)
            texts, rows = demo_texts(kind, args.count), {}
            for dtype in args.dtypes:
                calls = {
                    f"{name}, {dtype}": (encode_texts, variant, folder, dtype, texts)
                    for name, variant in variants.items()
                }
                rows |= measure.compare(calls, args)

            lengths = list(map(len, read_tokenizer(folder)(texts, "passage: ", 512)))
            reference = next(iter(rows.values()))["embeddings"]  # ours, of the first type
            for row in rows.values():
                row["tokens/s"] = sum(lengths) / row["seconds"]
                row["lowest cosine"] = (row["embeddings"] * reference).sum(1).min()
            texts = f"{args.count:,} {kind} texts (median {np.median(lengths):.0f} tokens)"
            measure.print_table(f"{shape}, {texts}, {measure.machine(args)}", COLUMNS, rows)
