"""Model folders in the hands of transformers and sentence-transformers: read alike, written alike.

    pip install -r tests/parity/requirements.txt && python -m pytest tests/parity/test_folders.py

XLM-R's real tokenizer, cut to few pieces, over random weights. What a folder means is what the
judges make of it: each test lets them write or read a folder, and compares embeddings or ids.
"""

import itertools
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from transformers import AutoTokenizer

import e5nl
import model_folder
import trim_vocab
from files import InputError

DEMO = Path(__file__).parents[2] / "demo"
TEXTS = [
    "",
    "De fiets staat tegen de muur van het oude stadhuis in Utrecht.",
    "één café à Zürich, naïef",
    "eﬃciënt ﬁets æ œ ĳs",
    "ＡＢＣ１２３ full-width　spatie",
    "nul\u200bbreed\u200dte\ufeff en af\u00adbreek\u00adstreepje",
    "e\u0301e\u0301n de\u0301compositie",
    "  dubbele   spaties  \n en een regel",
    "<mask> en </s> in tekst",
    "Zij leest een boek over de geschiedenis van de taal. " * 20,
]


@pytest.fixture(scope="module")
def tokenizer() -> model_folder.Tokenizer:
    """XLM-R's, with its normaliser, cut to the pieces that these texts have."""
    stored = lzma.decompress((DEMO / "tokenizer.json.xz").read_bytes())
    backend = model_folder.Tokenizer(stored, {}).backend
    used = [encoding.ids for encoding in backend.encode_batch([*TEXTS, "zoek: query: passage:"])]
    kept = np.unique([*sum(used, []), *range(4), *range(1000), backend.token_to_id("<mask>")])
    spec, _ = trim_vocab.trim_files(trim_vocab.parse_tokenizer(stored), {}, {}, kept)
    return model_folder.Tokenizer(trim_vocab.dump_tokenizer(spec), {})


@pytest.fixture
def make_folder(tmp_path, tokenizer):
    """make_folder(model_type, …): a model folder with XLM-R's tokenizer; every weight random."""

    def make(model_type: str, **changes) -> Path:
        shape = (model_type, tokenizer.vocab_size, 12, 1, 3, 20, 66, 2, 1e-5)
        model = e5nl.new_encoder(e5nl.Config(*shape, int(model_type != "bert"), **changes), seed=1)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3, generator=generator)
        e5nl.save(model, tokenizer, tmp_path / "model")
        return tmp_path / "model"

    return make


@pytest.fixture
def folder(make_folder) -> Path:
    """A BERT with XLM-R's tokenizer, as multilingual-e5-small is."""
    return make_folder("bert")


def edit(path, **changes) -> None:
    values = json.loads(path.read_text()) if path.is_file() else {}
    values = {key: value for key, value in (values | changes).items() if value is not None}
    path.write_text(json.dumps(values))


def ours(folder, kind: str) -> np.ndarray:
    return e5nl.embed(*e5nl.load(folder), TEXTS, kind)


def theirs(folder, kind: str) -> np.ndarray:
    """encode_query and encode_document add the prefixes that the folder stores."""
    model = SentenceTransformer(str(folder), device="cpu")
    encode = {"query": model.encode_query, "passage": model.encode_document}[kind]
    return encode(TEXTS, normalize_embeddings=True)


def assert_same(folder) -> None:
    for kind in ("query", "passage"):
        np.testing.assert_allclose(ours(folder, kind), theirs(folder, kind), atol=5e-6)


# --- folders that we write ------------------------------------------------------------------------


PROMPTS = (("query", "vraag: "), ("passage", "tekst: "), ("none", ""))
KINDS = {"query": "query", "passage": "passage", "document": "passage", None: "none"}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_what_we_write_embeds_the_same_under_every_prompt(make_folder, model_type, pooling):
    folder = make_folder(model_type, pooling=pooling, prompts=PROMPTS)
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == e5nl.load(folder)[0].config.max_length
    for name, kind in KINDS.items():
        expected = model.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(ours(folder, kind), expected, atol=5e-6)


@pytest.mark.parametrize(
    "name",
    [None, "XLMRobertaTokenizer", "RobertaTokenizer", "TokenizersBackend", "BertTokenizer"],
)
def test_what_we_write_is_tokenised_the_same_whatever_class_it_came_with(folder, tmp_path, name):
    (folder / "tokenizer_config.json").unlink()
    edit(folder / "tokenizer_config.json", tokenizer_class=name, backend="tokenizers")
    edit(folder / "config.json", tokenizer_class="XLMRobertaTokenizer")
    (folder / "config_sentence_transformers.json").unlink()  # multilingual-e5 stores no prefixes
    model, tokenizer = e5nl.load(folder)
    e5nl.save(model, tokenizer, tmp_path / "saved")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "saved")
    limit = model.config.max_length
    assert tokens(TEXTS, truncation=True)["input_ids"] == tokenizer(TEXTS, "", limit)
    assert tokens.pad_token_id == 1 and tokens.add_prefix_space
    assert_same(tmp_path / "saved")


INSTRUCTED = "--prefix instruct --batch-size 4 --steps 2 --lr 1e-3"


@pytest.mark.parametrize("options", ["", "--dims 8,3", "--dims 12,6"])
def test_what_was_trained_with_instructions_embeds_the_same(folder, tmp_path, options):
    """By its stored prompts and width. Their truncation comes last, so their rows are not of length
    1 unless that is asked for; their similarity is the cosine all the same."""
    rows = [{"query": a, "pos": [b]} for a, b in itertools.permutations(TEXTS[1:4], 2)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [
        "train",
        "--model",
        folder,
        "--data",
        tmp_path / "rows.jsonl",
        "--out",
        tmp_path / "out",
    ]
    e5nl.main([*map(str, words), *INSTRUCTED.split(), *options.split()])
    assert_same(tmp_path / "out")

    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert model.truncate_dim == {"": None, "--dims 8,3": 8, "--dims 12,6": None}[options]
    assert model.prompts["query"] == "Instruct: Retrieve text based on user query.\nQuery: "
    assert model.prompts["document"] == model.prompts["passage"] == ""
    q, p = (ours(tmp_path / "out", kind) for kind in ("query", "passage"))
    similarity = model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS))
    np.testing.assert_allclose(q @ p.T, similarity, atol=5e-6)


# --- folders that they write ----------------------------------------------------------------------


@pytest.fixture
def resave(make_folder, tmp_path):
    """resave(**options): a folder as sentence-transformers saves it with other settings."""

    def save(length=None, pooling="mean", model_type="bert", **options) -> Path:
        transformer = st.Transformer(str(make_folder(model_type)))
        parts = [transformer, st.Pooling(12, pooling_mode=pooling), st.Normalize()]
        model = SentenceTransformer(modules=parts, device="cpu", **options)
        if length:
            model.max_seq_length = length
        model.save(str(tmp_path / "theirs"))
        return tmp_path / "theirs"

    return save


@pytest.mark.parametrize("length", [9, 32])
def test_the_longest_input_that_they_stored(resave, length):
    saved = resave(length, prompts={"query": "query: ", "document": "passage: "})
    assert model_folder.parse_config(saved).max_length == length
    assert_same(saved)


@pytest.mark.parametrize("path", ["1_Pooling", "pooling"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_pooling_that_they_stored(resave, model_type, pooling, path):
    saved = resave(pooling=pooling, model_type=model_type, prompts={"query": "vraag: "})
    modules = json.loads((saved / "modules.json").read_text())
    modules[1]["path"] = path
    (saved / "modules.json").write_text(json.dumps(modules))
    (saved / "1_Pooling").rename(saved / path)
    config = model_folder.parse_config(saved)
    assert config.pooling == pooling and dict(config.prompts)["query"] == "vraag: "
    assert_same(saved)


@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "query: "},
        {"query": "zoek: ", "document": "tekst: "},
        {"query": "zoek: ", "document": "tekst: ", "passage": "anders: "},
        {"document": "tekst: "},
        {"s2s": "Instruct: "},
    ],
)
def test_prefixes_that_they_stored(resave, prompts):
    assert_same(resave(prompts=prompts))


@pytest.mark.parametrize("width", [1, 6, 12])
def test_the_width_that_they_stored(resave, width):
    saved = resave(truncate_dim=width, prompts={"query": "zoek: "})
    assert model_folder.parse_config(saved).width == ours(saved, "query").shape[1] == width
    assert_same(saved)


@pytest.mark.parametrize("name", ["LayerNorm", "padding"])
def test_weights_in_other_layouts(folder, name):
    tensors = load_file(folder / "model.safetensors")
    if name == "LayerNorm":  # as the first BERTs called it
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for new_name, old_name in old.items():
            for key in [key for key in tensors if key.endswith(new_name)]:
                tensors[key.replace(new_name, old_name)] = tensors.pop(key)
    else:  # to a multiple of 512
        table = "embeddings.word_embeddings.weight"
        rows = -(-len(tensors[table]) // 512) * 512
        tensors[table] = torch.cat([tensors[table], torch.ones(rows - len(tensors[table]), 12)])
        edit(folder / "config.json", vocab_size=rows)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert_same(folder)


# --- settings that they obey and we refuse --------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("1_Pooling/config.json", {"include_prompt": False}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("tokenizer_config.json", {"truncation_side": "left"}),
    ],
)
def test_a_setting_that_we_refuse_changes_their_embeddings(folder, file, change):
    before = theirs(folder, "query")
    edit(folder / file, **change)
    after = theirs(folder, "query")
    assert after.shape != before.shape or abs(after - before).max() > 1e-3
    with pytest.raises(InputError, match=next(iter(change))):
        e5nl.load(folder)


def test_lower_case_that_the_class_of_bert_adds(folder, tmp_path):
    """BertTokenizer sets the normaliser anew; PreTrainedTokenizerFast, which we write, does not."""
    from tokenizers import BertWordPieceTokenizer, processors

    backend = BertWordPieceTokenizer(lowercase=False)
    backend.train_from_iterator(TEXTS * 3, vocab_size=200, show_progress=False)
    frame = [(name, backend.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
    backend.post_processor = processors.BertProcessing(*frame)
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    edit(tmp_path / "config.json", model_type="bert")
    ids = {}
    for name in ("BertTokenizer", "PreTrainedTokenizerFast"):
        edit(tmp_path / "tokenizer_config.json", tokenizer_class=name, unk_token="[UNK]")
        ids[name] = AutoTokenizer.from_pretrained(tmp_path)("De Fiets")["input_ids"]
    assert ids["BertTokenizer"] != ids["PreTrainedTokenizerFast"] == backend.encode("De Fiets").ids
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    with pytest.raises(InputError, match="BertTokenizer sets lowercase to True"):
        model_folder.read_tokenizer(tmp_path)
