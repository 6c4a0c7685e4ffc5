"""Return a bundle the error rates and the threshold of a cohort: annotated patients that it never saw.

The bundle predicts the cohort, every expert cell is compared with what was found and called, and a new bundle is
written with the counts and the threshold learned from them. This gives a single training its rates (a cross-fit has
them from its own folds), and lets a laboratory replace another center's rates with its own: the networks stay the same.

Invariant: the rates describe the whole pipeline as it predicts - segmenter, quality rules, ensemble, calls.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.bundle import CARD_FILE, load_bundle, refuse_bundle_folder, write_bundle
from marrowscope.bundle.center_rates import measure_centers
from marrowscope.cohort import read_cohort, require_clean
from marrowscope.errors import InputError
from marrowscope.evaluate.link import link_cells
from marrowscope.imaging import is_slide_path, printable, read_file
from marrowscope.imaging.simulated import is_simulated
from marrowscope.patient.quantify.fit_rates import fit_quantification
from marrowscope.patient.quantify.quantification import QUANTIFICATION_FILE
from marrowscope.predict import PredictConfig, predict
from marrowscope.studies.bundle_domain import DOMAIN_SECTION, domain_words
from marrowscope.studies.card_section import with_section
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from marrowscope.bundle import Bundle
    from marrowscope.patient.depth import Domain
    from marrowscope.records import Field
    from marrowscope.vocabulary import Vocabulary

_SECTION = "Error rates and threshold"


def quantify_bundle(
    bundle: Bundle | Path,
    cohort: Path,
    out: Path,
    *,
    threshold: float | None = None,
    aml_diagnoses: Collection[str] = ("AML",),
    domain: Domain | None = None,
    config: PredictConfig | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Write ``bundle`` again to ``out`` with the error rates measured on ``cohort``.

    The patients must be new to the networks: a bundle has no names, so only the user can know. ``threshold`` is used as
    given, otherwise one is learned. ``domain`` replaces that of the bundle, which otherwise stays. With ``overwrite``
    an earlier bundle of ours at ``out`` is replaced. Raises InputError for a cohort without exhaustively annotated
    fields, with too few patients, or with simulated and real photographs: either would stand for the other.
    """
    refuse_bundle_folder(out, overwrite=overwrite)
    opened = _without_rates(load_bundle(bundle, with_rates=False) if isinstance(bundle, Path) else bundle)
    read = require_clean(read_cohort(cohort, vocabulary=opened.vocabulary))
    fields = [field for field in read.fields if field.annotated and field.exhaustive]
    if not any(field.annotations for field in fields):
        message = (
            f"{cohort}: found no field with expert polygons, expected a cohort with exhaustively annotated fields; "
            "annotate some, or correct the path"
        )
        raise InputError(message)
    simulated = _all_simulated([field.path for field in read.fields], cohort)
    with tempfile.TemporaryDirectory(prefix="marrowscope-quantify-") as scratch:
        run = predict([cohort], opened, Path(scratch) / "run", config=config, progress=progress)
        linked = link_cells(run.fields, run.cells, read.patients, fields, opened.vocabulary)
    cells = outcomes(linked.expert, run.cells, opened.vocabulary)
    n_patients = cells["patient_id"].n_unique()
    specimens = {patient.patient_id: patient.specimen.strip().casefold() for patient in read.patients}
    try:
        found = fit_quantification(
            cells,
            {patient.patient_id: patient.diagnosis for patient in read.patients},
            opened.vocabulary,
            source=f"{count_of(n_patients, 'patient')} of {_centers(fields)} held back from training",
            aml_diagnoses=aml_diagnoses,
            threshold=threshold,
            simulated=simulated,
            specimen_of=specimens,
        )
    except ValueError as error:
        message = f"{cohort}: {error}; annotate more patients"
        raise InputError(message) from error
    of_center = {patient.patient_id: patient.center for patient in read.patients}
    centers, center_files = measure_centers(cells, of_center, opened.vocabulary, found, specimen_of=specimens)
    card = opened.read_file(CARD_FILE).decode() if CARD_FILE in opened.spec.files else ""
    card = with_section(card, _SECTION, found.card())
    if domain is not None:
        card = with_section(card, DOMAIN_SECTION, domain_words(domain))
    spec = opened.spec.model_copy(
        update={
            "threshold": found.threshold.value if found.threshold else None,
            "rates_by_center": centers,
            "domain": domain or opened.spec.domain,
        }
    )
    files: dict[str, Path | bytes] = {name: opened.read_file(name) for name in opened.spec.files}
    measured = {QUANTIFICATION_FILE: found.as_json(), CARD_FILE: card.encode()}
    return write_bundle(out, spec, files | measured | center_files, overwrite=overwrite)


def _all_simulated(images: Sequence[Path], cohort: Path) -> bool:
    """Say whether every photograph of the cohort is simulated; InputError where some are and some are not."""
    marked = [path for path in images if not is_slide_path(path) and is_simulated(read_file(path))]
    if marked and len(marked) < len(images):
        message = (
            f"{cohort}: found {count_of(len(marked), 'simulated photograph')} ({printable(marked[0])}, for example) "
            f"and {len(images) - len(marked)} real, expected one kind: error rates of simulated cells say nothing "
            "about real ones; measure each apart"
        )
        raise InputError(message)
    return bool(marked)


def _without_rates(bundle: Bundle) -> Bundle:
    """Drop rates measured before: they will be replaced, and may be of another version."""
    measured = {QUANTIFICATION_FILE, *(center.file for center in bundle.spec.rates_by_center.values())}
    files = {name: digest for name, digest in bundle.spec.files.items() if name not in measured}
    spec = bundle.spec.model_copy(update={"files": files, "rates_by_center": {}})
    return replace(bundle, spec=spec, quantification=None, centers={})


def outcomes(expert: pl.DataFrame, run_cells: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """Return one row per expert cell with its outcome; cells cut by the image edge are left out of the count.

    Contours that no expert drew have no row: most are cells that were left out or outlined differently, and would count
    as impurities (in blood-aml, where many polygons enclose the nucleus alone, one counted contour in eleven).
    ``expert`` is the table of ``evaluate.link.link_cells``, ``run_cells`` the cells table of the run.
    """
    categories = list(vocabulary.categories)
    return (
        expert.filter(~pl.col("cut"))
        .join(run_cells.select("cell_id", "is_countable"), on="cell_id", how="left")
        .select(
            "patient_id",
            "field_id",
            "code",
            (pl.col("found") & pl.col("is_countable").fill_null(value=False)).alias("counted"),
            pl.col("predicted_category")
            .map_elements(lambda index: categories[index], return_dtype=pl.String)
            .alias("called_category"),
            (pl.col("predicted_cblc") == 1).alias("called_cblc"),
        )
    )


def _centers(fields: list[Field]) -> str:
    n_centers = len({field.center for field in fields})
    return count_of(n_centers, "center")
