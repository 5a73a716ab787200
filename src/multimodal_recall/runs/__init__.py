"""Records of what was run: versions of code and packages."""
