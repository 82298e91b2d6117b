"""demo.py: the pieces that are its own. The demo itself is run by `.ci/run`, and its data is tested
in test_demo_data.py.

    python -m pytest tests/test_demo.py
"""

import subprocess
import sys

import numpy as np

import demo
import mine
from data import read_source
from files import write_jsonl

FIRST = "De eerste zin van deze tekst is lang genoeg."
SECOND = "De tweede zin is dat ook, zoals men ziet!"
THIRD = "Is de derde zin dat soms niet ook?"


def test_weak_pairs_leave_the_sentence_out():
    short = ["Kort. Korter. Kortst.", "Een zin die lang genoeg is, maar die alleen staat hier."]
    found = list(demo.weak_pairs([f"{FIRST} {SECOND} {THIRD}", *short]))
    rests = {FIRST: f"{SECOND} {THIRD}", SECOND: f"{FIRST} {THIRD}", THIRD: f"{FIRST} {SECOND}"}
    assert found == [{"query": q, "pos": [p], "type": "retrieval"} for q, p in rests.items()]


def test_weak_pairs_of_the_demo_hold_no_query_in_their_passage(tmp_path):
    texts = demo.texts_of(sorted((demo.DEMO / "train").glob("law*.gz")))
    assert len(texts) == len(set(texts)) > 500
    write_jsonl(tmp_path / "weak.jsonl", demo.weak_pairs(texts))
    rows = read_source(tmp_path / "weak.jsonl").rows
    repeated = sum(row.query in row.pos[0] for row in rows)
    assert len(rows) > 400 and repeated < len(rows) / 50, "laws do repeat themselves"


def test_tfidf_knows_characters_and_their_rarity():
    encode = demo.tfidf(["de kat", "de hond", "de vis", "de vos", "de ooievaar"])
    rows = encode(["de ooievaars", "een ooievaar", "de kat"], "query").toarray()
    cosines = rows / np.linalg.norm(rows, axis=1, keepdims=True) @ rows[0]
    assert cosines[1] > cosines[2] > 0 and rows.dtype == np.float32


def test_commands_are_printed_as_a_shell_takes_them(tmp_path, monkeypatch, capsys):
    folder, given = tmp_path / "een map", []
    folder.mkdir()
    for name in ("b c.txt", "a.txt"):
        (folder / name).touch()
    monkeypatch.setattr(demo, "DEMO", tmp_path)
    monkeypatch.setattr(mine, "main", lambda words: given.extend(words))
    demo.call(mine, "--data", folder / "*.txt", "--top 3 --out", folder / "uit")
    files = [str(folder / name) for name in ("a.txt", "b c.txt")]
    assert given == ["--data", *files, "--top", "3", "--out", str(folder / "uit")]
    printed = capsys.readouterr().out
    assert printed == f"$ python mine.py --data '{folder}/'*.txt --top 3 --out '{folder}/uit'\n"
    command = printed.replace("$ python mine.py", "printf '%s\\n'")
    shell = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert shell.stdout.splitlines() == given


def test_a_model_that_does_not_exist_costs_nothing(tmp_path):
    (tmp_path / "out/results").mkdir(parents=True)
    words = ["--model", str(tmp_path / "nergens"), "--out", str(tmp_path / "out")]
    command = [sys.executable, demo.__file__, *words]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'nergens'}: no such folder; expected a ")
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/results"]
