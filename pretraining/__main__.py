"""Assesses a taught model anew and brings its manifest up to date; the weights stay.

    python -m pretraining model=llava_tiny data=world
    python -m pretraining model=llava_tiny model.path=DIR data=folder data.root=WORLD

The words are those of pretrain.py.
"""

from __future__ import annotations

import sys

from configs.check import load_config
from configs.schema import PretrainConfig
from errors import exit_status


def main() -> int:
    """Runs the command line: 0, or 2 after an error that the user can fix."""
    from pretraining.run import reassess
    from results.screen import screen
    from runner.start import start

    def command() -> int:
        cfg = load_config("pretrain", sys.argv[1:])
        assert isinstance(cfg, PretrainConfig)
        with start(cfg):
            screen().print_json(data=reassess(cfg)["held"])
        return 0

    return exit_status(command)


if __name__ == "__main__":
    sys.exit(print(__doc__) if {"-h", "--help"} & set(sys.argv) else main())
