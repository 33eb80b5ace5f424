"""Makes `commands.tsv.gz`: commands to an assistant, a tab, and what each word is (a time, a place, …, or none)."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

ROWS = 4000
# Some words are several things: may is a person or a month, seven a time or a number of guests. Often only a later word
# tells.
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
WORDS = {
    "time": [*NUMBERS, *(f"half past {n}" for n in NUMBERS), *(f"{n} o'clock" for n in NUMBERS), "noon", "midnight"],
    "day": ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "tomorrow", "next week"]
    + ["april", "may", "june"]
    + [f"the {n} of {m}" for n in ("first", "second", "third", "tenth") for m in ("march", "april", "may", "june")],
    "person": [
        "anna",
        "ben",
        "carla",
        "may",
        "april",
        "june",
        "mark",
        "grace",
        "will",
        "hope",
        "my brother",
        "aunt may",
    ],
    "place": ["paris", "berlin", "rome", "oslo", "lima", "hope", "new york", "mark street", "the park"],
    "count": NUMBERS,
}
FORMS = (
    "wake me at <time>",
    "wake me <day> at <time>",
    "call <person> at <time>",
    "call <person> <day>",
    "remind <person> to call <person> <day>",
    "will <person> be in <place> <day>",
    "book a table for <count> guests",
    "book a table for <time> sharp",
    "a taxi for <count> people to <place>",
    "a taxi for <time> to <place>",
    "is <day> too late for <person>",
    "is <person> too far away from <place>",
    "<person> and <person> are coming",
    "<day> and <day> are free",
    "book a table for <count> in <place> <day> at <time>",
    "tell <person> that we meet at <time> in <place>",
    "how far is it from <place> to <place>",
    "take <person> and <person> to <place> <day>",
    "is there a train to <place> at <time> <day> for <count>",
    "mark <day> in the calendar",
    "i hope that <person> may come <day>",
)


def command(draw: random.Random) -> tuple[list[str], list[str]]:
    """Words, and what each is."""
    words: list[str] = []
    tags: list[str] = []
    for part in draw.choice(FORMS).split():
        kind = part.strip("<>") if part.startswith("<") else "none"
        found = draw.choice(WORDS[kind]).split() if kind in WORDS else [part]
        words += found
        tags += [kind] * len(found)
    return words, tags


def main() -> None:
    draw = random.Random(0)
    commands = [command(draw) for _ in range(ROWS)]
    text = "".join(f"{' '.join(words)}\t{' '.join(tags)}\n" for words, tags in commands)
    with (
        open(Path(__file__).with_name("commands.tsv.gz"), "wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
    ):
        packed.write(text.encode())


if __name__ == "__main__":
    main()
