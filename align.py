"""Which words translate each other: parallel text in, counted pairs of words out (fast_align's model, by hand).

Trans-tokenization (arXiv 2408.04303) has the program fast_align do this, in one direction. Here each side's own tokenizer cuts the words,
and both directions have to agree: IBM model 1, then the model of Dyer et al. 2013 (section 2), as variational Bayes.

Parallel text is any of: two files of lines, `en.txt nl.txt`; `.tsv`, a pair a line, further columns ignored; `.jsonl`, `.csv`, `.parquet`,
with the names of two fields; `.gz` or not; files of a hub data set as in data.py. Words that some other program aligned are read too.

Letters for dimensions: m words of a source sentence, n of a target sentence, B pairs of sentences of one shape (m, n),
K links (pairs of words that stand in one pair of sentences), V pieces of a vocabulary.
"""

import functools
import itertools
import json
import re
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import digamma
from tokenizers.decoders import ByteLevel
from tqdm import tqdm

import model_folder
from files import InputError, find_files, kind_of, new_file, read_lines, read_rows
from trim_vocab import count_ids

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


# --- words ------------------------------------------------------------------------------------------------------------------

class Vocabulary:
    """A tokenizer, and what its pieces are in running text.

    texts: each piece without the mark of its kind (`##`, `▁`, `Ġ`), "" for special ones. starts: whether it begins a word.
    roles: {role: id} of the special tokens that an encoder needs, and of the mask where there is one. special: ids of all.
    """

    def __init__(self, tokenizer: model_folder.Tokenizer, where):
        spec, self.backend = json.loads(tokenizer.json), tokenizer.backend
        self.roles = {role: id for role, id in tokenizer.special_ids.items() if role not in ("bos", "eos")}
        for role in ("pad", "unk"):
            if role not in self.roles:
                names = " or ".join(model_folder.ROLES[role])
                raise InputError(f"{where}: no piece {names}; an encoder needs one, tokenizer_config.json may name another")
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


# --- alignment --------------------------------------------------------------------------------------------------------------

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
        raise InputError("the parallel text has no pair of sentences with words on both sides; look at --parallel and --fields")
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
