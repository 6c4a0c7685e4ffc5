"""Whatever text comes from data, the name made of it is a name on every system, and no path leads out."""

from __future__ import annotations

import os
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.errors import BundleError, InputError
from marrowscope.imaging.names import MAX_NAME_BYTES, file_names, is_folder_name, path_below

if TYPE_CHECKING:
    from pathlib import Path

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³")}
HOSTILE = [
    "..",
    ".",
    "",
    "../../etc/passwd",
    "/etc/passwd",
    "\\\\server\\share\\x",
    "C:\\Windows\\x",
    "C:x",
    "a\0b",
    "a\nb",
    "con",
    "NUL.txt",
    "Com1.a.b",
    "lpt9 ",
    "aux .x",
    "P1.",
    "P1 ",
    " P1",
    ".hidden",
    "x" * 300,
    "骨" * 150,
    "a\u202eb",
    "e\u0301",
    "\ud800",
    "a:b",
    "-",
    "--",
    "con\u0000.x",
]
TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(HOSTILE),
    st.text(alphabet="aAbB.-_ ß\u017fkK/\\", max_size=4),
    st.text(alphabet=st.characters(), min_size=60, max_size=300),
)


def check_name(name: str) -> None:
    """Hold a name against the rules of Windows, macOS and Linux."""
    assert 0 < len(name.encode()) <= 230
    assert PurePosixPath(name).name == name
    assert PureWindowsPath(name).name == name
    assert PureWindowsPath(name).stem.split(".")[0].strip().casefold() not in RESERVED
    assert name.isprintable()
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert not set(name) & set('<>:"/\\|?*')
    assert unicodedata.normalize("NFC", name) == name


@given(st.lists(TEXT, max_size=10), st.booleans(), st.booleans())
def test_every_text_becomes_a_name_that_no_other_has(texts: list[str], plain: bool, own_suffix: bool) -> None:  # noqa: FBT001
    names = file_names(texts, "" if own_suffix else ".jpg", plain=plain, own_suffix=own_suffix)
    assert set(names) == set(texts)
    for name in names.values():
        check_name(name)
        assert not plain or name.isascii()
    for form in ("NFC", "NFD", "NFKC"):
        folded = {unicodedata.normalize(form, name.casefold()).casefold() for name in names.values()}
        assert len(folded) == len(names)
    if own_suffix:
        assert len({name.rpartition(".")[0].casefold() or name.casefold() for name in names.values()}) == len(names)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_name_is_changed(text: str) -> None:
    name = file_names([text])[text]
    check_name(name)
    assert (name == text) == (text in {"-", "--"})
    assert is_folder_name(text) == (text in {"-", "--", "e\u0301"})


def test_names_stay_and_changed_ones_can_be_read() -> None:
    texts = ["P1", "张三", "Müller 7", "f.1.jpg", "a/b", "Case", "case", "e\u0301"]
    names = file_names(texts)
    assert [names[text] for text in texts[:4]] == texts[:4]
    assert names["a/b"].startswith("a-b-")
    assert names["Case"].startswith("Case-")
    assert names["case"].startswith("case-")
    assert names["e\u0301"].startswith("é-")


def test_a_text_that_equals_anothers_changed_name_is_changed_too() -> None:
    changed = file_names(["a/b"])["a/b"]
    names = file_names(["a/b", changed])
    assert len(set(names.values())) == 2
    assert file_names([changed]) == {changed: changed}
    assert file_names(["a/b", changed.upper()])["a/b"].casefold() != names[changed].casefold()


def test_names_do_not_depend_on_the_order_of_the_texts() -> None:
    assert file_names(HOSTILE) == {**file_names(HOSTILE[::-1])}


def test_a_files_own_suffix_stays_and_is_not_needed_to_tell_names_apart() -> None:
    names = file_names(["f1.jpg", "f2.jpg", "f2.png", "con.tif", "no suffix"], own_suffix=True)
    assert names["f1.jpg"] == "f1.jpg"
    assert names["f2.png"].startswith("f2-")
    assert names["f2.png"].endswith(".png")
    assert names["con.tif"].endswith(".tif")
    assert names["no suffix"] == "no suffix"


def test_long_names_are_cut_at_the_limit_of_disks() -> None:
    for text in ("x" * MAX_NAME_BYTES, "骨" * 66):
        assert file_names([text]) == {text: text}
    for text in ("x" * (MAX_NAME_BYTES + 1), "骨" * 67):
        assert file_names([text])[text] != text
    assert is_folder_name("x" * 255)
    assert not is_folder_name("骨" * 86)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", "an empty path"),
        ("../secret", "a path through the folder above"),
        ("a/../../secret", "a path through the folder above"),
        ("/etc/passwd", "an absolute path"),
        ("//server/share/x", "an absolute path"),
        ("\\\\server\\share\\x", "a path with a backslash"),
        ("..\\secret", "a path with a backslash"),
        ("C:/x", "a path with a drive letter"),
        ("c:x", "a path with a drive letter"),
        ("a\0b", "a path with control characters"),
        ("a\nb", "a path with control characters"),
        ("NUL", "the name of a device"),
        ("a/com1.txt", "the name of a device"),
        ("x" * 300, "a path that cannot be followed"),
        ("out", "a link that leads out of the folder"),
        ("out/file", "a link that leads out of the folder"),
        ("pipe", "a device or a pipe"),
    ],
)
def test_what_leads_out_is_refused(tmp_path: Path, name: str, found: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "out").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / "pipe")
    with pytest.raises(BundleError, match=f"^table x: found .*{found}, expected a path inside .*; do not use it"):
        path_below(root, name, where="table x", error=BundleError)


def test_what_stays_inside_is_given(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for name in ("a/b", "a", "link/b", "absent/c", "a b/ü"):
        assert path_below(tmp_path, name, where="x") == tmp_path / name
    (tmp_path / "far").symlink_to(tmp_path.parent)
    with pytest.raises(InputError, match="a link that leads out"):
        path_below(tmp_path, "far", where="x")
    assert path_below(tmp_path, "far", where="x", links=True) == tmp_path / "far"
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(InputError, match=r"cannot be followed|leads out"):
        path_below(tmp_path, "circle/x", where="x")
