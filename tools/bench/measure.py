"""One figure is a function called in a process of its own: its seconds and its memory; tables.

So nothing that was imported, cached or allocated for one variant can help or burden another.
"""

import gc
import importlib.util
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from files import InputError, whole_number

FORMATS = {  # of the columns that tables may have
    "seconds": ".2f",
    "CPU s": ".2f",
    "tokens/s": ",.0f",
    "rows/s": ",.1f",
    "to ours": ".2f",
    "peak MB": ",.0f",
    "extra MB": ",.0f",
    "lowest cosine": ".6f",
    "rows that differ": ",.0f",
    "rows kept": ",.0f",
    "differs by": ".1e",
}


def measure(function: Callable, *arguments, threads: int = 1) -> dict:
    """What `function(*arguments)` returns in a new process that computes with `threads`."""
    new = multiprocessing.get_context("spawn")
    with tempfile.NamedTemporaryFile("r") as log:
        with ProcessPoolExecutor(1, new, _prepare, (threads, log.name)) as pool:
            try:
                return pool.submit(function, *arguments).result()
            except (Exception, SystemExit) as error:
                lines = f"{error!r}\n{log.read().strip()}".strip().splitlines()
                raise InputError(f"{function.__name__} failed: {lines[-1]}") from error


def _prepare(threads: int, log: str) -> None:
    """What libraries print goes to a log: it would stand between our tables."""
    torch.set_num_threads(threads)
    file = os.open(log, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)


def timed(function: Callable) -> tuple[object, dict[str, float]]:
    """What `function()` returns, and its seconds and megabytes.

    extra MB: above what the process had before; peak MB: of the process, imports and all.
    """
    gc.collect()
    gc.freeze()  # the garbage collector need not go through what the imports made
    before, cpu, start = peak(), time.process_time(), time.perf_counter()
    value = function()
    figures = {"seconds": time.perf_counter() - start, "CPU s": time.process_time() - cpu}
    return value, figures | {"extra MB": peak() - before, "peak MB": peak()}


def peak() -> float:
    """The most megabytes that this process had. (getrusage would count its parent's, too.)"""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3


def compare(calls: dict[str, tuple], args) -> dict[str, dict]:
    """{name: figures} of every variant {name: (function, *arguments)}, as medians of the rounds.

    The variants take turns. to ours: seconds, divided by the first variant's in the same round.
    """
    rounds = []
    for _ in range(args.rounds):
        turn = {name: measure(*call, threads=args.threads) for name, call in calls.items()}
        ours = turn[next(iter(calls))]["seconds"]
        for figures in turn.values():
            figures["to ours"] = figures["seconds"] / ours
        rounds.append(turn)

    def median(name: str, key: str):
        values = [turn[name][key] for turn in rounds]
        return np.median(values) if isinstance(values[0], float) else values[0]

    return {name: {key: median(name, key) for key in rounds[0][name]} for name in calls}


def installed(variants: dict[str, tuple]) -> dict[str, Callable]:
    """{name: function} of the variants {name: (function, *packages)} that can be imported."""
    possible = {}
    for name, (function, *packages) in variants.items():
        if all(map(importlib.util.find_spec, packages)):
            possible[name] = function
        else:
            print(f"{name}: not installed, so not measured")
    return possible


def print_table(title: str, columns: list[str], rows: dict[str, dict]) -> None:
    from report import table  # here: the processes of figures need not import it

    cells = [["", *columns]]
    for name, row in rows.items():
        cells.append([name, *(f"{row[c]:{FORMATS[c]}}" if c in row else "-" for c in columns)])
    print(f"\n{title}\n{table(cells, 'text', 1)}", flush=True)


def add_common_options(add, rounds: int = 1) -> None:
    """add: a parser's `add_argument`."""
    add("--threads", type=whole_number(1), default=2)
    add("--rounds", type=whole_number(1), default=rounds)


def machine(args) -> str:
    gpu = torch.cuda.is_available() and torch.cuda.get_device_name()
    return f"{gpu or f'threads: {args.threads}'}, rounds: {args.rounds}"


def vectors(rows: int, width: int, seed: int) -> np.ndarray:
    """Random unit vectors (rows, width) float32."""
    x = np.random.default_rng(seed).standard_normal((rows, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
