"""Kernel ridge regression from a product's boxes to the words of its queries: closed form, without epochs.

The regression estimates for each word how likely a query for the product has the word. It is the classical
kernel method (Saunders et al., ICML 1998); beyond some thousands of products, landmarks stand for all of them (Nyström,
Williams and Seeger, NIPS 2000). The system has no published score. ``models.kernel_ridge`` solves it.
"""

import torch
from torch import Tensor, nn

from multimodal_recall.config.baselines import KernelWordsOptions
from multimodal_recall.data.batch import Batch
from multimodal_recall.models.layers.kernel_features import KernelFeatures
from multimodal_recall.models.layers.largest_box import unit_length
from multimodal_recall.models.precision import in_float32
from multimodal_recall.models.ranker import InputSizes
from multimodal_recall.models.word_sum import WordSum


class KernelWords(WordSum):
    """Sum the logarithms of the estimates of the query's words, in which frequent words weigh more."""

    def __init__(self, options: KernelWordsOptions, sizes: InputSizes) -> None:
        super().__init__(options.frequency_power, sizes.words)
        self.floor = options.floor
        self.product = KernelFeatures(options, unit_length(torch.randn(sizes.landmarks, sizes.box_feature)))
        self.register_buffer("mean", torch.zeros(sizes.words))
        self.coefficients = nn.Parameter(0.1 * torch.randn(sizes.landmarks, sizes.words), requires_grad=False)

    def estimate(self, batch: Batch) -> Tensor:
        """Estimate for every word how likely a query for the product has the word, (P, words); may be negative."""
        features = self.product(batch)
        with in_float32(features):
            return features @ self.coefficients + self.mean

    def encode_products(self, batch: Batch) -> Tensor:
        """Compute the logarithm of every word's estimate, raised by its floor, (P, words)."""
        floor = self.floor * (self.counts + 1) / (self.counts + 1).mean()
        return (self.estimate(batch).clamp(min=0) + floor).log()


build = KernelWords
