"""What servers that nobody here wrote answer to `synthesize.py`, with a tiny model each.

    python -m tests.servers.run --environments runs/servers --install

Each server has an environment of its own, made by `--install` from the `*.txt` of its name; one
without its environment is left out. docs/synthetic.md has what this printed. Not in CI: the
environments take some 2 GB, and llama-cpp-python is compiled.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from client import one_line
from files import cli, write_jsonl
from tools.elsewhere.__main__ import OFFLINE, make_environment

HERE = Path(__file__).parent
URL = "http://127.0.0.1:8391"
LONGEST = 300.0  # seconds until a server answers

SERVERS = {  # name: (what is asked, what makes its model, the command in its environment's bin)
    "transformers": ("chat", "models.py chat", "transformers serve --device cpu"),
    "llama_cpp": (
        "chat",
        "gguf_model.py",
        "python -m llama_cpp.server --model {model}/model.gguf --n_ctx 256",
    ),
    "infinity": (
        "rerank",
        "models.py rerank",
        "infinity_emb v2 --model-id {model} --engine torch --device cpu --no-bettertransformer",
    ),
}
PATHS = {"chat": "/v1/chat/completions", "rerank": "/rerank"}
BODIES = {
    "chat": {
        "messages": [{"role": "user", "content": "Schrijf een zin."}],
        "max_tokens": 8,
        "temperature": 1.0,
    },
    "rerank": {"query": "fiets", "documents": ["een fiets", "de lucht"]},
}
UNKNOWN = {"an unknown field": [{"unknown": 1}], "an unknown model": [{"model": "owner/unknown"}]}
QUESTIONS = {  # what differs from the body, in one request or several
    "chat": {
        "three seeds": [{"seed": 1}, {"seed": 2}, {"seed": 3}],
        "JSON mode": [{"response_format": {"type": "json_object"}}],
        **UNKNOWN,
        "1,200 tokens where 256 fit": [
            {"messages": [{"role": "user", "content": "woord " * 200}]},
        ],
    },
    "rerank": {
        "two documents": [{}],
        **UNKNOWN,
        "1,200 tokens where 256 fit": [{"documents": ["woord " * 200, "de lucht"]}],
        "3,000 documents": [{"documents": ["de lucht"] * 3000}],
    },
}
COMMANDS = {
    "chat": f"generate --base-url {URL}/v1 --llm {{}} --topics topics.txt --rows 2 --tries 2 "
    '--body {{"max_tokens":32}}',
    "rerank": f"score --base-url {URL} --reranker {{}} --data rows.jsonl",
}


@contextlib.contextmanager
def serving(maker: str, command: str, environment: Path, model: Path) -> Iterator[None]:
    """A server that has answered once, with a model that is made for it."""
    script, *kind = maker.split()
    subprocess.run([environment / "bin/python", HERE / script, *kind, model], check=True)
    program, *options = command.format(model=model).split()
    words = [environment / "bin" / program, *options, "--host", "127.0.0.1", "--port", URL[-4:]]
    with open(f"{model}.log", "w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | OFFLINE)
    try:
        end = time.monotonic() + LONGEST
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.get(f"{URL}/health")
                break
            time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait()


def post(kind: str, model: Path, changes: list[dict]) -> str:
    """The status, and what was said, in a few words; of several requests: do they differ?"""
    bodies = [{"model": str(model)} | BODIES[kind] | change for change in changes]
    answers = [httpx2.post(URL + PATHS[kind], json=body, timeout=LONGEST) for body in bodies]
    status, content = answers[0].status_code, answers[0].text
    if status != 200:
        return f"{status}: {one_line(content, 120)}"
    if kind == "rerank":
        scores = [round(result["relevance_score"], 3) for result in answers[0].json()["results"]]
        return f"200, scores {scores}"
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    if len(texts) > 1:
        return f"200, {len(set(texts))} different answers"
    return f"200, {'JSON' if texts[0].lstrip().startswith('{') else 'no JSON'}"


def synthesize(kind: str, model: Path, folder: Path) -> str:
    """The exit status of `generate` or `score` against a server, and the last line it printed."""
    (folder / "topics.txt").write_text("fietsen\n")
    row = {"task_type": "sl", "query": "fiets", "pos": "een fiets", "neg": "de lucht"}
    write_jsonl(folder / "rows.jsonl", [row | {"row": number} for number in range(3)])
    words = f"{COMMANDS[kind].format(model)} --out out.jsonl".split()
    script = [sys.executable, HERE.parents[1] / "synthesize.py", *words]
    done = subprocess.run(script, capture_output=True, text=True, cwd=folder)
    printed = done.stdout if done.returncode < 2 else done.stderr
    return f"status {done.returncode}: {printed.strip().splitlines()[-1]}"


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.run")
    parser.add_argument("--environments", required=True, help="a folder of virtual environments")
    parser.add_argument("--install", action="store_true", help="make those that are missing")
    args = parser.parse_args(argv)

    print("| server | asked | answer |\n| --- | --- | --- |")
    for name, (kind, maker, command) in SERVERS.items():
        environment = Path(args.environments).resolve() / name
        if args.install and not environment.is_dir():
            make_environment(environment, HERE)
        if not environment.is_dir():
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            with serving(maker, command, environment, model):
                for question, changes in QUESTIONS[kind].items():
                    print(f"| {name} | {question} | {post(kind, model, changes)} |", flush=True)
                said = synthesize(kind, model, Path(folder))
                print(f"| {name} | `synthesize.py` | {said} |", flush=True)


if __name__ == "__main__":
    cli(main)
