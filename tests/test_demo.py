"""demo.py: the pieces that are its own. The demo itself is run by `.ci/run`, and its data is tested in test_demo_data.py.

    python -m pytest tests/test_demo.py
"""

import numpy as np

import demo
import mine
from data import read_source, write_jsonl


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
    (tmp_path / "b c.txt").touch()
    (tmp_path / "a.txt").touch()
    given = []
    monkeypatch.setattr(mine, "main", lambda words: given.extend(words))
    demo.call(mine, f"--data {tmp_path}/*.txt --top 3 --out", tmp_path / "een map" / "uit")
    assert given == ["--data", str(tmp_path / "a.txt"), str(tmp_path / "b c.txt"), "--top", "3", "--out", str(tmp_path / "een map" / "uit")]
    assert capsys.readouterr().out == f"$ python mine.py --data {tmp_path}/*.txt --top 3 --out '{tmp_path}/een map/uit'\n"
