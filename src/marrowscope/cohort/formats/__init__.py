"""Annotation formats, one per module: each is converted at the door to ``annotations.AnnotatedImage``.

Every module of this folder states its format as ``FORMAT``; it is found by being here. Nothing else knows a format.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile, AnnotationFormat, broken_file, unreadable
from marrowscope.errors import InputError


@cache
def annotation_formats() -> tuple[AnnotationFormat, ...]:
    """Give the format of every module of this folder, sorted by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(import_module(f"{__name__}.{name}").FORMAT for name in names)


def format_named(name: str) -> AnnotationFormat:
    """Give the format of this name; InputError, which lists those there are, where there is none."""
    for annotation_format in annotation_formats():
        if annotation_format.name == name:
            return annotation_format
    known = ", ".join(annotation_format.name for annotation_format in annotation_formats())
    message = f"found annotation format {name!r}, expected one of {known}; choose one of them"
    raise InputError(message)


def read_annotations(file: AnnotationFile) -> tuple[AnnotatedImage, ...]:
    """Read a file of any format, told by its content; one that no format recognizes is a fault, nothing is raised.

    Where several recognize it, those go first whose suffix the file has.
    """

    def is_other_suffix(annotation_format: AnnotationFormat) -> bool:
        return not file.path.name.endswith(annotation_format.suffixes)

    for annotation_format in sorted(annotation_formats(), key=is_other_suffix):
        if annotation_format.recognize(file):
            return annotation_format.read(file)
    read = ", ".join(f"{item.title} ({', '.join(item.suffixes)})" for item in annotation_formats())
    fault = broken_file(file.where, file.holds(), f"an annotation of a format that is read: {read}")
    return (unreadable("", file.where, fault),)
