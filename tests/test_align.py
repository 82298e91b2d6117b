"""align.py: parallel text, words, and which of them translate each other.

    python -m pytest tests/test_align.py

The alignment is judged by a slow version written from the formulas, and on a constructed language
whose words are known.
"""

import collections
import gzip
import json
import math

import numpy as np
import pyarrow.json
import pyarrow.parquet
import pytest
from scipy.special import digamma
from test_trim_vocab import counted
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import align
import model_folder
from align import Text, Vocabulary
from files import InputError
from tools import samples

BERT = "[PAD] [UNK] [CLS] [SEP] [MASK]"


def framed(backend: Tokenizer, *ends: str) -> model_folder.Tokenizer:
    """With these two tokens around every text."""
    start, end = ((token, backend.token_to_id(token)) for token in ends)
    backend.post_processor = processors.BertProcessing(end, start)
    return model_folder.Tokenizer(backend.to_str().encode(), {})


def wordpiece(pieces: str, special=BERT, lowercase=False) -> model_folder.Tokenizer:
    """A WordPiece tokenizer of these pieces; `special` come first and in this order."""
    vocabulary = {piece: id for id, piece in enumerate(f"{special} {pieces}".split())}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(special.split())
    return framed(backend, "[CLS]", "[SEP]")


def write(path, text: str) -> str:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return str(path)


def read_sides(pairs, source, target) -> tuple[Text, Text]:
    sides = Text(Vocabulary(source, "en")), Text(Vocabulary(target, "nl"))
    align.read_sides(*sides, pairs)
    return sides


# --- parallel text --------------------------------------------------------------------------------

PAIRS = [("Hi.", "Hoi."), ('"Go', "Ga, nu"), ("", "alleen"), ("The end", "Het einde")]
FILES = {
    "en.txt": 'Hi.\n"Go\n\nThe end\n',
    "nl.txt.gz": "Hoi.\nGa, nu\nalleen\nHet einde\n",
    "columns.tsv.gz": 'Hi.\tHoi.\tCC-BY\n"Go\tGa, nu\n\talleen\nThe end\tHet einde\tx\n',
    "header.tsv": 'en\tnl\nHi.\tHoi.\n"Go\tGa, nu\n\talleen\nThe end\tHet einde\n',
    "flat.jsonl": r"""{"nl": "Hoi.", "en": "Hi.", "x": 1}
{"nl": "Ga, nu", "en": "\"Go"}
{"nl": "alleen", "en": ""}
{"en": "The end", "nl": "Het einde"}""",
    "nested.jsonl.gz": r"""{"translation": {"en": "Hi.", "nl": "Hoi."}}
{"translation": {"en": "\"Go", "nl": "Ga, nu"}}
{"translation": {"en": "", "nl": "alleen"}}
{"translation": {"en": "The end", "nl": "Het einde"}}""",
}


def test_every_format_gives_the_same_pairs(tmp_path):
    en, nl, *tables = (write(tmp_path / name, text) for name, text in FILES.items())
    nested = pyarrow.json.read_json(tmp_path / "nested.jsonl.gz")
    pyarrow.parquet.write_table(nested, tmp_path / "nested.parquet")
    for path in (*tables, f"{tmp_path}/nested.parquet"):
        fields = ("translation.en", "translation.nl") if "nested" in path else ("en", "nl")
        assert list(align.read_pairs([path], fields)) == PAIRS, path
    assert list(align.read_pairs([en, nl, tables[0]])) == PAIRS * 2
    swapped = align.read_pairs([tmp_path / "flat.jsonl"], ("nl", "en"))
    assert list(swapped) == [(nl, en) for en, nl in PAIRS]


ROWS = '{"en": "a", "nl": "x"}\n{"en": "b"}\n'
MISTAKES = [  # {file: content}, the target's field, message
    ({"en.txt": "a\n\nb\n", "nl.txt": "x\ny\n"}, "nl",
     r"nl.txt: ends after line 2, .*en.txt does not; expected lines that translate each other"),
    ({"nl.txt": "x\ny\n", "en.txt": "a\n\nb\n"}, "nl", "nl.txt: ends after line 2, .*en.txt does"),
    ({"en.txt": "a\n"}, "nl", "en.txt: one language only; expected the file with the other right"),
    ({"en.txt": "a\n", "nowhere.txt": None}, "nl", "nowhere.txt: no such file"),
    ({"a.tsv": "a\tx\nb\n"}, "nl", "a.tsv:2: expected source<TAB>target, found 'b'"),
    ({"a.jsonl": ROWS}, "nl", "a.jsonl:2: no column 'nl'; the row has en"),
    ({"a.jsonl": ROWS}, "nl.x", r"a.jsonl:1: field 'nl.x': expected a text, found .* --fields"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "field", "message"), MISTAKES)
def test_parallel_text_with_a_mistake_is_refused(tmp_path, files, field, message):
    for name, content in files.items():
        if content is not None:
            write(tmp_path / name, content)
    with pytest.raises((InputError, FileNotFoundError), match=message):
        list(align.read_pairs([tmp_path / name for name in files], ("en", field)))


def test_parallel_text_without_two_sides_is_refused():
    pairs = [("", "x"), ("a", ""), ("a " * 1025, "x " * 1024)]  # the last would take 130 MB
    with pytest.raises(InputError, match="no pair with words on both sides, at most 1,048,576 wor"):
        align.align(*read_sides(pairs, wordpiece("a"), wordpiece("x")))


# --- words ----------------------------------------------------------------------------------------

TEXT = "Het (oude) huis: 't Zwaantje, in café Délft!"
WORDS = "Het ( oude ) huis : ' t Zwaantje , in café Délft !".split()


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "BPE", "Unigram of complete sentences"])
def test_words_do_not_depend_on_the_kind_of_pieces(dutch, kind):
    tokenizer = dutch[kind.split()[0]]
    if "sentences" in kind:  # a pre-tokenizer that cuts nothing: the marks tell words apart
        spec = json.loads(tokenizer.json)
        spec["pre_tokenizer"]["split"] = False
        tokenizer = framed(Tokenizer.from_str(json.dumps(spec)), "<s>", "</s>")
    side = Text(Vocabulary(tokenizer, kind))
    side.add([TEXT, "", "huis"])
    words = [side.vocabulary.word(word) for word in side.numbers]
    # Unigram's mark before a bracket is a piece without text.
    assert list(filter(None, (words[number] for number in side.words))) == [*WORDS, "huis"]
    assert list(side.lengths)[1:] == [0, 1] and sum(side.lengths) == len(side.words)
    counts = collections.Counter(dict(enumerate(side.counts)))
    assert counts == counted(tokenizer.backend, [TEXT, "huis"])


# --- alignment ------------------------------------------------------------------------------------


def slow_posteriors(pairs: list[tuple[list, list]]) -> list[np.ndarray]:
    """p(second word j belongs to first word i) of each pair, by the formulas, one cell at a time.

    Five iterations of model 1, five of model 2, and a last look at the sentences.
    """
    links, nulls = collections.defaultdict(lambda: 1.0), collections.defaultdict(lambda: 1.0)
    for tension in [0.0] * 5 + [4.0] * 6:
        posteriors, link_counts, null_counts = [], collections.Counter(), collections.Counter()
        for first, second in pairs:
            m, n = len(first), len(second)
            posterior = np.zeros((m, n))
            for j, word in enumerate(second):
                near = [math.exp(-tension * abs((i + 1) / m - (j + 1) / n)) for i in range(m)]
                joint = [0.92 * near[i] / sum(near) * links[first[i], word] for i in range(m)]
                by_null = 0.08 * nulls[word]
                null_counts[word] += by_null / (sum(joint) + by_null)
                for i in range(m):
                    posterior[i, j] = joint[i] / (sum(joint) + by_null)
                    link_counts[first[i], word] += posterior[i, j]
            posteriors.append(posterior)
        links = slow_estimate(link_counts, lambda link: link[0])
        nulls = slow_estimate(null_counts, lambda word: None)
    return posteriors


def slow_estimate(counts: dict, given) -> dict:
    """Variational Bayes with a Dirichlet prior of 0.01."""
    sums = collections.Counter()
    for key, count in counts.items():
        sums[given(key)] += count + 0.01
    log = {key: digamma(count + 0.01) - digamma(sums[given(key)]) for key, count in counts.items()}
    return {key: math.exp(value) for key, value in log.items()}


LITTLE = """the house > het huis
the book is red > het boek is rood
a house > een huis
red > rood
 > leeg
a red book the house > een rood boek
is the book > is het boek er
the house > het huis"""
PIECES = "the house book is red a", "het huis boek is rood een leeg er"


@pytest.mark.parametrize("block", [1, 9, 1 << 20])
def test_alignment_equals_the_slow_version_whatever_the_chunks(monkeypatch, block):
    monkeypatch.setattr(align, "BLOCK", block)
    texts = [line.split(" > ") for line in LITTLE.splitlines()]
    sides = read_sides(texts, *map(wordpiece, PIECES))
    assert len(list(align.chunk_pairs(*sides))) > 3 or block > 9
    english, dutch = (side.vocabulary.word for side in sides)
    links = {(english(s), dutch(t)): n for s, t, n in align.align(*sides, min_count=1e-9)}

    pairs = [(en.split(), nl.split()) for en, nl in texts if en]
    forward, backward = slow_posteriors(pairs), slow_posteriors([(nl, en) for en, nl in pairs])
    expected = collections.Counter()
    for (first, second), ahead, back in zip(pairs, forward, backward, strict=True):
        for (i, j), value in np.ndenumerate(ahead * back.T):
            expected[first[i], second[j]] += value
    for link, count in expected.items():
        assert links.get(link, 0.0) == pytest.approx(count, rel=1e-9, abs=1e-8), link
    assert links["house", "huis"] > 2.5 > 0.1 > links.get(("the", "huis"), 0)


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "BPE"])
def test_frequent_words_of_a_constructed_language_are_aligned(corpus, english, dutch, kind):
    source, target = read_sides(corpus, english, dutch[kind])
    by_count = sorted(align.align(source, target), key=lambda pair: pair[2])
    best = {target.vocabulary.word(t): source.vocabulary.word(s) for s, t, _ in by_count}
    times = np.bincount(target.words)
    words = [target.vocabulary.word(word) for word, n in target.numbers.items() if times[n] >= 20]
    right = [best.get(word) == samples.enciphered(word) for word in words if word]
    assert len(right) > 150 and np.mean(right) >= 0.95
