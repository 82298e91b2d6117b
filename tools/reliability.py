"""What happens to a run that is killed, whose disk is full, or whose other node dies.

In: nothing. Every command makes its results from a little bundled text, undisturbed, and then again
and again with a disturbance, followed by the same command (`e5nl.py train` with `--resume`;
those that refuse to replace what is there with `--overwrite`). Out: a table
(docs/reliability.md); the exit status is 1 if a disturbance changed anything.

    kills    SIGKILL before each change of the file system in turn (a file opened for writing,
             renamed, removed; a folder made or removed), and at random moments
    disk     a file system that is too small, of several sizes, and then large enough
    nodes    two processes that train together, one of them killed before each of its changes; on
             one disk, or on two, where the checkpoints are copied before the run resumes

After a disturbance and the rerun there must be the files of the undisturbed run, with the same
content, and no others. No command may print a traceback, and one that fails says why in one line.

    unshare -rm python -m tools.reliability    # ten minutes; `unshare -rm` lets it make small disks
    python -m tools.reliability --only train mine

The commands run in forks of this process, which imports them once. An audit hook counts changes.
Libraries that write without Python (tensors) are not seen by it; random moments hit them.
"""

import argparse
import hashlib
import importlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import torch._dynamo  # noqa: F401 (else every fork imports it with its optimizer, for seconds)

from demo import DEMO
from evaluate import table
from files import InputError, cli, read_jsonl, write_json, write_jsonl
from mteb_nl import nearest

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import fake_server  # noqa: E402

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# What may differ: how long it took, and what the last of several runs did.
TIMES = re.compile(rb'"(seconds|evaluation_time)": [^,}\n]*|"last run": {.*', re.DOTALL)
SIZES = 8  # of disks that are too small


class Command(NamedTuple):
    """A command that writes to OUT, the option that its rerun gets, and what is in OUT before."""

    script: str
    words: str
    again: str = ""
    given: Path | None = None


def commands(base: Path, url: str) -> dict[str, Command]:
    """name -> command. base: a folder with a small model and small data, see `prepare`."""
    model, source, topics = base / "model", base / "source.jsonl", base / "topics.txt"
    scored, results = base / "scored.jsonl", base / "results"
    train = f"train --model {model} --data {source} --out OUT/model --batch-size 8 --steps 8 "
    train += "--lr 1e-3 --passage-length 32 --query-length 32 --save-every 2 --every 1"
    generate = f"generate --llm x --base-url {url} --topics {topics} --rows 12"
    return {
        "train": Command("e5nl", train, "--resume"),
        "embed": Command("e5nl", f"embed --model {model} --input {source} --field query "
                                 "--kind query --out OUT/a.npy"),
        "average": Command("e5nl", f"average {model} {base}/other --out OUT/model"),
        "trim": Command("trim_vocab", f"--model {model} --corpus {topics} --check {topics} "
                                      "--no-keep-characters --min-frequency 1 --vocab-size 9 "
                                      "--out OUT/model"),
        "transtokenise": Command("transtokenize", f"--model {model} --tokenizer {model} "
                                 f"--parallel {base}/parallel.jsonl --min-count 1 "
                                 "--out OUT/model"),
        "prepare": Command("data", f"prepare --corpus {DEMO.resolve()}/eval/algoritmekader "
                                   "--split test --out OUT/source.jsonl.gz"),
        "pairs": Command("data", f"pairs --data {topics} {DEMO.resolve()}/corpus/law.jsonl.gz "
                                 "--out OUT/source.jsonl.gz"),
        "mine": Command("mine", f"--model {model} --data {source} --cache OUT/cache "
                                "--out OUT/mined.jsonl.gz", "--overwrite"),
        "evaluate": Command("evaluate", f"run --model {model} --tasks all --out OUT/results "
                                        f"--tasks-file {base}/tasks.json"),
        "report": Command("evaluate", "report clips/e5-small-trm-nl clips/e5-base-trm-nl "
                                      "--html OUT/page.html", "--overwrite"),
        "card": Command("evaluate", f"card {results} --model OUT/model", given=model),
        "generate": Command("synthesize", f"{generate} --out OUT/rows.jsonl"),
        "clean": Command("synthesize", f"clean --data {scored} --out OUT/rows.jsonl",
                         "--overwrite"),
        "score": Command("synthesize", f"score --data {scored} --base-url {url} --reranker x "
                                       "--out OUT/rows.jsonl"),
        "filter": Command("synthesize", f"filter --data {scored} --out OUT/kept", "--overwrite"),
    }  # fmt: skip


def answer(handler, body: dict, prompt: str, nth: int) -> None:
    """Of the server: scores of a passage and a negative, or what an LLM says."""
    scores = [{"index": i, "relevance_score": 0.9 - i / 2} for i in (0, 1)]
    reply = handler.message(200, {"results": scores}) if "documents" in body else None
    handler.wfile.write(reply or handler.good(prompt))


def prepare(base: Path) -> None:
    """A small model, another with the same tokenizer, data of every kind, and results."""
    bundled = itertools.islice(read_jsonl(DEMO / "train/tldr_description_examples.jsonl.gz"), 64)
    rows = [{"query": row["query"], "pos": row["pos"]} for _, row in bundled]
    write_jsonl(base / "source.jsonl", rows)
    pairs = [(row["query"], row["pos"][0]) for row in rows]
    write_jsonl(base / "parallel.jsonl", ({"en": a, "nl": b} for a, b in pairs))
    rated = {"task_type": "sl", "pos_scores": [0.9], "neg_scores": [0.2]}
    triplets = ({"query": a, "pos": b, "neg": c} for (a, b), (_, c) in itertools.pairwise(pairs))
    write_jsonl(base / "scored.jsonl", (row | rated for row in triplets))
    topics = base / "topics.txt"
    topics.write_text("".join(f"onderwerp {number}\n" for number in range(7)))

    similar = ({"sentence1": a, "sentence2": b, "score": len(a) % 5} for a, b in pairs)
    write_jsonl(base / "pairs.jsonl", similar)
    task = {"type": "STS", "splits": {"test": "pairs.jsonl"}, "main_score": "cosine_spearman"}
    tasks = [task | {"name": f"Task{number}"} for number in range(3)]
    write_json(base / "tasks.json", {"tasks": tasks})

    for name, seed in (("model", 1), ("other", 2)):
        words = f"init --tokenizer {DEMO.resolve()}/tokenizer.json.xz --out {base}/large{seed}"
        shape = "--width 16 --layers 1 --heads 2"
        finished(Command("e5nl", f"{words} --seed {seed} {shape}"))
        words = f"--model {base}/large{seed} --corpus {base}/source.jsonl {topics} --field query "
        words += f"--check {topics} --min-frequency 1 --out {base}/{name}"
        finished(Command("trim_vocab", words))
    finished(commands(base, "")["evaluate"], base)


# --- a command in a process of its own ------------------------------------------------------------


def is_change(event: str, arguments: tuple) -> bool:
    """Whether an audit event is about to change the file system."""
    if event != "open":
        return event in CHANGES
    path, mode, flags = arguments
    writes = bool(set(mode or "") & set("wax+")) or bool(flags & WRITING)
    return writes and path != os.devnull


class Process:
    """A command, running in a fork of this process.

    die_at: the number of the change before which it kills itself, from 1. counter: a file whose
    size is the number of changes, when it is done. environment: more variables.
    """

    def __init__(self, command: Command, out: Path, die_at=0, counter=None, environment=()):
        self.log = tempfile.TemporaryFile("w+")
        words = command.words.replace("OUT", str(out)).split()
        self.pid = os.fork()
        if not self.pid:
            os.environ.update(environment)
            self._child(importlib.import_module(command.script), words, die_at, counter)

    def _child(self, module, words: list[str], die_at: int, counter: Path | None) -> None:
        for descriptor in (1, 2):
            os.dup2(self.log.fileno(), descriptor)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)
        changes, status = [0], 1
        parent = os.getpid()

        def hook(event: str, arguments: tuple) -> None:
            if is_change(event, arguments) and os.getpid() == parent:
                changes[0] += 1
                if changes[0] == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            cli(lambda: module.main(words))
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
        count, changes[0] = changes[0], -(10**9)
        if counter:
            counter.write_bytes(bytes(count))
        sys.stdout.flush()
        os._exit(status)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> tuple[int, str]:
        """(exit status, or -9 after SIGKILL; what was printed)."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.log.seek(0)
        return status, self.log.read()


def finished(command: Command, out: Path = Path(), **options) -> str:
    """Run a command that must end well."""
    status, printed = Process(command, out, **options).wait()
    assert status == 0, f"{command}: exit status {status}\n{printed}"
    return printed


def files_in(folder: Path) -> dict[str, str]:
    """path -> digest of the content but for times, of everything in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = b"" if path.is_dir() else TIMES.sub(b"", path.read_bytes())
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def fault_of(status: int, printed: str) -> str:
    """What is wrong with how a command ended, or ""."""
    if "Traceback" in printed:
        return "a traceback"
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    if status not in (0, 2, -signal.SIGKILL) or (status == 2 and len(errors) != 1):
        return f"exit status {status} with {len(errors)} lines of error"
    return ""


# --- disturbances ---------------------------------------------------------------------------------


class Count(NamedTuple):
    """Disturbances of one kind, and what went wrong after them."""

    number: int
    faults: list[str]


def emptied(folder: Path, given: Path | None = None) -> Path:
    """The folder, with a copy of `given` and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if given:
        shutil.copytree(given, folder / given.name)
    return folder


def rerun(command: Command, out: Path, expected: dict[str, str]) -> str:
    """Repeat a disturbed command; what is wrong then, or ""."""
    again = command._replace(words=f"{command.words} {command.again}")
    status, printed = Process(again, out).wait()
    now = files_in(out)
    differing = sorted(name for name in now | expected if now.get(name) != expected.get(name))
    if differing:
        return f"rerun: {', '.join(differing[:3])} differ or are left over; {printed[-300:]!r}"
    # A run that was disturbed at its very end has its result, which is not overwritten.
    return fault_of(status, printed)


def kills(command: Command, out: Path, random_kills: int) -> tuple[Count, Count]:
    """SIGKILL before each change, and at random moments."""
    counter = out.with_name("changes")
    began = time.perf_counter()
    finished(command, emptied(out, command.given), counter=counter)
    seconds, expected = time.perf_counter() - began, files_in(out)
    changes, killed, faults, others = counter.stat().st_size, 0, [], []

    for number in range(1, changes + 1):
        status, printed = Process(command, emptied(out, command.given), die_at=number).wait()
        if status == 0:
            # Answers of a server in another order may need one change less than the first time.
            break
        assert status == -signal.SIGKILL, f"{command}, change {number}: {status}\n{printed}"
        killed += 1
        fault = fault_of(status, printed) or rerun(command, out, expected)
        faults += [f"change {number}: {fault}"] * bool(fault)

    draw = random.Random(0)
    for _ in range(random_kills):
        process, delay = Process(command, emptied(out, command.given)), draw.random() * seconds
        time.sleep(delay)
        process.kill()
        fault = fault_of(*process.wait()) or rerun(command, out, expected)
        others += [f"after {delay:.2f} s: {fault}"] * bool(fault)
    return Count(killed, faults), Count(random_kills, others)


def mount(folder: Path, size: int, *options: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "none", folder]
    subprocess.run(words, check=True)


def full_disks(command: Command, out: Path) -> Count | None:
    """A disk that is too small for the result; then it gets larger.

    None: cannot mount, or the command changes what is on the disk already.
    """
    if command.given:
        return None
    finished(command, emptied(out))
    expected = files_in(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    emptied(out)
    faults, full = [], 0
    for part in range(SIZES):
        try:
            mount(out, max(4096, size * part // SIZES))
        except subprocess.CalledProcessError:
            return None
        try:
            status, printed = Process(command, out).wait()
            full += status != 0
            fault = fault_of(status, printed)
            if status and "No space left on device" not in printed:
                fault = fault or f"not said: {printed[-300:]!r}"
            mount(out, 2**30, "remount")
            fault = fault or rerun(command, out, expected)
            faults += [f"{part} / {SIZES} of {size} bytes: {fault}"] * bool(fault)
        finally:
            subprocess.run(["umount", out], check=True)
    return Count(full, faults)


def nodes(command: Command, out: Path, shared: bool, random_kills: int) -> Count:
    """Two processes train; one dies, the other ends too, and both resume.

    The first dies before each of its changes, the second, which changes nothing, at random moments.
    """
    outs = out, out if shared else out.with_name("second")
    again = command._replace(words=f"{command.words} {command.again}")
    counter = out.with_name("changes")

    def start(command: Command, die_at=0) -> list[Process]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        first = Process(command, outs[0], die_at, counter, meet | {"RANK": "0"})
        return [first, Process(command, outs[1], 0, None, meet | {"RANK": "1"})]

    def ended(processes: list[Process]) -> str:
        faults = (fault_of(*process.wait()) for process in processes)
        return "; ".join(filter(None, faults))

    def empty() -> None:
        for folder in outs:
            emptied(folder)

    def resumed() -> str:
        # Without a shared disk somebody has to copy what the first process wrote.
        if not shared and (outs[0] / "model").exists():
            shutil.copytree(outs[0] / "model", outs[1] / "model", dirs_exist_ok=True)
        fault = ended(start(again))
        return fault or "the files differ" * (files_in(outs[0]) != expected)

    empty()
    began = time.perf_counter()
    fault = ended(start(command))
    assert not fault, fault
    seconds, expected = time.perf_counter() - began, files_in(outs[0])

    changes, faults = counter.stat().st_size, []
    for number in range(1, changes + 1):
        empty()
        fault = ended(start(command, number)) or resumed()
        faults += [f"process 0, change {number}: {fault}"] * bool(fault)
    draw = random.Random(0)
    for _ in range(random_kills):
        empty()
        processes, delay = start(command), draw.random() * seconds / 2
        # Until they have met, one waits for the other, as long as torch lets it.
        while not (outs[0] / "model/settings.json").exists():
            time.sleep(0.01)
        time.sleep(delay)
        processes[1].kill()
        fault = ended(processes) or resumed()
        faults += [f"process 1, after {delay:.2f} s: {fault}"] * bool(fault)
    return Count(changes + random_kills, faults)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.reliability", description="Disturbed runs, and what is left of them."
    )
    parser.add_argument("--only", nargs="+", metavar="COMMAND", help="default: all")
    parser.add_argument("--random", type=int, default=20, help="kills at random, of each command")
    args = parser.parse_args(argv)

    torch.set_num_threads(1)
    rows = [["", "at changes", "at random", "full disks", "nodes", "faults"]]
    with tempfile.TemporaryDirectory() as folder:
        base, out = Path(folder, "base"), Path(folder, "work/out")
        base.mkdir()
        url, _ = fake_server.start(answer)
        every = commands(base, url)
        for name in args.only or every:
            if name not in every:
                raise InputError(f"--only: no command {name!r}; {nearest(name, every)}")
        prepare(base)
        for name in args.only or every:
            command = every[name]
            counts = [*kills(command, out, args.random), full_disks(command, out)]
            counts.append(None)
            if name == "train":
                shared, apart = (nodes(command, out, disk, args.random) for disk in (True, False))
                counts[-1] = Count(shared.number + apart.number, shared.faults + apart.faults)
            found = [fault for count in counts if count for fault in count.faults]
            cells = [str(count.number) if count else "-" for count in counts]
            rows.append([name, *cells, str(len(found))])
            print(f"{', '.join(rows[-1])}", flush=True)
            for fault in found:
                print(f"    {fault}", flush=True)
    total = [sum(int(row[i]) for row in rows[1:] if row[i] != "-") for i in range(1, 6)]
    rows.append(["in all", *map(str, total)])
    print(f"\n{table(rows, 'markdown', 1)}\n\n{sum(total[:4])} disturbances, {total[4]} faults")
    return bool(total[4])


if __name__ == "__main__":
    cli(main)
