"""Ask one server for many answers: over HTTP, from many threads, through faults of all kinds, each answer kept as it comes.

In: requests (JSON) for an OpenAI-compatible server (`/chat/completions`) or a reranker (`/rerank`). Out: an append-only JSON Lines file.
A process that is killed at any time loses what was under way; started again it asks for what is missing, and ends with the same bytes
as one that was left in peace, where the server's answers are the same.

    client = Client("http://localhost:8000/v1", key=os.environ.get("OPENAI_API_KEY", ""))
    with appending("answers.jsonl", key=lambda row: row["row"]) as (there, append):  # work(n): a row, or Refused
        collect((n for n in range(1000) if n not in there), 1000 - len(there), work, append, client, concurrency=32)

Standard library HTTP. The key is written nowhere: not in files, not in errors, not even where the server repeats it.
Left out on purpose: streaming, batch APIs, proxies, redirects, Windows (the file is locked with `flock`).
"""

import collections
import contextlib
import email.utils
import fcntl
import hashlib
import http.client
import io
import itertools
import json
import os
import queue
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from files import InputError, new_file, read_json, write_json

# --- one request --------------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """A request without a usable answer: the reason in a few words, to be counted, and what the server said."""

    def __init__(self, reason: str, said: str = ""):
        super().__init__(f"{reason}: {said}" if said else reason)
        self.reason = reason


class Timed(io.RawIOBase):
    """A socket's reading side in which all reads of one response end by one time, so that a server that sends drop by drop cannot hang."""

    def __init__(self, sock: socket.socket, ends: float):
        self.sock, self.ends, self.raw = sock, ends, sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if (left := self.ends - time.monotonic()) <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        return self.raw.readinto(buffer)

    def close(self) -> None:
        self.raw.close()
        super().close()


LONGEST_WAIT = 600.0  # seconds that a Retry-After may ask for
STOP = (301, 302, 303, 307, 308, 401, 404, 405)  # the address or the key is wrong: no row would get another answer
AGAIN = (408, 409, 425, 429)  # and 500 and above: the same request may be answered later. Other statuses: this row's request is refused


class Client:
    """POSTs JSON to one server, from any number of threads, each over a connection of its own that is kept open.

    timeout: seconds for a whole request; backoff: before the first of the `retries`; prices: of a million tokens read and written.
    It counts: requests sent, faults by reason, tokens read and written. json_mode: False once the server has refused it.
    """

    def __init__(self, base_url: str, key: str = "", timeout: float = 300.0, retries: int = 8, backoff: float = 1.0, prices=(0.0, 0.0)):
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.password or url.query:
            shown = base_url.partition("?")[0].rpartition("@")[2]  # without what may be a password
            raise InputError(f"--base-url {shown}: expected http(s)://host:port/path and no more; a key goes in the environment")
        if not re.fullmatch("[!-~]*", key):
            raise InputError("the API key holds characters that no key has (a space, a line end?); set the environment variable again")
        self.url, self.key, self.timeout, self.retries, self.backoff, self.prices = url, key, timeout, retries, backoff, prices
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self.requests, self.faults, self.tokens, self.json_mode = 0, collections.Counter(), [0, 0], True
        self.lock, self.stopped, self.answered = threading.Lock(), threading.Event(), False
        self.local, self.connections, self.random = threading.local(), [], random.Random(0)

    def count(self, reason: str) -> None:
        with self.lock:
            self.faults[reason] += 1

    @property
    def paid(self) -> float:
        return sum(tokens * price / 1e6 for tokens, price in zip(self.tokens, self.prices, strict=True))

    def describe(self, done: int = 0, total: int = 0, before: float = 0.0) -> str:
        """Tokens, the share of requests that failed; with prices what was paid, `before` of it for other rows, and what is to be paid."""
        line = f"{sum(self.tokens):,} tokens, {self.faults.total() / max(1, self.requests):.1%} refused"
        if any(self.prices):
            line += f", paid {self.paid:.2f}" + (f", {(self.paid - before) * (total - done) / done:.2f} to pay" if done else "")
        return line

    def post(self, path: str, body: dict):
        """The answer's JSON. A fault that may pass is tried again, after waits that double or as Retry-After says; Refused at last."""
        data = json.dumps(body).encode()
        for attempt in range(self.retries + 1):
            if self.stopped.is_set():
                raise Refused("stopped")
            status, headers, content, reason = self._send(path, data)
            if status == 200:
                self.answered = True
                with contextlib.suppress(ValueError, RecursionError):
                    return json.loads(content)
                reason = "answer is no JSON"
            said = content.decode(errors="replace")[:300]
            if status in STOP:
                raise InputError(f"{self.url.geturl()}{path}: {reason}: {said}")
            self.count(reason)
            passes = status in (None, 200, *AGAIN) or status >= 500
            if not passes or attempt == self.retries:
                break
            self.stopped.wait(self._pause(attempt, headers.get("Retry-After", "")))
        raise Refused(reason, said)

    def _pause(self, attempt: int, after: str) -> float:
        with contextlib.suppress(ValueError, TypeError):  # neither seconds nor a date: as if there were none
            seconds = float(after) if re.fullmatch(r"\d+", after) else email.utils.parsedate_to_datetime(after).timestamp() - time.time()
            return min(max(seconds, 0.0), LONGEST_WAIT)
        return min(60.0, self.backoff * 2**attempt) * (0.5 + self.random.random() / 2)

    def _send(self, path: str, data: bytes) -> tuple[int | None, Mapping, bytes, str]:
        """(status, headers, body, what went wrong if anything did) of one request; without an answer the status is None.

        The key is blacked out, should the server repeat it.
        """
        ends = time.monotonic() + self.timeout
        if not (connection := getattr(self.local, "connection", None)):
            kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
            connection = self.local.connection = kind(self.url.hostname, self.url.port, timeout=self.timeout)
            self.connections.append(connection)
        connection.response_class = lambda sock, **options: http.client.HTTPResponse(Timed(sock, ends), **options)
        with self.lock:
            self.requests += 1
        try:
            if connection.sock:
                connection.sock.settimeout(self.timeout)
            connection.request("POST", self.url.path.rstrip("/") + path, data, self.headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()  # the rest of this answer must not be read as the next one
            if not self.answered and isinstance(error, (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)):
                raise InputError(f"{self.url.geturl()}: {error}; is the server running, and is this its address?") from None
            reason = "timed out" if isinstance(error, TimeoutError) else "connection lost"
            return None, {}, str(error).encode(), reason
        if self.key:
            content = content.replace(self.key.encode(), b"***")
        return response.status, response.headers, content, f"status {response.status}"

    def stop(self) -> None:
        """End all waiting and all requests under way."""
        self.stopped.set()
        for connection in self.connections:
            with contextlib.suppress(OSError, AttributeError):  # closed meanwhile
                connection.sock.shutdown(socket.SHUT_RDWR)


def chat(client: Client, prompt: str, seed: int, options: dict) -> dict:
    """The server's answer to a prompt, asked for in JSON mode as long as the server takes that."""
    body = {"messages": [{"role": "user", "content": prompt}], "seed": seed, "response_format": {"type": "json_object"}} | options
    if not client.json_mode:
        del body["response_format"]
    body = {name: value for name, value in body.items() if value is not None}
    try:
        return client.post("/chat/completions", body)
    except Refused as refused:
        if refused.reason not in ("status 400", "status 422") or not body.pop("response_format", None):
            raise
    answer = client.post("/chat/completions", body)
    client.json_mode = False
    return answer


def parse_answer(answer, client: Client) -> dict:
    """The JSON object in a chat answer: after a reasoning model's thoughts, between whatever it says around it."""
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        message, finish = choice["message"], choice.get("finish_reason")
        text = (message.get("content") or "").rpartition("</think>")[2]
        used = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Refused("not a chat answer") from None
    with client.lock:
        client.tokens = [a + b for a, b in zip(client.tokens, used, strict=True)]
    if message.get("refusal") or finish == "content_filter":
        raise Refused("refusal")
    if finish == "length":
        raise Refused("cut at max_tokens")
    try:
        value = json.loads(text[text.index("{") : text.rindex("}") + 1])
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could not be written
    except (ValueError, RecursionError):
        raise Refused("no JSON in the message", text[:80]) from None
    return value


def ask(client: Client, prompt: str, seed: tuple, options: dict, tries: int, check: Callable[[dict], dict]) -> dict | Refused:
    """What `check` makes of the LLM's answer. Where it does not fit it is asked again, `tries` times in all, each with its own seed."""
    for attempt in range(tries):
        number = int(hashlib.sha256(repr((*seed, attempt)).encode()).hexdigest()[:7], 16)
        try:
            answer = chat(client, prompt, number, options)
        except Refused as refused:
            return refused
        try:
            return check(parse_answer(answer, client))
        except Refused as unfit:
            client.count(unfit.reason)
            last = unfit
    return last


# --- rows that are kept, as they come -------------------------------------------------------------------------------------------


def keep_settings(path, settings: dict, *others) -> None:
    """Write the settings of the run that writes `path` (and `others`) to `<path>.json`. Once there are rows they must be the same."""
    beside, settings = Path(f"{path}.json"), json.loads(json.dumps(settings))
    if Path(path).suffix != ".jsonl":
        raise InputError(f"--out {path}: expected a name that ends in .jsonl")
    begun = [file for file in (path, *others) if Path(file).exists() and Path(file).stat().st_size]
    if not begun:
        write_json(beside, {"settings": settings})
    elif not beside.exists():
        raise InputError(f"{begun[0]}: exists, but not {beside}, which says how it was made; choose another --out")
    old = read_json(beside).get("settings") or {}
    for name in sorted(old.keys() | settings.keys()):
        if old.get(name) != settings.get(name):
            was, now = (json.dumps(values.get(name), ensure_ascii=False)[:60] for values in (old, settings))
            raise InputError(f"{path}: was begun with {name} {was}, not {now}; give the same to go on with it, or choose another --out")


@contextlib.contextmanager
def appending(path, key: Callable[[dict], object]) -> Iterator[tuple[dict, Callable[[dict], None]]]:
    """({key: row's place in the file} of the rows there are, a function that appends a row as one whole line).

    A half line at the end, of a killed run, is cut off. When the block ends well the lines are sorted by key. One process at a time.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process is writing it") from None
        places, end = _places(file, path, key)
        if file.seek(0, os.SEEK_END) > end:
            print(f"{path}: a half line at its end, of a run that was killed, is cut off")
            file.truncate(end)

        def append(row: dict) -> None:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
            file.flush()

        yield places, append
        places, _ = _places(file, path, key)
        if list(places) != sorted(places):
            with new_file(path) as temporary, open(temporary, "wb") as ordered:
                for one in sorted(places):
                    file.seek(places[one])
                    ordered.write(file.readline())


def _places(file, path, key) -> tuple[dict, int]:
    """({key: where its line begins}, end of the last whole line)."""
    places, end = {}, 0
    file.seek(0)
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break
        try:
            places[key(json.loads(line))] = end
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}:{number}: {line[:40]!r} is no row of this run; remove the line") from None
        end += len(line)
    return places, end


def each(jobs, work: Callable, concurrency: int, stop: Callable) -> Iterator:
    """work(job) of all jobs in the order in which they are done, `concurrency` at a time. When it ends early, stop() ends the others."""
    jobs, done, running = iter(jobs), queue.SimpleQueue(), 0
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            while True:
                for job in itertools.islice(jobs, concurrency - running):
                    pool.submit(work, job).add_done_callback(done.put)
                    running += 1
                if not running:
                    return
                finished = done.get()
                running -= 1
                yield finished.result()
        except BaseException:
            stop()
            raise


def collect(jobs, total: int, work: Callable, append: Callable, client: Client, concurrency: int) -> collections.Counter:
    """Append work(job) of all jobs, show how it goes, return how many were Refused by reason. Stops when nothing gets through."""
    started, before, lost, in_a_row = time.monotonic(), client.paid, collections.Counter(), 0
    shown, results = started, each(jobs, work, concurrency, client.stop)
    with contextlib.closing(results), tqdm(total=total, unit="row", disable=None) as bar:
        for done, result in enumerate(results, 1):
            in_a_row = in_a_row + 1 if isinstance(result, Refused) else 0
            if not in_a_row:
                append(result)
            else:
                lost[result.reason] += 1
            if in_a_row >= max(20, 2 * concurrency):
                raise InputError(f"{client.url.geturl()}: the last {in_a_row} rows all failed ({result}); what was made is kept")
            bar.set_postfix_str(client.describe(done, total, before), refresh=False)
            bar.update()
            if bar.disable and time.monotonic() - shown > 30:
                shown = time.monotonic()
                rate = done / (shown - started)
                left = f"{rate:.1f} rows/s, {(total - done) / rate / 3600:.1f} hours left"
                print(f"{done:,} of {total:,} rows, {left}, {client.describe(done, total, before)}", flush=True)
    return lost


def write_report(client: Client, path, rows: int, lost: collections.Counter, seconds: float) -> int:
    """Add the figures of a run to `<path>.json` and print them. The exit status: 1 when rows are missing."""
    figures = {"rows": rows, "missing": dict(lost), "requests": client.requests, "faults": dict(client.faults), "tokens": client.tokens}
    figures |= {"json_mode": client.json_mode, "seconds": round(seconds, 3)}
    write_json(f"{path}.json", {"settings": read_json(f"{path}.json")["settings"], "last run": figures})
    faults = ", ".join(f"{reason} {count:,}" for reason, count in client.faults.most_common()) or "none"
    print(f"{client.requests:,} requests in {seconds:.1f} s, {client.describe()}; faults: {faults}")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in lost.items())
    missing = f"; {lost.total():,} are missing ({reasons}): the same command asks for them again" if lost else ""
    print(f"{path}: {rows:,} rows{missing}")
    return bool(lost)
