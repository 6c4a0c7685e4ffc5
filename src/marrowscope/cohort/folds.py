"""Who trains, who selects, who tests: splits and folds by patient, stratified by center and diagnosis.

A split gives every patient one role. Folds give every patient the one fold that tests it, or none: patients of external
centers are outside of all folds. A fold becomes a split by ``fold_roles``. Both are checked for leaks before use.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import polars as pl
from scipy.optimize import Bounds, LinearConstraint, milp

from marrowscope.cohort.duplicates import refuse_leaks, some
from marrowscope.cohort.spelling import alike, show
from marrowscope.disk import write_bytes, write_text
from marrowscope.errors import CohortError, InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Role = Literal["train", "validation", "test"]
_ROLES: tuple[Role, ...] = get_args(Role)
Folds = dict[str, int | None]
"""The fold of every patient, 0 and up; None for a patient of an external center."""
EXTERNAL = "external"
_FOLD_COLUMNS = ("patient_id", "center", "diagnosis", "fold")


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


def make_folds(patients: pl.DataFrame, n_folds: int, seed: int, external_centers: Collection[str] = ()) -> Folds:
    """Deal the patients to ``n_folds`` folds; those of ``external_centers`` get None.

    ``patients`` has one row each with patient_id, center and diagnosis. Folds differ by at most one patient, in all,
    within every center, every diagnosis and every stratum (a pair of the two), however small; who goes where is drawn
    with ``seed``, whatever the order of rows.
    Raises CohortError for a patient in two rows, an unknown external center and fewer patients than folds.
    """
    inside, folds = _set_apart(patients, external_centers)
    if not 2 <= n_folds <= inside.height:  # noqa: PLR2004  one fold would test what it trained on
        message = f"found {inside.height} patients for {n_folds} folds, expected at least two folds of one patient each"
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
    """Make every center a fold, in the order of their names; patients of ``external_centers`` get None.

    ``patients`` is as in ``make_folds``. Raises CohortError for fewer than two centers to leave out.
    """
    inside, folds = _set_apart(patients, external_centers)
    centers = sorted(inside["center"].unique().to_list())
    if len(centers) < 2:  # noqa: PLR2004  one to train on
        message = (
            f"found {len(centers)} centers ({some(centers)}) to leave out one by one, expected at least two; take "
            "folds by patient"
        )
        raise CohortError(message)
    number = {center: fold for fold, center in enumerate(centers)}
    folds |= {patient: number[center] for patient, center in inside.select("patient_id", "center").iter_rows()}
    return dict(sorted(folds.items()))


def fold_roles(
    folds: Mapping[str, int | None], fold: int, patients: pl.DataFrame, validation_fraction: float, seed: int
) -> dict[str, Role]:
    """Give the patients of ``fold`` and the external ones the role test; the others train, a share of them validates.

    ``patients`` is as in ``make_folds``. Predictions on ``fold`` then saw its patients neither in training nor in
    selection. Raises CohortError for a fold or patient that ``folds`` does not hold.
    """
    numbers = sorted({number for number in folds.values() if number is not None})
    if fold not in numbers:
        message = f"found no fold {fold}, expected one of {numbers}"
        raise CohortError(message)
    _refuse_absent(patients, folds, "a fold", f"draw the folds again, or add them to the file as {EXTERNAL}")
    inside = [patient for patient in patients["patient_id"] if folds[patient] not in {fold, None}]
    roles: dict[str, Role] = dict.fromkeys(sorted(patients["patient_id"].to_list()), "test")
    others = patients.filter(pl.col("patient_id").is_in(inside))
    return roles | split_patients(others, validation_fraction, seed)


def _set_apart(patients: pl.DataFrame, external_centers: Collection[str]) -> tuple[pl.DataFrame, Folds]:
    """Give the patients that enter the folds, and None for each of the others."""
    twice = patients.filter(patients["patient_id"].is_duplicated())["patient_id"].unique().sort().to_list()
    if twice:
        message = (
            f"found {len(twice)} patients in several rows ({some(twice)}), expected one center and diagnosis for each; "
            "correct patients.csv"
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
                f"split; write each the same way, or give another name to what is another"
            )
            raise CohortError(message)
    outside = pl.col("center").is_in(list(external_centers))
    return patients.filter(~outside), dict.fromkeys(patients.filter(outside)["patient_id"].to_list())


def _fair_share(
    strata: pl.DataFrame, n_left: list[int], n_folds_left: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw how many patients of each stratum the next fold takes.

    Strata, centers, diagnoses and the total each give their n / n_folds_left, rounded up or down. That can always be
    done in whole numbers, since these groups are two laminar families, whose matrix is totally unimodular (Edmonds
    1970), and n / n_folds_left itself keeps the limits. Random costs pick one of the solutions.
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
        message = f"the folds cannot be balanced ({solution.message}) for strata of {n_left} patients; report this"
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
        if not patient or not (fold == EXTERNAL or (fold.isascii() and fold.isdigit())):
            faults.append(f"line {line}: found patient_id {patient!r} in fold {fold!r}")
        elif patient in folds:
            faults.append(f"line {line}: patient {patient} stands a second time: a leak")
        else:
            folds[patient] = None if fold == EXTERNAL else int(fold)
            sides.setdefault(center, set()).add(fold == EXTERNAL)
    mixed = sorted(center for center, outside in sides.items() if len(outside) > 1)
    faults += [f"center {center} has patients in folds and {EXTERNAL} ones" for center in mixed]
    numbers = {fold for fold in folds.values() if fold is not None}
    if not faults and (len(numbers) < 2 or numbers != set(range(len(numbers)))):  # noqa: PLR2004  as in make_folds
        faults.append(f"found folds {sorted(numbers)}")
    if faults:
        message = (
            f"{path}: {some(faults, '; ')}; expected columns {', '.join(_FOLD_COLUMNS)}, a row a patient, at least two "
            f"folds counted from 0, and whole centers {EXTERNAL}; draw them with `marrowscope cohort folds`"
        )
        raise InputError(message)
    return folds


def write_folds(path: Path, folds: Mapping[str, int | None], patients: pl.DataFrame) -> bool:
    """Write a fold file that ``read_folds`` reads back equal; gives False where an equal one is there already.

    ``patients`` is as in ``make_folds``. Raises InputError where another file or a folder is there: folds are drawn
    once.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FOLD_COLUMNS)
    for patient, center, diagnosis in patients.select(_FOLD_COLUMNS[:3]).sort("patient_id").iter_rows():
        fold = folds[patient]
        writer.writerow([patient, center, diagnosis, EXTERNAL if fold is None else fold])
    content = text.getvalue().encode()
    if path.is_dir():
        message = f"{path}: found a folder, expected the name of a CSV file; choose another"
        raise InputError(message)
    if path.exists():
        if path.read_bytes() == content:
            return False
        message = (
            f"{path}: found other folds, expected none or these; use them as they are, or choose another file: results "
            "on different folds are not comparable"
        )
        raise InputError(message)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return True


def _read_rows(path: Path, columns: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file; InputError where that cannot be done."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: the file cannot be read ({error}); expected CSV with columns {columns}"
        raise InputError(message) from error


def read_split(path: Path) -> dict[str, Role]:
    """Read a split file (columns patient_id, role); InputError names every faulty line."""
    rows = _read_rows(path, "patient_id, role")
    roles: dict[str, Role] = {}
    faults = []
    for line, row in enumerate(rows, start=2):
        patient, role = (row.get("patient_id") or "").strip(), (row.get("role") or "").strip()
        if not patient or role not in _ROLES:
            faults.append(f"line {line}: found patient_id {patient!r} with role {role!r}")
        elif roles.get(patient, role) != role:
            faults.append(f"line {line}: patient {patient} stands under {roles[patient]} and {role}: a leak")
        else:
            roles[patient] = role
    if faults or not roles:
        message = (
            f"{path}: {'; '.join(faults) or 'found no row'}; expected columns patient_id, role with one role of "
            f"{', '.join(_ROLES)} a patient"
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
    """Refuse a patient without a role and an image that stands on two sides, by name.

    ``images`` has columns patient_id and image_sha256, any number of rows an image; where it has image_dhash, a
    near-duplicate on two sides is refused as well. Raises CohortError.
    """
    action = "add them to the split file, with role test to leave them out"
    _refuse_absent(images, roles, "a role in the split", action)
    refuse_leaks(images, roles, "remove the copies or give these patients one role")


def check_folds(images: pl.DataFrame, folds: Mapping[str, int | None]) -> None:
    """Refuse a patient without a fold and an image of two patients, unless both are external, by name.

    ``images`` is as in ``check_split``. One fold does not make two patients safe: while another fold is tested, one of
    them may train and the other select. Raises CohortError.
    """
    _refuse_absent(images, folds, "a fold", f"draw the folds again, or add them to the file as {EXTERNAL}")
    sides = {patient: EXTERNAL if fold is None else f"patient {patient}" for patient, fold in folds.items()}
    labels = {patient: EXTERNAL if fold is None else f"fold {fold}" for patient, fold in folds.items()}
    action = (
        "remove the copies, or give one person one patient_id (patients of one fold are two sides as well: while "
        "another fold is tested, one may train and the other select)"
    )
    refuse_leaks(images, sides, action, labels)


def _refuse_absent(images: pl.DataFrame, known: Mapping[str, object], what: str, action: str) -> None:
    """Refuse patients of ``images`` that the division does not know."""
    absent = sorted(set(images["patient_id"].unique().to_list()) - set(known))
    if absent:
        message = f"found {len(absent)} patients without {what} ({some(absent)}), expected one for each; {action}"
        raise CohortError(message)
