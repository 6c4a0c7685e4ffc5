"""Whom the domain withholds: left-out sources and simulated centers in turn, and patients of known centers.

    python benchmarks/out_of_depth.py --bundle BUNDLE --source NAME=RUN[:COHORT] ... --simulated RUN[:COHORT] ...
        [--far NAME=RUN[:COHORT] ...] [--in-part CENTER ...] [--cells N ...] [--json FILE]

Runs are of ``marrowscope predict`` on patients that the networks never saw; that of a source is by a bundle trained
without it. A cohort with annotations adds the true ratios. Each source, and each center of a simulated run, is a group.

- left out: the domain is fitted on all other groups; the patients of this one are judged.
- known: the patients of all groups in ten folds; a fold is judged by the domain of the other nine. False alarms.
- few cells (``--cells``): the known patients again, each judged by N of its cells, from fields drawn at random, ten
  draws of each; with the allowance for the sampling of few cells, and without it.
- far: runs that no domain is fitted on, center by center, judged by the domain of all groups.

For each: the share withheld; of the patients whose annotated ratio lies outside the interval that would have been
printed (corrected where BUNDLE has rates for it, else Wilson's of x of n), the share withheld; of those inside, the
share that keeps its figures; coverage and mean Winkler score (95%) of what is printed. Brackets: Clopper-Pearson, 95%.
Of a patient whose fields are annotated in part (one labeled cell a tile; the files or ``--in-part`` say so), ratio and
interval are of the labeled cells alone: Wilson's of those called CBLC among those that the run found and counted.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import betaincinv

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort import read_cohort
from marrowscope.evaluate.link import link_cells
from marrowscope.patient.assess import assess_patients
from marrowscope.patient.depth import fit_domain, judge_depth, measure_depth
from marrowscope.records import Patient
from marrowscope.report.verdict import shown_ratio
from marrowscope.runs.parquet import read_table
from marrowscope.runs.schemas import patient_row
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.studies.bundle_domain import patient_scores
from marrowscope.studies.error_rates import outcomes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from marrowscope.bundle import Bundle
    from marrowscope.patient.depth import DepthScores, Domain
    from marrowscope.vocabulary import Vocabulary

N_FOLDS = 10
ALPHA = 0.05


@dataclass(frozen=True)
class Known:
    """One patient: the scores, the limits that would be printed, and the annotated ratio where there is one."""

    name: str
    group: str
    scores: DepthScores
    limits: tuple[float, float] | None
    truth: float | None

    @property
    def miss(self) -> float | None:
        """How far the annotated ratio lies outside the limits, 0 inside; None where one of them is not known."""
        if self.limits is None or self.truth is None:
            return None
        return max(self.limits[0] - self.truth, self.truth - self.limits[1], 0.0)

    @property
    def winkler(self) -> float | None:
        """The interval score: the width, and 2 / 0.05 times the miss."""
        if self.limits is None or self.miss is None:
            return None
        return self.limits[1] - self.limits[0] + 2 / ALPHA * self.miss


@dataclass(frozen=True)
class Share:
    """``x`` of ``n`` with Clopper-Pearson limits; without any, from 0 to 1."""

    x: int
    n: int

    @property
    def limits(self) -> tuple[float, float]:
        """Return the 95% limits."""
        lower = float(betaincinv(self.x, self.n - self.x + 1, ALPHA / 2)) if self.x else 0.0
        upper = float(betaincinv(self.x + 1, self.n - self.x, 1 - ALPHA / 2)) if self.x < self.n else 1.0
        return lower, upper

    def __str__(self) -> str:
        """Print count and limits."""
        return f"{self.x}/{self.n} [{self.limits[0]:.2f}, {self.limits[1]:.2f}]" if self.n else "-"


@dataclass(frozen=True)
class Row:
    """What became of the patients of one group."""

    group: str
    withheld: Share
    withheld_of_outside: Share
    kept_of_inside: Share
    covered_of_printed: Share
    winkler_printed: float | None
    winkler_all: float | None
    reasons: Mapping[str, int]

    def line(self) -> str:
        """Return a line of the table."""
        scores = [f"{score:.3f}" if score is not None else "-" for score in (self.winkler_printed, self.winkler_all)]
        shares = (self.withheld, self.withheld_of_outside, self.kept_of_inside, self.covered_of_printed)
        reasons = ", ".join(f"{name} {n}" for name, n in self.reasons.items()) or "-"
        return f"| {' | '.join([self.group, *map(str, shares), *scores, reasons])} |"


def summarize(group: str, judged: Sequence[tuple[Known, str | None]]) -> Row:
    """Summarize patients and the reason that withholds each, None for those whose figures are printed."""
    inside = [reason for patient, reason in judged if patient.miss == 0]
    outside = [reason for patient, reason in judged if patient.miss is not None and patient.miss > 0]
    n_kept, n_missed = inside.count(None), outside.count(None)
    reasons = [reason for _, reason in judged if reason is not None]
    return Row(
        group=group,
        withheld=Share(len(reasons), len(judged)),
        withheld_of_outside=Share(len(outside) - n_missed, len(outside)),
        kept_of_inside=Share(n_kept, len(inside)),
        covered_of_printed=Share(n_kept, n_kept + n_missed),
        winkler_printed=_mean(patient.winkler for patient, reason in judged if reason is None),
        winkler_all=_mean(patient.winkler for patient, _ in judged),
        reasons={name: reasons.count(name) for name in sorted(set(reasons))},
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is known; None of nothing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def judge(patients: Iterable[Known], domain: Domain) -> list[tuple[Known, str | None]]:
    """Judge patients by a domain."""
    return [(patient, judge_depth(patient.scores, domain).reason) for patient in patients]


def fitted(patients: Iterable[Known]) -> Domain:
    """Fit a domain."""
    return fit_domain([patient.scores for patient in patients], "a benchmark")


def left_out_rows(groups: Mapping[str, Sequence[Known]], named: Sequence[str]) -> list[Row]:
    """Judge the groups ``named``, each by the domain of all other groups, and all of them together."""
    judged: list[tuple[Known, str | None]] = []
    rows = []
    for name in named:
        others = [patient for group, patients in groups.items() if group != name for patient in patients]
        found = judge(groups[name], fitted(others))
        rows.append(summarize(name, found))
        judged += found
    return [*rows, summarize("all of these", judged)] if len(rows) > 1 else rows


def known_row(groups: Mapping[str, Sequence[Known]], seed: int = 0) -> Row:
    """Judge every patient by the domain of nine tenths of the patients, to which it does not belong."""
    patients = [patient for members in groups.values() for patient in members]
    fold = np.random.default_rng(seed).permutation(len(patients)) % N_FOLDS
    judged = []
    for number in range(N_FOLDS):
        others = [patient for patient, own in zip(patients, fold, strict=True) if own != number]
        judged += judge((p for p, own in zip(patients, fold, strict=True) if own == number), fitted(others))
    return summarize("known patients, ten folds", judged)


def few_cells_rows(groups: Mapping[str, Sequence[Known]], runs: Mapping[str, Path], sizes: Sequence[int]) -> list[Row]:
    """Judge every patient by ``sizes`` of its cells, with the domain that other patients' whole runs set."""
    patients = [patient for members in groups.values() for patient in members]
    fold = np.random.default_rng(0).permutation(len(patients)) % N_FOLDS
    rows = []
    for allowed in (True, False):

        def seen(scores: DepthScores, *, allowed: bool = allowed) -> DepthScores:
            return scores if allowed else replace(scores, sampling_variance={})

        others = [[p for p, own in zip(patients, fold, strict=True) if own != number] for number in range(N_FOLDS)]
        domains = [fit_domain([seen(patient.scores) for patient in part], "a benchmark") for part in others]
        for size in sizes:
            judged: list[tuple[Known, str | None]] = []
            for patient, own in zip(patients, fold, strict=True):
                draws = thinned(runs[patient.group], patient.name, size)
                judged += [(patient, judge_depth(seen(scores), domains[own]).reason) for scores in draws]
            title = f"{size} cells, {'with' if allowed else 'without'} allowance"
            rows.append(summarize(title, judged))
    return rows


def thinned(run: Path, name: str, n_cells: int, n_draws: int = 10) -> list[DepthScores]:
    """Measure a patient by ``n_cells`` of the kept cells: those of fields in random order, and of the last a part."""
    fields, cells = (
        read_table(run / f"{kind}.parquet", kind).filter(pl.col("patient_id") == name) for kind in ("fields", "cells")
    )
    kept = cells.filter(pl.col("reject_reason").is_null())
    if len(kept) < n_cells:
        return []
    found = []
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        place = dict(zip(fields["field_id"], rng.permutation(len(fields)).tolist(), strict=True))
        order = np.lexsort((rng.random(len(kept)), [place[field] for field in kept["field_id"]]))[:n_cells]
        part = kept[np.sort(order)]
        found.append(measure_depth(fields.filter(pl.col("field_id").is_in(part["field_id"].unique().to_list())), part))
    return found


def read_run(
    run: Path, cohort: Path | None, bundle: Bundle, group: str | None, in_part: Collection[str] = ()
) -> list[Known]:
    """Read a run's patients; without ``group``, each center is one. Centers ``in_part`` are labeled in part."""
    tables = {kind: read_table(run / f"{kind}.parquet", kind) for kind in ("fields", "cells", "patients")}
    stated = ("patient_id", "center", "diagnosis", "specimen", "age_group")
    people = [Patient(**{name: row[name] for name in stated}) for row in tables["patients"].iter_rows(named=True)]
    table = assess_patients(people, tables["fields"], tables["cells"], bundle.vocabulary, measured=bundle.measured)
    shown = {row["patient_id"]: shown_ratio(patient_row(row)) for row in table.to_dicts()}
    limits = {
        name: None if ratio.lower is None or ratio.upper is None else (ratio.lower, ratio.upper)
        for name, ratio in shown.items()
    }
    truth: dict[str, float | None] = {}
    if cohort is not None:
        read = read_cohort(cohort, vocabulary=bundle.vocabulary)
        linked = link_cells(tables["fields"], tables["cells"], read.patients, read.fields, bundle.vocabulary)
        truth = dict(linked.ratios.select("patient_id", "true_ratio").iter_rows())
        labeled = labeled_ratios(outcomes(linked.expert, tables["cells"], bundle.vocabulary), bundle.vocabulary)
        centers = {patient.patient_id: patient.center for patient in people}
        for name in (name for name in labeled if truth.get(name) is None or centers[name] in in_part):
            truth[name], limits[name] = labeled[name]
    return [
        Known(name, group or f"center {center}", scores, limits[name], truth.get(name))
        for name, center, scores in patient_scores(run)
    ]


def labeled_ratios(cells: pl.DataFrame, vocabulary: Vocabulary) -> dict[str, tuple[float, tuple[float, float]]]:
    """Return, by patient, the annotated ratio of the labeled cells, and Wilson's limits of those called CBLC.

    ``cells`` is the table of ``studies.error_rates.outcomes``. The annotated ratio is over all countable cells, found
    or not; the limits are over those that the run counted.
    """
    found = {}
    for (patient,), own in cells.group_by("patient_id", maintain_order=True):
        codes = [vocabulary.codes[code] for code in own["code"]]
        n = sum(code.countable for code in codes)
        counted = own.filter("counted")
        if n and len(counted):
            called = wilson_interval(int(counted["called_cblc"].sum()), len(counted))
            true = sum(code.cblc and code.countable for code in codes) / n
            found[str(patient)] = (true, (called.lower, called.upper))
    return found


def place(text: str) -> tuple[Path, Path | None]:
    """Split RUN[:COHORT]."""
    run, _, cohort = text.partition(":")
    return Path(run), Path(cohort) if cohort else None


def report(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return the tables as Markdown."""
    head = (
        "| group | withheld | withheld, of those outside | kept, of those inside | covered, of those printed "
        "| Winkler printed | Winkler all | reasons |\n|---|---|---|---|---|---|---|---|"
    )
    parts = [
        "\n".join([f"**{title}**", "", head, *(row.line() for row in found)]) for title, found in rows.items() if found
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=demonstration_bundle())
    parser.add_argument("--source", action="append", default=[], metavar="NAME=RUN[:COHORT]")
    parser.add_argument("--simulated", action="append", default=[], metavar="RUN[:COHORT]")
    parser.add_argument("--far", action="append", default=[], metavar="NAME=RUN[:COHORT]")
    parser.add_argument("--in-part", action="append", default=[], metavar="CENTER")
    parser.add_argument("--cells", action="append", default=[], type=int, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    groups: dict[str, list[Known]] = {}
    runs: dict[str, Path] = {}
    for text in arguments.source:
        name, _, where = text.partition("=")
        groups[name] = read_run(*place(where), bundle, name, arguments.in_part)
        runs[name] = place(where)[0]
    sources = list(groups)
    for number, text in enumerate(arguments.simulated, start=1):
        for patient in read_run(*place(text), bundle, None):
            name = f"{patient.group} of simulated run {number}"
            groups.setdefault(name, []).append(replace(patient, group=name))
            runs[name] = place(text)[0]
    centers = [name for name in groups if name not in sources]
    everyone = [patient for members in groups.values() for patient in members]
    rows: dict[str, list[Row]] = {
        "Sources left out in turn": left_out_rows(groups, sources),
        "Simulated centers left out in turn": left_out_rows(groups, centers)[-1:],
        "Known": [known_row(groups)],
        "Known, by few cells": few_cells_rows(groups, runs, arguments.cells) if arguments.cells else [],
    }
    far = []
    for text in arguments.far:
        name, _, where = text.partition("=")
        found = judge(read_run(*place(where), bundle, None, arguments.in_part), fitted(everyone))
        groups_of = sorted({patient.group for patient, _ in found})
        far += [summarize(f"{name}, {key}", [item for item in found if item[0].group == key]) for key in groups_of]
    rows["Far"] = far
    print(report(rows))
    if arguments.json:
        written: dict[str, object] = {title: [asdict(row) for row in part] for title, part in rows.items()}
        written |= {"domain": fitted(everyone).model_dump(mode="json")}
        arguments.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
