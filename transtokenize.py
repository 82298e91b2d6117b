"""Transtokenisation: an English encoder gets a Dutch tokenizer.

Implements arXiv 2509.12340, model initialisation (`e5-*-t2t`), which is Trans-Tokenization (arXiv
2408.04303); the paper used it through the tool `transtokenizer`.

In: the folder (or hub name) of an encoder, a target tokenizer (WordPiece, Unigram or BPE), and
parallel text. Out: a folder of the same kind with the target tokenizer, in which every row of the
embedding table is a weighted average of the encoder's rows, and `transtokenize_report.json`.
Nothing else of the network changes and nothing is trained:

1. tokenise both sides, each with its own tokenizer; 2. count which words translate each other;
3. spread the counts of a pair of words over their pieces; 4. find other evidence for the pieces
that no word explains; 5. average.

Steps 1 and 2 are `align.py`'s, which also says what parallel text may be.

    python transtokenize.py --model runs/english --tokenizer tokenizer.json \
        --parallel nld-eng.tsv.gz --out runs/dutch
    python transtokenize.py --model intfloat/e5-base-v2 --tokenizer GroNLP/bert-base-dutch-cased \
        --parallel "Helsinki-NLP/opus-100:en-nl/train-*.parquet" \
        --fields translation.en translation.nl --out runs/e5-base-v2-t2t

Departures from the tool: it cannot read WordPiece, so not the paper's own pair, and loads decoders
only. Its words come from fast_align as a separate program in one direction; here both directions
have to agree (see `align`). A piece that is in both vocabularies counts for itself only where no
word explains it; letter case does not hinder that. Smoothing (`substring`) does not depend on the
order of the vocabulary and takes time in proportion to it, not to its square and more.
Left out on purpose: scaling the rows to their old length. An average is shorter than what it is
made of; the report says by how much.

Letters for dimensions: V pieces of the target, W rows of the source's table, D width.
"""

import argparse
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from tokenizers import BertWordPieceTokenizer
from tokenizers.models import WordPiece

import card
import e5nl
import model_folder
from align import (
    MOST_CELLS,
    Text,
    Vocabulary,
    WordPair,
    align,
    count_cells,
    read_pairs,
    read_sides,
)
from files import (
    InputError,
    cli,
    hub_folder,
    is_hub_name,
    new_folder,
    read_json,
    reading,
    whole_number,
    write_json,
)
from trim_vocab import refuse_inputs_in

# --- 3. from words to pieces ----------------------------------------------------------------------


def spread(pairs: list[WordPair], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """Counts of target pieces and source pieces (V, W).

    Half of a pair's count goes to all pairs of its pieces, half to those in order: both words are
    stretched to one length, and what is then at one place belongs together. A pair counts once,
    however many its pieces, so the word "huis" says more about the piece "huis" than "huisarts".
    """
    cells = []
    for source, target, count in pairs:
        # All with all, and those in order; the shares of either sum to 1.
        share = 1 / (len(source) * len(target))
        cells += [(t, s, count * share / 2) for s in source for t in target]
        length = math.lcm(len(source), len(target))
        for i in range(length):
            s, t = source[i * len(source) // length], target[i * len(target) // length]
            cells.append((t, s, count * (1 / length) / 2))
    return _matrix(cells, shape)


# --- 4. evidence ----------------------------------------------------------------------------------

# In this order: the first that a piece has counts.
EVIDENCE = ("special", "aligned", "identity", "substring", "unknown")
SPECIAL, ALIGNED, IDENTITY, SUBSTRING, UNKNOWN = range(5)


def same_piece(source: Vocabulary) -> Callable[[str, bool], tuple[int, ...]]:
    """A function that gives the source pieces of the same text (beginning a word or not).

    One, several for a number, or none. In this order: the text as it is, as the source's normalizer
    makes it (lower case, without accents), in lower case; each with the same place in a word first,
    then with the other.
    """
    places = zip(source.texts, source.starts, strict=True)
    known = {(text, start): id for id, (text, start) in enumerate(places) if text}
    normalizer = source.backend.normalizer

    def find(text: str, start: bool) -> tuple[int, ...]:
        normal = normalizer.normalize_str(text).strip("▁ ") if normalizer else text
        forms = (text, normal, text.casefold())
        for key in itertools.product(forms, (start, not start)):
            if key in known:
                return (known[key],)
        return source.ids(text) if text.isdecimal() else ()

    return find


def inner_texts(text: str, known) -> list[str]:
    """The parts of `text` that are in `known` and in no longer part that is.

    >>> inner_texts("identiteitskaart", {"identiteit", "tite", "kaart", "aart", "s"})
    ['identiteit', 's', 'kaart']
    """
    parts, end = [], 0
    for i in range(len(text)):
        for j in range(len(text), max(i, end), -1):
            if text[i:j] in known:
                parts.append(text[i:j])
                end = j
                break
    return parts


def weigh(
    source: Vocabulary, target: Vocabulary, pairs: list[WordPair], width: int
) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """(weights (V, W) float64, each row summing to 1; evidence of each piece (V,), see EVIDENCE).

    special: the source's token of the same role. aligned: counts by `spread`. identity: by
    `same_piece`. substring: by `similar_pieces`. unknown: the source's unknown token.
    """
    # Words that translate each other.
    size = len(target.texts)
    weights = _shares(spread(pairs, (size, width)))
    evidence = np.where(np.diff(weights.indptr) > 0, ALIGNED, UNKNOWN)

    # The same token, or the same text.
    cells = []
    for role, id in target.roles.items():
        if role in source.roles:
            cells.append((id, source.roles[role], 1.0))
            evidence[id] = SPECIAL
    find = same_piece(source)
    for id in np.flatnonzero(evidence == UNKNOWN).tolist():
        ids = find(target.texts[id], target.starts[id]) if target.texts[id] else ()
        if ids:
            cells += [(id, same, 1.0) for same in dict.fromkeys(ids)]
            evidence[id] = IDENTITY
    weights += _shares(_matrix(cells, (size, width)))

    # The average of similar pieces that have evidence.
    similar = similar_pieces(target, evidence)
    evidence[list(similar)] = SUBSTRING
    cells = [(id, *part) for id, parts in similar.items() for part in parts.items()]
    weights += _shares(_matrix(cells, (size, size))) @ weights

    # Nothing.
    unk = source.roles["unk"]
    cells = [(id, unk, 1.0) for id in np.flatnonzero(evidence == UNKNOWN).tolist()]
    return weights + _matrix(cells, (size, width)), evidence


def similar_pieces(target: Vocabulary, evidence: np.ndarray) -> dict[int, dict[int, float]]:
    """{piece without evidence: {piece with evidence: the share that the shorter is of the longer}}.

    Similar are those that are part of it, at any place in a word, and those that begin with it, at
    the same place in a word, whatever the letter case. Pieces without any are left out.
    """
    texts, starts = [text.casefold() for text in target.texts], target.starts
    lacking = [id for id in np.flatnonzero(evidence == UNKNOWN).tolist() if texts[id]]
    has_evidence = np.isin(evidence, (ALIGNED, IDENTITY))
    evident = [id for id in np.flatnonzero(has_evidence).tolist() if texts[id]]
    # Of two pieces of one text the one that begins a word says more.
    known = {}
    for id in sorted(evident, key=lambda id: (not starts[id], evidence[id])):
        known.setdefault(texts[id], id)
    wanted = {}
    for id in lacking:
        wanted.setdefault((texts[id], starts[id]), []).append(id)

    # Its parts, and what it is the beginning of.
    similar = {}
    for text, start in wanted:
        parts = inner_texts(text, known)
        similar[text, start] = {known[part]: len(part) / len(text) for part in parts}
    for id in evident:
        for length in range(1, len(texts[id])):
            key = texts[id][:length], starts[id]
            if key in similar:
                similar[key][id] = length / len(texts[id])
    return {id: pieces for key, pieces in similar.items() if pieces for id in wanted[key]}


def _matrix(
    cells: list[tuple[int, int, float]], shape: tuple[int, int]
) -> scipy.sparse.csr_array:
    """Of cells (row, column, value); those of one place are added up."""
    rows, columns, values = zip(*cells, strict=True) if cells else ((), (), ())
    places = np.array(rows, int), np.array(columns, int)
    return scipy.sparse.csr_array((np.array(values, float), places), shape)


def _shares(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Each row divided by its sum. A lone number becomes exactly 1: its row is copied as it is."""
    matrix.data /= np.repeat(matrix.sum(1), np.diff(matrix.indptr))
    return matrix


# --- 5. the model folder --------------------------------------------------------------------------


def read_target(name) -> tuple[model_folder.Tokenizer, Path]:
    """The target tokenizer, and where it was found.

    A tokenizer.json, the vocab.txt of a BERT, or a folder or hub repository with one of them. Case
    and accents of a vocab.txt are treated as the tokenizer_config.json next to it says.
    """
    path = Path(name)
    if is_hub_name(name):
        path = hub_folder(name, ["tokenizer.json", "vocab.txt", "tokenizer_config.json"], "model")
    if path.is_dir():
        names = [file for file in ("tokenizer.json", "vocab.txt") if (path / file).is_file()]
        path = path / (names or ["tokenizer.json"])[0]
    if not path.is_file():
        expected = "expected a tokenizer.json, the vocab.txt of a BERT, or a folder with one"
        raise FileNotFoundError(f"{path}: no such file; {expected}")
    settings = path.with_name("tokenizer_config.json")
    config = read_json(settings) if settings.is_file() else {}
    if path.suffix != ".txt":
        return model_folder.Tokenizer(path.read_bytes(), config, path), path

    with reading(path):
        backend = BertWordPieceTokenizer(
            WordPiece.read_file(str(path)),
            lowercase=config.get("do_lower_case", True),
            strip_accents=config.get("strip_accents"),
            handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        )
    return model_folder.Tokenizer(backend.to_str().encode(), config, path), path


def write_model(
    folder: Path,
    out: Path,
    tokenizer: model_folder.Tokenizer,
    target: Vocabulary,
    weights: scipy.sparse.csr_array,
) -> None:
    """The folder with another tokenizer.

    Tensors with one row per piece are averaged, in float64; all others stay as they are.
    """
    # The ids of special tokens are the new tokenizer's.
    config = model_folder.parse_config(folder)
    values = config.source | {"vocab_size": len(target.texts)}
    for role, id in target.roles.items():
        for key in (role, {"cls": "bos", "sep": "eos"}.get(role)):
            if values.get(f"{key}_token_id") is not None:
                values[f"{key}_token_id"] = id

    def average(file: Path, name: str) -> torch.Tensor:
        rows = model_folder.read_tensor(file, name)
        return torch.from_numpy(weights @ rows.float().numpy()).to(rows.dtype)

    model_folder.write_other_pieces(folder, out, average, config, tokenizer, values)


# --- the report -----------------------------------------------------------------------------------


def make_report(source: Vocabulary, target: Vocabulary, weights, evidence, counts, tables) -> dict:
    """What became of the pieces.

    counts (V,): how often each occurs; tables: (W, D) before and (V, D) after.
    """
    before, after = (np.linalg.norm(table, axis=1) for table in tables)
    order = np.argsort(-counts, kind="stable")
    piece = target.backend.id_to_token
    classes, examples = {}, []
    for kind, name in enumerate(EVIDENCE):
        of_kind = evidence == kind
        classes[name] = {
            "pieces": int(of_kind.sum()),
            "tokens": int(counts[of_kind].sum()),
            "norm": float(after[of_kind].mean()) if of_kind.any() else None,
        }
        if not SPECIAL < kind < UNKNOWN:
            continue
        for id in order[of_kind[order]][:10].tolist():
            row = weights[[id]]
            best = np.argsort(-row.data, kind="stable")[:4]
            sources = map(source.backend.id_to_token, row.indices[best].tolist())
            sources = list(zip(sources, row.data[best].tolist(), strict=True))
            example = {"piece": piece(id), "count": int(counts[id]), "evidence": name}
            examples.append(example | {"sources": sources})
    unknown = order[evidence[order] == UNKNOWN].tolist()
    return {
        "norm_before": float(before.mean()),
        "norm_after": float(after.mean()),
        "evidence": classes,
        "examples": examples,
        "unknown": [(piece(id), int(counts[id])) for id in unknown],
    }


def describe(report: dict) -> str:
    line = f"{report['pairs']:,} pairs of sentences; {report['word_pairs']:,} pairs of words"
    if report["empty_pairs"]:
        line += f"; {report['empty_pairs']:,} pairs with an empty side skipped"
    if report["long_pairs"]:
        line += f"; {report['long_pairs']:,} pairs of over {MOST_CELLS:,} words x words skipped"

    # By evidence, and all together.
    head = f"{'evidence':<12}{'pieces':>9}{'':>8}{'tokens':>12}{'':>8}{'mean norm':>12}"
    lines = [line, "", head]
    classes = report["evidence"].values()
    pieces, tokens = (sum(row[key] for row in classes) for key in ("pieces", "tokens"))
    for name, row in report["evidence"].items():
        norm = "-" if row["norm"] is None else f"{row['norm']:.3f}"
        shares = f"{row['pieces']:>9,}{row['pieces'] / pieces:>8.1%}"
        shares += f"{row['tokens']:>12,}{row['tokens'] / tokens:>8.1%}"
        lines.append(f"{name:<12}{shares}{norm:>12}")
    norms = f"{report['norm_after']:>12.3f}   (source: {report['norm_before']:.3f})"
    lines += [f"{'all':<12}{pieces:>9,}{'':>8}{tokens:>12,}{'':>8}{norms}", ""]

    # Pieces to look at.
    for row in report["examples"]:
        sources = ", ".join(f"{piece} {weight:.2f}" for piece, weight in row["sources"])
        lines.append(f"{row['evidence']:<10} {row['piece']:<18}{row['count']:>8,}   {sources}")
    if report["unknown"]:
        shown = ", ".join(f"{piece} {count}" for piece, count in report["unknown"][:12])
        lines += ["", f"without any evidence, so <unk>: {len(report['unknown']):,} pieces: {shown}"]
    return "\n".join(lines)


# --- command line ---------------------------------------------------------------------------------


def transtokenize(folder: Path, out: Path, args) -> dict:
    """Write the model of `folder` with another tokenizer into the empty folder `out`.

    Returns the report, which is written there too.
    """
    # What the encoder of e5nl.py does not implement is refused by its loader.
    model, tokenizer = e5nl.load(folder, "cpu")
    print(e5nl.summary(model, tokenizer), flush=True)
    config, before = model.config, model.words.weight.detach().numpy()
    source, (new, where) = Vocabulary(tokenizer, folder), read_target(args.tokenizer)
    target = Vocabulary(new, where)
    if config.position_offset and target.roles["pad"] != config.pad_token_id:
        reason = f"{config.model_type} counts positions from its pad id {config.pad_token_id}"
        expected = "expected a tokenizer with the same pad id, or a BERT as encoder"
        raise InputError(
            f"{where}: {reason}, the new tokenizer's is {target.roles['pad']}; {expected}"
        )

    # 1. and 2. Words that translate each other.
    sides = Text(source), Text(target)
    read_sides(*sides, read_pairs(args.parallel, args.fields))
    pairs = align(*sides, args.min_count, progress=True)
    if not pairs:
        advice = "give more text, or a lower --min-count"
        raise InputError(f"no pair of words occurs {args.min_count} times; {advice}")
    # 3. to 5. Pieces, and the rows of the table.
    weights, evidence = weigh(source, target, pairs, len(before))
    write_model(folder, out, new, target, weights)
    # Loaded as a user does: what does not hold together is not left behind.
    after = e5nl.load(out, "cpu")[0].words.weight.detach().numpy()

    cells = count_cells(*sides)
    empty, long = int((cells == 0).sum()), int((cells > MOST_CELLS).sum())
    names = ("tokenizer", "parallel", "fields", "min_count")
    report = {
        "model": str(args.model),
        "settings": {name: getattr(args, name) for name in names},
        "pairs": len(cells) - empty - long,
        "empty_pairs": empty,
        "long_pairs": long,
        "word_pairs": len(pairs),
    }
    tables = before[: len(source.texts)], after
    report |= make_report(source, target, weights, evidence, sides[1].counts, tables)
    write_json(out / "transtokenize_report.json", report)
    return report


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description="Give an English encoder a Dutch tokenizer, with embeddings averaged from "
        "aligned tokens."
    )
    add = parser.add_argument
    add("--model", required=True, help="the encoder's folder or hub name")
    add("--tokenizer", required=True,
        help="the target's tokenizer.json, vocab.txt, folder or hub name")
    add("--parallel", nargs="+", required=True, metavar="FILE", help="parallel text")
    add("--fields", nargs=2, default=["en", "nl"], metavar=("SOURCE", "TARGET"),
        help="fields of tables (default: en nl)")
    add("--min-count", type=whole_number(1), default=10,
        help="rarer pairs of words are dropped (default: the tool's 10)")
    add("--out", required=True, help="the new model's folder")
    add("--overwrite", action="store_true", help="replace --out")
    args = parser.parse_args(argv)  # fmt: skip
    folder = model_folder.find(args.model)
    refuse_inputs_in(args.out, folder, args.tokenizer, *args.parallel)
    card.check(folder, args.out)
    with new_folder(args.out, args.overwrite) as out:
        report = transtokenize(folder, out, args)
        card.write(out, folder, args.out)
    print(describe(report))
    print(f"{args.out}: written; all numbers in transtokenize_report.json")


if __name__ == "__main__":
    cli(main)
