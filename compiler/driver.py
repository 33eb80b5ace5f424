"""The public door of the compiler: source text to checked programs to executables."""

from compiler.interface import Array, Executable, Options, Results, Tensors

__all__ = ["Array", "Executable", "Options", "Results", "Tensors"]
