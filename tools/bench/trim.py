"""The complete command that trims a vocabulary, compared with vocabtrimmer, the paper's tool.

vocabtrimmer needs older packages in an environment of its own, whose Python is `--peer-python`:

    pip install torch==2.13.0 transformers==4.45.2 huggingface_hub==0.36.2 datasets==3.0.1 \
        vocabtrimmer==0.0.2
"""

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import trim_vocab
from files import read_json, write_json
from tools.bench import measure
from tools.samples import DEMO, make_model

MEGABYTES = 5, 20  # of text
VOCABTRIMMER = """
import sys
from vocabtrimmer import VocabTrimmer
model, text, out = sys.argv[1:]
files = {"cache_file_vocab": out + "-vocab.json", "cache_file_frequency": out + "-frequency.json"}
VocabTrimmer(model).trim_vocab("nl", out, dataset=text, dataset_split="train", **files)
"""


def write_dutch(path: Path, megabytes: int) -> None:
    """The demo's texts in random order, one per line, as often as it takes."""
    names = [*sorted(DEMO.glob("corpus/*.gz")), *sorted(DEMO.glob("train/*.gz"))]
    lines = [" ".join(text.split()) + "\n" for text in trim_vocab.read_corpus(names)]
    random.Random(1).shuffle(lines)
    text, size = "".join(lines).encode(), megabytes * 10**6
    text = (text * (size // len(text) + 1))[:size]
    path.parent.mkdir()
    path.write_bytes(text[: text.rindex(b"\n") + 1])


def pieces(folder: Path) -> set[str]:
    return {piece for piece, _ in read_json(folder / "tokenizer.json")["model"]["vocab"]}


def add_options(add) -> None:
    add("--peer-python", metavar="PYTHON", help="of an environment with vocabtrimmer")


def run(args) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
        model, peer_model = folder / "model", folder / "peer"
        make_model("base", model)
        # vocabtrimmer refuses E5's architecture, so the model claims to be one that it takes.
        shutil.copytree(model, peer_model, copy_function=os.link)
        config = read_json(model / "config.json") | {"architectures": ["XLMRobertaForMaskedLM"]}
        write_json(peer_model / "config.json", config)

        for size in MEGABYTES:
            text = folder / str(size) / "nl.txt"
            out, peer_out = folder / f"ours-{size}", folder / f"theirs-{size}"
            write_dutch(text, size)
            # As vocabtrimmer chooses pieces: nothing held out, characters not favoured.
            options = ["--no-keep-characters", "--check", DEMO / "eval/captions/corpus.jsonl.gz"]
            words = [sys.executable, trim_vocab.__file__, "--model", model, "--corpus", text]
            words += ["--out", out, *options, "--overwrite"]
            calls = {"trim_vocab.py": (measure.command, words)}
            if args.peer_python:
                words = [args.peer_python, "-c", VOCABTRIMMER, peer_model, text.parent, peer_out]
                calls["vocabtrimmer"] = measure.command, words
            title = f"{size} MB of Dutch, XLM-R base, 250,002 pieces, rounds: {args.rounds}"
            columns = ["seconds", "CPU s", "peak MB", "to ours"]
            measure.print_table(title, columns, measure.compare(calls, args))
            if args.peer_python:
                ours, theirs = pieces(out), pieces(peer_out)
                different = " ".join(sorted(ours ^ theirs)) or "none"
                print(f"pieces kept by both: {len(ours & theirs):,}; by one alone: {different}")
