"""The first event of a log, and each later one that names a run: which patients it is about, in which tables.

A log is about the cells of the tables whose hashes it states. Where a run was predicted again, its tables differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.errors import ReviewError
from marrowscope.review.events import Draft

if TYPE_CHECKING:
    from marrowscope.review.run_cells import RunCells
    from marrowscope.review.store import Store


def bound_tables(store: Store) -> dict[str, dict[str, str]]:
    """Return the hashes of the tables that each patient of the log is bound to, by patient."""
    bound: dict[str, dict[str, str]] = {}
    for event in store.events(""):
        if event.kind == "bind":
            bound.update(dict.fromkeys(event.new["patients"], event.new["tables"]))
    return bound


def bind_runs(store: Store, cells: RunCells, reader: str) -> None:
    """Bind patients that the log does not know to the tables of their run.

    Raises ReviewError for a patient whose tables are other ones than those that the log states.
    """
    bound = bound_tables(store)
    for run in cells.runs:
        own = [row.patient_id for row in run.tables.rows]
        changed = [name for name in own if name in bound and bound[name] != run.hashes]
        if changed:
            message = (
                f"{run.folder}: found other tables for patient {changed[0]!r} than those that the review is about, "
                "expected the same prediction; keep the earlier run, or name another folder with --out"
            )
            raise ReviewError(message)
        new = [name for name in own if name not in bound]
        if new:
            value = {
                "run": run.folder.name,
                "tables": run.hashes,
                "bundle": run.manifest.bundle.label,
                "patients": new,
            }
            store.append([Draft(reader, "", "bind", None, None, value)])
