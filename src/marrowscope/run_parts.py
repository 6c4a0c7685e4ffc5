"""The rows of an unfinished run on disk, in parts: a run that was killed goes on after its last whole part.

    run.part/journal.json           what is being predicted, with what: a run of anything else does not go on here
    run.part/parts/00000.fields     the fields and cells tables (Parquet) of images 0 to 63, and so on
    run.part/parts/00000.cells

Invariant: a part is whole when its fields table stands there, which is moved into place last. Which images a part holds
follows from their order alone, so that a run that was stopped and one that was not have the same parts.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope.tables import CELLS, FIELDS, conform, read_table, sink_table, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

IMAGES_A_PART = 64
"""Two seconds of work on two cores, and tables small enough that a part is never felt in memory."""
_JOURNAL = "journal.json"


class RunParts:
    """The parts of one run in ``folder``; ``fingerprint`` holds whatever decides its rows, as plain JSON values."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any]) -> None:
        self._folder = folder / "parts"
        journal = folder / _JOURNAL
        wanted = json.dumps(fingerprint, sort_keys=True)
        if not journal.is_file() or journal.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            journal.write_text(wanted, encoding="utf-8")
        self._folder.mkdir(exist_ok=True)
        self.n_whole = 0
        while self._path(self.n_whole, "fields").is_file():
            self.n_whole += 1

    @property
    def n_images(self) -> int:
        """Number of images in the whole parts; the last part of a finished stream may hold fewer than it says."""
        return self.n_whole * IMAGES_A_PART

    def write(self, fields: Sequence[dict[str, Any]], cells: Sequence[dict[str, Any]]) -> None:
        """Write the next part."""
        tables = {
            "cells": pl.DataFrame(cells, schema_overrides=CELLS, infer_schema_length=None),
            "fields": pl.DataFrame(fields, schema_overrides=FIELDS, infer_schema_length=None),
        }
        write_table(self._path(self.n_whole, "cells"), conform(tables["cells"], "cells"), "cells")
        write_table(self._path(self.n_whole, "fields"), conform(tables["fields"], "fields"), "fields")
        self.n_whole += 1

    def read(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Give the fields and the cells of each part, in order."""
        for index in range(self.n_whole):
            yield read_table(self._path(index, "fields"), "fields"), read_table(self._path(index, "cells"), "cells")

    def join(self, out: Path) -> None:
        """Write fields.parquet and cells.parquet of all parts into ``out``, holding no more than a part at a time."""
        for kind in ("fields", "cells"):
            sink_table(out / f"{kind}.parquet", [self._path(index, kind) for index in range(self.n_whole)], kind)

    def remove(self) -> None:
        """Remove the parts and the journal, when the run is complete."""
        shutil.rmtree(self._folder)
        (self._folder.parent / _JOURNAL).unlink()

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:05}.{kind}"
