"""Exact search in passages on disk: seconds and memory."""

import tempfile
from pathlib import Path

import numpy as np
import torch

import search
from files import whole_number
from tools.bench import measure


def write_passages(path: Path, rows: int, width: int) -> None:
    """bfloat16, as `mine.py --store bfloat16` stores them."""
    passages = torch.from_numpy(measure.vectors(rows, width, 0)).bfloat16()
    np.save(path, passages.view(torch.uint16).numpy())


def search_passages(path: Path, queries: int, width: int) -> dict:
    """The process of one figure."""
    passages, q = np.load(path, mmap_mode="r"), measure.vectors(queries, width, 1)
    return measure.timed(lambda: search.top_k(q, passages, 100))[1]


def add_options(add) -> None:
    add("--rows", type=whole_number(1), nargs="+", default=[1_000_000], help="passages")
    add("--queries", type=whole_number(1), default=1000)
    add("--width", type=whole_number(1), default=64)
    measure.add_common_options(add)


def run(args) -> None:
    rows = {}
    for count in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "passages.npy")
            write_passages(path, count, args.width)
            call = search_passages, path, args.queries, args.width
            rows |= measure.compare({f"{count:,} passages": call}, args)
    title = f"the best 100 for {args.queries:,} queries, {args.width} wide, bfloat16 on disk"
    measure.print_table(f"{title}, {measure.machine(args)}", ["seconds", "CPU s", "peak MB"], rows)
