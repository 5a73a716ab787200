"""The tenth place's pre-training of its image encoder: predict the query's words as tags, and write the query."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from multimodal_recall.config.systems import ImageTagsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.indexable import IndexableRanker
from multimodal_recall.models.precision import in_float32
from multimodal_recall.models.ranker import InputSizes
from multimodal_recall.models.word_matching import WordMatching

UNKNOWN_ROW = 0  # row of the unknown word, which is no tag and is not written


class ImageTags(WordMatching, IndexableRanker):
    """Score a word by its log-odds of being a tag of the image; all words of a query weigh the same.

    The tenth place compared its learned weights with these equal weights. With the loss ``tags_and_caption``, the right
    pairs alone train the image encoder, from which other rankers can start (``start_from``). Differs from the
    publication: stop words are tags too, and start and end of a caption are learned, since they have no word vectors.
    """

    word_major = True

    def __init__(self, options: ImageTagsOptions, sizes: InputSizes) -> None:
        super().__init__(options.image_encoder, sizes)
        self.captioner = Captioner(options.image_encoder.head_size, options.dropout)
        self.hard_negatives = options.hard_negatives

    def pair_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """Give all words of each pair's query the same logit, (N, W)."""
        return heads.new_zeros(len(batch.pair_queries), batch.word_mask.shape[1])

    def all_logits(self, batch: Batch, heads: Tensor) -> Tensor:
        """Give all words of every query the same logit for every product, (Q, W, P)."""
        return heads.new_zeros(*batch.word_mask.shape, len(heads))

    def encode_queries(self, batch: Batch) -> Tensor:
        """Weigh every word, (Q, words): its share of the query's words."""
        shares = (~batch.word_mask).float() / (~batch.word_mask).sum(dim=1, keepdim=True)
        weights = shares.new_zeros(len(shares), len(self.words.word_vectors.vectors))
        return weights.scatter_add_(1, batch.word_ids, shares)

    def encode_products(self, batch: Batch) -> Tensor:
        """Compute the score of every word, (P, words)."""
        return self._tag_logits(self.image_encoder(batch), self.words.all())

    def compare(self, queries: Tensor, products: Tensor) -> Tensor:
        """Sum the weighted scores of the words, (Q, words) and (P, words) -> (Q, P)."""
        with in_float32(queries):
            return queries @ products.T

    @staticmethod
    def _tag_logits(heads: Tensor, words: Tensor) -> Tensor:
        """Find each word's best dot product with a tag head, (P, 1 + tag_heads, D) and (words, D) -> (P, words)."""
        with in_float32(heads):
            return (heads[:, 1:].flatten(0, 1) @ words.T).unflatten(0, (len(heads), -1)).amax(dim=1)

    def own_losses(self, batch: Batch) -> Tensor:
        """Compute the losses of each right pair's tags and caption, (right pairs, 2)."""
        right = batch.relevance == 1
        queries, products = batch.pair_queries[right], batch.pair_products[right]
        word_ids, mask = batch.word_ids.index_select(0, queries), batch.word_mask.index_select(0, queries)
        heads, words = self.image_encoder(batch), self.words.all()
        logits = self._tag_logits(heads, words).index_select(0, products)
        captions = self.captioner(heads[:, 0].index_select(0, products), words, word_ids, mask)
        tags = tag_losses(logits, word_ids.masked_fill(mask, UNKNOWN_ROW), self.hard_negatives)
        return torch.stack([tags, captions], dim=1)


def tag_losses(logits: Tensor, tags: Tensor, hard_negatives: int) -> Tensor:
    """Sum the binary cross-entropy of each row's tags and of the ``hard_negatives`` wrong words with highest logits.

    Shapes: logits (R, words) and tags (R, W), word ids with ``UNKNOWN_ROW`` for no tag, -> (R,).
    """
    is_tag = torch.zeros_like(logits, dtype=torch.bool).scatter(1, tags, True)[:, UNKNOWN_ROW + 1 :]
    logits = logits[:, UNKNOWN_ROW + 1 :]
    of_tags = functional.softplus(-logits).masked_fill(~is_tag, 0).sum(dim=1)
    of_wrong = functional.softplus(logits).masked_fill(is_tag, 0)
    return of_tags + of_wrong.topk(min(hard_negatives, logits.shape[1]), dim=1).values.sum(dim=1)


class Captioner(nn.Module):
    """Predict a query's next word with a GRU that starts from the sentence's head; logits compare all word vectors."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.start, self.end = (nn.Parameter(torch.randn(1, size) / size**0.5) for _ in range(2))
        self.gru = nn.GRU(size, size, batch_first=True)
        self.dense = nn.Sequential(nn.Linear(size, size), nn.PReLU(), nn.Dropout(dropout), nn.Linear(size, size))

    def forward(self, heads: Tensor, words: Tensor, word_ids: Tensor, mask: Tensor) -> Tensor:
        """Sum the cross-entropy of each caption over its words and its end.

        Shapes: heads (R, size) of the sentence, all words (words, size), captions (R, W), their mask (R, W), -> (R,).
        """
        counts, end = (~mask).sum(dim=1), len(words)
        start, words = self.start.expand(len(heads), -1).unsqueeze(1), torch.cat([words, self.end.to(words)])
        inputs = _pack(torch.cat([start, functional.embedding(word_ids, words)], dim=1), counts)
        targets = _pack(functional.pad(word_ids, (0, 1)).scatter(1, counts.unsqueeze(1), end), counts)
        with in_float32(heads):  # on CUDA, autocast would replace bfloat16 by float16
            states, _ = self.gru(inputs, heads.unsqueeze(0))
        predicted = self.dense(states.data).float()
        with in_float32(predicted):
            logits = predicted @ words.T
        losses = functional.cross_entropy(logits, targets.data, reduction="none", ignore_index=UNKNOWN_ROW)
        return pad_packed_sequence(inputs._replace(data=losses), batch_first=True)[0].sum(dim=1)


def _pack(sequences: Tensor, counts: Tensor) -> PackedSequence:
    """Pack sequences with one entry more than their captions have words."""
    return pack_padded_sequence(sequences, (counts + 1).cpu(), batch_first=True, enforce_sorted=False)


build = ImageTags
