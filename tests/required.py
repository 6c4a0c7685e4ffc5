"""Programs that some tests need beside Python: absent, a test skips with the reason, or fails where they are required.

MARROWSCOPE_REQUIRED names them, divided by spaces: `.ci/run` sets it to all of them, whether it could install them or
not, so that no test is skipped in silence there.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from types import ModuleType

CHROMIUM, POSTGRESQL, RAY, STORE, AXE = "chromium", "postgresql", "ray", "store", "axe"


def skip_without(program: str, reason: str, *, whole_module: bool = False) -> NoReturn:
    """Skip the test, or the module that is being imported, for ``reason``; or fail where ``program`` is required."""
    if program in os.environ.get("MARROWSCOPE_REQUIRED", "").split():
        pytest.fail(f"{program} is required here: {reason}")
    pytest.skip(reason, allow_module_level=whole_module)


def module_of(program: str, name: str, *, whole_module: bool = False) -> ModuleType:
    """Import the module ``name`` that ``program`` is used by; without it, do as ``skip_without`` does."""
    try:
        return import_module(name)
    except ImportError as error:
        skip_without(program, f"{name} is not installed ({error})", whole_module=whole_module)
