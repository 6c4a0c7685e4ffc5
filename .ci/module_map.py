"""The map of the modules in docs/architecture.md, made from the first sentence of each module's docstring.

    python .ci/module_map.py           # print it
    python .ci/module_map.py --write   # put it into the page

The floors are those of the import contract in pyproject.toml, from the ground up.
"""

from __future__ import annotations

import argparse
import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "marrowscope"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- modules: python .ci/module_map.py --write -->\n", "<!-- end of modules -->"


def first_sentence(path: Path) -> str:
    """Give the first paragraph of a module's docstring on one line, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).rstrip(".")


def floors() -> list[list[str]]:
    """Give the names on the top level of the package, floor by floor, the ground first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    named = [[name.strip() for name in re.split(r"[|:]", floor)] for floor in layers]
    return [[name for name in floor if not name.startswith("(")] for floor in reversed(named)]


def module_map() -> str:
    """Give the map as Markdown: a heading a floor, a paragraph a room, a line a module inside it."""
    lines: list[str] = []
    for number, floor in enumerate(floors()):
        lines += [f"### Floor {number}", ""]
        for name in floor:
            room = PACKAGE / name
            if not room.is_dir():
                lines += [f"**`{name}.py`** {first_sentence(room.with_suffix('.py'))}.", ""]
                continue
            lines += [f"**`{name}/`** {first_sentence(room / '__init__.py')}.", ""]
            for path in sorted(room.rglob("*.py")):
                inner = path.relative_to(room).with_suffix("")
                if inner.name == "__init__":
                    if inner.parent.name:
                        lines.append(f"- `{inner.parent.as_posix()}/`: {first_sentence(path)}")
                else:
                    lines.append(f"- `{inner.as_posix()}`: {first_sentence(path)}")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def written_map() -> str:
    """Give the map that the page holds."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(before + BEGIN + module_map() + END + rest.split(END)[1], encoding="utf-8")
    else:
        print(module_map())
