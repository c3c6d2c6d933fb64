"""How the processes of a run find each other."""

from __future__ import annotations

import pytest
from torch import distributed

from errors import ConfigError
from runner.processes import _meet
from runner.watch import Watch
from tests.e2e.ranks import free_port


def test_a_first_process_behind_a_firewall_is_named() -> None:
    """The store is open to all, and the port that the system chose is not."""
    store, port = distributed.HashStore(), free_port()
    store.set("hub", f"{port} token")
    with pytest.raises(ConfigError, match=f"rank 1 does not reach the first process.*:{port} "):
        _meet(Watch(1, 2), "127.0.0.1", store, {})
