"""data.py: sources with loud errors, batches of one source, retrieval data as training rows.

    python -m pytest tests/test_data.py
"""

import doctest
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


# --- training sources -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["een.jsonl", "een.jsonl.gz"])
def test_a_source_is_read_as_written(tmp_path, name):
    path = write(tmp_path / name, "\ufeff", GOOD, "\n", {"query": "wat", "pos": ["dat"]})
    rows = [Row("wie", ("ik", "jij"), ("zij",)), Row("wat", ("dat",), ())]
    assert data.read_source(path) == Source("een", "symmetric_sts", rows, True, 0.5, None)


def test_flag_embeddings_normal_is_retrieval(tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD | {"type": "normal"}, GOOD | {"type": "retrieval"})
    assert data.read_source(path).type == "retrieval"


PAIR = '"query": "a", "pos": ["b"]'
BAD_ROWS = [  # a second line of a source, what is said of it
    ('{"pos": ["a"]}', "'query' is null"),
    ('{"query": " "}', "'query' is \" \""),
    ('{"query": 1e400, "pos": ["a"]}', "'query' is Infinity"),
    ('{"query": "a", "pos": []}', "'pos' is []; expected a list of one or more texts"),
    ('{"query": "a"}', "'pos' is []"),
    ('{"query": "a", "pos": "b"}', "'pos' is \"b\""),
    (f'{{{PAIR}, "neg": [3]}}', "'neg' is [3]; expected a list of texts"),
    (f'{{{PAIR}, "neg": [""]}}', "'neg' is [\"\"]"),
    (f'{{{PAIR}, "type": "quiz"}}', "type 'quiz' is unknown; expected one of retrieval, "),
    (f'{{{PAIR}, "type": ["x"]}}', "type ['x'] is unknown"),
    (f'{{{PAIR}, "type": "symmetric_class"}}', "FlagEmbedding's; write symmetric_clustering"),
    (f'{{{PAIR}, "type": "retrieval"}}', "type 'retrieval', after rows of type 'symmetric_sts'"),
    ('{"query": "a", "pos"', "not JSON (Expecting ':' delimiter at column 21)"),
]


@pytest.mark.parametrize(("line", "message"), BAD_ROWS, ids=[message[:40] for _, message in BAD_ROWS])
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, message):
    path = write(tmp_path / "bron.jsonl", GOOD, line)
    with pytest.raises(InputError, match=re.escape("bron.jsonl:2: ") + ".*" + re.escape(message)):
        data.read_source(path)


def test_the_type_of_a_manifest_goes_before_that_of_the_rows(tmp_path):
    write(tmp_path / "a.jsonl", GOOD, GOOD | {"type": "symmetric_class"})
    manifest = {"sources": [{"file": "a.jsonl", "type": "classification"}]}
    assert data.read_sources([write(tmp_path / "m.json", manifest)])[0].type == "classification"


def test_a_manifest_sets_what_a_row_cannot(tmp_path):
    write(tmp_path / "a.jsonl", *[{"query": f"q{i}", "pos": ["p"]} for i in range(20)])
    write(tmp_path / "b.jsonl", GOOD)
    path = write(
        tmp_path / "m.json",
        {
            "sources": [
                {"file": "a.jsonl", "ratio": 0.75, "batch_factor": 0.25},
                {"file": "b.jsonl", "in_batch_negatives": False, "negatives": 3},
            ]
        },
    )
    a, b = data.read_sources([path], seed=3)
    assert (len(a.rows), a.batch_factor, a.in_batch_negatives, a.negatives) == (15, 0.25, True, None)
    assert (b.in_batch_negatives, b.negatives, b.batch_factor) == (False, 3, 0.5)
    numbers = [int(row.query[1:]) for row in a.rows]
    assert numbers == sorted(numbers), "file order is kept"
    assert a.rows == data.read_sources([path], seed=3)[0].rows != data.read_sources([path], seed=4)[0].rows


BAD_MANIFESTS = [  # an entry, or other content; message
    ({"file": "../geheim.jsonl"}, "'../geheim.jsonl' is not a file name inside"),
    ({"file": "/etc/passwd"}, "'/etc/passwd' is not a file name inside"),
    ({"file": "b.jsonl", "ratio": 0}, "ratio is 0; expected a number above 0"),
    ({"file": "b.jsonl", "ratio": True}, "ratio is true; expected"),
    ({"file": "b.jsonl", "in_batch_negatives": 1}, "in_batch_negatives is 1; expected true or false"),
    ({"file": "b.jsonl", "rati": 1}, "'rati' is unknown; it may have file, type, ratio"),
    ({"ratio": 1}, "every source needs 'file'"),
    (json.dumps(GOOD), "a .json file is a manifest; expected {"),
    (f"{json.dumps(GOOD)}\n" * 2, "m.json:2: not JSON (Extra data at column 1); a .json file is a manifest"),
]


@pytest.mark.parametrize(("entry", "message"), BAD_MANIFESTS)
def test_a_bad_manifest_is_refused(tmp_path, entry, message):
    write(tmp_path / "b.jsonl", GOOD)
    path = write(tmp_path / "m.json", entry if isinstance(entry, str) else {"sources": [entry]})
    with pytest.raises(InputError, match=re.escape(message)):
        data.read_sources([path])


def test_a_source_given_twice_is_refused(tmp_path):
    path = write(tmp_path / "b.jsonl", GOOD)
    with pytest.raises(InputError, match="source 'b' is given more than once"):
        data.read_sources([path, path])


def test_check_prints_what_a_run_would_see_or_one_line(tmp_path):
    path = write(tmp_path / "zinnen.jsonl", *[GOOD | {"query": f"vraag {i}"} for i in range(11)])
    out = run("data.py", "check", path, "--batch-size", 8).stdout
    assert out.splitlines()[1].split()[:6] == ["zinnen", "symmetric_sts", "11", "4", "2", "1.0"]
    assert "query: vraag 0" in out and "+ query: ik" in out and "- query: zij" in out
    result = run("data.py", "check", write(tmp_path / "bron.jsonl", {"query": "a", "pos": []}))
    assert (result.returncode, result.stdout) == (2, "") and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {tmp_path}/bron.jsonl:1: 'pos' is []")


# --- batches ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("rows", "sizes"), [([10, 7], [4, 3]), ([3, 8, 1], [4, 4, 1]), ([0], [2])])
def test_counted_batches_are_the_planned_ones(rows, sizes):
    planned = Counter(int(sources[0]) for sources, _ in data.plan_batches(rows, sizes, seed=1, epoch=2))
    assert data.count_batches(rows, sizes) == [planned[source] for source in range(len(rows))]


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


# --- texts and judgements ---------------------------------------------------------------------------


def test_beir_layout(tmp_path):
    (tmp_path / "qrels").mkdir()
    documents = {"_id": 1, "title": "Titel", "text": "tekst "}, {"_id": "2", "title": "", "text": " los "}
    write(tmp_path / "corpus.jsonl.gz", *documents)
    write(tmp_path / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n", "a\t1\t2\n", "a\t2\t0\n")
    assert data.read_texts_by_id(tmp_path, "corpus.jsonl") == {"1": "Titel tekst", "2": " los "}
    assert data.read_qrels(tmp_path) == {"a": {"1": 2, "2": 0}}
    with pytest.raises(FileNotFoundError, match=r"dev.tsv: no such file \(.gz neither\); there are test.tsv"):
        data.read_qrels(tmp_path, "dev")


TEXTS = [  # file, its lines, {id: text}
    ("a.jsonl", [{"_id": "8", "text": "y", "id": "no"}], {"8": "y"}),
    ("a.jsonl", [{"id": 8, "text": "y", "title": None}, '{"_id": "9", "title": NaN, "text": "z"}'], {"8": "y", "9": "z"}),
    ("a.csv", ["title,text,_id\n", '"Kop, ja",y,01\n'], {"01": "Kop, ja y"}),
    ("a.tsv", ["text\tid\n", '"y\t1\n', 'een "half\t2\n'], {"1": '"y', "2": 'een "half'}),
    ("a.tsv", ["D1\t\"y\n", "2\tz\tmet tab\n", "3\t\n"], {"D1": '"y', "2": "z\tmet tab", "3": ""}),
]


@pytest.mark.parametrize(("name", "lines", "texts"), TEXTS)
def test_texts_by_id(tmp_path, name, lines, texts):
    assert data.texts_by_id([write(tmp_path / name, *lines)]) == texts


def test_only_the_columns_of_texts_and_judgements_are_read(tmp_path):
    when = np.array(["2020-01-01"], "datetime64[ns]")
    texts = write_parquet(tmp_path / "c.parquet", id=[7], text=["x"], title=[float("nan")], when=when)
    assert data.texts_by_id([texts]) == {"7": "x"}
    columns = {"query-id": ["a"], "corpus-id": [1], "score": [2.0], "when": when}
    assert data.qrels_of([write_parquet(tmp_path / "q.parquet", **columns)]) == {"a": {"1": 2}}


HEADER = "query-id\tcorpus-id\tscore\n"
JUDGED = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}
QREL_FILES = [
    ("a.tsv", [HEADER, "q1\td1\t2\n", "q1\td2\t0\n", "q2\td1\t-1\n"]),
    ("a.tsv", ["corpus-id\tscore\tquery-id\n", "d1\t2\tq1\n", "d2\t0\tq1\n", "d1\t-1\tq2\n"]),
    ("a.tsv", ["q1\td1\t2\n", "q1\td2\t0\n", "q2\td1\t-1\n"]),
    ("a.tsv", ["q1\t0\td1\t2\n", "q1\t0\td2\t0\n", "q2\t0\td1\t-1\n"]),
    ("a.txt", ["q1 0 d1 2\n", "q1 0  d2 0\n", "q2 Q0 d1 -1\n"]),
    ("a.csv", ["score,query-id,corpus-id\n", "2,q1,d1\n", "0,q1,d2\n", "-1,q2,d1\n"]),
    ("a.jsonl", [{"query-id": q, "corpus-id": d, "score": s} for q, some in JUDGED.items() for d, s in some.items()]),
]


@pytest.mark.parametrize(("name", "lines"), QREL_FILES)
def test_judgements_are_read_by_the_names_of_their_columns_or_as_trec_writes_them(tmp_path, name, lines):
    assert data.qrels_of([write(tmp_path / name, *lines)]) == JUDGED


def judgement(**changes) -> list[dict]:
    return [{"query-id": "b", "corpus-id": "2", "score": 1} | changes]


BAD_TABLES = [  # reader, file, lines, message
    (data.texts_by_id, "a.jsonl", [{"docid": "8", "text": "y"}], "a.jsonl:1: no column '_id' or 'id'; the row has docid"),
    (data.texts_by_id, "a.jsonl", [{"_id": None, "text": "y"}], "a.jsonl:1: expected an id, a text or a whole number, found null"),
    (data.texts_by_id, "a.jsonl", [{"_id": [1], "text": "y"}], "a.jsonl:1: expected an id, a text or a whole number, found [1]"),
    (data.texts_by_id, "a.jsonl", [{"_id": 1.5, "text": "y"}], "a.jsonl:1: expected an id, a text or a whole number, found 1.5"),
    (data.texts_by_id, "a.jsonl", [{"_id": 1, "text": None}], "a.jsonl:1: column 'text': expected a string, found nothing"),
    (data.texts_by_id, "a.jsonl", [{"_id": 1, "text": "y", "title": 3}], "a.jsonl:1: title: expected a string, found int"),
    (data.texts_by_id, "a.jsonl", [{"_id": "1", "text": "x"}, {"_id": 1, "text": "y"}], "a.jsonl:2: id '1' occurs twice"),
    (data.texts_by_id, "a.tsv", ["pid\tpassage\n", "1\tx\n"], "a.tsv:1: no column '_id' or 'id'; the row has pid, passage"),
    (data.texts_by_id, "a.tsv", ["1\t\"een\n", 'twee"\n'], "a.tsv:2: expected id<TAB>text, found 'twee\"'"),
    (data.qrels_of, "a.tsv", ["qid\tpid\tgrade\n", "1\t2\t1\n"], "a.tsv:1: no column 'query-id'; the row has qid, pid"),
    (data.qrels_of, "a.tsv", ["1\t2\t1\n", "1\t2\tja\n"], "a.tsv:2: expected query-id, corpus-id and a whole number, found '1 | 2 | ja'"),
    (data.qrels_of, "a.txt", ["1 2\n"], "a.txt:1: expected query-id, corpus-id and a whole number, found '1 | 2'"),
    (data.qrels_of, "a.jsonl", judgement(score=1.5), "a.jsonl:1: expected query-id, corpus-id and a whole number, found 'b | 2 | 1.5'"),
    (data.qrels_of, "a.jsonl", judgement(score=10**400), "a.jsonl:1: expected query-id, corpus-id and a whole number, found"),
    (data.qrels_of, "a.jsonl", ['{"query-id": "b", "corpus-id": "2", "score": Infinity}'], "a.jsonl:1: cannot be read"),
    (data.qrels_of, "a.jsonl", ['{"query-id": "b", "corpus-id": "2", "score": NaN}'], "a.jsonl:1: expected query-id"),
    (data.qrels_of, "a.jsonl", judgement(**{"corpus-id": ["2"]}), "a.jsonl:1: expected an id"),
    (data.qrels_of, "a.tsv", [HEADER], "a.tsv: no relevance judgements; expected query-id, corpus-id and score"),
    (data.triples_of, "a.tsv", ["1\t2\n"], "a.tsv:1: expected query<TAB>positive<TAB>negative, found '1\\t2'"),
    (data.triples_of, "a.tsv", ["qid\tpos\tneg\n"], "a.tsv:1: expected query<TAB>positive<TAB>negative, found 'qid"),
    (data.triples_of, "a.tsv", ["\n"], "a.tsv: no triples; expected"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "name", "lines", "message"), BAD_TABLES, ids=[case[3][:50] for case in BAD_TABLES])
def test_a_mistake_in_texts_or_judgements_is_named_by_its_line(tmp_path, read, name, lines, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read([write(tmp_path / name, *lines)])


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


def test_a_corpus_is_not_held_in_memory(tmp_path):
    """Texts that nobody judged are let go: of 20 MB the two wanted ones are kept."""
    path = write(tmp_path / "c.tsv", *(f"{i}\t{str(i % 10) * 10_000}\n" for i in range(2000)))
    tracemalloc.start()
    texts = data.texts_by_id([path], {"7", "1998"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts == {"7": "7" * 10_000, "1998": "8" * 10_000} and peak < 1_000_000


FILES = ["--queries", "q.tsv", "--triples", "t.tsv"]
CANNOT = [
    (["--corpus", "c.tsv"], "--corpus c.tsv is no BEIR folder or repository; give --queries and --qrels (or --triples) too"),
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
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), CANNOT)
def test_what_cannot_be_prepared_is_said_and_nothing_is_written(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    beir(tmp_path / "beir")
    for name, text in (("c.tsv", "9\ty"), ("q.tsv", "2\tvraag"), ("t.tsv", "0\t1\t3\n2\t1\t3"), ("c.tsv.jsonl", "{}")):
        write(tmp_path / name, text + "\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises((InputError, FileNotFoundError), match=re.escape(message)):
        data.main(["prepare", *(() if "--out" in arguments else ("--out", "bron.jsonl")), *arguments])
    assert sorted(tmp_path.iterdir()) == before
