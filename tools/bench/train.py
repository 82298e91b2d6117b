"""A training step, on the same rows as sentence-transformers' loss with gradient caching."""

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import e5nl
import trim_vocab
from data import Row, Source, read_source
from files import whole_number
from tools.bench import measure
from tools.samples import DEMO, make_model


def training_rows(count: int) -> list[Row]:
    """Short queries (titles), passages of up to 500 tokens, a negative from another row."""
    rows = read_source(DEMO / "train/dekamer_title_question.jsonl.gz").rows
    pairs = zip(rows, rows[1:] + rows[:1], strict=True)
    rows = [Row(row.query, row.pos[:1], other.pos[:1]) for row, other in pairs]
    return random.Random(0).sample(rows, count)


def ours(folder: str, dtype: torch.dtype, batch: int) -> Iterator:
    source = Source("bench", "retrieval", training_rows(batch))  # a step takes all its rows
    options = {"batch_size": batch, "dtype": dtype, "steps": 3, "masks": False}
    return e5nl.train(*e5nl.load(folder), [source], **options)


def sentence_transformers(folder: str, dtype: torch.dtype, batch: int) -> Iterator:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    model = SentenceTransformer(folder).train()
    model.max_seq_length = 500
    loss = CachedMultipleNegativesRankingLoss(model, scale=50, mini_batch_size=32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=0.1)
    rows = training_rows(batch)
    queries = [f"query: {row.query}" for row in rows]
    positives = [f"passage: {row.pos[0]}" for row in rows]
    negatives = [f"passage: {row.neg[0]}" for row in rows]
    while True:
        # Autocast is around `backward` too, since the cached loss embeds again in it.
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            features = [model.tokenize(texts) for texts in (queries, positives, negatives)]
            loss(features, None).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield


VARIANTS = {
    "ours": (ours,),
    "sentence-transformers, cached": (sentence_transformers, "sentence_transformers", "datasets"),
}


PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_linear")


def second_step(variant, dtype: torch.dtype, folder: str, batch: int) -> dict:
    """The process of one figure. After the first step the optimizer's state exists.

    products: their share of a third step's time, with one thread: the profiler sees no other.
    """
    steps = variant(folder, dtype, batch)
    next(steps)
    _, figures = measure.timed(lambda: next(steps))
    torch.set_num_threads(1)
    with torch.profiler.profile() as profile:
        next(steps)
    seconds = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    products = sum(seconds.get(name, 0) for name in PRODUCTS) / sum(seconds.values())
    return figures | {"rows/s": batch / figures["seconds"], "products": products}


def add_options(add) -> None:
    add("--pieces", type=int, choices=[50_002, 250_002], nargs="+", default=[50_002, 250_002])
    add("--batches", type=whole_number(2, 1024), nargs="+", default=[32, 256], help="rows")


def run(args) -> None:
    variants = measure.installed(VARIANTS)
    with tempfile.TemporaryDirectory() as name:
        folders = {pieces: Path(name, str(pieces)) for pieces in (250_002, 50_002)}
        make_model("small", folders[250_002])
        folders[50_002].mkdir()
        kept = np.array([*range(50_001), 250_001])  # the special tokens are among them
        trim_vocab.write_model(trim_vocab.read_model(folders[250_002]), folders[50_002], kept)

        for pieces, batch in itertools.product(args.pieces, args.batches):
            arguments = str(folders[pieces]), batch
            rows = measure.by_dtype(second_step, variants, arguments, args)
            title = f"small, {pieces:,} pieces, a step of {batch} rows, {measure.machine(args)}"
            columns = ["seconds", "CPU s", "rows/s", "to ours", "peak MB", "products"]
            measure.print_table(title, columns, rows)
