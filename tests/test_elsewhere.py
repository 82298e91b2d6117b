"""tools/elsewhere: what a row of its table says, with a made tool in the place of a real one.

    python -m pytest tests/test_elsewhere.py

The real tools are in environments of their own, and are run by hand: docs/elsewhere.md.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from tools.elsewhere import __main__ as elsewhere
from tools.elsewhere.peers import PEERS, Peer

# Embeds a text as (2, its characters): not of length 1.
TOOL = """
import json, sys
import numpy as np
name, folder, texts, out = sys.argv[1:]
if name == "broken":
    sys.exit("no such setting")
np.save(out, [[2, len(text)] for text in json.load(open(texts))])
print("noise\\n1.2.3")
"""


@pytest.fixture
def row(tmp_path, monkeypatch):
    """row(name, adds_prefix): the cells of a tool, compared with the embedding (1, 0) of all."""
    (tmp_path / "peers.py").write_text(TOOL)
    monkeypatch.setattr(elsewhere, "HERE", tmp_path)
    monkeypatch.setattr(elsewhere, "TEXTS", ["a", "abc"])

    def cells(name: str, adds_prefix: bool) -> list[str]:
        peer = Peer("current", "package", lambda folder, texts: None, adds_prefix)
        peer.embed.__doc__ = "embed(folder)\n\nMore."
        ours = np.array([[1.0, 0.0], [1.0, 0.0]])
        return elsewhere.row_of(name, peer, Path(sys.executable), tmp_path, ours)

    return cells


def test_a_row_has_the_lowest_cosine(row):
    """Of (2, 1) and (2, 3) with (1, 0); with "passage: " before them, of (2, 10) and (2, 12)."""
    use = ["package 1.2.3", "`embed(folder)`"]
    assert row("adds", True) == ["adds", *use, "added", f"{2 / 13**0.5:.5f}"]
    assert row("adds none", False) == ["adds none", *use, "given", f"{2 / 148**0.5:.5f}"]


def test_a_tool_that_fails_is_a_row_and_says_why(row, capfd):
    assert row("broken", True)[-1] == "CalledProcessError"
    assert capfd.readouterr().err == "no such setting\n"


@pytest.mark.parametrize("name", PEERS)
def test_a_tool_is_pinned_in_its_environment(name):
    requirements = elsewhere.HERE / f"{PEERS[name].environment}.txt"
    assert f"{PEERS[name].package}==" in requirements.read_text()
    assert all("==" in line for line in requirements.read_text().splitlines())
