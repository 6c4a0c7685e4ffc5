"""Name what stands in a file that is no image this package reads: from its first bytes, or from its name.

A picture of a format that is not read is named, with what to do about it, so that nothing is lost in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.records import Fault

if TYPE_CHECKING:
    from pathlib import Path

_STARTS = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\xd0\xcf\x11\xe0", "an old Office document or a ZVI or OIB image"),
    (b"GIF8", "a GIF picture"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"8BPS", "a Photoshop picture"),
    (b"ZISRAWFILE", "a CZI slide"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x89HDF", "an HDF5 file"),
)
_FAMILIES = {
    b"heic": "a HEIC picture",
    b"heix": "a HEIC picture",
    b"mif1": "a HEIF picture",
    b"avif": "an AVIF picture",
}
_LOOKED_AT = 512
_FROM_PHONE = "export it as JPEG or PNG from the program that made it"
_FROM_MICROSCOPE = "export it as TIFF (RGB, with its scale) or PNG from the microscope's program, or with Bio-Formats"
_FROM_CAMERA = "develop it to TIFF or PNG with the camera's program"
_SAVED = "save it as PNG or TIFF with any image program"
_FORMATS = {
    "a HEIC or HEIF picture": (_FROM_PHONE, ".heic", ".heif", ".hif"),
    "an AVIF picture": (_FROM_PHONE, ".avif"),
    "a GIF picture": (_SAVED, ".gif"),
    "a JPEG 2000 picture": (_SAVED, ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
    "a JPEG XL picture": (_SAVED, ".jxl"),
    "a JPEG XR picture": (_SAVED, ".jxr", ".wdp", ".hdp"),
    "a JPEG-LS picture": (_SAVED, ".jls"),
    "a Photoshop picture": (_SAVED, ".psd", ".psb"),
    "a GIMP picture": (_SAVED, ".xcf"),
    "a portable pixmap": (_SAVED, ".ppm", ".pgm", ".pbm", ".pnm", ".pam"),
    "a TGA picture": (_SAVED, ".tga"),
    "a PCX picture": (_SAVED, ".pcx"),
    "an OpenEXR picture": (_SAVED, ".exr"),
    "a raw photograph of a camera": (
        _FROM_CAMERA, ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw",
    ),
    "a CZI image": (_FROM_MICROSCOPE, ".czi"),
    "a LIF image": (_FROM_MICROSCOPE, ".lif", ".lof"),
    "a ZVI image": (_FROM_MICROSCOPE, ".zvi"),
    "an LSM image": (_FROM_MICROSCOPE, ".lsm"),
    "an ND2 image": (_FROM_MICROSCOPE, ".nd2"),
    "an OIB, OIF or OIR image": (_FROM_MICROSCOPE, ".oib", ".oif", ".oir", ".poir"),
    "a VSI slide": (_FROM_MICROSCOPE, ".vsi"),
    "an Imaris image": (_FROM_MICROSCOPE, ".ims"),
    "a MetaMorph stack": (_FROM_MICROSCOPE, ".stk"),
    "a slide of a scanner": (_FROM_MICROSCOPE, ".isyntax", ".i2syntax", ".kfb", ".sdpc", ".tmap", ".mds", ".qptiff"),
}  # fmt: skip
_BY_SUFFIX = {suffix: (name, action) for name, (action, *suffixes) in _FORMATS.items() for suffix in suffixes}
_PICTURES = frozenset({"a GIF picture", "a JPEG 2000 picture", "a Photoshop picture", "a CZI slide"})
_PICTURES |= {"a JPEG XL picture", *_FAMILIES.values()}


def foreign_fault(path: Path, where: str, start: bytes = b"") -> Fault | None:
    """Say that ``path`` is a picture of a format that is not read, by its name, or by its ``start`` without a suffix.

    None for every other file, a picture that is read included.
    """
    name, action = _BY_SUFFIX.get(path.suffix.lower(), ("", ""))
    if not name and not path.suffix and (content := name_content(start)) in _PICTURES:
        name, action = content, _SAVED
    if not name:
        return None
    return Fault("unread_format", where, name, "JPEG, PNG, TIFF, BMP, WebP or a slide", f"it is not read; {action}")


def name_content(data: bytes) -> str:
    """Name the content in words that follow "found"; "" where the first bytes are not known."""
    for start, name in _STARTS:
        if data.startswith(start):
            return name
    if data[4:8] == b"ftyp":
        return _FAMILIES.get(data[8:12], "a video or HEIF file")
    if data[128:132] == b"DICM":
        return "a DICOM file"
    head = data[:_LOOKED_AT]
    if not head.strip(b"\0"):
        return "zero bytes, as an interrupted copy leaves them"
    return _name_text(head)


def _name_text(head: bytes) -> str:
    if any(byte < 9 or 13 < byte < 32 for byte in head):  # noqa: PLR2004 - control characters that no text has
        return ""
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < _LOOKED_AT else "ignore").lstrip().lower()
    except UnicodeDecodeError:
        return ""
    if text.startswith(("<!doctype html", "<html")):
        return "a web page (HTML)"
    if text.startswith(("<?xml", "<svg")):
        return "XML or SVG text"
    return "text"
