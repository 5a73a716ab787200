"""A checkpoint of the kind of all-MiniLM-L6-v2: a BERT without a head for masked words, with a WordPiece tokenizer."""

import string
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def save_sentence_encoder(folder: Path, **changes: int) -> Path:
    """Save a tiny one with random weights; its table of words has more rows than its tokenizer has tokens."""
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    torch.manual_seed(0)
    model = BertModel(BertConfig(**{**SIZES, "vocab_size": len(vocabulary) + 6, **changes}))
    for part in (model, BertTokenizer(vocab=vocabulary, model_max_length=512)):
        part.save_pretrained(folder)
    return folder
