"""The complete method at toy size, on real Dutch text, on the CPU, in minutes.

Base, trim, train, mine, train on, evaluate: every stage is a command of this project, printed
before it runs, so this is also the tutorial. The text is in `demo/` (see demo/SOURCES.md); nothing
is downloaded unless `--model` names a hub repository.

    python demo.py                                         # from a small encoder, random weights
    python demo.py --quick                                 # about a minute: fewer steps
    python demo.py --model intfloat/multilingual-e5-small  # from a pretrained one: better on a GPU

What comes out shows that the parts work, and work together. It is not E5-NL: a model of this size
knows only what a few million tokens taught it, and shared characters alone (the tf-idf column) stay
ahead of it where they decide.
"""

import argparse
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

import e5nl
import evaluate
import mine
import mteb_nl
import trim_vocab
from data import read_source
from files import cli, whole_number, write_json, write_jsonl

# Relative: short names in the commands that are printed.
DEMO = Path(os.path.relpath(Path(__file__).parent / "demo"))

# Chosen by measuring. Random weights need far larger steps than the paper's 1e-5, which would
# destroy what a pretrained encoder knows. Other choices that were worse: two layers, dropout, wider
# feed-forward, tau 0.03 to 0.07 and 0.2, rates from 5e-3 on (they collapse), longer texts for the
# same time.
TOY = "--width 256 --layers 1 --heads 4 --intermediate 256 --dropout 0"
FROM_RANDOM = "--batch-size 256 --schedule decay --warmup 0.1 --weight-decay 1"
FROM_PRETRAINED = "--batch-size 64 --schedule decay --warmup 0.1"
SHORT = "--query-length 32 --passage-length 48"  # tokens
LONGER = "--query-length 64 --passage-length 128"
QUICK_TASKS = (  # one of each type
    "Classification MultilabelClassification PairClassification Clustering Reranking "
    "FAQRetrieval STS"
)


def call(module, *arguments) -> None:
    """Run a command of this project as a shell would, and print it first.

    A string may hold several words. A path is one word; under DEMO its stars stand for all the
    files that match.
    """
    words = []
    for argument in arguments:
        words += argument.split() if isinstance(argument, str) else [argument]
    name = module.__name__
    script = f"-m {name}" if "." in name else f"{name}.py"
    print(f"$ python {script} {' '.join(map(_quoted, words))}", flush=True)
    status = module.main([str(name) for word in words for name in _files(word)])
    if status:
        sys.exit(status)


def _quoted(word) -> str:
    """As a shell takes it, with the stars left to the shell."""
    parts = str(word).split("*")
    return "*".join(shlex.quote(part) if part else "" for part in parts)


def _files(word) -> list:
    if "*" not in str(word):
        return [word]
    return sorted(DEMO.glob(str(word.relative_to(DEMO))))


def texts_of(files: list[Path]) -> list[str]:
    """The distinct texts of training sources."""
    rows = (row for file in files for row in read_source(file).rows)
    return list(dict.fromkeys(text for row in rows for text in (row.query, *row.pos)))


def weak_pairs(texts: list[str]) -> Iterator[dict]:
    """Rows that cost nothing: a sentence of a text as the query, the rest as its passage.

    E5 learns from such pairs before it sees annotated ones (arXiv 2212.03533, section 3.1; the
    inverse cloze task, 1906.00300).
    """
    for text in texts:
        sentences = re.split(r"(?<=[.?!]) +(?=[A-Z0-9])", text)
        sentences = [sentence for sentence in sentences if len(sentence) > 30]
        for i, sentence in enumerate(sentences if len(sentences) > 2 else []):
            rest = " ".join(sentences[:i] + sentences[i + 1 :])
            yield {"query": sentence, "pos": [rest], "type": "retrieval"}


def tfidf(texts: list[str]) -> evaluate.Encode:
    """A baseline that knows characters only: n-grams weighted by their rarity in `texts`."""
    grams = HashingVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), n_features=2**15, norm=None, alternate_sign=False
    )
    weights = TfidfTransformer(sublinear_tf=True).fit(grams.transform(texts))
    return lambda texts, kind: weights.transform(grams.transform(texts)).astype(np.float32)


class Stages:
    """Prints each stage as it begins, and keeps how long it took."""

    def __init__(self):
        self.seconds, self.name, self.began = {}, "", 0.0

    def begin(self, name: str, about: str) -> None:
        self.end()
        self.name, self.began = name, time.perf_counter()
        print(f"\n== {name}: {about}", flush=True)

    def end(self) -> None:
        if self.name:
            self.seconds[self.name] = time.perf_counter() - self.began


def main(argv=None) -> None:
    about = "The complete method at toy size, on real Dutch text, on the CPU."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--model",
        help="start from this model folder or hub repository instead of random weights",
    )
    parser.add_argument(
        "--out",
        default="runs/demo",
        help="where everything goes; replaced (default: %(default)s)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer steps: everything runs, little is learned"
    )
    parser.add_argument("--seed", type=whole_number(0), default=42)
    args = parser.parse_args(argv)

    # Settings.
    if args.model:
        settings, lengths = FROM_PRETRAINED, LONGER
        first, then = "--lr 2e-5", "--lr 1e-5"
    else:
        settings, lengths = FROM_RANDOM, SHORT
        first, then = "--tau 0.1 --lr 3e-3", "--tau 0.05 --lr 1e-3"
    settings = f"{settings} {lengths} --seed {args.seed} --overwrite"
    steps, more_steps, chosen = (15, 5, QUICK_TASKS) if args.quick else (300, 100, "all")

    # Data and folders.
    sources = sorted((DEMO / "train").glob("*.jsonl.gz"))
    texts = texts_of(sources)
    retrieval = [file for file in sources if read_source(file).type == "retrieval"]
    tasks = mteb_nl.select_tasks(mteb_nl.read_tasks(DEMO / "tasks.json"), chosen.split())
    out = Path(args.out)
    base = e5nl.find(args.model) if args.model else out / "base"
    models = [out / name for name in ("untrained", "trained", "trained-on", "trained-on-mined")]
    untrained, trained, without, mined = models
    stages = Stages()

    if not args.model:
        stages.begin("base", "a small XLM-R with random weights and the real 250,002 pieces")
        tokenizer = DEMO / "tokenizer.json.xz"
        options = f"{TOY} --seed {args.seed} --overwrite --out"
        call(e5nl, "init --tokenizer", tokenizer, options, base)

    stages.begin("trim", "keep the pieces that Dutch uses, and prove that nothing else changed")
    corpus = ["--corpus", DEMO / "corpus/*.jsonl.gz", DEMO / "train/*.jsonl.gz"]
    # The evaluation's files with a field `text`.
    check = ["--check", *(DEMO / f"eval/*/{letter}*.jsonl.gz" for letter in "cqtv")]
    call(trim_vocab, "--model", base, *corpus, *check, "--overwrite --out", untrained)

    stages.begin("train", "InfoNCE, every batch from one source")
    weak = out / "weak_pairs.jsonl.gz"
    write_jsonl(weak, weak_pairs(texts))
    print(f"{weak}: a sentence of a training text to find the rest of it")
    data = ["--data", DEMO / "train/*.jsonl.gz", weak]
    options = f"{settings} {first} --steps {steps} --out"
    call(e5nl, "train --model", untrained, *data, options, trained)

    stages.begin("mine", "hard negatives for the retrieval sources, with TopK-STDMarginPos")
    options = f"{lengths} --examples 1 --overwrite --out"
    for file in retrieval:
        call(mine, "--model", trained, "--data", file, options, out / "mined" / file.name)

    stages.begin("train on", "mostly on those sources, without their negatives and with them")
    rows = [{"file": f"mined/{file.name}"} for file in retrieval]
    rows.append({"file": weak.name, "ratio": 0.3})
    write_json(out / "train_on.json", {"sources": rows})
    data = ["--data", out / "train_on.json", DEMO / "train" / "some_symmetric.json"]
    for negatives, folder in enumerate((without, mined)):
        options = f"{settings} {then} --negatives {negatives} --steps {more_steps} --out"
        call(e5nl, "train --model", trained, *data, options, folder)

    stages.begin("evaluate", "seven types of tasks; those of SIB-200 and SICK-NL are MTEB-NL's own")
    results = [out / "results" / name for name in ("tf-idf", *(model.name for model in models))]
    for folder in results:  # of an earlier run, perhaps with other tasks
        shutil.rmtree(folder, ignore_errors=True)
    print("tf-idf: 3 to 5 characters, weighted on the training texts; not a command")
    baseline = evaluate.run(tasks, tfidf(texts), results[0], {"model": "tf-idf"}, overwrite=True)
    for result, _ in baseline:
        score = f"{result['main_score_name']} {100 * result['main_score']:.2f}"
        print(f"{result['task_name']}: {score}", flush=True)
    for model, folder in zip(models, results[1:], strict=True):
        options = f"--tasks {chosen} --out"
        call(evaluate, "run --model", model, "--tasks-file", DEMO / "tasks.json", options, folder)

    stages.begin("report", "main scores x 100")
    call(evaluate, "report --by task --format markdown", *results)
    stages.end()
    seconds = stages.seconds
    parts = ", ".join(f"{name} {time:.0f}" for name, time in seconds.items())
    print(f"\nseconds: {parts}; in all {sum(seconds.values()):.0f}")


if __name__ == "__main__":
    cli(main)
