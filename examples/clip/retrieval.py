"""How many drawings of the test find their caption among all 128, and how many captions their drawing.

dlc predict RUN --input examples/clip/test.npz --output found.npz
python examples/clip/retrieval.py found.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
FIRST = np.array([0, 2, 6, 10])  # of the sizes, colours, shapes and places among the words


def retrieval(picture: np.ndarray, text: np.ndarray, caption: np.ndarray) -> dict[str, float]:
    """Shares that are found, of all and of those whose captions are in the test alone."""
    scores, own = picture @ text.T, np.arange(len(text))
    of_drawings, of_captions = scores.argmax(axis=1) == own, scores.argmax(axis=0) == own
    is_new = (caption - FIRST).sum(axis=1) % 4 == 0
    return {
        "captions of drawings": float(of_drawings.mean()),
        "captions of drawings, new ones": float(of_drawings[is_new].mean()),
        "drawings of captions": float(of_captions.mean()),
        "drawings of captions, new ones": float(of_captions[is_new].mean()),
    }


def main() -> None:
    with np.load(sys.argv[1]) as found, np.load(FOLDER / "test.npz") as test:
        for what, share in retrieval(found["picture"], found["text"], test["caption"]).items():
            print(f"{what}: {share:.3f}")


if __name__ == "__main__":
    main()
