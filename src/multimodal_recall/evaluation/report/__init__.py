"""The evaluation report: one HTML file, from the tables of a finished evaluation."""
