"""Records of the benchmark from facts in a table: `python -m construction --help` tells how."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from configs.construction_words import construction_help, load_construction_config
from configs.signals import signals
from errors import ConfigError, Stopped, exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        Exit status: 0 when every row is complete, 1 when some are not, 2 for a mistake of the user,
        128 + its number after a signal.
    """
    parser = argparse.ArgumentParser(prog="python -m construction", add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    options, unknown = parser.parse_known_args(arguments)
    if options.help:
        print(construction_help())
        return 0
    signals.install()
    try:
        return exit_status(lambda: _construct([*options.words, *unknown]))
    except Stopped as stopped:
        print(f"{stopped}: the same command goes on", file=sys.stderr)
        return stopped.status
    finally:
        signals.conclude()


def _construct(words: Sequence[str]) -> int:
    """Runs the steps one after the other.

    Raises:
        TmkeError: a mistake of the user.
    """
    if flags := [word for word in words if word.startswith("-")]:
        raise ConfigError(f"there is no flag {flags[0]}: keys are typed as KEY=VALUE; see --help.")
    config = load_construction_config(words)
    for client in ("httpx", "httpx2", "openai"):  # they log each call and each retry
        logging.getLogger(client).setLevel(logging.WARNING)
    from construction.run import run

    return run(config)


if __name__ == "__main__":
    sys.exit(main())
