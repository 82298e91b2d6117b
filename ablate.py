"""Questions that the paper leaves open, a check each: the same training with one thing changed, over several seeds.

The released code, cards and scores of the paper (arXiv 2509.12340) compare neither batches of one source with mixed ones, nor mining rules,
types of synthetic data or numbers of hard negatives. A check is a list of variants; the others are compared with its first, seed by seed.

    batches      batches of one source, or of all; and how many in-batch negatives are known to be false
    masks        equal texts in a batch are no negatives of each other, or are
    types        all sources, then without one type of them (with `--data`: without one of them, say one of synthesize.py's five)
    initialise   trimmed, untrimmed, transtokenised (with `--model`: that one, then each that `--against` names)
    negatives    0, 1, 3 and 7 hard negatives a row
    mining       naive top-k, NV-Retriever's rules, TopK-STDMarginPos; and how many of the chosen negatives are known to be false

    python ablate.py masks --quick --seeds 1                      # half a minute: that it runs
    python ablate.py all                                          # all of it on the bundled data
    python ablate.py batches types --model clips/e5-base-trm --data mined.json --benchmark --out runs/ablate-base
    python ablate.py initialise --model clips/e5-base-trm --against runs/e5-base-v2-t2t intfloat/multilingual-e5-base --data mined.json

Without `--model` each seed has an encoder of its own that stands for a pretrained one: random weights, trained on pairs of a sentence and
the rest of its text (see demo.py). With `--model` seeds differ in batches and draws alone; with `--data` too the settings are the
paper's. `--train` changes them, as "--batch-size 256 --steps 500". Without --steps a variant with fewer rows takes fewer steps.
`mining` and `negatives` train on from the model that mines: the one trained on all sources, or `--model`. Sources that hold negatives
keep them in `negatives`.

All goes to `--out`, into folders named by what made them (settings, weights, content of files): the same command goes on where a killed
one was, and what two checks need is made once. `log.txt` there has every command with what it printed, `<check>.json` the numbers.

Left out on purpose: several GPUs (the log's commands run under torchrun), passages to mine beside the sources' own.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.stats
from tokenizers import BertWordPieceTokenizer, processors

import demo
import e5nl
import evaluate
import mine
import model_folder
import mteb_nl
import transtokenize
import trim_vocab
from data import Row, Source, draw_batch, normalise, plan_epoch, read_sources
from evaluate import SHORT, table
from files import (
    InputError,
    cli,
    new_file,
    read_json,
    whole_number,
    write_json,
    write_jsonl,
)

# Chosen by measuring what minutes allow. Worse: higher rates (from 2e-3 on the second training makes retrieval worse than it was), batches
# of 32, tau 0.05.
TRAINING = f"{demo.SHORT} --schedule decay --warmup 0.1 --weight-decay 1 --tau 0.1"
PRETRAIN = f"{TRAINING} --batch-size 128 --steps 80 --lr 3e-3"
FIRST, THEN = f"{TRAINING} --batch-size 64 --steps 60 --lr 1e-3", f"{TRAINING} --batch-size 64 --steps 30 --lr 5e-4"
READS = {"max_seq_length": 48, "do_lower_case": False}  # tokens: no more than it is trained with
QUICK = "--batch-size 8 --steps 2"
FEW_TASKS = f"{demo.QUICK_TASKS} DekamerRetrieval"
SOURCES, PARALLEL = (sorted((demo.DEMO / name).glob("*.jsonl.gz")) for name in ("train", "corpus"))

# --- negatives that are known to be false -----------------------------------------------------------------------------------

FALSE = ("same text", "same label", "same document")


def documents(sources: list[Source]) -> dict[str, int]:
    """{normalised text: its document}, as far as texts alone tell: two texts are of one document when a row holds both (as query or
    positive), or when a chain of rows leads from one to the other, whatever their sources.

    >>> documents([Source("one", "retrieval", [Row("a", ("b",), ()), Row("d", ("e",), ()), Row("B", ("c",), ())])])
    {'a': 0, 'b': 0, 'd': 1, 'e': 1, 'c': 0}
    """
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            parent[text] = text = parent[parent[text]]
        return text

    for source in sources:
        for row in source.rows:
            for text in row.pos:
                a, b = root(normalise(row.query)), root(normalise(text))
                parent[b] = a
    numbers: dict[str, int] = {}
    return {text: numbers.setdefault(root(text), len(numbers)) for text in list(parent)}


def false_negatives(sources: list[Source], rows: list[Row], groups: list[list[str]], document: dict[str, int]) -> np.ndarray:
    """(B, P) int8 of a batch: -1 where the passage is no negative of the row, 0 where nothing is known against it, else 1 + its place in
    FALSE, the first that holds:

    same text: it is the row's query or one of its positives; what the masks of training take out (`e5nl.same_text_mask`).
    same label: that, in a source of type classification, whose passages are labels.
    same document: see `documents`.

    sources: of each row. groups: each row's passages, its positive first. Those of other rows count where a source has in-batch negatives.
    """
    passages = [text for group in groups for text in group]
    owner = np.repeat(np.arange(len(rows)), [len(group) for group in groups])
    of_query, of_passage = ([document.get(normalise(text), -1) for text in texts] for texts in ([row.query for row in rows], passages))
    label = np.array([[source.type == "classification"] for source in sources])
    kinds = np.where(np.array(of_query)[:, None] == of_passage, 3, 0)
    kinds = np.where(e5nl.same_text_mask(rows, passages).numpy(), 1 + label, kinds).astype(np.int8)
    kinds[(owner != np.arange(len(rows))[:, None]) & ~np.array([[source.in_batch_negatives] for source in sources])] = -1
    kinds[np.arange(len(rows)), np.searchsorted(owner, np.arange(len(rows)))] = -1  # the positives
    return kinds


def shares(kinds: list[np.ndarray]) -> dict[str, float]:
    """Of the negatives in batches, the share of each of FALSE, in percent; and the percentage of rows that have one or more of them."""
    counts = np.sum([np.bincount(batch[batch >= 0], minlength=1 + len(FALSE)) for batch in kinds], axis=0)
    rows = np.concatenate([(batch > 0).any(1) for batch in kinds])
    percent = 100 * counts[1:] / max(1, counts.sum())
    return dict(zip(FALSE, percent.tolist(), strict=True)) | {"rows with any": 100 * float(rows.mean())}


def in_batches(folder: Path) -> dict[str, float]:
    """`shares` of the batches, with their draws, that made a trained model: of an epoch at most."""
    settings = read_json(folder / "settings.json")
    sources, seed, size = read_sources(settings["data"], settings["seed"]), settings["seed"], settings["batch_size"]
    if settings["in_batch"] == "always":
        sources = [source._replace(in_batch_negatives=True) for source in sources]
    document, kinds = documents(sources), []
    plan = plan_epoch(sources, size, settings["batching"], seed, 0)
    for step, (numbers, chosen) in enumerate(plan[: settings["steps"]]):
        of_row, rows, groups = draw_batch(sources, numbers, chosen, settings["negatives"], np.random.default_rng((seed, step)))
        kinds.append(false_negatives(of_row, rows, groups, document))
    return shares(kinds)


def in_rows(folder: Path) -> dict[str, float]:
    """`shares` of the hard negatives in the retrieval sources that made a trained model; negatives a row, and rows without any."""
    settings = read_json(folder / "settings.json")
    sources = read_sources(settings["data"], settings["seed"])
    document, kinds, counts = documents(sources), [], []
    for source in sources:
        alone, rows = source._replace(in_batch_negatives=False), source.rows if source.type == "retrieval" else []
        for part in (rows[start : start + 64] for start in range(0, len(rows), 64)):
            kinds.append(false_negatives([alone] * len(part), part, [[row.pos[0], *row.neg] for row in part], document))
        counts += [len(row.neg) for row in rows]
    return shares(kinds) | {"negatives a row": float(np.mean(counts)), "rows without": 100 * counts.count(0) / len(counts)}


# --- models, each made once -------------------------------------------------------------------------------------------------


@functools.cache
def content(path: Path) -> str:
    """What tells a file, or the model in a folder, from others."""
    if path.is_dir():
        return model_folder.weights_hash(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_of(*parts) -> str:
    """The name of what is made of these parts: words as they are, paths by their content."""
    told = [content(part.resolve()) if isinstance(part, Path) else part for part in parts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def linked(files: list[Path], folder: Path) -> list[dict]:
    """The sources in files and manifests, as entries of a manifest in `folder`, where links to their files are put."""
    entries = []
    for path in files:
        for entry in read_json(path)["sources"] if path.suffix == ".json" else [{"file": path.name}]:
            link = folder / Path(entry["file"]).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to((path.parent / entry["file"]).resolve())
            entries.append(entry | {"file": link.name})
    return entries


class Lab:
    """What all variants share: the settings, the sources, and models that are made once."""

    def __init__(self, args):
        self.out, self.quick, self.bundled = Path(args.out), args.quick, not args.data
        self.given = {name: e5nl.find(name) for name in (args.model, *args.against) if name}
        self.model = self.given.get(args.model)
        files = [Path(name) for name in args.data or SOURCES]
        self.sources = read_sources(files)  # what cannot be read is said before anything is written
        pretrained = f"{demo.FROM_PRETRAINED} {demo.LONGER} --lr 1e-5" if self.bundled else ""
        settings = (pretrained, pretrained) if self.model else (FIRST, THEN)
        self.first, self.then = (f"{words} {QUICK if self.quick else ''} {args.train}" for words in settings)
        tasks_file = args.tasks_file or (None if args.benchmark else demo.DEMO / "tasks.json")
        tasks = mteb_nl.read_tasks(tasks_file) if tasks_file else mteb_nl.TASKS
        wanted = args.tasks or (["all"] if args.tasks_file or args.benchmark else FEW_TASKS.split())
        self.protocol = [mteb_nl.fingerprint(task) for task in mteb_nl.select_tasks(tasks, wanted)]
        self.evaluation = ["--tasks", *wanted, *(["--tasks-file", Path(tasks_file)] if tasks_file else [])]
        self.entries = linked(files, self.out / "data")

    def call(self, module, *words) -> None:
        """Run a command of this project; the log gets it and what it prints."""
        with open(self.out / "log.txt", "a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            demo.call(module, *words)

    def made(self, *parts, by: Callable[[Path], None]) -> Path:
        """The model that `by` makes of these parts in the folder it is given, unless it is there whole."""
        folder = self.out / "models" / name_of(*parts)
        if not (folder / "config.json").exists():
            by(folder)
        return folder

    def train(self, model: Path, entries: list[dict], settings: str, seed: int) -> Path:
        data, settings = self.out / "data" / f"{name_of(entries)}.json", f"{settings} --seed {seed}"
        write_json(data, {"sources": entries})
        files = [data.parent / entry["file"] for entry in entries]
        return self.made(settings, model, data, *files, by=lambda folder: self.call(
            e5nl, "train --model", model, "--data", data, f"{settings} --resume --out", folder))  # fmt: skip

    def start(self, seed: int) -> Path:
        """What the paper's training starts from: an encoder, trimmed."""
        return self.model or self.trimmed(seed)

    def tuned(self, seed: int, more: str = "") -> Path:
        """The start, trained on all sources: what most checks compare with."""
        return self.train(self.start(seed), self.entries, f"{self.first} {more}", seed)

    def expert(self, seed: int) -> Path:
        """The model that mines, and is trained on with what it mined."""
        return self.model or self.tuned(seed)

    def to_mine(self, keep: bool = False) -> list[bool]:
        """Which sources get the expert's hard negatives: those of type retrieval; keep: but not those that hold negatives already."""
        kept = [keep and any(row.neg for row in source.rows) for source in self.sources]
        wanted = [source.type == "retrieval" and not as_it_is for source, as_it_is in zip(self.sources, kept, strict=True)]
        if not any(kept) and not any(wanted):
            raise InputError(f"{', '.join(source.name for source in self.sources)}: no source of type retrieval, so nothing to mine")
        return wanted

    def mined(self, seed: int, rule: str, keep: bool = False) -> list[dict]:
        """The sources, with the expert's hard negatives in those that `to_mine` names."""
        entries, expert = [], self.expert(seed)
        for entry, source, wanted in zip(self.entries, self.sources, self.to_mine(keep), strict=True):
            file = self.out / "data" / entry["file"]
            if source.type != "retrieval":
                entry = entry | {"ratio": 0.2} if self.bundled else entry  # as in the demo: mostly what was mined
            elif wanted:
                mined = self.out / "data" / name_of(expert, file, rule) / f"{source.name}.jsonl.gz"
                if not Path(f"{mined}.json").exists():  # written last
                    words = f"{rule} {'' if self.model else demo.SHORT} --examples 0 --overwrite --cache"
                    self.call(mine, "--model", expert, "--data", file, words, self.out / "cache", "--out", mined)
                entry = entry | {"file": str(mined.relative_to(self.out / "data"))}
            entries.append(entry)
        return entries

    def scores(self, model: Path) -> dict[str, float]:
        """Scores of a model x 100: the mean of each type of tasks, by its short name, and the mean of these."""
        folder = self.out / "results" / name_of(model, self.protocol)
        if not (folder / "summary.json").exists():  # written last
            self.call(evaluate, "run --model", model, *self.evaluation, "--out", folder)
            shutil.rmtree(folder / "cache")
        found = read_json(folder / "summary.json")
        types = {short: 100 * found["types"][type] for type, short in SHORT.items() if type in found["types"]}
        return types | {"mean": 100 * found["mean_types"]}

    # The toy encoder that stands for a pretrained one, and its initialisations.

    def pretrained(self, seed: int) -> Path:
        weak = self.out / "data" / f"{name_of('weak', *SOURCES)}.jsonl.gz"
        settings = f"{PRETRAIN} {QUICK if self.quick else ''} --seed {seed}"
        if not weak.exists():
            write_jsonl(weak, demo.weak_pairs(demo.texts_of(SOURCES)))

        def make(folder: Path) -> None:
            random = folder.with_name(f"random-{seed}")  # weights
            tokenizer = "--tokenizer", demo.DEMO / "tokenizer.json.xz"
            self.call(e5nl, "init", *tokenizer, f"{demo.TOY} --seed {seed} --overwrite --out", random)
            write_json(random / "sentence_bert_config.json", READS)
            self.call(e5nl, "train --model", random, "--data", weak, f"{settings} --resume --out", folder)
            shutil.rmtree(random)  # a quarter of a gigabyte

        return self.made(demo.TOY, READS, settings, weak, by=make)

    def trimmed(self, seed: int) -> Path:
        model, corpus = self.pretrained(seed), (*PARALLEL, *SOURCES)
        return self.made("trimmed", model, *corpus, by=lambda folder: self.call(
            trim_vocab, "--model", model, "--corpus", *corpus, "--out", folder))  # fmt: skip

    def transtokenised(self, seed: int) -> Path:
        """With a cased WordPiece tokenizer, as BERTje's is. The same Dutch sentences stand on both sides of the parallel text."""
        model, corpus = self.pretrained(seed), (*PARALLEL, *SOURCES)
        tokenizer = self.out / "data" / f"{name_of('wordpiece', *corpus)}.json"
        if not tokenizer.exists():
            backend = BertWordPieceTokenizer(lowercase=False)
            special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]  # XLM-R's positions count from its pad id, which is 1
            texts = trim_vocab.read_corpus(corpus)
            backend.train_from_iterator(texts, vocab_size=16_000, special_tokens=special, show_progress=False)
            backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
            with new_file(tokenizer) as temporary:
                temporary.write_text(backend.to_str(), encoding="utf-8")
        text = "--parallel", *PARALLEL, "--fields text text --min-count 3 --out"
        return self.made("transtokenised", model, tokenizer, *PARALLEL, by=lambda folder: self.call(
            transtokenize, "--model", model, "--tokenizer", tokenizer, *text, folder))  # fmt: skip


# --- the checks -------------------------------------------------------------------------------------------------------------

Variants = dict[str, Callable[[int], Path]]  # name -> (seed -> model folder); the first is what the others are compared with
Facts = Callable[[Path], dict[str, float]] | None  # of a trained model, to print beside the scores


def batches(lab: Lab) -> tuple[Variants, Facts]:
    """As many rows a step from the same sources, sorted or not; and what the paper does, where symmetric sources get half a batch."""

    def alike(batching: str, seed: int) -> Path:
        entries = [entry | {"batch_factor": 1} for entry in lab.entries]
        return lab.train(lab.start(seed), entries, f"{lab.first} --batching {batching}", seed)

    alike = {name: functools.partial(alike, batching) for name, batching in (("one source", "source"), ("mixed", "mixed"))}
    return alike | {"one source, half if symmetric": lab.tuned}, in_batches


def masks(lab: Lab) -> tuple[Variants, Facts]:
    return {"masks": lambda seed: lab.tuned(seed, "--masks"), "no masks": lambda seed: lab.tuned(seed, "--no-masks")}, in_batches


def types(lab: Lab) -> tuple[Variants, Facts]:
    groups = [source.type if lab.bundled else source.name for source in lab.sources]

    def without(group: str, seed: int) -> Path:
        left = [entry for entry, other in zip(lab.entries, groups, strict=True) if other != group]
        return lab.train(lab.start(seed), left, lab.first, seed)

    if len(set(groups)) < 2:
        raise InputError(f"types: {groups[0]} is all there is; leaving it out leaves nothing")
    return {"all": lab.tuned} | {f"without {group}": functools.partial(without, group) for group in groups}, None


def initialise(lab: Lab) -> tuple[Variants, Facts]:
    def trained(model: Callable[[int], Path]) -> Callable[[int], Path]:
        return lambda seed: lab.train(model(seed), lab.entries, lab.first, seed)

    if lab.model is None:
        return {"trimmed": lab.tuned, "untrimmed": trained(lab.pretrained), "transtokenised": trained(lab.transtokenised)}, None
    if len(lab.given) < 2:
        raise InputError(f"initialise: what is {lab.model} to be compared with? Name other model folders by --against")
    return {name: trained(lambda seed, model=model: model) for name, model in lab.given.items()}, None


def negatives(lab: Lab) -> tuple[Variants, Facts]:
    def with_negatives(count: int, seed: int) -> Path:
        return lab.train(lab.expert(seed), lab.mined(seed, "--negatives 7", keep=True), f"{lab.then} --negatives {count}", seed)

    lab.to_mine(keep=True)  # an error is said here
    return {str(count): functools.partial(with_negatives, count) for count in (0, 1, 3, 7)}, None


def mining(lab: Lab) -> tuple[Variants, Facts]:
    rules = [("topk", 0), ("topk-marginpos", 0.05), ("topk-percpos", 0.95), *(("topk-stdmarginpos", m) for m in (0.5, 1, 2))]

    def with_rule(rule: str, margin: float, seed: int) -> Path:
        mined = lab.mined(seed, f"--rule {rule} --margin {margin} --negatives 7")
        return lab.train(lab.expert(seed), mined, f"{lab.then} --negatives 1", seed)

    lab.to_mine()  # an error is said here
    return {f"{rule} {margin or ''}".strip(): functools.partial(with_rule, rule, margin) for rule, margin in rules}, in_rows


CHECKS = {check.__name__: check for check in (batches, masks, types, initialise, negatives, mining)}

# --- tables -----------------------------------------------------------------------------------------------------------------


def spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (of a sample: n - 1) over seeds; no deviation of one.

    >>> spread([1.0, 2.0, 6.0])
    (3.0, 2.6457513110645907)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def cell(values: list[float], difference: bool = False) -> str:
    """Mean ± standard deviation; of differences with a sign, and a * where the mean is beyond 2 standard errors (deviation / √n).

    >>> cell([1.0, 2.0, 3.0]), cell([1.0, 2.0, 3.0], difference=True), cell([-1.0, 2.0], difference=True), cell([0.5])
    ('2.00 ± 1.00', '+2.00 ± 1.00 *', '+0.50 ± 2.12', '0.50')
    """
    mean, deviation = spread(values)
    told = f"{mean:{'+' if difference else ''}.2f}" + (f" ± {deviation:.2f}" if deviation is not None else "")
    beyond = deviation is not None and abs(mean) > 2 * deviation / len(values) ** 0.5
    return f"{told} *" if difference and beyond else told


def scores_table(found: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    """Cells: variants down with their scores, then the differences from the first; found: {variant: the scores of each seed}."""
    first, *others = found
    names = list(found[first][0])
    cells = [["", *names], *([variant, *(cell([one[name] for one in found[variant]]) for name in names)] for variant in found)]
    for variant in others:
        pairs = list(zip(found[variant], found[first], strict=True))
        cells.append([f"{variant} - {first}", *(cell([a[name] - b[name] for a, b in pairs], difference=True) for name in names)])
    return cells


def check(lab: Lab, name: str, variants: Variants, facts: Facts, seeds: int) -> None:
    """Make and score all variants of a check, seed by seed; print a line each, the tables and the time; write `<out>/<name>.json`."""
    found, told, began = {variant: [] for variant in variants}, {variant: [] for variant in variants}, time.perf_counter()
    for seed in range(seeds):
        for variant, make in variants.items():
            start = time.perf_counter()
            model = make(seed)
            found[variant].append(lab.scores(model))
            told[variant].append(facts(model) if facts else {})
            line = f"mean {found[variant][-1]['mean']:.2f} ({time.perf_counter() - start:.0f} s, {model})"
            print(f"{name}, seed {seed}, {variant}: {line}", flush=True)
    print(f"\n### {name}\n\n{table(scores_table(found), 'markdown', 1)}")
    if facts:
        names = list(next(iter(told.values()))[0])
        rows = [[variant, *(cell([one[fact] for one in each]) for fact in names)] for variant, each in told.items()]
        about = "Known to be false, percent of the negatives; rows with any, and rows without negatives: percent of the rows"
        print(f"\n{about}\n\n{table([['', *names], *rows], 'markdown', 1)}")
    print(f"\n{name}: {time.perf_counter() - began:.0f} s\n", flush=True)
    settings = {"first": lab.first, "then": lab.then, "evaluation": [str(word) for word in lab.evaluation]}
    write_json(lab.out / f"{name}.json", settings | {"scores": found, "facts": told})


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="The same training with one thing changed, over several seeds.")
    parser.add_argument("checks", nargs="+", metavar="CHECK", help=f"{', '.join(CHECKS)}, or all")
    parser.add_argument("--out", default="runs/ablate", help="where everything goes and is found again (default: %(default)s)")
    parser.add_argument("--seeds", type=whole_number(1), default=3, help="how many (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two steps a training: everything runs, nothing is learned")
    group = parser.add_argument_group("instead of what is bundled")
    group.add_argument("--model", help="what is trained: a model folder or hub name")
    group.add_argument("--against", nargs="+", default=[], metavar="MODEL", help="other initialisations of it, for `initialise`")
    group.add_argument("--data", nargs="+", help="training sources (.jsonl, .jsonl.gz) or manifests (.json)")
    group.add_argument("--train", default="", metavar="OPTIONS", help="options of `e5nl.py train` for all variants, in one word")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--tasks-file", help="as for `evaluate.py run`")
    either.add_argument("--benchmark", action="store_true", help="MTEB-NL, from the hub's cache")
    group.add_argument("--tasks", nargs="+", help="as for `evaluate.py run` (default: all, of the bundled tasks one or two of each type)")
    args = parser.parse_args(argv)
    for name in args.checks:
        if name not in (*CHECKS, "all"):
            raise InputError(f"check {name!r} is unknown; {mteb_nl.nearest(name, [*CHECKS, 'all'])}")
    if args.against and not args.model:
        raise InputError("--against names what --model is compared with; add --model")
    names = list(CHECKS) if "all" in args.checks else list(dict.fromkeys(args.checks))
    if args.against and "initialise" not in names:
        raise InputError("--against is for the check initialise, which is not among those named; add it, or leave --against out")
    lab = Lab(args)
    for name, made in {name: CHECKS[name](lab) for name in names}.items():  # a check that cannot be made stops all before the first
        check(lab, name, *made, args.seeds)
    if args.seeds > 1:
        chance = 2 * scipy.stats.t.sf(2, args.seeds - 1)
        print(f"± standard deviation over {args.seeds} seeds. * beyond 2 standard errors, as {chance:.0%} would be by chance alone")


if __name__ == "__main__":
    cli(main)
