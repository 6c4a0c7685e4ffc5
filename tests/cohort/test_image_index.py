"""An annotation finds the image that it names, or none: never another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from marrowscope.cohort.image_index import ImageIndex

ROOT = Path("/cohort")
IMAGES = ("p1/f1.png", "p1/f2.png", "p2/f1.png", "p2/only.tif", "p3/Ä 1.JPG", "p3/x.png", "p3/x.jpg")


@pytest.fixture
def index() -> ImageIndex:
    return ImageIndex(ROOT, [ROOT / name for name in IMAGES])


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


@pytest.mark.parametrize(
    ("stated", "folder", "found"),
    [
        ("p1/f1.png", "", ["p1/f1.png"]),
        ("./p2/f1.png", "", ["p2/f1.png"]),
        ("images\\p1\\f1.png", "", ["p1/f1.png"]),
        ("..\\p1\\f2.png", "", ["p1/f2.png"]),
        ("D:/data/p2/f1.png", "", ["p2/f1.png"]),
        ("a/../p2/f1.png", "", ["p2/f1.png"]),
        ("only.tif", "", ["p2/only.tif"]),
        ("ONLY.TIF", "", ["p2/only.tif"]),
        ("p3/A\u0308 1.jpg", "", ["p3/Ä 1.JPG"]),
        ("f1.png", "", ["p1/f1.png", "p2/f1.png"]),
        ("f1.png", "p1", ["p1/f1.png"]),
        ("f1.png", "p2/labels", ["p2/f1.png"]),
        ("../f1.png", "p2/labels", ["p2/f1.png"]),
        ("../p2/f1.png", "p1", ["p2/f1.png"]),
        ("C:\\scans\\f1.png", "p1", ["p1/f1.png"]),
        ("p9/f1.png", "", []),
        ("p2/f2.png", "p1", []),
        ("f2.png", "p2", []),
        ("f1.png", "p9", []),
        ("xf1.png", "", []),
        ("", "", []),
        ("..", "p1", []),
    ],
)
def test_stated_path(index: ImageIndex, stated: str, folder: str, found: list[str]) -> None:
    parts = tuple(folder.split("/")) if folder else ()
    assert names(index.named(stated, parts)) == found


@pytest.mark.parametrize(
    ("base_name", "folder", "found"),
    [
        ("f2", "p1", ["p1/f2.png"]),
        ("f2.png", "p1", ["p1/f2.png"]),
        ("f2", "", ["p1/f2.png"]),
        ("f1", "", ["p1/f1.png", "p2/f1.png"]),
        ("f2", "p2", []),
        ("x", "p3", ["p3/x.png", "p3/x.jpg"]),
        ("x.jpg", "p3", ["p3/x.jpg"]),
        ("none", "p1", []),
    ],
)
def test_name_of_the_annotation_file(index: ImageIndex, base_name: str, folder: str, found: list[str]) -> None:
    parts = (folder,) if folder else ()
    assert names(index.own(base_name, parts)) == found
