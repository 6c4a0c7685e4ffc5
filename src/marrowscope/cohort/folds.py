"""Who trains, who selects, who tests: a split by patient, stratified by centre and diagnosis, checked for leaks."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
import polars as pl

from marrowscope.errors import CohortError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Role = Literal["train", "validation", "test"]
ROLES: tuple[Role, ...] = get_args(Role)
_SHOWN = 5


def split_patients(patients: pl.DataFrame, fraction: float, seed: int) -> dict[str, Role]:
    """Give ``fraction`` of the patients the role validation and the rest train, equally over the strata.

    ``patients`` has one row each with patient_id, center and diagnosis. Patients are shuffled inside each stratum,
    the strata laid end to end, and every (1 / fraction)-th patient is taken from a random start (systematic
    sampling): each stratum gives its share within one patient. At least one patient stands on either side.
    Raises CohortError for fewer than two patients.
    """
    n = patients.height
    if n < 2:  # noqa: PLR2004  a side each
        message = f"found {n} patient, expected at least two: one to train on and one to select on; add patients"
        raise CohortError(message)
    random = np.random.default_rng((seed, n))
    shuffled = patients.sort("patient_id")[random.permutation(n)]
    line = shuffled.sort("center", "diagnosis", maintain_order=True)["patient_id"].to_list()
    n_validation = min(max(round(fraction * n), 1), n - 1)
    start = random.random()
    chosen = {math.floor((place + start) * n / n_validation) for place in range(n_validation)}
    return {patient: "validation" if index in chosen else "train" for index, patient in enumerate(line)}


def read_split(path: Path) -> dict[str, Role]:
    """Read a split file (columns patient_id, role); InputError names every faulty line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: the split file cannot be read ({error}); expected CSV with columns patient_id, role"
        raise InputError(message) from error
    roles: dict[str, Role] = {}
    faults = []
    for line, row in enumerate(rows, start=2):
        patient, role = (row.get("patient_id") or "").strip(), (row.get("role") or "").strip()
        if not patient or role not in ROLES:
            faults.append(f"line {line}: found patient_id {patient!r} with role {role!r}")
        elif roles.get(patient, role) != role:
            faults.append(f"line {line}: patient {patient} stands under {roles[patient]} and {role}: a leak")
        else:
            roles[patient] = cast("Role", role)
    if faults or not roles:
        message = (
            f"{path}: {'; '.join(faults) or 'found no row'}; expected columns patient_id, role with one role of "
            f"{', '.join(ROLES)} a patient"
        )
        raise InputError(message)
    return roles


def write_split(path: Path, roles: Mapping[str, Role]) -> None:
    """Write a split file that ``read_split`` reads back equal."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["patient_id", "role"])
        writer.writerows(sorted(roles.items()))


def check_split(images: pl.DataFrame, roles: Mapping[str, Role]) -> None:
    """Refuse a patient without a role and an image that stands on two sides, by name.

    ``images`` has columns patient_id and image_sha256, any number of rows an image. Raises CohortError.
    """
    absent = sorted(set(images["patient_id"].unique().to_list()) - set(roles))
    if absent:
        message = (
            f"found {len(absent)} patients without a role in the split ({_some(absent)}), expected one for each; "
            "add them to the split file, with role test to leave them out"
        )
        raise CohortError(message)
    placed = images.select("patient_id", "image_sha256").unique()
    placed = placed.with_columns(pl.col("patient_id").replace_strict(roles, return_dtype=pl.String()).alias("role"))
    leaks = (
        placed.group_by("image_sha256")
        .agg(pl.col("role").n_unique().alias("n_roles"), pl.col("patient_id").sort())
        .filter(pl.col("n_roles") > 1)
        .sort("image_sha256")
    )
    if leaks.height:
        named = [
            f"image {row['image_sha256'][:12]} of patients "
            + " and ".join(f"{patient} ({roles[patient]})" for patient in row["patient_id"])
            for row in leaks.iter_rows(named=True)
        ]
        message = (
            f"the split leaks: {len(named)} images stand on two sides ({_some(named, '; ')}), expected each on one; "
            "remove the copies or give these patients one role"
        )
        raise CohortError(message)


def _some(names: list[str], separator: str = ", ") -> str:
    """Join the first few names."""
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")
