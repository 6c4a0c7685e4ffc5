"""Every kind of file of the fuzz, by the group that writes them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.damage.annotation_kinds import annotation_kinds
from tests.damage.bundle_kinds import bundle_kinds
from tests.damage.run_kinds import run_kinds
from tests.damage.setting_kinds import setting_kinds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.damage.kinds import Kind


def _training_kinds(root: Path) -> list[Kind]:
    from tests.damage.training_kinds import training_kinds  # PyTorch is an extra

    return training_kinds(root)


GROUPS: dict[str, Callable[[Path], list[Kind]]] = {
    "annotations": annotation_kinds,
    "settings": setting_kinds,
    "runs": run_kinds,
    "bundles": bundle_kinds,
    "training": _training_kinds,
}
"""What writes a valid file of each of its kinds below a folder."""
