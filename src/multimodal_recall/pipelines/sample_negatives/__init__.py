"""From pairs to right and wrong examples."""
