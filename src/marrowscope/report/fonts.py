"""The fonts of a PDF: what typst brings for Latin text, and one that has Chinese.

typst brings no Chinese glyph; without a font that has them a page would show empty boxes. One is looked for among the
system's fonts, in the package noto-cjk-sans-otc, and in the folders the user names, well-known families first; it is
taken only where its character table holds every Chinese character of the catalog.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.errors import DependencyError, InputError
from marrowscope.report.strings import load_strings

if TYPE_CHECKING:
    import typst

_LATIN = ("Libertinus Serif", "DejaVu Sans Mono")
"""Inside typst: text, and the signs that it lacks."""

CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Serif CJK SC",
    "Source Han Serif SC",
    "Heiti SC",
    "STHeiti",
    "SimHei",
    "Songti SC",
    "SimSun",
    "Droid Sans Fallback",
)
"""Families with Simplified Chinese, sans serif first: Linux, macOS, Windows."""

_FIRST_EAST_ASIAN = "\u2e80"
_REGULAR = 400
FONT_PACKAGE = "noto_cjk_sans_otc"
HOW_TO_INSTALL = (
    "install one (Debian and Ubuntu: apt install fonts-noto-cjk; anywhere: pip install noto-cjk-sans-otc) "
    "or name its folder with --font-path"
)


def open_fonts(font_path: Path | None = None) -> typst.Fonts:
    """List the fonts typst may use: the system's, its own, the font package's, those under ``font_path``.

    Raises DependencyError where typst is not installed, InputError where ``font_path`` is no folder.
    """
    try:
        import typst  # noqa: PLC0415  an extra: only a PDF needs it
    except ModuleNotFoundError as error:
        message = "a PDF needs typst, which is not installed; install it with: pip install 'marrowscope[pdf]'"
        raise DependencyError(message) from error
    if font_path is not None and not font_path.is_dir():
        message = f"--font-path {font_path}: found no folder, expected one with .ttf, .otf or .ttc files; correct it"
        raise InputError(message)
    folders = [font_path] if font_path is not None else []
    spec = find_spec(FONT_PACKAGE)
    folders += [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return typst.Fonts(font_paths=[str(folder) for folder in folders])


def families_for(language: str, fonts: typst.Fonts, font_path: Path | None = None) -> list[str]:
    """Give the families of a page in ``language``, the first for most of its text.

    Raises DependencyError for Chinese where no font has every Chinese character of the catalog.
    """
    if language != "zh":
        return list(_LATIN)
    wanted = catalog_characters(language)
    ranked = sorted((info for info in fonts.fonts() if info.path is not None), key=lambda info: _rank(info, font_path))
    for info in ranked:
        is_elsewhere, place, *_ = _rank(info, font_path)
        if (not is_elsewhere or place < len(CHINESE)) and not missing_characters(info, wanted):
            return [info.family, *_LATIN]
    message = f"no font with the {len(wanted)} characters of the Chinese texts was found; {HOW_TO_INSTALL}"
    raise DependencyError(message)


def catalog_characters(language: str) -> set[str]:
    """Give every East Asian character of the catalog's texts in ``language``, full-width punctuation too."""
    return {sign for text in load_strings(language).texts.values() for sign in text if sign >= _FIRST_EAST_ASIAN}


def missing_characters(info: typst.FontInfo, wanted: set[str]) -> set[str]:
    """Give those of ``wanted`` that a font file has no glyph for."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # noqa: PLC0415  comes with the extra `pdf`

    with TTFont(str(info.path), fontNumber=info.index, lazy=True) as font:
        table = font.getBestCmap() or {}
    return {sign for sign in wanted if ord(sign) not in table}


def _rank(info: typst.FontInfo, font_path: Path | None) -> tuple[bool, int, str, bool]:
    """Order of preference: the user's folder before any other, families as listed, then by name, regular first."""
    is_elsewhere = font_path is None or not Path(str(info.path)).is_relative_to(font_path)
    listed = [name.casefold() for name in CHINESE]
    family = info.family.casefold()
    place = listed.index(family) if family in listed else len(listed)
    return is_elsewhere, place, family, info.weight != _REGULAR
