"""The checklists: every item once, every answer a sentence, and nothing said that the evaluation cannot know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from marrowscope.evaluate.catalog import CATALOG
from marrowscope.evaluate.checklists import BY_THE_AUTHORS, answers, checklists_markdown, load_checklists
from marrowscope.evaluate.document import CenterRecord, EvaluatedRun, EvaluationDocument, FigureRecord
from marrowscope.evaluate.link import EvaluateConfig

if TYPE_CHECKING:
    from marrowscope.evaluate.checklists import Checklist


def document(**other: object) -> EvaluationDocument:
    figures = tuple(
        FigureRecord(
            key=kind.key,
            name=kind.title,
            value=None,
            lower=None,
            upper=None,
            all_negative=None,
            n=0,
            unit=kind.unit.many,
            n_patients=0,
            marks="",
            interval=kind.method.value,
            group=kind.group,
            note="",
            warning=None,
            undefined="nothing",
            same_as="",
        )
        for kind in CATALOG.values()
    )
    run = EvaluatedRun(
        created_utc="2026-01-01",
        marrowscope_version="0",
        bundle={"name": "ours", "version": "1", "sha256": "ab"},
        backend="openvino",
        device="CPU",
        precision="f32",
        input_sha256="01",
        config_sha256="02",
    )
    center = CenterRecord(center="A|B", n_patients=3, n_fields=4, figures=figures, subgroups=(), decision_curve=())
    values: dict[str, object] = {
        "run": run,
        "config": EvaluateConfig(),
        "interval": "bootstrap",
        "categories": (),
        "n_fields_only_in_run": 0,
        "n_fields_only_in_cohort": 0,
        "centers": (center,),
        "across_centers": (),
        "characteristics": (),
        "flows": (),
    }
    return EvaluationDocument.model_validate(values | other)


@pytest.mark.parametrize(
    ("key", "first", "last", "n"),
    [
        ("tripod_ai", "1", "27c", 52),
        ("claim", "1", "42", 42),
        ("stard", "1", "30", 34),
    ],
)
def test_each_item_is_there_once_in_order(key: str, first: str, last: str, n: int) -> None:
    checklist = next(item for item in load_checklists() if item.key == key)
    numbers = [item.number for item in checklist.items]
    assert (numbers[0], numbers[-1], len(numbers), len(set(numbers))) == (first, last, n, n)
    order = [(int(re.sub(r"\D", "", number)), number) for number in numbers]
    assert order == sorted(order)


def test_every_answer_is_known_and_used() -> None:
    known = set(answers(document()))
    used = {item.answer for checklist in load_checklists() for item in checklist.items} - {""}
    assert used == known
    assert all(text.endswith(".") or text == "bootstrap" for text in answers(document()).values())
    assert not any("{" in text or "nan" in text.split() for text in answers(document()).values())


def row(text: str, checklist: Checklist, number: str) -> str:
    section = text.split(f"## {checklist.name}")[1].split("\n## ", maxsplit=1)[0]
    return next(line for line in section.splitlines() if line.startswith(f"| {number} |"))


def test_what_is_known_is_filled_in_and_the_rest_left_to_the_authors() -> None:
    tripod, claim, stard = load_checklists()
    text = checklists_markdown(document())
    assert row(text, tripod, "17") == f"| 17 | ethical approval | {BY_THE_AUTHORS} |"
    assert "1 center: A\\|B (3 patients)" in row(text, tripod, "6a")
    assert "No threshold was used" in row(text, stard, "12a")
    assert "Bundle ours 1, SHA-256 ab" in row(text, claim, "22")
    assert "The run has no calls" in row(text, stard, "15")
    assert "1 center, at least 5 needed" in row(text, tripod, "12d")
    chosen = checklists_markdown(document(config=EvaluateConfig(threshold=0.2)))
    assert "above 0.2000" in row(chosen, stard, "12a")
