"""cache.py: each distinct text is embedded once, kept on disk, and read back bit for bit.

python -m pytest tests/test_cache.py
"""

import json

import numpy as np
import pytest
import torch
from parity import cases

from cache import Cache
from files import InputError
from search import as_float32, top_k

PREFIXES = {"query": "q: ", "passage": "p: ", "none": ""}


class Windows:
    """What a Cache asks for embeddings: two texts at a time; `calls` says which."""

    def __init__(self, change=lambda x: x):
        self.calls, self.change = [], change

    def __call__(self, texts, kind, share):
        for number, start in enumerate(range(0, len(texts), 2)):
            if number % share[1] == share[0]:
                window = texts[start : start + 2]
                self.calls.append((kind, window))
                yield start, self.change(embed(window, kind))


def embed(texts, kind):
    texts = [PREFIXES[kind] + text for text in texts]
    return cases.embed(texts, "none") if texts else np.empty((0, cases.WIDTH), np.float32)


def new_cache(folder, windows, store="float32", **made_by) -> Cache:
    return Cache(folder, made_by, windows, PREFIXES, cases.WIDTH, store)


ASKED = [
    (["a", "b", "a", "c"], "query"),
    (["c", "d"], "query"),
    (["q: a", "e"], "none"),  # without a prefix what `a` is as a query: the encoder gets the same
    (["a"], "passage"),
    (["b", "b"], "query"),
    ([], "query"),
]


def test_each_text_is_embedded_once_and_kept(tmp_path):
    windows = Windows()
    cache = new_cache(tmp_path, windows)
    for texts, kind in ASKED:
        assert np.array_equal(cache(texts, kind), embed(texts, kind))
    once = [["a", "b"], ["c"], ["d"], ["e"], ["a"]]
    assert [texts for _, texts in windows.calls] == once
    again = new_cache(tmp_path, lambda *_: pytest.fail("embedded again"))
    for texts, kind in ASKED:
        assert np.array_equal(again(texts, kind), embed(texts, kind))
    assert len(again.places) == 6
    other = new_cache(tmp_path, windows, weights="others")
    assert not other.places and other.folder != cache.folder and not other.folder.exists()
    assert json.loads((cache.folder / "made_by.json").read_text()) == {}


def test_a_killed_run_resumes(tmp_path):
    def killed(texts, kind, share):
        yield from list(Windows()(texts, kind, share))[:2]
        raise KeyboardInterrupt

    texts = list("abcdefg")
    with pytest.raises(KeyboardInterrupt):
        new_cache(tmp_path, killed)(texts, "none")
    windows = Windows()
    assert np.array_equal(new_cache(tmp_path, windows)(texts, "none"), embed(texts, "none"))
    assert windows.calls == [("none", ["e", "f"]), ("none", ["g"])]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-3], lambda b: b[:-3] + b"xyz", lambda b: b"", lambda b: b"niets"]
)
def test_damaged_files_cost_their_texts_only(tmp_path, capsys, damage):
    cache = new_cache(tmp_path, Windows())
    cache(list("abcd"), "none")
    files = sorted(cache.folder.glob("*.npy"))
    files[0].write_bytes(damage(files[0].read_bytes()))
    windows = Windows()
    again = new_cache(tmp_path, windows)
    assert capsys.readouterr().out == f"{files[0]}: damaged; its texts are embedded again\n"
    assert not files[0].exists()
    assert np.array_equal(again(list("abcd"), "none"), embed("abcd", "none"))
    assert len(windows.calls) == 1


def test_processes_embed_a_share_each_and_read_the_rest(tmp_path):
    both, windows = [], [Windows(), Windows()]
    for rank in (0, 1):
        both.append(new_cache(tmp_path, windows[rank]))
    for rank, cache in enumerate(both):
        for texts in (list("abcdefg"), list("efgh")):
            cache.fill(texts, "none", (rank, 2))
    texts = [text for each in windows for _, window in each.calls for text in window]
    assert sorted(texts) == list("abcdefgh") and min(len(each.calls) for each in windows) > 1
    for cache in both:
        cache.read()
        assert np.array_equal(cache.stored(list("hgfa"), "none")[:], embed("hgfa", "none"))


@pytest.mark.parametrize("store", ["float32", "float16", "bfloat16"])
def test_stored_embeddings_are_read_where_they_are(tmp_path, store):
    texts = [f"w{i} w{i % 7}" for i in range(60)]
    cache = new_cache(tmp_path, Windows(), store)
    cache.fill(texts, "passage")
    stored = cache.stored(texts + texts[:5], "passage")
    expected = torch.from_numpy(embed(texts + texts[:5], "passage"))
    expected = expected.to(getattr(torch, store)).float().numpy()
    assert (len(stored), stored.shape, stored.ndim) == (65, (65, cases.WIDTH), 2)
    assert stored.dtype == np.dtype("uint16" if store == "bfloat16" else store)
    for rows in (slice(None), slice(7, 31), np.array([64, 3, 3]), [5], 8, []):
        assert np.array_equal(as_float32(stored[rows]), expected[rows])
    _, numbers = top_k(expected[:9], stored, 1)
    assert (expected[numbers[:, 0]] == expected[:9]).all(), "each finds itself"


BAD = [  # what the model gives, message, files kept (of windows before the bad one)
    (lambda x: x[:, 1:], r"the model gave embeddings \(2, 23\) for 2 texts; expected \(2, 24\)", 0),
    (lambda x: x[1:], r"the model gave no embeddings for 1 of 2 texts", 1),
    (
        lambda x: np.where([[False], [True]], np.nan, x),
        "NaN or infinite for 1 of 2 texts, the first is 'tweede'",
        0,
    ),
    (lambda x: x * [[0], [1]], "all zero for 1 of 2 texts, the first is 'eerste'", 0),
]


@pytest.mark.parametrize("change, message, kept", BAD)
def test_embeddings_that_cannot_be_compared_are_not_kept(tmp_path, change, message, kept):
    cache = new_cache(tmp_path, Windows(change))
    with pytest.raises(InputError, match=message):
        cache(["eerste", "tweede"], "query")
    assert len(list(cache.folder.glob("*.npy"))) == kept
