"""Many pairs of processes that come together and then do what their words say, all at once.

    python tests/e2e/many_groups.py FILE "WORD WORD" ...

What `tests/e2e/in_a_group.py` does in a command of its own costs seconds there; here every process
is a fork of one that has its configuration. FILE gets, by pair, both exit statuses and what was
printed, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs.check import load_config
from configs.schema import RunConfig
from configs.signals import signals
from errors import Stopped, exit_status
from runner.start import start
from tests.e2e.in_a_group import act
from tests.e2e.ranks import environment, free_port


def main(file: str, pairs: list[str]) -> None:
    cfg = load_config("train", ["experiment=demo", "editor=mend", "trainer=ddp_cpu"])
    pids: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, pair in enumerate(pairs):
            port = free_port()
            for rank, word in enumerate(pair.split()):
                pid = os.fork()
                if pid == 0:
                    os.environ.update(environment("torchrun", rank, port))
                    _play(cfg, word, f"{folder}/{number}")
                pids.setdefault(pair, []).append(pid)
        ends = {
            pair: [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in both]
            for pair, both in pids.items()
        }
        said = {pair: Path(folder, str(n)).read_text() for n, pair in enumerate(pairs)}
    content = {pair: {"statuses": ends[pair], "printed": said[pair]} for pair in pairs}
    Path(file).write_text(json.dumps(content))


def _play(cfg: RunConfig, word: str, output: str) -> NoReturn:
    """One process of a pair, which ends as a command does (configs.launch)."""
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    signals.install()

    def command() -> int:
        with start(cfg, parallel=True):
            act(word)
        return 0

    status = 1
    try:
        status = exit_status(command)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        status = stopped.status
    except SystemExit as end:
        status = int(end.code or 0)
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
