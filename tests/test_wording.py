"""Counted nouns: one patient, two patients, and no message of the package that writes a number and a plural itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import marrowscope
from marrowscope.wording import count_of, decimals_apart

PACKAGE = Path(marrowscope.__file__).parent
PLURAL = re.compile(r" (?:[a-z-]+ ){0,2}?(?!(?:has|is|was|does|times|[a-z]*ss)\b)[a-z]{2,}s\b(?!/)")
VERB = re.compile(r" (?:has|is|was|does)\b")
NUMBER = re.compile(
    r"len\(.+\)|sum\(.+\)|.*\b_?n(_[a-z_]+)?|.*\.(height|shape\[\d\])|.*\b(error_count|n_unique|total)\(\)"
)


def plurals_after_numbers(source: str) -> list[str]:
    """List the f-strings of a source in which a number, not a constant, stands before a plural noun."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)) or value.format_spec:
                continue
            number, noun = ast.unparse(value.value), PLURAL.match(str(after.value))
            if noun is not None and not VERB.match(noun[0]) and NUMBER.fullmatch(number):
                found.append(f"line {value.lineno}: {{{number}}}{noun[0]}")
    return found


@pytest.mark.parametrize(
    ("n", "noun", "plural", "shown"),
    [
        (0, "patient", None, "0 patients"),
        (1, "patient", None, "1 patient"),
        (2, "patient", None, "2 patients"),
        (1, "class", "classes", "1 class"),
        (3, "class", "classes", "3 classes"),
        (1204, "kept contour", None, "1204 kept contours"),
    ],
)
def test_a_noun_follows_its_number(n: int, noun: str, plural: str | None, shown: str) -> None:
    assert count_of(n, noun, plural) == shown


def test_no_message_puts_a_number_before_a_plural_by_itself() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): hits
        for path in PACKAGE.rglob("*.py")
        if (hits := plurals_after_numbers(path.read_text(encoding="utf-8")))
    }
    assert found == {}, "write wording.count_of(n, noun) instead"


def test_the_search_for_plurals_finds_one() -> None:
    assert plurals_after_numbers('f"{path}: {len(cells)} rejected contours left out"') == [
        "line 1: {len(cells)} rejected contours"
    ]
    assert plurals_after_numbers('f"{n} patients"') == ["line 1: {n} patients"]
    assert plurals_after_numbers('f"{name} patients, {n} has this, {MOST} cells"') == []


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [(8.64, 8.62, ("8.64", "8.62")), (8.6, 8.6, ("8.6", "8.6")), (9.0, 8.6, ("9.0", "8.6"))],
)
def test_decimals_tell_a_value_from_its_limit(value: float, limit: float, shown: tuple[str, str]) -> None:
    digits = decimals_apart(value, limit, 1)
    assert (f"{value:.{digits}f}", f"{limit:.{digits}f}") == shown
    assert decimals_apart(1.0, 1.0 + 1e-15, 1) == 9  # nothing tells these apart
