"""The option `--mapping` of commands that read cohorts of several centers."""

from __future__ import annotations

from typing import Annotated

import typer

MappingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mapping",
        metavar="[CENTER=]MAPPING",
        help="Mapping from another label scheme: a built-in name or a TOML file; repeat it for each CENTER.",
    ),
]
