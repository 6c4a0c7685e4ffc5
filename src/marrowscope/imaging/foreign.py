"""Name what stands in a file that is no image this package reads, from its first bytes."""

from __future__ import annotations

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
