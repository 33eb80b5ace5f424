"""The Python API beside its names in `dlc`: arguments, displays of results, and the notebook."""
