"""A device or machine without room, told as one sentence: what to lower, and what it is now.

Libraries say it in as many ways as there are of them, some as a plain RuntimeError. Nothing here
imports torch.
"""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from configs import schema
from editors.options import TrainedEditorOptions
from errors import ModelError, TmkeError

# torch (CUDA, HIP, MPS), cuBLAS and cuDNN, bitsandbytes' C code, torch on a CPU.
_NO_ROOM = re.compile(
    r"\bout of memory\b|_STATUS_ALLOC_FAILED|can't allocate memory|not enough memory", re.IGNORECASE
)
_OF_HOST = re.compile(r"CPUAllocator|worker process", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no room."""
    if isinstance(error, TmkeError):
        return False
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    named_so = type(error).__name__ == "OutOfMemoryError"
    return named_so or (isinstance(error, RuntimeError) and bool(_NO_ROOM.search(str(error))))


def explained_memory(config: schema.RunConfig) -> AbstractContextManager[None]:
    """Turns such an error into one that names options.

    Raises:
        ModelError: there is no room.
    """
    return _explained(partial(_advice, config))


def explained_loading(options: schema.ModelOptions) -> AbstractContextManager[None]:
    """The same while the base model loads, where no batch size matters.

    Raises:
        ModelError: there is no room.
    """
    return _explained(partial(_advice_to_load, options))


@contextmanager
def _explained(advice: Callable[[Exception], str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(advice(error)) from error


def _advice_to_load(options: schema.ModelOptions, error: Exception) -> str:
    ways = _ways_to_load(options) or ["take a device with more memory"]
    return f"model={options.name} does not fit: {_what(error)}. {_either(ways)}."


def _advice(config: schema.RunConfig, error: Exception) -> str:
    ways = [*_batch_sizes(config)]
    if isinstance(error, MemoryError) or _OF_HOST.search(str(error)):
        workers = config.data.num_workers
        to = "set data.num_workers=0" if workers == "auto" else "lower data.num_workers"
        ways += [f"{to} (now {workers})"] if workers else []
        ways.append("give the job more memory (SLURM: --mem)")
    elif isinstance(config, schema.EditingConfig):
        ways += _ways_to_load(config.model)
        if config.command == "train" and config.trainer.precision == "32-true":
            ways.append("set trainer.precision=bf16-mixed (now 32-true)")
    ways = ways or ["use a device with more memory"]
    return f"{config.command}.py: {_what(error)}. {_either(ways)}.{_how_to_continue(config)}"


def _batch_sizes(config: schema.RunConfig) -> Iterator[str]:
    """Batches that can be smaller."""
    if not isinstance(config, schema.EditingConfig):
        return
    editor = config.editor
    if config.command == "train" and isinstance(editor, TrainedEditorOptions):
        if editor.batch_size > 1 and editor.n_updates:
            yield f"lower editor.batch_size (now {editor.batch_size})"
        elif editor.batch_size > 1:
            yield (
                f"lower editor.batch_size (now {editor.batch_size}) and raise editor.accumulate "
                f"(now {editor.accumulate}) by the same factor"
            )
        if config.evaluate.batch_size != 1:
            yield f"lower evaluate.batch_size (now {config.evaluate.batch_size}), for validation"
    elif config.evaluate.batch_size != 1:
        yield f"lower evaluate.batch_size (now {config.evaluate.batch_size})"


def _ways_to_load(model: schema.ModelOptions) -> list[str]:
    """How the base model gets smaller."""
    ways = [] if model.quantise else ["set model.quantise=8bit or 4bit (now null)"]
    if model.dtype in ("auto", "float32") and not model.quantise:
        ways.append(f"set model.dtype=bfloat16 (now {model.dtype})")
    if model.device_map is None:
        ways.append("set model.device_map=auto (now null)")
    return ways


def _how_to_continue(config: schema.RunConfig) -> str:
    if not isinstance(config, schema.EvaluateConfig) or config.evaluate.batch_size == 1:
        return ""
    return (
        f" What is done is kept: the same command with resume=true output_dir={config.output_dir} "
        "and a smaller evaluate.batch_size goes on with the other edits."
    )


def _what(error: Exception) -> str:
    """The first sentence of the error."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"(?<=[a-z])\. ", text, maxsplit=1)[0].rstrip(".")


def _either(ways: list[str]) -> str:
    text = ", or ".join(ways)
    return f"{text[0].upper()}{text[1:]}"
