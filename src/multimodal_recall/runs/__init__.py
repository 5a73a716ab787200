"""Runs and their outputs: records, what is stale, what can be dropped, comparisons, tracking."""
