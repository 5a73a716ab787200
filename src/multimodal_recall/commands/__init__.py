"""The work of `kedro check` and `kedro search`."""
