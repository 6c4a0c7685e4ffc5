"""A model bundle: its description, its files, its golden sample, the precisions it may be computed in."""

from marrowscope.bundle.bundle import (
    CARD_FILE,
    GOLDEN_FILE,
    VOCABULARY_FILE,
    Bundle,
    load_bundle,
    refuse_bundle_folder,
    write_bundle,
)
from marrowscope.bundle.description import SPEC_NAME, BundleSpec, VocabularyReference
from marrowscope.bundle.graph_names import SEGMENTER_FILE

__all__ = [
    "CARD_FILE",
    "GOLDEN_FILE",
    "SEGMENTER_FILE",
    "SPEC_NAME",
    "VOCABULARY_FILE",
    "Bundle",
    "BundleSpec",
    "VocabularyReference",
    "load_bundle",
    "refuse_bundle_folder",
    "write_bundle",
]
