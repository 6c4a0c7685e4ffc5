"""The files and the section that keep each center's own error rates in a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.bundle.description import CenterRates
from marrowscope.patient.quantify.centers import review_centers
from marrowscope.patient.quantify.main_specimen import main_specimen
from marrowscope.patient.standing import is_open
from marrowscope.records import UNKNOWN, Specimen
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from marrowscope.patient.quantify.quantification import Quantification
    from marrowscope.vocabulary import Vocabulary


def measure_centers(
    cells: pl.DataFrame,
    center_of: Mapping[str, str],
    vocabulary: Vocabulary,
    pooled: Quantification,
    *,
    specimen_of: Mapping[str, str] | None = None,
) -> tuple[dict[str, CenterRates], dict[str, bytes]]:
    """Return [rates_by_center] and its files by path, in the order of the centers' names.

    ``cells`` are those that ``pooled`` was measured on, ``center_of`` and ``specimen_of`` the center and the specimen
    of each patient. The threshold and the rules of calls are those of all patients together: a study has one threshold.
    A center is measured on the patients of one specimen, the one most of them have; one of another specimen than that
    of the threshold has none, and its patients no call. Simulated centers have no entry, nor has one that is not
    stated: patients of any hospital would be taken for its own. Nor has one whose patients state no specimen.
    """
    if pooled.simulated:
        return {}, {}
    center_of = {patient: center for patient, center in center_of.items() if center.strip().casefold() != UNKNOWN}
    specimens: dict[str, Specimen] = {}
    if specimen_of is not None:
        measured = set(cells.filter("counted")["patient_id"])
        specimens = main_specimens({name: center_of[name] for name in center_of if name in measured}, specimen_of)
        center_of = {
            patient: center for patient, center in center_of.items() if specimen_of[patient] == specimens.get(center)
        }
    reviews = review_centers(cells, center_of, vocabulary, pooled.rates.correlation)
    sections, files = {}, {}
    for number, (center, review) in enumerate(sorted(reviews.items()), start=1):
        name = f"rates/{number}.json"
        own = {"source": f"{count_of(review.n_patients, 'patient')} of this center", "rates": review.rates}
        files[name] = pooled.of_specimen(specimens.get(center)).model_copy(update=own).as_json()
        sections[center] = CenterRates(
            file=name,
            n_patients=review.n_patients,
            n_outside=review.n_outside,
            opened=is_open(review.n_patients, review.n_outside),
            specimen=specimens.get(center),
        )
    return sections, files


def main_specimens(center_of: Mapping[str, str], specimen_of: Mapping[str, str]) -> dict[str, Specimen]:
    """Return the specimen that most patients of each center have, marrow where as many have blood.

    A center none of whose patients states marrow or blood has no entry.
    """
    stated: dict[str, list[str]] = {center: [] for center in center_of.values()}
    for patient, center in center_of.items():
        stated[center].append(specimen_of[patient])
    found = {center: main_specimen(names) for center, names in stated.items()}
    return {center: specimen for center, specimen in found.items() if specimen is not None}
