"""Torch models and their training loop: they take arrays and options, and know neither Kedro nor files."""
