"""The best published system without the leak (WST, valid 0.7955 alone): graph reasoning in two towers, and a cosine."""

from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.config.systems import GraphReasoningOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.data_parallel import BatchNorm
from multimodal_recall.models.indexable import DotRanker
from multimodal_recall.models.layers.padding import Packing, Padding
from multimodal_recall.models.layers.pooling import GeneralisedPooling
from multimodal_recall.models.layers.recurrent import BiGru
from multimodal_recall.models.layers.towers import WordVectors
from multimodal_recall.models.ranker import InputSizes


class GraphReasoning(nn.Module):
    """Add to each entry x of a sequence what it learns from the sequence: norm(W R g(x)), R = theta(x) phi(x)^T / n.

    VSRN's layer (Li et al., ICCV 2019). The weight of its batch norm starts at zero, so the layer starts as the
    identity. VSRN's n and batch statistics count padding; here they count the real entries alone.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta_phi_g = nn.Linear(size, 3 * size)
        self.back = nn.Linear(size, size)
        self.norm = BatchNorm(size)
        nn.init.zeros_(self.norm.weight)

    def forward(self, data: Tensor, padding: Padding) -> Tensor:
        """Let the entries of each sequence learn from each other, (E, size) -> (E, size)."""
        # Padding is put back as zeros, so no entry learns from padding.
        theta, phi, g = padding.put_back(self.theta_phi_g(data)).chunk(3, dim=2)
        affinity = theta @ phi.mT / (~padding.mask).sum(dim=1)[:, None, None]
        return data + self.norm(self.back(padding.remove(affinity @ g)).float())


class GraphTower(nn.Module):
    """Encode sequences by a linear layer, graph reasoning and a GRU: the mean of both directions' last states.

    With the pooling ``gpo``, generalised pooling of the entries takes the place of the GRU.
    """

    def __init__(self, inputs: int, options: GraphReasoningOptions) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, options.state)
        self.layers = nn.ModuleList(GraphReasoning(options.state) for _ in range(options.layers))
        self.gru = BiGru(options.state, options.state) if options.pooling == "last_state" else None
        self.pooling = GeneralisedPooling() if options.pooling == "gpo" else None

    def forward(self, entries: Tensor, packed: Packing) -> Tensor:
        """Encode the packed entries of S sequences, (E, inputs) -> (S, state) of length 1."""
        data = functional.normalize(self.first(entries).float(), dim=1)
        for layer in self.layers:
            data = layer(data, packed)
        return functional.normalize(self._pooled(functional.normalize(data, dim=1), packed), dim=1)

    def _pooled(self, data: Tensor, packed: Packing) -> Tensor:
        return self.gru(data, packed).mean(dim=0) if self.pooling is None else self.pooling(data, packed)


class GraphReasoningRanker(DotRanker):
    """Score a pair by the scaled cosine of its query's words and product's boxes; positions and labels are not read.

    Features are layer-normalised first, as in ``BoxEncoder``.
    """

    def __init__(self, options: GraphReasoningOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.scale = options.scale
        self.word_vectors = WordVectors(sizes.words, sizes.word_vector)
        self.query_tower = GraphTower(sizes.word_vector, options)
        self.image_tower = GraphTower(sizes.box_feature, options)

    def encode_queries(self, batch: Batch) -> Tensor:
        """Encode the queries' words, (Q, state) of length 1."""
        packed = Packing(batch.word_mask)
        return self.query_tower(self.word_vectors(packed.remove(batch.word_ids)), packed)

    def encode_products(self, batch: Batch) -> Tensor:
        """Encode the products' boxes, (P, state) of length 1."""
        packed = Packing(batch.box_mask)
        boxes = packed.remove(batch.box_features).float()
        return self.image_tower(functional.layer_norm(boxes, boxes.shape[1:]), packed)


build = GraphReasoningRanker
