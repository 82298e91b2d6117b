"""Transtokenisation: an English encoder gets a Dutch tokenizer (arXiv 2509.12340: model initialisation, `e5-*-t2t`).

In: the folder (or hub name) of an encoder, a target tokenizer (WordPiece, Unigram or BPE), and parallel text. Out: a folder of the same
kind with the target tokenizer, in which every row of the embedding table is a weighted average of the encoder's rows, and
`transtokenize_report.json`. Nothing else of the network changes and nothing is trained. The method is Trans-Tokenization
(arXiv 2408.04303), which the paper used through the tool `transtokenizer`:

1. tokenise both sides, each with its own tokenizer; 2. count which words translate each other; 3. spread the counts of a pair of words
over their pieces; 4. find other evidence for the pieces that no word explains; 5. average.

Steps 1 and 2 are `align.py`'s, which also says what parallel text may be. Pairs with an empty side are counted and left out.

    python transtokenize.py --model runs/english --tokenizer tokenizer.json --parallel nld-eng.tsv.gz --out runs/dutch
    python transtokenize.py --model intfloat/e5-base-v2 --tokenizer GroNLP/bert-base-dutch-cased --fields translation.en translation.nl \
        --parallel "Helsinki-NLP/opus-100:en-nl/train-*.parquet" --out runs/e5-base-v2-t2t
    python transtokenize.py … --parallel en.txt nl.txt --alignments links.txt       # i-j as fast_align, eflomal and others print them
    python transtokenize.py … --table words.tsv                                     # source word, target word, count

Departures from the tool: it cannot read WordPiece, so not the paper's own pair, and loads decoders only. Its words come from fast_align
as a separate program in one direction; here both directions have to agree (see `align`). A piece that stands in both vocabularies counts
for itself only where no word explains it; letter case does not hinder that. Smoothing (`substring`) does not depend on the
order of the vocabulary and takes time in proportion to it, not to its square and more.
Left out on purpose: scaling the rows to their old length. An average is shorter than what it is made of; the report says by how much.

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

import e5nl
import model_folder
from align import Text, Vocabulary, WordPair, align, read_alignments, read_pairs, read_sides, read_table, write_table
from files import (
    InputError,
    cli,
    hub_folder,
    is_hub_name,
    new_folder,
    read_json,
    read_lines,
    refuse_existing,
    whole_number,
    write_json,
)
from trim_vocab import BY_PIECE

# --- 3. from words to pieces ------------------------------------------------------------------------------------------------


def spread(pairs: list[WordPair], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """Counts of target pieces and source pieces (V, W): half of a pair's count goes to all pairs of its pieces, half to those in order.

    In order: both words are stretched to one length, and what then stands at one place belongs together. A whole pair counts once,
    however many its pieces, so the word "huis" says more about the piece "huis" than "huisarts" does.
    """
    rows, columns, values = [], [], []
    for s, t, count in pairs:
        length = math.lcm(len(s), len(t))
        cells = [(a, b, 1 / (len(s) * len(t))) for a in s for b in t]
        cells += [(s[i * len(s) // length], t[i * len(t) // length], 1 / length) for i in range(length)]
        for a, b, share in cells:
            columns.append(a)
            rows.append(b)
            values.append(count * share / 2)
    return scipy.sparse.csr_array((values, (rows, columns)), shape)


# --- 4. evidence ------------------------------------------------------------------------------------------------------------

EVIDENCE = ("special", "aligned", "identity", "substring", "unknown")  # in this order: the first that a piece has counts
SPECIAL, ALIGNED, IDENTITY, SUBSTRING, UNKNOWN = range(5)
EVIDENT = (ALIGNED, IDENTITY)  # what substrings are looked for in


def same_piece(source: Vocabulary) -> Callable[[str, bool], tuple[int, ...]]:
    """A function that gives the source pieces of the same text (beginning a word or not): one, several for a number, or none.

    In this order: the text as it is, as the source's normalizer makes it (lower case, without accents), in lower case; each
    with the same place in a word first, then with the other.
    """
    known = {(text, start): id for id, (text, start) in enumerate(zip(source.texts, source.starts, strict=True)) if text}

    def find(text: str, start: bool) -> tuple[int, ...]:
        normalizer = source.backend.normalizer
        normal = normalizer.normalize_str(text).strip("▁ ") if normalizer else text
        for form, mark in itertools.product((text, normal, text.casefold()), (start, not start)):
            if (form, mark) in known:
                return (known[form, mark],)
        return source.ids(text) if text.isdecimal() else ()

    return find


def inner_texts(text: str, known) -> list[str]:
    """The parts of `text` that are in `known` and in no longer part that is.

    >>> inner_texts("identiteitskaart", {"identiteit", "tite", "kaart", "aart", "s"})
    ['identiteit', 's', 'kaart']
    """
    found, end = [], 0
    for i in range(len(text)):
        for j in range(len(text), max(i, end), -1):
            if text[i:j] in known:
                found.append(text[i:j])
                end = j
                break
    return found


def weigh(source: Vocabulary, target: Vocabulary, pairs: list[WordPair], width: int) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """(weights (V, W) float64, each row summing to 1; evidence of each piece (V,), an index of EVIDENCE).

    special: the source's token of the same role. aligned: counts by `spread`. identity: by `same_piece`. substring: the average of
    the aligned and identical pieces that are part of it, at any place in a word, and of those that begin with it, at the same place in
    a word, each by the share that the shorter is of the longer, whatever the letter case. unknown: the source's unknown token.
    """
    size = len(target.texts)
    weights = _shares(spread(pairs, (size, width)))
    evidence = np.where(np.diff(weights.indptr) > 0, ALIGNED, UNKNOWN)
    found = {id: (source.roles[role],) for role, id in target.roles.items() if role in source.roles}
    evidence[list(found)] = SPECIAL
    find = same_piece(source)
    for id in np.flatnonzero(evidence == UNKNOWN).tolist():
        if target.texts[id] and (same := find(target.texts[id], target.starts[id])):
            found[id], evidence[id] = same, IDENTITY
    weights += _shares(_matrix({id: dict.fromkeys(same, 1.0) for id, same in found.items()}, (size, width)))

    similar = similar_pieces(target, evidence)
    evidence[list(similar)] = SUBSTRING
    weights += _shares(_matrix(similar, (size, size))) @ weights
    unknown = {id: {source.roles["unk"]: 1.0} for id in np.flatnonzero(evidence == UNKNOWN).tolist()}
    return weights + _matrix(unknown, (size, width)), evidence


def similar_pieces(target: Vocabulary, evidence: np.ndarray) -> dict[int, dict[int, float]]:
    """{piece without evidence: {aligned or identical piece: the share that the shorter is of the longer}}, without empty ones."""
    texts, starts = [text.casefold() for text in target.texts], target.starts
    of_kind = [[id for id in np.flatnonzero(mask).tolist() if texts[id]] for mask in (evidence == UNKNOWN, np.isin(evidence, EVIDENT))]
    known = {}
    for id in sorted(of_kind[1], key=lambda id: (not starts[id], evidence[id])):  # a piece that begins a word says more
        known.setdefault(texts[id], id)
    wanted = {}
    for id in of_kind[0]:
        wanted.setdefault((texts[id], starts[id]), []).append(id)
    similar = {key: {known[part]: len(part) / len(key[0]) for part in inner_texts(key[0], known)} for key in wanted}
    for id in of_kind[1]:
        for length in range(1, len(texts[id])):
            if (key := (texts[id][:length], starts[id])) in similar:
                similar[key][id] = length / len(texts[id])
    return {id: found for key, found in similar.items() if found for id in wanted[key]}


def _matrix(rows: dict[int, dict[int, float]], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    cells = [(row, column, value) for row, found in rows.items() for column, value in found.items()]
    row, column, value = zip(*cells, strict=True) if cells else ((), (), ())
    return scipy.sparse.csr_array((np.array(value, float), (np.array(row, int), np.array(column, int))), shape)


def _shares(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Each row divided by its sum: a lone number becomes exactly 1, so its row is copied bit for bit."""
    matrix.data /= np.repeat(matrix.sum(1), np.diff(matrix.indptr))
    return matrix


# --- 5. the model folder ----------------------------------------------------------------------------------------------------


def read_target(name) -> tuple[model_folder.Tokenizer, Path]:
    """A tokenizer.json, the vocab.txt of a BERT, or a folder or hub repository with one of them; and where it was found.

    Case and accents of a vocab.txt are treated as the tokenizer_config.json beside it says.
    """
    path = hub_folder(name, ["tokenizer.json", "vocab.txt", "tokenizer_config.json"], "model") if is_hub_name(name) else Path(name)
    if path.is_dir():
        path = path / ("vocab.txt" if (path / "vocab.txt").is_file() and not (path / "tokenizer.json").is_file() else "tokenizer.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a tokenizer.json, the vocab.txt of a BERT, or a folder with one")
    beside = path.with_name("tokenizer_config.json")
    config = read_json(beside) if beside.is_file() else {}
    if path.suffix != ".txt":
        return model_folder.Tokenizer(path.read_bytes(), config, path), path
    pieces = {piece: number - 1 for number, piece in read_lines(path, blank=True)}
    if missing := {"[CLS]", "[SEP]", "[UNK]"} - pieces.keys():
        raise InputError(f"{path}: no piece {sorted(missing)[0]}; expected the vocabulary of a BERT, a piece a line")
    options = {"lowercase": config.get("do_lower_case", True), "strip_accents": config.get("strip_accents")}
    chinese = config.get("tokenize_chinese_chars", True)
    backend = BertWordPieceTokenizer(pieces, handle_chinese_chars=chinese, **options)
    return model_folder.Tokenizer(backend.to_str().encode(), config, path), path


def write_model(folder: Path, out: Path, tokenizer: model_folder.Tokenizer, target: Vocabulary, weights: scipy.sparse.csr_array) -> None:
    """The folder with another tokenizer: tensors with a row a piece are averaged, in float64, all others copied byte for byte."""
    config = model_folder.parse_config(folder)
    values = model_folder.read_config(folder) | {"vocab_size": len(target.texts)}
    for role, id in target.roles.items():
        for key in (f"{role}_token_id", {"cls": "bos_token_id", "sep": "eos_token_id"}.get(role)):
            if values.get(key) is not None:
                values[key] = id
    tensors = {}
    for name, tensor in model_folder.map_tensors(folder).items():
        if BY_PIECE.search(name):
            tensor = torch.from_numpy(weights @ tensor.float().numpy()).to(tensor.dtype)
        tensors[model_folder.modern(name)] = tensor
    model_folder.write_tensors(out, tensors)
    model_folder.write_settings(out, config, tokenizer, values)


# --- the report -------------------------------------------------------------------------------------------------------------


def make_report(source: Vocabulary, target: Vocabulary, weights, evidence: np.ndarray, counts: np.ndarray, tables) -> dict:
    """What became of the pieces. counts (V,): how often each occurs; tables: (W, D) before and (V, D) after."""
    norms = [np.linalg.norm(table, axis=1) for table in tables]
    order = sorted(range(len(counts)), key=lambda id: (-counts[id], id))
    classes, examples = {}, []
    for kind, name in enumerate(EVIDENCE):
        of_kind = evidence == kind
        classes[name] = {"pieces": int(of_kind.sum()), "tokens": int(counts[of_kind].sum())}
        classes[name]["norm"] = float(norms[1][of_kind].mean()) if of_kind.any() else None
        for id in [id for id in order if of_kind[id]][: 10 if SPECIAL < kind < UNKNOWN else 0]:
            row = weights[[id]]
            best = np.argsort(-row.data, kind="stable")[:4]
            sources = [(source.backend.id_to_token(int(row.indices[i])), float(row.data[i])) for i in best]
            examples.append({"piece": target.backend.id_to_token(id), "count": int(counts[id]), "evidence": name, "sources": sources})
    unknown = [(target.backend.id_to_token(id), int(counts[id])) for id in order if evidence[id] == UNKNOWN]
    means = {"norm_before": float(norms[0].mean()), "norm_after": float(norms[1].mean())}
    return means | {"evidence": classes, "examples": examples, "unknown": unknown}


def describe(report: dict) -> str:
    empty = f", {report['empty_pairs']:,} more have an empty side" if report["empty_pairs"] else ""
    sentences = f"{report['pairs']:,} pairs of sentences{empty}; " if report["pairs"] else ""
    lines = [f"{sentences}{report['word_pairs']:,} pairs of words", ""]
    lines.append(f"{'evidence':<12}{'pieces':>9}{'':>8}{'tokens':>12}{'':>8}{'mean norm':>12}")
    classes = report["evidence"].values()
    pieces, tokens = (max(1, sum(one[what] for one in classes)) for what in ("pieces", "tokens"))
    for name, one in report["evidence"].items():
        norm = "-" if one["norm"] is None else f"{one['norm']:.3f}"
        shares = f"{one['pieces']:>9,}{one['pieces'] / pieces:>8.1%}{one['tokens']:>12,}{one['tokens'] / tokens:>8.1%}"
        lines.append(f"{name:<12}{shares}{norm:>12}")
    norms = f"{report['norm_after']:>12.3f}   (source: {report['norm_before']:.3f})"
    lines += [f"{'all':<12}{pieces:>9,}{'':>8}{tokens:>12,}{'':>8}{norms}", ""]
    for one in report["examples"]:
        sources = ", ".join(f"{piece} {weight:.2f}" for piece, weight in one["sources"])
        lines.append(f"{one['evidence']:<10} {one['piece']:<18}{one['count']:>8,}   {sources}")
    if report["unknown"]:
        shown = ", ".join(f"{piece} {count}" for piece, count in report["unknown"][:12])
        lines += ["", f"without any evidence, so <unk>: {len(report['unknown']):,} pieces: {shown}"]
    return "\n".join(lines)


# --- command line -----------------------------------------------------------------------------------------------------------


def transtokenize(folder: Path, out: Path, args) -> dict:
    """Write the model of `folder` with another tokenizer into the empty folder `out`; return the report, which is written there too."""
    model, tokenizer = e5nl.load(folder, "cpu")  # its checks are the encoder's: what is not one of ours is refused by name
    config, before = model.config, model.words.weight.detach().numpy()
    source, (new, where) = Vocabulary(tokenizer, folder), read_target(args.tokenizer)
    target = Vocabulary(new, where)
    if config.position_offset and target.roles["pad"] != config.pad_token_id:
        found = f"{config.model_type} counts positions from its pad id {config.pad_token_id}, the new tokenizer's is {target.roles['pad']}"
        raise InputError(f"{where}: {found}; expected a tokenizer with the same pad id, or a BERT as encoder")

    sides = [Text(vocabulary, by_space=bool(args.alignments)) for vocabulary in (source, target)]
    read_sides(*sides, read_pairs(args.parallel or (), args.fields))
    if args.table:
        pairs = read_table(args.table, source, target, args.min_count)
    elif args.alignments:
        pairs = read_alignments(args.alignments, *sides, args.min_count)
    else:
        pairs = align(*sides, args.min_count, progress=True)
    if not pairs:
        raise InputError(f"no pair of words occurs {args.min_count} times; give more text, or a lower --min-count")
    weights, evidence = weigh(source, target, pairs, len(before))
    write_model(folder, out, new, target, weights)
    after = e5nl.load(out, "cpu")[0].words.weight.detach().numpy()  # and what does not hold together is not left behind
    if args.save_table:
        write_table(args.save_table, pairs, source, target)

    settings = {name: getattr(args, name) for name in ("tokenizer", "parallel", "fields", "alignments", "table", "min_count")}
    both = sum(a and b for a, b in zip(*(map(bool, side.lengths) for side in sides), strict=True))
    numbers = {"pairs": both, "empty_pairs": len(sides[0].lengths) - both, "word_pairs": len(pairs)}
    report = {"model": str(args.model), "settings": settings} | numbers
    report |= make_report(source, target, weights, evidence, sides[1].counts, (before[: len(source.texts)], after))
    write_json(out / "transtokenize_report.json", report)
    return report


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Give an English encoder a Dutch tokenizer, with embeddings averaged from aligned tokens.")
    parser.add_argument("--model", required=True, help="the encoder's folder or hub name")
    parser.add_argument("--tokenizer", required=True, help="the target's tokenizer.json, vocab.txt, folder or hub name")
    parser.add_argument("--parallel", nargs="+", metavar="FILE", help="parallel text; with --table only to count pieces for the report")
    parser.add_argument("--fields", nargs=2, default=["en", "nl"], metavar=("SOURCE", "TARGET"), help="fields of tables (default: en nl)")
    parser.add_argument("--out", required=True, help="the new model's folder")
    parser.add_argument("--overwrite", action="store_true", help="replace --out and --save-table")
    group = parser.add_argument_group("words that translate each other, instead of aligning the parallel text here")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--alignments", metavar="FILE", help="alignments of the parallel text's words by white space: i-j …, a line a pair")
    one.add_argument("--table", metavar="FILE", help="source word<TAB>target word[<TAB>count]")
    group.add_argument("--save-table", metavar="FILE", help="write the pairs of words that were used, for --table")
    group.add_argument("--min-count", type=whole_number(1), default=10, help="rarer pairs of words are dropped (default: the tool's 10)")
    args = parser.parse_args(argv)
    if not args.parallel and not args.table:
        raise InputError("--parallel is missing; give parallel text, or a table of words by --table")
    if args.save_table:
        refuse_existing(args.save_table, args.overwrite)
    folder = model_folder.find(args.model)
    for read in filter(None, (folder, args.tokenizer, args.alignments, args.table, *(args.parallel or ()))):
        if Path(read).resolve().is_relative_to(Path(args.out).resolve()):
            raise InputError(f"--out {args.out} holds {read}, which is read; choose another folder")
    with new_folder(args.out, args.overwrite) as out:
        report = transtokenize(folder, out, args)
    print(describe(report))
    print(f"{args.out}: written; all numbers in transtokenize_report.json")


if __name__ == "__main__":
    cli(main)
