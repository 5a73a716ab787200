"""Speed and memory of each stage, beside straightforward implementations; ``python -m benchmarks``."""
