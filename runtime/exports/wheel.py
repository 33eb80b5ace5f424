"""A shared library as a package for Python, which needs NumPy alone: a wheel."""

from __future__ import annotations

import base64
import hashlib
import io
import keyword
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from compiler.machine import Machine

VERSION = "1.0.0"
_TIME = (1980, 1, 1, 0, 0, 0)  # so that equal models are equal files


def wheel(model: str, machine: Machine, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The name and the content of a wheel with the class `Model`; `files` are the library and its manifest."""
    package = _package(model)
    tag = f"py3-none-linux_{machine.architecture}"
    notes = f"{package}-{VERSION}.dist-info"
    content = {
        f"{package}/__init__.py": Path(__file__).with_name("served_model.py").read_bytes(),
        f"{package}/py.typed": b"",
        **{f"{package}/{name}": file for name, file in files.items()},
        f"{notes}/METADATA": _METADATA.format(package=package, version=VERSION, model=model).encode(),
        f"{notes}/WHEEL": f"Wheel-Version: 1.0\nGenerator: dlc\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{name},sha256={_digest(file)},{len(file)}\n" for name, file in content.items())
    content[f"{notes}/RECORD"] = f"{record}{notes}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in content.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), file, zipfile.ZIP_DEFLATED)
    return f"{package}-{VERSION}-{tag}.whl", packed.getvalue()


def _package(model: str) -> str:
    """The name of the model in snake case, unless Python has that word or module, or it is NumPy's."""
    name = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", model).lower()).strip("_") or "model"
    is_taken = keyword.iskeyword(name) or name == "numpy" or name in sys.stdlib_module_names
    return f"{name}_model" if is_taken else name


def _digest(file: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(file).digest()).rstrip(b"=").decode()


_METADATA = """\
Metadata-Version: 2.1
Name: {package}
Version: {version}
Summary: The model {model}, compiled by dlc
Requires-Python: >=3.10
Requires-Dist: numpy
"""
