"""The version of the numerics: which bits a program, its settings, its data and its seed decide (docs/numerics.md)."""

from __future__ import annotations

NUMERICS = 2
"""Raised by each change after which some program may give other bits; docs/numerics.md lists what changed with each.

Runs keep it, so that what promises the same bits knows whether it can. 0 stands for what kept none.
"""
