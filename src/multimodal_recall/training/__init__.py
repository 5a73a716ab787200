"""Training: loop, losses, checkpoints, and the trainings of ranker and language model."""
