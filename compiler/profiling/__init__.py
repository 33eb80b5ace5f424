"""A program run with time stamps, and its times by line, layer, kernel and operation."""
