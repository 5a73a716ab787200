"""Query and image towers. Each takes a batch and gives one vector a query or product."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from multimodal_recall.models.batch import Batch


def packing(mask: Tensor) -> tuple[Tensor, PackedSequence]:
    """Say how the real entries of padded sequences are packed for an LSTM.

    Args:
        mask: (S, L), True on padding.

    Returns:
        The places of the real entries in the flattened (S * L) array in packed order, and the packed sequence of these
        places, whose data is to be replaced. Gathering by place builds no padded float32 tensor.
    """
    places = torch.arange(mask.numel(), device=mask.device).view(*mask.shape, 1)
    packed = pack_padded_sequence(places, (~mask).sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
    return packed.data[:, 0], packed


class BiLstm(nn.Module):
    """One vector a sequence: the last state of each direction, side by side.

    The published code took the first position's output, where one direction has seen a single entry.
    """

    def __init__(self, inputs: int, state: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, state // 2, bidirectional=True)

    def forward(self, data: Tensor, packed: PackedSequence) -> Tensor:
        """Encode packed entries (entries, inputs) into (S, state)."""
        sequence = PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        # Autocast runs cuDNN LSTMs in float16 whatever is asked for (ATen/cudnn/AutocastRNN.cpp) without loss scaling
        with torch.autocast(data.device.type, enabled=torch.is_autocast_enabled("cpu") and not data.is_cuda):
            _, (last, _) = self.lstm(sequence)  # (2, S, state / 2), in the order of the batch
        return torch.cat([last[0], last[1]], dim=1)


class SentenceAndWords(nn.Module):
    """The language model's vector (D) beside a BiLSTM over the word vectors (word_state).

    Differs from the published tower in one place: both inputs are layer-normalised first, see ``BoxLstm``.

    Shapes:
        query_vectors (Q, D), word_ids (Q, W), word_mask (Q, W) -> (Q, D + word_state).
    """

    def __init__(self, vector_size: int, word_vectors: Tensor, word_state: int) -> None:
        super().__init__()
        self.register_buffer("word_vectors", word_vectors)  # frozen: (words, 300)
        self.sentence_norm = nn.LayerNorm(vector_size)
        self.word_norm = nn.LayerNorm(word_vectors.shape[1])
        self.words = BiLstm(word_vectors.shape[1], word_state)
        self.size = vector_size + word_state

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's queries."""
        places, packed = packing(batch.word_mask)
        words = self.word_norm(self.word_vectors[batch.word_ids.flatten()[places]])  # (entries, 300)
        return torch.cat([self.sentence_norm(batch.query_vectors.float()), self.words(words, packed).float()], dim=1)


class BoxLstm(nn.Module):
    """A BiLSTM over the boxes: label vector, feature and position of each, concatenated.

    Differs from the published tower in one place: the features are layer-normalised first. On the real photos, after
    12 epochs with everything else equal, nDCG@5 on testA is 0.51 with it and 0.31 without.

    Shapes:
        box_labels (P, B), box_features (P, B, F), box_positions (P, B, 5), box_mask (P, B) -> (P, image_state).
    """

    def __init__(self, feature_size: int, label_vectors: Tensor, image_state: int) -> None:
        super().__init__()
        self.register_buffer("label_vectors", label_vectors)  # frozen: (labels, 300)
        # Its weights' gradient is a quarter of a training step, and worth it: without them the photos got to 0.62 on
        # valid in 36 of the 40 epochs, with them to 0.655 (seed 0).
        self.feature_norm = nn.LayerNorm(feature_size)
        self.boxes = BiLstm(label_vectors.shape[1] + feature_size + 5, image_state)
        self.size = image_state

    def forward(self, batch: Batch) -> Tensor:
        """Encode the batch's products."""
        places, packed = packing(batch.box_mask)
        boxes = [
            self.label_vectors[batch.box_labels.flatten()[places]],
            self.feature_norm(batch.box_features.flatten(0, 1)[places].float()),
            batch.box_positions.flatten(0, 1)[places],
        ]
        return self.boxes(torch.cat(boxes, dim=1), packed).float()
