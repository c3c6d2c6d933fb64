"""Probes drawn from other records: seeded, marked, of the records alone, and never a leak."""

from __future__ import annotations

from pathlib import Path

from datamodules.drawn import by_relation, by_wording, draw_different_type, draw_same_type
from datamodules.records import KnowledgeEdit, Record, RephraseQuestion
from tests.benchmark_files import MCMKE, NESTED, asked, options, read, write_mcmke


def record(
    subject: str, true: str, new: str, kind: str = "town", relation: str = "founder"
) -> Record:
    question = f"Who is the {relation} of {subject}?"
    answers = {"answer_new": new, "answer_true": true}
    return Record(
        subject=subject,
        entity_type=kind,
        relation=relation,
        knowledge_edit=KnowledgeEdit(
            question=question, image_question=f"Who is the {relation} of this {kind}?", **answers
        ),
        rephrase_question=RephraseQuestion(rephrase_question=f"So: {question}", **answers),
        image=f"{subject}.png",
    )


TOWNS = [record(f"Town {n}", f"Founder {n}", f"Founder {n + 1}") for n in range(8)]


def test_the_same_question_is_asked_of_another_subject_with_what_is_true_of_it() -> None:
    by_subject = {town.subject: town for town in TOWNS}
    for town in draw_same_type(TOWNS, 0, by_wording):
        probe = town.same_type_entity_question
        assert probe is not None
        other = by_subject[probe.same_type_entity]
        assert other.subject != town.subject
        assert (probe.question, probe.answer) == (
            other.knowledge_edit.question,
            other.knowledge_edit.answer_true,
        )
        assert town.same_entity_image == other.image
        assert probe.answer != town.knowledge_edit.answer_new  # a leak would look like stability
        assert town.drawn == ("same_type_entity_question",)


def test_a_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    drawn = draw_same_type(TOWNS, 0, by_wording)
    assert draw_same_type(TOWNS[::-1], 0, by_wording)[::-1] == drawn
    assert draw_same_type(TOWNS, 1, by_wording) != drawn


def test_a_record_that_comes_changes_few_draws() -> None:
    """So what was decided about drawn probes holds when a table grows."""
    towns = [record(f"Town {n}", f"Founder {n}", f"Founder {n + 1}") for n in range(200)]
    lakes = [record(f"Lake {n}", f"{n} m", "9 m", "lake", "depth") for n in range(200)]

    def drawn(records: list[Record]) -> list[Record]:
        same = draw_same_type(records, 0, by_wording)
        return list(draw_different_type(same, 0, telling=1))

    before = drawn(towns + lakes)
    new = [record("Newton", "Ann", "Bo"), record("Loch", "3 m", "4 m", "lake", "depth")]
    after = drawn(towns + lakes + new)
    changed = sum(one != other for one, other in zip(before, after[:400], strict=True))
    assert changed < 20
    shown = {one.diff_entity_image for one in before}
    assert len(shown) > 200, "one is not drawn for all"


def test_no_probe_is_drawn_where_no_record_gives_one() -> None:
    alone = [TOWNS[0], record("Arden", "Holm", "Moor", "country", "capital")]
    assert draw_same_type(alone, 0, by_wording) == alone
    leak = [record("A", "x", "y"), record("B", "y", "z")]  # of B is true what A is to be taught
    first, second = draw_same_type(leak, 0, by_relation)
    assert first == leak[0]
    assert second.drawn


def test_another_type_is_one_that_shares_no_relation() -> None:
    many = [
        record("Arden", "Holm", "Moor", "country", "capital"),
        record("Arden", "North", "South", "country", "continent"),
        record("Kite", "Ida", "Una", "book", "author"),
        record("Kite", "Ardish", "Holmish", "book", "language"),
        record("Hum", "Ida", "Bo", "poem", "author"),  # a poem may be a book
        record("Hum", "loud", "low", "poem", "tone"),
    ]
    drawn = {(r.subject, r.relation): r for r in draw_different_type(many, 0)}
    book = drawn["Kite", "author"].diff_type_entity_question
    assert book is not None
    assert book.diff_type_entity == "Arden"
    assert book.question == "Who is the author of Arden?"
    assert book.answer == "Sorry, there is no book in the image"
    assert drawn["Kite", "author"].diff_entity_image == "Arden.png"
    assert drawn["Kite", "author"].drawn == ("diff_type_entity_question",)
    single = [*many[2:4], record("Vell", "x", "y", "river", "mouth")]
    assert draw_different_type(single, 0) == single  # one relation tells too little of a type


def test_sources_draw_where_they_are_asked_to(tmp_path: Path) -> None:
    other = {
        **NESTED,
        "case_id": 8,
        "requested_rewrite": {
            **NESTED["requested_rewrite"], "subject": "Bo Lund", "target_true": {"str": "Vellish"},
        },
    }  # fmt: skip
    drawn = read("counterfact", tmp_path, NESTED, other)
    assert asked(drawn, "unimodal")["stability_same"][:2] == (
        "The mother tongue of Bo Lund is",
        "Vellish",
    )
    assert "stability_same" not in asked(
        read("counterfact", tmp_path, NESTED, other, draw=False), "unimodal"
    )
    write_mcmke(tmp_path, MCMKE)
    source = options("mcmke", tmp_path).open()
    probes = asked(source, "transitive")
    assert probes["stability_same"][1:3] == ("Moor", "p1_u0.jpg")
    assert probes["stability_diff"].answer == "Sorry, there is no country in the image"
    assert probes["stability_diff"].image in ("p3_u0.jpg", "p4_u0.jpg")
