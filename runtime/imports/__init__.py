"""Models and weights of other programs to model files and their weights."""
