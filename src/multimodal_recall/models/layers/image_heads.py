"""The tenth place's image encoder, several vectors an image, and the score of a query's words against them."""

import torch
from torch import Tensor, nn

from multimodal_recall.config.systems import ImageHeadsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.towers import POSITION, WordVectors
from multimodal_recall.models.precision import MASKED_SCORE


class ImageHeads(nn.Module):
    """Self-attention over the boxes, then their weighted mean: one vector (head) for the sentence, others for tags.

    Features and positions are added and layer-normalised; then self-attention and a feed-forward network, with one
    residual connection, around the attention. The boxes' weights are a softmax, the same for all heads.

    Shapes:
        box_features (P, B, F), box_positions (P, B, 6), box_mask (P, B) -> (P, 1 + tag_heads, head_size); head 0 is the
        sentence's.
    """

    def __init__(self, feature_size: int, options: ImageHeadsOptions) -> None:
        super().__init__()
        size = options.box_size or feature_size
        state, inner, ends = options.position_state, options.feed_forward, (1 + options.tag_heads) * options.head_size
        self.narrow = nn.Identity()
        if options.box_size is not None:
            self.narrow = nn.Sequential(nn.LayerNorm(feature_size), nn.Linear(feature_size, size))
        self.positions = nn.Sequential(nn.Linear(POSITION, state), nn.PReLU(), nn.Linear(state, size))
        self.norm, self.dropout = nn.LayerNorm(size), nn.Dropout(options.dropout)
        self.attention = nn.MultiheadAttention(size, options.attention_heads, options.dropout, batch_first=True)
        self.activation = nn.PReLU()
        self.feed_forward = nn.Sequential(nn.Linear(size, inner), nn.PReLU(), nn.Linear(inner, size), nn.PReLU())
        self.values = nn.Sequential(nn.Linear(size, ends), nn.PReLU())
        self.heads = nn.Linear(ends, ends)
        layers, wider = [], size
        for narrower in options.weight_states:
            layers += [nn.Linear(wider, narrower), nn.PReLU()]
            wider = narrower
        self.weights = nn.Sequential(*layers, nn.Linear(wider, 1))
        self.head_size = options.head_size

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's products."""
        boxes = self.narrow(batch.box_features.float()) + self.positions(batch.box_positions[:, :, :POSITION])
        boxes = self.dropout(self.norm(boxes))
        attended, _ = self.attention(boxes, boxes, boxes, key_padding_mask=batch.box_mask, need_weights=False)
        boxes = self.feed_forward(self.activation(boxes + attended))
        weights = self.weights(boxes).squeeze(2).float().masked_fill(batch.box_mask, MASKED_SCORE).softmax(dim=1)
        # The weights add up to 1, so the last layer of the mean is the mean of the last layer: once instead of B times.
        mean = torch.bmm(weights.unsqueeze(1).to(boxes), self.values(boxes)).squeeze(1)
        return self.heads(mean).float().unflatten(1, (-1, self.head_size))


class HeadWords(nn.Module):
    """The frozen word vectors as wide as a head: a linear map without bias where they are of another width.

    Differs from the publication: BERT-large's WordPiece vectors (1024) there, words of the run's table here. Those of a
    small vocabulary differ little (cosine 0.85 in the mean on the real photos), so that each of their numbers is first
    scaled to mean 1 and standard deviation 1 over the words; with mean 0 a head could not score all words low.

    Shapes:
        word_ids (...) -> (..., head_size).
    """

    def __init__(self, words: int, word_vector: int, head_size: int) -> None:
        super().__init__()
        self.word_vectors = WordVectors(words, word_vector)
        same = word_vector == head_size
        self.map = nn.Identity() if same else nn.Linear(word_vector, head_size, bias=False)

    def forward(self, word_ids: Tensor) -> Tensor:
        """Look up, and map."""
        return self._mapped(self.word_vectors(word_ids))

    def all(self) -> Tensor:
        """Every word, (words, head_size)."""
        return self._mapped(self.word_vectors.vectors)

    def _mapped(self, vectors: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.word_vectors.vectors, dim=0)
        return self.map(1 + (vectors - mean) * (variance + 1e-6).rsqrt()).float()
