"""From a trained ranker to scores, metrics, submission and comparison."""
