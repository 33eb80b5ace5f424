"""The reference target: graphs evaluated in NumPy, unoptimised. It defines the meaning of a program."""
