"""Transtokenisation: an English encoder gets a Dutch tokenizer (arXiv 2509.12340: model initialisation, `e5-*-t2t`).

In: the folder (or hub name) of an encoder, a target tokenizer (WordPiece, Unigram or BPE), and parallel text. Out: a folder of the same
kind with the target tokenizer, in which every row of the embedding table is a weighted average of the encoder's rows, and
`transtokenize_report.json`. Nothing else of the network changes and nothing is trained. The method is Trans-Tokenization
(arXiv 2408.04303), which the paper used through the tool `transtokenizer`:

1. tokenise both sides, each with its own tokenizer; 2. count which words translate each other; 3. spread the counts of a pair of words
over their pieces; 4. find other evidence for the pieces that no word explains; 5. average.

Parallel text is any of: two files of lines, `en.txt nl.txt`; `.tsv`, a pair a line, further columns ignored; `.jsonl`, `.csv`, `.parquet`,
fields by `--fields`; `.gz` or not; files of a hub data set as in data.py. Pairs with an empty side are counted and left out.

    python transtokenize.py --model runs/english --tokenizer tokenizer.json --parallel nld-eng.tsv.gz --out runs/dutch
    python transtokenize.py --model intfloat/e5-base-v2 --tokenizer GroNLP/bert-base-dutch-cased --fields translation.en translation.nl \
        --parallel "Helsinki-NLP/opus-100:en-nl/train-*.parquet" --out runs/e5-base-v2-t2t
    python transtokenize.py … --parallel en.txt nl.txt --alignments links.txt       # i-j as fast_align, eflomal and others print them
    python transtokenize.py … --table words.tsv                                     # source word, target word, count

Departures from the tool: it cannot read WordPiece, so not the paper's own pair, and loads decoders only. Its words come from fast_align
as a separate program in one direction; here both directions have to agree (see `align`). A piece that stands in both vocabularies counts
for itself only where no word explains it; letter case does not hinder that. Smoothing (`substring`) does not depend on the
order of the vocabulary and takes time in proportion to it, not to its square and more.
Left out on purpose: scaling the rows to their old length. An average is shorter than what it is made of; the report says by how much.

Letters for dimensions: m words of a source sentence, n of a target sentence, B pairs of sentences of one shape (m, n),
K links (pairs of words that stand in one pair of sentences), V pieces of the target, W rows of the source's table, D width.
"""

import argparse
import functools
import itertools
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from safetensors.torch import save_file
from scipy.special import digamma
from tokenizers import BertWordPieceTokenizer
from tokenizers.decoders import ByteLevel
from tqdm import tqdm

import e5nl
import model_folder
from data import (
    InputError,
    cli,
    find_files,
    hub_folder,
    is_hub_name,
    kind_of,
    new_file,
    new_folder,
    read_json,
    read_lines,
    read_rows,
    refuse_existing,
    whole,
    write_json,
)
from trim_vocab import BY_PIECE, copy_settings, count_ids

# --- parallel text ----------------------------------------------------------------------------------------------------------


def read_pairs(names: Iterable[str], fields: tuple[str, str] = ("en", "nl")) -> Iterator[tuple[str, str]]:
    """(source, target) texts of parallel text, in the formats named above. Blank ones too: alignments count them."""
    files = iter(file for name in names for file in find_files(name))
    for path in files:
        kind = kind_of(path)
        if kind == ".tsv":
            for number, line in read_lines(path, blank=True):
                a, tab, rest = line.partition("\t")
                if line.strip() and not tab:
                    raise InputError(f"{path}:{number}: expected source<TAB>target, found {line[:60]!r}")
                b = rest.partition("\t")[0]
                if number > 1 or [a, b] != list(fields):  # a first line that names the fields is no pair
                    yield a, b
        elif kind in (".jsonl", ".json", ".csv", ".parquet"):
            columns = list(dict.fromkeys(field.partition(".")[0] for field in fields))
            for number, row in read_rows(path, columns):
                yield tuple(_field(row, field, f"{path}:{number}") for field in fields)
        elif (other := next(files, None)) is None:
            raise InputError(f"{path}: one language only; expected the file with the other right after it, line by line the same")
        else:
            lines = itertools.zip_longest(*(read_lines(file, blank=True) for file in (path, other)))
            for number, (a, b) in enumerate(lines):
                if a is None or b is None:
                    ended, longer = (path, other) if a is None else (other, path)
                    raise InputError(f"{ended}: ends after line {number}, {longer} does not; expected lines that translate each other")
                yield a[1], b[1]


def _field(row, name: str, where: str) -> str:
    value = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise InputError(f"{where}: field {name!r}: expected a text, found {type(value).__name__}; name the two fields by --fields")
    return value


# --- 1. words ---------------------------------------------------------------------------------------------------------------

ROLES = {
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
}


class Vocabulary:
    """A tokenizer, and what its pieces are in running text.

    texts: each piece without the mark of its kind (`##`, `▁`, `Ġ`), "" for special ones. starts: whether it begins a word.
    roles: {role: id} of the special tokens that an encoder needs, and of the mask where there is one. special: ids of all.
    """

    def __init__(self, tokenizer: model_folder.Tokenizer, where):
        spec, self.backend = json.loads(tokenizer.json), tokenizer.backend
        self.roles = special_ids(tokenizer, where)
        self.special = {token["id"] for token in spec.get("added_tokens") or [] if token.get("special")} | set(self.roles.values())
        if suffix := spec["model"].get("end_of_word_suffix"):
            raise InputError(f"{where}: marks the ends of words by {suffix}; expected the marks of WordPiece (##), Unigram (▁) or BPE (Ġ)")
        prefix = spec["model"].get("continuing_subword_prefix") or ""
        self.in_bytes = '"ByteLevel"' in json.dumps([spec.get("pre_tokenizer"), spec.get("decoder")])
        pieces = [self.backend.id_to_token(id) or "" for id in range(tokenizer.vocab_size)]
        self.pieces = [piece.removeprefix(prefix) for piece in pieces]
        texts = [self._plain(piece) for piece in self.pieces]
        self.starts = [not piece.startswith(prefix) if prefix else text.startswith(" ") for piece, text in zip(pieces, texts, strict=True)]
        # A piece of a byte-level vocabulary may be half of a character.
        self.texts = ["" if id in self.special or "\ufffd" in text else text.strip(" ") for id, text in enumerate(texts)]
        self.punctuation = [bool(text) and not any(map(str.isalnum, text)) for text in self.texts]

    def _plain(self, piece: str) -> str:
        return ByteLevel().decode([piece]) if self.in_bytes else piece.replace("▁", " ")

    def word(self, ids: tuple[int, ...]) -> str:
        """The text of a word, from its pieces."""
        return self._plain("".join(self.pieces[id] for id in ids)).strip(" ")

    def ids(self, text: str) -> tuple[int, ...]:
        """The pieces of a text, without special ones."""
        return tuple(id for id in self.backend.encode(text, add_special_tokens=False).ids if id not in self.special)


def special_ids(tokenizer: model_folder.Tokenizer, where) -> dict[str, int]:
    """{role: id}: start and end as they stand around a text, the others as tokenizer_config.json or custom names them."""
    ids = dict(zip(("cls", "sep"), tokenizer.backend.encode("").ids, strict=True))
    for role, names in ROLES.items():
        named = tokenizer.config.get(f"{role}_token")
        named = [named["content"] if isinstance(named, dict) else named] if named else []
        found = [id for id in map(tokenizer.backend.token_to_id, [*named, *names]) if id is not None]
        if found:
            ids.setdefault(role, found[0])
        elif role in ("pad", "unk"):
            raise InputError(f"{where}: no piece {' or '.join(names)}; an encoder needs one, tokenizer_config.json may name another")
    return ids


class Text:
    """One side of the parallel text. A word is a run of pieces in what the tokenizer's own pre-tokenisation cuts; punctuation stands alone.

    numbers: {word, as its pieces: its number}. words: the numbers of all words, sentence after sentence. lengths: words of each sentence.
    counts (V,): how often each piece occurs. by_space: words are what white space separates, as other aligners read a line.
    """

    def __init__(self, vocabulary: Vocabulary, by_space: bool = False):
        self.vocabulary, self.by_space = vocabulary, by_space
        self.numbers, self.words, self.lengths = {}, array("i"), array("q")
        self.counts = np.zeros(len(vocabulary.pieces), np.int64)

    def add(self, texts: list[str]) -> None:
        if self.by_space:  # with a space before all but the first: byte-level BPE would take a word without one for the rest of a word
            texts = [[" " * (i > 0) + word for i, word in enumerate(text.split())] for text in texts]
        encodings = self.vocabulary.backend.encode_batch(texts, is_pretokenized=self.by_space, add_special_tokens=False)
        self.counts += count_ids((encoding.ids for encoding in encodings), len(self.counts))
        for text, encoding in zip(texts, encodings, strict=True):
            words = self._words(encoding) if not self.by_space else self._given_words(encoding, len(text))
            self.words.extend(self.numbers.setdefault(tuple(word), len(self.numbers)) for word in words)
            self.lengths.append(len(words))

    def _words(self, encoding) -> list[list[int]]:
        special, starts, punctuation = self.vocabulary.special, self.vocabulary.starts, self.vocabulary.punctuation
        words, last = [], None
        for id, place in zip(encoding.ids, encoding.word_ids, strict=True):
            if id in special:
                last = None
            elif place == last and not starts[id] and not punctuation[id] and not punctuation[words[-1][-1]]:
                words[-1].append(id)
            else:
                words.append([id])
                last = place
        return words

    def _given_words(self, encoding, number: int) -> list[list[int]]:
        words = [[] for _ in range(number)]
        for id, place in zip(encoding.ids, encoding.word_ids, strict=True):
            if id not in self.vocabulary.special:
                words[place].append(id)
        return words


def read_sides(source: Text, target: Text, pairs: Iterable[tuple[str, str]]) -> None:
    """Add pairs of texts to both sides, some thousands at a time."""
    pairs = iter(pairs)
    while some := list(itertools.islice(pairs, 8192)):
        source.add([a for a, _ in some])
        target.add([b for _, b in some])


# --- 2. which words translate each other ------------------------------------------------------------------------------------

ITERATIONS = 5  # of each model, as fast_align does by default
TENSION = 4.0  # fast_align's start, and not fitted: 2 and 8 find as many words of the tool's own English-Dutch table, within half a point
P_NULL = 0.08  # of a word that nothing on the other side explains (fast_align)
ALPHA = 0.01  # of the Dirichlet prior (fast_align -v), which finds two points more of that table than plain shares
BLOCK = 1 << 20  # cells (source word, target word) at once

WordPair = tuple[tuple[int, ...], tuple[int, ...], float]  # source word and target word as their pieces, count


class Chunk(NamedTuple):
    """Some sentence pairs. Its cells are those of its blocks, one after the other, each block (B, n, m) target word by source word."""

    blocks: list[tuple[np.ndarray, np.ndarray]]  # source words (B, m) and target words (B, n) of pairs of one shape
    links: np.ndarray  # the links of the chunk: their keys, and later their places among all links
    places: np.ndarray  # (cells,) int32: the place of each cell's link in `links`


def cut_chunks(source: Text, target: Text) -> Iterator[Chunk]:
    """Pairs of one shape stand together, so nothing is padded. The key of a link: source word x number of target words + target word."""
    (words, lengths), (others, widths) = ((np.asarray(side.words), np.asarray(side.lengths)) for side in (source, target))
    starts, offsets = lengths.cumsum() - lengths, widths.cumsum() - widths
    order = np.lexsort((widths, lengths))
    order = order[(lengths[order] > 0) & (widths[order] > 0)]
    shapes = np.stack([lengths[order], widths[order]], 1)
    blocks, cells = [], 0
    for group in np.split(order, np.flatnonzero((shapes[1:] != shapes[:-1]).any(1)) + 1) if len(order) else ():
        m, n = int(lengths[group[0]]), int(widths[group[0]])
        step = max(1, BLOCK // (m * n))
        for pairs in (group[first : first + step] for first in range(0, len(group), step)):
            blocks.append((words[starts[pairs][:, None] + np.arange(m)], others[offsets[pairs][:, None] + np.arange(n)]))
            cells += len(pairs) * m * n
            if cells >= BLOCK:
                yield _chunk(blocks, len(target.numbers))
                blocks, cells = [], 0
    if blocks:
        yield _chunk(blocks, len(target.numbers))


def _chunk(blocks, size: int) -> Chunk:
    keys = np.concatenate([(s[:, None, :] * np.int64(size) + t[:, :, None]).ravel() for s, t in blocks])
    links, places = np.unique(keys, return_inverse=True)
    return Chunk(blocks, links, places.astype(np.int32))


@functools.lru_cache(4096)  # shapes come round once an iteration; more than these are computed again, which bounds memory
def prior(m: int, n: int, axis: int, tension: float) -> np.ndarray:
    """(n, m): the probability that a word belongs to each of those on the other side, before anything is known of the words.

    exp(-tension |i/m - j/n|), normalised over the source words (axis 1) or the target words (axis 0), and P_NULL left out: fast_align's
    model (Dyer et al. 2013, section 2). With tension 0 all are equal: IBM model 1.
    """
    weights = np.exp(-tension * np.abs(np.arange(1, n + 1)[:, None] / n - np.arange(1, m + 1) / m))
    return (1 - P_NULL) * weights / weights.sum(axis, keepdims=True)


def expect(chunk: Chunk, likely: np.ndarray, null: np.ndarray, axis: int, tension: float) -> tuple[np.ndarray, np.ndarray]:
    """E step in one direction: (posterior of each cell (cells,), expected count of null for each word, like `null`).

    axis 1: every target word belongs to one source word or to null; 0: every source word to one target word or to null.
    likely (cells,): p(target word | source word), or the other way round; null: p(word | null).
    """
    posterior, nulls, at = np.empty_like(likely), np.zeros_like(null), 0
    for s, t in chunk.blocks:
        (size, m), n, words = s.shape, t.shape[1], t if axis == 1 else s
        cells = slice(at, at := at + size * m * n)
        joint = likely[cells].reshape(size, n, m) * prior(m, n, axis, tension)
        nothing = P_NULL * null[words]
        total = joint.sum(1 + axis) + nothing
        posterior[cells] = (joint / np.expand_dims(total, 1 + axis)).ravel()
        np.add.at(nulls, words, nothing / total)
    return posterior, nulls


def estimate(counts: np.ndarray, given: np.ndarray) -> np.ndarray:
    """M step: probabilities from expected counts (K,), where `given` (K,) tells what each is conditioned on.

    exp(digamma(count + ALPHA) - digamma(their sum)): the variational Bayes of fast_align -v. With plain shares rare words explain too
    much of their sentences.
    """
    return np.exp(digamma(counts + ALPHA) - digamma(np.bincount(given, counts + ALPHA))[given])


def align(source: Text, target: Text, min_count: float = 10, progress: bool = False) -> list[WordPair]:
    """Pairs of words that translate each other `min_count` times or more, by IBM model 1 and then fast_align's model 2.

    A count is the sum over the corpus of p(target word belongs to source word) p(source word belongs to target word): both directions
    have to agree (Liang et al. 2006 train with this product; here each direction learns alone). Beside the tool's own table that finds
    fewer of its rarer translations than one direction does, and fewer wrong ones.
    Memory: 4 bytes a cell and some 100 a link.
    """
    chunks = list(cut_chunks(source, target))
    if not chunks:
        raise InputError("the parallel text has no pair of sentences with words on both sides")
    keys = np.unique(np.concatenate([chunk.links for chunk in chunks]))
    chunks = [chunk._replace(links=np.searchsorted(keys, chunk.links)) for chunk in chunks]
    given = np.divmod(keys, len(target.numbers))
    theta = [np.ones(len(keys))] * 2  # p(target word | source word), p(source word | target word)
    null = [np.ones(len(target.numbers)), np.ones(len(source.numbers))]

    def posteriors(chunk: Chunk, side: int, tension: float):
        return expect(chunk, theta[side][chunk.links][chunk.places], null[side], 1 - side, tension)

    def add(total: np.ndarray, chunk: Chunk, values: np.ndarray) -> None:
        total[chunk.links] += np.bincount(chunk.places, values, len(chunk.links))

    for tension in tqdm([0.0] * ITERATIONS + [TENSION] * ITERATIONS, desc="align", disable=None if progress else True):
        for side in (0, 1):
            counts, nulls = np.zeros(len(keys)), np.zeros_like(null[side])
            for chunk in chunks:
                posterior, some = posteriors(chunk, side, tension)
                add(counts, chunk, posterior)
                nulls += some
            theta[side], null[side] = estimate(counts, given[side]), estimate(nulls, np.zeros(len(nulls), int))
    agreed = np.zeros(len(keys))
    for chunk in chunks:
        add(agreed, chunk, posteriors(chunk, 0, TENSION)[0] * posteriors(chunk, 1, TENSION)[0])
    return _word_pairs(keys, agreed, source, target, min_count)


def _word_pairs(keys: np.ndarray, counts: np.ndarray, source: Text, target: Text, min_count: float) -> list[WordPair]:
    words, others = list(source.numbers), list(target.numbers)
    kept = np.flatnonzero(counts >= min_count)
    numbers = zip(*(side.tolist() for side in np.divmod(keys[kept], len(others))), counts[kept].tolist(), strict=True)
    return [(words[s], others[t], count) for s, t, count in numbers]


def read_alignments(path, source: Text, target: Text, min_count: float = 10) -> list[WordPair]:
    """The same pairs from alignments made elsewhere: a line a pair of sentences, `i-j` where source word i, from 0, is target word j."""
    starts, keys, number = [np.cumsum(side.lengths) - side.lengths for side in (source, target)], [], 0
    for number, line in read_lines(path, blank=True):
        if number > len(source.lengths):
            raise InputError(f"{path}:{number}: a line too many; the parallel text has {number - 1} pairs")
        for link in line.split():
            found = re.fullmatch(r"(\d+)-(\d+)", link)
            places = [int(place) for place in found.groups()] if found else ()
            lengths = source.lengths[number - 1], target.lengths[number - 1]
            if not found or places[0] >= lengths[0] or places[1] >= lengths[1]:
                size = f"{lengths[0]} and {lengths[1]} words, by white space"
                raise InputError(f"{path}:{number}: {link!r} is no link i-j of this pair of sentences, which has {size}")
            words = (side.words[start[number - 1] + place] for side, start, place in zip((source, target), starts, places, strict=True))
            keys.append(next(words) * len(target.numbers) + next(words))
    if number < len(source.lengths):
        raise InputError(f"{path}: ends after line {number}; the parallel text has {len(source.lengths)} pairs")
    return _word_pairs(*np.unique(np.array(keys, np.int64), return_counts=True), source, target, min_count)


def read_table(path, source: Vocabulary, target: Vocabulary, min_count: float = 10) -> list[WordPair]:
    """The same pairs from a table: source word<TAB>target word<TAB>count; a pair without a count is taken to have `min_count`."""
    pairs = []
    for number, line in read_lines(path):
        cells = line.split("\t")
        if len(cells) not in (2, 3) or not re.fullmatch(r"\d+(\.\d+)?", cells[2] if len(cells) > 2 else "0"):
            raise InputError(f"{path}:{number}: expected source word<TAB>target word<TAB>count, found {line[:60]!r}")
        count = float(cells[2]) if len(cells) > 2 else min_count
        if count >= min_count:
            pairs.append((source.ids(cells[0]), target.ids(cells[1]), count))
    return pairs


def write_table(path, pairs: list[WordPair], source: Vocabulary, target: Vocabulary) -> None:
    """What `read_table` reads, the most frequent pairs first."""
    with new_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for s, t, count in sorted(pairs, key=lambda pair: -pair[2]):
            file.write(f"{source.word(s)}\t{target.word(t)}\t{count:.2f}\n")


# --- 3. from words to pieces ------------------------------------------------------------------------------------------------


def spread(pairs: list[WordPair], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """Counts of target pieces and source pieces (V, W): half of a pair's count goes to all pairs of its pieces, half to those in order.

    In order: both words are stretched to one length, and what then stands at one place belongs together. A whole pair counts once,
    however many its pieces, so the word "huis" says more about the piece "huis" than "huisarts" does.
    """
    rows, columns, values = [], [], []
    for s, t, count in pairs:
        length = math.lcm(len(s), len(t))
        cells = [(a, b, 1 / (len(s) * len(t))) for a in s for b in t]
        cells += [(s[i * len(s) // length], t[i * len(t) // length], 1 / length) for i in range(length)]
        for a, b, share in cells:
            columns.append(a)
            rows.append(b)
            values.append(count * share / 2)
    return scipy.sparse.csr_array((values, (rows, columns)), shape)


# --- 4. evidence ------------------------------------------------------------------------------------------------------------

EVIDENCE = ("special", "aligned", "identity", "substring", "unknown")  # in this order: the first that a piece has counts
SPECIAL, ALIGNED, IDENTITY, SUBSTRING, UNKNOWN = range(5)
EVIDENT = (ALIGNED, IDENTITY)  # what substrings are looked for in


def same_piece(source: Vocabulary) -> Callable[[str, bool], tuple[int, ...]]:
    """A function that gives the source pieces of the same text (beginning a word or not): one, several for a number, or none.

    In this order: the text as it is, as the source's normalizer makes it (lower case, without accents), in lower case; each
    with the same place in a word first, then with the other.
    """
    known = {(text, start): id for id, (text, start) in enumerate(zip(source.texts, source.starts, strict=True)) if text}

    def find(text: str, start: bool) -> tuple[int, ...]:
        normalizer = source.backend.normalizer
        normal = normalizer.normalize_str(text).strip("▁ ") if normalizer else text
        for form, mark in itertools.product((text, normal, text.casefold()), (start, not start)):
            if (form, mark) in known:
                return (known[form, mark],)
        return source.ids(text) if text.isdecimal() else ()

    return find


def inner_texts(text: str, known) -> list[str]:
    """The parts of `text` that are in `known` and in no longer part that is.

    >>> inner_texts("identiteitskaart", {"identiteit", "tite", "kaart", "aart", "s"})
    ['identiteit', 's', 'kaart']
    """
    found, end = [], 0
    for i in range(len(text)):
        for j in range(len(text), max(i, end), -1):
            if text[i:j] in known:
                found.append(text[i:j])
                end = j
                break
    return found


def weigh(source: Vocabulary, target: Vocabulary, pairs: list[WordPair], width: int) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """(weights (V, W) float64, each row summing to 1; evidence of each piece (V,), an index of EVIDENCE).

    special: the source's token of the same role. aligned: counts by `spread`. identity: by `same_piece`. substring: the average of
    the aligned and identical pieces that are part of it, at any place in a word, and of those that begin with it, at the same place in
    a word, each by the share that the shorter is of the longer, whatever the letter case. unknown: the source's unknown token.
    """
    size = len(target.texts)
    weights = _shares(spread(pairs, (size, width)))
    evidence = np.where(np.diff(weights.indptr) > 0, ALIGNED, UNKNOWN)
    found = {id: (source.roles[role],) for role, id in target.roles.items() if role in source.roles}
    evidence[list(found)] = SPECIAL
    find = same_piece(source)
    for id in np.flatnonzero(evidence == UNKNOWN).tolist():
        if target.texts[id] and (same := find(target.texts[id], target.starts[id])):
            found[id], evidence[id] = same, IDENTITY
    weights += _shares(_matrix({id: dict.fromkeys(same, 1.0) for id, same in found.items()}, (size, width)))

    similar = similar_pieces(target, evidence)
    evidence[list(similar)] = SUBSTRING
    weights += _shares(_matrix(similar, (size, size))) @ weights
    unknown = {id: {source.roles["unk"]: 1.0} for id in np.flatnonzero(evidence == UNKNOWN).tolist()}
    return weights + _matrix(unknown, (size, width)), evidence


def similar_pieces(target: Vocabulary, evidence: np.ndarray) -> dict[int, dict[int, float]]:
    """{piece without evidence: {aligned or identical piece: the share that the shorter is of the longer}}, without empty ones."""
    texts, starts = [text.casefold() for text in target.texts], target.starts
    of_kind = [[id for id in np.flatnonzero(mask).tolist() if texts[id]] for mask in (evidence == UNKNOWN, np.isin(evidence, EVIDENT))]
    known = {}
    for id in sorted(of_kind[1], key=lambda id: (not starts[id], evidence[id])):  # a piece that begins a word says more
        known.setdefault(texts[id], id)
    wanted = {}
    for id in of_kind[0]:
        wanted.setdefault((texts[id], starts[id]), []).append(id)
    similar = {key: {known[part]: len(part) / len(key[0]) for part in inner_texts(key[0], known)} for key in wanted}
    for id in of_kind[1]:
        for length in range(1, len(texts[id])):
            if (key := (texts[id][:length], starts[id])) in similar:
                similar[key][id] = length / len(texts[id])
    return {id: found for key, found in similar.items() if found for id in wanted[key]}


def _matrix(rows: dict[int, dict[int, float]], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    cells = [(row, column, value) for row, found in rows.items() for column, value in found.items()]
    row, column, value = zip(*cells, strict=True) if cells else ((), (), ())
    return scipy.sparse.csr_array((np.array(value, float), (np.array(row, int), np.array(column, int))), shape)


def _shares(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Each row divided by its sum: a lone number becomes exactly 1, so its row is copied bit for bit."""
    matrix.data /= np.repeat(matrix.sum(1), np.diff(matrix.indptr))
    return matrix


# --- 5. the model folder ----------------------------------------------------------------------------------------------------


def read_target(name) -> tuple[model_folder.Tokenizer, Path]:
    """A tokenizer.json, the vocab.txt of a BERT, or a folder or hub repository with one of them; and where it was found.

    Case and accents of a vocab.txt are treated as the tokenizer_config.json beside it says.
    """
    path = hub_folder(name, ["tokenizer.json", "vocab.txt", "tokenizer_config.json"], "model") if is_hub_name(name) else Path(name)
    if path.is_dir():
        path = path / ("vocab.txt" if (path / "vocab.txt").is_file() and not (path / "tokenizer.json").is_file() else "tokenizer.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a tokenizer.json, the vocab.txt of a BERT, or a folder with one")
    beside = path.with_name("tokenizer_config.json")
    config = read_json(beside) if beside.is_file() else {}
    if path.suffix != ".txt":
        return model_folder.Tokenizer(path.read_bytes(), config, path), path
    pieces = {piece: number - 1 for number, piece in read_lines(path, blank=True)}
    if missing := {"[CLS]", "[SEP]", "[UNK]"} - pieces.keys():
        raise InputError(f"{path}: no piece {sorted(missing)[0]}; expected the vocabulary of a BERT, a piece a line")
    options = {"lowercase": config.get("do_lower_case", True), "strip_accents": config.get("strip_accents")}
    chinese = config.get("tokenize_chinese_chars", True)
    backend = BertWordPieceTokenizer(pieces, handle_chinese_chars=chinese, **options)
    return model_folder.Tokenizer(backend.to_str().encode(), config, path), path


def write_model(folder: Path, out: Path, tokenizer: model_folder.Tokenizer, target: Vocabulary, weights: scipy.sparse.csr_array) -> None:
    """The folder with another tokenizer: tensors with a row a piece are averaged, in float64, all others copied byte for byte."""
    config = model_folder.parse_config(folder)
    values = model_folder.read_config(folder) | {"vocab_size": len(target.texts)}
    for role, id in target.roles.items():
        for key in (f"{role}_token_id", {"cls": "bos_token_id", "sep": "eos_token_id"}.get(role)):
            if values.get(key) is not None:
                values[key] = id
    tensors = model_folder.read_tensors(folder)
    for name, tensor in tensors.items():
        if BY_PIECE.search(name):
            tensors[name] = torch.from_numpy(weights @ tensor.float().numpy()).to(tensor.dtype)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "tokenizer.json").write_bytes(tokenizer.json)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.max_length}
    settings |= {f"{role}_token": target.backend.id_to_token(id) for role, id in target.roles.items()}
    write_json(out / "tokenizer_config.json", settings)
    copy_settings(folder, out)
    if (lengths := out / "sentence_bert_config.json").is_file():  # an uncased encoder's may ask for lower case before the tokenizer
        write_json(lengths, read_json(lengths) | {"do_lower_case": False})
    write_json(out / "config.json", values)


# --- the report -------------------------------------------------------------------------------------------------------------


def make_report(source: Vocabulary, target: Vocabulary, weights, evidence: np.ndarray, counts: np.ndarray, tables) -> dict:
    """What became of the pieces. counts (V,): how often each occurs; tables: (W, D) before and (V, D) after."""
    norms = [np.linalg.norm(table, axis=1) for table in tables]
    order = sorted(range(len(counts)), key=lambda id: (-counts[id], id))
    classes, examples = {}, []
    for kind, name in enumerate(EVIDENCE):
        of_kind = evidence == kind
        classes[name] = {"pieces": int(of_kind.sum()), "tokens": int(counts[of_kind].sum())}
        classes[name]["norm"] = float(norms[1][of_kind].mean()) if of_kind.any() else None
        for id in [id for id in order if of_kind[id]][: 10 if SPECIAL < kind < UNKNOWN else 0]:
            row = weights[[id]]
            best = np.argsort(-row.data, kind="stable")[:4]
            sources = [(source.backend.id_to_token(int(row.indices[i])), float(row.data[i])) for i in best]
            examples.append({"piece": target.backend.id_to_token(id), "count": int(counts[id]), "evidence": name, "sources": sources})
    unknown = [(target.backend.id_to_token(id), int(counts[id])) for id in order if evidence[id] == UNKNOWN]
    means = {"norm_before": float(norms[0].mean()), "norm_after": float(norms[1].mean())}
    return means | {"evidence": classes, "examples": examples, "unknown": unknown}


def describe(report: dict) -> str:
    empty = f", {report['empty_pairs']:,} more have an empty side" if report["empty_pairs"] else ""
    sentences = f"{report['pairs']:,} pairs of sentences{empty}; " if report["pairs"] else ""
    lines = [f"{sentences}{report['word_pairs']:,} pairs of words", ""]
    lines.append(f"{'evidence':<12}{'pieces':>9}{'':>8}{'tokens':>12}{'':>8}{'mean norm':>12}")
    classes = report["evidence"].values()
    pieces, tokens = (max(1, sum(one[what] for one in classes)) for what in ("pieces", "tokens"))
    for name, one in report["evidence"].items():
        norm = "-" if one["norm"] is None else f"{one['norm']:.3f}"
        shares = f"{one['pieces']:>9,}{one['pieces'] / pieces:>8.1%}{one['tokens']:>12,}{one['tokens'] / tokens:>8.1%}"
        lines.append(f"{name:<12}{shares}{norm:>12}")
    norms = f"{report['norm_after']:>12.3f}   (source: {report['norm_before']:.3f})"
    lines += [f"{'all':<12}{pieces:>9,}{'':>8}{tokens:>12,}{'':>8}{norms}", ""]
    for one in report["examples"]:
        sources = ", ".join(f"{piece} {weight:.2f}" for piece, weight in one["sources"])
        lines.append(f"{one['evidence']:<10} {one['piece']:<18}{one['count']:>8,}   {sources}")
    if report["unknown"]:
        shown = ", ".join(f"{piece} {count}" for piece, count in report["unknown"][:12])
        lines += ["", f"without any evidence, so <unk>: {len(report['unknown']):,} pieces: {shown}"]
    return "\n".join(lines)


# --- command line -----------------------------------------------------------------------------------------------------------


def transtokenize(folder: Path, out: Path, args) -> dict:
    """Write the model of `folder` with another tokenizer into the empty folder `out`; return the report, which is written there too."""
    model, tokenizer = e5nl.load(folder, "cpu")  # its checks are the encoder's: what is not one of ours is refused by name
    config, before = model.config, model.words.weight.detach().numpy()
    source, (new, where) = Vocabulary(tokenizer, folder), read_target(args.tokenizer)
    target = Vocabulary(new, where)
    if config.position_offset and target.roles["pad"] != config.pad_token_id:
        found = f"{config.model_type} counts positions from its pad id {config.pad_token_id}, the new tokenizer's is {target.roles['pad']}"
        raise InputError(f"{where}: {found}; expected a tokenizer with the same pad id, or a BERT as encoder")

    sides = [Text(vocabulary, by_space=bool(args.alignments)) for vocabulary in (source, target)]
    read_sides(*sides, read_pairs(args.parallel or (), args.fields))
    if args.table:
        pairs = read_table(args.table, source, target, args.min_count)
    elif args.alignments:
        pairs = read_alignments(args.alignments, *sides, args.min_count)
    else:
        pairs = align(*sides, args.min_count, progress=True)
    if not pairs:
        raise InputError(f"no pair of words occurs {args.min_count} times; give more text, or a lower --min-count")
    weights, evidence = weigh(source, target, pairs, len(before))
    write_model(folder, out, new, target, weights)
    after = e5nl.load(out, "cpu")[0].words.weight.detach().numpy()  # and what does not hold together is not left behind
    if args.save_table:
        write_table(args.save_table, pairs, source, target)

    settings = {name: getattr(args, name) for name in ("tokenizer", "parallel", "fields", "alignments", "table", "min_count")}
    both = sum(a and b for a, b in zip(*(map(bool, side.lengths) for side in sides), strict=True))
    numbers = {"pairs": both, "empty_pairs": len(sides[0].lengths) - both, "word_pairs": len(pairs)}
    report = {"model": str(args.model), "settings": settings} | numbers
    report |= make_report(source, target, weights, evidence, sides[1].counts, (before[: len(source.texts)], after))
    write_json(out / "transtokenize_report.json", report)
    return report


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Give an English encoder a Dutch tokenizer, with embeddings averaged from aligned tokens.")
    parser.add_argument("--model", required=True, help="the encoder's folder or hub name")
    parser.add_argument("--tokenizer", required=True, help="the target's tokenizer.json, vocab.txt, folder or hub name")
    parser.add_argument("--parallel", nargs="+", metavar="FILE", help="parallel text; with --table only to count pieces for the report")
    parser.add_argument("--fields", nargs=2, default=["en", "nl"], metavar=("SOURCE", "TARGET"), help="fields of tables (default: en nl)")
    parser.add_argument("--out", required=True, help="the new model's folder")
    parser.add_argument("--overwrite", action="store_true", help="replace --out and --save-table")
    group = parser.add_argument_group("words that translate each other, instead of aligning the parallel text here")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--alignments", metavar="FILE", help="alignments of the parallel text's words by white space: i-j …, a line a pair")
    one.add_argument("--table", metavar="FILE", help="source word<TAB>target word[<TAB>count]")
    group.add_argument("--save-table", metavar="FILE", help="write the pairs of words that were used, for --table")
    group.add_argument("--min-count", type=whole(1), default=10, help="rarer pairs of words are dropped (default: the tool's 10)")
    args = parser.parse_args(argv)
    if not args.parallel and not args.table:
        raise InputError("--parallel is missing; give parallel text, or a table of words by --table")
    if args.save_table:
        refuse_existing(args.save_table, args.overwrite)
    folder = model_folder.find(args.model)
    for read in filter(None, (folder, args.tokenizer, args.alignments, args.table, *(args.parallel or ()))):
        if Path(read).resolve().is_relative_to(Path(args.out).resolve()):
            raise InputError(f"--out {args.out} holds {read}, which is read; choose another folder")
    with new_folder(args.out, args.overwrite) as out:
        report = transtokenize(folder, out, args)
    print(describe(report))
    print(f"{args.out}: written; all numbers in transtokenize_report.json")


if __name__ == "__main__":
    cli(main)
