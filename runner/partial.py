"""Which trainings read a base model from the editor's lowest layer on.

What stands below is needed to fill the cache, to know a base model by its fingerprint, and to see
that stored entries are its own. A run that reads it whole does all three and notes so
(`caching.records`); as long as the files stay as they were, a training from that cache does without
the lower layers and whatever encodes pictures. A pass that needs them after all has them read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import lmdb
import torch

from caching import records
from caching.environment import Environment, look
from caching.folder import cache_folder
from caching.records import Record
from configs.between_jobs import between_jobs
from configs.schema import EditingConfig
from editors.options import TrainedEditorOptions
from models.cache_scope import record_key
from models.device_memory import GB
from models.editable import EditableModel
from models.folder import read_config
from models.loading import can_wait, torch_dtype
from models.quantisation import is_quantised
from models.unread import unread_bytes
from results.outcome import all_gather_objects
from runner.caching import LARGE, weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upper:
    """The part of a base model that is read.

    Attributes:
        first_layer: its lowest decoder layer.
        record: what a run that read all of it has noted.
    """

    first_layer: int
    record: Record


def upper_part(cfg: EditingConfig, device: torch.device) -> Upper | None:
    """What a training reads of its base model; None: all. Every process has to call this.

    All processes read the same: one that has nothing in its machine's cache has all read the whole.
    """
    found = _upper_part(cfg, device)
    return found if all(all_gather_objects(found is not None)) else None


def note_files(cfg: EditingConfig, model: EditableModel, upper: Upper | None) -> None:
    """Notes what is known of the model's files, or trusts what an earlier run has noted.

    Args:
        cfg: the configuration.
        model: loaded, with its cache open.
        upper: what was read of it; None: all.
    """
    cache, key = model.cache, _key(cfg, model.device)
    if cache.environment is None or cache.scope is None or key is None:
        return
    if upper is None:
        files = records.files_digest(Path(cfg.model.path))
        name, fingerprint = cache.scope.name, model.fingerprint()
        cache.note(key, Record(files, fingerprint, name, weights(model)))
        return
    cache.record = key
    if cache.scope.name == upper.record.scope:
        cache.trust(upper.record.compared)
    log.info(
        "base model: read from decoder layer %d on, %.3f GB; %.3f GB below it are in no memory, "
        "as the cache has what enters that layer",
        upper.first_layer,
        sum(weight.nbytes for weight in model.hf.parameters()) / GB, unread_bytes(model.hf) / GB,
    )  # fmt: skip


def _upper_part(cfg: EditingConfig, device: torch.device) -> Upper | None:
    key, options = _key(cfg, device), cfg.cache
    if key is None or options.use == "off" or not options.states:
        return None
    if not isinstance(cfg.editor, TrainedEditorOptions) or between_jobs.in_job:
        return None  # the next job of a sweep may need all of the model
    config = read_config(cfg.model.family, cfg.model.path, cfg.model.revision)
    layer = cfg.editor.lowest_layer(config.get_text_config().num_hidden_layers)
    environment = look(cache_folder(options.folder)) if layer else None
    if environment is None:
        return None
    try:
        record = _record(environment, key, Path(cfg.model.path))
    except lmdb.Error:
        return None  # whoever opens the cache says what is wrong with it
    if record is None or (options.use == "auto" and record.weights < LARGE):
        return None
    return Upper(layer, record)


def _record(environment: Environment, key: bytes, folder: Path) -> Record | None:
    """The record of the files as they are, if the states are known to be of their model alone."""
    record = records.read(environment, key)
    if record is None or "states" not in record.compared:
        return None
    if len(records.of_scope(environment, record.scope)) > 1:
        return None  # another folder's weights look the same, and may have entries among these
    return record if record.files == records.files_digest(folder) else None


def _key(cfg: EditingConfig, device: torch.device) -> bytes | None:
    """Of a model's record; None where it can only be read whole."""
    options = cfg.model
    folder = Path(options.path)
    if (
        options.quantise
        or options.device_map
        or not folder.is_dir()
        or not can_wait(options.family)
    ):
        return None
    if is_quantised(read_config(options.family, options.path, options.revision)):
        return None
    dtype = torch_dtype(options.dtype, device)
    settings = (options.family, str(dtype), options.attn, device.type, cfg.trainer.precision)
    return record_key(folder, settings)
