"""What `kedro check` and `kedro search` do."""
