"""A model folder's `README.md`, as the hub shows it.

In: a model folder with the record of how it was made (`settings.json` and `log.jsonl`, or the
report of trimming or transtokenisation), and the folder it was made from. Out: the card. Its
head, YAML, has the fields that the hub knows (huggingface.co/docs/hub/model-cards); its text says
how to use the model, how it was made, and what it is not good at.

A card has parts between two markers, `e5nl begin NAME` and `e5nl end NAME`, in comments. They alone
are rewritten; a field of the head that is outside them is kept. `e5nl.py train`,
`trim_vocab.py` and `transtokenize.py` write cards; scores get into one, and a folder to the hub, by

    python evaluate.py card runs/results --model runs/model --push owner/name
"""

import re
from collections import Counter
from pathlib import Path

import yaml

import model_folder
from files import InputError, hub_repository, new_file, read_json, read_jsonl, reading

CARD = "README.md"
# As the hub finds it: white space may come before it
HEAD = re.compile(r"\s*---[ \t]*\r?\n(.*?\n)?---[ \t]*(?:\r?\n|$)", re.DOTALL)
TEXT_COMMENT, HEAD_COMMENT = "<!-- {} -->", "# {}"


# --- parts of a card ------------------------------------------------------------------------------


def find_part(text: str, name: str, comment: str = TEXT_COMMENT) -> re.Match | None:
    """A part, markers included; group 1 is its content. One marker without the other is text, and
    so are both in a block of code."""
    begin, end = (re.escape(comment.format(f"e5nl {word} {name}")) for word in ("begin", "end"))
    pattern = re.compile(rf"{begin}\s*((?:(?!{begin}).)*?)\s*{end}\r?\n?", re.DOTALL)
    for match in pattern.finditer(text):
        if len(re.findall("^ *```", text[: match.start()], re.MULTILINE)) % 2 == 0:
            return match
    return None


def replace_part(text: str, name: str, content: str, comment: str = TEXT_COMMENT) -> str:
    """The text with a part's content replaced, or added at its end; empty content removes it."""
    begin, end = (comment.format(f"e5nl {word} {name}") for word in ("begin", "end"))
    part = f"{begin}\n{content.strip()}\n{end}\n" if content else ""
    if match := find_part(text, name, comment):
        return text[: match.start()] + part + text[match.end() :]
    # In Markdown after a blank line
    gap = "\n\n" if comment == TEXT_COMMENT else "\n"
    while part and text and not text.endswith(gap):
        text += "\n"
    return text + part


def read_card(folder) -> tuple[str, str]:
    """The head and the text of a folder's card; both are empty if it has none."""
    path = Path(folder) / CARD
    if not path.is_file():
        return "", ""
    with reading(path):
        content = path.read_bytes().decode("utf-8-sig")
    head = HEAD.match(content)
    return (head[1] or "", content[head.end() :]) if head else ("", content)


def parse_head(head: str, folder) -> dict:
    """{field: value} of the head of a folder's card."""
    with reading(f"{folder}/{CARD}") as place:
        fields = yaml.safe_load(head) or {}
        if not isinstance(fields, dict):
            raise InputError(f"{place}: its head is not `field: value` lines; mend or remove it")
        names = fields.get("datasets") or []
        if not isinstance(names, str | list) or set(map(type, names)) - {str}:
            raise InputError(f"{place}: datasets is {str(names)[:60]}; expected a list of names")
    return fields


def check(*folders) -> None:
    """Stop before the work where a card, of the base or of what is replaced, cannot be read."""
    for folder in folders:
        parse_head(read_card(folder)[0], folder)


def write_card(folder, old, fields: dict[str, dict], parts: dict[str, str]) -> None:
    """Write the card of `old` to `folder` with other parts. fields: {part of the head: fields}."""
    head, text = read_card(old)
    text = text or f"# {Path(old).resolve().name}\n"
    for name, values in fields.items():
        others = parse_head(replace_part(head, name, "", HEAD_COMMENT), old)
        values = {key: value for key, value in values.items() if value and key not in others}
        content = yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else ""
        head = replace_part(head, name, content, HEAD_COMMENT)
    for name, content in parts.items():
        text = replace_part(text, name, content)
    with new_file(Path(folder) / CARD) as temporary:
        temporary.write_bytes(f"---\n{head}---\n{text}".encode())


# --- a new model ----------------------------------------------------------------------------------


def write(folder, base=None, old=None, step: str = "", config=None) -> None:
    """Write the card of a model that was just made, and so has no scores.

    base: the folder or hub name it was made from, if known; licence, data sets and history are
    taken over from its card. old: the folder that is replaced, whose card is kept but for these
    parts. step: how the model was made, if not as the folder's files say. config: where the folder
    has none yet.
    """
    folder, made = Path(folder), {} if step else read_made(Path(folder))
    name = str(made.get("model", base or ""))
    base = base and model_folder.find(base)
    head, text = read_card(base) if base else ("", "")
    before = parse_head(head, base)

    # The hub wants names of repositories. What has the form is one, or a file that is gone by now
    names = [name, *made.get("data", ())] if base else []
    from_hub = {x: repository for x in names if (repository := hub_repository(x))}
    origin = from_hub.pop(name, before.get("base_model"))
    datasets = before.get("datasets") or []
    datasets = [datasets] if isinstance(datasets, str) else datasets
    licence = {x: before.get(x) for x in ("license", "license_name", "license_link")}
    fields = licence | {
        "language": "nl",
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "sentence-similarity", "feature-extraction", "e5"],
        "base_model": origin,
        "base_model_relation": origin and "finetune",
        "datasets": list(dict.fromkeys([*datasets, *from_hub.values()])),
    }

    # The history of the base, and this step
    if step := step or describe_step(folder, made):
        history = find_part(text, "made")
        start = f"## How it was made\n\n1. Started from {code(origin or Path(name).name)}."
        step = f"{history[1] if history else start}\n1. {step}"
    config = config or model_folder.parse_config(folder)
    parts = {"use": describe_use(config, folder.resolve().name), "made": step, "scores": ""}
    write_card(folder, old or folder, {"model": fields, "scores": {}}, parts)


def read_made(folder: Path) -> dict:
    """What the command that made a folder wrote of it."""
    for name in ("trim_report.json", "transtokenize_report.json", "settings.json"):
        if (folder / name).is_file():
            return read_json(folder / name)
    return {}


def describe_step(folder: Path, made: dict) -> str:
    """The last step of making a model, in a sentence; empty if it is not known."""
    if not made:
        return ""
    if "coverage" in made:
        before, after, corpus = (made[name] for name in ("before", "after", "corpus"))
        return (
            f"Trimmed from {before['pieces']:,} to {after['pieces']:,} pieces, those most frequent "
            f"in {corpus['texts']:,} Dutch texts ({corpus['tokens']:,} tokens); of the tokens of "
            f"other texts {made['check']['share_tokens_kept']:.1%} are kept."
        )
    if "word_pairs" in made:
        return (
            f"Given another tokenizer, {code(Path(made['settings']['tokenizer']).name)}: the "
            f"embedding of a piece is an average of old ones, by {made['word_pairs']:,} pairs of "
            f"words in {made['pairs']:,} pairs of sentences."
        )

    # Training: the rows of each source as they were taken, unless batches were mixed
    rows = Counter()
    for _, line in read_jsonl(folder / "log.jsonl"):
        rows[line["source"]] += line["rows"]
    of_one_source = made["batching"] == "source"
    sources = ", ".join(
        code(name) + f" ({rows[name]:,})" * of_one_source for name in made["sources"]
    )
    others = ("model", "data", "sources", "weights", "chunk_tokens")
    settings = ", ".join(f"{key} {code(x)}" for key, x in made.items() if key not in others)
    return f"Trained on {sum(rows.values()):,} rows, of {sources}. Settings: {settings}."


def code(value) -> str:
    """Text from a file, as code in Markdown."""
    text = " ".join(str(value).split()).replace("`", "'")
    return f"`{text}`"


def describe_use(config: model_folder.Config, name: str) -> str:
    """How to use a model, with the prefixes that its folder stores, and what it is not good at."""
    query, passage = (repr(dict(config.prompts)[kind]) for kind in ("query", "passage"))
    return f"""\
A Dutch text embedding model: {config.num_hidden_layers} layers, {config.vocab_size:,} pieces,
embeddings of {config.width} numbers. A query needs the prefix {code(query)}, a passage
{code(passage)}. With E5-NL in plain PyTorch, which adds the prefix of the kind it is given:

```python
from e5nl import embed, load
model, tokenizer = load({name!r})
embeddings = embed(model, tokenizer, ["Olifanten worden 60 tot 70 jaar oud."], "passage")
```

With sentence-transformers:

```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer({name!r})
embeddings = model.encode(["Olifanten worden 60 tot 70 jaar oud."], prompt={passage})  # or {query}
```

What it is not good at:

- Languages other than Dutch, on which it was not tested; its vocabulary may lack their pieces.
- Long texts: what is beyond {config.max_length} tokens is cut off.
- Absolute similarity: cosines rank texts; those of unrelated texts may be high too.
- Texts without their prefix: their embeddings are worse.
- Fairness: the biases of its training texts were not measured."""


# --- scores, and the hub --------------------------------------------------------------------------


def add_scores(folder, name: str, results: list[dict], table: str) -> None:
    """Put results into a folder's card: in the head as the hub's model-index, below as a table.

    name: what the model is called in the card. results: entries of the index.
    """
    others = replace_part(read_card(folder)[0], "scores", "", HEAD_COMMENT)
    if "model-index" in parse_head(others, folder):
        raise InputError(f"{Path(folder) / CARD}: has a model-index of its own; remove it first")
    index = [{"name": name, "results": results}]
    use = describe_use(model_folder.parse_config(folder), name)
    parts = {"use": use, "scores": f"## Scores\n\n{table}"}
    write_card(folder, folder, {"scores": {"model-index": index}}, parts)


# What of a folder is the model; checkpoints, logs and settings with local paths are not
MODEL_FILES = [
    CARD, "config.json", "config_sentence_transformers.json", "modules.json",
    "sentence_bert_config.json", "1_Pooling/config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "model.safetensors",
    "model.safetensors.index.json", "model-0*.safetensors",
]  # fmt: skip


def push(folder, repository: str) -> str:
    """Upload a model folder to the hub; returns the address. The key is huggingface_hub's own."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError

    try:
        address = HfApi().create_repo(repository, exist_ok=True)
        options = {"allow_patterns": MODEL_FILES, "commit_message": "Model and card"}
        HfApi().upload_folder(repo_id=repository, folder_path=folder, **options)
        return str(address)
    except (HTTPError, HFValidationError, LocalTokenNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--push {repository}: not uploaded ({reason})") from None
