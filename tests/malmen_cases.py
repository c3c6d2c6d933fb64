"""MALMEN over small models: options, an editor that was stirred, and its formulas as written."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from datamodules.scenarios import ScenarioName
from editors.malmen.config import MalmenOptions
from editors.malmen.editor import Malmen
from editors.mend.statistics import EPSILON
from editors.objective import Objective
from editors.rledit.config import RleditOptions
from editors.turn import Turn
from lightning_modules.malmen import MalmenTraining
from models.deltas import Site, linear_weight
from models.editable import EditableModel
from models.rows import EditBatch, Rows
from tests.builders import inputs
from tests.editors import editor_options

Training = TypeVar("Training", bound=MalmenTraining)
WEIGHTS = {"generality": 1.0, "portability": 0.5, "locality": 0.6}


def malmen_options(**changed: Any) -> MalmenOptions:
    small = {
        "layers": 2, "rank": 5, "n_blocks": 2, "init_std": 0.3, "edit_lr": 3e-2, "ridge": 0.5,
        "n_edits": 4, "batch_size": 2, "net_batch": 3, "max_iterations": 8, "lr": 1e-2,
        "lr_of_edit_lr": 1e-3, "lr_of_ridge": 1e-2, "weights": WEIGHTS,
    }  # fmt: skip
    return editor_options("malmen", **small | changed)  # type: ignore[no-any-return]


def rledit_options(**changed: Any) -> RleditOptions:
    trajectory = {"turns": 3, "n_edits": 2, "memory": 1, "discount": 0.7, "norm_weight": 0.05}
    of_malmen = malmen_options().model_dump(exclude={"name"})
    return editor_options("rledit", **of_malmen | trajectory | changed)  # type: ignore[no-any-return]


def stirred_training(
    kind: type[Training], options: MalmenOptions, model: EditableModel
) -> Training:
    """A training in the default number type, whose outer loss asks as the model can be taught."""
    torch.manual_seed(11)
    scenario: ScenarioName = "multimodal" if model.family == "llava" else "unimodal"
    objective = Objective(options.questions_for(scenario), options.weights.model_dump())
    module = kind(options, model, inputs(), objective)
    stir(module.editor)
    return module


def stir(editor: Malmen) -> Malmen:
    """Moves all parameters from where they begin, those that begin at zero above all."""
    draw = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for name, parameter in editor.networks.named_parameters():
            if not name.endswith(".a"):
                noise = torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
                parameter.add_(0.2 * noise.to(parameter))
        editor.log_ridge.add_(torch.linspace(-0.5, 0.5, len(editor.log_ridge)).to(editor.log_ridge))
    return editor


def malmen(model: EditableModel, **changed: Any) -> Malmen:
    """An editor in the model's number type, stirred and without statistics."""
    torch.manual_seed(5)
    return stir(Malmen(malmen_options(**changed), model).to(model.dtype))


def trained_malmen(model: EditableModel, seen: EditBatch, **changed: Any) -> Malmen:
    """The same with the statistics of some edits, in eval mode."""
    editor = malmen(model, **changed).train()
    editor.edit(model, seen, model.prefix(seen.rows, editor.first_layer(model)))
    return editor.eval()


def turn_of(model: EditableModel, layer: int, parts: Sequence[EditBatch]) -> Turn:
    """Edits in parts, each as it is read."""
    taught = [part.teaching() for part in parts]
    return Turn(
        sum(map(len, parts)), lambda: ((part, model.prefix(part.rows, layer)) for part in taught)
    )


def slow_tokens(
    model: EditableModel, sites: Sequence[Site], batch: EditBatch, edits: Sequence[int]
) -> dict[Site, tuple[Tensor, Tensor]]:
    """K and G of some edits: whole forward passes of a copy, a row and a token at a time.

    A row of the weight's gradient knows no tokens; that at the output of the map does.
    """
    pairs: dict[Site, list[tuple[Tensor, Tensor]]] = {site: [] for site in sites}
    copied = copy.deepcopy(model)
    for edit in edits:
        one = batch.rows.select(batch.edit_rows[edit][None])
        seen: dict[Site, tuple[Tensor, Tensor]] = {}
        handles = [copied.linear(site).register_forward_hook(_keeper(seen, site)) for site in sites]
        for site in sites:
            copied.linear(site).weight.requires_grad_(True)
        at = one.answers()
        logits = copied.hf(**_arguments(one)).logits[0, at.position].to(torch.float64)
        loss = -logits.log_softmax(-1).gather(1, at.target[:, None]).mean()
        gradients = torch.autograd.grad(loss, [seen[site][1] for site in sites])
        for handle in handles:
            handle.remove()
        length = one.input_ids.shape[1]
        for site, gradient in zip(sites, gradients, strict=True):
            sides = (seen[site][0].reshape(length, -1), gradient.reshape(length, -1))
            pairs[site].append(tuple(side[at.position].detach() for side in sides))  # type: ignore[arg-type]
    return {
        site: (torch.cat([k for k, _ in of]), torch.cat([g for _, g in of]))
        for site, of in pairs.items()
    }


def slow_changes(editor: Malmen, site: Site, keys: Tensor, gradients: Tensor) -> Tensor:
    """D of the formulas, one token after the other: (T, d_out)."""
    shape = (keys.shape[1], gradients.shape[1])
    network: Any = editor.networks["{}x{}".format(*shape)]
    alike = [
        s for s in editor.sites
        if linear_shape_of(editor, s) == shape
    ]  # fmt: skip
    mode = alike.index(site)
    statistics = network.statistics
    deviation = (statistics.squares / (statistics.count - 1)).sqrt() + EPSILON
    rows = []
    for k, g in zip(keys, gradients, strict=True):
        y = (torch.cat([k, g]) - statistics.mean) / deviation
        for block in network.blocks:
            inner = torch.relu(y @ block.a @ block.b + block.bias)
            y = y + block.scale[mode] * inner + block.shift[mode]
        k_new, g_new = y[: len(k)], y[len(k) :]
        rows.append(-editor.edit_lr[editor.sites.index(site)] * (k @ k_new) * g_new)
    return torch.stack(rows)


def slow_update(editor: Malmen, site: Site, keys: Tensor, changes: Tensor) -> Tensor:
    """The update (d_out, d_in) by the inverse of a d_in x d_in matrix."""
    ridge = editor.log_ridge[editor.sites.index(site)].exp()
    gram = keys.mT @ keys + ridge * torch.eye(keys.shape[1], dtype=keys.dtype)
    return (torch.linalg.inv(gram) @ keys.mT @ changes).mT


def slow_loss(
    model: EditableModel, edited: EditableModel, batch: EditBatch, objective: Objective
) -> Tensor:
    """The outer loss, a row at a time in whole forward passes."""
    total = torch.zeros((), dtype=torch.float64)
    for term in objective.terms:
        values = []
        for row in (int(r) for probe in term.probes for r in batch.probes.get(probe, ())):
            one = batch.rows.select(torch.tensor([row]))
            at = one.answers()
            after = edited.hf(**_arguments(one)).logits[0, at.position].log_softmax(-1)
            if term.kl:
                before = model.hf(**_arguments(one)).logits[0, at.position].log_softmax(-1)
                values.append((before.exp() * (before - after)).sum(-1).mean())
            else:
                values.append(-after.gather(1, at.target[:, None]).mean())
        if values:
            total = total + objective.weights[term.name] * torch.stack(values).mean()
    return total


def slow_gradients(
    editor: Malmen, model: EditableModel, batch: EditBatch, objective: Objective
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one update of a batch's edits, by one graph through everything."""
    tokens = slow_tokens(model, editor.sites, batch, range(len(batch)))
    for shape in {linear_shape_of(editor, site) for site in editor.sites}:
        network: Any = editor.networks["{}x{}".format(*shape)]
        alike = [site for site in editor.sites if linear_shape_of(editor, site) == shape]
        seen = torch.cat([torch.cat(tokens[site], -1) for site in alike])
        network.statistics.count.fill_(len(seen))
        network.statistics.mean.copy_(seen.mean(0))
        network.statistics.squares.copy_((seen - seen.mean(0)).square().sum(0))
    deltas = {
        site: slow_update(editor, site, keys, slow_changes(editor, site, keys, gradients))
        for site, (keys, gradients) in tokens.items()
    }
    loss = slow_loss(model, weights_of(model, deltas), batch, objective)
    names, parameters = zip(*editor.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    return loss, dict(zip(names, gradients, strict=True))


def linear_shape_of(editor: Malmen, site: Site) -> tuple[int, int]:
    network: Any = editor.networks[editor._mode[site][0]]
    return network.dims  # type: ignore[no-any-return]


def weights_of(model: EditableModel, deltas: Mapping[Site, Tensor]) -> EditableModel:
    """A copy whose weights are the edited ones, with the graph of the deltas where there is one."""
    changed = copy.deepcopy(model)
    for site, delta in deltas.items():
        linear = changed.linear(site)
        weight = linear_weight(model.linear(site)) + delta
        stored = weight.mT if weight.shape != linear.weight.shape else weight
        del linear.weight
        linear.weight = stored
    return changed


def _arguments(rows: Rows) -> dict[str, Any]:
    """What the transformers model is called with."""
    called: dict[str, Any] = {
        "input_ids": rows.input_ids, "attention_mask": rows.attention_mask.long()
    }  # fmt: skip
    return called if rows.pixel_values is None else called | {"pixel_values": rows.pixel_values}


def _keeper(seen: dict[Site, tuple[Tensor, Tensor]], site: Site) -> Any:
    def hook(_module: object, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen[site] = (args[0], output)

    return hook
