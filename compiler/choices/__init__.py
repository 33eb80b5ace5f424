"""Integers of the data that choose among elements, and the meaning of integers outside of the range."""
