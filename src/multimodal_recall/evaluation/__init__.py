"""Scores in, comparison out."""
