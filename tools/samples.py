"""Text and tokenizers that the benchmarks and the tests make for themselves.

Parallel text whose translations are known (`constructed`), and BERT tokenizers trained on texts.
"""

import random
import re
from pathlib import Path

from tokenizers import BertWordPieceTokenizer, processors

from files import InputError
from model_folder import Tokenizer
from trim_vocab import read_corpus

DEMO = Path(__file__).parent.parent / "demo"
# In the cipher, vowels become vowels and consonants become consonants.
CIPHER = str.maketrans("aeioubcdfghjklmnpqrstvwxyz", "eiouacdfghjklmnpqrstvwxyzb")


def constructed(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(made-up, Dutch) pairs of sentences, `count` of them.

    The Dutch is of `demo/`. The made-up side has its words in a cipher, some of them dropped and
    some moved by up to three places. The translation of a word is `enciphered(word)`, so what an
    aligner should find is known.
    """
    files = [*sorted(DEMO.glob("corpus/*.jsonl.gz")), *sorted(DEMO.glob("train/*.jsonl.gz"))]
    split = (re.split(r"(?<=[.?!]) +", text) for text in read_corpus(files))
    sentences = list(dict.fromkeys(sentence for parts in split for sentence in parts))
    if count > len(sentences):
        raise InputError(
            f"{count:,} pairs: the bundled text has {len(sentences):,} sentences; "
            "ask for fewer, or give your own text by --parallel"
        )

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


def wordpiece(texts, size: int, lowercase: bool, special: list[str] | None = None) -> Tokenizer:
    """A BERT tokenizer with at most `size` pieces, trained on texts.

    special: the first pieces, in this order, instead of BERT's own order.
    """
    backend = BertWordPieceTokenizer(lowercase=lowercase)
    options = {"special_tokens": special} if special else {}
    backend.train_from_iterator(texts, vocab_size=size, show_progress=False, **options)
    end, start = ((token, backend.token_to_id(token)) for token in ("[SEP]", "[CLS]"))
    backend.post_processor = processors.BertProcessing(end, start)
    return Tokenizer(backend.to_str().encode(), {})
