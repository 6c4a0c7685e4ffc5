"""Templates of a package: compiled once in a process, and again where a file changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jinja2

from marrowscope.report.environment import template_environment

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_template_is_compiled_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pages_of_a_test"
    (package / "templates").mkdir(parents=True)
    (package / "__init__.py").touch()
    page = package / "templates" / "page.html.j2"
    page.write_text("one {{ name }}", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    compiled: list[str] = []
    compile_template = jinja2.Environment.compile

    def counted(self: jinja2.Environment, source: str, *given: object) -> object:
        compiled.append(source)
        return compile_template(self, source, *given)  # type: ignore[call-overload]

    monkeypatch.setattr(jinja2.Environment, "compile", counted)
    for _ in range(2):
        environment = template_environment(package.name)
        assert environment.get_template("page.html.j2").render(name="<N>\u202e") == "one &lt;N&gt;[U+202E]"
    page.write_text("other {{ name }}", encoding="utf-8")
    assert template_environment(package.name).get_template("page.html.j2").render(name="N") == "other N"
    assert compiled == ["one {{ name }}", "other {{ name }}"]
