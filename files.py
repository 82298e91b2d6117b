"""Files in and out: what people hand over is read as they mean it, output is complete or absent.

In: JSON Lines, parquet, CSV and TSV tables, plain text (each with `.gz` or not), or files of a data
set on the hub, `owner/name[@revision][:files]`. Tab-separated files are read without quoting: a
cell is what is between two tabs. NaN in a table is what pandas writes for a missing value, so it is
None.

Out: JSON, JSON Lines and arrays. They are written in a temporary folder next to their place and
moved there when they are complete; what a killed process left of its own is removed by the next
one.

A user's mistake is an `InputError`: where, what was found, what was expected, what to do. `cli`
prints it as one line; `reading` makes one of whatever Python raises while a user's file is read.
Nothing is downloaded unless a hub name was given, no pickle is read or written, and no name in a
file leads out of its folder.
"""

import argparse
import contextlib
import csv
import errno
import fcntl
import fnmatch
import gzip
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

# --- the user's mistakes --------------------------------------------------------------------------


class InputError(ValueError):
    """A user's mistake: where, what was found, what was expected, what to do. Shown as one line."""


class reading:
    """A block that reads a user's file: what it raises becomes an `InputError` with its place.

        with reading(path) as place:
            for place.line, line in enumerate(file, 1):
                …

    A file that does not exist, or a fault of the disk, stays the `OSError` that it is.
    """

    def __init__(self, path, line: int | None = None):
        self.path, self.line = path, line

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else str(self.path)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        # What says all there is to say, and interrupts
        if not isinstance(error, Exception) or isinstance(error, InputError | FileNotFoundError):
            return
        # A number means that the operating system refused; libraries raise plain OSErrors too
        if isinstance(error, OSError) and error.errno:
            error.filename = error.filename or str(self.path)
            return
        if isinstance(error, json.JSONDecodeError):
            self.line = self.line or error.lineno
        raise InputError(f"{self}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    """What an exception says to the person whose file was read."""
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, UnicodeDecodeError):
        byte = f"byte 0x{error.object[error.start]:02x} at column {error.start + 1}"
        return f"{byte} is not UTF-8; convert the file to UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair (\\ud…) is no character; remove it"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at column {error.colno})"
    of_parquet = type(error).__module__ == "pyarrow.lib"
    if of_parquet or isinstance(error, EOFError | OSError | zlib.error):
        return f"damaged, or not what its name says ({reason}); copy or download it again"
    if isinstance(error, KeyError):
        return f"no field {reason}"
    return f"cannot be read ({type(error).__name__}: {reason})"


def cli(main) -> None:
    """Run a script's `main()`. The user's mistake becomes one line on stderr and exit status 2."""
    # As an exception, so that temporary files are removed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except BrokenPipeError:
        # `… | head` closed the pipe: a table may end there, a file was not written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (InputError, OSError) as error:
        # A mistake that all processes of a node make is reported by the first of them alone:
        # torchrun ends the others when it has ended. One that is still here was alone with it
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(20)
        # An OSError: no such file, no permission, a full disk
        place = f"{error.filename}: " if getattr(error, "filename", None) else ""
        print(f"error: {place}{getattr(error, 'strerror', None) or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def real_number(low: float, high: float = math.inf):
    """An argparse type: a finite number from `low` to `high`."""
    return _number_type(float, "number", low, high)


class ShowDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the defaults of the options that have one."""

    def _get_help_string(self, action) -> str:
        none = action.default is None or action.default is False
        return action.help if none else super()._get_help_string(action)


def whole_number(low: int, high: int = 2**31 - 1):
    """An argparse type: a whole number from `low` to `high`."""
    return _number_type(int, "whole number", low, high)


def _number_type(kind: type, name: str, low: float, high: float):
    def parse(text: str):
        value = kind(text)
        if not low <= value <= high or value == math.inf:
            limit = f" to {high}" if high < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text}: expected a {name} from {low}{limit}")
        return value

    parse.__name__ = name  # for argparse's message
    return parse


def refuse_existing(path, overwrite: bool, folder: bool = False) -> None:
    """Stop before the work, not after it, when its result would replace something.

    Or when it cannot be written there. folder: the result is a folder.
    """
    path = Path(path)
    remove_leftovers(path.parent)
    if path.is_dir() and not folder:
        raise InputError(f"{path}: is a folder; expected the name of a file to write")
    if path.exists() and not overwrite:
        advice = "choose another name, or add --overwrite to replace it"
        raise InputError(f"{path}: exists already; {advice}")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{path}: {parent} is no folder that you may write to")


def refuse_other_suffix(path, *suffixes: str) -> None:
    """Stop where the name of a file to write does not say what it will hold."""
    if not str(path).endswith(suffixes):
        raise InputError(f"--out {path}: expected a name that ends in {' or '.join(suffixes)}")


def output_folder(path) -> None:
    """Make a folder for results before the work."""
    Path(path).mkdir(parents=True, exist_ok=True)
    remove_leftovers(Path(path))


def inside(folder, name: str, where) -> Path:
    """`folder / name`, unless that leads out of `folder`: a name in a file is not trusted."""
    path = Path(name) if isinstance(name, str) and name else None
    if not path or path.is_absolute() or ".." in path.parts:
        raise InputError(f"{where}: {name!r} is not a file name inside {folder}")
    return Path(folder) / path


# --- output that is complete or absent ------------------------------------------------------------

# In a workspace: the file that its process holds, and what a new folder replaces
_LOCK, _OLD = ".lock", ".old"


@contextlib.contextmanager
def new_file(path) -> Iterator[Path]:
    """A temporary name, moved to `path` when the block ends well, removed when it does not."""
    path = Path(path)
    with _workspace(path) as workspace:
        temporary = workspace / path.name
        yield temporary
        # The permissions of any new file, whatever the writer gave it (safetensors: 0600)
        temporary.chmod((workspace / _LOCK).stat().st_mode)
        os.replace(temporary, path)


@contextlib.contextmanager
def new_folder(path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder, moved to `path` when the block ends well, removed when it does not.

    With `overwrite` it replaces a model folder or an empty one, and nothing else: a mistyped name
    must not cost other files.
    """
    path = Path(path).resolve()
    refuse_existing(path, overwrite, folder=True)
    if path.exists():
        names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
        if names and not names & {"config.json", "tokenizer.json"}:
            advice = "so --overwrite does not replace it; choose another name"
            raise InputError(f"{path}: is no model folder, {advice}")
    with _workspace(path) as workspace:
        temporary = workspace / path.name
        temporary.mkdir()
        yield temporary
        # Two moves, since a folder cannot be replaced in one; see also remove_leftovers
        if path.exists():
            os.replace(path, workspace / _OLD)
        os.replace(temporary, path)


@contextlib.contextmanager
def _workspace(path: Path) -> Iterator[Path]:
    """A new folder `.name.TOKEN.tmp` next to `path`, locked as long as its process lives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    while True:
        workspace = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        workspace.mkdir()
        try:
            lock = _lock(workspace)
            break
        except (BlockingIOError, FileNotFoundError):
            pass  # before it was locked, another process took it for a leftover
        except OSError:
            # A disk without locks, where no leftover is removed either
            lock = contextlib.nullcontext()
            break
    try:
        with lock:
            try:
                yield workspace
            finally:
                shutil.rmtree(workspace, ignore_errors=True)
    except Exception as error:
        if not _is_disk_full(error):
            raise
        free = shutil.disk_usage(path.parent).free / 1e6
        reason = f"No space left on device: {free:,.0f} MB are free"
        raise InputError(f"{path}: {reason}, and it needs more") from None


def _is_disk_full(error: Exception) -> bool:
    """Whether there was no room: safetensors and numpy say so in words of their own."""
    no_room = "No space left on device|[0-9]+ requested and [0-9]+ written"
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EDQUOT) or bool(re.search(no_room, str(error)))


def _lock(workspace: Path) -> IO:
    """The locked file of a workspace; closing it, or the end of its process, frees it."""
    lock = open(workspace / _LOCK, "a")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.stat(workspace / _LOCK)  # fails when the folder was removed just before
    return lock


def remove_leftovers(folder: Path) -> None:
    """Remove the workspaces in `folder` whose process is gone: their lock is free.

    Whatever is about to write there calls it, also when it then refuses to replace what exists.
    """
    for workspace in folder.glob(".*.tmp"):
        ours = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.tmp", workspace.name)
        # One that its process has just removed, or that is somebody else's, raises or is passed by
        with contextlib.suppress(OSError):
            if ours and (not any(workspace.iterdir()) or (workspace / _LOCK).exists()):
                with _lock(workspace):
                    # Killed between the two moves of new_folder
                    if (workspace / _OLD).exists() and not (folder / ours[1]).exists():
                        os.replace(workspace / _OLD, folder / ours[1])
                    shutil.rmtree(workspace)


def write_json(path, value) -> None:
    with new_file(path) as temporary:
        text = json.dumps(value, ensure_ascii=False, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_jsonl(path, rows) -> int:
    """Rows as JSON Lines, compressed for a name in `.gz`; same rows, same bytes (no time stamp).

    Returns how many there are.
    """
    count = 0
    with new_file(path) as temporary, contextlib.ExitStack() as stack:
        file = stack.enter_context(open(temporary, "wb"))
        if str(path).endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile("", "wb", 9, file, mtime=0))
        # As it comes: there may be more rows than fit into memory
        for row in rows:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))
            count += 1
    return count


def write_array(path, shape: tuple, blocks: Iterable[np.ndarray], digest: str = "") -> None:
    """A `.npy` file of float32 numbers, from its blocks of rows, of which one is held at a time.

    The digest of the texts that the rows belong to is a second array in it, which `np.load` does
    not read.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with new_file(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, "<f4").data)
        if digest:
            np.save(file, np.frombuffer(bytes.fromhex(digest), np.uint8))


def read_array(path) -> tuple[np.ndarray, str]:
    """A `.npy` file, memory-mapped, and the digest that `write_array` put there, or ""."""
    with reading(path):
        array = np.lib.format.open_memmap(existing(path), mode="r")
        with open(path, "rb") as file:
            file.seek(array.offset + array.nbytes)
            return array, np.load(file).tobytes().hex() if file.peek(1) else ""


def digest_of(texts: Iterable[str]) -> str:
    """What distinguishes these texts, in this order, from others."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8) + data)
    return digest.hexdigest()


# --- text and JSON --------------------------------------------------------------------------------


def existing(path) -> Path:
    """The path of a file that is read, which may be more than once."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path}: is {kind}; expected a file")
    return path


def read_lines(path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 text file, `.gz` or not.

    Blank lines are left out unless `blank`.
    """
    for number, line in _raw_lines(path):
        if blank or line.strip():
            yield number, line.rstrip("\r\n")


def _raw_lines(path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line with its end). A byte order mark is no part of the text."""
    # Each line by itself, so that a byte that is not UTF-8 gets its place
    path = existing(path)
    with reading(path, 1) as place, _unpacked(path) as file:
        for line in file:
            yield place.line, line.decode("utf-8-sig" if place.line == 1 else "utf-8")
            place.line += 1


def _unpacked(path: Path) -> IO[bytes]:
    """A file opened, by gzip if its name or its first two bytes say so."""
    with open(path, "rb") as file:
        packed = path.suffix == ".gz" or file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else open(path, "rb")


def read_json(path, kind: type = dict):
    """A JSON file that holds one object (or, with kind list, one list)."""
    with reading(path) as place:
        value = _parse("".join(line for _, line in _raw_lines(path)))
        if not isinstance(value, kind):
            expected = "object {…}" if kind is dict else "list […]"
            raise InputError(f"{place}: expected a JSON {expected}, found {shown(value)}")
        return value


def read_jsonl(path) -> Iterator[tuple[int, dict]]:
    """(line number, object) of a JSON Lines file. An empty file is an error."""
    place = reading(path)
    for place.line, line in read_lines(path):
        with place:
            row = _parse(line, _JSON.decode)
            if not isinstance(row, dict):
                raise InputError(f"{place}: expected a JSON object {{…}}, found {shown(row)}")
        yield place.line, row
    if not place.line:
        raise InputError(f"{path}: no rows; expected JSON Lines, one object per line")


def _parse(text: str, decode=json.loads):
    value = decode(text)
    # Half of a surrogate pair alone has no bytes in UTF-8, which raises
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _constant(name: str) -> None:
    """The value of a word that is not JSON but that Python and pandas write."""
    if name != "NaN":
        raise ValueError(f"{name} is no number")


_JSON = json.JSONDecoder(parse_constant=_constant)


# --- tables ---------------------------------------------------------------------------------------

TABLES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")


def kind_of(path) -> str:
    """The ending of a file's name that says what is in it: `.jsonl` of `a.jsonl.gz`."""
    path = Path(path)
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def read_rows(path, columns=None, optional=()) -> Iterator[tuple[int, dict]]:
    """(row number from 1, {column: value}) of a table; JSON Lines, CSV and TSV count lines.

    The table is `.parquet`, `.csv` or `.tsv` with a header line, else JSON Lines; `.gz` or not.

    columns: what every row must have; a tuple of names means one of them. Of parquet only these are
    read, and the `optional` ones that exist; without `columns` all are, which must have values in
    JSON.
    """
    if kind_of(path) == ".parquet":
        yield from _read_parquet(path, columns, optional)
        return
    rows = _read_delimited(path) if kind_of(path) in (".csv", ".tsv") else read_jsonl(path)
    fields = None
    for number, row in rows:
        # Most rows have the fields of the one before
        if row.keys() != fields:
            fields = row.keys()
            _wanted(fields, columns, optional, f"{path}:{number}")
        yield number, row


def _wanted(names, columns, optional, where: str) -> list[str]:
    """Those of a table's `names` that `read_rows` is asked for."""
    if columns is None:
        return list(names)
    wanted = set(optional)
    for column in columns:
        alternatives = [column] if isinstance(column, str) else column
        if not any(name in names for name in alternatives):
            missing = " or ".join(map(repr, alternatives))
            raise InputError(f"{where}: no column {missing}; the row has {', '.join(names)}")
        wanted.update(alternatives)
    return [name for name in names if name in wanted]


def _read_delimited(path) -> Iterator[tuple[int, dict]]:
    """CSV, and TSV without quoting. The first line names the columns of all others."""
    csv.field_size_limit(2**31 - 1)  # a cell may be a long document
    tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind_of(path) == ".tsv" else {}
    with reading(path, 1) as place:
        records = csv.reader((line for _, line in _raw_lines(path)), strict=True, **tabs)
        header = next(records, [])
        if len(set(header)) < len(header):
            raise InputError(f"{place}: two columns have the same name; found {', '.join(header)}")
        place.line = 2
        for cells in records:
            # A blank line is no row
            if cells and len(cells) != len(header):
                found = f"found {len(cells)} cells, expected {len(header)} as in the first line"
                advice = "; a cell of a .tsv holds no tab or line end, quoted or not"
                raise InputError(f"{path}:{records.line_num}: {found}{advice if tabs else ''}")
            if cells:
                yield records.line_num, dict(zip(header, cells, strict=True))
            place.line = records.line_num + 1


def _read_parquet(path, columns, optional) -> Iterator[tuple[int, dict]]:
    import pyarrow.parquet  # here: slow to import, and few runs read parquet

    number = 0
    with reading(path):
        file = pyarrow.parquet.ParquetFile(existing(path))
        names = _wanted(file.schema_arrow.names, columns, optional, str(path))
        # A part of the table at a time
        for batch in file.iter_batches(1024, columns=names):
            # Column by column, then row by row
            values = []
            for name in names:
                with reading(f"{path}: column {name!r}"):
                    values.append(batch[name].to_pylist())
            for cells in zip(*values, strict=True):
                number += 1
                with reading(path, number):
                    row = {n: _as_json(x, n) for n, x in zip(names, cells, strict=True)}
                yield number, row


def _as_json(value, column: str):
    """A value of parquet as JSON can hold it: NaN, which pandas writes for nothing, is None."""
    if isinstance(value, list):
        return [_as_json(item, column) for item in value]
    if isinstance(value, dict):
        return {key: _as_json(item, column) for key, item in value.items()}
    # Here, since it would stop the work at its end, when it is written
    if not isinstance(value, str | int | float | None) or value in (math.inf, -math.inf):
        raise ValueError(f"column {column!r}: JSON has no value for {value!r}; leave it out")
    return None if value != value else value


def read_texts(path, field: str = "text", blank: bool = False) -> Iterator[str]:
    """The texts of a corpus file: of a table the `field` of each row, of any other each line.

    Blank lines are left out unless `blank`.
    """
    if kind_of(path) not in TABLES:
        yield from (line for _, line in read_lines(path, blank))
        return
    for number, row in read_rows(path, [field]):
        yield as_text(row[field], f"{path}:{number}: column {field!r}")


def as_text(value, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: expected a string, found {shown(value)}")
    return value


def shown(value) -> str:
    """The beginning of a value from a file, as JSON writes it where it can."""
    return json.dumps(value, ensure_ascii=False, default=repr)[:60]


def as_id(value, where: str) -> str:
    """An id as text: a file may write 7 or "7" and means the same."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        expected = "expected an id, a text or a whole number"
        raise InputError(f"{where}: {expected}, found {shown(value)}")
    return str(value)


# --- the Hugging Face hub -------------------------------------------------------------------------

# owner/name[@revision][:files]
HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?::(.+))?")


def hub_folder(name: str, files: list[str], kind: str = "dataset") -> Path:
    """The local copy of a hub repository, `owner/name[@revision]`: its files that match `files`.

    kind: dataset or model. Downloads what the cache lacks; with HF_HUB_OFFLINE=1 nothing. Nothing
    else in this project downloads.
    """
    # Here: slow to import, and only hub names need it
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, revision, _ = HUB_NAME.fullmatch(name).groups()
    options = {"repo_type": kind, "revision": revision, "allow_patterns": files}
    try:
        return Path(snapshot_download(repository, **options))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{name}: neither here nor available from the hub ({reason})") from None


def is_hub_name(name) -> bool:
    """Whether `name` can only mean a hub repository.

    It has the form, and there is no such file or folder, nor a folder `owner`.
    """
    path = Path(name)
    return bool(HUB_NAME.fullmatch(str(name))) and not path.exists() and not path.parent.is_dir()


def hub_repository(name) -> str | None:
    """`owner/name`, of the name of a hub repository or of files in it; None for any other name."""
    return HUB_NAME.fullmatch(str(name))[1] if is_hub_name(name) else None


def find_files(*names) -> list[Path]:
    """Data files, or the files of hub data sets: `owner/name[@revision][:pattern]`.

    Without a pattern these are its parquet files.
    `allenai/c4:multilingual/c4-nl-validation.*.json.gz` is the corpus that the paper trimmed on.
    """
    paths = []
    for name in names:
        if not is_hub_name(name):
            paths.append(Path(name))
            continue
        repository, _, pattern = HUB_NAME.fullmatch(str(name)).groups()
        pattern = pattern or "*.parquet"
        folder = hub_folder(str(name), [pattern])
        # The cache may hold more files of the repository than these
        kept = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        kept = [x for x in kept if fnmatch.fnmatch(x.relative_to(folder).as_posix(), pattern)]
        if not kept:
            page = f"https://huggingface.co/datasets/{repository}/tree/main"
            raise InputError(f"{name}: no file {pattern!r} there; look at {page}")
        paths += kept
    return paths
