"""MEND token by token, in the file format of the authors' vectors, for any sizes, seed and model.

It shares no code with the editor: Welford's statistics one token at a time, dense updated weights
written into the model, gradients by hooks. The tests of the vectors run on its files too, so that
nothing in them is bound to the sizes of the files that ship (`test_other_vectors.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

Arrays = dict[str, Tensor | np.ndarray]
Network = dict[str, Tensor]
# case -> hidden layers, nets (mlp: both sides together, mlp1: x, mlp2: delta), skip, normalised
VARIANTS = {
    "combine": (1, ("mlp",), True, True), "combine_h2": (2, ("mlp",), True, True),
    "combine_h0": (0, ("mlp",), True, True), "split": (1, ("mlp1", "mlp2"), True, True),
    "onesided": (1, (), True, True), "xonly": (1, ("mlp1",), True, True),
    "deltaonly": (1, ("mlp2",), True, True), "nonorm": (1, ("mlp",), True, False),
    "xavier": (1, ("mlp",), False, True),
}  # fmt: skip


def save(path: Path, arrays: Arrays) -> Path:
    plain = {k: v.detach().numpy() if isinstance(v, Tensor) else v for k, v in arrays.items()}
    np.savez(path, **plain)  # type: ignore[arg-type]
    return path


class Statistics:
    """Welford's running mean and sum of squares."""

    def __init__(self) -> None:
        self.k = 0

    def add(self, tokens: Tensor) -> None:
        for token in tokens:
            self.k += 1
            if self.k == 1:
                self.mean, self.s = token.clone(), torch.zeros_like(token)
                continue
            mean = self.mean + (token - self.mean) / self.k
            self.s = self.s + (token - self.mean) * (token - mean)
            self.mean = mean

    @property
    def std(self) -> Tensor:
        return (self.s / (self.k - 1)).sqrt()

    def arrays(self, side: str) -> Arrays:
        return {f"{side}_mean": self.mean, f"{side}_s": self.s, f"{side}_std": self.std}


class Maker:
    """Draws weights and tokens.

    Args:
        seed: of everything.
        dtype: of everything.
    """

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self.draw, self.dtype = torch.Generator().manual_seed(seed), dtype

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=self.draw, dtype=self.dtype)

    def network(
        self, d: int, rank: int, hidden: int, modes: int, *, fresh: bool = False
    ) -> Network:
        weights: Network = {}
        some, rank = 0.0 if fresh else 1.0, min(rank, d)
        for layer in range(hidden + 1):
            weights |= {
                f"layers.{layer}.u": some * self.normal(d, rank, scale=0.3),
                f"layers.{layer}.v": self.normal(rank, d, scale=0.5),
                f"layers.{layer}.bias": some * self.normal(d, scale=0.3),
                f"layers.{layer}.mode_shift.weight": some * self.normal(modes, d, scale=0.2),
                f"layers.{layer}.mode_scale.weight": 1 + some * self.normal(modes, d, scale=0.2),
            }
        return weights

    def batch(self, vocabulary: int, rows: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, mask and labels of right-padded rows of different lengths; three prompt tokens."""
        ids = torch.randint(1, vocabulary, (rows, length), generator=self.draw)
        stop = length - torch.arange(rows) % (length - 5)
        mask = (torch.arange(length) < stop[:, None]).long()
        ids, labels = ids * mask, ids.clone()
        labels[mask == 0] = -100
        labels[:, :3] = -100
        return ids, mask, labels


def run(weights: Network, z: Tensor, mode: int | None, *, skip: bool = True) -> Tensor:
    """The network on tokens (K, d)."""
    for layer in range(len(weights) // 5):
        u, v, bias, shift, scale = (
            weights[f"layers.{layer}.{name}"]
            for name in ("u", "v", "bias", "mode_shift.weight", "mode_scale.weight")
        )
        h = torch.stack([u @ (v @ token) + bias for token in z])
        if mode is not None:
            h = h * scale[mode] + shift[mode]
        z = h.clamp(min=0) + z if skip else h.clamp(min=0)
    return z


def normalised(a: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (a - mean) / (std + 1e-7)


def alive(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    u, v = u.flatten(0, -2), v.flatten(0, -2)
    kept = (u != 0).any(1) & (v != 0).any(1)
    return u[kept], v[kept]


def transform_file(
    path: Path, *, seed: int, x: int, d: int, rank: int, modes: int, dtype: torch.dtype
) -> Path:
    """A mend_transform file: all variants, a fresh network, and one training call per mode."""
    make = Maker(seed, dtype)
    u, v = make.normal(3, 5, x), make.normal(3, 5, d, scale=0.1)
    u[1, 4], v[0, 3:] = 0, 0
    arrays: Arrays = {
        "u": u, "v": v, "u_mean": make.normal(x, scale=0.1), "v_mean": make.normal(d, scale=0.01),
        "u_std": make.normal(x).abs() + 0.5, "v_std": make.normal(d).abs() / 10 + 0.05,
    }  # fmt: skip
    su, sv = ((arrays[f"{side}_mean"], arrays[f"{side}_std"]) for side in "uv")
    tokens = alive(u, v)
    inputs = (normalised(tokens[0], *su), normalised(tokens[1], *sv))  # type: ignore[arg-type]
    for case, (hidden, names, skip, norm) in VARIANTS.items():
        names = names or (("mlp1",) if x <= d else ("mlp2",))
        widths = {"mlp": x + d, "mlp1": x, "mlp2": d}
        nets = {name: make.network(widths[name], rank, hidden, modes) for name in names}
        arrays |= {f"{case}.w.{n}.{k}": w for n, net in nets.items() for k, w in net.items()}
        for mode in (None, *range(modes)):
            a, b = inputs if norm else tokens
            if "mlp" in nets:
                a, b = run(nets["mlp"], torch.cat([a, b], 1), mode, skip=skip).split([x, d], 1)
            a = run(nets["mlp1"], a, mode, skip=skip) if "mlp1" in nets else a
            b = run(nets["mlp2"], b, mode, skip=skip) if "mlp2" in nets else b
            linear = torch.stack([torch.outer(o, i) for i, o in zip(a, b, strict=True)]).sum(0)
            parts = {"out_u": a, "out_v": b, "grad_linear": linear, "grad_conv1d": linear.mT}
            arrays |= {f"{case}.{k}.mode{str(mode).lower()}": value for k, value in parts.items()}
    fresh = make.network(x + d, rank, 1, modes, fresh=True)
    arrays |= {f"fresh.w.mlp.{k}": w for k, w in fresh.items()}
    arrays |= {"fresh.out_u.mode1": inputs[0], "fresh.out_v.mode1": inputs[1]}
    return save(path, arrays | training_calls(make, tokens, rank, modes))


def training_calls(make: Maker, main: tuple[Tensor, Tensor], rank: int, modes: int) -> Arrays:
    x, d = main[0].shape[1], main[1].shape[1]
    net, su, sv = make.network(x + d, rank, 1, modes), Statistics(), Statistics()

    def answer(a: Tensor, b: Tensor, mode: int) -> Sequence[Tensor]:
        z = [normalised(a, su.mean, su.std), normalised(b, sv.mean, sv.std)]
        return run(net, torch.cat(z, 1), mode).split([x, d], 1)

    arrays: Arrays = {f"train.w.mlp.{k}": w for k, w in net.items()}
    for call in range(modes):
        u, v = make.normal(1, 4, x), make.normal(1, 4, d, scale=0.1)
        v[0, 0] = 0
        a, b = alive(u, v)
        su.add(a)
        sv.add(b)
        out = answer(a, b, call)
        found: Arrays = {"u": u, "v": v, "out_u": out[0], "out_v": out[1], "k": np.array([su.k])}
        found |= su.arrays("u") | sv.arrays("v")
        arrays |= {f"train.call{call}.{k}": value for k, value in found.items()}
    out = answer(*main, 0)
    return arrays | {"train.eval_after.out_u": out[0], "train.eval_after.out_v": out[1]}


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over all labelled tokens, each predicted by the one before."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


class Edited:
    """A model, the matrices of some of its last layers, and one editor network per shape."""

    def __init__(
        self, hf: PreTrainedModel, make: Maker, *, layers: int, rank: int, hidden: int
    ) -> None:
        self.hf = hf.to(make.dtype).eval()
        is_gpt2 = hf.config.model_type == "gpt2"
        block = "transformer.h.{}.mlp." if is_gpt2 else "model.layers.{}.mlp."
        pair = ("c_proj", "c_fc") if is_gpt2 else ("down_proj", "up_proj")
        last = range(hf.config.num_hidden_layers)[-layers:]
        names = [f"{block.format(layer)}{name}" for layer in last for name in pair]
        self.modules: dict[str, nn.Module] = {
            f"{name}.weight": hf.get_submodule(name) for name in names
        }
        self.groups: dict[tuple[int, int], list[str]] = {}
        for name in self.modules:
            self.groups.setdefault(self.shape(name), []).append(name)
        self.nets = {
            shape: make.network(sum(shape), rank, hidden, len(members))
            for shape, members in self.groups.items()
        }
        self.rates = make.normal(len(self.modules), scale=0.01)
        self.statistics = {shape: (Statistics(), Statistics()) for shape in self.groups}
        for parameter in self.learned().values():
            parameter.requires_grad_(True)

    def shape(self, name: str) -> tuple[int, int]:
        """(d_in, d_out)."""
        rows, columns = self.modules[name].weight.shape  # type: ignore[misc]
        return (rows, columns) if isinstance(self.modules[name], Conv1D) else (columns, rows)

    def learned(self) -> dict[str, Tensor]:
        """What an editor learns, under the names of the vectors."""
        nets = self.nets.items()
        found = {f"mend.{shape}.mlp.{k}": w for shape, net in nets for k, w in net.items()}
        return found | {"edit_lrs": self.rates}

    def factors(self, ids: Tensor, mask: Tensor, labels: Tensor) -> dict[str, list[Tensor]]:
        """Name -> layer input (B, T, d_in) and gradient at the output (B, T, d_out)."""
        caught: dict[str, list[Tensor]] = {name: [] for name in self.modules}

        def keep(name: str, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            caught[name].append(args[0].detach())
            output.register_hook(lambda gradient: caught[name].append(gradient))

        handles = [m.register_forward_hook(partial(keep, n)) for n, m in self.modules.items()]
        nll(self.hf(input_ids=ids, attention_mask=mask).logits, labels).backward()
        for handle in handles:
            handle.remove()
        self.hf.zero_grad()
        return {name: [part.view(*ids.shape, -1) for part in caught[name]] for name in caught}

    def phase(self, inner: tuple[Tensor, ...], *, training: bool) -> tuple[Arrays, Network]:
        """Everything about the edit's matrices, and the edited weights."""
        arrays: Arrays = {}
        weights = {}
        for number, (name, (x, delta)) in enumerate(self.factors(*inner).items()):
            shape = self.shape(name)
            su, sv = self.statistics[shape]
            a, b = alive(x, delta)
            if training:
                su.add(a)
                sv.add(b)
            z = [normalised(a, su.mean, su.std), normalised(b, sv.mean, sv.std)]
            mode = self.groups[shape].index(name)
            u, v = run(self.nets[shape], torch.cat(z, 1), mode).split(shape, 1)
            is_conv = isinstance(self.modules[name], Conv1D)
            moved = self.rates[number] * (u.mT @ v if is_conv else v.mT @ u)
            weights[name] = self.modules[name].weight.detach() + moved  # type: ignore[operator]
            parts = {"x": x, "delta": delta, "out_u": u, "out_v": v, "delta_w": moved}
            arrays |= {f"{name}.{k}": part for k, part in parts.items()}
            arrays[f"{name}.mode"] = np.array(mode)
        for shape, (su, sv) in self.statistics.items():
            sides = su.arrays("u") | sv.arrays("v") | {"k": np.array([su.k])}
            arrays |= {f"norm.{shape}.{k}": value for k, value in sides.items()}
        return arrays, weights


def edit_file(
    path: Path, hf: PreTrainedModel, *, seed: int, dtype: torch.dtype, layers: int, rank: int,
    hidden: int = 1,
) -> Path:  # fmt: skip
    """A mend_edit file: an edit in training and one after it, losses, gradients of the editor."""
    make = Maker(seed, dtype)
    edited = Edited(hf, make, layers=layers, rank=rank, hidden=hidden)
    vocabulary = hf.config.vocab_size
    batches = {name: make.batch(vocabulary, *size) for name, size in
               (("inner", (2, 8)), ("outer", (3, 9)), ("loc", (4, 7)))}  # fmt: skip
    arrays: Arrays = {f"model.{k}": w for k, w in hf.state_dict().items()} | edited.learned()
    arrays["inner_params"] = np.array(list(edited.modules))
    arrays |= {f"shape_group.{shape}": np.array(names) for shape, names in edited.groups.items()}
    for name, parts in batches.items():
        keys = ("input_ids", "attention_mask", "labels")
        arrays |= {f"batch.{name}.{k}": part for k, part in zip(keys, parts, strict=True)}
    for phase in ("train", "eval"):
        found, weights = edited.phase(batches["inner"], training=phase == "train")

        def logits(name: str, changed: Network) -> Tensor:
            ids, mask, _ = batches[name]
            return functional_call(
                hf, changed, kwargs={"input_ids": ids, "attention_mask": mask}
            ).logits

        base, post, outer = logits("loc", {}), logits("loc", weights), logits("outer", weights)
        kl = F.kl_div(post.log_softmax(-1), base.log_softmax(-1), reduction="none", log_target=True)
        real = batches["loc"][1]
        l_edit = nll(outer, batches["outer"][2])
        l_loc = (kl.sum(-1) * real).sum() / real.sum()
        total = 0.1 * l_edit + l_loc
        found |= {
            "base_logits_loc": base, "post_logits_loc": post, "post_logits_outer": outer,
            "l_edit": l_edit, "l_loc": l_loc, "l_total_edit": total,
        }  # fmt: skip
        if phase == "train":
            learned = edited.learned()
            gradients = torch.autograd.grad(total, list(learned.values()))
            found |= {f"grad.{k}": g for k, g in zip(learned, gradients, strict=True)}
        arrays |= {f"{phase}.{k}": value for k, value in found.items()}
    return save(path, arrays)
