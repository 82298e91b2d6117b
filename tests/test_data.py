"""data.py: sources with loud errors, batches of one source, retrieval data as training rows.

python -m pytest tests/test_data.py
"""

import doctest
import hashlib
import itertools
import json
import re
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from test_files import GOOD, run, write, write_parquet

import data
import files
from data import Row, Source
from files import InputError


def test_docstring_examples():
    assert doctest.testmod(data).failed == 0 and doctest.testmod(data).attempted >= 2


# --- training sources -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["een.jsonl", "een.jsonl.gz"])
def test_a_source_is_read_as_written(tmp_path, name):
    path = write(tmp_path / name, "\ufeff", GOOD, "\n", '{"query": "wat", "pos": ["dat"]}')
    rows = [Row("wie", ("ik", "jij"), ("zij",)), Row("wat", ("dat",), ())]
    assert data.read_source(path) == Source("een", "symmetric_sts", rows, True, 0.5, None)


def test_types_and_their_share_of_a_batch(tmp_path):
    """FlagEmbedding calls retrieval normal. Symmetric sources get half a batch."""
    path = write(tmp_path / "a.jsonl", GOOD | {"type": "normal"}, GOOD | {"type": "retrieval"})
    assert data.read_source(path).type == "retrieval"
    sources = [data.read_source(path, type=type) for type in data.KINDS]
    assert data.batch_sizes(sources, 1024) == [1024, 1024, 512, 512]


def test_a_manifest_sets_what_a_row_cannot(tmp_path):
    write(tmp_path / "a.jsonl", *[{"query": f"q{i}", "pos": ["p"]} for i in range(20)])
    write(tmp_path / "b.jsonl", GOOD, GOOD | {"type": "symmetric_class"})
    manifest = """{"sources": [
        {"file": "a.jsonl", "ratio": 0.75, "batch_factor": 0.25},
        {"file": "b.jsonl", "in_batch_negatives": false, "negatives": 3, "type": "retrieval"}]}"""
    path = write(tmp_path / "m.json", manifest)
    a, b = data.read_sources([path], seed=3)
    numbers = [int(row.query[1:]) for row in a.rows]
    assert len(numbers) == 15 and numbers == sorted(numbers), "file order is kept"
    assert a[3:] == (True, 0.25, None) and b[3:] == (False, 1.0, 3)
    assert b.type == "retrieval", "whatever its rows say"
    again, other = (data.read_sources([path], seed=seed)[0].rows for seed in (3, 4))
    assert a.rows == again != other


def test_check_draws_the_rows_of_a_run_with_this_seed(tmp_path, capsys):
    write(tmp_path / "a.jsonl", *[{"query": f"q{i}", "pos": ["p"]} for i in range(50)])
    path = write(tmp_path / "m.json", {"sources": [{"file": "a.jsonl", "ratio": 0.02}]})
    for seed in (3, 4):
        data.main(["check", path, "--seed", str(seed)])
        (source,) = data.read_sources([path], seed)
        assert f"  query: {source.rows[0].query}\n" in capsys.readouterr().out


def test_an_instruction_is_that_of_the_row_or_of_the_manifest(tmp_path):
    write(tmp_path / "a.jsonl", GOOD | {"instruction": " "}, GOOD | {"instruction": " Zoek. "})
    write(tmp_path / "b.jsonl", GOOD, GOOD | {"instruction": None})
    for given, expected in ({}, ["", "Zoek."]), ({"instruction": " Vind.\n"}, ["Vind."] * 2):
        entries = [{"file": "a.jsonl"} | given, {"file": "b.jsonl"}]
        path = write(tmp_path / "m.json", {"sources": entries})
        sources = data.read_sources([path])
        read = [[row.instruction for row in source.rows] for source in sources]
        assert read == [expected, ["", ""]]
    assert data.read_sources([path], prefix="instruct") == sources


def test_an_instruction_makes_another_source_and_none_the_one_of_before():
    """A run that was begun before rows had instructions resumes."""
    row = Row("q", ("p",), ())
    bare, instructed = (Source("a", "retrieval", [r]) for r in (row, row._replace(instruction="x")))
    head = "Source(name='a', type='retrieval', rows=[], in_batch_negatives=True, batch_factor=1.0,"
    text = f"{head} negatives=None)('q', ('p',), ())"
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    assert bare.digest() == digest != instructed.digest()


ROW = Row("vraag", ("tekst",), (), "Zoek.")
PREFIXES = [  # type, row, policy; what is before the query, before the passages
    ("retrieval", ROW, "e5", "query: ", "passage: "),
    ("symmetric_sts", ROW, "e5", "query: ", "query: "),
    ("retrieval", ROW, "instruct", "Instruct: Zoek.\nQuery: ", ""),
    ("symmetric_sts", ROW, "instruct", *["Instruct: Zoek.\nQuery: "] * 2),
    (
        "symmetric_clustering",
        ROW._replace(instruction=""),
        "instruct",
        *["Instruct: Identify categories in user passages.\nQuery: "] * 2,
    ),
]


@pytest.mark.parametrize(("type", "row", "policy", "query", "passage"), PREFIXES)
def test_what_is_put_before_the_texts_of_a_row(capsys, tmp_path, type, row, policy, query, passage):
    assert data.prefixes(Source("a", type, [row]), row, policy) == (query, passage)
    fields = {"query": row.query, "pos": row.pos, "type": type}
    fields |= {"instruction": row.instruction} if row.instruction else {}
    data.main(["check", write(tmp_path / "a.jsonl", fields), "--prefix", policy])
    assert f"  {query}vraag\n  + {passage}tekst\n" in capsys.readouterr().out


def test_check_prints_what_a_run_would_see(tmp_path):
    path = write(tmp_path / "zinnen.jsonl", *[GOOD | {"query": f"vraag {i}"} for i in range(11)])
    out = run("data.py", "check", path, "--batch-size", 8).stdout
    assert out.splitlines()[1].split()[:6] == ["zinnen", "symmetric_sts", "11", "4", "2", "1.0"]
    assert all(text in out for text in ("query: vraag 0", "+ query: ik", "- query: zij"))


# --- batches --------------------------------------------------------------------------------------

ROWS, SIZES = [29, 7, 50, 0, 2], [4, 3, 6, 2, 3]


def pairs(plan) -> list[list[tuple[int, int]]]:
    """(source, row) of each row of each batch."""
    return [list(zip(*map(np.ndarray.tolist, batch), strict=True)) for batch in plan]


def test_batches_have_one_source_and_no_row_twice():
    plan = pairs(data.plan_batches(ROWS, SIZES, seed=5, epoch=2))
    sources = [batch[0][0] for batch in plan]
    assert Counter(sources) == {0: 7, 1: 2, 2: 8}, "the last partial batch is dropped"
    assert sources != sorted(sources), "sources alternate"
    for source, batch in zip(sources, plan, strict=True):
        assert {of_row for of_row, _ in batch} == {source} and len(batch) == SIZES[source]
    rows = sum(plan, [])
    assert len(set(rows)) == len(rows) and all(row < ROWS[source] for source, row in rows)


def test_mixed_batches_draw_from_all_sources_and_take_no_row_twice():
    plan = pairs(data.plan_mixed_batches(ROWS, 8, seed=5, epoch=2))
    rows = sum(plan, [])
    assert list(map(len, plan)) == [8] * (88 // 8) and len(set(rows)) == len(rows)
    assert np.mean([len({source for source, _ in batch}) for batch in plan]) > 2


@pytest.mark.parametrize(("plan", "sizes"), [("plan_batches", SIZES), ("plan_mixed_batches", 4)])
def test_the_plan_is_a_pure_function_of_seed_and_epoch(plan, sizes):
    def draw(seed, epoch):
        return str(pairs(getattr(data, plan)(ROWS, sizes, seed, epoch)))

    assert draw(5, 1) == draw(5, 1)
    assert len({draw(seed, epoch) for seed in (5, 6) for epoch in (0, 1)}) == 4


def test_groups_draw_negatives_without_replacement_and_repeat_when_short():
    row, generator = Row("q", ("p1", "p2"), ("a", "b", "c")), np.random.default_rng(0)

    def draws(negatives: int, row=row):
        groups = [data.sample_group(row, negatives, generator) for _ in range(200)]
        return {group[0] for group in groups}, {"".join(sorted(group[1:])) for group in groups}

    positives = {"p1", "p2"}
    assert draws(2) == (positives, {"ab", "ac", "bc"})
    assert draws(5) == (positives, {"aabbc", "aabcc", "abbcc"}), "none more often than it takes"
    assert draws(0) == draws(4, row._replace(neg=())) == (positives, {""})


def test_a_batch_is_drawn_as_each_source_wants_it():
    """Rows by their numbers; a source's own number of negatives goes before the run's."""
    rows = [Row(f"q{i}", (f"p{i}",), ("a", "b", "c")) for i in range(3)]
    sources = [Source(str(n), "retrieval", rows, negatives=n) for n in (None, 0, 3)]
    numbers, chosen = np.array([2, 0, 1, 0]), np.array([1, 2, 0, 0])
    drawn = data.draw_batch(sources, numbers, chosen, 2, np.random.default_rng(1))
    assert drawn[0] == [sources[i] for i in numbers] and drawn[1] == [rows[i] for i in chosen]
    sizes = [(group[0], len(group)) for group in drawn[2]]
    assert sizes == [("p1", 1 + 3), ("p2", 1 + 2), ("p0", 1), ("p0", 1 + 2)]


# --- texts and judgements -------------------------------------------------------------------------

TEXTS = [  # file, content, {id: text}
    ("a.jsonl", '{"_id": 8, "text": "y ", "id": "no", "title": ""}', {"8": "y "}),
    ("a.jsonl.gz", '{"id": "8", "text": "y ", "title": "Kop"}', {"8": "Kop y"}),
    ("a.jsonl", '{"id": 8, "text": "y", "title": null}', {"8": "y"}),
    ("a.jsonl", '{"id": 8, "text": "y", "title": NaN}', {"8": "y"}),
    ("a.csv", 'title,text,_id\n"Kop, ja",y,01\n', {"01": "Kop, ja y"}),
    ("a.tsv", 'text\tid\n"y\t1\neen "half\t2\n', {"1": '"y', "2": 'een "half'}),
    ("a.tsv", 'D1\t"y\n2\tz\tmet tab\n3\t\n', {"D1": '"y', "2": "z\tmet tab", "3": ""}),
]


@pytest.mark.parametrize(("name", "content", "texts"), TEXTS)
def test_texts_by_id(tmp_path, name, content, texts):
    assert data.texts_by_id([write(tmp_path / name, content)]) == texts


JUDGEMENTS = [  # file, content: query q1 with documents d1 (2) and d2 (0), q2 with d1 (-1)
    ("a.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n"),
    ("a.tsv", "corpus-id\tscore\tquery-id\nd1\t2\tq1\nd2\t0\tq1\nd1\t-1\tq2\n"),
    ("a.tsv", "q1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n"),
    ("a.tsv.gz", "q1\t0\td1\t2\nq1\t0\td2\t0\nq2\t0\td1\t-1\n"),
    ("a.txt", "q1 0 d1 2\nq1 0  d2 0\nq2 Q0 d1 -1\n"),
    ("a.csv", "score,query-id,corpus-id\n2,q1,d1\n0,q1,d2\n-1,q2,d1\n"),
    (
        "a.jsonl",
        '{"query-id": "q1", "corpus-id": "d1", "score": 2}\n'
        '{"query-id": "q1", "corpus-id": "d2", "score": 0.0}\n'
        '{"query-id": "q2", "corpus-id": "d1", "score": -1}\n',
    ),
]


@pytest.mark.parametrize(("name", "content"), JUDGEMENTS)
def test_judgements_are_read_by_the_names_of_their_columns_or_as_trec_writes_them(
    tmp_path, name, content
):
    judged = data.qrels_of([write(tmp_path / name, content)])
    assert judged == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}


def test_only_the_columns_of_texts_and_judgements_are_read(tmp_path):
    when = np.array(["2020-01-01"], "datetime64[ns]")
    columns = {"id": [7], "text": ["x"], "title": [np.nan], "when": when}
    assert data.texts_by_id([write_parquet(tmp_path / "c.parquet", **columns)]) == {"7": "x"}
    columns = {"query-id": ["a"], "corpus-id": [1], "score": [2.0], "when": when}
    assert data.qrels_of([write_parquet(tmp_path / "q.parquet", **columns)]) == {"a": {"1": 2}}


def test_a_corpus_is_not_held_in_memory(tmp_path):
    """Texts that nobody judged are let go: of 20 MB the two wanted ones are kept."""
    path = write(tmp_path / "c.tsv", *(f"{i}\t{str(i % 10) * 10_000}\n" for i in range(2000)))
    tracemalloc.start()
    texts = data.texts_by_id([path], {"7", "1998"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts == {"7": "7" * 10_000, "1998": "8" * 10_000} and peak < 1_000_000


# --- retrieval data as a training source ----------------------------------------------------------

# By hand: a has two positives (one with a title) and an irrelevant passage; b two equal positives;
# c no query, d an empty one, e a passage that is empty and one that does not exist; f only an
# irrelevant one
CORPUS = """{"_id": "1", "title": "", "text": "een"}
{"_id": "2", "title": "Kop", "text": "twee"}
{"_id": "3", "title": "", "text": "drie"}
{"_id": "4", "title": "", "text": "drie"}
{"_id": "5", "title": "", "text": " "}
{"_id": "9", "title": "", "text": "niet beoordeeld"}
"""
QUERIES = """{"_id": "b", "text": "vraag b"}
{"_id": "a", "text": "vraag a"}
{"_id": "d", "text": " "}
{"_id": "e", "text": "vraag e"}
{"_id": "f", "text": "vraag f"}
{"_id": "z", "text": "niet beoordeeld"}
"""
QRELS = ["a 2 1", "b 3 1", "c 1 1", "a 1 2", "a 3 0", "b 4 1", "d 1 1", "e 5 1", "e 6 1", "f 1 0"]
PREPARED = [
    {"query": "vraag a", "pos": ["Kop twee", "een"], "type": "retrieval"},
    {"query": "vraag b", "pos": ["drie"], "type": "retrieval"},
]


LEFT_OUT = {
    "2 judged not relevant",
    "1 of equal passages",
    *(f"1 whose query is {fault}" for fault in ("missing", "empty")),
    *(f"1 whose passage is {fault}" for fault in ("missing", "empty")),
}


def beir(folder):
    (folder / "qrels").mkdir(parents=True)
    write(folder / "corpus.jsonl", CORPUS)
    write(folder / "queries.jsonl.gz", QUERIES)
    names = ("query-id", "corpus-id", "score")
    judgements = (dict(zip(names, line.split(), strict=True)) for line in QRELS)
    write(folder / "qrels/train.jsonl", *judgements)
    return folder


def prepared(tmp_path, capsys, *arguments) -> tuple[list[dict], list[str]]:
    """The rows that `prepare` writes, and the lines that it prints."""
    path = tmp_path / "bron.jsonl.gz"
    data.main(["prepare", *map(str, arguments), "--out", str(path), "--overwrite"])
    return [row for _, row in files.read_jsonl(path)], capsys.readouterr().out.splitlines()


def test_a_beir_folder_becomes_rows_with_all_positives_of_a_query(tmp_path, capsys):
    folder = beir(tmp_path / "beir")
    rows, printed = prepared(tmp_path, capsys, "--corpus", folder, "--expect", 4)
    assert rows == PREPARED
    pairs = "2 rows, 3 pairs of query and positive (4 expected: 75.0%)"
    assert printed[0] == f"{tmp_path}/bron.jsonl.gz: {pairs}"
    reasons = printed[1].removeprefix("left out of 10 judgements: ")
    assert set(reasons.split(", ")) == LEFT_OUT
    row = data.read_source(tmp_path / "bron.jsonl.gz").rows[0]
    assert row == Row("vraag a", ("Kop twee", "een"), ())
    rows, _ = prepared(tmp_path, capsys, "--corpus", folder, "--instruction", "Zoek.")
    assert rows == [row | {"instruction": "Zoek."} for row in PREPARED]


def test_a_hub_repository_with_judgements_from_another(tmp_path, monkeypatch, capsys, hub):
    monkeypatch.chdir(tmp_path)
    hub("clips/set", {"corpus.jsonl": CORPUS.encode(), "queries.jsonl": QUERIES.encode()})
    hub("BeIR/set-qrels", {"train.tsv": "\n".join(QRELS).replace(" ", "\t").encode()})
    names = ("--corpus", "clips/set", "--qrels", "BeIR/set-qrels:train.tsv")
    assert prepared(tmp_path, capsys, *names)[0] == PREPARED


def test_ms_marcos_files_have_no_header_and_quotes_mean_nothing(tmp_path, capsys):
    """Ids of queries and passages are the same numbers here. The first passage holds a tab."""
    corpus = write(tmp_path / "c.tsv", '0\teen "half\tcitaat\n1\t\n2\ttwee\u2028regels\n3\ttekst\n')
    queries = write(tmp_path / "q.tsv", '2\twat?\n0\t"wie\n1\twaar\n')
    triples = write(tmp_path / "t.tsv", "0\t2\t1\n2\t0\t1\n0\t3\t2\n0\t2\t3\n1\t1\t0\n")
    qrels = write(tmp_path / "qrels.tsv", "0\t0\t2\t1\n2\t0\t0\t1\n0\t0\t3\t1\n1\t0\t1\t1\n")
    for judged in (("--triples", triples), ("--qrels", qrels)):
        texts = ("--corpus", corpus, "--queries", queries)
        rows, printed = prepared(tmp_path, capsys, *texts, *judged)
        assert [(row["query"], row["pos"]) for row in rows] == [
            ('"wie', ["twee\u2028regels", "tekst"]),
            ("wat?", ['een "half\tcitaat']),
        ]
        assert printed[1] == "left out of 4 judgements: 1 whose passage is empty"


# --- text without annotation as a training source -------------------------------------------------

LONG = "De eerste zin van deze alinea is lang genoeg."
PARAGRAPHS = [  # lines of a text, its pairs
    (["Kop", LONG], [("Kop", LONG)]),
    (["## Kop", " ", LONG], [("Kop", LONG)]),
    (["Waar is  het?", "Hier."], [("Waar is het?", "Hier.")]),
    (["Kop", "Nog een kop", LONG], [("Nog een kop", LONG)]),
    ([f"{LONG} De  tweede. Derde."], [(LONG, "De tweede. Derde.")]),
    ([LONG, "Kop"], []),
    (["Kort. De eerste zin is te kort, dus telt de tweede mee. Rest."],
     [("Kort. De eerste zin is te kort, dus telt de tweede mee.", "Rest.")]),
    (["Zo staat het in de wet onder het artikel, lid 2 sub a. en verder. Rest."],
     [("Zo staat het in de wet onder het artikel, lid 2 sub a. en verder.", "Rest.")]),
    (["Kop", LONG, f"{LONG} Meer."], [("Kop", LONG), (LONG, "Meer.")]),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "pairs"), PARAGRAPHS)
def test_pairs_of_paragraphs_by_hand(tmp_path, lines, pairs):
    """Lines of a text file, and of a cell of a table."""
    assert list(data.cut_pairs(lines)) == pairs
    text = "\n".join(lines)
    for name, content in (("a.txt", text), ("a.jsonl", {"text": text})):
        assert list(data.read_pairs([write(tmp_path / name, content)])) == pairs


COLUMNS = [  # a row of a table, --fields, its pairs
    ({"title": "Kop", "text": " Een\ntekst. "}, (), [("Kop", "Een tekst.")]),
    ({"title": "Kop", "body": "b", "url": "x"}, (), [("Kop", "b")]),
    ({"heading": "Kop", "section": "s", "title": None}, (), [("Kop", "s")]),
    ({"title": "Kop", "question": "Wat?", "answer": "Dat.", "text": "t"}, (), [("Wat?", "Dat.")]),
    ({"title": "", "text": f"{LONG} Rest."}, (), [(LONG, "Rest.")]),
    ({"kop": "Kop", "inhoud": "i", "title": "T", "text": "t"}, ("kop", "inhoud"), [("Kop", "i")]),
    ({"kop": "Kop", "inhoud": f"Titel\n{LONG}"}, ("inhoud",), [("Titel", LONG)]),
]


@pytest.mark.parametrize(("row", "fields", "pairs"), COLUMNS)
def test_pairs_of_columns_by_hand(tmp_path, row, fields, pairs):
    path = write(tmp_path / "a.jsonl", row)
    columns = {name: [text] for name, text in row.items()}
    columns["when"] = np.array(["2020-01-01"], "datetime64[ns]")  # not read
    for table in (path, write_parquet(tmp_path / "a.parquet", **columns)):
        assert list(data.read_pairs([table], fields)) == pairs


def test_pairs_that_are_left_out_by_hand(tmp_path, capsys):
    words = (f"w{number}" for number in itertools.count())

    def text(count: int, first="") -> str:
        return first + " ".join(itertools.islice(words, count))

    passage, cookies = f"{text(60)}.", "Wij gebruiken cookies om de site te laten werken. Ja?"
    judged = [  # query, passage, what becomes of it
        ("Een titel", passage, "kept"),
        ("Een titel", passage.replace("w7", "nieuw").upper(), "near duplicate"),
        ("Een titel", text(30, passage[:100]) + ".", "kept"),  # a third of the runs are equal
        *(("Welkom", f"{text(30)}!", "kept") for _ in range(3)),
        *(("Lees ook", f"{text(30)}.", "boilerplate") for _ in range(4)),
        *((text(3), cookies, "boilerplate") for _ in range(4)),
        (text(3), f"{text(9)}.", "too short"),
        ("?!", f"{text(30)}.", "too short"),
        (text(3), text(30), "no sentence"),
    ]
    write(tmp_path / "a.jsonl", *({"title": q, "text": p} for q, p, _ in judged[:5]))
    write(tmp_path / "b.csv.gz", "body,title\n", *(f'"{p}",{q}\n' for q, p, _ in judged[5:]))
    out, names = tmp_path / "bron.jsonl.gz", [str(tmp_path / x) for x in ("a.jsonl", "b.csv.gz")]
    data.main(["pairs", "--data", *names, "--out", str(out)])
    source = data.read_source(out)
    expected = [(query, passage) for query, passage, fate in judged if fate == "kept"]
    assert [(row.query, row.pos[0]) for row in source.rows] == expected
    assert source.type == "retrieval"
    counts = "2 too short, 1 no sentence, 8 boilerplate, 1 near duplicate, 5 kept"
    assert capsys.readouterr().out == f"{out}: of 17 pairs {counts}\n"


def test_texts_are_not_held_in_memory(tmp_path):
    """Of 18 MB of text about half a kilobyte is kept for each of 500 pairs."""
    rows = ({"title": f"t{i}", "text": f"{i:0360} " * 100 + "."} for i in range(500))
    path = write(tmp_path / "a.jsonl", *rows)
    tracemalloc.start()
    data.main(["pairs", "--data", path, "--out", str(tmp_path / "bron.jsonl")])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20
    assert len(data.read_source(tmp_path / "bron.jsonl").rows) == 500


# --- mistakes -------------------------------------------------------------------------------------

TEXTS_OF = "prepare --queries q.tsv --qrels r.tsv --corpus"
QRELS_OF = "prepare --corpus c.tsv --queries q.tsv --qrels"
TRIPLES_OF = "prepare --corpus c.tsv --queries q.tsv --triples"
FIRST = json.dumps(GOOD) + "\n"
BARE = '{"query": "a", "pos": ["b"], '
INSTRUCTED = BARE + '"instruction": "x"}\n'
SOURCE = '{"sources": [{"file": "b.jsonl", '
QREL = '{"query-id": "b", "corpus-id": 2, "score": '
MISTAKES = [  # a command, what the last file that it names holds, what is said
    # Sources
    ("check a.jsonl", FIRST + '{"pos": ["a"]}', "a.jsonl:2: 'query' is null; expected a text"),
    ("check a.jsonl", '{"query": " "}', "a.jsonl:1: 'query' is \" \""),
    ("check a.jsonl", '{"query": "a"}', "a.jsonl:1: 'pos' is null; expected a list of 1 or more"),
    ("check a.jsonl", '{"query": "a", "pos": []}', "'pos' is []"),
    ("check a.jsonl", '{"query": "a", "pos": "b"}', "'pos' is \"b\""),
    ("check a.jsonl", BARE + '"neg": [3]}', "'neg' is [3]; expected a list of 0 or more texts"),
    ("check a.jsonl", BARE + '"neg": [""]}', "'neg' is [\"\"]"),
    ("check a.jsonl", BARE + '"type": "quiz"}', "type 'quiz' is unknown; expected one of retri"),
    ("check a.jsonl", BARE + '"type": ["x"]}', "type ['x'] is unknown"),
    ("check a.jsonl", FIRST + BARE + '"type": "normal"}', "after rows of type 'symmetric_sts'"),
    ("check a.jsonl", BARE + '"instruction": 0}', "'instruction': expected a string, found 0"),
    ("check a.jsonl", BARE + '"instruction": "Instruct: Zoek."}', "leave out 'Instruct:' and"),
    ("check --prefix instruct a.jsonl", FIRST + BARE + '"instruction": "x"}', ":2: an instruction"),
    ("check --prefix instruct a.jsonl", INSTRUCTED + FIRST, "a.jsonl:2: no instruction, unlike"),
    ("check m.json", SOURCE + '"instruction": 3}]}', "m.json: source 'b.jsonl': instruction is 3"),
    ("check m.json", SOURCE + '"instruction": " "}]}', 'instruction is " "; expected a text'),
    ("check m.json", SOURCE + '"ratio": 0}]}', "ratio is 0; expected a number above 0, at most 1"),
    ("check m.json", SOURCE + '"ratio": true}]}', "ratio is true; expected"),
    ("check m.json", SOURCE + '"in_batch_negatives": 1}]}', "expected true or false"),
    ("check m.json", SOURCE + '"rati": 1}]}', "'rati' is unknown; it may have file, type"),
    ("check m.json", SOURCE + '"type": "quiz"}]}', 'b.jsonl\': type is "quiz"; expected one of'),
    ("check m.json", '{"sources": [{"file": "../b.jsonl"}]}', "'../b.jsonl' is not a file name i"),
    ("check m.json", '{"sources": [{"file": "/etc/x"}]}', "'/etc/x' is not a file name inside"),
    ("check m.json", '{"sources": [{"ratio": 1}]}', "every source needs 'file'"),
    ("check m.json", '{"query": "a", "pos": ["b"]}', "m.json: a .json file is a manifest"),
    ("check m.json", FIRST * 2, "m.json:2: not JSON (Extra data at column 1); a .json file is a m"),
    ("check b.jsonl b.jsonl", None, "source 'b' is given more than once"),
    # Texts
    (f"{TEXTS_OF} a.jsonl", '{"docid": "8", "text": "y"}', "a.jsonl:1: no column '_id' or 'id'"),
    (f"{TEXTS_OF} a.jsonl", '{"_id": null, "text": "y"}', ":1: expected an id, a text or a whole"),
    (f"{TEXTS_OF} a.jsonl", '{"_id": [1], "text": "y"}', ":1: expected an id"),
    (f"{TEXTS_OF} a.jsonl", '{"_id": 1.5, "text": "y"}', ":1: expected an id"),
    (f"{TEXTS_OF} a.jsonl", '{"_id": 1, "text": null}', ":1: column 'text': expected a string, fo"),
    (f"{TEXTS_OF} a.jsonl", '{"_id": 1, "text": "y", "title": 3}', ":1: title: expected a string"),
    (f"{TEXTS_OF} a.jsonl", '{"_id": 1, "text": ""}\n' * 2, "a.jsonl:2: id '1' occurs twice"),
    (f"{TEXTS_OF} a.tsv", "pid\tpassage\n1\tx\n", "a.tsv:2: no column '_id' or 'id'"),
    (f"{TEXTS_OF} a.tsv", '1\t"een\ntwee"\n', "a.tsv:2: expected id<TAB>text, found 'twee\"'"),
    # Judgements and triples
    (f"{QRELS_OF} a.tsv", "qid\tpid\tgrade\n1\t2\t1\n", "a.tsv:2: no column 'query-id'"),
    (f"{QRELS_OF} a.tsv", "1\t2\t1\n1\t2\tja\n", "a.tsv:2: expected query-id, corpus-id and a"),
    (f"{QRELS_OF} a.tsv", "query-id\tcorpus-id\tscore\n", "a.tsv: no relevance judgements"),
    (f"{QRELS_OF} a.txt", "1 2\n", ":1: expected query-id, corpus-id and a whole number, found"),
    (f"{QRELS_OF} a.jsonl", QREL + "1.5}", "a.jsonl:1: expected query-id, corpus-id and a whole"),
    (f"{QRELS_OF} a.jsonl", QREL + "NaN}", "a.jsonl:1: expected query-id, corpus-id and a whole"),
    (f"{QRELS_OF} a.jsonl", QREL + "9" * 400 + "}", "a.jsonl:1: expected query-id, corpus-id and"),
    (f"{QRELS_OF} a.jsonl", '{"query-id": 1, "corpus-id": [2], "score": 1}', ":1: expected an id"),
    (f"{TRIPLES_OF} a.tsv", "1\t2\n", "a.tsv:1: expected three ids, query<TAB>positive<TAB>neg"),
    (f"{TRIPLES_OF} a.tsv", "qid\tpos\tneg\n", "a.tsv:1: expected three ids"),
    (f"{TRIPLES_OF} a.tsv", "\n", "a.tsv: no triples; expected query<TAB>positive<TAB>negative"),
    (
        f"{TRIPLES_OF} a.tsv",
        "0\t1\t3\n2\t1\t3\n",
        "c.tsv: no row can be made of 2 judgements (1 whose query is missing, 1 whose passage is "
        "missing); the first judgement is of query '0' and passage '1'; do these belong together?",
    ),
    # Data sets
    ("prepare --corpus c.tsv", None, "c.tsv is no BEIR folder or repository; give --queries and"),
    ("prepare --corpus beir --split dev", None, "beir/qrels/dev.tsv: no such file (nor with .gz);"),
    ("prepare --corpus beir --split dev --qrels r.tsv", None, "--split chooses among the judgemen"),
    ("prepare --corpus beir --instruction Instruct:", None, "--instruction: 'instruction' is"),
    ("prepare --corpus beir --out bron.txt", None, "bron.txt: expected a name that ends in .jsonl"),
    ("prepare --corpus beir --out b.jsonl", None, "b.jsonl: exists already"),
    (f"{TEXTS_OF} nergens", None, "nergens: no such file or folder; expected one, or the name of"),
    ("prepare --corpus beir --qrels nergens", None, "nergens: no such file or folder"),
    # Pairs
    ("pairs --data a.jsonl", '{"titel": "a"}', "a.jsonl:1: no column 'answer' or 'text' or 'body'"),
    ("pairs --fields kop text --data a.jsonl", '{"text": "a"}', "a.jsonl:1: no column 'kop'"),
    ("pairs --data a.jsonl", '{"text": 3}', "a.jsonl:1: column 'text': expected a string, found 3"),
    ("pairs --data a.txt", "Kop\nTe kort.", "a.txt: no pair is left (1 too short, 0 boilerplate, "),
    ("pairs --data nergens", None, "nergens: no such file"),
]


@pytest.mark.parametrize(("line", "content", "message"), MISTAKES)
def test_a_mistake_is_named_by_its_place_and_nothing_is_written(
    tmp_path, monkeypatch, line, content, message
):
    monkeypatch.chdir(tmp_path)
    beir(tmp_path / "beir")
    command, *words = line.split()
    given = {words[-1]: content, "c.tsv": "9\ty", "q.tsv": "2\tvraag", "r.tsv": "2\t1\t1"}
    for name, text in (given | {"b.jsonl": FIRST}).items():
        if text:
            write(tmp_path / name, text)
    before = sorted(tmp_path.iterdir())
    out = ["--out", "out.jsonl"] if command != "check" else []
    with pytest.raises((InputError, FileNotFoundError), match=re.escape(message)):
        data.main([command, *out, *words])
    assert sorted(tmp_path.iterdir()) == before
