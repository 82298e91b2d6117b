"""What servers that nobody here wrote answer to `synthesize.py`, with a tiny model each.

    python -m tests.servers.run --environments runs/servers --install

Each server has an environment of its own, made by `--install` from the `*.txt` of its name; one
without its environment is left out. docs/synthetic.md has what this printed. Not in CI: the
environments take some 2 GB.
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
from typing import NamedTuple

import httpx2

from client import one_line
from files import cli, write_jsonl
from tools.elsewhere.__main__ import OFFLINE, make_environment

HERE = Path(__file__).parent
PORT = 8391
LONGEST = 300.0  # seconds until a server answers


class Server(NamedTuple):
    kind: str  # of its model, see models.py
    command: str  # in its environment's bin
    path: str  # before /chat/completions or /rerank


SERVERS = {
    "transformers": Server("chat", "transformers serve --device cpu", "/v1"),
    "infinity": Server(
        "rerank",
        "infinity_emb v2 --model-id {model} --engine torch --device cpu --no-bettertransformer",
        "",
    ),
}


@contextlib.contextmanager
def serving(server: Server, environment: Path, model: Path) -> Iterator[str]:
    """The address of a server that has answered once."""
    subprocess.run([environment / "bin/python", HERE / "models.py", server.kind, model], check=True)
    program, *options = server.command.format(model=model).split()
    command = [environment / "bin" / program, *options, "--host", "127.0.0.1", "--port", str(PORT)]
    with open(f"{model}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | OFFLINE)
    try:
        end = time.monotonic() + LONGEST
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.get(f"http://127.0.0.1:{PORT}/health")
                break
            time.sleep(1)
        yield f"http://127.0.0.1:{PORT}{server.path}"
    finally:
        process.terminate()
        process.wait()


def post(url: str, *bodies: dict) -> str:
    """The status, and what was said, in a few words; of several requests: do they differ?"""
    answers = [httpx2.post(url, json=body, timeout=LONGEST) for body in bodies]
    status, content = answers[0].status_code, answers[0].text
    if status != 200:
        return f"{status}: {one_line(content, 120)}"
    if "results" in answers[0].json():
        scores = [round(result["relevance_score"], 3) for result in answers[0].json()["results"]]
        return f"200, scores {scores}"
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    if len(texts) > 1:
        return f"200, {len(set(texts))} different answers"
    return f"200, {'JSON' if texts[0].lstrip().startswith('{') else 'no JSON'}"


def chat_questions(model: str) -> dict[str, list[dict]]:
    message = {"role": "user", "content": "Schrijf een zin."}
    body = {"model": model, "messages": [message], "max_tokens": 8, "temperature": 1.0}
    long = [message | {"content": "woord " * 200}]
    return {
        "three seeds": [body | {"seed": seed} for seed in (1, 2, 3)],
        "JSON mode": [body | {"response_format": {"type": "json_object"}}],
        "an unknown field": [body | {"unknown": 1}],
        "an unknown model": [body | {"model": "owner/unknown"}],
        "1,200 tokens where 256 fit": [body | {"messages": long}],
    }


def rerank_questions(model: str) -> dict[str, list[dict]]:
    body = {"model": model, "query": "fiets", "documents": ["een fiets", "de lucht"]}
    return {
        "two documents": [body],
        "an unknown field": [body | {"unknown": 1}],
        "an unknown model": [body | {"model": "owner/unknown"}],
        "1,200 tokens where 256 fit": [body | {"documents": ["woord " * 200, "de lucht"]}],
        "3,000 documents": [body | {"documents": ["de lucht"] * 3000}],
    }


def command(server: Server, url: str, model: Path, folder: Path) -> str:
    """The exit status of `generate` or `score` against a server, and the last line it printed."""
    names = {"chat": "--llm", "rerank": "--reranker"}
    words = ["--base-url", url, names[server.kind], str(model), "--out", str(folder / "out.jsonl")]
    if server.kind == "chat":
        (folder / "topics.txt").write_text("fietsen\n")
        words = ["generate", *words, "--topics", str(folder / "topics.txt"), "--rows", "2"]
        words += ["--body", '{"max_tokens": 32}', "--tries", "2"]
    else:
        row = {"task_type": "sl", "query": "fiets", "pos": "een fiets", "neg": "de lucht"}
        write_jsonl(folder / "rows.jsonl", [row | {"row": number} for number in range(3)])
        words = ["score", *words, "--data", str(folder / "rows.jsonl")]
    script = [sys.executable, HERE.parents[1] / "synthesize.py", *words]
    done = subprocess.run(script, capture_output=True, text=True)
    last = (done.stdout if done.returncode < 2 else done.stderr).strip().splitlines()[-1]
    return f"status {done.returncode}: {last.replace(f'{folder}/', '')}"


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.run")
    parser.add_argument("--environments", required=True, help="a folder of virtual environments")
    parser.add_argument("--install", action="store_true", help="make those that are missing")
    args = parser.parse_args(argv)

    print("| server | asked | answer |\n| --- | --- | --- |")
    for name, server in SERVERS.items():
        environment = Path(args.environments).resolve() / name
        if args.install and not environment.is_dir():
            make_environment(environment, HERE)
        if not environment.is_dir():
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            with serving(server, environment, model) as url:
                ask = {"chat": "/chat/completions", "rerank": "/rerank"}[server.kind]
                questions = {"chat": chat_questions, "rerank": rerank_questions}[server.kind]
                for question, bodies in questions(str(model)).items():
                    print(f"| {name} | {question} | {post(url + ask, *bodies)} |", flush=True)
                said = command(server, url, model, Path(folder))
                print(f"| {name} | `synthesize.py` | {said} |", flush=True)


if __name__ == "__main__":
    cli(main)
