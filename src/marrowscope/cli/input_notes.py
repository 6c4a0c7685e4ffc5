"""What a command says of a cohort that it uses although something in it is noted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from marrowscope.cohort import Cohort


def print_scale_notes(cohort: Cohort) -> None:
    """Say on standard error that images state another scale than the cohort: what is cut from them depends on it."""
    noted = [fault for fault in cohort.faults if fault.kind == "scale_disagrees"]
    if noted:
        others = f" {len(noted) - 1} more such in this cohort." if len(noted) > 1 else ""
        typer.echo(f"Input: {noted[0].sentence()}.{others}", err=True)
