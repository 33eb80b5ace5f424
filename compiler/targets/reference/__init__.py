"""The reference target: graphs evaluated in NumPy, unoptimised. It defines what a program means."""
