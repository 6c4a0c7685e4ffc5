"""Splits and folds by patient, stratified by center and diagnosis: who trains, who validates, who tests.

A split gives every patient one role. Folds assign every patient to the one fold that tests it; patients of external
centers are in no fold, and those of ``every`` train in all folds and are tested by none. ``fold_roles`` turns a fold
into a split. Both are checked for leaks before use.
"""

from __future__ import annotations

import csv
import io
import math
import re
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import polars as pl
from scipy.optimize import Bounds, LinearConstraint, milp

from marrowscope.cohort.duplicates import refuse_leaks, some
from marrowscope.cohort.spelling import alike, show
from marrowscope.disk import write_bytes, write_text
from marrowscope.errors import CohortError, InputError
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Role = Literal["train", "validation", "test"]
_ROLES: tuple[Role, ...] = get_args(Role)
Folds = dict[str, int | None]
"""The fold of every patient, counted from 0; None for a patient of an external center, ``TRAINS_IN_EVERY`` for one that
trains in all folds."""
EXTERNAL, EVERY = "external", "every"
TRAINS_IN_EVERY = -1
_WORDS: dict[str, int | None] = {EXTERNAL: None, EVERY: TRAINS_IN_EVERY}
_FOLD_NUMBER = re.compile(r"[0-9]{1,6}")
_MAX_SHOWN = 60
_FOLD_COLUMNS = ("patient_id", "center", "diagnosis", "fold")


def split_patients(patients: pl.DataFrame, fraction: float, seed: int) -> dict[str, Role]:
    """Assign ``fraction`` of the patients to validation and the rest to training, evenly over the strata.

    ``patients`` has one row per patient with patient_id, center and diagnosis. Patients are shuffled within each
    stratum, the strata are concatenated, and every (1 / fraction)-th patient is taken from a random start (systematic
    sampling), so each stratum contributes its share to within one patient. Each side gets at least one patient.
    Raises CohortError for fewer than two patients.
    """
    n = patients.height
    if n < 2:  # noqa: PLR2004  a side each
        message = f"found {n} patient, expected at least two: one for training and one for validation; add patients"
        raise CohortError(message)
    random = np.random.default_rng((seed, n))
    shuffled = patients.sort("patient_id")[random.permutation(n)]
    line = shuffled.sort("center", "diagnosis", maintain_order=True)["patient_id"].to_list()
    n_validation = min(max(round(fraction * n), 1), n - 1)
    start = random.random()
    chosen = {math.floor((place + start) * n / n_validation) for place in range(n_validation)}
    return {patient: "validation" if index in chosen else "train" for index, patient in enumerate(line)}


def make_folds(patients: pl.DataFrame, n_folds: int, seed: int, external_centers: Collection[str] = ()) -> Folds:
    """Assign the patients to ``n_folds`` folds; those of ``external_centers`` get None.

    ``patients`` has one row per patient with patient_id, center and diagnosis. Folds differ by at most one patient in
    total, within every center, every diagnosis and every stratum (a pair of the two), however small. The assignment is
    drawn with ``seed`` and does not depend on the order of rows.
    Raises CohortError for a patient in two rows, an unknown external center and fewer patients than folds.
    """
    inside, folds = _set_apart(patients, external_centers)
    if not 2 <= n_folds <= inside.height:  # noqa: PLR2004  one fold would test what it trained on
        message = (
            f"found {count_of(inside.height, 'patient')} for {count_of(n_folds, 'fold')}, expected at least two folds "
            "and one patient per "
            "fold; choose another number of folds"
        )
        raise CohortError(message)
    random = np.random.default_rng((seed, inside.height))
    shuffled = inside.sort("patient_id")[random.permutation(inside.height)]
    strata = shuffled.group_by("center", "diagnosis").agg("patient_id").sort("center", "diagnosis")
    members = [list(line) for line in strata["patient_id"].to_list()]
    for fold in range(n_folds):
        taken = _fair_share(strata, [len(line) for line in members], n_folds - fold, random)
        for line, n in zip(members, taken, strict=True):
            folds |= {line.pop(): fold for _ in range(n)}
    return dict(sorted(folds.items()))


def leave_one_center_out(patients: pl.DataFrame, external_centers: Collection[str] = ()) -> Folds:
    """Make every center a fold, ordered by name; patients of ``external_centers`` get None.

    ``patients`` is as in ``make_folds``. Raises CohortError for fewer than two centers to leave out.
    """
    inside, folds = _set_apart(patients, external_centers)
    centers = sorted(inside["center"].unique().to_list())
    if len(centers) < 2:  # noqa: PLR2004  one to train on
        message = (
            f"found {count_of(len(centers), 'center')} ({some(centers)}) to leave out one by one, expected at least "
            "two; use "
            "folds by patient"
        )
        raise CohortError(message)
    number = {center: fold for fold, center in enumerate(centers)}
    folds |= {patient: number[center] for patient, center in inside.select("patient_id", "center").iter_rows()}
    return dict(sorted(folds.items()))


def fold_roles(
    folds: Mapping[str, int | None], fold: int, patients: pl.DataFrame, validation_fraction: float, seed: int
) -> dict[str, Role]:
    """Assign roles: test for ``fold`` and the external patients, validation for a share of the others, else train.

    ``patients`` is as in ``make_folds``. The patients of ``fold`` are thus used neither in training nor in model
    selection. Raises CohortError for a fold or patient that is not in ``folds``.
    """
    numbers = fold_numbers(folds)
    if fold not in numbers:
        message = f"found no fold {fold}, expected one of {numbers}; choose another fold"
        raise CohortError(message)
    _refuse_absent(patients, folds, "a fold", f"draw the folds again, or add them to the file as {EXTERNAL}")
    inside = [patient for patient in patients["patient_id"] if folds[patient] not in {fold, None}]
    roles: dict[str, Role] = dict.fromkeys(sorted(patients["patient_id"].to_list()), "test")
    others = patients.filter(pl.col("patient_id").is_in(inside))
    return roles | split_patients(others, validation_fraction, seed)


def fold_numbers(folds: Mapping[str, int | None]) -> list[int]:
    """Return the folds that test somebody, in order."""
    return sorted({number for number in folds.values() if number is not None and number != TRAINS_IN_EVERY})


def fold_word(fold: int | None) -> str:
    """Return a patient's fold as a fold file has it."""
    return {None: EXTERNAL, TRAINS_IN_EVERY: EVERY}.get(fold, str(fold))


def _set_apart(patients: pl.DataFrame, external_centers: Collection[str]) -> tuple[pl.DataFrame, Folds]:
    """Return the patients that enter the folds, and None for each of the others."""
    twice = patients.filter(patients["patient_id"].is_duplicated())["patient_id"].unique().sort().to_list()
    if twice:
        message = (
            f"found {count_of(len(twice), 'patient')} in several rows ({some(twice)}), expected one center and "
            "diagnosis per "
            "patient; correct patients.csv"
        )
        raise CohortError(message)
    unknown = sorted(set(external_centers) - set(patients["center"].to_list()))
    if unknown:
        known = sorted(patients["center"].unique().to_list())
        message = (
            f"found no patient of external center {some(unknown)}, expected one of {', '.join(known)}; correct the name"
        )
        raise CohortError(message)
    for column in ("center", "patient_id"):
        if groups := alike(patients[column].unique().sort().to_list()):
            names = some([" and ".join(map(show, group)) for group in groups], "; ")
            message = (
                f"found {column} under several spellings ({names}), expected one: they would be on both sides of a "
                f"split; write each the same way, or give different ones different names"
            )
            raise CohortError(message)
    outside = pl.col("center").is_in(list(external_centers))
    return patients.filter(~outside), dict.fromkeys(patients.filter(outside)["patient_id"].to_list())


def _fair_share(
    strata: pl.DataFrame, n_left: list[int], n_folds_left: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw how many patients of each stratum the next fold takes.

    Strata, centers, diagnoses and the total each contribute their n / n_folds_left, rounded up or down. A solution in
    whole numbers always exists: these groups are two laminar families, whose matrix is totally unimodular (Edmonds
    1970), and n / n_folds_left itself is within the limits. Random costs pick one of the solutions.
    """
    rows = [np.eye(len(n_left)), np.ones((1, len(n_left)))]
    for column in ("center", "diagnosis"):
        values = strata[column].to_numpy()
        rows.append(values == np.unique(values)[:, None])
    groups = np.concatenate(rows).astype(np.int64)
    totals = groups @ np.array(n_left)
    limits = LinearConstraint(groups, totals // n_folds_left, -(-totals // n_folds_left))
    whole = np.ones(len(n_left), dtype=np.int64)
    solution = milp(random.random(len(n_left)), integrality=whole, bounds=Bounds(0, n_left), constraints=limits)
    if solution.x is None:
        message = f"the folds cannot be balanced ({solution.message}) for strata of {n_left}; report this"
        raise CohortError(message)
    return np.rint(solution.x).astype(np.int64)


def read_folds(path: Path) -> Folds:
    """Read a fold file (columns patient_id, center, diagnosis, fold); InputError names every faulty line."""
    rows = _read_rows(path, ", ".join(_FOLD_COLUMNS))
    folds: Folds = {}
    faults = []
    sides: dict[str, set[bool]] = {}
    for line, row in enumerate(rows, start=2):
        patient, center, fold = ((row.get(name) or "").strip() for name in ("patient_id", "center", "fold"))
        if not patient or not (fold in _WORDS or _FOLD_NUMBER.fullmatch(fold)):
            faults.append(f"line {line}: found patient_id {patient[:_MAX_SHOWN]!r} in fold {fold[:_MAX_SHOWN]!r}")
        elif patient in folds:
            faults.append(f"line {line}: found patient {patient} a second time, which is a leak")
        else:
            folds[patient] = _WORDS[fold] if fold in _WORDS else int(fold)
            sides.setdefault(center, set()).add(fold == EXTERNAL)
    mixed = sorted(center for center, outside in sides.items() if len(outside) > 1)
    faults += [f"center {center} has both patients in folds and {EXTERNAL} ones" for center in mixed]
    numbers = fold_numbers(folds)
    if not faults and (len(numbers) < 2 or numbers != list(range(len(numbers)))):  # noqa: PLR2004  as in make_folds
        faults.append(f"found folds {numbers}")
    if faults:
        message = (
            f"{path}: {some(faults, '; ')}; expected columns {', '.join(_FOLD_COLUMNS)}, one row per patient, at least "
            f"two folds counted from 0, and only whole centers {EXTERNAL}; draw folds with `marrowscope cohort folds`"
        )
        raise InputError(message)
    return folds


def write_folds(path: Path, folds: Mapping[str, int | None], patients: pl.DataFrame) -> bool:
    """Write a fold file that ``read_folds`` reads back equal; return False if an equal one already exists.

    ``patients`` is as in ``make_folds``. Raises InputError if a different file or a folder exists there, because folds
    are drawn only once.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FOLD_COLUMNS)
    for patient, center, diagnosis in patients.select(_FOLD_COLUMNS[:3]).sort("patient_id").iter_rows():
        fold = folds[patient]
        writer.writerow([patient, center, diagnosis, fold_word(fold)])
    content = text.getvalue().encode()
    if path.is_dir():
        message = f"{path}: found a folder, expected the name of a CSV file; choose another"
        raise InputError(message)
    if path.exists():
        if path.read_bytes() == content:
            return False
        message = (
            f"{path}: found different folds, expected no file or these folds; use the existing file or choose another "
            "name (results on different folds are not comparable)"
        )
        raise InputError(message)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return True


def _read_rows(path: Path, columns: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file. Raises InputError if it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path}: cannot read the file ({error}), expected CSV with columns {columns}; correct the file"
        raise InputError(message) from error


def read_split(path: Path) -> dict[str, Role]:
    """Read a split file (columns patient_id, role); InputError names every faulty line."""
    rows = _read_rows(path, "patient_id, role")
    roles: dict[str, Role] = {}
    faults = []
    for line, row in enumerate(rows, start=2):
        patient, role = (row.get("patient_id") or "").strip(), (row.get("role") or "").strip()
        if not patient or role not in _ROLES:
            faults.append(f"line {line}: found patient_id {patient[:_MAX_SHOWN]!r} with role {role[:_MAX_SHOWN]!r}")
        elif roles.get(patient, role) != role:
            faults.append(f"line {line}: patient {patient} has roles {roles[patient]} and {role}, which is a leak")
        else:
            roles[patient] = role
    if faults or not roles:
        message = (
            f"{path}: {some(faults, '; ') or 'found no row'}; expected columns patient_id, role with one of "
            f"{', '.join(_ROLES)} per patient; correct the file"
        )
        raise InputError(message)
    return roles


def write_split(path: Path, roles: Mapping[str, Role]) -> None:
    """Write a split file that ``read_split`` reads back equal."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patient_id", "role"])
    writer.writerows(sorted(roles.items()))
    write_text(path, text.getvalue())


def check_split(images: pl.DataFrame, roles: Mapping[str, Role]) -> None:
    """Refuse, by name, a patient without a role and an image on two sides.

    ``images`` has columns patient_id and image_sha256, with any number of rows per image; if it has image_dhash, a
    near-duplicate on two sides is refused as well. Raises CohortError.
    """
    action = "add them to the split file, with role test to keep them out of training"
    _refuse_absent(images, roles, "a role in the split", action)
    refuse_leaks(images, roles, "remove the copies or give these patients one role")


def check_folds(images: pl.DataFrame, folds: Mapping[str, int | None]) -> None:
    """Refuse, by name, a patient without a fold and an image of two patients that are not both external.

    ``images`` is as in ``check_split``. Two patients of one fold also leak: while another fold is tested, one of them
    may be used for training and the other for validation. Raises CohortError.
    """
    _refuse_absent(images, folds, "a fold", f"draw the folds again, or add them to the file as {EXTERNAL}")
    sides = {patient: EXTERNAL if fold is None else f"patient {patient}" for patient, fold in folds.items()}
    labels = {patient: EXTERNAL if fold is None else f"fold {fold_word(fold)}" for patient, fold in folds.items()}
    action = (
        "remove the copies, or use one patient_id per person (two patients of one fold also count as two sides: while "
        "another fold is tested, one may be in training and the other in validation)"
    )
    refuse_leaks(images, sides, action, labels)


def _refuse_absent(images: pl.DataFrame, known: Mapping[str, object], what: str, action: str) -> None:
    """Refuse patients of ``images`` that are not in ``known``."""
    absent = sorted(set(images["patient_id"].unique().to_list()) - set(known))
    if absent:
        message = (
            f"found {count_of(len(absent), 'patient')} without {what} ({some(absent)}), expected one per patient; "
            f"{action}"
        )
        raise CohortError(message)
