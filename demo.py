"""The whole method at toy size, on real Dutch text, on the CPU, in minutes: base, trim, train, mine, train on, evaluate.

Every stage is a command of this project, printed before it runs, so this is also the tutorial. The text lies in `demo/` (see
demo/SOURCES.md); nothing is downloaded unless `--model` names a hub repository.

    python demo.py                                         # minutes, from a small encoder with random weights
    python demo.py --quick                                 # under a minute: fewer steps
    python demo.py --model intfloat/multilingual-e5-small  # from a real pretrained encoder: better have a GPU

What comes out shows that the parts work, and work together. It is not E5-NL: a model of this size knows only what a few million
tokens taught it, and shared characters alone (the TF-IDF column) stay ahead of it where they decide.
"""

import argparse
import re
import resource
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

import e5nl
import evaluate
import mine
import trim_vocab
from data import cli, read_json, read_source, write_jsonl

DEMO = Path(__file__).parent / "demo"
TASKS = DEMO / "tasks.json"

# Chosen by measuring. Random weights need far larger steps than the paper's 1e-5; for a pretrained encoder they would destroy it.
TOY = "--batch-size 256 --tau 0.05 --lr 5e-3 --warmup 0.1 --query-length 48 --passage-length 64"
PRETRAINED = "--batch-size 64 --lr 2e-5 --warmup 0.1 --query-length 48 --passage-length 128"


def call(module, *arguments) -> None:
    """Run a command of this project, as the shell would, and print it first."""
    words = [word for argument in arguments for word in (argument.split() if isinstance(argument, str) else [str(argument)])]
    print(f"$ python {module.__name__}.py {shlex.join(words)}", flush=True)
    if status := module.main(words):
        sys.exit(status)


def weak_pairs(files: list[Path]):
    """Rows that cost nothing: a sentence of a text as the query, the rest of the text as its passage.

    E5 learns from such pairs before it sees annotated ones (arXiv 2212.03533, section 3.1; the inverse cloze task, 1906.00300).
    """
    texts = dict.fromkeys(text for file in files for row in read_source(file).rows for text in (row.query, *row.pos))
    for text in texts:
        sentences = [sentence for sentence in re.split(r"(?<=[.?!]) +(?=[A-Z0-9])", text) if len(sentence) > 30]
        for i, sentence in enumerate(sentences if len(sentences) > 2 else []):
            yield {"query": sentence, "pos": [" ".join(sentences[:i] + sentences[i + 1 :])], "type": "retrieval"}


def tfidf(files: list[Path]):
    """Character n-grams weighted by their rarity in the training text: `encode` of a baseline that learns nothing else."""
    grams = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=2**15, norm=None, alternate_sign=False)
    texts = list(dict.fromkeys(text for file in files for row in read_source(file).rows for text in (row.query, *row.pos)))
    weigh = TfidfTransformer(sublinear_tf=True).fit(grams.transform(texts))
    return lambda texts, kind: weigh.transform(grams.transform(texts)).astype(np.float32)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="The whole method at toy size, on real Dutch text, on the CPU.")
    parser.add_argument("--model", help="start from this model folder or hub repository instead of random weights")
    parser.add_argument("--out", default="runs/demo", help="where everything goes; replaced (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer steps: everything runs, little is learned")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args(argv)

    out, train_files, corpus = Path(args.out), sorted((DEMO / "train").glob("*.gz")), sorted((DEMO / "corpus").glob("*.gz"))
    held_out = sorted((DEMO / "eval").glob("*/*.jsonl.gz"))
    settings = PRETRAINED if args.model else TOY
    steps, more_steps = (15, 10) if args.quick else (300, 100)
    seconds, start = {}, time.perf_counter()

    def stage(name: str, about: str) -> None:
        """Close the stage before and open one."""
        nonlocal start
        now = time.perf_counter()
        if seconds:
            seconds[list(seconds)[-1]] = now - start
        seconds[name], start = 0.0, now
        print(f"\n== {name}: {about}", flush=True)

    if args.model:
        base = args.model
    else:
        stage("base", "a small XLM-R with random weights and the real tokenizer of 250,002 pieces")
        base = out / "base"
        call(e5nl, "init --tokenizer", DEMO / "tokenizer.json.xz", "--width 256 --layers 1 --heads 4 --seed", args.seed, "--overwrite --out", base)

    stage("trim", "keep the pieces that Dutch text uses; prove that nothing else changed")
    untrained = out / "untrained"
    call(trim_vocab, "--model", base, "--corpus", *corpus, *train_files, "--overwrite --out", untrained)

    stage("train", "InfoNCE, every batch from one source")
    write_jsonl(out / "weak_pairs.jsonl.gz", weak_pairs(train_files))
    sources, trained = [*train_files, out / "weak_pairs.jsonl.gz"], out / "trained"
    call(e5nl, "train --model", untrained, "--data", *sources, settings, "--steps", steps, "--seed", args.seed, "--overwrite --out", trained)

    stage("mine", "hard negatives with the trained model: TopK-STDMarginPos")
    mined = out / "mined"
    retrieval = [file for file in train_files if read_source(file).type == "retrieval"]
    for file in retrieval:
        call(mine, "--model", trained, "--data", file, "--out", mined / file.name)

    stage("train on", "the same with a mined negative for every query")
    sources, both = [*sorted(mined.glob("*.jsonl.gz")), *(file for file in train_files if file not in retrieval)], out / "trained-on-mined"
    call(e5nl, "train --model", trained, "--data", *sources, settings, "--steps", more_steps, "--seed", args.seed + 1, "--overwrite --out", both)

    stage("evaluate", "held-out text, all seven types of tasks of MTEB-NL; four of the tasks are MTEB-NL's own, whole")
    results = [out / "results" / name for name in ("tf-idf", "untrained", "trained", "trained-on-mined")]
    print("tf-idf: character 3- to 5-grams, weighted on the training text")
    for result, state in evaluate.run(evaluate.read_tasks(TASKS), tfidf(train_files), results[0], {"model": "tf-idf"}, overwrite=True):
        print(f"{result['task_name']}: {result['main_score_name']} {100 * result['main_score']:.2f} ({state})", flush=True)
    for folder, model in zip(results[1:], (untrained, trained, both), strict=True):
        call(evaluate, "run --model", model, "--tasks-file", TASKS, "--overwrite --out", folder)

    stage("report", "main scores x 100")
    call(evaluate, "report", *results)
    stage("", "")
