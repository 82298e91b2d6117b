"""model_folder.py: folders mean here what they mean to transformers and sentence-transformers.

    python -m pytest tests/test_model_folder.py

What is read is checked against what was written by hand into the folder's files; what is written
is loaded again. The judges themselves read and write folders in tests/parity/test_folders.py.
"""

import dataclasses
import json
import re

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import models, normalizers, pre_tokenizers, processors

import e5nl
import model_folder
from files import InputError


def edit(path, **changes) -> None:
    """Change fields of a JSON file; None removes one."""
    values = json.loads(path.read_text()) if path.is_file() else {}
    values = {key: value for key, value in (values | changes).items() if value is not None}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))


def rewrite(folder, change) -> None:
    """Change the tensors of a checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def rename(tensors: dict, name) -> None:
    renamed = {name(old): tensor for old, tensor in tensors.items()}
    tensors.clear()
    tensors.update(renamed)


def read(path):
    return json.loads(path.read_text())


# --- what is read ---------------------------------------------------------------------------------

STORED, TABLE = "config_sentence_transformers.json", "embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("stored", "query", "passage"),
    [
        (None, "query: ", "passage: "),  # no such file: E5's
        ({}, "query: ", "passage: "),
        ({"query": "", "document": ""}, "query: ", "passage: "),  # what the library adds by itself
        ({"query": "zoek: ", "passage": "tekst: "}, "zoek: ", "tekst: "),
        ({"query": "query: "}, "query: ", ""),  # arctic-embed, bge: passages as they are
        ({"query": "query: ", "passage": ""}, "query: ", ""),
        ({"query": "query: ", "document": ""}, "query: ", ""),
        ({"query": None, "document": "tekst: "}, "", "tekst: "),
        ({"query": "a ", "document": "b ", "passage": "c "}, "a ", "b "),  # as encode_document
        ({"s2s": "Instruct: "}, "", ""),
        ({"query": "", "passage": "", "document": ""}, "", ""),  # as a folder without any is saved
    ],
)
def test_prefixes_are_e5s_only_where_the_folder_stores_no_text(
    folder, tmp_path, stored, query, passage
):
    (folder / STORED).unlink()
    line = f"prefixes {query!r} (queries) and {passage!r} (passages)"
    if stored is not None:
        edit(folder / STORED, prompts=stored, similarity_fn_name="dot")
        line += ", cosine similarity (the folder asks for dot)"
    model, tokenizer = e5nl.load(folder)
    assert dict(model.config.prompts) == {"query": query, "passage": passage, "none": ""}
    assert line in e5nl.summary(model, tokenizer), "the first line of every command says them"
    e5nl.save(model, tokenizer, tmp_path / "saved")
    written = {"query": query, "passage": passage, "document": passage}
    assert read(tmp_path / "saved" / STORED)["prompts"] == written


LENGTH, TOKENS = "sentence_bert_config.json", "tokenizer_config.json"
LENGTHS = [  # files, the longest input
    ({}, 64),  # what the position table allows
    ({LENGTH: {"max_seq_length": 9}}, 9),
    ({LENGTH: {"max_seq_length": 514}}, 64),
    ({TOKENS: {"model_max_length": 32}}, 32),  # sentence-transformers 6
    ({TOKENS: {"model_max_length": 1e30}}, 64),  # transformers: no limit
    ({LENGTH: {"max_seq_length": 40}, TOKENS: {"model_max_length": 32}}, 40),
    ({LENGTH: {}, "sentence_xlm-roberta_config.json": {"max_seq_length": 15}}, 15),
]


@pytest.mark.parametrize(("files", "length"), LENGTHS)
def test_the_longest_input_is_where_any_version_wrote_it(folder, tmp_path, files, length):
    for name in (LENGTH, TOKENS):
        (folder / name).unlink()
    for name, values in files.items():
        edit(folder / name, **values)
    model, tokenizer = e5nl.load(folder)
    assert model.config.max_length == length and len(model.positions.weight) == 64
    long, short = e5nl.embed(model, tokenizer, ["de fiets " * 30, "de fiets " * 20], "none")
    assert abs(long - short).max() < 1e-6 and tokenizer.cut == 2
    e5nl.save(model, tokenizer, tmp_path / "saved")
    assert model_folder.parse_config(tmp_path / "saved").max_length == length
    assert read(tmp_path / "saved" / TOKENS)["model_max_length"] == length


FLAGS = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}  # to version 5
POOLINGS = [  # what the file says; the pooling
    (FLAGS, "mean"),
    ({flag: not used for flag, used in FLAGS.items()}, "cls"),
    ({"pooling_mode": "mean", "embedding_dimension": 24}, "mean"),
    ({"pooling_mode": ["cls"]}, "cls"),
    ({}, "mean"),
    ({"pooling_mode_cls_token": False, "word_embedding_dimension": 24}, "mean"),
]


@pytest.mark.parametrize("path", ["1_Pooling", "modules/pooling"])
@pytest.mark.parametrize(("values", "pooling"), POOLINGS)
def test_pooling_is_where_modules_json_says(folder, path, values, pooling):
    other = {"mean": "cls", "cls": "mean"}[pooling]
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": other}))
    (folder / path).mkdir(parents=True, exist_ok=True)
    (folder / path / "config.json").write_text(json.dumps(values))
    modules = read(folder / "modules.json")
    modules[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(modules))
    assert model_folder.parse_config(folder).pooling == pooling


def gamma_and_beta(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")


def half_with_heads(tensors) -> None:
    rename(tensors, "roberta.{}".format)
    tensors |= {name: tensor.half() for name, tensor in tensors.items()}
    names = ("roberta.pooler.dense.weight", "roberta.embeddings.position_ids", "lm_head.bias")
    tensors |= {name: torch.ones(3) for name in names}


OTHER_LAYOUTS = {
    "names of the first BERTs": lambda tensors: rename(tensors, gamma_and_beta),
    "prefix": lambda tensors: rename(tensors, "roberta.{}".format),
    "half precision, heads": half_with_heads,
    # Its sum is infinite, its numbers are not.
    "large numbers": lambda tensors: tensors[TABLE].fill_(3e38),
}


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_weights_in_other_layouts_are_read_as_float32(folder, layout):
    before = load_file(folder / "model.safetensors")
    rewrite(folder, OTHER_LAYOUTS[layout])
    e5nl.save(*e5nl.load(folder), folder.parent / "saved")
    after = load_file(folder.parent / "saved/model.safetensors")
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        expected = tensor.half().float() if layout.startswith("half") else tensor
        if layout == "large numbers" and name == TABLE:
            expected = torch.full_like(tensor, 3e38)
        assert after[name].dtype == torch.float32 and torch.equal(after[name], expected), name


@pytest.mark.parametrize("rows", [0, 35, 512, 1024])  # more rows (multilingual-e5-small), multiples
def test_spare_rows_of_the_word_table_are_accepted(folder, tokenizer, rows):
    size = tokenizer.vocab_size
    config = model_folder.parse_config(folder)
    config = dataclasses.replace(config, vocab_size=rows if rows > size else size + rows)
    model_folder.check_pieces(folder, config, tokenizer)


@pytest.mark.parametrize("extra", [-1, 300, 2000])
def test_a_table_for_other_pieces_is_refused(folder, tokenizer, extra):
    edit(folder / "config.json", vocab_size=tokenizer.vocab_size + extra)
    with pytest.raises(InputError, match=r"has \d+ pieces, config.json [0-9,]+; the two do not"):
        e5nl.load(folder)


def test_shards_are_read_and_may_not_leave_the_folder(folder):
    expected = e5nl.load(folder)[0].state_dict()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = {f"model-{i}.safetensors": dict(list(tensors.items())[i::2]) for i in range(2)}
    for name, half in halves.items():
        save_file(half, folder / name)
    index = folder / "model.safetensors.index.json"
    shards = {tensor: name for name, half in halves.items() for tensor in half}
    index.write_text(json.dumps({"weight_map": shards}))
    state = e5nl.load(folder)[0].state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())
    index.write_text(json.dumps({"weight_map": shards | {"x": "../model.safetensors"}}))
    with pytest.raises(InputError, match="'../model.safetensors' is not a file name inside"):
        e5nl.load(folder)


@pytest.mark.parametrize("block", [1, 100, 10**9])
def test_loading_in_bfloat16_is_loading_and_converting(folder, monkeypatch, block):
    monkeypatch.setattr(model_folder, "BLOCK", block)
    state = e5nl.load(folder, dtype=torch.bfloat16)[0].state_dict()
    for name, expected in e5nl.load(folder)[0].state_dict().items():
        tensor = state[name]
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, expected.bfloat16()), name


def test_a_hub_name_is_a_folder_of_the_cache(tmp_path, monkeypatch, hub, folder, make_model):
    monkeypatch.chdir(tmp_path)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    hub("eigenaar/model", files, "model")
    assert torch.equal(e5nl.load("eigenaar/model@main")[0].words.weight, make_model().words.weight)
    with pytest.raises(InputError, match="niemand/niets@main: neither here nor available from the"):
        e5nl.load("niemand/niets@main")
    del files["model.safetensors"]
    hub("eigenaar/pickles", files | {"pytorch_model.bin": b""}, "model")
    message = "holds no safetensors; .* convert it with: .*from_pretrained\\('eigenaar/pickles'\\)"
    with pytest.raises(InputError, match=message):
        e5nl.load("eigenaar/pickles@main")


# --- what is refused ------------------------------------------------------------------------------


def modules(*entries) -> list:
    return [{"type": f"x.{kind}", "path": path} for kind, path in entries]


ENCODER = ("Transformer", "")
CONFIG, POOL, MODULES = "config.json", "1_Pooling/config.json", "modules.json"
REFUSED = {  # file, its change, what the message says
    # settings of config.json that this encoder does not implement
    "relative positions": (CONFIG, {"position_embedding_type": "relative_key"},
                           "position_embedding_type is 'relative_key'; this encoder"),
    "decoder": (CONFIG, {"is_decoder": True}, "is_decoder is True"),
    "cross attention": (CONFIG, {"add_cross_attention": True}, "add_cross_attention is True"),
    "other GELU": (CONFIG, {"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
    "other type": (CONFIG, {"model_type": "t5"}, "model_type is 't5'; this encoder knows"),
    "pruned heads": (CONFIG, {"pruned_heads": {"0": [1]}}, "pruned_heads is {'0': [1]}"),
    "quantised": (CONFIG, {"quantization_config": {"bits": 4}}, "quantization_config is"),
    "own code": (CONFIG, {"auto_map": {"AutoModel": "x--m.M"}}, "auto_map names code of"),
    "field missing": (CONFIG, {"hidden_size": None}, "required positional argument: 'hidden_size'"),
    # sizes and constants out of their range
    "width 0": (CONFIG, {"hidden_size": 0}, "hidden_size is 0; expected a whole number"),
    "text": (CONFIG, {"hidden_size": "24"}, "hidden_size is '24'; expected a whole number"),
    "huge depth": (CONFIG, {"num_hidden_layers": 10**18}, "num_hidden_layers is 10000000"),
    "no positions": (CONFIG, {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
    "positions unused": (CONFIG, {"max_position_embeddings": 4},
                         "max_position_embeddings 4, of which xlm-roberta leaves the first 2"),
    "bool": (CONFIG, {"num_attention_heads": True}, "num_attention_heads is True; expected"),
    "NaN": (CONFIG, {"layer_norm_eps": float("nan")}, "layer_norm_eps is nan; expected a"),
    "all dropped": (CONFIG, {"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0; exp"),
    "heads": (CONFIG, {"num_attention_heads": 5}, "hidden_size 24 is not a multiple of 5"),
    # contradictions
    "other class": (CONFIG, {"architectures": ["BertModel"]},
                    "model_type 'xlm-roberta', but architectures 'BertModel'"),
    "pad one too high": (CONFIG, {"pad_token_id": 2},
                         "config.json says pad_token_id 2, in tokenizer.json <pad> is 1"),
    # sentence-transformers' files
    "length 0": (LENGTH, {"max_seq_length": 0}, "max_seq_length is 0; expected"),
    "length text": (LENGTH, {"max_seq_length": "512"}, "max_seq_length is '512'"),
    "length NaN": (LENGTH, {"max_seq_length": float("nan")}, "length is nan"),
    "lower case": (LENGTH, {"do_lower_case": True},
                   "do_lower_case is true, tokenizer.json keeps case"),
    "other output": (LENGTH, {"module_output_name": "x"}, "module_output_name"),
    "arguments": (LENGTH, {"model_args": {"x": 1}}, "the setting 'model_args' is not impl"),
    "prompt left out": (POOL, {"include_prompt": False}, "include_prompt is False"),
    "unknown pooling": (POOL, {"nieuw": 1}, "the setting 'nieuw' is not impl"),
    "two poolings": (POOL, {"pooling_mode_cls_token": True},
                     "pooling cls + mean is not implemented; expected mean or cls"),
    "last token": (POOL, {"pooling_mode": "lasttoken"}, "pooling lasttoken is not"),
    "width too large": (STORED, {"truncate_dim": 25},
                        f"{STORED}: truncate_dim: embeddings of width 25; expected a whole number"),
    "no width": (STORED, {"truncate_dim": 0}, "embeddings of width 0; expected a whole number fr"),
    "width true": (STORED, {"truncate_dim": True}, "embeddings of width True; expected a whole"),
    "sparse": (STORED, {"model_type": "SparseEncoder"}, "model_type is 'SparseEncoder'"),
    "prompt": (STORED, {"prompts": {"query": 3}}, "prompts is {'query': 3}; expected"),
    # modules.json
    "Dense": (MODULES, modules(ENCODER, ("Pooling", "1_Pooling"), ("Dense", "2_Dense")),
              "modules Transformer, Pooling, Dense; expected Transformer, Pooling and perhaps"),
    "no pooling": (MODULES, modules(ENCODER), "modules Transformer; expected Transformer, Pool"),
    "pooling gone": (MODULES, modules(ENCODER, ("Pooling", "1_Weg")),
                     "1_Weg/config.json: no such file"),
    "pooling outside": (MODULES, modules(ENCODER, ("Pooling", "../1_Pooling")),
                        "'../1_Pooling' is not a file name inside"),
    "no module": (MODULES, ["Transformer"], "cannot be read (TypeError"),
    "no prompts": (STORED, {"prompts": "query: "}, "prompts is 'query: '; expected {name: prefix}"),
    "half a character": (STORED, {"prompts": {"query": "\ud800"}}, "half of a surrogate pair"),
    "no mode": (POOL, {"pooling_mode": 5}, "cannot be read (TypeError"),
    "no classes": (CONFIG, {"architectures": 5}, "cannot be read (TypeError"),
    # tokenizer_config.json
    "left": (TOKENS, {"truncation_side": "left"}, "truncation_side is 'left'"),
    "split": (TOKENS, {"split_special_tokens": True}, "split_special_tokens is True"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_right_is_refused(folder, name):
    file, change, message = REFUSED[name]
    if isinstance(change, dict):
        edit(folder / file, **change)
    else:
        (folder / file).write_text(json.dumps(change))
    with pytest.raises((InputError, FileNotFoundError), match=re.escape(message)) as error:
        e5nl.load(folder)
    place = str(folder) if name.startswith("pad ") else str(folder / file)
    if "/" not in message and "is not a file" not in message:
        assert str(error.value).startswith(place) and "\n" not in str(error.value)


LAYER, BIAS = "encoder.layer.0.output.dense.weight", "encoder.layer.1.attention.self.key.bias"
TWICE, EXTRA = "roberta.embeddings.LayerNorm.bias", "encoder.layer.2.output.dense.bias"
EXPECTED = "expected torch.float64, torch.float32"
WEIGHTS = {  # change of the tensors, what the message says
    "missing": (lambda tensors: tensors.pop(BIAS), f"tensor {BIAS} is missing"),
    "one layer more": (lambda tensors: tensors.update({EXTRA: torch.ones(24)}),
                       f"1 tensors have no place in 2 layers of .* the first is {EXTRA}"),
    "transposed": (lambda tensors: tensors.update({LAYER: torch.ones(40, 24)}),
                   rf"tensor {LAYER} is \(40, 24\), config.json asks for \(24, 40\)"),
    "NaN": (lambda tensors: tensors[LAYER][3, 5].fill_(torch.nan), f"{LAYER} holds NaN or inf"),
    "infinity": (lambda tensors: tensors[TABLE][-1, -1].fill_(-torch.inf), f"{TABLE} holds NaN"),
    "beyond float32": (lambda tensors: tensors.update({TABLE: tensors[TABLE].double() * 1e300}),
                       f"tensor {TABLE} holds NaN or infinity"),
    "one tensor twice": (lambda tensors: tensors.update({TWICE: torch.ones(24)}),
                         "embeddings.LayerNorm.bias .* are one, and they differ"),
} | {
    str(kind): (lambda tensors, kind=kind: tensors.update({TABLE: tensors[TABLE].to(kind)}),
                f"tensor {TABLE} is {kind}; {EXPECTED}")
    for kind in (torch.int8, torch.complex64, torch.float8_e4m3fn)
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_do_not_fit_are_named(folder, name, dtype):
    change, message = WEIGHTS[name]
    rewrite(folder, change)
    with pytest.raises(InputError, match=message):
        e5nl.load(folder, dtype=dtype)


def test_without_modules_the_library_reads_no_other_file_of_its_own(folder):
    (folder / "modules.json").unlink()
    edit(folder / STORED, prompts={"query": "zoek: "})
    edit(folder / LENGTH, max_seq_length=9, do_lower_case=True)
    config = e5nl.load(folder)[0].config
    assert dict(config.prompts)["query"] == "query: " and config.max_length == 64


def test_a_tensor_given_twice_alike_is_read(folder):
    def change(tensors):
        tensors["roberta.embeddings.LayerNorm.bias"] = tensors["embeddings.LayerNorm.bias"].clone()

    rewrite(folder, change)
    e5nl.load(folder)


def test_the_positions_of_roberta_under_a_bert_are_refused(folder, make_model, tokenizer, tmp_path):
    """transformers leaves the pad token's row of RoBERTa's position table zero."""
    model = make_model()
    model.unused_positions.zero_()
    e5nl.save(model, tokenizer, tmp_path / "saved")
    edit(tmp_path / "saved/config.json", model_type="bert", architectures=None)
    with pytest.raises(InputError, match="row 1 of the position table, the pad token's, is zero"):
        e5nl.load(tmp_path / "saved")


def test_files_that_are_missing_or_damaged_are_named(folder):
    weights = folder / "model.safetensors"
    stored = weights.read_bytes()
    weights.write_bytes(stored[:-100])
    with pytest.raises(InputError, match="model.safetensors: cannot be read .SafetensorError"):
        e5nl.load(folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="a pickle can run any code .* convert it with: python -c"):
        e5nl.load(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="model.safetensors: no such file"):
        e5nl.load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer.json: no such file; a model folder needs it"):
        e5nl.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="config.json: no such file; .* is not a model folder"):
        e5nl.load(folder)
    # As sentence-transformers 0.4 and earlier saved it; config.json goes with it.
    modules = read(folder / "modules.json")
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="the encoder is in the folder 0_Transformer; move the"):
        e5nl.load(folder)
    with pytest.raises(FileNotFoundError, match="geen_map: no such folder; expected a model"):
        e5nl.load(folder / "geen_map")


# --- tokenizers whose class says otherwise --------------------------------------------------------


def write_wordpiece(folder, **normalizer) -> None:
    """BERT's tokenizer over the folder's: pieces of one character."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(**normalizer)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    (folder / "tokenizer.json").write_text(backend.to_str())


def write_bpe(folder, add_prefix_space: bool) -> None:
    """RoBERTa's: bytes."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *pre_tokenizers.ByteLevel.alphabet()]
    backend = tokenizers.Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    (folder / "tokenizer.json").write_text(backend.to_str())


BERT, ROBERTA = "BertTokenizerFast", "RobertaTokenizer"


CASE, ACCENTS = "BertTokenizer sets lowercase to", "BertTokenizer sets strip_accents to"
SPACE = "RobertaTokenizer sets add_prefix_space to"
CLASSES = [  # class, tokenizer_config.json, normalizer (or add_prefix_space), what the message says
    (BERT, {"do_lower_case": True}, {"lowercase": True}, None),
    (BERT, {}, {"lowercase": True}, None),  # BERT's default is lower case
    (BERT, {"do_lower_case": False}, {"lowercase": False}, None),
    (BERT, {"do_lower_case": False}, {"lowercase": True}, f"{CASE} False"),
    (BERT, {"do_lower_case": True}, {"lowercase": False}, f"{CASE} True"),
    (BERT, {}, {"lowercase": False}, f"{CASE} True"),
    (BERT, {"strip_accents": False}, {"strip_accents": True}, f"{ACCENTS} False"),
    (BERT, {"strip_accents": True}, {"strip_accents": None}, None),  # with lower case: the same
    (BERT, {"tokenize_chinese_chars": False}, {}, "sets handle_chinese_chars to False"),
    ("PreTrainedTokenizerFast", {"do_lower_case": True}, {"lowercase": False}, None),
    ("ElectraTokenizer", {}, {"lowercase": False}, "ElectraTokenizer sets lowercase to True"),
    (None, {"do_lower_case": False}, {"lowercase": True}, f"{CASE} False"),
    (None, {}, {"lowercase": False}, f"{CASE} True"),
    (BERT, {"do_lower_case": True}, normalizers.NFC(), "sets type to BertNormalizer"),
    (BERT, {"additional_special_tokens": ["de"]}, {}, "'de' is no added token"),
    (BERT, {"added_tokens_decoder": {"9": {"content": "de"}}}, {}, "'de' is no added token"),
    (ROBERTA, {"add_prefix_space": True}, True, None),
    (ROBERTA, {"add_prefix_space": True}, False, f"{SPACE} True"),
    (ROBERTA, {}, True, f"{SPACE} False"),
]


@pytest.mark.parametrize(("name", "stated", "normalizer", "message"), CLASSES)
def test_a_class_that_would_change_the_tokenizer_is_refused(
    tmp_path, name, stated, normalizer, message
):
    if isinstance(normalizer, bool):
        write_bpe(tmp_path, normalizer)
    elif isinstance(normalizer, dict):
        write_wordpiece(tmp_path, **normalizer)
    else:
        write_wordpiece(tmp_path)
        edit(tmp_path / "tokenizer.json", normalizer=json.loads(normalizer.__getstate__()))
    edit(tmp_path / "config.json", model_type="bert")
    edit(tmp_path / TOKENS, tokenizer_class=name, **stated)
    if message is None:
        model_folder.read_tokenizer(tmp_path)
        return
    with pytest.raises(InputError, match=f"tokenizer_config.json: .*{message}.* tokenizer.json"):
        model_folder.read_tokenizer(tmp_path)


def test_lower_case_that_the_tokenizer_does_itself_is_read(tmp_path):
    write_wordpiece(tmp_path, lowercase=True)
    edit(tmp_path / MODULES)
    edit(tmp_path / LENGTH, do_lower_case=True)
    model_folder.read_tokenizer(tmp_path)


# --- what is written ------------------------------------------------------------------------------


CHANGES = [
    {"model_type": "xlm-roberta", "pooling": "cls", "layer_norm_eps": 3e-4, "type_vocab_size": 3,
     "hidden_dropout_prob": 0.2},
    {"model_type": "bert", "pad_token_id": 0, "num_hidden_layers": 1, "max_seq_length": 17,
     "attention_probs_dropout_prob": 0.3},
    {"model_type": "camembert", "max_position_embeddings": 71, "truncate_dim": 5,
     "prompts": (("query", "zoek: "), ("passage", ""), ("none", ""))},
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES)
def test_save_then_load_keeps_everything(tmp_path, make_model, tokenizer, changes):
    model = make_model(**changes)
    e5nl.save(model, tokenizer, tmp_path)
    again, tokenizer_again = e5nl.load(tmp_path)
    assert again.config == model.config
    assert tokenizer_again.json == tokenizer.json
    assert torch.equal(again.unused_positions, model.unused_positions)
    assert len(model.unused_positions) == model.config.position_offset
    state, state_again = model.state_dict(), again.state_dict()
    assert state.keys() == state_again.keys()
    assert all(torch.equal(state_again[name], tensor) for name, tensor in state.items())
    assert not again.training and all(p.requires_grad for p in again.parameters())


def test_the_checkpoint_has_the_names_and_shapes_of_transformers(folder):
    tensors = load_file(folder / "model.safetensors")
    assert len(tensors) == 3 + 2 + 2 * 16
    positions = tensors["embeddings.position_embeddings.weight"]
    assert positions.shape == (66, 24), "the two rows before the offset are back"
    assert tensors["encoder.layer.1.attention.self.key.bias"].shape == (24,)
    assert tensors["encoder.layer.0.intermediate.dense.weight"].shape == (40, 24)


def test_every_field_of_config_json_is_carried_along(folder, tmp_path):
    own = {"initializer_range": 0.03, "classifier_dropout": 0.2, "id2label": {"0": "x"}}
    edit(folder / "config.json", **own, dtype="float16", tokenizer_class="XLMRobertaTokenizer")
    e5nl.save(*e5nl.load(folder), tmp_path / "saved")
    before, after = read(folder / "config.json"), read(tmp_path / "saved/config.json")
    del before["tokenizer_class"], before["dtype"]  # the class is another, the numbers are float32
    assert after == before | {"torch_dtype": "float32"}


def test_a_new_folder_has_the_fields_that_other_programs_ask_for(folder):
    """candle and ctranslate2 refuse a folder without them."""
    usual = {"initializer_range": 0.02, "position_embedding_type": "absolute", "use_cache": True}
    assert read(folder / "config.json").items() >= usual.items()


@pytest.mark.parametrize("name", [None, "XLMRobertaTokenizer", "TokenizersBackend"])
def test_the_written_class_takes_tokenizer_json_as_it_is(folder, tmp_path, name):
    """The other classes build their tokenizer anew, without this file's normaliser."""
    (folder / "tokenizer_config.json").unlink()
    repeated = {
        "backend": "tokenizers",
        "extra_special_tokens": ["<mask>"],
        "added_tokens_decoder": {"0": {"content": "<s>"}},
        "do_lower_case": True,
        "unk_token": {"content": "<unk>", "lstrip": True},
    }
    edit(folder / "tokenizer_config.json", tokenizer_class=name, **repeated)
    edit(folder / "config.json", tokenizer_class="XLMRobertaTokenizer")
    e5nl.save(*e5nl.load(folder), tmp_path / "saved")
    assert read(tmp_path / "saved/tokenizer_config.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 64,
        "add_prefix_space": True,
        "clean_up_tokenization_spaces": False,  # two spaces are two pieces
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    assert "tokenizer_class" not in read(tmp_path / "saved/config.json")


METASPACE, SPLIT = pre_tokenizers.Metaspace, pre_tokenizers.WhitespaceSplit


@pytest.mark.parametrize(
    ("words", "add_prefix_space", "joins_spaces"),
    [
        (METASPACE(), True, False),
        (pre_tokenizers.Sequence([SPLIT(), METASPACE()]), True, True),
        (METASPACE(prepend_scheme="never"), False, False),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), True, None),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), False, None),
        (SPLIT(), None, None),
        (None, None, None),
    ],
)
def test_settings_of_spaces_repeat_what_tokenizer_json_does(
    tokenizer_json, words, add_prefix_space, joins_spaces
):
    """llama.cpp's converter believes both, and transformers 4 applies the first to bytes."""
    backend = tokenizers.Tokenizer.from_str(tokenizer_json.decode())
    spec = json.loads(backend.to_str())
    spec["pre_tokenizer"] = words and json.loads(words.__getstate__())
    tokenizer = model_folder.Tokenizer(json.dumps(spec).encode(), {})
    settings = model_folder.tokenizer_settings(tokenizer, 64)
    assert settings.get("add_prefix_space") == add_prefix_space
    assert settings.get("clean_up_tokenization_spaces") == joins_spaces


def test_a_model_is_not_overwritten_unless_asked(folder, make_model, tokenizer):
    with pytest.raises(InputError, match="holds a model already; .*--overwrite"):
        e5nl.save(make_model(seed=2), tokenizer, folder)
    e5nl.save(make_model(seed=2), tokenizer, folder, overwrite=True)
    assert torch.equal(e5nl.load(folder)[0].words.weight, make_model(seed=2).words.weight)
