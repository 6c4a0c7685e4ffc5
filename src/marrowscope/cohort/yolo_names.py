"""The lists of a YAML file beside YOLO labels: the names of the classes, and the images not fully annotated.

A label file says only the number of a class, so that no list may shift: an item without a text keeps its number and is
a fault, and a list that is there twice, or has a line that is no item, makes the file unclear.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from marrowscope.cohort.annotations import label_text, shorten
from marrowscope.records import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = re.compile(r"^(?P<quote>['\"]?)(?P<key>[A-Za-z_][\w .-]*?)(?P=quote)\s*:\s*(?P<rest>.*)$")
_ITEM = re.compile(r"^\s*(?:-|(?P<number>['\"]?\d+['\"]?)\s*:)\s*(?P<value>.*)$")
_PART = re.compile(
    r"\s*(?P<part>(?:['\"]?\d+['\"]?\s*:\s*)?(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*')|[^,]*?)\s*(?:,|$)", re.DOTALL
)
"""One item of an inline list, up to its comma; a quotation mark inside a word is an apostrophe."""
_LISTS = ("names", "not_exhaustive")
_NULLS = ("~", "null", "Null", "NULL")
"""What YAML reads as no text."""


def yaml_lists(lines: list[str]) -> dict[str, list[tuple[str | None, str]]]:
    """Return the lists of a YAML file, by key: (number or None, text) of each item; block and inline lists are read.

    An item without a text counts: those after it have their own numbers.
    """
    sections: dict[str, list[tuple[str | None, str]]] = {}
    items: list[tuple[str | None, str]] = []
    for line in lines:
        key = _KEY.match(line)
        if key:
            items = sections.setdefault(key["key"], [])
            inner = key["rest"].split(" #")[0].strip()
            if inner.startswith(("[", "{")) and inner.endswith(("]", "}")):
                items += map(_item, _parts(inner[1:-1].strip()))
        elif _ends_list(line):
            items = []
        elif _ITEM.match(line):
            items.append(_item(line))
    return sections


def _parts(inner: str) -> Iterator[str]:
    """Return the items of an inline list, empty ones included; a comma at its end is none."""
    position = 0
    while position < len(inner):
        part = _PART.match(inner, position)
        if part is None:
            return
        yield part["part"]
        position = part.end()


def _ends_list(line: str) -> bool:
    """Say whether a line without a key ends the list before it: the mark of a document, or anything not indented."""
    return line.startswith(("---", "...")) or (bool(line.strip()) and line[0] not in " \t#" and not _ITEM.match(line))


def unclear_lists(lines: list[str]) -> str:
    """Return what makes a list that is read unclear, worded to follow "found"; empty where nothing does."""
    seen: set[str] = set()
    current = ""
    for number, line in enumerate(lines, start=1):
        key = _KEY.match(line)
        if key:
            current = key["key"]
            if current in _LISTS and current in seen:
                return f"the key {current!r} a second time in line {number}"
            seen.add(current)
        elif _ends_list(line):
            current = ""
        elif current in _LISTS and line.strip() and not line.lstrip().startswith("#") and not _ITEM.match(line):
            return f"{shorten(line.strip())} among the items of {current!r} in line {number}"
    return ""


def _item(text: str) -> tuple[str | None, str]:
    match = _ITEM.match(text)
    number, value = (match["number"], match["value"]) if match else (None, text)
    value = value.strip()
    if value.startswith('"'):
        try:
            value = str(json.loads(value))
        except ValueError:
            value = value.strip('"')
    elif value.startswith("'"):
        value = value.strip("'").replace("''", "'")
    else:
        value = value.split(" #")[0].strip()
        value = "" if value in _NULLS or value.startswith("#") else value
    return (number.strip("'\"") if number else None), value


def class_names(items: list[tuple[str | None, str]], where: str) -> tuple[dict[int, str | None], list[Fault]]:
    """Return the name of every class number; None, and a fault, for a number of two names or none.

    Two numbers of one name are noted.
    """
    names: dict[int, str | None] = {}
    faults: list[Fault] = []
    for position, (number, text) in enumerate(items):
        class_id, name = position if number is None else int(number), label_text(text)
        if name is None:
            found, action = f"class {class_id} without a name", "name it; its cells are left out"
            faults.append(Fault("broken_id", where, found, "a name for each class", action))
        if class_id in names and names[class_id] != name:
            found = f"class {class_id} twice, as {names[class_id]!r} and {name!r}"
            action = "give each class a unique number; its cells are left out"
            faults.append(Fault("duplicate_id", where, found, "each number once", action))
            name = None
        names[class_id] = name
    for name in dict.fromkeys(filter(None, names.values())):
        same = [str(class_id) for class_id, label in names.items() if label == name]
        if len(same) > 1:
            found, action = f"classes {' and '.join(same)}, both {name!r}", "their cells are read as one class"
            faults.append(Fault("same_category", where, found, "each name once", action, loses_data=False))
    return names, faults
