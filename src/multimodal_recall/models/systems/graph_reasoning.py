"""The best published system without the leak (WST, valid 0.7955 alone): graph reasoning in two towers, and a cosine."""

from torch import Tensor, nn
from torch.nn import functional

from multimodal_recall.config.systems import GraphReasoningOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.data_parallel import BatchNorm
from multimodal_recall.models.layers.recurrent import BiGru, Packing, packing, unpacked
from multimodal_recall.models.layers.towers import WordVectors
from multimodal_recall.models.ranker import DotRanker, InputSizes


class GraphReasoning(nn.Module):
    """Adds to each entry x of a sequence what the others tell it: norm(W R g(x)), R = theta(x) phi(x)^T / n.

    VSRN's layer (Li et al., ICCV 2019), with its batch norm that starts from a weight of zero, hence as no change at
    all. Its n and its batch statistics counted padding; here they are of the real entries.

    Shapes:
        data (E, size) of sequences that ``mask`` (S, L) and ``places`` (E,) describe -> (E, size).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta_phi_g = nn.Linear(size, 3 * size)
        self.back = nn.Linear(size, size)
        self.norm = BatchNorm(size)
        nn.init.zeros_(self.norm.weight)

    def forward(self, data: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """Let the entries of each sequence learn from each other."""
        # zero on padding, which so tells nothing
        theta, phi, g = unpacked(self.theta_phi_g(data), places, mask).chunk(3, dim=2)
        affinity = theta @ phi.mT / (~mask).sum(dim=1)[:, None, None]
        told = (affinity @ g).flatten(0, 1).index_select(0, places)
        return data + self.norm(self.back(told).float())


class GraphTower(nn.Module):
    """A linear layer, graph reasoning, and a bidirectional GRU: the mean of its directions' last states, of length 1.

    Shapes:
        entries (E, inputs), mask (S, L) -> (S, state).
    """

    def __init__(self, inputs: int, state: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, state)
        self.layers = nn.ModuleList(GraphReasoning(state) for _ in range(layers))
        self.gru = BiGru(state, state)

    def forward(self, entries: Tensor, packed: Packing, mask: Tensor) -> Tensor:
        """Encode packed entries."""
        data = functional.normalize(self.first(entries).float(), dim=1)
        for layer in self.layers:
            data = layer(data, packed.places, mask)
        return functional.normalize(self.gru(functional.normalize(data, dim=1), packed).mean(dim=0), dim=1)


class GraphReasoningRanker(DotRanker):
    """The scaled cosine of a query's words and a product's boxes; positions and labels are not read.

    Features are layer-normalised first, as in ``BoxEncoder``.
    """

    def __init__(self, options: GraphReasoningOptions, sizes: InputSizes) -> None:
        super().__init__()
        self.scale = options.scale
        self.word_vectors = WordVectors(sizes.words, sizes.word_vector)
        self.query_tower = GraphTower(sizes.word_vector, options.state, options.layers)
        self.image_tower = GraphTower(sizes.box_feature, options.state, options.layers)

    def encode_queries(self, batch: Batch) -> Tensor:
        """(Q, state), of length 1."""
        packed = packing(batch.word_mask)
        words = self.word_vectors(batch.word_ids.flatten()[packed.places])
        return self.query_tower(words, packed, batch.word_mask)

    def encode_products(self, batch: Batch) -> Tensor:
        """(P, state), of length 1."""
        packed = packing(batch.box_mask)
        boxes = batch.box_features.flatten(0, 1)[packed.places].float()
        return self.image_tower(functional.layer_norm(boxes, boxes.shape[1:]), packed, batch.box_mask)


build = GraphReasoningRanker
