"""files.py: tables mean the same in every format, output is complete or absent, mistakes are lines.

python -m pytest tests/test_files.py
"""

import argparse
import datetime
import decimal
import gzip
import json
import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors

import files
from files import InputError

GOOD = {
    "query": "wie",
    "pos": ["ik", "jij"],
    "neg": ["zij"],
    "type": "symmetric_sts",
    "pos_scores": [0.9, 0.8],
}


def write(path, *lines) -> str:
    """A file of texts as they are, and of objects as lines of JSON; `.gz` or not."""
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    content = text.encode("utf-8", "surrogateescape")  # "\udce9" writes the byte e9
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def write_parquet(path, **columns) -> str:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return str(path)


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


# --- tables ---------------------------------------------------------------------------------------

CSV = 'tekst,id\n"zei ""ja""",d0\n"""begin, é",d1\n,d2\n'
TSV = 'tekst\tid\nzei "ja"\td0\n"begin, é\td1\n\td2\n'
ROWS = [
    {"tekst": 'zei "ja"', "id": "d0"},
    {"tekst": '"begin, é', "id": "d1"},
    {"tekst": "", "id": "d2"},
]
TABLES = {"c.jsonl": ROWS, "c.jsonl.gz": ROWS, "c.csv": [CSV], "c.csv.gz": [CSV], "c.tsv": [TSV]}


@pytest.mark.parametrize("name", [*TABLES, "c.parquet"])
def test_a_table_has_the_same_rows_in_every_format(tmp_path, name):
    path, texts = tmp_path / name, [row["tekst"] for row in ROWS]
    if name in TABLES:
        write(path, *TABLES[name])
    else:
        write_parquet(path, tekst=texts, id=[row["id"] for row in ROWS])
    first = 2 if "sv" in name else 1  # the header is a line
    assert list(files.read_rows(path)) == list(enumerate(ROWS, first))
    assert list(files.read_texts(path, field="tekst")) == texts
    _, row = next(files.read_rows(path, [("_id", "id"), "tekst"], ["absent"]))
    assert row == ROWS[0]
    missing = rf"{name}.*: no column 'text' or 'zin'; the row has tekst, id"
    with pytest.raises(InputError, match=missing):
        list(files.read_rows(path, [("text", "zin")]))


def test_rows_of_parquet_are_numbered_over_its_parts(tmp_path):
    path = write_parquet(tmp_path / "c.parquet", n=range(2500), x=[0] * 2500)
    rows = [(number, row["n"]) for number, row in files.read_rows(path, ["n"])]
    assert rows == [(n + 1, n) for n in range(2500)]


def test_text_files_and_quoted_line_ends(tmp_path):
    lines = ["een\r\n\n", "\ttwee 'drie'\r\n\n", "vier"]
    path = write(tmp_path / "c.txt.gz", "\ufeff", *lines)
    texts = ["een", "\ttwee 'drie'", "vier"]
    assert list(files.read_texts(path)) == texts, "a byte order mark and blank lines are no text"
    blank = [text for _, text in files.read_lines(path, blank=True)]
    assert blank == ["een", "", texts[1], "", "vier"]
    content = '\ufeffid,text\n1,"een\ntwee ""drie"""\n\n2,vier\n'
    path = write(tmp_path / "c.csv", content)
    rows = [(n, row["text"]) for n, row in files.read_rows(path)]
    assert rows == [(3, 'een\ntwee "drie"'), (5, "vier")]


ROW = '{"title": NaN, "scores": [0.5, NaN], "a": {"en": "b"}, "on": true, "no": null, "n": 3}'


def test_nested_and_missing_values_are_those_of_json(tmp_path):
    """pandas writes NaN for a missing value, in JSON Lines and in parquet."""
    row = json.loads(ROW)
    jsonl = write(tmp_path / "a.jsonl", ROW)
    parquet = write_parquet(tmp_path / "a.parquet", **{name: [row[name]] for name in row})
    expected = json.loads(ROW.replace("NaN", "null"))
    for path in (jsonl, parquet):
        assert list(files.read_rows(path)) == [(1, expected)]


NOT_JSON = [  # a value of a column, what is said of it
    (datetime.datetime(2020, 1, 1), "JSON has no value for datetime.datetime"),
    (decimal.Decimal("1.5"), "JSON has no value for Decimal"),
    (b"x", "JSON has no value for b'x'"),
    ({"when": datetime.date(2020, 1, 1)}, "JSON has no value for datetime.date"),
    ([0.5, -math.inf], "JSON has no value for -inf"),
]


@pytest.mark.parametrize("value, message", NOT_JSON)
def test_what_json_has_no_value_for_is_named_if_its_column_is_read(tmp_path, value, message):
    path = write_parquet(tmp_path / "c.parquet", text=["a", "b"], x=[None, value])
    with pytest.raises(InputError, match=f"c.parquet:2: .*column 'x': {message}"):
        list(files.read_rows(path))
    assert list(files.read_texts(path)) == ["a", "b"]


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES = [  # file, content, message after the name of the file
    ("a.jsonl", '{"a"', ":1: not JSON (Expecting ':' delimiter at column 5)"),
    ("a.jsonl", "{}\n[]", ":2: expected a JSON object {…}, found []"),
    ("a.jsonl", '{"a": Infinity}', ":1: cannot be read (ValueError: Infinity is no number)"),
    ("a.jsonl", "[" * 100_000, ":1: cannot be read (RecursionError: "),
    ("a.jsonl", '{"a": ' + "9" * 5000 + "}", ":1: cannot be read (ValueError: "),
    ("a.jsonl", '{"a": "\\uD83d"}', ":1: half of a surrogate pair"),
    ("a.jsonl", "{}\ncaf\udce9", ":2: byte 0xe9 at column 4 is not UTF-8; convert the file"),
    ("a.jsonl", "\n", ": no rows; expected JSON Lines, one object per line"),
    ("a.json", '{\n"a" 1}', ":2: not JSON (Expecting ':' delimiter at column 5)"),
    ("a.json", "[]", ": expected a JSON object {…}, found []"),
    ("a.csv", "a,b\n1,2\n1", ":3: found 1 cells, expected 2 as in the first line"),
    ("a.csv", 'a,b\n"1"x,2', ":2: cannot be read (Error: ',' expected after '\"')"),
    ("a.csv", 'a,b\n1,"een\ntwee', ":2: cannot be read (Error: unexpected end of data)"),
    ("a.csv", "a,b\n1,caf\udce9", ":2: byte 0xe9 at column 6 is not UTF-8"),
    ("a.csv", "a,a\n1,2", ":1: two columns have the same name; found a, a"),
    ("a.tsv", 'a\tb\n1\t"een\ntwee"', ":3: found 1 cells, expected 2 as in the first line; a cell"),
    ("a.tsv", 'a\tb\n"een\ntwee"\t2', ":2: found 1 cells, expected 2"),
    ("a.parquet", "PAR2", ": damaged, or not what its name says ("),
]


@pytest.mark.parametrize(("name", "content", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_its_place(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=re.escape(name + message)) as error:
        files.read_json(path) if name == "a.json" else list(files.read_rows(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["c.parquet", "c.csv.gz", "cut.csv.gz"])
def test_a_damaged_file_is_one_line(tmp_path, name):
    path = tmp_path / name
    numbers = [str(n) for n in range(5000)]
    write_parquet(path, n=numbers) if "parquet" in name else write(path, "\n".join(numbers))
    content = path.read_bytes()
    damaged = content[:50] + bytes(60) + content[110:]
    path.write_bytes(content[:-300] if name == "cut.csv.gz" else damaged)
    with pytest.raises(InputError, match=rf"{name}.*: damaged, or not what its name says"):
        list(files.read_rows(path))


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.parquet"])
def test_what_is_no_file_is_named(tmp_path, name):
    """A pipe could be read only once."""
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        list(files.read_texts(path))
    os.mkfifo(path)
    for other, kind in ((path, "a pipe or a device"), (tmp_path, "a folder")):
        with pytest.raises(InputError, match=f"{other.name}: is {kind}; expected a file"):
            list(files.read_texts(other))


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.txt"])
def test_gzip_under_another_name_is_read_as_gzip(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"een\ntwee\n"))
    assert list(files.read_lines(path)) == [(1, "een"), (2, "twee")]


def test_a_bad_byte_in_parquet_is_named_by_its_column(tmp_path):
    bad = pyarrow.array([b"goed", b"caf\xe9"]).view(pyarrow.string())
    path = write_parquet(tmp_path / "c.parquet", text=["a", "b"], x=bad)
    with pytest.raises(InputError, match="c.parquet: column 'x': byte 0xe9 at column 4 is not UTF"):
        list(files.read_rows(path))


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), OSError("x")])
def test_what_python_raises_while_a_file_is_read_gets_its_place(error):
    with pytest.raises(InputError, match="^map/a.json:7: .*x"), files.reading("map/a.json", 7):
        raise error
    for other in (InputError("mine"), FileNotFoundError("a: no such file"), KeyboardInterrupt()):
        with pytest.raises(type(other)) as raised, files.reading("map"):
            raise other
        assert raised.value is other


def test_a_fault_of_the_reader_of_rows_is_not_taken_for_one_of_the_file(tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(KeyError):
        for _, row in files.read_rows(path):
            row["fault"]


def test_help_shows_the_defaults_that_there_are():
    parser = argparse.ArgumentParser(formatter_class=files.ShowDefaults)
    parser.add_argument("--zero", default=0, help="a number")
    parser.add_argument("--none", help="a name")
    parser.add_argument("--switch", action="store_true", help="a switch")
    shown = [re.split("  +", line)[-1] for line in parser.format_help().splitlines()[-3:]]
    assert shown == ["a number (default: 0)", "a name", "a switch"]


def test_numbers_on_the_command_line():
    number = files.real_number(0, 1)
    assert [number(text) for text in ("0", "0.5", "1")] == [0, 0.5, 1]
    for text in ("1.01", "-1", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a number from 0 to 1"):
            number(text)


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("raise files.InputError('a.jsonl:3: wrong')", 2, "error: a.jsonl:3: wrong\n"),
        ("open('absent')", 2, "error: absent: No such file or directory\n"),
        ("raise OSError(28, 'Disk is full')", 2, "error: Disk is full\n"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
        # A fault of the program is not made to look like the user's
        ("{}['fault']", 1, "Traceback"),
    ],
)
def test_a_script_ends_with_one_line_and_a_status(fault, status, said):
    result = run("-c", f"import files\ndef main():\n    {fault}\nfiles.cli(main)")
    assert result.returncode == status and result.stderr.startswith(said)
    assert status == 1 or result.stderr == said


def test_a_closed_pipe_is_no_success():
    script = 'import files; files.cli(lambda: [print("x" * 9999) for _ in range(999)])'
    command = f"{sys.executable} -c '{script}' | head -1; echo status ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stdout.endswith("status 141\n") and "Traceback" not in result.stderr


# --- output ---------------------------------------------------------------------------------------


def test_files_are_complete_or_absent(tmp_path):
    def rows():
        yield {"query": "a"}
        raise RuntimeError("in the middle")

    path = tmp_path / "uit.jsonl.gz"
    files.write_jsonl(path, [GOOD])
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        files.write_jsonl(path, rows())
    with pytest.raises(RuntimeError), files.new_folder(tmp_path / "map") as folder:
        (folder / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before
    assert list(files.read_jsonl(path)) == [(1, GOOD)]
    files.write_jsonl(path, [GOOD])
    assert path.read_bytes() == before, "no time stamp inside"


def full_safetensors(path):
    # It renames what it writes, so it cannot be given /dev/full; this is what it says
    reason = "Error while serializing: I/O error: No space left on device (os error 28)"
    raise safetensors.SafetensorError(reason)


FULL = {  # /dev/full answers every write with ENOSPC
    "text": lambda path: open("/dev/full", "w", 1).write("x\n"),
    "numpy": lambda path: np.zeros(10_000).tofile("/dev/full"),
    "safetensors": full_safetensors,
    "a file inside": lambda path: files.write_jsonl(path / "a", map(full_safetensors, "a")),
}


@pytest.mark.parametrize("writer", FULL)
def test_a_full_disk_is_one_line_with_the_file_and_what_is_free(tmp_path, writer):
    said = r"uit: No space left on device: [\d,]+ MB are free, and it needs more"
    with pytest.raises(InputError, match=f"^{tmp_path}/{said}$"):
        with files.new_folder(tmp_path / "uit") as folder:
            FULL[writer](folder)
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "map").mkdir()
    (tmp_path / "tekst").touch()
    for name, message in {
        "map": "is a folder; expected the name of a file to write",
        "tekst": "exists already; choose another name, or add --overwrite",
        "tekst/uit": f"{tmp_path}/tekst is no folder that you may write to",
    }.items():
        with pytest.raises(InputError, match=f"{name}: {message}"):
            files.refuse_existing(tmp_path / name, overwrite=name == "map")
    files.refuse_existing(tmp_path / "tekst", overwrite=True)
    files.refuse_existing(tmp_path / "new/er" / "uit", overwrite=False)
    with pytest.raises(OSError, match="File exists"):
        files.output_folder(tmp_path / "tekst")


def test_an_array_keeps_the_digest_of_its_texts(tmp_path):
    array, digest = np.float32([[1, 2], [3, 4], [5, 6]]), files.digest_of(["a", "bc"])
    others = [["bc", "a"], ["ab", "c"], ["a", "bc", ""]]
    assert digest not in map(files.digest_of, others)
    for given in (digest, ""):
        files.write_array(tmp_path / "a.npy", array.shape, iter([array[:2], array[2:]]), given)
        stored, carried = files.read_array(tmp_path / "a.npy")
        assert (stored == array).all() and carried == given
        assert (np.load(tmp_path / "a.npy") == array).all(), "others read the array alone"


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    with files.new_file(tmp_path / "a") as temporary:
        temporary.touch(0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_output_folder_is_replaced_only_when_asked_and_if_it_is_a_model(tmp_path):
    path = tmp_path / "map"
    for content, overwrite in (("een", False), ("twee", True)):
        with files.new_folder(path, overwrite) as folder:
            (folder / content).touch()
            (folder / "config.json").touch()
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "twee"]
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "scriptie.txt").touch()
    for target, overwrite, message in (
        (path, False, "map: exists already; .*--overwrite"),
        (tmp_path, True, "is no model folder, so --overwrite does not replace it"),
        (tmp_path / "scriptie.txt", True, "is no model folder"),
    ):
        with pytest.raises(InputError, match=message), files.new_folder(target, overwrite):
            pass


KILLED = {  # what is being written when SIGKILL comes
    "a file": "with files.new_file('uit') as new: new.write_text('half'); kill()",
    "a folder": "with files.new_folder('uit') as new: (new / 'half').touch(); kill()",
    "a library's own": "with files.new_file('uit') as n: (n.parent / 'x.tmp').touch(); kill()",
    "before the lock": "files._lock = kill\nwith files.new_file('uit'): pass",
    "when it is complete": "files.shutil.rmtree = kill\nfiles.write_json('complete', 1)",
}


@pytest.mark.parametrize("what", KILLED)
def test_what_a_killed_process_left_is_removed_by_the_next_that_would_write_there(
    tmp_path, monkeypatch, what
):
    monkeypatch.setenv("PYTHONPATH", str(files.Path(files.__file__).parent))
    monkeypatch.chdir(tmp_path)
    kill = "import files, os\nkill = lambda *_, **__: os.kill(os.getpid(), 9)\n"
    assert run("-c", kill + KILLED[what]).returncode == -signal.SIGKILL
    left = ["complete"] if "complete" in what else []
    assert len(list(tmp_path.iterdir())) == 1 + len(left)
    (tmp_path / ".not-ours.tmp").mkdir()
    files.refuse_existing("uit", overwrite=False)
    assert sorted(os.listdir()) == [".not-ours.tmp", *left]
    # Two at work do not disturb each other
    with files.new_file("one") as mine, files.new_file("one") as other:
        mine.touch()
        other.touch()
    assert sorted(os.listdir()) == [".not-ours.tmp", *left, "one"]


@pytest.mark.parametrize("name", ["model", "old"])
def test_a_replaced_folder_survives_a_kill_between_the_two_moves(tmp_path, monkeypatch, name):
    monkeypatch.setenv("PYTHONPATH", str(files.Path(files.__file__).parent))
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    write(tmp_path / name / "config.json", {"old": 1})
    script = f"""
import files, os
replace = os.replace
def moved(source, target):
    replace(source, target)
    os.kill(os.getpid(), 9)
os.replace = moved
with files.new_folder({name!r}, overwrite=True):
    pass
"""
    assert run("-c", script).returncode == -signal.SIGKILL and not (tmp_path / name).exists()
    files.write_json("other", {})
    assert sorted(os.listdir()) == sorted([name, "other"])
    assert files.read_json(f"{name}/config.json") == {"old": 1}


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


# --- the hub --------------------------------------------------------------------------------------


def test_hub_names_are_files_of_the_cache(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    names = ["data/b.parquet", "data/a.parquet", "README.md", "nl/c.validation.0.json.gz"]
    folder = hub("eigenaar/set", dict.fromkeys(names, b""))
    for name, found in {
        "eigenaar/set": [folder / "data/a.parquet", folder / "data/b.parquet"],
        "eigenaar/set@main:nl/c.*.json.gz": [folder / names[3]],
        "geen.txt": [files.Path("geen.txt")],  # no hub name: its reader says what is wrong
    }.items():
        assert files.find_files(name) == found
    page = "https://huggingface.co/datasets/eigenaar/set"
    for name, message in {
        "eigenaar/set:*.csv": f"eigenaar/set:*.csv: no file '*.csv' there; look at {page}",
        "niemand/niets": "niemand/niets: neither here nor available from the hub",
    }.items():
        with pytest.raises(InputError, match=re.escape(message)):
            files.find_files(name)
    # With a folder of the owner's name it is a local path with a slip
    (tmp_path / "eigenaar").mkdir()
    assert files.find_files("eigenaar/set") == [files.Path("eigenaar/set")]
