"""Transtokenisation: the complete command, and its alignment compared with fast_align in C++."""

import re
import tempfile
from pathlib import Path

import align
import e5nl
import transtokenize
from files import whole_number
from tools.bench import measure
from tools.samples import constructed, wordpiece


def command(folder: Path) -> dict:
    files = {"model": "model", "tokenizer": "dutch.json", "parallel": "text.tsv", "out": "out"}
    words = [f"--{option}={folder / file}" for option, file in files.items()]
    return measure.timed(lambda: transtokenize.main([*words, "--overwrite"]))[1]


def ours(folder: Path) -> dict:
    """The alignment alone, in both directions."""
    target, where = transtokenize.read_target(folder / "dutch.json")
    source = align.Vocabulary(e5nl.read_tokenizer(folder / "model"), folder)
    sides = align.Text(source), align.Text(align.Vocabulary(target, where))
    align.read_sides(*sides, align.read_pairs([folder / "text.tsv"]))
    return measure.timed(lambda: align.align(*sides))[1]


def fast_align(folder: Path) -> dict:
    """sil-thot: one direction, with as many rounds as the published tool asks fast_align for."""
    from thot.alignment import FastAlignModel

    model = FastAlignModel()
    for pair in align.read_pairs([folder / "text.tsv"]):
        model.add_sentence_pair(*(re.findall(r"\w+|[^\w\s]", text.lower()) for text in pair), 1)

    def train() -> None:
        model.start_training()
        for _ in range(7):
            model.train()
        model.end_training()

    return measure.timed(train)[1]


VARIANTS = {
    "transtokenize.py": (command,),
    "align.py alone": (ours,),
    "sil-thot's fast_align alone": (fast_align, "thot"),
}


def write_model(folder: Path, texts: list[str]) -> None:
    """In the shape of e5-base-v2, with random weights and pieces of `texts`."""
    tokenizer = wordpiece(texts, 30_522, lowercase=True)
    shape = 768, 12, 12, 3072, 512, 2, 1e-12
    config = e5nl.Config("bert", tokenizer.vocab_size, *shape, pad_token_id=0)
    e5nl.save(e5nl.new_encoder(config, seed=1), tokenizer, folder)


def add_options(add) -> None:
    add("--pairs", type=whole_number(1000), nargs="+", default=[34_000, 75_000])
    add("--pieces", type=whole_number(1000), default=16_000, help="of the Dutch tokenizer")
    measure.add_common_options(add)


def run(args) -> None:
    variants = measure.installed(VARIANTS)
    for count in args.pairs:
        with tempfile.TemporaryDirectory() as name:
            folder, pairs = Path(name), constructed(count)
            write_model(folder / "model", [a for a, _ in pairs])
            dutch = wordpiece([b for _, b in pairs], args.pieces, lowercase=False)
            (folder / "dutch.json").write_bytes(dutch.json)
            (folder / "text.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
            calls = {name: (function, folder) for name, function in variants.items()}
            rows = measure.compare(calls, args)
        title = f"{count:,} pairs, {args.pieces:,} pieces, {measure.machine(args)}"
        measure.print_table(title, ["seconds", "CPU s", "peak MB"], rows)
