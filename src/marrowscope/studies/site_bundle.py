"""Give a bundle a site's own error rates, from the review of a run that the bundle predicted.

1. Every patient with a full review, or with a complete look of a random audit, becomes a record (``audited_patients``).
2. Each center with at least 20 of them is measured (``site_rates``), and how many of its fully reviewed patients have a
   ratio outside the interval that would have been printed.
3. A new bundle is written: the networks as they are, and each measured center's rates under its name.

Invariant: the rates are those of the bundle that made the run, and stand for the patients of that center alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.bundle import CARD_FILE, refuse_bundle_folder, write_bundle
from marrowscope.bundle.center_rates import main_specimens
from marrowscope.bundle.description import CenterRates
from marrowscope.errors import BundleError, ReviewError
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.standing import MAX_OUTSIDE, MIN_PATIENTS, MeasuredCenter
from marrowscope.records import MARROW, UNKNOWN, Specimen
from marrowscope.review.audited_patients import audited_patient
from marrowscope.review.live_estimate import is_fully_reviewed, reviewed_ratio
from marrowscope.review.site_rates import FEWEST_PATIENTS, ratios_outside, site_rates
from marrowscope.runs.parquet import read_table
from marrowscope.studies.card_section import with_section
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from marrowscope.bundle import Bundle
    from marrowscope.review.site_rates import AuditedPatient, SiteRates
    from marrowscope.review.station import Station
    from marrowscope.vocabulary import Vocabulary

_RULE = f"{MIN_PATIENTS} patients with at most {MAX_OUTSIDE} outside open a center"


@dataclass(frozen=True, slots=True)
class ReviewedSite:
    """The audited patients of a center, and the ratio of each of them that was reviewed in full.

    ``n_simulated`` are patients with a simulated photograph: no real center's rates come from them. All patients have
    one ``specimen``, None without any; ``n_other_specimen`` audited ones have another or state none, and are left out.
    """

    center: str
    patients: tuple[AuditedPatient, ...]
    ratios: Mapping[str, float]
    n_simulated: int = 0
    specimen: Specimen | None = None
    n_other_specimen: int = 0

    @property
    def lacks(self) -> str | None:
        """Why the center gives no rates, in one sentence; None where it does."""
        found = f"{self.center}: found {count_of(len(self.patients), 'audited patient')}"
        if self.center == UNKNOWN:
            return f"{found} whose center is not stated, expected its name in patients.csv; name it and predict again"
        if len(self.patients) < FEWEST_PATIENTS:
            left_out = [f"{count_of(self.n_simulated, 'simulated one')}"] * bool(self.n_simulated)
            left_out += [f"{self.n_other_specimen} of another specimen or none stated"] * bool(self.n_other_specimen)
            beside = f" beside {' and '.join(left_out)}" if left_out else ""
            return f"{found}{beside}, expected at least {FEWEST_PATIENTS} of a center; audit more patients"
        return None


@dataclass(frozen=True, slots=True)
class MeasuredSite:
    """A center's rates with what they rest on, and what decides whether it is open."""

    found: SiteRates
    stored: MeasuredCenter

    def sentence(self, center: str) -> str:
        """Say on what the rates rest, and whether ratios may be corrected there."""
        found = self.found
        only = ", found cells only" if found.found_cells_only else ""
        rule = "" if self.stored.is_open else f"; {_RULE}"
        return (
            f"{center}: rates from {count_of(found.n_patients, 'audited patient')}, "
            f"{count_of(found.n_cells, 'named cell')} worth {found.n_effective:.0f}{only}. "
            f"{_standing(self.stored)}{rule}."
        )


def require_bundle_of_run(bundle: Bundle, station: Station) -> None:
    """Raise BundleError unless ``bundle`` predicted the run of ``station``."""
    (run,) = station.cells.runs
    stated = run.manifest.bundle
    if bundle.spec_sha256 != stated.sha256:
        message = (
            f"{bundle.folder}: found bundle {bundle.spec.name} {bundle.spec.version} ({bundle.spec_sha256[:12]}), "
            f"expected {stated.label} ({stated.sha256[:12]}), which predicted {run.folder}; name that one with --bundle"
        )
        raise BundleError(message)


def reviewed_sites(station: Station, center: str | None = None) -> list[ReviewedSite]:
    """Gather the audited patients of each center of the run, in order of name; of ``center`` alone where given.

    Of a center, those of the specimen that most have are gathered. Patients with a simulated photograph are only
    counted. Raises ReviewError for a center that the run does not have.
    """
    (run,) = station.cells.runs
    names = sorted({row.center for row in station.cells.rows.values()})
    if center is not None and center not in names:
        message = f"{run.folder}: found no center {center!r}, expected one of {', '.join(names)}; correct --center"
        raise ReviewError(message)
    fields = read_table(run.folder / "fields.parquet", "fields")
    simulated = set(fields.filter(pl.col("simulated").fill_null(value=False))["patient_id"])
    patients: dict[str, list[AuditedPatient]] = {name: [] for name in names if center in {None, name}}
    ratios: dict[str, dict[str, float]] = {name: {} for name in patients}
    n_simulated = Counter(row.center for row in station.cells.rows.values() if row.patient_id in simulated)
    for patient_id in station.progress.patients():
        row = station.cells.rows.get(patient_id)
        if row is None or row.center not in patients or patient_id in simulated:
            continue
        state = station.state(patient_id)
        n_fields = sum(field.failed is None for field in station.patient(patient_id).fields.values())
        if (found := audited_patient(state, n_fields)) is None:
            continue
        patients[row.center].append(found)
        if is_fully_reviewed(state):
            ratios[row.center][patient_id] = reviewed_ratio(state, n_fields, station.vocabulary).fields.estimate
    specimen_of = {name: row.specimen.strip().casefold() for name, row in station.cells.rows.items()}
    specimens = main_specimens({item.patient_id: name for name, own in patients.items() for item in own}, specimen_of)
    sites = []
    for name, audited in patients.items():
        specimen = specimens.get(name)
        kept = tuple(item for item in audited if specimen_of[item.patient_id] == specimen)
        own = {item.patient_id: ratios[name][item.patient_id] for item in kept if item.patient_id in ratios[name]}
        sites.append(ReviewedSite(name, kept, own, n_simulated[name], specimen, len(audited) - len(kept)))
    return sites


def measure_sites(
    sites: Sequence[ReviewedSite], vocabulary: Vocabulary, pooled: Quantification | None
) -> dict[str, MeasuredSite]:
    """Measure the rates of each center that has enough audited patients.

    ``pooled`` are the rates of all patients of the bundle: a study has one threshold, so that is theirs. One learned on
    simulated patients is not taken over. Raises ReviewError where no center has enough.
    """
    enough = [site for site in sites if site.lacks is None]
    if not enough:
        message = (
            f"found no center with {FEWEST_PATIENTS} audited patients or more, expected one; audit more patients, no "
            "bundle is written"
        )
        raise ReviewError(message)
    measured = {}
    for site in enough:
        try:
            found = site_rates(site.patients, vocabulary)
            n_outside = len(ratios_outside(site.patients, site.ratios, vocabulary))
        except ValueError as error:
            message = f"{site.center}: {error}"
            raise ReviewError(message) from error
        stored = MeasuredCenter(
            _quantification(found, pooled and pooled.of_specimen(site.specimen)),
            len(site.ratios),
            n_outside,
            site.specimen or MARROW,
        )
        measured[site.center] = MeasuredSite(found, stored)
    return measured


def _quantification(found: SiteRates, pooled: Quantification | None) -> Quantification:
    only = ", found cells only" if found.found_cells_only else ""
    source = f"{count_of(found.n_patients, 'audited patient')} of this center{only}"
    if pooled is None or pooled.simulated:
        why = "the bundle has none" if pooled is None else "the bundle's was learned on simulated patients"
        return Quantification(source=source, rates=found.rates, threshold_missing=why)
    return pooled.model_copy(update={"source": source, "rates": found.rates})


def with_center_rates(
    bundle: Bundle, centers: Mapping[str, MeasuredCenter], out: Path, *, overwrite: bool = False
) -> Bundle:
    """Write ``bundle`` again to ``out`` with the rates of ``centers`` in place of those it had for them.

    Rates of other centers and those of all patients stay. With ``overwrite`` an earlier bundle of ours at ``out`` is
    replaced.
    """
    refuse_bundle_folder(out, overwrite=overwrite)
    files: dict[str, Path | bytes] = {name: bundle.read_file(name) for name in bundle.spec.files}
    sections = dict(bundle.spec.rates_by_center)
    card = bundle.read_file(CARD_FILE).decode() if CARD_FILE in bundle.spec.files else ""
    for center, measured in sorted(centers.items()):
        former = sections.get(center)
        name = (
            former.file if former else next(path for n in range(1, len(files) + 2) if (path := _path(n)) not in files)
        )
        files[name] = measured.quantification.as_json()
        sections[center] = CenterRates(
            file=name,
            n_patients=measured.n_patients,
            n_outside=measured.n_outside,
            opened=measured.is_open,
            specimen=measured.specimen,
        )
        words = f"{_standing(measured)}. {_RULE}."
        card = with_section(card, f"Error rates of {center}", f"{words}\n\n{measured.quantification.card()}")
    spec = bundle.spec.model_copy(update={"rates_by_center": dict(sorted(sections.items()))})
    return write_bundle(out, spec, files | {CARD_FILE: card.encode()}, overwrite=overwrite)


def _standing(measured: MeasuredCenter) -> str:
    full = count_of(measured.n_patients, "fully reviewed patient")
    state = "Validated" if measured.is_open else "Not validated"
    return f"{state}: {full}, {measured.n_outside} of them with a ratio outside the interval"


def _path(number: int) -> str:
    return f"rates/{number}.json"
