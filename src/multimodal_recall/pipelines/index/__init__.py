"""From a trained ranker and all products to an index."""
