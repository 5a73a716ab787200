"""The Ai-Light baseline (0.554 with a quarter of train, 0.599 with half): parts of a box side by side, then an MLP."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.config.systems import ConcatQueryOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.heads import ConcatMlp
from multimodal_recall.models.layers.recurrent import BiLstm, packing
from multimodal_recall.models.layers.towers import POSITION, LabelVectors, SentenceAndWords, WordVectors
from multimodal_recall.models.ranker import ConcatRanker, InputSizes


class BoxParts(nn.Module):
    """A layer of its own for label, feature and position of each box; a BiLSTM over them, its outputs averaged.

    The published label layer is a convolution over the words of the label's name. Batches hold the mean of these words'
    vectors, on which a linear layer is a convolution of width one, averaged. Features are layer-normalised first, as in
    ``BoxEncoder``.

    Shapes:
        box_labels (P, B), box_features (P, B, F), box_positions (P, B, 6), box_mask (P, B) -> (P, image_state).
    """

    def __init__(self, options: ConcatQueryOptions, feature_size: int, label_vectors: LabelVectors) -> None:
        super().__init__()
        self.label_vectors = label_vectors
        self.label = nn.Linear(label_vectors.size, options.label_state)
        self.feature = nn.Linear(feature_size, options.feature_state)
        self.position = nn.Linear(POSITION, options.position_state)
        parts = options.label_state + options.feature_state + options.position_state
        self.boxes = BiLstm(parts, options.image_state, averaged=True)

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's products."""
        packed = packing(batch.box_mask)
        features = batch.box_features.flatten(0, 1)[packed.places].float()
        positions = batch.box_positions[:, :, :POSITION].flatten(0, 1)[packed.places]
        # index_select and not [...]: on several CPU threads the gradient of the latter adds up in any order.
        labels = self.label(self.label_vectors.vectors).index_select(0, batch.box_labels.flatten()[packed.places])
        features = self.feature(functional.layer_norm(features, features.shape[1:]))
        boxes = torch.cat([labels, features, self.position(positions)], dim=1).relu()
        return self.boxes(boxes, packed, *self.boxes.input_layer())


class ConcatQuery(ConcatRanker):
    """The language model's vector and a BiLSTM over words, beside a BiLSTM over boxes, compared by an MLP.

    Where the published BiLSTMs were read at the first position, their outputs are averaged.
    """

    def __init__(self, options: ConcatQueryOptions, sizes: InputSizes) -> None:
        super().__init__()
        words = WordVectors(sizes.words, sizes.word_vector)
        labels = LabelVectors(sizes.labels, sizes.word_vector)
        self.query_encoder = SentenceAndWords(sizes.query_vector, words, options.word_state, averaged=True)
        self.image_encoder = BoxParts(options, sizes.box_feature, labels)
        widths = self.query_encoder.size, options.image_state
        self.head = ConcatMlp(*widths, options.head_state, options.dropout, options.second_head_state)


build = ConcatQuery
