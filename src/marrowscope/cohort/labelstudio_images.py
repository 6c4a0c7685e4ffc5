"""The images of a Label Studio task: which names its data state, and on which of them a region is drawn.

A region names the tag of the labeling interface that it was drawn on (``to_name``), and among several images of one tag
its position (``item_index``). The interface is not in the export. A tag is therefore known where it is called like a
key of the task's data, or where the task has only one image.

An image's own name is ``image_path`` of the task's data, which our files have, else the end of the link.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from marrowscope.cohort.annotations import item_id, path_text
from marrowscope.imaging import IMAGE_SUFFIXES, SLIDE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Collection

    from marrowscope.records import JsonDict

_IMAGE, _OWN_NAME = "image", "image_path"
_UPLOADS = "/data/upload/"
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


@dataclass(frozen=True, slots=True)
class TaskImages:
    """The images of one task.

    ``of_key`` holds the names under each key of its data, ``only`` the name of the image where there is no more than
    one (empty where it has none), ``objects`` the tags that regions of the file are drawn on.
    """

    of_key: dict[str, tuple[str, ...]]
    only: str | None
    objects: tuple[str, ...]

    @property
    def annotated(self) -> tuple[str, ...]:
        """Names of the images that a reader of the task has seen with the tools to annotate them."""
        if self.only is not None:
            return (self.only,)
        keys = [key for tag in self.objects if (key := self._key_of(tag)) is not None]
        return tuple(dict.fromkeys(name for key in keys for name in self.of_key[key]))

    def name_of(self, to_name: object, item_index: object) -> str | None:
        """Return the name of the image that a region is drawn on; None where that cannot be told."""
        if self.only is not None:
            return self.only
        key = self._key_of(to_name)
        names = self.of_key[key] if key is not None else ()
        number = item_id(item_index)
        if len(names) == 1 and number is None:
            return names[0]
        return names[number] if isinstance(number, int) and 0 <= number < len(names) else None

    def _key_of(self, to_name: object) -> str | None:
        """Return the key of the data that a tag shows: that of its name, or the only one for the only tag."""
        if isinstance(to_name, str) and to_name in self.of_key:
            return to_name
        return next(iter(self.of_key)) if len(self.of_key) == 1 and len(self.objects) <= 1 else None


def task_images(data: JsonDict, objects: Collection[str]) -> TaskImages:
    """Return the images that the data of a task state, where regions of the file are drawn on the tags ``objects``."""
    stated = {key: names for key, value in data.items() if key != _OWN_NAME and (names := _names_in(value))}
    of_key = {
        key: names for key, names in stated.items() if key in objects or key == _IMAGE or all(map(_is_picture, names))
    }
    own = data.get(_OWN_NAME)
    if isinstance(own, str) and own and len(of_key.get(_IMAGE, ())) == 1:
        of_key[_IMAGE] = (path_text(own),)
    n_images = len({name for names in of_key.values() for name in names})
    are_known = len(objects) <= 1 or of_key.keys() >= set(objects) or len(stated) <= 1
    if not objects or (n_images <= 1 and are_known):
        return TaskImages(of_key, _only_image(data), tuple(sorted(objects)))
    return TaskImages(of_key, None, tuple(sorted(objects)))


def _only_image(data: JsonDict) -> str:
    """Return the name of a task's image; empty where its data name none, or no single one."""
    own = data.get(_OWN_NAME)
    if isinstance(own, str) and own:
        return path_text(own)
    image = _names_in(data.get(_IMAGE))
    names = list(image) or [name for value in data.values() for name in _names_in(value)]
    pictures = [name for name in names if _is_picture(name)]
    return (pictures or names if len(names) == 1 else pictures if len(pictures) == 1 else [""])[0]


def _names_in(value: object) -> tuple[str, ...]:
    """Return the names in a link, or in a list of links; nothing where it holds anything else."""
    links = value if isinstance(value, list) else [value]
    names = [_name_in_link(link) for link in links if isinstance(link, str)]
    return tuple(names) if len(names) == len(links) else ()


def _is_picture(name: str) -> bool:
    return name.lower().endswith(tuple(IMAGE_SUFFIXES | SLIDE_SUFFIXES))


def _name_in_link(link: str) -> str:
    """Return the path of an image in a link: of a folder that Label Studio serves, an upload, or a storage."""
    if "://" not in link and not link.startswith("/data/"):
        return path_text(link)
    split = urlsplit(link)
    served = parse_qs(split.query).get("d")
    if served:
        return path_text(served[0])
    path = unquote(split.path)
    if _UPLOADS in path:  # the folder is Label Studio's own
        return path_text(_UPLOADED.sub("", path.rpartition("/")[2], count=1))
    return path_text(path)
