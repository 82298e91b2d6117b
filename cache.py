"""Embeddings on disk, by the text that the encoder gets: each text is embedded once (evaluation,
mining).

In: texts of any number of calls. Out: their embeddings, as an array or read from disk where they
are needed. A folder holds one subfolder per model and setting; its files hold windows of rows (key
of the text, embedding) as `.npy`, and the name of a file is the hash of its content. So a killed
run resumes, runs may share a folder, and a damaged file is noticed: it is named on the screen and
removed, and its texts are embedded again.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch

import e5nl
from files import InputError, new_file, remove_leftovers, write_json
from search import as_float32


class Cache:
    """Embeddings of one model, stored as `store`: float32, float16 or bfloat16 (a uint16 array).

    Memory: about 150 bytes a text, and what is asked for.
    """

    def __init__(
        self, folder, made_by: dict, embed_windows, prefixes: dict, width: int, store="float32"
    ):
        """made_by: all that decides an embedding apart from the text the encoder gets.
        embed_windows: (texts, kind, share) -> windows, as `e5nl.embed_windows`. prefixes: of each
        kind.
        """
        # Other settings, another subfolder
        digest = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
        self.folder, self.made_by = Path(folder) / digest[:24], made_by
        self.embed_windows, self.prefixes = embed_windows, prefixes
        self.store, self.width = store, width

        # A row on disk is the key of a text and its embedding
        stored = np.dtype("uint16" if store == "bfloat16" else store)
        self.row = np.dtype([("text", "V16"), ("embedding", stored, (width,))])
        self.places: dict[bytes, int] = {}  # key of a text -> its file << 32 | its row there
        self.files: dict[str, np.ndarray] = {}  # name -> its embeddings, memory-mapped
        self.planned: set[bytes] = set()  # keys of texts that some process embeds
        self.read()

    def read(self) -> None:
        """Take up files of earlier runs and of other processes."""
        remove_leftovers(self.folder)
        for path in sorted(self.folder.glob("*.npy")):
            if path.name in self.files:
                continue
            # Its name says what it should contain
            with open(path, "rb") as file:
                complete = hashlib.file_digest(file, "sha256").hexdigest() == path.stem
            if complete:
                self._add(path)
            else:
                print(f"{path}: damaged; its texts are embedded again")
                path.unlink(missing_ok=True)

    def _add(self, path: Path) -> None:
        rows, first = np.asarray(np.load(path, mmap_mode="r")), len(self.files) << 32
        self.files[path.name] = rows["embedding"]
        self.places |= {key.tobytes(): place for place, key in enumerate(rows["text"], first)}

    def _keys(self, texts, kind: str) -> list[bytes]:
        prefix = self.prefixes[kind]
        return [hashlib.blake2b((prefix + x).encode(), digest_size=16).digest() for x in texts]

    def fill(self, texts: list[str], kind: str, share: tuple[int, int] = (0, 1)) -> None:
        """Embed the texts that are not there.

        share: (rank, world) of one of several processes. All are given the same texts in the same
        order; each embeds its share, and `read` gives it what the others embedded.
        """
        # The texts that neither this process nor another has or will have
        new = {}
        for key, text in zip(self._keys(texts, kind), texts, strict=True):
            if key not in self.places and key not in self.planned:
                new[key] = text
        if share[1] > 1:
            self.planned |= new.keys()

        # Each window becomes a file as soon as it is embedded: a killed run loses no more than one
        keys, texts = list(new), list(new.values())
        for start, embeddings in self.embed_windows(texts, kind, share) if texts else ():
            window = slice(start, start + len(embeddings))
            embeddings = check_embeddings(embeddings, texts[window], self.width)
            rows = np.empty(len(embeddings), self.row)
            rows["text"] = np.frombuffer(b"".join(keys[window]), "V16")
            rows["embedding"] = stored_as(self.store, embeddings)
            self._write(rows)

    def _write(self, rows: np.ndarray) -> None:
        if not (self.folder / "made_by.json").exists():
            write_json(self.folder / "made_by.json", self.made_by)
        # The name of the file is the hash of its content
        content = io.BytesIO()
        np.save(content, rows, allow_pickle=False)
        path = self.folder / f"{hashlib.sha256(content.getvalue()).hexdigest()}.npy"
        with new_file(path) as temporary:
            temporary.write_bytes(content.getvalue())
        self._add(path)

    def stored(self, texts: list[str], kind: str) -> "Stored":
        """The embeddings of texts that `fill` was given, left on disk."""
        keys = self._keys(texts, kind)
        if missing := sum(key not in self.places for key in keys):
            raise InputError(f"the model gave no embeddings for {missing} of {len(texts)} texts")
        places = np.array([self.places[key] for key in keys], np.int64)
        return Stored(list(self.files.values()), places, self.row["embedding"].base, self.width)

    def __call__(self, texts: list[str], kind: str) -> np.ndarray:
        """The embeddings (N, D) float32 of texts, embedded now where need be."""
        self.fill(texts, kind)
        return as_float32(self.stored(texts, kind)[:])


class Stored:
    """Embeddings (N, D) on disk: indexed by a slice or by numbers of rows, as an array would be."""

    def __init__(self, files: list[np.ndarray], places: np.ndarray, dtype: np.dtype, width: int):
        self.files, self.places = files, places  # (N,): the file << 32 | the row there
        self.dtype, self.shape, self.ndim = dtype, (len(places), width), 2

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows) -> np.ndarray:
        places = self.places[rows]
        # One read per file, of all its rows that are wanted
        files, numbers = np.divmod(np.atleast_1d(places), 1 << 32)
        embeddings = np.empty((len(files), self.shape[1]), self.dtype)
        for file in np.unique(files):
            here = np.flatnonzero(files == file)
            embeddings[here] = self.files[file][numbers[here]]
        return embeddings.reshape(*places.shape, self.shape[1])

    def take(self, rows: np.ndarray, axis: int) -> np.ndarray:
        return self[rows]


def stored_as(store: str, embeddings: np.ndarray) -> np.ndarray:
    """Embeddings float32 as float32, float16, or bfloat16 in a uint16 array."""
    if store == "bfloat16":
        return torch.from_numpy(embeddings).bfloat16().view(torch.uint16).numpy()
    return embeddings.astype(store, copy=False)


def check_embeddings(embeddings: np.ndarray, texts: list[str], width: int | None) -> np.ndarray:
    """The embeddings of these texts as float32, if they can be compared. width: None: any."""
    # One row for each text
    expected = len(texts), width or embeddings.shape[-1]
    if embeddings.shape != expected:
        found = f"the model gave embeddings {embeddings.shape} for {len(texts)} texts"
        raise InputError(f"{found}; expected {expected}")

    # A row with NaN or infinity has no finite sum
    embeddings = np.asarray(embeddings, np.float32)
    finite = np.isfinite(embeddings.sum(1, dtype=np.float64))
    for bad, what in ((~finite, "NaN or infinite"), (~embeddings.any(1), "all zero")):
        if bad.any():
            first = texts[int(np.argmax(bad))][:60]
            count = f"{bad.sum()} of {len(texts)} texts"
            raise InputError(f"the model's embedding is {what} for {count}, the first is {first!r}")
    return embeddings


def model_cache(
    folder, model, tokenizer, weights: str, max_length: int | None = None, store="float32"
) -> Cache:
    """The cache of an encoder. weights: see `model_folder.weights_hash`."""
    config = model.config
    made_by = {
        "weights": weights,
        "tokenizer": hashlib.sha256(tokenizer.json).hexdigest(),
        "dtype": str(model.words.weight.dtype).removeprefix("torch."),
        "pooling": config.pooling,
        "max_length": min(max_length or config.max_length, config.max_length),
    }
    if store != "float32":
        made_by["store"] = store
    made_by |= config.cut

    def windows(texts, kind, share):
        return e5nl.embed_windows(
            model, tokenizer, texts, kind, share, max_length=max_length, progress=True
        )

    return Cache(folder, made_by, windows, dict(config.prompts), config.width, store)
