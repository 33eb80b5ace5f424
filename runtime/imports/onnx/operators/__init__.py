"""Operators to `.dl` text, by kind; `table` joins them."""
