"""Tests of the pipeline that imports a shop."""
