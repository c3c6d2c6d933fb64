"""Stands for the interpreter in a recipe of make, and runs its commands in the warm process.

A recipe of several commands would import torch anew for each, which takes longer than most of them.
As a script, this hands what it is given to the test at the other end of a socket.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "TMKE_WARM_SOCKET"  # in the environment: where the test listens


def main() -> int:
    """Runs `SCRIPT OPTIONS` elsewhere, with this environment and output; returns its status."""
    address = os.environ[SOCKET]
    streams = [Path(f"{address}-{os.getpid()}-{name}") for name in ("out", "err")]
    request = {
        "command": sys.argv[1:], "streams": [*map(str, streams)], "environment": dict(os.environ),
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(f"{json.dumps(request)}\n".encode())
        status = int(connection.makefile().readline())
    for path, stream in zip(streams, (sys.stdout, sys.stderr), strict=True):
        stream.write(path.read_text(encoding="utf-8"))
    return status


@contextmanager
def warm_python(folder: Path) -> Iterator[dict[str, str]]:
    """Answers such scripts as long as the block lasts.

    Args:
        folder: for the socket.

    Yields:
        The variable of make that names this interpreter, and what it needs in its environment.
    """
    import threading

    from tests.e2e.commands import Warm

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # the block has ended
                return
            with connection:
                request = json.loads(connection.makefile().readline())
                process = Warm(request["command"], request["streams"], request["environment"])
                connection.sendall(f"{process.wait()}\n".encode())

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "warm"))
        listener.listen()
        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield {"PY": f"{sys.executable} -S -E {__file__}", SOCKET: str(folder / "warm")}
        listener.shutdown(socket.SHUT_RDWR)
    server.join()


if __name__ == "__main__":
    sys.exit(main())
