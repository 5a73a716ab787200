"""A made-up shop in the official layout, so that the project runs without any download."""
