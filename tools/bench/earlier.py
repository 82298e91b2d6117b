"""Complete commands, imports and all, compared with the same commands of an earlier checkout.

    git worktree add ../earlier 501380c
    python -m tools.bench earlier --checkout ../earlier --model runs/demo/trimmed --threads 1

Both run with this Python, and with `--threads` threads.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from files import write_jsonl
from tools.bench import measure
from tools.samples import DEMO, demo_texts, make_model

SIZE = 3000  # of what is mined
# Of the inputs in IN; OUT is empty each time. The options have the same meaning in both checkouts.
EMBED = "e5nl.py embed --model MODEL --kind passage --out OUT/out.npy --input"
TRAIN = "e5nl.py train --model MODEL --out OUT/trained --data"
COMMANDS = {
    "embed one text": f"{EMBED} IN/one.txt",
    "embed 2,048 short texts": f"{EMBED} IN/short.txt",
    "embed 256 long texts": f"{EMBED} IN/long.txt",
    "train 8 steps of 64 short rows": (
        f"{TRAIN} DEMO/train/dekamer_title_answer.jsonl.gz --batch-size 64 --steps 8 "
        "--query-length 64 --passage-length 128"
    ),
    "train a step of 64 long rows": (
        f"{TRAIN} DEMO/train/dekamer_title_question.jsonl.gz --batch-size 64 --steps 1"
    ),
    "train a step of 256 long rows": (
        f"{TRAIN} DEMO/train/dekamer_title_question.jsonl.gz --batch-size 256 --steps 1"
    ),
    "mine for 3,000 rows": (
        "mine.py --data IN/rows.jsonl --query-embeddings IN/queries.npy "
        "--corpus-embeddings IN/passages.npy --examples 0 --out OUT/mined.jsonl"
    ),
    "trim 250,002 pieces": (
        "trim_vocab.py --model IN/base --corpus DEMO/corpus/law.jsonl.gz "
        "--check DEMO/eval/captions/corpus.jsonl.gz --out OUT/trimmed"
    ),
    "evaluate four tasks": (
        "evaluate.py run --model MODEL --tasks-file DEMO/tasks.json --out OUT/results "
        "--tasks SIB200Classification SIB200ClusteringS2S SICK-NL-STS FAQRetrieval"
    ),
}


def write_inputs(folder: Path) -> None:
    for name, kind, count in (("one", "short", 1), ("short", "short", 2048), ("long", "long", 256)):
        lines = (" ".join(text.split()) + "\n" for text in demo_texts(kind, count))
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    rows = [{"query": f"vraag {i}", "pos": [f"antwoord {i}"], "neg": []} for i in range(SIZE)]
    write_jsonl(folder / "rows.jsonl", rows)
    passages = measure.vectors(SIZE, 384, 0)
    queries = passages + measure.vectors(SIZE, 384, 1)
    np.save(folder / "passages.npy", passages)
    np.save(folder / "queries.npy", queries / np.linalg.norm(queries, axis=1, keepdims=True))
    make_model("small", folder / "base")


def run_afresh(words: list[str], checkout: Path, out: Path) -> dict:
    """The process of one figure."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    return measure.command(words, checkout)


def add_options(add) -> None:
    add("--checkout", required=True, help="folder of the earlier checkout")
    add("--model", required=True, help="model folder: what embeds, learns and is evaluated")
    add("--commands", choices=list(COMMANDS), nargs="+", default=list(COMMANDS))


def run(args) -> None:
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the commands
    now, earlier = Path(__file__).parents[2], Path(args.checkout).resolve()
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name))
        places = {"MODEL": Path(args.model).resolve(), "IN": name, "DEMO": DEMO.resolve()}
        out = places["OUT"] = Path(name, "out")
        rows = {}
        for title in args.commands:
            words = COMMANDS[title]
            for place, path in places.items():
                words = words.replace(place, str(path))
            calls = {
                f"{title}, {build}": (run_afresh, [sys.executable, *words.split()], folder, out)
                for build, folder in (("now", now), ("earlier", earlier))
            }
            rows |= measure.compare(calls, args)
    columns = ["seconds", "CPU s", "peak MB", "to ours"]
    measure.print_table(f"complete commands, {measure.machine(args)}", columns, rows)
