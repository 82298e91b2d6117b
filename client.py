"""Ask one server many things over HTTP, despite its faults, and keep each answer as it arrives.

In: requests (JSON) for an OpenAI-compatible server (`/chat/completions`) or a reranker (`/rerank`).
Out: an append-only JSON Lines file. A process may be killed at any time and loses only the requests
under way: started again, it asks for what is missing and ends with the same bytes as a run that was
never disturbed, as long as the server gives the same answers.

The key is written nowhere: not to files, not in errors, not even where the server repeats it.
Left out on purpose: streaming, batch APIs, proxies, redirects, Windows (`flock` locks the file).
"""

import asyncio
import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import random
import re
import signal
import sys
import time
from pathlib import Path

import httpx2
from tqdm import tqdm

from files import InputError, new_file, read_json, refuse_other_suffix, shown, write_json

FIRST_WAIT = 1.0  # seconds before the first retry, doubled before each further one up to a minute
LONGEST_WAIT = 600.0  # seconds, whatever Retry-After says

# What a status means. Any other below 500 refuses this one request. Any other from 500 on may pass,
# unless the server says the same words twice in a row.
USELESS = (301, 302, 303, 307, 308, 401, 402, 404, 405, 501)  # no request would fare better
LATER = (408, 409, 425, 429, 502, 503, 504, 529)  # the server is busy, or is being started


@dataclasses.dataclass(eq=False)
class Refused(Exception):
    """A request without a usable answer."""

    reason: str  # a few words, by which such requests are counted
    said: str = ""  # the server's own words
    final: bool | None = False  # the same request would be refused again; None: if it says so twice
    retry_after: str = ""

    def __str__(self):
        return f"{self.reason}: {self.said}" if self.said else self.reason


@dataclasses.dataclass(eq=False)
class Client:
    """Sends JSON to one server by POST, any number of requests at a time, and counts."""

    base_url: str
    key: str = ""
    timeout: float = 300.0  # seconds for a complete request, however slowly the server sends
    concurrency: int = 32  # requests at a time
    retries: int = 8  # of a fault that may pass

    def __post_init__(self):
        self.url = read_url(self.base_url)
        if not re.fullmatch("[!-~]*", self.key):
            raise InputError("the API key has a space or a line end in it; set it again")
        self.http = httpx2.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
            timeout=None,  # a limit for each read is none for the request
            trust_env=False,
            limits=httpx2.Limits(),  # of connections: none but `concurrency`
        )
        self.requests = 0
        self.faults = collections.Counter()  # by reason
        self.tokens = collections.Counter()  # read and written by the LLM
        self.json_mode = True  # until the server refuses it
        self.answered = False  # whether it has ever answered
        self.waits_until = 0.0  # until when requests wait, as was printed

    def __str__(self):
        share = self.faults.total() / max(1, self.requests)
        return f"{self.tokens.total():,} tokens, {share:.1%} refused"

    async def post(self, path: str, body: dict):
        """The answer's JSON. A fault that may pass is tried again; in the end Refused is raised."""
        previous = None
        for attempt in range(self.retries + 1):
            try:
                return await self._post_once(path, body)
            except Refused as refused:
                fault = refused
            # Is there anything to hope for?
            self.faults[fault.reason] += 1
            if fault.final is None:
                fault.final = _words(fault) == previous
            if fault.final or attempt == self.retries:
                raise fault
            previous = _words(fault)
            await self._pause(fault, attempt)

    async def _post_once(self, path: str, body: dict):
        """The answer's JSON, or what Refused says of it."""
        # Send and receive, within the time that is allowed.
        self.requests += 1
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.http.post(path, json=body)
        except TimeoutError:
            raise Refused("timed out") from None
        except httpx2.HTTPError as error:
            said = self._without_key(str(error))
            if self.answered or not isinstance(error, httpx2.ConnectError):
                raise Refused("connection lost", said) from None
            hint = "is the server running, and is this its address?"
            raise InputError(f"{self.url}: {said}; {hint}") from None

        # Is it an answer, or an error that the server sends with status 200?
        text = self._without_key(response.content.decode(errors="replace"))
        status, answer = response.status_code, None
        if status == 200:
            status, answer = read_answer(text)
        if status == 200:
            self.answered = True
            return answer

        # What the status means for this request, and for all others.
        if status in USELESS:
            raise InputError(f"{self.url}{path}: status {status}: {one_line(text)}")
        final = False if status in LATER else None if status >= 500 else True
        retry_after = response.headers.get("Retry-After", "")
        raise Refused(f"status {status}", one_line(text), final, retry_after)

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text

    async def _pause(self, fault: Refused, attempt: int) -> None:
        """Wait for the seconds of Retry-After, up to LONGEST_WAIT; else for a time that doubles."""
        pause = min(60, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1)
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", fault.retry_after):  # it may also be a date
            pause = min(float(fault.retry_after), LONGEST_WAIT)
        # Nobody should have to guess why nothing happens; one line for all requests that wait.
        if pause > 60 and time.monotonic() > self.waits_until:
            self.waits_until = time.monotonic() + pause
            asked = f"Retry-After is {fault.retry_after}"
            tqdm.write(f"{self.url}: {fault}; {asked}: waiting {pause:.0f} s")
        await asyncio.sleep(pause)


def _words(fault: Refused) -> str:
    """What a server says, without the time and the number of the request."""
    return re.sub(r"[0-9a-f-]*[0-9][0-9a-f-]*", "", str(fault).lower())


def read_url(base_url: str) -> httpx2.URL:
    """A server's address. What is wrong with one is not repeated: a part may be a password."""
    try:
        url = httpx2.URL(base_url)
        url.host.encode("idna")  # as looking it up does
        complete = url.scheme in ("http", "https") and url.host and (url.port or 80) < 65536
        if complete and not url.userinfo and not re.search(r"[?#\s]", base_url):
            return url
    except (httpx2.InvalidURL, ValueError):
        pass
    raise InputError(
        "--base-url: expected http(s)://host:port/path, without spaces, user name or query;"
        " a key goes in the environment"
    )


def read_answer(text: str):
    """(200, JSON) of an answer with status 200, or (the status of the error that it holds, None).

    Some servers send that status before they know better.
    """
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("answer is not JSON", one_line(text), None) from None
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error:
        return 200, answer
    code = error.get("code") if isinstance(error, dict) else None
    if re.fullmatch("[45][0-9][0-9]", str(code)):
        return int(code), None
    return 429 if re.search("rate.?limit", json.dumps(error), re.I) else 500, None


def one_line(text: str, length: int = 300) -> str:
    """The beginning of what a server said, fit for a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:length]).split())


# --- one answer of an LLM -------------------------------------------------------------------------

TEXTS = ("text", "output_text")  # types of the parts of a message that are not thoughts


async def ask(client: Client, prompt: str, seed: tuple, tries: int, options: dict, check) -> dict:
    """What `check` makes of the LLM's answer to a prompt.

    Where the answer is unfit it is asked again. Every attempt has a number, and so its own seed.
    """
    for attempt in range(tries):
        number = int(hashlib.sha256(repr((*seed, attempt)).encode()).hexdigest()[:7], 16)
        answer = await chat(client, prompt, number, options)
        try:
            return check(parse_chat(answer, client))
        except Refused as refused:
            client.faults[refused.reason] += 1
            last = refused
    raise last


async def chat(client: Client, prompt: str, seed: int, options: dict):
    """The server's answer to a prompt, asked for in JSON mode as long as the server takes that."""
    body = {"messages": [{"role": "user", "content": prompt}], "seed": seed}
    if client.json_mode:
        body["response_format"] = {"type": "json_object"}
    body = {name: value for name, value in (body | options).items() if value is not None}
    try:
        return await client.post("/chat/completions", body)
    except Refused as refused:
        first = refused
    # Was it JSON mode? Then the same request without it is answered. (One's own format is kept.)
    if first.reason not in ("status 400", "status 422") or "response_format" in options:
        raise first
    if not body.pop("response_format", None):
        raise first
    answer = await client.post("/chat/completions", body)
    if client.json_mode:
        client.json_mode = False
        tqdm.write(f"{client.url} refuses JSON mode and is asked without it: {first}")
    return answer


def parse_chat(answer, client: Client) -> dict:
    """The JSON object in a chat answer: after a reasoning model's thoughts, within other words."""
    # What the message says, and what it cost.
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        message, finish = choice["message"], choice.get("finish_reason")
        content = message.get("content") or ""
        if isinstance(content, list):  # in parts, some of them thoughts
            said = [part for part in content if part.get("type", "text") in TEXTS]
            content = "".join(part["text"] for part in said)
        text = content.rpartition("</think>")[2] or message.get("refusal") or ""
        for name in ("prompt_tokens", "completion_tokens"):
            client.tokens[name] += int(usage.get(name) or 0)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Refused("not a chat answer", one_line(json.dumps(answer))) from None

    # Is it complete?
    if finish == "length":
        raise Refused("cut at max_tokens, or where the server's context is full")

    # The first object that can be read: there may be braces in the words before it.
    decoder = json.JSONDecoder(strict=False)  # LLMs leave line ends in strings as they are
    for match in itertools.islice(re.finditer("{", text), 20):
        with contextlib.suppress(ValueError, RecursionError):
            value, _ = decoder.raw_decode(text, match.start())
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is not text
            if value:
                return value
    raise Refused("no JSON in the message", one_line(text, 80))


# --- rows that are kept as they arrive ------------------------------------------------------------


def keep_settings(path, settings: dict, *others) -> None:
    """Write the settings of the run that writes `path` (and `others`) to `<path>.json`.

    Once there are rows, the settings must be the same.
    """
    refuse_other_suffix(path, ".jsonl")
    if not any(Path(file).exists() and Path(file).stat().st_size for file in (path, *others)):
        write_json(f"{path}.json", {"settings": settings})
        return
    old = read_json(f"{path}.json")["settings"]
    settings = json.loads(json.dumps(settings))  # tuples are lists in a file
    for name in old | settings:
        was, now = shown(old.get(name)), shown(settings.get(name))
        if old.get(name) != settings.get(name):
            advice = "give the same, or choose another --out"
            raise InputError(f"{path}: was begun with {name} {was}, not {now}; {advice}")


@contextlib.contextmanager
def appending(path, key):
    """({key: place in the file} of the rows that exist, a function that appends a row as one line).

    An incomplete last line, which a killed run leaves, is cut off. When the block ends well, the
    lines are sorted by key. Only one process at a time may write the file.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(path, "ab+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{path}: another process is writing it") from None

            def append(row: dict) -> None:
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
                file.flush()

            yield find_rows(file, path, key), append

            # In order, the file says nothing of how it came about.
            places = find_rows(file, path, key)
            if list(places) != sorted(places):
                with new_file(path) as temporary, open(temporary, "wb") as ordered:
                    for name in sorted(places):
                        file.seek(places[name])
                        ordered.write(file.readline())
    except OSError as error:
        error.filename = error.filename or path  # a full disk does not say whose
        raise


def find_rows(file, path, key) -> dict:
    """{key: where its line begins}."""
    places, place = {}, 0
    file.seek(0)
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            print(f"{path}: its last line is incomplete (a run was killed) and is cut off")
            file.truncate(place)
            break
        try:
            places[key(json.loads(line))] = place
        except (ValueError, KeyError, TypeError, RecursionError):
            problem = f"{line[:40]!r} is not a row of this run; remove the line"
            raise InputError(f"{path}:{number}: {problem}") from None
        place += len(line)
    return places


def run(main):
    """The result of a coroutine. SIGTERM ends all its waiting and requests, as Ctrl-C does."""

    async def stoppable():
        stop = asyncio.current_task().cancel
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        return await main

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        sys.exit(143)


async def collect(path, key, jobs, total: int, work, client: Client) -> dict:
    """Append work(job) of every job whose key(job) is not in the file.

    work: a coroutine that returns a row with the key of its job, or raises Refused.
    Returns {reason: (number, example)} of the lost jobs. Stops when nothing gets through.
    """
    lost, in_a_row = {}, 0
    with appending(path, key) as (existing, append):
        print(f"{path}: {len(existing):,} rows exist, of {total:,}", flush=True)
        missing = (job for job in jobs if key(job) not in existing)

        async def worker() -> None:
            nonlocal in_a_row
            for job in missing:  # shared: each job is taken by one worker
                try:
                    append(await work(job))
                    in_a_row = 0
                except Refused as refused:
                    in_a_row += 1
                    number, example = lost.get(refused.reason, (0, refused))
                    lost[refused.reason] = (number + 1, example)
                    # Where nothing was ever answered, a few rows are enough to know.
                    most = max(20, 2 * client.concurrency) if client.answered or existing else 3
                    if in_a_row >= most:
                        problem = f"the last {in_a_row} rows all failed ({refused})"
                        kept = "what was made is kept"
                        raise InputError(f"{client.url}: {problem}; {kept}") from None
                progress.set_postfix_str(str(client), refresh=False)
                progress.update()

        left = max(0, total - len(existing))
        interval = 0.1 if sys.stderr.isatty() else 30  # seconds
        with tqdm(total=left, unit="row", mininterval=interval, disable=not left) as progress:
            workers = [asyncio.create_task(worker()) for _ in range(client.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:  # one failed, or the user interrupts: end all waiting and all requests
                for task in workers:
                    task.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
    return lost


def describe_lost(lost: dict) -> str:
    return "; ".join(f"{number:,} x {example}" for number, example in lost.values())


def write_report(client: Client, path, lost: dict) -> int:
    """Add the figures of a run to `<path>.json`, print them. The exit status: 1 for lost rows."""
    with open(path, "rb") as file:
        rows = sum(1 for _ in file)
    missing = {reason: (number, example.said) for reason, (number, example) in lost.items()}
    figures = {name: getattr(client, name) for name in ("requests", "faults", "tokens")}
    figures = {"rows": rows, "missing": missing} | figures
    write_json(f"{path}.json", read_json(f"{path}.json") | {"last run": figures})

    faults = ", ".join(f"{reason} {n:,}" for reason, n in client.faults.most_common()) or "none"
    print(f"{client.requests:,} requests, {client}; faults: {faults}")
    print(f"{path}: {rows:,} rows")
    if lost:
        count = sum(number for number, _ in lost.values())
        # Advice only where repeating can help.
        hopeless = all(example.final for _, example in lost.values())
        advice = "" if hopeless else "; the same command asks for them again"
        print(f"{count:,} rows are missing{advice}: {describe_lost(lost)}")
    return bool(lost)
