"""Which words translate each other: parallel text in, counted pairs of words out.

fast_align's model, by hand. Trans-tokenization (arXiv 2408.04303) has the program fast_align do
this, in one direction. Here each side's own tokenizer cuts the words, and both directions have to
agree: IBM model 1, then the model of Dyer et al. 2013 (section 2), as variational Bayes.

Parallel text is any of: two files of lines, `en.txt nl.txt`; `.tsv`, one pair per line, further
columns ignored; `.jsonl`, `.csv`, `.parquet`, with the names of two fields; `.gz` or not; files of
a hub data set as in data.py.

Left out on purpose: fitting the tension. 2 and 8 find as many words of the tool's own English-Dutch
table as its start, within half a point.

Letters for dimensions: m words of a source sentence, n of a target sentence, B pairs of sentences
of one shape (m, n), K links (pairs of words in one pair of sentences), V pieces of a vocabulary.
"""

import functools
import itertools
import json
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import digamma
from tokenizers.decoders import ByteLevel
from tqdm import tqdm

import model_folder
from files import TABLES, InputError, find_files, kind_of, read_lines, read_rows
from trim_vocab import count_ids

# --- parallel text --------------------------------------------------------------------------------


def read_pairs(
    names: Iterable[str], fields: tuple[str, str] = ("en", "nl")
) -> Iterator[tuple[str, str]]:
    """(source, target) texts of parallel text, in the formats named above."""
    paths = iter(path for name in names for path in find_files(name))
    for path in paths:
        # A table holds both sides; of a text file the next one is the other side.
        if kind_of(path) == ".tsv":
            yield from _read_tsv(path, fields)
        elif kind_of(path) in TABLES:
            columns = list(dict.fromkeys(field.partition(".")[0] for field in fields))
            for number, row in read_rows(path, columns):
                yield tuple(_field(row, field, f"{path}:{number}") for field in fields)
        elif other := next(paths, None):
            yield from _read_both(path, other)
        else:
            expected = "expected the file with the other right after it, line by line the same"
            raise InputError(f"{path}: one language only; {expected}")


def _read_tsv(path, fields: tuple[str, str]) -> Iterator[tuple[str, str]]:
    for number, line in read_lines(path, blank=True):
        source, tab, rest = line.partition("\t")
        if line.strip() and not tab:
            raise InputError(f"{path}:{number}: expected source<TAB>target, found {line[:60]!r}")
        target = rest.partition("\t")[0]
        if number > 1 or (source, target) != tuple(fields):  # a header is not a pair
            yield source, target


def _read_both(path, other) -> Iterator[tuple[str, str]]:
    lines = itertools.zip_longest(read_lines(path, blank=True), read_lines(other, blank=True))
    for number, (source, target) in enumerate(lines):
        if source is None or target is None:
            ended, longer = (path, other) if source is None else (other, path)
            expected = "expected lines that translate each other"
            raise InputError(f"{ended}: ends after line {number}, {longer} does not; {expected}")
        yield source[1], target[1]


def _field(row, name: str, where: str) -> str:
    """A field, or a field within a field: `translation.nl`."""
    value = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str):
        found = f"expected a text, found {type(value).__name__}"
        raise InputError(f"{where}: field {name!r}: {found}; name the two fields by --fields")
    return value


# --- words ----------------------------------------------------------------------------------------


class Vocabulary:
    """A tokenizer, and what its pieces are in running text.

    texts: each piece without the mark of its kind (`##`, `▁`, `Ġ`), "" for special ones. starts:
    whether it begins a word. roles: {role: id} of the special tokens that an encoder needs, and of
    the mask where there is one. special: ids of all.
    """

    def __init__(self, tokenizer: model_folder.Tokenizer, where):
        # The roles that an encoder needs, and what is not text.
        spec, self.backend = json.loads(tokenizer.json), tokenizer.backend
        ids = tokenizer.special_ids
        self.roles = {role: ids[role] for role in ids if role not in ("bos", "eos")}
        for role in ("pad", "unk"):
            if role not in self.roles:
                names = " or ".join(model_folder.ROLES[role])
                advice = "an encoder needs one, tokenizer_config.json may name another"
                raise InputError(f"{where}: no piece {names}; {advice}")
        added = [token for token in spec.get("added_tokens") or [] if token.get("special")]
        self.special = {token["id"] for token in added} | set(self.roles.values())
        if suffix := spec["model"].get("end_of_word_suffix"):
            expected = "expected the marks of WordPiece (##), Unigram (▁) or BPE (Ġ)"
            raise InputError(f"{where}: marks the ends of words by {suffix}; {expected}")

        # What a piece is without its mark, and whether it begins a word.
        prefix = spec["model"].get("continuing_subword_prefix") or ""
        kinds = json.dumps([spec.get("pre_tokenizer"), spec.get("decoder")])
        self.in_bytes = '"ByteLevel"' in kinds
        pieces = [self.backend.id_to_token(id) or "" for id in range(tokenizer.vocab_size)]
        self.pieces = [piece.removeprefix(prefix) for piece in pieces]
        texts = [self._plain(piece) for piece in self.pieces]
        if prefix:
            self.starts = [not piece.startswith(prefix) for piece in pieces]
        else:
            self.starts = [text.startswith(" ") for text in texts]
        # A piece of a byte-level vocabulary may be half of a character.
        self.texts = [
            "" if id in self.special or "\ufffd" in text else text.strip(" ")
            for id, text in enumerate(texts)
        ]
        self.punctuation = [
            bool(text) and not any(map(str.isalnum, text)) for text in self.texts
        ]

    def _plain(self, piece: str) -> str:
        return ByteLevel().decode([piece]) if self.in_bytes else piece.replace("▁", " ")

    def word(self, ids: tuple[int, ...]) -> str:
        """The text of a word, from its pieces."""
        return self._plain("".join(self.pieces[id] for id in ids)).strip(" ")

    def ids(self, text: str) -> tuple[int, ...]:
        """The pieces of a text, without special ones."""
        ids = self.backend.encode(text, add_special_tokens=False).ids
        return tuple(id for id in ids if id not in self.special)


class Text:
    """One side of the parallel text.

    A word is a run of pieces within what the tokenizer's own pre-tokenisation cuts; punctuation is
    a word of its own. numbers: {word, as its pieces: its number}. words: the numbers of all words,
    sentence after sentence. lengths: words of each sentence. counts (V,): how often each piece
    occurs.
    """

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self.numbers, self.words, self.lengths = {}, array("i"), array("q")
        self.counts = np.zeros(len(vocabulary.pieces), np.int64)

    def add(self, texts: list[str]) -> None:
        encodings = self.vocabulary.backend.encode_batch(texts, add_special_tokens=False)
        self.counts += count_ids((encoding.ids for encoding in encodings), len(self.counts))
        for encoding in encodings:
            words = self._words(encoding)
            for word in words:
                self.words.append(self.numbers.setdefault(tuple(word), len(self.numbers)))
            self.lengths.append(len(words))

    def _words(self, encoding) -> list[list[int]]:
        starts, punctuation = self.vocabulary.starts, self.vocabulary.punctuation
        words, last = [], None
        for id, place in zip(encoding.ids, encoding.word_ids, strict=True):
            if id in self.vocabulary.special:
                last = None
                continue
            # A piece joins the word before it unless a space or punctuation is between them.
            joins = place == last and not starts[id] and not punctuation[id]
            if joins and not punctuation[words[-1][-1]]:
                words[-1].append(id)
            else:
                words.append([id])
                last = place
        return words


def read_sides(source: Text, target: Text, pairs: Iterable[tuple[str, str]]) -> None:
    """Add pairs of texts to both sides, some thousands at a time."""
    pairs = iter(pairs)
    while batch := list(itertools.islice(pairs, 8192)):
        source.add([text for text, _ in batch])
        target.add([text for _, text in batch])


# --- alignment ------------------------------------------------------------------------------------

ITERATIONS = 5  # of each model, as fast_align does by default
TENSION = 4.0  # fast_align's start
P_NULL = 0.08  # of a word that nothing on the other side explains (fast_align)
# Of the Dirichlet prior (fast_align -v): two points more of the tool's table than plain shares.
ALPHA = 0.01
BLOCK = 1 << 20  # cells (source word, target word) at once
# Of one pair: 1,000 words a side, which is a document. A cell takes some 100 bytes for a moment, so
# these take 100 MB; 6,000 words a side would take 4.5 GB.
MOST_CELLS = 1 << 20

# Source word and target word as their pieces, and a count.
WordPair = tuple[tuple[int, ...], tuple[int, ...], float]


class Chunk(NamedTuple):
    """Some sentence pairs. Its cells are those of its blocks, one after the other.

    Each block has B pairs of one shape: cells (B, n, m), target word by source word.
    """

    blocks: list[tuple[np.ndarray, np.ndarray]]  # source words (B, m) and target words (B, n)
    links: np.ndarray  # the links of the chunk: their keys, and later their places among all links
    places: np.ndarray  # (cells,) int32: the place of each cell's link in `links`


def count_cells(source: Text, target: Text) -> np.ndarray:
    """(pairs,): 0 where a side is empty. Those beyond MOST_CELLS are skipped by `align`."""
    return np.asarray(source.lengths) * np.asarray(target.lengths)


def chunk_pairs(source: Text, target: Text) -> Iterator[Chunk]:
    """The sentence pairs, those of one shape together, so that nothing is padded.

    The key of a link: source word x number of target words + target word.
    """
    words, lengths = np.asarray(source.words), np.asarray(source.lengths)
    others, widths = np.asarray(target.words), np.asarray(target.lengths)
    starts, offsets = lengths.cumsum() - lengths, widths.cumsum() - widths
    # Sorted by shape, without empty sides and documents, and cut where the shape changes.
    cells = count_cells(source, target)
    order = np.lexsort((widths, lengths))
    order = order[(cells[order] > 0) & (cells[order] <= MOST_CELLS)]
    shapes = np.stack([lengths[order], widths[order]], 1)
    borders = np.flatnonzero((shapes[1:] != shapes[:-1]).any(1)) + 1
    blocks, cells = [], 0
    for group in np.split(order, borders) if len(order) else ():
        # Pairs of one shape, some at a time.
        m, n = int(lengths[group[0]]), int(widths[group[0]])
        step = max(1, BLOCK // (m * n))
        for first in range(0, len(group), step):
            pairs = group[first : first + step]
            source_words = words[starts[pairs][:, None] + np.arange(m)]
            target_words = others[offsets[pairs][:, None] + np.arange(n)]
            blocks.append((source_words, target_words))
            cells += len(pairs) * m * n
            if cells >= BLOCK:
                yield _chunk(blocks, len(target.numbers))
                blocks, cells = [], 0
    if blocks:
        yield _chunk(blocks, len(target.numbers))


def _chunk(blocks, target_size: int) -> Chunk:
    keys = [
        (source[:, None, :] * np.int64(target_size) + words[:, :, None]).ravel()
        for source, words in blocks
    ]
    links, places = np.unique(np.concatenate(keys), return_inverse=True)
    return Chunk(blocks, links, places.astype(np.int32))


@functools.lru_cache(4096)  # shapes come round once an iteration; this bounds memory
def prior(m: int, n: int, axis: int, tension: float) -> np.ndarray:
    """(n, m): the probability of each link before anything is known of the words.

    exp(-tension |i/m - j/n|), normalised over the source words (axis 1) or the target words (axis
    0), without P_NULL: fast_align's model (Dyer et al. 2013, section 2). With tension 0 all are
    equal: IBM model 1.
    """
    rows, columns = np.arange(1, n + 1)[:, None] / n, np.arange(1, m + 1) / m
    weights = np.exp(-tension * np.abs(rows - columns))
    return (1 - P_NULL) * weights / weights.sum(axis, keepdims=True)


def expect(
    chunk: Chunk, likely: np.ndarray, null: np.ndarray, axis: int, tension: float
) -> tuple[np.ndarray, np.ndarray]:
    """E step in one direction.

    Returns the posterior of each cell (cells,), and the expected count of null for each word, like
    `null`. axis 1: every target word belongs to one source word or to null; 0: every source word to
    one target word or to null. likely (cells,): p(target word | source word), or the other way
    round; null: p(word | null).
    """
    posterior, nulls, start = np.empty_like(likely), np.zeros_like(null), 0
    for source, target in chunk.blocks:
        (size, m), n = source.shape, target.shape[1]
        words = target if axis == 1 else source
        # p(link, word) of every link and of null; their shares are the posterior.
        cells = slice(start, start + size * m * n)
        start = cells.stop
        joint = likely[cells].reshape(size, n, m) * prior(m, n, axis, tension)
        by_null = P_NULL * null[words]
        total = joint.sum(1 + axis) + by_null
        posterior[cells] = (joint / np.expand_dims(total, 1 + axis)).ravel()
        np.add.at(nulls, words, by_null / total)
    return posterior, nulls


def estimate(counts: np.ndarray, given: np.ndarray) -> np.ndarray:
    """M step: probabilities from expected counts (K,); given (K,): what each is conditioned on.

    exp(digamma(count + ALPHA) - digamma(their sum)): the variational Bayes of fast_align -v. With
    plain shares rare words explain too much of their sentences.
    """
    sums = np.bincount(given, counts + ALPHA)
    return np.exp(digamma(counts + ALPHA) - digamma(sums)[given])


def align(
    source: Text, target: Text, min_count: float = 10, progress: bool = False
) -> list[WordPair]:
    """Pairs of words that translate each other `min_count` times or more.

    IBM model 1 and then fast_align's model 2. A count is the sum over the text of p(target word
    belongs to source word) p(source word belongs to target word): both directions have to agree
    (Liang et al. 2006 train with this product; here each direction learns alone). Compared with the
    tool's own table that finds fewer of its rarer translations than one direction does, and fewer
    wrong ones. Memory: 4 bytes per cell and some 100 per link.
    """
    chunks = list(chunk_pairs(source, target))
    if not chunks:
        advice = f"at most {MOST_CELLS:,} words x words; look at --parallel and --fields"
        raise InputError(f"the parallel text has no pair with words on both sides, {advice}")
    # The links of all chunks, numbered together.
    keys = np.unique(np.concatenate([chunk.links for chunk in chunks]))
    chunks = [chunk._replace(links=np.searchsorted(keys, chunk.links)) for chunk in chunks]
    given = np.divmod(keys, len(target.numbers))  # source word and target word of each link
    # p(target word | source word) and p(source word | target word); the same for null.
    theta = [np.ones(len(keys))] * 2
    null = [np.ones(len(target.numbers)), np.ones(len(source.numbers))]

    def posteriors(chunk: Chunk, side: int, tension: float):
        likely = theta[side][chunk.links][chunk.places]
        return expect(chunk, likely, null[side], 1 - side, tension)

    def add(total: np.ndarray, chunk: Chunk, values: np.ndarray) -> None:
        total[chunk.links] += np.bincount(chunk.places, values, len(chunk.links))

    # Model 1 where all links are equally likely, then model 2; each side learns for itself.
    tensions = [0.0] * ITERATIONS + [TENSION] * ITERATIONS
    for tension in tqdm(tensions, desc="align", disable=None if progress else True):
        for side in (0, 1):
            counts, nulls = np.zeros(len(keys)), np.zeros_like(null[side])
            for chunk in chunks:
                posterior, chunk_nulls = posteriors(chunk, side, tension)
                add(counts, chunk, posterior)
                nulls += chunk_nulls
            theta[side] = estimate(counts, given[side])
            null[side] = estimate(nulls, np.zeros(len(nulls), int))

    # Both directions together.
    agreed = np.zeros(len(keys))
    for chunk in chunks:
        forward, backward = (posteriors(chunk, side, TENSION)[0] for side in (0, 1))
        add(agreed, chunk, forward * backward)
    words, others = list(source.numbers), list(target.numbers)
    kept = np.flatnonzero(agreed >= min_count)
    links = zip(*(side[kept].tolist() for side in (*given, agreed)), strict=True)
    return [(words[s], others[t], count) for s, t, count in links]
