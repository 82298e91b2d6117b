"""A trimmed folder as transformers and sentence-transformers load it.

    pip install -r tests/parity/requirements.txt && python -m pytest tests/parity/test_trim.py

The real tokenizer of XLM-R, trimmed on real Dutch, in a folder that e5nl wrote and in one that
transformers wrote. The originals, as transformers reads them, are the judges.
"""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

import e5nl
from files import read_json, write_json
from trim_vocab import main, read_corpus

DEMO = Path(__file__).parents[2] / "demo"
CORPUS = f"{DEMO}/corpus/tatoeba.jsonl.gz"
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
NAMES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
SHAPE = {
    "vocab_size": 250_002,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 66,
    "type_vocab_size": 1,
}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    odd = ["", "  twee  spaties ", "e\u0301e\u0301n “huis” ĳ 龍龍 <mask>"]
    return list(read_corpus([f"{CORPUS}:20400"]))[20000:] + odd


@pytest.fixture(scope="module", params=["written by e5nl", "written by transformers"])
def folders(request, tmp_path_factory) -> tuple[Path, Path]:
    """(original, trimmed)."""
    root = tmp_path_factory.mktemp("folders")
    model, trimmed = root / "model", root / "trimmed"
    stored = lzma.decompress((DEMO / "tokenizer.json.xz").read_bytes())
    config = e5nl.Config("xlm-roberta", **SHAPE, layer_norm_eps=1e-5, pad_token_id=1)
    e5nl.save(e5nl.new_encoder(config, seed=1), e5nl.Tokenizer(stored, {}), model)
    if request.param == "written by transformers":
        let_transformers_write(model)
    assert main(["--model", str(model), "--corpus", f"{CORPUS}:20000", "--out", str(trimmed)]) == 0
    return model, trimmed


def let_transformers_write(folder) -> None:
    """As version 5 does, with a pooler, and with what version 4 says about special tokens too."""
    torch.manual_seed(1)
    settings = folder / "tokenizer_config.json"
    write_json(settings, NAMES | {"tokenizer_class": "XLMRobertaTokenizer"})
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    XLMRobertaModel(XLMRobertaConfig(**SHAPE)).save_pretrained(folder)
    ids = dict(enumerate(SPECIAL)) | {250_001: "<mask>"}
    decoder = {str(id): {"content": token, "special": True} for id, token in ids.items()}
    write_json(settings, read_json(settings) | {"added_tokens_decoder": decoder})
    write_json(folder / "special_tokens_map.json", NAMES)


@pytest.fixture(scope="module")
def tokenizers(folders) -> list:
    """(original, trimmed), as transformers loads them."""
    return [AutoTokenizer.from_pretrained(folder) for folder in folders]


@pytest.fixture(scope="module")
def kept(tokenizers, texts) -> list[str]:
    """Texts whose pieces, and those of the prefix, are all kept."""
    before, after = tokenizers
    pieces = after.get_vocab().keys()
    return [text for text in texts if set(before.tokenize(f"query: {text}")) <= pieces]


def test_auto_tokenizer_gives_the_ids_of_texts_and_pairs(folders, tokenizers, texts):
    ours, theirs = e5nl.read_tokenizer(folders[1]).backend, tokenizers[1]
    assert [ours.encode(text).ids for text in texts] == theirs(texts)["input_ids"]
    others = ["ja: " + text for text in texts]
    pairs = zip(texts, others, strict=True)
    assert [ours.encode(*pair).ids for pair in pairs] == theirs(texts, others)["input_ids"]


def test_sizes_and_special_tokens_are_where_the_configuration_says(folders, tokenizers):
    theirs, config = tokenizers[1], json.loads((folders[1] / "config.json").read_text())
    size = len(theirs)
    assert size == theirs.vocab_size == config["vocab_size"] < 20_000
    assert theirs.convert_ids_to_tokens([0, 1, 2, 3, size - 1]) == [*SPECIAL, "<mask>"]
    assert (theirs.pad_token_id, theirs.unk_token_id, theirs.mask_token_id) == (1, 3, size - 1)


def test_the_trimmed_tokenizer_decodes_and_pads(tokenizers):
    theirs = tokenizers[1]
    ids = theirs("Het regent hier.")["input_ids"]
    assert theirs.decode(ids, skip_special_tokens=True) == "Het regent hier."
    batch = theirs(["Het regent.", "Ja."], padding=True, return_tensors="pt")
    assert batch["input_ids"][1, -1] == 1 and batch["attention_mask"][1, -1] == 0


def test_a_trimmed_folder_saved_again_stays_the_same(tokenizers, texts, tmp_path):
    tokenizers[1].save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(texts)["input_ids"] == tokenizers[1](texts)["input_ids"]


def test_embeddings_of_sentence_transformers_stay_to_the_last_bit(folders, kept):
    assert len(kept) > 100
    before, after = (SentenceTransformer(str(folder), device="cpu") for folder in folders)
    embeddings = (model.encode(kept[:50], prompt_name="query") for model in (before, after))
    assert np.array_equal(*embeddings)
