"""Torch models: they take arrays and options, and know nothing of Kedro."""
