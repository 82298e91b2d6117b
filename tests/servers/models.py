"""A tiny model with random weights for a server: python models.py {chat,rerank} FOLDER.

Runs in the server's environment. One token per byte, 256 tokens at most.
"""

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

kind, folder = sys.argv[1:]
pieces = ["<pad>", "<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
backend = Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, []))
backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
backend.decoder = decoders.ByteLevel()
shape = {
    "vocab_size": len(pieces),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
torch.manual_seed(0)
if kind == "chat":
    model = LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=2, eos_token_id=3))
    model.generation_config.do_sample = True  # without it `transformers serve` samples nothing
else:
    backend.post_processor = processors.BertProcessing(("</s>", 3), ("<s>", 2))
    model = BertForSequenceClassification(BertConfig(**shape, num_labels=1, initializer_range=0.4))
names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=256, **names)
tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
