"""What each analysis command checks, runs and writes; torch loads after words and flags."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from analysis import NUMBERS, TRACE
from configs.check import load_config
from configs.schema import EvaluateConfig
from editors.ultraedit.config import UltraEditOptions
from errors import ConfigError
from results.files import check_output, check_writable, write_text
from results.screen import screen

if TYPE_CHECKING:
    from datamodules.scenarios import Scenario
    from datamodules.source import Split
    from editors.ultraedit.editor import UltraEdit

NO_WEIGHTS: Mapping[str, str] = {
    "serac": "its edits stand in a memory and are answered by a second model, so that no weight "
    "of the base changes and its neurons are the same before and after",
    "grace": "its edits are vectors in a codebook that stand in for what a layer says, so that no "
    "weight of the base changes and its neurons are the same before and after",
    "ike": "its edits are text in front of the question, so that no weight of the base changes and "
    "the neurons after the edit would be those of another prompt",
}
_NARROWEST = 120  # columns of a table that goes into a file or a pipe


def causal_trace(options: argparse.Namespace) -> int:
    """Traces the test records of a data set and writes heat map and numbers.

    Raises:
        ConfigError: an option is out of range, or the output is there already.
        DataError: the model knows none of the facts.
    """
    if options.facts < 1 or options.draws < 1 or not 0 < options.noise < math.inf:
        raise ConfigError("--facts and --draws should be at least 1, --noise above 0 and finite.")
    check_output(options.output, TRACE, overwrite=options.overwrite)
    cfg = _config("editor=none", *options.words)

    from analysis.causal_trace import TOKENS, causal_trace, records_to_trace
    from analysis.figures import trace_figure
    from runner import assembly
    from runner.start import start

    with start(cfg) as placement:
        records = list(cfg.data.read().records("test"))
        facts = list({(r.subject, r.knowledge_edit.question): r for r in records}.values())
        processor = assembly.open_processor(cfg.model)
        model = assembly.open_model(cfg.model, placement.device, memory=cfg.trainer.memory_limit)
        encoder = assembly.make_encoder(processor, cfg.data.prompt)
        facts = records_to_trace(model, encoder, facts, options.facts)
        trace = causal_trace(model, encoder, facts, noise=options.noise, draws=options.draws)
        numbers = options.output / TRACE
        write_text(numbers, json.dumps(trace.as_dict(), indent=1))
    effects = {str(kind): effect.numpy() for kind, effect in trace.effect.items()}
    files = trace_figure(effects, TOKENS, options.output / "trace", model=cfg.model.name)
    screen().print(
        f"{trace.facts} facts, probability of the answer {trace.clean:.3f}, with a corrupted "
        f"subject {trace.corrupted:.3f}\nMLP output at the subject's last token: layer "
        f"{trace.best_layer()} brings back most (editor.layer={trace.best_layer()})\n"
        f"Written: {', '.join(str(file) for file in [numbers, *files])}",
        soft_wrap=True,
    )
    return 0


def second_moment(options: argparse.Namespace) -> int:
    """Reads a text, runs the model, writes the moment of each layer to a file and names it.

    Raises:
        ConfigError: an option is out of range, or the cache cannot be written.
        DataError: the text cannot be read.
        ModelError: the model or a layer is not there.
    """
    if options.samples < 1 or options.batch < 1 or min(options.layer) < 0:
        raise ConfigError("--samples and --batch should be at least 1, --layer at least 0.")
    check_writable(options.cache, "--cache ")
    cfg = _config("editor=none", *options.words)

    from analysis.second_moment import fact_texts, read_texts, sample_texts, write_moments
    from runner import assembly
    from runner.start import start

    texts: list[str] = []
    if options.text is not None:
        texts = read_texts(options.text, options.column, options.split)
    with start(cfg) as placement:
        processor = assembly.open_processor(cfg.model)
        if options.text is None:
            encoder = assembly.make_encoder(processor, cfg.data.prompt)
            texts = fact_texts(cfg.data.read().records("train"), encoder)
        texts = sample_texts(texts, options.samples)
        model = assembly.open_model(cfg.model, placement.device, memory=cfg.trainer.memory_limit)
        files = write_moments(
            model, processor.tokenizer, texts, name=cfg.model.name, layers=options.layer,
            batch_size=options.batch, folder=options.cache,
        )  # fmt: skip
    screen().print("\n".join(files), soft_wrap=True)
    return 0


def statistics(options: argparse.Namespace) -> int:
    """Takes UltraEdit's statistics of training edits and writes them to a file.

    Raises:
        ConfigError: the file is there already or cannot be written, or the words are of another
            editor or of no edit.
        DataError: records or pictures are missing or broken.
        ModelError: the base model cannot be used.
    """
    file: Path = options.output
    if file.exists():
        raise ConfigError(f"--output {file} is there already; name a new file, or remove it.")
    check_writable(file.parent, "--output ")
    words = [*options.words, "editor.statistics=null"]
    cfg = _config(*words)
    if not isinstance(cfg.editor, UltraEditOptions) or not cfg.editor.warm_up:
        raise ConfigError(
            f"editor={cfg.editor.label}: statistics are those of editor=ultraedit, of as many "
            "training edits as editor.warm_up says, 1 or more."
        )

    from editors.registry import build_editor
    from editors.ultraedit.files import save_statistics
    from runner import assembly
    from runner.start import start

    with start(cfg) as placement:
        scenarios: dict[Split, Scenario] = {"test": assembly.asked_scenario(cfg)}
        parts = assembly.open_parts(cfg, scenarios, placement.device)
        editor = cast("UltraEdit", build_editor(cfg.editor, parts.model, parts.inputs))
        facts = {
            "edits": str(cfg.editor.warm_up),
            "data": cfg.data.name,
            "scenario": cfg.scenario.name,
        }
        save_statistics(file, editor.warm, parts.model, facts)
    tokens = max(int(of_site.keys.count) for of_site in editor.warm.values())
    screen().print(f"{file}: {cfg.editor.warm_up} edits, {tokens} tokens", soft_wrap=True)
    return 0


def knowledge_neurons(options: argparse.Namespace) -> int:
    """Finds the neurons of every edit's questions; writes tables and figure, prints the means.

    Raises:
        ConfigError: an option is out of range, the output is taken, or the editor changes no
            weight.
        DataError: records or pictures are missing or broken.
        ModelError: the base model or the checkpoint cannot be used.
    """
    words = check_neuron_flags(options)
    for word in words:
        if word.startswith("editor="):
            check_editor(word.removeprefix("editor="))
    cfg = _config(*words)
    check_editor(cfg.editor.name)
    if cfg.protocol.name != "single":
        raise ConfigError(
            f"protocol={cfg.protocol.name}: knowledge neurons are read of single edits, each of "
            "which is compared with the unedited model. Leave protocol out."
        )

    from analysis.neuron_report import analyse
    from analysis.neuron_tables import neuron_table, write_neurons
    from runner.start import start

    with start(cfg) as placement:
        numbers, tables = analyse(
            placement,
            steps=options.steps,
            threshold=options.threshold,
            shortcut=options.shortcut,
        )
    files = write_neurons(options.output, numbers, tables)
    console = screen(narrowest=_NARROWEST)
    console.print(neuron_table(numbers))
    console.print(f"Written: {', '.join(map(str, files))}", soft_wrap=True)
    return 0


def check_neuron_flags(options: argparse.Namespace) -> list[str]:
    """The configuration words, after everything that needs no model was checked.

    Raises:
        ConfigError: an option is out of range, or the output is taken.
    """
    if options.steps < 1 or not 0 <= options.threshold < 1:
        raise ConfigError(
            f"--steps {options.steps} --threshold {options.threshold}: steps should be at least 1, "
            "and the threshold, a part of the largest attribution, at least 0 and below 1."
        )
    check_output(options.output, NUMBERS, overwrite=options.overwrite)
    if options.edits is None:
        return list(options.words)
    if options.edits < 1 or any(word.startswith("data.limit=") for word in options.words):
        raise ConfigError(
            f"--edits {options.edits}: at least 1 is needed, and it says the same as data.limit: "
            "give one of them."
        )
    return [*options.words, f"data.limit={options.edits}"]


def check_editor(name: str) -> None:
    """Refuses an editor that changes no weight, by its name alone.

    Raises:
        ConfigError: it is one, and why that leaves nothing to see.
    """
    if name in NO_WEIGHTS:
        raise ConfigError(
            f"editor={name} cannot be read through knowledge neurons: {NO_WEIGHTS[name]}. "
            "Accepted are editors that change weights (ft, rome, memit, mend, malmen, rledit, "
            "ultraedit, lora), and none for the unedited model."
        )


def _config(*words: str) -> EvaluateConfig:
    """The configuration of `evaluate.py` with these words.

    Raises:
        ConfigError: all mistakes in one message.
    """
    return cast(EvaluateConfig, load_config("evaluate", ["output_dir=runs/analysis", *words]))
