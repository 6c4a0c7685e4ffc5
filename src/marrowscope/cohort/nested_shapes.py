"""Shapes that a format states to be inside others: a nucleus in its cell, a copy, cells in a region.

Label Studio has the parent of a region, QuPath the children of an object. Cells do not lie inside cells of their own
class: a lone child of its parent's class that lies inside it is a part of it, or a copy. The outer outline is kept, and
that is noted. Several such children may be cells of which the parent is only the frame, or parts of one cell: no rule
says which, so that all are left out with a fault. A child of another class is kept, and the image's are counted in a
note.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from marrowscope.geometry import Rings, area, shared_areas
from marrowscope.records import Annotation, Fault
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INSIDE = 0.9
"""Share of the smaller outline's area in the other one from which it lies inside; a nucleus is drawn freehand."""


def join_nested(
    shapes: Sequence[Annotation], parent_of: Mapping[int, int], where: str, faults: list[Fault]
) -> tuple[Annotation, ...]:
    """Return the shapes without those that are parts of others, or may be; ``faults`` gets what was decided.

    ``parent_of`` holds the ``shape_index`` of the parent of every shape that states one.
    """
    by_index = {shape.shape_index: shape for shape in shapes}
    children: defaultdict[int, list[Annotation]] = defaultdict(list)
    n_of_other_class = 0
    for child in shapes:
        parent = by_index.get(parent_of.get(child.shape_index, child.shape_index))
        if parent is None or parent is child or not _one_inside_other(parent, child):
            continue
        if child.code == parent.code:
            children[parent.shape_index].append(child)
        else:
            n_of_other_class += 1
    left_out: set[int] = set()
    for index, inside in children.items():
        parent = by_index[index]
        if len(inside) == 1:
            inner, outer = sorted([inside[0], parent], key=lambda shape: area(shape.contour_xy))
            left_out.add(inner.shape_index)
            faults.append(_part(inner, outer, where))
        else:
            refused = [parent, *inside]
            faults += [_unclear(shape, parent, len(inside), where) for shape in refused]
            left_out |= {shape.shape_index for shape in refused}
    if n_of_other_class:
        found = f"{count_of(n_of_other_class, 'shape')} inside a parent of another class"
        action = "both are kept; remove the one that is no cell"
        faults.append(Fault("nested_shape", where, found, "cells beside each other", action, loses_data=False))
    return tuple(shape for shape in shapes if shape.shape_index not in left_out)


def _one_inside_other(parent: Annotation, child: Annotation) -> bool:
    first, _, _ = shared_areas(Rings.of([parent.contour_xy, child.contour_xy]), _INSIDE)
    return len(first) > 0


def _part(inner: Annotation, outer: Annotation, where: str) -> Fault:
    found = f"shape {inner.shape_index} of its class {inner.code!r} inside it, stated as its parent or child"
    action = "the outer outline is kept; undo the relation if both are cells"
    return Fault("nested_shape", where, found, "one outline per cell", action, outer.shape_index, loses_data=False)


def _unclear(shape: Annotation, parent: Annotation, n: int, where: str) -> Fault:
    found = (
        f"{count_of(n, 'shape')} of its class {parent.code!r} inside it, stated as its children"
        if shape is parent
        else f"one of {count_of(n, 'shape')} of class {parent.code!r} inside their parent, shape {parent.shape_index}"
    )
    action = "remove the parent if it only surrounds cells, else its children"
    return Fault("nested_shape", where, found, "cells that are not inside each other", action, shape.shape_index)
