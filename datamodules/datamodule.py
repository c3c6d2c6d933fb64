"""The one LightningDataModule: train, validation and test edits for every scenario and model.

It works in three steps. Reading (the constructor): records are read and checked, pictures that a
scenario needs and that are not there stop the run before any weights load. Connecting: the model's
tokenizer and image processor are handed in. Setting up: every row is tokenised once as a check,
facts that the unedited model does not know are left out, and the records go into an Arrow table
that the loader's workers share.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import lightning as L
import torch
from datasets import Dataset as ArrowTable
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.collate import Collator, RowTable, encode
from datamodules.images import ImageStore, missing_images_error, read_image
from datamodules.order import EditLoader, EditOrder
from datamodules.prompt_encoder import PromptEncoder
from datamodules.records import Record
from datamodules.scenarios import Prompt, Scenario, true_questions
from datamodules.source import RecordSource, Split
from errors import DataError
from models.rows import EditBatch, Rows

log = logging.getLogger(__name__)
Knows = Callable[[Rows], Tensor]
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class KnownFacts:
    """How many facts of a split the unedited model knows, in text and on the pictures used."""

    kept: int
    candidates: int
    unknown_in_text: int
    unknown_on_pictures: int


class Edits(Dataset[tuple[int, Record]]):
    """Records of one split in an Arrow table, with their position in the split."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._table = ArrowTable.from_dict(
            {"record": [record.model_dump_json() for record in records]}
        )

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[int, Record]:
        return index, Record.model_validate_json(self._table[index]["record"])


class EditDataModule(L.LightningDataModule):
    """Serves the edits of a data set under a scenario.

    Args:
        source: the records.
        scenarios: split -> what is taught and asked there; splits without one are not served.
        batch_size: edits per training batch.
        accumulate: training batches per optimiser step.
        eval_batch_size: edits side by side in validation and test.
        num_workers: processes that prepare batches.
        seed: draws the order of training edits.
        limit: use the first `limit` edits of each split.

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
    ) -> None:
        super().__init__()
        self.source, self.scenarios = source, scenarios
        self.batch_size, self.accumulate = batch_size, accumulate
        self.eval_batch_size = eval_batch_size
        self.num_workers, self.seed, self.limit = num_workers, seed, limit
        self.known: dict[Split, KnownFacts] = {}
        self.leave_out: frozenset[int] = frozenset()
        self._edits: dict[Split, Edits] = {}
        self._encoder: PromptEncoder | None = None
        self._images: ImageStore | None = None
        self._knows: Knows | None = None
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
        self._encoder, self._images, self._knows = encoder, images, knows

    def setup(self, stage: str | None = None) -> None:
        """Checks every row and leaves out the facts that the model does not know.

        Raises:
            DataError: an answer tokenises to nothing, or no edit is left in a split.
        """
        for split, scenario in self.scenarios.items():
            if split in self._edits:
                continue
            records = list(enumerate(self.source.records(split)))
            if self.source.filter_known:
                records = self._known(split, records)
            records = records[: self.limit]
            for number, record in records:
                self._check_tokens(split, number, record, scenario)
            self._edits[split] = Edits([record for _, record in records])

    def n_edits(self, split: Split) -> int:
        """How many edits a split serves."""
        return len(self._edits[split])

    def train_order(self) -> EditOrder:
        """The order of the training edits, from its beginning."""
        return EditOrder(self.n_edits("train"), self.batch_size, self.seed, self.accumulate)

    def records(self, split: Split) -> list[Record]:
        """The records that a split serves, in order; an edit's id is its place here."""
        edits = self._edits[split]
        return [edits[index][1] for index in range(len(edits))]

    def probe_prompts(self, split: Split) -> Iterator[tuple[int, str, Prompt, Record]]:
        """Every probe of every edit: number of the edit, name of the probe, question, record."""
        probes = self.scenarios[split].probes
        for number, record in enumerate(self.records(split)):
            for probe, ask in probes.items():
                one = ask(record)
                if one is not None:
                    yield number, probe, one, record

    def hops(self, split: Split) -> dict[int, int]:
        """Edit -> steps from the edited fact to Portability's answer, where it is asked."""
        found = {number: record.hops for number, record in enumerate(self.records(split))}
        return {number: hops for number, hops in found.items() if hops is not None}

    def train_dataloader(self) -> EditLoader:
        """Training edits, shuffled anew each epoch; goes on where a checkpoint was written."""
        return EditLoader(
            self._edits["train"], self.train_order(), self._collator("train"), self.num_workers
        )

    def val_dataloader(self) -> DataLoader[EditBatch]:
        """Validation edits, in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[EditBatch]:
        """Test edits, in order."""
        return self._in_order("test")

    def first(self, split: Split, n: int, batch_size: int) -> DataLoader[EditBatch]:
        """The first n edits of a split, in order, in batches of any size."""
        return DataLoader(
            self._edits[split],  # type: ignore[arg-type]
            batch_sampler=EditOrder(n, batch_size),
            collate_fn=self._collator(split),
            num_workers=self.num_workers,
        )

    def transfer_batch_to_device(
        self, batch: EditBatch, device: torch.device, dataloader_idx: int
    ) -> EditBatch:
        """Moves a batch."""
        del dataloader_idx
        return batch.to(device)

    def _in_order(self, split: Split) -> DataLoader[EditBatch]:
        edits = self._edits[split]
        return DataLoader(
            edits,  # type: ignore[arg-type]
            batch_sampler=EditOrder(
                len(edits),
                self.eval_batch_size,
                leave_out=self.leave_out if split == "test" else (),
            ),
            collate_fn=self._collator(split),
            num_workers=self.num_workers,
        )

    def _collator(self, split: Split) -> Collator:
        encoder, images = self._connected()
        return Collator(
            encoder,
            images,
            self.source.picture,
            self.scenarios[split],
            plain_locality=self.source.plain_locality,
        )

    def _connected(self) -> tuple[PromptEncoder, ImageStore]:
        if self._encoder is None or self._images is None:
            raise RuntimeError("connect() hands in tokens and pixels before setup()")
        return self._encoder, self._images

    def _check_pictures(self, split: Split, scenario: Scenario) -> None:
        root = self.source.image_root
        records = self.source.records(split)
        names = {name for record in records for name in scenario.images(record)}
        if self.source.filter_known:
            asked = (one for record in records for one in true_questions(record))
            names |= {one.image for one in asked if one.image is not None}
        paths = [self.source.picture(name) for name in sorted(names)]
        why = f"the {scenario.name} scenario on the {split} split of data={self.source.name}"
        error = missing_images_error(paths, root, why)
        if error is not None:
            raise error
        for path in paths:
            read_image(path)

    def _check_tokens(self, split: Split, number: int, record: Record, scenario: Scenario) -> None:
        encoder, _ = self._connected()
        for ask in (scenario.edit, *scenario.probes.values()):
            asked = ask(record)
            try:
                if asked is not None:
                    encode(
                        encoder, asked._replace(plain=asked.plain and self.source.plain_locality)
                    )
            except DataError as error:
                raise DataError(
                    f"record {number} (subject {record.subject!r}) of the {split} split of "
                    f"data={self.source.name}: {error}"
                ) from error

    def _known(self, split: Split, records: list[tuple[int, Record]]) -> list[tuple[int, Record]]:
        """The records whose true answers the unedited model gives, in text and on pictures."""
        if self._knows is None:
            raise RuntimeError("the source filters on known facts: connect(knows=...) is needed")
        asked = sorted(
            {one for _, record in records for one in true_questions(record)},
            key=lambda one: (one.image is not None, len(one.question), one),
        )
        right = dict(zip(asked, self._answers_right(asked), strict=True))
        kept, text, pictures = [], 0, 0
        for number, record in records:
            wrong = [one for one in true_questions(record) if not right[one]]
            if not wrong:
                kept.append((number, record))
            elif any(one.image is None for one in wrong):
                text += 1
            else:
                pictures += 1
        self.known[split] = KnownFacts(len(kept), len(records), text, pictures)
        log.info(
            "%s split: %d of %d candidate edits kept; the unedited model misses %d in text, "
            "%d on a picture",
            split,
            len(kept),
            len(records),
            text,
            pictures,
        )
        if not kept:
            raise DataError(
                f"the unedited model knows none of the {len(records)} facts of the {split} split "
                f"of data={self.source.name}, so there is nothing to edit. Use a model that was "
                "pre-trained on this world (python pretrain.py data=...), or set "
                "data.filter_known=false."
            )
        return kept

    def _answers_right(self, asked: Sequence[Prompt]) -> list[bool]:
        encoder, images = self._connected()
        knows = self._knows
        if knows is None:
            raise RuntimeError("connect(knows=...) is needed")
        right: list[bool] = []
        for start in range(0, len(asked), _ROWS_AT_ONCE):
            table = RowTable(
                encoder,
                images,
                self.source.picture,
                plain_locality=self.source.plain_locality,
            )
            for one in asked[start : start + _ROWS_AT_ONCE]:
                table.add(one, 0)
            right += knows(table.rows()).tolist()
        return right
