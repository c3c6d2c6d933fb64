"""The one LightningDataModule: train, validation and test edits for every scenario and model.

It works in three steps. Reading (the constructor): pictures that a scenario needs and that are not
there stop the run. Connecting: the model's tokenizer and image processor are handed in; the rows of
the first edits are then checked before any weights load. Setting up: facts that the unedited model
does not know are left out, and so are records that cannot be used (`datamodules.usable_records`);
edits are numbered after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any, Literal

import lightning as L
import torch

from datamodules.collate import Collator, RowTable
from datamodules.fact_marks import TaughtFacts
from datamodules.images import ImageStore
from datamodules.known_facts import KnownFacts, Knows
from datamodules.left_out import LeftOut, log_idle, log_left_out
from datamodules.order import BatchLoader, EditLoader, EditOrder, rank_and_world
from datamodules.prompt_encoder import PromptEncoder
from datamodules.prompts import Prompt
from datamodules.records import NumberedRecord, Record
from datamodules.scenarios import Scenario
from datamodules.served import ServedEdits
from datamodules.source import RecordSource, Split
from datamodules.usable_records import UsableRecords
from datamodules.workers import automatic_workers
from errors import DataError
from models.rows import EditBatch


class EditDataModule(L.LightningDataModule):
    """Serves the edits of a data set under a scenario.

    Args:
        scenarios: split -> what is taught and asked there; splits without one are not served.
        batch_size: edits per training batch.
        accumulate: training batches per optimiser step.
        eval_batch_size: edits side by side in validation and test.
        num_workers: processes that prepare batches; `auto`: none where all pixels are kept.
        seed: draws the order of training edits.
        limit: use the first `limit` edits of each split.
        overfit: train on so many batches alone, and validate on their edits.
        check_record: refuses a record that the editor cannot work with, as a DataError.
        taught: the facts that the model was taught when it was made; None: none.

    Attributes:
        encoder: the model's tokens, once it is connected.
        leave_out: test edits that need not be served, since their results are there.

    Raises:
        DataError: a split has no records, or pictures are missing.
    """

    encoder: PromptEncoder

    def __init__(
        self,
        source: RecordSource,
        scenarios: dict[Split, Scenario],
        *,
        batch_size: int = 1,
        accumulate: int = 1,
        eval_batch_size: int = 32,
        num_workers: int | Literal["auto"] = 0,
        seed: int = 0,
        limit: int | None = None,
        overfit: int | None = None,
        check_record: Callable[[Record], None] = lambda record: None,
        taught: TaughtFacts | None = None,
    ) -> None:
        super().__init__()
        self.source, self.scenarios = source, scenarios
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.accumulate, self.overfit = accumulate, overfit
        self.num_workers, self.seed, self.limit = num_workers, seed, limit
        self.taught = TaughtFacts() if taught is None else taught
        self.leave_out: frozenset[int] = frozenset()
        self._edits: dict[Split, ServedEdits] = {}
        self._images: ImageStore | None = None
        self._knows: Knows | None = None
        self._usable = {
            split: UsableRecords(
                source, split, scenario,
                limit=limit, check_record=check_record, taught=self.taught,
            )
            for split, scenario in scenarios.items()
        }  # fmt: skip

    def connect(
        self, encoder: PromptEncoder, images: ImageStore, knows: Knows | None = None
    ) -> None:
        """Hands in what only the model knows.

        Args:
            encoder: its tokens.
            images: its pixels.
            knows: as for `ask`, where the weights are loaded already.
        """
        for split, usable in self._usable.items():
            source = self.source.of(split)
            make_table = partial(
                RowTable, encoder, images, source.pictures,
                plain_locality=source.plain_locality, cloze=source.cloze,
            )  # fmt: skip
            usable.connect(make_table, images)
        self.encoder, self._images, self._knows = encoder, images, knows

    def ask(self, knows: Knows) -> None:
        """Hands in the unedited model, which `setup` asks when the source filters on known facts.

        Args:
            knows: rows -> (R,) bool, whether it gives every answer token right.
        """
        self._knows = knows

    def check(self) -> None:
        """Checks the rows of the first edits, before any weights load: tokens and pictures.

        Raises:
            DataError: an answer tokenises to nothing, or a picture is damaged.
        """
        for usable in self._usable.values():
            for _ in usable.first():
                pass

    def setup(self, stage: str | None = None) -> None:
        """Leaves out what the model does not know or cannot be used, and checks all other rows.

        Raises:
            DataError: an answer tokenises to nothing, a picture is damaged, or no edit is left in
                a split.
        """
        del stage
        for split, usable in self._usable.items():
            if split in self._edits:
                continue
            source = self.source.of(split)
            numbered = usable.first()
            if source.filter_known != "none":
                if self._knows is None:
                    raise RuntimeError("the source filters on known facts: ask(knows) is needed")
                numbered = usable.first_known(self._knows)
            self._serve(split, (place for place, _ in numbered))
            log_left_out(split, usable.left_out, source.on_error)
            self.taught.log(split, self.records(split))
            log_idle(split, self.records(split))

    @property
    def known(self) -> dict[Split, KnownFacts]:
        """Split -> facts that the unedited model knows, where the source filters on them."""
        facts = {split: usable.known_facts for split, usable in self._usable.items()}
        return {split: of_split for split, of_split in facts.items() if of_split is not None}

    @property
    def answered(self) -> dict[Prompt, bool]:
        """What the unedited model was asked for that -> whether it answered right."""
        answers = (usable.answered.items() for usable in self._usable.values())
        return dict(chain.from_iterable(answers))

    def fact_counts(self, split: Split) -> dict[str, Any] | None:
        """What is known of a split's facts, as plain values; None where nothing was asked or told.

        Returns:
            The counts of `KnownFacts` where the source filters, and those of `TaughtFacts`.
        """
        of_filter = asdict(self.known[split]) if split in self.known else {}
        return of_filter | self.taught.counts(split, self.records(split)) or None

    def left_out(self, split: Split) -> list[LeftOut]:
        """Records of a split that could not be used, of those that were looked at."""
        return self._usable[split].left_out

    @property
    def served(self) -> dict[Split, tuple[int, ...]]:
        """Split -> places of the records that it serves, in the order of its edits."""
        return {split: tuple(edits.places) for split, edits in self._edits.items()}

    def unserve(self, split: Split, reasons: Mapping[int, DataError]) -> None:
        """Leaves out edits that are served so far; the others are numbered anew.

        Args:
            split: theirs.
            reasons: edit -> what keeps it from being made.

        Raises:
            DataError: none is left, or with `data.on_error=error` the first of these.
        """
        places, usable = self._edits[split].places, self._usable[split]
        for number, error in reasons.items():
            usable.refuse(places[number], error)
        kept = [place for number, place in enumerate(places) if number not in reasons]
        if not kept:
            raise usable.nothing_left()
        self._serve(split, kept)
        if reasons:
            log_left_out(split, usable.left_out, self.source.of(split).on_error)

    def _serve(self, split: Split, places: Iterable[int]) -> None:
        self._edits[split] = ServedEdits(self.source.records(split), places)

    def n_edits(self, split: Split) -> int:
        """How many edits a split serves."""
        return len(self._edits[split])

    def tokens(self, split: Split) -> list[int]:
        """How many tokens each edit's rows have, what they begin with counted once."""
        of_records = self.record_tokens(split)
        return [of_records[place] for place in self._edits[split].places]

    def record_tokens(self, split: Split) -> Mapping[int, int]:
        """The same of every record that was checked so far, by its place."""
        return self._usable[split].tokens

    def train_order(self) -> EditOrder:
        """The order of the training edits, from its beginning."""
        return EditOrder(
            self.n_edits("train"),
            self.batch_size,
            self.seed,
            self.accumulate,
            overfit=self.overfit,
        )

    def records(self, split: Split) -> Sequence[Record]:
        """The records that a split serves, in order; an edit's id is its place here."""
        return self._edits[split].records

    def probe_prompts(self, split: Split) -> Iterator[tuple[int, str, Prompt, Record]]:
        """Every probe of every edit: number of the edit, name of the probe, prompt, record."""
        for number, record in self._edits[split]:
            for probe, make_prompt in self.scenarios[split].probes.items():
                prompt = make_prompt(record)
                if prompt is not None:
                    yield number, probe, prompt, record

    def hops(self, split: Split) -> dict[int, int]:
        """Edit -> steps from the edited fact to Portability's answer, where it is asked."""
        return {n: record.hops for n, record in self._edits[split] if record.hops is not None}

    def train_dataloader(self) -> EditLoader:
        """Training edits, shuffled anew each epoch; goes on where a checkpoint was written."""
        return EditLoader(
            self._edits["train"], self.train_order(), self._collator("train"), **self._preparing()
        )

    def val_dataloader(self) -> BatchLoader:
        """Validation edits, in order."""
        edits: Sequence[NumberedRecord] = self._edits["val"]
        tokens = self.tokens("val") if self.overfit is None else None
        if self.overfit is not None:
            _, world = rank_and_world()
            edits = [self._edits["train"][number] for number in self.train_order().taken(world)]
        order = EditOrder(len(edits), self.eval_batch_size, tokens=tokens, whole=True)
        return self._loader("val", order, edits)

    def test_dataloader(self) -> BatchLoader:
        """Test edits, in order."""
        tokens, size = self.tokens("test"), self.eval_batch_size
        order = EditOrder(len(tokens), size, leave_out=self.leave_out, tokens=tokens)
        return self._loader("test", order)

    def batches(
        self, split: Split, numbers: Sequence[Sequence[int]], *, teaching: bool = False
    ) -> BatchLoader:
        """Edits of a split in given batches; with `teaching` nothing that is asked of them."""
        every = self._collator(split)
        collate = every.teaching if teaching else every
        return BatchLoader(self._edits[split], numbers, collate, **self._preparing())

    def batch(self, split: Split, numbers: Iterable[int]) -> EditBatch:
        """A batch of some edits, made here and now."""
        return self._collator(split)([self._edits[split][number] for number in numbers])

    def transfer_batch_to_device(
        self, batch: EditBatch, device: torch.device, dataloader_idx: int
    ) -> EditBatch:
        """Moves a batch, unless the module takes it part by part."""
        del dataloader_idx
        module = None if self.trainer is None else self.trainer.lightning_module
        return batch if getattr(module, "takes_parts", False) else batch.to(device)

    def _loader(
        self, split: Split, order: EditOrder, edits: Sequence[NumberedRecord] | None = None
    ) -> BatchLoader:
        edits = self._edits[split] if edits is None else edits
        return BatchLoader(edits, order, self._collator(split), **self._preparing())

    def _collator(self, split: Split) -> Collator:
        make_table = self._usable[split].make_table
        return Collator(make_table, self.scenarios[split], reads=split == "test")

    def _preparing(self) -> dict[str, Any]:
        """How many processes are to prepare batches, and whether from there a GPU fetches them."""
        n_workers, images, trainer = self.num_workers, self._images, self.trainer
        if n_workers == "auto":
            edits = max(self.batch_size, self.eval_batch_size)
            siblings = trainer.num_devices if trainer else 1
            n_workers = 0 if images is None else automatic_workers(images, edits, siblings)
        if n_workers and images is not None:
            images.hand_over()
        on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return {"num_workers": n_workers, "pin_memory": on_gpu}
