"""The Ai-Light baseline (0.554 with a quarter of train, 0.599 with half): parts of a box side by side, then an MLP."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.config.systems import ConcatQueryOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.indexable import ConcatRanker
from multimodal_recall.models.layers.heads import ConcatMlp
from multimodal_recall.models.layers.padding import Packing
from multimodal_recall.models.layers.recurrent import BiLstm
from multimodal_recall.models.layers.towers import POSITION, LabelVectors, SentenceAndWords, WordVectors
from multimodal_recall.models.ranker import InputSizes


class BoxParts(nn.Module):
    """Encode an image: a layer each for label, feature and position of a box, then a BiLSTM with averaged outputs.

    The published label layer is a convolution over the words of the label's name. Batches hold the mean of the words'
    vectors: a linear layer on the mean equals an averaged convolution of width one. Features are layer-normalised
    first, as in ``BoxEncoder``.
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
        """Encode the batch's products, (P, image_state)."""
        packed = Packing(batch.box_mask)
        # index_select and not [...]: on several CPU threads, the gradient of [...] is summed in any order.
        labels = self.label(self.label_vectors.vectors).index_select(0, packed.remove(batch.box_labels))
        features = packed.remove(batch.box_features).float()
        features = self.feature(functional.layer_norm(features, features.shape[1:]))
        positions = self.position(packed.remove(batch.box_positions[:, :, :POSITION]))
        boxes = torch.cat([labels, features, positions], dim=1).relu()
        return self.boxes(boxes, packed, *self.boxes.input_layer())


class ConcatQuery(ConcatRanker):
    """Compare the language model's vector and a BiLSTM over words with a BiLSTM over boxes, by an MLP.

    The published BiLSTMs were read at the first position; here their outputs are averaged.
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
