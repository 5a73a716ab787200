"""The tenth place's image encoder, with several vectors an image, and the word vectors that are compared with them."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from multimodal_recall.config.systems import ImageHeadsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.padding import Padding
from multimodal_recall.models.layers.pooling import GeneralisedPooling
from multimodal_recall.models.layers.towers import POSITION, WordVectors
from multimodal_recall.models.precision import MASKED_SCORE


class ImageHeads(nn.Module):
    """Encode an image as several vectors (heads): head 0 for the sentence, the others for tags.

    Features and positions are added and layer-normalised. Self-attention with a residual connection and a feed-forward
    network follow. The boxes' weighted mean is the image; its weights are a softmax, the same for all heads. With the
    pooling ``gpo``, the image is the generalised pooling of the boxes.
    """

    def __init__(self, feature_size: int, options: ImageHeadsOptions) -> None:
        super().__init__()
        size = options.box_size or feature_size
        state, inner = options.position_state, options.feed_forward
        outputs = (1 + options.tag_heads) * options.head_size
        self.narrow = nn.Identity()
        if options.box_size is not None:
            self.narrow = nn.Sequential(nn.LayerNorm(feature_size), nn.Linear(feature_size, size))
        self.positions = nn.Sequential(nn.Linear(POSITION, state), nn.PReLU(), nn.Linear(state, size))
        self.norm, self.dropout = nn.LayerNorm(size), nn.Dropout(options.dropout)
        self.attention = nn.MultiheadAttention(size, options.attention_heads, options.dropout, batch_first=True)
        self.activation = nn.PReLU()
        self.feed_forward = nn.Sequential(nn.Linear(size, inner), nn.PReLU(), nn.Linear(inner, size), nn.PReLU())
        self.values = nn.Sequential(nn.Linear(size, outputs), nn.PReLU())
        self.heads = nn.Linear(outputs, outputs)
        widths = [size, *options.weight_states]
        hidden = [layer for wide, narrow in pairwise(widths) for layer in (nn.Linear(wide, narrow), nn.PReLU())]
        weighted = options.pooling == "weighted_mean"
        self.weights = nn.Sequential(*hidden, nn.Linear(widths[-1], 1)) if weighted else None
        self.pooling = None if weighted else GeneralisedPooling()
        self.head_size = options.head_size

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's products, (P, 1 + tag_heads, head_size)."""
        boxes = self.narrow(batch.box_features.float()) + self.positions(batch.box_positions[:, :, :POSITION])
        boxes = self.dropout(self.norm(boxes))
        attended, _ = self.attention(boxes, boxes, boxes, key_padding_mask=batch.box_mask, need_weights=False)
        boxes = self.feed_forward(self.activation(boxes + attended))
        # The weights add up to 1, so ``heads`` of the mean is the mean of ``heads``: run once instead of B times.
        return self.heads(self._pooled(boxes, batch.box_mask)).float().unflatten(1, (-1, self.head_size))

    def _pooled(self, boxes: Tensor, mask: Tensor) -> Tensor:
        """Pool the values of the boxes, (P, B, box_size) -> (P, outputs)."""
        values = self.values(boxes)
        if self.pooling is not None:
            padding = Padding(mask)
            return self.pooling(padding.remove(values), padding)
        weights = self.weights(boxes).squeeze(2).float().masked_fill(mask, MASKED_SCORE).softmax(dim=1)
        return torch.bmm(weights.unsqueeze(1).to(boxes), values).squeeze(1)


class HeadWords(nn.Module):
    """Look up frozen word vectors at the width of a head; a linear map without bias changes another width.

    Differs from the publication, which has BERT-large's WordPiece vectors (1024). A small vocabulary's word vectors
    differ little (mean cosine 0.85 on the real photos), so each component is first scaled to mean 1 and standard
    deviation 1 over the words. With mean 0, no head could score all words low.
    """

    def __init__(self, words: int, word_vector: int, head_size: int) -> None:
        super().__init__()
        self.word_vectors = WordVectors(words, word_vector)
        same = word_vector == head_size
        self.map = nn.Identity() if same else nn.Linear(word_vector, head_size, bias=False)

    def forward(self, word_ids: Tensor) -> Tensor:
        """Look up words, (...) -> (..., head_size)."""
        return self._mapped(self.word_vectors(word_ids))

    def all(self) -> Tensor:
        """Map every word of the table, (words, head_size)."""
        return self._mapped(self.word_vectors.vectors)

    def _mapped(self, vectors: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.word_vectors.vectors, dim=0)
        return self.map(1 + (vectors - mean) * (variance + 1e-6).rsqrt()).float()
