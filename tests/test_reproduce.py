"""reproduce.py: the complete pipeline offline, through kills.

- From first stage to last on small files with the hub's names and layouts, as commands in processes
  of their own, killed with SIGKILL as each stage begins and inside training and evaluation: the
  same files, byte for byte, and the same scores as of an undisturbed run.
- What is complete is not made again. A failing stage stops the run with its status and name. A run
  that is told to stop lets its command end.
- Every option of every command exists, and a printed command is the command. What the commands say
  is in docs/reproduce.md.

    python -m pytest tests/test_reproduce.py
"""

import argparse
import gzip
import importlib
import io
import itertools
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from test_mteb_nl import NAMED, hub_files, hub_rows

import e5nl
import reproduce
import synthesize
from files import InputError, read_json, read_jsonl, read_texts

ROOT = Path(reproduce.__file__).parent
DEMO = ROOT / "demo"
TASKS = ["VABBClusteringS2S", "SciFact-NL.v2", "SICK-NL-STS"]
COUNT = 11  # stages


def plan(size="base", init="trim") -> list[reproduce.Stage]:
    return reproduce.plan(size, init, 1024, ["all"])


def jsonl(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def tsv(rows) -> bytes:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()


@pytest.fixture
def little_hub(hub, tmp_path, make_model, tokenizer):
    """The repositories that the plan names, each with a few sentences or a small encoder."""
    corpus = read_texts(DEMO / "corpus/tatoeba.jsonl.gz")
    sentences = [text for text in corpus if len(text) > 50][:450]

    def model(name: str, tokenizer, **changes) -> None:
        folder = tmp_path / name
        e5nl.save(make_model(vocab_size=tokenizer.vocab_size, **changes), tokenizer, folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        hub(name, {str(path.relative_to(folder)): path.read_bytes() for path in paths}, "model")

    xlmr = e5nl.Tokenizer(lzma.decompress((DEMO / "tokenizer.json.xz").read_bytes()), {})
    model("intfloat/multilingual-e5-small", xlmr, seed=3)
    model("intfloat/multilingual-e5-base", tokenizer, seed=4, hidden_size=32)
    texts = gzip.compress(jsonl({"text": text, "url": "x"} for text in sentences))
    hub("allenai/c4", {"multilingual/c4-nl-validation.tfrecord-00000-of-1.json.gz": texts})

    for name, start in (("hotpotqa", 0), ("fever", 150)):
        passages = [
            {"_id": str(i), "title": f"Kop {i}", "text": sentences[start + i], "metadata": {}}
            for i in range(150)
        ]
        queries = [{"_id": f"q{i}", "text": sentences[start + i][:30]} for i in range(70)]
        beir = {"corpus.jsonl": jsonl(passages), "queries.jsonl": jsonl(queries)}
        hub(f"clips/beir-nl-{name}", beir)
        judged = [(f"q{i}", j, 1) for i in range(60) for j in (i, i + 80)]
        hub(f"BeIR/{name}-qrels", {"train.tsv": tsv([("query-id", "corpus-id", "score"), *judged])})

    own = sentences[300:]
    tables = {
        "google/collections/dutch_collection.tsv": enumerate(own),
        "google/queries/train/dutch_queries.train.tsv": ((i, own[i][9:50]) for i in range(90)),
        "triples.train.ids.small.tsv": ((i, i, j) for j in range(3) for i in range(80)),
    }
    hub("unicamp-dl/mmarco", {f"data/{name}": tsv(rows) for name, rows in tables.items()})

    synthetic = [
        {"query-id": "q", "pos-id": "p", "neg-id": "n", "task_type": type, "task_desc": "doel"}
        | {"query": sentences[i][:40], "pos": sentences[i], "neg": sentences[-i]}
        | {"pos_scores": [0.99], "neg_scores": [0.2 if i % 10 else 0.02]}
        for type in synthesize.TYPES
        for i in range(1, 41)
    ]
    hub("clips/SynEmbedNL", {"data/train-00000-of-00001.parquet": parquet(synthetic)})

    for name in TASKS:
        fresh, tables = iter(sentences), hub_rows(NAMED[name])
        for row in itertools.chain(*tables.values()):
            row |= {c: next(fresh) for c in ("text", "title", "sentence1", "sentence2") if c in row}
        content = hub_files(tables, "parquet")
        hub(NAMED[name].repository.partition("@")[0], content, commit=NAMED[name].revision)
    return tmp_path / "hub"


class Run:
    """A run of the script in a process group of its own, to be killed at any moment."""

    def __init__(self, hub, out):
        command = [sys.executable, reproduce.__file__, "--size", "small", "--out", str(out)]
        command += ["--batch-size", "2", "--processes", "1", "--tasks", *TASKS]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = kept | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        options = streams | {"start_new_session": True, "env": environment}
        self.process, self.printed = subprocess.Popen(command, **options), ""

    def until_printed(self, start: str) -> "Run":
        for line in self.process.stdout:
            self.printed += line
            if line.startswith(start):
                return self
        raise AssertionError(f"ended without {start!r}:\n{self.printed}")

    def until_written(self, folder: Path, files: str) -> "Run":
        while not list(folder.glob(files)):
            assert self.process.poll() is None, self.finish(0)
            time.sleep(0.005)
        return self

    def kill(self) -> str:
        os.killpg(self.process.pid, signal.SIGKILL)
        return self.finish(-signal.SIGKILL)

    def finish(self, status: int) -> str:
        """All that was printed, once it has ended with this status."""
        self.printed += self.process.communicate()[0]
        assert self.process.returncode == status, self.printed
        return self.printed


def outputs_of(out: Path) -> dict[str, object]:
    """What must be equal of two runs: data and models to the byte, and scores."""
    stored = [out / "mined/manifest.json", *out.glob("*/*.jsonl.gz")]
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        stored += out.glob(f"e5-small-*/{file}")
    results = (out / "results/e5-small-trm-nl").glob("*[!y].json")  # not summary.json
    scores = {path.name: read_json(path)["scores"] for path in results}
    return {str(path.relative_to(out)): path.read_bytes() for path in stored} | scores


def test_the_complete_pipeline_through_kills(little_hub, tmp_path):
    undisturbed = Run(little_hub, tmp_path / "undisturbed")
    out, model = tmp_path / "out", tmp_path / "out/e5-small-trm-nl"
    for number in range(2, COUNT - 1):  # as each stage begins, up to training
        printed = Run(little_hub, out).until_printed(f"== {number}/{COUNT} ").kill()
        assert printed.count(" exists; skipped\n") == number - 2, "nothing is made again"

    for proof in ("mined/fever.jsonl.gz.json", "synthetic/manifest.json"):
        (out / proof).unlink()  # as if killed before the file that is written last
    Run(little_hub, out).until_written(model, "checkpoints/step-*").kill()
    assert not (model / "config.json").exists()
    run = Run(little_hub, out).until_printed(f"== {COUNT - 1}/{COUNT} ")
    assert "resuming after step" in run.kill()
    Run(little_hub, out).until_written(out / "results/e5-small-trm-nl", "VABB*.json").kill()
    assert "kept)" in Run(little_hub, out).until_printed(f"== {COUNT}/{COUNT} ").kill()
    assert "mean over types" in Run(little_hub, out).finish(0)

    printed = undisturbed.finish(0)
    outputs = outputs_of(out)
    assert outputs == outputs_of(tmp_path / "undisturbed") and len(outputs) == 1 + 5 + 6 + 6 + 3
    assert "60 rows, 120 pairs of query and positive (170,000 expected: 0.1%)" in printed
    mined = [row for _, row in read_jsonl(out / "mined/fever.jsonl.gz")]
    assert max(len(row["neg"]) for row in mined) == 7
    log = [line for _, line in read_jsonl(model / "log.jsonl")]
    assert [line["step"] for line in log] == list(range(1, len(log) + 1))
    seen = [line["source"] for line in log]
    assert set(seen) == {*reproduce.ANNOTATED, *synthesize.TYPES}
    assert seen.count("mmarco") == 30, "three quarters of 80 rows, two a batch"


PARSE = argparse.ArgumentParser.parse_args


@pytest.mark.parametrize("init", list(reproduce.INITIALISE))
def test_commands_are_those_of_the_modules(monkeypatch, tmp_path, init):
    """The modules' own parsers take them."""

    def parse(parser, words):
        PARSE(parser, words)
        raise StopIteration

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    for stage in plan(init=init):
        script, *words = reproduce.command(stage, tmp_path, 1)
        with pytest.raises(StopIteration):
            importlib.import_module(Path(script).stem).main(words)


def test_printed_commands_are_the_commands_and_share_several_gpus(tmp_path):
    parallel = []
    for stage in plan():
        words = reproduce.command(stage, tmp_path / "een map", 8)
        shell = "python() { printf '%s\\n' \"$@\"; }; " + reproduce.shown(words)
        shell = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
        assert shell.stdout.splitlines() == words
        if words[:5] == "-m torch.distributed.run --standalone --nproc_per_node 8".split():
            parallel.append(stage.name)
            assert reproduce.command(stage, tmp_path / "een map", 1) == words[5:]
        assert stage.name == "compare" or f"{tmp_path}/een map/" in words[-1]
    assert parallel == ["mine hotpotqa", "mine fever", "mine mmarco", "train", "evaluate"]


def test_initialisations_and_sizes_share_what_does_not_depend_on_them():
    shared = plan()[1:8]
    assert plan(init="transtokenize", size="small")[1:8] == shared
    others = itertools.product(("trim", "transtokenize"), ("small", "base", "large"))
    assert len({plan(init=init, size=size)[0].name for init, size in others}) == 6


def test_what_is_complete_is_skipped(tmp_path, monkeypatch):
    ran, stages = [], plan()
    monkeypatch.setattr(reproduce, "execute", lambda words: ran.append(words[-1]))
    proofs = {stage.name: tmp_path / stage.proof for stage in stages if stage.proof}
    assert reproduce.run(stages, tmp_path, 1) == 0 and len(ran) == COUNT
    for proof in proofs.values():
        proof.parent.mkdir(parents=True, exist_ok=True)
        proof.touch()
    ran.clear()
    assert reproduce.run(stages, tmp_path, 1) == 0 and len(ran) == 2, "evaluation, comparison"
    proofs["mine fever"].unlink()
    ran.clear()
    assert reproduce.run(stages, tmp_path, 1) == 0 and len(ran) == 3
    assert ran[0] == f"{tmp_path}/mined/fever.jsonl.gz"


@pytest.mark.parametrize(("code", "status"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)])
def test_a_failing_stage_ends_the_run(tmp_path, monkeypatch, capsys, code, status):
    monkeypatch.setattr(reproduce, "command", lambda *_: ["-c", f"import os, sys; {code}"])
    assert reproduce.run(plan(), tmp_path, 1) == status
    said = f"error: stage 'e5-base-trm' failed, exit status {status}; the same command resumes "
    assert capsys.readouterr().err == f"{said}there\n"


def test_a_terminated_run_lets_its_command_end(tmp_path):
    """SIGTERM: the command is told, and may write what it needs to resume."""
    (tmp_path / "command.py").write_text(
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        f"    time.sleep(0.2), pathlib.Path({str(tmp_path / 'saved')!r}).touch(), sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('begun', flush=True)\ntime.sleep(60)\n"
    )
    script = "import reproduce, files; files.cli(lambda: reproduce.execute(['command.py']))"
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, **options
    )
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    assert process.wait() == 143 and (tmp_path / "saved").exists()
    process.stdout.close()


def test_a_mistyped_task_is_reported_before_the_first_stage():
    with pytest.raises(InputError, match="task 'SICK' is unknown; did you mean SICK-NL-STS"):
        reproduce.main(["--size", "base", "--tasks", "STS", "SICK"])


def test_a_dry_run_prints_what_the_documentation_shows(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = "/nergens/hier0"  # as long as the name in the documentation
    reproduce.main(["--size", "base", "--dry-run", "--processes", "1", "--out", out])
    printed = capsys.readouterr().out
    assert printed.count("\n$ python ") == printed.count("\n== ") == COUNT
    page = (ROOT / "docs/reproduce.md").read_text()
    assert printed.replace(out, "runs/reproduce") in page and not Path("/nergens").exists()
