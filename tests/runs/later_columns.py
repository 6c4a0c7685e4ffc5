"""Columns that tables of version 3 do not have, and the remark on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.runs.schemas import SCHEMAS

if TYPE_CHECKING:
    from marrowscope.runs.schemas import TableKind

UNKNOWN = "which older runs do not have; it is taken as not known"
LATER: dict[TableKind, set[str]] = {
    "fields": {"n_rejected_overlap", "simulated", "erythrocyte_diameter_um", "n_erythrocytes"},
    "cells": {"p_plasma", "is_plasma", "embedding_distance"},
    "patients": {
        "sex",
        *(
            "state",
            "state_reason",
            "center_n_reviewed",
            "center_n_outside",
            "center_specimen",
            "depth",
            "fitting_um_per_px",
        ),
        *("threshold_n_patients", "threshold_simulated", "threshold_method", "interval_wide"),
        *("other_parts", "simulated_only", "simulated_only_codes", "who_not_learned"),
        *("n_leukocytes", "nrbc_per_100", "cblc_by_category"),
        *("who_alt_least", "who_alt_most", "who_alt_lower", "who_alt_upper"),
        *("erythrocyte_diameter_um", "n_erythrocytes"),
    },
}


def remark(kind: TableKind, *also: str) -> str:
    """Return the remark on a table of version 3 that lacks the columns ``also`` too."""
    absent = LATER[kind] | set(also)
    return f"{kind}.parquet: found no {', '.join(name for name in SCHEMAS[kind] if name in absent)}, {UNKNOWN}"
