"""Questions that the paper leaves open: training with one thing changed, over several seeds.

The released code, cards and scores of the paper (arXiv 2509.12340) do not say what its choices are
worth. A check is a list of variants; the others are compared with its first, seed by seed.

    mining          no hard negatives, top-k, NV-Retriever's rules, TopK-STDMarginPos with several
                    margins and its three sigmas; how many of the chosen negatives are known to be
                    false
    settings        averaging with the start, negatives of symmetric rows, without captions
    types           all sources, without one type of them, and fewer rows of the symmetric ones
    batches         batches of one source, or of all; how many in-batch negatives are known to be
                    false
    masks           equal texts in a batch are no negatives of each other, or are
    trimming        the trimmed vocabulary, or all 250,002 pieces
    instructions    E5's prefixes, or instructions, each evaluated under three prefix policies
    dimensions      the usual loss, or the mean over three widths, at each of these widths
    stages          a random encoder (or `--model`): annotated rows alone, or weak pairs first
    transtokenise   an English encoder (`--english`) gets a Dutch tokenizer: rows that are averages
                    of old ones by parallel text (`--parallel`), random rows, or equal rows

    python -m tools.ablate masks --quick --seeds 1                       # that it runs
    python -m tools.ablate settings --held-out                          # what the demo uses
    python -m tools.ablate mining types batches masks trimming           # hours on one thread
    python -m tools.ablate instructions dimensions stages
    python -m tools.ablate transtokenise --english all-MiniLM-L6-v2 --parallel nld-eng.tsv.gz
    python -m tools.ablate types --model clips/e5-base-trm --data mined.json --benchmark

Without `--model`, all but the last two start from multilingual-e5-small in 4 bits (see
tools/unpack.py), trimmed to the bundled Dutch text. Seeds differ in batches, drawn positives and
dropout. `mining` continues to train the model that mines: the one trained on all sources, or
`--model`. With `--data` the settings are the paper's; `--train` changes them, as in `--train
"--batch-size 256 --steps 500"`.

Everything goes to `--out`, into folders named by what made them (settings, weights, content of
files): the same command resumes where a killed one stopped, and what two checks need is made once.
`log.txt` there has every command with what it printed, `<check>.json` the numbers.

Left out on purpose: several GPUs (the log's commands run under torchrun), passages to mine other
than the sources' own.
"""

import argparse
import functools
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import scipy.stats
import torch

import demo
import e5nl
import model_folder
import mteb_nl
import trim_vocab
from data import Row, Source, draw_batch, normalise, plan_epoch, read_sources
from files import (
    InputError,
    ShowDefaults,
    cli,
    read_json,
    read_jsonl,
    whole_number,
    write_json,
    write_jsonl,
)
from report import SHORT, table
from tools import held_out, unpack
from tools.samples import wordpiece

# Few and short texts, so that a variant takes minutes on one thread. None of it was searched for.
LENGTHS = "--query-length 32 --passage-length 64"
TRAINING = f"{LENGTHS} --schedule decay --warmup 0.1"
FIRST = f"{TRAINING} --batch-size 64 --steps 30 --lr 3e-5"
THEN = f"{TRAINING} --batch-size 32 --steps 12 --lr 1e-5"
QUICK = "--batch-size 8 --steps 2"
# One task of each type but multi-label (its texts are long), and every SICK_SHARE-th row of SICK.
TASKS = (
    "SIB200Classification SICKNLPairClassification SIB200ClusteringS2S AlgoritmekaderReranking "
    "FAQRetrieval SICK-NL-STS"
)
SICK_SHARE = 5
SYMMETRIC = "symmetric_sts", "symmetric_clustering"
SOURCES, CORPUS = (sorted((demo.DEMO / name).glob("*.jsonl.gz")) for name in ("train", "corpus"))

# --- negatives that are known to be false ---------------------------------------------------------

FALSE = ("same text", "same label", "same document")


def false_negatives(
    sources: list[Source], rows: list[Row], groups: list[list[str]], document: dict[str, int]
) -> np.ndarray:
    """What is known of each passage of a batch as a negative of each row: (B, P) int8.

    sources: of each row. groups: each row's passages, its positive first.

    -1: it is no negative of the row: its positive, or a passage of another row where the source has
    no in-batch negatives. 0: nothing is known against it. Else 1 + its place in FALSE:

    same text: it is the row's query or one of its positives; what the masks of training remove.
    same label: that, in a source of type classification, whose passages are labels.
    same document: see `held_out.documents`.
    """
    passages = [text for group in groups for text in group]
    row = np.arange(len(rows))
    owner = np.repeat(row, [len(group) for group in groups])

    of_query = np.array([document[normalise(row.query)] for row in rows])
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
    document, kinds, seed = held_out.documents(sources), [], settings["seed"]
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
    document, kinds, counts = held_out.documents(sources), [], []
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
    """The name of what these parts make: words as they are, paths by their content."""
    parts = [content(part.resolve()) if isinstance(part, Path) else part for part in parts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def link(path: Path, folder: Path) -> str:
    """The name of `path`, under which `folder` then has a link to it."""
    (folder / path.name).unlink(missing_ok=True)
    (folder / path.name).symlink_to(path.resolve())
    return path.name


def link_sources(files: list[Path], folder: Path) -> list[dict]:
    """The sources in files and manifests, as entries of a manifest in `folder`; links in it."""
    entries = []
    for path in files:
        manifest = path.suffix == ".json"
        for entry in read_json(path)["sources"] if manifest else [{"file": path.name}]:
            entries.append(entry | {"file": link(path.parent / entry["file"], folder)})
    return entries


def bundled_tasks(folder: Path, names: list[str]) -> Path:
    """A task file in `folder`: some of the bundled ones, with a sample of SICK-NL's pairs."""
    link(demo.DEMO / "eval", folder)
    bundled = read_json(demo.DEMO / "tasks.json")["tasks"]
    tasks = [task for task in bundled if task["name"] in names]
    for task in tasks:
        if task["name"].startswith("SICK"):
            rows = [row for _, row in read_jsonl(demo.DEMO / task["splits"]["test"])]
            task["splits"] = {"test": f"{task['name']}.jsonl"}
            write_jsonl(folder / task["splits"]["test"], rows[::SICK_SHARE])
    write_json(folder / "tasks.json", {"tasks": tasks})
    return folder / "tasks.json"


class Lab:
    """What all variants share: the settings, the sources, and models that are made once."""

    def __init__(self, args):
        self.out, self.bundled, self.args = Path(args.out), not args.data, args
        self.data = self.out / "data"
        # Models and sources: mistakes in them are reported before anything is written.
        self.model = args.model and e5nl.find(args.model)
        files = list(map(Path, args.data or SOURCES))
        self.sources = read_sources(files)
        self.data.mkdir(parents=True, exist_ok=True)
        if args.held_out:
            files, tasks_file = held_out.split(files, self.start(), self.data)
            self.sources = read_sources(files)
        else:
            names = TASKS.split()[3:4] if args.quick else TASKS.split()
            tasks_file = args.tasks_file or bundled_tasks(self.data, names)
        self.entries = link_sources(files, self.data)

        # Tasks
        where = [] if args.benchmark else ["--tasks-file", str(tasks_file)]
        tasks = mteb_nl.TASKS if args.benchmark else mteb_nl.read_tasks(tasks_file)
        self.protocol = [mteb_nl.fingerprint(task) for task in tasks]
        self.evaluation = [*where, "--tasks", "all"]

        # Settings of the first training, and of one that continues from it
        more = f" {QUICK if args.quick else ''} {args.train}"
        self.first = (FIRST if self.bundled else "") + more
        self.then = (THEN if self.bundled else "") + more

    def call(self, script: str, *words) -> None:
        """Run a command of this project; the log gets it and what it prints."""
        with open(self.out / "log.txt", "a", encoding="utf-8") as log:
            demo.call(script, *words, log=log)

    def made(self, *command, also=()) -> Path:
        """The model that a command makes, unless it exists.

        also: what it is made of, where the command does not say so.
        """
        folder = self.out / "models" / name_of(*command, *also)
        if not (folder / "config.json").exists():
            self.call(*command, "--out", folder)
        return folder

    def train(self, model: Path, entries: list[dict], settings: str, seed: int) -> Path:
        manifest, settings = self.data / f"{name_of(entries)}.json", f"{settings} --seed {seed}"
        write_json(manifest, {"sources": entries})
        files = [self.data / entry["file"] for entry in entries]
        words = "train --model", model, "--data", manifest, f"{settings} --resume"
        return self.made("e5nl.py", *words, also=files)

    def base(self) -> Path:
        """What is trimmed."""
        return self.made("-m tools.unpack", also=[unpack.SHA256])

    def start(self) -> Path:
        """What training starts from: `--model`, or the base, trimmed."""
        corpus = "--corpus", *CORPUS, *SOURCES
        return self.model or self.made("trim_vocab.py", "--model", self.base(), *corpus)

    def tuned(self, seed: int, more: str = "") -> Path:
        """The start, trained on all sources: what most checks compare with."""
        return self.train(self.start(), self.entries, f"{self.first} {more}", seed)

    def of_type(self, type: str) -> list[dict]:
        pairs = zip(self.entries, self.sources, strict=True)
        return [entry for entry, source in pairs if source.type == type]

    def mined(self, expert: Path, rule: str, type: str = "retrieval") -> list[dict]:
        """The sources of a type, with the expert's hard negatives."""
        entries = []
        lengths = LENGTHS if self.bundled else ""
        options = f"--rule {rule} --negatives 7 {lengths} --examples 0 --overwrite --cache"
        for entry in self.of_type(type):
            file = self.data / entry["file"]
            mined = Path(name_of(expert, file, options), Path(entry["file"]).name)
            if not Path(f"{self.data / mined}.json").exists():  # written last
                words = options, self.out / "cache", "--out", self.data / mined
                self.call("mine.py", "--model", expert, "--data", file, *words)
            entries.append(entry | {"file": str(mined)})
        return entries

    def scores(self, model: Path, options: str = "") -> dict[str, float]:
        """Scores x 100: the mean of each type of tasks, by its short name, and their mean.

        options: of `evaluate.py run`.
        """
        folder = self.out / "results" / name_of(model, self.protocol, options)
        if not (folder / "summary.json").exists():  # written last
            words = "run --model", model, *self.evaluation, f"{options} --out", folder
            self.call("evaluate.py", *words)
            shutil.rmtree(folder / "cache")
        summary = read_json(folder / "summary.json")
        means = summary["types"] | {"mean": summary["mean_types"]}
        return {SHORT.get(type, type): 100 * mean for type, mean in means.items()}

    def with_contradictions(self) -> list[dict]:
        """The sources, with a made contradiction as the negative of each row of paraphrases."""
        entries = []
        for entry, source in zip(self.entries, self.sources, strict=True):
            if source.name == held_out.PARAPHRASES:
                file = f"contradictions_{source.name}.jsonl"
                demo.add_contradictions(self.data / entry["file"], self.data / file)
                entry = entry | {"file": file}
            entries.append(entry)
        return entries

    def transtokenised(self) -> Path:
        """The English encoder with a cased Dutch WordPiece tokenizer, as BERTje's is."""
        english, text = e5nl.find(self.args.english), [*CORPUS, *SOURCES]
        tokenizer = self.data / f"{name_of('wordpiece', *text)}.json"
        if not tokenizer.exists():
            new = wordpiece(trim_vocab.read_corpus(text), 16_000, lowercase=False)
            write_json(tokenizer, json.loads(new.json))
        parallel = map(Path, self.args.parallel)
        words = "--model", english, "--tokenizer", tokenizer, "--parallel", *parallel
        return self.made("transtokenize.py", *words, "--min-count 3")

    def with_rows(self, model: Path, kind: str) -> Path:
        """`model` with other rows in its embedding table.

        equal rows: each is the mean of all. random rows: normal, with the mean and deviation of
        each column.
        """
        folder = self.out / "models" / name_of(kind, model)
        if not (folder / "config.json").exists():
            encoder, tokenizer = e5nl.load(model, "cpu")
            table = encoder.words.weight.data
            mean, deviation = table.mean(0), table.std(0)
            noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
            table.copy_(mean + (deviation * noise if kind == "random rows" else 0))
            e5nl.save(encoder, tokenizer, folder)
        return folder


# --- the checks -----------------------------------------------------------------------------------

# name -> (seed -> model folder, or that and options of `evaluate.py run`); the first is what the
# others are compared with
Variants = dict[str, Callable[[int], Path | tuple[Path, str]]]


def settings(lab: Lab) -> Variants:
    """What keeps the start's judgement of pairs while the rest improves."""

    def trained(entries: list[dict], seed: int) -> Path:
        return lab.train(lab.start(), entries, f"{lab.first} --lr 6e-5", seed)

    def averaged(entries: list[dict], seed: int) -> Path:
        words = "average", lab.start(), trained(entries, seed), "--share 0.5"
        return lab.made("e5nl.py", *words)

    def mined(seed: int) -> Path:
        others = [entry for entry in lab.entries if entry not in lab.of_type("symmetric_sts")]
        negatives = lab.mined(lab.start(), "topk-stdmarginpos", "symmetric_sts")
        return averaged(others + negatives, seed)

    def without_captions(entries: list[dict]) -> list[dict]:
        return [entry for entry in entries if not entry["file"].startswith(held_out.SIMILAR)]

    contradictions = lab.with_contradictions()
    return {
        "start": lambda seed: lab.start(),
        "rate 6e-5": partial(trained, lab.entries),
        "averaged with the start": partial(averaged, lab.entries),
        "averaged, mined negatives of symmetric rows": mined,
        "averaged, made contradictions": partial(averaged, contradictions),
        "averaged, without captions": partial(averaged, without_captions(lab.entries)),
        "averaged, contradictions, without captions": partial(
            averaged, without_captions(contradictions)
        ),
    }


def mining(lab: Lab) -> Variants:
    def trained(rule: str, seed: int) -> Path:
        expert = lab.model or lab.tuned(seed)
        entries = lab.mined(expert, rule) if rule else lab.of_type("retrieval")
        return lab.train(expert, entries, lab.then, seed)

    rules = {"topk": "topk", "no negatives": ""}
    for rule in (
        "topk-marginpos --margin 0.05",
        "topk-percpos --margin 0.95",
        *(f"topk-stdmarginpos --margin {margin}" for margin in (0, 0.5, 1, 2)),
        *(f"topk-stdmarginpos --margin 1 --sigma {sigma}" for sigma in ("positives", "difference")),
    ):
        rules[re.sub(" --[a-z]+", "", rule)] = rule
    return {name: partial(trained, rule) for name, rule in rules.items()}


def types(lab: Lab) -> Variants:
    """Own sources are left out one by one, the bundled ones by their types."""

    def trained(entries: list[dict], seed: int) -> Path:
        return lab.train(lab.start(), entries, lab.first, seed)

    variants = {"all": lab.tuned}
    groups = [source.type if lab.bundled else source.name for source in lab.sources]
    for left_out in dict.fromkeys(groups):
        pairs = zip(lab.entries, groups, strict=True)
        others = [entry for entry, group in pairs if group != left_out]
        variants[f"without {left_out}"] = partial(trained, others)
    for share in (0.25, 0.05):
        fewer = [
            entry | ({"ratio": share * entry.get("ratio", 1)} if source.type in SYMMETRIC else {})
            for entry, source in zip(lab.entries, lab.sources, strict=True)
        ]
        variants[f"{share} of the symmetric rows"] = partial(trained, fewer)
    return variants


def batches(lab: Lab) -> Variants:
    """As many rows per step from the same sources, sorted or not; and what the paper does, where
    symmetric sources get half a batch."""
    entries = [entry | {"batch_factor": 1} for entry in lab.entries]

    def alike(batching: str, seed: int) -> Path:
        return lab.train(lab.start(), entries, f"{lab.first} --batching {batching}", seed)

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


def trimming(lab: Lab) -> Variants:
    if lab.model:
        raise InputError(f"trimming: is for the bundled encoder; {lab.model} is trained as it is")
    return {
        "trimmed": lab.tuned,
        "untrimmed": lambda seed: lab.train(lab.base(), lab.entries, lab.first, seed),
    }


def crossed(lab: Lab, trainings: dict[str, str], evaluations: Iterable[str]) -> Variants:
    """Every training, by its options, under every evaluation, by its options."""
    return {
        f"{training}, {options}": lambda seed, more=more, how=options: (lab.tuned(seed, more), how)
        for options in evaluations
        for training, more in trainings.items()
    }


def instructions(lab: Lab) -> Variants:
    # An instruction takes up to 17 of the tokens that are read
    lengths = "--query-length 64 --passage-length 96" if lab.bundled else ""
    names = {"prefixes": "e5", "instructions": "instruct"}
    trainings = {name: f"--prefix {policy} {lengths}" for name, policy in names.items()}
    return crossed(lab, trainings, [f"--prefix {policy}" for policy in ("mteb", "e5", "instruct")])


def dimensions(lab: Lab) -> Variants:
    full = model_folder.parse_config(lab.start()).hidden_size
    widths = [full, full // 2, full // 4]
    trainings = {"one width": "", "three": f"--dims {','.join(map(str, widths))}"}
    return crossed(lab, trainings, [f"--dim {width}" for width in widths])


def stages(lab: Lab) -> Variants:
    """Annotated rows alone take as many steps as after weak pairs, or as both stages together."""
    steps, start = 2 if lab.args.quick else demo.RANDOM.steps, lab.model
    if not start:
        words = "init --tokenizer", lab.start() / "tokenizer.json", demo.RANDOM_SHAPE
        start = lab.made("e5nl.py", *words)

    # Every text of the sources, as if nobody had said what belongs together
    rows = [row for source in lab.sources for row in source.rows]
    texts = dict.fromkeys(text for row in rows for text in (row.query, *row.pos))
    write_jsonl(lab.data / "texts.jsonl", ({"text": text} for text in texts))
    words = "--data", lab.data / "texts.jsonl", "--overwrite --out", lab.data / "weak.jsonl"
    lab.call("data.py", "pairs", *words)

    def trained(model: Path, entries: list[dict], more: str, seed: int) -> Path:
        options = f"{demo.RANDOM.options} {demo.RANDOM.lengths} {more} {lab.args.train}"
        return lab.train(model, entries, options, seed)

    def after_weak_pairs(seed: int) -> Path:
        more = f"--batch-size 512 --steps {steps}"
        weak = trained(start, [{"file": "weak.jsonl"}], more, seed)
        return trained(weak, lab.entries, f"--steps {steps}", seed)

    return {
        "annotated": partial(trained, start, lab.entries, f"--steps {steps}"),
        "annotated, twice the steps": partial(trained, start, lab.entries, f"--steps {2 * steps}"),
        "weak pairs, then annotated": after_weak_pairs,
    }


def transtokenise(lab: Lab) -> Variants:
    if not lab.args.english or not lab.args.parallel:
        raise InputError("transtokenise: needs an encoder (--english) and text (--parallel)")

    def trained(kind: str, seed: int) -> Path:
        model = lab.transtokenised()
        if kind != "transtokenised":
            model = lab.with_rows(model, kind)
        return lab.train(model, lab.entries, lab.first, seed)

    kinds = "transtokenised", "random rows", "equal rows"
    return {kind: partial(trained, kind) for kind in kinds}


CHECKS = {
    check.__name__: check
    for check in (settings, mining, types, batches, masks, trimming, instructions, dimensions,
                  stages, transtokenise)
}  # fmt: skip
# What is counted in the data of a trained model, to print with the scores.
FACTS = {"mining": in_rows, "batches": in_batches, "masks": in_batches}

# --- tables ---------------------------------------------------------------------------------------


def cell(values: Iterable[float]) -> str:
    """Mean ± standard deviation (of a sample: n - 1) over seeds.

    >>> cell([1.0, 2.0, 6.0]), cell([0.5])
    ('3.00 ± 2.65', '0.50')
    """
    values = list(values)
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{deviation}"


def difference_cell(values: Iterable[float]) -> str:
    """Mean difference over seeds and its 95 % interval (Student's t); * where it excludes 0.

    >>> difference_cell([1.0, 2.0, 3.0]), difference_cell([2.0, 2.1, 2.2]), difference_cell([0.5])
    ('+2.00 [-0.48, +4.48]', '+2.10 [+1.85, +2.35] *', '+0.50')
    """
    values = list(values)
    mean = np.mean(values)
    if len(values) == 1:
        return f"{mean:+.2f}"
    error = np.std(values, ddof=1) / len(values) ** 0.5
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * error
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]{' *' if abs(mean) > half else ''}"


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
        differences = (
            difference_cell(a[name] - b[name] for a, b in pairs) for name in cells[0][1:]
        )
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
            made = make(seed)
            model, options = made if isinstance(made, tuple) else (made, "")
            scores[variant].append(lab.scores(model, options))
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
        formatter_class=ShowDefaults,
    )
    add = parser.add_argument
    add("checks", nargs="+", choices=CHECKS, metavar="CHECK", help=", ".join(CHECKS))
    add("--out", default="runs/ablate", help="where everything goes and is found again")
    add("--seeds", type=whole_number(1), default=3, help="how many")
    add("--quick", action="store_true", help="two steps per training, one task: nothing is learned")
    add("--english", metavar="MODEL", help="of transtokenise: an English encoder")
    add("--parallel", nargs="+", metavar="FILE", help="of transtokenise: English and Dutch text")
    add = parser.add_argument_group("instead of what is bundled").add_argument
    add("--model", help="what is trained: a model folder or hub name")
    add("--data", nargs="+", help="training sources (.jsonl, .jsonl.gz) or manifests (.json)")
    add("--train", default="", metavar="OPTIONS", help="of `e5nl.py train`, for all variants")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--tasks-file", help="as for `evaluate.py run`")
    either.add_argument("--benchmark", action="store_true", help="MTEB-NL, from the hub")
    help = "train on nine tenths of the bundled sources, score on tasks made of the rest"
    either.add_argument("--held-out", action="store_true", help=help)
    args = parser.parse_args(argv)

    lab = Lab(args)
    # All are prepared first, so that one that cannot be made stops the command before any training.
    checks = {name: CHECKS[name](lab) for name in dict.fromkeys(args.checks)}
    for name, variants in checks.items():
        check(lab, name, variants, args.seeds)
    if args.seeds > 1:
        print(
            f"± standard deviation over {args.seeds} seeds; in brackets the 95 % interval of the "
            "mean difference (Student's t), * where it excludes 0"
        )


if __name__ == "__main__":
    cli(main)
