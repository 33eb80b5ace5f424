"""Passes from graph to graph that recognise layers and functions in smaller operations."""
