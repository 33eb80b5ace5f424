"""Makes `pairs.npz`, drawings with captions, and `test.npz`, one drawing of each of the 128 captions.

    python examples/clip/make_data.py

A caption is four words: a size, a colour, a shape and a place. A quarter of the captions are in the test alone.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
SIZES, COLOURS = ("small", "large"), ("red", "green", "blue", "yellow")
SHAPES, PLACES = ("square", "cross", "ring", "bar"), ("top-left", "top-right", "bottom-left", "bottom-right")
WORDS = (*SIZES, *COLOURS, *SHAPES, *PLACES)
CAPTIONS = tuple(product(SIZES, COLOURS, SHAPES, PLACES))
INK = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (60, 60, 230), "yellow": (220, 200, 30)}
EXTENT, EACH = 12, 16


def is_new(caption: tuple[str, ...]) -> bool:
    """Whether only the test has a caption: for each size, colour and shape, one of the four places."""
    size, colour, shape, place = (
        words.index(w) for words, w in zip((SIZES, COLOURS, SHAPES, PLACES), caption, strict=True)
    )
    return (size + colour + shape + place) % 4 == 0


def drawing(caption: tuple[str, ...], random: np.random.Generator) -> np.ndarray:
    """An image [12, 12, 3] of u8."""
    size, colour, shape, place = caption
    reach = 3 if size == "small" else 5
    row, column = (random.integers(0, 7 - reach) for _ in range(2))
    row += 6 * place.startswith("bottom")
    column += 6 * place.endswith("right")
    mask = np.zeros((reach, reach), bool)
    middle = reach // 2
    if shape == "square":
        mask[:] = True
    elif shape == "cross":
        mask[middle] = mask[:, middle] = True
    elif shape == "ring":
        mask[:] = True
        mask[1:-1, 1:-1] = False
    else:
        mask[middle] = True
    image = random.integers(0, 40, (EXTENT, EXTENT, 3)) // 10 * 10
    image[row : row + reach, column : column + reach][mask] = np.array(INK[colour]) + random.integers(-20, 20, 3)
    return image.astype(np.uint8)


def pairs(captions: list[tuple[str, ...]], each: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """The drawings and the words of each caption, as numbers."""
    every = [caption for caption in captions for _ in range(each)]
    order = random.permutation(len(every))
    image = np.stack([drawing(every[k], random) for k in order])
    return {"image": image, "caption": np.array([[WORDS.index(word) for word in every[k]] for k in order], np.int32)}


def main() -> None:
    random = np.random.default_rng(0)
    known = [caption for caption in CAPTIONS if not is_new(caption)]
    np.savez_compressed(FOLDER / "pairs.npz", **pairs(known, EACH, random))
    np.savez_compressed(FOLDER / "test.npz", **pairs(list(CAPTIONS), 1, random))


if __name__ == "__main__":
    main()
