"""align.py: parallel text, words, alignment. Run: python -m pytest tests/test_align.py

- Parallel text in every format gives the same pairs; WordPiece, Unigram and byte-level BPE find the same words in a text.
- Alignment equals a slow version written from the formulas, whatever the chunks; on a constructed language, whose words are known,
  95 % and more of the frequent words come out right.
"""

import collections
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import digamma
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import align
import e5nl
from align import Text, Vocabulary
from tools import samples

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def framed(backend: Tokenizer, start: str, end: str) -> e5nl.Tokenizer:
    backend.post_processor = processors.BertProcessing((end, backend.token_to_id(end)), (start, backend.token_to_id(start)))
    return e5nl.Tokenizer(backend.to_str().encode(), {})


def wordpiece(pieces, lowercase=False, special=BERT) -> e5nl.Tokenizer:
    """A tokenizer of these pieces; `special` come first and in this order."""
    backend = Tokenizer(models.WordPiece({piece: id for id, piece in enumerate([*special, *pieces])}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(special)
    return framed(backend, "[CLS]", "[SEP]")


def unigram(pieces, special=("<s>", "<pad>", "</s>", "<unk>")) -> e5nl.Tokenizer:
    scores = [(piece, 0.0) for piece in special] + [(piece, -1.0 - len(pieces) / 100) for piece in pieces]
    backend = Tokenizer(models.Unigram(scores, special.index("<unk>")))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens(list(special))
    return framed(backend, "<s>", "</s>")


def sides(pairs, source, target, **options) -> tuple[Text, Text]:
    both = Text(Vocabulary(source, "en"), **options), Text(Vocabulary(target, "nl"), **options)
    align.read_sides(*both, pairs)
    return both


# --- parallel text and words ------------------------------------------------------------------------------------------------

PAIRS = [("Hi.", "Hoi."), ('"Go', "Ga, nu"), ("", "alleen"), ("The end", "Het einde")]


def write(path: Path, text: str) -> str:
    (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8").write(text)
    return str(path)


def test_formats_give_the_same_pairs(tmp_path):
    import pyarrow
    import pyarrow.parquet

    lines = [write(tmp_path / name, "".join(pair[side] + "\n" for pair in PAIRS)) for side, name in enumerate(("en.txt", "nl.txt.gz"))]
    tsv = write(tmp_path / "a.tsv.gz", "".join(f"{a}\t{b}\tCC-BY\n" for a, b in PAIRS))
    headed = write(tmp_path / "b.tsv", "en\tnl\n" + "".join(f"{a}\t{b}\n" for a, b in PAIRS))
    flat = write(tmp_path / "a.jsonl", "".join(json.dumps({"nl": b, "en": a, "x": 1}) + "\n" for a, b in PAIRS))
    nested = [{"translation": {"en": a, "nl": b}} for a, b in PAIRS]
    deep = write(tmp_path / "b.jsonl.gz", "".join(json.dumps(row) + "\n" for row in nested))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(nested), tmp_path / "a.parquet")
    for names, fields in (
        (lines, ("en", "nl")),
        ([tsv], ("en", "nl")),
        ([headed], ("en", "nl")),
        ([flat], ("en", "nl")),
        ([deep], ("translation.en", "translation.nl")),
        ([tmp_path / "a.parquet"], ("translation.en", "translation.nl")),
    ):
        assert list(align.read_pairs(names, fields)) == PAIRS, names
    assert list(align.read_pairs([*lines, flat])) == PAIRS * 2
    assert list(align.read_pairs([flat], ("nl", "en"))) == [(b, a) for a, b in PAIRS]


TEXT = "Het (oude) huis: 't Zwaantje, in café Délft!"


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "BPE", "whole sentences"])
def test_words_do_not_depend_on_the_kind_of_pieces(dutch, kind):
    if kind == "whole sentences":  # a pre-tokenizer that cuts nothing: the marks tell words apart
        spec = json.loads(dutch["Unigram"].json)
        spec["pre_tokenizer"]["split"] = False
        dutch = {kind: framed(Tokenizer.from_str(json.dumps(spec)), "<s>", "</s>")}
    side = Text(Vocabulary(dutch[kind], kind))
    side.add([TEXT, "", "huis"])
    words = [side.vocabulary.word(word) for word in side.numbers]
    rest = [word for word in (words[number] for number in side.words) if word]  # Unigram has the mark before a bracket as a piece
    assert rest == ["Het", "(", "oude", ")", "huis", ":", "'", "t", "Zwaantje", ",", "in", "café", "Délft", "!", "huis"]
    assert list(side.lengths)[1:] == [0, 1] and sum(side.lengths) == len(side.words)
    counted = collections.Counter(id for text in (TEXT, "huis") for id in dutch[kind].backend.encode(text, add_special_tokens=False).ids)
    assert {id: n for id, n in enumerate(side.counts.tolist()) if n} == counted


# --- alignment --------------------------------------------------------------------------------------------------------------


def slow_align(pairs: list[tuple[list, list]], iterations: int) -> dict:
    """{(source word, target word): count} by the formulas, one cell at a time."""
    links = {(s, t) for a, b in pairs for s in a for t in b}
    tables = [dict.fromkeys(links, 1.0), dict.fromkeys(links, 1.0)]  # given the source word, given the target word
    nulls = [dict.fromkeys({t for _, t in links}, 1.0), dict.fromkeys({s for s, _ in links}, 1.0)]

    def posterior(side, a, b, tension):
        """{(i, j): p}, {word: p of null}"""
        found, null = {}, collections.Counter()
        near = {(i, j): math.exp(-tension * abs((i + 1) / len(a) - (j + 1) / len(b))) for i in range(len(a)) for j in range(len(b))}
        for k, word in enumerate((b, a)[side]):
            row = {cell: near[cell] for cell in near if cell[1 - side] == k}
            joint = {(i, j): 0.92 * p / sum(row.values()) * tables[side][a[i], b[j]] for (i, j), p in row.items()}
            nothing = 0.08 * nulls[side][word]
            total = sum(joint.values()) + nothing
            found |= {cell: p / total for cell, p in joint.items()}
            null[word] += nothing / total
        return found, null

    def estimate(counts, given):
        sums = collections.Counter()
        for key, count in counts.items():
            sums[given(key)] += count + 0.01
        return {key: math.exp(digamma(count + 0.01) - digamma(sums[given(key)])) for key, count in counts.items()}

    for tension in [0.0] * iterations + [4.0] * iterations:
        results = []
        for side in (0, 1):
            counts, null = dict.fromkeys(links, 0.0), collections.Counter()
            for a, b in pairs:
                found, some = posterior(side, a, b, tension)
                null.update(some)
                for (i, j), p in found.items():
                    counts[a[i], b[j]] += p
            results.append((estimate(counts, lambda link: link[side]), estimate(null, lambda word: None)))
        tables, nulls = [table for table, _ in results], [null for _, null in results]
    agreed = collections.Counter()
    for a, b in pairs:
        (forward, _), (backward, _) = (posterior(side, a, b, 4.0) for side in (0, 1))
        for i, j in forward:
            agreed[a[i], b[j]] += forward[i, j] * backward[i, j]
    return agreed


LITTLE = [("the house", "het huis"), ("the book is red", "het boek is rood"), ("a house", "een huis"), ("red", "rood"), ("", "leeg"),
          ("a red book the house", "een rood boek"), ("is the book", "is het boek er"), ("the house", "het huis")]  # fmt: skip


@pytest.mark.parametrize("block", [1, 9, 1 << 20])
def test_alignment_equals_the_slow_version(monkeypatch, block):
    monkeypatch.setattr(align, "BLOCK", block)
    words = [sorted({word for pair in LITTLE for word in pair[side].split()}) for side in (0, 1)]
    both = sides(LITTLE, wordpiece(words[0]), wordpiece(words[1]))
    chunks = list(align.chunk_pairs(*both))
    assert len(chunks) > 3 or block > 9
    name = [lambda ids, side=side: side.vocabulary.word(ids) for side in both]
    found = {(name[0](s), name[1](t)): count for s, t, count in align.align(*both, min_count=1e-9)}
    expected = slow_align([(a.split(), b.split()) for a, b in LITTLE if a], align.ITERATIONS)
    for link, count in expected.items():
        assert found.get(link, 0.0) == pytest.approx(count, rel=1e-9, abs=1e-8), link
    assert found["house", "huis"] > 2.5 > 0.1 > found.get(("the", "huis"), 0)


def test_prior_by_hand():
    near, far = math.exp(-4 * 0), math.exp(-4 * 0.5)
    expected = 0.92 * np.array([[near, far], [far, near]]) / (near + far)  # |1/2 - 1/2|, |1/2 - 2/2|
    assert align.prior(2, 2, 1, 4.0) == pytest.approx(expected)
    steep = align.prior(3, 5, 0, 7.0)
    assert steep.shape == (5, 3) and steep.sum(0) == pytest.approx(0.92)
    assert align.prior(3, 5, 1, 0.0) == pytest.approx(0.92 / 3)


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "BPE"])
def test_a_constructed_language_is_aligned(corpus, english, dutch, kind):
    source, target = sides(corpus, english, dutch[kind])
    best = {}
    for s, t, count in align.align(source, target):
        best[t] = max(best.get(t, (0, None)), (count, source.vocabulary.word(s)))
    often = np.bincount(target.words, minlength=len(target.numbers)) >= 20
    frequent = {word: text for word, number in target.numbers.items() if often[number] and (text := target.vocabulary.word(word))}
    wrong = {text: best.get(word) for word, text in frequent.items() if best.get(word, (0, ""))[1] != samples.enciphered(text)}
    assert len(frequent) > 150 and len(wrong) <= 0.05 * len(frequent), wrong


def test_a_table_of_words(tmp_path, english, dutch):
    source, target = align.Vocabulary(english, "en"), align.Vocabulary(dutch["WordPiece"], "nl")
    path = write(tmp_path / "b.tsv", "huis\thouse\nrood\tred\t3\nboek\tbook\t12.5\n")
    pairs = align.read_table(path, target, source, 10)
    assert pairs == [(target.ids("huis"), source.ids("house"), 10), (target.ids("boek"), source.ids("book"), 12.5)]
