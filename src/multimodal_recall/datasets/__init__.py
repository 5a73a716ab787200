"""Kedro datasets of the project: the only code that knows file formats."""
