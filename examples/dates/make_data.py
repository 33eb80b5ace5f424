"""Makes `dates.tsv.gz`: dates as people write them, a tab, and the same date as year-month-day."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

ROWS = 8000
FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)
MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def ordinal(day: int) -> str:
    """`1st`, `2nd`, `3rd`, `4th`, …"""
    ending = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


FORMS: tuple[Callable[[date, str, str], str], ...] = (
    lambda d, month, year: f"{d.day} {month} {year}",
    lambda d, month, year: f"{month} {d.day}, {year}",
    lambda d, month, year: f"{month} {ordinal(d.day)} {year}",
    lambda d, month, year: f"the {ordinal(d.day)} of {month} {year}",
    lambda d, month, year: f"{DAYS[d.weekday()]}, {d.day} {month} {year}",
    lambda d, month, year: f"{DAYS[d.weekday()][:3]} {month} {d.day:02} {year}",
    lambda d, month, year: f"{d.day}.{d.month}.{year}",
    lambda d, month, year: f"{d.day:02}.{d.month:02}.{year}",
    lambda d, month, year: f"{d.year}, {month} {d.day}",
)


def written(day: date, draw: random.Random) -> str:
    """A date in one of the forms, with a long or short month and, now and then, two digits of the year."""
    month = MONTHS[day.month - 1]
    month = draw.choice((month, month[:3]))
    year = f"'{day.year % 100:02}" if draw.random() < 0.2 else str(day.year)
    return draw.choice(FORMS)(day, month, year)


def main() -> None:
    draw = random.Random(0)
    days = (LAST - FIRST).days + 1
    dates = [FIRST + timedelta(draw.randrange(days)) for _ in range(ROWS)]
    text = "".join(f"{written(day, draw)}\t{day.isoformat()}\n" for day in dates)
    with (
        open(Path(__file__).with_name("dates.tsv.gz"), "wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
    ):
        packed.write(text.encode())


if __name__ == "__main__":
    main()
