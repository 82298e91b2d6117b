"""Synthetic triplets written by an LLM (arXiv 2509.12340, training data; scheme of arXiv 2401.00368, with topics).

Any OpenAI-compatible server writes (vLLM, llama.cpp, Ollama, a hosted one). A row, one a line:

    {"row": 17, "task_type": "sl", "task_desc": "Given a …", "topic": "fietsen", "model": "…", "query": "…", "pos": "…", "neg": "…"}

`score` adds `pos_scores` and `neg_scores`, lists of one number. The paper's released set `clips/SynEmbedNL` has the same columns (but
row and topic): `clean`, `score` and `filter` take it, by its name or as files. What `filter` writes is what `e5nl.py train` reads.

Generating has two steps. For every topic and task type the LLM thinks of tasks ("Given a question about a bicycle part, retrieve …").
Then it writes a row for a task, with placeholders drawn from a table (length, clarity, difficulty …). Row n's type, topic, task and
placeholders are functions of (seed, n) and the tasks; types, and topics by their weights, come up equally often.

    python synthesize.py prompts                # the prompts, and what else belongs to the language, as JSON
    python synthesize.py generate --base-url http://localhost:8000/v1 --llm NAME --topics demo/topics.txt --rows 10000 --out runs/nl.jsonl
    python synthesize.py clean --data runs/nl.jsonl --exclude demo/eval/*/*.jsonl.gz --out runs/clean.jsonl
    python synthesize.py score --data runs/clean.jsonl --base-url http://localhost:8001 --reranker NAME --out runs/scored.jsonl
    python synthesize.py filter --data runs/scored.jsonl --out runs/synthetic        # e5nl.py train --data runs/synthetic/manifest.json
    python synthesize.py filter --data clips/SynEmbedNL --out runs/syn               # the paper's filter on its own data

`generate` and `score` append whole lines. Killed at any time, they lose the requests under way; the same command goes on from there.
The prompts are ours: the paper's, its LLM and its topics are not public. Another language is another table (`--prompts`).

Left out on purpose: batch APIs, streaming, proxies. The API's key comes from an environment variable and is written nowhere.
"""

import argparse
import collections
import functools
import hashlib
import itertools
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.special
from tqdm import tqdm

import e5nl
import model_folder
from client import Client, Refused, appending, ask, collect, describe_lost, keep_settings, one_line, run, write_report
from data import KINDS, normalise
from files import (
    InputError,
    cli,
    find_files,
    kind_of,
    read_json,
    read_lines,
    read_rows,
    real_number,
    refuse_existing,
    whole_number,
    write_json,
    write_jsonl,
)

# The task types and the training source that each becomes: short or long query, short or long passage; sentences of graded similarity.
TYPES = {
    "sl": "retrieval",
    "ls": "classification",
    "ss": "symmetric_clustering",
    "ll": "symmetric_clustering",
    "sts": "symmetric_sts",
}

# --- what belongs to the language: prompts, placeholders, rules of thumb. Another language is another such table --------------------

DUTCH = {
    "language": "Dutch",
    "brainstorm": {  # step 1: {count} tasks for a {topic}; sts needs none
        "sl": 'Think of {count} different search tasks about the topic "{topic}": somebody asks or searches for something in a few words,'
        ' and a passage of a document answers it. Describe each in one English sentence of the form "Given a …, retrieve …". Vary who is'
        " searching, why, and in what kind of document.",
        "ls": 'Think of {count} different text classification tasks about the topic "{topic}": a text of one or more sentences gets a label'
        ' of a few words. Describe each in one English sentence that begins with "Identifying" and says what kind of text it is and what'
        " the label tells. Vary both. No sentiment, language or spam detection, and not the topic itself as a label.",
        "ss": 'Think of {count} different tasks about the topic "{topic}" in which short texts (titles, questions, names, descriptions,'
        " messages) that belong to one category have to be brought together. Describe each in one English sentence that begins with"
        ' "Identifying" and says what the texts are and what makes two of them belong together.',
        "ll": 'Think of {count} different tasks about the topic "{topic}" in which long documents (articles, reports, letters, reviews)'
        " that belong to one category have to be brought together. Describe each in one English sentence that begins with"
        ' "Identifying" and says what the documents are and what makes two of them belong together.',
    },
    "tasks": ' Answer with a JSON object with one key "tasks": a list of {count} strings.',
    "write": {  # step 2: a row for a {task}
        "sl": 'Task: {task}\nTopic: {topic}\n\nWrite one example of this task: "query" is what a {query_type} search would be,'
        ' {query_length} long and {clarity}; "positive" is a passage of about {document_words} words that answers it; "negative" is'
        " a passage of about {document_words} words on the same subject that shares words with the query and looks useful, but does not"
        " answer it. Both passages are for readers with {difficulty} education, can be read alone and do not mention the query.",
        "ls": 'Task: {task}\nTopic: {topic}\n\nWrite one example of this task: "query" is a text of about {text_words} words, {clarity},'
        ' for readers with {difficulty} education; "positive" is its label, a few words; "negative" is another label of the same task'
        " that could be mistaken for the right one but is wrong. Neither label stands in the text.",
        "ss": 'Task: {task}\nTopic: {topic}\n\nWrite one example of this task: "query" and "positive" are two different short texts,'
        ' {clarity}, that belong together; "negative" is a short text that looks like the query but does not belong with it. Do not'
        " repeat the words of the query where other words will do.",
        "ll": 'Task: {task}\nTopic: {topic}\n\nWrite one example of this task: "query" and "positive" are two different documents of about'
        ' {document_words} words that belong together; "negative" is a document of about {document_words} words that looks like the query'
        " but does not belong with it. They are for readers with {difficulty} education.",
        "sts": 'Topic: {topic}\n\nWrite three texts, each a {unit}: "query"; "positive", which means nearly the same in other words'
        ' (similarity {high} of 5); "negative", which shares words with the query but means something else (similarity {low} of 5). They'
        " are for readers with {difficulty} education.",
    },
    "answer": ' Write everything in {language}, as native speakers write it. Answer with a JSON object with the keys "query", "positive"'
    ' and "negative", each with a string, and nothing else.',
    "values": {  # of the placeholders; one of each is drawn for a row
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
    "words": {  # in the shortest and the longest query, positive and negative: wide, to catch what is no answer at all
        "sl": [[1, 100], [15, 2000], [15, 2000]],
        "ls": [[4, 2000], [1, 20], [1, 20]],
        "ss": [[1, 100], [1, 100], [1, 100]],
        "ll": [[20, 2000], [20, 2000], [20, 2000]],
        "sts": [[2, 300], [2, 300], [2, 300]],
    },
    # A text of 20 words or more is in this language when at least this share of them are in the list. Words that are common in English,
    # German or French too are not in it. Of the bundled Dutch texts that long 0 to 4 % fall below (manuals most), of English ones all.
    "function_share": 0.15,
    "function_words": "aan als bij dan dat de deze dit door dus een en er geen haar hebben heeft hem het hij hoe hun ik je jullie kan"
    " kunnen maar meer met mijn moet moeten naar niet nog om omdat ook te tegen tot tussen uit van veel voor waar waren wat wel werd wij"
    " worden wordt zal ze zich zij zijn zonder zou zullen",
}


def read_prompts(path) -> dict:
    """A table like DUTCH from a JSON file, checked; DUTCH itself without one."""

    def compare(value, model, where: str) -> None:
        number = isinstance(model, int | float)
        if not isinstance(value, (int | float) if number else type(model)) or isinstance(value, bool) or value in ([], ""):
            raise InputError(f"{where} is {json.dumps(value)[:40]}; expected {json.dumps(model, ensure_ascii=False)[:60]} or the like")
        if isinstance(model, dict) and set(value) != set(model):
            odd = sorted(set(value) ^ set(model))[0]
            raise InputError(f"{where}: {odd!r} is {'missing' if odd in model else 'unknown'}; it has {', '.join(model)}")
        for key, part in value.items() if isinstance(model, dict) else enumerate(value if isinstance(model, list) else []):
            compare(part, model[key if isinstance(model, dict) else min(key, len(model) - 1)], f"{where}: {key}")

    if path is None:
        return DUTCH
    table = read_json(path)
    compare(table, DUTCH, str(path))
    for step in ("brainstorm", "write"):
        for kind, prompt in table[step].items():
            if unknown := set(re.findall(r"\{(\w+)\}", prompt)) - {"topic", "task", "count", "language", *table["values"]}:
                known = ", ".join(["topic", "task", *table["values"]])
                raise InputError(f"{path}: {step}: {kind}: {{{unknown.pop()}}} is no placeholder; there are {known}")
    return table


def fill(prompt: str, **values) -> str:
    """The prompt with its {placeholders} filled.

    >>> fill("{count} tasks about {topic}", count=5, topic="{fietsen}")
    '5 tasks about {fietsen}'
    """
    return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), prompt)


# --- which row is which request -----------------------------------------------------------------------------------------------


class Turns:
    """An endless sequence in which item i stands weights[i] times in every round of sum(weights) places, each round shuffled by itself.

    turns[n] = (item at place n, how often it stood before): a function of (weights, seed, n), and no item ever runs ahead.

    >>> turns = Turns([1, 2], seed=(0,))
    >>> [turns[n] for n in range(6)]
    [(1, 0), (0, 0), (1, 1), (1, 2), (0, 1), (1, 3)]
    """

    def __init__(self, weights, seed: tuple):
        self.weights, self.seed, self.round, self.order = list(weights), seed, -1, None

    def __getitem__(self, place: int) -> tuple[int, int]:
        number, within = divmod(place, sum(self.weights))
        if number != self.round:
            items = np.repeat(np.arange(len(self.weights)), self.weights)
            self.round, self.order = number, np.random.default_rng((*self.seed, number)).permutation(items)
        item = int(self.order[within])
        return item, number * self.weights[item] + int((self.order[:within] == item).sum())


class Plan:
    """plan[n] = (task type, topic, which of the topic's tasks) of row n; topics and types as {name: weight}, a whole number from 1."""

    def __init__(self, topics: dict[str, int], types: dict[str, int], seed: int):
        self.topics, self.types = list(topics), [kind for kind in TYPES if kind in types]
        self.type_turns = Turns([types[kind] for kind in self.types], (seed, 0))
        self.topic_turns = [Turns(topics.values(), (seed, 1, list(TYPES).index(kind))) for kind in self.types]

    def __getitem__(self, n: int) -> tuple[str, str, int]:
        kind, place = self.type_turns[n]
        topic, turn = self.topic_turns[kind][place]
        return self.types[kind], self.topics[topic], turn


def read_topics(path) -> dict[str, int]:
    """{topic: weight} of a file with a topic a line; `topic<TAB>3` comes up three times as often as `topic`."""
    topics = {}
    for number, line in read_lines(path):
        topic, _, weight = (part.strip() for part in line.partition("\t"))
        if not topic or topic in topics or not re.fullmatch("[1-9][0-9]{0,2}", weight or "1"):
            problem = "occurs twice" if topic in topics else "expected a topic, or a topic, a tab and a whole number from 1 to 999"
            raise InputError(f"{path}:{number}: {line[:60]!r}: {problem}")
        topics[topic] = int(weight or 1)
    if not topics:
        raise InputError(f"{path}: no topics; expected one a line")
    return topics


def brainstorm_prompt(table: dict, kind: str, topic: str, count: int) -> str:
    return fill(table["brainstorm"][kind] + table["tasks"], topic=topic, count=count, language=table["language"])


def row_prompt(table: dict, kind: str, topic: str, task: str, seed: int, n: int) -> str:
    """The request for row n."""
    generator = np.random.default_rng((seed, n))
    values = {name: options[generator.integers(len(options))] for name, options in table["values"].items()}
    return fill(table["write"][kind] + table["answer"], **values, topic=topic, task=task, language=table["language"])


def parse_tasks(value: dict, kind: str, topic: str, count: int) -> dict:
    """An answer to `brainstorm_prompt` as what is stored of it; Refused when it does not fit."""
    tasks = value.get("tasks")
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) and task.strip() for task in tasks):
        raise Refused("no list of tasks")
    return {"task_type": kind, "topic": topic, "tasks": [task.strip() for task in tasks[:count]]}


def parse_triplet(value: dict, kind: str, table: dict) -> dict:
    """An answer to `row_prompt` as query, pos and neg; Refused when it does not fit."""
    texts = [value.get(name) for name in ("query", "positive", "negative")]
    if not all(isinstance(text, str) for text in texts):
        raise Refused("no triplet")
    if fault := unfit(kind, *map(split_words, texts), table):
        raise Refused(fault)
    return dict(zip(FIELDS, map(str.strip, texts), strict=True))


# --- quality --------------------------------------------------------------------------------------------------------------------

FIELDS = ("query", "pos", "neg")
REASONS = (
    "kept", "too short", "too long", "positive equals query", "positive equals negative", "negative equals query", "label in text",
    "wrong language", "in excluded texts", "duplicate", "near duplicate",
)  # fmt: skip
KEPT, EXCLUDED, DUPLICATE, NEAR = (REASONS.index(name) for name in ("kept", "in excluded texts", "duplicate", "near duplicate"))


def split_words(text: str) -> list[str]:
    """The words of a text, without case and punctuation: what is compared and counted."""
    return re.findall(r"\w+", normalise(text))


def unfit(kind: str, query: list[str], pos: list[str], neg: list[str], table: dict) -> str | None:
    """Why a row (the words of its texts) is no good by itself: one of REASONS, or None."""
    texts = (query, pos, neg)
    for text, (least, most) in zip(texts, table["words"][kind], strict=True):
        if not least <= len(text) <= most:
            return "too short" if len(text) < least else "too long"
    equal = {"positive equals query": pos == query, "positive equals negative": pos == neg, "negative equals query": neg == query}
    if any(equal.values()):
        return next(fault for fault, found in equal.items() if found)
    if kind == "ls" and f" {' '.join(pos)} " in f" {' '.join(query)} ":
        return "label in text"
    common = set(table["function_words"].split())
    found, lengths = [sum(map(common.__contains__, text)) for text in texts], [len(text) for text in texts]
    for known, length in zip([*found, sum(found)], [*lengths, sum(lengths)], strict=True):  # of each text, and of all three
        if length >= 20 and known < table["function_share"] * length:
            return "wrong language"
    return None


FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd; of the polynomial that makes one number of several


def shingles(texts: list[list[str]], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (uint64) of every run of `size` words of every text, and where each text's begin (N + 1). A shorter text is one run."""
    lengths = np.array([len(text) for text in texts])
    padded = np.maximum(lengths, size)
    starts = np.concatenate([[0], padded.cumsum()])
    words = np.zeros(starts[-1] + size - 1, np.uint64)
    for start, text, length in zip(starts, texts, lengths, strict=False):
        words[start : start + length] = np.fromiter(map(zlib.crc32, " ".join(text).encode().split()), np.uint64, length)
    hashes, begins = np.zeros(starts[-1], np.uint64), np.ones(starts[-1], bool)
    for place in range(size):
        hashes = hashes * FACTOR + words[place : place + starts[-1]]  # modulo 2^64
        if place:
            begins[starts[1:] - place] = False  # too near its text's end to begin a run
    return hashes[begins], np.concatenate([[0], (padded - size + 1).cumsum()])


BANDS, ROWS = 32, 4  # of a signature: two texts with a share s of shingles in common are compared with probability 1 - (1 - s^4)^32


def minhash(texts: list[list[str]], seed: int, size: int = 3) -> np.ndarray:
    """Signatures (N, BANDS * ROWS) uint32: two agree at a place with the Jaccard similarity of their texts' shingles."""
    hashes, starts = shingles(texts, size)
    numbers = np.random.default_rng(seed).integers(2**64, size=(BANDS * ROWS, 2), dtype=np.uint64)
    columns = [np.minimum.reduceat((hashes * (factor | 1) + offset) >> 32, starts[:-1]) for factor, offset in numbers]
    return np.stack(columns, axis=1).astype(np.uint32)


def near_duplicates(signatures: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) bool: the signature agrees with an earlier one in at least `threshold` of its places.

    Compared are rows that agree in a whole band, each with the first such row and with the one before it: linear, whatever the data.
    """
    found = np.zeros(len(signatures), bool)
    for band in np.split(signatures, BANDS, axis=1):
        keys = functools.reduce(lambda key, column: key * FACTOR + column, band.T.astype(np.uint64))  # modulo 2^64
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
        first = np.arange(len(order))
        first[same] = 0
        first = np.maximum.accumulate(first)
        for earlier in (first[same], same - 1):
            for part in range(0, len(same), 1 << 16):
                a, b = order[earlier[part : part + (1 << 16)]], order[same[part : part + (1 << 16)]]
                found[b[(signatures[a] == signatures[b]).mean(1) >= threshold]] = True
    return found


def read_triplets(names, copied: bool = False) -> Iterator[dict]:
    """The checked rows of files or hub data sets. Where they have no `row`, or there are several files, it is the place among all.

    copied: whether they will be written with all of their columns, so that JSON must have a value for every one.
    """
    files, place, first = [file for name in names for file in find_files(name)], 0, None
    for file in files:
        for number, row in read_rows(file):
            if (kind := row.get("task_type")) not in list(TYPES):
                raise InputError(f"{file}:{number}: task_type is {shown(kind)}; expected one of {', '.join(TYPES)}")
            for field in FIELDS:
                if not isinstance(row.get(field), str):
                    raise InputError(f"{file}:{number}: {field} is {shown(row.get(field))}; expected a text")
            if len(files) > 1 or "row" not in row:
                row["row"] = place
            first = row["row"] if place == 0 else first
            if not isinstance(row["row"], int | str) or type(row["row"]) is not type(first):
                raise InputError(f"{file}:{number}: row is {shown(row['row'])}; expected whole numbers, or texts, in all rows")
            for name, value in row.items() if copied else ():
                try:
                    json.dumps(value, allow_nan=False)
                except (TypeError, ValueError):
                    problem = f"column {name!r} holds {shown(value)}, for which JSON has no value; convert it to a text, or leave it out"
                    raise InputError(f"{file}:{number}: {problem}") from None
            place += 1
            yield row
    if not place:
        raise InputError(f"{', '.join(map(str, names))}: no rows")


def shown(value) -> str:
    """The beginning of a value from a file, as JSON writes it where it can."""
    return json.dumps(value, default=repr)[:40]


def excluded_runs(names, size: int) -> np.ndarray:
    """The sorted hashes of all runs of `size` words of all texts in some files (every string of a table's row; else a text a line)."""

    def strings(value) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            for part in value.values() if isinstance(value, dict) else value:
                yield from strings(part)

    found = [np.empty(0, np.uint64)]
    for file in (file for name in names for file in find_files(name)):
        table = kind_of(file) in (".jsonl", ".json", ".parquet", ".csv", ".tsv")
        for rows in in_parts(read_rows(file) if table else read_lines(file)):
            texts = [words for _, row in rows for text in strings(row) if (words := split_words(text))]
            found.append(np.unique(shingles(texts, size)[0]) if texts else found[0])
    return np.unique(np.concatenate(found))


def in_parts(rows, size: int = 1024) -> Iterator[list]:
    rows = iter(rows)
    while part := list(itertools.islice(rows, size)):
        yield part


RUN = 13  # words in a row that a training text and an evaluation text must not share


def judge(rows, table: dict, excluded: np.ndarray, threshold: float, seed: int) -> dict[str, np.ndarray]:
    """What becomes of every row: reason (a place in REASONS); for the report its type, topic, words (N, 3), hashes of query and positive.

    A row without a fault of its own is compared with `excluded` (of a `ls` row only the query: labels are nobody's text), then with
    the rows before it: equal queries of one type, then nearly equal query and positive.
    """
    columns, signatures, seen, topics = collections.defaultdict(list), [np.empty((0, BANDS * ROWS), np.uint32)], set(), {}
    for part in in_parts(rows):
        texts = [[split_words(row[field]) for field in FIELDS] for row in part]
        kinds = np.array([list(TYPES).index(row["task_type"]) for row in part])
        faults = (unfit(row["task_type"], *words, table) for row, words in zip(part, texts, strict=True))
        reason = np.array([REASONS.index(fault or "kept") for fault in faults], np.uint8)
        for column in range(3 if len(excluded) else 0):
            hashes, starts = shingles([words[column] for words in texts], RUN)
            shared = excluded[np.minimum(np.searchsorted(excluded, hashes), len(excluded) - 1)] == hashes
            hit = np.logical_or.reduceat(shared, starts[:-1]) & ((column == 0) | (kinds != list(TYPES).index("ls")))
            reason[hit & (reason == KEPT)] = EXCLUDED
        hashes = [[_hash(row["task_type"], words[0]), _hash(row["task_type"], words[1])] for row, words in zip(part, texts, strict=True)]
        for i in np.flatnonzero(reason == KEPT):
            reason[i] = DUPLICATE if hashes[i][0] in seen else KEPT
            seen.add(hashes[i][0])
        if len(good := np.flatnonzero(reason == KEPT)):
            signatures.append(minhash([texts[i][0] + texts[i][1] for i in good], seed))
        columns["reason"].append(reason)
        columns["type"].append(kinds.astype(np.uint8))
        columns["words"].append(np.array([[len(words) for words in row] for row in texts], np.int32))
        columns["hashes"].append(np.array(hashes, np.uint64))
        columns["topic"].append(np.array([topics.setdefault(str(row.get("topic") or ""), len(topics)) for row in part], np.int32))
    judged = {name: np.concatenate(parts) for name, parts in columns.items()} | {"topics": np.array(list(topics), object)}
    good = np.flatnonzero(judged["reason"] == KEPT)
    judged["reason"][good[near_duplicates(np.concatenate(signatures), threshold)]] = NEAR
    return judged


def _hash(kind: str, words: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join([kind, *words]).encode(), digest_size=8).digest())


def report(judged: dict[str, np.ndarray]) -> dict:
    """By type: rows by reason, distinct queries and positives; of the kept rows median words and topic entropy (bits). Rows by topic."""
    types, topics, number = {}, judged["topics"], judged["topic"]
    for place, kind in enumerate(TYPES):
        of_type = judged["type"] == place
        kept = of_type & (judged["reason"] == KEPT)
        if not of_type.any():
            continue
        share = np.bincount(number[kept]) / max(1, kept.sum())
        types[kind] = {
            "rows": int(of_type.sum()),
            **{reason: int((judged["reason"][of_type] == i).sum()) for i, reason in enumerate(REASONS)},
            "median words": np.median(judged["words"][kept], axis=0).tolist() if kept.any() else None,
            "distinct queries": len(np.unique(judged["hashes"][of_type, 0])) / int(of_type.sum()),
            "distinct positives": len(np.unique(judged["hashes"][of_type, 1])) / int(of_type.sum()),
            "topics": int((share > 0).sum()),
            "topic entropy": float((share[share > 0] * -np.log2(share[share > 0])).sum()),
        }
    kept = np.bincount(number[judged["reason"] == KEPT], minlength=len(topics))
    order = np.argsort(-kept, kind="stable")
    return {"types": types, "topics": {topics[i]: int(kept[i]) for i in order}}


def describe(figures: dict) -> str:
    types = figures["types"]
    lines = [f"{'':<26}" + "".join(f"{kind:>14}" for kind in types)]
    for name in ("rows", *REASONS):
        if name in ("rows", "kept") or any(one[name] for one in types.values()):
            lines.append(f"{name:<26}" + "".join(f"{one[name]:>14,}" for one in types.values()))
    words = ["/".join(f"{n:.0f}" for n in one["median words"]) if one["median words"] else "-" for one in types.values()]
    lines.append(f"{'median words q/p/n':<26}" + "".join(f"{text:>14}" for text in words))
    for name in ("distinct queries", "distinct positives"):
        lines.append(f"{name:<26}" + "".join(f"{one[name]:>14.1%}" for one in types.values()))
    entropies = [f"{one['topic entropy']:.2f} of {np.log2(max(1, one['topics'])):.2f}" for one in types.values()]
    lines.append(f"{'topic entropy, bits':<26}" + "".join(f"{text:>14}" for text in entropies))
    topics = [f"{topic or '(none)'} {count:,}" for topic, count in figures["topics"].items()]
    lines.append(f"kept rows of {len(topics)} topics: {', '.join(topics if len(topics) <= 10 else [*topics[:5], '…', *topics[-5:]])}")
    return "\n".join(lines)


# --- scores, filter -----------------------------------------------------------------------------------------------------------


async def rerank_scores(client: Client, row: dict, api: str, model: str | None) -> list[float]:
    """[s(q,p), s(q,n)] from a /rerank endpoint: `jina` (also vLLM and Cohere), or `tei` (text-embeddings-inference).

    api is how the request is written. Answers differ even between servers of one kind, so any of their forms is understood.
    """
    texts = [row["pos"], row["neg"]]
    body = {"texts": texts, "truncate": True} if api == "tei" else {"model": model, "documents": texts}
    answer = await client.post("/rerank", {"query": row["query"]} | body)
    try:
        results = answer if isinstance(answer, list) else answer.get("results", answer.get("data"))
        scores = {item["index"]: float(item["relevance_score" if "relevance_score" in item else "score"]) for item in results}
        if scores.keys() == {0, 1} and np.isfinite([*scores.values()]).all():
            return [scores[0], scores[1]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        pass
    client.faults["no scores"] += 1
    raise Refused("no scores", one_line(json.dumps(answer), 80))


def encoder_scores(model, tokenizer, rows: list[dict]) -> np.ndarray:
    """(N, 2): cosines of the query with positive and negative, with the prefixes that the rows get in training."""
    scores, q = np.empty((len(rows), 2)), e5nl.embed(model, tokenizer, [row["query"] for row in rows], "query")
    for kind in ("query", "passage"):
        chosen = [i for i, row in enumerate(rows) if KINDS[TYPES[row["task_type"]]][1] == kind]
        for column, field in enumerate(FIELDS[1:]):
            scores[chosen, column] = np.vecdot(q[chosen], e5nl.embed(model, tokenizer, [rows[i][field] for i in chosen], kind))
    return scores


LEAST_POSITIVE, LARGEST_GAP = 0.1, 0.96  # the released code


def keeps(kind: np.ndarray, scores: np.ndarray, least_positive: float, largest_gap: float) -> np.ndarray:
    """(N,) bool, the released rule: `ls` always; else the positive scores at least this, and at most so much more than the negative.

    What goes is a positive that is none, and a negative that is too easy. A negative that scores above the positive stays.

    >>> keeps(np.array(["sl", "sl", "sl", "ls"]), np.array([[0.99, 0.02], [0.1, 0.9], [0.05, 0.0], [0.0, 0.0]]), 0.1, 0.96).tolist()
    [False, True, False, True]
    """
    return (kind == "ls") | ((scores[:, 0] >= least_positive) & (scores[:, 0] - scores[:, 1] <= largest_gap))


def draw(kind: np.ndarray, kept: np.ndarray, ratio: dict[str, float], size: int | None, seed: int) -> np.ndarray:
    """(N,) bool: of the kept rows, drawn by seed, `size` in these shares of the types (default: as many as there can be)."""
    there = {name: int((kept & (kind == name)).sum()) for name in ratio}
    most = min(int(there[name] / share) for name, share in ratio.items())
    if not most or (size or 0) > most:
        found = ", ".join(f"{name} {count:,}" for name, count in there.items())
        raise InputError(f"--ratio with these rows gives {most:,} rows at most; kept are {found}")
    drawn = np.zeros(len(kind), bool)
    for name, share in ratio.items():
        rows = np.flatnonzero(kept & (kind == name))
        drawn[np.random.default_rng((seed, list(TYPES).index(name))).permutation(rows)[: round((size or most) * share)]] = True
    return drawn


def read_scores(names) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every row: type (N,), scores of positive and negative (N, 2; NaN where an `ls` row has none), whether a text is blank (N,)."""
    kinds, scores, blank = [], [], []
    for row in read_triplets(names):
        pair = []
        for field in ("pos_scores", "neg_scores"):
            value = row.get(field)
            good = isinstance(value, list) and value and isinstance(value[0], int | float) and abs(value[0]) <= sys.float_info.max
            if not good and (value or row["task_type"] != "ls"):
                found = "no" if not value else f"{json.dumps(value)[:40]} as"
                raise InputError(f"row {row['row']} ({row['task_type']}) has {found} {field}; expected a list of one number, from `score`")
            pair.append(value[0] if good else np.nan)
        kinds.append(row["task_type"])
        scores.append(pair)
        blank.append(not all(row[field].strip() for field in FIELDS))
    return np.array(kinds), np.array(scores, float), np.array(blank)


def describe_filter(kind: np.ndarray, scores: np.ndarray, kept: np.ndarray) -> str:
    lines = [f"{'type':<6}{'rows':>10}{'kept':>10}{'share':>9}   5 / 25 / 50 / 75 / 95 % of s(q,p), s(q,n)"]
    for name in [*(name for name in TYPES if (kind == name).any()), "all"]:
        of_type = (kind == name) | (name == "all")
        known = scores[of_type & ~np.isnan(scores).any(1)]
        columns = [" ".join(f"{value:.2f}" for value in np.quantile(part, [0.05, 0.25, 0.5, 0.75, 0.95])) for part in known.T if len(known)]
        lines.append(f"{name:<6}{of_type.sum():>10,}{kept[of_type].sum():>10,}{kept[of_type].mean():>9.1%}   {', '.join(columns) or '-'}")
    return "\n".join(lines)


def describe_sweep(kind: np.ndarray, scores: np.ndarray) -> str:
    """The share kept at other thresholds; .7, .8 and .98 are those that the authors' code had before .96."""
    types = [name for name in TYPES if (kind == name).any()]
    lines = [f"{'positive from':>13}{'gap to':>8}" + "".join(f"{name:>9}" for name in [*types, "all"])]
    for least, gap in itertools.product((-np.inf, 0.05, 0.1, 0.3, 0.5), (0.7, 0.8, 0.9, 0.96, 0.98, np.inf)):
        kept = keeps(kind, scores, least, gap)
        shares = [kept[kind == name].mean() for name in types] + [kept.mean()]
        lines.append(f"{least:>13g}{gap:>8g}" + "".join(f"{share:>9.1%}" for share in shares))
    return "\n".join(lines)


# --- command line -------------------------------------------------------------------------------------------------------------


def per_type(number: Callable[[str], float]) -> Callable[[str], dict]:
    """An argparse type: `sl=1,ls=2` as {type: number}."""

    def parse(text: str) -> dict:
        values = dict(part.partition("=")[::2] for part in text.split(","))
        if not values.keys() <= TYPES.keys() or len(values) != text.count(",") + 1:
            raise argparse.ArgumentTypeError(f"{text}: expected {'=…,'.join(TYPES)}=…, or some of them")
        return {name: number(value) for name, value in values.items()}

    parse.__name__ = "list of type=number"
    return parse


def json_object(text: str) -> dict:
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # what no server could read
    except RecursionError:
        raise ValueError from None
    if not isinstance(value, dict):
        raise ValueError
    return value


json_object.__name__ = "JSON object"  # for argparse's message


def _prompts(args) -> None:
    print(json.dumps(read_prompts(args.prompts), ensure_ascii=False, indent=2))


def _client(args) -> Client:
    return Client(args.base_url, os.environ.get(args.key_env, ""), args.timeout, args.retries, args.backoff)


def _generate(args) -> int:
    return run(generate(args, _client(args)))


async def generate(args, client: Client) -> int:
    table, topics, started = read_prompts(args.prompts), read_topics(args.topics), time.monotonic()
    plan = Plan(topics, args.types, args.seed)
    options = {"model": args.llm, "temperature": args.temperature, "top_p": args.top_p, "max_tokens": args.max_tokens} | args.body
    digest = hashlib.sha256(json.dumps(topics, ensure_ascii=False).encode()).hexdigest()
    settings = {"request": options, "seed": args.seed, "types": args.types, "tasks": args.tasks, "prompts": table}
    thought = f"{args.out}.tasks.jsonl"
    keep_settings(args.out, settings | {"topics": f"{len(topics)}, sha256 {digest}"}, thought)

    pairs = {}  # (type, topic) of which tasks are needed, in the order of the rows
    for n in range(args.rows):
        if len(pairs) == len(topics) * len(args.types):
            break
        pairs.setdefault(plan[n][:2])

    async def brainstorm(pair: tuple) -> dict:
        prompt = brainstorm_prompt(table, *pair, args.tasks)
        return await ask(client, prompt, (args.seed, *pair), options, args.tries, lambda value: parse_tasks(value, *pair, args.tasks))

    async def write(job: tuple) -> dict:
        n, (kind, topic, turn) = job
        task = tasks[kind, topic][turn % len(tasks[kind, topic])] if kind in table["brainstorm"] else ""
        row = {"row": n, "task_type": kind, "task_desc": task, "topic": topic, "model": args.llm}
        prompt = row_prompt(table, kind, topic, task, args.seed, n)
        return await ask(client, prompt, (args.seed, n), options, args.tries, lambda value: row | parse_triplet(value, kind, table))

    async with client:
        with appending(thought, lambda row: (row["task_type"], row["topic"])) as (existing, append):
            missing = [pair for pair in pairs if pair not in existing and pair[0] in table["brainstorm"]]
            print(f"tasks: {len(missing):,} (type, topic) pairs to think about, {len(existing):,} exist", flush=True)
            lost = await collect(missing, len(missing), brainstorm, append, client, args.concurrency, len(existing))
        if lost:
            raise InputError(f"{thought}: some (type, topic) pairs got no tasks: {describe_lost(lost)}")
        tasks = {(row["task_type"], row["topic"]): row["tasks"] for _, row in read_rows(thought)} if existing or missing else {}

        with appending(args.out, lambda row: row["row"]) as (existing, append):
            missing = [n for n in range(args.rows) if n not in existing]
            print(f"rows: {len(missing):,} to write, {len(existing):,} exist", flush=True)
            jobs = ((n, plan[n]) for n in missing)
            lost = await collect(jobs, len(missing), write, append, client, args.concurrency, len(existing))
    rows = len(existing) + len(missing) - sum(loss.count for loss in lost.values())
    return write_report(client, args.out, rows, lost, time.monotonic() - started)


def _clean(args) -> None:
    if args.out:
        if Path(args.out).suffix != ".jsonl":
            raise InputError(f"--out {args.out}: expected a name that ends in .jsonl")
        if Path(args.out).resolve() in [Path(name).resolve() for name in args.data]:
            raise InputError(f"--out {args.out} is the input itself; choose another name")
        for path in (args.out, f"{args.out}.json"):
            refuse_existing(path, args.overwrite)
    excluded = excluded_runs(args.exclude, RUN)
    rows = tqdm(read_triplets(args.data, bool(args.out)), unit="row", unit_scale=True, disable=None)
    judged = judge(rows, read_prompts(args.prompts), excluded, args.near, args.seed)
    figures, kept = report(judged), judged["reason"] == KEPT
    print(describe(figures))
    generator = np.random.default_rng(args.seed)
    of_types = [np.flatnonzero(kept & (judged["type"] == kind)) for kind in range(len(TYPES))]
    chosen = {place for rows in of_types for place in generator.permutation(rows)[: args.examples]}
    examples = collections.defaultdict(list)

    def kept_rows() -> Iterator[dict]:
        for place, row in enumerate(read_triplets(args.data)):
            if place in chosen:
                examples[row["task_type"]].append(row)
            if kept[place]:
                yield row

    if args.out and not kept.any():
        raise InputError(f"{args.data[0]}: no row is good enough; the table above says why")
    if args.out:
        write_jsonl(args.out, kept_rows())
        settings = {key: value for key, value in vars(args).items() if key not in ("run", "command", "overwrite")}
        write_json(f"{args.out}.json", {"settings": settings, "report": figures})
    else:
        collections.deque(kept_rows(), maxlen=0)
    for kind in TYPES:
        for row in examples[kind]:
            print(f"\n{kind}, row {row['row']}, {row.get('topic') or 'no topic'}: {row.get('task_desc') or ''}")
            print("\n".join(f"  {mark} {' '.join(row[field].split())[:300]}" for mark, field in zip("?+-", FIELDS, strict=True)))
    if args.out:
        print(f"\n{args.out}: {kept.sum():,} of {len(kept):,} rows")


def _score(args) -> int | None:
    if bool(args.model) == bool(args.base_url):
        raise InputError("give --base-url of a reranker, or --model, an encoder's folder")
    if args.base_url and args.api == "jina" and not args.reranker:
        raise InputError("--api jina needs --reranker, the name of the model")
    if args.sigmoid and args.model:
        raise InputError("--sigmoid is for the scores of a reranker; those of --model are cosines")
    numbers, started = [row["row"] for row in read_triplets(args.data, copied=True)], time.monotonic()
    if len(set(numbers)) < len(numbers):
        twice = collections.Counter(numbers).most_common(1)[0][0]
        raise InputError(f"{args.data[0]}: row {twice} occurs twice; remove the field `row`, then rows are numbered by their place")
    size = sum(file.stat().st_size for name in args.data for file in find_files(name))
    settings = {"data": args.data, "rows": len(numbers), "bytes": size}
    if args.model:
        folder = model_folder.find(args.model)
        keep_settings(args.out, settings | {"model": args.model, "weights": model_folder.weights_hash(folder)})
    else:
        client = _client(args)
        keep_settings(args.out, settings | {"reranker": args.reranker, "api": args.api} | ({"sigmoid": True} if args.sigmoid else {}))

    def scored(row: dict, scores) -> dict:
        return row | {"pos_scores": [float(scores[0])], "neg_scores": [float(scores[1])]}

    async def rerank(row: dict) -> dict:
        scores = await rerank_scores(client, row, args.api, args.reranker)
        return scored(row, scipy.special.expit(scores) if args.sigmoid else scores)

    async def rerank_all(jobs, total: int, append: Callable, before: int) -> dict:
        async with client:
            return await collect(jobs, total, rerank, append, client, args.concurrency, before)

    with appending(args.out, lambda row: row["row"]) as (existing, append):
        missing, total = (row for row in read_triplets(args.data) if row["row"] not in existing), len(numbers) - len(existing)
        print(f"rows: {total:,} to score, {len(existing):,} exist", flush=True)
        if args.base_url:
            lost = run(rerank_all(missing, total, append, len(existing)))
            rows = len(numbers) - sum(loss.count for loss in lost.values())
            return write_report(client, args.out, rows, lost, time.monotonic() - started)
        model, tokenizer = e5nl.load(folder)
        print(e5nl.summary(model, tokenizer), flush=True)
        with tqdm(total=total, unit="row", disable=None) as bar:
            for part in in_parts(missing, 4096):
                for row, scores in zip(part, encoder_scores(model, tokenizer, part), strict=True):
                    append(scored(row, scores))
                bar.update(len(part))
    print(f"{args.out}: {len(numbers):,} rows")


def _filter(args) -> None:
    if not args.out and not args.sweep:
        raise InputError("give --out, or --sweep alone to see what other thresholds would keep")
    if args.size and not args.ratio:
        raise InputError("--size goes with --ratio")
    out = Path(args.out or "")
    written = [out / name for name in ("manifest.json", "report.json", *(f"{name}.jsonl.gz" for name in TYPES))]
    for path in written if args.out else ():
        refuse_existing(path, args.overwrite)
    kind, scores, blank = read_scores(args.data)
    judged = scores[kind != "ls"]
    odd = judged[(judged < -1e-5) | (judged > 1 + 1e-5)]
    if len(odd) and None in (args.least_positive, args.largest_gap):
        problem = f"{args.data[0]}: a score is {odd[0]:g}; the thresholds are for probabilities, from 0 to 1"
        raise InputError(f"{problem}; apply a sigmoid (`score --sigmoid`), or set --least-positive and --largest-gap")
    args.least_positive = LEAST_POSITIVE if args.least_positive is None else args.least_positive
    args.largest_gap = LARGEST_GAP if args.largest_gap is None else args.largest_gap
    kept = keeps(kind, scores, args.least_positive, args.largest_gap) & ~blank
    rule = f"ls, and s(q,p) >= {args.least_positive:g} with s(q,p) - s(q,n) <= {args.largest_gap:g}"
    print(f"kept: {rule}; not {blank.sum():,} rows with a blank text")
    print(describe_filter(kind, scores, kept))
    if args.sweep:
        print("\n" + describe_sweep(kind, scores))
    if not args.out:
        return
    if args.ratio:
        kept = draw(kind, kept, args.ratio, args.size, args.seed)
    if not kept.any():
        raise InputError(f"{args.data[0]}: nothing is kept; lower --least-positive, raise --largest-gap")
    for path in written:
        path.unlink(missing_ok=True)  # what an earlier run wrote
    sources = []
    for name, type in TYPES.items():
        chosen = kept & (kind == name)
        if not chosen.any():
            continue
        rows = (row for row, keep in zip(read_triplets(args.data), chosen, strict=True) if keep)
        write_jsonl(out / f"{name}.jsonl.gz", (_training_row(row, type) for row in rows))
        sources.append({"file": f"{name}.jsonl.gz"} | ({"in_batch_negatives": False} if name == "ls" else {}))
    settings = {key: value for key, value in vars(args).items() if key not in ("run", "command", "overwrite", "sweep")}
    rows = {name: {"rows": int((kind == name).sum()), "kept": int(kept[kind == name].sum())} for name in TYPES}
    write_json(out / "report.json", {"settings": settings, "types": rows})
    write_json(out / "manifest.json", {"sources": sources})
    mix = ", ".join(f"{name} {one['kept']:,} ({one['kept'] / kept.sum():.1%})" for name, one in rows.items() if one["kept"])
    print(f"{out / 'manifest.json'}: {kept.sum():,} rows: {mix}")


def _training_row(row: dict, type: str) -> dict:
    scores = {field: row[field] for field in ("pos_scores", "neg_scores") if row.get(field)}
    return {"query": row["query"], "pos": [row["pos"]], "neg": [row["neg"]]} | scores | {"type": type}


def main(argv=None) -> int | None:
    parser = argparse.ArgumentParser(description="Synthetic triplets from an LLM.")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Callable, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        command.set_defaults(run=run)
        return command

    def add_server(command, required: bool) -> None:
        group = command.add_argument_group("server")
        group.add_argument("--base-url", required=required, help="http://host:port/path, without the /chat/completions or /rerank")
        group.add_argument("--key-env", default="OPENAI_API_KEY", help="environment variable that holds the key, if one is needed")
        group.add_argument("--concurrency", type=whole_number(1, 1000), default=32, help="requests at a time")
        group.add_argument("--timeout", type=real_number(0.01), default=300.0, help="seconds for a whole request")
        group.add_argument("--retries", type=whole_number(0, 100), default=8, help="of a request that failed on its way or was put off")
        group.add_argument("--backoff", type=real_number(0), default=1.0, help="seconds before the first; doubled each time, to a minute")

    data = {"nargs": "+", "required": True, "help": "triplets: .jsonl, .parquet, .csv, or a hub data set (clips/SynEmbedNL)"}
    table = {"help": "JSON file like the one that `prompts` prints, for another language"}

    command = add("prompts", _prompts, "print the prompts and what else belongs to the language, as JSON")
    command.add_argument("--prompts", **table)

    command = add("generate", _generate, "ask an LLM for rows; goes on where a killed run was")
    command.add_argument("--llm", required=True, help="the model's name at the server")
    command.add_argument("--topics", required=True, help="a topic a line; topic<TAB>3 for one that comes up three times as often")
    command.add_argument("--rows", type=whole_number(1), required=True, help="how many there shall be; may be raised later")
    command.add_argument("--out", required=True, help="rows (.jsonl); beside them <out>.tasks.jsonl and <out>.json, settings and report")
    command.add_argument("--types", type=per_type(whole_number(1, 999)), default=dict.fromkeys(TYPES, 1), help="weights: sl=2,ls=2,sts=1")
    command.add_argument("--tasks", type=whole_number(1, 100), default=5, help="tasks to think of for a topic and type")
    command.add_argument("--prompts", **table)
    command.add_argument("--seed", type=whole_number(0), default=42)
    add_server(command, True)
    group = command.add_argument_group("LLM")
    group.add_argument("--temperature", type=real_number(0), default=1.0)
    group.add_argument("--top-p", type=real_number(0, 1), default=1.0)
    group.add_argument("--max-tokens", type=whole_number(1), default=4096, help="of an answer")
    group.add_argument("--body", type=json_object, default={}, metavar="JSON",
                       help='more of a request: {"chat_template_kwargs": {"enable_thinking": false}}; null leaves a field out')  # fmt: skip
    group.add_argument("--tries", type=whole_number(1, 100), default=5, help="how often to ask for a row until the answer fits")

    command = add("clean", _clean, "leave out duplicates, leaks, wrong language, evaluation texts; report what is there")
    command.add_argument("--data", **data)
    command.add_argument("--out", help="the good rows (.jsonl); beside them <out>.json with the report. Without it only the report")
    command.add_argument("--overwrite", action="store_true", help="replace --out")
    command.add_argument("--exclude", nargs="+", default=[], metavar="FILE", help=f"evaluation texts: a row with {RUN} words of one goes")
    command.add_argument("--near", type=real_number(0, 1), default=0.8, help="share of three-word runs that makes two rows near duplicates")
    command.add_argument("--examples", type=whole_number(0), default=10, help="rows of each type to print")
    command.add_argument("--prompts", **table)
    command.add_argument("--seed", type=whole_number(0), default=42)

    command = add("score", _score, "add pos_scores and neg_scores; goes on where a killed run was")
    command.add_argument("--data", **data)
    command.add_argument("--out", required=True, help="the same rows with scores (.jsonl); beside them <out>.json")
    command.add_argument("--model", help="an encoder's folder or hub name instead of a reranker; its scores are cosines")
    command.add_argument("--reranker", help="the model's name at the server")
    command.add_argument("--api", choices=["jina", "tei"], default="jina", help="jina: vLLM and Cohere too; tei: text-embeddings-inference")
    command.add_argument("--sigmoid", action="store_true", help="of a reranker's scores: makes probabilities of logits, for `filter`")
    add_server(command, False)

    command = add("filter", _filter, "training sources from scored rows")
    command.add_argument("--data", **data)
    command.add_argument("--out", help="folder: a source a type, and manifest.json for `e5nl.py train --data`")
    command.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote to --out")
    command.add_argument("--least-positive", type=real_number(-1e6), help=f"s(q,p) at least (default: {LEAST_POSITIVE}, released code)")
    command.add_argument("--largest-gap", type=real_number(-1e6), help=f"s(q,p) - s(q,n) at most (default: {LARGEST_GAP}, released code)")
    command.add_argument("--sweep", action="store_true", help="print the share kept at other thresholds")
    command.add_argument("--ratio", type=per_type(real_number(1e-6, 1)), help="shares of the types: sl=0.3,ls=0.3,ss=0.1,ll=0.2,sts=0.1")
    command.add_argument("--size", type=whole_number(1), help="rows with --ratio (default: as many as there can be)")
    command.add_argument("--seed", type=whole_number(0), default=42, help="of the rows drawn with --ratio")
    args = parser.parse_args(argv)
    if getattr(args, "ratio", None) and abs(sum(args.ratio.values()) - 1) > 1e-6:
        parser.error(f"--ratio adds up to {sum(args.ratio.values()):g}, not 1")
    return args.run(args)


if __name__ == "__main__":
    cli(main)
