"""What the tests of the report share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from marrowscope.report import fonts, typeset

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _fonts_are_listed_once() -> Iterator[None]:
    """Keep the fonts of the system: to list them takes a tenth of a second, and every PDF asks for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typeset, "open_fonts", cache(fonts.open_fonts))
        yield
