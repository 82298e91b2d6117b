"""mine.py: rules by hand and by formula, never a positive, rows as they came.

    python -m pytest tests/test_mine.py

The 6 x 10 matrix below is the hand-worked example: one row per query, best candidate first. The
comparison with sentence-transformers' hard negatives is in tests/parity/.
"""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_search import unit

import e5nl
import mine
import model_folder
from data import Row, Source
from files import InputError, read_json, read_jsonl, write_jsonl
from mine import ABOVE, NOT_NEEDED, POSITIVE, QUERY, SHIFTED, TAKEN, Candidates, choose


def test_docstring_examples():
    assert doctest.testmod(mine).failed == 0 and doctest.testmod(mine).attempted >= 3


# --- rules ----------------------------------------------------------------------------------------

# One row per query, best candidate first; p marks its positives, q the query itself.
# Row 3: all equal, sigma 0. Row 4: its p is not among them. Row 5: negative scores
TABLE = """
0.90  0.80p 0.75  0.70  0.60  0.50  0.40  0.30  0.20  0.10
0.95p 0.90  0.85  0.80  0.75  0.70  0.65  0.60p 0.55  0.50
0.50  0.50  0.50  0.50  0.50p 0.50  0.50  0.50  0.50  0.50
0.90  0.90  0.90  0.85  0.85  0.80  0.80  0.80  0.75  0.75
-0.1  -0.2  -0.3  -0.4p -0.5  -0.6  -0.7  -0.8  -0.9  -1.0
0.99q 0.98p 0.97p 0.60  0.50  0.50  0.40  0.30  0.20  0.10
"""
CELLS = [line.split() for line in TABLE.split("\n") if line]
SCORES = np.float32([[float(cell.strip("pq")) for cell in row] for row in CELLS])
KNOWN = np.uint8([[{"p": POSITIVE, "q": QUERY}.get(cell[-1], 0) for cell in row] for row in CELLS])
POSITIVES = [np.float32(row) for row in ([0.8], [0.95, 0.6], [0.5], [0.2], [-0.4], [0.98, 0.97])]
CANDIDATES = Candidates(None, SCORES, KNOWN, POSITIVES)


def survivors(rule, **settings):
    """Which candidates the rule keeps: an x for each, a word per query."""
    _, reasons = choose(CANDIDATES, rule, **settings)
    return " ".join(
        "".join("x" if reason <= NOT_NEEDED else "." for reason in row) for row in reasons
    )


NO = ".........."
BY_HAND = [
    ("topk", 0, "query", "x.xxxxxxxx .xxxxxx.xx xxxx.xxxxx xxxxxxxxxx xxx.xxxxxx ...xxxxxxx"),
    # The first three that are neither positive nor the query are left out
    (
        "topk-shifted",
        3,
        "query",
        "....xxxxxx ....xxx.xx ...x.xxxxx ...xxxxxxx ....xxxxxx ......xxxx",
    ),
    # 0.5 itself is not below 0.5
    ("topk-abs", 0.5, "query", f"......xxxx {NO} {NO} {NO} xxx.xxxxxx ......xxxx"),
    # Below p - 0.125, exact in binary: 0.675, 0.475, 0.375, 0.075, -0.525, 0.845
    ("topk-marginpos", 0.125, "query", f"....xxxxxx {NO} {NO} {NO} .....xxxxx ...xxxxxxx"),
    # Below p - |p| / 4: 0.6, 0.45, 0.375, 0.15, -0.5 (not -0.3), 0.7275
    ("topk-percpos", 0.75, "query", f".....xxxxx {NO} {NO} {NO} .....xxxxx ...xxxxxxx"),
    # Row 1 without its positive: mean 0.4944, mean square 0.31583, sigma sqrt(0.31583 - 0.24448)
    # = 0.2671; 0.8 - 0.2671 = 0.533
    # Row 2: the worse positive counts, 0.6; 0.90 … 0.50 without 0.60 have mean 0.7125, sigma
    # 0.1317; below 0.468 is nothing
    # Row 3: sigma 0, and nothing is strictly below 0.5. Row 4: everything is above 0.2
    # Row 5: mean -0.5667, mean square 0.41, sigma 0.2981; -0.4 - 0.2981 = -0.698: -0.7 is below
    # Row 6: 0.6 0.5 0.5 0.4 0.3 0.2 0.1: mean 0.3714, mean square 0.16571, sigma 0.1666;
    # 0.97 - 0.1666 = 0.803
    ("topk-stdmarginpos", 1, "query", f".....xxxxx {NO} {NO} {NO} ......xxxx ...xxxxxxx"),
    # Twice: 0.266, …, -0.996, 0.637
    ("topk-stdmarginpos", 2, "query", f"........xx {NO} {NO} {NO} .........x ...xxxxxxx"),
    # Positives 0.8 0.95 0.6 0.5 0.2 -0.4 0.98 0.97: mean 0.575, mean square 0.52924, sigma 0.4457
    # p - sigma: 0.354, 0.154, 0.054, -0.246, -0.846, 0.524
    ("topk-stdmarginpos", 1, "positives", f".......xxx {NO} {NO} {NO} ........xx ....xxxxxx"),
]


@pytest.mark.parametrize(("rule", "margin", "sigma", "expected"), BY_HAND)
def test_rules_by_hand(rule, margin, sigma, expected):
    assert survivors(rule, margin=margin, sigma=sigma) == expected


def test_differences_leave_the_positives_out():
    # 1 - 0.5 and 1 - 0.25: mean 0.625, sigma 0.125 (with the positive's own 0 it would be 0.31);
    # 1 - 4 sigma is 0.5
    scores, known = np.float32([[1, 0.5, 0.25]]), np.uint8([[POSITIVE, 0, 0]])
    candidates = Candidates(None, scores, known, [np.float32([1])])
    settings = {"margin": 4, "sigma": "difference", "negatives": 2}
    assert choose(candidates, "topk-stdmarginpos", **settings)[0].tolist() == [[2, -1]]


def test_every_candidate_has_its_reason():
    columns, reasons = choose(CANDIDATES, "topk-marginpos", margin=0.125, negatives=2)
    assert columns.tolist() == [[4, 5], [-1, -1], [-1, -1], [-1, -1], [5, 6], [3, 4]]
    assert reasons[0].tolist() == [ABOVE, POSITIVE, ABOVE, ABOVE, TAKEN, TAKEN, *[NOT_NEEDED] * 4]
    assert reasons[5].tolist() == [QUERY, POSITIVE, POSITIVE, TAKEN, TAKEN, *[NOT_NEEDED] * 5]
    columns, reasons = choose(CANDIDATES, "topk-shifted", margin=2, negatives=9)
    assert reasons[0].tolist() == [SHIFTED, POSITIVE, SHIFTED, *[TAKEN] * 7]
    assert columns[0].tolist() == [*range(3, 10), -1, -1], "more are wanted than there are"


def test_a_query_with_one_candidate_or_none_has_no_sigma():
    scores = np.float32([[0.5, 0.4], [0.6, 0.3]])
    known = np.array([[POSITIVE, 0], [POSITIVE, QUERY]], np.uint8)
    candidates = Candidates(None, scores, known, [np.float32([0.5]), np.float32([0.6])])
    columns, _ = choose(candidates, "topk-stdmarginpos", margin=1, negatives=1)
    assert columns.tolist() == [[1], [-1]]


# --- texts ----------------------------------------------------------------------------------------

ROWS = [
    Row("Hoe oud wordt een olifant?", ("Ze worden 60 tot 70 jaar.", "Een jaar of 65."), ()),
    Row("hoe  oud wordt een OLIFANT?", ("Zo oud als een mens.",), ("Olifanten eten gras.",)),
    Row("Wat eten olifanten?", ("OLIFANTEN eten  gras.",), ("Wat eten olifanten?",)),
]


def test_equal_texts_have_one_number():
    corpus = ["Een muis.", "ze worden 60 tot 70 jaar."]
    texts = mine.number_texts(Source("x", "retrieval", ROWS), corpus, include_negatives=True)
    assert texts.queries == [ROWS[0].query, ROWS[2].query] and texts.row_query == [0, 0, 1]
    new = [
        "Een jaar of 65.",
        "Zo oud als een mens.",
        "OLIFANTEN eten  gras.",
        "Wat eten olifanten?",
    ]
    assert texts.passages == corpus + new
    assert texts.row_positives == [[1, 2], [3], [4]] and texts.row_negatives == [[], [4], [5]]
    assert texts.positives == [[1, 2, 3], [4]], "a query's positives over all its rows"
    assert texts.own.tolist() == [-1, 5]


# --- the command line -----------------------------------------------------------------------------

WORDS = (
    "fiets muur stadhuis kosten jongen trui voetbal plein minister vraag trein boek taal".split()
)


@pytest.fixture
def data(tmp_path):
    """40 rows with one or two positives, one query in two rows: 39 queries, 41 passages."""
    pairs = [(WORDS[i % 13], WORDS[i * 7 % 13], i) for i in range(40)]
    rows = [
        {"query": f"waar is de {a} {i}", "pos": [f"de {a} bij de {b} {i}"], "neg": [f"geen {i}"]}
        for a, b, i in pairs
    ]
    rows[4]["pos"].append("de regen op de straten")
    rows[9]["query"] = rows[8]["query"]
    write_jsonl(tmp_path / "bron.jsonl", rows)
    return tmp_path / "bron.jsonl"


@pytest.fixture
def run(folder, data):
    """run(options, out=name): the rows that mine.py writes, with the small model by default."""

    def run(options: str = "", out: str = "mined.jsonl") -> list[dict]:
        model = [] if "embeddings" in options else ["--model", str(folder)]
        path = data.parent / out
        mine.main(
            ["--data", str(data), "--out", str(path), *model, *options.split(), "--overwrite"]
        )
        return rows_of(path)

    return run


def rows_of(path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def test_rows_come_back_with_negatives_and_scores(folder, data, run):
    rows, given = run("--rule topk --negatives 3"), rows_of(data)
    model, tokenizer = e5nl.load(folder)
    passages = [text for row in given for text in row["pos"]]
    p = dict(zip(passages, e5nl.embed(model, tokenizer, passages, "passage"), strict=True))
    queries = e5nl.embed(model, tokenizer, [row["query"] for row in given], "query")
    for row, before, q in zip(rows, given, queries, strict=True):
        assert (row["query"], row["pos"]) == (before["query"], before["pos"])
        positives = [other["pos"] for other in given if other["query"] == row["query"]]
        assert len(set(row["neg"])) == 3 and not set(row["neg"]) & set(sum(positives, []))
        scores = [float(q @ p[text]) for text in row["pos"] + row["neg"]]
        assert row["pos_scores"] + row["neg_scores"] == pytest.approx(scores, abs=1e-5)
        assert row["neg_scores"] == sorted(row["neg_scores"], reverse=True)
    about = read_json(data.parent / "mined.jsonl.json")
    assert about["settings"]["rule"] == "topk"
    assert about["settings"]["weights"] == model_folder.weights_hash(folder)
    assert sum(about["report"]["became of them"].values()) == about["report"]["candidates"]


def test_other_fields_of_a_row_stay_and_what_is_replaced_is_counted(data, run, capsys):
    given = rows_of(data)
    given[0] |= {"id": 7, "neg_scores": [0.5], "neg_ids": ["x"], "pos_scores": [2]}
    given[1] |= {"neg": [], "bron": {"a": [1]}}
    write_jsonl(data, given)
    rows = run("--rule topk")
    names = ["query", "pos", "neg", "pos_scores", "neg_scores", "type"]
    assert [list(row) for row in rows[:3]] == [[*names, "id"], [*names, "bron"], names]
    assert rows[0]["id"] == 7 and rows[1]["bron"] == {"a": [1]}
    assert "geen 0" not in rows[0]["neg"] and rows[0]["pos_scores"] != [2]
    counts = "neg of 39 rows, neg_ids of 1 rows, neg_scores of 1 rows, pos_scores of 1 rows"
    assert f"bron.jsonl: replaced {counts} (--keep-negatives" in capsys.readouterr().out


def test_own_negatives_stay_before_the_mined_ones_when_asked(data, run, capsys):
    given = rows_of(data)
    given[0]["neg"] = ["geen 5", "eigen", "geen  5"]  # the third is the first, written otherwise
    write_jsonl(data, given)
    rows = run("--rule topk --negatives 99 --keep-negatives")
    assert "replaced" not in capsys.readouterr().out
    others = run("--rule topk --negatives 99 --include-negatives")
    assert rows[0]["neg"][:2] == ["geen 5", "eigen"] and rows[1]["neg"][:1] == ["geen 1"]
    for row, other, own in zip(rows, others, given, strict=True):
        kept = row["neg"][: len(set(own["neg"]) - {"geen  5"})]
        assert row["neg"] == kept + [text for text in other["neg"] if text not in kept]
        scores = dict(zip(other["neg"], other["neg_scores"], strict=True))
        assert row["neg_scores"] == pytest.approx([scores[text] for text in row["neg"]], abs=1e-6)


def test_symmetric_sources_are_mined_with_the_query_prefix(folder, data, run):
    write_jsonl(data, [row | {"type": "symmetric_sts"} for row in rows_of(data)])
    (first, *_), (model, tokenizer) = run("--rule topk"), e5nl.load(folder)
    q, p = e5nl.embed(model, tokenizer, [first["query"], first["neg"][0]], "query")
    assert first["neg_scores"][0] == pytest.approx(float(q @ p), abs=1e-5)
    assert first["type"] == "symmetric_sts"


@pytest.mark.parametrize("type", ["retrieval", "symmetric_clustering"])
def test_a_model_trained_with_instructions_mines_with_those_of_the_rows(
    make_model, tokenizer, tmp_path, data, run, type
):
    prompts = ("query", "Instruct: a\nQuery: "), ("passage", ""), ("none", "")
    model = make_model(prompts=prompts, truncate_dim=9)
    e5nl.save(model, tokenizer, tmp_path / "instruct")
    given = [
        row | {"type": type, "instruction": f"Taak {i}"} for i, row in enumerate(rows_of(data))
    ]
    write_jsonl(data, given)
    rows = run(f"--rule topk --negatives 1 --model {tmp_path / 'instruct'}")
    task = {text: row["instruction"] for row in given for text in (row["query"], *row["pos"])}

    def embed(text: str, instructed: bool) -> np.ndarray:
        before = f"Instruct: {task[text]}\nQuery: " if instructed else ""
        return e5nl.embed(model, tokenizer, [before + text], "none")[0]

    for row in rows[:5]:
        q = embed(row["query"], True)
        scores = [q @ embed(text, type != "retrieval") for text in row["pos"] + row["neg"]]
        assert row["pos_scores"] + row["neg_scores"] == pytest.approx(scores, abs=1e-5)
    settings = read_json(data.parent / "mined.jsonl.json")["settings"]
    assert settings["truncate_dim"] == 9 and settings["prompts"] == dict(prompts)


def test_given_embeddings_mine_as_the_model_does(folder, data, run, capsys):
    expected, texts = run(), data.parent / "texts"
    mine.main(["--data", str(data), "--write-texts", str(texts)])
    assert "to embed as query" in capsys.readouterr().out
    for name, kind in (("queries", "query"), ("passages", "passage")):
        paths = {"--input": texts / f"{name}.jsonl", "--out": texts / f"{kind}.npy"}
        options = [str(word) for option in paths.items() for word in option]
        e5nl.main(["embed", "--model", str(folder), "--kind", kind, *options])
    given = f"--query-embeddings {texts}/query.npy --corpus-embeddings {texts}/passage.npy"
    assert run(given) == expected

    # As many other texts, of another version of the source
    write_jsonl(data, rows_of(data)[::-1])
    with pytest.raises(InputError, match="query.npy: embeddings of other texts than the 39 quer"):
        run(given)
    # Those of other tools carry no digest
    for kind in ("query", "passage"):
        np.save(texts / f"{kind}.npy", np.load(texts / f"{kind}.npy"))
    run(given)


def test_a_corpus_is_searched_too(data, run):
    documents = [
        {"_id": "1", "title": "", "text": "waar is de fiets 0"},
        {"_id": "2", "title": "De", "text": "trui"},
        {"_id": "3", "title": " ", "text": ""},  # which no training source may have
    ]
    write_jsonl(data.parent / "beir" / "corpus.jsonl", documents)
    (data.parent / "c.tsv").write_text("1\twaar is de fiets 0\n2\tDe trui\n3\t\n")
    rows = run(f"--rule topk --corpus {data.parent}/beir --negatives 90")
    negatives = {text for row in rows for text in row["neg"]}
    assert {"De trui", "waar is de fiets 0"} < negatives and "" not in negatives
    assert not any(text.startswith("geen") for text in negatives)
    assert run(f"--rule topk --corpus {data.parent}/c.tsv --negatives 90") == rows
    first = run(f"--rule topk --corpus {data.parent}/beir --negatives 90 --include-negatives")[0]
    assert "geen 3" in first["neg"]
    assert "waar is de fiets 0" not in first["neg"], "the query itself is no negative"


@pytest.mark.parametrize("when_short", ["drop", "keep", "random"])
def test_rows_short_of_negatives(run, when_short):
    settings = "--rule topk-marginpos --margin 0 --top 6 --negatives 4"
    rows, kept = run(f"{settings} --when-short {when_short}"), run(settings)
    full = [row for row in kept if len(row["neg"]) == 4]
    assert 1 < len(full) < 40 and len(kept) == 40
    if when_short != "random":
        assert rows == {"drop": full, "keep": kept}[when_short]
        return
    assert sum(len(row["neg"]) for row in rows) > sum(len(row["neg"]) for row in kept)
    for row, before in zip(rows, kept, strict=True):
        assert row["neg"][: len(before["neg"])] == before["neg"] and len(row["neg"]) <= 4
        assert len(set(row["neg"]) - set(row["pos"])) == len(row["neg"])
        assert all(s < min(row["pos_scores"]) for s in row["neg_scores"])


def test_random_passages_are_no_positives(run):
    """Without a threshold, and with more wanted than found, nearly all passages are drawn."""
    for row in run("--rule topk --top 1 --negatives 38 --when-short random"):
        assert len(row["neg"]) > 30 and not set(row["pos"]) & set(row["neg"])


def test_a_cache_embeds_each_text_once(data, run, monkeypatch):
    """What a killed run embedded is kept: see test_cache.py."""
    embed_windows, embedded = e5nl.embed_windows, []

    def counted(model, tokenizer, texts, *arguments, **options):
        embedded.append(len(texts))
        return embed_windows(model, tokenizer, texts, *arguments, **options)

    expected, cache = run(), f"--cache {data.parent}/cache"
    monkeypatch.setattr(e5nl, "embed_windows", counted)
    assert run(cache) == run(cache) == expected and embedded == [39, 41]
    run(f"{cache} --query-length 4")
    assert embedded == [39, 41, 39], "another limit is another embedding, of the queries only"


def test_two_processes_mine_as_one_does(folder, data, monkeypatch, capsys):
    monkeypatch.chdir(data.parent)
    monkeypatch.setattr(e5nl, "WINDOW", 16)  # three of queries, three of passages: both have some
    script = "import e5nl, mine\ne5nl.WINDOW = 16\nmine.cli(mine.main)\n"
    Path("small_windows.py").write_text(script)
    formats = "--store bfloat16 --precision bfloat16 --top 20"
    settings = f"--data bron.jsonl --model model {formats}".split()
    mine.main([*settings, "--cache", "one", "--out", "one.jsonl"])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "small_windows.py", *settings, "--cache", "two", "--out", "two.jsonl"]
    environment = os.environ | {"PYTHONPATH": os.path.dirname(mine.__file__)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert rows_of("one.jsonl") == rows_of("two.jsonl")
    alone = capsys.readouterr().out.replace("one.jsonl", "two.jsonl")
    assert alone == result.stdout, "only the first process prints"
    caches = (Path(name).rglob("*") for name in ("one", "two"))
    names = [sorted(path.name for path in paths if path.is_file()) for paths in caches]
    assert names[0] == names[1] and len(names[0]) == 7, "six windows and what made them: no more"


# --- the report -----------------------------------------------------------------------------------


def test_report_sweep_and_examples(data, run, capsys):
    run("--sweep --rule topk-abs --margin 2 --negatives 2 --examples 3")
    printed = capsys.readouterr().out
    report = read_json(data.parent / "mined.jsonl.json")["report"]
    assert f"{report['candidates']:,} candidates of 39 queries" in printed
    table = printed.split("mean score\n")[1].split("\n\n")[0].splitlines()
    lines = {(line["rule"], line["sigma"], line["margin"]): line for line in report["sweep"]}
    assert len(lines) == len(table) == 25 and lines["topk", None, 0]["short"] == 0
    narrow, wide = (lines["topk-stdmarginpos", "query", m]["survivors"] for m in (2.0, 0.5))
    assert narrow < wide < lines["topk", None, 0]["survivors"]
    assert printed.count("\n+ ") == 3


GIVEN = "--query-embeddings {} --corpus-embeddings p.npy"
MISTAKES = [  # arguments, message
    (GIVEN.format("q.npy"), "q.npy: 3 rows for 39 queries; --write-texts"),
    (GIVEN.format("bron.jsonl"), "bron.jsonl: cannot be read (ValueError: the magic string is not"),
    (GIVEN.format("z.npz"), "z.npz: cannot be read (ValueError: the magic string is not correct"),
    (GIVEN.format("i.npy"), "i.npy: int64 of shape (3, 4); expected float32, float16 or"),
    (GIVEN.format("long.npy"), "long.npy: row 2 has length 3; expected rows of length 1"),
    (GIVEN.format("q4.npy"), "embeddings of shapes (39, 4) and (41, 5): expected"),
    ("--model nergens", "nergens: no such folder"),
    ("--model model --corpus nergens", "nergens: no such file"),
    ("--model model --out klaar.jsonl", "klaar.jsonl: exists already"),
    ("--model model --out half.jsonl", "half.jsonl.json: exists already"),
    ("--model model --out bron.jsonl --overwrite", "--out bron.jsonl is the source itself"),
    ("--model model --out mined", "--out mined: expected a name that ends in .jsonl or .jsonl.gz"),
    ("--model model --rule topk --margin 0.05", "--margin 0.05: the rule topk has none"),
    ("--model model --rule topk-abs --margin -2 --when-short drop", "no row got 7 negatives"),
    ("--model model --data bron.json", "bron.json: is a manifest; mine one of the sources"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_said_and_nothing_is_written(folder, data, monkeypatch, arguments, message):
    monkeypatch.chdir(data.parent)
    q, p = unit(39, 4, 0), unit(41, 5, 0)
    for name, array in {"q": q[:3], "i": np.ones((3, 4), int), "q4": q, "p": p}.items():
        np.save(f"{name}.npy", array)
    np.savez("z.npz", q)
    q[2] *= 3
    np.save("long.npy", q)
    for name in ("klaar.jsonl", "half.jsonl.json"):
        Path(name).touch()
    before = sorted(os.listdir())
    with pytest.raises((InputError, FileNotFoundError), match=re.escape(message)):
        mine.main(["--data", "bron.jsonl", "--out", "new.jsonl", *arguments.split()])
    assert sorted(os.listdir()) == before
