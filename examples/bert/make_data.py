"""Writes sentences.npz, many sentences without labels, and judged.npz, few that say whether subject and verb agree."""

from pathlib import Path

import numpy as np

SINGULAR = ["cat", "dog", "child", "teacher", "painter", "bird"]
PLURAL = [f"{noun}s" if noun != "child" else "children" for noun in SINGULAR]
ARTICLES = {False: ["the", "this", "every"], True: ["the", "these", "many"]}
MODIFIERS = ["old", "young", "quiet", "clever"]
LINKS = ["with", "beside", "behind"]
VERBS = ["see", "like", "help", "follow"]
ENDS = ["today", "again"]
SPECIAL = ["<pad>", "<mask>", "<class>"]
WORDS = [*SPECIAL, *SINGULAR, *PLURAL, "the", "this", "every", "these", "many", *MODIFIERS, *LINKS, *VERBS]
WORDS += [*(f"{verb}s" for verb in VERBS), *ENDS]
LENGTH = 14
SENTENCES, JUDGED = 16_000, 800


class Writer:
    """Sentences of a small grammar, in which a verb agrees with its subject and not with the noun before it."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def chosen(self, words: list[str]) -> str:
        return words[self.generator.integers(len(words))]

    def likely(self, chance: float) -> bool:
        return bool(self.generator.random() < chance)

    def noun_phrase(self, plural: bool) -> list[str]:
        modifier = [self.chosen(MODIFIERS)] if self.likely(0.4) else []
        return [self.chosen(ARTICLES[plural]), *modifier, self.chosen(PLURAL if plural else SINGULAR)]

    def sentence(self, right: bool = True) -> list[str]:
        """With a verb whose number is that of its subject, or is not."""
        plural = self.likely(0.5)
        words = self.noun_phrase(plural)
        if self.likely(0.7):
            words += [self.chosen(LINKS), *self.noun_phrase(self.likely(0.5))]
        words += [self.chosen(VERBS) + ("" if plural == right else "s"), *self.noun_phrase(self.likely(0.5))]
        return words + ([self.chosen(ENDS)] if self.likely(0.5) else [])


def numbers(sentences: list[list[str]]) -> np.ndarray:
    """Each sentence behind `<class>`, filled up with `<pad>`."""
    rows = np.zeros((len(sentences), LENGTH), np.uint8)
    for row, words in zip(rows, sentences, strict=True):
        row[: len(words) + 1] = [WORDS.index(word) for word in ["<class>", *words]]
    return rows


def main() -> None:
    writer, folder = Writer(), Path(__file__).parent
    sentences = [writer.sentence() for _ in range(SENTENCES)]
    np.savez_compressed(folder / "sentences.npz", tokens=numbers(sentences))
    right = [writer.likely(0.5) for _ in range(JUDGED)]
    judged = [writer.sentence(is_right) for is_right in right]
    np.savez_compressed(folder / "judged.npz", tokens=numbers(judged), right=np.array(right, np.uint8))


if __name__ == "__main__":
    main()
