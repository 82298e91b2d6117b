"""Texts to embeddings, with random weights in real shapes, compared with sentence-transformers."""

import itertools
import tempfile

import numpy as np
import torch

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


def encode_texts(variant, dtype: torch.dtype, folder: str, texts: list[str]) -> dict:
    """The process of one figure."""
    encode = variant(folder, dtype)
    encode(texts[:64])  # warm up
    embeddings, figures = measure.timed(lambda: encode(texts))
    return figures | {"embeddings": embeddings.astype(np.float32)}


def add_options(add) -> None:
    add("--shapes", nargs="+", default=["small", "base"], help="small, base, large")
    add("--count", type=int, default=2048, help="texts of each kind, at most")


def run(args) -> None:
    # Here, since the processes of figures need not import them.
    from model_folder import read_tokenizer
    from tools.samples import demo_texts, make_model

    variants = measure.installed(VARIANTS)
    with tempfile.TemporaryDirectory() as folder:
        for shape, kind in itertools.product(args.shapes, ("short", "long")):
            make_model(shape, folder)
            texts = demo_texts(kind, args.count)
            rows = measure.by_dtype(encode_texts, variants, (folder, texts), args)

            lengths = list(map(len, read_tokenizer(folder)(texts, "passage: ", 512)))
            reference = next(iter(rows.values()))["embeddings"]  # ours, in float32
            for row in rows.values():
                row["tokens/s"] = sum(lengths) / row["seconds"]
                row["lowest cosine"] = (row["embeddings"] * reference).sum(1).min()
            about = f"{len(texts):,} {kind} texts (median {np.median(lengths):.0f} tokens)"
            measure.print_table(f"{shape}, {about}, {measure.machine(args)}", COLUMNS, rows)
