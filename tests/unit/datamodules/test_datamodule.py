"""The DataModule: checks before work, distinct rows, one batch for many edits."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.collate import RowTable
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.known_facts import Knows
from datamodules.picture_file import read_image
from datamodules.pixel_slab import KEY_BYTES
from datamodules.prompt_encoder import Encoded, PictureLayout, PromptEncoder
from datamodules.prompts import Prompt, true_questions
from datamodules.scenarios import SCENARIOS, training_scenario
from datamodules.source import RecordSource
from datamodules.sources.tmke import read_tmke
from errors import DataError
from models.rows import TEXT_ONLY, EditBatch, Rows
from tests.tokenizers_small import opt_tokenizer
from tests.unit.datamodules.test_sources import RECORD, other, write

PICTURES = ("a_0.jpeg", "a_1.jpeg", "b.jpeg", "c.jpeg", "d.jpg")
TOKENIZER = opt_tokenizer()


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((4, 4)))).permute(2, 0, 1).float() / 255


MADE: list[tuple[int, int]] = []


def counted_pixels(image: Image.Image) -> torch.Tensor:
    MADE.append(image.size)
    return pixels(image)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index, name in enumerate(PICTURES):
        Image.new("RGB", (8, 8), (40 * index, 90, 10)).save(tmp_path / "images" / name)
    write(tmp_path / "t.json", RECORD, other("Car A"), other("Car B"))
    return tmp_path


def prompt_encoder() -> PromptEncoder:
    return PromptEncoder(TOKENIZER, PictureLayout(4, TOKENIZER.convert_tokens_to_ids("<image>")))


def make(
    source: RecordSource,
    scenario: str,
    encoder: PromptEncoder | None = None,
    knows: Knows = lambda rows: torch.ones(len(rows), dtype=torch.bool),
    **options: int,
) -> EditDataModule:
    data = EditDataModule(source, {"test": SCENARIOS[scenario]}, **options)
    data.connect(encoder or prompt_encoder(), ImageStore(pixels, in_threads=True), knows)
    return data


def batches(data: EditDataModule) -> list[EditBatch]:
    data.setup("test")
    return list(data.test_dataloader())


def text_of(rows: Rows, row: int) -> str:
    return TOKENIZER.decode(rows.input_ids[row][rows.attention_mask[row] & ~rows.image_slots[row]])


def test_a_batch_holds_every_probe_of_every_edit_once(root: Path) -> None:
    (batch,) = batches(make(read_tmke(root), "multimodal"))
    rows = batch.rows
    assert batch.subjects == ("Holden Caprice", "Car A", "Car B")
    assert batch.edit_ids == (0, 1, 2)
    assert set(batch.probes) == {
        name for name in SCENARIOS["multimodal"].probes if not name.endswith(("near", "subject"))
    }
    for probe_rows in batch.probes.values():
        assert rows.edit_index[probe_rows].tolist() == [0, 1, 2]
    # The multimodal edit is the question of reliability_s: one row serves both.
    assert torch.equal(batch.edit_rows, batch.probes["reliability_s"])
    assert len(rows) == 3 * len(batch.probes)
    # Pictures stand once, whoever shows them.
    assert rows.pixel_values is not None
    assert len(rows.pixel_values) == len(PICTURES)
    unseen = rows.image_index[batch.probes["reliability_u"]]
    assert len(set(unseen.tolist())) == 1
    expected = pixels(read_image(root / "images" / "a_1.jpeg"))
    assert torch.equal(rows.pixel_values[unseen[0]], expected)
    assert rows.image_index[batch.probes["locality_t_far"][0]] == TEXT_ONLY


def test_text_locality_stands_without_the_template_where_the_data_says_so(root: Path) -> None:
    (batch,) = batches(make(read_tmke(root), "unimodal"))
    assert text_of(batch.rows, int(batch.probes["locality_far"][0])).startswith("</s>Who led")
    assert text_of(batch.rows, int(batch.probes["generality"][0])).startswith("</s>Question: Who")


def test_selecting_rows_keeps_their_pictures(root: Path) -> None:
    (batch,) = batches(make(read_tmke(root), "transitive"))
    rows = batch.rows
    chosen = torch.cat([batch.probes["locality_i_far"], batch.edit_rows])
    part = rows.select(chosen)
    assert part.pixel_values is not None
    assert rows.pixel_values is not None
    assert len(part.pixel_values) == 1
    assert part.image_index.tolist() == [0, 0, 0, TEXT_ONLY, TEXT_ONLY, TEXT_ONLY]
    whole = rows.pixel_values[rows.image_index[chosen[0]]]
    assert torch.equal(part.pixel_values[0], whole)
    assert rows.select(batch.edit_rows).pixel_values is None


def test_answers_of_a_selection_equal_the_selection_of_answers(root: Path) -> None:
    (batch,) = batches(make(read_tmke(root), "unimodal"))
    chosen = batch.probes["portability"].flip(0)
    one, two = batch.rows.answers().select(chosen), batch.rows.select(chosen).answers()
    for field in ("row", "position", "target"):
        assert torch.equal(getattr(one, field), getattr(two, field))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batch_size_does_not_change_what_is_asked(root: Path, size: int) -> None:
    def asked(data: EditDataModule) -> list[tuple[str, str]]:
        return sorted(
            (name, text_of(batch.rows, row))
            for batch in batches(data)
            for name, chosen in batch.probes.items()
            for row in chosen.tolist()
        )

    source = read_tmke(root)
    assert asked(make(source, "transitive", eval_batch_size=size)) == asked(
        make(source, "transitive", eval_batch_size=8)
    )


def test_limit_takes_the_first_edits(root: Path) -> None:
    (batch,) = batches(make(read_tmke(root), "unimodal", limit=2))
    assert batch.subjects == ("Holden Caprice", "Car A")


def test_missing_pictures_stop_before_anything_and_are_named(root: Path) -> None:
    (root / "images" / "b.jpeg").unlink()
    (root / "images" / "d.jpg").unlink()
    with pytest.raises(DataError, match=r"5 pictures, and 2 of them are not in.*b\.jpeg, d\.jpg"):
        make(read_tmke(root), "transitive")
    assert len(batches(make(read_tmke(root), "unimodal"))) == 1


def test_a_truncated_picture_is_named(root: Path) -> None:
    path = root / "images" / "c.jpeg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"record 0 of .*\(subject 'Holden.*c\.jpeg cannot be read"):
        make(read_tmke(root), "multimodal").check()


def test_an_answer_that_tokenises_to_nothing_names_its_record(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = prompt_encoder()
    data = make(read_tmke(root), "unimodal", encoder)
    encode = encoder._encode

    def dropping(question: str, answer: str, picture: bool, plain: bool) -> Encoded:
        return encode(question, "" if "Car B" in question else answer, picture, plain)

    monkeypatch.setattr(encoder, "_encode", dropping)
    with pytest.raises(DataError, match=r"record 2 of .*\(subject 'Car B'\), the test split"):
        data.setup("test")


def misses(*subjects: str, asked: list[str] | None = None) -> Knows:
    """A model that misses questions which name some subjects, and keeps the questions."""

    def knows(rows: Rows) -> torch.Tensor:
        texts = [text_of(rows, row) for row in range(len(rows))]
        if asked is not None:
            asked.extend(texts)
        return torch.tensor([not any(subject in text for subject in subjects) for text in texts])

    return knows


def test_unknown_facts_are_left_out_and_counted(root: Path) -> None:
    source = read_tmke(root, filter_known="pictures")
    data = make(source, "unimodal", knows=misses("Car A"))
    (batch,) = batches(data)
    assert batch.subjects == ("Holden Caprice", "Car B")
    known = data.known["test"]
    assert (known.kept, known.candidates, known.unknown_in_text) == (2, 3, 1)

    nothing = make(source, "unimodal", knows=misses(""))
    with pytest.raises(DataError, match="knows none of the 3 facts"):
        nothing.setup("test")


def test_facts_known_in_text_are_kept_whatever_the_pictures(root: Path) -> None:
    """A model that reads no picture: none is asked about, nor opened where no probe shows one."""
    asked: list[str] = []
    in_text = misses("in the image", "Car A", asked=asked)
    data = make(read_tmke(root, filter_known="text"), "transitive", knows=in_text)
    data.setup("test")
    assert [record.subject for record in data.records("test")] == ["Holden Caprice", "Car B"]
    facts = data.known["test"]
    assert (facts.kept, facts.candidates) == (2, 3)
    assert (facts.unknown_in_text, facts.unknown_on_pictures) == (1, 0)
    assert len(asked) == 3 + 1, "a paraphrase that all share is asked once"
    assert not any("in the image" in text for text in asked)
    assert {prompt.image for prompt in data.answered} == {None}

    for path in (root / "images").iterdir():
        path.unlink()
    text_alone = make(read_tmke(root, filter_known="text"), "unimodal", knows=misses("Car A"))
    text_alone.setup("test")
    assert text_alone.n_edits("test") == 2
    nothing = make(read_tmke(root, filter_known="text"), "unimodal", knows=misses(""))
    with pytest.raises(DataError, match=r"none of the 3 facts .* or set data.filter_known=none"):
        nothing.setup("test")


def test_no_more_facts_are_asked_than_the_limit_needs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same edits as a model that is asked everything gives, whatever is asked at once."""
    write(root / "t.json", RECORD, *(other(f"Car {letter}") for letter in "ABCDEFGH"))
    source = read_tmke(root, filter_known="pictures")
    everything = make(source, "unimodal", knows=misses("Car A", "Car C"))
    everything.setup("test")
    known = [record.subject for record in everything.records("test")]
    assert known == ["Holden Caprice", "Car B", *(f"Car {letter}" for letter in "DEFGH")]
    for at_once in (1, 2, 5, 16):
        monkeypatch.setattr("datamodules.known_facts._RECORDS_AT_ONCE", at_once)
        monkeypatch.setattr("datamodules.known_facts._ROWS_AT_ONCE", 1 + at_once)
        asked: list[str] = []
        data = make(source, "unimodal", knows=misses("Car A", "Car C", asked=asked), limit=3)
        data.setup("test")
        assert [record.subject for record in data.records("test")] == known[:3]
        facts = data.known["test"]
        assert (facts.kept, facts.candidates, facts.unknown_in_text) == (3, 5, 2)
        assert not any("Car F" in text for text in asked)
        # A question that records share is asked once. Of those that come after an unknown one, as
        # many are asked at once as were unknown so far.
        assert len(asked) == 5 + facts.candidates + (0 if at_once == 1 else 1)


def test_pictures_beyond_the_limit_have_to_be_there_and_may_be_damaged(root: Path) -> None:
    last = other("Car Z")
    last["image"] = "z.jpeg"
    write(root / "t.json", RECORD, other("Car A"), last)
    with pytest.raises(DataError, match=r"1 of them is not in.*z\.jpeg"):
        make(read_tmke(root), "multimodal", limit=2)
    (root / "images" / "z.jpeg").write_bytes(b"no picture")
    assert len(batches(make(read_tmke(root), "multimodal", limit=2))) == 1
    with pytest.raises(DataError, match=r"z\.jpeg cannot be read"):
        make(read_tmke(root), "multimodal").check()
    unknown_first = read_tmke(root, filter_known="pictures")  # the damaged one is needed after all
    data = make(unknown_first, "multimodal", knows=misses("Car A"), limit=2)
    with pytest.raises(DataError, match=r"z\.jpeg cannot be read"):
        data.setup("test")


def test_a_look_opens_and_asks_no_more_than_its_edits_need(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture of two edits once, out of many; the training split as the test split."""
    records = [other(f"Car {number}") for number in range(30)]
    for number, record in enumerate(records):
        for field in ("image", "image_rephrase"):
            record[field] = f"{field}_{number}.jpeg"
            Image.new("RGB", (8, 8), "grey").save(root / "images" / record[field])
    write(root / "t.json", *records[:10])
    write(root / "train.json", *records[10:])
    opened: list[Path] = []

    def opening(path: Path) -> Image.Image:
        opened.append(path)
        return read_image(path)

    monkeypatch.setattr("datamodules.images.read_image", opening)
    asked: list[str] = []
    source = read_tmke(root, files=["t.json"], train_files=["train.json"], filter_known="pictures")
    scenarios = dict.fromkeys(("train", "test"), SCENARIOS["multimodal"])
    data = EditDataModule(source, scenarios, limit=2)
    data.connect(prompt_encoder(), ImageStore(pixels, in_threads=True), misses(asked=asked))
    checked: list[Prompt] = []
    check = RowTable.check

    def counting(table: RowTable, prompts: Iterable[Prompt]) -> int:
        prompts = list(prompts)
        checked.extend(prompts)
        return check(table, prompts)

    monkeypatch.setattr(RowTable, "check", counting)
    assert not opened
    data.check()
    data.setup()
    # Besides, of the test edits, the true answer to the one-hop question about the picture, and
    # what their two pictures and that of the same-type entity show.
    assert len(checked) == 2 * 2 * (1 + 11 + 6) + 2 * (1 + 3), "each row of four edits once"
    assert len(list(data.test_dataloader())) == 1
    assert len(data.train_dataloader()) == 2
    names = [path.name for path in opened]
    assert len(names) == len(set(names)) == 3 + 2 * 4, "three that all records share"
    edited = [(split, record) for split in scenarios for record in data.records(split)]
    assert len(asked) == len({(s, prompt) for s, r in edited for prompt in true_questions(r)})


def test_pixels_are_kept_up_to_a_number_of_bytes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MADE.clear()
    paths = [root / "images" / name for name in PICTURES]
    one = pixels(read_image(paths[0])).nbytes + KEY_BYTES
    store = ImageStore(counted_pixels, room=3 * one)
    for path in paths:
        store.check(path)
        store.check(path)
    assert len(MADE) == 3, "the others were opened alone, since there is no room for them"
    assert store.n_kept == 3
    again = pickle.loads(pickle.dumps(store))
    assert again.n_kept == 0, "pixels go to processes that share them, and into no file"
    for path in paths:
        assert torch.equal(store(path), pixels(read_image(path)))
    assert len(MADE) == 5
    assert store.n_kept == 3
    workers = SimpleNamespace(num_workers=3)
    monkeypatch.setattr("datamodules.images.get_worker_info", lambda: workers)
    for path in paths:
        again(path)
    assert again.n_kept == 1, "each of three processes that share nothing keeps a third"
    store.clear()
    assert store.n_kept == 0
    smaller = ImageStore(pixels, room=one - 1)
    assert smaller(paths[0]).shape == (3, 4, 4)
    assert smaller.n_kept == 0


def test_without_memory_to_keep_pixels_in_they_are_made_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr("datamodules.images.PixelSlab", refuse)
    store = ImageStore(pixels)
    for name in PICTURES:
        path = root / "images" / name
        assert torch.equal(store(path), pixels(read_image(path)))
    assert [record.getMessage() for record in caplog.records] == [
        "no memory to keep pixels in (Cannot allocate memory): they are decoded anew"
    ]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_batches_may_be_made_in_other_processes(root: Path, scenario: str) -> None:
    """The collator can be pickled, as starting a process anew needs."""
    data = make(read_tmke(root), scenario)
    data.setup("test")
    collate = data.test_dataloader().collate_fn
    records = list(enumerate(data.records("test")))
    batch, again = collate(records), pickle.loads(pickle.dumps(collate))(records)
    assert torch.equal(batch.rows.input_ids, again.rows.input_ids)
    assert batch.probes.keys() == again.probes.keys()


def test_training_asks_only_what_the_objective_needs(root: Path) -> None:
    write(root / "train.json", *(other(f"Car {n}") for n in range(20)))
    source = read_tmke(root, train_files=["train.json"], files=["t.json"])
    scenario = training_scenario(
        "unimodal", "text", {"generality", "locality_far", "locality_near"}
    )
    data = EditDataModule(source, {"train": scenario, "val": scenario}, batch_size=4, seed=3)
    encoder = PromptEncoder(TOKENIZER, PictureLayout(4, 3))
    data.connect(encoder, ImageStore(pixels))
    data.setup("fit")
    first, again = next(iter(data.train_dataloader())), next(iter(data.train_dataloader()))
    assert set(first.probes) == {"generality", "locality_far"}
    assert first.subjects == again.subjects  # the same seed draws the same order
    assert len(first) == 4
    assert len(first.rows) == 12
