"""From a line of bytes to a batch, in reading order."""
