"""From photographs of single cells to a cohort: a field a picture, the network's contour around the cell in its center.

Steps: list the pictures with their labels and patients (cohort.single_cells); read each; find the cell in its center
(cells.center); write the picture and its annotation; write patients.csv, a row per picture (cells.csv) and the counts
(import.json).

    OUT/patients.csv
    OUT/<patient_id>/<name>.jpg/.json   the picture, byte for byte, and a LabelMe file with one shape
    OUT/cells.csv                       every picture of the set: label, code, patient, field or reason
    OUT/import.json                     settings, hashes, counts by label

The shape is marked as the network's (``network_contour``), and the field as not exhaustively annotated: the cells
around the center stay unlabeled. Invariant: for each label, pictures in = imported + left out, by reason. Memory grows
with the list of pictures, not with their pixels.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from marrowscope.cells.center import find_center_cell
from marrowscope.cells.quality import QualityRules
from marrowscope.cohort.copies import MAX_SCALE_DISAGREEMENT
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.cohort.spelling import alike, show
from marrowscope.cohort.tally import Tally
from marrowscope.disk import new_folder, note_exit_code, refuse_foreign_folder, write_json, write_text
from marrowscope.errors import ImageError, InputError, ScaleError
from marrowscope.imaging import one_image
from marrowscope.imaging.names import file_names
from marrowscope.imaging.one_image import TOO_LITTLE_MEMORY
from marrowscope.imaging.photograph import decode_photograph, read_file
from marrowscope.records import UNKNOWN, Annotation, Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from marrowscope.cohort.single_cells import CellPicture
    from marrowscope.records import ContourArray
    from marrowscope.segment.segmenter import Segmenter
    from marrowscope.vocabulary import LabelMapping

COHORT_KIND = "cohort of single cells"
CELLS_NAME, COUNTS_NAME = "cells.csv", "import.json"
_PSEUDO = "pseudo"
_AHEAD = 4
"""Pictures that are read and searched ahead for each thread."""
_UNREAD = {
    "no_such_file": "found no such file, expected a picture; correct the table of cells or add the picture",
    "bad_path": "found a path that leads out of the folder, expected one below it; correct the table of cells",
}
"""Pictures that a table names and that cannot be looked at, by their reason."""
_SHOWN_GROUPS = 3

_EXIT_INCOMPLETE = 1
"""Exit code of an import with unreadable pictures; the cohort's marker keeps it."""
_EDGE, _TWO_LABELS = "edge", "two_labels"


@dataclass(frozen=True, slots=True)
class SetFacts:
    """What is true of all pictures of a set: the columns of patients.csv, and the scale of pictures that state none."""

    center: str
    diagnosis: str = UNKNOWN
    specimen: str = UNKNOWN
    um_per_px: float | None = None
    pseudo_patients: bool = False


@dataclass(frozen=True, slots=True)
class ImportedCells:
    """A finished import: pictures in and out by label, and the first sentence of each kind of unreadable picture."""

    folder: Path
    n_patients: int
    by_label: dict[str, Tally]
    codes: dict[str, str]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Tally:
        """The counts of all labels together."""
        tallies = self.by_label.values()
        rejected: Counter[str] = Counter()
        changed: Counter[str] = Counter()
        for tally in tallies:
            rejected.update(tally.rejected)
            changed.update(tally.changed)
        return Tally(sum(t.n_in for t in tallies), sum(t.n_out for t in tallies), dict(rejected), dict(changed))


@dataclass(frozen=True, slots=True)
class _Seen:
    """One picture after it was read and searched; ``reason`` is empty where it is imported."""

    reason: str
    problem: str = ""
    data: bytes = b""
    sha256: str = ""
    width_px: int = 0
    height_px: int = 0
    contour_xy: ContourArray | None = None
    um_per_px: float = 0.0


@dataclass(slots=True)
class _Outcomes:
    """What became of each picture, by its position in the list: where it is to be written, and where it was."""

    wanted: dict[int, str]
    reasons: list[str]
    names: list[str]
    first_of: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    scales: dict[float, list[int]] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)


def import_cells(
    pictures: Sequence[CellPicture],
    facts: SetFacts,
    segmenter: Segmenter,
    out: Path,
    *,
    mapping: LabelMapping | None = None,
    rules: QualityRules | None = None,
    keep_cut: bool = False,
    overwrite: bool = False,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> ImportedCells:
    """Import the ``pictures`` of ``single_cells.list_pictures`` into the new or empty folder ``out``.

    ``keep_cut`` keeps cells whose contour touches the picture's border. One bad picture never ends the import: it is
    counted. A picture of the same bytes under two codes is left out. Raises RunError for a folder that must not be
    replaced, ScaleError where neither the first picture nor ``facts`` state a scale, InputError where nothing is left
    or one patient stands under two spellings.
    """
    refuse_foreign_folder(out, COHORT_KIND, overwrite=overwrite)
    _refuse_two_spellings(pictures)
    _refuse_missing_scale(pictures, facts)
    rules = rules or QualityRules()
    wanted = _names(pictures)
    outcomes = _Outcomes(wanted, [picture.reason for picture in pictures], [""] * len(pictures))
    outcomes.problems |= {
        picture.reason: f"{picture.where}: {_UNREAD[picture.reason]}"
        for picture in reversed(pictures)  # the first of a reason is the one that is named
        if picture.reason in _UNREAD
    }

    def look(picture: CellPicture) -> _Seen:
        return _look(picture, facts, segmenter, rules, keep_cut=keep_cut)

    with new_folder(out, COHORT_KIND, overwrite=overwrite) as folder:
        for patient_id in sorted({name.split("/")[0] for name in wanted.values()}):
            (folder / patient_id).mkdir()
        todo = [index for index, picture in enumerate(pictures) if not picture.reason]
        seen = _ahead(look, [pictures[index] for index in todo], threads)
        for n_done, (index, found) in enumerate(zip(todo, seen, strict=True), start=1):
            _settle(folder, pictures, index, found, outcomes)
            if progress:
                progress(n_done, len(todo))
        imported = replace(_counts(out, pictures, outcomes), notes=_scale_notes(pictures, facts, outcomes))
        if not imported.total.n_out:
            reasons = ", ".join(f"{reason} {n}" for reason, n in imported.total.rejected.items())
            looked_at = count_of(len(pictures), "picture")
            message = f"found no cell to import in {looked_at} ({reasons}), expected some; check the scale"
            raise InputError(message)
        if imported.problems:
            wanted_memory = any(TOO_LITTLE_MEMORY in str(problem) for problem in imported.problems)
            note_exit_code(folder, _EXIT_INCOMPLETE, again=wanted_memory)
        _write_tables(folder, pictures, facts, outcomes)
        settings = {
            "mapping": mapping and {"name": mapping.name, "version": mapping.version, "sha256": mapping.sha256},
            "segmenter_sha256": segmenter.sha256,
            "quality_rules": rules.model_dump(mode="json"),
            "um_per_px": facts.um_per_px,
            "center": facts.center,
            "pseudo_patients": facts.pseudo_patients,
            "keep_cut": keep_cut,
        }
        write_json(folder / COUNTS_NAME, settings | _counts_json(imported))
        for empty in folder.iterdir():
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()
    return imported


def _look(picture: CellPicture, facts: SetFacts, segmenter: Segmenter, rules: QualityRules, *, keep_cut: bool) -> _Seen:
    """Read one picture and find the cell in its center; whatever is wrong with it is the reason."""
    try:
        with one_image(picture.where):
            data = read_file(picture.path)
            image = decode_photograph(data, picture.where, default_um_per_px=facts.um_per_px)
            found = find_center_cell(image.pixels, image.um_per_px, segmenter, rules)
    except ScaleError as error:
        return _Seen("no_scale", str(error))
    except ImageError as error:
        return _Seen(error.fault.kind if error.fault else "unreadable_image", str(error))
    if found.contour_xy is None or (found.reason and not (keep_cut and found.reason == _EDGE)):
        return _Seen(found.reason, sha256=image.sha256, um_per_px=image.um_per_px)
    size = image.width_px, image.height_px
    return _Seen("", found.reason, data, image.sha256, *size, found.contour_xy, image.um_per_px)


def _ahead(look: Callable[[CellPicture], _Seen], pictures: Iterable[CellPicture], threads: int) -> Iterator[_Seen]:
    """Apply ``look`` in threads, a few pictures ahead, and yield the results in order."""
    waiting: deque[Future[_Seen]] = deque()
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            for picture in pictures:
                waiting.append(pool.submit(look, picture))
                if len(waiting) >= _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _settle(folder: Path, pictures: Sequence[CellPicture], index: int, found: _Seen, outcomes: _Outcomes) -> None:
    """Write one picture with its annotation, or keep the reason why it is left out."""
    picture = pictures[index]
    outcomes.reasons[index] = found.reason
    if found.um_per_px:
        outcomes.scales.setdefault(found.um_per_px, []).append(index)
    if found.reason:
        if found.problem:
            outcomes.problems.setdefault(found.reason, found.problem)
        return
    first = outcomes.first_of.setdefault(found.sha256, index)
    if first != index:
        is_copy = pictures[first].code == picture.code and not outcomes.reasons[first]
        outcomes.reasons[index] = "duplicate_image" if is_copy else _TWO_LABELS
        if not is_copy and not outcomes.reasons[first]:
            outcomes.reasons[first] = _TWO_LABELS
            for path in (folder / outcomes.names[first], (folder / outcomes.names[first]).with_suffix(".json")):
                path.unlink()
            outcomes.names[first] = ""
        return
    assert found.contour_xy is not None  # noqa: S101 - for the type checker: a picture without a reason has a contour
    path = folder / outcomes.wanted[index]
    path.write_bytes(found.data)
    cell = Annotation(picture.code, found.contour_xy, 0, network_contour=True)
    said = f"{picture.label} ({picture.reader})" if picture.reader else picture.label
    size = found.width_px, found.height_px
    write_labelme(path.with_suffix(".json"), path.name, *size, [cell], exhaustive=False, descriptions=[said])
    outcomes.names[index] = outcomes.wanted[index]
    if found.problem == _EDGE:
        outcomes.cut.add(index)


def _names(pictures: Sequence[CellPicture]) -> dict[int, str]:
    """Return where each usable picture is written: ``<patient_id>/<name>``, both made safe for every system."""
    usable = [index for index, picture in enumerate(pictures) if not picture.reason]
    folders = file_names({pictures[index].patient for index in usable})
    by_patient: defaultdict[str, list[int]] = defaultdict(list)
    for index in usable:
        by_patient[pictures[index].patient].append(index)
    names: dict[int, str] = {}
    for patient, indices in by_patient.items():
        own = Counter(PurePosixPath(pictures[index].where).stem.casefold() for index in indices)
        texts = {index: _text(pictures[index].where, own) for index in indices}
        safe = file_names(texts.values(), own_suffix=True, nameless="cell")
        names |= {index: f"{folders[patient]}/{safe[text]}" for index, text in texts.items()}
    return names


def _text(where: str, own: Counter[str]) -> str:
    """Return the name of a picture, or its whole path where another picture of the patient has that name."""
    path = PurePosixPath(where)
    return path.name if own[path.stem.casefold()] == 1 else where


def _refuse_two_spellings(pictures: Sequence[CellPicture]) -> None:
    """Raise InputError where one patient stands under two spellings: each would become a patient of its own."""
    groups = alike(dict.fromkeys(picture.patient for picture in pictures))
    if groups:
        shown = "; ".join(" and ".join(map(show, group)) for group in groups[:_SHOWN_GROUPS])
        more = f" and {len(groups) - _SHOWN_GROUPS} more" if len(groups) > _SHOWN_GROUPS else ""
        message = (
            f"found patients that look alike ({shown}{more}), expected one spelling per patient; write it the same way "
            "for each picture, or give another patient another name"
        )
        raise InputError(message)


def _refuse_missing_scale(pictures: Sequence[CellPicture], facts: SetFacts) -> None:
    """Raise ScaleError where the first picture that can be read has no scale: its like would all be left out."""
    for picture in pictures if facts.um_per_px is None else ():
        if not picture.reason:
            try:
                with one_image(picture.where):
                    decode_photograph(read_file(picture.path), picture.where)
            except ImageError:
                continue
            return


def _scale_notes(pictures: Sequence[CellPicture], facts: SetFacts, outcomes: _Outcomes) -> tuple[str, ...]:
    """Return one sentence for each scale that pictures state themselves and that is not the one given for the set."""
    given, notes = facts.um_per_px, []
    for own, indices in outcomes.scales.items():
        if given and abs(own / given - 1) > MAX_SCALE_DISAGREEMENT:
            where = f"{pictures[indices[0]].where}{f' and {len(indices) - 1} more' if len(indices) > 1 else ''}"
            found = f"{own:.4g} um per px in the image's metadata"
            action = "correct the wrong one; the image's own is taken"
            notes.append(Fault("scale_disagrees", where, found, f"{given:.4g} as in --um-per-px", action).sentence())
    return tuple(notes)


def _counts(out: Path, pictures: Sequence[CellPicture], outcomes: _Outcomes) -> ImportedCells:
    """Count pictures in, out and left out by label."""
    n_in: Counter[str] = Counter()
    rejected: defaultdict[str, Counter[str]] = defaultdict(Counter)
    n_cut: Counter[str] = Counter()
    codes: dict[str, str] = {}
    for index, (picture, reason) in enumerate(zip(pictures, outcomes.reasons, strict=True)):
        n_in[picture.label] += 1
        codes[picture.label] = codes.get(picture.label) or picture.code
        if reason:
            rejected[picture.label][reason] += 1
        elif index in outcomes.cut:
            n_cut[picture.label] += 1
    by_label = {
        label: Tally(
            n,
            n - rejected[label].total(),
            dict(sorted(rejected[label].items())),
            {_EDGE: n_cut[label]} if n_cut[label] else {},
        )
        for label, n in sorted(n_in.items())
    }
    n_patients = len({picture.patient for picture, name in zip(pictures, outcomes.names, strict=True) if name})
    return ImportedCells(out, n_patients, by_label, codes, tuple(outcomes.problems.values()))


def _write_tables(folder: Path, pictures: Sequence[CellPicture], facts: SetFacts, outcomes: _Outcomes) -> None:
    """Write patients.csv and cells.csv."""
    ids = sorted({name.split("/")[0] for name in outcomes.names if name})
    scale = "" if facts.um_per_px is None else facts.um_per_px
    subtype = _PSEUDO if facts.pseudo_patients else ""
    columns = ("patient_id", "center", "diagnosis", "subtype", "specimen", "um_per_px")
    rows = ((patient_id, facts.center, facts.diagnosis, subtype, facts.specimen, scale) for patient_id in ids)
    write_text(folder / PATIENTS_NAME, _csv(columns, rows))
    cells = (
        (picture.where, picture.label, picture.code, picture.patient, picture.reader, name, reason)
        for picture, name, reason in zip(pictures, outcomes.names, outcomes.reasons, strict=True)
    )
    header = ("image", "label", "code", "patient", "reader", "imported_as", "left_out")
    write_text(folder / CELLS_NAME, _csv(header, cells))


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _counts_json(imported: ImportedCells) -> dict[str, Any]:
    """Return the counts as they stand in import.json."""
    labels = {label: {"code": imported.codes[label], **_tally(t)} for label, t in imported.by_label.items()}
    return {"patients": imported.n_patients, **_tally(imported.total), "labels": labels}


def _tally(tally: Tally) -> dict[str, Any]:
    counts = {"pictures": tally.n_in, "imported": tally.n_out, "left_out": dict(tally.rejected)}
    return counts | ({"imported_though": dict(tally.changed)} if tally.changed else {})
