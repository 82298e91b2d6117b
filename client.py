"""Ask one server many things over HTTP, through its faults, and keep each answer as it arrives.

In: requests (JSON) for an OpenAI-compatible server (`/chat/completions`) or a reranker (`/rerank`).
Out: an append-only JSON Lines file. A process may be killed at any time and loses only the requests
under way: started again, it asks for what is missing and ends with the same bytes as a run that was
never disturbed, as long as the server gives the same answers.

    async with Client("http://localhost:8000/v1", key=os.environ.get("OPENAI_API_KEY", "")) as client:
        with appending("answers.jsonl", key=lambda row: row["row"]) as (existing, append):
            missing = [n for n in range(1000) if n not in existing]
            lost = await collect(missing, len(missing), work, append, client, concurrency=32)

Here `work(n)` is a coroutine that returns a row or raises `Refused`. The key is written nowhere: not
to files, not in errors, not even where the server repeats it.
Left out on purpose: streaming, batch APIs, proxies, redirects, Windows (the file is locked by `flock`).
"""

import asyncio
import collections
import contextlib
import dataclasses
import email.utils
import fcntl
import hashlib
import itertools
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
from tqdm import tqdm

from files import InputError, new_file, read_json, write_json

LARGEST_ANSWER = 16 * 2**20  # bytes
LONGEST_WAIT = 600.0  # seconds, whatever Retry-After says
IDLE = 4.0  # seconds that an unused connection is kept: uvicorn and llama.cpp close theirs after 5

# What a status means. Any other from 400 to 499 refuses the one request; any other from 500 on may
# pass, unless the server says the same words twice in a row.
USELESS = (301, 302, 303, 307, 308, 401, 402, 404, 405, 501)  # no request would fare better
LATER = (408, 409, 425, 429, 502, 503, 504, 529)  # the server is busy, or is being started


class Refused(Exception):
    """A request without a usable answer.

    reason: a few words, by which such requests are counted; said: the server's own words;
    final: whether the same request would be refused again.
    """

    def __init__(self, reason: str, said: str = "", final: bool = False):
        super().__init__(f"{reason}: {said}" if said else reason)
        self.reason, self.said, self.final = reason, said, final


class Client:
    """Sends JSON to one server by POST, any number of requests at a time.

    timeout: seconds for a complete request, however slowly the server sends; retries: of a request
    whose fault may pass; backoff: seconds before the first retry, doubled before each further one.
    """

    def __init__(
        self,
        base_url: str,
        key: str = "",
        timeout: float = 300.0,
        retries: int = 8,
        backoff: float = 1.0,
    ):
        self.url, self.key = read_url(base_url), key
        if not re.fullmatch("[!-~]*", key):
            raise InputError("the API key has a space or a line end in it; set it again")
        self.timeout, self.retries, self.backoff = timeout, retries, backoff
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.http = httpx2.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=None,  # ours is for the complete request
            trust_env=False,
            follow_redirects=False,
            limits=httpx2.Limits(keepalive_expiry=IDLE),
        )
        self.requests, self.tokens = 0, [0, 0]  # sent; read and written by the LLM
        self.faults = collections.Counter()  # by reason
        self.json_mode = True  # False once the server has refused it
        self.answered = False  # True once the server has answered anything
        self.announced = 0.0  # until when the user knows that requests wait
        self.random = random.Random(0)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.http.aclose()

    def describe(self) -> str:
        share = self.faults.total() / max(1, self.requests)
        return f"{sum(self.tokens):,} tokens, {share:.1%} refused"

    async def post(self, path: str, body: dict):
        """The answer's JSON. A fault that may pass is tried again; in the end Refused is raised."""
        content = json.dumps(body).encode()
        previous = None
        for attempt in range(self.retries + 1):
            status, retry_after, text = await self._send(path, content)
            answer, status = read_answer(status, text)
            if status == 200:
                self.answered = True
                return answer
            reason = f"status {status}" if isinstance(status, int) else status
            if status in USELESS:
                raise InputError(f"{self.url}{path}: {reason}: {one_line(text)}")
            fault = Refused(reason, one_line(text), is_final(status, text, previous))
            self.faults[reason] += 1
            if fault.final or attempt == self.retries:
                break
            previous = (status, text)
            await self._pause(fault, attempt, retry_after)
        raise fault

    async def _send(self, path: str, content: bytes) -> tuple[int | str, str, str]:
        """(status, Retry-After, text) of one request. Without an answer the status is words."""
        self.requests += 1
        received = bytearray()
        try:
            async with (
                asyncio.timeout(self.timeout),
                self.http.stream("POST", path, content=content) as response,
            ):
                async for part in response.aiter_bytes():
                    received += part
                    if len(received) > LARGEST_ANSWER:
                        return "answer larger than 16 MB", "", ""
        except TimeoutError:
            return "timed out", "", ""
        except httpx2.HTTPError as error:
            said = self._without_key(str(error))
            if isinstance(error, httpx2.ConnectError) and not self.answered:
                hint = "is the server running, and is this its address?"
                raise InputError(f"{self.url}: {said}; {hint}") from None
            return "connection lost", "", said
        text = self._without_key(received.decode(errors="replace"))
        return response.status_code, response.headers.get("Retry-After", ""), text

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text

    async def _pause(self, fault: Refused, attempt: int, retry_after: str) -> None:
        """Wait as long as the server asks, else a time that doubles, with some chance in it."""
        seconds = read_retry_after(retry_after)
        if seconds is None:
            seconds = min(60.0, self.backoff * 2**attempt) * (0.5 + self.random.random() / 2)
        pause = min(seconds, LONGEST_WAIT)
        if pause > 60 and time.monotonic() + pause > self.announced + 60:
            self.announced = time.monotonic() + pause
            tqdm.write(f"{self.url}: {fault}; Retry-After is {retry_after}: waiting {pause:.0f} s")
        await asyncio.sleep(pause)


def read_url(base_url: str) -> httpx2.URL:
    """A server's address. What is wrong with one is not repeated: a part may be a password."""
    try:
        url = httpx2.URL(base_url)
        url.host.encode("idna")  # as looking it up does
        complete = url.scheme in ("http", "https") and url.host
        complete = complete and (url.port is None or 0 < url.port < 65536)
    except (httpx2.InvalidURL, ValueError):
        complete = False
    if not complete or url.userinfo or re.search(r"[?#\s]", base_url):
        raise InputError(
            "--base-url: expected http(s)://host:port/path, without spaces, user name or query;"
            " a key goes in the environment"
        )
    return url


def read_answer(status: int | str, text: str):
    """(JSON, 200), or (None, what went wrong): the status that an `error` object in it stands for.

    Some servers send status 200 before they know better. Before the JSON may be lines of comment
    (`: OPENROUTER PROCESSING`) that keep the connection alive.
    """
    if status != 200:
        return None, status
    try:
        answer = json.loads(re.sub(r"\A(?:\s*:.*\n)+", "", text))
    except (ValueError, RecursionError):
        return None, "answer is not JSON"
    choices = answer.get("choices") if isinstance(answer, dict) else None
    for holder in [answer, *(choices if isinstance(choices, list) else [])]:
        if isinstance(holder, dict) and (error := holder.get("error")):
            code = error.get("code") if isinstance(error, dict) else None
            if re.fullmatch("[45][0-9][0-9]", str(code)):
                return None, int(code)
            return None, 429 if re.search("rate.?limit", json.dumps(error), re.I) else 500
    return answer, 200


def is_final(status: int | str, text: str, previous: tuple | None) -> bool:
    """Whether the same request would fail again: refused as it is, or for the same words twice."""
    if isinstance(status, int) and status not in LATER:
        return status < 500 or (status, text) == previous
    if status == "answer is not JSON":
        return (status, text) == previous
    return status == "answer larger than 16 MB"


def read_retry_after(value: str) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or a date; None without one."""
    try:
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def one_line(text: str, length: int = 300) -> str:
    """The beginning of what a server said, fit for a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:length]).split())


# --- one answer of an LLM --------------------------------------------------------------------------


async def ask(
    client: Client, prompt: str, seed: tuple, options: dict, tries: int, check: Callable
) -> dict:
    """What `check` makes of the LLM's answer to a prompt.

    Where the answer is unfit it is asked again, `tries` times in all, each time with its own seed.
    """
    unfit = None
    for attempt in range(tries):
        number = int(hashlib.sha256(repr((*seed, attempt)).encode()).hexdigest()[:7], 16)
        answer = await chat(client, prompt, number, options)
        try:
            return check(parse_chat(answer, client))
        except Refused as refused:
            unfit = refused
            client.faults[unfit.reason] += 1
    raise unfit


async def chat(client: Client, prompt: str, seed: int, options: dict) -> dict:
    """The server's answer to a prompt, asked for in JSON mode as long as the server takes that."""
    body = {"messages": [{"role": "user", "content": prompt}], "seed": seed}
    if client.json_mode:
        body["response_format"] = {"type": "json_object"}
    body = {name: value for name, value in (body | options).items() if value is not None}
    try:
        return await client.post("/chat/completions", body)
    except Refused as refused:
        if refused.reason not in ("status 400", "status 422") or "response_format" not in body:
            raise
        first = refused
    # Was it the response_format? Then the same request without it is answered.
    del body["response_format"]
    answer = await client.post("/chat/completions", body)
    if "response_format" in options:
        raise InputError(f"--body: {client.url} refuses its response_format: {first}")
    if client.json_mode:
        client.json_mode = False
        tqdm.write(f"{client.url} refuses JSON mode and is asked without it: {first}")
    return answer


def parse_chat(answer, client: Client) -> dict:
    """The JSON object in a chat answer: after a reasoning model's thoughts, within other words."""
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        message, finish = choice["message"], choice.get("finish_reason")
        text = read_content(message.get("content")).rpartition("</think>")[2]
        used = [int(float(usage.get(name) or 0)) for name in ("prompt_tokens", "completion_tokens")]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        raise Refused("not a chat answer", one_line(json.dumps(answer))) from None
    client.tokens = [total + count for total, count in zip(client.tokens, used, strict=True)]
    if message.get("refusal") or finish == "content_filter":
        raise Refused("refusal", one_line(str(message.get("refusal") or "")))
    if finish == "length":
        raise Refused("cut at --max-tokens, or where the server's context is full")
    if value := find_object(text):
        return value
    raise Refused("no JSON in the message", one_line(text, 80))


def read_content(content) -> str:
    """The text of a message, which may come in parts, some of them thoughts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] in ("text", "output_text"))
    if not isinstance(content, str | None):
        raise TypeError
    return content or ""


def find_object(text: str) -> dict | None:
    """The first JSON object in a text that says other things around it."""
    decoder = json.JSONDecoder(strict=False)  # LLMs leave line ends in strings as they are
    for match in itertools.islice(re.finditer("{", text), 20):
        try:
            value, _ = decoder.raw_decode(text, match.start())
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError):
            continue
        if value:
            return value
    return None


# --- rows that are kept as they arrive ------------------------------------------------------------


def keep_settings(path, settings: dict, *others) -> None:
    """Write the settings of the run that writes `path` (and `others`) to `<path>.json`.

    Once there are rows, the settings must be the same.
    """
    if Path(path).suffix != ".jsonl":
        raise InputError(f"--out {path}: expected a name that ends in .jsonl")
    record, settings = Path(f"{path}.json"), json.loads(json.dumps(settings))
    begun = [file for file in (path, *others) if Path(file).exists() and Path(file).stat().st_size]
    if not begun:
        write_json(record, {"settings": settings})
    elif not record.exists():
        raise InputError(
            f"{begun[0]}: exists, but not {record}, which says how it was made; choose another --out"
        )
    old = read_json(record).get("settings") or {}
    for name in sorted(old.keys() | settings.keys()):
        if old.get(name) != settings.get(name):
            was, now = (
                json.dumps(values.get(name), ensure_ascii=False)[:60] for values in (old, settings)
            )
            raise InputError(
                f"{path}: was begun with {name} {was}, not {now};"
                " give the same to continue it, or choose another --out"
            )


@contextlib.contextmanager
def appending(path, key: Callable[[dict], object]) -> Iterator[tuple[dict, Callable]]:
    """({key: place in the file} of the rows that exist, a function that appends a row as one line).

    An incomplete last line, which a killed run leaves, is cut off. When the block ends well, the
    lines are sorted by key. Only one process at a time may write the file.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process is writing it") from None
        places, end = find_rows(file, path, key)
        if file.seek(0, os.SEEK_END) > end:
            print(f"{path}: its last line is incomplete (a run was killed) and is cut off")
            file.truncate(end)

        def append(row: dict) -> None:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
            file.flush()

        yield places, append
        places, _ = find_rows(file, path, key)
        if list(places) != sorted(places):
            with new_file(path) as temporary, open(temporary, "wb") as ordered:
                for name in sorted(places):
                    file.seek(places[name])
                    ordered.write(file.readline())


def find_rows(file, path, key: Callable[[dict], object]) -> tuple[dict, int]:
    """({key: where its line begins}, where the last complete line ends)."""
    places, end = {}, 0
    file.seek(0)
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break
        try:
            name = key(json.loads(line))
            if type(name) is not type(next(iter(places), name)):
                raise TypeError  # could not be sorted
            places[name] = end
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(
                f"{path}:{number}: {line[:40]!r} is no row of this run; remove the line"
            ) from None
        end += len(line)
    return places, end


def run(main):
    """The result of a coroutine. SIGTERM ends all its waiting and requests, as Ctrl-C does."""
    previous = signal.getsignal(signal.SIGTERM)

    async def stoppable():
        task = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await main

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        sys.exit(143)
    finally:
        signal.signal(signal.SIGTERM, previous)


@dataclasses.dataclass
class Loss:
    """The requests that were refused for one reason, with an example in the server's words."""

    count: int = 0
    example: str = ""
    final: bool = True  # all of them would be refused again

    def add(self, refused: Refused) -> None:
        self.count += 1
        self.example = self.example or refused.said
        self.final = self.final and refused.final


async def collect(
    jobs, total: int, work: Callable, append: Callable, client: Client, concurrency: int, before=0
) -> dict[str, Loss]:
    """Append work(job) of every job, `concurrency` at a time; what was Refused, by reason.

    before: how many rows the server has answered in earlier runs. Stops when nothing gets through.
    """
    jobs, lost, in_a_row = iter(jobs), collections.defaultdict(Loss), 0

    def most_in_a_row(refused: Refused) -> int:
        if client.answered or (refused.final and before):
            return max(20, 2 * concurrency)
        # Nothing was ever answered. If the fault may be this one row's, see what others give.
        return min(3, total) if refused.final else 1

    async def worker() -> None:
        nonlocal in_a_row
        for job in jobs:  # shared: each job is taken by one worker
            try:
                append(await work(job))
                in_a_row = 0
            except Refused as refused:
                lost[refused.reason].add(refused)
                in_a_row += 1
                if in_a_row >= most_in_a_row(refused):
                    failed = f"the last {in_a_row} rows all failed ({refused})"
                    raise InputError(f"{client.url}: {failed}; what was made is kept") from None
            bar.set_postfix_str(client.describe(), refresh=False)
            bar.update()

    interval = 0.1 if sys.stderr.isatty() else 30  # seconds
    with tqdm(total=total, unit="row", mininterval=interval, disable=not total) as bar:
        workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, total))]
        try:
            await asyncio.gather(*workers)
        finally:  # one failed, or the user interrupts: end all waiting and all requests
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return lost


def describe_lost(lost: dict[str, Loss]) -> str:
    parts = []
    for reason, loss in sorted(lost.items(), key=lambda item: -item[1].count):
        example = f" (for example: {loss.example})" if loss.example else ""
        parts.append(f"{reason} {loss.count:,}{example}")
    return "; ".join(parts)


def write_report(client: Client, path, rows: int, lost: dict[str, Loss], seconds: float) -> int:
    """Add the figures of a run to `<path>.json` and print them. The exit status: 1 for lost rows."""
    figures = {
        "rows": rows,
        "missing": {reason: loss.count for reason, loss in lost.items()},
        "examples": {reason: loss.example for reason, loss in lost.items()},
        "requests": client.requests,
        "faults": dict(client.faults),
        "tokens": client.tokens,
        "json_mode": client.json_mode,
        "seconds": round(seconds, 3),
    }
    record = {"settings": read_json(f"{path}.json")["settings"], "last run": figures}
    write_json(f"{path}.json", record)
    faults = ", ".join(f"{reason} {n:,}" for reason, n in client.faults.most_common()) or "none"
    print(f"{client.requests:,} requests in {seconds:.1f} s, {client.describe()}; faults: {faults}")
    print(f"{path}: {rows:,} rows")
    if lost:
        missing = sum(loss.count for loss in lost.values())
        again = not all(loss.final for loss in lost.values())
        advice = "; the same command asks for them again" if again else ""
        print(f"{missing:,} rows are missing{advice}: {describe_lost(lost)}")
    return bool(lost)
