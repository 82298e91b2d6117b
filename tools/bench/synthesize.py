"""Synthetic rows per second from a server that answers at once, and cleaning."""

import http.server
import json
import tempfile
import threading
from pathlib import Path

import numpy as np

import synthesize
from files import InputError, read_lines, whole_number, write_jsonl
from tools.bench import measure
from tools.samples import DEMO

WORDS = "de kat zit al de hele dag op het dak en wil er niet af omdat het daar zo warm is zegt zij"
LONG = 120  # words of a passage to clean


def response(value: dict) -> bytes:
    """A chat completion, as HTTP."""
    message = {"role": "assistant", "content": json.dumps(value)}
    usage = {"prompt_tokens": 200, "completion_tokens": 90}
    choices = [{"message": message, "finish_reason": "stop"}]
    text = json.dumps({"choices": choices, "usage": usage})
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    tasks = response({"tasks": ["Given a question, retrieve a passage"]})
    # A triplet that fits every type of task.
    backwards = WORDS.split()[::-1]
    texts = {"positive": " ".join(backwards[:20]), "negative": " ".join(backwards[1:21])}
    row = response({"query": WORDS} | texts)

    def do_POST(self):
        request = self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(self.tasks if b'\\"tasks\\"' in request else self.row)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


def generate(url: str, rows: int, requests: int) -> dict:
    """The process of one figure."""
    words = f"generate --llm bench --base-url {url} --rows {rows} --concurrency {requests}".split()
    with tempfile.TemporaryDirectory() as folder:
        words += ["--topics", str(DEMO / "topics.txt"), "--out", f"{folder}/rows.jsonl"]
        missing, figures = measure.timed(lambda: synthesize.main(words))
    if missing:
        raise InputError(f"{requests} requests at a time: rows are missing")
    return figures | {"rows/s": rows / figures["seconds"]}


def triplets(count: int):
    """Rows of random words, two fifths of them frequent; every tenth is a near duplicate."""
    frequent = np.resize("de het een en van niet met voor op in".split(), 40_000)
    words = np.concatenate([frequent, [f"woord{i}" for i in range(60_000)]])
    generator = np.random.default_rng(0)
    for n in range(count):
        if n % 10 or not n:
            chosen = generator.choice(words, 8 + 2 * LONG)
        else:  # the row before, with another first word
            chosen[0] = f"x{n}"
        query, pos, neg = map(" ".join, np.split(chosen, [8, 8 + LONG]))
        texts = {"query": query, "pos": pos, "neg": neg}
        yield {"row": n, "task_type": "sl", "topic": str(n % 100)} | texts


def clean(data: Path) -> dict:
    """The process of one figure."""
    words = ["clean", "--data", str(data), "--overwrite", "--out", f"{data}.clean.jsonl"]
    _, figures = measure.timed(lambda: synthesize.main(words))
    return figures | {"rows kept": sum(1 for _ in read_lines(words[-1]))}


def add_options(add) -> None:
    add("--rows", type=whole_number(1), default=20_000, help="to ask for")
    add("--concurrency", type=whole_number(1, 1000), nargs="+", default=[32], help="requests")
    add("--clean", type=whole_number(1), nargs="+", default=[500_000], help="rows to clean")


def run(args) -> None:
    with Server(("127.0.0.1", 0), Handler) as server:
        # In this process; each figure has one of its own.
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        calls = {}
        for requests in args.concurrency:
            name = f"{args.rows:,} rows, {requests} requests at a time"
            calls[name] = generate, url, args.rows, requests
        rows = measure.compare(calls, args)
        server.shutdown()
    title = "generate, from a server that answers at once"
    measure.print_table(title, ["seconds", "rows/s"], rows)

    rows = {}
    for count in args.clean:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder, "rows.jsonl")
            write_jsonl(data, triplets(count))
            rows |= measure.compare({f"{count:,} rows": (clean, data)}, args)
    title = f"clean, rows of {8 + 2 * LONG} words, a tenth of them near duplicates"
    measure.print_table(title, ["seconds", "CPU s", "peak MB", "rows kept"], rows)
