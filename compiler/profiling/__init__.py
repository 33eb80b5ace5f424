"""A program that is run with stamps, and what these say: by line, layer, kernel and operation."""
