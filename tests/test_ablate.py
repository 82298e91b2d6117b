"""ablate.py: what counts as a false negative, by hand; the arithmetic over seeds; a run from end to end, killed and gone on with.

    python -m pytest tests/test_ablate.py
"""

import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parity.cases import write_tasks

import demo
import e5nl
from data import Row, Source
from files import InputError, write_json, write_jsonl
from tools import ablate

# --- negatives that are known to be false -----------------------------------------------------------------------------------


def test_a_chain_of_rows_is_a_document_across_sources_and_spellings():
    titles = [Row("Treinen", ("Hoeveel treinen rijden er?",), ()), Row("Fietsen", ("Waar staan fietsen?",), ())]
    answers = [Row("hoeveel  TREINEN rijden er?", ("Duizend.", "Duizend per dag."), ()), Row("Los", ("Ook los",), ())]
    document = ablate.documents([Source("answers", "retrieval", answers), Source("titles", "retrieval", titles)])
    of_trains = ["hoeveel treinen rijden er?", "duizend.", "duizend per dag."]
    assert list(document) == [*of_trains, "los", "ook los", "treinen", "fietsen", "waar staan fietsen?"]
    assert list(document.values()) == [0, 0, 0, 1, 1, 0, 2, 2]


def test_a_chain_may_be_long_and_in_any_order():
    links = np.random.default_rng(1).permutation(5000)
    document = ablate.documents([Source("chain", "retrieval", [Row(f"t{i}", (f"t{i + 1}",), ()) for i in links] + [Row("a", ("b",), ())])])
    assert set(document.values()) == {0, 1} and sum(number == document["a"] for number in document.values()) == 2


SOURCES = [
    Source("retrieval", "retrieval", []),
    Source("labels", "classification", []),
    Source("alone", "classification", [], in_batch_negatives=False),
]
ROWS = [
    Row("q0", ("p0", "other p0"), ("n0",)),
    Row("q1", ("p1",), ("p0",)),
    Row("text 2", ("sport",), ("politiek",)),
    Row("text 3", ("sport",), ("kunst",)),
    Row("q4", ("p4",), ("n4",)),
]


def test_false_negatives_by_hand():
    retrieval, labels, alone = SOURCES
    of_row = [retrieval, retrieval, labels, alone, retrieval]
    groups = [["p0", "n0"], ["p1", "other p0"], ["sport", "politiek"], ["sport", "kunst"], ["p4", "P1"]]
    document = ablate.documents([Source("all", "retrieval", [*ROWS, Row("q1", ("q4",), ())])])  # rows 1 and 4 are of one document
    kinds = ablate.false_negatives(of_row, ROWS, groups, document)
    assert kinds.tolist() == [
        [-1, 0, 0, 1, 0, 0, 0, 0, 0, 0],  # row 1's passage is row 0's other positive
        [0, 0, -1, 0, 0, 0, 0, 0, 3, 3],  # row 4's: the document, and p1 but for case
        [0, 0, 0, 0, -1, 0, 2, 0, 0, 0],  # row 3 has the same label
        [-1, -1, -1, -1, -1, -1, -1, 0, -1, -1],  # a source without in-batch negatives: its own alone
        [0, 0, 3, 0, 0, 0, 0, 0, -1, 3],  # its own negative, too, may be of the document
    ]
    of_negatives = {"same text": 100 / 37, "same label": 100 / 37, "same document": 400 / 37}
    assert ablate.shares([kinds]) == pytest.approx(of_negatives | {"rows with any": 80})


@pytest.fixture
def data(tmp_path):
    """Three sources, one in a manifest, with positives that return in other rows."""
    generator = np.random.default_rng(5)

    def text(n: int, words: int) -> str:
        return " ".join(f"woord{i}" for i in generator.choice(words, n))

    def rows(count: int, type: str, pos: int) -> list[dict]:
        made = ((text(3, 40), [text(1, 6) for _ in range(pos)], [text(1, 9), text(4, 40)]) for _ in range(count))
        return [{"query": query, "pos": pos, "neg": neg, "type": type} for query, pos, neg in made]

    write_jsonl(tmp_path / "vragen.jsonl", rows(40, "retrieval", 1))
    write_jsonl(tmp_path / "titels.jsonl.gz", rows(24, "retrieval", 2))
    write_jsonl(tmp_path / "zinnen.jsonl", rows(30, "symmetric_sts", 2))
    write_json(tmp_path / "zinnen.json", {"sources": [{"file": "zinnen.jsonl", "ratio": 0.8}]})
    return ["--data", str(tmp_path / "vragen.jsonl"), str(tmp_path / "titels.jsonl.gz"), str(tmp_path / "zinnen.json")]


@pytest.mark.parametrize("batching", ["source", "mixed"])
def test_the_batches_measured_are_those_of_the_training(tmp_path, folder, data, batching):
    settings = f"--batch-size 8 --steps 6 --negatives 2 --seed 3 --lr 1e-4 --batching {batching} --out {tmp_path / 'out'}"
    e5nl.main(["train", "--model", str(folder), *data, *settings.split()])
    lines = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    negatives = [line["rows"] * (3 * line["rows"] - 1) for line in lines]  # a row has three passages
    masked = sum(line["masked"] * count for line, count in zip(lines, negatives, strict=True)) / sum(negatives)
    found = ablate.in_batches(tmp_path / "out")
    assert found["same text"] == pytest.approx(100 * masked, rel=1e-9) and masked > 0.01 and found["same label"] == 0
    assert len({line["rows"] for line in lines}) == (2 if batching == "source" else 1)


def test_hard_negatives_are_counted_by_hand(tmp_path):
    a = [{"query": "a", "pos": ["b"], "neg": ["B", "c", "d"]}, {"query": "e", "pos": ["f"], "neg": ["g"]}, {"query": "h", "pos": ["i"]}]
    write_jsonl(tmp_path / "mined.jsonl", [*a, {"query": "g", "pos": ["e"], "neg": ["e"]}])
    write_jsonl(tmp_path / "pairs.jsonl", [{"query": "b", "pos": ["d"], "neg": ["b"], "type": "symmetric_sts"}])
    files = [str(tmp_path / name) for name in ("mined.jsonl", "pairs.jsonl")]
    write_json(tmp_path / "settings.json", {"data": files, "seed": 0})
    # B (but for case), d (by way of b) and g are of their query's document, e is its row's positive; c and the other source are not counted
    found = ablate.in_rows(tmp_path)
    hand = {"same text": 20, "same label": 0, "same document": 60, "rows with any": 75, "negatives a row": 1.25, "rows without": 25}
    assert found == pytest.approx(hand)


# --- the arithmetic ---------------------------------------------------------------------------------------------------------


def test_examples_in_docstrings():
    assert doctest.testmod(ablate).failed == 0 and doctest.testmod(ablate).attempted >= 3


def test_differences_are_paired_by_seed():
    found = {"first": [{"STS": 10.0, "mean": 1.0}, {"STS": 20.0, "mean": 2.0}, {"STS": 60.0, "mean": 6.0}],
             "other": [{"STS": 11.0, "mean": 2.0}, {"STS": 21.5, "mean": 1.0}, {"STS": 60.5, "mean": 6.0}]}  # fmt: skip
    assert ablate.scores_table(found) == [
        ["", "STS", "mean"],
        ["first", "30.00 ± 26.46", "3.00 ± 2.65"],
        ["other", "31.00 ± 26.08", "3.00 ± 2.65"],
        ["other - first", "+1.00 ± 0.50 *", "+0.00 ± 1.00"],  # of 1, 1.5 and 0.5: two standard errors are 0.58
    ]
    one_seed = ablate.scores_table({name: scores[:1] for name, scores in found.items()})
    assert one_seed[3] == ["other - first", "+1.00", "+1.00"]


# --- a run from end to end --------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, folder, data):
    """command(out): masks and mining on a small model and small data, two seeds, one task."""
    pairs = [{"sentence1": f"woord{i % 7}", "sentence2": f"woord{i % 5} woord{i}", "score": i % 4} for i in range(12)]
    (tmp_path / "tasks").mkdir()
    tasks = write_tasks(tmp_path / "tasks", {"name": "Pairs", "type": "STS", "splits": {"test": "test.jsonl"}}, test=pairs)
    options = "--seeds 2 --out".split()
    train = ["--train", "--batch-size 8 --steps 3 --lr 3e-3 --schedule decay"]
    return lambda out, *checks: [*checks, "--model", str(folder), *data, *train, "--tasks-file", str(tasks), *options, str(out)]


@pytest.fixture
def calls(monkeypatch):
    """The commands that are run, by module and verb; `calls.allowed` of them, then the run is interrupted."""
    made, call = [], demo.call

    def count(module, *words):
        if len(made) == count.allowed:
            raise KeyboardInterrupt
        made.append(f"{module.__name__} {str(words[0]).split()[0]}")
        call(module, *words)

    count.allowed, count.made = -1, made
    monkeypatch.setattr(demo, "call", count)
    return count


def test_a_killed_run_goes_on_and_trains_nothing_twice(tmp_path, command, calls, capsys):
    ablate.main(command(tmp_path / "whole", "masks", "mining"))
    printed, whole = capsys.readouterr().out, calls.made.copy()
    # masks: 2 models a seed; mining: 6 rules a seed, unless two choose the same negatives; the one model mines 2 sources by 6 rules
    assert whole.count("mine --model") == 12 and 12 <= whole.count("e5nl train") <= 16
    calls.made.clear()
    calls.allowed = 23
    with pytest.raises(KeyboardInterrupt):
        ablate.main(command(tmp_path / "killed", "masks", "mining"))
    calls.allowed = -1
    half = calls.made.copy()
    ablate.main(command(tmp_path / "killed", "masks", "mining"))
    assert len(half) == 23 and sorted(calls.made) == sorted(whole)
    for name in ("masks", "mining"):
        a, b = (json.loads((tmp_path / out / f"{name}.json").read_text()) for out in ("whole", "killed"))
        assert a == b and len(a["scores"]) == {"masks": 2, "mining": 6}[name]
    after = len(calls.made)
    ablate.main(command(tmp_path / "killed", "masks", "mining"))
    assert len(calls.made) == after
    tables = [line for line in printed.splitlines() if line.startswith("|")]
    assert [line for line in capsys.readouterr().out.splitlines()[-40:] if line.startswith("|")][-3:] == tables[-3:]
    assert "no masks - masks" in printed and "18%" not in printed and "* beyond 2 standard errors, as 30% would be" in printed


@pytest.fixture
def lab(tmp_path, command, monkeypatch):
    labs = []
    monkeypatch.setattr(ablate, "check", lambda lab, *_: labs.append(lab))
    ablate.main(command(tmp_path / "out", "masks"))
    return labs[0]


def told(model) -> tuple[dict, list[dict]]:
    """The settings that made a model, and the entries of its manifest."""
    settings = json.loads((model / "settings.json").read_text())
    return settings, json.loads(Path(settings["data"][0]).read_text())["sources"]


def test_variants_differ_in_what_they_say_and_in_nothing_else(lab):
    made = {name: {variant: told(make(1)) for variant, make in ablate.CHECKS[name](lab)[0].items()}
            for name in ("batches", "masks", "types", "negatives", "mining")}  # fmt: skip

    def changed(name: str) -> list[dict]:
        """What the settings of each variant have else than the first's."""
        (first, _), *others = made[name].values()
        assert first["seed"] == 1 and first["steps"] == 3 and first["lr"] == 3e-3
        skip = {"out", "data", "sources", "processes"}
        return [{field: other[field] for field in other if field not in skip and other[field] != first[field]} for other, _ in others]

    assert changed("batches") == [{"batching": "mixed"}, {}] and changed("masks") == [{"masks": False}]
    assert changed("types") == [{}] * 3 and changed("mining") == [{}] * 5
    assert changed("negatives") == [{"negatives": 1}, {"negatives": 3}, {"negatives": 7}]

    alike, mixed, paper = (entries for _, entries in made["batches"].values())
    every = [{"file": "vragen.jsonl"}, {"file": "titels.jsonl.gz"}, {"file": "zinnen.jsonl", "ratio": 0.8}]
    assert paper == every and alike == mixed == [entry | {"batch_factor": 1} for entry in every]
    assert [entries for _, entries in made["types"].values()] == [every, every[1:], [every[0], every[2]], every[:2]]
    assert [entries for _, entries in made["negatives"].values()] == [every] * 4  # these sources have negatives
    rules = []
    for _, (*mined, last) in made["mining"].values():
        settings = [json.loads((lab.out / "data" / f"{entry['file']}.json").read_text())["settings"] for entry in mined]
        assert last == every[2] and [Path(one["data"]).name for one in settings] == ["vragen.jsonl", "titels.jsonl.gz"]
        rules.append((settings[0]["rule"], settings[1]["margin"]))
        assert settings[0]["rule"] == settings[1]["rule"] and {one["negatives"] for one in settings} == {7}
    assert rules == [("topk", 0), ("topk-marginpos", 0.05), ("topk-percpos", 0.95), *(("topk-stdmarginpos", m) for m in (0.5, 1, 2))]


def test_initialisations_given_are_compared_by_name(tmp_path, command, folder, make_model, tokenizer, monkeypatch):
    e5nl.save(make_model(seed=2), tokenizer, tmp_path / "other")
    monkeypatch.setattr(ablate, "check", lambda lab, *_: labs.append(lab))
    labs = []
    ablate.main([*command(tmp_path / "out", "initialise"), "--against", str(tmp_path / "other")])
    variants, _ = ablate.initialise(labs[0])
    assert list(variants) == [str(folder), str(tmp_path / "other")]
    assert [told(make(0))[0]["model"] for make in variants.values()] == [str(folder), str(tmp_path / "other")]


def test_what_is_made_is_named_by_settings_and_content(tmp_path, lab):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    (tmp_path / "c").write_text("2")
    a, b, c = (ablate.name_of("words", tmp_path / name) for name in "abc")
    assert a == b != c and a != ablate.name_of("other", tmp_path / "a") != ablate.name_of("words", "1")
    assert lab.train(lab.start(0), lab.entries, lab.first, 0) != lab.train(lab.start(0), lab.entries, f"{lab.first} --no-masks", 0)


@pytest.mark.parametrize("words, message", [
    ("mask", "check 'mask' is unknown; did you mean masks?"),
    ("masks --data nergens.jsonl", "nergens.jsonl: no such file"),
    ("masks --model nergens", "nergens: no such folder; expected a model folder or the name of a hub repository (owner/name)"),
    ("masks --tasks STSS", "task 'STSS' is unknown; did you mean STS or SICK-NL-STS?"),
    ("initialise --against x", "--against names what --model is compared with; add --model"),
    ("masks --model x --against y",
     "--against is only for the check initialise; add it, or drop --against"),
])  # fmt: skip
def test_mistakes_leave_nothing(tmp_path, words, message):
    with pytest.raises((InputError, FileNotFoundError)) as raised:
        ablate.main([*words.split(), "--out", str(tmp_path / "out")])
    assert str(raised.value) == message and not (tmp_path / "out").exists()


def test_a_mistake_is_one_line():
    result = subprocess.run([sys.executable, "-m", "tools.ablate", "mask"], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "error: check 'mask' is unknown; did you mean masks?\n")


def test_a_check_that_cannot_be_made_stops_all_before_any_training(tmp_path, command, calls, folder):
    with pytest.raises(InputError, match=f"initialise: what is {folder} to be compared with"):
        ablate.main(command(tmp_path / "out", "masks", "initialise"))
    assert not calls.made


def test_a_source_with_the_name_of_a_type_is_left_out_alone(lab):
    lab.sources[0] = lab.sources[0]._replace(name="retrieval")
    assert told(ablate.types(lab)[0]["without retrieval"](1))[1] == lab.entries[1:]


def test_too_few_sources_are_told(lab):
    lab.sources, lab.entries = lab.sources[2:], lab.entries[2:]
    with pytest.raises(InputError, match="types: zinnen is all there is"):
        ablate.types(lab)
    with pytest.raises(InputError, match="zinnen: no source of type retrieval, so nothing to mine"):
        ablate.mining(lab)
