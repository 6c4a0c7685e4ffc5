"""The list of security requirements is complete, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "review-security.md").read_text(encoding="utf-8")

LEVEL_1 = {
    "2.1": range(1, 13), "2.2": range(1, 4), "2.3": [1], "2.5": range(1, 7), "2.7": range(1, 5), "2.8": [1],
    "3.1": [1], "3.2": range(1, 4), "3.3": [1, 2], "3.4": range(1, 6), "3.7": [1],
    "4.1": [1, 2, 3, 5], "4.2": [1, 2], "4.3": [1, 2],
    "5.1": range(1, 6), "5.2": range(1, 9), "5.3": range(1, 11), "5.5": range(1, 5),
    "6.2": [1], "7.1": [1, 2], "7.4": [1], "8.2": range(1, 4), "8.3": range(1, 5), "9.1": range(1, 4),
    "10.3": range(1, 4), "11.1": range(1, 6),
    "12.1": [1], "12.3": range(1, 6), "12.4": [1, 2], "12.5": [1, 2], "12.6": [1],
    "13.1": [1, 3], "13.2": range(1, 4), "13.3": [1],
    "14.2": range(1, 4), "14.3": [2, 3], "14.4": range(1, 8), "14.5": range(1, 4),
}  # fmt: skip
"""The numbers of ASVS 4.0.3 that level 1 has."""

NUMBERS = {f"{section}.{n}" for section, rows in LEVEL_1.items() for n in rows}
_NUMBER = re.compile(r"(\d+\.\d+)\.(\d+)(?: - \d+\.\d+\.(\d+))?")


def listed(part: str) -> list[str]:
    """Return the numbers in the first column of a table, ranges filled in."""
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| ")]
    found = [match for cell in cells for match in _NUMBER.finditer(cell)]
    return [
        f"{match[1]}.{n}" for match in found for n in range(int(match[2]), int(match[3] or match[2]) + 1)
    ]  # "3.4.1 - 3.4.3" is three


def test_every_requirement_of_level_1_is_listed() -> None:
    assert len(NUMBERS) == 128
    tested, others = PAGE.split("## Without a test")
    assert NUMBERS - {*listed(tested), *listed(others)} == set()
    assert set(listed(tested)) & set(listed(others)) == set(), "in one table alone"
    assert len(listed(others)) == len(set(listed(others)))
    verdicts = {line.split("|")[2].strip() for line in others.splitlines() if re.match(r"\| \d", line)}
    assert verdicts == {"held", "partly", "not met", "does not apply"}


def test_every_test_that_the_page_names_exists() -> None:
    files = [*(ROOT / "tests").rglob("test_*.py")]
    functions = {
        name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", PAGE)) - {path.stem for path in files}
    assert named - functions == set()
    assert set(re.findall(r"\b(test_\w+)\.py", PAGE)) <= {path.stem for path in files}
