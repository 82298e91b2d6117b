"""mine.py: every rule worked out by hand and against its formula, never a positive.

    python -m pytest tests/test_mine.py

The 6 x 10 matrix below is the hand-worked example: a row a query, best candidate first, `p` marks its known positives. The comparison
with sentence-transformers' hard negatives stands in tests/parity/.
"""

import doctest
import json
import os
import re
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
from files import InputError, read_jsonl, write_jsonl
from mine import ABOVE, DUPLICATE, NOT_NEEDED, POSITIVE, QUERY, SHIFTED, TAKEN, choose, known_reasons


def test_docstring_examples():
    assert doctest.testmod(mine).failed == 0 and doctest.testmod(mine).attempted >= 3


# --- rules ------------------------------------------------------------------------------------------------------------------

SCORES = np.array([
    [0.90, 0.80, 0.75, 0.70, 0.60, 0.50, 0.40, 0.30, 0.20, 0.10],  # p = 0.80, second
    [0.95, 0.90, 0.85, 0.80, 0.75, 0.70, 0.65, 0.60, 0.55, 0.50],  # p = 0.95 and 0.60, first and eighth
    [0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50],  # all equal, p among them: sigma 0
    [0.90, 0.90, 0.90, 0.85, 0.85, 0.80, 0.80, 0.80, 0.75, 0.75],  # p = 0.20 is not found: everything scores above it
    [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8, -0.9, -1.0],  # negative scores, p = -0.40, fourth
    [0.99, 0.98, 0.97, 0.60, 0.50, 0.50, 0.40, 0.30, 0.20, 0.10],  # the query itself, p = 0.98, a duplicate of the first
], np.float32)  # fmt: skip
KNOWN = np.zeros((6, 10), np.uint8)
KNOWN[0, 1] = KNOWN[1, 0] = KNOWN[1, 7] = KNOWN[2, 4] = KNOWN[4, 3] = KNOWN[5, 1] = POSITIVE
KNOWN[5, 0], KNOWN[5, 2] = QUERY, DUPLICATE
POSITIVES = [np.float32(row) for row in ([0.8], [0.95, 0.6], [0.5], [0.2], [-0.4], [0.98])]


def survivors(rule, **settings):
    """Columns that the rule keeps, for each query."""
    _, reasons = choose(SCORES, KNOWN, POSITIVES, rule, **settings)
    return [np.flatnonzero(row <= NOT_NEEDED).tolist() for row in reasons]


@pytest.mark.parametrize(
    ("rule", "margin", "expected"),
    [
        ("topk", 0, [[0, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 8, 9], [0, 1, 2, 3, 5, 6, 7, 8, 9], list(range(10)),
                     [0, 1, 2, 4, 5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 9]]),
        # the first three that are neither positive nor the query nor a duplicate are left out
        ("topk-shifted", 3, [[4, 5, 6, 7, 8, 9], [4, 5, 6, 8, 9], [3, 5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 9], [4, 5, 6, 7, 8, 9],
                             [6, 7, 8, 9]]),
        ("topk-abs", 0.5, [[6, 7, 8, 9], [], [], [], [0, 1, 2, 4, 5, 6, 7, 8, 9], [6, 7, 8, 9]]),  # 0.5 itself is not below 0.5
        # below p - 0.125, exact in binary: 0.675, 0.475, 0.375, 0.075, -0.525, 0.855
        ("topk-marginpos", 0.125, [[4, 5, 6, 7, 8, 9], [], [], [], [5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 9]]),
        # below p - |p| / 4: 0.6, 0.45, 0.375, 0.15, -0.5 (not -0.3), 0.735
        ("topk-percpos", 0.75, [[5, 6, 7, 8, 9], [], [], [], [5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 9]]),
    ],
)  # fmt: skip
def test_rules_by_hand(rule, margin, expected):
    assert survivors(rule, margin=margin) == expected


def test_standard_deviation_of_the_query_by_hand():
    # Row 0 without its positive: mean 0.4944, mean square 0.31583, sigma sqrt(0.31583 - 0.24448) = 0.2671; 0.8 - 0.2671 = 0.533
    # Row 1: the worse positive counts, 0.6; 0.90 … 0.50 without 0.60 have mean 0.7125, sigma 0.1317; below 0.468 is nothing
    # Row 2: sigma 0, and nothing is strictly below 0.5. Row 3: everything is above 0.2
    # Row 4: mean -0.5667, mean square 0.41, sigma 0.2981; -0.4 - 0.2981 = -0.698: -0.7 is below
    # Row 5: 0.6 0.5 0.5 0.4 0.3 0.2 0.1: mean 0.3714, mean square 0.16571, sigma 0.1666; 0.98 - 0.1666 = 0.813
    expected = [[5, 6, 7, 8, 9], [], [], [], [6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 9]]
    assert survivors("topk-stdmarginpos", margin=1) == expected
    # twice: 0.266, …, -0.996, 0.647
    assert survivors("topk-stdmarginpos", margin=2) == [[8, 9], [], [], [], [9], [3, 4, 5, 6, 7, 8, 9]]


def test_standard_deviation_over_the_data_set_by_hand():
    # positives 0.8 0.95 0.6 0.5 0.2 -0.4 0.98: mean 0.51857, mean square 0.47041 -> sigma 0.4489
    # p - sigma: 0.351, 0.151, 0.051, -0.249, -0.849, 0.531
    expected = [[7, 8, 9], [], [], [], [8, 9], [4, 5, 6, 7, 8, 9]]
    assert survivors("topk-stdmarginpos", margin=1, sigma="positives") == expected


def test_differences_leave_the_positives_out():
    # 1 - 0.5 and 1 - 0.25: mean 0.625, sigma 0.125 (with the positive's own difference of 0 it would be 0.31); 1 - 4 sigma is 0.5
    scores, known = np.float32([[1, 0.5, 0.25]]), np.array([[POSITIVE, 0, 0]], np.uint8)
    columns, _ = choose(scores, known, [np.float32([1])], "topk-stdmarginpos", margin=4, sigma="difference", negatives=2)
    assert columns.tolist() == [[2, -1]]


def slow_choose(rule, margin, sigma, anchor):
    """The formulas in mine.py's docstring, one query and one candidate at a time, with Python's own statistics."""
    import statistics

    n = [[float(SCORES[q, c]) for c in range(10) if KNOWN[q, c] == 0] for q in range(6)]
    p = [(min if anchor == "min" else max)(map(float, one)) for one in POSITIVES]
    every = {"positives": [float(s) for one in POSITIVES for s in one], "difference": [p[q] - s for q in range(6) for s in n[q]]}
    kept = []
    for q in range(6):
        width = statistics.pstdev(n[q]) if sigma == "query" else statistics.pstdev(every[sigma])
        limit = {"topk-abs": margin, "topk-marginpos": p[q] - margin, "topk-percpos": p[q] - (1 - margin) * abs(p[q]),
                 "topk-stdmarginpos": p[q] - margin * width}[rule]  # fmt: skip
        kept.append([c for c in range(10) if KNOWN[q, c] == 0 and float(SCORES[q, c]) < limit])
    return kept


@pytest.mark.parametrize("anchor", ["min", "max"])
@pytest.mark.parametrize("sigma", ["query", "positives", "difference"])
@pytest.mark.parametrize("margin", [0.0, 0.31, 0.77, 1.3])
@pytest.mark.parametrize("rule", ["topk-abs", "topk-marginpos", "topk-percpos", "topk-stdmarginpos"])
def test_rules_are_their_formulas(rule, margin, sigma, anchor):
    assert survivors(rule, margin=margin, sigma=sigma, anchor=anchor) == slow_choose(rule, margin, sigma, anchor)


def test_every_candidate_has_its_reason():
    columns, reasons = choose(SCORES, KNOWN, POSITIVES, "topk-marginpos", margin=0.125, negatives=2)
    assert columns.tolist() == [[4, 5], [-1, -1], [-1, -1], [-1, -1], [5, 6], [3, 4]]
    assert reasons[0].tolist() == [ABOVE, POSITIVE, ABOVE, ABOVE, TAKEN, TAKEN, NOT_NEEDED, NOT_NEEDED, NOT_NEEDED, NOT_NEEDED]
    assert reasons[5].tolist() == [QUERY, POSITIVE, DUPLICATE, TAKEN, TAKEN, *[NOT_NEEDED] * 5]
    _, reasons = choose(SCORES, KNOWN, POSITIVES, "topk-shifted", margin=2, negatives=1)
    assert reasons[0].tolist() == [SHIFTED, POSITIVE, SHIFTED, TAKEN, *[NOT_NEEDED] * 6]


def test_more_negatives_than_candidates():
    columns, _ = choose(SCORES, KNOWN, POSITIVES, "topk", margin=0, negatives=12)
    assert columns.shape == (6, 12) and columns[5].tolist() == [3, 4, 5, 6, 7, 8, 9, -1, -1, -1, -1, -1]


def test_a_query_with_one_candidate_or_none_has_no_sigma():
    scores, known = np.float32([[0.5, 0.4], [0.6, 0.3]]), np.array([[POSITIVE, 0], [POSITIVE, DUPLICATE]], np.uint8)
    columns, _ = choose(scores, known, [np.float32([0.5]), np.float32([0.6])], "topk-stdmarginpos", margin=1, negatives=1)
    assert columns.tolist() == [[1], [-1]]


def test_random_selection_is_seeded_and_among_the_survivors():
    settings = {"margin": 0.125, "negatives": 3, "select": "random"}
    draws = {seed: choose(SCORES, KNOWN, POSITIVES, "topk-marginpos", seed=seed, **settings)[0] for seed in range(20)}
    assert (draws[3] == choose(SCORES, KNOWN, POSITIVES, "topk-marginpos", seed=3, **settings)[0]).all()
    assert {column for columns in draws.values() for column in columns[0].tolist()} == {4, 5, 6, 7, 8, 9}
    assert all(sorted(row) == row.tolist() for columns in draws.values() for row in columns if (row >= 0).all())


def test_choosing_changes_nothing_it_was_given():
    before = SCORES.copy(), KNOWN.copy()
    for rule, margin in mine.RULES.items():
        choose(SCORES, KNOWN, POSITIVES, rule, margin=margin)
    assert (before[0] == SCORES).all() and (before[1] == KNOWN).all()


def test_unknown_rule():
    with pytest.raises(InputError, match="rule 'bottomk' is unknown; expected one of topk,"):
        choose(SCORES, KNOWN, POSITIVES, "bottomk", margin=0)


# --- texts ------------------------------------------------------------------------------------------------------------------

ROWS = [
    Row("Hoe oud wordt een olifant?", ("Olifanten worden 60 tot 70 jaar.", "Een jaar of 65."), ()),
    Row("hoe  oud wordt een OLIFANT?", ("Zo oud als een mens.",), ("Olifanten eten gras.",)),
    Row("Wat eten olifanten?", ("OLIFANTEN eten  gras.",), ("Wat eten olifanten?",)),
]


def test_equal_texts_have_one_number():
    texts = mine.collect(Source("x", "retrieval", ROWS), corpus=["Een muis.", "olifanten worden 60 tot 70 jaar."], include_negatives=True)
    assert texts.queries == ["Hoe oud wordt een olifant?", "Wat eten olifanten?"] and texts.row_query == [0, 0, 1]
    assert texts.passages == ["Een muis.", "olifanten worden 60 tot 70 jaar.", "Een jaar of 65.", "Zo oud als een mens.",
                              "OLIFANTEN eten  gras.", "Wat eten olifanten?"]  # fmt: skip
    assert texts.row_positives == [[1, 2], [3], [4]]
    assert texts.positives == [[1, 2, 3], [4]], "a query's positives over all its rows"
    assert texts.own.tolist() == [-1, 5]


def test_positives_the_query_and_copies_are_never_free():
    found = known_reasons(np.array([[5, 1, 4, 1, 5], [0, 1, 2, 3, 4]]), [[4], [2, 0]], np.array([5, -1]))
    assert found.tolist() == [[QUERY, 0, POSITIVE, DUPLICATE, QUERY], [POSITIVE, 0, POSITIVE, 0, 0]]


# --- the command line -------------------------------------------------------------------------------------------------------

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
    settings = json.loads((data.parent / "mined.jsonl.json").read_text())
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
    (data.parent / "c.tsv").write_text("a\twaar is de fiets 0\nb\tDe trui\nc\t\n")
    again = run(data, "--model", folder, "--rule", "topk", "--corpus", data.parent / "c.tsv", "--negatives", 90, out="tsv.jsonl")
    assert [text for row in again for text in row["neg"]] == negatives and "" not in negatives


def test_each_positive_in_a_row_of_its_own(folder, data):
    rows = run(data, "--model", folder, "--anchor", "each", "--rule", "topk-marginpos", "--margin", 0)
    assert len(rows) == 41 and all(len(row["pos"]) == 1 for row in rows)
    assert all(row["pos_scores"][0] > max(row["neg_scores"], default=-2) for row in rows)


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


def test_a_killed_run_resumes_with_its_cache(folder, data, monkeypatch):
    monkeypatch.setattr(e5nl, "WINDOW", 16)
    expected = run(data, "--model", folder, "--cache", data.parent / "other", out="other.jsonl")
    assert run(data, "--model", folder, out="none.jsonl") == expected
    embed_windows, embedded = e5nl.embed_windows, []

    def embed_until(limit):
        def embed_some(*arguments, **options):
            for start, embeddings in embed_windows(*arguments, **options):
                if len(embedded) == limit:
                    raise KeyboardInterrupt
                embedded.append(len(embeddings))
                yield start, embeddings

        return embed_some

    cache = data.parent / "cache"
    monkeypatch.setattr(e5nl, "embed_windows", embed_until(4))
    with pytest.raises(KeyboardInterrupt):
        run(data, "--model", folder, "--cache", cache, out="again.jsonl")
    assert not (data.parent / "again.jsonl").exists() and len(list(cache.rglob("*.npy"))) == 4
    monkeypatch.setattr(e5nl, "embed_windows", embed_until(-1))
    assert run(data, "--model", folder, "--cache", cache, out="again.jsonl") == expected
    assert max(embedded) == 16 and sum(embedded) == 39 + 41, "no text was embedded twice"
    embedded.clear()
    assert run(data, "--model", folder, "--cache", cache, out="third.jsonl") == expected and not embedded
    run(data, "--model", folder, "--cache", cache, "--query-length", 4, out="fourth.jsonl")
    assert sum(embedded) == 39, "another limit is another embedding, of the queries only"


def test_a_damaged_cache_costs_its_texts_only(folder, data, capsys):
    command = ("--model", folder, "--cache", data.parent / "cache")
    expected = run(data, *command, out="one.jsonl")
    damaged = sorted((data.parent / "cache").rglob("*.npy"))[0]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert run(data, *command, out="two.jsonl") == expected
    assert f"{damaged}: damaged; its texts are embedded again" in capsys.readouterr().out


def test_two_processes_mine_as_one_does(folder, data, monkeypatch, capsys):
    monkeypatch.chdir(data.parent)
    monkeypatch.setattr(e5nl, "WINDOW", 16)  # three of queries, three of passages: both processes have some
    data.with_name("small_windows.py").write_text("import e5nl, mine\ne5nl.WINDOW = 16\nmine.cli(mine.main)\n")
    settings = ["--data", "bron.jsonl", "--model", "model", "--store", "bfloat16", "--precision", "bfloat16", "--top", "20"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does: the last digits of a product depend on it
    mine.main([*settings, "--cache", "one", "--out", "one.jsonl"])
    torch.set_num_threads(threads)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "small_windows.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.path.dirname(mine.__file__)}
    options = {"env": environment, "capture_output": True, "text": True, "check": True}
    printed = subprocess.run([*torchrun, *settings, "--cache", "two", "--out", "two.jsonl"], **options).stdout
    assert mined("one.jsonl") == mined("two.jsonl")
    assert capsys.readouterr().out.replace("one.jsonl", "two.jsonl") == printed, "only the first process prints"
    names = [sorted(path.name for path in Path(cache).rglob("*") if path.is_file()) for cache in ("one", "two")]
    assert names[0] == names[1] and len(names[0]) == 7, "six windows and their settings: nothing else is left"


def test_report_and_sweep(folder, data, capsys):
    run(data, "--model", folder, "--sweep", "--rule", "topk-abs", "--margin", 2, "--negatives", 2)
    printed, report = capsys.readouterr().out, json.loads((data.parent / "mined.jsonl.json").read_text())["report"]
    assert f"{report['candidates']:,} candidates of 39 queries" in printed and "known positives" in printed
    lines = {(line["rule"], line["sigma"], line["margin"]): line for line in report["sweep"]}
    assert len(lines) == len(mine.GRID) == len(printed.split("known positives\n")[1].split("\n\n")[0].splitlines())
    assert lines["topk", None, 0]["short"] == 0 and lines["topk-abs", None, 0.6]["survivors"] <= lines["topk-abs", None, 0.9]["survivors"]
    tight = lines["topk-stdmarginpos", "query", 2.0]["survivors"]
    assert tight <= lines["topk-stdmarginpos", "query", 0.5]["survivors"] <= lines["topk", None, 0]["survivors"]


def test_sweep_counts_known_positives_that_a_rule_would_take():
    """Two positives, each in turn the only one known. With s(q,p) 0.9 the other one (0.8) is below the margin, with 0.8 it is not."""
    known, numbers = np.array([[POSITIVE, POSITIVE, 0, 0]], np.uint8), np.array([[5, 3, 8, 9]])
    found = mine.Search(np.array([0]), numbers, np.float32([[0.9, 0.8, 0.5, 0.4]]), known, [[5, 3]], [np.float32([0.9, 0.8])])
    lines = {(line["rule"], line["margin"]): line["known positives"] for line in mine.sweep(found, "min", 1)}
    assert lines["topk", 0] == 1 and lines["topk-marginpos", 0.05] == 0.5 and lines["topk-percpos", 0.8] == 0


def test_examples_are_printed_as_asked(folder, data, capsys):
    for count in (0, 3):
        run(data, "--model", folder, "--rule", "topk", "--examples", count, "--overwrite")
        assert sum(line.startswith("+ ") for line in capsys.readouterr().out.splitlines()) == count


def test_a_narrow_band_is_said():
    scores = np.linspace(0.98, 0.97, 50, dtype=np.float32)[None]
    found = mine.Search(np.array([0]), np.arange(50)[None], scores, np.zeros((1, 50), np.uint8), [[99]], [np.float32([0.99])])
    report = mine.summarise(found, *choose(scores, found.known, found.positives, "topk", margin=0))
    assert report["above a 5% margin"] == 1 and "note: the scores lie in a narrow band" in mine.describe(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query-embeddings", "q.npy", "--corpus-embeddings", "p.npy"], "q.npy: 3 rows for 39 queries; --write-texts"),
        (["--query-embeddings", "bron.jsonl", "--corpus-embeddings", "p.npy"], "bron.jsonl: not a .npy of numbers"),
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
