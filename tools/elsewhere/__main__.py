"""What other tools make of a model folder: the lowest cosine with `e5nl.embed`, tool by tool.

    python -m tools.elsewhere --model runs/demo/trained --environments runs/elsewhere
    python -m tools.elsewhere --model runs/demo/trained --environments runs/elsewhere --install

Each tool has an environment of its own, since they need different versions of the same libraries:
the folder `--environments` has one for each of the `*.txt` next to this file. Only `--install`
makes them (some 6 GB, by pip). A tool without its environment is left out.

Every tool embeds the same passages as its own page says (`peers.py`), where possible without a word
about prefix, pooling or length. docs/elsewhere.md has what this printed.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import e5nl
from files import cli
from tools.elsewhere.peers import PEERS, PREFIX, Peer

HERE = Path(__file__).parent
LONGEST = 900  # seconds for one tool
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}

# What tokenizers and normalisers differ in, and what Dutch is made of.
TEXTS = [
    "De fiets staat tegen de muur van het oude stadhuis in Utrecht.",
    "Wat is de hoofdstad van Nederland?",
    "fiets",
    "Arbeidsongeschiktheidsverzekeringsmaatschappij",
    "één café à Zürich, naïef en coördinerend",
    "e\u0301e\u0301n de\u0301compositie",
    "eﬃciënt ﬁets æ œ ĳs Ĳsselmeer",
    "ＡＢＣ１２３ full-width　spatie",
    "  dubbele   spaties  \n en een regel\tmet tab ",
    "nul\u200bbreed\u200dte en af\u00adbreek\u00adstreepje",
    "‘s Ochtends zei ze: “’t Is al laat…” – en ging.",
    "€ 1.234,56 op 28-11-2026 om 20:15 uur; 40 % korting!",
    "HOOFDLETTERS en kleine letters, CamelCase en snake_case",
    "https://www.voorbeeld.nl/pad?vraag=antwoord#kop",
    "🚲 in de regen 🌧️, maar wel gezellig 😀",
    "Ελλάδα, Москва, 日本 en العربية in één zin",
    "\u00abAanhaling\u00bb H₂O x² ½ № ™",
    "(art. 6:162 lid 2 BW) Onrechtmatige daad.",
    "a",
    "?!",
    "De gemeente verleent de vergunning als aan de voorwaarden is voldaan. " * 8,
    "Zij leest een boek over de geschiedenis van de taal. " * 35,
]


def make_environment(folder: Path, lists: Path = HERE) -> None:
    """An environment with what the file of its name in `lists` names."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    requirements = lists / f"{folder.name}.txt"
    subprocess.run([folder / "bin/pip", "install", "-q", "-r", requirements], check=True)


def row_of(name: str, peer: Peer, python: Path, model: Path, ours: np.ndarray) -> list[str]:
    """A tool's row of the table. What the tool says against it goes to stderr."""
    use = f"`{inspect.getdoc(peer.embed).splitlines()[0]}`"
    texts = TEXTS if peer.adds_prefix else [PREFIX + text for text in TEXTS]
    prefix = "added" if peer.adds_prefix else "given"
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "texts.json", Path(folder) / "out.npy"
        given.write_text(json.dumps(texts))
        command = [python, HERE / "peers.py", name, model.resolve(), given, out]
        options = {"env": os.environ | OFFLINE, "cwd": folder, "timeout": LONGEST}
        try:
            printed = subprocess.check_output(command, text=True, **options)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            return [name, peer.package, use, prefix, type(error).__name__]
        theirs = np.load(out)

    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    version, lowest = printed.split()[-1], (ours * theirs).sum(1).min()
    return [name, f"{peer.package} {version}", use, prefix, f"{lowest:.5f}"]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.elsewhere", description="What other tools make of a model folder."
    )
    parser.add_argument("--model", required=True, help="a folder with a Unigram tokenizer")
    parser.add_argument("--environments", required=True, help="a folder of virtual environments")
    parser.add_argument("--install", action="store_true", help="make those that are missing")
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"default: {', '.join(PEERS)}")
    args = parser.parse_args(argv)
    ours = e5nl.embed(*e5nl.load(args.model, "cpu"), TEXTS, "passage")

    print("| tool | version | one line | prefix | lowest cosine |")
    print("| --- | --- | --- | --- | ---: |")
    for name in args.tools or PEERS:
        folder = Path(args.environments).resolve() / PEERS[name].environment
        if args.install and not folder.is_dir():
            make_environment(folder)
        if folder.is_dir():
            cells = row_of(name, PEERS[name], folder / "bin/python", Path(args.model), ours)
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    cli(main)
