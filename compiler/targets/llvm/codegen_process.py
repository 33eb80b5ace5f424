"""The whole of a code generation worker: modules in on standard input, objects out on standard output.

A worker is started as this file, alone: only the LLVM binding is imported, so that it is ready in some 40 ms. Request:
the length of a module's text in eight bytes, then the text. Answer: a byte that is 1 for an object and 0 for an error,
the length, then the object or the message. A worker ends when its input ends, or with LLVM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

TYPE_CHECKING = False  # as in `typing`, whose import would be a tenth of a worker's start
if TYPE_CHECKING:
    from typing import IO

LENGTH_BYTES = 8


def write_message(stream: IO[bytes], content: bytes, prefix: bytes = b"") -> None:
    stream.write(prefix + len(content).to_bytes(LENGTH_BYTES, "little") + content)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes:
    """Raises `EOFError` if the other side is gone."""
    length = int.from_bytes(_read_exactly(stream, LENGTH_BYTES), "little")
    return _read_exactly(stream, length)


def read_answer(stream: IO[bytes]) -> tuple[bool, bytes]:
    """Whether it is an object, and the object or the error message."""
    is_object = _read_exactly(stream, 1) == b"\1"
    return is_object, read_message(stream)


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def serve(compile_text: Callable[[str], bytes], requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until the input ends."""
    while True:
        try:
            text = read_message(requests).decode()
        except EOFError:
            return
        try:
            write_message(answers, compile_text(text), b"\1")
        except ValueError as error:
            write_message(answers, str(error).encode(), b"\0")


def main(root: str, library: str, triple: str, cpu: str, features: str) -> None:
    """Serve standard input and output. `root` is the folder that holds the compiler's package."""
    sys.path.insert(0, root)
    from compiler.targets.llvm.llvm import Llvm, LlvmError  # only now can it be found

    llvm = Llvm(library)
    llvm.initialise(triple)
    machine = llvm.target_machine(triple, cpu, features)

    def compile_text(text: str) -> bytes:
        try:
            return llvm.emit_for(machine, triple, text, as_object=True, verify=False)
        except LlvmError as error:
            raise ValueError(str(error)) from error

    serve(compile_text, sys.stdin.buffer, sys.stdout.buffer)
    sys.stdout.flush()
    os._exit(0)  # LLVM's destructors take longer than its work


if __name__ == "__main__":
    main(*sys.argv[1:])
