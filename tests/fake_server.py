"""A real HTTP server on loopback in the place of an LLM, good and bad.

What it answers well is a function of the prompt alone.
"""

import collections
import contextlib
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = [
    "english",
    "refusal",
    "429 seconds",
    "429 in an answer",
    "500",
    "silent",
    "cut",
    "slow body",
    "slow head",
]


def dutch(generator: random.Random, words: int) -> str:
    common = "de het een en van niet met voor naar bij".split()

    def word(i: int) -> str:
        return generator.choice(common) if i % 2 else f"w{generator.randrange(10**6)}"

    return " ".join(map(word, range(words)))


def good_answer(prompt: str) -> dict:
    """A function of the prompt."""
    generator = random.Random(prompt)
    if '"tasks"' in prompt:
        count = int(prompt.split()[2])
        tasks = (generator.randrange(10**9) for _ in range(count))
        return {"tasks": [f"Given task {number}, retrieve {{topic}}." for number in tasks]}
    words = {"query": 24, "positive": 24, "negative": 24}
    if "its label" in prompt:
        words |= {"positive": 3, "negative": 3}
    return {field: dutch(generator, count) for field, count in words.items()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        self.timeout = self.server.idle
        super().setup()

    def log_message(self, *_):
        pass

    def message(self, status: int, value, headers=()) -> bytes:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
        return "\r\n".join(lines).encode() + body

    def reply(self, status: int, value, headers=()) -> None:
        self.wfile.write(self.message(status, value, headers))

    def drip(self, data: bytes, at_once: int) -> None:
        self.wfile.write(data[:at_once])
        for byte in data[at_once:]:
            time.sleep(0.05)
            self.wfile.write(bytes([byte]))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, body, dict(self.headers)))
            prompt = body["messages"][0]["content"] if "messages" in body else json.dumps(body)
            self.server.seen[prompt] += 1
            nth = self.server.seen[prompt]
        with contextlib.suppress(OSError):  # the client went away
            self.server.answer(self, body, prompt, nth)

    def chat(self, content, **more) -> bytes:
        message = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        return self.message(200, {"choices": [message | more], "usage": usage})

    def good(self, prompt: str) -> bytes:
        thought = "<think>Ik {denk} na.</think>Natuurlijk! "
        return self.chat(f"{thought}```json\n{json.dumps(good_answer(prompt))}\n```")

    def fault(self, kind: str, prompt: str) -> None:
        good = self.good(prompt)
        if kind == "silent":
            time.sleep(3)
            self.close_connection = True
        elif kind == "cut":
            self.wfile.write(good[: len(good) // 2])
            self.close_connection = True
        elif kind == "slow body":
            self.drip(good, good.index(b"\r\n\r\n") + 9)
        elif kind == "slow head":
            self.drip(good, 15)
        elif kind == "english":
            text = "the cat sat on the mat and would not move for anybody at all " * 2
            answer = {field: text if field == "query" else field for field in good_answer(prompt)}
            self.wfile.write(self.chat(json.dumps(answer)))
        elif kind == "refusal":
            self.wfile.write(self.chat("Het spijt me, daar kan ik niet mee helpen."))
        elif kind == "429 seconds":
            self.reply(429, {"error": "te druk"}, ["Retry-After: 1"])
        elif kind == "429 in an answer":
            self.reply(200, {"error": {"message": "te druk", "code": 429}})
        elif kind == "500":  # every time in other words, as of something that passes
            self.reply(500, b"<html>stuk" + b"!" * self.server.seen[prompt])


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.lock = answer, threading.Lock()
        self.requests, self.seen, self.faults = [], collections.Counter(), collections.Counter()
        self.idle = None  # seconds after which an unused connection is closed

    def handle_error(self, request, client_address):
        """The client went away."""


def start(answer=None) -> tuple[str, Server]:
    """(base URL, server).

    Every POST is answered by answer(handler, body, prompt, how often this prompt was asked),
    well by default.
    """

    def good(handler, body, prompt, nth):
        handler.wfile.write(handler.good(prompt))

    server = Server(answer or good)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/v1", server


def always(status: int, value):
    """An answer that is the same for every request."""
    return lambda handler, body, prompt, nth: handler.reply(status, value)


def faulty(share: float):
    """Bad answers with this probability, in a way that the prompt and nth decide."""

    def answer(handler, body, prompt, nth):
        generator = random.Random(f"{prompt} {nth}")
        if generator.random() < share:
            kind = generator.choice(FAULTS)
            with handler.server.lock:
                handler.server.faults[kind] += 1
            handler.fault(kind, prompt)
        else:
            handler.wfile.write(handler.good(prompt))

    return answer
