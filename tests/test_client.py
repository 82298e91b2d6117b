"""client.py: every fault of a real server on loopback, what is read from an answer, files.

    python -m pytest tests/test_client.py

Complete runs, with faults of all kinds and with SIGKILL, are in tests/test_synthesize.py.
"""

import asyncio
import email.utils
import itertools
import json
import re
import resource
import time
from collections import Counter

import pytest
from fake_server import good_answer

import client
from client import Client, Refused, appending
from files import InputError, read_json, read_jsonl

# --- one request ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)


def ask(url, *prompts, pause=0.0) -> tuple[list, Client]:
    """The server's answers to the prompts, one after the other, and the client that asked."""

    async def run():
        asked, answers = Client(url, timeout=0.5, retries=4), []
        async with asked.http:
            for prompt in prompts:
                answer = await client.chat(asked, prompt, 1, {"model": "nep"})
                answers.append(client.parse_chat(answer, asked))
                await asyncio.sleep(pause)
        return answers, asked

    return asyncio.run(run())


PASSING = [  # what is answered first, how it is counted, seconds that it takes at least
    ("500", "status 500", 0),
    ("429 seconds", "status 429", 0.9),
    ("silent", "timed out", 0.5),
    ("slow body", "timed out", 0.5),
    ("slow head", "timed out", 0.5),
    ("cut", "connection lost", 0),
    # Status 200, sent before the server knew better
    ({"error": {"message": "Rate limit exceeded", "code": 429}}, "status 429", 0.9),
    ({"error": {"message": "Rate limit", "code": "429"}}, "status 429", 0.9),
    ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, "status 429", 0.9),
    ({"error": "overloaded"}, "status 500", 0),
    ({"choices": [{"error": {"message": "x", "code": 502}}]}, "status 502", 0),
    (b"<html>moment</html>", "answer is not JSON", 0),
    (b"[" * 100_000, "answer is not JSON", 0),
]


@pytest.mark.parametrize(("bad", "reason", "least"), PASSING)
def test_a_fault_that_passes_is_tried_again(serve, bad, reason, least):
    def answer(handler, body, prompt, nth):
        if nth > 1 or prompt != "vraag":
            handler.wfile.write(handler.good(prompt))
        elif isinstance(bad, str):
            handler.fault(bad, prompt)
        else:
            handler.reply(200, bad, ["Retry-After: 1"] if least else [])

    url, _ = serve(answer)
    started = time.monotonic()
    answers, asked = ask(url, "vraag", "nog een")
    assert answers == [good_answer("vraag"), good_answer("nog een")]
    assert asked.faults == {reason: 1} and asked.requests == 3
    assert least <= time.monotonic() - started < 10  # the slow ones would take half a minute


NUMBERED = [f"no key, request req-{n}-9f{n}c at {n}" for n in range(6)]
LASTING = [  # status, the server's words in turn, requests, what is raised
    (413, ["too long"], 1, Refused),  # this request, as it is
    (400, ["'max_tokens' is not supported"], 2, Refused),  # once without JSON mode
    (503, ["busy"], 5, Refused),  # later, says the server, and is tried as often as allowed
    (500, ["stuk"], 2, Refused),  # the same words twice in a row are believed
    (500, NUMBERED, 2, Refused),  # apart from their number
    (500, ["overloaded", "no free slot"], 5, Refused),
    (200, ["<html>welcome</html>"], 2, Refused),  # some other program's address
    # No request would fare better
    *((status, ["wrong"], 1, InputError) for status in (301, 302, 401, 402, 404, 405, 501)),
]


@pytest.mark.parametrize(("status", "words", "requests", "error"), LASTING)
def test_a_fault_that_does_not_pass_ends_with_the_servers_words(
    serve, status, words, requests, error
):
    url, server = serve()
    said, elsewhere = itertools.cycle(words), [f"Location: {url}/x"]
    server.answer = lambda handler, *_: handler.reply(status, next(said).encode(), elsewhere)
    with pytest.raises(error, match="|".join(words)):
        ask(url, "vraag")
    assert len(server.requests) == requests


@pytest.mark.parametrize("change", [("/1.1", "/1.0"), ("\r\n", "\r\nConnection: close\r\n")])
def test_a_server_that_closes_after_every_answer(serve, change):
    def answer(handler, body, prompt, nth):
        handler.wfile.write(handler.good(prompt).replace(*map(str.encode, change), 1))
        handler.close_connection = True

    answers, asked = ask(serve(answer)[0], *"abc")
    assert answers == [good_answer(prompt) for prompt in "abc"] and not asked.faults


def test_a_connection_is_kept_open_but_not_used_after_a_pause(serve):
    """Servers close what is idle (uvicorn and llama.cpp after five seconds), and a request crosses
    the closing: the next try would be lost."""
    ports = []

    def answer(handler, body, prompt, nth):
        ports.append(handler.client_address[1])
        handler.wfile.write(handler.good(prompt))

    url, server = serve(answer)
    ask(url, *"abcdefgh")
    assert len(set(ports)) == 1
    server.idle = 0.2
    answers, asked = ask(url, *"abc", pause=0.3)
    assert len(answers) == 3 and not asked.faults and len(set(ports)) == 4


def test_an_answer_has_a_largest_size(serve):
    sent = 0

    def endless(handler, body, prompt, nth):
        nonlocal sent
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 1e9:
            sent += handler.wfile.write(b" " * 2**20)

    url, server = serve(endless)
    with pytest.raises(Refused, match="answer larger than 16 MB"):
        ask(url, "vraag")
    assert len(server.requests) == 1 and 2**24 <= sent < 2**26


def test_lines_of_comment_before_an_answer_keep_the_connection_alive():
    text = ': PROCESSING {1}\n\n: PROCESSING\n\n{"results": []}'
    assert client.read_answer(text) == (200, {"results": []})


def test_nothing_of_the_surroundings_changes_the_way(serve, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert ask(serve()[0], "a")[0] == [good_answer("a")]


WAITS = [  # attempt, Retry-After, the shortest and the longest wait
    (0, "", 0.25, 0.5),
    (1, "straks", 0.5, 1),
    (2, "-1", 1, 2),
    (20, "", 30, 60),
    *((0, odd, 0.25, 0.5) for odd in ("²", "1e3", "Mon, 99 Foo 2020")),
    (0, "Mon, 01 Jan 99999 00:00:00 GMT", 0.25, 0.5),
    (0, "Mon, 01 Jan 2024 00:00:00 +9999999999999", 0.25, 0.5),
    (0, "Mon, 01 Jan 2024 00:00:00 GMT", 0, 0),
    (0, "0.5", 0.5, 0.5),
    (0, "1000000000", 600, 600),
    (0, "9" * 400, 600, 600),
    (0, "Fri, 31 Dec 9999 23:59:59 GMT", 600, 600),
]


def test_waits_double_or_are_what_retry_after_says_and_long_ones_are_printed_once(
    monkeypatch, capsys
):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.5)
    asked = Client("http://localhost")
    for attempt, header, least, most in WAITS:
        fault = Refused("status 429", "te druk", retry_after=header)
        asyncio.run(asked._pause(fault, attempt))
        assert least <= slept[-1] <= most
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "http://localhost: status 429: te druk; Retry-After is 1000000000: waiting 600 s"


def test_a_date_in_retry_after():
    date = email.utils.formatdate(time.time() + 7, usegmt=True)
    assert 5 < client.read_retry_after(date) <= 7


# --- addresses and keys ---------------------------------------------------------------------------

BAD_URLS = [
    "localhost:8000",
    "ftp://host/v1",
    "http:///v1",
    "http://user:secret@host/v1",
    "http://user:sec/ret@host/v1",
    "http://host/v1?key=secret",
    "http://host/v1#secret",
    "http://host:secret/v1",
    "http://host:99999/v1",
    "http://host:0/v1",
    "http://ho st/v1",
    "http://host/v1 ",
    "http://host\n/v1",
    "http://[::1/secret",
    "http://secret..nl/v1",
    "http://" + "secret" * 20 + "/v1",
    "http://" + "a" * 70_000,
    "",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_addresses_are_refused(url):
    with pytest.raises(InputError, match="--base-url: expected http") as caught:
        Client(url)
    assert "secret" not in str(caught.value) and len(str(caught.value)) < 200


def test_good_addresses_are_not():
    for good in ("http://[::1]:80/v1", "https://münchen.de/v1/", "HTTP://Host:1"):
        Client(good)


@pytest.mark.parametrize("key", ["sk geheim", "sk-geheim\n", "sk-geheim€"])
def test_a_bad_key_is_refused_and_not_shown(key):
    with pytest.raises(InputError, match="the API key has") as caught:
        Client("http://localhost", key=key)
    assert "geheim" not in str(caught.value)


# --- what the LLM says ----------------------------------------------------------------------------

OBJECT = '{"query": "a", "positive": "b", "negative": "c"}'
TEXT = {"type": "text", "text": OBJECT}
FIT = [
    OBJECT,
    f"```json\n{OBJECT}\n```",
    f'<think>{{"query": 1}}</think> Graag: {OBJECT} Nog {{iets}}?',
    f"// for {{topic}}:\n# {{}}\n{OBJECT}",
    [{"type": "thinking", "thinking": [TEXT | {"text": '{"query": 1}'}]}, TEXT],
    [{"type": "output_text", "text": OBJECT[:9]}, TEXT | {"text": OBJECT[9:]}],
    OBJECT.replace('"a"', '"a\nb\t"'),  # a line end within a string
]
UNFIT = [  # content, more of the message or the answer, what is said
    (OBJECT[:-9], {}, "no JSON in the message"),
    (None, {}, "no JSON in the message"),
    ("Het spijt me.", {}, "no JSON in the message: Het spijt me."),
    (OBJECT, {"finish_reason": "content_filter"}, "refusal"),
    (None, {"message": {"content": None, "refusal": "Nee."}}, "refusal: Nee."),
    ('{"query": "\\ud800"}', {}, "no JSON in the message"),
    ("{" * 100_000 + "}" * 100_000, {}, "no JSON in the message"),
    ('{"a":' * 100_000, {}, "no JSON in the message"),
    (OBJECT, {"finish_reason": "length"}, "cut at max_tokens, or where the server's context"),
    (OBJECT, {"message": None}, "not a chat answer"),
    (3, {}, "not a chat answer"),
    ([3], {}, "not a chat answer"),
    ([{"type": "text"}], {}, "not a chat answer"),
    *((OBJECT, {"usage": odd}, "not a chat answer") for odd in (10**400, "veel", [1])),
]


def parse(content, more) -> dict:
    usage = {"prompt_tokens": more.get("usage", 1)}
    answer = {"choices": [{"message": {"content": content}} | more], "usage": usage}
    return client.parse_chat(answer, Client("http://localhost"))


@pytest.mark.parametrize("content", FIT)
def test_the_object_in_a_message_is_found(content):
    parsed = parse(content, {})
    assert parsed | {"query": parsed["query"][:1]} == json.loads(OBJECT)


@pytest.mark.parametrize(("content", "more", "message"), UNFIT)
def test_a_message_without_one_is_refused(content, more, message):
    with pytest.raises(Refused, match=f"^{message}"):
        parse(content, more)


# --- many requests, rows that are kept ------------------------------------------------------------


def number(row):
    return row["row"]


def collect(path, jobs, work, concurrency=1, answered=True, total=100) -> tuple[dict, Client]:
    asked = Client("http://localhost", concurrency=concurrency)
    asked.answered = answered
    return asyncio.run(client.collect(path, number, jobs, total, work, asked, Counter())), asked


def numbers(path) -> list[int]:
    return [row["row"] for _, row in read_jsonl(path)]


def test_no_more_than_so_many_at_a_time(tmp_path):
    now, most, taken, path = 0, 0, [], tmp_path / "rows.jsonl"

    async def work(job):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        assert len(taken) <= path.read_bytes().count(b"\n") + 4  # when there is room for them
        now -= 1
        return job

    assert not collect(path, (taken.append(n) or {"row": n} for n in range(50)), work, 4)[0]
    assert most == 4 and numbers(path) == list(range(50))


# Has this run been answered, rows of an earlier one, are the requests refused for good, rows that
# fail before it ends
ENDS = [
    (False, 0, False, 1),  # nothing was ever answered: one request that failed is enough
    (False, 1, False, 1),
    (False, 0, True, 3),  # the fault may be this row's own: two more are tried
    (False, 1, True, 20),  # the server has answered an earlier run
    (True, 0, True, 20),
    (True, 0, False, 20),
]


@pytest.mark.parametrize(("answered", "before", "final", "rows"), ENDS)
def test_the_run_ends_when_nothing_gets_through(tmp_path, answered, before, final, rows):
    tried = []

    async def work(job):
        tried.append(job)
        raise Refused("status 500", "stuk", final)

    (tmp_path / "rows.jsonl").write_text('{"row": 0}\n' * before)
    with pytest.raises(InputError, match=r"http://localhost: the last \d+ rows all failed .*stuk"):
        collect(tmp_path / "rows.jsonl", ({"row": n} for n in range(100)), work, answered=answered)
    assert len(tried) == rows


def test_a_row_that_succeeds_starts_the_count_again(tmp_path, capsys):
    async def work(job):
        if job["row"] % 20:
            raise Refused("status 413", f"{job['row']} tokens", final=True)
        return job

    path = tmp_path / "rows.jsonl"
    lost, asked = collect(path, ({"row": n} for n in range(100)), work)
    assert numbers(path) == [0, 20, 40, 60, 80]
    (tmp_path / "rows.jsonl.json").write_text('{"settings": {}}')
    assert client.write_report(asked, path, lost) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "95 rows are missing: 95 x status 413: 1 tokens"
    report = read_json(tmp_path / "rows.jsonl.json")["last run"]
    assert report["rows"] == 5 and report["missing"] == {"status 413": [95, "1 tokens"]}


def test_rows_are_appended_complete_and_sorted_at_the_end(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ZeroDivisionError), appending(path, number) as (existing, append):
        for n in (5, 2, 7):
            append({"row": n, "text": "é" * n})
            assert numbers(path)[-1] == n  # it is on disk at once
        with pytest.raises(InputError, match="another process is writing it"):
            with appending(path, number):
                pass
        raise ZeroDivisionError
    with open(path, "ab") as file:
        file.write('{"row": 6, "text": "é'.encode()[:-1])
    with appending(path, number) as (existing, append):
        assert set(existing) == {5, 2, 7}
        append({"row": 0, "text": ""})
    assert "its last line is incomplete" in capsys.readouterr().out
    rows = [row for _, row in read_jsonl(path)]
    assert rows == [{"row": n, "text": "é" * n} for n in (0, 2, 5, 7)]


def test_a_full_disk_is_one_line_and_the_run_resumes(tmp_path):
    """A largest size of files in the place of a full disk: writing fails in the midst of a row."""
    path, limits = tmp_path / "rows.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    jobs = [{"row": n, "text": "x" * 5000} for n in range(4)]

    async def work(job):
        return job

    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limits[1]))
    try:
        with pytest.raises(InputError, match="rows.jsonl: File too large; what was written is"):
            collect(path, iter(jobs), work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not collect(path, iter(jobs), work)[0] and numbers(path) == [0, 1, 2, 3]


@pytest.mark.parametrize("line", ['{"rij": 2}', '{"row": "2"}', '{"row": [2]}', "[" * 10_000, "2"])
def test_lines_that_are_not_rows_are_refused(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f'{{"row": 1}}\n{line}\n')
    with pytest.raises(InputError, match="a.jsonl:2: .* is not a row of this run"):
        with appending(tmp_path / "a.jsonl", number):
            pass


def test_settings_are_kept_and_compared(tmp_path):
    path, settings = tmp_path / "rows.jsonl", {"seed": 1, "types": ("a", "b")}
    client.keep_settings(path, {"seed": 0})  # nothing came of that run
    client.keep_settings(path, settings)
    path.write_text('{"row": 1}')
    client.keep_settings(path, settings)
    assert read_json(f"{path}.json") == {"settings": {"seed": 1, "types": ["a", "b"]}}
    for other, message in [
        (settings | {"seed": 2}, "begun with seed 1, not 2"),
        ({"seed": 1}, 'begun with types ["a", "b"], not null'),
        (settings | {"new": 0}, "begun with new null, not 0"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            client.keep_settings(path, other)
