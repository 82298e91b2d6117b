"""Questions that the paper leaves open: training with one thing changed, over several seeds.

The released code, cards and scores of the paper (arXiv 2509.12340) compare neither batches of one
source with mixed ones, nor mining rules, types of synthetic data or numbers of hard negatives. A
check is a list of variants; the others are compared with its first, seed by seed.

    batches      batches of one source, or of all; how many in-batch negatives are known to be false
    masks        equal texts in a batch are no negatives of each other, or are
    types        all sources, then without one type of them (with `--data`: without one of them)
    initialise   trimmed, untrimmed, transtokenised (with `--model`: it, and each of `--against`)
    negatives    0, 1, 3 and 7 hard negatives per row
    mining       naive top-k, NV-Retriever's rules, TopK-STDMarginPos; how many of the chosen
                 negatives are known to be false

    python -m tools.ablate masks --quick --seeds 1                # half a minute: that it runs
    python -m tools.ablate all                                    # all of it on the bundled data
    python -m tools.ablate types --model clips/e5-base-trm --data mined.json --benchmark

Without `--model`, each seed has an encoder of its own in place of a pretrained one: random weights,
trained on pairs of a sentence and the rest of its text (see demo.py). With `--model`, seeds differ
only in batches and draws; with `--data` too, the settings are the paper's. `--train` changes them,
as in `--train "--batch-size 256 --steps 500"`. Without `--steps`, a variant with fewer rows takes
fewer steps. `mining` and `negatives` continue from the model that mines: the one trained on all
sources, or `--model`. In `negatives`, sources that have negatives keep them.

Everything goes to `--out`, into folders named by what made them (settings, weights, content of
files): the same command resumes where a killed one stopped, and what two checks need is made once.
`log.txt` there has every command with what it printed, `<check>.json` the numbers.

Left out on purpose: several GPUs (the log's commands run under torchrun), passages to mine other
than the sources' own.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse
import scipy.stats
from scipy.sparse.csgraph import connected_components

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
from files import InputError, cli, read_json, whole_number, write_json, write_jsonl
from tools.samples import XLMR_ORDER, wordpiece

# Chosen by measuring what minutes allow. Worse: higher rates (from 2e-3 on, the second training
# makes retrieval worse than it was), batches of 32, tau 0.05.
TRAINING = f"{demo.SHORT} --schedule decay --warmup 0.1 --weight-decay 1 --tau 0.1"
PRETRAIN = f"{TRAINING} --batch-size 128 --steps 80 --lr 3e-3"
FIRST = f"{TRAINING} --batch-size 64 --steps 60 --lr 1e-3"
THEN = f"{TRAINING} --batch-size 64 --steps 30 --lr 5e-4"
READS = {"max_seq_length": 48, "do_lower_case": False}  # tokens: no more than it is trained with
QUICK = "--batch-size 8 --steps 2"
FEW_TASKS = f"{demo.QUICK_TASKS} DekamerRetrieval"
SOURCES, PARALLEL = (sorted((demo.DEMO / name).glob("*.jsonl.gz")) for name in ("train", "corpus"))

# --- negatives that are known to be false ---------------------------------------------------------

FALSE = ("same text", "same label", "same document")


def documents(sources: list[Source]) -> dict[str, int]:
    """{normalised text: its document}, as far as texts alone tell.

    Two texts are of one document when a row holds both (as query or positive), or when a chain of
    rows leads from one to the other, whatever their sources.

    >>> rows = [Row("a", ("b",), ()), Row("d", ("e",), ()), Row("B", ("c",), ())]
    >>> documents([Source("one", "retrieval", rows)])
    {'a': 0, 'b': 0, 'd': 1, 'e': 1, 'c': 0}
    """
    ids: dict[str, int] = {}

    def number(text: str) -> int:
        return ids.setdefault(normalise(text), len(ids))

    rows = [row for source in sources for row in source.rows]
    links = [(number(row.query), number(positive)) for row in rows for positive in row.pos]
    graph = scipy.sparse.coo_array((np.ones(len(links)), np.transpose(links)), 2 * (len(ids),))
    _, numbers = connected_components(graph, directed=False)
    return dict(zip(ids, numbers.tolist(), strict=True))


def false_negatives(
    sources: list[Source], rows: list[Row], groups: list[list[str]], document: dict[str, int]
) -> np.ndarray:
    """What is known of each passage of a batch as a negative of each row: (B, P) int8.

    sources: of each row. groups: each row's passages, its positive first.

    -1: it is no negative of the row: its positive, or a passage of another row where the source has
    no in-batch negatives. 0: nothing is known against it. Else 1 + its place in FALSE:

    same text: it is the row's query or one of its positives; what the masks of training remove.
    same label: that, in a source of type classification, whose passages are labels.
    same document: see `documents`.
    """
    passages = [text for group in groups for text in group]
    row = np.arange(len(rows))
    owner = np.repeat(row, [len(group) for group in groups])

    of_query = np.array([document.get(normalise(row.query), -1) for row in rows])
    of_passage = [document.get(normalise(text), -1) for text in passages]
    kinds = np.where(of_query[:, None] == of_passage, 3, 0)

    label = np.array([[source.type == "classification"] for source in sources])
    kinds = np.where(e5nl.same_text_mask(rows, passages).numpy(), 1 + label, kinds)

    alone = np.array([[not source.in_batch_negatives] for source in sources])
    kinds[alone & (owner != row[:, None])] = -1
    kinds[row, np.searchsorted(owner, row)] = -1  # the positives
    return kinds.astype(np.int8)


def shares(kinds: list[np.ndarray]) -> dict[str, float]:
    """Percentages: of the negatives in batches, each of FALSE; of the rows, those that have any."""
    negatives = np.concatenate([batch[batch >= 0] for batch in kinds])
    counts = np.bincount(negatives, minlength=1 + len(FALSE))
    rows = np.concatenate([(batch > 0).any(1) for batch in kinds])
    percent = 100 * counts[1:] / max(1, len(negatives))
    facts = dict(zip(FALSE, percent.tolist(), strict=True))
    return facts | {"rows with any": 100 * float(rows.mean())}


def sources_of(folder: Path) -> tuple[dict, list[Source]]:
    """The settings and the sources that made a trained model."""
    settings = read_json(folder / "settings.json")
    return settings, read_sources(settings["data"], settings["seed"])


def in_batches(folder: Path) -> dict[str, float]:
    """`shares` of the batches, as they were drawn, that made a model: of one epoch at most."""
    settings, sources = sources_of(folder)
    if settings["in_batch"] == "always":
        sources = [source._replace(in_batch_negatives=True) for source in sources]
    document, kinds, seed = documents(sources), [], settings["seed"]
    plan = plan_epoch(sources, settings["batch_size"], settings["batching"], seed, 0)
    for step, batch in enumerate(plan[: settings["steps"]]):
        generator = np.random.default_rng((seed, step))
        drawn = draw_batch(sources, *batch, settings["negatives"], generator)
        kinds.append(false_negatives(*drawn, document))
    return shares(kinds)


def in_rows(folder: Path) -> dict[str, float]:
    """`shares` of the hard negatives in the retrieval sources that made a model; negatives per
    row, and rows without any."""
    _, sources = sources_of(folder)
    document, kinds, counts = documents(sources), [], []
    for source in sources:
        alone = source._replace(in_batch_negatives=False)
        for row in source.rows if source.type == "retrieval" else ():
            kinds.append(false_negatives([alone], [row], [[row.pos[0], *row.neg]], document))
            counts.append(len(row.neg))
    without = 100 * counts.count(0) / len(counts)
    return shares(kinds) | {"negatives a row": float(np.mean(counts)), "rows without": without}


# --- models, each made once -----------------------------------------------------------------------


@functools.cache
def content(path: Path) -> str:
    """Differs for different files, and for folders with different weights."""
    if path.is_dir():
        return model_folder.weights_hash(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def name_of(*parts) -> str:
    """The name of what is made of these parts: words as they are, paths by their content."""
    parts = [content(part.resolve()) if isinstance(part, Path) else part for part in parts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def link_sources(files: list[Path], folder: Path) -> list[dict]:
    """The sources in files and manifests, as entries of a manifest in `folder`; links in it."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for path in files:
        manifest = path.suffix == ".json"
        for entry in read_json(path)["sources"] if manifest else [{"file": path.name}]:
            link = folder / Path(entry["file"]).name
            link.unlink(missing_ok=True)
            link.symlink_to((path.parent / entry["file"]).resolve())
            entries.append(entry | {"file": link.name})
    return entries


class Lab:
    """What all variants share: the settings, the sources, and models that are made once."""

    def __init__(self, args):
        self.out, self.quick, self.bundled = Path(args.out), args.quick, not args.data
        self.data = self.out / "data"
        # Models, sources and tasks: mistakes in them are reported before anything is written.
        self.given = {name: e5nl.find(name) for name in (args.model, *args.against) if name}
        self.model = self.given.get(args.model)
        files = list(map(Path, args.data or SOURCES))
        self.sources = read_sources(files)

        tasks_file = args.tasks_file or (None if args.benchmark else demo.DEMO / "tasks.json")
        wanted = args.tasks or (["all"] if args.tasks_file or args.benchmark else FEW_TASKS.split())
        tasks = mteb_nl.read_tasks(tasks_file) if tasks_file else mteb_nl.TASKS
        tasks = mteb_nl.select_tasks(tasks, wanted)
        self.protocol = [mteb_nl.fingerprint(task) for task in tasks]
        where = ["--tasks-file", str(tasks_file)] if tasks_file else []
        self.evaluation = [*where, "--tasks", *wanted]

        if self.model and self.bundled:
            self.first = self.then = f"{demo.FROM_PRETRAINED} {demo.LONGER} --lr 1e-5"
        else:
            self.first, self.then = ("", "") if self.model else (FIRST, THEN)
        more = f" {QUICK if self.quick else ''} {args.train}"
        self.first, self.then = self.first + more, self.then + more
        self.entries = link_sources(files, self.data)

    def call(self, module, *words) -> None:
        """Run a command of this project; the log gets it and what it prints."""
        with open(self.out / "log.txt", "a", encoding="utf-8") as log:
            with contextlib.redirect_stdout(log):
                demo.call(module, *words)

    def made(self, parts: list, *command) -> Path:
        """The model that a command makes of these parts, unless it exists."""
        folder = self.out / "models" / name_of(*parts)
        if not (folder / "config.json").exists():
            self.call(*command, "--out", folder)
        return folder

    def train(self, model: Path, entries: list[dict], settings: str, seed: int) -> Path:
        manifest, settings = self.data / f"{name_of(entries)}.json", f"{settings} --seed {seed}"
        write_json(manifest, {"sources": entries})
        files = [self.data / entry["file"] for entry in entries]
        command = e5nl, "train --model", model, "--data", manifest, f"{settings} --resume"
        return self.made([settings, model, manifest, *files], *command)

    def start(self, seed: int) -> Path:
        """What the paper's training starts from: an encoder, trimmed."""
        return self.model or self.trimmed(seed)

    def tuned(self, seed: int, more: str = "") -> Path:
        """The start, trained on all sources: what most checks compare with."""
        return self.train(self.start(seed), self.entries, f"{self.first} {more}", seed)

    def expert(self, seed: int) -> Path:
        """The model that mines, and whose training continues with what it mined."""
        return self.model or self.tuned(seed)

    def to_mine(self, keep: bool = False) -> list[bool]:
        """Which sources get the expert's hard negatives: those of type retrieval.

        keep: but not those that have negatives already.
        """
        kept = [keep and any(row.neg for row in source.rows) for source in self.sources]
        pairs = zip(self.sources, kept, strict=True)
        wanted = [source.type == "retrieval" and not has for source, has in pairs]
        if not any(kept + wanted):
            names = ", ".join(source.name for source in self.sources)
            raise InputError(f"{names}: no source of type retrieval, so nothing to mine")
        return wanted

    def mined(self, seed: int, rule: str, keep: bool = False) -> list[dict]:
        """The sources, with the expert's hard negatives in those that `to_mine` names."""
        entries, expert = [], self.expert(seed)
        options = f"{rule} {'' if self.model else demo.SHORT} --examples 0 --overwrite --cache"
        for entry, source, wanted in zip(
            self.entries, self.sources, self.to_mine(keep), strict=True
        ):
            file = self.data / entry["file"]
            mined = Path(name_of(expert, file, rule), f"{source.name}.jsonl.gz")
            if source.type != "retrieval" and self.bundled:
                entry = entry | {"ratio": 0.2}  # as in the demo: mostly what was mined
            if wanted:
                if not Path(f"{self.data / mined}.json").exists():  # written last
                    words = options, self.out / "cache", "--out", self.data / mined
                    self.call(mine, "--model", expert, "--data", file, *words)
                entry = entry | {"file": str(mined)}
            entries.append(entry)
        return entries

    def scores(self, model: Path) -> dict[str, float]:
        """Scores x 100: the mean of each type of tasks, by its short name, and their mean."""
        folder = self.out / "results" / name_of(model, self.protocol)
        if not (folder / "summary.json").exists():  # written last
            self.call(evaluate, "run --model", model, *self.evaluation, "--out", folder)
            shutil.rmtree(folder / "cache")
        summary = read_json(folder / "summary.json")
        means = summary["types"] | {"mean": summary["mean_types"]}
        return {SHORT.get(type, type): 100 * mean for type, mean in means.items()}

    # The toy encoder in place of a pretrained one, and its initialisations.

    def pretrained(self, seed: int) -> Path:
        pairs = self.data / f"{name_of('weak', *SOURCES)}.jsonl.gz"
        if not pairs.exists():
            write_jsonl(pairs, demo.weak_pairs(demo.texts_of(SOURCES)))
        init = f"init {demo.TOY} --seed {seed} --tokenizer"
        random = self.made([init], e5nl, init, demo.DEMO / "tokenizer.json.xz")
        write_json(random / "sentence_bert_config.json", READS)
        settings = f"{PRETRAIN} {QUICK if self.quick else ''} --seed {seed} --resume"
        command = e5nl, "train --model", random, "--data", pairs, settings
        return self.made([init, READS, settings, pairs], *command)

    def trimmed(self, seed: int) -> Path:
        model, corpus = self.pretrained(seed), (*PARALLEL, *SOURCES)
        command = trim_vocab, "--model", model, "--corpus", *corpus
        return self.made(["trimmed", model, *corpus], *command)

    def transtokenised(self, seed: int) -> Path:
        """With a cased WordPiece tokenizer, as BERTje's is. Both sides of the parallel text are the
        same Dutch sentences."""
        model, corpus = self.pretrained(seed), (*PARALLEL, *SOURCES)
        tokenizer = self.data / f"{name_of('wordpiece', *corpus)}.json"
        if not tokenizer.exists():
            texts = trim_vocab.read_corpus(corpus)
            new = wordpiece(texts, 16_000, lowercase=False, special=XLMR_ORDER)
            write_json(tokenizer, json.loads(new.json))
        command = transtokenize, "--model", model, "--tokenizer", tokenizer
        text = "--parallel", *PARALLEL, "--fields text text --min-count 3"
        return self.made(["transtokenised", model, tokenizer, *PARALLEL], *command, *text)


# --- the checks -----------------------------------------------------------------------------------

# name -> (seed -> model folder); the first is what the others are compared with
Variants = dict[str, Callable[[int], Path]]


def batches(lab: Lab) -> Variants:
    """As many rows per step from the same sources, sorted or not; and what the paper does, where
    symmetric sources get half a batch."""
    entries = [entry | {"batch_factor": 1} for entry in lab.entries]

    def alike(batching: str, seed: int) -> Path:
        return lab.train(lab.start(seed), entries, f"{lab.first} --batching {batching}", seed)

    return {
        "one source": partial(alike, "source"),
        "mixed": partial(alike, "mixed"),
        "one source, half if symmetric": lab.tuned,
    }


def masks(lab: Lab) -> Variants:
    return {
        "masks": partial(lab.tuned, more="--masks"),
        "no masks": partial(lab.tuned, more="--no-masks"),
    }


def types(lab: Lab) -> Variants:
    groups = [source.type if lab.bundled else source.name for source in lab.sources]
    if len(set(groups)) < 2:
        raise InputError(f"types: {groups[0]} is all there is; leaving it out leaves nothing")

    def without(group: str, seed: int) -> Path:
        pairs = zip(lab.entries, groups, strict=True)
        others = [entry for entry, other in pairs if other != group]
        return lab.train(lab.start(seed), others, lab.first, seed)

    return {"all": lab.tuned} | {f"without {group}": partial(without, group) for group in groups}


def initialise(lab: Lab) -> Variants:
    def trained(model: Callable[[int], Path], seed: int) -> Path:
        return lab.train(model(seed), lab.entries, lab.first, seed)

    models = {"untrimmed": lab.pretrained, "transtokenised": lab.transtokenised}
    if lab.model:
        models = {name: lambda seed, model=model: model for name, model in lab.given.items()}
        if len(models) < 2:
            raise InputError(
                f"initialise: what is {lab.model} to be compared with? "
                "Name other model folders by --against"
            )
    variants = {name: partial(trained, model) for name, model in models.items()}
    return variants if lab.model else {"trimmed": lab.tuned} | variants


def negatives(lab: Lab) -> Variants:
    lab.to_mine(keep=True)  # reports mistakes now

    def with_negatives(count: int, seed: int) -> Path:
        entries = lab.mined(seed, "--negatives 7", keep=True)
        return lab.train(lab.expert(seed), entries, f"{lab.then} --negatives {count}", seed)

    return {str(count): partial(with_negatives, count) for count in (0, 1, 3, 7)}


def mining(lab: Lab) -> Variants:
    lab.to_mine()  # reports mistakes now
    rules = [("topk", 0), ("topk-marginpos", 0.05), ("topk-percpos", 0.95)]
    rules += [("topk-stdmarginpos", deviations) for deviations in (0.5, 1, 2)]

    def with_rule(rule: str, margin: float, seed: int) -> Path:
        entries = lab.mined(seed, f"--rule {rule} --margin {margin} --negatives 7")
        return lab.train(lab.expert(seed), entries, f"{lab.then} --negatives 1", seed)

    return {f"{rule} {m or ''}".strip(): partial(with_rule, rule, m) for rule, m in rules}


CHECKS = {check.__name__: check for check in (batches, masks, types, initialise, negatives, mining)}
# What is counted in the data of a trained model, to print with the scores.
FACTS = {"batches": in_batches, "masks": in_batches, "mining": in_rows}

# --- tables ---------------------------------------------------------------------------------------


def cell(values: Iterable[float], difference: bool = False) -> str:
    """Mean ± standard deviation (of a sample: n - 1) over seeds.

    Differences have a sign, and a * where the mean is beyond 2 standard errors (deviation / √n).

    >>> cell([1.0, 2.0, 6.0]), cell([0.5])
    ('3.00 ± 2.65', '0.50')
    >>> cell([1.0, 2.0, 3.0], difference=True), cell([-1.0, 2.0], difference=True)
    ('+2.00 ± 1.00 *', '+0.50 ± 2.12')
    """
    values = list(values)
    mean = np.mean(values)
    text = f"{mean:{'+' if difference else ''}.2f}"
    if len(values) == 1:
        return text
    deviation = np.std(values, ddof=1)
    beyond = difference and abs(mean) > 2 * deviation / len(values) ** 0.5
    return f"{text} ± {deviation:.2f}{' *' if beyond else ''}"


def value_cells(figures: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    """Variants down, their values across; figures: {variant: its values of each seed}."""
    names = list(next(iter(figures.values()))[0])
    cells = [["", *names]]
    for variant, seeds in figures.items():
        cells.append([variant, *(cell(values[name] for values in seeds) for name in names)])
    return cells


def scores_table(scores: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    """`value_cells`, then the differences from the first variant."""
    first, *others = scores
    cells = value_cells(scores)
    for variant in others:
        pairs = list(zip(scores[variant], scores[first], strict=True))
        differences = (cell((a[name] - b[name] for a, b in pairs), True) for name in cells[0][1:])
        cells.append([f"{variant} - {first}", *differences])
    return cells


def check(lab: Lab, name: str, variants: Variants, seeds: int) -> None:
    """Make and score all variants of a check, seed by seed; print and write `<out>/<name>.json`."""
    scores, known = ({variant: [] for variant in variants} for _ in range(2))
    facts = FACTS.get(name)
    began = time.perf_counter()
    for seed in range(seeds):
        for variant, make in variants.items():
            start = time.perf_counter()
            model = make(seed)
            scores[variant].append(lab.scores(model))
            known[variant].append(facts(model) if facts else {})
            line = f"{name}, seed {seed}, {variant}: mean {scores[variant][-1]['mean']:.2f}"
            print(f"{line} ({time.perf_counter() - start:.0f} s, {model})", flush=True)

    print(f"\n### {name}\n\n{table(scores_table(scores), 'markdown', 1)}")
    if facts:
        print(
            "\nKnown to be false, percent of the negatives; "
            "rows with any, and rows without negatives: percent of the rows\n\n"
            + table(value_cells(known), "markdown", 1)
        )
    print(f"\n{name}: {time.perf_counter() - began:.0f} s\n", flush=True)
    settings = {"first": lab.first, "then": lab.then, "evaluation": lab.evaluation}
    write_json(lab.out / f"{name}.json", settings | {"scores": scores, "facts": known})


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.ablate",
        description="The same training with one thing changed, over several seeds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("checks", nargs="+", metavar="CHECK", help=f"{', '.join(CHECKS)}, or all")
    add("--out", default="runs/ablate", help="where everything goes and is found again")
    add("--seeds", type=whole_number(1), default=3, help="how many")
    add("--quick", action="store_true", help="two steps per training: nothing is learned")
    add = parser.add_argument_group("instead of what is bundled").add_argument
    add("--model", help="what is trained: a model folder or hub name")
    add("--against", nargs="+", default=[], metavar="MODEL", help="initialisations to compare")
    add("--data", nargs="+", help="training sources (.jsonl, .jsonl.gz) or manifests (.json)")
    add("--train", default="", metavar="OPTIONS", help="of `e5nl.py train`, for all variants")
    add("--tasks-file", help="as for `evaluate.py run`; not with --benchmark")
    add("--benchmark", action="store_true", help="MTEB-NL, from the hub or its cache")
    add("--tasks", nargs="+", help="as for `evaluate.py run`; of the bundled ones a few")
    args = parser.parse_args(argv)

    known = [*CHECKS, "all"]
    for name in args.checks:
        if name not in known:
            raise InputError(f"check {name!r} is unknown; {mteb_nl.nearest(name, known)}")
    names = list(CHECKS) if "all" in args.checks else list(dict.fromkeys(args.checks))
    if args.against and not args.model:
        raise InputError("--against names what --model is compared with; add --model")
    if args.against and "initialise" not in names:
        raise InputError("--against is only for the check initialise; add it, or drop --against")
    if args.benchmark and args.tasks_file:
        raise InputError("--benchmark and --tasks-file exclude each other; drop one of them")

    lab = Lab(args)
    # All are prepared first, so that one that cannot be made stops the command before any training.
    checks = {name: CHECKS[name](lab) for name in names}
    for name, variants in checks.items():
        check(lab, name, variants, args.seeds)
    if args.seeds > 1:
        chance = 2 * scipy.stats.t.sf(2, args.seeds - 1)
        print(
            f"± standard deviation over {args.seeds} seeds. "
            f"* beyond 2 standard errors, as {chance:.0%} would be by chance alone"
        )


if __name__ == "__main__":
    cli(main)
