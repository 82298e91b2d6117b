"""Files in and out: tables and JSON that people hand over, the hub's names, files written whole or not at all, mistakes in one line.

In: JSON Lines, parquet, CSV and TSV tables, plain text (each with `.gz` or not), or files of a data set on the Hugging Face hub,
`owner/name[@revision][:files]`. Out: JSON, JSON Lines and arrays, under a temporary name until they are complete.

A user's mistake is an `InputError`: where, what was found, what was expected, what to do. `cli` prints it as one line.
Nothing is downloaded unless a hub name was given, no pickle is read or written, and no name in a file leads out of its folder.
"""

import argparse
import contextlib
import csv
import fnmatch
import gzip
import importlib.util
import io
import json
import math
import os
import re
import shutil
import signal
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class InputError(ValueError):
    """The user's mistake: where, what was found, what was expected, what to do. Shown as one line, without a traceback."""


def cli(main) -> None:
    """Run a script's `main()`. The user's mistake becomes one line on stderr and exit status 2."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that temporary files are removed
    try:
        sys.exit(main())
    except BrokenPipeError:  # `… | head` closed the pipe: a table may end there, a file was not written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # no such file, no permission, a full disk
        print(f"error: {f'{error.filename}: {error.strerror}' if error.strerror else error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def real_number(low: float, high: float = math.inf):
    """An argparse type: a finite number from `low` to `high`."""

    def parse(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise argparse.ArgumentTypeError(f"{text}: expected a number from {low:g}{f' to {high:g}' if high < math.inf else ''}")
        return value

    parse.__name__ = "number"  # for argparse's message
    return parse


def whole_number(low: int, high: int = 2**31 - 1):
    """An argparse type: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {low} to {high}")
        return value

    parse.__name__ = "whole number"
    return parse


# --- files: whole or not at all ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def new_file(path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # as any new file, whatever the writer made it (safetensors: readable by its owner alone)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends well and removed when it does not.

    With `overwrite` it replaces a model folder or an empty one, and nothing else: a mistyped name must not cost other files.
    """
    path = Path(path).resolve()
    refuse_existing(path, overwrite)
    ours = path.is_dir() and (any((path / name).is_file() for name in ("config.json", "tokenizer.json")) or not any(path.iterdir()))
    if path.exists() and not ours:
        raise InputError(f"{path}: is no model folder, so --overwrite does not replace it; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{what}") for what in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)  # two renames: a folder cannot be replaced in one
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path, overwrite: bool) -> None:
    """Stop before the work, not after it, when there is something where its result would go."""
    if Path(path).exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or add --overwrite to replace it")


DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)  # what reading a damaged `.gz` raises


def _open(path):
    """The bytes of a file, unpacked when its name ends in `.gz`."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")


def refuse_plot(path, overwrite: bool) -> None:
    """Stop before the work, not after it, when the picture that `--plot` asks for would replace another file, or cannot be drawn."""
    if path is None:
        return
    refuse_existing(path, overwrite)
    if Path(path).suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot {path}: expected a name that ends in .png, .svg or .pdf")
    if not importlib.util.find_spec("matplotlib"):
        raise InputError(f"--plot {path}: needs matplotlib, which is not installed; pip install matplotlib, or leave --plot out")


def read_lines(path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 text file, `.gz` or not. Blank lines are left out unless `blank`."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")  # a byte order mark is no text
                if blank or text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise InputError(f"{path}:{number}: byte 0x{bad:02x} at column {error.start + 1} is not UTF-8; convert the file to UTF-8") from None
    except DAMAGED as error:
        raise InputError(f"{path}:{number + 1}: damaged gzip data ({error}); write or download the file again") from None


def read_json(path, kind: type = dict):
    """A JSON file that holds one object (or, with kind list, one list)."""
    text = "\n".join(line for _, line in read_lines(path))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, kind):
        raise InputError(f"{path}: expected a JSON {'object {…}' if kind is dict else 'list […]'}, found {type(value).__name__}")
    return value


def read_jsonl(path) -> Iterator[tuple[int, dict]]:
    """(line number, object) of a JSON Lines file. An empty file is an error."""
    number = 0
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno}); expected one object a line") from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets thousands deep
            raise InputError(f"{path}:{number}: no JSON that can be read ({error})") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: expected a JSON object {{…}}, found {type(row).__name__}")
        if "\\ud" in line.lower() and re.search("[\ud800-\udfff]", json.dumps(row, ensure_ascii=False)):
            raise InputError(f"{path}:{number}: half of a surrogate pair (\\ud…) is no character; remove it")
        yield number, row
    if not number:
        raise InputError(f"{path}: no rows; expected JSON Lines, one object a line")


def write_json(path, value) -> None:
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_jsonl(path, rows) -> None:
    """Rows as JSON Lines, compressed when the name ends in `.gz` (without a time stamp: same rows, same bytes)."""
    with new_file(path) as temporary:
        with open(temporary, "wb") as raw, contextlib.ExitStack() as stack:
            file = stack.enter_context(gzip.GzipFile("", "wb", 9, raw, mtime=0)) if str(path).endswith(".gz") else raw
            for row in rows:
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))


def write_array(path, array: np.ndarray) -> None:
    """A `.npy` file of numbers."""
    with new_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def inside(folder, name: str, where) -> Path:
    """`folder / name`, when that does not lead out of `folder`: a name that stands in a file is not to be trusted."""
    if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{where}: {name!r} is not a file name inside {folder}")
    return Path(folder) / name


def read_rows(path, columns=None) -> Iterator[tuple[int, dict]]:
    """(row number from 1, {column: value}) of a table: `.parquet`, `.csv` and `.tsv` with a header line, else JSON Lines; `.gz` or not.

    columns: only these, in parquet and CSV each must be there (in JSON Lines a row may lack a field). JSON Lines and CSV count lines.
    """
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _read_parquet(Path(path), columns)
    elif kind in (".csv", ".tsv"):
        yield from _read_csv(path, columns, "," if kind == ".csv" else "\t")
    else:
        for number, row in read_jsonl(path):
            yield number, row if columns is None else {column: row[column] for column in columns if column in row}


def read_texts(path, field: str = "text", blank: bool = False) -> Iterator[str]:
    """The texts of a corpus file: one a row of a table (see `read_rows`), in its `field`; of any other file one a line.

    Blank lines of a text file are left out unless `blank`.
    """
    if kind_of(path) not in (".jsonl", ".json", ".parquet", ".csv", ".tsv"):
        yield from (line for _, line in read_lines(path, blank))
        return
    for number, row in read_rows(path, [field]):
        yield as_text(row.get(field), f"{path}:{number}: field {field!r}")


def kind_of(path) -> str:
    """The ending of a file's name that says what is in it: `.jsonl` of `a.jsonl.gz`."""
    path = Path(path)
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _read_parquet(path: Path, columns) -> Iterator[tuple[int, dict]]:
    import pyarrow.parquet  # here: slow to import, and few runs read parquet

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(path)
        _columns_there(path, columns, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            for number, row in enumerate(batch.to_pylist(), number + 1):  # noqa: B020
                yield number, row
    except (pyarrow.lib.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not parquet, or damaged after row {number} ({error}); copy or download it again") from None


def _read_csv(path, columns, delimiter: str) -> Iterator[tuple[int, dict]]:
    csv.field_size_limit(2**31 - 1)  # a cell may be a long document
    with _open(path) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=delimiter, strict=True)
        try:
            _columns_there(path, columns, rows.fieldnames or [])
            for row in rows:
                if None in row or None in row.values():
                    raise InputError(f"{path}:{rows.line_num}: expected {len(rows.fieldnames)} cells, as in the first line")
                yield rows.line_num, row if columns is None else {column: row[column] for column in columns}
        except (csv.Error, UnicodeDecodeError, *DAMAGED) as error:
            raise InputError(f"{path}:{rows.line_num + 1}: not CSV in UTF-8 ({error})") from None


def _columns_there(path, columns, names) -> None:
    for column in columns or ():
        if column not in names:
            raise InputError(f"{path}: no column {column!r}; it has {', '.join(names)}")


def as_text(value, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: expected a string, found {'nothing' if value is None else type(value).__name__}")
    return value


# --- the Hugging Face hub ---------------------------------------------------------------------------------------------------

HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?::(.+))?")  # owner/name[@revision][:files]


def hub_folder(name: str, files: list[str], kind: str = "dataset") -> Path:
    """The local copy of a hub repository, `owner/name[@revision]`, with those of its files whose names match one of `files`.

    kind: dataset or model. Downloads what the cache lacks; with HF_HUB_OFFLINE=1 nothing. Nothing else in this project downloads.
    """
    repository = HUB_NAME.fullmatch(name)
    from huggingface_hub import snapshot_download  # here: slow to import, and only hub names need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository[1], repo_type=kind, revision=repository[2], allow_patterns=files))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{name}: neither here nor to be had from the hub ({reason})") from None


def is_hub_name(name) -> bool:
    """Whether `name` can only mean a hub repository: it has the form, and there is no such file or folder, nor a folder `owner`."""
    return bool(HUB_NAME.fullmatch(str(name))) and not Path(name).exists() and not Path(name).parent.is_dir()


def find_files(name) -> list[Path]:
    """A data file, or the files of a hub data set: `owner/name[@revision][:pattern]`, without a pattern its parquet files.

    `allenai/c4:multilingual/c4-nl-validation.*.json.gz` is the corpus that the paper trimmed on.
    """
    if not is_hub_name(name):
        return [Path(name)]
    pattern = HUB_NAME.fullmatch(str(name))[3] or "*.parquet"
    folder = hub_folder(str(name), [pattern])
    found = sorted(path for path in folder.rglob("*") if path.is_file() and fnmatch.fnmatch(path.relative_to(folder).as_posix(), pattern))
    if not found:
        raise InputError(f"{name}: no file {pattern!r} there; look at https://huggingface.co/datasets/{HUB_NAME.fullmatch(name)[1]}/tree/main")
    return found
