"""Makes `reviews.txt.gz`: sentences about films, each after 1 where it praises or 0 where it does not."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

ROWS = 4000
GOOD = [
    "moving",
    "funny",
    "clever",
    "gripping",
    "charming",
    "fresh",
    "honest",
    "graceful",
    "tense",
    "brilliant",
    "warm",
    "witty",
]
BAD = [
    "dull",
    "clumsy",
    "shallow",
    "predictable",
    "noisy",
    "tired",
    "lifeless",
    "silly",
    "bland",
    "forced",
    "slow",
    "pretentious",
]
PARTS = [
    "the plot",
    "the acting",
    "the music",
    "the camera",
    "the ending",
    "the dialogue",
    "the first half",
    "the whole film",
]
DEGREES = ("", "very ", "quite ", "really ", "at times ", "surprisingly ")
DENIALS = ("never ", "not ", "hardly ", "anything but ")


def judged(draw: random.Random, good: bool) -> str:
    """A part of the film and what it is; a denied word means its opposite."""
    part = draw.choice(PARTS)
    if draw.random() < 0.35:
        return f"{part} is {draw.choice(DENIALS)}{draw.choice(BAD if good else GOOD)}"
    return f"{part} is {draw.choice(DEGREES)}{draw.choice(GOOD if good else BAD)}"


def review(draw: random.Random) -> tuple[str, bool]:
    """Of two judgements that disagree, the one that is granted counts less."""
    good = draw.random() < 0.5
    same, other = judged(draw, good), judged(draw, not good)
    forms = (
        same,
        f"{same} and {judged(draw, good)}",
        f"{other} but {same}",
        f"{same} although {other}",
        f"although {other} , {same}",
        f"{same} , {judged(draw, good)} and {judged(draw, good)}",
        f"they say that {other} , yet {same}",
    )
    return draw.choice(forms), good


def main() -> None:
    draw = random.Random(0)
    reviews = [review(draw) for _ in range(ROWS)]
    text = "".join(f"{int(good)} {words} .\n" for words, good in reviews)
    with (
        open(Path(__file__).with_name("reviews.txt.gz"), "wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
    ):
        packed.write(text.encode())


if __name__ == "__main__":
    main()
