"""A mapping of bounded weight, which forgets what was asked for longest ago, and short keys for texts."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Recent(Generic[_Key, _Value]):
    """Values by key, each with a weight. Together they weigh at most `most`; the newest is kept whatever it weighs."""

    def __init__(self, most: int) -> None:
        self._most, self._weight = most, 0
        self._kept: dict[_Key, tuple[_Value, int]] = {}  # the one that was used last at the end

    def get(self, key: _Key) -> _Value | None:
        found = self._kept.pop(key, None)
        if found is None:
            return None
        self._kept[key] = found
        return found[0]

    def put(self, key: _Key, value: _Value, weight: int = 1) -> _Value:
        """Keep a value, and forget the oldest ones as far as needed; the value."""
        self._weight += weight - self._kept.pop(key, (None, 0))[1]
        self._kept[key] = value, weight
        while self._weight > self._most and len(self._kept) > 1:
            self._weight -= self._kept.pop(next(iter(self._kept)))[1]
        return value

    def __len__(self) -> int:
        return len(self._kept)


def digest_of(texts: Iterable[str]) -> bytes:
    """A key for texts that keeps none of them."""
    digest = blake2b(digest_size=16)
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()
