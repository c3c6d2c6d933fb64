"""The one LightningDataModule: train, validation and test edits for every scenario and model.

It works in three steps. Reading (the constructor): records are read and checked, pictures that a
scenario needs and that are not there stop the run before any weights load. Connecting: the model's
tokenizer and image processor are handed in. Setting up: facts that the unedited model does not know
are left out, as far as `limit` needs, and every row is tokenised once as a check.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader

from datamodules.collate import Collator, RowTable
from datamodules.images import ImageStore, missing_images_error, read_image
from datamodules.known_facts import KnownFacts, Knows, known_records
from datamodules.order import EditLoader, EditOrder, rank_and_world
from datamodules.prompt_encoder import PromptEncoder
from datamodules.records import NumberedRecord, Record
from datamodules.scenarios import Prompt, Scenario, true_questions
from datamodules.source import RecordSource, Split
from datamodules.workers import outlive_signals
from errors import DataError
from models.rows import EditBatch

log = logging.getLogger(__name__)


class EditDataModule(L.LightningDataModule):
    """Serves the edits of a data set under a scenario.

    Args:
        scenarios: split -> what is taught and asked there; splits without one are not served.
        batch_size: edits per training batch.
        accumulate: training batches per optimiser step.
        eval_batch_size: edits side by side in validation and test.
        num_workers: processes that prepare batches.
        seed: draws the order of training edits.
        limit: use the first `limit` edits of each split.
        overfit: train on so many batches alone, and validate on their edits.

    Attributes:
        known: split -> facts that the unedited model knows, where the source filters on them.
        leave_out: test edits that need not be served, since their results are there.

    Raises:
        DataError: a split has no records, or pictures are missing or damaged.
    """

    def __init__(
        self,
        source: RecordSource,
        scenarios: dict[Split, Scenario],
        *,
        batch_size: int = 1,
        accumulate: int = 1,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
        limit: int | None = None,
        overfit: int | None = None,
    ) -> None:
        super().__init__()
        self.source, self.scenarios = source, scenarios
        self.batch_size, self.accumulate = batch_size, accumulate
        self.eval_batch_size = eval_batch_size
        self.num_workers, self.seed, self.limit = num_workers, seed, limit
        self.overfit = overfit
        self.known: dict[Split, KnownFacts] = {}
        self.leave_out: frozenset[int] = frozenset()
        self._edits: dict[Split, list[NumberedRecord]] = {}
        self._make_table: Callable[[], RowTable] | None = None
        self._knows: Knows | None = None
        self._decodable: set[Path] = set()
        for split, scenario in scenarios.items():
            self._check_pictures(split, scenario)

    def connect(
        self, encoder: PromptEncoder, images: ImageStore, knows: Knows | None = None
    ) -> None:
        """Hands in what only the model knows.

        Args:
            encoder: its tokens.
            images: its pixels.
            knows: rows -> (R,) bool, whether the unedited model gives every answer token right;
                needed when the source filters on known facts.
        """
        self._make_table = partial(RowTable, encoder, images, self.source)
        self._knows = knows

    def setup(self, stage: str | None = None) -> None:
        """Leaves out the facts that the model does not know and checks every row.

        Raises:
            DataError: an answer tokenises to nothing, a picture is damaged, or no edit is left in
                a split.
        """
        for split, scenario in self.scenarios.items():
            if split in self._edits:
                continue
            numbered = list(enumerate(self.source.records(split)))
            if self.source.filter_known:
                numbered = self._known(split, numbered)
            numbered = numbered[: self.limit]
            for number, record in numbered:
                self._check_tokens(split, number, record, scenario)
            records = [record for _, record in numbered]
            self._check_decodable(self._picture_files(records, scenario))
            self._edits[split] = list(enumerate(records))

    def n_edits(self, split: Split) -> int:
        """How many edits a split serves."""
        return len(self._edits[split])

    def train_order(self) -> EditOrder:
        """The order of the training edits, from its beginning."""
        return EditOrder(
            self.n_edits("train"),
            self.batch_size,
            self.seed,
            self.accumulate,
            overfit=self.overfit,
        )

    def records(self, split: Split) -> list[Record]:
        """The records that a split serves, in order; an edit's id is its place here."""
        return [record for _, record in self._edits[split]]

    def probe_prompts(self, split: Split) -> Iterator[tuple[int, str, Prompt, Record]]:
        """Every probe of every edit: number of the edit, name of the probe, prompt, record."""
        for number, record in self._edits[split]:
            for probe, make_prompt in self.scenarios[split].probes.items():
                prompt = make_prompt(record)
                if prompt is not None:
                    yield number, probe, prompt, record

    def hops(self, split: Split) -> dict[int, int]:
        """Edit -> steps from the edited fact to Portability's answer, where it is asked."""
        edits = self._edits[split]
        return {number: record.hops for number, record in edits if record.hops is not None}

    def train_dataloader(self) -> EditLoader:
        """Training edits, shuffled anew each epoch; goes on where a checkpoint was written."""
        return EditLoader(
            self._edits["train"], self.train_order(), self._collator("train"), self.num_workers
        )

    def val_dataloader(self) -> DataLoader[EditBatch]:
        """Validation edits, in order."""
        edits = self._edits["val"]
        if self.overfit is not None:
            _, world = rank_and_world()
            edits = [self._edits["train"][number] for number in self.train_order().taken(world)]
        return self._loader("val", EditOrder(len(edits), self.eval_batch_size), edits)

    def test_dataloader(self) -> DataLoader[EditBatch]:
        """Test edits, in order."""
        n_edits, size = self.n_edits("test"), self.eval_batch_size
        return self._loader("test", EditOrder(n_edits, size, leave_out=self.leave_out))

    def first(self, split: Split, n: int, batch_size: int) -> DataLoader[EditBatch]:
        """The first n edits of a split, in order, in batches of any size."""
        return self._loader(split, EditOrder(n, batch_size))

    def transfer_batch_to_device(
        self, batch: EditBatch, device: torch.device, dataloader_idx: int
    ) -> EditBatch:
        """Moves a batch."""
        del dataloader_idx
        return batch.to(device)

    def _loader(
        self, split: Split, order: EditOrder, edits: list[NumberedRecord] | None = None
    ) -> DataLoader[EditBatch]:
        return DataLoader(
            self._edits[split] if edits is None else edits,  # type: ignore[arg-type]
            batch_sampler=order,
            collate_fn=self._collator(split),
            num_workers=self.num_workers,
            worker_init_fn=outlive_signals,
        )

    def _collator(self, split: Split) -> Collator:
        return Collator(self._connected(), self.scenarios[split])

    def _connected(self) -> Callable[[], RowTable]:
        if self._make_table is None:
            raise RuntimeError("connect() hands in tokens and pixels before setup()")
        return self._make_table

    def _picture_files(self, records: Sequence[Record], scenario: Scenario) -> list[Path]:
        """The pictures that edits of the records show, and their true facts where those count."""
        names = {name for record in records for name in scenario.images(record)}
        if self.source.filter_known:
            prompts = (prompt for record in records for prompt in true_questions(record))
            names |= {prompt.image for prompt in prompts if prompt.image is not None}
        return [self.source.picture(name) for name in sorted(names)]

    def _check_pictures(self, split: Split, scenario: Scenario) -> None:
        """All pictures of a split are there, and those of the first `limit` records are sound."""
        records = self.source.records(split)
        why = f"the {scenario.name} scenario on the {split} split of data={self.source.name}"
        files = self._picture_files(records, scenario)
        error = missing_images_error(files, self.source.image_root, why)
        if error is not None:
            raise error
        self._check_decodable(self._picture_files(records[: self.limit], scenario))

    def _check_decodable(self, files: Sequence[Path]) -> None:
        for file in files:
            if file not in self._decodable:
                read_image(file)
                self._decodable.add(file)

    def _check_tokens(self, split: Split, number: int, record: Record, scenario: Scenario) -> None:
        table = self._connected()()
        try:
            for make_prompt in (scenario.edit, *scenario.probes.values()):
                if (prompt := make_prompt(record)) is not None:
                    table.add(prompt, number)
        except DataError as error:
            raise DataError(
                f"record {number} (subject {record.subject!r}) of the {split} split of "
                f"data={self.source.name}: {error}"
            ) from error

    def _known(self, split: Split, records: list[NumberedRecord]) -> list[NumberedRecord]:
        """The records to edit: those that the unedited model knows, as far as `limit` needs."""
        if self._knows is None:
            raise RuntimeError("the source filters on known facts: connect(knows=...) is needed")
        known, facts = known_records(records, self.limit, self._connected(), self._knows)
        self.known[split] = facts
        not_asked = len(records) - facts.candidates
        log.info(
            "%s split: %d of %d candidate edits kept; the unedited model misses %d in text, "
            "%d on a picture%s",
            split,
            facts.kept,
            facts.candidates,
            facts.unknown_in_text,
            facts.unknown_on_pictures,
            f"; {not_asked} more were not asked about" if not_asked else "",
        )
        if not known:
            raise DataError(
                f"the unedited model knows none of the {len(records)} facts of the {split} split "
                f"of data={self.source.name}, so there is nothing to edit. Use a model that was "
                "pre-trained on this world (python pretrain.py data=...), or set "
                "data.filter_known=false."
            )
        return known
