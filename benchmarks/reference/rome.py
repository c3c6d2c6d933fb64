"""ROME as its authors run it: all prompts of an edit whole, at every step of the search for v*."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam

from benchmarks.reference.passes import Reference, Whole
from editors.rome.config import RomeOptions
from editors.rome.editor import Rome
from editors.rome.prompts import assemble
from editors.rome.update import rank_one, unit_direction
from editors.rome.values import Prompts
from metrics.precision import single
from models.editable import EditableModel
from models.hooks import forward_hooks
from models.rows import EditBatch, Rows


def rome_weights(
    reference: Reference, model: EditableModel, editor: Rome, batch: EditBatch
) -> dict[str, Tensor]:
    """The update of one edit as a dense matrix.

    Args:
        reference: names the parameters.
        model: its transformers model is asked, and where the edited matrix is.
        editor: prefixes, options and second moment.
        batch: one edit.
    """
    (edit_row,), (subject,) = batch.edit_rows.tolist(), batch.subjects
    options = editor.options
    rows, prompts = assemble(
        editor.encoder, [batch.rows.texts[edit_row]], [subject], prefixes=editor.prefixes,
        essence=options.kl_prompt, fact_token=options.fact_token,
    )  # fmt: skip
    search = _Search(
        reference.whole, model, editor, rows.to(model.device), prompts.to(model.device)
    )
    offset = search.best()
    asked, plain = prompts.rewriting, int(prompts.plain)
    k_star = search.keys[asked].mean(0, keepdim=True)
    u = unit_direction(k_star, editor.second_moment)
    k, v_0 = search.keys[plain][None], search.values[plain][None]
    delta = rank_one(u, k.to(u), v_0.to(u), (v_0 + offset).to(u))
    return reference.weights({editor.site: delta.dense()[0]})


@dataclass
class _Search:
    """v* of one edit by whole passes over its prompts.

    Attributes:
        keys: (R, d_in) what the edited matrix reads at the lookup tokens; after the first pass.
        values: (R, d) what it writes there.
    """

    whole: Whole
    model: EditableModel
    editor: Rome
    rows: Rows
    prompts: Prompts
    keys: Tensor = field(init=False)
    values: Tensor = field(init=False)

    def best(self) -> Tensor:
        """The offset after all steps or the early stop: (d,)."""
        options: RomeOptions = self.editor.options
        width = self.model.linear(self.editor.site).get_parameter("weight").shape[0]
        dtype = single(self.model.dtype)
        offset = torch.zeros(width, device=self.model.device, dtype=dtype, requires_grad=True)
        adam = Adam([offset], lr=options.lr)
        before: Tensor | None = None
        for _ in range(options.steps - 1):
            logits = self._logits(offset)
            essence = logits[self.prompts.essence, self.prompts.lookup[self.prompts.essence]]
            now = essence.to(dtype).log_softmax(-1)
            if before is None:
                before = now.detach()
                v_0 = self.values[int(self.prompts.plain)]
                limit = options.clamp * v_0.norm()
            at = self.prompts.at
            log_p = logits[at.row, at.position].to(dtype).log_softmax(-1)
            nll = F.nll_loss(log_p, at.target, reduction="none")
            rows = self.prompts.rewriting
            loss = at.row_mean(nll)[rows].mean()
            loss = loss + options.kl * (now.exp() * (now - before)).sum()
            loss = loss + options.weight_decay * offset.norm() / v_0.norm().square()
            if float(loss.detach()) < options.stop_loss:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                if offset.norm() > limit:
                    offset.mul_(limit / offset.norm())
        return offset.detach()

    def _logits(self, offset: Tensor) -> Tensor:
        """Of all prompts at all tokens, (R, T, V), the offset added at the lookup tokens."""
        lookup = self.prompts.lookup
        where = (torch.arange(len(lookup), device=lookup.device), lookup)

        def move(_module: object, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            shape = (len(lookup), -1)
            if not hasattr(self, "keys"):
                self.keys = args[0].reshape(*shape, args[0].shape[-1])[where].detach()
                self.values = output.reshape(*shape, output.shape[-1])[where].detach()
            whole = output.reshape(*shape, output.shape[-1])
            moved = whole.index_put(where, whole[where] + offset.to(whole.dtype))
            return moved.reshape(output.shape)

        with forward_hooks([(self.model.linear(self.editor.site), move)]), torch.enable_grad():
            logits: Tensor = self.whole(
                input_ids=self.rows.input_ids, attention_mask=self.rows.attention_mask.long()
            )
        return logits
