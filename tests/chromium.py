"""The Chromium of the machine, for tests that look at pages as a reader would."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.required import CHROMIUM, module_of, skip_without

playwright = module_of(CHROMIUM, "playwright.sync_api", whole_module=True)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def path_of_chromium() -> str | None:
    """Where a Chromium lies: $MARROWSCOPE_CHROMIUM, else the system's."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    return os.environ.get("MARROWSCOPE_CHROMIUM") or next((path for path in found if path), None)


@contextmanager
def launched_chromium() -> Iterator[Browser]:
    """Launch it; skips the test, or fails it where Chromium is required, if there is none."""
    path = path_of_chromium()
    if path is None:
        skip_without(CHROMIUM, "no Chromium found; install one or set MARROWSCOPE_CHROMIUM to it")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield launched
        launched.close()
