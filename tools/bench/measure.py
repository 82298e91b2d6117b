"""One figure is a function called in a process of its own: its seconds and its memory; tables.

So nothing that was imported, cached or allocated for one variant can help or burden another.
"""

import contextlib
import gc
import importlib.util
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

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
    "products": ".0%",
}


def measure(threads: int, function: Callable, *arguments) -> dict:
    """What `function(*arguments)` returns in a new process that computes with `threads`."""
    new = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, new, _prepare, (threads,)) as pool:
        return pool.submit(function, *arguments).result()


def _prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    os.dup2(2, 1)  # what libraries print goes to stderr: stdout is for tables


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


def command(words: list, folder=None) -> dict:
    """The figures of a command, imports and all; in a process that has run no other."""
    _, figures = timed(lambda: subprocess.run(words, cwd=folder, check=True))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return figures | {"CPU s": usage.ru_utime + usage.ru_stime, "peak MB": usage.ru_maxrss / 1e3}


def peak() -> float:
    """The most megabytes that this process had. (getrusage would count its parent's, too.)"""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3


def compare(calls: dict[str, tuple], args) -> dict[str, dict]:
    """{name: figures} of every variant {name: (function, *arguments)}, as medians of the rounds.

    The variants take turns. to ours: seconds, divided by the first variant's in the same round.
    """
    rounds = []
    for _ in range(args.rounds):
        figures = {name: measure(args.threads, *call) for name, call in calls.items()}
        ours = next(iter(figures.values()))["seconds"]
        for row in figures.values():
            row["to ours"] = row["seconds"] / ours
        rounds.append(figures)

    def median(name: str, key: str):
        values = [figures[name][key] for figures in rounds]
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


def by_dtype(figure: Callable, variants: dict[str, Callable], arguments: tuple, args) -> dict:
    """{"variant, dtype": figures} of `figure(variant, dtype, *arguments)`, a dtype at a time."""
    rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        calls = {
            f"{name}, {str(dtype).removeprefix('torch.')}": (figure, variant, dtype, *arguments)
            for name, variant in variants.items()
        }
        rows |= compare(calls, args)
    return rows


def print_table(title: str, columns: list[str], rows: dict[str, dict]) -> None:
    from report import table  # here: the processes of figures need not import it

    cells = [["", *columns]]
    for name, row in rows.items():
        cells.append([name, *(f"{row[column]:{FORMATS[column]}}" for column in columns)])
    print(f"\n{title}\n{table(cells, 'text', 1)}", flush=True)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Within the block, `count` other processes each keep a core busy."""
    # Not longer than this process lives.
    loop = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    others = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def machine(args) -> str:
    gpu = torch.cuda.is_available() and torch.cuda.get_device_name()
    others = f", other busy processes: {args.busy}" if args.busy else ""
    return f"{gpu or f'threads: {args.threads}'}, rounds: {args.rounds}{others}"


def vectors(rows: int, width: int, seed: int) -> np.ndarray:
    """Random unit vectors (rows, width) float32."""
    x = np.random.default_rng(seed).standard_normal((rows, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
