"""The complete method on a real multilingual E5 and real Dutch text, on the CPU, in minutes.

Unpack, trim, train, mine, train again, evaluate: every stage is a command of this project, printed
before it runs, so this is also the tutorial. The encoder is multilingual-e5-small with its matrices
in 4 bits, which `pip install -r requirements.txt` has brought (see tools/unpack.py); the text is in
`demo/` (see demo/SOURCES.md). Nothing is downloaded unless `--model` names a hub repository.

    python demo.py                                         # ten minutes on two cores
    python demo.py --quick                                 # two: it runs, and learns nothing
    python demo.py --model intfloat/multilingual-e5-small  # the float32 original, from the hub
    python demo.py --model random                          # a small encoder with random weights

The settings were chosen on rows held out of the bundled training sources (`python -m tools.ablate
settings --held-out`, docs/ablations.md), not by the tasks that the table at the end has.
"""

import argparse
import glob
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import e5nl
import report
from files import cli, read_jsonl, write_jsonl
from tools import unpack

# Relative: short names in the commands that are printed.
DEMO = Path(os.path.relpath(Path(__file__).parent / "demo"))


class Recipe(NamedTuple):
    """How an encoder is trained, once without and once with hard negatives."""

    options: str  # of `e5nl.py train`
    lengths: str  # tokens that are read
    steps: int
    share: float  # of the trained weights in the average with the first ones; 1: no average


# Smaller chunks and less memory than by default, for the sake of laptops.
PRETRAINED = Recipe(
    "--batch-size 64 --schedule decay --warmup 0.1 --lr 6e-5 --chunk-tokens 768 --memory 2.6",
    "--query-length 64 --passage-length 128",
    steps=40,
    share=0.5,
)
# Random weights need far larger steps, which would destroy what a pretrained encoder knows.
RANDOM = Recipe(
    "--batch-size 256 --schedule decay --warmup 0.1 --lr 3e-3 --weight-decay 1 --tau 0.1",
    "--query-length 32 --passage-length 48",
    steps=150,
    share=1,
)
RANDOM_SHAPE = "--width 256 --layers 1 --heads 4 --intermediate 256 --dropout 0"
PACKAGED = "4-bit"  # the encoder of tools/unpack.py
PARAPHRASES = "tatoeba_paraphrases"  # get made contradictions
# Captions of one picture tell of different things in it: as paraphrases they do harm.
LEFT_OUT = "captions"
MINED = "tldr_description_examples", "law_opening_rest", "algoritmekader_heading_section"
# One of each type. (DekamerRetrieval's long passages would take as long as all of these together.)
TASKS = (
    "SIB200Classification SICKNLPairClassification DekamerThemes SIB200ClusteringS2S "
    "AlgoritmekaderReranking FAQRetrieval SICK-NL-STS"
)
QUICK_STEPS, QUICK_TASKS = 2, "AlgoritmekaderReranking"
# Of these there are published scores: enough to judge the encoder before it is trimmed.
COMPARED = "SIB200Classification SICKNLPairClassification SIB200ClusteringS2S SICK-NL-STS"
PUBLISHED = "intfloat/multilingual-e5-small", "clips/e5-small-trm-nl"
# The share of the time that each stage takes.
STAGES = {"base": 1, "trim": 2, "train": 20, "mine": 8, "train on mined": 20, "evaluate": 49}


def call(script: str, *arguments, log=None) -> None:
    """Print a command of this project as a shell would take it, and run it.

    script: `mine.py`, or `-m tools.unpack`. A string may hold several words. A path is one word;
    its stars stand for all the files that match. log: an open file for what is printed.
    """
    shown, words = [], []
    for argument in arguments:
        for word in argument.split() if isinstance(argument, str) else [str(argument)]:
            # Stars are left to the shell
            shown.append("*".join(shlex.quote(part) if part else "" for part in word.split("*")))
            words += sorted(glob.glob(word)) if "*" in word else [word]
    print(f"$ python {script} {' '.join(shown)}", flush=True, file=log)

    # A process of its own, so that the memory of a stage ends with it. Its modules are next to this
    # file.
    module = script.removeprefix("-m ").removesuffix(".py")
    places = filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-m", module, *words]
    status = subprocess.call(command, env=environment, stdout=log)
    if status:
        sys.exit(status)


# What contradicts a sentence, by the first of these that it has. The paper's synthetic rows have
# contradictions; nothing bundled has.
OPPOSITES = [
    (" geen ", " een "), (" niet", ""), ("nooit", "altijd"), ("altijd", "nooit"),
    (" een ", " geen "), (" is ", " is niet "), (" zijn ", " zijn niet "), (" was ", " was niet "),
    (" heb ", " heb niet "), (" heeft ", " heeft niet "), (" kan ", " kan niet "),
    (" wil ", " wil niet "), (" moet ", " moet niet "), (" de ", " geen "),
]  # fmt: skip


def contradiction(text: str) -> str | None:
    """
    >>> contradiction("Tom is niet blij."), contradiction("Ik heb een fiets."), contradiction("Ja.")
    ('Tom is blij.', 'Ik heb geen fiets.', None)
    """
    for here, there in OPPOSITES:
        if here in text:
            return text.replace(here, there, 1)
    return None


def add_contradictions(source: Path, out: Path) -> None:
    """Write a source again, with a contradiction of each query as the negative of its row."""
    rows = (row for _, row in read_jsonl(source))
    texts = ((row, contradiction(row["query"])) for row in rows)
    write_jsonl(out, (row | {"neg": [text] if text else []} for row, text in texts))


def verdict(trimmed: dict, trained: dict, mined: dict) -> str:
    """What the scores, {task: score} of three models, show; in two sentences."""
    gains = {task: 100 * (trained[task] - before) for task, before in trimmed.items()}
    best, worst = max(gains, key=gains.get), min(gains, key=gains.get)
    further = sum(after > trained[task] for task, after in mined.items())
    return (
        f"\nTraining changed {best} most for the better ({gains[best]:+.2f}) and {worst} least "
        f"({gains[worst]:+.2f}); with mined negatives {further} of {len(gains)} scores are higher "
        "than without.\n"
        "It cannot show E5-NL's own scores: minutes instead of 970,000 rows, one seed, and all but "
        "the tasks of SIB-200 and SICK-NL resemble what it was trained on."
    )


def make_base(model: str, out: Path, began: dict[str, float]) -> Path:
    """The encoder that everything starts from."""
    if model not in (PACKAGED, "random"):
        return e5nl.find(model)
    if model == "random":
        begin("base", "a small XLM-R with random weights and the real 250,002 pieces", began)
        tokenizer = DEMO / "tokenizer.json.xz"
        call("e5nl.py", "init --tokenizer", tokenizer, f"{RANDOM_SHAPE} --overwrite --out", out)
    else:
        begin("base", f"{unpack.NAME}, out of the package {unpack.PACKAGE}", began)
        call("-m tools.unpack", "--overwrite --out", out)
    return out


def train(start: Path, data: list, settings: str, share: float, out: Path) -> None:
    """Train from `start`, and take the average of both (see `e5nl.average`)."""
    last = out if share == 1 else out.with_name(f"{out.name}-last-step")
    call("e5nl.py", "train --model", start, "--data", *data, f"{settings} --overwrite --out", last)
    if last != out:
        call("e5nl.py", "average", start, last, f"--share {share} --overwrite --out", out)


def begin(stage: str, about: str, began: dict[str, float]) -> None:
    """Print a stage as it begins, with the time that is left. began: when each of them did."""
    done = sum(STAGES[earlier] for earlier in began)
    began[stage] = time.perf_counter()
    spent = began[stage] - next(iter(began.values()))
    left = f" (about {spent / done * (100 - done):.0f} s left in all)" if done > 5 else ""
    print(f"\n== {stage}: {about}{left}", flush=True)


def durations(began: dict[str, float]) -> dict[str, float]:
    """The seconds of each stage, of which the last has just ended."""
    times = itertools.pairwise([*began.values(), time.perf_counter()])
    return {stage: end - start for stage, (start, end) in zip(began, times, strict=True)}


def main(argv=None) -> None:
    about = "The complete method on a real multilingual E5 and real Dutch text, on the CPU."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--model",
        default=PACKAGED,
        help=f"what is started from: {PACKAGED} ({unpack.NAME}, of the package {unpack.PACKAGE}; "
        "the default), a model folder or hub repository, or `random` weights",
    )
    parser.add_argument(
        "--out",
        default="runs/demo",
        help="where everything goes; replaced (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer steps and tasks")
    args = parser.parse_args(argv)

    model = args.model
    if model == PACKAGED and not unpack.packaged():
        print(f"{unpack.PACKAGE} is not installed: random weights instead of {unpack.NAME}")
        model = "random"

    # Settings.
    recipe, tasks, mined = RANDOM if model == "random" else PRETRAINED, TASKS, MINED
    if args.quick:
        recipe, tasks, mined = recipe._replace(steps=QUICK_STEPS), QUICK_TASKS, MINED[:1]
    dtype = f"--dtype {e5nl.fastest_dtype()}"
    settings = f"{recipe.options} {recipe.lengths} {dtype} --steps {recipe.steps}"
    out, began = Path(args.out), {}
    trimmed, trained, on_mined = (out / part for part in ("trimmed", "trained", "trained-on-mined"))

    base = make_base(model, out / "base", began)

    begin("trim", "keep the pieces that Dutch uses, and prove that nothing else changed", began)
    corpus = ["--corpus", DEMO / "corpus/*.jsonl.gz", DEMO / "train/*.jsonl.gz"]
    # The evaluation's files with a field `text`.
    check = ["--check", *(DEMO / f"eval/*/{letter}*.jsonl.gz" for letter in "cqtv")]
    call("trim_vocab.py", "--model", base, *corpus, *check, "--overwrite --out", trimmed)

    begin("train", "InfoNCE, every batch from one source", began)
    sources = {file.name.partition(".")[0]: file for file in sorted(DEMO.glob("train/*.jsonl.gz"))}
    del sources[LEFT_OUT]
    rows = out / "contradictions" / sources[PARAPHRASES].name
    add_contradictions(sources[PARAPHRASES], rows)
    print(f"{rows}: paraphrases, and made contradictions as their negatives")
    sources[PARAPHRASES] = rows
    train(trimmed, list(sources.values()), settings, recipe.share, trained)

    begin("mine", "hard negatives for some of the sources, with TopK-STDMarginPos", began)
    for name_of_source in mined:
        source, options = sources[name_of_source], f"{recipe.lengths} {dtype} --examples 1"
        negatives = out / "mined" / source.name
        words = f"{options} --overwrite --out", negatives
        call("mine.py", "--model", trained, "--data", source, *words)
        sources[name_of_source] = negatives

    begin("train on mined", "the same again, with these negatives", began)
    train(trimmed, list(sources.values()), settings, recipe.share, on_mined)

    begin("evaluate", "seven types of tasks; those of SIB-200 and SICK-NL are MTEB-NL's own", began)
    results = []
    for folder, stage, chosen in (
        (base, "untrimmed", QUICK_TASKS if args.quick else COMPARED),
        (trimmed, "trimmed", tasks),
        (trained, "trained", tasks),
        (on_mined, "mined", tasks),
    ):
        results.append(out / "results" / f"{Path(model).name}-{stage}")
        shutil.rmtree(results[-1], ignore_errors=True)  # of an earlier run, with other tasks
        words = f"--tasks {chosen} {dtype} --out", results[-1]
        call("evaluate.py", "run --model", folder, "--tasks-file", DEMO / "tasks.json", *words)
    seconds = durations(began)

    print("\nMain scores x 100; the first and the last column are published scores, quoted.")
    call("evaluate.py", "report --by task --format markdown", PUBLISHED[0], *results, PUBLISHED[1],
         f"--tasks {tasks}")  # fmt: skip
    if args.quick:
        print(f"\nThis shows that it runs: {QUICK_STEPS} steps of training teach nothing.")
    else:
        summaries = (report.summarise(report.read_results(x)) for x in results[1:])
        print(verdict(*(summary["tasks"] for summary in summaries)))
    parts = ", ".join(f"{name} {time:.0f}" for name, time in seconds.items())
    print(f"\nseconds: {parts}; in all {sum(seconds.values()):.0f}")


if __name__ == "__main__":
    cli(main)
