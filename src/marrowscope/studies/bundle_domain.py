"""Give a bundle its domain: runs of patients that it never saw say what images and cells it is made for.

A run needs no annotation. It was made by the bundle itself, of simulated centers or of patients held back; or by a
sister bundle of the same recipe whose training left out the source that the run is of. Runs of an external center have
no place here: a domain that was widened for it would prove nothing about it.

The networks stay as they are, and so do error rates and threshold.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.bundle import CARD_FILE, load_bundle, refuse_bundle_folder, write_bundle
from marrowscope.errors import InputError
from marrowscope.patient.depth import fit_domain, measure_depth
from marrowscope.runs.parquet import read_table
from marrowscope.runs.table_hashes import read_checked_manifest
from marrowscope.studies.card_section import with_section
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from marrowscope.bundle import Bundle
    from marrowscope.patient.depth import DepthScores, Domain

DOMAIN_SECTION = "Domain"


def set_domain(bundle: Bundle | Path, domain: Domain, out: Path, *, overwrite: bool = False) -> Bundle:
    """Write ``bundle`` again to ``out`` with ``domain`` in place of an earlier one; its card states it too.

    With ``overwrite`` an earlier bundle of ours at ``out`` is replaced.
    """
    refuse_bundle_folder(out, overwrite=overwrite)
    opened = load_bundle(bundle) if isinstance(bundle, Path) else bundle
    card = opened.read_file(CARD_FILE).decode() if CARD_FILE in opened.spec.files else ""
    files: dict[str, Path | bytes] = {name: opened.read_file(name) for name in opened.spec.files}
    files[CARD_FILE] = with_section(card, DOMAIN_SECTION, domain_words(domain)).encode()
    return write_bundle(out, opened.spec.model_copy(update={"domain": domain}), files, overwrite=overwrite)


def measure_domain(runs: Sequence[Path]) -> Domain:
    """Measure the domain on the patients of ``runs``; a patient without a kept cell is left out.

    Centers of two runs are different ones, whatever their names. Raises RunError for a folder that is no finished run,
    and InputError for too few patients.
    """
    found = [(number, *item) for number, run in enumerate(runs) for item in patient_scores(run)]
    centers = {(number, center) for number, _, center, _ in found}
    measured_on = f"{count_of(len(found), 'patient')} of {count_of(len(centers), 'center')} that the networks never saw"
    try:
        return fit_domain([scores for *_, scores in found], measured_on)
    except ValueError as error:
        message = f"{', '.join(map(str, runs))}: {error}; add runs of further patients with --domain"
        raise InputError(message) from error


def patient_scores(run: Path) -> Iterator[tuple[str, str, DepthScores]]:
    """Yield patient_id, center and scores of every patient of a finished run who has a kept cell."""
    read_checked_manifest(run)
    fields, cells = (read_table(run / f"{kind}.parquet", kind) for kind in ("fields", "cells"))
    kept_of = {
        str(key[0]): kept
        for key, kept in cells.filter(pl.col("reject_reason").is_null()).group_by("patient_id", maintain_order=True)
    }
    for key, own in fields.group_by("patient_id", maintain_order=True):
        if (kept := kept_of.get(str(key[0]))) is not None:
            yield str(key[0]), str(own["center"][0]), measure_depth(own, kept)


def domain_words(domain: Domain) -> str:
    """Describe a domain for the card: on whom it was measured, the limit, and a table of the scores."""
    rule = (
        f"Measured on {domain.measured_on}. A patient beyond a distance of {domain.max_distance:.1f} is out of depth: "
        "cells are counted by category, and no ratio is printed."
    )
    lines = [
        rule,
        "",
        "| score | mean | standard deviation | patients |",
        "|---|---|---|---|",
    ]
    for name, score in domain.scores.items():
        of_root = " (square root)" if score.square_root else ""
        lines.append(f"| {name}{of_root} | {score.mean:.3g} | {score.standard_deviation:.3g} | {score.n} |")
    return "\n".join(lines)


def domain_sentence(domain: Domain) -> str:
    """Say what a domain was measured on, which scores it has, and its limit."""
    return (
        f"Domain: {', '.join(domain.scores)} of {domain.measured_on}; out of depth beyond a distance of "
        f"{domain.max_distance:.1f}."
    )
