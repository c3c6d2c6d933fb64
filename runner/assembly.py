"""From checked options to the objects of a run: data, model, editor, trainer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import (
    AdvancedProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)

from configs.out_of_memory import explained_loading
from configs.schema import EditingConfig, EvaluateConfig, ModelOptions, TrainerOptions
from datamodules.datamodule import EditDataModule
from datamodules.fact_marks import TaughtFacts, read_fact_marks
from datamodules.images import ImageStore
from datamodules.left_out import LeftOut, log_left_out
from datamodules.order import rank_and_world
from datamodules.prompt_encoder import PictureLayout, PromptEncoder, PromptForm
from datamodules.record_table import select
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS, Scenario, with_end, with_tie
from datamodules.source import RecordSource, Split
from editors.base import Editor, EditorInputs
from editors.options import BaseFacts, EditorOptions, TrainedEditorOptions
from editors.registry import build_editor
from errors import ConfigError, DataError
from lightning_modules.batch import BatchModule
from lightning_modules.callbacks import ProgressBar
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.reading import knows
from lightning_modules.scoring import Scoring
from lightning_modules.sequential import SequentialModule
from models.budget import MemoryBudget
from models.editable import EditableModel
from models.families import without_weights
from models.folder import read_config
from models.loading import load_model
from models.memory import log_memory
from models.positions import max_positions
from models.processor import Processor, load_processor
from models.sites import MLP_ROLES
from models.unread import unread_bytes
from results.files import PROFILE
from results.folder import SEQUENTIAL
from results.partial import PartialResults
from runner.caching import open_cache
from runner.checked import log_contents
from runner.learnt import log_overlaps
from runner.lengths import check_lengths
from runner.many_edits import check_many_edits
from runner.partial import Upper, note_files, upper_part
from runner.resident import base_model, processor_of
from runner.token_bound import check_records
from runner.training import check_checkpoint, load_trained_editor
from runner.training_edits import training_edits

log = logging.getLogger(__name__)


def make_data(
    cfg: EditingConfig,
    source: RecordSource,
    scenarios: dict[Split, Scenario],
    *,
    training: Sequence[Record] = (),
    batch_size: int = 1,
    accumulate: int = 1,
) -> EditDataModule:
    """The DataModule of a run; checks the records and the pictures that the scenarios need.

    Raises:
        DataError: the editor cannot work with a record, or pictures are missing; with
            `data.on_error=skip` the DataModule looks at each record when its turn comes.
    """
    for split in scenarios:
        every = source.records(split) if source.of(split).on_error == "error" else ()
        cfg.editor.check_records(every, training)
    if isinstance(cfg.editor, TrainedEditorOptions) and "train" in scenarios:
        cfg.editor.check_training()
    return EditDataModule(
        source,
        scenarios,
        batch_size=batch_size,
        accumulate=accumulate,
        # `auto` is settled once model and editor are there (`runner.batch_size`).
        eval_batch_size=1 if cfg.evaluate.batch_size == "auto" else cfg.evaluate.batch_size,
        num_workers=cfg.data.num_workers,
        seed=cfg.seed,
        limit=_limit(cfg),
        overfit=cfg.trainer.overfit_batches,
        check_record=cfg.editor.check_record,
        taught=TaughtFacts(read_fact_marks(cfg.model.path), are_served=cfg.data.taught),
    )


def demonstrations(editor: EditorOptions, source: RecordSource) -> Sequence[Record]:
    """The training records for editors that show examples; some of them may be left out.

    With `data.on_error=error` they are all there, and `make_data` refuses those that cannot be
    shown. The records that are trained on are others: those that the DataModule serves.
    """
    if source.of("train").on_error == "error":
        return source.training_records
    usable: list[int] = []
    left_out: list[LeftOut] = []
    for number, record in enumerate(source.training_records):
        try:
            editor.check_demonstration(record)
            usable.append(number)
        except DataError as error:
            left_out.append(LeftOut(source.place("train", number), record.about, str(error)))
    log_left_out("train", left_out)
    return select(source.training_records, usable)


def _limit(cfg: EditingConfig) -> int | None:
    """How many edits of a split are served; a sequence has no use for more than it makes."""
    points = cfg.protocol.n if isinstance(cfg, EvaluateConfig) else None
    return cfg.data.limit if points is None else points[-1]


def open_processor(model: ModelOptions) -> Processor:
    """Tokenizer and image processor, without weights."""
    return processor_of(
        model, lambda: load_processor(model.family, model.path, revision=model.revision)
    )


def make_encoder(processor: Processor, form: PromptForm) -> PromptEncoder:
    """The prompt function of a base model."""
    layout = PictureLayout(
        processor.image_slots,
        processor.image_token_id,
        before_bos=processor.before_bos,
        ids=processor.picture_ids,
    )
    return PromptEncoder(
        processor.tokenizer, layout, form=form, chat=processor.chat,
        max_positions=processor.max_positions,
    )  # fmt: skip


def check_base(editor: EditorOptions, model: ModelOptions) -> None:
    """Refuses a base model that the editor's options do not fit, by its config.json and tokenizer.

    Raises:
        ModelError: the model has too few layers, too small a width, not the linear maps that are
            edited or no end token where one is taught; or a network for it is on no disk.
    """
    config = read_config(model.family, model.path, model.revision)
    text = config.get_text_config()
    roles = None
    if not set(editor.edited_roles) <= set(MLP_ROLES):
        roles = tuple(without_weights(model.family, config, torch.float32).decoder.sites)
    facts = BaseFacts(
        text.model_type, text.vocab_size, text.num_hidden_layers, text.hidden_size,
        max_positions(config), roles,
    )  # fmt: skip
    editor.check_base(facts)
    if editor.ends_target:
        make_encoder(open_processor(model), "default").end_of_target()


def open_model(
    options: ModelOptions,
    device: torch.device | None = None,
    *,
    memory: float | int | None = None,
    processes: int = 1,
    upper: Upper | None = None,
) -> EditableModel:
    """The base model on a device; editors are built there, before Lightning starts.

    A job of a sweep takes over that of the job before where it is the same (`runner.resident`).

    Args:
        options: group `model`.
        device: where the weights go; None for the CPU.
        memory: what passes may hold besides, as `MemoryBudget.of` takes it.
        processes: of this run on this machine.
        upper: the part that is read; None for all of it.

    Raises:
        ConfigError: several processes would each spread a model over the same devices.
        ModelError: it cannot be loaded, or the device is too small for its weights.
    """
    if options.device_map is not None and processes > 1:
        raise ConfigError(
            f"model.device_map={options.device_map} with {processes} processes: each would spread "
            "the base model over the same devices. Use trainer.devices=1 trainer.num_nodes=1, or "
            "model.device_map=null."
        )
    model = base_model(options, device, lambda: _load_model(options, device, upper))
    shared = processes if model.device.type == "cpu" else 1  # a GPU is one process's own
    model.budget = MemoryBudget.of(
        model.device, memory, processes=shared, reserved=unread_bytes(model.hf)
    )
    return model


def _load_model(
    options: ModelOptions, device: torch.device | None, upper: Upper | None
) -> EditableModel:
    log_memory(
        options.family,
        options.path,
        revision=options.revision,
        dtype=options.dtype,
        quantise=options.quantise,
        device=device,
        spread=options.device_map is not None,
    )
    with explained_loading(options):
        return load_model(
            options.family,
            options.path,
            revision=options.revision,
            dtype=options.dtype,
            attention=options.attn,
            device=device,
            quantise=options.quantise,
            spread=options.device_map is not None,
            limits=options.limits,
            first_layer=0 if upper is None else upper.first_layer,
            recorded=None if upper is None else upper.record.fingerprint,
        )


@dataclass(frozen=True)
class Parts:
    """What a run is made of besides its module and trainer.

    Attributes:
        data: serves the edits; not set up yet.
        inputs: the prompt function of the model, and the training records.
    """

    data: EditDataModule
    model: EditableModel
    inputs: EditorInputs


def open_parts(
    cfg: EditingConfig,
    scenarios: dict[Split, Scenario],
    device: torch.device,
    *,
    batch_size: int = 1,
    accumulate: int = 1,
) -> Parts:
    """Opens data and base model; what can be refused early comes before the weights.

    Args:
        cfg: the configuration.
        scenarios: split -> what is taught and asked there.
        device: where the base model goes.
        batch_size: edits per training batch.
        accumulate: training batches per optimiser step.

    Raises:
        TmkeError: something is missing, damaged or does not fit.
    """
    source = cfg.data.open(training="train" in scenarios or cfg.editor.shows_records)
    if cfg.ckpt is None or "train" in scenarios:  # a checkpoint has its own records
        log_overlaps(source)
    log_contents(source, scenarios)
    training = demonstrations(cfg.editor, source)
    data = make_data(
        cfg, source, scenarios, training=training, batch_size=batch_size, accumulate=accumulate
    )
    processor = open_processor(cfg.model)
    check_base(cfg.editor, cfg.model)
    encoder = make_encoder(processor, cfg.data.prompt)
    images = ImageStore(processor.pixels, in_threads=processor.in_threads)
    data.connect(encoder, images)
    data.check()
    check_records(cfg, data)
    check_many_edits(cfg, data)
    processes = max(1, rank_and_world()[1] // cfg.trainer.num_nodes)
    memory = cfg.trainer.memory_limit
    upper = upper_part(cfg, device) if "train" in scenarios else None
    model = open_model(cfg.model, device, memory=memory, processes=processes, upper=upper)
    check_checkpoint(cfg.ckpt, cfg.editor, model)
    count = None if upper is None else upper.record.weights
    model.cache = open_cache(cfg.cache, model, cfg.model.name, n_weights=count)
    note_files(cfg, model, upper)
    data.ask(knows(model))
    scenario = scenarios["test"] if "test" in scenarios else scenarios["train"]
    edits = training_edits(
        source, scenario, encoder, images, model, cfg.editor,
        batch_size=data.eval_batch_size, taught=data.taught,
    )  # fmt: skip
    return Parts(data, model, EditorInputs(encoder, training, edits))


def open_editor(cfg: EvaluateConfig, parts: Parts) -> Editor:
    """The editor that is judged, with the weights of `ckpt` where it is a trained one.

    Raises:
        TmkeError: something is missing, damaged or does not fit.
    """
    editor = build_editor(cfg.editor, parts.model, parts.inputs)
    parts.data.setup("test")
    if cfg.ckpt is not None:
        load_trained_editor(cfg.ckpt, editor, parts.model, parts.data)
    check_lengths(editor, parts.data, "test")
    return editor


def asked_scenario(cfg: EvaluateConfig) -> Scenario:
    """What an evaluation teaches and asks."""
    scenario = replace(SCENARIOS[cfg.scenario.name], names_first=cfg.evaluate.name_first)
    return taught_scenario(scenario, cfg.editor)


def taught_scenario(scenario: Scenario, editor: EditorOptions) -> Scenario:
    """A scenario as an editor is taught it."""
    scenario = with_tie(scenario) if editor.ties_picture else scenario
    return with_end(scenario) if editor.ends_target else scenario


def make_evaluation(
    cfg: EvaluateConfig, parts: Parts, editor: Editor, partial: PartialResults | None = None
) -> EvaluationModule:
    """The evaluation that the groups `protocol` and `metrics` describe.

    Raises:
        ConfigError: there are fewer edits than the last point of the protocol.
    """
    options = cfg.metrics
    scoring = Scoring(options.positions, options.generation, options.max_new_tokens)
    model, data, protocol = parts.model, parts.data, cfg.protocol
    if protocol.n is None:
        scenario = data.scenarios["test"]
        return EvaluationModule(
            model, editor, scenario, data.encoder, scoring, partial, data.answered
        )
    module = SequentialModule if protocol.name == SEQUENTIAL else BatchModule
    return module(
        model, editor, data, scoring, partial,
        points=protocol.n, turn=protocol.turn, contradictions=protocol.contradictions,
    )  # fmt: skip


def make_trainer(
    options: TrainerOptions,
    *,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback] = (),
    root: Path,
    **arguments: object,
) -> L.Trainer:
    """Lightning's Trainer with the project's progress bar.

    Args:
        options: group `trainer`.
        loggers: where curves go.
        callbacks: besides the progress bar.
        root: the output folder.
        **arguments: what depends on the command (steps, clipping, accumulation).
    """
    bar = [ProgressBar()] if options.enable_progress_bar else []
    try:
        trainer = L.Trainer(
            **(options.arguments() | arguments),
            logger=list(loggers) or False,
            callbacks=[*callbacks, *bar],
            profiler=_make_profiler(options.profiler, root / PROFILE),
            default_root_dir=str(root),
            enable_model_summary=False,
            use_distributed_sampler=False,  # EditOrder serves every process its share
        )
    except (MisconfigurationException, RuntimeError) as error:
        raise ConfigError(
            f"Lightning does not take these options: {' '.join(str(error).split())} Look at "
            "trainer and callbacks."
        ) from error
    # Lightning's own handlers end a run with status 0 and talk to other processes from within.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def _make_profiler(name: str | None, folder: Path) -> Profiler | None:
    """The profiler of `trainer.profiler`, whose reports get a folder of their own."""
    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
    return None if name is None else kinds[name](dirpath=str(folder), filename=name)
