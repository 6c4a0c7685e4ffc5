"""The experts' labels: raw codes with the facts derived from each, coarse labels, and mappings from other schemes.

The raw code is the stored ground truth. Category, paper group, lineage, CBLC, countable, nucleated differential and WHO
blast are separate columns of one versioned, hashed TOML file; none of them follows from another. A mapping file
translates the labels of another scheme to raw codes, or to a coarse label where a label says less than a code.
Reference ranges are in a separate file.
"""

from marrowscope.vocabulary.code import Code
from marrowscope.vocabulary.codes import DEFAULT_VOCABULARY, Vocabulary, load_vocabulary, nearest
from marrowscope.vocabulary.labels import CoarseLabel, ExpertLabel, is_coarse
from marrowscope.vocabulary.mapping import (
    MAPPINGS_DIR,
    CenterMappings,
    LabelMapping,
    MappedLabel,
    load_mapping,
    load_mappings,
    mapping_names,
)
from marrowscope.vocabulary.ranges import (
    DEFAULT_REFERENCE_RANGES,
    ReferenceRange,
    ReferenceRanges,
    find_reference_ranges,
    load_reference_ranges,
    reference_range_names,
)
from marrowscope.vocabulary.toml_file import DATA_DIR
from marrowscope.vocabulary.versions import are_compatible, shipped_version

__all__ = [
    "DATA_DIR",
    "DEFAULT_REFERENCE_RANGES",
    "DEFAULT_VOCABULARY",
    "MAPPINGS_DIR",
    "CenterMappings",
    "CoarseLabel",
    "Code",
    "ExpertLabel",
    "LabelMapping",
    "MappedLabel",
    "ReferenceRange",
    "ReferenceRanges",
    "Vocabulary",
    "are_compatible",
    "find_reference_ranges",
    "is_coarse",
    "load_mapping",
    "load_mappings",
    "load_reference_ranges",
    "load_vocabulary",
    "mapping_names",
    "nearest",
    "reference_range_names",
    "shipped_version",
]
