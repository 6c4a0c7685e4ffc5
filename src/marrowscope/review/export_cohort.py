"""Reviewed cells as a cohort to train and evaluate on: the images of a run with the cells that people named.

A confirmed cell has its reader's code; disputed, unseen and removed ones have no shape, and ``reviewed-cells.csv``
lists them all with their status. An image counts as exhaustively annotated only where every cell in it is settled, and
somebody looked for cells that the machine missed. A contour that no reader drew is marked as the network's, so that it
enters no figure about finding or outlining cells. Patients keep their names and, where a split is named, their roles:
the cohort carries a ``split.csv`` then. A split is never invented.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cohort.annotations import AnnotatedImage
from marrowscope.cohort.folds import read_split, write_split
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.disk import new_folder, write_text
from marrowscope.errors import InputError, ReviewError
from marrowscope.records import Annotation
from marrowscope.review.consensus import verdicts
from marrowscope.review.patient_state import SEGMENTER
from marrowscope.runs.checked_rows import read_rows
from marrowscope.runs.to_annotations import write_annotated
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marrowscope.cohort.folds import Role
    from marrowscope.review.consensus import Status, Verdict
    from marrowscope.review.patient_state import PatientState
    from marrowscope.review.station import Station
    from marrowscope.runs.to_annotations import ImageSource

LIST_NAME = "reviewed-cells.csv"
SPLIT_NAME = "split.csv"
"""The roles of patients: beside patients.csv of a cohort, and of what is exported."""
_KIND = "annotated cohort"
_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ExportedReview:
    """What was written: cells by status, images, and those of them that are annotated exhaustively."""

    folder: Path
    n_patients: int
    n_images: int
    n_exhaustive: int
    by_status: dict[Status, int]
    split_from: Path | None = None
    """The split whose roles the cohort carries; None where none was named."""
    split_missing: tuple[Path, ...] = ()
    """Files that were looked for in folders that are not there: of the cohort that was predicted."""


def export_review(
    station: Station,
    out: Path,
    file_format: str = "labelme",
    *,
    signed_only: bool = False,
    copy_images: bool = True,
    split: Path | None = None,
) -> ExportedReview:
    """Write what was reviewed at ``station``, over one run, to the new or empty folder ``out``.

    ``split`` has the role of each patient; without it, the split that stands in the cohort that was predicted is taken.
    Raises ReviewError where nobody named a cell, InputError as ``runs.to_annotations`` and ``read_split`` do, and for a
    patient without a role.
    """
    (run,) = station.cells.runs
    known: dict[str, list[Verdict]] = {}
    states: dict[str, PatientState] = {}
    for patient_id, progress in station.progress.patients().items():
        if patient_id not in station.cells.rows or (signed_only and not progress.is_locked):
            continue
        state = station.state(patient_id)
        found = verdicts(state)
        if any(verdict.status == "confirmed" for verdict in found):
            known[patient_id], states[patient_id] = found, state
    if not known:
        which = "signed patient with a cell" if signed_only else "cell"
        message = f"{run.folder}: found no {which} that a reader named, expected some; review cells first"
        raise ReviewError(message)
    missing: tuple[Path, ...] = ()
    if split is None:
        images = read_rows(run.folder, "fields")["path"]
        split, missing = split_of_inputs(run.folder, run.manifest.command, images)
    roles = {} if split is None else _roles(split, list(known))
    exhaustive: list[bool] = []

    def annotate(source: ImageSource) -> AnnotatedImage | None:
        image = _annotated(station, states[source.patient_id], known[source.patient_id], source)
        if image is not None:
            exhaustive.append(image.exhaustive)
        return image

    with new_folder(out, _KIND, overwrite=None, error=InputError) as folder:
        done = write_annotated(run.folder, folder, file_format, annotate, wanted=known, copy_images=copy_images)
        write_text(folder / LIST_NAME, _listed(known))
        if roles:
            write_split(folder / SPLIT_NAME, roles)
    by_status = Counter(verdict.status for found in known.values() for verdict in found)
    return ExportedReview(out, len(known), done.n_images, sum(exhaustive), dict(by_status), split, missing)


def split_of_inputs(run: Path, command: Sequence[str], images: Iterable[str]) -> tuple[Path | None, tuple[Path, ...]]:
    """Return the split.csv of the cohort that a run was predicted from, and where one was looked for without a cohort.

    The command names folders as seen from where it was given: that is the working folder, else the folder from which
    its ``--out`` is this run. ``images`` are the paths of the run's images. None where no cohort has one, or several.
    """
    holding = {folder for path in images for folder in Path(path).parents}
    named = dict.fromkeys(Path(word) for word in command[1:] if not word.startswith("-"))
    bases = [Path(), *_origin(run.resolve(), command)]
    found: list[Path] = []
    missing: list[Path] = []
    for name in named:
        folder = next((base / name for base in bases if (base / name).is_dir()), None)
        if folder is None and name in holding:
            missing.append(name / SPLIT_NAME)
        elif folder is not None and (folder / PATIENTS_NAME).is_file() and (folder / SPLIT_NAME).is_file():
            found.append(folder / SPLIT_NAME)
    return found[0] if len(found) == 1 else None, tuple(missing)


def _origin(run: Path, command: Sequence[str]) -> list[Path]:
    """Return the folder from which a command's ``--out`` is ``run``; nothing where the run was moved."""
    words = [word.partition("=")[2] for word in command if word.startswith("--out=")]
    words += [following for word, following in pairwise(command) if word in {"--out", "-o"}]
    tails = [Path(word).parts for word in words if word and not Path(word).is_absolute()]
    return [Path(*run.parts[: -len(tail)]) for tail in tails if tail and run.parts[-len(tail) :] == tail]


def _roles(split: Path, patients: Sequence[str]) -> dict[str, Role]:
    """Return the role of each exported patient; InputError for one that the split does not have."""
    roles = read_split(split)
    if absent := [name for name in patients if name not in roles]:
        some = ", ".join(absent[:_MOST_SHOWN])
        message = (
            f"{split}: found no role of {count_of(len(absent), 'exported patient')} ({some}), expected one of each; "
            "add them, with role test to keep them out of training"
        )
        raise InputError(message)
    return {name: roles[name] for name in patients}


def _annotated(
    station: Station, state: PatientState, found: list[Verdict], source: ImageSource
) -> AnnotatedImage | None:
    """Return the confirmed cells of an image; None for one in which nobody named a cell."""
    frozen = {cell.cell_id: cell.contour_xy for cell in station.patient(source.patient_id).frozen}
    shapes: list[Annotation] = []
    descriptions: list[str] = []
    is_settled = source.exhaustive
    for field in source.fields:
        name = field["field_id"]
        corner = np.array([field["region_x_px"] or 0, field["region_y_px"] or 0], dtype=np.float64)
        own = [verdict for verdict in found if verdict.cell.field_id == name]
        is_searched = state.full_review_by is not None or name in state.fields_checked
        is_settled = is_settled and is_searched and all(item.status in {"confirmed", "removed"} for item in own)
        for verdict in own:
            cell = verdict.cell
            if verdict.status != "confirmed" or cell.code is None:
                continue
            contour = np.asarray(cell.contour_xy, dtype=np.float64).reshape(-1, 2) + corner
            is_networks = cell.outlined_by == SEGMENTER or frozen.get(cell.cell_id) == cell.contour_xy
            shapes.append(Annotation(cell.code, contour, len(shapes), cell.cell_id, network_contour=is_networks))
            descriptions.append(f"named by {cell.decided_by}, predicted {cell.model_category or 'by nobody'}")
    if not shapes:
        return None
    return AnnotatedImage(
        image_path="",
        width_px=source.width_px,
        height_px=source.height_px,
        shapes=tuple(shapes),
        exhaustive=is_settled,
        descriptions=tuple(descriptions),
    )


def _listed(known: dict[str, list[Verdict]]) -> str:
    """Return every cell of the exported patients as CSV, with its status and who said what."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patient_id", "field_id", "cell_id", "status", "code", "predicted", "decided_by", "said"])
    for patient_id, found in known.items():
        for verdict in found:
            cell = verdict.cell
            said = "; ".join(f"{reader}: {name}" for reader, name in sorted(verdict.names.items()))
            code = cell.code if verdict.status == "confirmed" else None
            row = [patient_id, cell.field_id, cell.cell_id, verdict.status, code, cell.model_category, cell.decided_by]
            writer.writerow([*row, said])
    return text.getvalue()
