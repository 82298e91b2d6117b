"""The whole method at toy size, on real Dutch text, on the CPU, in minutes: base, trim, train, mine, train on, evaluate.

Every stage is a command of this project, printed before it runs, so this is also the tutorial. The text lies in `demo/` (see
demo/SOURCES.md); nothing is downloaded unless `--model` names a hub repository.

    python demo.py                                         # minutes, from a small encoder with random weights
    python demo.py --quick                                 # about a minute: fewer steps
    python demo.py --model intfloat/multilingual-e5-small  # from a real pretrained encoder: better have a GPU

What comes out shows that the parts work, and work together. It is not E5-NL: a model of this size knows only what a few million
tokens taught it, and shared characters alone (the tf-idf column) stay ahead of it where they decide.
"""

import argparse
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
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

DEMO = Path(os.path.relpath(Path(__file__).parent / "demo"))  # short names in the commands that are printed

# Chosen by measuring. Random weights need far larger steps than the paper's 1e-5, which would destroy what a pretrained encoder knows.
# Other choices that were worse: two layers, dropout, wider feed-forward, tau 0.03 to 0.07 and 0.2, rates from 5e-3 on (they collapse),
# longer texts for the same time.
TOY = "--width 256 --layers 1 --heads 4 --intermediate 256 --dropout 0"
FROM_RANDOM = "--batch-size 256 --schedule decay --warmup 0.1 --weight-decay 1"
FROM_PRETRAINED = "--batch-size 64 --schedule decay --warmup 0.1"
SHORT, LONGER = "--query-length 32 --passage-length 48", "--query-length 64 --passage-length 128"  # tokens
QUICK_TASKS = "Classification MultilabelClassification PairClassification Clustering Reranking FAQRetrieval STS"  # one of each type


def call(module, *arguments) -> None:
    """Run a command of this project as a shell would, and print it first.

    A string may hold several words. A path is one word; under DEMO its stars stand for all the files that match.
    """
    words = [word for argument in arguments for word in (argument.split() if isinstance(argument, str) else [argument])]
    quoted = ("*".join(shlex.quote(part) if part else "" for part in str(word).split("*")) for word in words)
    print(f"$ python {module.__name__}.py {' '.join(quoted)}", flush=True)
    if status := module.main([str(name) for word in words for name in _files(word)]):
        sys.exit(status)


def _files(word) -> list:
    return sorted(DEMO.glob(str(word.relative_to(DEMO)))) if "*" in str(word) else [word]


def texts_of(files: list[Path]) -> list[str]:
    """The distinct texts of training sources."""
    return list(dict.fromkeys(text for file in files for row in read_source(file).rows for text in (row.query, *row.pos)))


def weak_pairs(texts: list[str]) -> Iterator[dict]:
    """Rows that cost nothing: a sentence of a text as the query, the rest of the text as its passage.

    E5 learns from such pairs before it sees annotated ones (arXiv 2212.03533, section 3.1; the inverse cloze task, 1906.00300).
    """
    for text in texts:
        sentences = [sentence for sentence in re.split(r"(?<=[.?!]) +(?=[A-Z0-9])", text) if len(sentence) > 30]
        for i, sentence in enumerate(sentences if len(sentences) > 2 else []):
            yield {"query": sentence, "pos": [" ".join(sentences[:i] + sentences[i + 1 :])], "type": "retrieval"}


def tfidf(texts: list[str]) -> evaluate.Encode:
    """A baseline that knows characters only: n-grams weighted by their rarity in `texts`."""
    grams = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=2**15, norm=None, alternate_sign=False)
    weights = TfidfTransformer(sublinear_tf=True).fit(grams.transform(texts))
    return lambda texts, kind: weights.transform(grams.transform(texts)).astype(np.float32)


def stopwatch() -> tuple[Callable[[str, str], None], dict[str, float]]:
    """A function that opens a stage and closes the one before, and the seconds of the stages that are closed."""
    seconds, opened = {}, []

    def stage(name: str, about: str) -> None:
        now = time.perf_counter()
        if opened:
            before, start = opened.pop()
            seconds[before] = now - start
        opened.append((name, now))
        print(f"\n== {name}: {about}", flush=True)

    return stage, seconds


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="The whole method at toy size, on real Dutch text, on the CPU.")
    parser.add_argument("--model", help="start from this model folder or hub repository instead of random weights")
    parser.add_argument("--out", default="runs/demo", help="where everything goes; replaced (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer steps: everything runs, little is learned")
    parser.add_argument("--seed", type=whole_number(0), default=42)
    args = parser.parse_args(argv)

    out = Path(args.out)
    untrained, trained, without, mined = (out / name for name in ("untrained", "trained", "trained-on", "trained-on-mined"))
    sources = sorted((DEMO / "train").glob("*.jsonl.gz"))
    texts = texts_of(sources)
    retrieval = [file for file in sources if read_source(file).type == "retrieval"]
    if args.model:
        settings, lengths, first, then = FROM_PRETRAINED, LONGER, "--lr 2e-5", "--lr 1e-5"
    else:
        settings, lengths, first, then = FROM_RANDOM, SHORT, "--tau 0.1 --lr 3e-3", "--tau 0.05 --lr 1e-3"
    settings = f"{settings} {lengths} --seed {args.seed} --overwrite"
    steps, more_steps, chosen = (15, 5, QUICK_TASKS) if args.quick else (300, 100, "all")
    base = e5nl.find(args.model) if args.model else out / "base"
    tasks = mteb_nl.select_tasks(mteb_nl.read_tasks(DEMO / "tasks.json"), chosen.split())
    stage, seconds = stopwatch()

    if not args.model:
        stage("base", "a small XLM-R with random weights and the real tokenizer of 250,002 pieces")
        call(e5nl, "init --tokenizer", DEMO / "tokenizer.json.xz", f"{TOY} --seed {args.seed} --overwrite --out", base)

    stage("trim", "keep the pieces that Dutch text uses, and prove on the evaluation texts that nothing else changed")
    corpus = ["--corpus", DEMO / "corpus/*.jsonl.gz", DEMO / "train/*.jsonl.gz"]
    check = ["--check", *(DEMO / f"eval/*/{letter}*.jsonl.gz" for letter in "cqtv")]  # the files with a field `text`
    call(trim_vocab, "--model", base, *corpus, *check, "--overwrite --out", untrained)

    stage("train", "InfoNCE, every batch from one source")
    write_jsonl(out / "weak_pairs.jsonl.gz", weak_pairs(texts))
    print(f"{out / 'weak_pairs.jsonl.gz'}: a sentence of a training text to find the rest of it")
    data = ["--data", DEMO / "train/*.jsonl.gz", out / "weak_pairs.jsonl.gz"]
    call(e5nl, "train --model", untrained, *data, f"{settings} {first} --steps {steps} --out", trained)

    stage("mine", "hard negatives for the retrieval sources, with the trained model and TopK-STDMarginPos")
    for file in retrieval:
        call(mine, "--model", trained, "--data", file, f"{lengths} --examples 1 --overwrite --out", out / "mined" / file.name)

    stage("train on", "mostly on those sources; once without their negatives, once with one for every query")
    rows = [{"file": f"mined/{file.name}"} for file in retrieval] + [{"file": "weak_pairs.jsonl.gz", "ratio": 0.3}]
    write_json(out / "train_on.json", {"sources": rows})
    data = ["--data", out / "train_on.json", DEMO / "train" / "some_symmetric.json"]
    for negatives, folder in enumerate((without, mined)):
        call(e5nl, "train --model", trained, *data, f"{settings} {then} --negatives {negatives} --steps {more_steps} --out", folder)

    stage("evaluate", "held-out text, the seven types of tasks; the two of SIB-200 and the two of SICK-NL are MTEB-NL's own, whole")
    results = [out / "results" / name for name in ("tf-idf", *(folder.name for folder in (untrained, trained, without, mined)))]
    for folder in results:  # of an earlier run, perhaps with other tasks
        shutil.rmtree(folder, ignore_errors=True)
    print("tf-idf: 3 to 5 characters, weighted on the training texts; the only line that is no command")
    for result, _ in evaluate.run(tasks, tfidf(texts), results[0], {"model": "tf-idf"}, overwrite=True):
        print(f"{result['task_name']}: {result['main_score_name']} {100 * result['main_score']:.2f}", flush=True)
    for folder, result in zip((untrained, trained, without, mined), results[1:], strict=True):
        call(evaluate, "run --model", folder, "--tasks-file", DEMO / "tasks.json", f"--tasks {chosen} --out", result)

    stage("report", "main scores x 100")
    call(evaluate, "report --by task --format markdown", *results)
    print(f"\nseconds: {', '.join(f'{name} {time:.0f}' for name, time in seconds.items())}; in all {sum(seconds.values()):.0f}")


if __name__ == "__main__":
    cli(main)
