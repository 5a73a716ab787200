"""What a user would take for query vectors and for training, in the hardware's precision: the benchmark's peers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

from benchmarks.straightforward import TwoTower
from multimodal_recall.data.batch import ChunkArrays
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.runtime.device import Hardware


class SentenceEncoder:
    """sentence-transformers' ``encode``: mean of the last layer (and so of all layers), sorted by length, padded."""

    def __init__(self, folder: Path, hardware: Hardware) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        words = Transformer(str(folder), model_kwargs={"dtype": hardware.dtype})
        self.model = SentenceTransformer(modules=[words, Pooling(768)], device=hardware.device)

    def __call__(self, queries: list[str]) -> np.ndarray:
        """Encode queries into (queries, hidden size)."""
        return self.model.encode(queries, batch_size=64, show_progress_bar=False)


@dataclass
class PairRows(Dataset):
    """A pair an item, as PyTorch's tutorials write a dataset."""

    arrays: ChunkArrays
    pairs: Pairs

    def __post_init__(self) -> None:
        self.boxes, self.words = (
            np.append(0, counts.cumsum()) for counts in (self.arrays.box_counts, self.arrays.word_counts)
        )

    def __len__(self) -> int:
        return len(self.pairs.relevance)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        arrays, query, product = self.arrays, self.pairs.query_rows[row], self.pairs.product_rows[row]
        boxes, words = slice(*self.boxes[product : product + 2]), slice(*self.words[query : query + 2])
        found = arrays.query_vectors[query], arrays.word_ids[words], arrays.features[boxes], arrays.labels[boxes]
        return *map(torch.tensor, found), torch.tensor(arrays.positions[boxes, :5]), int(self.pairs.relevance[row])


def collate(rows: list[tuple[Tensor, ...]]) -> tuple[list[Tensor], Tensor]:
    """Pad a batch, and keep the lengths."""
    vectors, words, features, labels, positions, target = zip(*rows, strict=True)
    counts = (torch.tensor(list(map(len, part))) for part in (words, labels))
    padded = (pad_sequence(part, batch_first=True) for part in (words, features, labels, positions))
    return [torch.stack(vectors), *padded, *counts], torch.tensor(target)


class PackedTwoTower(TwoTower):
    """Section 0 with ``nn.LSTM`` on packed sequences."""

    def forward(self, vectors: Tensor, *inputs: Tensor) -> Tensor:
        """Logits (N, 2); see ``collate``."""
        words, features, labels, positions, word_counts, box_counts = inputs
        boxes = torch.cat([self.labels(labels), features.float(), positions], dim=2)
        ends = [vectors.float()]
        for net, data, counts in (
            (self.word_lstm, self.words(words), word_counts),
            (self.box_lstm, boxes, box_counts),
        ):
            packed = pack_padded_sequence(data, counts, batch_first=True, enforce_sorted=False)
            ends += [*net(packed)[1][0]]
        return self.head(torch.cat(ends, dim=1))


def training_steps(arrays: ChunkArrays, steps: list[Pairs], hardware: Hardware) -> list[Callable[[], None]]:
    """Training steps on batches that two worker processes make, a batch for each of the equally long ``steps``."""
    columns = zip(*(pairs[:3] for pairs in steps), strict=True)
    rows = PairRows(arrays, Pairs(*map(np.concatenate, columns)))
    batches = iter(DataLoader(rows, batch_size=len(steps[0].relevance), num_workers=2, collate_fn=collate))
    model = PackedTwoTower(5000)
    optimiser = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], 2e-4, fused=True)

    def step() -> None:
        inputs, target = next(batches)
        optimiser.zero_grad()
        with hardware.autocast():
            loss = nn.functional.cross_entropy(model(*inputs).float(), target)
        loss.backward()
        optimiser.step()

    return [step] * len(steps)
