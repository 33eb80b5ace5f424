"""`objective`, the fourth parameter of an optimizer: a function of all its parameters as one vector."""

from __future__ import annotations

from compiler.frontend.builtins.table import Arguments, Builtin, BuiltinParameter
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.binding import expect_tensor
from compiler.frontend.values import BuiltinValue, TensorValue, TupleValue, Value
from compiler.ops.objective import Objective
from compiler.types import TensorType


def objective_of(name: str, type_: TensorType) -> BuiltinValue:
    """The function called `name` of points of `type_`, which are f32[n]."""

    def evaluate(elaborator: Elaborator, arguments: Arguments) -> Value:
        given = [key for key in ("p", "direction") if arguments[key] is not None]
        tensors = [expect_tensor(elaborator, arguments[key], f"`{key}` of `{name}`") for key in given]
        for key, tensor in zip(given, tensors, strict=True):
            if tensor.value.type != type_:
                elaborator.fail("E0417", f"`{key}` of `{name}` is {type_}, not {tensor.value.type}")
        results = elaborator.emit_all(Objective(), *(tensor.value for tensor in tensors))
        vector = tensors[0].axes
        return TupleValue(tuple(TensorValue(result, vector if result.type.rank else ()) for result in results))

    parameters = (BuiltinParameter("p"), BuiltinParameter("direction", default=None))
    document = "The loss and its gradient at `p`; with a direction, also the product of the Hessian with it."
    return BuiltinValue(Builtin(name, parameters, document, evaluate), {})
