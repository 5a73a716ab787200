"""From query text to query vectors and word ids."""
