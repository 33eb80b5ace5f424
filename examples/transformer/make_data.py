"""Writes dates.tsv.gz: dates as people write them, a tab, and the same in the form 2026-11-21."""

import gzip
from datetime import date, timedelta
from pathlib import Path

import numpy as np

ROWS = 8_000
FIRST = date(1900, 1, 1)
DAYS = 55_000
ORDINALS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}


def main() -> None:
    generator = np.random.default_rng(0)
    lines: list[str] = []
    for offset in generator.integers(0, DAYS, ROWS):
        day = FIRST + timedelta(days=int(offset))
        lines.append(f"{written(day, generator)}\t{day.isoformat()}\n")
    place = Path(__file__).with_name("dates.tsv.gz")
    place.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


def written(day: date, generator: np.random.Generator) -> str:
    """The date in one of eight forms, with small or capital letters."""
    number, month, short = day.day, f"{day:%B}", f"{day:%b}"
    ordinal = f"{number}{ORDINALS.get(number, 'th')}"
    forms = (
        f"{day:%d/%m/%Y}",
        f"{number}.{day.month}.{day.year}",
        f"{number} {short} {day.year}",
        f"{number} {month} {day.year}",
        f"{month} {number}, {day.year}",
        f"{short} {number}, {day:%y}" if 1970 <= day.year < 2070 else f"{short} {number}, {day.year}",
        f"{day:%A}, {month} {ordinal}, {day.year}",
        f"the {ordinal} of {month} {day.year}",
    )
    text = forms[generator.integers(len(forms))]
    return text.lower() if generator.random() < 0.3 else text


if __name__ == "__main__":
    main()
