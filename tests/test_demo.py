"""demo.py: the pieces that are its own. The demo itself is run by `.ci/run`, and its data is tested in test_demo_data.py.

    python -m pytest tests/test_demo.py
"""

import subprocess
import sys

import numpy as np

import demo
import mine
from data import read_source
from files import write_jsonl


def test_weak_pairs_leave_the_sentence_out():
    text = "De eerste zin van deze tekst is lang genoeg. De tweede zin is dat ook, zoals men ziet! Is de derde zin dat soms niet ook?"
    first, second, third = demo.weak_pairs([text, "Kort. Korter. Kortst.", "Een zin die lang genoeg is, maar die alleen staat hier."])
    assert first["query"] == "De eerste zin van deze tekst is lang genoeg."
    assert second["pos"] == [f"{first['query']} {third['query']}"] and third["query"] == "Is de derde zin dat soms niet ook?"
    assert all(row["query"] not in row["pos"][0] and row["type"] == "retrieval" for row in (first, second, third))


def test_weak_pairs_of_the_demo_hold_no_query_in_their_passage(tmp_path):
    texts = demo.texts_of(sorted((demo.DEMO / "train").glob("law*.gz")))
    assert len(texts) == len(set(texts)) > 500
    write_jsonl(tmp_path / "weak.jsonl", demo.weak_pairs(texts))
    rows = read_source(tmp_path / "weak.jsonl").rows
    assert len(rows) > 400 and sum(row.query in row.pos[0] for row in rows) < len(rows) / 50  # laws do repeat themselves


def test_tfidf_knows_characters_and_their_rarity():
    encode = demo.tfidf(["de kat", "de hond", "de vis", "de vos", "de ooievaar"])
    a, b, c = encode(["de ooievaars", "een ooievaar", "de kat"], "query").toarray()

    def cosine(x, y):
        return x @ y / np.linalg.norm(x) / np.linalg.norm(y)

    assert cosine(a, b) > cosine(a, c) > 0 and a.dtype == np.float32


def test_commands_are_printed_as_a_shell_takes_them(tmp_path, monkeypatch, capsys):
    (tmp_path / "een map").mkdir()
    for name in ("b c.txt", "a.txt"):
        (tmp_path / "een map" / name).touch()
    given = []
    monkeypatch.setattr(demo, "DEMO", tmp_path)
    monkeypatch.setattr(mine, "main", lambda words: given.extend(words))
    demo.call(mine, "--data", tmp_path / "een map/*.txt", "--top 3 --out", tmp_path / "een map" / "uit")
    folder = tmp_path / "een map"
    assert given == ["--data", str(folder / "a.txt"), str(folder / "b c.txt"), "--top", "3", "--out", str(folder / "uit")]
    printed = capsys.readouterr().out
    assert printed == f"$ python mine.py --data '{folder}/'*.txt --top 3 --out '{folder}/uit'\n"
    shell = subprocess.run(["bash", "-c", printed.replace("$ python mine.py", "printf '%s\\n'")], capture_output=True, text=True)
    assert shell.stdout.splitlines() == given


def test_a_model_that_is_not_there_costs_nothing(tmp_path):
    (tmp_path / "out/results").mkdir(parents=True)
    command = [sys.executable, demo.__file__, "--model", str(tmp_path / "nergens"), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr == f"error: {tmp_path / 'nergens'}: no such folder; expected a model folder or the " \
        "name of a hub repository (owner/name)\n"
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/results"]
