"""The two pseudo-patients of real cells inside the package, and how a run's calls compare with their labels.

They are photographs of single cells from public collections, left out of the classifiers' training; see
``data/real_patients/ATTRIBUTION.md``.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.cohort import read_cohort
from marrowscope.evaluate.labeled_cells import LabeledPatient, label_by_label
from marrowscope.report.demo_page import RealSource
from marrowscope.vocabulary import load_mappings

if TYPE_CHECKING:
    from marrowscope.vocabulary import Vocabulary

SOURCES = {
    "M": RealSource(
        place="bone marrow, Munich",
        citation="Matek et al. 2021, The Cancer Imaging Archive (Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer)",
        doi="10.7937/TCIA.AXH3-T579",
    ),
    "B": RealSource(
        place="peripheral blood, Barcelona",
        citation="Acevedo et al. 2020, Data in Brief 30:105474 (Hospital Clinic de Barcelona)",
        doi="10.1016/j.dib.2020.105474",
    ),
}
"""The source of each center's photographs."""

_MAPPINGS = ("M=marrow-cells", "B=blood-control")


def real_cohort() -> Path:
    """Return the cohort folder of the real pseudo-patients."""
    return Path(str(files("marrowscope"))) / "data" / "real_patients"


def compare_with_labels(run: Path, vocabulary: Vocabulary) -> tuple[LabeledPatient, ...]:
    """Put the calls of a run of ``real_cohort`` beside the experts' labels; ``vocabulary`` is that of its bundle."""
    # The pixels are not needed: the hashes prove that these are the predicted photographs.
    cohort = read_cohort(real_cohort(), vocabulary=vocabulary, mapping=load_mappings(_MAPPINGS), decode=False)
    return label_by_label(run, cohort.patients, cohort.fields, vocabulary)
