"""reproduce.py and estimate.py: the whole pipeline offline, through kills, and the plan's figures.

- From first stage to last on small files of the hub's names and layouts, as commands in processes of their own, killed with SIGKILL as
  each stage begins and inside training and evaluation: the same files, byte for byte, and the same scores as of an undisturbed run.
- An output made with other settings, or by nobody knows what, is refused; what is not needed any more is not made again.
- A command that outlives its killed parent has no company. A failing stage stops the run with its status and name.
- Every option of every command exists. Parameter counts are the published ones; bytes and operations by hand.

    python -m pytest tests/test_reproduce.py
"""

import argparse
import gzip
import io
import itertools
import json
import lzma
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from test_mteb_nl import NAMED, hub_files, hub_rows

import data
import e5nl
import estimate
import evaluate
import files
import mine
import reproduce
import synthesize
import transtokenize
import trim_vocab
from files import InputError, read_json, read_texts
from reproduce import plan
from tools import samples

DEMO = Path(__file__).parents[1] / "demo"
TASKS = ["VABBClusteringS2S", "SciFact-NL.v2", "SICK-NL-STS"]
COUNT = 11  # stages


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
    """The repositories that the plan names, in a cache of the hub, each with a few sentences or a small encoder."""
    sentences = [text for text in read_texts(DEMO / "corpus/tatoeba.jsonl.gz") if len(text) > 50][:450]

    def model(name: str, tokenizer, **changes) -> None:
        changes |= {"pad_token_id": tokenizer.backend.token_to_id("<pad>") or 0}
        e5nl.save(make_model(vocab_size=tokenizer.vocab_size, **changes), tokenizer, tmp_path / name)
        hub(name, {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}, "model")

    xlmr = e5nl.Tokenizer(lzma.decompress((DEMO / "tokenizer.json.xz").read_bytes()), {"tokenizer_class": "XLMRobertaTokenizerFast"})
    bert = {"model_type": "bert", "type_vocab_size": 2, "max_position_embeddings": 64}
    parallel = samples.constructed(400)
    model("intfloat/multilingual-e5-small", xlmr, seed=3)
    model("intfloat/multilingual-e5-base", tokenizer, seed=4, hidden_size=32)
    model("intfloat/e5-small-v2", samples.wordpiece([text for text, _ in parallel], 300, lowercase=True), **bert)
    model("GroNLP/bert-base-dutch-cased", samples.wordpiece([text for _, text in parallel], 350, lowercase=False), **bert)
    pairs = [{"translation": {"en": english, "nl": dutch}} for english, dutch in parallel]
    hub("Helsinki-NLP/opus-100", {"en-nl/train-00000-of-00001.parquet": parquet(pairs)})
    texts = gzip.compress(jsonl({"text": text, "url": "x"} for text in sentences))
    hub("allenai/c4", {"multilingual/c4-nl-validation.tfrecord-00000-of-00001.json.gz": texts})

    for name, start in (("hotpotqa", 0), ("fever", 150)):
        passages = [{"_id": str(i), "title": f"Kop {i}", "text": sentences[start + i], "metadata": {}} for i in range(150)]
        queries = [{"_id": f"q{i}", "text": sentences[start + i][:30]} for i in range(70)]
        hub(f"clips/beir-nl-{name}", {"corpus.jsonl": jsonl(passages), "queries.jsonl": jsonl(queries)})
        judged = [("query-id", "corpus-id", "score"), *((f"q{i}", j, 1) for i in range(60) for j in (i, i + 80))]
        hub(f"BeIR/{name}-qrels", {"train.tsv": tsv(judged)})
    triples = [(i, i, j) for j in range(3) for i in range(80)]
    hub("unicamp-dl/mmarco", {"data/google/collections/dutch_collection.tsv": tsv((i, sentences[300 + i]) for i in range(150)),
                              "data/google/queries/train/dutch_queries.train.tsv": tsv((i, sentences[300 + i][9:50]) for i in range(90)),
                              "data/triples.train.ids.small.tsv": tsv(triples)})  # fmt: skip
    synthetic = [{"task_type": type, "task_desc": "doel", "model": "llm", "query": sentences[i][:40], "pos": sentences[i],
                  "neg": sentences[-i], "pos_scores": [0.9], "neg_scores": [-0.07 if i % 10 == 0 else 0.2],
                  "query-id": "q", "pos-id": "p", "neg-id": "n"} for type in synthesize.TYPES for i in range(1, 41)]  # fmt: skip
    hub("clips/SynEmbedNL", {"data/train-00000-of-00001.parquet": parquet(synthetic)})
    for name in TASKS:
        numbers = itertools.count()
        tables = {table: [{column: sentences[next(numbers)] if column in ("text", "title", "sentence1", "sentence2") else value
                           for column, value in row.items()} for row in rows]
                  for table, rows in hub_rows(NAMED[name]).items()}  # fmt: skip
        hub(NAMED[name].repository.partition("@")[0], hub_files(tables, "parquet"), commit=NAMED[name].revision)
    return tmp_path / "hub"


class Run:
    """A run of the script in a process group of its own, in which it can be stopped at any moment."""

    def __init__(self, hub, out, *options):
        command = [sys.executable, reproduce.__file__, "--size", "small", "--out", str(out), "--batch-size", "2", "--tasks", *TASKS]
        command += ["--processes", "1", "--gpu", "H100", *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, **pipes, text=True, start_new_session=True, env=environment)
        self.printed = ""

    def until(self, start: str) -> None:
        """A line that starts so is printed."""
        for line in self.process.stdout:
            self.printed += line
            if line.startswith(start):
                return
        raise AssertionError(f"ended without {start!r}:\n{self.printed}")

    def until_there(self, folder: Path, files: str) -> None:
        while not list(folder.glob(files)):
            assert self.process.poll() is None, self.finish()
            time.sleep(0.005)

    def send(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def finish(self, status: int = -signal.SIGKILL) -> str:
        """All that was printed, once it has ended with this status."""
        self.printed += self.process.stdout.read()
        self.process.stdout.close()
        assert self.process.wait() == status, self.printed
        return self.printed

    def kill(self) -> str:
        self.send(signal.SIGKILL)
        return self.finish()


def files_of(out: Path) -> dict[str, object]:
    """What must be equal of two runs: data and models to the byte, and scores."""
    scores = {path.name: read_json(path)["scores"] for path in (out / "results/e5-small-trm-nl").glob("*[!y].json")}  # not summary.json
    names = ["plan.json", "mined/manifest.json", *(f"synthetic/{name}.jsonl.gz" for name in synthesize.TYPES)]
    names += [f"{folder}/{name}.jsonl.gz" for folder in ("annotated", "mined") for name in reproduce.ANNOTATED]
    names += [f"e5-small-{model}/{file}" for model in ("trm", "trm-nl") for file in ("model.safetensors", "tokenizer.json", "config.json")]
    return {name: (out / name).read_bytes() for name in names} | scores


def test_the_whole_pipeline_through_kills(little_hub, tmp_path):
    undisturbed, out, model = Run(little_hub, tmp_path / "undisturbed"), tmp_path / "out", tmp_path / "out/e5-small-trm-nl"
    for number in range(2, COUNT - 1):  # as each stage begins, up to training
        run = Run(little_hub, out)
        run.until(f"== {number}/{COUNT} ")
        assert run.kill().count(" is there\n") == max(0, number - 2), "what the runs before have made is not made again"

    for proof in ("mined/fever.jsonl.gz.json", "synthetic/manifest.json"):  # as if killed before the file that is written last
        (out / proof).unlink()
    run = Run(little_hub, out)  # inside training
    run.until_there(model, "checkpoints/step-*")
    run.send(signal.SIGSTOP)
    assert not (model / "config.json").exists()
    os.kill(run.process.pid, signal.SIGKILL)  # the script alone: its command is left behind
    assert f"error: {out}: another run is at work there, or a command that it left behind" in Run(little_hub, out).finish(2)
    run.kill()

    run = Run(little_hub, out)  # as evaluation begins
    run.until(f"== {COUNT - 1}/{COUNT} ")
    assert "going on after step" in run.kill()
    run = Run(little_hub, out)  # inside evaluation
    run.until_there(out / "results/e5-small-trm-nl", "VABB*.json")
    run.kill()
    run = Run(little_hub, out)  # as the comparison begins
    run.until(f"== {COUNT}/{COUNT} ")
    assert "1/3 VABBClusteringS2S" in run.printed and ", kept)" in run.kill()
    assert "mean over types" in Run(little_hub, out).finish(0)

    printed = undisturbed.finish(0)
    assert files_of(out) == files_of(tmp_path / "undisturbed") and len(files_of(out)) == 2 + 5 + 6 + 6 + 3
    assert "60 rows, 120 pairs of query and positive (170,000 expected: 0.1%)" in printed and "80 rows, 80 pairs" in printed
    assert max(len(row["neg"]) for name in reproduce.ANNOTATED for _, row in files.read_jsonl(out / f"mined/{name}.jsonl.gz")) == 7
    log = [line for _, line in files.read_jsonl(model / "log.jsonl")]
    assert [line["step"] for line in log] == list(range(1, len(log) + 1)) and {line["source"] for line in log} == {
        *reproduce.ANNOTATED, *synthesize.TYPES}  # fmt: skip
    assert sum(line["source"] == "mmarco" for line in log) == 30, "three quarters of 80 rows, two a batch"

    shutil.rmtree(out / "annotated")
    shutil.rmtree(out / "e5-small-trm")
    other = Run(little_hub, out, "--init", "transtokenize", "--recipe", "stated")  # its first stage is its own, the next seven are shared
    other.until(f"== 2/{COUNT} ")
    assert "not needed any more" in other.printed and "wordpiece" in (out / "e5-small-v2-t2t/tokenizer.json").read_text().lower()
    other.until(f"== 9/{COUNT} ")
    assert other.kill().count("is not needed any more\n") == 3 and other.printed.count(" is there\n") == 4


# --- the plan -------------------------------------------------------------------------------------------------------------------

MINER = "intfloat/multilingual-e5-base"
SETTINGS = {"size": "base", "init": "trim", "recipe": "released", "batch_size": 1024, "miner": MINER, "tasks": ["all"]}
MODULES = {"trim_vocab.py": trim_vocab, "transtokenize.py": transtokenize, "data.py": data, "mine.py": mine, "synthesize.py": synthesize,
           "e5nl.py": e5nl, "evaluate.py": evaluate}  # fmt: skip


@pytest.mark.parametrize("init", list(reproduce.INITIALISE))
@pytest.mark.parametrize("size", reproduce.SIZES)
def test_commands_are_those_of_the_modules_and_say_every_setting(monkeypatch, size, init):
    """The modules' own parsers take them, and what training's and mining's options are by default in the paper's settings is said."""
    parsed = {}

    def parse(parser, argv):
        parsed[stage.name] = ORIGINAL(parser, argv)
        raise StopIteration

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # for the defaults that differ there
    for stage in plan(**SETTINGS | {"size": size, "init": init}):
        script, *words = shlex.split(stage.command)
        with pytest.raises(StopIteration):
            MODULES[script].main(words)
    train = vars(parsed["train"])
    paper = {"recipe": "released", "batch_size": 1024, "tau": 0.02, "negatives": 1, "lr": 1e-5, "warmup": 0.25, "weight_decay": 0.1,
             "epochs": 1, "query_length": 450, "passage_length": 500, "seed": 42, "clip": 1.0, "resume": True}  # fmt: skip
    assert {name: train[name] for name in paper} == paper
    assert (train["chunk_tokens"], e5nl.CHUNK_TOKENS["cuda"]) == (estimate.TRAINED, estimate.EMBEDDED), "what memory is reckoned for"
    assert (parsed["mine fever"].rule, parsed["mine fever"].negatives, parsed["mine fever"].store) == ("topk-stdmarginpos", 7, "bfloat16")
    assert (parsed["synthetic"].least_positive, parsed["synthetic"].largest_gap) == (0.1, 0.96)
    assert (parsed["evaluate"].prefix, parsed["compare"].a) == ("mteb", f"clips/e5-{size}-trm-nl")


ORIGINAL = argparse.ArgumentParser.parse_args


def test_several_gpus_share_the_stages_that_can(tmp_path):
    stages = {stage.name: stage for stage in plan(**SETTINGS, processes=8)}
    command = reproduce.words(stages["train"], tmp_path / "een map", 8)
    assert command[:4] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"] and command[4] == "8"
    assert command[-1] == f"{tmp_path}/een map/e5-base-trm-nl"
    assert [name for name, stage in stages.items() if "-m" in reproduce.words(stage, tmp_path, 8)] == [
        "mine hotpotqa", "mine fever", "mine mmarco", "train", "evaluate"]  # fmt: skip
    assert reproduce.words(stages["train"], tmp_path, 2)[:5] == [*command[:4], "2"]
    assert "-m" not in reproduce.words(stages["train"], tmp_path, 1)


def test_a_printed_command_is_the_command(tmp_path):
    for stage in plan(**SETTINGS | {"miner": "runs/mijn model"}):
        words = reproduce.words(stage, tmp_path / "een map", 2)
        shell = "python() { printf '%s\\n' \"$@\"; }; " + reproduce.shown(words)
        shell = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
        assert shell.stdout.splitlines() == words
    assert "runs/mijn model" in reproduce.words(plan(**SETTINGS | {"miner": "runs/mijn model"})[4], tmp_path, 1)


def made(out: Path, stages, but=()) -> None:
    """As if these stages had run."""
    for stage in stages:
        if stage.name not in but and stage.proof:
            (out / stage.proof).parent.mkdir(parents=True, exist_ok=True)
            (out / stage.proof).write_text("{}")
            (out / stage.output).touch()


def test_only_what_is_missing_and_needed_runs(tmp_path):
    stages = plan(**SETTINGS)
    names = [stage.name for stage in stages]
    assert reproduce.missing(stages, tmp_path) == set(names)
    made(tmp_path, stages, but=["mine fever", "train"])
    assert reproduce.missing(stages, tmp_path) == {"mine fever", "train", "evaluate", "compare"}
    (tmp_path / "annotated/fever.jsonl.gz").unlink()
    (tmp_path / "annotated/mmarco.jsonl.gz").unlink()
    assert reproduce.missing(stages, tmp_path) == {"annotated fever", "mine fever", "train", "evaluate", "compare"}
    made(tmp_path, stages)
    assert reproduce.missing(stages, tmp_path) == {"evaluate", "compare"}


@pytest.mark.parametrize(
    ("gone", "change", "message"),
    [
        ([], {}, None),
        ([], {"tasks": ["STS"]}, None),  # evaluation knows by itself what it has
        ([], {"size": "small"}, None),
        ([], {"init": "transtokenize"}, None),
        ([], {"batch_size": 512}, "e5-base-trm-nl: was made with other settings (there 1024, now 512); remove"),
        ([], {"miner": "x/y"}, f"mined/hotpotqa.jsonl.gz: was made with other settings (there {MINER}, now x/y); remove"),
        (["mined"], {"miner": "x/y"}, f"e5-base-trm-nl: was made with other settings (there {MINER}, now x/y); remove"),
        (["mined", "e5-base-trm-nl"], {"miner": "x/y"}, None),
    ],
)
def test_what_other_settings_made_is_refused(tmp_path, gone, change, message):
    before, now = plan(**SETTINGS), plan(**SETTINGS | change)
    record = {stage.output: reproduce.made_by(stage, before) for stage in before}
    made(tmp_path, before)
    for name in gone:
        shutil.rmtree(tmp_path / name)
    if message is None:
        reproduce.check_record(record, now, tmp_path)
        return
    with pytest.raises(InputError) as error:
        reproduce.check_record(record, now, tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/{message} {tmp_path}/")
    if "batch_size" in change:
        (tmp_path / "results/e5-base-trm-nl").mkdir(parents=True)
        with pytest.raises(InputError, match="remove .*/e5-base-trm-nl and .*/results/e5-base-trm-nl to make it anew"):
            reproduce.check_record(record, now, tmp_path)
    with pytest.raises(InputError, match="e5-base-trm: is there, but .*plan.json does not say how it was made; remove"):
        reproduce.check_record({}, before, tmp_path)


def test_a_dry_run_says_what_the_run_would_refuse(tmp_path, capsys):
    (tmp_path / "e5-base-trm").mkdir()
    with pytest.raises(InputError, match="e5-base-trm: is there, but .*plan.json does not say how it was made"):
        reproduce.main(["--size", "base", "--dry-run", "--gpu", "H100", "--processes", "1", "--out", str(tmp_path)])
    assert "# 11 compare" in capsys.readouterr().out


def test_another_share_of_a_source_is_another_model(tmp_path, monkeypatch):
    before = plan(**SETTINGS)
    record = {stage.output: reproduce.made_by(stage, before) for stage in before}
    made(tmp_path, before)
    monkeypatch.setitem(reproduce.ANNOTATED, "mmarco", reproduce.ANNOTATED["mmarco"]._replace(ratio=0.6))
    with pytest.raises(InputError, match=r"e5-base-trm-nl: was made with other settings \(there 0.75\}\]\}, now 0.6\}\]\}\)"):
        reproduce.check_record(record, plan(**SETTINGS), tmp_path)


@pytest.mark.parametrize(("command", "status"), [("import sys; sys.exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_a_failing_stage_ends_the_run(tmp_path, monkeypatch, capsys, command, status):
    monkeypatch.setattr(reproduce, "words", lambda stage, *_: ["-c", command])
    assert reproduce.run(plan(**SETTINGS), tmp_path, 1, "H100") == status
    assert capsys.readouterr().err == f"error: stage 'initialise' failed, exit status {status}; the same command goes on there\n"
    assert list(read_json(tmp_path / "plan.json")) == ["e5-base-trm"]


def test_a_terminated_run_lets_its_command_end(tmp_path):
    """SIGTERM: the command is told, and may write what it needs to go on."""
    (tmp_path / "command.py").write_text("import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.2), pathlib.Path({str(tmp_path / 'saved')!r}).touch(), sys.exit(1)))\n"
        "print('begun', flush=True)\ntime.sleep(60)\n")  # fmt: skip
    script = f"""
import reproduce, files
reproduce.words = lambda *_: [{str(tmp_path / "command.py")!r}]
files.cli(lambda: reproduce.run(reproduce.plan(**{SETTINGS}), reproduce.Path({str(tmp_path / "out")!r}), 1, "H100"))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert any(line == "begun\n" for line in process.stdout)
    process.terminate()
    assert process.wait() == 143 and (tmp_path / "saved").exists()
    process.stdout.close()


def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, hub):
    with pytest.raises(SystemExit):
        reproduce.main(["--size", "tiny"])
    assert "invalid choice: 'tiny' (choose from" in capsys.readouterr().err
    with pytest.raises(InputError, match="task 'SICK' is unknown; did you mean SICK-NL-STS"):
        reproduce.main(["--size", "base", "--tasks", "STS", "SICK"])
    (tmp_path / "bestand").touch()
    with pytest.raises(OSError, match="bestand"):
        reproduce.main(["--size", "base", "--out", str(tmp_path / "bestand/map"), "--gpu", "L4", "--processes", "1"])
    printed = Run(tmp_path / "hub", tmp_path / "out").finish(2).splitlines()
    assert printed[-2].startswith("error: intfloat/multilingual-e5-small: neither here nor to be had from the hub")
    assert printed[-1] == "error: stage 'initialise' failed, exit status 2; the same command goes on there"


# --- what it takes --------------------------------------------------------------------------------------------------------------


def test_parameters_are_the_published_ones():
    """Model cards and registry; of the small one derived from its configuration."""
    published = {"small": [117_653_760, 40_840_320], "base": [278_043_648, 124_443_648], "large": [559_890_432, 355_090_432]}
    for size, counts in published.items():
        assert [estimate.parameters(size, pieces) for pieces in estimate.PIECES["trim"]] == pytest.approx(counts, rel=0.005)


def test_figures_by_hand(capsys):
    """A layer of width 2 and inner width 4 has 4 * 4 + 2 * 2 * 4 = 32 weights; two texts of 3 tokens and one of 5: 11 tokens, 43 pairs."""
    assert estimate.operations((2, 7, 1, 4), [(2, 3), (1, 5)]) == 7 * (2 * 11 * 32 + 4 * 43 * 2)
    assert estimate.Needs(bfloat16=989e12 * 0.4 * 3600, float32=67e12 * 2 / 3 * 7200).hours("H100") == pytest.approx(1 + 2)
    stages = {stage.name: stage.needs for stage in plan(**SETTINGS)}
    assert stages["annotated hotpotqa"].download == pytest.approx(1.91e9 + 15.7e6, rel=0.05), "what the hub says of its two files"
    passages = 5_233_329 * 768 * 2  # in bfloat16
    assert 2 * passages < stages["mine hotpotqa"].disk < 2.2 * passages
    weights = estimate.parameters("base", 50_002)
    assert stages["train"].gpu - 16 * weights == 34 * 8192 * 12 * 768 and stages["train"].disk == 40 * weights
    assert stages["evaluate"].gpu == 4 * weights + 2 * 34 * 65536 * 768, "in float32"
    rows = [(85_000, 31.752, 75.376), (109_810, 17.312, 133.896), (0.75 * 502_939, 14.12, 90.12)]  # query and passage: 1.52 words + 5
    tokens = sum(count * (query + 2 * passage) for count, query, passage in rows) + 350_000 * 3 * 126.6
    products = 4 * 2 * 12 * (4 * 768**2 + 2 * 768 * 3072) * tokens  # four passes; a weight multiplies and adds once a token
    assert products < stages["train"].bfloat16 < 1.05 * products, "attention is a few percent"
    large = {stage.name: stage.needs for stage in plan(**SETTINGS | {"size": "large"})}
    assert large["mine fever"] == stages["mine fever"] and 3 < large["train"].bfloat16 / stages["train"].bfloat16 < 4

    reproduce.main(["--size", "base", "--dry-run", "--gpu", "L4", "--processes", "1", "--out", "/nergens/te vinden"])
    lines = capsys.readouterr().out.splitlines()
    total = next(line for line in lines if line.startswith("in all"))
    assert float(total.split()[-1]) == pytest.approx(sum(needs.hours("L4") for needs in stages.values()), abs=0.01)
    assert sum(line.startswith("python ") for line in lines) == COUNT and not Path("/nergens").exists()


def test_the_readme_shows_the_plan_as_it_is_printed(tmp_path):
    """Where this test runs may have other disks and GPUs."""
    command = [sys.executable, "reproduce.py", "--size", "base", "--dry-run", "--gpu", "H100", "--processes", "1"]
    readme = (DEMO.parent / "docs/reproduce.md").read_text()
    printed = subprocess.run(command, capture_output=True, text=True, cwd=DEMO.parent).stdout
    before, after = re.split(r"[0-9.]+ GB are free", printed)
    assert before in readme and after in readme and len(before.splitlines()) == COUNT + 5


@pytest.mark.parametrize(("name", "known"), [("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA A100-SXM4-80GB", "A100"), ("NVIDIA L40S", "L40S"),
                                             ("NVIDIA L40", ""), ("NVIDIA GeForce RTX 4090", "RTX 4090")])  # fmt: skip
def test_gpus_are_known_by_name(monkeypatch, name, known):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert reproduce.find_gpus() == (3, known)
