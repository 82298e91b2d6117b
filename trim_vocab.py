"""Vocabulary trimming with a proof: multilingual-e5's 250,002 pieces to 50,002.

Implements arXiv 2509.12340, model initialisation (`e5-*-trm`).

In: a model folder (or hub name) with a Unigram tokenizer, and text in the language to keep. Out:
the same kind of folder with fewer pieces, and `trim_report.json`. Nothing is trained:

1. count the pieces of the text; 2. rank them; 3. cut the others out of `tokenizer.json`, give every
file that names an id the new one, gather the rows of the embedding table, copy all other tensors;
4. prove it on text that was not counted.

The proof rests on a property of Unigram: the best segmentation of a text stays the best when other
pieces disappear. So a text whose pieces are all kept must give the same pieces, and the same
embedding bit for bit. A failed proof leaves no folder, and exit status 1.

    python trim_vocab.py --model runs/demo/base --out runs/trimmed \
        --corpus demo/corpus/*.gz demo/train/*.jsonl.gz
    python trim_vocab.py --model NAME --out OUT \
        --corpus 'allenai/c4:multilingual/c4-nl-validation.*.json.gz'    # the paper's text

Text is `NAME` or `NAME:N`, as in `law.jsonl.gz:5000`. NAME: a file (one text per line, a table, a
training source), or files of a data set on the hub, `owner/name[@revision][:pattern]`, which are
downloaded only if named. N: its first N texts.

Departures from the paper's tool (vocabtrimmer): a tenth of the text is held out for the proof (not
with `--check`), and single characters and the pieces of the prefixes come before rarer pieces
(`--no-keep-characters`: prefixes only).
Left out on purpose: BPE and WordPiece. A BPE merge needs the pieces it is made of, and WordPiece is
greedy, so neither has the property above; `transtokenize.py` gives such a model a Dutch tokenizer.

Letters for dimensions: V pieces of the original tokenizer, N texts, D width.
"""

import argparse
import copy
import functools
import itertools
import json
import re
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

import card
import e5nl
import model_folder
from data import parse_row
from files import (
    InputError,
    cli,
    find_files,
    kind_of,
    new_folder,
    read_jsonl,
    read_texts,
    reading,
    whole_number,
    write_json,
)

# The model card of clips/e5-base-trm: c4, Dutch, validation.
PAPER_CORPUS = "allenai/c4:multilingual/c4-nl-validation.*.json.gz"
# Vocabulary sizes whose coverage is reported.
CUTS = (5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 75_000, 100_000)
LOW_SHARE = 0.95  # Dutch trimmed on other Dutch keeps 98 % of the tokens and more
CHUNK_CHARACTERS = 500_000  # tokenised at once: keeps all cores busy, takes some tens of MB
COUNTED_CHUNKS = 64  # whose distinct words are held at once
SAMPLE_TOKENS = 128  # tokens of the texts that are embedded with both models

# --- 1. count -------------------------------------------------------------------------------------


def parse_name(name: str) -> tuple[str, int | None]:
    """(file or hub name, texts at most) of a text's name.

    A file that is called so, colon and all, is meant as it is.

    >>> parse_name("owner/name:nl/*.jsonl.gz:500"), parse_name("law.jsonl.gz")
    (('owner/name:nl/*.jsonl.gz', 500), ('law.jsonl.gz', None))
    """
    path, cap = re.fullmatch(r"(.*?)(?::(\d+))?", str(name), re.DOTALL).groups()
    if cap is None or Path(name).exists():
        return str(name), None
    return path, int(cap)


def read_corpus(names: Iterable[str], field: str = "text") -> Iterator[str]:
    """The texts of `NAME[:N]`…: of what files.read_texts knows, and of training sources."""
    for name in names:
        path, cap = parse_name(name)
        texts = (text for file in find_files(path) for text in _read_file(file, field))
        yield from itertools.islice(texts, cap)


def _read_file(path: Path, field: str) -> Iterator[str]:
    tables = kind_of(path) in (".jsonl", ".json")
    if tables and next(read_jsonl(path))[1].keys() >= {"query", "pos"}:
        for number, row in read_jsonl(path):
            row = parse_row(row, f"{path}:{number}")
            yield from (row.query, *row.pos, *row.neg)
    else:
        yield from read_texts(path, field)


def held_out(text: str) -> bool:
    """A tenth of all texts, the same ones every time. A text that occurs twice is on one side."""
    return zlib.crc32(text.encode()) % 10 == 0


def chunk_texts(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists of about CHUNK_CHARACTERS, in order."""
    chunk, characters = [], 0
    for text in texts:
        chunk.append(text)
        characters += len(text) + 64  # an empty text takes memory too
        if characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def tokenise(
    texts: Iterable[str], *backends: Tokenizer, special: bool = True
) -> Iterator[tuple[list[str], list[list[list[int]]]]]:
    """Chunks of texts, with their ids by each tokenizer, in bounded memory.

    On all cores (on one with TOKENIZERS_PARALLELISM=false in the environment); the next chunk is
    tokenised while the caller has this one.
    """

    def encode(chunk):
        options = {"add_special_tokens": special}
        batches = (backend.encode_batch_fast(chunk, **options) for backend in backends)
        return chunk, [[encoding.ids for encoding in batch] for batch in batches]

    # The empty chunk at the end lets the last one be yielded.
    with ThreadPoolExecutor(1) as pool:
        jobs = (pool.submit(encode, chunk) for chunk in itertools.chain(chunk_texts(texts), [[]]))
        for job, _ in itertools.pairwise(jobs):
            yield job.result()


def count_ids(ids: Iterable[list[int]], size: int, times: list[int] | None = None) -> np.ndarray:
    """(size,) int64: how often each id occurs in lists of ids.

    times: how often each list counts (default: once).
    """
    ids = list(ids)
    weights = None if times is None else np.repeat(times, [len(row) for row in ids])
    flat = np.fromiter(itertools.chain.from_iterable(ids), np.int64)
    return np.bincount(flat, weights, size).astype(np.int64)


# Words with one space or line end between them, of characters that no normaliser joins to a space;
# no "<", which may begin a special token.
_WORD = "[!-;=-~À-ž‘’“”…–—€]+"
PLAIN = re.compile(f"{_WORD}(?:[ \n]{_WORD})*")
LINE_WORDS = 1000  # words tokenised as one text


def count_texts(backend: Tokenizer, texts: Iterable[str], by_word: bool) -> np.ndarray:
    """(V,) int64: how often each piece occurs in texts, special tokens left out.

    by_word: each distinct word of the plain texts is tokenised once, in lines of words that occur
    equally often: a fraction of the work. Right for tokenizers whose pieces end at spaces, as
    XLM-R's do (`count_pieces` tries it).
    """
    # What is tokenised: (text, how often it counts). Plain texts fall apart into words first.
    words, lines = Counter(), []
    for text in texts:
        if by_word and PLAIN.fullmatch(text):
            words.update(text.split())
        else:
            lines.append((text, 1))
    # Words that occur equally often share lines, so that a line's pieces all count the same.
    for times, equally_often in itertools.groupby(sorted(words, key=words.get), words.get):
        while line := " ".join(itertools.islice(equally_often, LINE_WORDS)):
            lines.append((line, times))

    counts, times = np.zeros(backend.get_vocab_size(), np.int64), iter([n for _, n in lines])
    tokenised = tokenise((line for line, _ in lines), backend, special=False)
    for chunk, (ids,) in tokenised:
        counts += count_ids(ids, len(counts), list(itertools.islice(times, len(chunk))))
    return counts


def count_pieces(
    backend: Tokenizer, texts: Iterable[str], aside: Callable[[str], bool]
) -> tuple[np.ndarray, np.ndarray]:
    """How often each piece occurs in texts, special tokens included: (2, V) int64, and (2,) texts.

    Row 1 is for the texts that `aside` picks.
    """
    size = backend.get_vocab_size()
    frame = count_ids([backend.encode("").ids], size)  # the special tokens of a text
    pieces, number = np.zeros((2, size), np.int64), np.zeros(2, np.int64)
    chunks = chunk_texts(texts)
    while block := list(itertools.chain.from_iterable(itertools.islice(chunks, COUNTED_CHUNKS))):
        # Whether words can be counted alone is tried, not taken from the tokenizer's description.
        plain = list(itertools.islice(filter(PLAIN.fullmatch, block), 500))
        by_word = (count_texts(backend, plain, True) == count_texts(backend, plain, False)).all()
        # The texts that are counted, and those set aside.
        asides = [aside(text) for text in block]
        for side, chosen in enumerate(([not is_aside for is_aside in asides], asides)):
            counts = count_texts(backend, itertools.compress(block, chosen), by_word)
            pieces[side] += counts + sum(chosen) * frame
            number[side] += sum(chosen)
        block.clear()  # before the next one is read
    return pieces, number


# --- 2. rank --------------------------------------------------------------------------------------


def is_basic(character: str) -> bool:
    """Latin letters and their accents, digits, punctuation, currency, mathematics, all Latin-1."""
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    accent = kind == "Mn" and name.startswith("COMBINING ")
    sign = kind[0] == "P" or kind in ("Sc", "Sm")
    latin_1 = ord(character) < 256 and character.isprintable()
    return name.startswith("LATIN ") or accent or sign or latin_1


def single_characters(pieces: list[str], seen: np.ndarray) -> set[int]:
    """Ids of the one-character pieces that are basic, or occur in a piece that was seen (V,).

    There is no byte fallback: a character without a piece of its own is <unk> wherever no longer
    piece covers it.
    """
    characters = set().union(*(pieces[id] for id in np.flatnonzero(seen)))
    return {
        id
        for id, piece in enumerate(pieces)
        if len(piece) == 1 and (piece in characters or is_basic(piece))
    }


def rank_pieces(counts: np.ndarray, first: set[int], min_frequency: int) -> np.ndarray:
    """Ids in the order in which they are kept, most frequent first, equal counts by id.

    Those in `first` come before all others, whatever their counts (V,); the others need to occur
    `min_frequency` times.

    >>> rank_pieces(np.array([5, 2, 1, 2, 0]), first={4, 2}, min_frequency=2).tolist()
    [2, 4, 0, 1, 3]
    """
    # Sorted by: favoured or not, count, id.
    favoured = np.zeros(len(counts), bool)
    favoured[sorted(first)] = True
    ids = np.flatnonzero(favoured | (counts >= min_frequency))
    return ids[np.lexsort((ids, -counts[ids], ~favoured[ids]))]


def with_special(order: np.ndarray, special: set[int]) -> np.ndarray:
    """The ids in `order` and all special tokens, ascending: a trimmed vocabulary.

    The new id of a piece is its place here.
    """
    return np.union1d(order, np.array(sorted(special), np.int64))


# --- 3. cut: the files that name ids --------------------------------------------------------------

LITERAL = "\0"  # put before a number that is kept as it was written


def parse_tokenizer(stored: bytes, where="tokenizer.json") -> dict:
    """A Unigram `tokenizer.json`, with LITERAL and the digits in place of fractional numbers.

    subtle: the tokenizers library reads some numbers one unit in the last place off, depending on
    the digits, and that decides between segmentations of equal score. So equal numbers are not
    enough: the digits have to stay.
    """
    with reading(where):
        spec = json.loads(stored, parse_float=lambda digits: LITERAL + digits)
        model = spec["model"]
        # Old files do not name the type.
        untyped = "BPE" if "merges" in model else "WordPiece"
        kind = model.get("type") or ("Unigram" if isinstance(model["vocab"], list) else untyped)
    if kind != "Unigram":
        only = "only Unigram (XLM-R, multilingual-e5) can be trimmed"
        advice = "use transtokenize.py to give the model a Dutch tokenizer"
        raise InputError(f"{where}: a {kind} tokenizer; {only}, {advice}")
    return spec


def dump_tokenizer(spec: dict) -> bytes:
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    return re.sub(r'"\\u0000(-?[0-9][0-9.eE+-]*)"', r"\1", text).encode()


def map_ids(
    spec: dict, config: dict, special_ids: dict[str, int], to: Callable[[int], int]
) -> tuple[dict, dict]:
    """tokenizer.json and config.json with `to(id)` in every place that names a piece by its id.

    special_ids: {role: id} of the tokenizer. Where config.json says otherwise the tokenizer is
    right: multilingual-e5-small's configuration says pad 0, its <pad> is 1.
    """
    # All but the vocabulary, which is large and names no ids.
    vocabulary = spec["model"]["vocab"]
    spec, config = copy.deepcopy(spec, {id(vocabulary): vocabulary}), dict(config)
    for token in spec["added_tokens"]:
        token["id"] = to(token["id"])
    spec["post_processor"] = _map_post_processor(spec["post_processor"], to)
    if spec["model"].get("unk_id") is not None:
        spec["model"]["unk_id"] = to(spec["model"]["unk_id"])
    if spec.get("padding"):
        spec["padding"]["pad_id"] = to(spec["padding"]["pad_id"])
    # pad_token_id, eos_token_id, decoder_start_token_id, …
    for key, stated in config.items():
        if key.endswith("_token_id") and isinstance(stated, int):
            config[key] = to(special_ids.get(key.removesuffix("_token_id"), stated))
    return spec, config


def _map_post_processor(part, to: Callable[[int], int]):
    """Ids are in {"ids": [0]} of a template, and in ["</s>", 2] of BERT's and RoBERTa's."""
    if isinstance(part, dict):
        return {
            key: [to(id) for id in value] if key == "ids" else _map_post_processor(value, to)
            for key, value in part.items()
        }
    if isinstance(part, list) and list(map(type, part)) == [str, int]:
        return [part[0], to(part[1])]
    return [_map_post_processor(item, to) for item in part] if isinstance(part, list) else part


def trim_files(
    spec: dict, config: dict, special_ids: dict[str, int], kept: np.ndarray
) -> tuple[dict, dict]:
    """tokenizer.json and config.json for the pieces `kept` (old ids, ascending)."""
    # Added tokens such as <mask> have ids behind the vocabulary's.
    new_ids = {old: new for new, old in enumerate(kept.tolist())}
    trimmed, values = map_ids(spec, config, special_ids, new_ids.__getitem__)
    vocabulary = spec["model"]["vocab"]
    trimmed["model"]["vocab"] = [vocabulary[id] for id in kept if id < len(vocabulary)]
    values["vocab_size"] = len(kept)
    old, new = config.get("pad_token_id"), values.get("pad_token_id")
    if config.get("model_type") != "bert" and old != new:
        moved = f"pad_token_id {old} would become {new}"
        reason = f"{config['model_type']} counts positions from it"
        expected = "expected a tokenizer with its special tokens first, as XLM-R has"
        raise InputError(f"config.json: {moved}, and {reason}; {expected}")
    return trimmed, values


# --- model folders --------------------------------------------------------------------------------

def parameters(tensors: dict[str, Tensor]) -> int:
    """Numbers that can be learned: position_ids and other tensors of integers hold none."""
    return sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())


class Model(NamedTuple):
    """A model folder, found sound."""

    folder: Path
    spec: dict  # tokenizer.json, see `parse_tokenizer`
    tokenizer: model_folder.Tokenizer
    pieces: list[str]
    special: set[int]  # ids that the files name
    config: model_folder.Config
    tensors: dict[str, Tensor]  # memory-mapped, under the checkpoint's names

    @property
    def sizes(self) -> dict[str, float]:
        size = len(self.tokenizer.json) + sum(tensor.nbytes for tensor in self.tensors.values())
        numbers = parameters(self.tensors)
        return {"pieces": len(self.pieces), "parameters": numbers, "megabytes": size / 1e6}


def read_model(folder: Path) -> Model:
    """Read a folder; its tokenizer and its configuration have to agree."""
    # First, a BPE or WordPiece tokenizer is refused by name.
    path, spec = folder / "tokenizer.json", {}
    if path.is_file():
        spec = parse_tokenizer(path.read_bytes(), path)
    tokenizer, config = model_folder.read_tokenizer(folder), model_folder.parse_config(folder)
    backend, size, special = tokenizer.backend, tokenizer.vocab_size, set()
    map_ids(spec, config.source, tokenizer.special_ids, lambda id: special.add(id) or id)

    # An added token whose id is not its place in the vocabulary is silently moved when loaded.
    stale = special - set(range(size))
    for token in spec["added_tokens"]:
        if backend.token_to_id(token["content"]) != token["id"]:
            stale.add(token["id"])
    if backend.get_vocab_size() != size:
        stale.add(size)
    if stale:
        pieces = f"{backend.get_vocab_size():,} pieces with ids from 0"
        other = f"but a file here names another id {min(stale):,}"
        advice = "another tool left stale ids, go back to the original model"
        raise InputError(f"{path}: {pieces}, {other}; {advice}")

    model_folder.check_pieces(folder, config, tokenizer)
    pieces = [backend.id_to_token(id) for id in range(size)]
    tensors = model_folder.map_tensors(folder)
    return Model(folder, spec, tokenizer, pieces, special, config, tensors)


def rank_candidates(
    model: Model, pieces: np.ndarray, vocab_size: int, min_frequency: int, keep_characters: bool
) -> np.ndarray:
    """`rank_pieces` with the pieces of the prefixes first, and single characters if wanted.

    pieces (2, V): row 0 decides; both rows say which characters were seen, since those of held-out
    texts must not become unknown either.
    """
    backend, first = model.tokenizer.backend, set()
    for prefix in dict(model.config.prompts).values():
        first.update(backend.encode(prefix, add_special_tokens=False).ids)
    if keep_characters:
        first |= single_characters(model.pieces, pieces.sum(0))
    first -= model.special
    if len(first) > vocab_size:
        room = f"has no room for the {len(first):,} pieces that must stay"
        advice = f"ask for more than {len(first):,}"
        if keep_characters:
            advice += ", or add --no-keep-characters"
        raise InputError(f"--vocab-size {vocab_size:,} {room}; {advice}")
    return rank_pieces(pieces[0], first, min_frequency)


def write_model(model: Model, out: Path, kept: np.ndarray) -> None:
    """The folder of the pieces `kept`: these rows of the tables, all other tensors as they are."""
    ids = model.tokenizer.special_ids
    spec, values = trim_files(model.spec, model.config.source, ids, kept)
    tokenizer = model_folder.Tokenizer(dump_tokenizer(spec), model.tokenizer.config)
    rows = functools.partial(model_folder.read_tensor, rows=kept)
    model_folder.write_other_pieces(model.folder, out, rows, model.config, tokenizer, values)


# --- 4. prove -------------------------------------------------------------------------------------


class ProofFailed(Exception):
    """The trimmed model is not what it should be. Raised inside new_folder: no folder is left."""


class Check(NamedTuple):
    """What the check texts show."""

    counts: np.ndarray  # (V,) their tokens in the original's pieces, start and end tokens left out
    numbers: dict[str, int]  # texts, kept (all pieces kept), words, tokens, tokens_after (trimmed)
    unknown: dict[str, int]  # characters that only the trimmed tokenizer does not know
    sample: list[str]  # some of the kept texts
    failures: list[str]


def check_texts(before: Model, after: Model, kept: np.ndarray, texts: Iterable[str]) -> Check:
    """Tokenise with both: a text whose pieces are all kept must give the same pieces."""
    models = before, after
    backends = [model.tokenizer.backend for model in models]
    unks = [model.spec["model"].get("unk_id") for model in models]
    new_ids = {old: new for new, old in enumerate(kept.tolist())}
    counts = np.zeros(len(before.pieces), np.int64)
    numbers, unknown, room, sample, failures = Counter(), Counter(), SAMPLE_TOKENS, [], []
    for chunk, (olds, news) in tokenise(texts, *backends):
        for text, old, new in zip(chunk, olds, news, strict=True):
            expected = [new_ids.get(id) for id in old]
            all_kept = None not in expected
            numbers.update(
                texts=1,
                kept=all_kept,
                words=len(text.split()),
                tokens=len(old) - 2,
                tokens_after=len(new) - 2,
            )
            # The proof, text by text; some of the texts are embedded later.
            if all_kept and expected != new:
                pieces = [" ".join(backend.encode(text).tokens)[:200] for backend in backends]
                change = "{!r} became {!r}".format(*pieces)
                failures.append(f"all pieces of a text are kept, but {change}")
            elif all_kept and (len(old) <= room or not sample):
                sample.append(text)
                room -= len(old)
            # Characters that only the trimmed tokenizer does not know.
            if unks[1] in new:
                places = [unknown_places(*pair, text) for pair in zip(backends, unks, strict=True)]
                unknown.update(text[place] for place in places[1] - places[0])
        counts += count_ids(olds, len(counts))
    counts[backends[0].encode("").ids] -= numbers["texts"]
    return Check(counts, dict(numbers), dict(unknown), sample, failures)


def unknown_places(backend: Tokenizer, unk_id: int | None, text: str) -> set[int]:
    """Places in `text` of the characters under <unk>.

    Neighbours share one <unk>, so counting tokens would not do.
    """
    encoding, places = backend.encode(text), set()
    for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if id == unk_id:
            places.update(range(start, end))
    return places


def check_vocabulary(before: Model, after: Model, kept: np.ndarray, advice: str) -> list[str]:
    """What is wrong with the trimmed vocabulary: ids, pieces, rows, the digits of the scores."""
    # Ids, rows and pieces in their order; scores with their digits.
    old, new = (model.spec["model"]["vocab"] for model in (before, after))
    failures = []
    if after.pieces != [before.pieces[id] for id in kept] or after.config.vocab_size != len(kept):
        rows = f"ids 0 to {len(kept) - 1:,} and the rows of the embedding table"
        failures.append(f"{rows} are not the kept pieces in their order")
    kept = kept[kept < len(old)]
    if new != [old[id] for id in kept]:
        failures.append("pieces or scores in tokenizer.json changed")

    # <unk> scores 10 below the lowest piece. Should it rise above a dropped character, it could win
    # where that character had lost.
    def score(row) -> float:
        return float(str(row[1]).removeprefix(LITERAL))

    stays = set(kept.tolist())
    dropped = [row for id, row in enumerate(old) if len(row[0]) == 1 and id not in stays]
    worst = min(dropped, key=score, default=None)
    if worst and score(worst) < min(map(score, new)) - 10:
        character = f"the dropped character {worst[0]!r}"
        failures.append(f"<unk> would score higher than {character}; {advice}")
    return failures


def check_weights(folder: Path, out: Path, kept: np.ndarray) -> list[str]:
    """Tensors that are not, byte for byte, what they were, or the kept rows of it."""
    olds, news = (model_folder.weight_files(path) for path in (folder, out))
    names = {model_folder.modern(name): name for name in olds}
    single = sorted(names.keys() ^ news.keys())
    failures = [f"tensor {name} is in one checkpoint only" for name in single]
    for name in sorted(names.keys() & news.keys()):
        old, new = (olds[names[name]], names[name]), (news[name], name)
        before, after = model_folder.read_tensor(*old), model_folder.read_tensor(*new)
        rows = kept if model_folder.BY_PIECE.search(name) else np.arange(len(before))
        same = after.dtype == before.dtype and after.shape == (len(rows), *before.shape[1:])
        # As bytes, since NaN does not equal itself.
        for start, block in model_folder.read_blocks(*old, rows) if same else ():
            written = model_folder.read_rows(*new, start, start + len(block))
            same &= torch.equal(written.view(torch.uint8), block.view(torch.uint8))
        if not same:
            failures.append(f"tensor {name} changed")
    return failures


def prove(
    before: Model,
    after: Model,
    kept: np.ndarray,
    texts: Iterable[str],
    keep_characters: bool,
    advice: str,
) -> Check:
    """All of the proof, on two folders as they are on disk.

    advice: what gives more pieces, where too few are kept.
    Returns what the texts show; raises ProofFailed.
    """
    check = check_texts(before, after, kept, texts)
    failures = check.failures[:5]
    failures += check_vocabulary(before, after, kept, advice)
    failures += check_weights(before.folder, after.folder, kept)
    if not check.numbers["kept"]:
        texts_checked = f"none of the {check.numbers['texts']:,} check texts keeps all its pieces"
        failures.append(f"{texts_checked}: nothing was compared; {advice}")
    if keep_characters and check.unknown:
        counts = list(check.unknown.items())[:10]
        shown = ", ".join(f"{character!r} {count}" for character, count in counts)
        advice = "add text with them to --corpus, or allow it with --no-keep-characters"
        failures.append(f"characters became unknown: {shown}; {advice}")

    # As a user loads them, one at a time: two encoders would take twice the memory.
    def embedded(model: Model) -> bytes:
        encoder, tokenizer = e5nl.load(model.folder, tokenizer=model.tokenizer)
        return e5nl.embed(encoder, tokenizer, check.sample, "query").tobytes()

    if not failures and embedded(before) != embedded(after):
        failures.append(f"the embeddings of {len(check.sample)} texts with the same pieces differ")
    if failures:
        raise ProofFailed("\n".join(failures))
    return check


# --- the report -----------------------------------------------------------------------------------


def make_report(before: Model, after: Model, proof: Check, order: np.ndarray, size: int) -> dict:
    """What the check texts show. order: the ranked pieces, of which the first `size` are kept."""

    def share_kept(cut: int) -> float:
        counts = proof.counts[with_special(order[:cut], before.special)]
        return float(counts.sum() / max(1, proof.numbers["tokens"]))

    words = max(1, proof.numbers["words"])
    dropped = proof.counts.copy()
    dropped[with_special(order[:size], before.special)] = 0
    most = np.argsort(-dropped, kind="stable")[:100]
    cuts = [*(cut for cut in CUTS if cut < len(order)), len(order)]
    check = {"share_tokens_kept": share_kept(size), "unknown": proof.unknown}
    return {
        "before": before.sizes | {"pieces_per_word": proof.numbers["tokens"] / words},
        "after": after.sizes | {"pieces_per_word": proof.numbers["tokens_after"] / words},
        "candidates": len(order),
        "check": proof.numbers | check | {"embedded": len(proof.sample)},
        "coverage": {cut: share_kept(cut) for cut in cuts},
        "dropped": [(before.pieces[id], int(dropped[id])) for id in most if dropped[id]],
    }


def describe(report: dict) -> str:
    before, after, corpus, check = (
        report[part] for part in ("before", "after", "corpus", "check")
    )
    counted = f"counted {corpus['texts']:,} texts, {corpus['tokens']:,} tokens"
    checked = f"checked on {check['texts']:,} other texts, {check['tokens']:,} tokens"
    # The sizes before and after.
    lines = [f"{counted}; {checked}", "", f"{'':<34}{'before':>14}{'after':>14}"]
    for name in before:
        digits = {"megabytes": 1, "pieces_per_word": 3}.get(name, 0)
        sizes = f"{before[name]:>14,.{digits}f}{after[name]:>14,.{digits}f}"
        lines.append(f"{name.replace('_', ' '):<34}{sizes}")
    # What the check texts show.
    embedded = f"{check['embedded']} embedded with both models: identical bits"
    proof = f"all give the same pieces; {embedded}"
    cuts = [f"{int(cut):,}: {share:.2%}" for cut, share in report["coverage"].items()]
    dropped = [f"{piece} {count}" for piece, count in report["dropped"][:12]]
    unknown = f"{sum(check['unknown'].values()):>14,}   {' '.join(check['unknown'])[:40]}"
    lines += [
        "",
        f"{'texts whose pieces are all kept':<34}{check['kept'] / check['texts']:>14.2%}   {proof}",
        f"{'tokens whose piece is kept':<34}{check['share_tokens_kept']:>14.2%}",
        f"{'characters newly unknown':<34}{unknown.rstrip()}",
        f"{'tokens kept by vocabulary size':<34}{'   '.join(cuts)}",
        f"{'most frequent pieces dropped':<34}{', '.join(dropped) or 'none'}",
    ]
    # What a reader should know besides.
    if report["candidates"] < report["settings"]["vocab_size"]:
        advice = "more text or a lower --min-frequency gives more"
        lines.append(f"only {report['candidates']:,} pieces qualify; {advice}")
    if check["share_tokens_kept"] < LOW_SHARE:
        reason = "there is little text, it is in another language, or --vocab-size is small"
        lines.append(f"warning: few tokens are kept (usual: over {LOW_SHARE:.0%}); {reason}")
    return "\n".join(lines)


# --- command line ---------------------------------------------------------------------------------


def trim(folder: Path, out: Path, args) -> dict:
    """Trim the model in `folder` into the empty folder `out`, and prove it. Returns the report."""
    model, size = read_model(folder), args.vocab_size
    if size > len(model.pieces):
        pieces = f"the tokenizer has {len(model.pieces):,} pieces"
        raise InputError(f"--vocab-size {size:,}: {pieces}; expected no more")
    for name in [*args.corpus, *(args.check or ())]:  # before the work, not after it
        if next(read_corpus([name], args.field), None) is None:
            expected = f"expected one per line, or a table with a field {args.field!r}"
            raise InputError(f"{name}: no texts; {expected}")

    # 1. Count, with a tenth of the texts held out unless others are given.
    texts = read_corpus(args.corpus, args.field)
    texts = tqdm(texts, unit=" texts", unit_scale=True, disable=None)
    aside = held_out if not args.check else lambda text: False
    pieces, number = count_pieces(model.tokenizer.backend, texts, aside)
    if not args.check and not number.all():
        few = f"{number.sum()} texts are too few to hold out a tenth"
        raise InputError(f"{', '.join(args.corpus)}: {few}; give other text with --check")

    # 2. Rank.
    order = rank_candidates(model, pieces, size, args.min_frequency, args.keep_characters)
    kept = with_special(order[:size], model.special)

    # 3. Cut.
    write_model(model, out, kept)

    # 4. Prove, on the folder as it was written.
    after = read_model(out)
    others = read_corpus(args.check or args.corpus, args.field)
    if not args.check:
        others = filter(held_out, others)
    advice = f"raise --vocab-size, at most to {len(order):,}"
    if len(order) <= size:  # all that qualify are kept
        advice = "give more text" + (", or --min-frequency 1" if args.min_frequency > 1 else "")
    proof = prove(model, after, kept, others, args.keep_characters, advice)

    names = ("corpus", "check", "field", "vocab_size", "min_frequency", "keep_characters")
    tokens = int(pieces[0].sum() - 2 * number[0])
    return {
        "model": args.model,
        "settings": {name: getattr(args, name) for name in names},
        "corpus": {"texts": int(number[0]), "tokens": tokens},
    } | make_report(model, after, proof, order, size)


def refuse_inputs_in(out, *names) -> None:
    """Stop before the folder that is written, and may be replaced, holds what is read."""
    for name in names:
        if Path(name).resolve().is_relative_to(Path(out).resolve()):
            raise InputError(f"--out {out} holds {name}, which is read; choose another folder")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description="Trim a Unigram vocabulary to one language; prove that nothing else changed."
    )
    add = parser.add_argument
    add("--model", required=True, help="model folder or hub name")
    add("--corpus", nargs="+", metavar="NAME[:N]",
        help="text to keep pieces for: one text per line, a table, a training source, or files of "
             f"a hub data set, as {PAPER_CORPUS} (the paper's); N: its first N texts")
    add("--out", required=True, help="the trimmed model's folder")
    add("--overwrite", action="store_true", help="replace --out")
    add("--vocab-size", type=whole_number(1), default=50_000,
        help="pieces kept besides the special tokens (the paper's 50,000)")
    add("--min-frequency", type=whole_number(1), default=2,
        help="occurrences that a piece needs (the paper's 2)")
    add("--keep-characters", action=argparse.BooleanOptionalAction, default=True,
        help="Latin letters, digits, punctuation and the text's characters before rarer pieces "
             "(not in the paper's tool)")
    add("--field", default="text", help="field or column of a table that holds the text")
    add("--check", nargs="+", metavar="NAME[:N]",
        help="prove it on this text (default: a tenth of the text, held out)")
    args = parser.parse_args(argv)  # fmt: skip
    if not args.corpus:
        papers = f"The paper's is --corpus '{PAPER_CORPUS}', downloaded when it is named"
        raise InputError(f"--corpus is missing: which text? {papers}")
    folder = model_folder.find(args.model)
    refuse_inputs_in(args.out, folder, *args.corpus, *(args.check or ()))
    card.check(folder, args.out)
    try:
        with new_folder(args.out, args.overwrite) as out:
            report = trim(folder, out, args)
            write_json(out / "trim_report.json", report)
            card.write(out, folder, args.out)
    except ProofFailed as failure:
        print(f"the proof failed, nothing was written to {args.out}:\n{failure}", file=sys.stderr)
        return 1
    print(model_folder.describe_prefixes(model_folder.parse_config(args.out)))
    print(describe(report))
    print(f"{args.out}: written and proved; more numbers in trim_report.json")
    return 0


if __name__ == "__main__":
    cli(main)
