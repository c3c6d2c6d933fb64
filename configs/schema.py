"""Typed options of the commands, one class per configuration group.

The YAML files beside this one hold the values and explain the keys; the classes here say what a
value may be and have no defaults, so a value stands in one place only. Nothing here imports torch:
a typing mistake is reported before anything heavy loads.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializeAsAny,
    StringConstraints,
    field_validator,
)

from configs.around import LanguageModelOptions, RecipeOptions
from configs.construction import (
    BatchOptions,
    BudgetOptions,
    EndpointOptions,
    PriceOptions,
    RecordsOptions,
)
from configs.pretraining import PretrainOptions
from datamodules.left_out import OnError
from datamodules.records import visible
from datamodules.scenarios import ScenarioName
from datamodules.source import DataOptions
from editors.options import EditorOptions
from options import Options, PathOrHub, Seed, TypedPath, TypedText, WholeMark


def _as_numbers(value: object) -> object:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _is_duration(value: object) -> object:
    if value is not None and not re.fullmatch(r"\d+:[0-2]\d:[0-5]\d:[0-5]\d", str(value)):
        raise ValueError('"days:hours:minutes:seconds" is needed, such as "00:12:00:00"')
    return value


Sentence = Annotated[
    TypedText, StringConstraints(strip_whitespace=True), AfterValidator(visible), WholeMark()
]
Duration = Annotated[str | None, BeforeValidator(_is_duration)]
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(MB|GB)")


def _is_memory(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (number and 0 < float(str(value)) <= 1):
        return value
    if not isinstance(value, str) or not (size := _SIZE.fullmatch(value)) or not float(size[1]):
        raise ValueError("auto, a share of what is free such as 0.5, or a size such as 12GB, 500MB")
    return value


def _bytes(text: str) -> int:
    size = _SIZE.fullmatch(text)
    assert size is not None, "it was checked"
    return int(float(size[1]) * {"MB": 10**6, "GB": 10**9}[size[2]])


def _is_size(value: object) -> object:
    if not isinstance(value, str) or not _SIZE.fullmatch(value):
        raise ValueError("a size such as 12GB or 500MB")
    return value


def _device_name(value: object) -> object:
    name = str(value)
    if name != "cpu" and not re.fullmatch(r"\d{1,3}", name):
        raise ValueError("cpu, or the number of a card such as 0")
    return name


Size = Annotated[str, BeforeValidator(_is_size)]
DeviceName = Annotated[str, BeforeValidator(_device_name)]
Memory = Annotated[str | float, BeforeValidator(_is_memory)]
Limit = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] | None


class ModelOptions(Options):
    """Group `model`: which base model is edited."""

    name: TypedText
    family: Literal["llava", "blip2", "minigpt4", "auto"]
    path: TypedPath
    revision: TypedText | None
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    quantise: Literal["8bit", "4bit"] | None
    attn: Literal["sdpa", "eager"]
    device_map: Literal["auto"] | None
    max_memory: dict[DeviceName, Size] | None

    @property
    def limits(self) -> dict[str, int]:
        """Bytes of weights by device."""
        return {name: _bytes(size) for name, size in (self.max_memory or {}).items()}


class ScenarioOptions(Options):
    """Group `scenario`: what the edit sees and what the probes see."""

    name: ScenarioName


class ComparedPositions(Options):
    """Group `metrics` of train.py, where it says at which tokens the KL of the loss compares."""

    positions: Literal["answer", "all"]


class MetricOptions(ComparedPositions):
    """Group `metrics`: which variant of a metric counts as the headline."""

    locality_i: Literal["top1", "top10_rank"]
    generation: bool
    max_new_tokens: int = Field(ge=1)
    cluster: Literal["record", "subject", "target"]


class EvaluateOptions(Options):
    """Section `evaluate`: how edits are judged, in training's validation too."""

    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)]
    tokens: int | None = Field(ge=1)


class JudgingOptions(EvaluateOptions):
    """Section `evaluate` of evaluate.py, where it also says how pictures are asked about."""

    name_first: bool


class ProtocolOptions(Options):
    """Group `protocol`: whether edits are judged alone, follow on each other or are one update."""

    name: Literal["single", "sequential", "batch"]
    n: Annotated[list[Annotated[int, Field(ge=1)]] | None, BeforeValidator(_as_numbers)]
    turn: int | None = Field(ge=1)
    contradictions: Literal["last", "error"] | None

    @field_validator("n")
    @classmethod
    def _ascending(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and (not value or any(b <= a for a, b in pairwise(value))):
            raise ValueError("numbers of edits are needed that ascend, such as [1,10,100]")
        return value


class TrainerOptions(Options):
    """Group `trainer`: Lightning's Trainer, and when to validate and stop."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: int | Literal["auto"] | Annotated[list[int], Field(min_length=1)]
    num_nodes: int = Field(ge=1)
    strategy: TypedText
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    max_steps: int | None = Field(ge=1)
    val_every: int | None = Field(ge=1)
    patience: int | None = Field(ge=1)
    save_every: int = Field(ge=1)
    log_every_n_steps: int = Field(ge=1)
    limit_train_batches: Limit
    limit_val_batches: Limit
    limit_test_batches: Limit
    num_sanity_val_steps: int = Field(ge=-1)
    deterministic: bool | Literal["warn"]
    inference_mode: Literal[False]
    memory: Memory
    matmul: Literal["auto", "highest", "high", "medium"]
    enable_progress_bar: bool
    max_time: Duration
    profiler: Literal["simple", "advanced", "pytorch"] | None
    fast_dev_run: bool | Annotated[int, Field(ge=1)]
    overfit_batches: int | None = Field(ge=1)
    detect_anomaly: bool

    OURS: ClassVar[frozenset[str]] = frozenset(
        (
            "max_steps", "val_every", "patience", "save_every", "max_time", "profiler",
            "fast_dev_run", "overfit_batches", "memory", "matmul",
        )
    )  # fmt: skip

    def arguments(self) -> dict[str, Any]:
        """Keys that go to `lightning.Trainer` as they are; `OURS` need more than renaming."""
        return self.model_dump(exclude=set(self.OURS))

    @property
    def memory_limit(self) -> float | int | None:
        """Bytes as an integer, a share of what is free, or None where the device decides."""
        if not isinstance(self.memory, str):
            return float(self.memory)
        return None if self.memory == "auto" else _bytes(self.memory)

    @property
    def many_processes(self) -> bool:
        """Whether more than one process may start."""
        several = self.devices not in (1, "1") and not (
            isinstance(self.devices, list) and len(self.devices) == 1
        )
        return several or self.num_nodes > 1


class CacheOptions(Options):
    """Group `cache`: what the base model was asked once, on the disk for later runs."""

    use: Literal["auto", "on", "off"]
    folder: TypedPath | None
    gigabytes: float = Field(gt=0, le=100_000)
    pictures: bool
    answers: bool
    states: bool


class LoggerOptions(Options):
    """Group `logger`: where curves and results go besides the files."""

    csv: bool
    wandb: Literal["offline", "online", "auto", "off"]
    project: TypedText
    entity: TypedText | None
    table_edits: int = Field(ge=0)


class AnyConfig(Options):
    """What all commands have in common.

    Attributes:
        unused: sections that experiments set for other commands, and that mean nothing here.
    """

    command: ClassVar[str]
    unused: ClassVar[frozenset[str]] = frozenset()

    def plain(self) -> dict[str, Any]:
        """The same as nested dicts of plain Python values, for checkpoints and files."""
        return self.model_dump()


class CommandConfig(AnyConfig):
    """What the commands have in common that open a model."""

    seed: Seed
    threads: int | None = Field(ge=1, le=1024)
    ckpt: PathOrHub | None
    model: ModelOptions
    data: SerializeAsAny[DataOptions]
    trainer: TrainerOptions


class RunConfig(CommandConfig):
    """What the commands have in common that make a run, in a folder of its own."""

    output_dir: TypedPath
    overwrite: bool
    logger: LoggerOptions

    _job: str = PrivateAttr("")

    def name_job(self, words: str) -> None:
        """Says which job of a sweep this is, by the words that other jobs do not share."""
        self._job = words

    def named(self, name: str) -> str:
        """A name for this run, and the words that tell it from the other jobs of a sweep."""
        return f"{name} {self._job}".rstrip()


class EditingConfig(RunConfig):
    """What train.py and evaluate.py have in common: an editor in a scenario."""

    resume: bool
    editor: SerializeAsAny[EditorOptions]
    scenario: ScenarioOptions
    metrics: ComparedPositions
    evaluate: EvaluateOptions
    cache: CacheOptions
    callbacks: dict[str, dict[str, Any]]


class TrainConfig(EditingConfig):
    """Configuration of train.py."""

    command = "train"


class EvaluateConfig(EditingConfig):
    """Configuration of evaluate.py."""

    command = "evaluate"

    metrics: MetricOptions
    evaluate: JudgingOptions
    protocol: ProtocolOptions
    score: TypedText | None


class PretrainConfig(RunConfig):
    """Configuration of pretrain.py.

    `recipe` and `language_model` are those of a model that is built around a language model; the
    tiny ones have none.
    """

    command = "pretrain"

    resume: bool
    gate: bool
    pretrain: PretrainOptions
    recipe: RecipeOptions | None
    language_model: LanguageModelOptions | None


class EditConfig(CommandConfig):
    """Configuration of edit.py: one edit, made or opened, and what is asked after it.

    `editor` is None where `edit` names an edit that was saved.
    """

    command = "edit"
    unused = frozenset(("metrics", "evaluate"))

    editor: SerializeAsAny[EditorOptions] | None
    question: Sentence | None
    answer: Sentence | None
    subject: Sentence | None
    image: TypedPath | None
    ask: Sentence | None
    ask_image: TypedPath | None
    edit: PathOrHub | None
    save: TypedPath | None


class ConstructionConfig(AnyConfig):
    """Configuration of `python -m construction`: facts in a table become records."""

    command = "construction"

    rows: TypedPath
    pictures: TypedPath | None
    output_dir: TypedPath
    on_error: OnError
    limit: int | None = Field(ge=1)
    dry_run: bool
    overwrite: bool
    attempts: int = Field(ge=1, le=100)
    decisions: TypedPath | None
    world: bool
    records: RecordsOptions
    endpoint: EndpointOptions
    prices: PriceOptions
    budget: BudgetOptions
    batch: BatchOptions


COMMANDS: Mapping[str, type[AnyConfig]] = {
    "construction": ConstructionConfig,
    "edit": EditConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "pretrain": PretrainConfig,
}
