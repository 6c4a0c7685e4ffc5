"""What QuPath's GeoJSON says of its objects beside their outlines: nesting, planes, ids, nuclei.

A photograph is one plane. Where the objects of an image lie on several (of a stack, a time series, or channels), those
of the first are read, which is QuPath's own where it is among them, and the others are refused one by one. An id that
stands for two objects is refused from the second on; QuPath before 0.3 wrote the type of an object as its id, which is
none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import broken_shape, id_text, item_id, shorten
from marrowscope.records import Annotation, Fault, JsonDict
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Plane = tuple[int, int, int]
"""Time point, level and channel, in the order in which the first plane is chosen."""

_CHILDREN = ("childObjects", "children")
_TYPE_AS_ID = re.compile(r"(Path\w*|TMACore)Object")
_NO_PLANE: Plane = (0, 0, -1)
"""The plane of a photograph; -1 stands for all channels."""


def flat(features: list[object]) -> Iterator[tuple[object, JsonDict, int | None]]:
    """Return each feature, its properties and the position of its parent; those nested in another one follow it."""
    waiting: list[tuple[object, int | None]] = [(feature, None) for feature in features[::-1]]
    index = 0
    while waiting:
        feature, parent = waiting.pop()
        properties = feature.get("properties") if isinstance(feature, dict) else None
        properties = properties if isinstance(properties, dict) else {}
        for holder in (properties, feature if isinstance(feature, dict) else {}):
            for key in _CHILDREN:
                children = holder.get(key)
                waiting += [(child, index) for child in children[::-1]] if isinstance(children, list) else []
        yield feature, properties, parent
        index += 1


def object_id(feature: JsonDict) -> str:
    """Return the id of an object as text; empty where it has none."""
    text = id_text(feature.get("id"))
    return "" if _TYPE_AS_ID.fullmatch(text) else text


def checked_plane(feature: JsonDict, geometry: JsonDict, seen: dict[str, int], index: int, where: str) -> Plane | Fault:
    """Return the plane of an object, that of a photograph where none is stated; or the fault of its id or its plane.

    ``seen`` has the position of every id so far, and then the object's.
    """
    own_id = object_id(feature)
    if feature.get("id") not in (None, "") and not id_text(feature["id"]):
        return broken_shape(where, index, f"id {shorten(feature['id'])}", "a whole number or text as its id")
    if own_id and seen.setdefault(own_id, index) != index:
        found = f"feature id {own_id!r} again, which shape {seen[own_id]} has"
        return Fault("duplicate_id", where, found, "each id once", "give each feature a unique id", index)
    stated = {} if geometry.get("plane") is None else geometry["plane"]
    keys = zip(("t", "z", "c"), _NO_PLANE, strict=True)
    numbers = [item_id(stated.get(key, none)) for key, none in keys] if isinstance(stated, dict) else []
    whole = [number for number in numbers if isinstance(number, int)]
    if len(whole) != len(_NO_PLANE):
        return broken_shape(where, index, f"plane {shorten(stated)}", "whole numbers z, t and c")
    return whole[0], whole[1], whole[2]


def on_one_plane(
    shapes: Sequence[Annotation], planes: Mapping[int, Plane], where: str, faults: list[Fault]
) -> list[Annotation]:
    """Return the shapes of the plane that is read; each of another one is a fault. ``planes`` is by ``shape_index``."""
    seen = {planes[shape.shape_index] for shape in shapes}
    if len(seen) <= 1:
        return list(shapes)
    read = _NO_PLANE if _NO_PLANE in seen else min(seen)
    for shape in shapes:
        if (plane := planes[shape.shape_index]) != read:
            found, expected = f"a shape on {_named(plane)}", f"shapes of one plane, {_named(read)}"
            action = "export the objects of the plane that the image shows, or move them to it"
            faults.append(Fault("other_plane", where, found, expected, action, shape.shape_index))
    return [shape for shape in shapes if planes[shape.shape_index] == read]


def nuclei_left_out(where: str, n: int) -> Fault:
    """Describe the note that the outlines of nuclei, which QuPath keeps beside those of their cells, are left out."""
    found = f"{count_of(n, 'outline')} of nuclei beside those of their cells"
    action = "the outlines of the cells are read"
    return Fault("nucleus_outline", where, found, "one outline per cell", action, loses_data=False)


def _named(plane: Plane) -> str:
    time, level, channel = plane
    return f"plane z {level}, t {time}, c {channel}"
