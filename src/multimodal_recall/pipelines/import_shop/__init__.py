"""From a shop's own photos, titles and clicks to the raw files of an environment."""
