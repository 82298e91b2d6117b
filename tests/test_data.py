"""data.py: formats with loud errors, prefixes, batches of one source as a pure function of (seed, epoch), nothing half written.

    python -m pytest tests/test_data.py
"""

import doctest
import gzip
import json
import subprocess
import sys
import tracemalloc
from collections import Counter

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import data
import files
from data import Row
from files import InputError


def write(path, *lines) -> str:
    content = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


GOOD = {"query": "wie", "pos": ["ik", "jij"], "neg": ["zij"], "type": "symmetric_sts", "pos_scores": [0.9, 0.8]}


def test_docstring_examples():
    assert doctest.testmod(data).failed == 0 and doctest.testmod(data).attempted >= 2


@pytest.mark.parametrize("name", ["een.jsonl", "een.jsonl.gz"])
def test_a_source_is_read_as_written(tmp_path, name):
    source = data.read_source(write(tmp_path / name, GOOD, "\n", {"query": "wat", "pos": ["dat"]}))
    assert source == data.Source("een", "symmetric_sts", [Row("wie", ("ik", "jij"), ("zij",)), Row("wat", ("dat",), ())], True, 0.5, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"pos": ["a"]}\n', r"bron\.jsonl:2: 'query' is null"),
        ('{"query": " ", "pos": ["a"]}\n', r"bron\.jsonl:2: 'query' is \" \""),
        ('{"query": "a", "pos": []}\n', r"bron\.jsonl:2: 'pos' is \[\]; expected a list of one or more texts"),
        ('{"query": "a"}\n', r"bron\.jsonl:2: 'pos' is \[\]"),
        ('{"query": "a", "pos": "b"}\n', r"bron\.jsonl:2: 'pos' is \"b\""),
        ('{"query": "a", "pos": ["b"], "neg": [3]}\n', r"bron\.jsonl:2: 'neg' is \[3\]; expected a list of texts"),
        ('{"query": "a", "pos": ["b"], "neg": [""]}\n', r"bron\.jsonl:2: 'neg' is \[\"\"\]"),
        ('{"query": "a", "pos"\n', r"bron\.jsonl:2: not JSON .*at column 21"),
        ('["a"]\n', r"bron\.jsonl:2: expected a JSON object"),
        ('{"query": "\\ud83d", "pos": ["b"]}\n', r"bron\.jsonl:2: half of a surrogate pair"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        data.read_source(write(tmp_path / "bron.jsonl", GOOD, line))


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="weg.jsonl: no such file"):
        data.read_source(tmp_path / "weg.jsonl")
    with pytest.raises(InputError, match="leeg.jsonl: no rows"):
        data.read_source(write(tmp_path / "leeg.jsonl", "\n"))
    with pytest.raises(InputError, match="type 'quiz' is unknown; expected one of retrieval, "):
        data.read_source(write(tmp_path / "soort.jsonl", GOOD | {"type": "quiz"}))
    (tmp_path / "latin.jsonl").write_bytes(b'{"query": "a", "pos": ["b"]}\n{"query": "caf\xe9", "pos": ["b"]}\n')
    with pytest.raises(InputError, match=r"latin.jsonl:2: byte 0xe9 at column 15 is not UTF-8"):
        data.read_source(tmp_path / "latin.jsonl")
    (tmp_path / "half.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode() * 99)[:-9])
    with pytest.raises(InputError, match="half.jsonl.gz:.*damaged gzip data"):
        data.read_source(tmp_path / "half.jsonl.gz")


def test_a_manifest_sets_what_cannot_stand_in_a_row(tmp_path):
    write(tmp_path / "a.jsonl", *[{"query": f"q{i}", "pos": ["p"]} for i in range(20)])
    write(tmp_path / "b.jsonl", GOOD)
    entries = [{"file": "a.jsonl", "ratio": 0.75, "batch_factor": 0.25}, {"file": "b.jsonl", "in_batch_negatives": False, "negatives": 3}]
    manifest = {"sources": entries}
    a, b = data.read_sources([write(tmp_path / "m.json", manifest)], seed=3)
    assert (len(a.rows), a.batch_factor, a.in_batch_negatives, a.negatives) == (15, 0.25, True, None)
    assert (b.in_batch_negatives, b.negatives, b.batch_factor) == (False, 3, 0.5)
    assert [r.query for r in a.rows] == sorted((r.query for r in a.rows), key=lambda q: int(q[1:])), "file order is kept"
    assert a.rows == data.read_sources([tmp_path / "m.json"], seed=3)[0].rows != data.read_sources([tmp_path / "m.json"], seed=4)[0].rows


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file": "../geheim.jsonl"}, "'../geheim.jsonl' is not a file name inside"),
        ({"file": "/etc/passwd"}, "'/etc/passwd' is not a file name inside"),
        ({"file": "b.jsonl", "ratio": 0}, "ratio is 0; expected a number above 0"),
        ({"file": "b.jsonl", "ratio": True}, "ratio is true; expected"),
        ({"file": "b.jsonl", "in_batch_negatives": 1}, "in_batch_negatives is 1; expected true or false"),
        ({"file": "b.jsonl", "rati": 1}, "'rati' is unknown; it may have file, type, ratio"),
        ({"ratio": 1}, "every source needs 'file'"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path, entry, message):
    write(tmp_path / "b.jsonl", GOOD)
    with pytest.raises(InputError, match=message):
        data.read_sources([write(tmp_path / "m.json", {"sources": [entry]})])


def test_a_source_given_twice_is_refused(tmp_path):
    path = write(tmp_path / "b.jsonl", GOOD)
    with pytest.raises(InputError, match="source 'b' is given more than once"):
        data.read_sources([path, path])


def test_batches_have_one_source_and_no_row_twice():
    rows, sizes = [29, 7, 50], [4, 3, 6]
    plan = [(int(sources[0]), chosen) for sources, chosen in data.plan_batches(rows, sizes, seed=5, epoch=2) if len(set(sources)) == 1]
    assert Counter(source for source, _ in plan) == {0: 7, 1: 2, 2: 8}, "the last partial batch is dropped"
    assert all(len(chosen) == sizes[source] for source, chosen in plan)
    seen = Counter((source, int(row)) for source, chosen in plan for row in chosen)
    assert set(seen.values()) == {1} and all(row < rows[source] for source, row in seen)
    assert [source for source, _ in plan] != sorted(source for source, _ in plan), "sources alternate"


def test_mixed_batches_draw_from_all_sources_and_take_no_row_twice():
    rows = [29, 7, 50]
    plan = data.plan_mixed_batches(rows, 8, seed=5, epoch=2)
    pairs = [pair for sources, chosen in plan for pair in zip(sources.tolist(), chosen.tolist(), strict=True)]
    assert len(plan) == 86 // 8 and all(len(chosen) == 8 for _, chosen in plan) and len(set(pairs)) == len(pairs)
    assert all(number < rows[source] for source, number in pairs) and np.mean([len(set(sources)) for sources, _ in plan]) > 2


@pytest.mark.parametrize("plan", [lambda seed, epoch: data.plan_batches([29, 7], [4, 3], seed, epoch),
                                  lambda seed, epoch: data.plan_mixed_batches([29, 7], 4, seed, epoch)])  # fmt: skip
def test_the_plan_is_a_pure_function_of_seed_and_epoch(plan):
    def flat(**settings):
        return [(*sources, *chosen) for sources, chosen in plan(**settings)]

    state = np.random.get_state()[1].copy()
    assert flat(seed=5, epoch=1) == flat(seed=5, epoch=1)
    assert len({tuple(flat(seed=seed, epoch=epoch)) for seed in (5, 6) for epoch in (0, 1)}) == 4
    assert (np.random.get_state()[1] == state).all(), "the global generator is left alone"


def test_symmetric_sources_get_half_a_batch(tmp_path):
    sources = [data.read_source(write(tmp_path / f"{type}.jsonl", GOOD | {"type": type})) for type in data.KINDS]
    assert dict(zip(data.KINDS, data.batch_sizes(sources, 1024), strict=True)) == {
        "retrieval": 1024, "classification": 1024, "symmetric_sts": 512, "symmetric_clustering": 512}  # fmt: skip


def test_groups_draw_negatives_without_replacement_and_repeat_when_short():
    row, generator = Row("q", ("p1", "p2"), ("a", "b", "c")), np.random.default_rng(0)
    groups = [data.sample_group(row, 2, generator) for _ in range(200)]
    assert {group[0] for group in groups} == {"p1", "p2"}
    assert all(len(set(group[1:])) == 2 for group in groups) and {text for group in groups for text in group[1:]} == {"a", "b", "c"}
    assert max(Counter(data.sample_group(row, 5, generator)[1:]).values()) == 2, "5 from 3: none more than twice"
    assert len(data.sample_group(row, 0, generator)) == 1
    assert len(data.sample_group(Row("q", ("p",), ()), 4, generator)) == 1, "a row without negatives gives its positive alone"


def test_beir_layout(tmp_path):
    (tmp_path / "qrels").mkdir()
    write(tmp_path / "corpus.jsonl.gz", {"_id": 1, "title": "Titel", "text": "tekst "}, {"_id": "2", "title": "", "text": " los "})
    write(tmp_path / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n", "a\t1\t2\n", "a\t2\t0\n")
    assert data.read_texts_by_id(tmp_path, "corpus.jsonl") == {"1": "Titel tekst", "2": " los "}
    assert data.read_qrels(tmp_path) == {"a": {"1": 2, "2": 0}}
    with pytest.raises(FileNotFoundError, match=r"qrels/dev.tsv: no such file \(.gz neither\); there are test.tsv"):
        data.read_qrels(tmp_path, "dev")
    write(tmp_path / "qrels" / "dev.tsv", "a\t1\tja\n")
    with pytest.raises(InputError, match=r"dev.tsv:1: expected query-id, corpus-id and a whole number, found 'a . 1 . ja'"):
        data.read_qrels(tmp_path, "dev")
    write(tmp_path / "queries.jsonl", {"_id": "a", "text": "x"}, {"_id": "a", "text": "y"})
    with pytest.raises(InputError, match=r"queries.jsonl:2: id 'a' occurs twice"):
        data.read_texts_by_id(tmp_path, "queries.jsonl")


def test_retrieval_tables_of_the_hub(tmp_path):
    rows = [{"query-id": "a", "corpus-id": 1, "score": 2.0}, {"query-id": "a", "corpus-id": 2, "score": 0.0}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "q.parquet")
    write(tmp_path / "q.jsonl", {"query-id": "b", "corpus-id": "2", "score": -1})
    assert data.qrels_of([tmp_path / "q.parquet", tmp_path / "q.jsonl"]) == {"a": {"1": 2, "2": 0}, "b": {"2": -1}}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"id": 7, "text": "x", "title": None}]), tmp_path / "c.parquet")
    write(tmp_path / "c.jsonl", {"_id": "8", "text": "y", "id": "no"})
    assert data.texts_by_id([tmp_path / "c.parquet", tmp_path / "c.jsonl"]) == {"7": "x", "8": "y"}
    write(tmp_path / "c.jsonl", {"docid": "8", "text": "y"})
    with pytest.raises(InputError, match=r"c.jsonl:1: no column '_id'; it has docid, text"):
        data.texts_by_id([tmp_path / "c.jsonl"])
    write(tmp_path / "q.jsonl", {"query-id": "b", "doc": "2", "score": 1.5})
    with pytest.raises(InputError, match=r"q.jsonl:1: no column 'corpus-id'; it has query-id, doc, score"):
        data.qrels_of([tmp_path / "q.jsonl"])
    write(tmp_path / "q.jsonl", {"query-id": "b", "corpus-id": "2", "score": 1.5})
    with pytest.raises(InputError, match=r"q.jsonl:1: expected query-id, corpus-id and a whole number, found 'b . 2 . 1.5'"):
        data.qrels_of([tmp_path / "q.jsonl"])


def run(*arguments):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)


def test_the_command_line_says_one_line_and_exits_with_2(tmp_path):
    result = run("data.py", "check", write(tmp_path / "bron.jsonl", {"query": "a", "pos": []}))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and result.stderr.startswith(f"error: {tmp_path}/bron.jsonl:1: 'pos' is []")


def test_check_prints_what_a_run_would_see(tmp_path):
    path = write(tmp_path / "zinnen.jsonl", *[GOOD | {"query": f"vraag {i}"} for i in range(11)])
    out = run("data.py", "check", path, "--batch-size", 8).stdout
    assert out.splitlines()[1].split()[:6] == ["zinnen", "symmetric_sts", "11", "4", "2", "1.0"]
    assert "query: vraag 0" in out and "+ query: ik" in out and "- query: zij" in out


@pytest.mark.parametrize(("rows", "sizes"), [([10, 7], [4, 3]), ([3, 8, 1], [4, 4, 1]), ([0], [2])])
def test_counted_batches_are_the_planned_ones(rows, sizes):
    planned = Counter(int(sources[0]) for sources, _ in data.plan_batches(rows, sizes, seed=1, epoch=2))
    assert data.count_batches(rows, sizes) == [planned[source] for source in range(len(rows))]


# --- retrieval data as a training source --------------------------------------------------------------------------------------

# By hand: a has two positives (one with a title) and an irrelevant passage; b two equal positives; c no query, d an empty one, e a
# passage that is empty and one that is not there; f only an irrelevant one.
CORPUS = [("1", "", "een"), ("2", "Kop", "twee"), ("3", "", "drie"), ("4", "", "drie"), ("5", "", " "), ("9", "", "niet beoordeeld")]
QUERIES = [("b", "vraag b"), ("a", "vraag a"), ("d", " "), ("e", "vraag e"), ("f", "vraag f"), ("z", "niet beoordeeld")]
QRELS = [("a", "2", 1), ("b", "3", 1), ("c", "1", 1), ("a", "1", 2), ("a", "3", 0), ("b", "4", 1), ("d", "1", 1), ("e", "5", 1),
         ("e", "6", 1), ("f", "1", 0)]  # fmt: skip
ROWS = [{"query": "vraag a", "pos": ["Kop twee", "een"], "type": "retrieval"}, {"query": "vraag b", "pos": ["drie"], "type": "retrieval"}]
LEFT_OUT = {"judged not relevant": 2, "of equal passages": 1, "whose query is missing": 1, "whose query is empty": 1,
            "whose passage is empty": 1, "whose passage is missing": 1}  # fmt: skip


def beir(folder, qrels: str = "tsv"):
    (folder / "qrels").mkdir(parents=True)
    write(folder / "corpus.jsonl", *({"_id": id, "title": title, "text": text} for id, title, text in CORPUS))
    write(folder / "queries.jsonl.gz", *({"_id": id, "text": text} for id, text in QUERIES))
    if qrels == "tsv":
        write(folder / "qrels/train.tsv", "query-id\tcorpus-id\tscore\n", *(f"{q}\t{d}\t{grade}\n" for q, d, grade in QRELS))
    elif qrels == "jsonl":
        write(folder / "qrels/train.jsonl", *({"query-id": q, "corpus-id": d, "score": grade} for q, d, grade in QRELS))
    return folder


def prepared(tmp_path, capsys, *arguments) -> tuple[list[dict], list[str]]:
    """The rows that `prepare` writes, and the lines that it prints."""
    data.main(["prepare", *map(str, arguments), "--out", str(tmp_path / "bron.jsonl.gz"), "--overwrite"])
    return [row for _, row in files.read_jsonl(tmp_path / "bron.jsonl.gz")], capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("qrels", ["tsv", "jsonl"])
def test_a_beir_folder_becomes_rows_with_all_positives_of_a_query(tmp_path, capsys, qrels):
    rows, printed = prepared(tmp_path, capsys, "--corpus", beir(tmp_path / "beir", qrels), "--expect", 4)
    assert rows == ROWS
    assert printed[0] == f"{tmp_path}/bron.jsonl.gz: 2 rows, 3 pairs of query and positive (4 expected: 75.0%)"
    said = dict(part.split(" ", 1)[::-1] for part in printed[1].removeprefix("left out of 10 judgements: ").split(", "))
    assert {reason: int(count) for reason, count in said.items()} == LEFT_OUT
    assert data.read_source(tmp_path / "bron.jsonl.gz").rows[0] == Row("vraag a", ("Kop twee", "een"), ())


def test_a_hub_repository_with_judgements_from_another(tmp_path, monkeypatch, capsys, hub):
    monkeypatch.chdir(tmp_path)
    folder = beir(tmp_path / "beir", "none")
    hub("clips/set", {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    hub("BeIR/set-qrels", {"train.tsv": "".join(f"{q}\t{d}\t{grade}\n" for q, d, grade in QRELS).encode()})
    rows, _ = prepared(tmp_path, capsys, "--corpus", "clips/set", "--qrels", "BeIR/set-qrels:train.tsv")
    assert rows == ROWS
    with pytest.raises(FileNotFoundError, match=r"qrels/train.tsv: no such file \(.gz neither\)"):
        prepared(tmp_path, capsys, "--corpus", "clips/set")


def test_ms_marcos_files_have_no_header_and_quotes_mean_nothing(tmp_path, capsys):
    """Ids of queries and passages are the same numbers here, which must not matter. The first passage holds a tab."""
    corpus = write(tmp_path / "c.tsv", '0\teen "half\tcitaat\n', "1\t\n", "2\ttwee\u2028regels\n", "3\ttekst\n")
    queries = write(tmp_path / "q.tsv", "2\twat?\n", '0\t"wie\n', "1\twaar\n")
    triples = write(tmp_path / "t.tsv", "0\t2\t1\n", "2\t0\t1\n", "0\t3\t2\n", "0\t2\t3\n", "1\t1\t0\n")
    rows, printed = prepared(tmp_path, capsys, "--corpus", corpus, "--queries", queries, "--triples", triples)
    assert [(row["query"], row["pos"]) for row in rows] == [('"wie', ["twee\u2028regels", "tekst"]), ("wat?", ['een "half\tcitaat'])]
    assert printed == [f"{tmp_path}/bron.jsonl.gz: 2 rows, 3 pairs of query and positive",
                       "left out of 4 judgements: 1 whose passage is empty"]  # fmt: skip
    qrels = write(tmp_path / "qrels.tsv", "0\t0\t2\t1\n", "2\t0\t0\t1\n", "0\t0\t3\t1\n", "1\t0\t1\t1\n")
    assert prepared(tmp_path, capsys, "--corpus", corpus, "--queries", queries, "--qrels", qrels) == (rows, printed)


def test_a_batch_is_drawn_as_each_source_wants_it():
    """Rows by their numbers; a source's own number of negatives goes before the run's."""
    rows = [data.Row(f"q{i}", (f"p{i}",), (f"a{i}", f"b{i}", f"c{i}")) for i in range(3)]
    sources = [data.Source("one", "retrieval", rows), data.Source("two", "retrieval", rows, negatives=0),
               data.Source("three", "retrieval", rows, negatives=3)]  # fmt: skip
    numbers, chosen = np.array([2, 0, 1, 0]), np.array([1, 2, 0, 0])
    of_row, drawn, groups = data.draw_batch(sources, numbers, chosen, 2, np.random.default_rng(1))
    assert [source.name for source in of_row] == ["three", "one", "two", "one"] and drawn == [rows[i] for i in chosen]
    assert [len(group) for group in groups] == [4, 3, 1, 3] and [group[0] for group in groups] == ["p1", "p2", "p0", "p0"]
    assert sorted(groups[0][1:]) == ["a1", "b1", "c1"] and set(groups[1][1:]) < {"a2", "b2", "c2"}


def test_a_corpus_is_not_held_in_memory(tmp_path):
    """Texts that nobody judged are let go: of 20 MB the two wanted ones are kept."""
    path = write(tmp_path / "c.tsv", *(f"{i}\t{str(i % 10) * 10_000}\n" for i in range(2000)))
    tracemalloc.start()
    texts = data.texts_by_id([path], {"7", "1998"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts == {"7": "7" * 10_000, "1998": "8" * 10_000} and peak < 1_000_000


FILES = ["--queries", "q.tsv", "--triples", "t.tsv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "c.tsv"], "--corpus c.tsv is no BEIR folder or repository; give --queries and --qrels (or --triples) too"),
        (["--corpus", "c.tsv", "--queries", "q.tsv", "--triples", "c.tsv"], "c.tsv:1: expected query<TAB>positive<TAB>negative, found"),
        (["--corpus", "c.tsv", "--queries", "q.tsv", "--triples", "leeg"], "leeg: no triples; expected"),
        (["--corpus", "kaal.tsv", *FILES], "kaal.tsv:1: column 'text': expected a string, found nothing"),
        (["--corpus", "dubbel.tsv", *FILES], "dubbel.tsv:2: id '1' occurs twice"),
        (["--corpus", "c.tsv", *FILES],
         "c.tsv: no row can be made of 2 judgements (1 whose query is missing, 1 whose passage is missing); "
         "the first judgement is of query '0' and passage '1'; do these belong together?"),
        (["--corpus", "beir", "--split", "dev"], "beir/qrels/dev.tsv: no such file (.gz neither); there are train.tsv"),
        (["--corpus", "beir", "--qrels", "t.tsv", "--split", "dev"], "--split chooses among the judgements of a BEIR data set"),
        (["--corpus", "beir", "--triples", "t.tsv", "--split", "dev"], "--split chooses among the judgements of a BEIR data set"),
        (["--corpus", "beir", "--out", "bron.txt"], "--out bron.txt: expected a name that ends in .jsonl"),
        (["--corpus", "beir", "--out", "c.tsv.jsonl"], "c.tsv.jsonl: exists already"),
        (["--corpus", "nergens", *FILES], "nergens: no such file"),
        (["--corpus", "nergens"], "nergens: no such file or folder; expected one, or the name of a hub repository"),
    ],
)  # fmt: skip
def test_what_cannot_be_prepared_is_said_and_nothing_is_written(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    beir(tmp_path / "beir")
    for name, *lines in (("c.tsv", "x\ty\n"), ("q.tsv", "2\tvraag\n"), ("t.tsv", "0\t1\t3\n", "2\t1\t3\n"), ("leeg", "\n"),
                         ("kaal.tsv", "1\n"), ("dubbel.tsv", "1\ta\n", "1\tb\n"), ("c.tsv.jsonl", "{}\n")):  # fmt: skip
        write(tmp_path / name, *lines)
    before = sorted(tmp_path.iterdir())
    with pytest.raises((InputError, FileNotFoundError)) as error:
        data.main(["prepare", *(() if "--out" in arguments else ("--out", "bron.jsonl")), *arguments])
    assert message in str(error.value) and sorted(tmp_path.iterdir()) == before
