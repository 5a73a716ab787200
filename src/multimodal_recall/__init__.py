"""Rank product images for a shopper's text query (KDD Cup 2020, Multimodalities Recall)."""

__version__ = "0.1.0"
