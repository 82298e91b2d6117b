"""Synthetic triplets written by an LLM (arXiv 2509.12340, training data).

The scheme is that of arXiv 2401.00368, with topics.

Any OpenAI-compatible server writes (vLLM, llama.cpp, Ollama, a hosted one). One row per line:

    {"row": 17, "task_type": "sl", "task_desc": "Given a …", "topic": "fietsen", "model": "…",
     "query": "…", "pos": "…", "neg": "…"}

`score` adds `pos_scores` and `neg_scores`, lists of one number. The paper's released set
`clips/SynEmbedNL` has the same columns (but row and topic): `clean`, `score` and `filter` take it,
by its name or as files. What `filter` writes is what `e5nl.py train` reads; the task is the row's
`instruction` there.

Generating has two steps. For every topic and task type the LLM thinks of tasks ("Given a question
about a bicycle part, retrieve …"). Then it writes a row for a task, with placeholders that are
drawn from a table (length, clarity, difficulty …). Row n's type, topic, task and placeholders are
functions of (seed, n) and the tasks.

    python synthesize.py prompts       # the prompts, and what else belongs to the language, as JSON
    python synthesize.py generate --base-url http://localhost:8000/v1 --llm NAME \\
        --topics demo/topics.txt --rows 10000 --out runs/nl.jsonl
    python synthesize.py clean --data runs/nl.jsonl --exclude demo/eval/*/*.jsonl.gz \\
        --out runs/clean.jsonl
    python synthesize.py score --data runs/clean.jsonl --base-url http://localhost:8001 \\
        --reranker NAME --out runs/scored.jsonl
    python synthesize.py filter --data runs/scored.jsonl --out runs/synthetic
    python synthesize.py filter --data clips/SynEmbedNL --out runs/released   # the paper's own rows

`generate` and `score` append complete lines. Killed at any time, they lose the requests under way;
the same command resumes. The prompts are ours: the paper's, its LLM and its topics are not public.
Another language is another table (`--prompts`).

Left out on purpose: batch APIs, streaming, proxies, prices. The API's key comes from an environment
variable and is written nowhere.
"""

import argparse
import collections
import contextlib
import functools
import itertools
import json
import math
import operator
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

import files
from client import (
    Client,
    Refused,
    ask,
    collect,
    describe_lost,
    keep_settings,
    one_line,
    run,
    update_json,
    write_report,
)
from data import INSTRUCTIONS, split_words
from duplicates import NEAR, hash_words, in_parts, minhash, near_duplicates, shingles
from files import InputError, ShowDefaults, find_files, read_rows, real_number, shown, whole_number

# The task types and the training source that each becomes: short or long query, short or long
# passage; sentences of graded similarity.
TYPES = {
    "sl": "retrieval",
    "ls": "classification",
    "ss": "symmetric_clustering",
    "ll": "symmetric_clustering",
    "sts": "symmetric_sts",
}
FIELDS = ("query", "pos", "neg")
SEED = 42

# --- what belongs to the language -----------------------------------------------------------------


def line(text: str) -> str:
    """A text that is written over several lines here."""
    return " ".join(text.split())


TASK = "Task: {task}\nTopic: {topic}\n\n"

DUTCH = {
    "language": "Dutch",
    # Step 1: {count} tasks for a {topic}. sts needs none.
    "brainstorm": {
        "sl": line("""
            Think of {count} different search tasks about the topic "{topic}": somebody asks or
            searches for something in a few words, and a passage of a document answers it. Describe
            each in one English sentence of the form "Given a …, retrieve …". Vary who is
            searching, why, and in what kind of document.
        """),
        "ls": line("""
            Think of {count} different text classification tasks about the topic "{topic}": a text
            of one or more sentences gets a label of a few words. Describe each in one English
            sentence that begins with "Identifying" and says what kind of text it is and what the
            label tells. Vary both. No sentiment, language or spam detection, and not the topic
            itself as a label.
        """),
        "ss": line("""
            Think of {count} different tasks about the topic "{topic}" in which short texts (titles,
            questions, names, descriptions, messages) that belong to one category have to be brought
            together. Describe each in one English sentence that begins with "Identifying" and says
            what the texts are and what makes two of them belong together.
        """),
        "ll": line("""
            Think of {count} different tasks about the topic "{topic}" in which long documents
            (articles, reports, letters, reviews) that belong to one category have to be brought
            together. Describe each in one English sentence that begins with "Identifying" and says
            what the documents are and what makes two of them belong together.
        """),
    },
    "tasks": ' Answer with a JSON object with one key "tasks": a list of {count} strings.',
    # Step 2: a row for a {task}.
    "write": {
        "sl": TASK
        + line("""
            Write one example of this task: "query" is what a {query_type} search would be,
            {query_length} long and {clarity}; "positive" is a passage of about {document_words}
            words that answers it; "negative" is a passage of about {document_words} words on the
            same subject that shares words with the query and looks useful, but does not answer it.
            Both passages are for readers with {difficulty} education, can be read alone and do not
            mention the query.
        """),
        "ls": TASK
        + line("""
            Write one example of this task: "query" is a text of about {text_words} words,
            {clarity}, for readers with {difficulty} education; "positive" is its label, a few
            words; "negative" is another label of the same task that could be mistaken for the right
            one but is wrong. Neither label stands in the text.
        """),
        "ss": TASK
        + line("""
            Write one example of this task: "query" and "positive" are two different short texts,
            {clarity}, that belong together; "negative" is a short text that looks like the query
            but does not belong with it. Do not repeat the words of the query where other words will
            do.
        """),
        "ll": TASK
        + line("""
            Write one example of this task: "query" and "positive" are two different documents of
            about {document_words} words that belong together; "negative" is a document of about
            {document_words} words that looks like the query but does not belong with it. They are
            for readers with {difficulty} education.
        """),
        "sts": "Topic: {topic}\n\n"
        + line("""
            Write three texts, each a {unit}: "query"; "positive", which means nearly the same in
            other words (similarity {high} of 5); "negative", which shares words with the query but
            means something else (similarity {low} of 5). They are for readers with {difficulty}
            education.
        """),
    },
    "answer": " "
    + line("""
        Write everything in {language}, as native speakers write it. Answer with a JSON object with
        the keys "query", "positive" and "negative", each with a string, and nothing else.
    """),
    # Of the placeholders; one of each is drawn for a row.
    "values": {
        "query_type": ["common", "less common", "very rare and specific"],
        "query_length": ["less than 5 words", "5 to 12 words", "more than 12 words"],
        "clarity": ["clear", "understandable with some effort", "ambiguous"],
        "difficulty": ["secondary school", "college", "university"],
        "document_words": ["50", "100", "200", "300", "400", "500"],
        "text_words": ["10", "30", "60", "100", "200"],
        "unit": ["sentence", "phrase", "short passage"],
        "high": ["4", "4.5", "5"],
        "low": ["1.5", "2", "2.5", "3"],
    },
    # In the shortest and longest query, positive and negative; wide, so that answers pass.
    "words": {
        "sl": [[1, 100], [15, 2000], [15, 2000]],
        "ls": [[4, 2000], [1, 20], [1, 20]],
        "ss": [[1, 100], [1, 100], [1, 100]],
        "ll": [[20, 2000], [20, 2000], [20, 2000]],
        "sts": [[2, 300], [2, 300], [2, 300]],
    },
    # A text of 20 words or more is in this language when at least this share of them are in the
    # list, which has no words that are common in English, German or French too. Of the bundled
    # Dutch texts that long 0 to 4 % fall below (manuals most), of English ones all.
    "function_share": 0.15,
    "function_words": line("""
        aan als bij dan dat de deze dit door dus een en er geen haar hebben heeft hem het hij hoe
        hun ik je jullie kan kunnen maar meer met mijn moet moeten naar niet nog om omdat ook te
        tegen tot tussen uit van veel voor waar waren wat wel werd wij worden wordt zal ze zich zij
        zijn zonder zou zullen
    """),
}


def read_prompts(path) -> dict:
    """A table like DUTCH from a JSON file, checked; DUTCH itself without one."""
    if path is None:
        return DUTCH
    table = files.read_json(path)
    refuse_unknown(table, DUTCH, str(path))
    for kind in TYPES:  # what is wrong or missing shows when it is used
        with files.reading(f"{path}: {kind}"):
            if kind != "sts":
                brainstorm_prompt(table, kind, "", 1)
            row_prompt(table, kind, "", "", np.random.default_rng(0))
            unfit(kind, ["a"], ["b"] * 20, ["c"], table)
            if any(isinstance(options, str) for options in table["values"].values()):
                raise TypeError("each of the values is a list")
    return table


def refuse_unknown(table: dict, known: dict, where: str) -> None:
    """Stop at a key that nothing would read."""
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{where}: {key!r} is unknown; expected {', '.join(known)}")
        if isinstance(value, dict) and isinstance(known[key], dict) and key != "values":
            refuse_unknown(value, known[key], f"{where}: {key}")


def fill(prompt: str, **values) -> str:
    """The prompt with its {placeholders} filled.

    >>> fill("{count} tasks about {topic}", count=5, topic="{fietsen}")
    '5 tasks about {fietsen}'
    """
    return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), prompt)


# --- which row is which request -------------------------------------------------------------------

MOST_TRIES = 100  # of a row in one run
REQUEST = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 4096}  # `--body` changes and adds


def read_topics(path) -> list[str]:
    """A file with one topic per line; three equal lines come up three times as often."""
    topics = [text.strip() for _, text in files.read_lines(path)]
    if not topics:
        raise InputError(f"{path}: no topics; expected one per line")
    return topics


def plan_row(topics: list[str], kinds: list[str], seed: int, n: int):
    """(task type, topic) of row n, and the generator of what else is drawn for it."""
    generator = np.random.default_rng((seed, n))
    return draw_one(kinds, generator), draw_one(topics, generator), generator


def draw_one(options: list[str], generator: np.random.Generator) -> str:
    return options[generator.integers(len(options))]


def brainstorm_prompt(table: dict, kind: str, topic: str, count: int) -> str:
    prompt = table["brainstorm"][kind] + table["tasks"]
    return fill(prompt, topic=topic, count=count, language=table["language"])


def row_prompt(table: dict, kind: str, topic: str, task: str, generator) -> str:
    values = {name: draw_one(options, generator) for name, options in table["values"].items()}
    values |= {"topic": topic, "task": task, "language": table["language"]}
    return fill(table["write"][kind] + table["answer"], **values)


def parse_tasks(value: dict) -> list[str]:
    """The tasks in an answer to a brainstorm prompt; Refused when it does not fit."""
    tasks = value.get("tasks")
    if isinstance(tasks, list) and tasks:
        if all(isinstance(task, str) and task.strip() for task in tasks):
            return [task.strip() for task in tasks]
    raise Refused("no list of tasks", shown(value))


def parse_triplet(value: dict, kind: str, table: dict) -> dict:
    """A row's texts in the answer to its prompt; Refused when they do not fit."""
    texts = [value.get(name) for name in ("query", "positive", "negative")]
    if not all(isinstance(text, str) for text in texts):
        raise Refused("no triplet", shown(value))
    if fault := unfit(kind, *map(split_words, texts), table):
        raise Refused(fault, shown(value))
    return dict(zip(FIELDS, map(str.strip, texts), strict=True))


async def generate(args) -> int:
    # What decides the rows is kept with them: only the same settings continue a file.
    table, topics = read_prompts(args.prompts), read_topics(args.topics)
    kinds = [kind for kind, weight in args.types.items() for _ in range(weight)]
    request = {"model": args.llm} | REQUEST | args.body
    client, tasks_file = connect(args), f"{args.out}.tasks.jsonl"
    settings = {name: vars(args)[name] for name in ("seed", "types", "tasks")}
    settings |= {"request": request, "prompts": table, "topics": topics}
    keep_settings(args.out, settings, tasks_file)
    old = files.read_json(f"{args.out}.json").get("tried", {})
    tried = {name: collections.Counter(old.get(name)) for name in ("tasks", "rows")}

    async def answer(of: str, key, prompt: str, seed: tuple, check: Callable):
        # Another run's attempts have other numbers, so other seeds.
        first = MOST_TRIES * tried[of][str(key)]
        attempts = range(first, first + args.tries)
        return await ask(client, prompt, (args.seed, *seed), attempts, request, check)

    async def brainstorm(pair: dict) -> dict:
        kind, topic = key = pair_of(pair)
        prompt = brainstorm_prompt(table, kind, topic, args.tasks)
        tasks = await answer("tasks", key, prompt, key, parse_tasks)
        return pair | {"tasks": tasks[: args.tasks]}

    async def write(job: dict) -> dict:
        n = job["row"]
        kind, topic, generator = plan_row(topics, kinds, args.seed, n)
        task = draw_one(tasks.get((kind, topic), [""]), generator)
        prompt = row_prompt(table, kind, topic, task, generator)
        check = functools.partial(parse_triplet, kind=kind, table=table)
        texts = await answer("rows", n, prompt, (n,), check)
        about = {"task_type": kind, "task_desc": task, "topic": topic, "model": args.llm}
        return job | about | texts

    # The (type, topic) pairs for which tasks are needed.
    pairs = {}
    for n in range(args.rows):
        kind, topic, _ = plan_row(topics, kinds, args.seed, n)
        if kind in table["brainstorm"]:
            pairs[kind, topic] = {"task_type": kind, "topic": topic}

    async with client.http:
        # Step 1: tasks.
        jobs, of_tasks = pairs.values(), tried["tasks"]
        lost = await collect(tasks_file, pair_of, jobs, len(pairs), brainstorm, client, of_tasks)
        update_json(args.out, tried=tried)
        if lost:
            problem = "some (type, topic) pairs got no tasks"
            raise InputError(f"{tasks_file}: {problem}: {describe_lost(lost)}")

        # Step 2: rows.
        tasks = {pair_of(row): row["tasks"] for _, row in read_rows(tasks_file)} if pairs else {}
        jobs = ({"row": n} for n in range(args.rows))
        lost = await collect(args.out, row_number, jobs, args.rows, write, client, tried["rows"])
        update_json(args.out, tried=tried)
    return write_report(client, args.out, lost)


# The keys of the rows of tasks, and of rows.
pair_of, row_number = operator.itemgetter("task_type", "topic"), operator.itemgetter("row")


# --- quality --------------------------------------------------------------------------------------

def unfit(kind: str, query: list[str], pos: list[str], neg: list[str], table: dict) -> str | None:
    """Why a row (the words of its texts) is unusable by itself, or None."""
    # Lengths, equal texts, a label that gives itself away.
    texts = (query, pos, neg)
    for text, (least, most) in zip(texts, table["words"][kind], strict=True):
        if not least <= len(text) <= most:
            return "too short" if len(text) < least else "too long"
    if pos in (query, neg):
        return "positive equals query" if pos == query else "positive equals negative"
    if neg == query:
        return "negative equals query"
    if kind == "ls" and f" {' '.join(pos)} " in f" {' '.join(query)} ":
        return "label in text"

    # Every long text is in the language, and so are all three together.
    common = set(table["function_words"].split())
    counts = [(sum(map(common.__contains__, text)), len(text)) for text in texts]
    counts.append(tuple(map(sum, zip(*counts, strict=True))))
    share = table["function_share"]
    if any(length >= 20 and known < share * length for known, length in counts):
        return "wrong language"
    return None


def read_triplets(names) -> Iterator[dict]:
    """The checked rows of files or hub data sets.

    Where they have no `row`, or there are several files, it is the place among all of them.
    """
    paths, place = find_files(*names), -1
    rows = ((path, *numbered) for path in paths for numbered in read_rows(path))
    for place, (path, number, row) in enumerate(rows):
        if row.get("task_type") not in list(TYPES):
            kind = f"task_type is {shown(row.get('task_type'))}"
            raise InputError(f"{path}:{number}: {kind}; expected one of {', '.join(TYPES)}")
        for field in FIELDS:
            files.as_text(row.get(field), f"{path}:{number}: {field}")
        files.as_text(row.get("task_desc") or "", f"{path}:{number}: task_desc")
        if len(paths) > 1 or "row" not in row:
            row["row"] = place
        with files.reading(f"{path}:{number}: row"):
            row["row"] = int(str(row["row"]))
        yield row
    if place < 0:
        raise InputError(f"{', '.join(map(str, names))}: no rows")


RUN = 13  # words in a row that a training text and an evaluation text must not share


def excluded_runs(names) -> np.ndarray:
    """The sorted hashes of all runs of RUN words of all texts in these files.

    The texts are every string in a row of a table; in another file each line.
    """

    def strings(value) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        parts = value.values() if isinstance(value, dict) else value
        for part in parts if isinstance(value, list | dict) else ():
            yield from strings(part)

    runs = [np.empty(0, np.uint64)]
    for path in find_files(*names):
        table = files.kind_of(path) in files.TABLES
        for part in in_parts(read_rows(path) if table else files.read_lines(path)):
            texts = [split_words(text) for _, row in part for text in strings(row)]
            if texts := list(filter(None, texts)):
                runs.append(np.unique(shingles(texts, RUN)[0]))
    return np.unique(np.concatenate(runs))


def contain(texts: list[list[str]], runs: np.ndarray) -> np.ndarray:
    """(N,) bool: the text has one of these runs of RUN words."""
    if not len(runs):
        return np.zeros(len(texts), bool)
    hashes, starts = shingles(texts, RUN)
    places = np.searchsorted(runs[:-1], hashes)
    return np.logical_or.reduceat(runs[places] == hashes, starts[:-1])


def judge(rows, table: dict, excluded: np.ndarray, threshold: float) -> list[tuple]:
    """What becomes of every row: ("kept", or what is wrong with it; its type; its topic).

    A row without a fault of its own is compared with `excluded` (of a `ls` row only the query:
    labels are nobody's text), then with the rows before it: equal queries of one type, then nearly
    equal query and positive.
    """
    judged, good, queries = [], [], set()

    def fresh_texts() -> Iterator[list[str]]:
        """Query and positive of each row that has none of the faults but the last."""
        for part in in_parts(rows):
            # Which texts have words in common with those that are excluded.
            texts = [[split_words(row[field]) for field in FIELDS] for row in part]
            leaked = contain([*itertools.chain(*texts)], excluded).reshape(-1, 3)

            # The first fault of each row, in this order.
            for row, (query, pos, neg), leaks in zip(part, texts, leaked, strict=True):
                kind = row["task_type"]
                key = hash_words([kind, *query])
                reason = unfit(kind, query, pos, neg, table)
                if not reason and (leaks[0] if kind == "ls" else leaks.any()):
                    reason = "in excluded texts"
                if not reason and key in queries:
                    reason = "duplicate"
                topic = sys.intern(str(row.get("topic") or "(none)"))
                judged.append((reason or "kept", kind, topic))
                if not reason:
                    queries.add(key)
                    good.append(len(judged) - 1)
                    yield query + pos

    # Of the rows without a fault, those that nearly repeat an earlier one.
    near = near_duplicates(minhash(fresh_texts()), threshold)
    for place in itertools.compress(good, near):
        judged[place] = ("near duplicate", *judged[place][1:])
    return judged


def describe(judged: list[tuple]) -> str:
    """Rows of each type by what became of them; kept rows by topic, the most frequent first."""
    lines = []
    for name in TYPES:
        fates = collections.Counter(fate for fate, kind, _ in judged if kind == name)
        if fates:
            counts = ", ".join(f"{count:,} {fate}" for fate, count in fates.most_common())
            lines.append(f"{name}: {counts}")
    topics = collections.Counter(topic for fate, _, topic in judged if fate == "kept")
    frequent = [f"{topic} {count:,}" for topic, count in topics.most_common()]
    if len(frequent) > 10:
        frequent[5:-5] = ["…"]
    lines.append(f"kept rows of {len(topics)} topics: {', '.join(frequent)}")
    return "\n".join(lines)


def clean(args) -> None:
    if args.out:
        files.refuse_other_suffix(args.out, ".jsonl")
        files.refuse_existing(args.out, args.overwrite)

    # First pass: what becomes of every row.
    excluded = excluded_runs(args.exclude)
    rows = tqdm(read_triplets(args.data), unit="row", unit_scale=True, disable=None)
    judged = judge(rows, read_prompts(args.prompts), excluded, args.near)
    kept = [fate == "kept" for fate, *_ in judged]
    print(describe(judged))
    print(f"kept: {sum(kept):,} of {len(kept):,} rows")

    # Second pass: the kept rows are written.
    if args.out and not any(kept):
        raise InputError(f"{args.data[0]}: no row is good enough; the counts say why")
    if args.out:
        files.write_jsonl(args.out, itertools.compress(read_triplets(args.data), kept))


# --- scores ---------------------------------------------------------------------------------------


async def rerank_scores(client: Client, row: dict, api: str, model: str | None) -> list[float]:
    """[s(q,p), s(q,n)] from a /rerank endpoint.

    api is the form of the request: `jina` (also vLLM and Cohere), or `tei`
    (text-embeddings-inference). Answers differ more than that, so any of their forms is understood.
    """
    texts = [row["pos"], row["neg"]]
    body = {"model": model, "documents": texts}
    if api == "tei":
        body = {"texts": texts, "truncate": True}
    answer = await client.post("/rerank", {"query": row["query"]} | body)
    results = answer.get("results", answer.get("data")) if isinstance(answer, dict) else answer
    # Any other form of answer holds no scores.
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError, OverflowError):
        scores = {}
        for item in results:
            score = item.get("relevance_score")
            scores[item["index"]] = float(item["score"] if score is None else score)
        if scores.keys() == {0, 1} and np.isfinite([*scores.values()]).all():
            return [scores[0], scores[1]]
    client.faults["no scores"] += 1
    raise Refused("no scores", one_line(json.dumps(answer), 80), final=True)


def score(args) -> int:
    if args.api == "jina" and not args.reranker:
        raise InputError("--api jina needs --reranker, the name of the model")

    # The rows are read once before anything is asked.
    numbers = collections.Counter(row["row"] for row in read_triplets(args.data))
    (twice, count), *_ = numbers.most_common(1)
    if count > 1:
        advice = "remove the field `row`, then rows are numbered by their place"
        raise InputError(f"{args.data[0]}: row {twice} occurs twice; {advice}")
    return run(score_rows(args, len(numbers)))


async def score_rows(args, total: int) -> int:
    client = connect(args)
    size = sum(path.stat().st_size for path in find_files(*args.data))
    settings = {"data": args.data, "rows": total, "bytes": size}
    settings |= {"reranker": args.reranker, "api": args.api}
    keep_settings(args.out, settings | ({"sigmoid": True} if args.sigmoid else {}))

    async def work(row: dict) -> dict:
        scores = await rerank_scores(client, row, args.api, args.reranker)
        if args.sigmoid:
            scores = (1 / (1 + np.exp(-np.clip(scores, -500, 500)))).tolist()
        return row | {"pos_scores": scores[:1], "neg_scores": scores[1:]}

    async with client.http:
        rows = read_triplets(args.data)
        nothing = collections.Counter()  # the same request gets the same scores
        lost = await collect(args.out, row_number, rows, total, work, client, nothing)
    return write_report(client, args.out, lost)


# --- filter ---------------------------------------------------------------------------------------

LEAST_POSITIVE, LARGEST_GAP = 0.1, 0.96  # the released code


def keeps(kind: np.ndarray, scores: np.ndarray, least: float, gap: float) -> np.ndarray:
    """(N,) bool, the released rule: `ls` always; else the positive scores at least `least`, and at
    most `gap` more than the negative.

    Dropped are positives that answer nothing, and negatives that are too easy. A negative that
    scores above the positive stays.

    >>> kind = np.array(["sl", "sl", "sl", "ls"])
    >>> keeps(kind, np.array([[0.99, 0.02], [0.1, 0.9], [0.05, 0], [0, 0]]), 0.1, 0.96).tolist()
    [False, True, False, True]
    """
    positive, negative = scores.T
    return (kind == "ls") | ((positive >= least) & (positive - negative <= gap))


def draw(kind: np.ndarray, kept: np.ndarray, ratio: dict) -> np.ndarray:
    """(N,) bool: of the kept rows, drawn at random, as many as give these shares of the types."""
    rows = {name: np.flatnonzero(kept & (kind == name)) for name in ratio}
    size = min(int(len(rows[name]) / share) for name, share in ratio.items())
    drawn = np.zeros(len(kind), bool)
    for name, share in ratio.items():
        generator = np.random.default_rng((SEED, list(TYPES).index(name)))
        drawn[generator.permutation(rows[name])[: round(size * share)]] = True
    return drawn


def read_score(row: dict, field: str) -> float:
    """The one number in a row's list; NaN where an `ls` row has none, which needs none."""
    value = row.get(field)
    if not value and row["task_type"] == "ls":
        return np.nan
    with contextlib.suppress(TypeError, LookupError, OverflowError):
        if math.isfinite(value[0]):
            return value[0]
    where = f"row {row['row']} ({row['task_type']}): {field}"
    raise InputError(f"{where} is {shown(value)}; expected a list of one number, from `score`")


def describe_filter(kind: np.ndarray, scores: np.ndarray, kept: np.ndarray) -> str:
    lines = ["type       rows      kept   share  5 / 25 / 50 / 75 / 95 % of s(q,p), and of s(q,n)"]
    for name in [*(name for name in TYPES if name in kind), "all"]:
        of_type = (kind == name) | (name == "all")
        count, left = of_type.sum(), kept[of_type].sum()
        line = f"{name:<5} {count:>9,} {left:>9,} {left / count:>7.1%}"
        for column in scores[of_type].T:
            known = column[~np.isnan(column)]
            values = np.quantile(known, [0.05, 0.25, 0.5, 0.75, 0.95]) if len(known) else []
            line += "  " + " ".join(f"{value:.2f}" for value in values)
        lines.append(line)
    return "\n".join(lines)


def filter_rows(args) -> None:
    out = Path(args.out)
    written = [out / name for name in ("manifest.json", "report.json")]
    written += [out / f"{name}.jsonl.gz" for name in TYPES]
    for path in written:
        files.refuse_existing(path, args.overwrite)

    # What the rule needs of every row.
    kinds, scores, blank = [], [], []
    for row in read_triplets(args.data):
        kinds.append(row["task_type"])
        scores.append([read_score(row, "pos_scores"), read_score(row, "neg_scores")])
        blank.append(not all(row[field].strip() for field in FIELDS))
    kind, scores, blank = np.array(kinds), np.array(scores, float), np.array(blank)

    # The usual thresholds mean nothing for logits (a cosine may be beyond 1 by rounding).
    least, gap = args.least_positive, args.largest_gap
    odd = scores[(kind != "ls") & ((scores < -1e-5) | (scores > 1 + 1e-5)).any(1)]
    if len(odd) and (least == LEAST_POSITIVE or gap == LARGEST_GAP):
        advice = "apply a sigmoid (`score --sigmoid`), or set --least-positive and --largest-gap"
        problem = f"scores are {odd[0].tolist()}; expected probabilities, from 0 to 1"
        raise InputError(f"{args.data[0]}: {problem}; {advice}")

    # What is kept, and a look at it.
    kept = keeps(kind, scores, least, gap) & ~blank
    rule = f"ls, and s(q,p) >= {least:g} with s(q,p) - s(q,n) <= {gap:g}"
    print(f"kept: {rule}; not {blank.sum():,} rows with a blank text")
    print(describe_filter(kind, scores, kept))
    if args.ratio:
        kept = draw(kind, kept, args.ratio)
    if not kept.any():
        advice = "lower --least-positive, raise --largest-gap, or leave --ratio out"
        raise InputError(f"{args.data[0]}: nothing is kept; {advice}")
    for path in written:
        path.unlink(missing_ok=True)  # what an earlier run wrote

    # A training source for each type.
    sources, types = [], {}
    for name in TYPES:
        chosen = kept & (kind == name)
        types[name] = {"rows": int((kind == name).sum()), "kept": int(chosen.sum())}
        if chosen.any():
            rows = itertools.compress(read_triplets(args.data), chosen)
            files.write_jsonl(out / f"{name}.jsonl.gz", map(training_row, rows))
            in_batch = {"in_batch_negatives": False} if name == "ls" else {}
            sources.append({"file": f"{name}.jsonl.gz"} | in_batch)
            print(f"{name}: {chosen.sum():,} rows ({chosen.sum() / kept.sum():.1%})")
    settings = {"data": args.data, "least positive": least, "largest gap": gap, "ratio": args.ratio}
    files.write_json(out / "report.json", {"settings": settings, "types": types})
    files.write_json(out / "manifest.json", {"sources": sources})
    print(f"{out / 'manifest.json'}: {kept.sum():,} rows")


def training_row(row: dict) -> dict:
    """A row of a training source, with its task as the instruction; `sts` rows have no task."""
    texts = {"query": row["query"], "pos": [row["pos"]], "neg": [row["neg"]]}
    scores = {field: row[field] for field in ("pos_scores", "neg_scores") if row.get(field)}
    about = {"type": TYPES[row["task_type"]]}
    task = INSTRUCTIONS["symmetric_sts"] if row["task_type"] == "sts" else row.get("task_desc")
    return texts | scores | about | ({"instruction": task} if task else {})


# --- command line ---------------------------------------------------------------------------------


def per_type(number: Callable[[str], float]) -> Callable[[str], dict]:
    """An argparse type: `sl=1,ls=2` as {type: number}."""

    def parse(text: str) -> dict:
        values = dict(part.partition("=")[::2] for part in text.split(","))
        if not values.keys() <= TYPES.keys() or len(values) <= text.count(","):
            expected = f"{'=…,'.join(TYPES)}=…, or some of them"
            raise argparse.ArgumentTypeError(f"{text}: expected {expected}")
        return {name: number(value) for name, value in values.items()}

    parse.__name__ = "list of type=number"  # for argparse's message
    return parse


def json_object(text: str) -> dict:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError
    return value


json_object.__name__ = "JSON object"  # for argparse's message


def connect(args) -> Client:
    key = os.environ.get(args.key_env, "")
    return Client(args.base_url, key, args.timeout, args.retries, args.concurrency)


def main(argv=None) -> int | None:
    parser = argparse.ArgumentParser(description="Synthetic triplets from an LLM.")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Callable, help: str) -> Callable:
        command = commands.add_parser(name, help=help, formatter_class=ShowDefaults)
        command.set_defaults(run=run)
        return command.add_argument

    def add_server(option: Callable) -> None:
        option("--base-url", required=True, help="http://host:port/path of the server")
        option("--key-env", default="OPENAI_API_KEY", help="environment variable that holds a key")
        option("--concurrency", type=whole_number(1, 1000), default=32, help="requests at a time")
        option("--timeout", type=real_number(0.01), default=300.0, help="seconds for a request")
        option("--retries", type=whole_number(0, 100), default=8, help="of a fault that may pass")

    def add_data(option: Callable) -> None:
        help = "triplets: .jsonl, .parquet, .csv, or a hub data set (clips/SynEmbedNL)"
        option("--data", nargs="+", required=True, help=help)

    def add_prompts(option: Callable) -> None:
        option("--prompts", help="JSON file like the one that `prompts` prints")

    def print_prompts(args) -> None:
        print(json.dumps(read_prompts(args.prompts), ensure_ascii=False, indent=2))

    option = add("prompts", print_prompts, "print what belongs to the language, as JSON")
    add_prompts(option)

    option = add("generate", lambda args: run(generate(args)), "ask an LLM for rows; resumes")
    option("--llm", required=True, help="the model's name at the server")
    option("--topics", required=True, help="file with one per line")
    option("--rows", type=whole_number(1), required=True, help="in all; may be raised later")
    option("--out", required=True, help="rows (.jsonl); also <out>.tasks.jsonl and <out>.json")
    weights = per_type(whole_number(1, 999))
    option("--types", type=weights, default=dict.fromkeys(TYPES, 1), help="weights: sl=2,sts=1")
    option("--tasks", type=whole_number(1, 100), default=5, help="for a topic and type")
    add_prompts(option)
    option("--seed", type=whole_number(0), default=SEED)
    add_server(option)
    body = f"more of a request than {REQUEST}; null leaves a field out"
    option("--body", type=json_object, default={}, metavar="JSON", help=body)
    option("--tries", type=whole_number(1, MOST_TRIES), default=5, help="until an answer fits")

    option = add("clean", clean, "leave out duplicates, leaks, other languages; report the rest")
    add_data(option)
    option("--out", help="the good rows (.jsonl); without it only the counts")
    option("--overwrite", action="store_true", help="replace --out")
    exclude = f"evaluation texts: a row that shares {RUN} words in a row with one is left out"
    option("--exclude", nargs="+", default=[], metavar="FILE", help=exclude)
    near = "share of three-word runs that makes two rows near duplicates"
    option("--near", type=real_number(0, 1), default=NEAR, help=near)
    add_prompts(option)

    option = add("score", score, "add pos_scores and neg_scores; resumes")
    add_data(option)
    option("--out", required=True, help="the same rows with scores (.jsonl); also <out>.json")
    option("--reranker", help="the model's name at the server")
    api = "jina: vLLM and Cohere too; tei: text-embeddings-inference"
    option("--api", choices=["jina", "tei"], default="jina", help=api)
    option("--sigmoid", action="store_true", help="of a reranker's logits: probabilities")
    add_server(option)

    option = add("filter", filter_rows, "training sources from scored rows")
    add_data(option)
    out = "folder: a source for each type, manifest.json for `e5nl.py train --data`"
    option("--out", required=True, help=out)
    option("--overwrite", action="store_true", help="replace what an earlier run wrote to --out")
    number = real_number(-1e6)
    option("--least-positive", type=number, default=LEAST_POSITIVE, help="s(q,p) at least")
    option("--largest-gap", type=number, default=LARGEST_GAP, help="s(q,p) - s(q,n) at most")
    mix = "draw rows, as many as give these shares of the types: sl=0.3,ls=0.7"
    option("--ratio", type=per_type(real_number(1e-6, 1)), help=mix)

    args = parser.parse_args(argv)
    if getattr(args, "ratio", None) and abs(sum(args.ratio.values()) - 1) > 1e-6:
        parser.error(f"--ratio adds up to {sum(args.ratio.values()):g}, not 1")
    return args.run(args)


if __name__ == "__main__":
    files.cli(main)
