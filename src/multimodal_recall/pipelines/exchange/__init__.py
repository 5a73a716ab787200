"""Judgements from TREC's qrels, and rankings, judgements and products for other toolkits."""
