"""Vocabulary trimming with a proof: multilingual-e5's 250,002 pieces to 50,002 (arXiv 2509.12340: model initialisation, `e5-*-trm`).

In: a model folder (or hub name) with a Unigram tokenizer, and a corpus in the language to keep. Out: the same kind of folder with
fewer pieces, and `trim_report.json`. Nothing else changes and nothing is trained:

1. count the corpus' pieces; 2. rank them; 3. cut the others out of `tokenizer.json`, give every file that names an id the new one,
gather the rows of the embedding table, copy all other tensors; 4. prove it on text that was not counted.

The proof rests on a property of Unigram: the best segmentation of a text stays the best when other pieces disappear. So a text whose
pieces are all kept must give the same pieces, and the same embedding bit for bit. A failed proof leaves no folder, and exit status 1.

    python trim_vocab.py --model runs/base --corpus demo/corpus/* demo/train/* --out runs/base-trm
    python trim_vocab.py --model intfloat/multilingual-e5-base --corpus c4-nl-validation.json.gz --out runs/e5-base-trm

Departures from the paper's tool (vocabtrimmer): a tenth of the corpus is held out for the proof (not with `--check`), single
characters and the pieces of the prefixes come before rarer pieces (`--no-keep-characters`: prefixes only).
Left out on purpose: BPE and WordPiece. A BPE merge needs the pieces it is made of and WordPiece is greedy, so neither has the property
above; `transtokenize.py` gives such a model a Dutch tokenizer instead.

Letters for dimensions: V pieces of the original tokenizer, N texts, D width.
"""

import argparse
import importlib.util
import itertools
import json
import math
import re
import shutil
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

import e5nl
import model_folder
from data import PREFIXES, InputError, cli, new_file, new_folder, parse_row, read_json, read_jsonl, read_texts, whole, write_json

CUTS = (5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 75_000, 100_000)  # vocabulary sizes whose coverage is reported
LOW_SHARE = 0.95  # warned below; Dutch trimmed on other Dutch keeps 98 % and more of the tokens
CHUNK_CHARACTERS = 200_000  # tokenised at once: keeps all cores busy, takes some tens of MB
BLOCK_BYTES = 1 << 24  # of a tensor in memory at once
SAMPLE_TOKENS = 512  # tokens of the texts that are embedded with both models

# --- 1. count ---------------------------------------------------------------------------------------------------------------


def read_corpus(names: Iterable[str], field: str = "text") -> Iterator[str]:
    """The texts of corpus files: those of data.read_texts, and training sources. `FILE:N`: the first N texts of FILE at most."""
    for name in map(str, names):
        path, _, cap = name.rpartition(":")
        capped = path and cap.isdigit() and not Path(name).exists()
        yield from itertools.islice(_read_file(path if capped else name, field), int(cap) if capped else None)


def _read_file(path: str, field: str) -> Iterator[str]:
    if path.endswith((".jsonl", ".jsonl.gz")) and next(read_jsonl(path))[1].keys() >= {"query", "pos"}:
        for number, row in read_jsonl(path):
            query, positives, negatives = parse_row(row, f"{path}:{number}")
            yield from (query, *positives, *negatives)
    else:
        yield from read_texts(path, field)


def held_out(text: str) -> bool:
    """A tenth of all texts, the same ones every time. A text that occurs twice is on one side."""
    return zlib.crc32(text.encode()) % 10 == 0


def cut_chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk, size = [], 0
    for text in texts:
        chunk.append(text)
        size += len(text) + 64  # an empty text takes memory too
        if size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def count_ids(ids: Iterable[list[int]], size: int) -> np.ndarray:
    """(size,) int64: how often each id occurs in lists of ids."""
    return np.bincount(np.fromiter(itertools.chain.from_iterable(ids), np.int64), minlength=size)


def count_pieces(backend: Tokenizer, texts: Iterable[str], aside: Callable[[str], bool]) -> tuple[np.ndarray, np.ndarray]:
    """How often each piece occurs, special tokens included: (2, V) int64, and (2,) texts. Row 1 is for the texts that `aside` picks.

    Tokenises on all cores (the environment's TOKENIZERS_PARALLELISM=false: on one). Memory does not grow with the corpus.
    """
    size = backend.get_vocab_size()
    pieces, number = np.zeros((2, size), np.int64), np.zeros(2, np.int64)
    for chunk in cut_chunks(texts):
        sides: tuple[list, list] = [], []
        for text, encoding in zip(chunk, backend.encode_batch_fast(chunk), strict=True):
            sides[aside(text)].append(encoding.ids)
        pieces += [count_ids(ids, size) for ids in sides]
        number += [len(ids) for ids in sides]
    return pieces, number


# --- 2. rank ----------------------------------------------------------------------------------------------------------------


def is_basic(character: str) -> bool:
    """Latin letters and the accents that combine with them, digits, punctuation, signs of currency and mathematics, all of Latin-1."""
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    letter = name.startswith("LATIN ") or (kind == "Mn" and name.startswith("COMBINING "))
    return letter or kind[0] == "P" or kind in ("Sc", "Sm") or (ord(character) < 256 and character.isprintable())


def single_characters(pieces: list[str], seen: np.ndarray) -> set[int]:
    """Ids of the pieces of one character that is basic, or occurs in a piece that was seen (V,).

    There is no byte fallback: a character without a piece of its own is <unk> wherever no longer piece covers it.
    """
    characters = set().union(*(pieces[id] for id in np.flatnonzero(seen)))
    return {id for id, piece in enumerate(pieces) if len(piece) == 1 and (piece in characters or is_basic(piece))}


def rank_pieces(counts: np.ndarray, first: set[int], min_frequency: int) -> np.ndarray:
    """Ids in the order in which they are kept: those in `first`, whatever their counts (V,), then those counted `min_frequency` times.

    Both with the most frequent first, and equal counts by id.

    >>> rank_pieces(np.array([5, 2, 1, 2, 0]), first={4}, min_frequency=2).tolist()
    [4, 0, 1, 3]
    """
    favoured = np.zeros(len(counts), bool)
    favoured[sorted(first)] = True
    ids = np.flatnonzero(favoured | (counts >= min_frequency))
    return ids[np.lexsort((ids, -counts[ids], ~favoured[ids]))]


def with_special(order: np.ndarray, special: set[int]) -> np.ndarray:
    """The ids in `order` and all special tokens, ascending: a trimmed vocabulary. The new id of a piece is its place here."""
    return np.union1d(order, np.array(sorted(special), np.int64))


# --- 3. cut: the files that name ids ----------------------------------------------------------------------------------------

LITERAL = "\0"  # stands before a number that is kept as it was written
XLMR_TOKENS = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>", "mask": "<mask>"}


def parse_tokenizer(stored: bytes, where="tokenizer.json") -> dict:
    """A `tokenizer.json` in which fractional numbers are strings, LITERAL and their digits. Refuses what is no sound Unigram tokenizer.

    subtle: the tokenizers library reads some numbers one unit in the last place off, depending on the digits, and that decides
    between segmentations of equal score. So equal numbers are not enough: the digits have to stay.
    """
    try:
        spec = json.loads(stored, parse_float=lambda digits: LITERAL + digits)
        model = spec["model"]
        vocabulary = model["vocab"]
        kind = model.get("type") or ("Unigram" if isinstance(vocabulary, list) else "BPE" if "merges" in model else "WordPiece")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: not a tokenizer.json ({type(error).__name__}: {error})") from None
    if kind != "Unigram":
        advice = "use transtokenize.py to give the model a Dutch tokenizer"
        raise InputError(f"{where}: a {kind} tokenizer; only Unigram (XLM-R, multilingual-e5) can be trimmed, {advice}")
    for token in spec.get("added_tokens") or []:
        id, content = token["id"], token["content"]
        if id < len(vocabulary) and vocabulary[id][0] != content:
            found = f"added token {content!r} has id {id}, where the vocabulary has {vocabulary[id][0]!r}"
            raise InputError(f"{where}: {found}; another tool left stale ids here, go back to the original model")
    return spec


def dump_tokenizer(spec: dict) -> bytes:
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
    return re.sub(r'"\\u0000(-?[0-9][0-9.eE+-]*)"', r"\1", text).encode()


def read_files(folder: Path) -> dict[str, dict]:
    """{name: content} of the JSON files that name pieces or their ids."""
    path = folder / "tokenizer.json"
    files = {path.name: parse_tokenizer(path.read_bytes(), path)} if path.is_file() else {}
    names = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json", "config.json")
    return files | {name: read_json(folder / name) for name in names if (folder / name).is_file()}


def map_ids(files: dict[str, dict], to: Callable[[int], int]) -> dict[str, dict]:
    """The same files with `to(id)` in every place that names a piece by its id."""
    files, spec = dict(files), dict(files["tokenizer.json"])
    files["tokenizer.json"] = spec
    added = {token["content"]: token["id"] for token in spec.get("added_tokens") or []}
    spec["added_tokens"] = [token | {"id": to(token["id"])} for token in spec.get("added_tokens") or []]
    spec["post_processor"] = _map_post_processor(spec.get("post_processor"), to)
    if spec["model"].get("unk_id") is not None:
        spec["model"] = spec["model"] | {"unk_id": to(spec["model"]["unk_id"])}
    if spec.get("padding"):
        spec["padding"] = spec["padding"] | {"pad_id": to(spec["padding"]["pad_id"])}

    settings = files.get("tokenizer_config.json", {})
    if "added_tokens_decoder" in settings:
        decoder = {str(to(int(id))): token for id, token in settings["added_tokens_decoder"].items()}
        files["tokenizer_config.json"] = settings | {"added_tokens_decoder": decoder}
    if "added_tokens.json" in files:
        files["added_tokens.json"] = {token: to(id) for token, id in files["added_tokens.json"].items()}
    if "config.json" in files:
        files["config.json"] = config = dict(files["config.json"])
        for key, id in files["config.json"].items():
            if key.endswith("_token_id") and isinstance(id, int):
                # Where the two differ the tokenizer is right: multilingual-e5-small's configuration says pad 0, its <pad> is 1.
                token = settings.get(key.removesuffix("_id"))
                config[key] = to(added.get(token["content"] if isinstance(token, dict) else token, id))
    return files


def _map_post_processor(processor: dict | None, to: Callable[[int], int]) -> dict | None:
    kind = processor and processor.get("type")
    if kind == "TemplateProcessing":
        tokens = processor["special_tokens"].items()
        return processor | {"special_tokens": {name: token | {"ids": [to(id) for id in token["ids"]]} for name, token in tokens}}
    if kind in ("RobertaProcessing", "BertProcessing"):
        return processor | {side: [processor[side][0], to(processor[side][1])] for side in ("sep", "cls")}
    if kind == "Sequence":
        return processor | {"processors": [_map_post_processor(part, to) for part in processor["processors"]]}
    if kind in (None, "ByteLevel"):
        return processor
    raise InputError(f"tokenizer.json: post-processor {kind} is unknown; expected TemplateProcessing, RobertaProcessing or BertProcessing")


def trim_files(files: dict[str, dict], kept: np.ndarray) -> dict[str, dict]:
    """The same files for the pieces `kept` (old ids, ascending)."""
    trimmed = map_ids(files, {int(old): new for new, old in enumerate(kept)}.__getitem__)
    spec = trimmed["tokenizer.json"]
    vocabulary = spec["model"]["vocab"]
    spec["model"] = spec["model"] | {"vocab": [vocabulary[id] for id in kept if id < len(vocabulary)]}
    if "config.json" in files:
        trimmed["config.json"]["vocab_size"] = len(kept)
        kind, *pad = files["config.json"]["model_type"], *(some["config.json"].get("pad_token_id") for some in (files, trimmed))
        if kind != "bert" and pad[0] != pad[1]:
            found = f"pad_token_id {pad[0]} would become {pad[1]}, and {kind} counts positions from it"
            raise InputError(f"config.json: {found}; expected a tokenizer with its special tokens first, as XLM-R has")
    # PreTrainedTokenizerFast reads tokenizer.json, XLMRobertaTokenizer would look for the sentencepiece model with all its pieces.
    # It does not know by itself which special token is which, so they are named.
    contents = {token["content"] for token in spec["added_tokens"]}
    names = {f"{name}_token": token for name, token in XLMR_TOKENS.items() if token in contents}
    settings = names | files.get("special_tokens_map.json", {}) | trimmed.get("tokenizer_config.json", {})
    trimmed["tokenizer_config.json"] = settings | {"tokenizer_class": "PreTrainedTokenizerFast"}
    return trimmed


# --- 3. cut: weights --------------------------------------------------------------------------------------------------------

TABLE = re.compile(r"(^|\.)embeddings\.word_embeddings\.weight$")
# Tensors with a row a piece: the embedding table, and a masked language model's head where the checkpoint still has it.
BY_PIECE = re.compile(TABLE.pattern + r"|^lm_head\.(bias|decoder\.(weight|bias))$|^cls\.predictions\.(bias|decoder\.(weight|bias))$")


class Stored(NamedTuple):
    """A tensor as it lies in a safetensors file. Bytes are copied, whatever the dtype, and a block at a time is in memory."""

    file: Path
    start: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]


def stored_tensors(folder) -> dict[str, Stored]:
    """{name: tensor} of a checkpoint in one file or several."""
    tensors = {}
    for file in sorted(set(model_folder.weight_files(folder).values())):
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            tensors[name] = Stored(file, 8 + length + start, end - start, entry["dtype"], tuple(entry["shape"]))
    return tensors


def resize(tensors: dict[str, Stored], pieces: int) -> dict[str, Stored]:
    """The same tensors, with `pieces` rows where a row is a piece."""
    resized = dict(tensors)
    for name, tensor in tensors.items():
        if BY_PIECE.search(name):
            rows, *rest = tensor.shape
            resized[name] = tensor._replace(nbytes=tensor.nbytes // rows * pieces, shape=(pieces, *rest))
    return resized


def parameters(tensors: dict[str, Stored]) -> int:
    """Numbers that can be learned: position_ids and other tensors of integers hold none."""
    return sum(math.prod(tensor.shape) for tensor in tensors.values() if tensor.dtype.startswith(("F", "BF")))


def read_blocks(tensor: Stored, rows: np.ndarray | None = None) -> Iterator[bytes]:
    """The bytes of a tensor, or of its rows `rows` (ascending), block by block."""
    width = 1 if rows is None else tensor.nbytes // tensor.shape[0]
    step = max(1, BLOCK_BYTES // width)
    with open(tensor.file, "rb") as file:
        file.seek(tensor.start)
        for first in range(0, tensor.nbytes // width, step):
            block = file.read(min(step * width, tensor.nbytes - first * width))
            if rows is not None:
                wanted = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + step)] - first
                block = np.frombuffer(block, np.uint8).reshape(-1, width)[wanted].tobytes()
            yield block


def write_weights(path: Path, tensors: dict[str, Stored], kept: np.ndarray) -> None:
    """One safetensors file: the rows `kept` where a row is a piece, every other tensor as it is."""
    after, end = resize(tensors, len(kept)), 0
    header: dict = {"__metadata__": {"format": "pt"}}
    # Widest numbers first, as safetensors orders them: so each tensor starts at a multiple of its numbers' width.
    order = sorted(after, key=lambda name: (-after[name].nbytes // max(1, math.prod(after[name].shape)), name))
    for name in order:
        header[name] = {"dtype": after[name].dtype, "shape": after[name].shape, "data_offsets": [end, end := end + after[name].nbytes]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            file.writelines(read_blocks(tensors[name], kept if BY_PIECE.search(name) else None))


# --- model folders ----------------------------------------------------------------------------------------------------------


class Model(NamedTuple):
    """A model folder, found sound. tensors is empty where the folder holds a tokenizer alone."""

    files: dict[str, dict]  # the JSON files that name ids
    backend: Tokenizer
    pieces: list[str]
    special: set[int]  # ids that the files name
    frame: list[int]  # start and end token of every text
    prompts: list[str]
    tensors: dict[str, Stored]
    rows: int  # of the embedding table

    @property
    def sizes(self) -> dict[str, float]:
        nbytes = len(dump_tokenizer(self.files["tokenizer.json"])) + sum(tensor.nbytes for tensor in self.tensors.values())
        weights = {"parameters": parameters(self.tensors)} if self.tensors else {}
        return {"pieces": len(self.pieces)} | weights | {"megabytes": nbytes / 1e6}


def read_model(folder: Path) -> Model:
    """Read a folder; its tokenizer, its configuration and its embedding table have to agree."""
    files = read_files(folder)  # first: a BPE or WordPiece tokenizer is refused by name
    tokenizer = e5nl.read_tokenizer(folder)
    backend, size, special = tokenizer.backend, tokenizer.vocab_size, set()
    map_ids(files, lambda id: special.add(id) or id)
    if backend.get_vocab_size() != size or not special <= set(range(size)):
        found = f"{backend.get_vocab_size():,} pieces, but ids up to {max({size - 1} | special):,} (in all files)"
        raise InputError(f"{folder / 'tokenizer.json'}: {found}; another tool left stale ids here, go back to the original model")
    pieces, frame = [backend.id_to_token(id) for id in range(size)], backend.encode("").ids
    if "config.json" not in files and not any(folder.glob("*.safetensors")):
        return Model(files, backend, pieces, special, frame, list(PREFIXES.values()), {}, size)
    config, tensors = e5nl.parse_config(folder), stored_tensors(folder)
    rows = {name: tensor.shape[0] for name, tensor in tensors.items() if BY_PIECE.search(name)}
    if not any(map(TABLE.search, rows)):
        raise InputError(f"{folder}: no tensor embeddings.word_embeddings.weight; the weights do not belong to the configuration")
    for name, number in rows.items():
        if number != config.vocab_size or not 0 <= number - size <= e5nl.SPARE_ROWS:
            found = f"tensor {name} has {number:,} rows, config.json vocab_size {config.vocab_size:,}, tokenizer.json {size:,} pieces"
            raise InputError(f"{folder}: {found}; they do not belong together")
    return Model(files, backend, pieces, special, frame, [prefix for _, prefix in config.prompts], tensors, config.vocab_size)


def rank_candidates(model: Model, counts: np.ndarray, vocab_size: int, min_frequency: int, keep_characters: bool) -> np.ndarray:
    """rank_pieces with the pieces of the prefixes first, which stand before every text, and single characters if wanted.

    counts (2, V): the counted and the held-out texts. The latter count for single characters only: they must not become unknown.
    """
    if not 0 < vocab_size <= len(model.pieces):
        raise InputError(f"--vocab-size {vocab_size:,}: the tokenizer has {len(model.pieces):,} pieces; expected 1 to that")
    first = {id for prefix in model.prompts for id in model.backend.encode(prefix, add_special_tokens=False).ids}
    first |= {id for id, piece in enumerate(model.pieces) if re.fullmatch("<0x[0-9A-F]{2}>", piece)}  # byte fallback, where there is
    if keep_characters:
        first |= single_characters(model.pieces, counts.sum(0))
    first -= model.special
    if len(first) > vocab_size:
        advice = f"ask for more than {len(first):,}" + (", or add --no-keep-characters" if keep_characters else "")
        raise InputError(f"--vocab-size {vocab_size:,} has no room for the {len(first):,} pieces that must stay; {advice}")
    return rank_pieces(counts[0], first, min_frequency)


def write_model(model: Model, folder: Path, out: Path, kept: np.ndarray) -> None:
    for name, content in trim_files(model.files, kept).items():
        if name == "tokenizer.json":
            (out / name).write_bytes(dump_tokenizer(content))
        else:
            write_json(out / name, content)
    if model.tensors:
        write_weights(out / "model.safetensors", model.tensors, kept)
    copy_settings(folder, out)


def copy_settings(folder: Path, out: Path) -> None:
    """Copy the sentence-transformers files (modules, pooling, prompts, longest input): they know no ids.

    Nothing else is carried along: sentencepiece.bpe.model, ONNX and other exports would keep the old vocabulary.
    """
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    for file in folder.glob("[0-9]_*/config.json"):
        (out / file.parent.name).mkdir()
        shutil.copyfile(file, out / file.parent.name / file.name)


# --- 4. prove ---------------------------------------------------------------------------------------------------------------


class ProofFailed(Exception):
    """The trimmed model is not what it should be. Raised inside new_folder, so that no folder is left."""


class Check(NamedTuple):
    """What the check texts show."""

    counts: np.ndarray  # (V,) their tokens in the original's pieces, start and end tokens left out
    texts: int
    words: int
    tokens_after: int
    kept_texts: int  # texts whose pieces are all kept
    sample: list[str]  # some of them
    unknown: dict[str, int]  # characters that only the trimmed tokenizer does not know
    failures: list[str]


def check_texts(before: Model, after: Model, kept: np.ndarray, texts: Iterable[str]) -> Check:
    """Tokenise with both: a text whose pieces are all kept must give the same pieces."""
    new_id = np.full(len(before.pieces), -1)
    new_id[kept] = np.arange(len(kept))
    new_id, counts = new_id.tolist(), np.zeros(len(before.pieces), np.int64)
    old_unk, new_unk = (model.files["tokenizer.json"]["model"].get("unk_id") for model in (before, after))
    number = words = tokens_after = kept_texts = 0
    room, sample, unknown, failures = SAMPLE_TOKENS, [], {}, []
    for chunk in cut_chunks(texts):
        olds, news = ([encoding.ids for encoding in model.backend.encode_batch_fast(chunk)] for model in (before, after))
        for text, old, new in zip(chunk, olds, news, strict=True):
            words += len(text.split())
            tokens_after += len(new) - len(after.frame)
            expected = [new_id[id] for id in old]
            if -1 not in expected:
                kept_texts += 1
                if expected != new:
                    pieces = [" ".join(model.backend.encode(text).tokens)[:200] for model in (before, after)]
                    failures.append("all pieces of a text are kept, but {!r} became {!r}".format(*pieces))
                elif len(old) <= room or not sample:
                    sample.append(text)
                    room -= len(old)
            if new_unk is not None and new_unk in new:
                for place in unknown_places(after.backend, text, new_unk) - unknown_places(before.backend, text, old_unk):
                    unknown[text[place]] = unknown.get(text[place], 0) + 1
        counts += count_ids(olds, len(counts))
        number += len(chunk)
    counts[before.frame] -= number
    return Check(counts, number, words, tokens_after, kept_texts, sample, unknown, failures)


def unknown_places(backend: Tokenizer, text: str, unk_id: int) -> set[int]:
    """Places in `text` of the characters under <unk>. Neighbours share one <unk>, so counting tokens would not do."""
    encoding = backend.encode(text)
    return {place for id, span in zip(encoding.ids, encoding.offsets, strict=True) if id == unk_id for place in range(*span)}


def check_vocabulary(before: Model, after: Model, kept: np.ndarray) -> list[str]:
    """What is wrong with the trimmed vocabulary: ids, pieces, rows, the digits of the scores."""
    old, new = (model.files["tokenizer.json"]["model"]["vocab"] for model in (before, after))
    failures = []
    if after.pieces != [before.pieces[id] for id in kept] or after.rows != len(kept):
        failures.append(f"ids 0 to {len(kept) - 1:,} and the rows of the embedding table are not the kept pieces in their order")
    kept = kept[kept < len(old)]
    if new != [old[id] for id in kept]:
        failures.append("pieces or scores in tokenizer.json changed")
    # <unk> scores 10 below the lowest piece. Should it rise above a dropped character, it could win where that lost.
    score = np.array([float(str(score).removeprefix(LITERAL)) for _, score in old])
    characters = [id for id in np.setdiff1d(np.arange(len(old)), kept) if len(old[id][0]) == 1]
    if characters and score[kept].min() - 10 > score[characters].min():
        failures.append(f"<unk> would score higher than the dropped character {old[characters[0]][0]!r}; keep more pieces")
    return failures


def check_weights(before: dict[str, Stored], after: dict[str, Stored], kept: np.ndarray) -> list[str]:
    """Tensors that are not, byte for byte, what they were, or the kept rows of it."""
    failures = [f"tensor {name} is in one checkpoint only" for name in sorted(before.keys() ^ after.keys())]
    expected = resize(before, len(kept))
    for name in sorted(before.keys() & after.keys()):
        with open(after[name].file, "rb") as file:
            file.seek(after[name].start)
            same = all(file.read(len(block)) == block for block in read_blocks(before[name], kept if BY_PIECE.search(name) else None))
        if not same or after[name][2:] != expected[name][2:]:
            failures.append(f"tensor {name} changed")
    return failures


def embed_sample(folder: Path, texts: list[str]) -> bytes:
    """Embeddings (N, D) float32, as bytes, by the model as a user loads it. One at a time: two would take twice the memory."""
    return e5nl.embed(*e5nl.load(folder), texts, "query").tobytes()


def compare(before: Model, after: Model, kept: np.ndarray, texts: Iterable[str], keep_characters: bool) -> tuple[Check, list[str]]:
    """All of the proof but the embeddings: (what the texts show, what failed)."""
    check = check_texts(before, after, kept, texts)
    failures = check.failures[:5] + check_vocabulary(before, after, kept) + check_weights(before.tensors, after.tensors, kept)
    if not check.kept_texts:
        failures.append(f"none of the {check.texts:,} check texts keeps all its pieces, so nothing was compared; keep more pieces")
    if keep_characters and check.unknown:
        shown = ", ".join(f"{character!r} {count}" for character, count in list(check.unknown.items())[:10])
        failures.append(f"characters became unknown: {shown}; add text with them to --corpus, or allow it with --no-keep-characters")
    return check, failures


# --- the report -------------------------------------------------------------------------------------------------------------


def coverage(counts: np.ndarray, order: np.ndarray, special: set[int], cut: int) -> float:
    """Share of the tokens counted in `counts` (V,) whose piece a vocabulary of size `cut` keeps."""
    return float(counts[with_special(order[:cut], special)].sum() / max(1, counts.sum()))


def describe(report: dict) -> str:
    before, after, corpus, check = (report[part] for part in ("before", "after", "corpus", "check"))
    texts = f"checked on {check['texts']:,} other texts, {check['tokens']:,} tokens"
    lines = [f"counted {corpus['texts']:,} texts, {corpus['tokens']:,} tokens; {texts}", "", f"{'':<34}{'before':>14}{'after':>14}"]
    for name, digits in (("pieces", 0), ("parameters", 0), ("megabytes", 1), ("pieces_per_word", 3)):
        if name in before:
            lines.append(f"{name.replace('_', ' '):<34}{before[name]:>14,.{digits}f}{after[name]:>14,.{digits}f}")
    embedded = f"; {check['embedded']} were embedded: the same bit for bit" if check["embedded"] else ""
    lines += ["", f"{'texts whose pieces are all kept':<34}{check['share_texts_kept']:>14.2%}   all give the same pieces{embedded}"]
    lines.append(f"{'tokens whose piece is kept':<34}{check['share_tokens_kept']:>14.2%}")
    lines.append(f"{'characters newly unknown':<34}{sum(check['unknown'].values()):>14,}   {' '.join(check['unknown'])[:40]}".rstrip())
    by_cut = "   ".join(f"{int(cut):,}: {share:.2%}" for cut, share in report["coverage"].items())
    dropped = ", ".join(f"{piece} {count}" for piece, count in report["dropped"][:12])
    lines += [f"{'tokens kept by vocabulary size':<34}{by_cut}", f"{'most frequent pieces dropped':<34}{dropped or 'none'}"]
    if report["spare_rows"]:
        lines.append(f"{report['spare_rows']} spare rows dropped: the embedding table had more rows than the tokenizer has pieces")
    if report["candidates"] < report["settings"]["vocab_size"]:
        lines.append(f"only {report['candidates']:,} pieces qualify; a larger corpus or a lower --min-frequency gives more")
    if check["share_tokens_kept"] < LOW_SHARE:
        why = "the corpus is small or in another language, or --vocab-size is small"
        lines.append(f"warning: few of the tokens are kept (usual: over {LOW_SHARE:.0%}); {why}")
    return "\n".join(lines)


def plot(path: Path, counts: np.ndarray, order: np.ndarray, special: set[int], chosen: int) -> None:
    """The coverage curve."""
    import matplotlib.pyplot as plt  # optional: only --plot needs it

    cuts = np.unique(np.linspace(0, len(order), 200).astype(int))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(cuts, [coverage(counts, order, special, cut) for cut in cuts])
    axes.axvline(min(chosen, len(order)), linestyle="--", color="gray")
    axes.set(xlabel="vocabulary size", ylabel="share of the check texts' tokens kept", ylim=(0, 1.01))
    with new_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:] or "png")
    plt.close(figure)


# --- command line -----------------------------------------------------------------------------------------------------------


def trim(folder: Path, out: Path, args) -> dict:
    """Trim the model in `folder` into the empty folder `out`, prove it, and return the report, which is written there too."""
    model = read_model(folder)
    texts = tqdm(read_corpus(args.corpus, args.field), desc="count", unit=" texts", unit_scale=True, disable=None)
    pieces, number = count_pieces(model.backend, texts, (lambda text: False) if args.check else held_out)
    if not number.sum():
        raise InputError(f"{', '.join(args.corpus)}: no texts; expected one a line, or JSON Lines or parquet with a field {args.field!r}")
    if not args.check and not number.all():
        raise InputError(f"{', '.join(args.corpus)}: {number.sum()} texts are too few to hold out a tenth; give other text with --check")

    order = rank_candidates(model, pieces, args.vocab_size, args.min_frequency, args.keep_characters)
    kept = with_special(order[: args.vocab_size], model.special)
    write_model(model, folder, out, kept)

    texts = read_corpus(args.check, args.field) if args.check else filter(held_out, read_corpus(args.corpus, args.field))
    check, failures = compare(model, read_model(out), kept, texts, args.keep_characters)
    if not check.texts:
        raise InputError(f"{', '.join(args.check)}: no texts to check with; expected one a line, or a field {args.field!r}")
    model = model._replace(backend=None)  # its memory is for those of the encoders
    if model.tensors and not failures and embed_sample(folder, check.sample) != embed_sample(out, check.sample):
        failures.append(f"the embeddings of {len(check.sample)} texts with the same pieces differ")
    if failures:
        raise ProofFailed("\n".join(failures))

    def share_kept(cut: int) -> float:
        return coverage(check.counts, order, model.special, cut)

    tokens, words = int(check.counts.sum()), max(1, check.words)
    dropped = sorted(set(np.flatnonzero(check.counts).tolist()) - set(kept.tolist()), key=lambda id: (-check.counts[id], id))
    report = {
        "model": str(args.model),
        "settings": {name: getattr(args, name) for name in ("vocab_size", "min_frequency", "keep_characters", "corpus", "check", "field")},
        "before": model.sizes | {"pieces_per_word": tokens / words},
        "after": read_model(out).sizes | {"pieces_per_word": check.tokens_after / words},
        "spare_rows": model.rows - len(model.pieces),
        "candidates": len(order),
        "corpus": {"texts": int(number[0]), "tokens": int(pieces[0].sum() - number[0] * len(model.frame))},
        "check": {
            "texts": check.texts,
            "tokens": tokens,
            "share_texts_kept": check.kept_texts / check.texts,
            "share_tokens_kept": share_kept(args.vocab_size),
            "unknown": check.unknown,
            "embedded": len(check.sample) if model.tensors else 0,
        },
        "coverage": {cut: share_kept(cut) for cut in [*(cut for cut in CUTS if cut < len(order)), len(order)]},
        "dropped": [(model.pieces[id], int(check.counts[id])) for id in dropped[:100]],
    }
    write_json(out / "trim_report.json", report)
    if args.plot:
        plot(Path(args.plot), check.counts, order, model.special, args.vocab_size)
    return report


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description="Trim a Unigram vocabulary to one language, and prove that nothing else changed.")
    parser.add_argument("--model", required=True, help="model folder or hub name")
    parser.add_argument("--corpus", required=True, nargs="+", metavar="FILE[:N]",
                        help="text to keep pieces for: a text a line, JSON Lines, training sources, parquet; N: its first N texts")
    parser.add_argument("--out", required=True, help="the trimmed model's folder")
    parser.add_argument("--overwrite", action="store_true", help="replace --out")
    parser.add_argument("--vocab-size", type=whole(1), default=50_000, help="pieces to keep beside the special tokens (the paper's 50,000)")
    parser.add_argument("--min-frequency", type=whole(1), default=2, help="occurrences that a piece needs (the paper's 2)")
    parser.add_argument("--keep-characters", action=argparse.BooleanOptionalAction, default=True,
                        help="Latin letters, digits, punctuation and the corpus' characters before rarer pieces (not in the paper's tool)")
    parser.add_argument("--field", default="text", help="field of JSON Lines or column of parquet that holds the text")
    parser.add_argument("--check", nargs="+", metavar="FILE[:N]", help="prove it on this text (default: a tenth of the corpus, held out)")
    parser.add_argument("--plot", metavar="FILE", help="draw the tokens kept by vocabulary size (needs matplotlib)")
    args = parser.parse_args(argv)
    if args.plot and not importlib.util.find_spec("matplotlib"):
        raise InputError("--plot needs matplotlib, which is not installed; install it, or leave --plot out: the report has the numbers")
    folder = e5nl.find(args.model)
    for read in (folder, *args.corpus, *(args.check or ())):
        if Path(read).resolve().is_relative_to(Path(args.out).resolve()):
            raise InputError(f"--out {args.out} holds {read}, which is read; choose another folder")
    try:
        with new_folder(args.out, args.overwrite) as out:
            report = trim(folder, out, args)
    except ProofFailed as failure:
        print(f"the proof failed, nothing was written to {args.out}:\n{failure}", file=sys.stderr)
        return 1
    print(describe(report))
    print(f"{args.out}: written and proved; more numbers in trim_report.json")
    return 0


if __name__ == "__main__":
    cli(main)
