"""Ends the processes of a run together: each has a connection to the first, and a thread listens.

    rank r -> rank 0    hello, end, left
    rank 0 -> rank r    agreed, end, over

A process that fails says so (`end`) and rank 0 passes on the first such word; a connection that
closes without a word is a process that was killed. The others then have a moment to come to their
own end before the thread ends them. None of this needs the process group: it works before there is
one, and while a collective hangs that its backend would never give up.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import wait as wait_for_any
from operator import attrgetter
from typing import Any
from weakref import WeakSet

from errors import SIGNALLED, USER_ERROR

_PERIOD = 0.2  # seconds between two looks at child processes and deadlines
_GRACE = 1.0  # to come to an end by oneself when another process has failed
_TO_UNWIND = 30.0  # of the process that speaks, whose loggers may have something to send
_ANSWER = 10.0  # for rank 0 to say which word was the first


@dataclass(frozen=True)
class End:
    """How a run ends that does not come to its end.

    Attributes:
        rank: of the process that says why; of a signal it is the first one.
        status: of all processes.
        message: what it says, if it cannot unwind.
    """

    rank: int
    status: int
    message: str


class Wire:
    """Messages over a connection: a line of JSON each, a kind and a content."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connection, self._unread = connection, b""
        _OPEN.add(connection)

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        self._connection.close()

    def send(self, kind: str, content: object = None) -> None:
        """Sends a message; nothing happens where nobody listens any more."""
        with suppress(OSError):
            self._connection.sendall(f"{json.dumps([kind, content])}\n".encode())

    def receive(self) -> tuple[list[tuple[str, Any]], bool]:
        """Messages that have come, and whether the connection still stands; may wait for both."""
        try:
            received = self._connection.recv(1 << 16)
        except OSError:
            received = b""
        *lines, self._unread = (self._unread + received).split(b"\n")
        try:
            return [tuple(json.loads(line)) for line in lines], bool(received)
        except ValueError:  # no process of ours
            return [], False


_OPEN: WeakSet[socket.socket] = WeakSet()


def _close_in_child() -> None:
    """A data worker must not hold its parent's connections, or nobody sees the parent die."""
    for connection in list(_OPEN):
        connection.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class Watch:
    """The connections of one process, and the thread that listens.

    Args:
        rank: of this process.
        size: number of processes.
        last_words: makes what this process says if its thread has to end it.

    Attributes:
        end: how the run ends, once one of its processes has failed.
    """

    def __init__(
        self, rank: int, size: int, last_words: Callable[[End], str] = attrgetter("message")
    ) -> None:
        self.rank, self.size, self._last_words = rank, size, last_words
        self.end: End | None = None
        self._heard: dict[tuple[int, str], Any] = {}
        self._wires: dict[int, Wire] = {}
        self._strangers: list[Wire] = []  # connections that have not said their rank yet
        self._listener: socket.socket | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._token = ""
        self._is_printed = self._is_closed = False
        self._deadline = math.inf  # of this process, once the run has failed
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)

    def serve(self, host: str, token: str) -> int:
        """Opens the first process for the others.

        Args:
            host: where they will connect to.
            token: what they have to know.

        Returns:
            The port.
        """
        local = host in ("127.0.0.1", "localhost")
        self._listener = socket.create_server(("127.0.0.1" if local else "", 0))
        _OPEN.add(self._listener)
        self._token = token
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def connect(self, host: str, port: int, token: str, hello: object) -> None:
        """Connects another process with the first one.

        Raises:
            OSError: nobody is there.
        """
        connection = socket.create_connection((host, port), timeout=_TO_UNWIND)
        connection.settimeout(None)
        wire = self._wires[0] = Wire(connection)
        wire.send("hello", {"rank": self.rank, "token": token, "content": hello})
        self._thread.start()

    def look_after(self, children: Mapping[int, subprocess.Popen[bytes]]) -> None:
        """Watches processes that this one has launched, by rank."""
        with self._news:
            self._children.update(children)

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Waits until something is so.

        Raises:
            SystemExit: another process has failed meanwhile.
        """
        with self._news:
            self._news.wait_for(lambda: self.end is not None or ready(), timeout)
            if self.end is not None:
                raise SystemExit(self.end.status)
            return ready()

    def hellos(self) -> dict[int, Any]:
        """What the other processes have said when they came, by rank."""
        return {rank: value for (rank, kind), value in self._heard.items() if kind == "hello"}

    def tell(self, kind: str, content: object = None) -> None:
        """Sends a message over all connections."""
        with self._news:
            for wire in self._wires.values():
                wire.send(kind, content)

    def heard(self, kind: str, rank: int = 0) -> bool:
        return (rank, kind) in self._heard

    def message(self, kind: str) -> Any:
        """The content of a message of rank 0."""
        return self._heard[0, kind]

    def announce(self, status: int, message: str) -> None:
        """Says that this process has failed. The first to say so speaks for all."""
        end = End(self.rank, status, message)
        with self._news:
            if self.end is None and self.rank == 0:
                self._settle(end, _TO_UNWIND)
            elif self.end is None and not self._wires:
                self.end = end
            elif self.end is None:
                self._deadline = time.monotonic() + _TO_UNWIND
                self._heard[self.rank, "end"] = end
                self.tell("end", asdict(end))
                self._news.wait_for(lambda: self.end is not None, timeout=_ANSWER)
                self.end = self.end or end

    @property
    def speaks(self) -> bool:
        """Whether this process has to say why the run has ended."""
        return self.end is not None and self.end.rank == self.rank and not self._is_printed

    def learns(self, seconds: float) -> bool:
        """Waits for word that another process has failed."""
        with self._news:
            return self._news.wait_for(lambda: self.end is not None, seconds)

    def finish(self) -> None:
        """Waits until every process has come to its end.

        Raises:
            SystemExit: another process has failed meanwhile.
        """
        if self.rank == 0:
            others = range(1, self.size)
            self.wait(lambda: all(self.heard("left", rank) for rank in others))
            self.tell("over")
        else:
            self.tell("left")
            self.wait(lambda: self.heard("over"))

    def outlive_others(self) -> None:
        """Waits until the others have ended; kills those that this process has launched."""
        with self._news:
            if self.rank == 0:
                self._news.wait_for(lambda: not self._wires, _ANSWER)
        until = time.monotonic() + _ANSWER
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, until - time.monotonic()))
        self._kill_children()

    def close(self) -> None:
        """Closes the connections; nothing is watched any more."""
        self._is_closed = True
        if self._thread.is_alive():
            self._thread.join()
        for wire in (*self._wires.values(), *self._strangers):
            wire.close()
        if self._listener is not None:
            self._listener.close()

    def _listen(self) -> None:
        while not self._is_closed:
            listener = [self._listener] if self._listener else []
            sources: list[Any] = [*listener, *self._wires.values(), *self._strangers]
            ready: list[Any] = wait_for_any(sources, _PERIOD)
            with self._news:
                for source in ready:
                    if source in listener:
                        self._strangers.append(Wire(source.accept()[0]))
                    else:
                        self._read(source)
                self._look_at_children()
                if time.monotonic() > self._deadline:
                    self._end_process()
                self._news.notify_all()

    def _read(self, wire: Wire) -> None:
        messages, stands = wire.receive()
        for kind, content in messages:
            if wire in self._strangers:
                self._introduce(wire, kind, content)
                continue
            rank = next(rank for rank, known in self._wires.items() if known is wire)
            self._heard[rank, kind] = content
            if kind == "end" and self.end is None:
                self._take(End(**content))
        if not stands:
            self._lose(wire)

    def _take(self, end: End) -> None:
        """Another process has failed, or this one's word came back as the first."""
        if self.rank == 0 and end.status > SIGNALLED:
            end = replace(end, rank=0)
            number = end.status - SIGNALLED
            if callable(signal.getsignal(number)):
                os.kill(os.getpid(), number)  # it may have reached that process alone
        if end.rank == self.rank:
            self._settle(end, _TO_UNWIND)
        else:  # the first one passes the word on, and stays until it has arrived
            self._settle(end, _GRACE if self.rank else 2 * _GRACE)

    def _introduce(self, wire: Wire, kind: str, content: Any) -> None:
        if kind == "hello" and content["token"] == self._token:
            self._strangers.remove(wire)
            self._wires[content["rank"]] = wire
            self._heard[content["rank"], kind] = content["content"]

    def _lose(self, wire: Wire) -> None:
        """A connection has closed: its process has ended, or was killed."""
        wire.close()
        if wire in self._strangers:
            self._strangers.remove(wire)
            return
        rank = next(rank for rank, known in self._wires.items() if known is wire)
        del self._wires[rank]
        expected = self.heard("left", rank) or self.heard("over", rank)
        if self.end is None and not expected:
            announced = self._heard.get((self.rank, "end"))
            if announced is not None:  # it had no time to pass our word on
                self._settle(announced, _TO_UNWIND)
            else:
                self._notice_loss(rank)

    def _look_at_children(self) -> None:
        """A process that ends before it has connected has failed, whatever its status is."""
        for rank, child in self._children.items():
            if self.end is None and child.poll() is not None and not self._has_met(rank):
                self._notice_loss(rank)

    def _has_met(self, rank: int) -> bool:
        """Whether a process that has ended was connected, so that its connection tells of it."""
        return self.heard("hello", rank) if self.rank == 0 else self._children[rank].returncode == 0

    def _notice_loss(self, rank: int) -> None:
        """Ends the run because a process is gone; of those that notice the lowest rank says so."""
        message = (
            f"another process of this run ended (rank {rank}), so all of them did; what it said "
            "stands above. If it said nothing, it was killed, most often for want of memory."
        )
        speaker = self.rank if rank > 0 else 1
        end = End(speaker, USER_ERROR, message)
        if self.rank > 0:
            self.tell("end", asdict(end))
        self._settle(end, _GRACE)
        if self.speaks:
            self._print_end(message)

    def _settle(self, end: End, seconds: float) -> None:
        """Fixes how the run ends, for all processes if this is the first one."""
        if self.rank == 0:
            self.tell("end", asdict(end))
        self.end, self._deadline = end, time.monotonic() + seconds
        self._news.notify_all()

    def _print_end(self, message: str) -> None:
        self._is_printed = True
        word = "" if self.end and self.end.status > SIGNALLED else "error: "
        print(f"{word}{message}", file=sys.stderr, flush=True)

    def _kill_children(self) -> None:
        for child in self._children.values():
            if child.poll() is None:
                child.kill()
            child.wait()

    def _end_process(self) -> None:
        """Ends this process from the thread, as its main thread hangs or does what is lost."""
        assert self.end is not None
        if self.speaks:
            self._print_end(self._last_words(self.end))
        self._kill_children()
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                stream.write("\x1b[?25h")  # a progress bar has hidden the cursor
            stream.flush()
        os._exit(self.end.status)
