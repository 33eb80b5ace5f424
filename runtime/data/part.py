"""Rows of data for one purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.data.specs import Array


@dataclass(frozen=True, slots=True)
class Part:
    """`arrays` hold every row of a source by input or target; `rows` (i64) says which belong to this part."""

    arrays: Mapping[str, Array]
    rows: Array
