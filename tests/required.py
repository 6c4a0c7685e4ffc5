"""Programs that some tests need beside Python: absent, a test skips with the reason, or fails where they are required.

MARROWSCOPE_REQUIRED names them, divided by spaces: `.ci/run` sets it to what it has installed.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

CHROMIUM, POSTGRESQL, RAY, STORE = "chromium", "postgresql", "ray", "store"


def skip_without(program: str, reason: str) -> NoReturn:
    """Skip the test for ``reason``, or fail it where ``program`` is required."""
    if program in os.environ.get("MARROWSCOPE_REQUIRED", "").split():
        pytest.fail(f"{program} is required here: {reason}")
    pytest.skip(reason)
