"""Wrong products: how they are drawn, and how a ranker mixes them."""
