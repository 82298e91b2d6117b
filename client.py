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
import email.utils
import errno
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

LARGEST_ANSWER = 16 * 2**20  # bytes
FIRST_WAIT = 1.0  # seconds before the first retry, doubled before each further one up to a minute
LONGEST_WAIT = 600.0  # seconds, whatever Retry-After says
IDLE = 4.0  # seconds that an unused connection is kept: uvicorn and llama.cpp close theirs after 5

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
    unfit: bool = False  # there were answers: another seed may give a better one

    def __str__(self):
        return f"{self.reason}: {self.said}" if self.said else self.reason


@dataclasses.dataclass(eq=False)
class Client:
    """Sends JSON to one server by POST, any number of requests at a time, and counts."""

    base_url: str
    key: str = ""
    timeout: float = 300.0  # seconds for a complete request, however slowly the server sends
    retries: int = 8
    concurrency: int = 32  # requests at a time

    def __post_init__(self):
        self.url = read_url(self.base_url)
        if not re.fullmatch("[!-~]*", self.key):
            raise InputError("the API key has a space or a line end in it; set it again")
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        self.http = httpx2.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=None,  # a limit for each read is none for the request
            trust_env=False,
            limits=httpx2.Limits(keepalive_expiry=IDLE),
        )
        self.started, self.requests = time.monotonic(), 0
        self.faults = collections.Counter()  # by reason
        self.tokens = collections.Counter()  # read and written by the LLM
        self.json_mode = True  # until the server refuses it
        self.answered = False  # whether it has ever answered
        self.rows = 0  # made by `collect`
        self.waits_until = 0.0  # until when requests wait, as was printed

    def __str__(self):
        share = self.faults.total() / max(1, self.requests)
        return f"{self.tokens.total():,} tokens, {share:.1%} refused"

    async def post(self, path: str, body: dict):
        """The answer's JSON. A fault that may pass is tried again; in the end Refused is raised."""
        previous = None
        for attempt in range(self.retries + 1):
            try:
                return await self._post_once(path, json.dumps(body).encode())
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

    async def _post_once(self, path: str, content: bytes):
        """The answer's JSON, or what Refused says of it."""
        # Send and receive, within the time and the size that are allowed.
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
                        raise Refused("answer larger than 16 MB", final=True)
        except TimeoutError:
            raise Refused("timed out") from None
        except httpx2.HTTPError as error:
            said = self._without_key(str(error))
            if self.answered or not isinstance(error, httpx2.ConnectError):
                raise Refused("connection lost", said) from None
            hint = "is the server running, and is this its address?"
            raise InputError(f"{self.url}: {said}; {hint}") from None

        # Is it an answer, or an error that the server sends with status 200?
        text = self._without_key(received.decode(errors="replace"))
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
        """Wait as long as Retry-After asks, up to LONGEST_WAIT; without it a time that doubles."""
        pause = read_retry_after(fault.retry_after)
        if pause is None:
            pause = min(60, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1)
        pause = min(pause, LONGEST_WAIT)
        # Nobody should have to guess why nothing happens; one line for all requests that wait.
        if pause > 60 and time.monotonic() + pause > self.waits_until + 60:
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
        port = 80 if url.port is None else url.port
        complete = url.scheme in ("http", "https") and url.host and 0 < port < 65536
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

    Some servers send that status before they know better. Before the JSON may be lines of comment
    (`: OPENROUTER PROCESSING`) that keep the connection alive.
    """
    try:
        answer = json.loads(re.sub(r"\A(?:\s*:.*\n)+", "", text))
    except (ValueError, RecursionError):
        raise Refused("answer is not JSON", one_line(text), None) from None
    # An error in the place of the answer, or of its first choice.
    choices = answer.get("choices") if isinstance(answer, dict) else None
    for holder in [answer, *(choices if isinstance(choices, list) else [])]:
        if isinstance(holder, dict) and (error := holder.get("error")):
            code = error.get("code") if isinstance(error, dict) else None
            if re.fullmatch("[45][0-9][0-9]", str(code)):
                return int(code), None
            return 429 if re.search("rate.?limit", json.dumps(error), re.I) else 500, None
    return 200, answer


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


# --- one answer of an LLM -------------------------------------------------------------------------

TEXTS = ("text", "output_text")  # types of the parts of a message that are not thoughts


async def ask(
    client: Client, prompt: str, seed: tuple, attempts: range, options: dict, check
) -> dict:
    """What `check` makes of the LLM's answer to a prompt.

    Where the answer is unfit it is asked again. Every attempt has a number, and so its own seed.
    """
    for attempt in attempts:
        number = int(hashlib.sha256(repr((*seed, attempt)).encode()).hexdigest()[:7], 16)
        answer = await chat(client, prompt, number, options)
        try:
            return check(parse_chat(answer, client))
        except Refused as refused:
            client.faults[refused.reason] += 1
            refused.unfit = True
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
    # Was it the response_format? Then the same request without it is answered.
    asked_for = body.pop("response_format", None)
    if first.reason not in ("status 400", "status 422") or not asked_for:
        raise first
    answer = await client.post("/chat/completions", body)
    if "response_format" in options:
        raise InputError(f"--body: {client.url} refuses its response_format: {first}")
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
        text = content.rpartition("</think>")[2]
        counts = ("prompt_tokens", "completion_tokens")
        client.tokens.update({name: int(float(usage.get(name) or 0)) for name in counts})
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        raise Refused("not a chat answer", one_line(json.dumps(answer))) from None

    # Is it complete?
    if message.get("refusal") or finish == "content_filter":
        raise Refused("refusal", one_line(str(message.get("refusal") or text)))
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

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what writing to a full disk raises, unnamed


def keep_settings(path, settings: dict, *others) -> None:
    """Write the settings of the run that writes `path` (and `others`) to `<path>.json`.

    Once there are rows, the settings must be the same.
    """
    refuse_other_suffix(path, ".jsonl")
    settings = json.loads(json.dumps(settings))  # tuples are lists in a file
    kept = Path(f"{path}.json")
    begun = any(Path(file).exists() and Path(file).stat().st_size for file in (path, *others))
    old = read_json(kept).get("settings") or {} if begun or kept.exists() else {}
    if not begun and old != settings:
        write_json(kept, {"settings": settings})
        return
    for name in sorted(old.keys() | settings.keys()):
        was, now = shown(old.get(name)), shown(settings.get(name))
        if old.get(name) != settings.get(name):
            advice = "give the same, or choose another --out"
            raise InputError(f"{path}: was begun with {name} {was}, not {now}; {advice}")


def update_json(path, **values) -> None:
    """Add to what `<path>.json` says of the run that writes `path`."""
    write_json(f"{path}.json", read_json(f"{path}.json") | values)


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
        if error.errno not in FULL:
            raise
        advice = "what was written is kept, and the same command resumes"
        raise InputError(f"{path}: {error.strerror}; {advice}") from error


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
            name = key(json.loads(line))
            if type(name) is not type(next(iter(places), name)):
                raise TypeError  # could not be sorted
            places[name] = place
        except (ValueError, KeyError, TypeError, RecursionError):
            problem = f"{line[:40]!r} is not a row of this run; remove the line"
            raise InputError(f"{path}:{number}: {problem}") from None
        place += len(line)
    return places


def run(main):
    """The result of a coroutine. SIGTERM ends all its waiting and requests, as Ctrl-C does."""

    async def stoppable():
        task = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await main

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        sys.exit(143)


async def collect(
    path, key, jobs, total: int, work, client: Client, tried: collections.Counter
) -> dict:
    """Append work(job) of every job whose key(job) is not in the file.

    work: a coroutine that returns a row with the key of its job, or raises Refused. tried: {key as
    text: runs in which no answer was fit}; it changes when all jobs are done, so that a run that is
    killed and started again repeats its own attempts.
    Returns {reason: (number, example)} of the lost jobs. Stops when nothing gets through.
    """
    lost, unfit, in_a_row, client.rows = {}, [], 0, 0
    with appending(path, key) as (existing, append):
        for name in map(str, existing if tried else ()):
            tried.pop(name, None)
        print(f"{path}: {len(existing):,} rows exist, of {total:,}", flush=True)
        if tried:
            before = f"up to {max(tried.values())} runs got no fit answer"
            print(f"asks {len(tried):,} rows again ({before}), up to --tries times with new seeds")
        missing = (job for job in jobs if key(job) not in existing)

        async def worker() -> None:
            nonlocal in_a_row
            for job in missing:  # shared: each job is taken by one worker
                try:
                    append(await work(job))
                    tried.pop(str(key(job)), None)
                    client.rows += 1
                    in_a_row = 0
                except Refused as refused:
                    in_a_row += 1
                    if refused.unfit:
                        unfit.append(str(key(job)))
                    number, example = lost.get(refused.reason, (0, refused))
                    lost[refused.reason] = (number + 1, example)
                    if in_a_row >= most_in_a_row(refused, client, total, len(existing)):
                        failed = f"the last {in_a_row} rows all failed ({refused})"
                        kept = "what was made is kept"
                        raise InputError(f"{client.url}: {failed}; {kept}") from None
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
    tried.update(unfit)
    return lost


def most_in_a_row(refused: Refused, client: Client, total: int, existing: int) -> int:
    """How many rows have to fail in a row to end the run."""
    if client.answered or (refused.final and existing):
        return max(20, 2 * client.concurrency)
    # Nothing was ever answered. A request that is refused may be due to this one row.
    return min(3, total) if refused.final else 1


def describe_lost(lost: dict) -> str:
    return "; ".join(f"{number:,} x {example}" for number, example in lost.values())


def write_report(client: Client, path, lost: dict) -> int:
    """Add the figures of a run to `<path>.json`, print them. The exit status: 1 for lost rows."""
    with open(path, "rb") as file:
        rows = sum(1 for _ in file)
    figures = {"rows": rows, "seconds": round(time.monotonic() - client.started, 3)}
    figures["missing"] = {reason: (number, one.said) for reason, (number, one) in lost.items()}
    figures |= {name: getattr(client, name) for name in ("requests", "faults", "tokens")}
    update_json(path, **{"last run": figures})

    # For the screen, and advice only where repeating can help.
    faults = ", ".join(f"{reason} {n:,}" for reason, n in client.faults.most_common()) or "none"
    print(f"{client.requests:,} requests, {client}; faults: {faults}")
    print(f"{path}: {rows:,} rows")
    if lost:
        numbers, examples = zip(*lost.values(), strict=True)
        again = not all(example.final for example in examples)
        advice = "; the same command asks for them again" if again else ""
        if len(lost) == 1 and examples[0].unfit and not client.rows:
            advice = "; every answer was unfit, so look at the model, --body and --prompts"
        print(f"{sum(numbers):,} rows are missing{advice}: {describe_lost(lost)}")
    return bool(lost)
