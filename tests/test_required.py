"""A test that needs a program skips without it, and fails where that is required; CI requires all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.required import AXE, CHROMIUM, POSTGRESQL, RAY, STORE, module_of, skip_without

ROOT = Path(__file__).parents[1]
PROGRAMS = (AXE, CHROMIUM, POSTGRESQL, RAY, STORE)


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_absent_skips_and_fails_where_it_is_required(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARROWSCOPE_REQUIRED", raising=False)
    with pytest.raises(Skipped, match="it is not here"):
        skip_without(program, "it is not here")
    with pytest.raises(Skipped, match="no_such_module is not installed"):
        module_of(program, "no_such_module")
    monkeypatch.setenv("MARROWSCOPE_REQUIRED", f"another {program}")
    with pytest.raises(Failed, match=f"{program} is required here: it is not here"):
        skip_without(program, "it is not here")
    with pytest.raises(Failed, match=f"{program} is required here: no_such_module is not installed"):
        module_of(program, "no_such_module", whole_module=True)
    assert module_of(program, "json").loads("1") == 1


def test_ci_requires_every_program_whoever_runs_it() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    required = [line for line in lines if line.strip().startswith("export MARROWSCOPE_REQUIRED=")]
    assert [line for line in required if line != line.strip()] == [], "under a condition, it is not always required"
    named = {name for line in required for name in re.findall(r"[a-z]+", line.split("=")[1])}
    assert named == set(PROGRAMS)


def test_no_test_skips_without_asking_whether_it_may() -> None:
    sources = [path for path in (ROOT / "tests").rglob("*.py") if path.name not in {"required.py", "test_required.py"}]
    asks = re.compile(r"importorskip\(\s*[\"'](playwright|axe_playwright_python|psycopg|ray|moto)")
    assert [str(path) for path in sources if asks.search(path.read_text(encoding="utf-8"))] == []
