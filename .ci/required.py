"""Say at once what the tests need and this machine lacks, before anything that takes long; exits with 1 then."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def absent() -> list[str]:
    """Return what is missing, each with what gives it."""
    lacking = [
        f"{name} (uv sync)" for name in ("playwright", "axe_playwright_python", "moto") if find_spec(name) is None
    ]
    if find_spec("playwright") is not None:
        from tests.chromium import path_of_chromium  # noqa: PLC0415  it needs playwright

        if path_of_chromium() is None:
            lacking.append("Chromium (apt-get install chromium, or MARROWSCOPE_CHROMIUM)")
    from tests.review.postgres import reason_absent  # noqa: PLC0415  it needs the extra review

    if reason := reason_absent():
        lacking.append(f"PostgreSQL ({reason})")
    return lacking


if __name__ == "__main__":
    if found := absent():
        sys.exit(f"found none of: {'; '.join(found)}; expected them, since no test may be skipped here")
