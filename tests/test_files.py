"""files.py: tables in every format, nothing half written, names of the hub, mistakes in one line.

    python -m pytest tests/test_files.py
"""

import argparse
import csv
import gzip
import io
import json
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest

import data
import files
from files import InputError


def write(path, *lines) -> str:
    content = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


GOOD = {"query": "wie", "pos": ["ik", "jij"], "neg": ["zij"], "type": "symmetric_sts", "pos_scores": [0.9, 0.8]}


def run(*arguments):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)


def test_corpora_are_read_in_every_format(tmp_path):
    texts = ["een", "twee \"woorden\",\tof drie", "é\nregel"]
    write(tmp_path / "c.txt.gz", *(text.replace("\n", " ") + "\n" for text in texts))
    assert list(files.read_texts(tmp_path / "c.txt.gz")) == [text.replace("\n", " ") for text in texts]
    tables(tmp_path, [{"zin": text, "n": n} for n, text in enumerate(texts)])
    for name in TABLES:
        assert list(files.read_texts(tmp_path / name, field="zin")) == texts, name
    with pytest.raises(InputError, match=r"c.jsonl:1: field 'text': expected a string, found nothing"):
        list(files.read_texts(tmp_path / "c.jsonl"))


TABLES = ["c.jsonl", "c.jsonl.gz", "c.parquet", "c.csv", "c.csv.gz", "c.tsv"]


def tables(folder, rows: list[dict]) -> None:
    """The same rows as JSON Lines, parquet, CSV and TSV."""
    for name in ("c.jsonl", "c.jsonl.gz"):
        write(folder / name, *rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "c.parquet", row_group_size=2)
    for name in ("c.csv", "c.csv.gz", "c.tsv"):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter="\t" if name == "c.tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
        write(folder / name, text.getvalue())


def test_tables_give_the_same_rows_whatever_their_format(tmp_path):
    rows = [{"tekst": f"regel {n}, \"x\"", "label": str(n % 3), "id": f"d{n}"} for n in range(2500)]  # more than a parquet batch
    tables(tmp_path, rows)
    for name in TABLES:
        assert [row for _, row in files.read_rows(tmp_path / name)] == rows, name
        assert [row for _, row in files.read_rows(tmp_path / name, ["id", "label"])] == [{"id": r["id"], "label": r["label"]} for r in rows]
    assert [number for number, _ in files.read_rows(tmp_path / "c.parquet")] == list(range(1, 2501))
    assert next(files.read_rows(tmp_path / "c.csv"))[0] == 2, "line 1 is the header"


def test_a_damaged_table_is_one_clear_line(tmp_path):
    tables(tmp_path, [{"zin": "x" * 9, "n": n} for n in range(5000)])
    for name in ("c.parquet", "c.csv", "c.tsv"):
        with pytest.raises(InputError, match=rf"{name}: no column 'text'; it has zin, n"):
            list(files.read_rows(tmp_path / name, ["text"]))
    with pytest.raises(InputError, match="kapot.parquet: not parquet, or damaged after row 0"):
        list(files.read_texts(write(tmp_path / "kapot.parquet", "PAR2")))
    whole = (tmp_path / "c.parquet").read_bytes()
    (tmp_path / "c.parquet").write_bytes(whole[:50] + bytes(60) + whole[110:])
    with pytest.raises(InputError, match="c.parquet: not parquet, or damaged after row"):
        list(files.read_rows(tmp_path / "c.parquet"))
    (tmp_path / "c.csv.gz").write_bytes((tmp_path / "c.csv.gz").read_bytes()[:-300])
    with pytest.raises(InputError, match=r"c.csv.gz:[0-9]+: not CSV in UTF-8 \(Compressed file ended"):
        list(files.read_rows(tmp_path / "c.csv.gz"))
    with pytest.raises(InputError, match=r"a.csv:3: expected 2 cells, as in the first line"):
        list(files.read_rows(write(tmp_path / "a.csv", "a,b\n", "1,2\n", "1\n")))
    with pytest.raises(InputError, match=r"b.csv:2: not CSV in UTF-8"):
        list(files.read_rows(write(tmp_path / "b.csv", "a,b\n", '"1"x,2\n')))
    with pytest.raises(FileNotFoundError, match="geen.csv: no such file"):
        list(files.read_rows(tmp_path / "geen.csv"))


def test_hub_names_are_files_of_the_cache(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    folder = hub("eigenaar/set", {"data/b.parquet": b"", "data/a.parquet": b"", "README.md": b"", "nl/c.validation.0.json.gz": b""})
    assert files.find_files("eigenaar/set") == [folder / "data/a.parquet", folder / "data/b.parquet"]
    assert files.find_files("eigenaar/set@main:nl/c.*.json.gz") == [folder / "nl/c.validation.0.json.gz"]
    assert files.find_files("geen.txt") == [files.Path("geen.txt")], "no hub name: the reader says what is wrong"
    with pytest.raises(InputError, match=r"eigenaar/set:\*.csv: no file '\*.csv' there; look at https://huggingface.co/datasets/eigenaar/set"):
        files.find_files("eigenaar/set:*.csv")
    with pytest.raises(InputError, match="niemand/niets: neither here nor to be had from the hub"):
        files.find_files("niemand/niets")
    (tmp_path / "eigenaar").mkdir()
    assert files.find_files("eigenaar/set") == [files.Path("eigenaar/set")], "a folder of the owner's name: a local path with a slip"


def test_files_are_whole_or_not_there(tmp_path):
    def rows():
        yield {"query": "a"}
        raise RuntimeError("in the middle")

    files.write_jsonl(tmp_path / "uit.jsonl.gz", [GOOD])
    before = (tmp_path / "uit.jsonl.gz").read_bytes()
    with pytest.raises(RuntimeError):
        files.write_jsonl(tmp_path / "uit.jsonl.gz", rows())
    with pytest.raises(RuntimeError), files.new_folder(tmp_path / "map") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["uit.jsonl.gz"]
    assert (tmp_path / "uit.jsonl.gz").read_bytes() == before and list(files.read_jsonl(tmp_path / "uit.jsonl.gz")) == [(1, GOOD)]
    files.write_jsonl(tmp_path / "uit.jsonl.gz", [GOOD])
    assert (tmp_path / "uit.jsonl.gz").read_bytes() == before, "no time stamp inside"


def test_an_output_folder_is_replaced_only_when_asked(tmp_path):
    for content, overwrite in (("een", False), ("twee", True)):
        with files.new_folder(tmp_path / "map", overwrite) as folder:
            (folder / content).touch()
            (folder / "config.json").touch()
    assert sorted(path.name for path in (tmp_path / "map").iterdir()) == ["config.json", "twee"] and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="map: exists already; .*--overwrite"), files.new_folder(tmp_path / "map"):
        pass


def test_what_is_no_model_folder_is_never_replaced(tmp_path):
    (tmp_path / "scriptie.txt").touch()
    for path in (tmp_path, tmp_path / "scriptie.txt"):
        with pytest.raises(InputError, match="is no model folder, so --overwrite does not replace it"), files.new_folder(path, True):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["scriptie.txt"]


@pytest.mark.parametrize(("text", "good"), [("0", True), ("0.5", True), ("1", True), ("1.01", False), ("-1", False), ("nan", False)])
def test_numbers_on_the_command_line(text, good):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--x", type=files.real_number(0, 1))
    if good:
        assert parser.parse_args(["--x", text]).x == float(text)
    else:
        with pytest.raises(argparse.ArgumentError, match="expected a number from 0 to 1"):
            parser.parse_args(["--x", text])


def test_other_mistakes_with_files_are_one_line_too(tmp_path):
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert data.read_source(tmp_path / "bom.jsonl").rows[0].query == "wie", "a byte order mark is no part of the text"
    for name, content, message in (
        ("diep.jsonl", "[" * 100_000, "diep.jsonl:1: no JSON that can be read"),
        ("lang.jsonl", '{"query": ' + "9" * 5000 + "}", "lang.jsonl:1: no JSON that can be read"),
        ("soort.jsonl", '{"query": "a", "pos": ["b"], "type": ["x"]}', "soort.jsonl:1: type ['x'] is unknown"),
    ):
        (tmp_path / name).write_text(content)
        result = run("data.py", "check", tmp_path / name)
        assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1
    result = run("data.py", "check", tmp_path)
    assert (result.returncode, result.stderr) == (2, f"error: {tmp_path}: is a folder; expected a file\n")
    result = run("e5nl.py", "init", "--tokenizer", "demo/tokenizer.json.xz", "--out", tmp_path / "bom.jsonl" / "model")
    assert result.returncode == 2 and result.stderr == f"error: {tmp_path}/bom.jsonl/model: Not a directory\n"


def test_a_terminated_run_leaves_nothing(tmp_path):
    script = f"""
import files, os, signal, time
def main():
    with files.new_folder({str(tmp_path / "map")!r}) as folder:
        (folder / "half").touch()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
files.cli(main)
"""
    assert run("-c", script).returncode == 143 and list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_success():
    command = f"{sys.executable} -c 'import files; files.cli(lambda: [print(\"x\" * 9999) for _ in range(999)])' | head -1"
    result = subprocess.run(["bash", "-c", f"{command}; echo status ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert result.stdout.endswith("status 141\n") and "Traceback" not in result.stderr
