"""How other tools embed Dutch passages with a model folder: each the way that its page shows.

    VENV/bin/python tools/elsewhere/peers.py NAME FOLDER TEXTS.json OUT.npy

This file runs in the tool's own environment, so it imports nothing of this project, and each tool
only where it is used. It leaves files in the current folder. The first line of each function's text
is what docs/elsewhere.md shows.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

PREFIX = "passage: "


class Peer(NamedTuple):
    """A tool, as pip installs it, and its way to embed."""

    environment: str  # its requirements are in the *.txt of this name
    package: str
    embed: Callable[[str, list[str]], np.ndarray]  # (folder, texts) -> (N, D), of any length
    adds_prefix: bool = False  # where it does not, texts are given with the prefix


# --- sentence-transformers, and what is built on it -----------------------------------------------


def encode_document(folder, texts):
    """SentenceTransformer(folder).encode_document(texts)"""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, device="cpu").encode_document(texts)


def encode_with_prompt(folder, texts):
    """SentenceTransformer(folder).encode(texts, prompt_name="document")"""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, device="cpu").encode(texts, prompt_name="document")


def langchain(folder, texts):
    """HuggingFaceEmbeddings(model_name=folder, encode_kwargs={"prompt_name": "document"}, …)"""
    from langchain_huggingface import HuggingFaceEmbeddings

    document, query = ({"prompt_name": name} for name in ("document", "query"))
    model = HuggingFaceEmbeddings(
        model_name=folder, encode_kwargs=document, query_encode_kwargs=query
    )
    return np.array(model.embed_documents(texts))


def usearch(folder, texts):
    """index = Index(ndim=384, metric="cos", dtype="bf16"); index.add(keys, embeddings)"""
    from usearch.index import Index

    embeddings, keys = encode_document(folder, texts), np.arange(len(texts))
    index = Index(ndim=embeddings.shape[1], metric="cos", dtype="bf16")
    index.add(keys, embeddings)
    assert (index.search(embeddings, 1).keys[:, 0] == keys).all()  # each text finds itself
    return index.get(keys, dtype=np.float32)


def llama_index(folder, texts):
    """HuggingFaceEmbedding(folder).get_text_embedding_batch(texts)"""
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    return np.array(HuggingFaceEmbedding(folder, device="cpu").get_text_embedding_batch(texts))


def chroma(folder, texts):
    """SentenceTransformerEmbeddingFunction(folder)(texts)"""
    from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

    return np.array(SentenceTransformerEmbeddingFunction(folder)(texts))


def txtai(folder, texts):
    """Embeddings(path=folder).batchtransform(texts, "data")"""
    from txtai import Embeddings

    return np.array(Embeddings(path=folder).batchtransform(texts, "data"))


def infinity(folder, texts):
    """AsyncEmbeddingEngine.from_args(EngineArgs(model_name_or_path=folder)); engine.embed(texts)"""
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    args = EngineArgs(
        model_name_or_path=folder, engine="torch", device="cpu", bettertransformer=False
    )

    async def embed():
        engine = AsyncEmbeddingEngine.from_args(args)
        async with engine:
            return (await engine.embed(texts))[0]

    return np.array(asyncio.run(embed()))


def flag_embedding(folder, texts):
    """FlagModel(folder, pooling_method="mean").encode_corpus(texts)"""
    from FlagEmbedding import FlagModel

    model = FlagModel(folder, pooling_method="mean", use_fp16=False, devices="cpu")
    return model.encode_corpus(texts)


# --- ONNX -----------------------------------------------------------------------------------------


def tokens_of(folder, texts, kind):
    """A batch of a kind, "pt" or "np", of transformers' tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(texts, padding=True, truncation=True, return_tensors=kind)


def mean(hidden, mask):
    """Mean pooling: (N, L, D) and (N, L) -> (N, D)."""
    mask = np.asarray(mask)[:, :, None]
    return (np.asarray(hidden) * mask).sum(1) / mask.sum(1)


def transformers(folder, texts):
    """AutoModel.from_pretrained(folder)(**tokens).last_hidden_state, mean over attention_mask"""
    import torch
    from transformers import AutoModel

    tokens = tokens_of(folder, texts, "pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    return mean(hidden, tokens["attention_mask"])


def export(folder, path="model.onnx") -> str:
    """Write transformers' encoder as ONNX; its path."""
    import torch
    from transformers import AutoModel

    # Three tensors: of one under two names the graph makes one input.
    names = "input_ids", "attention_mask", "token_type_ids"
    inputs = {name: torch.ones(2, 9, dtype=torch.int64) for name in names}
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=512)}
    shapes = dict.fromkeys(inputs, sizes)
    model = AutoModel.from_pretrained(folder).eval()
    torch.onnx.export(model, (), path, kwargs=inputs, dynamic_shapes=shapes, dynamo=True)
    return path


def inputs_of(folder, texts):
    """What an exported encoder takes."""
    tokens = tokens_of(folder, texts, "np")
    return dict(tokens) | {"token_type_ids": np.zeros_like(tokens["input_ids"])}


def run_onnx(path, folder, texts):
    import onnxruntime

    inputs = inputs_of(folder, texts)
    hidden = onnxruntime.InferenceSession(path).run(None, inputs)[0]
    return mean(hidden, inputs["attention_mask"])


def onnx(folder, texts):
    """torch.onnx.export(AutoModel.from_pretrained(folder), …); InferenceSession(path).run(…)"""
    return run_onnx(export(folder), folder, texts)


def onnx_int8(folder, texts):
    """quantize_dynamic(path, path8, per_channel=True); InferenceSession(path8).run(…)"""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(export(folder), "int8.onnx", per_channel=True)
    return run_onnx("int8.onnx", folder, texts)


def fastembed(folder, texts):
    """TextEmbedding.add_custom_model(…, model_file="model.onnx"); TextEmbedding(…).embed(texts)"""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    copy = Path(shutil.copytree(folder, "copy")).resolve()
    export(folder, f"{copy}/model.onnx")
    TextEmbedding.add_custom_model(
        model="own/model",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(url="http://localhost"),
        dim=json.loads((copy / "config.json").read_text())["hidden_size"],
        model_file="model.onnx",
    )
    model = TextEmbedding("own/model", specific_model_path=str(copy))
    return np.array(list(model.embed(texts)))


def openvino(folder, texts):
    """openvino.compile_model(openvino.convert_model("model.onnx"), "CPU")(inputs)"""
    import openvino

    inputs = inputs_of(folder, texts)
    model = openvino.compile_model(openvino.convert_model(export(folder)), "CPU")
    return mean(model(inputs)[0], inputs["attention_mask"])


# --- engines that read the folder themselves ------------------------------------------------------


def embed_anything(folder, texts):
    """EmbeddingModel.from_pretrained_hf(model_id="owner/name"); embed_query(texts, model)"""
    import embed_anything

    # It reads names of the hub alone: the folder becomes what the hub's cache holds of such a name.
    os.environ["HF_HOME"] = os.getcwd()
    cached = Path("hub/models--owner--name")
    for name in ("refs", "snapshots"):
        (cached / name).mkdir(parents=True)
    (cached / "refs/main").write_text("1")
    (cached / "snapshots/1").symlink_to(folder)
    model = embed_anything.EmbeddingModel.from_pretrained_hf(model_id="owner/name")
    return np.array([data.embedding for data in embed_anything.embed_query(texts, model)])


def ctranslate2(folder, texts):
    """TransformersConverter(folder).convert(out); Encoder(out).forward_batch(ids)"""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(texts, truncation=True)["input_ids"]
    encoder = ctranslate2.Encoder(TransformersConverter(folder).convert("converted"))
    rows = [encoder.forward_batch([row]).last_hidden_state for row in ids]
    return np.concatenate([np.array(row).mean(1) for row in rows])


def gguf_source(folder) -> Path:
    """The folder, as llama.cpp's converter takes it.

    It knows XLM-R's tokenizer in XLM-R alone. A BERT that has it, as multilingual-e5-small, has to
    be called one, without a pad token, from which XLM-R would count positions.
    """
    copy = Path(shutil.copytree(folder, "copy"))
    config = json.loads((copy / "config.json").read_text())
    if config["model_type"] == "bert":
        config |= {"architectures": ["XLMRobertaModel"], "pad_token_id": None}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def llama_cpp(folder, texts):
    """convert-hf-to-gguf folder --outtype f32 --outfile model.gguf"""
    from cyllama.llama import llama_cpp as cpp

    convert = Path(sys.executable).with_name("convert-hf-to-gguf")
    words = convert, gguf_source(folder), "--outtype", "f32", "--outfile", "model.gguf"
    subprocess.run(words, check=True)
    model, settings = cpp.LlamaModel("model.gguf", cpp.LlamaModelParams()), cpp.LlamaContextParams()
    # Of each token: this package's own mean is the first token's embedding.
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
    settings.embeddings, settings.pooling_type = True, 0
    context, rows = cpp.LlamaContext(model, settings), []
    for text in texts:
        ids = model.get_vocab().tokenize(text, True, True)
        batch = cpp.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
        for place, id in enumerate(ids):
            batch.add(id, place, [0], True)
        context.kv_cache_clear()
        context.decode(batch)
        rows.append(np.mean([context.get_embeddings_ith(i) for i in range(len(ids))], axis=0))
    return np.array(rows)


PEERS = {
    "sentence-transformers 6": Peer("current", "sentence-transformers", encode_document, True),
    "sentence-transformers 5": Peer(
        "transformers4", "sentence-transformers", encode_document, True
    ),
    "sentence-transformers 3": Peer(
        "sentence_transformers3", "sentence-transformers", encode_with_prompt, True
    ),
    "transformers": Peer("current", "transformers", transformers),
    "usearch, bfloat16": Peer("current", "usearch", usearch, True),
    "LangChain": Peer("current", "langchain-huggingface", langchain, True),
    "LlamaIndex": Peer("current", "llama-index-embeddings-huggingface", llama_index),
    "Chroma": Peer("current", "chromadb", chroma),
    "txtai": Peer("current", "txtai", txtai, True),
    "infinity": Peer("sentence_transformers3", "infinity-emb", infinity),
    "FlagEmbedding": Peer("transformers4", "FlagEmbedding", flag_embedding),
    "ONNX Runtime": Peer("current", "onnxruntime", onnx),
    "ONNX Runtime, int8": Peer("current", "onnxruntime", onnx_int8),
    "OpenVINO": Peer("current", "openvino", openvino),
    "fastembed": Peer("current", "fastembed", fastembed),
    "embed-anything": Peer("embed_anything", "embed-anything", embed_anything),
    "CTranslate2": Peer("current", "ctranslate2", ctranslate2),
    "llama.cpp": Peer("llama_cpp", "convert-hf-to-gguf", llama_cpp),
}


def main() -> None:
    name, folder, texts, out = sys.argv[1:]
    peer = PEERS[name]
    np.save(out, peer.embed(folder, json.loads(Path(texts).read_text())))
    print(version(peer.package))


if __name__ == "__main__":
    main()
