"""The shell around every command: check, then Hydra, then the command's own function.

    python train.py ...  ->  all mistakes at once, or  main(config) for each job

An entry point is a docstring, a `main(config)` that imports what it needs inside the function
(torch takes seconds to load, a typing mistake does not have to wait for it), and `run_command`.
That of edit.py, which makes no run in a folder and no sweep, ends in `run_edit`.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar, cast

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.logging import RichHandler

from configs.check import build, checked_words, config_text, load_edit_config
from configs.composing import CONFIG_DIR, chosen_mode, hydra_ready, to_plain
from configs.help import help_text
from configs.out_of_memory import explained_memory
from configs.rundir import check_output_dir, reserved_folder
from configs.schema import EditConfig, RunConfig
from configs.signals import requeue_after, signals
from configs.sweep import RESUME, Sweep
from configs.words import quote_words
from errors import USER_ERROR, ConfigError, Stopped, TmkeError, explained_places
from results.files import forget_ranks, is_first_process, is_one_of_several
from results.log_file import is_for_screen, recent
from results.screen import screen

Config = TypeVar("Config", bound=RunConfig)


def run_command(command: str, main: Callable[[Config], float | None]) -> None:
    """Runs a command as the user typed it; the last line of every entry point.

    A `TmkeError` ends the process with its message alone and status 2, a signal with a sentence and
    128 + its number; any other exception is a bug and keeps its traceback. An error ends a sweep
    only after its other jobs have run.

    Args:
        command: `train`, `evaluate` or `pretrain`; also the primary configuration's name.
        main: gets the checked configuration, once for every job; may return a score for sweepers.
    """
    signals.install()
    _start_logging()
    with _explained_end():
        sys.argv[1:] = _checked_arguments(command, sys.argv[1:])
    sweep = Sweep.of(get_args_parser().parse_args(sys.argv[1:]).overrides)

    def job(composed: DictConfig) -> float | None:
        running = HydraConfig.get()
        number = int(running.job.num) if running.mode == RunMode.MULTIRUN else None
        config = None

        def configure() -> Config:
            nonlocal config
            config = build(command, to_plain(composed), list(running.overrides.task), job=number)
            return cast("Config", config)

        def run(checked: Config) -> float | None:
            nonlocal config
            _settle_rank(checked)
            with reserved_folder(checked, to_plain(composed)) as config, explained_memory(config):
                sweep.folder = config.output_dir
                if not is_one_of_several():  # else all have to hear of it (runner.start)
                    check_output_dir(config)
                return main(config)

        try:
            if number is None:
                with explained_places():
                    return run(configure())
            _start_logging()  # a launcher may have brought this function into another process
            return sweep.run(composed, number, configure, run)
        except TmkeError as error:
            _stop(error)
        except Stopped as stopped:
            _end(stopped, config, in_sweep=number is not None)

    try:
        with _explained_end(), _mode_as_chosen(command), sweep.watched():
            hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=command)(job)()
    finally:
        signals.conclude()


def run_edit(main: Callable[[EditConfig], int]) -> NoReturn:
    """Runs edit.py as the user typed it; ends the process as `run_command` does.

    Args:
        main: gets the checked configuration; returns the exit status.
    """
    signals.install()
    _start_logging()
    with _explained_end():
        words, is_shown = _words_of_edit(sys.argv[1:])
        if is_shown:
            print(config_text("edit", words), end="")
            sys.exit(0)
        status = main(load_edit_config(words))
    signals.conclude()
    sys.exit(status)


def _words_of_edit(argv: list[str]) -> tuple[list[str], bool]:
    """The words of a command line, and whether the configuration is only shown.

    Flags are --help, which ends the process, and --cfg job.

    Raises:
        ConfigError: there are others.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-c", "--cfg", nargs="?", const="")
    flags, words = parser.parse_known_args(argv)
    if flags.help:
        print(help_text("edit"))
        sys.exit(0)
    wrong = [word for word in words if word.startswith("-")]
    wrong += [] if flags.cfg in (None, "job") else [f"--cfg {flags.cfg}".rstrip()]
    if wrong:
        raise ConfigError(
            f"edit.py takes no {', '.join(wrong)}: it makes one edit and no sweep, and its flags "
            "are --help and --cfg job"
        )
    return words, flags.cfg is not None


def _checked_arguments(command: str, argv: list[str]) -> list[str]:
    """Checks the command line; adds what a checkpoint on it implies.

    Flags that only show something (--cfg, --info) pass through unchecked; --help ends the process.
    """
    arguments = get_args_parser().parse_args(argv)
    if arguments.help:
        print(help_text(command))
        sys.exit(0)
    argv = quote_words(argv, multirun=arguments.multirun)
    arguments.overrides = quote_words(arguments.overrides, multirun=arguments.multirun)
    if any((arguments.hydra_help, arguments.cfg, arguments.info, arguments.shell_completion)):
        return argv
    with hydra_ready():
        words = checked_words(command, arguments.overrides, multirun=arguments.multirun)
    return [*argv, *words[len(arguments.overrides) :]]


@contextmanager
def _mode_as_chosen(command: str) -> Iterator[None]:
    """Tells Hydra `hydra.mode` in the block, for which it would compose everything once more."""
    arguments = get_args_parser().parse_args(sys.argv[1:])
    flags = (arguments.multirun, arguments.cfg, arguments.info, arguments.hydra_help)
    elsewhere = (arguments.config_dir, arguments.config_path, arguments.config_name)
    is_typed = any(word.lstrip("+~").startswith("hydra") for word in arguments.overrides)
    if any((*flags, *elsewhere, arguments.shell_completion, is_typed)):
        yield
        return
    with hydra_ready():
        mode = chosen_mode(command, arguments.overrides)
    composes, Hydra.get_mode = Hydra.get_mode, lambda *_, **__: mode  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = composes  # type: ignore[method-assign]


def _start_logging() -> None:
    """Log lines on stderr, so that stdout holds results alone; of several processes rank 0's."""
    handler = RichHandler(console=screen(stderr=True), show_path=False, rich_tracebacks=False)
    handler.addFilter(is_for_screen)
    for client in ("httpx", "httpx2"):  # they log each call to a hub
        logging.getLogger(client).setLevel(logging.WARNING)
    logging.basicConfig(
        level=logging.INFO if is_first_process() else logging.ERROR,
        format="%(message)s",
        datefmt="[%X]",
        handlers=[handler, recent],
    )


def _settle_rank(config: RunConfig) -> None:
    """A run of one process is the first one, whatever the environment says."""
    if not config.trainer.many_processes:
        forget_ranks()
        logging.getLogger().setLevel(logging.INFO)


@contextmanager
def _explained_end() -> Iterator[None]:
    """Ends the process after a mistake or a signal that belongs to no job.

    That is while the command line is checked, while Hydra composes, or between two jobs.
    """
    try:
        with explained_places():
            yield
    except TmkeError as error:
        _stop(error)
    except Stopped as stopped:
        _end(stopped)


def _stop(error: TmkeError) -> NoReturn:
    """Ends the process with the message of a mistake that the user can mend."""
    signals.conclude()
    print(f"error: {error}", file=sys.stderr)
    sys.exit(USER_ERROR)


def _end(stopped: Stopped, config: RunConfig | None = None, *, in_sweep: bool = False) -> NoReturn:
    """Ends the process after a signal, with how to go on."""
    signals.conclude()
    if is_first_process():
        print(f"{stopped}{_how_to_go_on(stopped, config, in_sweep)}", file=sys.stderr)
    sys.exit(stopped.status)


def _how_to_go_on(stopped: Stopped, config: RunConfig | None, in_sweep: bool) -> str:
    if config is None:
        return ""
    if getattr(config, "recipe", True) is None:
        return ". Pretraining is not continued: start it anew with overwrite=true"
    words = f"the same command with resume=true output_dir={config.output_dir} goes on with the run"
    if in_sweep:
        words = f"{words} in this job's folder, without -m and with this job's values; {RESUME}"
    is_queued, clause = requeue_after(stopped.number)
    return clause if is_queued else f"{clause}; {words}"
