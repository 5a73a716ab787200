"""From the indexes and the queries of a split to recall in the whole catalogue."""
