"""synthesize.py: against a real HTTP server on loopback that answers as an LLM does, well and
badly; every rule worked out by hand.

    python -m pytest tests/test_synthesize.py

The server's good answers are functions of the prompt alone, so what a run must write is known
whatever went wrong on the way: a run with faults, or one that was killed, ends with the bytes of
one that was never disturbed.
"""

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
from fake_server import FAULTS, always, dutch, faulty, good_answer

import client
import e5nl
import synthesize
from client import Refused
from data import read_source, read_sources
from files import InputError, read_json, read_jsonl, write_jsonl
from synthesize import DUTCH, TYPES, split_words

ROOT = Path(__file__).parent.parent
KEY = "sk-geheim-0123456789"
NOWHERE = "http://127.0.0.1:1/v1"


def test_docstring_examples():
    results = doctest.testmod(synthesize)
    assert results.failed == 0 and results.attempted >= 3


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)


@pytest.fixture
def topics(tmp_path):
    path = tmp_path / "topics.txt"
    path.write_text("".join(f"onderwerp {i}\n" for i in range(7)))
    return path


def command_line(command, *flags, **options) -> list[str]:
    words = [command, *flags]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def main(command, *flags, **options):
    return synthesize.main(command_line(command, *flags, **options))


def generate(url, topics, out, rows, **more) -> int:
    options = {"base_url": url, "llm": "nep", "topics": topics, "out": out, "rows": rows}
    return main("generate", **options | {"timeout": 1} | more)


def rows_of(path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def last_run(out) -> dict:
    return read_json(f"{out}.json")["last run"]


# --- which row is which request -------------------------------------------------------------------


def test_types_and_topics_come_up_by_their_weights():
    topics, kinds = ["vaak", "vaak", "vaak", "soms"], ["ls", "ls", "sl"]
    pairs = [synthesize.plan_row(topics, kinds, 5, n)[:2] for n in range(3000)]
    expected = {("ls", "vaak"): 1500, ("ls", "soms"): 500, ("sl", "vaak"): 750, ("sl", "soms"): 250}
    for pair, count in expected.items():
        assert abs(pairs.count(pair) - count) < 4 * np.sqrt(count)
    assert [synthesize.plan_row(topics, kinds, 6, n)[:2] for n in range(3000)] != pairs


def test_placeholders_are_filled_and_every_value_comes_up():
    generator = np.random.default_rng(0)
    prompts = [
        synthesize.row_prompt(DUTCH, "sl", "fietsen", "Given a {taak}", generator)
        for _ in range(200)
    ]
    assert prompts[0].startswith("Task: Given a {taak}\nTopic: fietsen\n\nWrite one example")
    for name in ("query_type", "query_length", "clarity", "difficulty", "document_words"):
        for option in DUTCH["values"][name]:
            share = np.mean([bool(re.search(rf"\b{option}\b", prompt)) for prompt in prompts])
            assert share > 0.5 / len(DUTCH["values"][name]), (name, option)
    for kind in TYPES:
        prompt = synthesize.row_prompt(DUTCH, kind, "x", "{taak}", generator)
        assert not re.search(r"\{(?!taak)", prompt) and "in Dutch" in prompt


def test_topics_file(tmp_path):
    (tmp_path / "topics.txt").write_text("fietsen\n\n havens \nfietsen\n")
    assert synthesize.read_topics(tmp_path / "topics.txt") == ["fietsen", "havens", "fietsen"]


def test_another_language_is_another_table(tmp_path, capsys):
    main("prompts")
    table = json.loads(capsys.readouterr().out)
    assert table == DUTCH
    path = tmp_path / "fy.json"
    path.write_text(json.dumps(table | {"language": "Frisian"}))
    frisian = synthesize.read_prompts(path)
    prompt = synthesize.row_prompt(frisian, "ls", "it waar", "t", np.random.default_rng(0))
    assert "in Frisian" in prompt
    main("prompts", prompts=path)
    assert json.loads(capsys.readouterr().out) == frisian


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("tasks", 3, "sl: cannot be read .TypeError"),
        ("write", {"sl": "x"}, "ls: no field 'ls'"),
        ("values", DUTCH["values"] | {"unit": "zin"}, "sl: .*each of the values is a list"),
        ("write", DUTCH["write"] | {"sl": "{onderwerp}"}, "sl: no field 'onderwerp'"),
        ("words", DUTCH["words"] | {"sts": [[1, 2], ["3"]]}, "sts: cannot be read .ValueError"),
        ("function_share", "veel", "ss: cannot be read .TypeError"),
        ("taal", "Fries", "'taal' is unknown; expected language, "),
        ("write", DUTCH["write"] | {"zin": "x"}, "write: 'zin' is unknown; expected sl, "),
    ],
)
def test_prompt_tables_with_a_mistake_are_refused(tmp_path, part, value, message):
    path = tmp_path / "fy.json"
    path.write_text(json.dumps(DUTCH | {part: value}))
    with pytest.raises(InputError, match=f"fy.json: {message}"):
        synthesize.read_prompts(path)


# --- one request ----------------------------------------------------------------------------------


def test_json_mode_where_the_server_has_it(serve, topics, tmp_path, capsys):
    def picky(handler, body, prompt, nth):
        if body.get("response_format"):
            handler.reply(400, {"error": f"no {body['response_format']['type']}"})
        else:
            handler.wfile.write(handler.good(prompt))

    rows = []
    for name, answer in (("a.jsonl", None), ("b.jsonl", picky)):
        url, server = serve(answer)
        assert generate(url, topics, tmp_path / name, 10, concurrency=1) == 0
        formats = [body.get("response_format") for _, body, _ in server.requests]
        assert formats.count({"type": "json_object"}) == (1 if answer else len(formats))
        rows.append((tmp_path / name).read_bytes())
    assert rows[0] == rows[1]
    refused = 'refuses JSON mode and is asked without it: status 400: {"error": "no json_object"}'
    assert capsys.readouterr().out.count(refused) == 1

    # One of the user's own is not dropped.
    own = '{"response_format": {"type": "json_schema"}}'
    with pytest.raises(InputError, match="--body: .* refuses its response_format: .*json_schema"):
        generate(url, topics, tmp_path / "c.jsonl", 5, body=own)


def test_what_the_request_holds(serve, topics, tmp_path):
    url, server = serve()
    body = {"seed": None, "top_k": 7, "temperature": 0.5, "nested": {"enable_thinking": False}}
    generate(url, topics, tmp_path / "rows.jsonl", 10, body=json.dumps(body))
    for path, sent, headers in server.requests:
        assert path == "/v1/chat/completions" and "Authorization" not in headers
        assert sent.pop("messages")[0].keys() == {"role", "content"} and sent.pop("response_format")
        body.pop("seed", None)
        assert sent == {"model": "nep", "top_p": 1.0, "max_tokens": 4096} | body


def test_the_key_appears_nowhere(serve, topics, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", KEY)

    def echo(handler, body, prompt, nth):
        if nth == 1 and '"tasks"' not in prompt:
            handler.reply(500 if len(prompt) % 2 else 400, {"error": f"bad key {KEY}"})
        else:
            answer = good_answer(prompt)
            if "query" in answer:
                answer["query"] += f" {KEY}"
            handler.wfile.write(handler.chat(json.dumps(answer)))

    url, server = serve(echo)
    generate(url, topics, tmp_path / "rows.jsonl", 30, key_env="MY_KEY", retries=1)
    assert {headers["Authorization"] for _, _, headers in server.requests} == {f"Bearer {KEY}"}
    files = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) >= 4 and "***" in files[tmp_path / "rows.jsonl"]
    assert KEY not in "".join([*files.values(), *capsys.readouterr()])

    url, server = serve(always(401, {"error": f"bad key {KEY}"}))
    with pytest.raises(InputError, match=r"bad key \*\*\*") as caught:
        generate(url, topics, tmp_path / "other.jsonl", 30, key_env="MY_KEY")
    assert KEY not in str(caught.value)


TEXT = "de kat zit op het dak en wil er niet af omdat het er voor haar zo warm is"
TRIPLET = {"query": " waar zit de kat ", "positive": TEXT, "negative": TEXT + " niet", "more": "x"}


def test_answers_are_checked_against_what_was_asked():
    expected = {"query": "waar zit de kat", "pos": TEXT, "neg": TEXT + " niet"}
    assert synthesize.parse_triplet(TRIPLET, "sl", DUTCH) == expected
    assert synthesize.parse_tasks({"tasks": [" a ", "b"]}) == ["a", "b"]
    for change, reason in [
        ({"query": None}, "no triplet"),
        ({"positive": ["x"]}, "no triplet"),
        ({"query": "  "}, "too short"),
        ({"positive": "ja"}, "too short"),
    ]:
        with pytest.raises(Refused, match=reason):
            synthesize.parse_triplet(TRIPLET | change, "sl", DUTCH)
    for tasks in (None, [], "a", ["a", 1], ["a", " "], [{"task": "a"}]):
        with pytest.raises(Refused, match="no list of tasks"):
            synthesize.parse_tasks({"tasks": tasks})


def test_an_unfit_answer_is_asked_again(serve, topics, tmp_path):
    def late(handler, body, prompt, nth):
        handler.wfile.write(handler.chat("Nee.") if nth < 3 else handler.good(prompt))

    url, server = serve(late)
    assert generate(url, topics, tmp_path / "rows.jsonl", 4, types="sts=1", tries=3) == 0
    assert len({body["seed"] for _, body, _ in server.requests}) == 12
    report = last_run(tmp_path / "rows.jsonl")
    assert report["faults"] == {"no JSON in the message": 8} and report["requests"] == 12
    assert report["tokens"] == {"prompt_tokens": 1200, "completion_tokens": 120}
    assert report["seconds"] > 0 and report["rows"] == 4


def by_seed(handler, body, prompt, nth):
    """A third of the seeds get a fit answer, each its own."""
    answer = good_answer(prompt)
    if "query" in answer:
        answer["query"] += f" met {body['seed']}"
    handler.wfile.write(handler.chat("Nee." if body["seed"] % 3 else json.dumps(answer)))


def test_rows_without_a_fit_answer_are_asked_with_other_seeds(serve, topics, tmp_path, capsys):
    url, server = serve(by_seed)
    out, killed = tmp_path / "rows.jsonl", tmp_path / "killed.jsonl"
    runs = []
    for _ in range(3):
        assert generate(url, topics, out, 60, types="sts=1", tries=1) == 1
        runs.append((out.read_bytes(), Path(f"{out}.json").read_text()))
    missing = [60 - rows.count(b"\n") for rows, _ in runs]
    assert 60 > missing[0] > missing[1] > missing[2] > 0
    printed = capsys.readouterr().out
    assert f"{missing[0]} rows are missing; the same command asks for them again: " in printed
    assert f"asks {missing[1]} rows again (up to 2 runs got no fit answer)" in printed
    tried = read_json(f"{out}.json")["tried"]["rows"]
    assert tried == {str(n): 3 for n in range(60) if n not in {row["row"] for row in rows_of(out)}}
    asked = [(body["messages"][0]["content"], body["seed"]) for _, body, _ in server.requests]
    assert len(set(asked)) == len(asked) == 60 + missing[0] + missing[1]

    # A second run that is killed after two rows ends as one that is not.
    (first, settings), (second, _) = runs[:2]
    made = [row for row in second.splitlines(True) if row not in first.splitlines(True)]
    killed.write_bytes(first + made[3] + made[1])
    Path(f"{killed}.json").write_text(settings)
    assert generate(url, topics, killed, 60, types="sts=1", tries=1) == 1
    assert killed.read_bytes() == second
    assert read_json(f"{killed}.json")["tried"] == json.loads(runs[1][1])["tried"]


def test_tasks_without_a_fit_answer_are_asked_with_other_seeds(serve, topics, tmp_path):
    url, server = serve(by_seed)
    out, failed = tmp_path / "rows.jsonl", 0
    while not out.exists():
        failed += 1
        assert failed < 50
        try:
            generate(url, topics, out, 60, types="ss=1", tries=1)
        except InputError as error:
            assert re.search(r"got no tasks: \d x no JSON in the message: Nee", str(error))
    asked = [(body["messages"][0]["content"], body["seed"]) for _, body, _ in server.requests]
    assert failed > 1 and len(set(asked)) == len(asked)


def test_answers_that_are_all_unfit_in_one_way_are_no_reason_to_repeat(
    serve, topics, tmp_path, capsys
):
    url, _ = serve(lambda handler, *_: handler.wfile.write(handler.chat("Nee.")))
    assert generate(url, topics, tmp_path / "rows.jsonl", 4, types="sts=1", tries=2) == 1
    advice = "every answer was unfit, so look at the model, --body and --prompts"
    line = f"4 rows are missing; {advice}: 4 x no JSON in the message: Nee."
    assert line in capsys.readouterr().out


# --- complete runs --------------------------------------------------------------------------------


def test_a_run_with_a_tenth_of_faults_ends_as_one_without(serve, topics, tmp_path):
    url, server = serve(faulty(0.1))
    bad, good = tmp_path / "faulty.jsonl", tmp_path / "quiet.jsonl"
    assert generate(url, topics, bad, 600, timeout=2) == 0
    assert all(server.faults[kind] for kind in FAULTS), server.faults
    assert generate(serve()[0], topics, good, 600) == 0
    rows = rows_of(bad)
    assert [row["row"] for row in rows] == list(range(600))
    assert {row["task_type"] for row in rows} == TYPES.keys() and rows[0]["model"] == "nep"
    columns = {"row", "task_type", "task_desc", "topic", "model", "query", "pos", "neg"}
    assert set(rows[0]) == columns
    assert 130 < len({row["task_desc"] for row in rows}) <= 4 * 7 * 5 + 1  # sts needs no task
    for name in ("{}", "{}.tasks.jsonl"):
        assert Path(name.format(bad)).read_bytes() == Path(name.format(good)).read_bytes()
    report = last_run(bad)
    assert report["missing"] == {}
    assert report["requests"] == 600 + 28 + sum(report["faults"].values())


def start(url, topics, out, rows) -> subprocess.Popen:
    options = {"base_url": url, "llm": "nep", "topics": topics, "out": out, "rows": rows}
    command = [sys.executable, "synthesize.py", *command_line("generate", **options, concurrency=8)]
    return subprocess.Popen(command, cwd=ROOT, stdout=-3, stderr=subprocess.PIPE, text=True)


def wait_until(condition, process) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def test_killed_in_the_middle(serve, topics, tmp_path, capsys):
    """SIGKILL, half a line, and rows that are not sorted yet: the restart makes what is missing."""

    def slow(handler, body, prompt, nth):
        time.sleep(0.01)
        handler.wfile.write(handler.good(prompt))

    url, server = serve(slow)
    out = tmp_path / "killed.jsonl"
    process = start(url, topics, out, 600)
    wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 100, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = out.read_bytes().count(b"\n")
    assert 100 <= done < 600
    with open(out, "ab") as file:
        file.write(b'{"row": 599, "task_type": "sl", "que')
    time.sleep(0.1)  # the requests that were under way are answered to nobody
    before = len(server.requests)
    assert generate(url, topics, out, 600) == 0
    assert "its last line is incomplete" in capsys.readouterr().out
    assert len(server.requests) - before == 600 - done
    assert generate(url, topics, tmp_path / "undisturbed.jsonl", 600) == 0
    assert out.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()
    assert [row["row"] for row in rows_of(out)] == list(range(600))


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_waiting_and_all_requests(serve, topics, tmp_path, sent, status):
    def stuck(handler, body, prompt, nth):
        if len(handler.server.requests) % 2:
            handler.reply(503, {"error": "busy"}, ["Retry-After: 30"])
        else:
            time.sleep(10)

    url, server = serve(stuck)
    process = start(url, topics, tmp_path / "rows.jsonl", 60)
    wait_until(lambda: len(server.requests) == 8, process)
    process.send_signal(sent)
    assert process.wait(5) == status and "Traceback" not in process.stderr.read()


def test_more_rows_later_are_the_rows_of_a_longer_run(serve, topics, tmp_path):
    url, server = serve()
    out, once = tmp_path / "rows.jsonl", tmp_path / "once.jsonl"
    generate(url, topics, out, 20)
    asked = len(server.requests)
    generate(url, topics, out, 20)
    assert len(server.requests) == asked
    generate(url, topics, out, 90)
    generate(url, topics, once, 90)
    assert out.read_bytes() == once.read_bytes()


def test_another_run_does_not_continue_the_file(serve, topics, tmp_path):
    url, _ = serve()
    out = tmp_path / "rows.jsonl"
    with pytest.raises(InputError, match="is the server running, and is this its address"):
        generate(NOWHERE, topics, out, 5, seed=3)  # it makes nothing, and binds nobody
    generate(url, topics, out, 5)
    before = out.read_bytes()
    assert read_json(f"{out}.json")["settings"]["types"] == dict.fromkeys(TYPES, 1)
    for more, message in [
        ({"seed": 7}, "begun with seed 42, not 7"),
        ({"types": "sl=1"}, "begun with types"),
        ({"tasks": 6}, "with tasks 5, not 6"),
        ({"body": '{"top_k": 2}'}, "begun with request"),
    ]:
        with pytest.raises(InputError, match=message):
            generate(url, topics, out, 9, **more)
    assert out.read_bytes() == before
    topics.write_text("iets anders\n")
    os.remove(out)  # the tasks are there yet
    with pytest.raises(InputError, match="begun with topics"):
        generate(url, topics, out, 9)
    os.remove(f"{out}.json")
    with pytest.raises(FileNotFoundError, match="rows.jsonl.json"):
        generate(url, topics, out, 9)


def test_an_error_does_not_wait_for_slow_requests(serve, topics, tmp_path):
    def answer(handler, body, prompt, nth):
        time.sleep(0.2 if 'topic "onderwerp 3"' in prompt else 20)
        handler.reply(404, {"error": "no such model"})

    started = time.monotonic()
    with pytest.raises(InputError, match="no such model"):
        generate(serve(answer)[0], topics, tmp_path / "rows.jsonl", 70, timeout=30)
    assert time.monotonic() - started < 5


# --- quality --------------------------------------------------------------------------------------

DOG = "een hond loopt met zijn baas door het park en ruikt aan elke boom die hij daar ziet staan"
CAT = "the cat sat on the mat and would not move for anybody at all since it was so warm up there"
CHAT = "le chat est sur le toit et il ne veut pas descendre parce qu'il fait très chaud là haut"


@pytest.mark.parametrize(
    ("kind", "query", "pos", "neg", "expected"),
    [
        ("sl", "waar zit de kat", TEXT, DOG, None),
        ("sl", "!?", TEXT, DOG, "too short"),
        ("sl", "waar zit de kat", "op het dak", DOG, "too short"),
        ("sl", "waar " * 101, TEXT, DOG, "too long"),
        ("sl", "waar zit de kat", TEXT, TEXT.upper() + "!", "positive equals negative"),
        ("sts", TEXT, TEXT + ".", DOG, "positive equals query"),
        ("sts", TEXT, DOG, "De kat: " + TEXT[7:], "negative equals query"),
        ("ls", DOG, "huisdier", "wild dier", None),
        ("ls", DOG, "Het park", "de stad", "label in text"),
        ("ls", DOG, "hond loop", "de stad", None),  # not complete words
        ("ls", DOG, "de stad", "het park", None),  # a wrong label may be in it
        ("ls", DOG, "een label van veel te veel woorden " * 3, "x", "too long"),
        ("ll", CAT, DOG + DOG, DOG + " " + TEXT, "wrong language"),
        ("sl", "cat", CHAT, DOG, "wrong language"),
        ("sts", CAT[:40], CAT[:30], CAT[:50], "wrong language"),  # all three together
        ("ss", "cat on a mat", "a dog in a park", "one tree", None),  # too few words to tell
    ],
)
def test_rows_that_are_no_good_by_themselves(kind, query, pos, neg, expected):
    assert synthesize.unfit(kind, *map(split_words, (query, pos, neg)), DUTCH) == expected


def test_the_language_rule_on_real_text():
    """Little of the bundled Dutch is taken for another language; English, German and French is."""

    def is_wrong(words):
        return synthesize.unfit("sl", ["x"], words, words[::-1], DUTCH) == "wrong language"

    for path in sorted((ROOT / "demo" / "train").glob("*.jsonl.gz")):
        texts = [split_words(f"{row.query} {row.pos[0]}") for row in read_source(path).rows[:1000]]
        wrong = [is_wrong(words) for words in texts if 20 <= len(words) <= 2000]
        allowed = 0.04 if path.name[:4] in ("algo", "tldr") else 0.01  # English titles; manuals
        assert sum(wrong) <= allowed * len(wrong), path
    for text in [
        "In the early morning the baker is the first one in the street, and by the time we get up"
        " the bread is on the table.",
        "Am frühen Morgen ist der Bäcker der erste in der Straße, und wenn wir aufstehen, liegt"
        " das Brot schon auf dem Tisch und ist warm.",
        "Tôt le matin, le boulanger est le premier dans la rue, et quand nous nous levons, le pain"
        " est déjà sur la table de la cuisine.",
    ]:
        assert is_wrong(split_words(text))


def triplet(n, kind="sl", **changes):
    generator = random.Random(n)
    words = 3 if kind == "ls" else 30
    texts = {"query": dutch(generator, 8)}
    texts |= {field: dutch(generator, words) for field in ("pos", "neg")}
    row = {"row": n, "task_type": kind, "task_desc": "Given a …", "topic": f"t{n % 3}"}
    return row | {"model": "nep"} | texts | changes


def test_cleaning(tmp_path, capsys):
    """Rows 0 to 5 are good. Every later one has one thing wrong, but for the last three."""
    rows = [triplet(n, kind) for n, kind in enumerate(["sl", "sl", "ls", "ss", "ll", "sts"])]
    rows[4]["query"] = dutch(random.Random(99), 25)
    words = dutch(random.Random(8), 20)
    evaluation = dutch(random.Random(7), 40).split()
    run = {n: " ".join(evaluation[10 : 10 + n]) for n in (12, 13)}
    short = "een korte vraag over w123"
    changed = " ".join([*rows[0]["pos"].split()[:-1], "anders"])
    bad = {
        "wrong language": [triplet(7, pos=CAT)],
        "in excluded texts": [
            triplet(8, neg=f"{words} {run[13]}, {words}"),
            triplet(9, query=short.upper()),
        ],
        "duplicate": [triplet(11, query=rows[0]["query"].upper() + "?")],
        "near duplicate": [triplet(13, query=rows[0]["query"] + " dan", pos=changed)],
    }
    fine = [
        triplet(14, pos=f"{words} {run[12]}"),
        triplet(15, "ss", query=rows[0]["query"]),
        triplet(16, "ls", pos=short),
    ]
    write_jsonl(tmp_path / "rows.jsonl", [*rows, *sum(bad.values(), []), *fine])
    excluded = [{"_id": "17", "text": " ".join(evaluation), "more": [{"title": short}]}]
    write_jsonl(tmp_path / "eval.jsonl.gz", excluded)
    options = {"data": tmp_path / "rows.jsonl"}
    out = {"out": tmp_path / "clean.jsonl"}
    main("clean", **options, **out, exclude=tmp_path / "eval.jsonl.gz")
    assert rows_of(tmp_path / "clean.jsonl") == [*rows, *fine]

    printed = capsys.readouterr().out
    lines = ["sl: 3 kept, 2 in excluded texts, 1 wrong language, 1 duplicate, 1 near duplicate"]
    lines += ["ls: 2 kept", "ss: 2 kept", "ll: 1 kept", "sts: 1 kept"]
    assert printed.splitlines()[:5] == lines
    assert "kept rows of 3 topics: t0 3, t1 3, t2 3\nkept: 9 of 14 rows\n" in printed

    # Lines of text, and texts that are none; without --out there is only the counts.
    (tmp_path / "eval.txt").write_text(f"iets\n{' '.join(evaluation)}\n{short}\n")
    write_jsonl(tmp_path / "none.jsonl", [{"score": 1}])
    main("clean", **options, exclude=[tmp_path / "eval.txt", tmp_path / "none.jsonl"])
    assert capsys.readouterr().out == printed
    main("clean", **options, near=1)
    assert "near duplicate" not in capsys.readouterr().out
    with pytest.raises(InputError, match="clean.jsonl: exists already"):
        main("clean", **options, **out)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([triplet(1, task_type="xx")], 'rows.jsonl:1: task_type is "xx"; expected one of sl, ls,'),
        ([{"task_type": "sl"}], "query: expected a string, found null"),
        ([triplet(1, task_desc=["x"])], "rows.jsonl:1: task_desc: expected a string, found .\"x\""),
        ([triplet(1, pos="ja")], "no row is good enough"),
        # Numbers that could be neither compared nor sorted
        *(([triplet(1, row=odd)], "rows.jsonl:1: row: ") for odd in ("x", [1], 1.5, None, True)),
    ],
)
def test_rows_that_cannot_be_read(tmp_path, rows, message):
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=message):
        main("clean", data=tmp_path / "rows.jsonl", out=tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_several_files_are_numbered_anew(tmp_path):
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, numbers in zip(files, ([7, 9], [9]), strict=True):
        write_jsonl(path, map(triplet, numbers))
    assert [row["row"] for row in synthesize.read_triplets(files)] == [0, 1, 2]
    assert [row["row"] for row in synthesize.read_triplets(files[:1])] == [7, 9]


# --- scores ---------------------------------------------------------------------------------------


def length_score(text: str) -> float:
    return len(text) / 1000


def rerank(handler, body, prompt, nth):
    """The best come first, so the index tells which is which; every seventh request fails once."""
    if nth == 1 and len(prompt) % 7 == 0:
        return handler.reply(503, {"error": "busy"})
    assert handler.path == "/v1/rerank" and body["query"]
    assert ("documents" in body) == (body.get("model") == "rang")
    name = "relevance_score" if "documents" in body else "score"
    texts = enumerate(body.get("documents") or body["texts"])
    results = [{"index": i, name: length_score(text)} for i, text in texts]
    results.sort(key=lambda result: -result[name])
    handler.reply(200, {"results": results} if "documents" in body else results)


def score(url, tmp_path, rows=2, *flags, **more) -> int:
    rows = [triplet(n, kind) for n, kind in zip(range(rows), list(TYPES) * rows, strict=False)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    options = {"data": tmp_path / "rows.jsonl", "out": tmp_path / "scored.jsonl", "base_url": url}
    if more.get("api") != "tei":
        options["reranker"] = "rang"
    return main("score", *flags, **options | more)


@pytest.mark.parametrize("api", ["jina", "tei"])
def test_scores_from_a_reranker(serve, tmp_path, api):
    url, server = serve(rerank)
    out = tmp_path / "scored.jsonl"
    assert score(url, tmp_path, 60, api=api) == 0
    rows = rows_of(tmp_path / "rows.jsonl")
    for row in rows:
        row |= {f"{field}_scores": [length_score(row[field])] for field in ("pos", "neg")}
    assert rows_of(out) == rows
    assert 0 < last_run(out)["faults"]["status 503"] == len(server.requests) - 60

    complete = out.read_bytes()
    lines = complete.splitlines(keepends=True)  # as a killed run leaves it
    out.write_bytes(b"".join(lines[30:50] + lines[:20]))
    assert score(url, tmp_path, 60, api=api) == 0
    assert out.read_bytes() == complete


HALF = {"index": 0, "score": 0.5}
RESULTS = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.5}]
FORMS = [
    {"results": RESULTS},
    {"data": RESULTS},
    {"data": [HALF, {"index": 1, "score": 0.9}]},
    [HALF, {"index": 1, "score": 0.9, "text": "x"}],
    [HALF, {"index": 1, "score": 0.9, "relevance_score": None}],
]
NO_SCORES = [
    *([], {}, "x", {"results": []}, {"results": 3}, [3], [HALF], [HALF, HALF]),
    *([HALF, {"index": 1}], [HALF, {"index": [1], "score": 1}]),
    *([HALF, {"index": 1, "score": odd}] for odd in (float("nan"), 1e999, 10**400, "x", None)),
]


@pytest.mark.parametrize("answer", FORMS + NO_SCORES)
def test_forms_of_rerank_answers(serve, tmp_path, capsys, answer):
    """A row without scores is missing, and the same request would get the same answer."""
    status = score(serve(always(200, answer))[0], tmp_path)
    assert status == (answer not in FORMS)
    assert ("2 rows are missing: 2 x no scores" in capsys.readouterr().out) == status
    rows = map(json.loads, (tmp_path / "scored.jsonl").read_text().splitlines())
    scores = [(row["pos_scores"], row["neg_scores"]) for row in rows]
    assert scores == ([] if status else [([0.5], [0.9])] * 2)


def test_probabilities_from_logits(serve, tmp_path):
    url, _ = serve(always(200, [{"index": 0, "score": -2.0}, {"index": 1, "score": -1000}]))
    assert score(url, tmp_path, 2, "--sigmoid") == 0
    row = rows_of(tmp_path / "scored.jsonl")[0]
    assert row["pos_scores"] == [pytest.approx(1 / (1 + np.e**2))] and row["neg_scores"][0] < 1e-99


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "needs --reranker"), ({"api": "tei"}, "row 3 occurs twice")],
)
def test_scoring_asks_for_what_it_needs(tmp_path, options, message):
    write_jsonl(tmp_path / "rows.jsonl", [triplet(3), triplet(3)])
    options |= {"data": tmp_path / "rows.jsonl", "out": tmp_path / "x.jsonl"}
    with pytest.raises(InputError, match=message):
        main("score", base_url=NOWHERE, **options)


# --- filter ---------------------------------------------------------------------------------------

# (s(q,p), s(q,n), whether the released rule keeps an `sl` row)
SCORED = [
    (0.1, 0.5, True),
    (0.0999, 0.0, False),
    (0.97, 0.01, True),
    (0.975, 0.01, False),
    (1.0, 0.02, False),
    (0.5, 0.99, True),
    (0.99, 0.5, True),
]


def scored(n, positive, negative, kind="sl", **changes) -> dict:
    return triplet(n, kind, pos_scores=[positive], neg_scores=[negative], **changes)


def write_scored(path, kinds=TYPES) -> list[dict]:
    pairs = [(kind, *pair) for kind in kinds for pair in SCORED]
    rows = [scored(n, pos, neg, kind) for n, (kind, pos, neg, _) in enumerate(pairs)]
    write_jsonl(path, rows)
    return rows


def test_the_released_rule():
    """`pos >= 0.1 and pos - neg <= 0.96`, ls always: in the arithmetic of Python's floats, as in
    the authors' code."""
    scores = np.array([row[:2] for row in SCORED])
    kept = [kept for *_, kept in SCORED]
    assert [a >= 0.1 and a - b <= 0.96 for a, b, _ in SCORED] == kept
    for kind in TYPES:
        expected = kept if kind != "ls" else [True] * 7
        assert synthesize.keeps(np.repeat(kind, 7), scores, 0.1, 0.96).tolist() == expected
    assert synthesize.keeps(np.repeat("ss", 7), scores, 0.5, 0.4).nonzero()[0].tolist() == [5]


def test_filtered_rows_are_training_sources(tmp_path, capsys):
    path, out = tmp_path / "scored.jsonl", tmp_path / "synthetic"
    rows = write_scored(path)
    rows[0]["neg"] = " "  # blank, and otherwise kept
    write_jsonl(path, rows)
    main("filter", data=path, out=out)
    printed = capsys.readouterr().out
    assert "1 rows with a blank text" in printed
    assert re.search(r"^sl +7 +3 +42.9%", printed, re.M)
    assert re.search(r"^all +35 +22 +62.9%", printed, re.M)
    sources = read_sources([out / "manifest.json"])
    assert {(s.name, s.type, s.in_batch_negatives, len(s.rows)) for s in sources} == {
        ("sl", "retrieval", True, 3),
        ("ls", "classification", False, 7),
        ("ss", "symmetric_clustering", True, 4),
        ("ll", "symmetric_clustering", True, 4),
        ("sts", "symmetric_sts", True, 4),
    }
    row = next(row for row in rows[14:] if row["pos_scores"] == [0.97])
    expected = {"query": row["query"], "pos": [row["pos"]], "neg": [row["neg"]]}
    expected |= {"pos_scores": [0.97], "neg_scores": [0.01], "type": "symmetric_clustering"}
    assert expected | {"instruction": "Given a …"} in rows_of(out / "ss.jsonl.gz")

    with pytest.raises(InputError, match="manifest.json: exists already"):
        main("filter", data=path, out=out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "ls.jsonl.gz").write_text("somebody's own")
    with pytest.raises(InputError, match="mine/ls.jsonl.gz: exists already"):
        main("filter", data=path, out=tmp_path / "mine")
    write_scored(path, ["sl"])
    main("filter", "--overwrite", data=path, out=out)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["manifest.json", "report.json", "sl.jsonl.gz"]
    assert read_json(out / "report.json")["types"]["sl"] == {"rows": 7, "kept": 4}


TASKS = [  # type and task of a row, its instruction in the training source
    ("sl", "Given a …, retrieve …", "Given a …, retrieve …"),
    ("ls", "Identifying …", "Identifying …"),
    ("sts", "", "Retrieve semantically similar text."),
    ("sts", "Zoek.", "Retrieve semantically similar text."),
    ("ss", None, ""),
]


@pytest.mark.parametrize("kind, task, instruction", TASKS)
def test_the_task_of_a_row_is_its_instruction(tmp_path, kind, task, instruction):
    row = triplet(0, kind, task_desc=task, pos_scores=[0.9], neg_scores=[0.5])
    write_jsonl(tmp_path / "rows.jsonl", [row])
    main("filter", data=tmp_path / "rows.jsonl", out=tmp_path / "out")
    (source,) = read_sources([tmp_path / "out" / "manifest.json"], prefix="instruct")
    assert [row.instruction for row in source.rows] == [instruction]


def released_files(tmp_path, rows) -> dict[str, bytes]:
    """The rows as parquet in two shards, with the columns of clips/SynEmbedNL."""
    import pyarrow.parquet

    names = [name for name in rows[0] if name not in ("row", "topic")]
    rows = [{name: row[name] for name in names} | {"query-id": "a"} for row in rows]
    files = {}
    for i, part in enumerate((rows[:20], rows[20:])):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), tmp_path / "part")
        files[f"data/train-0000{i}-of-00002.parquet"] = (tmp_path / "part").read_bytes()
    return files


def test_a_mix_of_types(tmp_path, capsys):
    kinds = ["sl"] * 100 + ["ls"] * 60 + ["sts"] * 30
    rows = [scored(n, 0.9, 0.5, kind) for n, kind in enumerate(kinds)]
    write_jsonl(tmp_path / "scored.jsonl", rows)

    def mix(ratio) -> dict[str, list]:
        out = tmp_path / "mix"
        main("filter", "--overwrite", data=tmp_path / "scored.jsonl", out=out, ratio=ratio)
        sources = read_sources([out / "manifest.json"])
        return {source.name: [row.query for row in source.rows] for source in sources}

    first = mix("sl=0.5,ls=0.3,sts=0.2")  # sts allows 150 in all
    assert [*map(len, first.values())] == [75, 45, 30]
    assert "sl: 75 rows (50.0%)\nls: 45 rows (30.0%)" in capsys.readouterr().out
    order = [row["query"] for row in rows]
    assert first["sl"] == sorted(first["sl"], key=order.index) != order[:75]
    assert mix("sl=0.5,ls=0.3,sts=0.2") == first
    with pytest.raises(InputError, match="nothing is kept; .*--ratio"):
        mix("sl=0.5,ss=0.5")
    for wrong in ("sl=0.5,xx=0.5", "sl=1,sl=1", "sl=zero", "sl", "sl=0.5,ls=0.3"):
        with pytest.raises(SystemExit):
            mix(wrong)
    assert "--ratio adds up to 0.8, not 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([triplet(5)], r"row 5 \(sl\): pos_scores is null; expected a list of one number"),
        ([scored(5, float("nan"), 0)], "pos_scores is .null"),
        ([scored(5, 0, 10**400)], "neg_scores is .1000"),
        ([scored(5, 0.15, 0.0)], "nothing is kept"),
        # The usual thresholds are for probabilities
        ([scored(0, 0.9, 0.1), scored(1, 0.5, -7.25)], r"scores are \[0.5, -7.25\]; .* --sigmoid"),
    ],
)
def test_rows_that_are_not_filtered(tmp_path, rows, message):
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=message):
        main("filter", data=tmp_path / "rows.jsonl", out=tmp_path / "x", least_positive=0.2)
    assert not (tmp_path / "x").exists()


def test_scores_that_may_be_odd(tmp_path):
    def filtered(*rows, **more) -> int:
        write_jsonl(tmp_path / "rows.jsonl", rows)
        main("filter", "--overwrite", data=tmp_path / "rows.jsonl", out=tmp_path / "x", **more)
        types = read_json(tmp_path / "x" / "report.json")["types"]
        return sum(of_type["kept"] for of_type in types.values())

    assert filtered(triplet(0, "ls"), triplet(1, "ls", pos_scores=[], neg_scores=None)) == 2
    assert filtered(scored(0, 5.0, -5.0, "ls")) == 1  # no threshold is applied to ls
    assert filtered(scored(0, 0.9, -1e-9), scored(1, 1.0000001, 0.5)) == 2  # by rounding
    logits = [scored(0, 3.0, -2.0), scored(1, -9.0, -7.0)]
    assert filtered(*logits, least_positive=-1, largest_gap=9) == 1


# --- docs/synthetic.md ----------------------------------------------------------------------------


def test_the_commands_of_the_document(serve, hub, tmp_path, monkeypatch, folder):
    """All of them in their order; the servers' addresses, the number of rows and the training's
    size are changed."""
    (llm, _), (reranker, _) = serve(), serve(rerank)
    rows = write_scored(tmp_path / "scored.jsonl")
    hub("clips/SynEmbedNL", released_files(tmp_path, rows))
    text = (ROOT / "docs/synthetic.md").read_text(encoding="utf-8").replace("\\\n", " ")
    changes = {
        "http://localhost:8000/v1": llm,
        "http://localhost:8001": reranker,
        "demo/": f"{ROOT}/demo/",
        "--rows 10000": "--rows 60",
    }
    monkeypatch.chdir(tmp_path)
    ran = []
    for line in re.findall(r"^python (?:synthesize|e5nl)\.py .*$", text, re.M):
        for old, new in changes.items():
            line = line.replace(old, new)
        words = []
        for word in shlex.split(line, comments=True)[1:]:
            words += map(str, sorted(Path("/").glob(word[1:]))) if "*" in word else [word]
        script, *words = words
        if script == "e5nl.py":
            words += ["--model", str(folder), "--batch-size", "4", "--steps", "1"]
        assert not {"e5nl.py": e5nl, "synthesize.py": synthesize}[script].main(words), line
        ran.append(words[0])
    assert ran == ["generate", "clean", "score", "filter", "filter", "train"]
    assert len(rows_of(tmp_path / "runs" / "synthetic-model" / "log.jsonl")) == 1
    # The released rows, which have no numbers, go through the same filter.
    main("filter", data="scored.jsonl", out="local")
    for path in Path("local").glob("*.jsonl.gz"):
        assert path.read_bytes() == Path("runs/released", path.name).read_bytes()
