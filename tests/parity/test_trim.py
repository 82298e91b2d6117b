"""A trimmed folder as transformers and sentence-transformers load it. Run: python -m pytest tests/parity/test_trim.py

Needs transformers, sentence-transformers and matplotlib (tests/parity has requirements of its own). Properties: AutoTokenizer gives the
ids of our own reading, single texts and pairs, for XLM-R folders in the layouts of transformers 4 and 5; special tokens are
where the configuration says; AutoModel's hidden states and SentenceTransformer's embeddings of texts whose pieces are all kept are
the original model's, bit for bit. The paper's parameter counts are those of transformers' own models.
"""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

import e5nl
from files import read_json, write_json
from model_folder import XLMR_TOKENS
from trim_vocab import main, read_corpus

DEMO = Path(__file__).parents[2] / "demo"
CORPUS = f"{DEMO}/corpus/tatoeba.jsonl.gz"
SPECIAL = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", 250_001: "<mask>"}


@pytest.fixture(scope="module")
def texts():
    return list(read_corpus([f"{CORPUS}:20400"]))[20000:] + [
        "",
        "  twee  spaties ",
        "e\u0301e\u0301n “huis” ĳ 龍龍 <mask>",
    ]


@pytest.fixture(scope="module", params=["written by e5nl", "written by transformers"])
def folders(request, tmp_path_factory):
    """(original, trimmed): the real tokenizer, random weights."""
    root = tmp_path_factory.mktemp("folders")
    tokenizer = e5nl.Tokenizer(lzma.decompress((DEMO / "tokenizer.json.xz").read_bytes()), {})
    e5nl.save(
        e5nl.new_encoder(e5nl.Config("xlm-roberta", 250_002, 12, 1, 3, 20, 66, 1, 1e-5, 1), seed=1),
        tokenizer,
        root / "model",
    )
    if request.param == "written by transformers":
        torch.manual_seed(1)
        config = XLMRobertaConfig(vocab_size=250_002, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
                                  max_position_embeddings=66, type_vocab_size=1)  # fmt: skip
        names = XLMR_TOKENS | {"tokenizer_class": "XLMRobertaTokenizer"}
        write_json(root / "model/tokenizer_config.json", names)
        AutoTokenizer.from_pretrained(root / "model").save_pretrained(root / "model")
        XLMRobertaModel(config).save_pretrained(root / "model")  # with a pooler
        # Version 4 repeats the special tokens and their ids in these places.
        decoder = {
            "added_tokens_decoder": {
                str(id): {"content": token, "special": True} for id, token in SPECIAL.items()
            }
        }
        write_json(
            root / "model/tokenizer_config.json",
            read_json(root / "model/tokenizer_config.json") | decoder,
        )
        write_json(root / "model/special_tokens_map.json", XLMR_TOKENS)
    arguments = [
        "--model",
        str(root / "model"),
        "--corpus",
        f"{CORPUS}:20000",
        "--out",
        str(root / "trimmed"),
    ]
    assert main(arguments) == 0
    return root / "model", root / "trimmed"


def test_auto_tokenizer_gives_the_same_ids(folders, texts):
    ours, theirs = (
        e5nl.read_tokenizer(folders[1]).backend,
        AutoTokenizer.from_pretrained(folders[1]),
    )
    assert [ours.encode(text).ids for text in texts] == theirs(texts)["input_ids"]
    assert [ours.encode(text, "ja: " + text).ids for text in texts] == theirs(
        texts, ["ja: " + text for text in texts]
    )["input_ids"]
    assert len(theirs) == theirs.vocab_size == ours.get_vocab_size() < 20_000
    assert theirs.convert_ids_to_tokens([0, 1, 2, 3, len(theirs) - 1]) == [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "<mask>",
    ]
    assert (theirs.pad_token_id, theirs.unk_token_id, theirs.mask_token_id) == (
        1,
        3,
        len(theirs) - 1,
    )
    assert json.loads((folders[1] / "config.json").read_text())["vocab_size"] == len(theirs)


def test_auto_tokenizer_agrees_with_the_original(folders, texts):
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in folders)
    vocabulary, compared = after.get_vocab(), 0
    for text in texts:
        pieces = before.convert_ids_to_tokens(before(text)["input_ids"])
        if all(piece in vocabulary for piece in pieces):
            compared += 1
            assert after.convert_ids_to_tokens(after(text)["input_ids"]) == pieces
    assert compared > 100
    assert (
        after.decode(after("Het regent hier.")["input_ids"], skip_special_tokens=True)
        == "Het regent hier."
    )
    batch = after(["Het regent.", "Ja."], padding=True, return_tensors="pt")
    assert batch["input_ids"][1, -1] == 1 and batch["attention_mask"][1, -1] == 0


def test_trimmed_folder_saved_again_stays_the_same(folders, texts, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folders[1])
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(texts)["input_ids"] == tokenizer(texts)["input_ids"]


def test_hidden_states_and_embeddings_stay(folders, texts):
    before, after = (e5nl.read_tokenizer(folder).backend for folder in folders)
    kept = [
        text
        for text in texts
        if set(before.encode("query: " + text).tokens) <= after.get_vocab().keys()
    ][:50]
    assert len(kept) == 50
    states = []
    for folder in folders:
        tokenizer, model = (
            AutoTokenizer.from_pretrained(folder),
            AutoModel.from_pretrained(folder).eval(),
        )
        with torch.no_grad():
            states.append(
                model(
                    **tokenizer(
                        ["query: " + text for text in kept], padding=True, return_tensors="pt"
                    )
                ).last_hidden_state
            )
    assert torch.equal(*states)
    if (folders[1] / "modules.json").exists():
        assert np.array_equal(
            *(
                SentenceTransformer(str(folder)).encode(kept, prompt_name="query")
                for folder in folders
            )
        )


@pytest.mark.parametrize(
    "model, config, width, layers, spare, before, after",
    [
        (BertModel, BertConfig(layer_norm_eps=1e-12), 384, 12, 35, 117_653_760, 40_840_320),
        (
            XLMRobertaModel,
            XLMRobertaConfig(max_position_embeddings=514, type_vocab_size=1),
            768,
            12,
            0,
            278_043_648,
            124_443_648,
        ),
        (
            XLMRobertaModel,
            XLMRobertaConfig(max_position_embeddings=514, type_vocab_size=1),
            1024,
            24,
            0,
            559_890_432,
            355_090_432,
        ),
    ],
)
def test_parameters_of_the_papers_models(model, config, width, layers, spare, before, after):
    """multilingual-e5-small is a BERT, -base and -large are XLM-R; on the meta device they take no memory."""
    shape = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }
    for vocab_size, parameters in ((250_002 + spare, before), (50_002, after)):
        with torch.device("meta"):
            made = model(
                config.__class__(**(config.to_dict() | shape | {"vocab_size": vocab_size}))
            )
        assert sum(parameter.numel() for parameter in made.parameters()) == parameters


def test_plot(folders, tmp_path):
    arguments = [
        "--model",
        str(folders[1]),
        "--corpus",
        f"{CORPUS}:3000",
        "--vocab-size",
        "2000",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--plot", str(tmp_path / "curve.svg")]) == 0
    assert b"<svg" in (tmp_path / "curve.svg").read_bytes()
