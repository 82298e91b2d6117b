"""About what the paper's pipeline takes, computed before it is run: downloads, disk, memory, and hours of a GPU (arXiv 2509.12340).

Hours are those of the matrix products, counted for real lengths without padding, at an assumed share of what a GPU is rated at; all else
that a GPU does comes on top, so they are a lower bound. Bytes come from counts of texts, words, parameters and embeddings. What is
assumed says so. `reproduce.py --dry-run` and `tools.bench evaluate` print these estimates.
"""

from typing import NamedTuple

import mteb_nl

SHAPES = {  # width, layers, heads, feed-forward width of multilingual-e5-small, -base and -large, and of e5-v2's
    "small": (384, 12, 12, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
}
PIECES = {"trim": (250_002, 50_002), "transtokenize": (30_522, 30_073)}  # before and after
# 10^12 operations a second that the makers rate them at, without sparsity: bfloat16 products with float32 sums, and float32.
GPUS = {"H200": (989, 67), "H100": (989, 67), "A100": (312, 19.5), "L40S": (362, 91.6), "L4": (121, 30.3), "RTX 4090": (165, 82.6)}
SHARE = {"bfloat16": 2 / 5, "float32": 2 / 3}  # assumed: how much of that products of these sizes sustain
PIECES_A_WORD = 1.52  # of Dutch (measured: docs/initialisation.md)
BYTES_A_WORD, BYTES_A_ROW = 6, 80  # assumed: with its space; keys, id and title of a row
PACKED = 0.4  # assumed: what compression leaves
STRING = 57  # bytes that Python adds to a text
EMBEDDED, TRAINED = 65536, 8192  # tokens that go through the encoder at once on a GPU (e5nl.CHUNK_TOKENS, --chunk-tokens)
ACTIVATIONS = 34  # bytes a token and number of its width in one layer, in bfloat16 (arXiv 2205.05198, section 4.1, without attention's own)
C4_WORDS, OPUS_PAIRS, OPUS_WORDS = 50e6, 1_000_000, 10  # assumed: a thousandth of C4's Dutch; words of a sentence
SYNTHETIC, KEPT, SYNTHETIC_BYTES, SYNTHETIC_WORDS = 499_252, 350_000, 411e6, 80  # rows, what the filter keeps; assumed: words of a text


class Needs(NamedTuple):
    """About what a stage takes: bytes, and floating point operations of matrix products."""

    download: float = 0
    disk: float = 0  # beside the downloads
    memory: float = 0  # of all processes together
    gpu: float = 0  # memory of one GPU
    bfloat16: float = 0
    float32: float = 0

    def hours(self, gpu: str) -> float:
        return sum(getattr(self, dtype) / (rate * 1e12) for dtype, rate in sustained(gpu).items()) / 3600


class Retrieval(NamedTuple):
    """How large a retrieval data set with a training split is."""

    pairs: int  # of a query and a positive, in training
    queries: int  # in training
    passages: int
    words: tuple[float, float]  # mean of a query and of a passage, of the English original (BEIR, arXiv 2104.08663, table 1)
    judgements: float = 0.0  # bytes of their file, where it is large


def sustained(gpu: str) -> dict[str, float]:
    """10^12 operations a second, assumed."""
    return {dtype: rate * SHARE[dtype] for dtype, rate in zip(SHARE, GPUS[gpu], strict=True)}


def operations(shape: tuple[int, int, int, int], texts) -> float:
    """Floating point operations of the matrix products that `texts`, [(how many, tokens of each), …], need, padding left out."""
    width, layers, _, inner = shape
    linear = 4 * width**2 + 2 * width * inner
    return layers * sum(count * (2 * length * linear + 4 * length * length * width) for count, length in texts)


def parameters(size: str, pieces: int) -> int:
    """Of an encoder, to half a percent: positions are 512 to 514, token types 1 or 2, and some have a pooler."""
    width, layers, _, inner = SHAPES[size]
    return (pieces + 512) * width + layers * (4 * width**2 + 2 * width * inner + 9 * width + inner)


def tokens(words: float) -> float:
    """With the special tokens and the prefix."""
    return words * PIECES_A_WORD + 5


def benchmark() -> list[tuple[int, float]]:
    """[(texts, tokens of each at most), …] of the 40 tasks.

    From mteb's statistics: texts and characters of each part, 4.3 characters a token (XLM-R's pieces on Dutch), 2 special tokens and 3 of
    a prefix, at most 512. The mean of the cut lengths is at most the cut mean, so each part has at most its texts times that. Parts of
    equal size are the same texts, embedded once. Of the training splits only what is drawn is embedded; it is left out.
    """
    parts = {size for task in mteb_nl.TASKS for name, size in task.sizes.items() if name != "train"}
    return [(texts, min(512, characters / texts / 4.3 + 5)) for texts, characters in parts]


# --- the stages -----------------------------------------------------------------------------------------------------------------


def initialise(size: str, init: str) -> Needs:
    before, after = (4 * parameters(size, pieces) for pieces in PIECES[init])
    if init == "trim":
        return Needs(before + C4_WORDS * BYTES_A_WORD * PACKED, after, before + 1e8)
    text, cells = 2 * OPUS_PAIRS * OPUS_WORDS * BYTES_A_WORD, OPUS_PAIRS * OPUS_WORDS**2
    return Needs(before + text * PACKED, after, before + after + text + 2 * OPUS_PAIRS * STRING + 7 * cells)  # 7 bytes: measured


def prepare(source: Retrieval) -> Needs:
    query, passage = (words * BYTES_A_WORD for words in source.words)
    text = source.queries * query + source.pairs * passage
    download = source.passages * (passage + BYTES_A_ROW) + source.queries * (query + BYTES_A_ROW) + source.judgements
    return Needs(download, text * PACKED, text + 450 * source.pairs + 6e7)  # 450: ids, strings, tables of a pair


def mine(source: Retrieval, miner: str, processes: int, top: int, negatives: int, first: bool) -> Needs:
    """first: the mining model is not here yet."""
    size = next((size for size in SHAPES if f"-{size}" in miner), "base")
    width, weights = SHAPES[size][0], parameters(size, PIECES["trim"][0])
    query, passage = source.words
    embedding = operations(SHAPES[size], [(source.passages, tokens(passage)), (source.queries, tokens(query))])
    search = 2 * source.queries * source.passages * width
    blocks = 2 * source.passages * width * 2  # of embeddings in bfloat16, then joined
    rows = source.queries * (2 + negatives) * passage * BYTES_A_WORD * PACKED
    memory = processes * (source.passages * (passage * BYTES_A_WORD + STRING + 150) + 4 * weights) + source.queries * top * 13
    searched = source.queries / processes * (4 * width + 8 * (2 * top + 32)) + 65536 * (4096 * 2 + width * 4)  # see search.top_k
    return Needs(4 * weights * first, blocks + rows, memory, 2 * weights + searched + ACTIVATIONS * EMBEDDED * width, embedding + search)


def synthetic() -> Needs:
    disk = KEPT * 3 * SYNTHETIC_WORDS * BYTES_A_WORD * PACKED
    return Needs(SYNTHETIC_BYTES, disk, SYNTHETIC * 32 + 4e8)  # scores and types of all rows, pyarrow and a block of rows


def train(size: str, init: str, annotated: list[tuple[Retrieval, float]], processes: int, negatives: int) -> Needs:
    """annotated: with the share that is trained on. Gradient caching (e5nl.backward) is two passes forward and one back, worth four."""
    weights, (width, layers, *_) = parameters(size, PIECES[init][1]), SHAPES[size]
    texts, memory = [(3 * KEPT, tokens(SYNTHETIC_WORDS))], 3 * KEPT * (SYNTHETIC_WORDS * BYTES_A_WORD + STRING)
    for source, ratio in annotated:
        query, passage = source.words
        texts += [(source.queries * ratio, tokens(query)), (2 * source.queries * ratio, tokens(passage))]
        memory += source.queries * (2 + negatives) * (passage * BYTES_A_WORD + STRING)
    gpu = 16 * weights + ACTIVATIONS * TRAINED * layers * width  # weights, gradient, two moments
    disk = 3 * 12 * weights + 4 * weights  # two checkpoints and the one that is being written; the model
    return Needs(0, disk, processes * (memory + 4 * weights), gpu, 4 * operations(SHAPES[size], texts))


def evaluate(size: str, init: str) -> Needs:
    width, weights = SHAPES[size][0], 4 * parameters(size, PIECES[init][1])
    parts = [(sum(n for n, _ in task.sizes.values()), sum(c for _, c in task.sizes.values())) for task in mteb_nl.TASKS]
    largest = max(texts * (4 * width + STRING) + characters for texts, characters in parts)
    disk = sum(texts for texts, _ in benchmark()) * 4 * width
    gpu = weights + 2 * ACTIVATIONS * EMBEDDED * width
    return Needs(sum(characters for _, characters in parts), disk, weights + largest, gpu, float32=operations(SHAPES[size], benchmark()))
