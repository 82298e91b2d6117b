"""Model folders of transformers and sentence-transformers, read strictly and written whole: configuration, tokenizer, weights.

In: `config.json`, `model.safetensors` (or its shards), `tokenizer.json`, and sentence-transformers' files for pooling, prompts and the
longest input; a folder, or the name of a repository on the Hugging Face hub. Out: the same kind of folder. What the encoder of
`e5nl.py` does not implement is refused by name, never ignored.

Left out on purpose: pickled weights, slow tokenizers, heads, other modules than Transformer, Pooling and Normalize.
"""

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data import PREFIXES
from files import (
    InputError,
    hub_folder,
    inside,
    is_hub_name,
    new_file,
    read_json,
    write_json,
)

CHARACTERS, SPARE_TOKENS = 8, 16  # of a start of a text: characters a token (Dutch has 4.3 in XLM-R's pieces), tokens more than needed
SPARE_ROWS = 128  # embedding rows beyond the tokenizer's pieces that are not a mistake (multilingual-e5-small has 35)

# --- configuration ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Config:
    """What `config.json` and the sentence-transformers files of a model folder say; the names are theirs."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    pad_token_id: int
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    hidden_act: str = "gelu"
    pooling: str = "mean"
    max_seq_length: int | None = None  # of sentence-transformers; None: what the position table allows
    prompts: tuple[tuple[str, str], ...] = tuple(PREFIXES.items())

    @property
    def position_offset(self) -> int:
        """Rows at the start of the position table that no text uses: RoBERTa counts positions from the pad id + 1, BERT from 0."""
        return 0 if self.model_type == "bert" else self.pad_token_id + 1

    @property
    def positions(self) -> int:
        """Rows of the position table that texts use."""
        return self.max_position_embeddings - self.position_offset

    @property
    def max_length(self) -> int:
        """Tokens of the longest text, special tokens included; longer ones are cut."""
        return min(self.positions, self.max_seq_length or self.positions)


IN_OTHER_FILES = ("pooling", "max_seq_length", "prompts")  # fields that sentence-transformers' files hold, not config.json


HUB_FILES = ["*.json", "*.safetensors", "1_Pooling/config.json"]  # all that is read


def find(name) -> Path:
    """The folder `name`, or a copy of the hub repository `owner/name[@revision]`. Nothing else is ever downloaded."""
    if Path(name).is_dir():
        return Path(name)
    if ":" in str(name) or not is_hub_name(name):
        raise FileNotFoundError(f"{name}: no such folder; expected a model folder or the name of a hub repository (owner/name)")
    return hub_folder(str(name), HUB_FILES, "model")


def read_config(folder) -> dict:
    """`config.json` as it is."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {folder} is not a model folder (or its training has not finished)")
    return read_json(path)


def parse_config(folder) -> Config:
    """Read and check a folder's configuration. What is not implemented is refused by name."""
    folder, values = Path(folder), read_config(folder)
    path = folder / "config.json"
    required = {"model_type": ["bert", "roberta", "camembert", "xlm-roberta"], "hidden_act": ["gelu"]}
    optional = {"position_embedding_type": ["absolute"], "is_decoder": [False], "add_cross_attention": [False]}
    for field, allowed in (required | optional).items():
        value = values.get(field, allowed[0] if field in optional else None)
        if value not in allowed:
            raise InputError(f"{path}: {field} is {value!r}; this encoder knows {' or '.join(map(repr, allowed))} only")
    config = {}
    for field in dataclasses.fields(Config):
        value = values.get(field.name)
        if field.name in IN_OTHER_FILES:
            continue
        if field.name not in values:
            if field.default is dataclasses.MISSING:
                raise InputError(f"{path}: no field {field.name!r}")
            continue
        allowed = int | float if field.type is float else int
        if field.type is not str and (not isinstance(value, allowed) or isinstance(value, bool) or value < 0):
            raise InputError(f"{path}: {field.name} is {value!r}; expected {'a' if field.type is float else 'a whole'} number from 0")
        config[field.name] = value
    for field in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if config.get(field, 0) >= 1:
            raise InputError(f"{path}: {field} is {config[field]}; expected a share below 1")
    if config["num_attention_heads"] < 1 or config["hidden_size"] % config["num_attention_heads"]:
        raise InputError(f"{path}: hidden_size {config['hidden_size']} is not a multiple of {config['num_attention_heads']} heads")
    modules = folder / "modules.json"
    if modules.is_file():
        kinds = {str(module.get("type")).rpartition(".")[2] for module in read_json(modules, list)}
        if unknown := kinds - {"Transformer", "Pooling", "Normalize"}:
            raise InputError(f"{modules}: module {unknown.pop()} is not implemented; expected Transformer, Pooling and Normalize")
    lengths = folder / "sentence_bert_config.json"
    length = read_json(lengths).get("max_seq_length") if lengths.is_file() else None
    if isinstance(length, int) and length < Config(**config).positions:  # often it says what the position table says
        config["max_seq_length"] = length
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file():
        modes = [mode for mode, used in _pooling_modes(read_json(pooling)).items() if used]
        if modes not in (["mean"], ["cls"]):
            raise InputError(f"{pooling}: pooling {' + '.join(modes) or 'none'} is not implemented; expected mean or cls")
        config["pooling"] = modes[0]
    prompts = folder / "config_sentence_transformers.json"
    if prompts.is_file():
        stored = read_json(prompts).get("prompts") or {}
        if not isinstance(stored, dict) or not all(isinstance(prefix, str | None) for prefix in stored.values()):
            raise InputError(f"{prompts}: prompts is {stored!r}; expected {{name: prefix}}")
        stored = {"passage" if kind == "document" else kind: prefix for kind, prefix in stored.items() if prefix}
        config["prompts"] = tuple({kind: stored.get(kind, prefix) for kind, prefix in PREFIXES.items()}.items())
    return Config(**config)


def _pooling_modes(values: dict) -> dict[str, bool]:
    """Both layouts of sentence-transformers' pooling file: one flag a mode (to version 5) and `pooling_mode` (from 6)."""
    if "pooling_mode" in values:
        chosen = values["pooling_mode"]
        return dict.fromkeys([chosen] if isinstance(chosen, str) else chosen, True)
    flags = {key.removeprefix("pooling_mode_"): used for key, used in values.items() if key.startswith("pooling_mode_")}
    return {mode.removesuffix("_tokens").removesuffix("_token"): used for mode, used in flags.items()}


# --- the tokenizer ----------------------------------------------------------------------------------------------------------

# What XLM-R's special tokens are for: PreTrainedTokenizerFast has to be told, in tokenizer_config.json.
XLMR_TOKENS = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
               "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}  # fmt: skip


class Tokenizer:
    """A `tokenizer.json`, without the truncation and padding that may be stored in it: both are decided here, for each call.

    backend: the tokenizers.Tokenizer; json: the file as it is; config: tokenizer_config.json; texts, cut: how many texts were
    tokenised and how many of them were longer than allowed.
    """

    def __init__(self, json_bytes: bytes, config: dict, where="tokenizer.json"):
        self.json, self.config, self.texts, self.cut = json_bytes, config, 0, 0
        try:
            self.backend = tokenizers.Tokenizer.from_buffer(json_bytes)
        except Exception as error:  # the library raises plain Exception
            raise InputError(f"{where}: not a tokenizer.json that tokenizers {tokenizers.__version__} reads ({error})") from None
        self.backend.no_truncation()
        self.backend.no_padding()
        if len(self.backend.encode("").ids) != 2:
            found = self.backend.encode("").tokens
            raise InputError(f"{where}: an empty text becomes {found}; expected a start and an end token, as BERT and XLM-R have")
        words = self.backend.pre_tokenizer
        self.splits_at_spaces = words is not None and len(words.pre_tokenize_str("a b")) > 1

    @functools.cached_property
    def vocab_size(self) -> int:
        return max(self.backend.get_vocab().values()) + 1

    def __call__(self, texts: list[str], prefix: str, max_length: int) -> list[list[int]]:
        """Ids of `prefix + text` with the start and end token; of a longer text the first max_length - 1 and the end token."""
        texts = [prefix + text for text in texts]
        starts = [self._start(text, max_length) for text in texts]
        ids = [encoding.ids for encoding in self.backend.encode_batch_fast(starts)]
        few = [i for i, start in enumerate(starts) if len(start) < len(texts[i]) and len(ids[i]) < max_length + SPARE_TOKENS]
        for i, encoding in zip(few, self.backend.encode_batch_fast([texts[i] for i in few]), strict=True):
            ids[i] = encoding.ids
        self.texts += len(ids)
        self.cut += sum(len(one) > max_length for one in ids)
        return [one if len(one) <= max_length else one[: max_length - 1] + one[-1:] for one in ids]

    def _start(self, text: str, max_length: int) -> str:
        """The start of a very long text, up to a space: tokens do not reach over spaces, so those of the start are those of the text.

        When it has some tokens more than are kept, the last word, at the cut, is not among those kept. (MultiEURLEX has texts of 1.4
        million characters, of which 512 tokens are used.)
        """
        enough = CHARACTERS * (max_length + SPARE_TOKENS)
        space = text.find(" ", enough) if self.splits_at_spaces else -1
        return text if space < 0 else text[:space]


def read_tokenizer(folder) -> Tokenizer:
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file; a model folder needs it (transformers: save_pretrained of a fast tokenizer)")
    config = path.with_name("tokenizer_config.json")
    return Tokenizer(path.read_bytes(), read_json(config) if config.is_file() else {}, path)


# --- weights ----------------------------------------------------------------------------------------------------------------


def weight_files(folder) -> dict[str, Path]:
    """{tensor name: the safetensors file that holds it}, from a single file or from the index of several."""
    folder = Path(folder)
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        files = {single}
    elif index.is_file():
        files = {inside(folder, name, index) for name in read_json(index).get("weight_map", {}).values()}
    elif pickles := sorted(folder.glob("*.bin")):
        convert = f"python -c \"from transformers import AutoModel as M; M.from_pretrained('{folder}').save_pretrained('{folder}')\""
        raise InputError(f"{pickles[0]}: a pickle can run any code when read, so only safetensors are; convert it with: {convert}")
    else:
        raise InputError(f"{single}: no such file; a model folder holds model.safetensors or model.safetensors.index.json")
    where = {}
    for file in sorted(files):
        if not file.is_file():
            raise InputError(f"{file}: no such file, but {index} names it; copy all shards")
        try:
            with safe_open(file, "pt") as tensors:
                where |= dict.fromkeys(tensors.keys(), file)
        except SafetensorError as error:
            raise InputError(f"{file}: damaged or not safetensors ({error}); copy or download it again") from None
    return where


def read_tensors(folder, names=None) -> dict[str, Tensor]:
    """The tensors of a checkpoint (of `names`, or all) under the checkpoint's names, memory-mapped."""
    where, tensors = weight_files(folder), {}
    wanted = where if names is None else names
    for file in sorted({where[name] for name in wanted}):
        with safe_open(file, "pt") as stored:
            tensors |= {name: stored.get_tensor(name) for name in wanted if where[name] == file}
    return tensors


AT_ONCE = 1 << 22  # numbers


def read_as(file: Path, name: str, dtype: torch.dtype) -> Tensor:
    """A tensor of a safetensors file as `dtype`, some rows at a time: what was read of a mapped file is in memory until it is closed."""
    with safe_open(file, "pt") as stored:
        shape = stored.get_slice(name).get_shape()
        if math.prod(shape) <= AT_ONCE:
            return stored.get_tensor(name).to(dtype)
    value, step = torch.empty(shape, dtype=dtype), max(1, AT_ONCE // math.prod(shape[1:]))
    for start in range(0, len(value), step):
        with safe_open(file, "pt") as stored:
            value[start : start + step] = stored.get_slice(name)[start : start + step]
    return value


def weights_hash(folder) -> str:
    """SHA-256 of the weight files: what tells one model from another in caches and results."""
    digest = hashlib.sha256()
    for file in sorted(set(weight_files(folder).values())):
        with open(file, "rb") as stored:
            digest.update(hashlib.file_digest(stored, "sha256").digest())
    return digest.hexdigest()


# Our parameters and the checkpoint's tensors that make them, joined along the first axis. `{i}` is the layer.
TENSORS = {
    "words": ["embeddings.word_embeddings"],
    "positions": ["embeddings.position_embeddings"],
    "types": ["embeddings.token_type_embeddings"],
    "norm": ["embeddings.LayerNorm"],
    "layers.{i}.qkv": [f"encoder.layer.{{i}}.attention.self.{part}" for part in ("query", "key", "value")],
    "layers.{i}.out": ["encoder.layer.{i}.attention.output.dense"],
    "layers.{i}.attention_norm": ["encoder.layer.{i}.attention.output.LayerNorm"],
    "layers.{i}.up": ["encoder.layer.{i}.intermediate.dense"],
    "layers.{i}.down": ["encoder.layer.{i}.output.dense"],
    "layers.{i}.norm": ["encoder.layer.{i}.output.LayerNorm"],
}
PREFIXED = re.compile(r"^(roberta|bert|camembert)\.")  # before every name when the checkpoint has a head
LEFT_OUT = re.compile(r"^(pooler\..*|embeddings\.position_ids|lm_head\..*|cls\..*)$")  # no part of an embedding


def checkpoint_names(parameters) -> dict[str, list[str]]:
    """{our parameter: the checkpoint's tensors}, written out for every layer, weight and bias."""
    names = {}
    for parameter in parameters:
        module, _, kind = parameter.rpartition(".")
        layer = re.search(r"\d+", module)
        template = re.sub(r"\d+", "{i}", module)
        names[parameter] = [f"{name.format(i=layer and layer[0])}.{kind}" for name in TENSORS[template]]
    return names


def read_state(folder, config: Config, shapes: dict[str, torch.Size], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """{our parameter: its value} from the checkpoint's tensors, as `dtype`; shapes: what each parameter must have.

    Stops, by the tensor's name, when one is missing, unknown or of another shape. The position table comes with its unused first rows.
    float32 tensors that stand for one parameter alone stay in the memory-mapped file (copied on write).
    """
    files = weight_files(folder)
    names = {PREFIXED.sub("", name): name for name in files}
    mapped = read_tensors(folder) if dtype == torch.float32 else None
    state = {}
    for parameter, parts in checkpoint_names(shapes).items():
        if missing := [part for part in parts if part not in names]:
            raise InputError(f"{folder}: tensor {missing[0]} is missing; config.json asks for {config.num_hidden_layers} layers")
        stored = [names.pop(part) for part in parts]
        values = [mapped[name].float() if mapped else read_as(files[name], name, dtype) for name in stored]
        rows, *rest = shapes[parameter]
        shape = (rows // len(parts) + (config.position_offset if parameter == "positions.weight" else 0), *rest)
        for part, value in zip(parts, values, strict=True):
            if value.shape != shape:
                raise InputError(f"{folder}: tensor {part} is {tuple(value.shape)}, config.json asks for {shape}")
        state[parameter] = values[0] if len(values) == 1 else torch.cat(values)
    if unknown := sorted(name for name in names if not LEFT_OUT.match(name)):
        counts = f"{len(unknown)} tensors have no place in {config.num_hidden_layers} layers of {config.model_type}"
        raise InputError(f"{folder}: {counts}, the first is {unknown[0]}; config.json and weights do not belong together")
    return state


# --- writing ----------------------------------------------------------------------------------------------------------------


def refuse_model(folder: Path, overwrite: bool) -> None:
    if (folder / "config.json").exists() and not overwrite:
        raise InputError(f"{folder}: holds a model already; choose another output folder, or add --overwrite to replace it")


def retire_model(folder: Path) -> None:
    """From here on the folder holds no model, until another is written whole; a report on its vocabulary told of the old one."""
    for name in ("config.json", "trim_report.json", "transtokenize_report.json"):
        (folder / name).unlink(missing_ok=True)


def write_folder(folder, config: Config, tokenizer: Tokenizer, state: dict[str, Tensor], overwrite: bool = False) -> None:
    """Write a model folder that transformers, sentence-transformers and `load` read. `config.json` comes last: with it, it is whole.

    state: as `read_state` gives it; written as float32.
    """
    folder = Path(folder)
    refuse_model(folder, overwrite)
    tensors = {}
    for parameter, parts in checkpoint_names(state).items():
        values = state[parameter].chunk(len(parts))
        tensors |= {name: value.float().contiguous().cpu() for name, value in zip(parts, values, strict=True)}
    folder.mkdir(parents=True, exist_ok=True)
    retire_model(folder)
    with new_file(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    with new_file(folder / "tokenizer.json") as temporary:
        temporary.write_bytes(tokenizer.json)
    for name, content in side_files(config, tokenizer).items():
        write_json(folder / name, content)


def side_files(config: Config, tokenizer: Tokenizer) -> dict[str, object]:
    """The JSON files of a model folder, `config.json` last."""
    prompts, pooling = dict(config.prompts), ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    architecture = {"bert": "Bert", "roberta": "Roberta", "camembert": "Camembert", "xlm-roberta": "XLMRoberta"}[config.model_type]
    values = dataclasses.asdict(config)
    for name in IN_OTHER_FILES:
        del values[name]
    return {
        "tokenizer_config.json": tokenizer.config | {"model_max_length": config.max_length},
        "1_Pooling/config.json": {"word_embedding_dimension": config.hidden_size}
        | {f"pooling_mode_{mode}": mode.startswith(config.pooling + "_token") for mode in pooling},
        "sentence_bert_config.json": {"max_seq_length": config.max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": prompts["query"], "passage": prompts["passage"], "document": prompts["passage"]},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{module}"}
            for i, (path, module) in enumerate(modules)
        ],
        "config.json": values | {"architectures": [f"{architecture}Model"], "torch_dtype": "float32"},
    }


# --- weights as they lie in a file ------------------------------------------------------------------------------------------

BLOCK_BYTES = 1 << 24  # in memory at once


class Stored(NamedTuple):
    """A tensor as it lies in a safetensors file: to copy its bytes, whatever their dtype, in little memory."""

    file: Path
    start: int
    dtype: str
    itemsize: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.itemsize * math.prod(self.shape)


def stored_tensors(folder) -> dict[str, Stored]:
    """{name: tensor} of a checkpoint in one file or several."""
    tensors = {}
    for file in sorted(set(weight_files(folder).values())):
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            (start, end), shape = entry["data_offsets"], tuple(entry["shape"])
            tensors[name] = Stored(file, 8 + length + start, entry["dtype"], (end - start) // max(1, math.prod(shape)), shape)
    return tensors


def resize(tensors: dict[str, Stored], rows: dict[str, np.ndarray]) -> dict[str, Stored]:
    """The same tensors, with the shapes that they have when only `rows` of those named there are kept."""
    return tensors | {name: tensors[name]._replace(shape=(len(kept), *tensors[name].shape[1:])) for name, kept in rows.items()}


def read_blocks(tensor: Stored, rows: np.ndarray | None = None) -> Iterator[bytes]:
    """The bytes of a tensor, or of its `rows` (ascending), block by block."""
    width = 1 if rows is None else tensor.itemsize * math.prod(tensor.shape[1:])
    step = max(1, BLOCK_BYTES // width)
    with open(tensor.file, "rb") as file:
        file.seek(tensor.start)
        for first in range(0, tensor.nbytes // width, step):
            block = file.read(min(step * width, tensor.nbytes - first * width))
            if rows is not None:
                wanted = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + step)] - first
                block = np.frombuffer(block, np.uint8).reshape(-1, width)[wanted].tobytes()
            yield block


def write_stored(path, tensors: dict[str, Stored], rows: dict[str, np.ndarray]) -> None:
    """One safetensors file: of the tensors in `rows` only these rows (ascending), of all others every byte."""
    header: dict = {"__metadata__": {"format": "pt"}}
    # Widest numbers first, as safetensors orders them: so each tensor starts at a multiple of its numbers' width.
    after, end = sorted(resize(tensors, rows).items(), key=lambda item: (-item[1].itemsize, item[0])), 0
    for name, tensor in after:
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [end, end := end + tensor.nbytes]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, _ in after:
            file.writelines(read_blocks(tensors[name], rows.get(name)))
