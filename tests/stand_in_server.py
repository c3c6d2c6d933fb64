"""The HTTP server under the stand-ins of services that this project talks to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class StandInServer(ThreadingHTTPServer):
    """A server on loopback that says nothing of clients that are gone.

    Its threads may outlive the test that started it: what they print would stand in the output
    that the next test looks at.
    """

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed, or closed its connection, is part of the tests."""


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[StandInServer]:
    """A server on a free port, which listens until the block ends."""
    server = StandInServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
