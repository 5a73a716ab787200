"""``kedro search --serve``: search as pages and as JSON, for one user's machine."""
