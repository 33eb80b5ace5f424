"""The parameters and states of a model, by path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from compiler.driver import Array, Tensors
from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.types import array_type
from runtime.support.caller import for_caller


class Parameters(Mapping[str, Array]):
    """The parameters and states of a model by path.

    The arrays are views of the model, for reading: what is derived from one, such as packed weights, is made anew when
    it is assigned to.
    """

    def __init__(self, tensors: Tensors, names: Sequence[str]) -> None:
        self._tensors, self._names = tensors, dict.fromkeys(names)

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._tensors[name]

    @for_caller
    def __setitem__(self, name: str, values: Array | float) -> None:
        """Numbers of any type, in the shape of the parameter or one that broadcasts to it."""
        if name not in self._names:
            raise UsageError(
                f"there is no parameter `{name}`{did_you_mean(name, self._names, '; ')}",
                f"it has {quoted(self._names)}",
            )
        present = self._tensors[name]
        try:
            given = np.broadcast_to(np.asarray(values, present.dtype), present.shape)
        except (TypeError, ValueError) as error:
            what = f"`{name}` is {array_type(present)}, which this does not fit: {error}"
            raise UsageError(what, "give one number, or an array of its shape") from error
        self._tensors.write(name, given)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {array_type(self._tensors[name])}" for name in self._names)
        return f"Parameters({shapes})"

    def _repr_html_(self) -> str:
        from runtime.api.displays import parameters_html

        return parameters_html(self)
