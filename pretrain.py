"""Teaches a tiny multimodal LLM a world, so that there is something to edit without a download.

`python pretrain.py --help` shows examples and options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.launch import run_command

if TYPE_CHECKING:  # nothing heavy is imported before the options are checked
    from configs.schema import PretrainConfig


def main(cfg: PretrainConfig) -> None:
    """Pretrains one tiny model and says what it knows."""
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


if __name__ == "__main__":
    run_command("pretrain", main)
