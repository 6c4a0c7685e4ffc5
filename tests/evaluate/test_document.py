"""metrics.json of somebody else's hand: refused in a sentence, whatever is in it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from marrowscope.errors import InputError
from marrowscope.evaluate.catalog import CATALOG
from marrowscope.evaluate.document import SCHEMA_VERSION, EvaluatedRun, FigureRecord, read_document

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("content", ["[" * 5000 + "]" * 5000, '{"schema_version": ' + "9" * 5000 + "}", "\ufeff"])
def test_json_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"metrics\.json: cannot be read as JSON .*`marrowscope evaluate` again"):
        read_document(tmp_path)


def test_a_figure_is_a_number_or_nothing() -> None:
    assert "value" in FigureRecord.model_fields
    with pytest.raises(ValidationError, match=re.escape("finite number")):
        FigureRecord.model_validate({"value": float("inf")})


@pytest.mark.parametrize("limits", [(0.5, 0.4, None), (0.5, None, 0.6), (None, 0.4, 0.6)])
def test_a_figure_has_both_limits_or_none(limits: tuple[float | None, ...]) -> None:
    words = dict.fromkeys(("name", "unit", "marks", "interval", "group", "note", "undefined", "same_as"), "")
    values = dict(zip(("value", "lower", "upper"), limits, strict=True))
    figure = {"key": next(iter(CATALOG)), "all_negative": None, "n": 1, "n_patients": 1, "warning": None, **words}
    with pytest.raises(ValidationError, match="expected both limits or none"):
        FigureRecord.model_validate(figure | values)
    assert FigureRecord.model_validate(figure | {"value": 0.5, "lower": 0.4, "upper": 0.6}).upper == 0.6


def test_a_key_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    run = {name: {} if name == "bundle" else "" for name in EvaluatedRun.model_fields}
    content = {"schema_version": SCHEMA_VERSION, "run": run, "config": {"seed\n": 1}}
    (tmp_path / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="seed") as caught:
        read_document(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("depth", [40, 300, 900])
def test_a_deeply_nested_run_is_refused_before_anything_is_made_of_it(tmp_path: Path, depth: int) -> None:
    run = {name: "" for name in EvaluatedRun.model_fields if name != "bundle"}
    bundle = '{"a": ' * depth + "1" + "}" * depth
    text = json.dumps({"schema_version": SCHEMA_VERSION, "run": run})
    (tmp_path / "metrics.json").write_text(text.replace('"run": {', f'"run": {{"bundle": {bundle}, '), encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be read as JSON \(nested more than 32 deep\)"):
        read_document(tmp_path)
