"""The files and the section that keep each center's own error rates in a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.bundle.description import CenterRates
from marrowscope.patient.quantify.centers import review_centers
from marrowscope.patient.standing import is_open
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from marrowscope.patient.quantify.quantification import Quantification
    from marrowscope.vocabulary import Vocabulary


def measure_centers(
    cells: pl.DataFrame, center_of: Mapping[str, str], vocabulary: Vocabulary, pooled: Quantification
) -> tuple[dict[str, CenterRates], dict[str, bytes]]:
    """Return [rates_by_center] and its files by path, in the order of the centers' names.

    ``cells`` are those that ``pooled`` was measured on, ``center_of`` the center of each patient. The threshold and the
    rules of calls are those of all patients together: a study has one threshold. Simulated centers have no entry.
    """
    if pooled.simulated:
        return {}, {}
    reviews = review_centers(cells, center_of, vocabulary, pooled.rates.correlation)
    sections, files = {}, {}
    for number, (center, review) in enumerate(sorted(reviews.items()), start=1):
        name = f"rates/{number}.json"
        own = {"source": f"{count_of(review.n_patients, 'patient')} of this center", "rates": review.rates}
        files[name] = pooled.model_copy(update=own).as_json()
        sections[center] = CenterRates(
            file=name,
            n_patients=review.n_patients,
            n_outside=review.n_outside,
            opened=is_open(review.n_patients, review.n_outside),
        )
    return sections, files
