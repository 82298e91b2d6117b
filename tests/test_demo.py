"""demo.py: the pieces that are its own, and the demo from random weights. `.ci/run` runs it from
real ones; its data is tested in test_demo_data.py.

    python -m pytest tests/test_demo.py
"""

import doctest
import subprocess
import sys

import pytest

import demo
import report
from data import read_source
from files import write_jsonl
from tools import unpack


def test_examples_in_docstrings():
    result = doctest.testmod(demo)
    assert result.failed == 0 and result.attempted == 1


def test_contradictions_become_the_negatives_of_their_rows(tmp_path):
    texts = ["Tom is niet blij.", "Ja.", "Zij heeft geen auto."]
    rows = [{"query": text, "pos": ["x"], "neg": [], "type": "symmetric_sts"} for text in texts]
    write_jsonl(tmp_path / "a.jsonl", rows)
    demo.add_contradictions(tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz")
    source = read_source(tmp_path / "b.jsonl.gz")
    negatives = [("Tom is blij.",), (), ("Zij heeft een auto.",)]
    assert [row.neg for row in source.rows] == negatives and source.type == "symmetric_sts"

    paraphrases = demo.DEMO / "train" / f"{demo.PARAPHRASES}.jsonl.gz"
    made = [demo.contradiction(row.query) for row in read_source(paraphrases).rows]
    assert sum(map(bool, made)) > len(made) / 2


def test_commands_are_printed_as_a_shell_takes_them(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "een map"
    folder.mkdir()
    for name in ("b c.txt", "a.txt"):
        (folder / name).touch()
    (tmp_path / "echo.py").write_text("import sys; print(sys.argv[1:])")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    demo.call("echo.py", "--data", folder / "*.txt", "--top 3 --out", folder / "uit")
    files = [str(folder / name) for name in ("a.txt", "b c.txt")]
    words = ["--data", *files, "--top", "3", "--out", str(folder / "uit")]
    printed, given = capfd.readouterr().out.splitlines()
    assert printed == f"$ python echo.py --data '{folder}/'*.txt --top 3 --out '{folder}/uit'"
    assert given == str(words)
    command = printed.replace("$ python echo.py", "printf '%s\\n'")
    shell = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert shell.stdout.splitlines() == words

    # What a command prints may go to a file; its failure is the caller's.
    (tmp_path / "fail.py").write_text("print(1); exit(3)")
    with open(tmp_path / "log", "w") as log, pytest.raises(SystemExit, match="3"):
        demo.call("fail.py", log=log)
    assert (tmp_path / "log").read_text() == "$ python fail.py \n1\n"


def test_a_model_that_does_not_exist_costs_nothing(tmp_path):
    words = ["--model", str(tmp_path / "nergens"), "--out", str(tmp_path / "out")]
    command = [sys.executable, demo.__file__, *words]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'nergens'}: no such folder; expected a ")
    assert not (tmp_path / "out").exists()


def test_the_verdict_names_what_changed():
    scores = [{"A": 0.5, "B": 0.6, "C": 0.7}, {"A": 0.555, "B": 0.59, "C": 0.7}]
    scores.append({"A": 0.56, "B": 0.59, "C": 0.7025})
    line, _, limits = demo.verdict(*scores).strip().partition("\n")
    assert "A most for the better (+5.50) and B least (-1.00)" in line
    assert "with mined negatives 2 of 3 scores are higher" in line
    assert limits.startswith("It cannot show")


def test_the_time_left_is_in_proportion(monkeypatch, capsys):
    times, began = iter((10, 13, 19, 88, 90)), {}
    monkeypatch.setattr(demo.time, "perf_counter", lambda: next(times))
    for stage in ("base", "trim", "train", "mine"):
        demo.begin(stage, "something", began)
    assert demo.durations(began) == {"base": 3, "trim": 6, "train": 69, "mine": 2}
    assert sum(demo.STAGES.values()) == 100
    lines = capsys.readouterr().out.strip().split("\n\n")
    # 23 parts of 100 took 78 seconds.
    assert "left" not in lines[0] and lines[3].endswith("(about 261 s left in all)")


def test_without_the_package_the_demo_starts_from_random_weights(
    tmp_path, monkeypatch, in_process, capsys
):
    monkeypatch.setattr(unpack, "packaged", lambda: None)
    out = tmp_path / "demo"
    demo.main(["--quick", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "is not installed: random weights instead" in printed
    names = [f"random-{stage}" for stage in ("untrimmed", "trimmed", "trained", "mined")]
    for name in names:
        results = report.read_results(out / "results" / name)
        assert set(results) == set(demo.QUICK_TASKS.split())
    header = next(line for line in printed.splitlines() if line.startswith("| task"))
    assert header.split()[5:-1:2] == [demo.PUBLISHED[0], *names, demo.PUBLISHED[1]]
