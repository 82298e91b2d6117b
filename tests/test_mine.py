"""mine.py: every rule worked out by hand and against its formula, never a positive, rows as they came.

    python -m pytest tests/test_mine.py

The 6 x 10 matrix below is the hand-worked example: one row per query, best candidate first. The comparison
with sentence-transformers' hard negatives is in tests/parity/.
"""

import doctest
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_search import unit

import e5nl
import mine
import model_folder
from data import Row, Source
from files import InputError, read_json, read_jsonl, write_jsonl
from mine import ABOVE, NOT_NEEDED, POSITIVE, QUERY, SHIFTED, TAKEN, choose


def test_docstring_examples():
    assert doctest.testmod(mine).failed == 0 and doctest.testmod(mine).attempted >= 3


# --- rules ------------------------------------------------------------------------------------------

SCORES = np.array([
    [0.90, 0.80, 0.75, 0.70, 0.60, 0.50, 0.40, 0.30, 0.20, 0.10],  # p = 0.80, second
    [0.95, 0.90, 0.85, 0.80, 0.75, 0.70, 0.65, 0.60, 0.55, 0.50],  # p = 0.95 and 0.60, first and eighth
    [0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50],  # all equal, p among them: sigma 0
    [0.90, 0.90, 0.90, 0.85, 0.85, 0.80, 0.80, 0.80, 0.75, 0.75],  # p = 0.20 is not among them
    [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8, -0.9, -1.0],  # negative scores, p = -0.40, fourth
    [0.99, 0.98, 0.97, 0.60, 0.50, 0.50, 0.40, 0.30, 0.20, 0.10],  # the query itself, p = 0.98 and 0.97
], np.float32)  # fmt: skip
KNOWN = np.zeros((6, 10), np.uint8)
KNOWN[[0, 1, 1, 2, 4, 5, 5], [1, 0, 7, 4, 3, 1, 2]] = POSITIVE
KNOWN[5, 0] = QUERY
POSITIVES = [np.float32(row) for row in ([0.8], [0.95, 0.6], [0.5], [0.2], [-0.4], [0.98, 0.97])]


def survivors(rule, **settings):
    """Columns that the rule keeps, for each query."""
    _, reasons = choose(SCORES, KNOWN, POSITIVES, rule, **settings)
    return [np.flatnonzero(row <= NOT_NEEDED).tolist() for row in reasons]


def but(*left_out, start=0):
    return [column for column in range(start, 10) if column not in left_out]


BY_HAND = [
    ("topk", 0, {}, [but(1), but(0, 7), but(4), but(), but(3), but(start=3)]),
    # the first three that are neither positive nor the query are left out
    ("topk-shifted", 3, {}, [but(start=4), but(7, start=4), but(4, start=3), but(start=3), but(start=4), but(start=6)]),
    ("topk-abs", 0.5, {}, [but(start=6), [], [], [], but(3), but(start=6)]),  # 0.5 itself is not below 0.5
    # below p - 0.125, exact in binary: 0.675, 0.475, 0.375, 0.075, -0.525, 0.845
    ("topk-marginpos", 0.125, {}, [but(start=4), [], [], [], but(start=5), but(start=3)]),
    # below p - |p| / 4: 0.6, 0.45, 0.375, 0.15, -0.5 (not -0.3), 0.7275
    ("topk-percpos", 0.75, {}, [but(start=5), [], [], [], but(start=5), but(start=3)]),
    # Row 0 without its positive: mean 0.4944, mean square 0.31583, sigma sqrt(0.31583 - 0.24448) = 0.2671; 0.8 - 0.2671 = 0.533
    # Row 1: the worse positive counts, 0.6; 0.90 … 0.50 without 0.60 have mean 0.7125, sigma 0.1317; below 0.468 is nothing
    # Row 2: sigma 0, and nothing is strictly below 0.5. Row 3: everything is above 0.2
    # Row 4: mean -0.5667, mean square 0.41, sigma 0.2981; -0.4 - 0.2981 = -0.698: -0.7 is below
    # Row 5: 0.6 0.5 0.5 0.4 0.3 0.2 0.1: mean 0.3714, mean square 0.16571, sigma 0.1666; 0.97 - 0.1666 = 0.803
    ("topk-stdmarginpos", 1, {}, [but(start=5), [], [], [], but(start=6), but(start=3)]),
    # twice: 0.266, …, -0.996, 0.637
    ("topk-stdmarginpos", 2, {}, [but(start=8), [], [], [], [9], but(start=3)]),
    # positives 0.8 0.95 0.6 0.5 0.2 -0.4 0.98 0.97: mean 0.575, mean square 0.52924 -> sigma 0.4457
    # p - sigma: 0.354, 0.154, 0.054, -0.246, -0.846, 0.524
    ("topk-stdmarginpos", 1, {"sigma": "positives"}, [but(start=7), [], [], [], but(start=8), but(start=4)]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "margin", "settings", "expected"), BY_HAND)
def test_rules_by_hand(rule, margin, settings, expected):
    assert survivors(rule, margin=margin, **settings) == expected


def test_differences_leave_the_positives_out():
    # 1 - 0.5 and 1 - 0.25: mean 0.625, sigma 0.125 (with the positive's own 0 it would be 0.31); 1 - 4 sigma is 0.5
    scores, known = np.float32([[1, 0.5, 0.25]]), np.array([[POSITIVE, 0, 0]], np.uint8)
    settings = {"margin": 4, "sigma": "difference", "negatives": 2}
    assert choose(scores, known, [np.float32([1])], "topk-stdmarginpos", **settings)[0].tolist() == [[2, -1]]


def slow_choose(rule, margin, sigma):
    """The formulas in mine.py's docstring, one query and one candidate at a time, with Python's statistics."""
    n = [[float(SCORES[q, c]) for c in range(10) if KNOWN[q, c] == 0] for q in range(6)]
    p = [min(map(float, of_query)) for of_query in POSITIVES]
    every = {
        "positives": [float(s) for of_query in POSITIVES for s in of_query],
        "difference": [p[q] - s for q in range(6) for s in n[q]],
    }
    kept = []
    for q in range(6):
        width = statistics.pstdev(n[q] if sigma == "query" else every[sigma])
        limit = {
            "topk-abs": margin,
            "topk-marginpos": p[q] - margin,
            "topk-percpos": p[q] - (1 - margin) * abs(p[q]),
            "topk-stdmarginpos": p[q] - margin * width,
        }[rule]
        kept.append([c for c in range(10) if KNOWN[q, c] == 0 and float(SCORES[q, c]) < limit])
    return kept


@pytest.mark.parametrize("sigma", ["query", "positives", "difference"])
@pytest.mark.parametrize("margin", [0.0, 0.31, 0.77, 1.3])
@pytest.mark.parametrize("rule", ["topk-abs", "topk-marginpos", "topk-percpos", "topk-stdmarginpos"])
def test_rules_are_their_formulas(rule, margin, sigma):
    assert survivors(rule, margin=margin, sigma=sigma) == slow_choose(rule, margin, sigma)


def test_every_candidate_has_its_reason():
    columns, reasons = choose(SCORES, KNOWN, POSITIVES, "topk-marginpos", margin=0.125, negatives=2)
    assert columns.tolist() == [[4, 5], [-1, -1], [-1, -1], [-1, -1], [5, 6], [3, 4]]
    assert reasons[0].tolist() == [ABOVE, POSITIVE, ABOVE, ABOVE, TAKEN, TAKEN, *[NOT_NEEDED] * 4]
    assert reasons[5].tolist() == [QUERY, POSITIVE, POSITIVE, TAKEN, TAKEN, *[NOT_NEEDED] * 5]
    _, reasons = choose(SCORES, KNOWN, POSITIVES, "topk-shifted", margin=2, negatives=1)
    assert reasons[0].tolist() == [SHIFTED, POSITIVE, SHIFTED, TAKEN, *[NOT_NEEDED] * 6]


def test_more_negatives_than_candidates():
    columns, _ = choose(SCORES, KNOWN, POSITIVES, "topk", margin=0, negatives=12)
    assert columns.shape == (6, 12) and columns[5].tolist() == [*but(start=3), -1, -1, -1, -1, -1]


def test_a_query_with_one_candidate_or_none_has_no_sigma():
    scores = np.float32([[0.5, 0.4], [0.6, 0.3]])
    known = np.array([[POSITIVE, 0], [POSITIVE, QUERY]], np.uint8)
    positives = [np.float32([0.5]), np.float32([0.6])]
    columns, _ = choose(scores, known, positives, "topk-stdmarginpos", margin=1, negatives=1)
    assert columns.tolist() == [[1], [-1]]


def test_random_selection_is_seeded_and_among_the_survivors():
    settings = {"margin": 0.125, "negatives": 3, "select": "random"}
    draw = lambda seed: choose(SCORES, KNOWN, POSITIVES, "topk-marginpos", seed=seed, **settings)[0]  # noqa: E731
    draws = [draw(seed) for seed in range(20)]
    assert (draws[3] == draw(3)).all()
    assert {column for columns in draws for column in columns[0].tolist()} == {4, 5, 6, 7, 8, 9}
    assert all(sorted(row) == row.tolist() for columns in draws for row in columns if (row >= 0).all())


def test_choosing_changes_nothing_it_was_given():
    before = SCORES.copy(), KNOWN.copy()
    for rule, margin in mine.RULES.items():
        choose(SCORES, KNOWN, POSITIVES, rule, margin=margin)
    assert (before[0] == SCORES).all() and (before[1] == KNOWN).all()
    with pytest.raises(InputError, match="rule 'bottomk' is unknown; expected one of topk,"):
        choose(SCORES, KNOWN, POSITIVES, "bottomk", margin=0)


# --- texts ------------------------------------------------------------------------------------------

ROWS = [
    Row("Hoe oud wordt een olifant?", ("Olifanten worden 60 tot 70 jaar.", "Een jaar of 65."), ()),
    Row("hoe  oud wordt een OLIFANT?", ("Zo oud als een mens.",), ("Olifanten eten gras.",)),
    Row("Wat eten olifanten?", ("OLIFANTEN eten  gras.",), ("Wat eten olifanten?",)),
]


def test_equal_texts_have_one_number():
    corpus = ["Een muis.", "olifanten worden 60 tot 70 jaar."]
    texts = mine.number_texts(Source("x", "retrieval", ROWS), corpus, include_negatives=True)
    assert texts.queries == ["Hoe oud wordt een olifant?", "Wat eten olifanten?"] and texts.row_query == [0, 0, 1]
    assert texts.passages == ["Een muis.", "olifanten worden 60 tot 70 jaar.", "Een jaar of 65.", "Zo oud als een mens.",
                              "OLIFANTEN eten  gras.", "Wat eten olifanten?"]  # fmt: skip
    assert (texts.row_positives, texts.row_negatives) == ([[1, 2], [3], [4]], [[], [4], [5]])
    assert texts.positives == [[1, 2, 3], [4]], "a query's positives over all its rows"
    assert texts.own.tolist() == [-1, 5]


def test_positives_and_the_query_are_never_free():
    found = mine.known_reasons(np.array([[5, 1, 4, 3], [0, 1, 2, 3]]), [[4], [2, 0]], np.array([5, -1]))
    assert found.tolist() == [[QUERY, 0, POSITIVE, 0], [POSITIVE, 0, POSITIVE, 0]]


# --- the command line -------------------------------------------------------------------------------

WORDS = "fiets muur stadhuis kosten jongen trui voetbal plein minister vraag trein boek taal dagen zomer regen straten huisarts".split()


@pytest.fixture
def data(tmp_path):
    """40 rows with one or two positives, one query in two rows; 40 passages, and one more."""
    pairs = [(WORDS[i % 18], WORDS[i * 7 % 18], i) for i in range(40)]
    rows = [{"query": f"waar is de {a} {i}", "pos": [f"de {a} bij de {b} {i}"], "neg": [f"geen {i}"]} for a, b, i in pairs]
    rows[4]["pos"].append("de regen op de straten")
    rows[9]["query"] = rows[8]["query"]
    write_jsonl(tmp_path / "bron.jsonl", rows)
    return tmp_path / "bron.jsonl"


def mined(path):
    return [row for _, row in read_jsonl(path)]


def run(data, *arguments, out="mined.jsonl"):
    mine.main(["--data", str(data), "--out", str(data.parent / out), *map(str, arguments)])
    return mined(data.parent / out)


def test_rows_come_back_with_negatives_and_scores(folder, data):
    rows, given = run(data, "--model", folder, "--rule", "topk", "--negatives", 3), mined(data)
    assert [(row["query"], row["pos"]) for row in rows] == [(row["query"], row["pos"]) for row in given]
    model, tokenizer = e5nl.load(folder)
    passages = [text for row in given for text in row["pos"]]
    p = dict(zip(passages, e5nl.embed(model, tokenizer, passages, "passage"), strict=True))
    for row, q in zip(rows, e5nl.embed(model, tokenizer, [row["query"] for row in rows], "query"), strict=True):
        same_query = [text for other in given if other["query"] == row["query"] for text in other["pos"]]
        assert len(row["neg"]) == len(set(row["neg"])) == 3 and not set(row["neg"]) & set(same_query)
        assert row["pos_scores"] + row["neg_scores"] == pytest.approx([float(q @ p[text]) for text in row["pos"] + row["neg"]], abs=1e-5)
        assert row["neg_scores"] == sorted(row["neg_scores"], reverse=True)
    settings = read_json(data.parent / "mined.jsonl.json")
    assert settings["settings"]["rule"] == "topk" and settings["settings"]["weights"] == model_folder.weights_hash(folder)
    assert sum(settings["report"]["became of them"].values()) == settings["report"]["candidates"]


def test_symmetric_sources_are_mined_with_the_query_prefix(folder, data):
    rows = mined(data)
    write_jsonl(data, [row | {"type": "symmetric_sts"} for row in rows])
    (first, *_), (model, tokenizer) = run(data, "--model", folder, "--rule", "topk"), e5nl.load(folder)
    q, p = (e5nl.embed(model, tokenizer, [text], "query")[0] for text in (first["query"], first["neg"][0]))
    assert first["neg_scores"][0] == pytest.approx(float(q @ p), abs=1e-5) and first["type"] == "symmetric_sts"


def test_given_embeddings_mine_as_the_model_does(folder, data, capsys):
    expected = run(data, "--model", folder)
    mine.main(["--data", str(data), "--write-texts", str(data.parent / "texts")])
    assert "to embed as query" in capsys.readouterr().out
    model, tokenizer = e5nl.load(folder)
    for name, kind in (("queries", "query"), ("passages", "passage")):
        texts = [row["text"] for row in mined(data.parent / "texts" / f"{name}.jsonl")]
        np.save(data.parent / f"{name}.npy", e5nl.embed(model, tokenizer, texts, kind))
    given = ("--query-embeddings", data.parent / "queries.npy", "--corpus-embeddings", data.parent / "passages.npy")
    assert run(data, *given, out="given.jsonl") == expected


def test_a_corpus_is_searched_too(folder, data):
    beir = data.parent / "beir"
    documents = [{"_id": "a", "title": "", "text": "waar is de fiets 0"}, {"_id": "b", "title": "De", "text": "trui"}]
    documents.append({"_id": "c", "title": " ", "text": ""})  # which no training source may have
    write_jsonl(beir / "corpus.jsonl", documents)
    negatives = [text for row in run(data, "--model", folder, "--rule", "topk", "--corpus", beir, "--negatives", 90) for text in row["neg"]]
    assert "De trui" in negatives and "waar is de fiets 0" in negatives and not any(text.startswith("geen") for text in negatives)
    first = run(data, "--model", folder, "--rule", "topk", "--corpus", beir, "--negatives", 90, "--include-negatives", out="more.jsonl")[0]
    assert "geen 3" in first["neg"] and "waar is de fiets 0" not in first["neg"], "the query itself is no negative"
    (data.parent / "c.tsv").write_text("1\twaar is de fiets 0\n2\tDe trui\n3\t\n")
    again = run(data, "--model", folder, "--rule", "topk", "--corpus", data.parent / "c.tsv", "--negatives", 90, out="tsv.jsonl")
    assert [text for row in again for text in row["neg"]] == negatives and "" not in negatives


def test_other_fields_of_a_row_stay_and_what_is_replaced_is_counted(folder, data, capsys):
    given = mined(data)
    given[0] |= {"id": 7, "neg_scores": [0.5], "neg_ids": ["x"], "pos_scores": [2]}
    given[1] |= {"neg": [], "bron": {"a": [1]}}
    write_jsonl(data, given)
    rows = run(data, "--model", folder, "--rule", "topk")
    names = ["query", "pos", "neg", "pos_scores", "neg_scores", "type"]
    assert list(rows[0]) == [*names, "id"] and rows[0]["id"] == 7 and list(rows[1]) == [*names, "bron"] and list(rows[2]) == names
    assert not set(rows[0]["neg"]) & set(given[0]["neg"]) and rows[0]["pos_scores"] != [2]
    said = "bron.jsonl: replaced neg of 39 rows, neg_ids of 1 rows, neg_scores of 1 rows, pos_scores of 1 rows (--keep-negatives"
    assert said in capsys.readouterr().out


def test_own_negatives_stay_before_the_mined_ones_when_asked(folder, data, capsys):
    given = mined(data)
    given[0]["neg"] = ["geen 5", "eigen", "geen  5"]  # the third is the first, written otherwise
    write_jsonl(data, given)
    settings = ("--model", folder, "--rule", "topk", "--negatives", 99)
    rows, others = run(data, *settings, "--keep-negatives"), run(data, *settings, "--include-negatives", out="others.jsonl")
    for row, other, own in zip(rows, others, given, strict=True):
        kept = list(dict.fromkeys(" ".join(text.split()) for text in own["neg"]))
        assert [" ".join(text.split()) for text in row["neg"]][: len(kept)] == kept and set(kept) <= set(other["neg"])
        assert row["neg"][len(kept) :] == [text for text in other["neg"] if text not in kept]
        scores = dict(zip(other["neg"], other["neg_scores"], strict=True))
        assert row["neg_scores"] == pytest.approx([scores[" ".join(text.split())] for text in row["neg"]], abs=1e-6)
    assert "replaced" not in capsys.readouterr().out.split("others.jsonl")[0].split("mined.jsonl")[0]


@pytest.mark.parametrize("when_short", ["drop", "keep", "random"])
def test_rows_short_of_negatives(folder, data, when_short):
    settings = ("--rule", "topk-marginpos", "--margin", 0, "--top", 6, "--negatives", 4)
    rows, kept = run(data, "--model", folder, "--when-short", when_short, *settings), run(data, "--model", folder, *settings, out="k.jsonl")
    short = {row["query"] for row in kept if len(row["neg"]) < 4}
    assert 0 < len(short) < 39
    if when_short == "drop":
        assert rows == [row for row in kept if len(row["neg"]) == 4]
    elif when_short == "keep":
        assert rows == kept and len(rows) == 40
    else:
        filled = [row for row, before in zip(rows, kept, strict=True) if len(row["neg"]) > len(before["neg"])]
        assert filled and {row["query"] for row in filled} <= short
        for row, before in zip(rows, kept, strict=True):
            assert row["neg"][: len(before["neg"])] == before["neg"] and len(set(row["neg"])) == len(row["neg"])
            assert not set(row["neg"]) & set(row["pos"]) and all(s < min(row["pos_scores"]) for s in row["neg_scores"])


def test_random_passages_are_no_positives(folder, data):
    """Without a threshold, and with more wanted than found, nearly every passage is drawn for every query: but for its positives."""
    rows = run(data, "--model", folder, "--rule", "topk", "--top", 1, "--negatives", 38, "--when-short", "random")
    assert all(len(row["neg"]) > 30 and not set(row["pos"]) & set(row["neg"]) for row in rows)


def test_random_passages_are_none_of_the_forbidden():
    q, p = unit(1, 4, 0)[0], unit(6, 4, 1)
    found = mine.fill([5], np.inf, [0, 3], 4, q, p, np.random.default_rng(0))
    assert found[0] == 5 and sorted(found[1:]) == [1, 2, 4]
    assert mine.fill([], -2, [], 3, q, p, np.random.default_rng(0)) == []


def test_a_killed_run_goes_on_with_its_cache(folder, data, monkeypatch):
    monkeypatch.setattr(mine, "SHARD", 16)
    expected = run(data, "--model", folder, "--cache", data.parent / "other", out="whole.jsonl")
    embed, calls = e5nl.embed, []

    def embed_until(limit):
        def embed_some(model, tokenizer, texts, *rest, **options):
            if len(calls) == limit:
                raise KeyboardInterrupt
            calls.append(len(texts))
            return embed(model, tokenizer, texts, *rest, **options)

        return embed_some

    cache = data.parent / "cache"
    monkeypatch.setattr(e5nl, "embed", embed_until(4))
    with pytest.raises(KeyboardInterrupt):
        run(data, "--model", folder, "--cache", cache, out="again.jsonl")
    assert not (data.parent / "again.jsonl").exists() and [name.suffixes for name in sorted(cache.iterdir())].count([".shard", ".npy"]) == 1
    monkeypatch.setattr(e5nl, "embed", embed_until(-1))
    assert run(data, "--model", folder, "--cache", cache, out="again.jsonl") == expected
    assert max(calls) == 16 and sum(calls) == 39 + 41, "no text was embedded twice"
    calls.clear()
    assert run(data, "--model", folder, "--cache", cache, out="third.jsonl") == expected and not calls
    run(data, "--model", folder, "--cache", cache, "--query-length", 4, out="fourth.jsonl")
    assert sum(calls) == 39, "another limit is another embedding, of the queries only"

    def killed(path, missing_ok=False):
        if path.name.endswith(".shard.npy"):
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        run(data, "--model", folder, "--cache", data.parent / "last", out="fifth.jsonl")
    monkeypatch.setattr(Path, "unlink", unlink)
    assert run(data, "--model", folder, "--cache", data.parent / "last", out="fifth.jsonl") == expected
    assert not [path for path in (data.parent / "last").iterdir() if "shard" in path.name], "what a kill at the end left is removed"


def test_two_processes_mine_as_one_does(folder, data, monkeypatch, capsys):
    monkeypatch.chdir(data.parent)
    monkeypatch.setattr(mine, "SHARD", 16)  # three shards of queries, three of passages: both processes have some
    data.with_name("small_shards.py").write_text("import mine\nmine.SHARD = 16\nmine.cli(mine.main)\n")
    settings = ["--data", "bron.jsonl", "--model", "model", "--store", "bfloat16", "--precision", "bfloat16", "--top", "20"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does: the last digits of a product depend on it
    mine.main([*settings, "--cache", "one", "--out", "one.jsonl"])
    torch.set_num_threads(threads)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "small_shards.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.path.dirname(mine.__file__)}
    options = {"env": environment, "capture_output": True, "text": True, "check": True}
    printed = subprocess.run([*torchrun, *settings, "--cache", "two", "--out", "two.jsonl"], **options).stdout
    assert mined("one.jsonl") == mined("two.jsonl")
    assert capsys.readouterr().out.replace("one.jsonl", "two.jsonl") == printed, "only the first process prints"
    names = [sorted(os.listdir(cache)) for cache in ("one", "two")]
    assert names[0] == names[1] and len(names[0]) == 2, "nothing but the embeddings is left"


def test_report_and_sweep(folder, data, capsys):
    run(data, "--model", folder, "--sweep", "--rule", "topk-abs", "--margin", 2, "--negatives", 2)
    printed, report = capsys.readouterr().out, read_json(data.parent / "mined.jsonl.json")["report"]
    assert f"{report['candidates']:,} candidates of 39 queries" in printed and "known positives" in printed
    lines = {(line["rule"], line["sigma"], line["margin"]): line for line in report["sweep"]}
    assert len(lines) == 25 == len(printed.split("known positives\n")[1].split("\n\n")[0].splitlines())
    assert lines["topk", None, 0]["short"] == 0 and lines["topk-abs", None, 0.6]["survivors"] <= lines["topk-abs", None, 0.9]["survivors"]
    tight = lines["topk-stdmarginpos", "query", 2.0]["survivors"]
    assert tight <= lines["topk-stdmarginpos", "query", 0.5]["survivors"] <= lines["topk", None, 0]["survivors"]


def test_sweep_counts_known_positives_that_a_rule_would_take():
    """Two positives, each in turn the only one known. With s(q,p) 0.9 the other (0.8) is below the margin, with 0.8 it is not."""
    known = np.array([[POSITIVE, POSITIVE, 0, 0], [0, 0, 0, POSITIVE]], np.uint8)
    scores = np.float32([[0.9, 0.8, 0.5, 0.4], [0.9, 0.8, 0.7, 0.6]])
    positives = [np.float32([0.9, 0.8]), np.float32([0.6])]
    candidates = mine.Candidates(np.array([[5, 3, 8, 9], [8, 9, 5, 1]]), scores, known, positives)
    texts = mine.Texts([], [], [], [], [], [[5, 3], [1]], None)
    lines = {(line["rule"], line["margin"]): line for line in mine.sweep(texts, candidates, 1)}
    shares = [lines[case]["known positives"] for case in (("topk", 0), ("topk-marginpos", 0.05), ("topk-percpos", 0.8))]
    assert shares == [1, 0.5, 0]


def test_examples_are_printed_as_asked(folder, data, capsys):
    for count in (0, 3):
        run(data, "--model", folder, "--rule", "topk", "--examples", count, "--overwrite")
        assert sum(line.startswith("+ ") for line in capsys.readouterr().out.splitlines()) == count


def test_a_narrow_band_is_said():
    scores, known = np.linspace(0.98, 0.97, 50, dtype=np.float32)[None], np.zeros((1, 50), np.uint8)
    candidates = mine.Candidates(np.arange(50)[None], scores, known, [np.float32([0.99])])
    report = mine.summarise(candidates, *choose(*candidates[1:], "topk", margin=0))
    assert report["above a 5% margin"] == 1
    assert "note: the scores are in a narrow band" in mine.describe(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query-embeddings", "q.npy", "--corpus-embeddings", "p.npy"], "q.npy: 3 rows for 39 queries; --write-texts"),
        (["--query-embeddings", "bron.jsonl", "--corpus-embeddings", "p.npy"], "bron.jsonl: cannot be read (ValueError: "),
        (["--query-embeddings", "z.npz", "--corpus-embeddings", "p.npy"], "z.npz: cannot be read (ValueError: the magic"),
        (["--query-embeddings", "i.npy", "--corpus-embeddings", "p.npy"], "i.npy: int64 of shape (3, 4); expected float32, float16 or"),
        (["--query-embeddings", "q4.npy", "--corpus-embeddings", "p5.npy"], "embeddings of shapes (39, 4) and (41, 5): expected"),
        (["--model", "nergens"], "nergens: no such folder"),
        (["--model", "model", "--corpus", "nergens"], "nergens: no such file"),
        (["--model", "model", "--out", "klaar.jsonl"], "klaar.jsonl: exists already"),
        (["--model", "model", "--out", "half.jsonl"], "half.jsonl.json: exists already"),
        (["--model", "model", "--out", "bron.jsonl", "--overwrite"], "--out bron.jsonl is the source itself"),
        (["--model", "model", "--out", "mined"], "--out mined: expected a name that ends in .jsonl or .jsonl.gz"),
        (["--query-embeddings", "long.npy", "--corpus-embeddings", "p.npy"], "long.npy: row 2 has length 3; expected rows of length 1"),
        (["--model", "model", "--rule", "topk", "--margin", "0.05"], "--margin 0.05: the rule topk has none"),
        (["--model", "model", "--rule", "topk-abs", "--margin", "-2", "--when-short", "drop"], "bron.jsonl: no row got 7 negatives"),
    ],
)
def test_a_mistake_is_said_and_nothing_is_written(folder, data, monkeypatch, arguments, message):
    monkeypatch.chdir(data.parent)
    np.save("q.npy", unit(3, 4, 0))
    np.save("i.npy", np.ones((3, 4), int))
    np.savez("z.npz", unit(39, 4, 0))
    np.save("p.npy", unit(3, 4, 0))
    np.save("q4.npy", unit(39, 4, 0))
    np.save("p5.npy", unit(41, 5, 0))
    np.save("long.npy", unit(39, 4, 0) * np.where(np.arange(39) == 2, 3, 1).astype(np.float32)[:, None])
    for name in ("klaar.jsonl", "half.jsonl.json"):
        data.with_name(name).touch()
    before = sorted(data.parent.iterdir())
    with pytest.raises((InputError, FileNotFoundError), match=re.escape(message)):
        mine.main(["--data", "bron.jsonl", *([] if "--out" in arguments else ["--out", "new.jsonl"]), *arguments])
    assert sorted(data.parent.iterdir()) == before


def test_the_script_says_a_mistake_in_one_line(data):
    script = [sys.executable, mine.__file__, "--data", data, "--model", "nergens", "--out", data.with_name("new.jsonl")]
    result = subprocess.run(script, capture_output=True, text=True)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: nergens: no such folder")
