"""The templates and what all pages share: the words of a language, the style, the manifest; every value is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from marrowscope.report.differential_rows import SIGNS
from marrowscope.report.marks import UNCERTAIN_BELOW
from marrowscope.report.palette import LINEAGE_COLORS
from marrowscope.report.pdf_text import one_line, readable
from marrowscope.report.pictures import CELL_SPEC
from marrowscope.report.verdict import CALL_SIGNS
from marrowscope.report.words import integer

if TYPE_CHECKING:
    from types import CodeType

    from jinja2.bccache import Bucket

    from marrowscope.report.words import Words
    from marrowscope.runs.manifest import Manifest


class _CompiledOnce(jinja2.BytecodeCache):
    """Templates that were compiled in this process, by name and file: every report has an environment of its own."""

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[str, CodeType]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        checksum, code = self._compiled.get(bucket.key, ("", None))
        if checksum == bucket.checksum:  # of the source, so that a changed template is compiled again
            bucket.code = code

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._compiled[bucket.key] = bucket.checksum, bucket.code


_COMPILED = _CompiledOnce()


def template_environment(package: str = "marrowscope.report") -> jinja2.Environment:
    """Load the templates of a package: every value is escaped and in reading order, every unknown name an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_in_order,
        bytecode_cache=_COMPILED,
    )


def page_environment(manifest: Manifest, words: Words) -> jinja2.Environment:
    """Load the templates with everything that a run's pages share, in one language."""
    environment = template_environment()
    environment.filters.update(
        percent=words.percent, integer=integer, zip=lambda a, b: list(zip(a, b, strict=True)), base_name=base_name
    )
    environment.globals.update(
        manifest=manifest,
        words=words,
        t=words.text,
        count=words.count,
        uncertain_below=f"{UNCERTAIN_BELOW:.2f}",
        crop_um=f"{CELL_SPEC.side_um:.1f}",
        lineage_colors=LINEAGE_COLORS,
        call_signs=CALL_SIGNS,
        signs=SIGNS,
        style=page_style("pages.css"),
        css_text=css_text,
        scripts={name: asset(f"{name}.js") for name in ("cohort", "patient")},
        script_hash=script_hash,
    )
    return environment


def _in_order(value: object) -> object:
    """Spell what a page cannot show or what reorders the text around it; such characters come from users alone."""
    if isinstance(value, Markup):
        return Markup(readable(value))  # noqa: S704  code points in brackets add no markup
    return readable(value) if isinstance(value, str) else value


def asset(name: str) -> Markup:
    """Return a file of the package as trusted text."""
    text = (files("marrowscope.report") / "templates" / name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  our own file


def page_style(*names: str) -> Markup:
    """Return the style of every page, its palette first, and then the files of one page."""
    return Markup("").join([asset("palette.css"), asset("report.css"), *map(asset, names)])


def script_hash(script: str) -> str:
    """Return the security policy source that allows only this script on a page."""
    digest = hashlib.sha256(str(script).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def base_name(path: str) -> str:
    """Return the last part of a path written on any system."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _on_one_line(text: str) -> str:
    return " ".join(map(one_line, text.split(" ")))


def css_text(text: str) -> Markup:
    """Return a text as a string of a style sheet."""
    return Markup(json.dumps(_on_one_line(str(text)), ensure_ascii=False).replace("<", "\\3c "))  # noqa: S704  quoted
