"""The language model behind the query vectors: its tokenizer, an untrained model, and reading vectors out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from multimodal_recall.config.options import LanguageModelOptions
from multimodal_recall.data.text import normal_form
from multimodal_recall.runtime.device import Hardware
from multimodal_recall.runtime.processes import ONE_AT_A_TIME

# transformers reports unused masked-word heads and draws bars of its own between our log lines.
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
LAST_LAYER_IS_LAST = ("albert", "bert", "camembert", "roberta", "xlm-roberta")
"""Models that give out their last layer as it is. Others add a norm to it, so that a model with a layer less would end
in another state than that layer's; or their classes take no ``add_pooling_layer``."""
ONE_KERNEL = {"gelu_new": "gelu_pytorch_tanh"}
"""The same function in one kernel, in place of the eight that transformers runs for ALBERT's ``gelu_new``. ALBERT-base
reads 1.2 times as many queries a second, and the masked-word training of the default shop as many more."""
SPECIAL_TOKENS = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}


def train_tokenizer(queries: list[str], vocabulary_size: int, strip_accents: bool = False) -> PreTrainedTokenizerFast:
    """Train a tokenizer of lower-case sub-words on the queries; it reads a query as ``[CLS] ... [SEP]``.

    It uses byte-pair encoding, since WordPiece's training numbers its pieces in a random order.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.BertNormalizer(lowercase=True, strip_accents=strip_accents)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
    )
    tokenizer.train_from_iterator(queries, trainer)
    around = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def new_albert(options: LanguageModelOptions, tokenizer: PreTrainedTokenizerFast) -> AlbertForMaskedLM:
    """Build an untrained ALBERT of the options' sizes; the caller sets torch's seed first."""
    return AlbertForMaskedLM(
        AlbertConfig(
            vocab_size=len(tokenizer),
            embedding_size=options.hidden_size,
            hidden_size=options.hidden_size,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
            hidden_act=ONE_KERNEL["gelu_new"],
            intermediate_size=4 * options.hidden_size,
            max_position_embeddings=128,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    )


def load_tokenizer(source: str, max_tokens: int) -> Tokenizer:
    """Load the fast tokenizer of a folder or hub name; it never pads, and cuts to ``max_tokens``, [SEP] included."""
    return cut_to(load(AutoTokenizer, source), max_tokens)


def cut_to(tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> Tokenizer:
    """Give the tokenizer behind a transformers tokenizer; see ``load_tokenizer``."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(max_tokens)
    return backend


def load(kind: type, source: str | Path, **options: Any) -> Any:
    """Load a model, tokenizer or configuration by ``kind.from_pretrained``, one thread at a time.

    Code that lies beside a model is never run, and nobody is asked whether to run it.

    While transformers loads a model, it replaces functions of its own by empty functions, for all threads. When two
    threads load at once, the empty functions may stay: the next model's weights are then not tied (seen after a
    ``ThreadRunner`` run).
    """
    with ONE_AT_A_TIME:
        return kind.from_pretrained(source, trust_remote_code=False, **options)


def most_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, wanted: int) -> int:
    """Lower a wanted number of tokens, special tokens included, to what model and tokenizer are made for.

    RoBERTa and its kin count positions from the padding's id on: of 514 they use 512. Models without a table of
    positions name no number, or -1.
    """
    places = getattr(model.config, "max_position_embeddings", None) or -1
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            places = len(module.weight) - module.padding_idx - 1
    return min(wanted, tokenizer.model_max_length, *[places] * (places > 0))


class QueryVectors:
    """Encode queries by a language model's second-to-last hidden layer, averaged over the tokens.

    The last layer of ``LAST_LAYER_IS_LAST`` is not built. A batch holds queries of equal length, so it needs no padding
    and no mask. Weights and states have the hardware's precision; the mean over tokens is float32.
    """

    def __init__(self, folder: Path, max_tokens: int, tokens_per_batch: int, hardware: Hardware) -> None:
        """Load a transformers folder.

        Args:
            folder: Written by ``save_pretrained``.
            max_tokens: Tokens read of a query, special tokens included; the model's own limit may be lower.
            tokens_per_batch: Approximate tokens of a batch; a longer query is a batch of its own.
        """
        config = load(AutoConfig, folder)
        self.device = torch.device(hardware.device)
        self.cut = config.model_type in LAST_LAYER_IS_LAST
        changes = {"num_hidden_layers": config.num_hidden_layers - 1, "add_pooling_layer": False} if self.cut else {}
        if (activation := getattr(config, "hidden_act", None)) in ONE_KERNEL:
            changes["hidden_act"] = ONE_KERNEL[activation]
        if not hardware.fused_attention:
            changes["attn_implementation"] = "eager"
        self.model = load(AutoModel, folder, dtype=hardware.dtype, **changes).to(self.device).eval()
        self.tokenizer = load(AutoTokenizer, folder)
        self.max_tokens = most_tokens(self.model, self.tokenizer, max_tokens)
        self.tokens_per_batch = tokens_per_batch

    @torch.inference_mode()
    def __call__(self, queries: list[str], tell: Callable[[int], None] = lambda _: None) -> np.ndarray:
        """Encode distinct queries into vectors (queries, hidden size) float16; ``tell`` gets each batch's size."""
        vectors = np.empty((len(queries), self.model.config.hidden_size), np.float16)
        for rows, tokens in self._batches(queries):
            out = self.model(torch.from_numpy(tokens).to(self.device), output_hidden_states=not self.cut)
            hidden = out.last_hidden_state if self.cut else out.hidden_states[-2]  # (batch, length, H)
            vectors[rows] = hidden.float().mean(dim=1).half().cpu().numpy()
            tell(len(rows))
        return vectors

    def _batches(self, queries: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows of queries of equal length, and their token ids (batch, length)."""
        texts = list(map(normal_form, queries))
        encoded = self.tokenizer(texts, truncation=True, max_length=self.max_tokens, return_attention_mask=False)
        token_ids = encoded["input_ids"]
        lengths = np.array([len(ids) for ids in token_ids], np.int64)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            batches = min(len(rows), -(-len(rows) * length // self.tokens_per_batch))
            for part in np.array_split(rows, batches):
                yield part, np.array([token_ids[row] for row in part], np.int64)
