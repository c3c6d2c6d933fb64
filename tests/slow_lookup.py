"""Where a fact is looked up and what should be said there, slowly: for the tests of ROME and MEMIT.

One unpadded prompt at a time goes whole through transformers' own model, the offset is added by a
hook, and torch's Adam moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.prompt_encoder import PromptEncoder
from editors.rome.config import LookupOptions
from models.editable import EditableModel
from tests.rome_cases import FACTS


class SlowLookup:
    """One of `FACTS`.

    Args:
        model: asked through its transformers model.
        module: where the offset is added: a linear map or a decoder layer.
        number: which fact.
    """

    def __init__(
        self,
        model: EditableModel,
        encoder: PromptEncoder,
        options: LookupOptions,
        prefixes: Sequence[str],
        module: nn.Module,
        number: int,
    ) -> None:
        self.model, self.options, self.prefixes, self.module = model, options, prefixes, module
        self.tokenizer = encoder.tokenizer
        self.question, self.answer, self.subject = FACTS[number]

    def place(self, text: str, prompt_end: int) -> int:
        tokens = self.tokenizer(text)
        first = text.rindex(self.subject)
        last = tokens.char_to_token(first + len(self.subject) - 1)
        named = {
            "subject_first": tokens.char_to_token(first),
            "subject_last": last,
            "subject_first_after_last": last + 1,
            "last": prompt_end,
        }
        return named[self.options.fact_token]

    def prompts(self) -> list[tuple[Tensor, int, Tensor]]:
        """Token ids, lookup token and target ids of each prompt; no targets for the last."""
        found = []
        for prefix in ("", *self.prefixes):
            prompt = f"{prefix}Question: {self.question} Short answer:"
            text = f"{prompt} {self.answer}"
            tokens = self.tokenizer(text)
            first = tokens.char_to_token(len(prompt))  # an answer's token may own its space
            first = tokens.char_to_token(len(prompt) + 1) if first is None else first
            ids = torch.tensor([tokens["input_ids"]])
            found.append((ids, self.place(text, first - 1), ids[0, first:]))
        essence = self.options.kl_prompt.replace("{subject}", self.subject)
        ids = torch.tensor([self.tokenizer(essence)["input_ids"]])
        found.append((ids, self.place(essence, ids.shape[1] - 1), ids[0, :0]))
        return found

    def logits(self, ids: Tensor, place: int, offset: Tensor) -> Tensor:
        def put(_module: nn.Module, _args: object, output: Any) -> Any:
            tensor = output[0] if isinstance(output, tuple) else output
            flat = tensor.reshape(-1, tensor.shape[-1]).clone()
            flat[place] = flat[place] + offset
            moved = flat.reshape(tensor.shape)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        handle = self.module.register_forward_hook(put)
        logits = self.model.hf(input_ids=ids).logits[0]
        handle.remove()
        return logits if logits.dtype == torch.float64 else logits.float()

    @torch.no_grad()
    def read(
        self, ids: Tensor, place: int, module: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Input and output of a module, by default the one moved, at a token: (d_in,), (d_out,)."""
        caught: list[Tensor] = []

        def catch(_module: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
            said = output[0] if isinstance(output, tuple) else output
            caught.extend(tensor.reshape(-1, tensor.shape[-1])[place] for tensor in (args[0], said))

        handle = (module or self.module).register_forward_hook(catch)
        self.model.hf(input_ids=ids)
        handle.remove()
        return caught[0], caught[1]

    def value(self) -> Tensor:
        """What the module should say at the lookup token: v* or z, (d_out,)."""
        chosen, prompts = self.options, self.prompts()
        start = self.read(*prompts[0][:2])[1]
        offset = torch.zeros_like(start, requires_grad=True)
        adam = torch.optim.Adam([offset], lr=chosen.lr)
        ids, place, _ = prompts[-1]
        before = self.logits(ids, place, torch.zeros_like(start))[place].log_softmax(-1).detach()
        for _ in range(chosen.steps - 1):
            losses = []
            for ids, place, targets in prompts[:-1]:
                logits = self.logits(ids, place, offset)[-len(targets) - 1 : -1]
                losses.append(F.cross_entropy(logits, targets))
            ids, place, _ = prompts[-1]
            now = self.logits(ids, place, offset)[place].log_softmax(-1)
            kl = F.kl_div(before, now, log_target=True, reduction="sum")
            decay = offset.norm() / start.norm() ** 2
            loss = torch.stack(losses).mean() + chosen.kl * kl + chosen.weight_decay * decay
            if loss < chosen.stop_loss:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                limit = chosen.clamp * start.norm()
                offset.mul_(min(1.0, float(limit / offset.norm())))
        return start + offset.detach()
