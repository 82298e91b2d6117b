"""Model folders of transformers and sentence-transformers, read as their owners mean them.

In: `config.json`, `model.safetensors` (or its shards), `tokenizer.json`, and sentence-transformers'
files for modules, pooling, prompts and the longest input: a folder, or the name of a repository on
the Hugging Face hub. Out: the same kind of folder, which transformers, sentence-transformers and
programs that read `tokenizer.json` alone all understand alike.

A setting that changes embeddings is either implemented or refused by name, never ignored.
Judged by transformers 5.23 and sentence-transformers 6.2 (`tests/parity/`).

Left out on purpose: pickled weights, slow tokenizers, heads, modules other than Transformer,
Pooling and Normalize.
"""

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import tokenizers
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers.models import WordPiece
from torch import Tensor

from data import PREFIXES
from files import (
    InputError,
    hub_folder,
    inside,
    is_hub_name,
    new_file,
    read_json,
    reading,
    remove_leftovers,
    write_json,
)

# --- configuration --------------------------------------------------------------------------------

ARCHITECTURES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "camembert": "Camembert",
    "xlm-roberta": "XLMRoberta",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What `config.json` and sentence-transformers' files say; the names are theirs."""

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
    # These are in sentence-transformers' files.
    pooling: str = "mean"
    max_seq_length: int | None = None  # None: what the position table allows
    prompts: tuple[tuple[str, str], ...] = tuple(PREFIXES.items())  # (kind of text, its prefix)
    similarity: str = "cosine"  # what the folder asks for; cosine is what is used
    truncate_dim: int | None = None  # only the first numbers of an embedding are used
    # The complete config.json that was read, so that what is written loses no field of it.
    source: dict = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def position_offset(self) -> int:
        """Rows at the start of the position table that no text uses.

        RoBERTa counts positions from the pad id + 1, BERT from 0.
        """
        return 0 if self.model_type == "bert" else self.pad_token_id + 1

    @property
    def positions(self) -> int:
        """Rows of the position table that texts use."""
        return self.max_position_embeddings - self.position_offset

    @property
    def max_length(self) -> int:
        """Tokens of the longest text, special tokens included; longer texts are cut."""
        return min(self.positions, self.max_seq_length or self.positions)

    @property
    def width(self) -> int:
        """Numbers of an embedding, once it is shortened."""
        return self.truncate_dim or self.hidden_size

    @property
    def cut(self) -> dict:
        """What files say of a width that is not the full one, and nothing where it is."""
        return {"truncate_dim": self.truncate_dim} if self.truncate_dim else {}

    @property
    def policy(self) -> str:
        """The prefix policy that the folder states: `instruct`, or `e5` for any other prompts."""
        return "instruct" if dict(self.prompts)["query"].startswith("Instruct: ") else "e5"

    def shortened(self, width: int | None, where: str) -> "Config":
        """With embeddings of this width (None: as before). where: what says so, for the message."""
        if width is None:
            return self
        if type(width) is not int or not 1 <= width <= self.hidden_size:
            expected = f"expected a whole number from 1 to {self.hidden_size}"
            raise InputError(f"{where}: embeddings of width {width!r:.40}; {expected}")
        full = width == self.hidden_size
        return dataclasses.replace(self, truncate_dim=None if full else width)


# The numbers of config.json, which the encoder needs, and their types.
NUMBERS = {
    field.name: field.type for field in dataclasses.fields(Config) if field.type in (int, float)
}
LARGEST = 2**24  # beyond it a number is a mistake, or asks for more than any memory holds
SHORTEST = 3  # tokens of a longest input that makes sense: start, one piece, end

# Settings that change embeddings where the judges obey them, and the only values that the encoder
# here implements. Where a setting is absent, its default is among them.
TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
IMPLEMENTED = {
    "config.json": {
        "model_type": list(ARCHITECTURES),
        "hidden_act": ["gelu", "gelu_python"],
        "position_embedding_type": ["absolute", None],
        "is_decoder": [False, None],
        "add_cross_attention": [False, None],
        "pruned_heads": [{}, None],
        "quantization_config": [None],
    },
    "tokenizer_config.json": {
        "truncation_side": ["right", None],
        "padding_side": ["right", None],
        "split_special_tokens": [False, None],
    },
    "sentence_bert_config.json": {
        "transformer_task": ["feature-extraction"],
        "module_output_name": ["token_embeddings"],
        "modality_config": [TEXT_ONLY],
        "backend": ["torch"],
    },
    "pooling": {"include_prompt": [True]},
    "config_sentence_transformers.json": {"model_type": ["SentenceTransformer", None]},
}
# Of these files every setting is an argument of the module, so any other that is set is refused.
ALSO_READ = {
    "sentence_bert_config.json": ("max_seq_length", "do_lower_case", "unpad_inputs"),
    "pooling": ("pooling_mode", "word_embedding_dimension", "embedding_dimension"),
}

# Turns pickled weights into safetensors, for a message.
CONVERT = (
    'python -c "from transformers import AutoModel as M; '
    "M.from_pretrained('{}').save_pretrained('{}')\""
)


def find(name) -> Path:
    """The folder `name`, or a copy of the hub repository `owner/name[@revision]`.

    Nothing else is ever downloaded.
    """
    if Path(name).is_dir():
        return Path(name)
    if ":" in str(name) or not is_hub_name(name):
        expected = "expected a model folder or the name of a hub repository (owner/name)"
        raise FileNotFoundError(f"{name}: no such folder; {expected}")
    folder = hub_folder(str(name), ["*.json", "*.safetensors", "README.md"], "model")
    if not any(folder.rglob("*.safetensors")):
        convert = CONVERT.format(str(name).partition("@")[0], "converted")
        raise InputError(
            f"{name}: the repository holds no safetensors; where it has pytorch_model.bin alone, "
            f"convert it with: {convert}"
        )
    return folder


def parse_config(folder) -> Config:
    """Read and check a folder's configuration. What is not implemented is refused by name."""
    # modules.json first: in old folders config.json is elsewhere, and it says where.
    folder = Path(folder)
    with reading(folder / "modules.json"):
        pooling = _parse_pooling(folder)
    path = folder / "config.json"
    if not path.is_file():
        unfinished = "is not a model folder (or its training has not finished)"
        raise InputError(f"{path}: no such file; {folder} {unfinished}")
    with reading(path):
        config = _parse_architecture(path, read_json(path))
    length = _parse_length(folder)
    if length is not None and length >= config.positions:
        length = None
    prompts, similarity, width = _parse_prompts(folder)
    prompts = tuple(prompts.items())
    config = config.shortened(width, f"{folder}/config_sentence_transformers.json: truncate_dim")
    return dataclasses.replace(
        config, pooling=pooling, max_seq_length=length, prompts=prompts, similarity=similarity
    )


def _refuse_others(path: Path, values: dict, name: str) -> None:
    """Stop at a setting that changes embeddings and is not implemented. name: in IMPLEMENTED."""
    for field, allowed in IMPLEMENTED[name].items():
        if values.get(field, allowed[0]) not in allowed:
            known = " or ".join(repr(value) for value in allowed if value is not None)
            found = f"{field} is {values[field]!r:.80}"
            raise InputError(f"{path}: {found}; this encoder knows {known or 'none'} only")
    for field, value in values.items() if name in ALSO_READ else ():
        read = field in IMPLEMENTED[name] or field.startswith(ALSO_READ[name])
        if not read and value not in (None, {}):
            raise InputError(f"{path}: the setting {field!r} is not implemented")


def _is_number(value, kind, low: float, below: float) -> bool:
    """Whether a value of a JSON file is such a number. True is none, and NaN is in no range."""
    return isinstance(value, kind) and not isinstance(value, bool) and low <= value < below


def _parse_architecture(path: Path, values: dict) -> Config:
    """config.json alone."""
    # The settings that must not ask for more, and the fields that the encoder needs.
    _refuse_others(path, values, "config.json")
    names = ("model_type", "hidden_act", *NUMBERS)
    config = Config(**{name: values[name] for name in names if name in values}, source=values)
    for name, kind in NUMBERS.items():
        value = getattr(config, name)
        if kind is int:
            low = 0 if name == "pad_token_id" else 1
            right, expected = _is_number(value, int, low, LARGEST), f"a whole number from {low}"
        else:
            right, expected = _is_number(value, int | float, 0, 1), "a number from 0 to below 1"
        if not right:
            raise InputError(f"{path}: {name} is {value!r:.40}; expected {expected}")
    if config.hidden_size % config.num_attention_heads:
        heads = f"{config.num_attention_heads} heads"
        raise InputError(f"{path}: hidden_size {config.hidden_size} is not a multiple of {heads}")
    if config.positions < SHORTEST:
        rows = f"max_position_embeddings {config.max_position_embeddings}"
        taken = f"of which {config.model_type} leaves the first {config.position_offset} unused"
        raise InputError(f"{path}: {rows}, {taken}; no text fits into the rest")

    # The class that wrote the weights says the type too.
    for name in values.get("architectures") or []:
        family = re.match(r"XLMRoberta|Roberta|Camembert|Bert(?=Model|For)", str(name))
        if family and family[0] != ARCHITECTURES[config.model_type]:
            contradiction = f"model_type {config.model_type!r}, but architectures {name!r}"
            raise InputError(f"{path}: {contradiction}; they count positions differently")
    # Code of its own is not run, and what it does is not known.
    if "AutoModel" in (values.get("auto_map") or {}):
        raise InputError(f"{path}: auto_map names code of the model's own; this encoder is BERT's")
    return config


def _parse_length(folder: Path) -> int | None:
    """The longest input: sentence-transformers' own setting, else the tokenizer's."""
    (path, values), field = _transformer_settings(folder), "max_seq_length"
    _refuse_others(path, values, "sentence_bert_config.json")
    if values.get(field) is None:
        path, field = folder / "tokenizer_config.json", "model_max_length"
        values = read_json(path) if path.is_file() else {}
    length = values.get(field)
    if length is None:
        return None
    # transformers writes 1e30 for "no limit".
    if not _is_number(length, int | float, SHORTEST, math.inf) or length != int(length):
        expected = f"expected a whole number of tokens from {SHORTEST}"
        raise InputError(f"{path}: {field} is {length!r:.40}; {expected}")
    return int(length)


def _transformer_settings(folder: Path) -> tuple[Path, dict]:
    """What sentence-transformers stores of the encoder: the first file with content, and that.

    Old versions named it after the architecture. Without modules.json the library reads none.
    """
    usual = folder / "sentence_bert_config.json"
    if (folder / "modules.json").is_file():
        for path in (usual, *sorted(folder.glob("sentence_*_config.json"))):
            if path.is_file() and (settings := read_json(path)):
                return path, settings
    return usual, {}


def _parse_pooling(folder: Path) -> str:
    """'mean' or 'cls': what modules.json leads to; without it mean, as in sentence-transformers."""
    # Which modules, and where they are.
    path = folder / "modules.json"
    if not path.is_file():
        return "mean"
    modules = read_json(path, list)
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= {"Normalize"}:
        expected = "expected Transformer, Pooling and perhaps Normalize"
        raise InputError(f"{path}: modules {', '.join(kinds) or 'none'}; {expected}")
    if encoder := modules[0]["path"].strip("./"):
        raise InputError(
            f"{path}: the encoder is in the folder {encoder}; move the files of that folder to "
            f'{folder}, and set the path of the Transformer in modules.json to ""'
        )

    # The pooling itself.
    path = inside(folder, modules[1]["path"], path) / "config.json"
    values = read_json(path)
    _refuse_others(path, values, "pooling")
    with reading(path):
        modes = _pooling_modes(values)
    if modes not in (["mean"], ["cls"]):
        pooling = " + ".join(modes) or "none"
        raise InputError(f"{path}: pooling {pooling} is not implemented; expected mean or cls")
    return modes[0]


def _pooling_modes(values: dict) -> list[str]:
    """Both layouts of sentence-transformers: a flag per mode (to version 5), or `pooling_mode`."""
    if "pooling_mode" in values:
        modes = values["pooling_mode"]
        return list(map(str, [modes] if isinstance(modes, str) else modes))
    names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    modes = [
        names.get(flag, flag)
        for flag, used in values.items()
        if flag.startswith("pooling_mode_") and used
    ]
    return modes or ([] if "pooling_mode_mean_tokens" in values else ["mean"])


def _parse_prompts(folder: Path) -> tuple[dict[str, str], str, int | None]:
    """({kind of text: its prefix}, the similarity that the folder asks for, its truncate_dim).

    E5's prefixes where the folder stores no text at all; where it stores any, or says that its
    passages have none, one that is missing is empty. A passage is sentence-transformers' document.
    """
    path = folder / "config_sentence_transformers.json"
    if not path.is_file() or not (folder / "modules.json").is_file():  # as the library does
        return PREFIXES, "cosine", None
    values = read_json(path)
    _refuse_others(path, values, "config_sentence_transformers.json")
    stored = values.get("prompts") or {}
    texts = stored.values() if isinstance(stored, dict) else [0]
    if not all(isinstance(text, str | None) for text in texts):
        raise InputError(f"{path}: prompts is {stored!r:.80}; expected {{name: prefix}}")
    others = str(values.get("similarity_fn_name") or "cosine"), values.get("truncate_dim")
    # The library adds an empty query and document by itself; a passage is somebody's own word.
    if "passage" not in stored and not any(stored.values()):
        return PREFIXES, *others
    passage = stored.get("document") or stored.get("passage") or ""
    return {"query": stored.get("query") or "", "passage": passage, "none": ""}, *others


def other_policy(config: Config, policy: str) -> str:
    """One line where a model is used under another prefix policy than its folder states, or ""."""
    if "instruct" not in (config.policy, policy) or config.policy == policy:
        return ""
    states = "was" if config.policy == "instruct" else "does not say that it was"
    return f"note: --prefix {policy}, but the folder {states} trained with instructions"


def describe_prefixes(config: Config) -> str:
    """What is put before texts, and how wide embeddings are if cut, for a command's first line."""
    prompts = dict(config.prompts)
    line = f"prefixes {prompts['query']!r} (queries) and {prompts['passage']!r} (passages)"
    if config.truncate_dim:
        line += f", embeddings cut to {config.truncate_dim}"
    if config.similarity != "cosine":
        line += f", cosine similarity (the folder asks for {config.similarity})"
    return line


# --- the tokenizer --------------------------------------------------------------------------------

# Of the start of a very long text: characters per token (Dutch has 4.3 in XLM-R's pieces), and
# tokens more than are kept.
CHARACTERS, SPARE_TOKENS = 8, 16

# The special tokens of an encoder by role, as BERT and RoBERTa call them.
ROLES = {
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>",),
    "eos": ("</s>",),
}


class Tokenizer:
    """A `tokenizer.json`, without the truncation and padding that may be stored in it.

    Both are decided here, for each call. backend: the tokenizers.Tokenizer; json: the file as it
    is; config: tokenizer_config.json; texts, cut: how many texts were tokenised, and how many of
    them were longer than allowed.
    """

    def __init__(self, json_bytes: bytes, config: dict, where="tokenizer.json"):
        self.json, self.config, self.texts, self.cut = json_bytes, config, 0, 0
        with reading(where):
            self.backend = tokenizers.Tokenizer.from_buffer(json_bytes)
        # Every text has its frame, and is cut here if at all.
        self.backend.no_truncation()
        self.backend.no_padding()
        if len(self.backend.encode("").ids) != 2:
            tokens = self.backend.encode("").tokens
            expected = "expected a start and an end token, as BERT and XLM-R have"
            raise InputError(f"{where}: an empty text becomes {tokens}; {expected}")
        words = self.backend.pre_tokenizer
        self.splits_at_spaces = words is not None and len(words.pre_tokenize_str("a b")) > 1

    @functools.cached_property
    def vocab_size(self) -> int:
        return max(self.backend.get_vocab().values()) + 1

    @functools.cached_property
    def special_ids(self) -> dict[str, int]:
        """{role: id}: start and end as they are put around a text, others as the config names them.

        A role is absent where no piece has it.
        """
        ids = dict(zip(("cls", "sep"), self.backend.encode("").ids, strict=True))
        for role, usual_names in ROLES.items():
            named = self.config.get(f"{role}_token")
            named = named.get("content") if isinstance(named, dict) else named
            for name in [named, *usual_names] if isinstance(named, str) else usual_names:
                if (id := self.backend.token_to_id(name)) is not None:
                    ids.setdefault(role, id)
        return ids

    def __call__(self, texts: list[str], prefix: str, max_length: int) -> list[list[int]]:
        """Ids of `prefix + text` with the start and end token.

        Of a longer text the first max_length - 1 ids and the end token.
        """
        texts = [prefix + text for text in texts]
        # Of very long texts only the start: it has more tokens than are kept.
        starts = [self._start(text, max_length) for text in texts]
        ids = [encoding.ids for encoding in self.backend.encode_batch_fast(starts)]
        # Where it has not (a text of long words), the complete text after all.
        short = [
            i
            for i, start in enumerate(starts)
            if len(start) < len(texts[i]) and len(ids[i]) < max_length + SPARE_TOKENS
        ]
        encodings = self.backend.encode_batch_fast([texts[i] for i in short])
        for i, encoding in zip(short, encodings, strict=True):
            ids[i] = encoding.ids
        self.texts += len(ids)
        self.cut += sum(len(tokens) > max_length for tokens in ids)
        return [
            tokens if len(tokens) <= max_length else tokens[: max_length - 1] + tokens[-1:]
            for tokens in ids
        ]

    def _start(self, text: str, max_length: int) -> str:
        """The start of a very long text, up to a space.

        Tokens do not reach over spaces, so those of the start are those of the text. When it has
        some tokens more than are kept, the last word, at the cut, is not among those kept.
        (MultiEURLEX has texts of 1.4 million characters, of which 512 tokens are used.)
        """
        enough = CHARACTERS * (max_length + SPARE_TOKENS)
        space = text.find(" ", enough) if self.splits_at_spaces else -1
        return text if space < 0 else text[:space]


def read_tokenizer(folder) -> Tokenizer:
    """A folder's tokenizer, unless its settings make other programs tokenise differently."""
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        needed = "a model folder needs it (transformers: save_pretrained of a fast tokenizer)"
        raise InputError(f"{path}: no such file; {needed}")
    settings, config = path.with_name("tokenizer_config.json"), {}
    for file in (path.with_name("special_tokens_map.json"), settings):
        config |= read_json(file) if file.is_file() else {}
    # What would be tokenised otherwise by the judges.
    tokenizer = Tokenizer(path.read_bytes(), config, path)
    with reading(settings):
        _refuse_others(settings, config, "tokenizer_config.json")
        _check_class(settings, config, tokenizer)
    file, stored = _transformer_settings(path.parent)
    if stored.get("do_lower_case") and not _lowercases(tokenizer):
        advice = "add a Lowercase normalizer to tokenizer.json, or set it to false"
        raise InputError(f"{file}: do_lower_case is true, tokenizer.json keeps case; {advice}")
    return tokenizer


def _lowercases(tokenizer: Tokenizer) -> bool:
    normalizer = tokenizer.backend.normalizer
    return normalizer is not None and normalizer.normalize_str("AÉ").islower()


# Classes of transformers that set up a part of the tokenizer anew: their own settings or defaults
# count, not tokenizer.json. Without a class it is chosen by the model type.
REBUILD_NORMALIZER = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
REBUILD_SPACES = {  # pre-tokenizer: classes, and whether they add a space unless set otherwise
    "ByteLevel": (
        ("RobertaTokenizer", "BartTokenizer", "GPT2Tokenizer", "LongformerTokenizer"),
        False,
    ),
    "Metaspace": (("XLMRobertaTokenizer", "CamembertTokenizer"), True),
}


def _state(part) -> dict:
    """A part of a tokenizer as tokenizer.json has it; {} where there is none."""
    return json.loads(part.__getstate__()) if part is not None else {}


def _word_parts(tokenizer: Tokenizer) -> list[dict]:
    """The pre-tokenizers, one after the other."""
    words = _state(tokenizer.backend.pre_tokenizer)
    return words.get("pretokenizers", [words])


def _adds_space(tokenizer: Tokenizer) -> bool | None:
    """Whether a text is read as if a space came first; None where no pre-tokenizer says so."""
    adds = None
    for part in _word_parts(tokenizer):
        if part.get("type") == "Metaspace":
            adds = part.get("prepend_scheme", "always") != "never"
        elif part.get("type") == "ByteLevel":
            adds = part["add_prefix_space"]
    return adds


def _check_class(path: Path, config: dict, tokenizer: Tokenizer) -> None:
    """Stop where transformers would change what tokenizer.json says.

    Programs that read tokenizer.json alone do not. A class for another kind of tokenizer than the
    file's is passed over: what transformers makes of it is noise, and no one's intention.
    """
    named = config.get("tokenizer_class")
    if not named and path.with_name("config.json").is_file():
        values = read_json(path.with_name("config.json"))
        default = f"{ARCHITECTURES.get(values.get('model_type'))}Tokenizer"
        named = values.get("tokenizer_class") or default
    name = str(named).removesuffix("Fast")

    # What the class sets, and what tokenizer.json says.
    stored, sets = {}, {}
    kind = _word_parts(tokenizer)[-1].get("type")
    classes, adds_space = REBUILD_SPACES.get(kind, ((), None))
    if name in REBUILD_NORMALIZER and isinstance(tokenizer.backend.model, WordPiece):
        stored, sets = _state(tokenizer.backend.normalizer), {"type": "BertNormalizer"}
        if stored.get("type") == "BertNormalizer":
            sets["lowercase"] = config.get("do_lower_case", True)
            sets["handle_chinese_chars"] = config.get("tokenize_chinese_chars", True)
            # Accents go with the case where nothing is said of them.
            sets["strip_accents"] = config.get("strip_accents")
            for values in (stored, sets):
                if values["strip_accents"] is None:
                    values["strip_accents"] = values["lowercase"]
    elif name in classes:
        stored = {"add_prefix_space": _adds_space(tokenizer)}
        sets = {"add_prefix_space": config.get("add_prefix_space", adds_space)}
    for setting, value in sets.items():
        if stored.get(setting) != value:
            found = f"{name} sets {setting} to {value}, but in tokenizer.json it is "
            advice = "programs obey one or the other: make them agree"
            raise InputError(f"{path}: {found}{stored.get(setting)}; {advice}")

    # Tokens that transformers would take out of a text before tokenizer.json does anything.
    extra = []
    for key in ("additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"):
        tokens = config.get(key) or []
        extra += tokens.values() if isinstance(tokens, dict) else tokens
    added = {token.content for token in tokenizer.backend.get_added_tokens_decoder().values()}
    for token in extra:
        content = token.get("content") if isinstance(token, dict) else token
        if content not in added:
            advice = "which transformers would add; add it there, or take it out here"
            raise InputError(f"{path}: {content!r} is no added token of tokenizer.json, {advice}")


def tokenizer_settings(tokenizer: Tokenizer, max_length: int | None) -> dict:
    """tokenizer_config.json for a tokenizer.json: all that it does not say itself, and no more.

    The class is always the one that takes tokenizer.json as it is; XLMRobertaTokenizer and its kind
    would build the tokenizer anew. add_prefix_space repeats what tokenizer.json says: transformers
    takes its absence for false, and so does llama.cpp's converter. To that one
    clean_up_tokenization_spaces says whether several spaces are read as one.
    """
    special = {
        f"{role}_token": tokenizer.backend.id_to_token(id)
        for role, id in tokenizer.special_ids.items()
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if max_length is not None:
        settings["model_max_length"] = max_length
    adds_space = _adds_space(tokenizer)
    if adds_space is not None:
        settings["add_prefix_space"] = adds_space
    if "Metaspace" in [part.get("type") for part in _word_parts(tokenizer)]:
        one, two = (tokenizer.backend.encode(text).tokens for text in ("a b", "a  b"))
        settings["clean_up_tokenization_spaces"] = one == two
    return settings | special


# Embedding rows beyond the tokenizer's pieces that are not a mistake: multilingual-e5-small has 35,
# and tables are padded to a multiple of 64 to 1,024 for the sake of GPUs.
SPARE_ROWS, PADDED_TO, PADDED_ROWS = 128, 64, 1024


def check_pieces(folder, config: Config, tokenizer: Tokenizer) -> None:
    """Stop where configuration and tokenizer contradict each other."""
    rows, pieces = config.vocab_size, tokenizer.vocab_size
    padded = rows % PADDED_TO == 0 and rows - pieces < PADDED_ROWS
    if rows < pieces or (rows - pieces > SPARE_ROWS and not padded):
        sizes = f"tokenizer.json has {pieces:,} pieces, config.json {rows:,}"
        raise InputError(f"{folder}: {sizes}; the two do not belong together")
    pad = tokenizer.special_ids.get("pad", config.pad_token_id)
    if config.position_offset and pad != config.pad_token_id:
        piece = tokenizer.backend.id_to_token(pad)
        raise InputError(
            f"{folder}: config.json says pad_token_id {config.pad_token_id}, in tokenizer.json "
            f"{piece} is {pad}; {config.model_type} counts positions from it, so one is wrong"
        )


# --- reading weights ------------------------------------------------------------------------------


def weight_files(folder) -> dict[str, Path]:
    """{tensor name: the safetensors file that holds it}, of a single file or of several."""
    folder = Path(folder)
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        files = {single}
    elif index.is_file():
        with reading(index):
            shards = read_json(index)["weight_map"].values()
            files = {inside(folder, name, index) for name in shards}
    elif pickles := sorted(folder.glob("*.bin")):
        raise InputError(
            f"{pickles[0]}: a pickle can run any code when read, so only safetensors are; "
            f"convert it with: {CONVERT.format(folder, folder)}"
        )
    else:
        raise InputError(f"{single}: no such file; a model folder holds it, or {index.name}")
    # Headers alone are read.
    where = {}
    for file in sorted(files):
        with reading(file), safe_open(file, "pt") as tensors:
            where |= dict.fromkeys(tensors.keys(), file)
    return where


BLOCK = 1 << 22  # numbers of a tensor that are read at once


def read_rows(file: Path, name: str, start: int, stop: int) -> Tensor:
    """Rows of a tensor of a safetensors file.

    They are mapped for themselves: what was read of a mapped file counts as memory until all
    tensors of that mapping are gone.
    """
    with safe_open(file, "pt") as stored:
        return stored.get_slice(name)[start:stop]


def read_blocks(file: Path, name: str, rows=None) -> Iterator[tuple[int, Tensor]]:
    """(number of the first row, rows) of a tensor of a safetensors file, block by block.

    rows (ascending): these alone, and numbered among themselves.
    """
    with safe_open(file, "pt") as stored:
        count, *rest = stored.get_slice(name).get_shape()
    step = max(1, BLOCK // math.prod(rest))
    for start in range(0, count, step):
        block = read_rows(file, name, start, start + step)
        if rows is None:
            yield start, block
        else:
            first, last = np.searchsorted(rows, [start, start + step])
            yield first, block[torch.from_numpy(rows[first:last] - start)]


def read_tensor(file: Path, name: str, dtype: torch.dtype | None = None, rows=None) -> Tensor:
    """A tensor of a safetensors file, as `dtype` (None: its own), or its `rows` (ascending) alone.

    Without either it stays in the memory-mapped file.
    """
    if dtype is None and rows is None:
        with safe_open(file, "pt") as stored:
            return stored.get_tensor(name)
    blocks = (block for _, block in read_blocks(file, name, rows))
    return torch.cat([block.to(dtype or block.dtype, copy=True) for block in blocks])


def is_finite(blocks: Iterable[Tensor]) -> bool:
    """Whether the blocks of a tensor hold neither NaN nor infinity, as float32 either."""
    for block in map(Tensor.float, blocks):
        # The sum is one pass without a copy; it can overflow, the second test cannot.
        if not block.sum().isfinite() and not block.isfinite().all():
            return False
    return True


def map_tensors(folder) -> dict[str, Tensor]:
    """All tensors of a checkpoint under its names, memory-mapped."""
    tensors = {}
    for file in sorted(set(weight_files(folder).values())):
        with safe_open(file, "pt") as stored:
            tensors |= {name: stored.get_tensor(name) for name in stored.keys()}
    return tensors


def weights_hash(folder) -> str:
    """SHA-256 of the weight files: what tells one model from another in caches and results."""
    digest = hashlib.sha256()
    for file in sorted(set(weight_files(folder).values())):
        with open(file, "rb") as stored:
            digest.update(hashlib.file_digest(stored, "sha256").digest())
    return digest.hexdigest()


# Our parameters, and the checkpoint's tensors that make them, joined along the first axis.
# `{i}` is the layer.
TENSORS = {
    "words": ["embeddings.word_embeddings"],
    "positions": ["embeddings.position_embeddings"],
    "types": ["embeddings.token_type_embeddings"],
    "norm": ["embeddings.LayerNorm"],
    "layers.{i}.qkv": [
        f"encoder.layer.{{i}}.attention.self.{part}" for part in ("query", "key", "value")
    ],
    "layers.{i}.out": ["encoder.layer.{i}.attention.output.dense"],
    "layers.{i}.attention_norm": ["encoder.layer.{i}.attention.output.LayerNorm"],
    "layers.{i}.up": ["encoder.layer.{i}.intermediate.dense"],
    "layers.{i}.down": ["encoder.layer.{i}.output.dense"],
    "layers.{i}.norm": ["encoder.layer.{i}.output.LayerNorm"],
}
PREFIXED = re.compile(r"^(roberta|bert|camembert)\.")  # of every name where there is a head
LEFT_OUT = re.compile(  # no part of an embedding
    r"^(pooler|lm_head|cls|classifier|qa_outputs)\..*$|^embeddings\.(position|token_type)_ids$"
)


def modern(name: str) -> str:
    """A tensor's name as it is written today: the first BERTs called LayerNorm's gamma and beta."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias")


FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # what weights may be


def checkpoint_names(parameters) -> dict[str, list[str]]:
    """{our parameter: the checkpoint's tensors}, for every layer, weight and bias."""
    names = {}
    for parameter in parameters:
        module, _, kind = parameter.rpartition(".")
        layer = re.search(r"\d+", module)
        template = re.sub(r"\d+", "{i}", module)
        parts = [name.format(i=layer and layer[0]) for name in TENSORS[template]]
        names[parameter] = [f"{part}.{kind}" for part in parts]
    return names


def read_state(folder, config: Config, shapes: dict[str, torch.Size], dtype=torch.float32) -> dict:
    """{our parameter: its value} of the checkpoint's tensors, as `dtype`.

    shapes: what each parameter must have; the position table comes with its unused first rows.
    Stops, by the tensor's name, when one is missing, unknown, of another shape, or holds NaN.
    Tensors of that dtype that are one parameter alone stay in the memory-mapped file (copied on
    write).
    """
    files, mapped, names, state = weight_files(folder), map_tensors(folder), {}, {}
    # {tensor's name without a prefix and as it is called today: its name in the file}
    for name in files:
        plain = modern(PREFIXED.sub("", name))
        first = names.setdefault(plain, name)
        same = first == name or torch.equal(*(read_tensor(files[x], x) for x in (first, name)))
        if not same:
            raise InputError(f"{folder}: tensors {first} and {name} are one, and they differ")
    for parameter, parts in checkpoint_names(shapes).items():
        # The shape of each part, as the checkpoint has it.
        rows, *rest = shapes[parameter]
        unused = config.position_offset if parameter == "positions.weight" else 0
        shape = (rows // len(parts) + unused, *rest)
        values = []
        for part in parts:
            if part not in names:
                layers = f"config.json asks for {config.num_hidden_layers} layers"
                raise InputError(f"{folder}: tensor {part} is missing; {layers}")
            name = names.pop(part)
            value = mapped[name]
            if value.dtype not in FLOATS:
                kinds = ", ".join(map(str, FLOATS))
                raise InputError(f"{folder}: tensor {part} is {value.dtype}; expected {kinds}")
            if value.shape != shape:
                stored = f"tensor {part} is {tuple(value.shape)}"
                raise InputError(f"{folder}: {stored}, config.json asks for {shape}")
            # A large table is checked, and turned into another dtype, block by block.
            small = value.numel() <= BLOCK
            blocks = [value] if small else (b for _, b in read_blocks(files[name], name))
            if not is_finite(blocks):
                advice = "the training that made it diverged, or the file is damaged"
                raise InputError(f"{folder}: tensor {part} holds NaN or infinity; {advice}")
            values.append(value if value.dtype == dtype else read_tensor(files[name], name, dtype))
        state[parameter] = values[0] if len(values) == 1 else torch.cat(values)
    # What is left over must be no part of an encoder.
    unknown = sorted(name for name in names if not LEFT_OUT.match(name))
    if unknown:
        layers = f"{config.num_hidden_layers} layers of {config.model_type}"
        raise InputError(
            f"{folder}: {len(unknown)} tensors have no place in {layers}, the first is "
            f"{unknown[0]}; config.json and weights do not belong together"
        )
    return state


def check_positions(folder, config: Config, tokenizer: Tokenizer, positions: Tensor) -> None:
    """Stop where a position table (rows, D) is RoBERTa's but the configuration says BERT.

    RoBERTa's row of the pad token is zero, since nothing trains it; BERT has no such row.
    """
    pad = tokenizer.special_ids.get("pad", 0)
    if config.model_type == "bert" and pad < len(positions) and not positions[pad].any():
        raise InputError(
            f"{folder}: config.json says model_type 'bert', but row {pad} of the position table, "
            "the pad token's, is zero as RoBERTa's is; the positions would be shifted"
        )


# --- writing --------------------------------------------------------------------------------------


def refuse_model(folder: Path, overwrite: bool) -> None:
    remove_leftovers(folder)
    if (folder / "config.json").exists() and not overwrite:
        advice = "choose another output folder, or add --overwrite to replace it"
        raise InputError(f"{folder}: holds a model already; {advice}")


def retire_model(folder: Path) -> None:
    """From here on the folder holds no model, until another is complete.

    A report on its vocabulary described the old one.
    """
    for name in ("config.json", "trim_report.json", "transtokenize_report.json"):
        (folder / name).unlink(missing_ok=True)


def write_folder(folder, config: Config, tokenizer: Tokenizer, state: dict[str, Tensor],
                 overwrite: bool = False) -> None:  # fmt: skip
    """Write a model folder that transformers, sentence-transformers and `load` read.

    state: as `read_state` gives it; written as float32. `config.json` comes last: a folder that has
    it is complete.
    """
    folder = Path(folder)
    refuse_model(folder, overwrite)
    # Under the checkpoint's names, joined parameters apart again.
    tensors = {}
    for parameter, parts in checkpoint_names(state).items():
        for name, value in zip(parts, state[parameter].chunk(len(parts)), strict=True):
            tensors[name] = value.float().contiguous().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    retire_model(folder)
    # config.json: what was read, and over it what this model is.
    values = {name: getattr(config, name) for name in NUMBERS} | {"hidden_act": config.hidden_act}
    values |= {
        "model_type": config.model_type,
        "architectures": [f"{ARCHITECTURES[config.model_type]}Model"],
        "torch_dtype": "float32",
    }
    write_tensors(folder, tensors)
    write_settings(folder, config, tokenizer, config.source | values)


# Tensors with one row per piece: the embedding table, and a masked language model's head where the
# checkpoint still has it.
BY_PIECE = re.compile(
    r"(^|\.)embeddings\.word_embeddings\.weight$"
    r"|^(lm_head|cls\.predictions)\.(bias|decoder\.(weight|bias))$"
)


def write_other_pieces(folder, out, rows: Callable[[Path, str], Tensor], *settings) -> None:
    """The model of `folder` with other pieces, in the folder `out`.

    rows: the new rows of a tensor that has one per piece, by its file and name; all other tensors
    stay as they are. settings: as for `write_settings`. Nothing else is carried along:
    sentencepiece.bpe.model, ONNX and other exports would keep the old vocabulary.
    """
    tensors = {}
    for name, file in weight_files(folder).items():
        make = rows if BY_PIECE.search(name) else read_tensor
        tensors[modern(name)] = make(file, name)
    write_tensors(out, tensors)
    write_settings(out, *settings)


def write_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    with new_file(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


# What transformers writes into every config.json and some programs ask for.
USUAL = {
    "initializer_range": 0.02,
    "position_embedding_type": "absolute",
    "use_cache": True,
    "classifier_dropout": None,
}


def write_settings(folder: Path, config: Config, tokenizer: Tokenizer, values: dict) -> None:
    """All files of a model folder but its weights. values: the content of config.json.

    What is applied here is what is written: prefixes, pooling, the longest input.
    """
    prompts = dict(config.prompts)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    files = {
        "tokenizer_config.json": tokenizer_settings(tokenizer, config.max_length),
        "1_Pooling/config.json": {
            "word_embedding_dimension": config.hidden_size,
            "pooling_mode_cls_token": config.pooling == "cls",
            "pooling_mode_mean_tokens": config.pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "sentence_bert_config.json": {
            "max_seq_length": config.max_length,
            "do_lower_case": False,
        },
        "config_sentence_transformers.json": {
            "prompts": {
                "query": prompts["query"],
                "passage": prompts["passage"],
                "document": prompts["passage"],
            },
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        }
        | config.cut,
        "modules.json": [
            {
                "idx": number,
                "name": str(number),
                "path": path,
                "type": f"sentence_transformers.models.{module}",
            }
            for number, (path, module) in enumerate(modules)
        ],
    }
    with new_file(folder / "tokenizer.json") as temporary:
        temporary.write_bytes(tokenizer.json)
    for name, content in files.items():
        write_json(folder / name, content)
    # tokenizer_config.json names the class, and torch_dtype has one name of its two.
    values = USUAL | values
    values.pop("tokenizer_class", None)
    if "dtype" in values:
        values.setdefault("torch_dtype", values.pop("dtype"))
    write_json(folder / "config.json", values)
