"""From examples to a trained ranker."""
