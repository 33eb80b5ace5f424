"""NumPy, imported when it is first used: commands that only check a text never load it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

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

__all__ = ["Array", "np"]
