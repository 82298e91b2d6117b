"""client.py: every fault of a real server on loopback, what is read out of an answer, files that survive.

    python -m pytest tests/test_client.py

Whole runs, with faults of all kinds and with SIGKILL, are in tests/test_synthesize.py.
"""

import email.utils
import json
import threading
import time

import pytest
from fake_server import good_answer

import client
from client import Client, Refused, appending
from files import InputError, read_json, read_jsonl

# --- one request ----------------------------------------------------------------------------------------------------------------


def quick(url, **more) -> Client:
    return Client(url, **({"timeout": 0.5, "retries": 2, "backoff": 0.01} | more))


def chat(server: Client, prompt: str) -> dict:
    return client.parse_answer(client.chat(server, prompt, 1, {"model": "nep"}), server)


@pytest.mark.parametrize(("kind", "reason"), [
    ("500", "status 500"), ("429 seconds", "status 429"), ("429 date", "status 429"), ("silent", "timed out"), ("cut", "connection lost"),
    ("slow body", "timed out"), ("slow head", "timed out"),
])  # fmt: skip
def test_a_fault_on_the_way_is_tried_again(serve, kind, reason):
    def answer(handler, body, prompt, nth):
        if nth == 1 and prompt == "vraag":
            handler.fault(kind, prompt)
        else:
            handler.wfile.write(handler.good(prompt))

    url, _ = serve(answer)
    server, started = quick(url), time.monotonic()
    assert chat(server, "vraag") == good_answer("vraag") and server.faults == {reason: 1} and server.requests == 2
    low, high = {"timed out": (0.5, 1.5), "status 429": (0.9, 3)}.get(reason, (0, 1))
    assert low <= time.monotonic() - started < high
    assert chat(server, "nog een") == good_answer("nog een")  # nothing of the bad answer is left in the connection


def test_faults_that_do_not_pass_end(serve):
    url, server = serve(lambda handler, body, prompt, nth: handler.fault("500", prompt))
    with pytest.raises(Refused, match="status 500: <html>stuk</html>"):
        quick(url).post("/chat/completions", {"messages": [{"content": "x"}]})
    assert len(server.requests) == 3


def test_a_request_that_the_server_refuses_is_not_tried_again(serve):
    url, server = serve(lambda handler, body, prompt, nth: handler.wfile.write(handler.reply(413, {"error": "too long"})))
    with pytest.raises(Refused, match='status 413: {"error": "too long"}'):
        quick(url).post("/chat/completions", {"messages": [{"content": "x"}]})
    assert len(server.requests) == 1


@pytest.mark.parametrize("close", ["HTTP/1.0", "Connection: close"])
def test_a_server_that_closes_after_every_answer(serve, close):
    def answer(handler, body, prompt, nth):
        good = handler.good(prompt)
        old, new = (b"HTTP/1.1", b"HTTP/1.0") if close == "HTTP/1.0" else (b"\r\n", b"\r\nConnection: close\r\n")
        handler.wfile.write(good.replace(old, new, 1))
        handler.close_connection = True

    url, _ = serve(answer)
    server = quick(url)
    assert [chat(server, prompt) for prompt in "abc"] == [good_answer(prompt) for prompt in "abc"] and not server.faults


def test_a_connection_is_kept_open(serve):
    ports = set()

    def answer(handler, body, prompt, nth):
        ports.add(handler.client_address[1])
        handler.wfile.write(handler.good(prompt))

    url, _ = serve(answer)
    server = quick(url)
    for n in range(20):
        chat(server, str(n))
    assert len(ports) == 1


@pytest.mark.parametrize(("header", "seconds"), [("3", 3), ("0", 0), ("99999", 600), ("-5", None), ("straks", None), ("", None)])
def test_waits_as_long_as_retry_after_says(header, seconds):
    server = Client("http://localhost", backoff=0.5)
    pauses = [server._pause(attempt, header) for attempt in (0, 1, 2, 20)]
    if seconds is None:  # doubles from the backoff on, to a minute, with a jitter down to a half
        assert all(low / 2 <= pause <= low for pause, low in zip(pauses, (0.5, 1, 2, 60), strict=True))
    else:
        assert pauses == [seconds] * 4
    dates = [email.utils.formatdate(time.time() + delta, usegmt=True) for delta in (7, -7)]
    assert 5 < server._pause(0, dates[0]) <= 7 and server._pause(0, dates[1]) == 0


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://user:secret@host/v1", "http://host/v1?key=secret", "http:///v1"])
def test_addresses_that_are_none(url):
    with pytest.raises(InputError, match="expected http") as caught:
        Client(url)
    assert "secret" not in str(caught.value)


# --- what the LLM says ----------------------------------------------------------------------------------------------------------

OBJECT = '{"query": "a", "positive": "b", "negative": "c"}'


@pytest.mark.parametrize(("content", "more", "expected"), [
    (OBJECT, {}, "ok"),
    (f"```json\n{OBJECT}\n```", {}, "ok"),
    (f'<think>{{"query": 1}}</think> Graag: {OBJECT} Nog iets?', {}, "ok"),
    (OBJECT[:-9], {}, "no JSON in the message"),
    ("Het spijt me.", {}, "no JSON in the message"),
    (None, {}, "no JSON in the message"),
    ('{"query": "\\ud800"}', {}, "no JSON in the message"),
    ("{" * 100_000 + "}" * 100_000, {}, "no JSON in the message"),
    (OBJECT, {"finish_reason": "length"}, "cut at max_tokens"),
    (OBJECT, {"finish_reason": "content_filter"}, "refusal"),
    (OBJECT, {"message": {"content": None, "refusal": "Nee."}}, "refusal"),
    (OBJECT, {"message": None}, "not a chat answer"),
])  # fmt: skip
def test_messages(content, more, expected):
    answer = {"choices": [{"message": {"content": content}} | more]}
    if expected == "ok":
        assert client.parse_answer(answer, Client("http://localhost")) == json.loads(OBJECT)
    else:
        with pytest.raises(Refused) as caught:
            client.parse_answer(answer, Client("http://localhost"))
        assert caught.value.reason == expected
    for odd in ([], {}, {"choices": []}, {"choices": [1]}, {"choices": [{"message": {"content": 3}}]}, "x", None):
        with pytest.raises(Refused, match="not a chat answer"):
            client.parse_answer(odd, Client("http://localhost"))


# --- many requests, rows that are kept -----------------------------------------------------------------------------------------


def number(row):
    return row["row"]


def test_rows_are_appended_whole_and_sorted_at_the_end(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ZeroDivisionError), appending(path, number) as (there, append):
        assert not there
        for n in (5, 2, 7):
            append({"row": n, "text": "é" * n})
            assert [row["row"] for _, row in read_jsonl(path)][-1] == n  # it is on disk at once
        raise ZeroDivisionError
    with open(path, "ab") as file:
        file.write('{"row": 6, "text": "é'.encode()[:-1])
    with appending(path, number) as (there, append):
        assert set(there) == {5, 2, 7}
        append({"row": 0, "text": ""})
    assert "a half line at its end" in capsys.readouterr().out
    assert [row for _, row in read_jsonl(path)] == [{"row": n, "text": "é" * n} for n in (0, 2, 5, 7)]
    before = path.stat().st_ino
    with appending(path, number):
        pass
    assert path.stat().st_ino == before  # in order already: not written again


def test_only_one_process_writes(tmp_path):
    with appending(tmp_path / "a.jsonl", number):
        with pytest.raises(InputError, match="another process is writing it"), appending(tmp_path / "a.jsonl", number):
            pass
    (tmp_path / "a.jsonl").write_text('{"row": 1}\n{"rij": 2}\n')
    with pytest.raises(InputError, match="a.jsonl:2: .* is no row of this run"), appending(tmp_path / "a.jsonl", number):
        pass


def test_settings_are_kept_and_compared(tmp_path):
    path = tmp_path / "rows.jsonl"
    client.keep_settings(path, {"seed": 0})  # nothing came of that run
    client.keep_settings(path, {"seed": 1, "types": ("a", "b")})
    path.write_text('{"row": 1}')
    client.keep_settings(path, {"seed": 1, "types": ["a", "b"]})
    assert read_json(f"{path}.json") == {"settings": {"seed": 1, "types": ["a", "b"]}}
    for settings, message in [
        ({"seed": 2, "types": ["a", "b"]}, "begun with seed 1, not 2"), ({"seed": 1}, 'begun with types \\["a", "b"\\], not null'),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            client.keep_settings(path, settings)


def test_no_more_than_so_many_at_a_time():
    lock, now, most, taken = threading.Lock(), 0, 0, []

    def work(job):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        return job * 10

    jobs = (taken.append(n) or n for n in range(50))
    results = client.each(jobs, work, 4, lambda: None)
    assert next(results) in (0, 10, 20, 30) and len(taken) == 4  # jobs are taken when there is room for them
    assert len({*results}) == 49
    assert most == 4 and len(taken) == 50


def test_progress_and_prices():
    server = Client("http://localhost", prices=(1.0, 2.0))
    server.tokens, server.requests = [3_000_000, 500_000], 200
    server.count("status 500")
    assert server.describe(10, 40) == "3,500,000 tokens, 0.5% refused, paid 4.00, 12.00 to pay"
    assert server.describe(10, 40, before=2.5).endswith("paid 4.00, 4.50 to pay")
    server.prices = (0.0, 0.0)
    assert server.describe(10, 40) == "3,500,000 tokens, 0.5% refused"
