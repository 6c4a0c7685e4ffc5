"""Trained classifiers and a segmenter to a bundle: graphs, parity, golden sample, card.

Steps: every member becomes an ONNX graph, the temperatures of its cross-fit inside, and is compared with torch on crops
of its own crop set; the segmenter is checked to be the one whose contours the members were trained on; a golden sample
is computed with ONNX Runtime in float32; everything is written and hashed. A graph that differs is never written.
Longer than most files here, since it is the one list of what a bundle is made of and of what it is refused for.
"""

from __future__ import annotations

import string
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import polars as pl
from pydantic import Field

from marrowscope.bundle import (
    CARD_FILE,
    GOLDEN_FILE,
    SEGMENTER_FILE,
    BundleSpec,
    VocabularyReference,
    check_bundle_folder,
    write_bundle,
)
from marrowscope.calibration import CROSSFIT_NAME, Calibration
from marrowscope.cohort.folds import read_split
from marrowscope.config import StageConfig, validate_config
from marrowscope.crop import CropSpec
from marrowscope.errors import BundleError, InputError
from marrowscope.flags import TRAINING_FIELDS_NAME, FlagRules, fit_stain_reference
from marrowscope.golden import make_golden
from marrowscope.held_out import OOF_NAME, crossfit_cells
from marrowscope.imaging import sha256_file
from marrowscope.members import (
    check_calibrated,
    check_segmenter,
    check_vocabulary,
    common_info,
    find_members,
    read_record,
)
from marrowscope.networks import open_network
from marrowscope.quality import QualityRules
from marrowscope.quantify.fit import fit_quantification
from marrowscope.quantify.model import QUANTIFICATION_FILE
from marrowscope.segment.segmenter import Segmenter
from marrowscope.train.checkpoint import CLASSIFIER_NAME, SPLIT_NAME
from marrowscope.train.dataset import CELLS_NAME, CropSet, open_crop_set
from marrowscope.train.export import Readout, check_parity, export_classifier
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.bundle import Bundle
    from marrowscope.networks import Network
    from marrowscope.quantify.model import Quantification
    from marrowscope.records import ImageArray, JsonDict
    from marrowscope.segment.config import SegmenterConfig
    from marrowscope.train.dataset import CropSet
    from marrowscope.train.model import ClassifierInfo
    from marrowscope.vocabulary import Vocabulary

N_PARITY_CROPS, N_GOLDEN_CROPS = 64, 4
_MAX_GOLDEN_PX = 128
_GOLDEN_SCORE = 0.3
_REFERENCE = "onnxruntime"
NOT_MEASURED = (
    "It has no error rates: ratios are not corrected, no call is made. Measure them on annotated patients it never saw "
    "with `marrowscope quantify`."
)


class BundleDescription(StageConfig):
    """What only a person can say about a bundle; it goes into bundle.toml and CARD.md."""

    name: str = "classifier"
    version: str = "1"
    purpose: str = "Finds nucleated cells on smear images and classifies them."
    demonstration: bool = Field(default=False, description="every surface warns that it is not for own images")
    trained_on: str = Field(default="Not stated.", description="which images, from whom, under which licence")
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="study threshold of the corrected ratio; none: learned from a cross-fit"
    )
    aml_diagnoses: tuple[str, ...] = Field(
        default=("AML",), min_length=1, description="diagnoses that count as AML where the threshold is learned"
    )
    decision_tau: float | None = Field(
        default=0.0,
        ge=0,
        le=1,
        description="class shares the probabilities assume: 0 those of the training cells, 1 all equal, in between "
        "shares ** (1 - tau); none leaves them as trained. 0 had the smallest ratio error on validation patients",
    )
    flags: FlagRules = Field(default_factory=FlagRules, description="thresholds of the quality flags")
    licences: dict[str, str] = Field(
        default_factory=lambda: {"segmenter": "AGPL-3.0-only (Ultralytics YOLO11)", "classifier": "not stated"},
        description="part of the bundle to its licence and attribution",
    )


@dataclass(frozen=True, slots=True)
class Member:
    """One trained classifier: its training folder, its record, and what its weights are."""

    folder: Path
    record: JsonDict
    info: ClassifierInfo
    parity: dict[str, float]


def export_bundle(
    trainings: Sequence[Path],
    segmenter: Path,
    out: Path,
    *,
    crops: Path | None = None,
    description: BundleDescription | None = None,
    other_segmenter: bool = False,
    calibrate: bool = True,
) -> Bundle:
    """Write the bundle ``out`` from finished training folders and the segmenter's graph.

    A cross-fit folder stands for its folds, with the temperatures fitted on what they left out (unless ``calibrate`` is
    off). ``crops`` is the crop set for parity and golden sample, by default the one the first member was trained on; a
    few of its images become part of the bundle. Raises RunError for an unfinished training, InputError for a segmenter
    other than the one that cut the members' crops (unless ``other_segmenter``), BundleError when a graph differs.
    """
    check_bundle_folder(out)
    description = description or BundleDescription()
    crossfit = next((folder for folder in trainings if (folder / CROSSFIT_NAME).is_file()), None)
    trainings, calibration = find_members(trainings, calibrate=calibrate)
    records = [read_record(folder) for folder in trainings]
    if not records:
        message = "found no training folder, expected at least one; name the --out of `marrowscope train classifier`"
        raise InputError(message)
    opened = Segmenter.from_onnx(segmenter)
    if calibration is not None:
        check_calibrated(trainings, records, calibration)
    readout = Readout(description.decision_tau, {} if calibration is None else calibration.temperatures())
    for folder, record in zip(trainings, records, strict=True):
        check_segmenter(folder, record, segmenter, opened.sha256, allowed=other_segmenter)
    network = open_network(segmenter, _REFERENCE)
    segmenter_files = _segmenter_files(segmenter, network)
    info = common_info(trainings)
    vocabulary = load_vocabulary()
    check_vocabulary(trainings, records, vocabulary)
    crop_set = _crop_set(crops, records[0], vocabulary)
    quantification, not_measured = _quantify(crossfit, calibration, description, vocabulary)
    field = _golden_field(crop_set, network, opened.config.um_per_px)

    with tempfile.TemporaryDirectory(prefix="marrowscope-export-") as scratch:
        graphs = [Path(scratch) / f"classifier-{index}.onnx" for index in range(len(records))]
        sample = _sample(crop_set, N_PARITY_CROPS, info.crop_px)
        members = [
            _export_member(folder, record, graph, sample, readout)
            for folder, record, graph in zip(trainings, records, graphs, strict=True)
        ]
        golden = make_golden(
            network,
            [open_network(graph, _REFERENCE) for graph in graphs],
            field,
            _sample(crop_set, N_GOLDEN_CROPS, info.crop_px),
        )
        stain = _stain_reference(members, crop_set.folder)
        spec = _specify(description, vocabulary, members, opened.config, calibration, stain=stain)
        if quantification and quantification.threshold:
            spec = spec.model_copy(update={"threshold": quantification.threshold.value})
        measured = quantification.card() if quantification else not_measured
        files: dict[str, Path | bytes] = {
            **{graph.name: graph for graph in graphs},
            **segmenter_files,
            **({QUANTIFICATION_FILE: quantification.as_json()} if quantification else {}),
            GOLDEN_FILE: golden,
            CARD_FILE: write_card(spec, members, opened.sha256, calibration, measured).encode(),
        }
        return write_bundle(out, spec, files)


def _crop_set(given: Path | None, record: JsonDict, vocabulary: Vocabulary) -> CropSet:
    """Open the crop set for parity and golden sample: the one given, or the one of the first member's training."""
    folder = given or Path(record["crops"])
    if given is None and not folder.is_dir():
        message = f"{folder}: the crop set of the training is not there any more; say with --crops where it is now"
        raise InputError(message)
    return open_crop_set(folder, vocabulary)


def _quantify(
    crossfit: Path | None, calibration: Calibration | None, description: BundleDescription, vocabulary: Vocabulary
) -> tuple[Quantification | None, str]:
    """Measure the error rates on what the folds left out; without a cross-fit, or with few patients, say why not."""
    if crossfit is None or not (crossfit / OOF_NAME).is_file():
        return None, NOT_MEASURED
    cells, diagnosis_of = crossfit_cells(crossfit, calibration, description.decision_tau, vocabulary)
    try:
        found = fit_quantification(
            cells,
            diagnosis_of,
            vocabulary,
            source=f"out-of-fold predictions of {cells['patient_id'].n_unique()} patients",
            aml_diagnoses=description.aml_diagnoses,
            threshold=description.threshold,
        )
    except ValueError as error:
        return None, f"It has no error rates, so that no ratio is corrected: {error}."
    return found, ""


def write_card(
    spec: BundleSpec,
    members: Sequence[Member],
    segmenter_sha256: str,
    calibration: Calibration | None = None,
    quantification: str = "",
) -> str:
    """Fill the card's template: what the bundle is, was trained on, and must not be used for."""
    template = resources.files("marrowscope.data").joinpath("bundle_card.md").read_text(encoding="utf-8")
    info = members[0].info
    stages = [
        f"| {index} | {name} | {counts['training_crops']} | {counts['training_patients']} | "
        f"{counts['validation_crops']} | {counts['validation_patients']} |"
        for index, member in enumerate(members)
        for name, counts in member.record["stages"].items()
    ]
    names = ("cblc_weighted_f1", "cblc_positive_f1", "cblc_auc", "category_weighted_f1", "category_macro_f1")
    figures = [
        f"| {index} | " + " | ".join(_figure(_metrics(member.record)[name]) for name in names) + " |"
        for index, member in enumerate(members)
    ]
    return string.Template(template).substitute(
        name=spec.name,
        version=spec.version,
        purpose=spec.purpose,
        segmenter_sha256=segmenter_sha256,
        segmenter_um_per_px=f"{spec.um_per_px:g}",
        n_members=len(members),
        architecture=info.architecture,
        side_um=f"{spec.crop['side_um']:g}",
        crop_px=info.crop_px,
        n_categories=len(info.categories),
        vocabulary_name=spec.vocabulary.name,
        vocabulary_version=spec.vocabulary.version,
        not_trained=", ".join(_never_predicted(members)) or "none",
        prior_cblc=f"{spec.implied_prior_cblc:.3f}",
        calibration="They are not calibrated." if calibration is None else calibration.sentence(),
        quantification=quantification or NOT_MEASURED,
        trained_on=spec.training_data["description"],
        initial_weights="; ".join(sorted({member.info.initial_weights for member in members})),
        stage_rows="\n".join(stages),
        metric_rows="\n".join(figures),
        licences="\n".join(f"- {part}: {licence}" for part, licence in spec.licences.items()),
        n_golden=N_GOLDEN_CROPS + 1,
        parity=f"{max(max(member.parity.values()) for member in members):.1g}",
        n_parity=N_PARITY_CROPS,
        backends=", ".join(members[0].parity),
    )


def _specify(
    description: BundleDescription,
    vocabulary: Vocabulary,
    members: Sequence[Member],
    segmenter: SegmenterConfig,
    calibration: Calibration | None,
    *,
    stain: JsonDict,
) -> BundleSpec:
    """Put what is known of the parts into the bundle's specification."""
    info, prepared = members[0].info, members[0].record["prepared"]
    rules = validate_config(QualityRules, prepared.get("quality_rules", {}), where="prepare.json of the crop set")
    tau = description.decision_tau
    numbered = [(f"classifier-{index}", member) for index, member in enumerate(members)]
    return BundleSpec(
        name=description.name,
        version=description.version,
        purpose=description.purpose,
        demonstration=description.demonstration,
        vocabulary=VocabularyReference(name=vocabulary.name, version=vocabulary.version, sha256=vocabulary.sha256),
        um_per_px=segmenter.um_per_px,
        segmenter=segmenter.model_dump(mode="json"),
        crop=CropSpec(side_um=round(info.um_per_px * info.crop_px, 6), size_px=info.crop_px).model_dump(mode="json"),
        quality_rules=rules.model_dump(mode="json"),
        flags=description.flags.model_dump(mode="json"),
        stain_reference=stain,
        categories_trained=tuple(name for name in info.categories if name not in _never_predicted(members)),
        implied_prior=dict(zip(info.categories, _implied_prior(members, "category", tau), strict=True)),
        implied_prior_cblc=_implied_prior(members, "cblc", tau)[1],
        implied_prior_countable=_implied_prior(members, "countable", tau)[1],
        threshold=description.threshold,
        calibration={} if calibration is None else calibration.table(),
        metrics={name: _metrics(member.record) for name, member in numbered},
        training_data={
            "description": description.trained_on,
            **{name: _fingerprint(member.record) for name, member in numbered},
        },
        licences=description.licences,
    )


def _sample(crop_set: CropSet, n: int, size_px: int) -> ImageArray:
    """Take ``n`` crops evenly from the whole set, cut to the network's size."""
    rows = np.unique(np.linspace(0, len(crop_set.crops) - 1, n).round().astype(np.int64))
    start = (crop_set.stored_px - size_px) // 2
    return np.ascontiguousarray(crop_set.crops[rows, start : start + size_px, start : start + size_px])


def _golden_field(crop_set: CropSet, network: Network, um_per_px: float) -> NDArray[np.float32]:
    """Give the stored crop the segmenter is surest of, at its scale, as an input of at most 128 px a side."""
    best_score, best = 0.0, None
    for image in _sample(crop_set, 12, crop_set.stored_px):
        side = round(crop_set.stored_px * crop_set.um_per_px / um_per_px)
        resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        kept = min(side, _MAX_GOLDEN_PX) // 32 * 32
        start = (side - kept) // 2
        pixels = resized[start : start + kept, start : start + kept].transpose(2, 0, 1)[None]
        tensor = np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)
        score = float(network.run({"images": tensor})["output0"][0, 4].max())
        if score > best_score:
            best_score, best = score, tensor
    if best is None or best_score < _GOLDEN_SCORE:
        message = (
            f"{crop_set.folder}: the segmenter finds no cell on its crops (best score {best_score:.2f}), expected at "
            f"least {_GOLDEN_SCORE}; check that segmenter and crops belong together"
        )
        raise BundleError(message)
    return best


def _export_member(folder: Path, record: JsonDict, graph: Path, sample: ImageArray, readout: Readout) -> Member:
    """Write one member's graph and prove it equal to torch on ``sample``."""
    weights = folder / CLASSIFIER_NAME
    info = export_classifier(weights, graph, readout)
    return Member(folder, record, info, check_parity(weights, graph, sample, readout))


def _never_predicted(members: Sequence[Member]) -> tuple[str, ...]:
    """Categories that no member was trained on."""
    absent = set.intersection(*(set(member.info.categories_not_trained) for member in members))
    return tuple(name for name in members[0].info.categories if name in absent)


def _implied_prior(members: Sequence[Member], head: str, decision_tau: float | None) -> list[float]:
    """Mean of the members' implied priors of one head, by class."""
    shares: list[float] = np.mean(
        [member.info.implied_prior(head, decision_tau) for member in members], axis=0
    ).tolist()
    return shares


def _metrics(record: JsonDict) -> dict[str, float]:
    """Figures of the epoch the weights come from, with n; an undefined one is NaN."""
    best: Mapping[str, float | None] = record["result"]["best_epoch"]
    last_stage = list(record["stages"].values())[-1]
    figures = {name: value for name, value in best.items() if name.endswith(("_f1", "_auc"))}
    defined = {name: float("nan") if value is None else value for name, value in figures.items()}
    return defined | {"n_crops": last_stage["validation_crops"], "n_patients": last_stage["validation_patients"]}


def _fingerprint(record: JsonDict) -> JsonDict:
    """Say what the member was trained on, by hash and number."""
    return {
        "crops_sha256": record["data_sha256"]["crops.npy"],
        "cells_sha256": record["data_sha256"]["cells.parquet"],
        "split_sha256": record["split_sha256"],
        "segmenter_sha256": record["prepared"].get("segmenter_sha256") or "",
        "weights_sha256": record["result"]["weights_sha256"],
        "initial_weights": record["result"]["initial_weights"],
        "stages": record["stages"],
    }


def _stain_reference(members: Sequence[Member], crops: Path) -> JsonDict:
    """Fit the stain of the fields that some member was trained on; nothing where a crop set did not measure them.

    A member's crop set is looked for where the training had it, and in ``crops``: folds may come from other machines.
    """
    measured = []
    for member in members:
        wanted = member.record["data_sha256"]["cells.parquet"]
        folders = (Path(member.record["crops"]), crops)
        path = next((folder / TRAINING_FIELDS_NAME for folder in folders if _holds(folder, wanted)), None)
        if path is None or not path.is_file():
            return {}
        trained = [name for name, role in read_split(member.folder / SPLIT_NAME).items() if role == "train"]
        measured.append(pl.read_parquet(path).filter(pl.col("patient_id").is_in(trained)))
    reference = fit_stain_reference(pl.concat(measured).unique(maintain_order=True))
    return {} if reference is None else reference.model_dump(mode="json")


def _holds(crops: Path, cells_sha256: str) -> bool:
    """Say whether a crop set is there and has the table of this hash."""
    table = crops / CELLS_NAME
    return table.is_file() and sha256_file(table) == cells_sha256


def _segmenter_files(segmenter: Path, network: Network) -> dict[str, Path | bytes]:
    """Give the graph with the licence that has to travel with it, and its own card where there is one."""
    licence, card = segmenter.with_name("LICENSE"), segmenter.with_name("CARD.md")
    if "AGPL" in network.metadata.get("license", "") and not licence.is_file():
        message = (
            f"{segmenter}: its licence is {network.metadata['license']}, expected the text in {licence}; export the "
            "segmenter again, which writes it"
        )
        raise BundleError(message)
    folder = Path(SEGMENTER_FILE).parent
    beside = {f"{folder}/{path.name}": path for path in (licence, card) if path.is_file()}
    return {SEGMENTER_FILE: segmenter, **beside}


def _figure(value: float) -> str:
    """Write a figure of merit with three decimals; a dash where it is not defined."""
    return "-" if np.isnan(value) else f"{value:.3f}"
