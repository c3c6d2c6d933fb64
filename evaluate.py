"""Judges an editor: single edits, every probe of every edit, results on disk and on screen.

    python evaluate.py ckpt=DIR/checkpoints/best.ckpt scenario=multimodal
    python evaluate.py editor=ft model=llava_tiny scenario=transitive experiment=demo

`python evaluate.py --help` and the files in configs/ explain every option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.launch import run_command
from lightning_modules.stored import read_stored

if TYPE_CHECKING:  # nothing heavy is imported before the options are checked
    from pathlib import Path

    import lightning as L

    from configs.schema import EvaluateConfig


def main(cfg: EvaluateConfig) -> None:
    """Evaluates one editor in one scenario."""
    from configs.rundir import prepare_output_dir
    from datamodules.scenarios import SCENARIOS
    from editors.base import Setting
    from lightning_modules import assembly
    from lightning_modules.evaluation import EvaluationModule
    from lightning_modules.loggers import open_loggers
    from lightning_modules.processes import ending_together
    from lightning_modules.start import start
    from lightning_modules.summary import summarise
    from lightning_modules.training import check_checkpoint, load_editor

    placement = start(cfg)
    scenario = SCENARIOS[cfg.scenario.name]
    source = assembly.read_source(cfg.data)
    data = assembly.make_data(cfg, source, {"test": scenario})
    processor = assembly.open_processor(cfg.model)
    assembly.check_base(cfg.editor, cfg.model)
    model = assembly.open_model(cfg.model, placement.device)
    check_checkpoint(cfg.ckpt, cfg.editor, model)
    encoder = assembly.connect(data, model, processor, cfg.data.prompt)
    setting = Setting(encoder, assembly.training_records(source))
    editor = assembly.make_editor(cfg.editor, model, setting)
    data.setup("test")
    if cfg.ckpt is not None:
        load_editor(cfg.ckpt, editor, model, data)

    folder = prepare_output_dir(cfg)
    opened = open_loggers(
        cfg,
        folder,
        name=f"{cfg.editor.name} {cfg.model.name} {cfg.scenario.name}",
        curves=False,
    )
    module = EvaluationModule(model, editor, scenario, encoder.decode)
    with opened as loggers:
        trainer = assembly.make_trainer(cfg.trainer, loggers=loggers, root=folder)
        with ending_together(trainer):
            trainer.test(module, datamodule=data, verbose=False)
            rows = module.gathered_rows()
            summary = summarise(cfg, data, module, model, encoder, rows)
        if trainer.is_global_zero:
            save(folder, summary, rows, trainer)


def save(
    folder: Path, summary: dict[str, Any], rows: list[dict[str, object]], trainer: L.Trainer
) -> None:
    """Writes the result's files, shows its table and sends it to the loggers."""
    import pandas as pd
    from rich.console import Console

    from lightning_modules.loggers import log_result_table
    from reporting.console import result_table
    from reporting.results import write_edits, write_summary, write_table
    from reporting.tables import run_markdown

    write_edits(folder, rows)
    run = write_summary(folder, summary)
    write_table(folder, run_markdown(run))
    table = [{"metric": name, **value.as_dict()} for name, value in run.metrics.items()]
    log_result_table(trainer.loggers, "result", pd.DataFrame(table).astype({"ci95": str}))
    Console().print(result_table(run), f"Written to {folder}")


if __name__ == "__main__":
    run_command("evaluate", main, read_checkpoint=read_stored)
