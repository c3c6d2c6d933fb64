"""Odd options: each key with a value of another type, unknown words, numbers too large."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.commands import ROOT
from tests.odd.cases import BASE, PICTURES, TEXT, with_words
from tests.odd.harness import OUT, TINY, Case, Either, Expected, Refused, Runs
from tests.odd.records import records

CONFIGS = ROOT / "configs"
Mistakes = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
"""Words, and what the message about them has to name."""

TRAIN = (*BASE, "editor=mend", "data.train_files=[train.json]", "trainer.max_steps=1")
PRETRAIN = ("model=llava_tiny", "data=folder", "data.root=data", "logger=none", f"output_dir={OUT}")
_GROUPS = {
    "evaluate": ("model", "scenario", "data", "protocol", "metrics", "trainer", "logger"),
    "train": ("editor",),
    "pretrain": (),
}
_CHOSEN = {
    "model": "llava_tiny", "scenario": "unimodal", "data": "tmke", "protocol": "single",
    "metrics": "default", "trainer": "default", "logger": "default", "editor": "mend",
}  # fmt: skip
_WORDS = {"evaluate": TEXT, "train": TRAIN, "pretrain": PRETRAIN}
_TAKE_ANY_TEXT = {
    "output_dir", "model.name", "model.revision", "data.files", "data.train_files",
    "data.image_root", "logger.project", "logger.entity",
}  # fmt: skip
_NO_VALUE = {"callbacks", "defaults", "hydra"}


def option_cases() -> list[Case]:
    """Every key with a mapping for its value, then what is odd about particular ones."""
    cases = [case for command in _WORDS for case in _mappings(command)]
    return [*cases, *_evaluations(), *_trainings(), *_pretrainings(), *_others()]


def case(
    script: str, words: tuple[str, ...], odd: tuple[str, ...], expected: Expected, **more: Any
) -> Case:
    shown = " ".join(word if len(word) < 60 else f"{word[:50]}..." for word in odd)
    return Case(
        f"{script}: {shown}", with_words(words, *odd), expected, script=f"{script}.py", **more
    )


def _mappings(command: str) -> Iterator[Case]:
    for key in _keys(command):
        if key not in _TAKE_ANY_TEXT:
            refused = Refused((re.escape(key),))
            yield case(command, _WORDS[command], (f"{key}={{odd:1}}",), refused)


def _keys(command: str) -> list[str]:
    """Keys of a command that no command before it in `_GROUPS` has, and those of its groups."""
    files = [(CONFIGS / f"{command}.yaml", "")]
    if command == "evaluate":
        files.insert(0, (CONFIGS / "base.yaml", ""))
    files += [(CONFIGS / group / f"{_CHOSEN[group]}.yaml", group) for group in _GROUPS[command]]
    keys: list[str] = []
    for path, group in files:
        for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if name in _NO_VALUE:
                continue
            start = f"{group}.{name}" if group else name
            inside = value if isinstance(value, dict) and value else {}
            keys += [f"{start}.{inner}" for inner in inside] or [start]
    return [
        key for key in keys if command == "evaluate" or key.startswith(("editor.", "pretrain."))
    ]


_HUGE = "9" * 30


def _evaluations() -> Iterator[Case]:
    for key, values in {
        "seed": ("-1", "1.5", "x", "''", "null", "true", "[1]", "1e3", "nan", "0x10"),
        "threads": ("0", "-1", "1.5", "many", "nan"),
        "overwrite": ("maybe", "1", "null", "''"),
        "data.limit": ("0", "-1", "1.5", "all", "[1]", "nan", "inf"),
        "data.seed": ("-1", "null", "1e3"),
        "data.prompt": ("publishd", "null", "1", "''"),
        "data.num_workers": ("100000", "-1", "null", "1.5", "all"),
        "data.filter_known": ("2", "null"),
        "evaluate.batch_size": ("0", "-1", "null", "1.5", "nan"),
        "evaluate.tokens": ("1", "0", "-1", "auto", "1.5", "nan"),
        "evaluate.name_first": ("true", "maybe", "1", "null"),
        "metrics.max_new_tokens": ("0", "null", "1.5"),
        "metrics.positions": ("al", "null"),
        "trainer.devices": ("100000", "0", "many", "1.5", "[]", "[x]", "null", "-2"),
        "trainer.num_nodes": ("0",),
        "trainer.precision": ("64", "bf16", "8", "null"),
        "trainer.memory": ("0", "1.5", "-1", "12", "0GB", "null", "true"),
        "trainer.matmul": ("float32", "null", "tf32"),
        "cache.gigabytes": ("0", "-1", "null", "nan", "many"),
        "trainer.accelerator": ("gpus", "null", "tpu"),
        "trainer.strategy": ("foo", "null", "''"),
        "trainer.inference_mode": ("true",),
        "trainer.profiler": ("fast", "true"),
        "trainer.fast_dev_run": ("0", "-1", "1.5"),
        "trainer.limit_test_batches": ("2", "1.0"),
        "trainer.max_time": ("'00:01:00:00'", "5"),
        "trainer.overfit_batches": ("1",),
        "model.dtype": ("float64", "half", "null", "32"),
        "model.quantise": ("8", "2bit", "true"),
        "model.attn": ("flash", "null"),
        "model.device_map": ("cuda", "true", "{}"),
        "model.max_memory": ("2GB", "[2GB]", "{cpu:null}", "{-1:2GB}", "{cpu:2GB}"),
        "model.family": ("gpt", "null"),
        "protocol.n": ("0", "[]", "[3,1]", "[1,1]", "x", "1.5", "[1.5]"),
        "score": ("Relability", "1", "''"),
        "logger.wandb": ("on", "true", "null"),
        "logger.table_edits": ("-1", "x"),
        "editor.steps": ("0", "-1", "1.5", "null", "many"),
        "editor.lr": ("0", "-1", "nan", "inf", "null", "fast", "-inf"),
        "editor.layers": ("0", "-1", "99", "null"),
        "editor.norm_constraint": ("0", "-1", "nan", "inf"),
        "editor.stop_loss": ("-1", "nan"),
        "editor.loss_at": ("end",),
        "editor.optimizer": ("sgd", "null"),
    }.items():
        for value in values:
            yield case("evaluate", TEXT, (f"{key}={value}",), Refused((re.escape(key),)))
    for value in ("1.5", "{a:b}", "[[a]]", "[1.5]", "[null]", "true"):
        yield case("evaluate", TEXT, (f"data.files={value}",), Refused(("data",)))
    for odd, says in _WORDS_ALONE:
        yield case("evaluate", TEXT, odd, Refused(says))
    for odd in _LARGE:
        key = odd[0].partition("=")[0].lstrip("+")
        yield case("evaluate", TEXT, odd, Either(Runs(), Refused((re.escape(key),))))
    for odd, says in _WITH_PICTURES:
        yield case("evaluate", PICTURES, odd, Refused(says))


_WORDS_ALONE: Mistakes = (
    (("sed=1",), ("sed", "seed")),
    (("data.limt=1",), ("data.limt", "data.limit")),
    (("dataa=tmke",), ("dataa",)),
    (("editor=ftt",), ("editor=ftt", "ft")),
    (("editor=FT",), ("editor=FT", "ft")),
    (("editor=",), ("editor",)),
    (("editor=[ft,none]",), ("editor",)),
    (("editor=ft,none",), ("editor", "-m")),
    (("editor='ft '",), ("editor",)),
    (("editor=../editor/ft",), ("editor",)),
    (("model=gpt4",), ("model=gpt4",)),
    (("scenario=all",), ("scenario=all",)),
    (("experiment=demoo",), ("demoo",)),
    (("data=vlkeb2",), ("data",)),
    (("metrics=best",), ("metrics",)),
    (("trainer=tpu",), ("trainer",)),
    (("logger=tensorboard",), ("logger",)),
    (("protocol=twice",), ("protocol",)),
    (("pretrain.steps=5",), ("pretrain",)),
    (("editor.nonsense=1",), ("editor.nonsense",)),
    (("+editor.nonsense=1",), ("editor.nonsense",)),
    (("++nonsense=1",), ("nonsense",)),
    (("+seed=1",), ("seed",)),
    (("~seed",), ("seed",)),
    (("~data.limit",), ("data.limit",)),
    (("~editor",), ("editor",)),
    (("limit=3",), ("limit", "data.limit")),
    (("data.limit",), ("data.limit",)),
    (("=3",), ("=3",)),
    (("data.limit==3",), ("data.limit",)),
    (("data..limit=3",), ("limit",)),
    (("data.limit=[1",), ("data.limit",)),
    (("data.limit=}",), ("data.limit",)),
    (("data.limit='3",), ("data.limit",)),
    (("data.limit=choice(1,2)",), ("data.limit",)),
    (("data.limit=range(1,3)",), ("data.limit",)),
    (("seed=${nothing}",), ("nothing",)),
    (("seed=${seed}",), ("seed",)),
    (("seed=${model.name}",), ("seed",)),
    (("seed=${oc.env:NO_SUCH_VARIABLE}",), ("NO_SUCH_VARIABLE",)),
    (("seed=${",), ("seed",)),
    (("seed=${nothing:1}",), ("nothing|seed",)),
    (("data.root=${nothing}",), ("nothing",)),
    (("data.root=???",), ("data.root",)),
    (("editor.steps=???",), ("editor.steps",)),
    (("callbacks.mine=1",), ("callbacks",)),
    (("+callbacks.mine=1",), ("callbacks",)),
    (("+callbacks.mine._target_=no.such.Class",), ("no.such",)),
    (("+callbacks.mine._target_=os.getcwd",), ("callbacks.mine",)),
    (("+callbacks.mine.a=1",), ("callbacks.mine",)),
    (("protocol=sequential", "protocol.n=[1,100]"), ("100",)),
    (("protocol=sequential", "trainer.fast_dev_run=true"), ("fast_dev_run",)),
    (("protocol=sequential", "protocol.turn=3", "protocol.n=[3,4,6]"), ("protocol.turn=3", "4")),
    (("protocol=batch", "protocol.turn=3"), ("protocol.turn=3",)),
    (("protocol=batch", "editor=rome"), ("editor=rome", "ft")),
    (("protocol=batch", "protocol.n=null"), ("protocol.n",)),
    (("trainer.fast_dev_run=true", "resume=true"), ("fast_dev_run",)),
    (("trainer=ddp_cpu", "trainer.devices=auto"), ("devices",)),
    (("overwrite=true", "resume=true"), ("resume|overwrite",)),
    (("editor=mend",), ("ckpt",)),
    (("ckpt=data/records.json",), ("records.json",)),
    (("ckpt=data",), ("data",)),
    (("ckpt=''",), ("ckpt",)),
    (("scenario=multimodal", "editor=rome"), ("rome",)),
    (("model=auto",), ("model",)),
    (("model.family=blip2",), ("blip2|llava",)),
    (("model.path=no/where",), ("model.path|no/where",)),
    (("model.path=./no/where",), ("no/where",)),
    (("data.train_files=[records.json]",), ("data.train_files",)),
    (("data.train_files=[./records.json]",), ("data.train_files",)),
    (("data=folder", "data.root=data", "~data.files"), ("data",)),
    (("data=folder",), ("entities.json",)),
    (("🦊=1",), ("🦊",)),
    (("metrics.cluster=relation",), ("metrics.cluster",)),
    (("metrics.cluster=[subject]",), ("metrics.cluster",)),
    (("seed=½",), ("seed",)),
    (("seed=٣",), ("seed",)),
    (("sëed=1",), ("s",)),
)  # fmt: skip

_LARGE: tuple[tuple[str, ...], ...] = (
    ("seed=4294967295",), ("seed=4294967296",), ("seed=9223372036854775808",), (f"seed={_HUGE}",),
    (f"data.seed={_HUGE}",), (f"data.limit={_HUGE}",), (f"evaluate.batch_size={_HUGE}",),
    (f"threads={_HUGE}",), ("threads=2147483648",), (f"logger.table_edits={_HUGE}",),
    (f"trainer.devices={_HUGE}",), ("trainer.devices=[7]",),
    (f"trainer.num_nodes={_HUGE}",), (f"metrics.max_new_tokens={_HUGE}", "metrics.generation=true"),
    ("editor.lr=1e400",), ("editor.lr=1e-400",), ("editor.stop_loss=1e400",),
    (f"seed={'9' * 5000}",), ("data.limit=1e400",), ("editor.norm_constraint=1e-400",),
    ("output_dir=${oc.env:TMKE_ODD}",), ("seed=1_000",), ("seed=+1",), ("seed=007",), ("seed= 1",),
)  # fmt: skip
"""Numbers at the edge of what a machine holds: they run, or are refused by name."""

_WITH_PICTURES: Mistakes = (
    (("editor=rome",), ("rome", "unimodal|text|picture")),
    (("score=Reliability",), ("score",)),
    (("data.image_root=''",), ("image_root",)),
    (("data.image_root=[images]",), ("image_root",)),
)


def _with_training_file(folder: Path) -> None:
    (folder / "data" / "train.json").write_text(json.dumps(records(5)[3:]))


def _trainings() -> Iterator[Case]:
    for key, values in {
        "editor.batch_size": ("0", "-1", "null", "1.5"),
        "editor.accumulate": ("0", "null"),
        "editor.lr": ("-1", "nan", "inf", "null"),
        "editor.edit_lr": ("nan", "null", "x"),
        "editor.grad_clip": ("-1", "nan"),
        "editor.rank": ("0", "null", "-3"),
        "editor.max_iterations": ("0", "null"),
        "editor.weights.locality": ("-1", "nan", "null"),
        "trainer.max_steps": ("0", "-1", "1.5"),
        "trainer.max_time": ("5", "'1:2:3'", "'00:99:00:00'", "now"),
        "trainer.val_every": ("0", "-1"),
        "trainer.save_every": ("0", "null"),
        "trainer.patience": ("0",),
        "trainer.limit_train_batches": ("0", "-1", "1.5", "nan"),
        "trainer.overfit_batches": ("0", "-1", "1.5"),
        "trainer.num_sanity_val_steps": ("-2", "x"),
        "data.train_files": ("[]", "null"),
    }.items():
        for value in values:
            yield case("train", TRAIN, (f"{key}={value}",), Refused((re.escape(key),)))
    others: Mistakes = (
        (("editor=ft",), ("ft",)),
        (("editor=none",), ("none",)),
        (("data.train_files=1.5",), ("data/1.5",)),
        (("data.train_files={a:b}",), ("data/{a:b}",)),
        (("data.train_files=[records.json]",), ("data.train_files",)),
        (("data.train_files=[nowhere.json]",), ("nowhere.json",)),
        (("data.train_files=records.json",), ("data.train_files",)),
        (("ckpt=nowhere.ckpt",), ("nowhere.ckpt",)),
        (("ckpt=data/records.json",), ("records.json",)),
        (("protocol=sequential",), ("protocol",)),
        (("score=Locality",), ("score",)),
        (("trainer.fast_dev_run=true", "resume=true"), ("fast_dev_run",)),
        (("editor.weights.localty=1",), ("localty",)),
        (("data=folder", "data.train_files=[a]"), ("train_files",)),
    )
    for odd, says in others:
        more = {} if odd[0].startswith("data.") else {"prepare": _with_training_file}
        yield case("train", TRAIN, odd, Refused(says), **more)


def _pretrainings() -> Iterator[Case]:
    for key, values in {
        "pretrain.steps": ("-1", "1.5", "null", "many"),
        "pretrain.width": ("0", "127", "null"),
        "pretrain.heads": ("0", "3"),
        "pretrain.lr": ("-1", "nan", "inf"),
        "pretrain.image_size": ("0", "33"),
        "pretrain.patch_size": ("0", "64"),
        "pretrain.text_rows": ("-1",),
        "pretrain.mask_share": ("2", "-1", "nan"),
        "pretrain.slots_start": ("0.9", "-1", "nan"),
        "pretrain.text_target": ("101", "-1", "nan"),
        "gate": ("maybe", "1"),
        "seed": ("-1", "x"),
    }.items():
        for value in values:
            named = Refused((rf"\b{key.rpartition('.')[2]}",))
            yield case("pretrain", PRETRAIN, (f"{key}={value}",), named)
    others: Mistakes = (
        (("model=llava",), ("llava",)),
        (("editor=ft",), ("editor",)),
        (("scenario=unimodal",), ("scenario",)),
        (("data=tmke",), ("tmke",)),
        (("ckpt=a.ckpt",), ("ckpt",)),
        (("data.root=nowhere",), ("nowhere",)),
        (("seed=1",), ("entities.json",)),
        (("trainer.fast_dev_run=true",), ("fast_dev_run",)),
        (("resume=true",), ("resume",)),
        (("data=world", "data.size=3"), ("size",)),
        (("data=world", "data.size=100000"), ("size",)),
        (("data=world", f"data.world_seed={2**32}"), ("seed",)),
        (("data=world", "data.world_seed=-1"), ("world_seed",)),
    )
    for odd, says in others:
        words = tuple(w for w in PRETRAIN if odd[0] != "data=world" or "data." not in w)
        yield case("pretrain", words, odd, Refused(says))


def _others() -> Iterator[Case]:
    """The commands that are modules of their own."""

    def module(name: str, *words: str, says: tuple[str, ...] = ()) -> Case:
        label = f"python -m {name} {' '.join(word for word in words if word not in TEXT)}"
        return Case(label, (name, *words), Refused(says), script="-m", out=None)

    trace = ("causal_trace", *(word for word in BASE if not word.startswith("output_dir")))
    of_analysis: Mistakes = (
        ((), ("ANALYSIS",)),
        (("causal",), ("causal",)),
        (("causal_trace",), ("--output",)),
        ((*trace, "--output", "o", "data.limt=3"), ("data.limt",)),
        ((*trace, "--output", "o", "--facts", "x"), ("--facts",)),
        ((*trace, "--output", "o", "--facts", "0"), ("--?facts",)),
        ((*trace, "--output", "o", "--facts", "-1"), ("--?facts",)),
        ((*trace, "--output", "o", "--draws", "0"), ("--?draws",)),
        ((*trace, "--output", "o", "--noise", "nan"), ("--?noise",)),
        ((*trace, "--output", "o", "--noise", "-1"), ("--?noise",)),
        ((*trace, "--output", "data/records.json"), ("records.json",)),
        ((*trace, "--output", "data"), ("data",)),
        ((*trace, "--output", "o", "--bogus"), ("--bogus",)),
        (
            ("second_moment", f"model.path={TINY}", "--layer", "99", "--text", "data"),
            ("layer|column",),
        ),
        (
            ("second_moment", f"model.path={TINY}", "--layer", "-1", "--text", "data"),
            ("layer|column",),
        ),
        (("second_moment", f"model.path={TINY}", "--layer", "x", "--text", "data"), ("--layer",)),
        (("second_moment", f"model.path={TINY}", "--layer", "1", "--text", "no.txt"), ("no.txt",)),
        (("knowledge_neurons", *TEXT[:-1], "--output", "o", "--steps", "0"), ("steps",)),
        (("knowledge_neurons", *TEXT[:-1], "--output", "o", "--threshold", "7"), ("threshold",)),
    )
    for words, says in of_analysis:
        yield module("analysis", *words, says=says)
    yield module("models", "check", "model=gpt4", says=("gpt4",))
    yield module("models", "check", "model.pth=x", says=("model.pth",))
    yield module("models", "look", says=("look",))
    yield module("pretraining", "model=llava_tiny", "data=folder", "data.root=no", says=("no",))
    yield module("pretraining", "model=llava_tinyy", says=("llava_tinyy",))
