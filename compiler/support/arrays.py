"""NumPy, imported when it is first used: commands that only check a text never load it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    import numpy as np
else:

    class _NumPy:
        """Has the attributes of the module, which takes longer to import than a small file to be checked."""

        def __getattr__(self, name: str) -> object:
            import numpy

            found = getattr(numpy, name)
            setattr(self, name, found)
            return found

    np = _NumPy()

Array: TypeAlias = "np.ndarray[Any, Any]"

__all__ = ["Array", "as_array", "np"]


def as_array(values: object) -> Array:
    """An array from whatever holds numbers: also by `__dlpack__`, the one protocol that `asarray` does not read."""
    array = np.asarray(values)
    if array.ndim == 0 and array.dtype.kind == "O" and hasattr(values, "__dlpack__"):
        return np.from_dlpack(cast("Any", values))
    return array
