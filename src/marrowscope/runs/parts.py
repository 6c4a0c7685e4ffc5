"""The rows of an unfinished run on disk, in parts: a killed run resumes after its last complete part.

Fields that were found after it are in ``finished_fields``.

    run.part/journal.json           what is predicted and with what; a different run cannot resume here
    run.part/parts/00000.fields     the fields and cells tables (Parquet) of the first 64 images, and so on
    run.part/parts/00000.cells
    run.part/parts/00000.prints     the fingerprints of its photographs, by which later copies are told, and of those
                                    between them that were left out as such
    run.part/parts/00017.regions    the plan of the slide that is the input's image 17

Invariant: a part is complete when its fingerprints and both of its tables can be read; the first that is not, and all
after it, are predicted again. The order of the images alone determines which part they are in, so a run has the same
parts whether or not it was interrupted. A region of a slide counts as an image.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from marrowscope.cohort.duplicates import is_fingerprint
from marrowscope.config import UNREADABLE, parse_json
from marrowscope.disk import begin_folder, write_text
from marrowscope.errors import RunError
from marrowscope.runs.folder import RUN_KIND
from marrowscope.runs.parquet import conform, is_whole, read_table, sink_table, write_table
from marrowscope.runs.schemas import CELLS, FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from marrowscope.runs.schemas import TableKind

IMAGES_A_PART = 64
"""Two seconds of work on two cores, with tables small enough that a part needs little memory."""
_JOURNAL = "journal.json"


class RunParts:
    """The parts of one run in ``folder``; ``fingerprint`` has everything that determines its rows, as JSON values."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any]) -> None:
        self.run_folder = folder
        self._folder = folder / "parts"
        journal = folder / _JOURNAL
        wanted = json.dumps(fingerprint, sort_keys=True)
        if not journal.is_file() or journal.read_bytes() != wanted.encode():
            begin_folder(folder, RUN_KIND)
            write_text(journal, wanted)
        self._folder.mkdir(exist_ok=True)
        self.n_whole = 0
        self._prints: dict[str, str] = {}
        while (prints := self._read_prints(self.n_whole)) is not None and self._are_whole(self.n_whole):
            self._prints |= prints
            self.n_whole += 1

    def n_cells_by_field(self) -> dict[str, int]:
        """Return the images of the complete parts, in order, with their numbers of kept cells."""
        columns = [fields.select("field_id", "n_cells") for fields in self._read_all("fields")]
        return {field_id: n_cells or 0 for frame in columns for field_id, n_cells in frame.iter_rows()}

    def write(
        self,
        fields: Sequence[dict[str, Any]],
        cells: Sequence[dict[str, Any]],
        fingerprints: Mapping[str, str] | None = None,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Write the next part, with the fingerprints of its photographs; returns its fields and cells."""
        cells_table = conform(pl.DataFrame(cells, schema_overrides=CELLS, infer_schema_length=None), "cells")
        fields_table = conform(pl.DataFrame(fields, schema_overrides=FIELDS, infer_schema_length=None), "fields")
        return self.write_tables(fields_table, cells_table, fingerprints)

    def write_tables(
        self, fields_table: pl.DataFrame, cells_table: pl.DataFrame, fingerprints: Mapping[str, str] | None = None
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Write the next part, from rows that are tables already; returns them."""
        write_text(self._path(self.n_whole, "prints"), json.dumps(fingerprints or {}))
        write_table(self._path(self.n_whole, "cells"), cells_table, "cells")
        write_table(self._path(self.n_whole, "fields"), fields_table, "fields")
        self.n_whole += 1
        return fields_table, cells_table

    def write_regions(self, index: int, regions: pl.DataFrame) -> None:
        """Keep the plan of the slide that is image ``index`` of the input."""
        write_table(self._path(index, "regions"), regions, "regions")

    def read_regions(self, index: int) -> pl.DataFrame | None:
        """Return the plan of a slide from an earlier call, or None."""
        path = self._path(index, "regions")
        return read_table(path, "regions") if path.is_file() else None

    def read_fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of the photographs that earlier calls left in the parts, in their order."""
        return dict(self._prints)

    def read_cells(self, field_ids: Collection[str]) -> dict[str, pl.DataFrame]:
        """Return the cells of the given images in the parts, by image."""
        found: dict[str, pl.DataFrame] = {}
        for cells in self._read_all("cells"):
            own = cells.filter(pl.col("field_id").is_in(list(field_ids)))
            found |= {str(key[0]): frame for key, frame in own.group_by("field_id", maintain_order=True)}
        return found

    def read(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Read the fields and cells of each part, in order."""
        for index in range(self.n_whole):
            yield read_table(self._path(index, "fields"), "fields"), read_table(self._path(index, "cells"), "cells")

    def join(self, out: Path) -> None:
        """Write fields.parquet and cells.parquet of all parts into ``out``, with one part in memory at a time.

        If slides were read, regions.parquet is written too, with the reason for each region that was not needed.
        """
        for kind in ("fields", "cells"):
            sink_table(out / f"{kind}.parquet", [self._path(index, kind) for index in range(self.n_whole)], kind)
        if plans := sorted(self._folder.glob("*.regions")):
            regions = pl.concat([read_table(path, "regions") for path in plans])
            unread = ~pl.col("field_id").is_in(list(self.n_cells_by_field())) & pl.col("reason_skipped").is_null()
            reason = pl.when(unread).then(pl.lit("enough_cells")).otherwise("reason_skipped")
            write_table(out / "regions.parquet", regions.with_columns(reason.alias("reason_skipped")), "regions")

    def _read_prints(self, index: int) -> dict[str, str] | None:
        """Return the fingerprints of one part; None where there is no such part, or they are damaged."""
        try:
            prints = parse_json(self._path(index, "prints").read_text(encoding="utf-8"))
        except (OSError, *UNREADABLE):
            return None
        if not isinstance(prints, dict) or not all(isinstance(text, str) for text in prints.values()):
            return None
        return prints if all(map(is_fingerprint, prints.values())) else None

    def _are_whole(self, index: int) -> bool:
        """Say whether both tables of one part can be read to their end."""
        kinds: tuple[TableKind, ...] = ("fields", "cells")
        if not all(is_whole(self._path(index, kind), kind) for kind in kinds):
            return False
        try:
            for kind in kinds:
                read_table(self._path(index, kind), kind)
        except RunError:
            return False
        return True

    def _read_all(self, kind: Literal["fields", "cells"]) -> Iterator[pl.DataFrame]:
        return (read_table(self._path(index, kind), kind) for index in range(self.n_whole))

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:05}.{kind}"
