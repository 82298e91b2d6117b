"""synthesize.py: against a real HTTP server on loopback that answers as an LLM does, well and badly; every rule worked out by hand.

    python -m pytest tests/test_synthesize.py

The server's good answers are functions of the prompt alone, so what a run must write is known whatever went wrong on the way: a run with
faults, or one that was killed, ends with the bytes of one that was left in peace.
"""

import collections
import doctest
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_server import FAULTS, dutch, faulty, good_answer

import e5nl
import synthesize
from client import Refused
from data import read_source, read_sources
from files import InputError, read_json, read_jsonl, write_jsonl
from synthesize import DUTCH, TYPES, Plan, Turns, split_words

ROOT = Path(__file__).parent.parent
KEY = "sk-geheim-0123456789"


def test_docstring_examples():
    assert doctest.testmod(synthesize).failed == 0 and doctest.testmod(synthesize).attempted >= 4


@pytest.fixture
def topics(tmp_path):
    path = tmp_path / "topics.txt"
    path.write_text("".join(f"onderwerp {i}\n" for i in range(7)))
    return path


def generate(url, topics, out, rows, *more) -> int:
    options = ["--base-url", url, "--llm", "nep", "--timeout", "1", "--backoff", "0.01", *map(str, more)]
    return synthesize.main(["generate", "--topics", str(topics), "--rows", str(rows), "--out", str(out), *options])


def rows_of(path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


# --- which row is which request -------------------------------------------------------------------------------------------------


def test_no_item_ever_runs_ahead():
    weights = [1, 3, 2]
    turns, counts = Turns(weights, (5,)), collections.Counter()
    for n in range(6 * 50):
        item, before = turns[n]
        assert before == counts[item]
        counts[item] += 1
        for i, weight in enumerate(weights):  # within a round an item may be early or late by its weight, no more
            assert (n + 1) // 6 * weight <= counts[i] <= -(-(n + 1) // 6) * weight
    orders = {tuple(turns[n][0] for n in range(6 * r, 6 * r + 6)) for r in range(50)}
    assert len(orders) > 20  # rounds have orders of their own
    backwards = [turns[n] for n in reversed(range(300))]
    assert backwards[::-1] == [Turns(weights, (5,))[n] for n in range(300)] != [Turns(weights, (6,))[n] for n in range(300)]


def test_types_and_topics_are_balanced_together():
    topics, types = dict.fromkeys("abcdefg", 1), dict.fromkeys(TYPES, 1)
    plan = Plan(topics, types, seed=3)
    pairs = collections.Counter()
    for n in range(7 * 5 * 4):
        pairs[plan[n][:2]] += 1
        by_type, by_topic = collections.Counter(), collections.Counter()
        for (kind, topic), count in pairs.items():
            by_type[kind] += count
            by_topic[topic] += count
        assert max(by_type.values()) - min(by_type[kind] for kind in TYPES) <= 1
        assert max(by_topic.values()) - min(by_topic[topic] for topic in topics) <= len(TYPES)
    assert set(pairs.values()) == {4} and len(pairs) == 35
    assert {plan[n][2] for n in range(7 * 5 * 4)} == {0, 1, 2, 3}  # a topic's tasks take turns


def test_weights_of_types_and_topics():
    plan = Plan({"vaak": 3, "soms": 1}, {"ls": 2, "sl": 1}, seed=0)
    counts = collections.Counter(plan[n][:2] for n in range(3 * 4 * 10))
    assert counts == {("ls", "vaak"): 60, ("ls", "soms"): 20, ("sl", "vaak"): 30, ("sl", "soms"): 10}
    assert [plan[n] for n in range(50)] == [Plan({"vaak": 3, "soms": 1}, {"sl": 1, "ls": 2}, seed=0)[n] for n in range(50)]


def test_the_request_of_a_row_is_a_function_of_seed_and_number():
    prompts = [synthesize.row_prompt(DUTCH, "sl", "fietsen", "Given a {taak}", 1, n) for n in range(200)]
    again = [synthesize.row_prompt(DUTCH, "sl", "fietsen", "Given a {taak}", 1, n) for n in reversed(range(200))]
    assert prompts == again[::-1] and prompts[0].startswith("Task: Given a {taak}\nTopic: fietsen\n") and "in Dutch" in prompts[0]
    for name in ("query_type", "query_length", "clarity", "difficulty", "document_words"):
        for option in DUTCH["values"][name]:
            share = np.mean([bool(re.search(rf"\b{option}\b", prompt)) for prompt in prompts])
            assert share > 0.5 / len(DUTCH["values"][name]), (name, option)
    for kind in TYPES:
        assert not re.search(r"\{(?!taak)", synthesize.row_prompt(DUTCH, kind, "x", "{taak}", 0, 0))


def test_topics_file(tmp_path):
    path = tmp_path / "topics.txt"
    path.write_text("fietsen\n\nhavens\t3\n")
    assert synthesize.read_topics(path) == {"fietsen": 1, "havens": 3}
    for content, message in [
        ("a\nb\na\n", ":3: 'a': occurs twice"), ("a\t0\n", r":1: 'a\\t0': expected"), ("\t2\n", ":1"), ("\n", "no topics"),
    ]:  # fmt: skip
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            synthesize.read_topics(path)
    assert len(synthesize.read_topics(ROOT / "demo" / "topics.txt")) > 100


def test_another_language_is_another_table(tmp_path, capsys):
    synthesize.main(["prompts"])
    table = json.loads(capsys.readouterr().out)
    assert table == DUTCH == synthesize.read_prompts(None)
    table["language"] = "Frisian"
    path = tmp_path / "fy.json"
    path.write_text(json.dumps(table))
    assert "in Frisian" in synthesize.row_prompt(synthesize.read_prompts(path), "ls", "it waar", "t", 0, 0)
    broken = [
        ({"language": ""}, "language is \"\"; expected \"Dutch\" or the like"),
        ({"write": {**table["write"], "sl": "{onderwerp}"}}, r"write: sl: \{onderwerp\} is no placeholder; there are topic, task"),
        ({"write": {"sl": "x"}}, "write: '\\w+' is missing; it has sl, ls"),
        ({"function_share": True}, "function_share is true; expected 0.15"),
        ({"words": {**table["words"], "sts": [[1, 2], ["3"]]}}, "words: sts: 1: 0 is \"3\"; expected 2"),
        ({"extra": 1}, "'extra' is unknown"),
    ]
    for change, message in broken:
        path.write_text(json.dumps(table | change))
        with pytest.raises(InputError, match=message):
            synthesize.read_prompts(path)


@pytest.mark.parametrize("status", [301, 401, 404])
def test_a_wrong_address_or_key_stops_at_once(serve, topics, tmp_path, status):
    url, server = serve(lambda handler, body, prompt, nth: handler.wfile.write(handler.reply(status, {"error": "wrong"})))
    with pytest.raises(InputError, match=f'/v1/chat/completions: status {status}: {{"error": "wrong"}}'):
        generate(url, topics, tmp_path / "rows.jsonl", 50, "--concurrency", 2)
    assert len(server.requests) <= 4


def test_no_server_is_said_at_once(topics, tmp_path):
    with pytest.raises(InputError, match="is the server running"):
        generate("http://127.0.0.1:1/v1", topics, tmp_path / "rows.jsonl", 5)


def test_a_run_that_made_nothing_binds_nobody(serve, topics, tmp_path):
    with pytest.raises(InputError):
        generate("http://127.0.0.1:1/v1", topics, tmp_path / "rows.jsonl", 5)
    url, _ = serve()
    assert generate(url, topics, tmp_path / "rows.jsonl", 5, "--seed", 7) == 0
    os.remove(tmp_path / "rows.jsonl")  # the tasks are there yet
    with pytest.raises(InputError, match="begun with seed 7, not 42"):
        generate(url, topics, tmp_path / "rows.jsonl", 5)


def test_json_mode_where_the_server_has_it(serve, topics, tmp_path):
    url, server = serve()
    assert generate(url, topics, tmp_path / "a.jsonl", 10) == 0
    assert all(body["response_format"] == {"type": "json_object"} for _, body, _ in server.requests)

    def none(handler, body, prompt, nth):
        refused = handler.reply(400, {"error": "response_format is not supported"})
        handler.wfile.write(refused if "response_format" in body else handler.good(prompt))

    url, server = serve(none)
    assert generate(url, topics, tmp_path / "b.jsonl", 10, "--concurrency", 1) == 0
    assert sum("response_format" in body for _, body, _ in server.requests) == 1
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert [read_json(tmp_path / f"{name}.jsonl.json")["last run"]["json_mode"] for name in "ab"] == [True, False]


def test_what_the_request_holds(serve, topics, tmp_path):
    url, server = serve()
    body = '{"seed": null, "top_k": 7, "chat_template_kwargs": {"enable_thinking": false}}'
    generate(url, topics, tmp_path / "rows.jsonl", 10, "--body", body, "--temperature", 0.5, "--max-tokens", 99)
    for path, sent, headers in server.requests:
        assert path == "/v1/chat/completions" and "Authorization" not in headers
        assert sent.pop("messages")[0].keys() == {"role", "content"} and sent.pop("response_format")
        assert sent == {"model": "nep", "temperature": 0.5, "top_p": 1.0, "max_tokens": 99, "top_k": 7,
                        "chat_template_kwargs": {"enable_thinking": False}}  # fmt: skip


def test_the_key_appears_nowhere(serve, topics, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", KEY)

    def echo(handler, body, prompt, nth):
        if nth == 1 and len(prompt) % 2:
            handler.wfile.write(handler.reply(500, {"error": f"bad key {KEY}"}))
        elif nth == 1 and '"tasks"' not in prompt:
            handler.wfile.write(handler.reply(400, {"error": f"bad key {KEY}"}))
        else:
            answer = good_answer(prompt)
            handler.wfile.write(handler.chat(json.dumps(answer | ({"query": f"{answer['query']} {KEY}"} if "query" in answer else {}))))

    url, server = serve(echo)
    generate(url, topics, tmp_path / "rows.jsonl", 30, "--key-env", "MY_KEY", "--retries", 1)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, _, headers in server.requests)
    printed = capsys.readouterr()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4 and "***" in (tmp_path / "rows.jsonl").read_text()
    assert not [path for path in files if KEY in path.read_text()] and KEY not in printed.out + printed.err

    url, server = serve(lambda handler, body, prompt, nth: handler.wfile.write(handler.reply(401, {"error": f"bad key {KEY}"})))
    with pytest.raises(InputError) as caught:
        generate(url, topics, tmp_path / "other.jsonl", 30, "--key-env", "MY_KEY")
    assert KEY not in str(caught.value) and "bad key ***" in str(caught.value)

    monkeypatch.setenv("MY_KEY", f"{KEY}\n")  # http.client would show it in its error
    with pytest.raises(InputError, match="characters that no key has") as caught:
        generate(url, topics, tmp_path / "other.jsonl", 30, "--key-env", "MY_KEY")
    assert KEY not in str(caught.value)


def test_answers_are_checked_against_what_was_asked():
    text = "de kat zit op het dak en wil er niet af omdat het er voor haar zo warm is"
    good = {"query": " waar zit de kat ", "positive": text, "negative": text + " niet", "reason": "x"}
    assert synthesize.parse_triplet(good, "sl", DUTCH) == {"query": "waar zit de kat", "pos": text, "neg": text + " niet"}
    for change, reason in [
        ({"query": None}, "no triplet"), ({"positive": ["x"]}, "no triplet"), ({"query": "  "}, "too short"),
        ({"positive": "ja"}, "too short"),
    ]:  # fmt: skip
        with pytest.raises(Refused) as caught:
            synthesize.parse_triplet(good | change, "sl", DUTCH)
        assert caught.value.reason == reason
    assert synthesize.parse_tasks({"tasks": [" a ", "b", "c"]}, "sl", "x", 2) == {"task_type": "sl", "topic": "x", "tasks": ["a", "b"]}
    for tasks in (None, [], "a", ["a", 1], ["a", " "], [{"task": "a"}]):
        with pytest.raises(Refused, match="no list of tasks"):
            synthesize.parse_tasks({"tasks": tasks}, "sl", "x", 2)


def test_an_answer_that_does_not_fit_is_asked_again_with_another_seed(serve, topics, tmp_path, capsys):
    bad = lambda handler, body, prompt, nth: handler.wfile.write(handler.chat("Nee.") if nth < 3 else handler.good(prompt))  # noqa: E731
    url, server = serve(bad)
    assert generate(url, topics, tmp_path / "rows.jsonl", 4, "--types", "sts=1", "--tries", 3) == 0
    seeds = collections.defaultdict(list)
    for _, body, _ in server.requests:
        seeds[body["messages"][0]["content"]].append(body["seed"])
    assert len(seeds) == 4 and all(len(set(one)) == 3 for one in seeds.values())
    report = read_json(tmp_path / "rows.jsonl.json")["last run"]
    assert report["faults"] == {"no JSON in the message": 8} and report["requests"] == 12 and report["tokens"] == [1200, 120]

    url, server = serve(bad)  # one try less: nothing fits
    assert generate(url, topics, tmp_path / "less.jsonl", 4, "--types", "sts=1", "--tries", 2) == 1
    assert "4 are missing (no JSON in the message 4): the same command asks for them again" in capsys.readouterr().out
    assert generate(url, topics, tmp_path / "less.jsonl", 4, "--types", "sts=1", "--tries", 2) == 0  # the third time it is good
    assert (tmp_path / "less.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()


# --- whole runs -----------------------------------------------------------------------------------------------------------------


def test_two_thousand_rows_with_a_tenth_of_faults(serve, topics, tmp_path):
    url, server = serve(faulty(0.1))
    assert generate(url, topics, tmp_path / "faulty.jsonl", 2000, "--concurrency", 32, "--timeout", 0.5) == 0
    assert all(server.faults[kind] > 5 for kind in FAULTS), server.faults
    quiet, _ = serve()
    assert generate(quiet, topics, tmp_path / "quiet.jsonl", 2000, "--concurrency", 32) == 0
    rows = rows_of(tmp_path / "faulty.jsonl")
    assert [row["row"] for row in rows] == list(range(2000))
    assert collections.Counter(row["task_type"] for row in rows) == dict.fromkeys(TYPES, 400)
    assert set(rows[0]) == {"row", "task_type", "task_desc", "topic", "model", "query", "pos", "neg"} and rows[0]["model"] == "nep"
    for name in ("faulty.jsonl", "faulty.jsonl.tasks.jsonl"):
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("faulty", "quiet")).read_bytes()
    report = read_json(tmp_path / "faulty.jsonl.json")["last run"]
    assert report["missing"] == {} and report["requests"] == 2000 + 28 + sum(report["faults"].values())
    expected = {"status 500", "status 429", "timed out", "connection lost", "no JSON in the message", "wrong language"}
    assert set(report["faults"]) >= expected


def test_killed_in_the_middle(serve, topics, tmp_path, capsys):
    """SIGKILL, and a half line, and a row that the sorting has not put in its place: the restart makes exactly what is missing."""
    url, server = serve(lambda handler, body, prompt, nth: (time.sleep(0.01), handler.wfile.write(handler.good(prompt))))
    out = tmp_path / "killed.jsonl"
    command = [sys.executable, "synthesize.py", "generate", "--base-url", url, "--llm", "nep", "--topics", str(topics), "--rows", "600"]
    command += ["--out", str(out), "--concurrency", "8"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not out.exists() or out.read_bytes().count(b"\n") < 100:
        assert time.monotonic() < deadline and process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = out.read_bytes().count(b"\n")
    assert 100 <= done < 600
    with open(out, "ab") as file:
        file.write(b'{"row": 599, "task_type": "sl", "que')
    before = len(server.requests)
    time.sleep(0.1)  # the requests that were under way are answered to nobody
    assert generate(url, topics, out, 600) == 0
    assert "a half line at its end" in capsys.readouterr().out
    assert len(server.requests) - before == 600 - done
    assert generate(url, topics, tmp_path / "whole.jsonl", 600) == 0
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert [row["row"] for row in rows_of(out)] == list(range(600))


def test_more_rows_later_are_the_rows_of_a_longer_run(serve, topics, tmp_path):
    url, server = serve()
    out = tmp_path / "rows.jsonl"
    generate(url, topics, out, 20)
    first, before = out.read_bytes(), len(server.requests)
    assert generate(url, topics, out, 20) == 0 and len(server.requests) == before and out.read_bytes() == first
    generate(url, topics, out, 90)
    generate(url, topics, tmp_path / "once.jsonl", 90)
    assert out.read_bytes() == (tmp_path / "once.jsonl").read_bytes() and out.read_bytes().startswith(first)


def test_another_run_does_not_go_on_with_the_file(serve, topics, tmp_path):
    url, _ = serve()
    out = tmp_path / "rows.jsonl"
    generate(url, topics, out, 5)
    before = out.read_bytes()
    for more, message in [
        (["--seed", 7], "begun with seed 42, not 7"), (["--types", "sl=1"], "begun with types"), (["--tasks", 6], "with tasks 5, not 6"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            generate(url, topics, out, 9, *more)
    topics.write_text("iets anders\n")
    with pytest.raises(InputError, match="begun with topics"):
        generate(url, topics, out, 9)
    os.remove(f"{out}.json")
    with pytest.raises(InputError, match="exists, but not"):
        generate(url, topics, out, 9)
    assert out.read_bytes() == before
    with pytest.raises(InputError, match="expected a name that ends in .jsonl"):
        generate(url, topics, tmp_path / "rows.json", 5)


def test_a_server_that_dies_ends_the_run(serve, topics, tmp_path):
    """Not after every row's retries: soon after nothing gets through any more. What was made is kept."""

    def dying(handler, body, prompt, nth):
        with handler.server.lock:
            alive = len(handler.server.requests) < 150
        if alive:
            handler.wfile.write(handler.good(prompt))
        else:
            handler.fault("500", prompt)

    url, server = serve(dying)
    out = tmp_path / "rows.jsonl"
    with pytest.raises(InputError, match=r"the last \d+ rows all failed \(status 500: <html>stuk</html>\); what was made is kept"):
        generate(url, topics, out, 5000, "--concurrency", 4, "--retries", 1)
    assert len(server.requests) < 300 and 80 < len(rows_of(out)) < 150


def test_an_error_does_not_wait_for_slow_requests(serve, topics, tmp_path):
    def answer(handler, body, prompt, nth):
        if "topic \"onderwerp 3\"" in prompt:
            time.sleep(0.2)
            handler.wfile.write(handler.reply(404, {"error": "no such model"}))
        else:
            time.sleep(20)

    url, _ = serve(answer)
    started = time.monotonic()
    with pytest.raises(InputError, match="no such model"):
        generate(url, topics, tmp_path / "rows.jsonl", 70, "--timeout", 30)
    assert time.monotonic() - started < 5


# --- quality --------------------------------------------------------------------------------------------------------------------

LONG = "de kat zit op het dak en wil er niet af omdat het er voor haar zo warm is"
OTHER = "een hond loopt met zijn baas door het park en ruikt aan elke boom die hij daar ziet staan"


@pytest.mark.parametrize(("kind", "query", "pos", "neg", "expected"), [
    ("sl", "waar zit de kat", LONG, OTHER, None),
    ("sl", "!?", LONG, OTHER, "too short"),
    ("sl", "waar zit de kat", "op het dak", OTHER, "too short"),
    ("sl", "waar " * 101, LONG, OTHER, "too long"),
    ("sl", "waar zit de kat", LONG, LONG.upper() + "!", "positive equals negative"),
    ("sts", LONG, LONG + ".", OTHER, "positive equals query"),
    ("sts", LONG, OTHER, "De kat: " + LONG[7:], "negative equals query"),
    ("ls", OTHER, "huisdier", "wild dier", None),
    ("ls", OTHER, "Het park", "de stad", "label in text"),
    ("ls", OTHER, "hond loop", "de stad", None),  # not whole words
    ("ls", OTHER, "de stad", "het park", None),  # a wrong label may stand there
    ("ls", OTHER, "een label van veel te veel woorden " * 3, "x", "too long"),
    ("ll", "the cat sat on the mat and would not move for anybody at all since it was so warm up there", OTHER + OTHER, OTHER + " " + LONG,
     "wrong language"),
    ("sl", "cat", "le chat est sur le toit et il ne veut pas descendre parce qu'il fait très chaud là haut", OTHER, "wrong language"),
    ("ss", "cat on a mat", "a dog in a park", "one tree", None),  # too few words to tell
])  # fmt: skip
def test_rows_that_are_no_good_by_themselves(kind, query, pos, neg, expected):
    assert synthesize.unfit(kind, *map(split_words, (query, pos, neg)), DUTCH) == expected


def test_the_language_rule_on_real_text():
    """Little of the bundled Dutch is taken for another language; English, German and French is."""
    for path in sorted((ROOT / "demo" / "train").glob("*.jsonl.gz")):
        rows = [split_words(f"{row.query} {row.pos[0]}") for row in read_source(path).rows[:1000]]
        rows = [words for words in rows if 20 <= len(words) <= 2000]
        wrong = [synthesize.unfit("sl", ["x"], words, words[::-1], DUTCH) == "wrong language" for words in rows]
        allowed = 0.04 if path.name[:4] in ("algo", "tldr") else 0.01  # lists of English titles; manuals
        assert sum(wrong) <= allowed * len(rows), path
    for text in [
        "In the early morning the baker is the first one in the street, and by the time we get up the bread is on the table.",
        "Am frühen Morgen ist der Bäcker der erste in der Straße, und wenn wir aufstehen, liegt das Brot schon auf dem Tisch und ist warm.",
        "Tôt le matin, le boulanger est le premier dans la rue, et quand nous nous levons, le pain est déjà sur la table de la cuisine.",
    ]:
        assert len(words := split_words(text)) >= 20
        assert synthesize.unfit("sl", ["x"], words, ["y"] * 15, DUTCH) == "wrong language"


def slow_shingles(text, size):
    return {tuple(text[i : i + size]) for i in range(max(1, len(text) - size + 1))}


@pytest.mark.parametrize("size", [1, 3, 13])
def test_shingles_are_the_runs_of_words(size):
    generator = random.Random(size)
    texts = [[generator.choice("abcdefgh") for _ in range(n)] for n in (20, 1, 3, 2, 13, 14, 40, 12)]
    hashes, starts = synthesize.shingles(texts, size)
    found = [hashes[a:b].tolist() for a, b in zip(starts, starts[1:], strict=False)]
    assert [len(one) for one in found] == [max(1, len(text) - size + 1) for text in texts]
    meaning = {}
    for text, one in zip(texts, found, strict=True):
        for i, value in enumerate(one):
            assert meaning.setdefault(value, tuple(text[i : i + size])) == tuple(text[i : i + size])  # one hash, one run
    assert len(meaning) == len(set.union(*(slow_shingles(text, size) for text in texts)))  # one run, one hash


def test_signatures_estimate_the_share_of_common_shingles():
    generator = random.Random(0)
    for changed in (0, 2, 5, 10, 30, 100):
        a = [f"w{generator.randrange(10**6)}" for _ in range(100)]
        b = list(a)
        for i in generator.sample(range(100), changed):
            b[i] = f"x{generator.randrange(10**6)}"
        true = len(slow_shingles(a, 3) & slow_shingles(b, 3)) / len(slow_shingles(a, 3) | slow_shingles(b, 3))
        signatures = [synthesize.minhash([a, b], seed) for seed in range(8)]
        estimate = np.mean([one == two for one, two in signatures])
        assert abs(estimate - true) <= 4 * np.sqrt(true * (1 - true) / (8 * 128)), changed
    assert not np.array_equal(signatures[0], signatures[1])


def test_near_duplicates_are_those_that_comparing_all_finds():
    generator = random.Random(1)
    texts = []
    for i in range(400):
        if i % 4 == 0 or not texts:
            texts.append([f"w{generator.randrange(10**5)}" for _ in range(60)])
        else:  # a copy of an earlier one with some words changed
            copy = list(generator.choice(texts))
            for place in generator.sample(range(60), generator.choice([0, 1, 2, 8, 20])):
                copy[place] = f"v{generator.randrange(10**5)}"
            texts.append(copy)
    signatures = synthesize.minhash(texts, seed=3)
    found = synthesize.near_duplicates(signatures, 0.8)
    expected = np.array([bool(i) and ((signatures[:i] == signatures[i]).mean(1) >= 0.8).any() for i in range(400)])
    assert 50 < expected.sum() < 300 and (found & ~expected).sum() == 0
    assert (expected & ~found).sum() <= 2  # bands and anchors may miss a pair
    assert not synthesize.near_duplicates(signatures[:0], 0.8).size


def test_a_stranger_in_a_band_hides_no_duplicate():
    """b has a's first band and three of four numbers of every other one, the stranger has the first band alone."""
    a = np.arange(128, dtype=np.uint32)
    b, stranger = a.copy(), a + 1000
    b[4::4] += 1
    stranger[:4] = a[:4]
    assert (a == b).mean() == 97 / 128
    for rows in ((a, stranger, b), (stranger, a, b)):  # found by comparing with the first of the band, and with the one before
        assert synthesize.near_duplicates(np.stack(rows), 0.75).tolist() == [False, False, True]


def triplet(n, kind="sl", **changes):
    generator = random.Random(n)
    row = {"row": n, "task_type": kind, "task_desc": "Given a …", "topic": f"t{n % 3}", "model": "nep", "query": dutch(generator, 8),
           "pos": dutch(generator, 3 if kind == "ls" else 30), "neg": dutch(generator, 3 if kind == "ls" else 30)}  # fmt: skip
    return row | changes


def test_cleaning(tmp_path, capsys):
    """Rows 0 to 5 are good. Every later one has one thing wrong."""
    rows = [triplet(n, kind) for n, kind in enumerate(["sl", "sl", "ls", "ss", "ll", "sts"])]
    rows[4]["query"] = dutch(random.Random(99), 25)
    evaluation = dutch(random.Random(7), 40).split()
    short = "een korte vraag over w123"
    run = lambda words: " ".join(evaluation[10 : 10 + words])  # noqa: E731
    changed = rows[0]["pos"].split()
    changed[-1] = "anders"
    bad = {
        "too short": [triplet(6, pos="ja")],
        "wrong language": [triplet(7, pos="the cat sat on the mat and would not move for anybody at all as it was warm up there")],
        "in excluded texts": [
            triplet(8, pos=f"{dutch(random.Random(8), 10)} {run(13)}, {dutch(random.Random(9), 9)}"), triplet(9, query=short.upper()),
            triplet(10, neg=f"{run(20)} {dutch(random.Random(10), 9)}"),
        ],
        "duplicate": [triplet(11, query=rows[0]["query"].upper() + "?"), triplet(12, query=rows[1]["query"])],
        "near duplicate": [triplet(13, query=rows[0]["query"] + " dan", pos=" ".join(changed), neg=rows[0]["neg"])],
    }  # fmt: skip
    fine = [triplet(14, pos=f"{dutch(random.Random(14), 20)} {run(12)}"), triplet(15, "ss", query=rows[0]["query"])]
    fine += [triplet(16, "ls", pos=short)]
    everything = [*rows, *(row for part in bad.values() for row in part), *fine]
    write_jsonl(tmp_path / "rows.jsonl", everything)
    write_jsonl(tmp_path / "eval.jsonl.gz", [{"_id": "17", "text": " ".join(evaluation), "more": [{"title": short}]}])
    options = ["clean", "--data", str(tmp_path / "rows.jsonl"), "--exclude", str(tmp_path / "eval.jsonl.gz"), "--examples", "1"]
    synthesize.main([*options, "--out", str(tmp_path / "clean.jsonl")])
    assert rows_of(tmp_path / "clean.jsonl") == [*rows, *fine]
    figures = read_json(tmp_path / "clean.jsonl.json")["report"]
    for reason, wrong in bad.items():
        assert sum(one[reason] for one in figures["types"].values()) == len(wrong), reason
    sl = figures["types"]["sl"]
    assert (sl["rows"], sl["kept"]) == (11, 3) and figures["types"]["ls"]["kept"] == 2
    assert sl["median words"] == [8, 30, 30] and sl["distinct queries"] == 9 / 11 and sl["distinct positives"] == 1
    assert figures["topics"] == {"t0": 3, "t1": 3, "t2": 3} and sl["topics"] == 3 and sl["topic entropy"] == pytest.approx(np.log2(3))
    printed = capsys.readouterr().out
    assert "in excluded texts                      3" in printed and printed.count("\n  ? ") == 5 and "9 of 17 rows" in printed

    write_jsonl(tmp_path / "none.jsonl", [{"score": 1}])  # no text at all
    options.insert(5, str(tmp_path / "none.jsonl"))
    (tmp_path / "eval.txt").write_text(f"iets\n{' '.join(evaluation)}\n{short}\n")  # a text a line, and no --out: the report alone
    options[4] = str(tmp_path / "eval.txt")
    synthesize.main(options)
    assert capsys.readouterr().out.split("\n\n")[0] == printed.split("\n\n")[0]
    with pytest.raises(InputError, match="clean.jsonl: exists already"):
        synthesize.main([*options, "--out", str(tmp_path / "clean.jsonl")])


def test_rows_that_cannot_be_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    for row, message in [
        (triplet(1, task_type="xx"), 'rows.jsonl:1: task_type is "xx"; expected one of sl, ls, ss, ll, sts'),
        (triplet(1, task_type=["sl"]), "task_type is"), (triplet(1, pos=["a"]), r'pos is \["a"\]; expected a text'),
        ({"task_type": "sl"}, "query is null"),
    ]:  # fmt: skip
        write_jsonl(path, [row])
        with pytest.raises(InputError, match=message):
            synthesize.main(["clean", "--data", str(path)])
    write_jsonl(path, [triplet(1, pos="ja")])
    with pytest.raises(InputError, match="no row is good enough"):
        synthesize.main(["clean", "--data", str(path), "--out", str(tmp_path / "out.jsonl")])
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(InputError, match="is the input itself"):
        synthesize.main(["clean", "--data", str(path), "--out", str(path), "--overwrite"])


def test_several_files_are_numbered_anew(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [triplet(7), triplet(9)])
    write_jsonl(tmp_path / "b.jsonl", [triplet(9)])
    files = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert [row["row"] for row in synthesize.read_triplets(files)] == [0, 1, 2]
    assert [row["row"] for row in synthesize.read_triplets(files[:1])] == [7, 9]


# --- scores, filter -------------------------------------------------------------------------------------------------------------


def length_score(text: str) -> float:
    return len(text) / 1000


def rerank(handler, body, prompt, nth):
    """Results come best first, as servers give them, so the index tells which is which; every seventh request fails once."""
    if nth == 1 and len(prompt) % 7 == 0:
        return handler.wfile.write(handler.reply(503, {"error": "busy"}))
    documents = body.get("documents") or body["texts"]
    assert handler.path == "/v1/rerank" and body["query"] and ("documents" in body) == (body.get("model") == "rang")
    name = "relevance_score" if "documents" in body else "score"
    results = sorted(({"index": i, name: length_score(text)} for i, text in enumerate(documents)), key=lambda one: -one[name])
    handler.wfile.write(handler.reply(200, {"results": results} if "documents" in body else results))


@pytest.mark.parametrize("api", ["jina", "tei"])
def test_scores_from_a_reranker(serve, tmp_path, api):
    url, server = serve(rerank)
    rows = [triplet(n, kind) for n, kind in enumerate(list(TYPES) * 12)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    options = ["score", "--data", str(tmp_path / "rows.jsonl"), "--base-url", url, "--api", api, "--backoff", "0.01", "--out"]
    options += [str(tmp_path / "scored.jsonl"), *(["--reranker", "rang"] if api == "jina" else [])]
    assert synthesize.main(options) == 0
    expected = [row | {"pos_scores": [length_score(row["pos"])], "neg_scores": [length_score(row["neg"])]} for row in rows]
    whole, faults = (tmp_path / "scored.jsonl").read_bytes(), read_json(tmp_path / "scored.jsonl.json")["last run"]["faults"]
    assert rows_of(tmp_path / "scored.jsonl") == expected and 0 < faults["status 503"] == len(server.requests) - 60

    lines = whole.splitlines(keepends=True)  # as a killed run leaves it: out of order, and half a line
    (tmp_path / "scored.jsonl").write_bytes(b"".join(lines[30:50] + lines[:20]) + lines[25][:40])
    before = len(server.requests)
    assert synthesize.main(options) == 0
    assert (tmp_path / "scored.jsonl").read_bytes() == whole and len(server.requests) - before == 20


@pytest.mark.parametrize("answer", [
    [], {"results": []}, {"results": [{"index": 0, "relevance_score": 1}]}, {"results": [{"index": 0}, {"index": 1}]},
    {"results": [{"index": 0, "relevance_score": float("nan")}, {"index": 1, "relevance_score": 0}]},
])  # fmt: skip
def test_answers_without_scores_are_missing_rows(serve, tmp_path, capsys, answer):
    url, _ = serve(lambda handler, body, prompt, nth: handler.wfile.write(handler.reply(200, answer)))
    write_jsonl(tmp_path / "rows.jsonl", [triplet(0), triplet(1)])
    files = ["--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "scored.jsonl")]
    options = ["score", *files, "--base-url", url, "--reranker", "rang"]
    assert synthesize.main(options) == 1
    assert "0 rows; 2 are missing (no scores 2)" in capsys.readouterr().out and not (tmp_path / "scored.jsonl").read_bytes()


def test_scores_from_an_encoder(folder, tmp_path):
    rows = [triplet(n, kind) for n, kind in enumerate(list(TYPES) * 2)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    options = ["score", "--data", str(tmp_path / "rows.jsonl"), "--model", str(folder), "--out", str(tmp_path / "scored.jsonl")]
    assert not synthesize.main(options)
    model, tokenizer = e5nl.load(folder)
    for row, scored in zip(rows, rows_of(tmp_path / "scored.jsonl"), strict=True):
        kind = "passage" if row["task_type"] in ("sl", "ls") else "query"
        kinds = {"query": "query", "pos": kind, "neg": kind}
        q, p, n = (e5nl.embed(model, tokenizer, [row[field]], which)[0] for field, which in kinds.items())
        assert scored == row | {"pos_scores": pytest.approx([q @ p], abs=1e-5), "neg_scores": pytest.approx([q @ n], abs=1e-5)}
    whole = (tmp_path / "scored.jsonl").read_bytes()
    (tmp_path / "scored.jsonl").write_bytes(whole[: len(whole) // 2])
    assert not synthesize.main(options)
    again = rows_of(tmp_path / "scored.jsonl")
    assert [row["row"] for row in again] == list(range(10))
    assert again[9]["pos_scores"] == pytest.approx(json.loads(whole.splitlines()[9])["pos_scores"])


def test_scoring_asks_for_what_it_needs(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [triplet(3), triplet(3)])
    start = ["score", "--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "x.jsonl")]
    for more, message in [
        ([], "give --base-url"), (["--base-url", "http://x", "--model", "y"], "give --base-url"),
        (["--base-url", "http://x"], "needs --reranker"), (["--base-url", "http://x", "--api", "tei"], "row 3 occurs twice"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            synthesize.main([*start, *more])


def scored_rows():
    """(s(q,p), s(q,n), whether the released rule keeps an `sl` row)"""
    kept = [(0.1, 0.5, True), (0.97, 0.01, True), (0.5, 0.99, True), (0.99, 0.5, True)]
    return [*kept[:1], (0.0999, 0.0, False), *kept[1:2], (0.975, 0.01, False), (1.0, 0.02, False), *kept[2:]]


def write_scored(path, kinds=TYPES):
    rows = []
    for kind in kinds:
        for positive, negative, _ in scored_rows():
            rows.append(triplet(len(rows), kind, pos_scores=[positive], neg_scores=[negative]))
    write_jsonl(path, rows)
    return rows


def test_the_released_rule():
    """`pos >= 0.1 and pos - neg <= 0.96`, ls always: in the arithmetic of Python's floats, as in the authors' code."""
    scores = np.array([row[:2] for row in scored_rows()])
    kept = [kept for *_, kept in scored_rows()]
    assert [a >= 0.1 and a - b <= 0.96 for a, b, _ in scored_rows()] == kept
    for kind in TYPES:
        assert synthesize.keeps(np.repeat(kind, 7), scores, 0.1, 0.96).tolist() == (kept if kind != "ls" else [True] * 7)
    assert synthesize.keeps(np.repeat("ss", 7), scores, 0.5, 0.4).tolist() == [False, False, False, False, False, True, False]


def test_filtered_rows_are_training_sources(tmp_path, capsys, folder):
    rows = write_scored(tmp_path / "scored.jsonl")
    rows[0]["neg"] = " "  # blank, and otherwise kept
    write_jsonl(tmp_path / "scored.jsonl", rows)
    out = tmp_path / "synthetic"
    synthesize.main(["filter", "--data", str(tmp_path / "scored.jsonl"), "--out", str(out)])
    printed = capsys.readouterr().out
    assert "1 rows with a blank text" in printed
    assert re.search(r"^sl +7 +3 +42.9%", printed, re.M) and re.search(r"^all +35 +22 +62.9%", printed, re.M)
    sources = {source.name: source for source in read_sources([out / "manifest.json"])}
    assert {name: (source.type, source.in_batch_negatives, len(source.rows)) for name, source in sources.items()} == {
        "sl": ("retrieval", True, 3), "ls": ("classification", False, 7), "ss": ("symmetric_clustering", True, 4),
        "ll": ("symmetric_clustering", True, 4), "sts": ("symmetric_sts", True, 4),
    }  # fmt: skip
    row = next(row for row in rows[14:] if row["pos_scores"] == [0.97])
    expected = {"query": row["query"], "pos": [row["pos"]], "neg": [row["neg"]], "pos_scores": [0.97], "neg_scores": [0.01]}
    assert expected | {"type": "symmetric_clustering"} in rows_of(out / "ss.jsonl.gz")
    options = ["--data", str(out / "manifest.json"), "--out", str(tmp_path / "trained"), "--batch-size", "2", "--steps", "2"]
    e5nl.main(["train", "--model", str(folder), *options])
    assert len(rows_of(tmp_path / "trained" / "log.jsonl")) == 2

    with pytest.raises(InputError, match="manifest.json: exists already"):
        synthesize.main(["filter", "--data", str(tmp_path / "scored.jsonl"), "--out", str(out)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "ls.jsonl.gz").write_text("somebody's own")
    with pytest.raises(InputError, match="mine/ls.jsonl.gz: exists already"):
        synthesize.main(["filter", "--data", str(tmp_path / "scored.jsonl"), "--out", str(tmp_path / "mine")])
    write_scored(tmp_path / "scored.jsonl", ["sl"])
    synthesize.main(["filter", "--data", str(tmp_path / "scored.jsonl"), "--out", str(out), "--overwrite"])
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "report.json", "sl.jsonl.gz"]
    assert read_json(out / "report.json")["types"]["sl"] == {"rows": 7, "kept": 4}


def released_files(tmp_path, rows) -> dict[str, bytes]:
    """The rows as parquet in two shards, with the columns of clips/SynEmbedNL."""
    import pyarrow.parquet

    columns = ["task_type", "task_desc", "model", "query", "pos", "neg", "pos_scores", "neg_scores"]
    values = {name: [row[name] for row in rows] for name in columns}
    values |= {f"{name}-id": list("abc" * 100)[: len(rows)] for name in ("query", "pos", "neg")}
    table, files = pyarrow.table(values), {}
    for i, part in enumerate((table[:20], table[20:])):
        pyarrow.parquet.write_table(part, tmp_path / "part")
        files[f"data/train-0000{i}-of-00002.parquet"] = (tmp_path / "part").read_bytes()
    return files


def test_the_released_data_set_goes_through_the_same_filter(hub, tmp_path, monkeypatch):
    hub("clips/SynEmbedNL", released_files(tmp_path, write_scored(tmp_path / "scored.jsonl")))
    monkeypatch.chdir(tmp_path)
    synthesize.main(["filter", "--data", "clips/SynEmbedNL", "--out", "hub"])
    synthesize.main(["filter", "--data", "scored.jsonl", "--out", "local"])
    names = [f"{kind}.jsonl.gz" for kind in TYPES] + ["manifest.json"]
    assert all((tmp_path / "hub" / name).read_bytes() == (tmp_path / "local" / name).read_bytes() for name in names)


def test_sweep(tmp_path, capsys):
    write_scored(tmp_path / "scored.jsonl", ["sl", "ls"])
    synthesize.main(["filter", "--data", str(tmp_path / "scored.jsonl"), "--sweep"])
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if re.match(r" +0.1 +0.96 ", line)).split() == ["0.1", "0.96", "57.1%", "100.0%", "78.6%"]
    assert next(line for line in lines if re.match(r" +-inf +inf ", line)).split() == ["-inf", "inf", "100.0%", "100.0%", "100.0%"]
    assert len(lines) == 5 + 1 + 1 + 30 and list(tmp_path.iterdir()) == [tmp_path / "scored.jsonl"]


def test_a_mix_of_types(tmp_path, capsys):
    rows = [triplet(n, kind, pos_scores=[0.9], neg_scores=[0.5]) for n, kind in enumerate(["sl"] * 100 + ["ls"] * 60 + ["sts"] * 30)]
    write_jsonl(tmp_path / "scored.jsonl", rows)

    def mix(ratio, *more):
        files = ["--data", str(tmp_path / "scored.jsonl"), "--out", str(tmp_path / "mix"), "--overwrite"]
        synthesize.main(["filter", *files, "--ratio", ratio, *more])
        return {source.name: [row.query for row in source.rows] for source in read_sources([tmp_path / "mix" / "manifest.json"])}

    first = mix("sl=0.5,ls=0.3,sts=0.2")  # sts allows 150 in all
    assert {name: len(queries) for name, queries in first.items()} == {"sl": 75, "ls": 45, "sts": 30}
    assert "sl 75 (50.0%), ls 45 (30.0%), sts 30 (20.0%)" in capsys.readouterr().out
    order = [row["query"] for row in rows]
    assert first["sl"] == sorted(first["sl"], key=order.index) and mix("sl=0.5,ls=0.3,sts=0.2") == first
    assert mix("sl=0.5,ls=0.3,sts=0.2", "--seed", "1")["sl"] != first["sl"]
    assert {name: len(queries) for name, queries in mix("sl=0.25,ls=0.75", "--size", "40").items()} == {"sl": 10, "ls": 30}
    with pytest.raises(InputError, match="gives 150 rows at most; kept are sl 100, ls 60, sts 30"):
        mix("sl=0.5,ls=0.3,sts=0.2", "--size", "151")
    for wrong in ("sl=0.5,ls=0.3", "sl=0.5,xx=0.5", "sl=1,sl=1", "sl=zero", "sl"):
        with pytest.raises(SystemExit):
            mix(wrong)
    assert "--ratio adds up to 0.8, not 1" in capsys.readouterr().err


def test_rows_without_scores_are_not_filtered(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [triplet(0, "ls"), triplet(1, "ls", pos_scores=[], neg_scores=None)])  # ls needs none
    synthesize.main(["filter", "--data", str(path), "--out", str(tmp_path / "ls")])
    assert len(rows_of(tmp_path / "ls" / "ls.jsonl.gz")) == 2
    for change, message in [
        ({}, r"row 5 \(sl\) has no pos_scores"), ({"pos_scores": [0.5]}, "has no neg_scores"),
        ({"pos_scores": 0.5}, "has 0.5 as pos_scores"), ({"pos_scores": ["0.5"]}, "as pos_scores"), ({"pos_scores": [float("nan")]}, "NaN"),
    ]:  # fmt: skip
        write_jsonl(path, [triplet(5) | change])
        with pytest.raises(InputError, match=message):
            synthesize.main(["filter", "--data", str(path), "--out", str(tmp_path / "x")])
    write_jsonl(path, [triplet(5, pos_scores=[0.05], neg_scores=[0.0])])
    with pytest.raises(InputError, match="nothing is kept"):
        synthesize.main(["filter", "--data", str(path), "--out", str(tmp_path / "x")])
    assert not (tmp_path / "x" / "manifest.json").exists()


# --- the README -----------------------------------------------------------------------------------------------------------------


def test_the_commands_of_the_readme(serve, hub, tmp_path, monkeypatch, folder):
    """All of its section's commands in their order; the servers' addresses, the number of rows and the training's size are changed."""
    (llm, _), (reranker, _) = serve(), serve(rerank)
    hub("clips/SynEmbedNL", released_files(tmp_path, write_scored(tmp_path / "scored.jsonl")))
    section = (ROOT / "docs/synthetic.md").read_text(encoding="utf-8").replace("\\\n", " ")
    changes = {"http://localhost:8000/v1": llm, "http://localhost:8001": reranker, "demo/": f"{ROOT}/demo/", "--rows 10000": "--rows 60"}
    monkeypatch.chdir(tmp_path)
    ran = []
    for line in re.findall(r"^python (?:synthesize|e5nl)\.py .*$", section, re.M):
        for old, new in changes.items():
            line = line.replace(old, new)
        words = shlex.split(line, comments=True)[1:]
        script, *words = [str(path) for word in words for path in (sorted(Path("/").glob(word[1:])) if "*" in word else [word])]
        small = ["--model", str(folder), "--batch-size", "4", "--steps", "1"] if script == "e5nl.py" else []
        assert not {"e5nl.py": e5nl, "synthesize.py": synthesize}[script].main([*words, *small]), line
        ran.append(words[0])
    assert ran == ["generate", "clean", "score", "filter", "filter", "train"]
    assert len(rows_of(tmp_path / "runs" / "synthetic-model" / "log.jsonl")) == 1
    assert (tmp_path / "runs" / "released" / "manifest.json").exists()
