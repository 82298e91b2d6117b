"""Text, tokenizers and models that the benchmarks and the tests make for themselves.

Parallel text whose translations are known, BERT tokenizers trained on texts, encoders of real
shapes with random weights, and Dutch texts of the demo.
"""

import contextlib
import io
import itertools
import random
import re
from pathlib import Path

from tokenizers import BertWordPieceTokenizer, processors

import e5nl
from data import read_source
from model_folder import Tokenizer
from trim_vocab import read_corpus

DEMO = Path(__file__).parent.parent / "demo"
# width, layers, heads, inner width of multilingual-e5-small, -base and -large
SHAPES = {
    "small": (384, 12, 12, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
}
# In the cipher, vowels become vowels and consonants become consonants.
CIPHER = str.maketrans("aeioubcdfghjklmnpqrstvwxyz", "eiouacdfghjklmnpqrstvwxyzb")


def constructed(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(made-up, Dutch) pairs of sentences, `count` of them.

    The Dutch is of `demo/`. The made-up side has its words in a cipher, some of them dropped and
    some moved by up to three places. The translation of a word is `enciphered(word)`, so what an
    aligner should find is known.
    """
    files = [*sorted(DEMO.glob("corpus/*.jsonl.gz")), *sorted(DEMO.glob("train/*.jsonl.gz"))]
    split = (re.split(r"(?<=[.?!]) +", text) for text in read_corpus(map(str, files)))
    sentences = list(dict.fromkeys(sentence for parts in split for sentence in parts))

    generator = random.Random(seed)
    pairs = []
    for sentence in generator.sample(sentences, count):
        words = re.findall(r"\w+|[^\w\s]", sentence)
        words = [word for word in words if generator.random() > 0.05]
        order = sorted(range(len(words)), key=lambda i: i + generator.uniform(0, 3))
        pairs.append((" ".join(enciphered(words[i]) for i in order), sentence))
    return pairs


def enciphered(word: str) -> str:
    """The word in lower case, with every letter replaced by another one."""
    return word.lower().translate(CIPHER)


def wordpiece(texts, size: int, lowercase: bool) -> Tokenizer:
    """A BERT tokenizer with at most `size` pieces, trained on texts."""
    backend = BertWordPieceTokenizer(lowercase=lowercase)
    backend.train_from_iterator(texts, vocab_size=size, show_progress=False)
    end, start = ((token, backend.token_to_id(token)) for token in ("[SEP]", "[CLS]"))
    backend.post_processor = processors.BertProcessing(end, start)
    return Tokenizer(backend.to_str().encode(), {})


def make_model(shape: str, folder) -> None:
    """A model folder with random weights of a real shape, and XLM-R's own tokenizer."""
    words = ["init", "--tokenizer", DEMO / "tokenizer.json.xz", "--overwrite", "--out", folder]
    names = ("--width", "--layers", "--heads", "--intermediate")
    for option in zip(names, SHAPES[shape], strict=True):
        words += option
    with contextlib.redirect_stdout(io.StringIO()):
        e5nl.main(list(map(str, words)))


def demo_texts(kind: str, count: int) -> list[str]:
    """Different Dutch texts: `short` (titles and sentences) or `long` (questions in parliament)."""
    titles, sentences, answered = (
        read_source(DEMO / "train" / f"{name}.jsonl.gz").rows
        for name in ("dekamer_title_question", "ud_sentence_following", "dekamer_question_answer")
    )
    if kind == "short":
        sides = [row.query for row in titles], [row.query for row in sentences]
    else:
        sides = [row.pos[0] for row in titles], [row.query for row in answered]
    mixed = dict.fromkeys(text for pair in itertools.zip_longest(*sides) for text in pair if text)
    return list(mixed)[:count]
