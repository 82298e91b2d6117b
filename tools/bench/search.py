"""Exact search in passages on disk: seconds and memory."""

import tempfile
from pathlib import Path

import numpy as np
import torch

import search
from tools.bench import measure

QUERIES, WIDTH = 1000, 64


def search_passages(path: Path) -> dict:
    """The process of one figure."""
    passages, queries = np.load(path, mmap_mode="r"), measure.vectors(QUERIES, WIDTH, 1)
    return measure.timed(lambda: search.top_k(queries, passages, 100))[1]


def add_options(add) -> None:
    add("--rows", type=int, nargs="+", default=[1_000_000], help="passages")


def run(args) -> None:
    rows = {}
    for count in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "passages.npy")
            # bfloat16, as `mine.py --store bfloat16` stores them.
            passages = torch.from_numpy(measure.vectors(count, WIDTH, 0)).bfloat16()
            np.save(path, passages.view(torch.uint16).numpy())
            rows |= measure.compare({f"{count:,} passages": (search_passages, path)}, args)
    title = f"the best 100 for {QUERIES:,} queries, {WIDTH} wide, bfloat16 on disk"
    measure.print_table(f"{title}, {measure.machine(args)}", ["seconds", "CPU s", "peak MB"], rows)
