"""A document of values set with typst as a PDF for the archive: ``typesetting(template, fonts, created)``.

Data reach a template as a JSON file beside it, never as part of its source. The files are PDF/A-2a and PDF/UA-1: for
the archive, tagged for screen readers, and refused by the compiler where a glyph is missing; such a character is
then printed as its code point. Equal input gives equal bytes.
"""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marrowscope.errors import InputError
from marrowscope.report.fonts import HOW_TO_INSTALL, families_for, open_fonts
from marrowscope.report.pdf_glyphs import characters_without_glyph, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from importlib.resources.abc import Traversable

    import typst

_STANDARDS: list[Any] = ["a-2a", "ua-1"]
_TEMPLATE = "document.typ"
_FULL = re.compile(r"page (\d) is full")


@dataclass(frozen=True, slots=True)
class PdfFonts:
    """The fonts of one language, found before anything is written."""

    fonts: typst.Fonts
    families: tuple[str, ...]


class FullPageError(Exception):
    """A page of the document is too full: the template stopped with "page n is full". ``page`` counts from 1."""

    def __init__(self, page: int) -> None:
        super().__init__(f"page {page} is full")
        self.page = page


def find_pdf_fonts(lang: str = "en", font_path: Path | None = None) -> PdfFonts:
    """Find the fonts for a PDF in ``lang``. Raises DependencyError if typst or a Chinese font is missing."""
    fonts = open_fonts(font_path)
    return PdfFonts(fonts, tuple(families_for(lang, fonts, font_path)))


@contextmanager
def typesetting(template: Traversable, fonts: PdfFonts, created: datetime) -> Iterator[Typesetting]:
    """Give a place to set a template in, as long as the context is open; ``created`` is the PDF's own date."""
    with tempfile.TemporaryDirectory(prefix="marrowscope-pdf-") as folder:
        root = Path(folder)
        (root / _TEMPLATE).write_bytes(template.read_bytes())
        yield Typesetting(root, fonts, created)


class Typesetting:
    """A template in a folder of its own, and the characters that its fonts were found not to have."""

    def __init__(self, root: Path, fonts: PdfFonts, created: datetime) -> None:
        self._root, self._fonts, self._created = root, fonts, created
        self._unprintable: set[str] = set()

    def add_picture(self, name: str, content: bytes) -> None:
        """Put a picture beside the template."""
        (self._root / name).write_bytes(content)

    def pdf(self, document: Mapping[str, Any]) -> bytes:
        """Return the PDF of ``document``, plain values that the template reads as ``data.json``.

        Raises FullPageError where the template says so, InputError where a text cannot be set.
        """
        import typst  # noqa: PLC0415  an extra: only a PDF needs it

        while True:
            data = json.dumps(printable(document, self._unprintable), ensure_ascii=False)
            (self._root / "data.json").write_text(data, encoding="utf-8")
            try:
                return typst.compile(
                    self._root / _TEMPLATE,
                    root=self._root,
                    font_paths=self._fonts.fonts,
                    pdf_standards=_STANDARDS,
                    timestamp=self._created,
                )
            except typst.TypstError as error:
                if full := _FULL.search(error.message):
                    raise FullPageError(int(full[1])) from error
                found = characters_without_glyph(error.message, document, self._unprintable)
                if not found:
                    raise InputError(_not_typeset(error.message)) from error
                self._unprintable |= found


def _not_typeset(complaint: str) -> str:
    """Say why a PDF cannot be made, and what to do."""
    told = complaint.rsplit("error: ", maxsplit=1)[-1]
    return f"the PDF cannot be set ({told}), expected texts that a font here has; {HOW_TO_INSTALL}"
