"""The tenth place's pre-training of its image encoder: say the query's words as tags, and write the query."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from multimodal_recall.config.systems import ImageTagsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.precision import in_float32
from multimodal_recall.models.ranker import InputSizes
from multimodal_recall.models.word_matching import WordMatching

UNKNOWN_ROW = 0
"""Row of the unknown word, which is no tag and is not written."""


class ImageTags(WordMatching):
    """A word's score is its log-odds of being a tag of the image; all words of a query count the same.

    That mean is what the tenth place compared its learned weights with. With the loss ``tags_and_caption`` it trains on
    the right pairs alone; then other rankers can start from its image encoder (``start_from``). Differs from the
    publication: stop words are tags too, and, since the words have none, start and end of a caption are learned.
    """

    def __init__(self, options: ImageTagsOptions, sizes: InputSizes) -> None:
        super().__init__(options.image_encoder, sizes)
        self.captioner = Captioner(options.image_encoder.head_size, options.dropout)
        self.hard_negatives = options.hard_negatives

    def pair_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """(N, W)."""
        return heads.new_zeros(len(batch.pair_queries), batch.word_mask.shape[1])

    def all_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """(Q, W, P)."""
        return heads.new_zeros(*batch.word_mask.shape, len(heads))

    def own_losses(self, batch: Batch) -> Tensor:
        """Of each right pair, the loss of its tags and of its caption, (right pairs, 2)."""
        right = batch.relevance == 1
        queries, products = batch.pair_queries[right], batch.pair_products[right]
        word_ids, mask = batch.word_ids.index_select(0, queries), batch.word_mask.index_select(0, queries)
        heads, words = self.image_encoder(batch), self.words.all()
        with in_float32(heads):
            similar = (heads[:, 1:].flatten(0, 1) @ words.T).unflatten(0, (len(heads), -1))  # (P, H, words)
        logits = similar.amax(dim=1).index_select(0, products)
        captions = self.captioner(heads[:, 0].index_select(0, products), words, word_ids, mask)
        return torch.stack(
            [tag_losses(logits, word_ids.masked_fill(mask, UNKNOWN_ROW), self.hard_negatives), captions], 1
        )


def tag_losses(logits: Tensor, tags: Tensor, hard_negatives: int) -> Tensor:
    """Binary cross-entropy of each row's tags and of the other words with the highest logits, summed.

    Args:
        logits: (R, words) of every word being a tag.
        tags: (R, W) word ids, ``UNKNOWN_ROW`` where there is none.
        hard_negatives: How many others.

    Returns:
        (R,).
    """
    is_tag = torch.zeros_like(logits, dtype=torch.bool).scatter(1, tags, True)[:, UNKNOWN_ROW + 1 :]
    logits = logits[:, UNKNOWN_ROW + 1 :]
    of_tags = functional.softplus(-logits).masked_fill(~is_tag, 0).sum(dim=1)
    of_others = functional.softplus(logits).masked_fill(is_tag, 0)
    return of_tags + of_others.topk(min(hard_negatives, logits.shape[1]), dim=1).values.sum(dim=1)


class Captioner(nn.Module):
    """A GRU that starts from the sentence's head and says a query's next word, compared with every word's vector."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.start, self.end = (nn.Parameter(torch.randn(1, size) / size**0.5) for _ in range(2))
        self.gru = nn.GRU(size, size, batch_first=True)
        self.dense = nn.Sequential(nn.Linear(size, size), nn.PReLU(), nn.Dropout(dropout), nn.Linear(size, size))

    def forward(self, heads: Tensor, words: Tensor, word_ids: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy of writing each caption, summed over its words and its end.

        Args:
            heads: (R, size) the sentence's head of each image.
            words: (words, size) all words; the end of a caption is one more.
            word_ids: (R, W) what to write.
            mask: (R, W), True on padding.

        Returns:
            (R,).
        """
        counts, end = (~mask).sum(dim=1), len(words)
        start, words = self.start.expand(len(heads), -1).unsqueeze(1), torch.cat([words, self.end.to(words)])
        said = functional.embedding(word_ids, words)
        inputs = self._packed(torch.cat([start, said], dim=1), counts)
        targets = functional.pad(word_ids, (0, 1)).scatter(1, counts.unsqueeze(1), end)
        with in_float32(heads):  # see BiLstm
            states, _ = self.gru(inputs, heads.unsqueeze(0))
        spoken = self.dense(states.data).float()
        with in_float32(spoken):
            logits = spoken @ words.T
        losses = functional.cross_entropy(
            logits, self._packed(targets, counts).data, reduction="none", ignore_index=UNKNOWN_ROW
        )
        return pad_packed_sequence(inputs._replace(data=losses), batch_first=True)[0].sum(dim=1)

    @staticmethod
    def _packed(sequences: Tensor, counts: Tensor) -> nn.utils.rnn.PackedSequence:
        """Sequences one entry longer than the captions."""
        return pack_padded_sequence(sequences, (counts + 1).cpu(), batch_first=True, enforce_sorted=False)


build = ImageTags
