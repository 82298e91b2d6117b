"""E5-NL from hub names to its scores: the paper's pipeline, stage by stage (arXiv 2509.12340).

    python reproduce.py --size base --dry-run               # every command, and what it downloads
    python reproduce.py --size base --out runs/reproduce    # needs the hub, a GPU, and disk
    python reproduce.py --size large --out runs/reproduce   # the same data: made once, used again

Every stage is a command of this project that is printed before it runs, and can be copied. A stage
whose output is complete is skipped. A run that was killed resumes with the same command: training
at its last checkpoint, mining at its last block of embeddings, the benchmark at its last task. What
exists is kept whatever settings made it: choose another `--out` for other settings.

Each setting is followed by how sure it is. *Stated*: the authors say so, in the abstract, a card,
their code or its command line. *Inferred*: follows from what they state. *Guess*: nothing public
says it, and this is a choice; TopK-STDMarginPos is one (see mine.py).

Left out on purpose: writing synthetic data anew (the authors published theirs; synthesize.py makes
more), and the runs that chose settings.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from files import ShowDefaults, cli, whole_number, write_json
from mteb_nl import TASKS, select_tasks

HERE = Path(__file__).parent


class Stage(NamedTuple):
    """One command. In its words `OUT/` stands for the folder of all outputs."""

    name: str
    words: list[str]  # each may hold several
    proof: str = ""  # the output's file that is written last; "": the command knows what is done
    download: float = 0.0  # about so many GB, if the hub's cache has nothing of it
    parallel: bool = False  # on several GPUs


# --- 1. initialise: the pieces of Dutch -----------------------------------------------------------

MODEL_GB = {"small": 0.47, "base": 1.11, "large": 2.24}  # multilingual E5, with its tokenizer
ENGLISH_GB = {"small": 0.13, "base": 0.44, "large": 1.34}


def trim(size: str) -> Stage:
    name = f"e5-{size}-trm"  # the authors' name
    words = [
        f"trim_vocab.py --model intfloat/multilingual-e5-{size}",  # stated (card, mteb's registry)
        "--corpus allenai/c4:multilingual/c4-nl-validation.*.json.gz",  # stated (card)
        "--vocab-size 50000 --min-frequency 2",  # stated (card)
        "--no-keep-characters",  # inferred: the paper's tool ranks by frequency alone
        f"--out OUT/{name}",
    ]
    return Stage(name, words, f"{name}/config.json", MODEL_GB[size] + 0.12)


def transtokenize(size: str) -> Stage:
    name = f"e5-{size}-v2-t2t"
    words = [
        f"transtokenize.py --model intfloat/e5-{size}-v2",  # stated (card)
        "--tokenizer GroNLP/bert-base-dutch-cased",  # stated (card)
        "--parallel Helsinki-NLP/opus-100:en-nl/train-*.parquet",  # guess: none is named
        "--fields translation.en translation.nl",
        "--min-count 10",  # guess: the tool's default
        f"--out OUT/{name}",
    ]
    return Stage(name, words, f"{name}/config.json", ENGLISH_GB[size] + 0.05)


INITIALISE = {"trim": trim, "transtokenize": transtokenize}


# --- 2. annotated data, with mined negatives ------------------------------------------------------


class Annotated(NamedTuple):
    corpus: str
    judgements: str  # options of `data.py prepare`
    pairs: int  # of a query and a positive, as published
    download: float
    ratio: float = 1.0  # share of the rows that is trained on


# Stated: these three, 0.75 of mMARCO's rows (the authors' build_data.py), 620,000 rows in all.
# Inferred: that a row of theirs was a pair, though HotpotQA's queries have two positives each:
# 85,000 + 140,085 + 0.75 x 532,761 = 624,656. Here a row is a query with all its positives.
# Guess: that these are the repositories, and that mMARCO's pairs are those of its triples.
MMARCO = "unicamp-dl/mmarco:data/"
ANNOTATED = {
    "hotpotqa": Annotated(
        "clips/beir-nl-hotpotqa", "--qrels BeIR/hotpotqa-qrels:train.tsv", 170_000, 1.9
    ),
    "fever": Annotated("clips/beir-nl-fever", "--qrels BeIR/fever-qrels:train.tsv", 140_085, 3.2),
    "mmarco": Annotated(
        f"{MMARCO}google/collections/dutch_collection.tsv",
        f"--triples {MMARCO}triples.train.ids.small.tsv "
        f"--queries {MMARCO}google/queries/train/dutch_queries.train.tsv",
        532_761,
        4.6,
        ratio=0.75,
    ),
}


def prepare(name: str) -> Stage:
    source, out = ANNOTATED[name], f"annotated/{name}.jsonl.gz"
    words = [
        f"data.py prepare --corpus {source.corpus} {source.judgements}",
        f"--expect {source.pairs} --out OUT/{out}",
    ]
    return Stage(f"annotated {name}", words, out, source.download)


def mine(name: str) -> Stage:
    """The embeddings of the 19.5 million passages take 30 GB of disk with a model of width 768."""
    out = f"mined/{name}.jsonl.gz"
    words = [
        "mine.py --model intfloat/multilingual-e5-base",  # guess, for all sizes
        f"--data OUT/annotated/{name}.jsonl.gz --corpus {ANNOTATED[name].corpus}",
        "--rule topk-stdmarginpos",  # stated, by its name alone
        "--sigma query --margin 1 --top 100",  # guess, all three
        "--negatives 7",  # stated: groups of 8 were stored; guess: that these were the best
        "--when-short random",  # guess: as FlagEmbedding's script; the total leaves none to drop
        "--query-length 450 --passage-length 500",  # inferred: as in training
        "--store bfloat16 --precision bfloat16",  # ours: half the disk; the search is exact
        "--cache OUT/embeddings --examples 3",  # ours
        f"--overwrite --out OUT/{out}",  # ours: over what a killed run left
    ]
    download = MODEL_GB["base"] if name == next(iter(ANNOTATED)) else 0.0
    return Stage(f"mine {name}", words, f"{out}.json", download, parallel=True)


def manifest() -> dict:
    """What a training run needs to know of the mined sources."""
    return {
        "sources": [
            {"file": f"{name}.jsonl.gz", "ratio": source.ratio}
            for name, source in ANNOTATED.items()
        ]
    }


# --- 3. synthetic data ----------------------------------------------------------------------------


def synthetic() -> Stage:
    words = [
        "synthesize.py filter --data clips/SynEmbedNL",  # stated
        "--least-positive 0.1 --largest-gap 0.96",  # stated: 499,252 rows to about 350,000
        "--overwrite --out OUT/synthetic",  # ours, as above
    ]
    return Stage("synthetic", words, "synthetic/manifest.json", 0.4)


# --- 4. train -------------------------------------------------------------------------------------


def train(base: str, batch_size: int) -> Stage:
    words = [
        f"e5nl.py train --model OUT/{base}",
        "--data OUT/mined/manifest.json OUT/synthetic/manifest.json",
        "--recipe released",  # inferred: it made the published models
        f"--batch-size {batch_size}",  # stated: 1024
        "--negatives 1",  # stated: train_group_size 2
        "--tau 0.02 --epochs 1 --weight-decay 0.1",  # stated
        "--query-length 450 --passage-length 500",  # stated
        "--lr 1e-5 --warmup 0.25",  # stated for the last run, of large; guess for small and base
        "--clip 1 --seed 42",  # inferred: the defaults of the trainer they used
        f"--save-every 50 --resume --out OUT/{base}-nl",  # ours
    ]
    return Stage("train", words, f"{base}-nl/config.json", parallel=True)


# --- 5. evaluate ----------------------------------------------------------------------------------


def evaluate(model: str, tasks: list[str]) -> Stage:
    words = [
        f"evaluate.py run --model OUT/{model} --tasks {shlex.join(tasks)}",
        "--prefix mteb",  # inferred: what mteb does with their models
        "--dtype float32",  # inferred: the published results; the paper's own were in float16
        f"--out OUT/results/{model}",
    ]
    return Stage("evaluate", words, download=1.3, parallel=True)


def compare(size: str, model: str) -> Stage:
    """With the published scores of the trimmed model; the t2t models have none."""
    return Stage("compare", [f"evaluate.py compare clips/e5-{size}-trm-nl OUT/results/{model}"])


# --- the stages in their order --------------------------------------------------------------------


def plan(size: str, init: str, batch_size: int, tasks: list[str]) -> list[Stage]:
    """What does not depend on size and init has one name for all of them, so it is made once."""
    initialise = INITIALISE[init](size)
    return [
        initialise,
        *map(prepare, ANNOTATED),
        *map(mine, ANNOTATED),
        synthetic(),
        train(initialise.name, batch_size),
        evaluate(f"{initialise.name}-nl", tasks),
        compare(size, f"{initialise.name}-nl"),
    ]


def command(stage: Stage, out: Path, processes: int) -> list[str]:
    """The words of its command, without Python's name."""
    script, *words = shlex.split(" ".join(stage.words))
    words = [f"{out}{word[3:]}" if word.startswith("OUT/") else word for word in words]
    launcher = []
    if stage.parallel and processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc_per_node", str(processes)]
    return [*launcher, os.path.relpath(HERE / script), *words]


def shown(words: list[str]) -> str:
    """As a shell takes it, in lines of some 100 characters, broken before options."""
    lines = ["python"]
    for word in map(shlex.quote, words):
        if word.startswith("--") and len(lines[-1]) > 70:
            lines.append("   ")
        lines[-1] += f" {word}"
    return " \\\n".join(lines)


def execute(words: list[str]) -> int:
    """Run it with this Python; its exit status.

    When this process is told to stop, so is the command, which gets the time it needs.
    """
    process = subprocess.Popen([sys.executable, *words])
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return status if status >= 0 else 128 - status


def run(stages: list[Stage], out: Path, processes: int, dry_run: bool = False) -> int:
    """Run what is not complete; the status of the first stage that fails, or 0."""
    if not dry_run:
        write_json(out / "mined/manifest.json", manifest())
    for number, stage in enumerate(stages, 1):
        complete = stage.proof and (out / stage.proof).exists()
        words = command(stage, out, processes)
        print(f"\n== {number}/{len(stages)} {stage.name}", end="")
        print(f": {out / stage.proof} exists; skipped" if complete else "", flush=True)
        if dry_run or not complete:
            size = f"# downloads about {stage.download:.1f} GB\n" if stage.download else ""
            print(f"{size}$ {shown(words)}", flush=True)
        if dry_run or complete:
            continue
        if status := execute(words):
            print(
                f"error: stage {stage.name!r} failed, exit status {status}; "
                "the same command resumes there",
                file=sys.stderr,
            )
            return status
    return 0


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description="E5-NL from hub names to its scores.",
        formatter_class=ShowDefaults,
    )
    parser.add_argument("--size", choices=list(MODEL_GB), required=True)
    parser.add_argument(
        "--init",
        choices=list(INITIALISE),
        default="trim",
        help="trim multilingual E5, or give English E5 the pieces of BERTje",
    )
    parser.add_argument(
        "--out", default="runs/reproduce", help="folder of all outputs; sizes may share it"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    parser.add_argument("--processes", type=whole_number(1), help="by default one per GPU")
    parser.add_argument("--batch-size", type=whole_number(2), default=1024)
    parser.add_argument(
        "--tasks", nargs="+", default=["all"], help="names, types, native, translated"
    )
    args = parser.parse_args(argv)
    select_tasks(TASKS, args.tasks)  # a mistyped name is reported now, not after hours
    if args.processes is None:
        import torch  # here: slow to import, and only this needs it

        args.processes = max(1, torch.cuda.device_count())

    stages = plan(args.size, args.init, args.batch_size, args.tasks)
    print(f"{args.size}, {args.init}, processes: {args.processes}")
    return run(stages, Path(args.out), args.processes, args.dry_run)


if __name__ == "__main__":
    cli(main)
