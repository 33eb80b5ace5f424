"""Makes `questions.txt.gz`: questions, each after the kind of its answer."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

ROWS = 3000
WORDS = {
    "thing": [
        "telephone",
        "paper",
        "the bicycle",
        "dynamite",
        "the zipper",
        "chess",
        "glass",
        "the compass",
        "soap",
        "the wheel",
    ],
    "city": ["Oslo", "Lima", "Cairo", "Rome", "Boston", "Kyoto", "Nairobi", "Quito"],
    "country": ["Norway", "Peru", "Egypt", "Italy", "Japan", "Kenya", "Ecuador", "Canada"],
    "person": ["Marie Curie", "Mozart", "Galileo", "Frida Kahlo", "Ada Lovelace", "Columbus", "Gandhi", "Newton"],
    "animal": ["a whale", "an ant", "a horse", "a tortoise", "a bat", "a penguin", "an octopus"],
    "term": ["photosynthesis", "inflation", "a sonnet", "DNA", "a quasar", "gravity", "an isotope", "jazz"],
}
FORMS = {
    "person": (
        "Who invented <thing> ?",
        "What inventor gave us <thing> ?",
        "Who was the first president of <country> ?",
        "What explorer found the way to <country> ?",
        "Who taught <person> ?",
    ),
    "place": (
        "Where was <person> born ?",
        "What is the capital of <country> ?",
        "What country borders <country> ?",
        "In what city did <person> die ?",
        "Where does <animal> live ?",
    ),
    "number": (
        "How many people live in <city> ?",
        "How far is it from <city> to <city> ?",
        "What year was <person> born ?",
        "When was <thing> invented ?",
        "What is the population of <country> ?",
        "How old can <animal> become ?",
    ),
    "description": (
        "What is <term> ?",
        "How does <animal> sleep ?",
        "Why did <person> leave <city> ?",
        "What does <animal> do in winter ?",
        "How is <thing> made ?",
    ),
    "entity": (
        "What animal hunts <animal> ?",
        "What does <animal> eat ?",
        "What language do people speak in <city> ?",
        "What instrument did <person> play ?",
        "What is <thing> made of ?",
    ),
}


def question(draw: random.Random) -> str:
    kind = draw.choice(sorted(FORMS))
    parts = draw.choice(FORMS[kind]).split()
    words = (draw.choice(WORDS[part[1:-1]]) if part.startswith("<") else part for part in parts)
    return f"{kind} {' '.join(words)}"


def main() -> None:
    draw = random.Random(0)
    text = "".join(f"{question(draw)}\n" for _ in range(ROWS))
    with (
        open(Path(__file__).with_name("questions.txt.gz"), "wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
    ):
        packed.write(text.encode())


if __name__ == "__main__":
    main()
