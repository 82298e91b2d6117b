"""Complete commands, imports and all, compared with the same commands of an earlier checkout.

git worktree add ../earlier 501380c
python -m tools.bench earlier --checkout ../earlier --model runs/demo/trimmed --threads 1
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from files import write_jsonl
from tools.bench import measure
from tools.samples import DEMO, demo_texts, make_model

SIZE = 3000  # of what is mined
# Of the inputs in IN. Every option has the same meaning in both checkouts.
EMBED = "e5nl.py embed --model MODEL --kind passage --out IN/out.npy --overwrite --input"
TRAIN = "e5nl.py train --model MODEL --out IN/trained --overwrite --data"
COMMANDS = {
    "embed one text": f"{EMBED} IN/one.txt",
    "embed 2,048 short texts": f"{EMBED} IN/short.txt",
    "embed 256 long texts": f"{EMBED} IN/long.txt",
    "train 4 steps of 64 short rows": (
        f"{TRAIN} DEMO/train/dekamer_title_answer.jsonl.gz --batch-size 64 --steps 4 "
        "--query-length 64 --passage-length 128"
    ),
    "train a step of 64 long rows": (
        f"{TRAIN} DEMO/train/dekamer_title_question.jsonl.gz --batch-size 64 --steps 1"
    ),
    "mine for 3,000 rows": (
        "mine.py --data IN/rows.jsonl --query-embeddings IN/queries.npy "
        "--corpus-embeddings IN/passages.npy --examples 0 --out IN/mined.jsonl --overwrite"
    ),
    "trim 250,002 pieces": (
        "trim_vocab.py --model IN/base --corpus DEMO/corpus/law.jsonl.gz "
        "--check DEMO/eval/captions/corpus.jsonl.gz --out IN/trimmed --overwrite"
    ),
    "evaluate four tasks": (
        "evaluate.py run --model MODEL --tasks-file DEMO/tasks.json --overwrite --out IN/results "
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
        rows = {}
        for title in args.commands:
            words = COMMANDS[title]
            for place, path in places.items():
                words = words.replace(place, str(path))
            calls = {
                f"{title}, {build}": (measure.command, [sys.executable, *words.split()], folder)
                for build, folder in (("now", now), ("earlier", earlier))
            }
            rows |= measure.compare(calls, args)
    columns = ["seconds", "CPU s", "peak MB", "to ours"]
    measure.print_table(f"complete commands, {measure.machine(args)}", columns, rows)
