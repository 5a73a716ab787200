"""From photos to boxes and features: vision models of transformers, and a descriptor without weights."""
