"""A real HTTP server on loopback that stands for an LLM, good and bad. What it answers well is a function of the prompt alone."""

import collections
import contextlib
import email.utils
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ["malformed", "english", "refusal", "429 seconds", "429 date", "500", "silent", "cut", "slow body", "slow head"]


def dutch(generator: random.Random, words: int) -> str:
    common = "de het een en van niet met voor naar bij".split()
    return " ".join(generator.choice(common) if i % 2 else f"w{generator.randrange(10**6)}" for i in range(words))


def good_answer(prompt: str) -> dict:
    """A function of the prompt."""
    generator = random.Random(prompt)
    if '"tasks"' in prompt:
        return {"tasks": [f"Given task {generator.randrange(10**9)}, retrieve {{topic}}." for _ in range(int(prompt.split()[2]))]}
    words = 3 if "its label" in prompt else 24
    return {"query": dutch(generator, 24), "positive": dutch(generator, words), "negative": dutch(generator, words)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, status: int, value, headers=()) -> bytes:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
        return "\r\n".join(lines).encode() + body

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

    def chat(self, content: str, **more) -> bytes:
        message = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"} | more
        return self.reply(200, {"choices": [message], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})

    def good(self, prompt: str) -> bytes:
        return self.chat(f"<think>Ik {{denk}} na.</think>Natuurlijk! ```json\n{json.dumps(good_answer(prompt))}\n```")

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
        else:
            text = "the cat sat on the mat and would not move for anybody at all " * 2
            english = json.dumps({field: text if field == "query" else field for field in good_answer(prompt)})
            date = email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: in 1 to 2
            self.wfile.write({
                "malformed": self.chat('{"query": "de kat", "positive": "de h'),
                "english": self.chat(english),
                "refusal": self.chat("Het spijt me, daar kan ik niet mee helpen."),
                "429 seconds": self.reply(429, {"error": "te druk"}, ["Retry-After: 1"]),
                "429 date": self.reply(429, {"error": "te druk"}, [f"Retry-After: {date}"]),
                "500": self.reply(500, b"<html>stuk</html>"),
            }[kind])  # fmt: skip


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128


def start(answer=None) -> tuple[str, Server]:
    """(base URL, server): every POST is answered by answer(handler, body, prompt, how often this prompt was asked), well by default."""
    server = Server(("127.0.0.1", 0), Handler)
    server.lock, server.requests, server.seen, server.faults = threading.Lock(), [], collections.Counter(), collections.Counter()
    server.answer = answer or (lambda handler, body, prompt, nth: handler.wfile.write(handler.good(prompt)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/v1", server


def faulty(share: float, seed: int = 0, kinds=FAULTS):
    """An answer that is bad with this probability, in a way that (seed, prompt, how often it was asked) decide."""

    def answer(handler, body, prompt, nth):
        generator = random.Random(f"{seed} {prompt} {nth}")
        if generator.random() < share:
            with handler.server.lock:
                handler.server.faults[kind := generator.choice(kinds)] += 1
            handler.fault(kind, prompt)
        else:
            handler.wfile.write(handler.good(prompt))

    return answer
