"""A model bundle: its description, its files, its golden sample, the precisions it may be computed in."""

from marrowscope.bundle.bundle import (
    CARD_FILE,
    GOLDEN_FILE,
    SEGMENTER_FILE,
    SPEC_NAME,
    VOCABULARY_FILE,
    Bundle,
    BundleSpec,
    VocabularyReference,
    check_bundle_folder,
    load_bundle,
    open_quantification,
    write_bundle,
)

__all__ = [
    "CARD_FILE",
    "GOLDEN_FILE",
    "SEGMENTER_FILE",
    "SPEC_NAME",
    "VOCABULARY_FILE",
    "Bundle",
    "BundleSpec",
    "VocabularyReference",
    "check_bundle_folder",
    "load_bundle",
    "open_quantification",
    "write_bundle",
]
