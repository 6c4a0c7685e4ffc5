"""Read a cohort folder: patients.csv, one folder of images per patient, annotations next to the images.

Steps: patients.csv; the image files of every folder; each image's hash and size; the annotations; duplicates by
content; every shape. Reading does not stop at the first fault: all are collected. Invariant: for patients, images and
shapes, the number found equals the number in the cohort plus the number rejected, by reason.

Longer than 400 lines: every step takes from one ledger (``_Ledger``) or adds to it, whose sums hold only together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from marrowscope.cohort.copies import MAX_SCALE_DISAGREEMENT
from marrowscope.cohort.duplicates import SeenPhotographs
from marrowscope.cohort.found_images import find_pictures
from marrowscope.cohort.images import ImageFile, examine_image, examine_slide, is_too_large
from marrowscope.cohort.listing import Role
from marrowscope.cohort.patients import PATIENTS_NAME, find_folders, read_patients
from marrowscope.cohort.polygons import check_shapes
from marrowscope.cohort.sources import class_numbers, find_annotations, pair
from marrowscope.cohort.spelling import likeness, same_letters, show
from marrowscope.cohort.tally import CohortCounts, Tally
from marrowscope.errors import CohortError
from marrowscope.imaging import UNREAD, printable
from marrowscope.records import Fault, Field, Patient
from marrowscope.vocabulary import CenterMappings, load_vocabulary
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from marrowscope.cohort.annotations import AnnotatedImage
    from marrowscope.cohort.listing import Entry
    from marrowscope.cohort.sources import Paired
    from marrowscope.vocabulary import LabelMapping, Vocabulary

_IMAGE_REJECTED = "image_rejected"
_OTHER_READER = "other_reader"
_MAX_FAULTS_IN_MESSAGE = 20


@dataclass(frozen=True)
class Cohort:
    """A cohort as read: its usable patients and fields, all its faults, and counts that reconcile.

    ``slides`` are the annotated slides, in pixels of the whole slide: ``evaluate`` compares a run's regions with them.
    They are no fields, which are photographs to cut crops from. ``readers`` are the people who annotated, where an
    image has readings by several of them; ``reader`` is the one whose are read, empty where none was chosen.
    """

    root: Path
    vocabulary: Vocabulary
    patients: tuple[Patient, ...]
    fields: tuple[Field, ...]
    faults: tuple[Fault, ...]
    counts: CohortCounts
    slides: tuple[Field, ...] = ()
    readers: tuple[str, ...] = ()
    reader: str = ""

    @property
    def loses_data(self) -> bool:
        """Whether continuing would lose a cell, an image or a patient."""
        return any(fault.loses_data for fault in self.faults)

    def cells(self) -> Counter[tuple[str, str, str]]:
        """Count annotated cells by (code, center, diagnosis)."""
        diagnosis = {patient.patient_id: patient.diagnosis for patient in self.patients}
        return Counter(
            (item.code, image.center, diagnosis[image.patient_id])
            for image in (*self.fields, *self.slides)
            for item in image.annotations
        )


@dataclass(slots=True)
class _Image:
    """One image file while it is being read; ``reason`` is set once it is rejected."""

    file: ImageFile
    where: str
    folder: str
    annotated: AnnotatedImage | None = None
    reason: str = ""
    is_slide: bool = False


@dataclass(slots=True)
class _Ledger:
    """The faults and the outcome of every shape, filled while the cohort is read."""

    faults: list[Fault]
    n_shapes: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def add_rejected(self, annotated: AnnotatedImage, reason: str) -> None:
        """Count every shape of ``annotated`` as rejected for ``reason``."""
        self.rejected[reason] += annotated.n_shapes


def read_cohort(
    root: Path,
    *,
    vocabulary: Vocabulary | None = None,
    mapping: LabelMapping | CenterMappings | None = None,
    um_per_px: float | None = None,
    reader: str = "",
    decode: bool = True,
    n_threads: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Cohort:
    """Read the cohort at ``root``; whatever is wrong is listed in ``faults``, not raised (see ``require_clean``).

    ``mapping`` translates labels of another scheme, for all centers or for each its own. ``um_per_px`` is the scale of
    images for which neither their metadata nor patients.csv states one. ``reader`` says whose readings are meant where
    images have those of several people; the shapes of others count as rejected. ``decode=False`` reads only the headers
    of JPEG and PNG, which is faster but checks less. ``progress`` gets (images examined, total images). Raises
    CohortError without a readable patients.csv, and for a ``reader`` who annotated nothing.
    """
    vocabulary = vocabulary or load_vocabulary()
    mappings = mapping if isinstance(mapping, CenterMappings) else CenterMappings(mapping)
    mappings.check_against(vocabulary)
    table = read_patients(root)
    patient_of = {patient.patient_id: patient for patient in table.patients}
    faults = list(table.faults)
    found = find_pictures(root, patient_of, faults)
    folder_of, spelled = find_folders(table.patients, [path.name for path in root.iterdir() if path.is_dir()])
    faults += spelled
    patient_of = {folder_of.get(name, name): patient for name, patient in patient_of.items()}
    slides = [path for path in found.images if is_too_large(path)]
    photographs = [path for path in found.images if path not in set(slides)]
    images = _examine(root, photographs, faults, decode=decode, n_threads=n_threads, progress=progress)
    slides += found.slides
    is_mapped = mapping is not None
    paired, n_broken, slides_used = _annotate(
        root, images, slides, found.listing, faults, reader=reader, mapped=is_mapped
    )
    images += slides_used
    n_slides_left_out = _say_slides(root, slides, {image.file.path for image in slides_used}, faults)
    found.rejected.update({"slide": n_slides_left_out} if n_slides_left_out else {})
    _reject_orphans(images, patient_of, faults)
    _reject_duplicates(images, faults)
    _reject_same_stem(images, faults)
    faults += _near_copies({image.where: image for image in images if not image.reason})

    ledger = _Ledger(faults)
    fields: list[Field] = []
    slide_fields: list[Field] = []
    for annotated in [*paired.left_over, *paired.others, *(image.annotated for image in images if image.annotated)]:
        ledger.n_shapes += annotated.n_shapes
    for annotated in paired.left_over:
        ledger.add_rejected(annotated, _IMAGE_REJECTED)
    for annotated in paired.others:
        ledger.add_rejected(annotated, _OTHER_READER)
    for image in images:
        if not image.reason:
            patient = patient_of[image.folder]
            translation = mappings.of(patient.center)
            field_read = _to_field(image, patient, vocabulary, translation, um_per_px=um_per_px, ledger=ledger)
            (slide_fields if image.is_slide else fields).append(field_read)
        elif image.annotated:
            ledger.add_rejected(image.annotated, _IMAGE_REJECTED)
    with_fields = {item.patient_id for item in (*fields, *slide_fields)}
    patients = tuple(patient for patient in table.patients if patient.patient_id in with_fields)
    slide_folders = {path.relative_to(root).parts[0] for path in slides}
    lost = _find_lost_patients(root, patient_of, images, slide_folders, faults)
    rejected_patients = Counter(table.tally.rejected) + lost
    _warn_of_missing_scale(fields, faults)
    rejected_images = Counter(image.reason for image in images if image.reason) + found.rejected
    return Cohort(
        root=root,
        vocabulary=vocabulary,
        patients=patients,
        fields=tuple(fields),
        slides=tuple(slide_fields),
        readers=paired.readers,
        reader=reader,
        faults=tuple(sorted(faults, key=lambda fault: (fault.where, fault.shape_index or 0))),
        counts=CohortCounts(
            patients=Tally(table.tally.n_in, len(patients), dict(rejected_patients)),
            images=Tally(len(images) + found.rejected.total(), len(fields) + len(slide_fields), dict(rejected_images)),
            shapes=Tally(
                ledger.n_shapes,
                sum(len(item.annotations) for item in (*fields, *slide_fields)),
                dict(+ledger.rejected),
                dict(+ledger.changed),
            ),
            n_annotation_files_broken=n_broken,
        ),
    )


def require_clean(cohort: Cohort) -> Cohort:
    """Return the cohort, or raise CohortError with every fault that would lose data."""
    losing = tuple(fault for fault in cohort.faults if fault.loses_data)
    if losing:
        shown = "\n".join(f"  {fault.sentence()}" for fault in losing[:_MAX_FAULTS_IN_MESSAGE])
        rest = len(losing) - _MAX_FAULTS_IN_MESSAGE
        more = f"\n  and {rest} more" if rest > 0 else ""
        faults_word = "faults" if len(losing) > 1 else "fault"
        message = (
            f"{cohort.root}: found {len(losing)} {faults_word} that would lose data, expected none; correct them "
            f"(`marrowscope cohort check` lists all):\n{shown}{more}"
        )
        raise CohortError(message, losing)
    return cohort


def _examine(
    root: Path,
    paths: Sequence[Path],
    faults: list[Fault],
    *,
    decode: bool,
    n_threads: int,
    progress: Callable[[int, int], None] | None,
) -> list[_Image]:
    """Hash and measure every image in threads (decoding releases the interpreter lock)."""
    images: list[_Image] = []
    with ThreadPoolExecutor(max_workers=n_threads) as pool:
        wheres = [printable(path.relative_to(root).as_posix()) for path in paths]
        files = pool.map(lambda path, where: examine_image(path, where, decode=decode), paths, wheres)
        for file, where in zip(files, wheres, strict=True):
            parts = where.split("/")
            image = _Image(file, where, parts[0] if len(parts) > 1 else "")
            if len(parts) > 2:  # noqa: PLR2004 - patient folder and file name
                image.reason = "images_in_subfolder"
            elif file.fault is not None:
                faults.append(file.fault)
                image.reason = file.fault.kind
            images.append(image)
            if progress:
                progress(len(images), len(paths))
    return images


def _annotate(
    root: Path,
    images: Sequence[_Image],
    slides: Sequence[Path],
    listing: Sequence[Entry],
    faults: list[Fault],
    *,
    reader: str,
    mapped: bool,
) -> tuple[Paired, int, list[_Image]]:
    """Attach annotations to images.

    Returns what belongs to which image, the number of broken files, and the annotated slides: only these are opened.
    Raises CohortError for a ``reader`` who annotated nothing.
    """
    seen = [*(image.file.path for image in images if image.reason not in UNREAD), *slides]
    documents = find_annotations(root, seen, listing)
    paired = pair(documents, reader)
    named = sorted({annotated.reader for _, annotated in documents if annotated.reader})
    if reader and reader not in named:
        expected = f"one of {', '.join(named)}" if named else "no --reader, since no annotation here names its reader"
        message = f"{root}: found no annotation by {reader!r}, expected {expected}"
        raise CohortError(message)
    by_image = paired.by_image
    faults += paired.faults if mapped else [*paired.faults, *class_numbers(documents)]
    n_broken = sum(not annotated.readable for _, annotated in documents)
    n_broken += sum(entry.role is Role.UNREAD_ANNOTATION for entry in listing)
    for image in images:
        annotated = by_image.get(image.file.path)
        if annotated is not None and not annotated.readable:
            faults += annotated.faults
        image.annotated = annotated
    used: list[_Image] = []
    for path in slides:
        if path in by_image:
            where = printable(path.relative_to(root).as_posix())
            file = examine_slide(path, where)
            image = _Image(file, where, where.split("/")[0], by_image[path], is_slide=True)
            if not by_image[path].readable:
                faults += by_image[path].faults
            if file.fault is not None:
                faults.append(file.fault)
                image.reason = file.fault.kind
            used.append(image)
    return paired, n_broken, used


def _say_slides(root: Path, slides: Sequence[Path], used: Collection[Path], faults: list[Fault]) -> int:
    """Note the slides of each folder, and return the number of those that are left out."""
    left_out = Counter(path.relative_to(root).parts[0] for path in slides if path not in used)
    for name, n in left_out.items():
        found, action = count_of(n, "slide"), "they are left out here; `marrowscope predict` reads them"
        faults.append(Fault("slide", name, found, "photographs, which can be annotated", action, loses_data=False))
    return left_out.total()


def _reject_orphans(images: Sequence[_Image], patient_of: dict[str, Patient], faults: list[Fault]) -> None:
    """Reject images whose folder is not a patient of patients.csv, with one fault per folder."""
    orphans = Counter(image.folder for image in images if image.folder not in patient_of)
    for folder, n in orphans.items():
        found = f"{count_of(n, 'image')} of no patient in {PATIENTS_NAME}"
        expected = "a folder named after a patient_id" + _looks_like(folder, patient_of)
        action = f"add the patient to {PATIENTS_NAME} or move the folder away"
        faults.append(Fault("images_without_patient", folder or ".", found, expected, action))
    for image in images:
        if image.folder in orphans and not image.reason:
            image.reason = "images_without_patient"


def _reject_duplicates(images: Sequence[_Image], faults: list[Fault]) -> None:
    """Reject identical copies: all of them across patients (the true owner is unknown), all but one within one."""
    by_hash: defaultdict[str, list[_Image]] = defaultdict(list)
    for image in images:
        if not image.reason:
            by_hash[image.file.sha256].append(image)
    for group in by_hash.values():
        if len(group) == 1:
            continue
        if len({image.folder for image in group}) > 1:
            kind, spare = "duplicate_across_patients", group
            expected = "an image to belong to one patient"
            action = "find out whose it is and remove the others, or it would leak between training and test"
        else:
            first = next((image for image in group if image.annotated), group[0])
            kind, spare = "duplicate_image", [image for image in group if image is not first]
            expected, action = "each image once", "remove the copy, or its cells would count twice"
        for image in spare:
            others = ", ".join(other.where for other in group if other is not image)
            faults.append(Fault(kind, image.where, f"the same content as {others}", expected, action))
            image.reason = kind


def _near_copies(images: Mapping[str, _Image]) -> list[Fault]:
    """Describe a fault for each image that shows the photograph of an earlier one in another encoding or position."""
    faults: list[Fault] = []
    seen = SeenPhotographs()
    for where, image in images.items():
        earlier = seen.find(image.file.fingerprint)
        if earlier is None:
            seen.add(where, image.file.fingerprint)
            continue
        found = f"the photograph of {earlier[0]} again ({earlier[1]} of 255 bits of the fingerprints differ)"
        if images[earlier[0]].folder == image.folder:
            kind, expected = "near_duplicate", "each photograph once"
            action = "remove the copy; `marrowscope predict` counts it once"
        else:
            kind, expected = "near_duplicate_across_patients", "a photograph to belong to one patient"
            action = "find out whose it is and remove the other; no folds are drawn with both"
        faults.append(Fault(kind, where, found, expected, action, loses_data=False))
    return faults


def _reject_same_stem(images: Sequence[_Image], faults: list[Fault]) -> None:
    """Reject an image whose name differs from an earlier one only in the suffix: both would get the same field_id."""
    first_of: dict[str, str] = {}
    for image in images:
        if image.reason:
            continue
        field_id = f"{image.folder}/{image.file.path.stem}"
        if field_id in first_of:
            found = f"the same name as {first_of[field_id]} except for the suffix"
            faults.append(Fault("same_name", image.where, found, "a unique name", "rename one of them"))
            image.reason = "same_name"
        first_of.setdefault(field_id, image.where)
    by_letters: defaultdict[str, list[str]] = defaultdict(list)
    for field_id in first_of:
        by_letters[same_letters(field_id)].append(field_id)
    for group in by_letters.values():
        if len(group) > 1:
            found = f"images {' and '.join(show(name) for name in group)}, which look alike"
            action = "rename one of them, or remove it where they are the same"
            expected = "names that differ in their letters"
            faults.append(Fault("two_spellings", first_of[group[0]], found, expected, action))


def _to_field(
    image: _Image,
    patient: Patient,
    vocabulary: Vocabulary,
    mapping: LabelMapping | None,
    *,
    um_per_px: float | None,
    ledger: _Ledger,
) -> Field:
    """Make the field of a usable image with its usable annotations; write faults and counts to the ledger."""
    file = image.file
    bare = Field(
        field_id=f"{patient.patient_id}/{file.path.stem}",
        patient_id=patient.patient_id,
        center=patient.center,
        path=file.path,
        sha256=file.sha256,
        width_px=file.width_px,
        height_px=file.height_px,
        um_per_px=_scale_of(image, patient, um_per_px, ledger.faults),
        can_label=() if mapping is None else mapping.can_label,
    )
    annotated = image.annotated
    if annotated is None or not annotated.readable:
        return bare
    stated = annotated.width_px or file.width_px, annotated.height_px or file.height_px
    if stated != (file.width_px, file.height_px):
        found = f"an annotation for an image of {stated[0]} x {stated[1]} px"
        expected = f"{file.width_px} x {file.height_px} px, the size of {image.where}"
        action = "annotate the image as it is stored, or the outlines would be in the wrong place"
        ledger.faults += [*annotated.faults, Fault("wrong_image_size", annotated.where, found, expected, action)]
        ledger.add_rejected(annotated, "wrong_image_size")
        return bare
    checked = check_shapes(annotated, file.width_px, file.height_px, vocabulary, mapping)
    ledger.faults += checked.faults
    ledger.rejected.update(checked.rejected)
    ledger.changed.update(checked.changed)
    return replace(
        bare,
        annotated=True,
        exhaustive=annotated.exhaustive and not checked.lost_a_cell,
        annotations=tuple(checked.annotations),
    )


def _scale_of(image: _Image, patient: Patient, default: float | None, faults: list[Fault]) -> float | None:
    """Return the image's own scale, else the patient's, else the default; add a fault if the image's disagrees."""
    own, stated = image.file.um_per_px, patient.um_per_px or default
    if own and stated and abs(own / stated - 1) > MAX_SCALE_DISAGREEMENT:
        found = f"{own:.4g} um per px in the image's metadata"
        expected = f"{stated:.4g} as in {PATIENTS_NAME if patient.um_per_px else '--um-per-px'}"
        action = "correct the wrong one; the image's own scale is used"
        faults.append(Fault("scale_disagrees", image.where, found, expected, action, loses_data=False))
    return own or stated or default


def _find_lost_patients(
    root: Path,
    patient_of: dict[str, Patient],
    images: Sequence[_Image],
    slide_folders: Collection[str],
    faults: list[Fault],
) -> Counter[str]:
    """Count the patients without a usable photograph by reason; one without any picture is a fault."""
    folders = {image.folder for image in images}
    used = {image.folder for image in images if not image.reason}
    lost: Counter[str] = Counter()
    for folder, patient in patient_of.items():
        if folder in used:
            continue
        if folder in slide_folders:
            lost["only_slides"] += 1
        elif folder in folders:
            lost["no_usable_image"] += 1
        else:
            faults.append(_patient_without_images(patient, root))
            lost["patient_without_images"] += 1
    return lost


def _warn_of_missing_scale(fields: Sequence[Field], faults: list[Fault]) -> None:
    without = Counter(item.patient_id for item in fields if item.um_per_px is None)
    for patient_id, n in without.items():
        action = f"fill the column um_per_px of {PATIENTS_NAME} or set --um-per-px; the networks need a physical scale"
        found = f"{count_of(n, 'image')} without a scale"
        faults.append(Fault("no_scale", patient_id, found, "micrometers per pixel", action, loses_data=False))


def _patient_without_images(patient: Patient, root: Path) -> Fault:
    folder = root / patient.patient_id
    found = "a folder without an image" if folder.is_dir() else f"no folder {patient.patient_id}"
    found += _looks_like(patient.patient_id, [path.name for path in root.iterdir()])
    action = f"add the images or remove the row from {PATIENTS_NAME}"
    return Fault("patient_without_images", patient.patient_id, found, "a folder of images", action)


def _looks_like(name: str, others: Collection[str]) -> str:
    """Name those of ``others`` that look like ``name``, as it follows what was expected; empty where there is none."""
    close = [show(other) for other in others if other != name and likeness(other) == likeness(name)]
    return f" (it looks like {' and '.join(close)}, this is {show(name)})" if close else ""
