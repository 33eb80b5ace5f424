"""A socket for a page of this machine, before anything is computed for it."""

from __future__ import annotations

import socket
from importlib.util import find_spec

from compiler.errors.diagnostics import UsageError


def listening_on_loopback(port: int, who: str, otherwise: str = "") -> socket.socket:
    """It listens, so that what connects waits for its server. Raises UsageError, also where packages are missing."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise UsageError(f"{who} needs {', '.join(missing)}", f"pip install 'dlc[view]'{otherwise}")
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UsageError(f"port {port}: {error.strerror}", "choose another --port (0 takes a free one)") from error
