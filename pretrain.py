"""Teaches a multimodal LLM a world, so that there is something to edit without a download.

`python pretrain.py --help` shows examples and options.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from configs.launch import run_command

if TYPE_CHECKING:  # nothing heavy is imported before the options are checked
    from configs.schema import PretrainConfig


def main(cfg: PretrainConfig) -> None:
    """Pretrains one model and says what it knows."""
    if cfg.recipe is None:
        _tiny(cfg)
    else:
        _around(cfg)


def _tiny(cfg: PretrainConfig) -> None:
    """From random weights."""
    from rich.text import Text

    from configs.rundir import output_folder
    from lightning_modules.callbacks import ProgressBar
    from loggers.run_loggers import open_loggers
    from pretraining.run import pretrain
    from results.screen import screen
    from runner.start import start

    with start(cfg):
        world = cfg.data.open_world()
        name = f"{cfg.model.name} pretraining"
        with output_folder(cfg) as folder, open_loggers(cfg, folder, name=name) as loggers:
            bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
            manifest = pretrain(cfg, world, folder / "model", loggers=loggers, callbacks=bar)
    console = screen()
    console.print_json(data=manifest["accuracy"])
    console.print(Text("model", style="bold"), folder / "model", soft_wrap=True)


def _around(cfg: PretrainConfig) -> None:
    """Around a language model that exists."""
    from rich.text import Text

    from configs.rundir import output_folder
    from lightning_modules.callbacks import ProgressBar
    from loggers.run_loggers import open_loggers
    from results.files import STAGES
    from results.screen import screen
    from runner.start import start

    with start(cfg) as placement:
        # peft loads bitsandbytes, which `start` keeps from telling of a kernel that nobody needs
        from pretraining.around import build_around, find_parts_of, summary_tables
        from pretraining.stage_files import steps_of_run
        from pretraining.stages import Stages

        world = cfg.data.open_world()
        source = find_parts_of(cfg, world)
        name = f"{cfg.model.name} pretraining"
        with ExitStack() as opened:
            folder = opened.enter_context(output_folder(cfg))
            done = steps_of_run(folder / STAGES)
            loggers = opened.enter_context(
                open_loggers(cfg, folder, name=name, continue_after=done)
            )
            bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
            stages = Stages(cfg.trainer, placement.device, loggers, bar, done)
            manifest = build_around(cfg, world, source, folder, stages)
    console = screen()
    for table in summary_tables(manifest):
        console.print(table)
    for what in ("parts", "model"):
        console.print(Text(what, style="bold"), folder / what, soft_wrap=True)


if __name__ == "__main__":
    run_command("pretrain", main)
