"""The fonts of a PDF: those of typst for Latin text, and one with Chinese characters.

typst has no Chinese glyphs; without a font that has them, a page would show empty boxes. One is looked for among the
system fonts, in the package noto-cjk-sans-otc, and in the user's folders, well-known families first. It is used only if
its character table has every Chinese character of the catalog.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.errors import DependencyError, InputError
from marrowscope.report.strings import load_strings
from marrowscope.wording import count_of

if TYPE_CHECKING:
    import typst

_LATIN = ("Libertinus Serif", "DejaVu Sans Mono")
"""Included in typst: the text font, and one for the signs it lacks."""

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
    """List the fonts typst may use: those of the system, of typst, of the font package, and under ``font_path``.

    Raises DependencyError if typst is not installed, and InputError if ``font_path`` is not a folder.
    """
    try:
        import typst  # noqa: PLC0415  an extra: only a PDF needs it
    except ModuleNotFoundError as error:
        message = "found no typst, which a PDF needs; install it with pip install '.[pdf]' in a copy of the repository"
        raise DependencyError(message) from error
    if font_path is not None and not font_path.is_dir():
        message = (
            f"--font-path {font_path}: found no folder, expected one with .ttf, .otf or .ttc files; correct the path"
        )
        raise InputError(message)
    folders = [font_path] if font_path is not None else []
    spec = find_spec(FONT_PACKAGE)
    folders += [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return typst.Fonts(font_paths=[str(folder) for folder in folders])


def families_for(language: str, fonts: typst.Fonts, font_path: Path | None = None) -> list[str]:
    """List the font families for a page in ``language``; the first is for most of its text.

    Raises DependencyError for Chinese if no font has every Chinese character of the catalog.
    """
    if language != "zh":
        return list(_LATIN)
    wanted = catalog_characters(language)
    ranked = sorted((info for info in fonts.fonts() if info.path is not None), key=lambda info: _rank(info, font_path))
    for info in ranked:
        is_elsewhere, place, *_ = _rank(info, font_path)
        if (not is_elsewhere or place < len(CHINESE)) and not missing_characters(info, wanted):
            return [info.family, *_LATIN]
    message = f"found no font with the {count_of(len(wanted), 'character')} of the Chinese texts; {HOW_TO_INSTALL}"
    raise DependencyError(message)


def catalog_characters(language: str) -> set[str]:
    """Collect every East Asian character in the catalog's texts in ``language``, including full-width punctuation."""
    return {sign for text in load_strings(language).texts.values() for sign in text if sign >= _FIRST_EAST_ASIAN}


def missing_characters(info: typst.FontInfo, wanted: set[str]) -> set[str]:
    """Return the characters of ``wanted`` for which a font file has no glyph."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # noqa: PLC0415  comes with the extra `pdf`

    with TTFont(str(info.path), fontNumber=info.index, lazy=True) as font:
        table = font.getBestCmap() or {}
    return {sign for sign in wanted if ord(sign) not in table}


def _rank(info: typst.FontInfo, font_path: Path | None) -> tuple[bool, int, str, bool]:
    """Rank by preference: the user's folder first, then families as listed, then by name, regular first."""
    is_elsewhere = font_path is None or not Path(str(info.path)).is_relative_to(font_path)
    listed = [name.casefold() for name in CHINESE]
    family = info.family.casefold()
    place = listed.index(family) if family in listed else len(listed)
    return is_elsewhere, place, family, info.weight != _REGULAR
