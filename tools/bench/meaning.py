"""Are transtokenised rows better than random ones, and is trimming better? Scores x 100 on Dutch.

Small encoders are trained on the paraphrases in parallel text: sentences with the same
translation. One learns English and is transtokenised, one learns both languages in as many steps
and is trimmed; then both are trained on Dutch. They are scored on tasks of the demo, and on
finding a Dutch sentence's paraphrase in a tenth of the text, which is kept out of all training.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

import align
import e5nl
import evaluate
import mteb_nl
import transtokenize
import trim_vocab
from demo import DEMO, TOY, call
from evaluate import table
from files import whole_number, write_jsonl
from tools.samples import wordpiece

TASKS = ["FAQRetrieval", "CaptionRetrieval", "SICK-NL-STS"]
TRAIN = DEMO / "train/*.jsonl.gz"
CORPUS = "--corpus", DEMO / "corpus/*.jsonl.gz", TRAIN
LEARN = (
    "--batch-size 256 --tau 0.1 --lr 3e-3 --schedule decay --warmup 0.1 --weight-decay 1 "
    "--query-length 32 --passage-length 48 --overwrite"
)


def paraphrases(pairs: Iterable[tuple[str, str]], side: int) -> list[list[str]]:
    """Groups of two and more sentences of one side that have the same translation."""
    groups: dict[str, dict] = {}
    for pair in pairs:
        groups.setdefault(pair[1 - side], {})[pair[side]] = None
    return [list(group) for group in groups.values() if len(group) > 1]


def other_rows(english, dutch, seed: int) -> dict[str, torch.Tensor]:
    """Tables (V, D) to compare with: drawn from the encoder's rows; the same, but equal pieces keep
    their rows."""
    source, target = (align.Vocabulary(tokenizer, "") for _, tokenizer in (english, dutch))
    old = english[0].words.weight.detach()
    weights, evidence = transtokenize.weigh(source, target, [], len(old))
    generator = torch.Generator().manual_seed(seed)
    drawn = old[torch.randint(len(old), (len(evidence),), generator=generator)]
    known, evidence = torch.from_numpy(weights @ old.numpy()).float(), torch.from_numpy(evidence)
    kinds = {"random": transtokenize.SPECIAL, "identity": transtokenize.IDENTITY}
    return {
        name: torch.where(evidence[:, None] <= last, known, drawn) for name, last in kinds.items()
    }


def score(folder: Path, questions: list[list[str]]) -> list[float]:
    """Of TASKS and of the paraphrases, x 100."""
    model, tokenizer = e5nl.load(folder)

    def encode(texts, kind):
        return e5nl.embed(model, tokenizer, texts, kind)

    tasks = mteb_nl.select_tasks(mteb_nl.read_tasks(DEMO / "tasks.json"), TASKS)
    results = [evaluate.evaluate_task(task, encode) for task in tasks]
    scores = [split["main_score"] for result in results for split, _ in result.values()]
    firsts, others = (encode(list(texts), "query") for texts in zip(*questions, strict=True))
    nearest = (firsts @ others.T).argmax(1)
    return [100 * value for value in (*scores, (nearest == np.arange(len(nearest))).mean())]


def write_texts(folder: Path, pairs: list[tuple[str, str]]) -> None:
    """The parallel text; for each side a training source of paraphrases, and a tokenizer."""
    text = "".join(f"{a}\t{b}\n" for a, b in pairs)
    (folder / "text.tsv").write_text(text, encoding="utf-8")
    for side, language in enumerate(("en", "nl")):
        rows = [
            {"query": a, "pos": [b for b in group if b != a], "type": "symmetric_sts"}
            for group in paraphrases(pairs, side)
            for a in group
        ]
        write_jsonl(folder / f"{language}.jsonl", rows)
    english, dutch = (list(texts) for texts in zip(*pairs, strict=True))
    dutch += trim_vocab.read_corpus(sorted(DEMO.glob("[ct]*/*.jsonl.gz")))
    for name, texts, size in (("en", english, 8_000), ("nl", dutch, 16_000)):
        tokenizer = wordpiece(texts, size, lowercase=name == "en")
        (folder / f"{name}.json").write_bytes(tokenizer.json)


def make_encoders(at: Path, seed: int) -> None:
    """The encoders that are compared, before they are trained on Dutch, as folders in `at`."""
    tokenizer = e5nl.Tokenizer((at / "en.json").read_bytes(), {})
    shape = 256, 1, 4, 256, 512, 2, 1e-12, 0, 0.0, 0.0  # as TOY says
    config = e5nl.Config("bert", tokenizer.vocab_size, *shape)
    e5nl.save(e5nl.new_encoder(config, seed), tokenizer, at / "english", overwrite=True)
    options = f"{TOY} --seed {seed} --overwrite --out"
    call(e5nl, "init --tokenizer", DEMO / "tokenizer.json.xz", options, at / "multilingual")

    sources = [at / "en.jsonl", at / "nl.jsonl"]
    options = f"{LEARN} --seed {seed} --steps 150 --out"
    for name, data in (("english", sources[:1]), ("multilingual", sources)):
        call(e5nl, "train --model", at / name, "--data", *data, options, at / name)

    options = "--vocab-size 16000 --overwrite --out"
    call(trim_vocab, "--model", at / "multilingual", *CORPUS, options, at / "trimmed")
    text = "--parallel", at / "text.tsv", "--overwrite --out", at / "transtokenised"
    call(transtokenize, "--model", at / "english", "--tokenizer", at / "nl.json", *text)
    tables = other_rows(e5nl.load(at / "english"), e5nl.load(at / "transtokenised"), seed)
    for name, rows in tables.items():
        model, tokenizer = e5nl.load(at / "transtokenised")
        model.words.weight.data = rows
        e5nl.save(model, tokenizer, at / name, overwrite=True)


def score_all(at: Path, questions: list[list[str]], seed: int) -> dict[str, list[float]]:
    """{encoder: its scores}."""
    make_encoders(at, seed)
    scores = {"English encoder as it is": score(at / "english", questions)}
    options = f"{LEARN} --seed {seed} --steps 60 --out"
    starts = "random", "identity", "transtokenised", "trimmed"
    scores |= {name: score(at / name, questions) for name in starts}
    for name in starts:
        call(e5nl, "train --model", at / name, "--data", TRAIN, options, at / "after")
        scores[f"{name}, trained on Dutch"] = score(at / "after", questions)
    return scores


def add_options(add) -> None:
    add("--parallel", nargs="+", required=True, help="parallel text with paraphrases: Tatoeba's")
    add("--seeds", type=whole_number(1), default=3)


def run(args) -> None:
    # A tenth of the English sentences and all their translations are kept out of training.
    pairs = list(align.read_pairs(args.parallel))
    held = dict.fromkeys(pair for pair in pairs if trim_vocab.held_out(pair[0]))
    questions = [group[:2] for group in paraphrases(held, 1)]
    seen = {text for _, text in held}
    pairs = [pair for pair in pairs if pair not in held and pair[1] not in seen]

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        write_texts(Path(folder), pairs)
        runs = [score_all(Path(folder), questions, seed) for seed in range(args.seeds)]
    cells = [["", *TASKS, "Paraphrases"]]
    for name in runs[0]:
        values = [scores[name] for scores in runs]
        both = zip(np.mean(values, 0), np.std(values, 0), strict=True)
        cells.append([name, *(f"{mean:.2f} ({deviation:.2f})" for mean, deviation in both)])
    print(f"mean of {args.seeds} seeds (standard deviation)\n{table(cells, 'text', 1)}")
