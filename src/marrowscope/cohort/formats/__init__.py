"""Annotation formats, one per module: each is converted on reading to ``annotations.AnnotatedImage``.

Every module in this folder defines its format as ``FORMAT`` and is found automatically. No other module names a format.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from marrowscope.cohort.annotations import (
    AnnotatedImage,
    AnnotationFile,
    AnnotationFormat,
    broken_file,
    file_or_fault,
    has_suffix,
    remark,
    unreadable,
)
from marrowscope.errors import InputError
from marrowscope.records import Fault

_JSON_SUFFIXES = (".json", ".geojson")


@cache
def annotation_formats() -> tuple[AnnotationFormat, ...]:
    """List the format of every module in this folder, sorted by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(import_module(f"{__name__}.{name}").FORMAT for name in names)


def format_named(name: str) -> AnnotationFormat:
    """Return the format with this name. Raises InputError, listing the known formats, if there is none."""
    for annotation_format in annotation_formats():
        if annotation_format.name == name:
            return annotation_format
    known = ", ".join(annotation_format.name for annotation_format in annotation_formats())
    message = f"found annotation format {name!r}, expected one of {known}; choose one of them"
    raise InputError(message)


def read_annotations(file: AnnotationFile, format_name: str | None = None) -> tuple[AnnotatedImage, ...]:
    """Read a file of any format, told by its content unless ``format_name`` names it.

    Every annotation file passes here. Nothing that it raises goes on: it becomes the file's fault. A file that no
    format recognizes is a fault. Where several recognize it, those go first whose suffix the file has.
    Raises InputError for a format that does not exist.
    """
    if format_name is not None:
        named = format_named(format_name)
        return file_or_fault(lambda: _with_odd_numbers(named.read(file), file), file.where)
    return file_or_fault(lambda: _with_odd_numbers(_read(file), file), file.where)


def is_recognized(file: AnnotationFile) -> bool:
    """Say whether a file is of one of the formats, by its content."""
    try:
        return any(item.recognize(file) for item in annotation_formats())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a foreign file; reading it says what is wrong
        return False


def _with_odd_numbers(read: tuple[AnnotatedImage, ...], file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Note numbers that are none, where no other fault of the file does."""
    odd = file.odd_numbers if has_suffix(file.path, _JSON_SUFFIXES) else ()
    if not odd or any(annotated.faults for annotated in read):
        return read
    found, action = ", ".join(dict.fromkeys(odd)), "it is in a part that is not read; export the annotation again"
    return (*read, remark(file.where, Fault("bad_number", file.where, found, "numbers", action, loses_data=False)))


def _read(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    for annotation_format in sorted(annotation_formats(), key=lambda item: not has_suffix(file.path, item.suffixes)):
        if annotation_format.recognize(file):
            return annotation_format.read(file)
    read = ", ".join(f"{item.title} ({', '.join(item.suffixes)})" for item in annotation_formats())
    fault = broken_file(file.where, file.holds(), f"an annotation in a supported format: {read}")
    return (unreadable("", file.where, fault),)
