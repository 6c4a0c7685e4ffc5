"""Label Studio: a JSON list of tasks, one an image; outlines in percent of the image's sides.

A task has annotations by readers, and predictions. A submitted annotation is read; cancelled ones and drafts are left
out with a note. Of several submitted ones the one marked as ground truth is read, with a note; without such a mark each
is its reader's reading of the image, and ``AnnotationFile.reader`` says whose alone is meant. Two by one reader, or one
of nobody named among several, are a fault. Predictions are read only from
a file that nobody has annotated: beside annotations, they would pass for a person's.

A task of several images gives one annotation per image (``labelstudio_images``). Regions of which it cannot be told on
which image they are drawn are a fault that names the task, and are put on none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from marrowscope.cohort.annotations import (
    SCORE,
    AnnotatedImage,
    AnnotationFile,
    AnnotationFormat,
    broken_file,
    id_text,
    remark,
    shorten,
    unreadable,
)
from marrowscope.cohort.label_colors import label_color
from marrowscope.cohort.labelstudio_images import TaskImages, task_images
from marrowscope.cohort.labelstudio_regions import objects_of, read_regions
from marrowscope.cohort.written_json import json_text, object_with_list, write_pieces
from marrowscope.disk import write_text
from marrowscope.records import Fault, JsonDict
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from marrowscope.records import Annotation

_SUFFIX = ".labelstudio.json"
_ANNOTATIONS, _OLD_ANNOTATIONS, _PREDICTIONS = "annotations", "completions", "predictions"
_FROM, _TO = "label", "image"
"""Names of the two tags of the labeling interface that is written beside the tasks."""
_LOCAL_FILES = "/data/local-files/?d="
_PERCENT = 100.0


def _is_labelstudio(file: AnnotationFile) -> bool:
    """Tell whether a file is Label Studio's: a list of tasks, or one task alone."""
    tasks = _tasks(file)
    return bool(tasks) and all(
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and any(isinstance(task.get(key), list) for key in (_ANNOTATIONS, _OLD_ANNOTATIONS, _PREDICTIONS))
        for task in tasks
    )


def read_labelstudio(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Read a file of tasks as one annotation per image and reader; nothing is raised.

    ``shape_index`` is the position of the region in its annotation.
    """
    where = file.where
    if not _is_labelstudio(file):
        return (unreadable("", where, broken_file(where, file.holds(), "a list of tasks of Label Studio")),)
    drawn = [_drawn(task) for task in _tasks(file)]
    if file.reader and not any(file.reader in _names_of(item) for items in drawn for item in items):
        found = f"annotations by {_named([item for items in drawn for item in items])}"
        action = "name one of these readers"
        fault = Fault("broken_annotation", where, found, f"annotations by {file.reader!r}", action)
        return (unreadable("", where, fault),)
    use_predictions = not any(drawn) and not file.reader
    objects = _objects(file)
    result: list[AnnotatedImage] = []
    for number, (task, items) in enumerate(zip(_tasks(file), drawn, strict=True)):
        own_id = id_text(task.get("id")) or f"number {number}"
        place = f"{where}, task {own_id}"
        result += _broken_entries(task, place)
        if use_predictions:
            items = _dicts(task.get(_PREDICTIONS))  # noqa: PLW2901 - nobody has drawn anything
        result += _read_task(task, items, place, file.reader, task_images(task["data"], objects))
    return tuple(result)


def write_labelstudio(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write one task per image, and beside the file the labeling interface of its labels, ``*.labelstudio.xml``.

    What a model predicted is written as the task's prediction, anything else as an annotation. Raises ValueError for an
    image of no stated size.
    """
    for image in images:
        if not image.width_px or not image.height_px:
            message = f"{image.image_path}: found no size, which the format needs"
            raise ValueError(message)
    write_pieces(path, _file_pieces(images))
    labels = sorted({shape.code for image in images for shape in image.shapes})
    write_text(path.with_suffix(".xml"), _labeling_interface(labels))


def _tasks(file: AnnotationFile) -> list[JsonDict]:
    return file.document if isinstance(file.document, list) else [file.document]


def _dicts(value: object) -> list[JsonDict]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _objects(file: AnnotationFile) -> set[str]:
    """Return the tags that regions of the file are drawn on; all tasks of an export have one labeling interface."""
    items = [item for task in _tasks(file) for item in (*_drawn(task), *_dicts(task.get(_PREDICTIONS)))]
    return {name for item in items for name in objects_of(item.get("result"))}


def _drawn(task: JsonDict) -> list[JsonDict]:
    """Return the annotations of a task, cancelled ones included."""
    return [*_dicts(task.get(_ANNOTATIONS)), *_dicts(task.get(_OLD_ANNOTATIONS))]


def _broken_entries(task: JsonDict, place: str) -> list[AnnotatedImage]:
    """Return the fault of what stands in a task where an annotation or a prediction should."""
    for key in (_ANNOTATIONS, _OLD_ANNOTATIONS, _PREDICTIONS):
        stated = task.get(key)
        if stated is not None and (not isinstance(stated, list) or len(_dicts(stated)) < len(stated)):
            return [remark(place, broken_file(place, f"{key} {shorten(stated)}", "a list of annotations"))]
    return []


def _read_task(
    task: JsonDict, drawn: Sequence[JsonDict], place: str, reader: str, images: TaskImages
) -> list[AnnotatedImage]:
    """Read the annotation of a task that counts, or the note or the fault that says why none does."""
    mine = [item for item in drawn if not reader or reader in _names_of(item)]
    submitted = [item for item in mine if not (item.get("was_cancelled") or item.get("skipped"))]
    notes = _notes_on_rest(task, drawn, mine, submitted, place)
    if not submitted:
        return [remark(place, *notes)] if notes else []
    if len(submitted) == 1:
        return _read_drawn(task, submitted[0], notes, place, images)
    found = f"{count_of(len(submitted), 'annotation')} (by {_named(submitted)})"
    true_ones = [item for item in submitted if item.get("ground_truth") is True]
    if len(true_ones) == 1:
        action = f"the ground truth is read, by {_named(true_ones)}"
        notes.append(Fault("second_annotation", place, found, "one an image", action, loses_data=False))
        return _read_drawn(task, true_ones[0], notes, place, images)
    names = [(_names_of(item) or [""])[0] for item in submitted]
    if "" not in names and len(set(names)) == len(names):
        return [
            image
            for number, item in enumerate(submitted)
            for image in _read_drawn(task, item, notes if number == 0 else [], place, images)
        ]
    action = "leave one of each reader, each with a name, or mark one as ground truth"
    fault = Fault("second_annotation", place, found, "one an image", action)
    read = [image for item in submitted for image in _read_drawn(task, item, [], place, images)]
    shapes = tuple(shape for annotated in read for shape in annotated.shapes)
    return [replace(read[0], shapes=shapes, faults=(fault,), placed=False)]


def _notes_on_rest(
    task: JsonDict,
    drawn: Sequence[JsonDict],
    mine: Sequence[JsonDict],
    submitted: Sequence[JsonDict],
    place: str,
) -> list[Fault]:
    """Return the note on what of a task is not read on purpose."""
    cancelled = [item for item in mine if item not in submitted]
    found: list[str] = []
    if cancelled:
        n_regions = sum(len(_dicts(item.get("result"))) for item in cancelled)
        found.append(f"{len(cancelled)} cancelled (by {_named(cancelled)}, {count_of(n_regions, 'region')})")
    if drawn and not mine:
        found.append(f"{count_of(len(drawn), 'annotation')} by others ({_named(drawn)})")
    if n_drafts := len(_dicts(task.get("drafts"))):
        found.append(f"{n_drafts} not submitted")
    if not drawn and not submitted and (n_predictions := len(_dicts(task.get(_PREDICTIONS)))):
        found.append(f"{n_predictions} predicted, which nobody has corrected")
    if not found and not submitted:
        found.append("nothing drawn")
    if not found:
        return []
    action = "these are left out" if submitted else "the image counts as not annotated"
    fault = Fault("not_submitted", place, ", ".join(found), "a submitted annotation", action, loses_data=False)
    return [fault]


def _read_drawn(
    task: JsonDict, item: JsonDict, notes: list[Fault], place: str, images: TaskImages
) -> list[AnnotatedImage]:
    """Return an annotation as one of each image of its task; the first has the notes on all of it.

    Regions of which it cannot be told on which image they are drawn belong to none, with a fault, and then no image of
    the task counts as exhaustively annotated.
    """
    about_all = list(notes)
    read = read_regions(item.get("result"), place, images, about_all)
    names = _names_of(item)
    unclear = read.pop(None, None)
    if unclear is not None or not read:
        about_all.append(_unclear_images(unclear.shapes if unclear else (), place, images))
    exhaustive = task["data"].get("exhaustive") is not False and unclear is None
    result = [
        AnnotatedImage(
            image_path=name or "",
            width_px=regions.size[0] if regions.size else None,
            height_px=regions.size[1] if regions.size else None,
            shapes=regions.shapes,
            exhaustive=exhaustive,
            faults=tuple(regions.faults),
            where=place,
            reader=names[0] if names else "",
        )
        for name, regions in read.items()
    ]
    if unclear is not None or not result:
        shapes, faults = (unclear.shapes, unclear.faults) if unclear else ((), [])
        lost = AnnotatedImage("", None, None, shapes, faults=(*about_all, *faults), where=place, placed=False)
        return [*result, lost]
    return [replace(result[0], faults=(*about_all, *result[0].faults)), *result[1:]]


def _unclear_images(shapes: Sequence[Annotation], place: str, images: TaskImages) -> Fault:
    """Return the fault of regions that are drawn on an image of their task, of which it cannot be told which."""
    drawn = ", ".join(map(repr, images.objects)) or "an object without a name"
    keys = ", ".join(map(repr, images.of_key)) or "none"
    found = f"{count_of(len(shapes), 'region')} drawn on one of several images of the task (to_name: {drawn})"
    expected = f"a key of its data as to_name ({keys}), and the position in a list of images"
    action = "name the Image tags of the labeling interface like these keys and correct to_name in the file"
    return Fault("unclear_image", place, found, expected, action)


def _names_of(item: JsonDict) -> list[str]:
    """Return what the reader of an annotation may be called: mail address, user name, full name, id; the best first."""
    by = item.get("completed_by")
    stated: list[object] = [by]
    if isinstance(by, dict):
        full = " ".join(part for key in ("first_name", "last_name") if (part := id_text(by.get(key))))
        stated = [by.get("email"), by.get("username"), full, by.get("id")]
    return [text for value in (*stated, item.get("created_username")) if (text := id_text(value))]


def _named(items: Sequence[JsonDict]) -> str:
    """Name the readers of annotations, each once."""
    names = [(_names_of(item) or ["a reader without a name"])[0] for item in items]
    return ", ".join(dict.fromkeys(names)) or "nobody"


def _file_pieces(images: Sequence[AnnotatedImage]) -> Iterator[str]:
    """Return the JSON of all tasks, region by region."""
    yield "["
    for number, image in enumerate(images, start=1):
        task: JsonDict = {
            "id": number,
            "data": {
                "image": _LOCAL_FILES + quote(image.image_path),
                "image_path": image.image_path,
                **({} if image.exhaustive else {"exhaustive": False}),
            },
        }
        by = {"completed_by": {"email": image.reader}} if image.reader else {}
        members = {"model_version": image.model} if image.model else {"was_cancelled": False, **by}
        key = _PREDICTIONS if image.model else _ANNOTATIONS
        yield f"{', ' if number > 1 else ''}{json_text(task)[:-1]}, {json_text(key)}: ["
        yield from object_with_list(members, "result", map(json_text, _regions(image)))
        yield "]}"
    yield "]"


def _regions(image: AnnotatedImage) -> Iterator[JsonDict]:
    size = np.array([image.width_px, image.height_px], dtype=np.float64)
    scores = image.measures.get(SCORE)
    for number, shape in enumerate(image.shapes):
        text = image.descriptions[number] if image.descriptions else ""
        yield {
            "id": shape.cell_id or f"region-{number}",
            "type": "polygonlabels",
            "from_name": _FROM,
            "to_name": _TO,
            "original_width": image.width_px,
            "original_height": image.height_px,
            "image_rotation": 0,
            "value": {
                "points": (shape.contour_xy / size * _PERCENT).tolist(),
                "closed": True,
                "polygonlabels": [shape.code],
            },
            **({"score": float(scores[number])} if scores is not None and scores[number] >= 0 else {}),
            **({"meta": {"text": [text]}} if text else {}),
        }


def _labeling_interface(labels: Sequence[str]) -> str:
    """Return the labeling interface of a project for these labels, in their colors."""
    lines = [
        "<View>",
        f'  <Image name="{_TO}" value="$image" zoom="true"/>',
        f'  <PolygonLabels name="{_FROM}" toName="{_TO}">',
        *(f'    <Label value="{_escaped(label)}" background="{label_color(label)}"/>' for label in labels),
        "  </PolygonLabels>",
        "</View>",
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Return a text as the value of an XML attribute; what XML cannot hold becomes a question mark."""
    held = "".join(letter if letter.isprintable() else "?" for letter in text)
    return held.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


FORMAT = AnnotationFormat(
    name="labelstudio",
    title="Label Studio",
    beside=(),
    in_root=(_SUFFIX,),
    recognize=_is_labelstudio,
    read=read_labelstudio,
    write=write_labelstudio,
)
