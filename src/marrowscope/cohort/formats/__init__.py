"""Annotation formats, one per module: each is converted on reading to ``annotations.AnnotatedImage``.

Every module in this folder defines its format as ``FORMAT`` and is found automatically. No other module names a format.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile, AnnotationFormat, broken_file, unreadable
from marrowscope.errors import InputError


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


def read_annotations(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Read a file of any format, detected from its content; an unrecognized file is a fault and raises nothing.

    If several formats recognize it, those that use the file's suffix take precedence.
    """

    def is_other_suffix(annotation_format: AnnotationFormat) -> bool:
        return not file.path.name.endswith(annotation_format.suffixes)

    for annotation_format in sorted(annotation_formats(), key=is_other_suffix):
        if annotation_format.recognize(file):
            return annotation_format.read(file)
    read = ", ".join(f"{item.title} ({', '.join(item.suffixes)})" for item in annotation_formats())
    fault = broken_file(file.where, file.holds(), f"an annotation in a supported format: {read}")
    return (unreadable("", file.where, fault),)
