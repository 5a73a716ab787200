"""Options, and the shape that they give to an environment's pipelines."""
