"""E5-NL from hub names to its scores: the paper's pipeline as a sequence of this project's commands (arXiv 2509.12340).

    python reproduce.py --size base --dry-run                  # the plan: every command, and what each stage will take
    python reproduce.py --size base --out runs/reproduce       # the model and its scores; needs the hub, a GPU, and disk
    python reproduce.py --size large --out runs/reproduce      # the same annotated, mined and synthetic data: made once, used again

Every stage is a command that is printed before it runs, and can be copied. A stage whose output is there is skipped. A run that was
killed goes on with the same command: training at its last checkpoint, mining at its last block of embeddings, the benchmark at its last
task. `OUT/plan.json` keeps the commands that led to each output, so none is taken for one that was made with other settings.

How sure a setting is stands behind it. *Stated*: the authors say so, in the abstract, a card, their code or its command line.
*Inferred*: follows from what they state. *Guess*: nothing public says it, and this is a choice; TopK-STDMarginPos is one (see mine.py).

Left out on purpose: writing synthetic data anew (the authors published theirs; synthesize.py makes more), and the runs that chose settings.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import estimate
from files import InputError, cli, read_json, whole_number, write_json
from mteb_nl import TASKS, select_tasks

HERE = Path(__file__).parent
SIZES = list(estimate.SHAPES)
RECORD, MANIFEST = "plan.json", "mined/manifest.json"  # in the folder of all outputs


class Annotated(NamedTuple):
    files: str  # options of `data.py prepare`, the corpus first
    size: estimate.Retrieval
    ratio: float = 1.0  # share of the rows that is trained on


# Stated: these three, 0.75 of mMARCO's rows (the authors' build_data.py), 620,000 rows in all. Inferred: that a row of theirs was a pair,
# though HotpotQA's queries have two positives each: 85,000 + 140,085 + 0.75 x 532,761 = 624,656. Here a row is a query with all its
# positives. Guess: that these are the repositories, and that mMARCO's pairs are those of its triples.
MMARCO = "unicamp-dl/mmarco:data/"
ANNOTATED = {
    "hotpotqa": Annotated("--corpus clips/beir-nl-hotpotqa --qrels BeIR/hotpotqa-qrels:train.tsv",
                          estimate.Retrieval(170_000, 85_000, 5_233_329, (17.6, 46.3))),
    "fever": Annotated("--corpus clips/beir-nl-fever --qrels BeIR/fever-qrels:train.tsv",
                       estimate.Retrieval(140_085, 109_810, 5_416_568, (8.1, 84.8))),
    "mmarco": Annotated(f"--corpus {MMARCO}google/collections/dutch_collection.tsv --triples {MMARCO}triples.train.ids.small.tsv "
                        f"--queries {MMARCO}google/queries/train/dutch_queries.train.tsv",
                        estimate.Retrieval(532_761, 502_939, 8_841_823, (6.0, 56.0), judgements=905e6), ratio=0.75),
}  # fmt: skip
# The commands. What is not here is in `plan`; `--help` of a command says what an option does.
INITIALISE = {
    "trim": [
        "trim_vocab.py --model intfloat/multilingual-e5-{size}",  # stated (card, mteb's registry)
        "--corpus allenai/c4:multilingual/c4-nl-validation.*.json.gz",  # stated (card)
        "--vocab-size 50000 --min-frequency 2",  # stated (card)
        "--no-keep-characters",  # inferred: the paper's tool ranks by frequency alone
    ],
    "transtokenize": [
        "transtokenize.py --model intfloat/e5-{size}-v2 --tokenizer GroNLP/bert-base-dutch-cased",  # stated (card)
        "--parallel Helsinki-NLP/opus-100:en-nl/train-*.parquet --fields translation.en translation.nl",  # guess: none is named
        "--min-count 10",  # guess: the tool's default
    ],
}
TOP, NEGATIVES = 100, 7
MINE = [
    "--rule topk-stdmarginpos",  # stated, by its name alone
    f"--sigma query --margin 1 --top {TOP}",  # guess, all three
    f"--negatives {NEGATIVES} --select top",  # stated: groups of 8 were stored. Guess: that these were the best
    "--when-short random",  # guess: much as FlagEmbedding's script does; the stated total leaves no room for rows dropped
    "--query-length 450 --passage-length 500",  # inferred: as in training
    "--store bfloat16 --precision bfloat16",  # ours: half the disk; the search is exact all the same
    "--examples 3 --overwrite",  # ours: --overwrite for what a killed run left
]
FILTER = [
    "synthesize.py filter --data clips/SynEmbedNL",  # stated
    "--least-positive 0.1 --largest-gap 0.96",  # stated (build_data.py); 499,252 rows to about 350,000
    "--overwrite",  # ours, as above
]
TRAIN = [
    "--negatives 1",  # stated: train_group_size 2
    "--tau 0.02 --epochs 1 --query-length 450 --passage-length 500 --weight-decay 0.1",  # stated
    "--lr 1e-5 --warmup 0.25",  # stated for the release, whose last run was of large; guess for small and base
    "--clip 1 --seed 42",  # inferred: the defaults of the trainer they used
    "--save-every 50 --resume",  # ours
]
EVALUATE = [
    "--prefix mteb",  # inferred: what mteb does with their models
    "--dtype float32",  # inferred: the published results; the paper's own runs were in float16
]

# --- the plan -------------------------------------------------------------------------------------------------------------------


class Stage(NamedTuple):
    name: str
    command: str  # words of the shell; `OUT/` stands for the folder of all outputs
    output: str  # in that folder
    needs: estimate.Needs
    reads: tuple[str, ...] = ()  # outputs of other stages
    proof: str = ""  # the file that is written last; without one the command knows what is there, and always runs
    parallel: bool = False  # on several GPUs


def plan(size: str, init: str, recipe: str, batch_size: int, miner: str, tasks: list[str], processes: int = 1) -> list[Stage]:
    """The stages in their order. What does not depend on size and init has one name for all of them, so it is made once."""
    stages = []

    def add(name: str, output: str, command: list[str], needs: estimate.Needs, **others) -> str:
        stages.append(Stage(name, " ".join([*command, f"--out OUT/{output}"]), output, needs, **others))
        return output

    base = f"e5-{size}-trm" if init == "trim" else f"e5-{size}-v2-t2t"  # the authors' names
    command = [words.format(size=size) for words in INITIALISE[init]]
    add("initialise", base, command, estimate.initialise(size, init), proof=f"{base}/config.json")
    for name, source in ANNOTATED.items():
        out, command = f"annotated/{name}.jsonl.gz", [f"data.py prepare {source.files} --expect {source.size.pairs}"]
        add(f"annotated {name}", out, command, estimate.prepare(source.size), proof=out)
    mined = []
    for number, (name, source) in enumerate(ANNOTATED.items()):
        read, out, corpus = f"annotated/{name}.jsonl.gz", f"mined/{name}.jsonl.gz", " ".join(source.files.split()[:2])
        command = [f"mine.py --model {shlex.quote(miner)} --data OUT/{read} {corpus} --cache OUT/embeddings", *MINE]
        needs = estimate.mine(source.size, miner, processes, TOP, NEGATIVES, first=number == 0)
        mined.append(add(f"mine {name}", out, command, needs, reads=(read,), proof=f"{out}.json", parallel=True))
    synthetic = add("synthetic", "synthetic", FILTER, estimate.synthetic(), proof="synthetic/manifest.json")

    command = [f"e5nl.py train --model OUT/{base} --data OUT/{MANIFEST} OUT/{synthetic}/manifest.json", f"--recipe {recipe}"]
    command += [f"--batch-size {batch_size}", *TRAIN]
    needs = estimate.train(size, init, [(source.size, source.ratio) for source in ANNOTATED.values()], processes, NEGATIVES)
    model = add("train", f"{base}-nl", command, needs, reads=(base, *mined, synthetic), proof=f"{base}-nl/config.json", parallel=True)
    command = [f"evaluate.py run --model OUT/{model} --tasks", *map(shlex.quote, tasks), *EVALUATE]
    results = add("evaluate", f"results/{model}", command, estimate.evaluate(size, init), reads=(model,), parallel=True)
    command = f"evaluate.py compare clips/e5-{size}-trm-nl OUT/{results}"  # of the t2t models no score is published
    return [*stages, Stage("compare", command, "", estimate.Needs(memory=5e8), (results,))]


def manifest() -> dict:
    """What a training run needs to know of the mined sources."""
    return {"sources": [{"file": f"{name}.jsonl.gz", "ratio": source.ratio} for name, source in ANNOTATED.items()]}


HEAD = f"{'':<20}{'download':>12}{'disk':>12}{'memory':>12}{'GPU memory':>12}{'GPU hours':>11}"


def row(name: str, needs: estimate.Needs, gpu: str) -> str:
    """A line below HEAD."""
    sizes = "".join(f"{size / 1e9:>9.1f} GB" if size else f"{'-':>12}" for size in needs[:4])
    return f"{name:<20}{sizes}{f'{needs.hours(gpu):.2f}' if needs.hours(gpu) else '-':>11}"


def describe(stages: list[Stage], out: Path, gpu: str, processes: int) -> str:
    """The plan as a table and a list of commands."""
    total = estimate.Needs(*map(sum, zip(*(stage.needs for stage in stages), strict=True)))
    total = total._replace(memory=max(stage.needs.memory for stage in stages), gpu=max(stage.needs.gpu for stage in stages))
    there = {stage.name: "   is there" * is_there(stage, out) for stage in stages}
    lines = [HEAD, *(row(stage.name, stage.needs, gpu) + there[stage.name] for stage in stages), row("in all", total, gpu)]
    lines += [f"{free(out) / 1e9:.1f} GB are free for {out}; downloads go to the hub's cache", ""]
    lines += [f"# {out / MANIFEST} will be {json.dumps(manifest())}"]
    for number, stage in enumerate(stages, 1):
        lines += ["", f"# {number} {stage.name}", shown(words(stage, out, processes))]
    return "\n".join(lines)


def free(out: Path) -> int:
    return shutil.disk_usage(next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())).free


# --- running it -----------------------------------------------------------------------------------------------------------------


def words(stage: Stage, out: Path, processes: int) -> list[str]:
    """The command's words, without Python's name."""
    script, *rest = (f"{out}{word[3:]}" if word.startswith("OUT/") else word for word in shlex.split(stage.command))
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*(several if stage.parallel and processes > 1 else ()), os.path.relpath(HERE / script), *rest]


def shown(words: list[str]) -> str:
    """As a shell takes it, in lines of some 120 characters, broken before options."""
    lines = ["python"]
    for word in map(shlex.quote, words):
        if word.startswith("--") and len(lines[-1]) > 90:
            lines.append("   ")
        lines[-1] += f" {word}"
    return " \\\n".join(lines)


def is_there(stage: Stage, out: Path) -> bool:
    return bool(stage.proof) and (out / stage.proof).exists()


def made_by(stage: Stage, stages: list[Stage]) -> list[str]:
    """The commands that lead to its output, in order, its own last, and the manifest where it reads that."""
    commands = [command for other in stages if other.output in stage.reads for command in made_by(other, stages)]
    return [*dict.fromkeys(commands), *([json.dumps(manifest())] if MANIFEST in stage.command else []), stage.command]


def read_record(out: Path) -> dict[str, list[str]]:
    return read_json(out / RECORD) if (out / RECORD).exists() else {}


def check_record(record: dict[str, list[str]], stages: list[Stage], out: Path) -> None:
    """An output that is there, whole or in part, must have been made by the commands that would make it now."""
    for stage in stages:
        path, now, before = out / stage.output, made_by(stage, stages), record.get(stage.output)
        if not stage.proof or not path.exists() or now == before:
            continue
        scores = [out / other.output for other in stages if stage.output in other.reads and not other.proof]  # evaluation refuses old ones
        old = " and ".join(str(one) for one in (path, *scores) if one.exists())
        advice = f"remove {old} to make it anew, or choose another --out"
        if before is None:
            raise InputError(f"{path}: is there, but {out / RECORD} does not say how it was made; {advice}")
        pairs = [(one.split(), other.split()) for one, other in zip(before, now, strict=False)]
        was = " ".join(dict.fromkeys(word for one, other in pairs for word in one if word not in other))
        new = " ".join(dict.fromkeys(word for one, other in pairs for word in other if word not in one))
        raise InputError(f"{path}: was made with other settings (there {was or 'without'}, now {new or 'without'}); {advice}")


def missing(stages: list[Stage], out: Path) -> set[str]:
    """Names of the stages to run: those without their output, unless all that is made of it is there."""
    wanted = {}
    for stage in reversed(stages):
        readers = [other for other in stages if stage.output in other.reads]
        wanted[stage.name] = not stage.proof or (not is_there(stage, out) and any(wanted[reader.name] for reader in readers))
    return {name for name, run in wanted.items() if run}


@contextlib.contextmanager
def alone(out: Path) -> Iterator[IO]:
    """A file that is locked as long as this run lives, or a command of it: one that outlives its killed parent must not have company."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another run is at work there, or a command that it left behind; wait for it, or end it") from None
        yield file


def call(command: list[str], lock: IO) -> int:
    """Run it with this Python; its exit status. When this process is told to stop, so is the command, which gets the time that it needs."""
    process = subprocess.Popen([sys.executable, *command], pass_fds=[lock.fileno()])
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return status if status >= 0 else 128 - status


def run(stages: list[Stage], out: Path, processes: int, gpu: str) -> int:
    """Run what is missing; the status of the first stage that fails, or 0."""
    with alone(out) as lock:
        record = read_record(out)
        check_record(record, stages, out)
        write_json(out / MANIFEST, manifest())
        todo = missing(stages, out)
        for number, stage in enumerate(stages, 1):
            there = f": {out / stage.output} is {'there' if is_there(stage, out) else 'not needed any more'}"
            print(f"\n== {number}/{len(stages)} {stage.name}{'' if stage.name in todo else there}", flush=True)
            if stage.name not in todo:
                continue
            command = words(stage, out, processes)
            print(f"{HEAD}\n{row('about', stage.needs, gpu)}   {free(out) / 1e9:.1f} GB of disk are free\n$ {shown(command)}", flush=True)
            if stage.proof:
                write_json(out / RECORD, record := record | {stage.output: made_by(stage, stages)})
            if status := call(command, lock):
                print(f"error: stage {stage.name!r} failed, exit status {status}; the same command goes on there", file=sys.stderr)
                return status
    return 0


def find_gpus() -> tuple[int, str]:
    """How many GPUs there are, and the name in estimate.GPUS of the first."""
    import torch  # here: slow to import, and only this needs it

    count = torch.cuda.device_count()
    name = torch.cuda.get_device_name() if count else ""
    return count, next((known for known in estimate.GPUS if re.search(rf"\b{known}\b", name)), "")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description="E5-NL from hub names to its scores.")
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--init", choices=list(INITIALISE), default="trim",
                        help="trim multilingual E5 (default), or give English E5 the pieces of BERTje")  # fmt: skip
    parser.add_argument("--out", default="runs/reproduce", help="folder of all outputs; several sizes may share it (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    group = parser.add_argument_group("settings that may be chosen; the others stand at the top of reproduce.py")
    group.add_argument("--recipe", choices=["released", "stated"], default="released",
                       help="of e5nl.py train: what the authors' code does (default; inferred: so the published models were made), or what "
                            "its command line says")  # fmt: skip
    group.add_argument("--batch-size", type=whole_number(2), default=1024, help="stated: %(default)s")
    group.add_argument("--miner", default="intfloat/multilingual-e5-base", help="model that mines; guess: %(default)s for all sizes")
    group.add_argument("--tasks", nargs="+", default=["all"], help="of the benchmark: names, types, native, translated (default: all)")
    group = parser.add_argument_group("machine")
    group.add_argument("--processes", type=whole_number(1), help="one a GPU (default: as many as there are GPUs)")
    group.add_argument("--gpu", choices=list(estimate.GPUS), help="for the estimates (default: the one that is here, else H100)")
    args = parser.parse_args(argv)

    select_tasks(TASKS, args.tasks)  # a mistyped name is said now, not after hours
    count, found = (0, "") if args.processes and args.gpu else find_gpus()
    processes, gpu, out = args.processes or max(1, count), args.gpu or found or "H100", Path(args.out)
    stages = plan(args.size, args.init, args.recipe, args.batch_size, args.miner, args.tasks, processes)
    known = "" if args.gpu or found else ", as none of a known kind is here"
    rates = " and ".join(f"{rate:.0f} x 10^12 {dtype}" for dtype, rate in estimate.sustained(gpu).items())
    print(f"{args.size}, {args.init}, recipe {args.recipe}, processes: {processes}. Hours are those of one {gpu}{known},\n"
          f"and a lower bound: of the matrix products alone, at {rates} operations a second (assumed)\n")  # fmt: skip
    if args.dry_run:
        print(describe(stages, out, gpu, processes))
        check_record(read_record(out), stages, out)  # what the run itself would refuse
        return 0
    return run(stages, out, processes, gpu)


if __name__ == "__main__":
    cli(main)
