"""From trained classifiers and a segmenter to a bundle: graphs, parity, golden sample, card.

Steps: export each member as an ONNX graph that includes the temperatures of its cross-fit; check parity with torch on
crops of its own crop set; check that the members were trained on contours of this segmenter; compute a golden sample
with ONNX Runtime in float32; write and hash everything. A graph without parity is never written.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.bundle import (
    CARD_FILE,
    GOLDEN_FILE,
    SEGMENTER_FILE,
    refuse_bundle_folder,
    write_bundle,
)
from marrowscope.bundle.center_rates import measure_centers
from marrowscope.bundle.description import JointOfHeads
from marrowscope.bundle.embedding_file import EMBEDDINGS_FILE, describe_embeddings, embeddings_bytes
from marrowscope.bundle.golden import make_golden
from marrowscope.errors import BundleError, InputError
from marrowscope.networks import open_network, read_graph
from marrowscope.patient.quantify.fit_rates import fit_quantification
from marrowscope.patient.quantify.quantification import QUANTIFICATION_FILE
from marrowscope.segment.segmenter import Segmenter
from marrowscope.train.bundle_card import (
    N_GOLDEN_CROPS,
    N_PARITY_CROPS,
    NOT_MEASURED,
    BundleDescription,
    Member,
    specify,
    stain_reference,
    write_card,
)
from marrowscope.train.checkpoint import CLASSIFIER_NAME
from marrowscope.train.classifier_graph import Readout, check_parity, export_classifier
from marrowscope.train.crop_set import CropSet, open_crop_set
from marrowscope.train.crossfit_record import CROSSFIT_NAME
from marrowscope.train.embedding_statistics import training_statistics
from marrowscope.train.ensemble import (
    check_calibrated,
    check_segmenter,
    check_vocabulary,
    common_info,
    find_members,
)
from marrowscope.train.fold_calibration import mean_shares, with_joint
from marrowscope.train.half_weights import halve_weights
from marrowscope.train.left_out_cells import OOF_NAME, crossfit_cells
from marrowscope.train.out_of_fold import read_priors
from marrowscope.train.source_counts import count_sources
from marrowscope.train.training_record import read_finished
from marrowscope.vocabulary import load_vocabulary
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.bundle import Bundle
    from marrowscope.bundle.description import CenterRates
    from marrowscope.networks import Graph, Network
    from marrowscope.records import ImageArray
    from marrowscope.statistics.joint import JointRule
    from marrowscope.statistics.temperature import Calibration
    from marrowscope.train.training_record import FinishedTraining
    from marrowscope.vocabulary import Vocabulary

_MAX_GOLDEN_PX = 128
_GOLDEN_SCORE = 0.3
_REFERENCE = "onnxruntime"


def export_bundle(
    trainings: Sequence[Path],
    segmenter: Path,
    out: Path,
    *,
    crops: Path | None = None,
    description: BundleDescription | None = None,
    other_segmenter: bool = False,
    calibrate: bool = True,
    half_weights: bool = False,
    with_rates: bool = True,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle ``out`` from finished training folders and the segmenter's graph.

    A cross-fit folder represents its folds, with the temperatures fitted on their out-of-fold predictions (unless
    ``calibrate`` is off). ``crops`` is the crop set for parity and golden sample, by default that of the first member;
    a few of its images become part of the bundle. ``half_weights`` stores the classifiers' weights in half precision;
    their parity with torch is checked as they are stored. Without ``with_rates``, a cross-fit gives its calibration
    alone, no error rates and no threshold. With ``overwrite``, an earlier bundle of ours at ``out`` is replaced.
    Raises RunError for an unfinished training, InputError for a segmenter other than the one that cut the members'
    crops (unless ``other_segmenter``), and BundleError if a graph fails the parity check.
    """
    refuse_bundle_folder(out, overwrite=overwrite)
    description = description or BundleDescription()
    crossfit = next((folder for folder in trainings if (folder / CROSSFIT_NAME).is_file()), None)
    trainings, calibration = find_members(trainings, calibrate=calibrate)
    records = [read_finished(folder) for folder in trainings]
    if not records:
        message = "found no training folder, expected at least one; pass the --out of `marrowscope train classifier`"
        raise InputError(message)
    segmenter_graph = read_graph(segmenter)
    opened = Segmenter.from_onnx(segmenter_graph)
    if calibration is not None:
        check_calibrated(trainings, records, calibration)
    vocabulary = load_vocabulary()
    if calibration is not None and crossfit is not None:
        calibration = with_joint(crossfit, calibration, vocabulary)
    readout = Readout(description.decision_tau, {} if calibration is None else calibration.temperatures())
    check_vocabulary(trainings, records, vocabulary)
    for folder, record in zip(trainings, records, strict=True):
        check_segmenter(folder, record, segmenter, opened.sha256, allowed=other_segmenter)
    network = open_network(segmenter_graph, _REFERENCE)
    segmenter_files = _segmenter_files(segmenter_graph, network)
    info = common_info(trainings)
    joint = _joint(trainings, calibration, description.decision_tau, vocabulary)
    crop_set = _crop_set(crops, records[0], vocabulary)
    rates = _quantify(
        crossfit if with_rates else None,
        calibration,
        description,
        vocabulary,
        joint,
        simulated=crop_set.summary.simulated,
    )
    field = _golden_field(crop_set, network, opened.config.um_per_px)
    sources = count_sources(
        description.sources,
        list(zip(trainings, records, strict=True)),
        crop_set.folder,
        description.licenses.get("classifier", "not stated"),
    )

    with tempfile.TemporaryDirectory(prefix="marrowscope-export-") as scratch:
        graphs = [Path(scratch) / f"classifier-{index}.onnx" for index in range(len(records))]
        sample = _sample(crop_set, N_PARITY_CROPS, info.crop_px)
        members = [
            _export_member(folder, record, graph, sample, readout, half_weights=half_weights)
            for folder, record, graph in zip(trainings, records, graphs, strict=True)
        ]
        networks = [open_network(graph, _REFERENCE) for graph in graphs]
        embeddings = training_statistics(graphs[0], members[0], crop_set)
        stain = stain_reference(members, crop_set.folder)
        spec = specify(
            description, vocabulary, members, opened.config, calibration, stain=stain, sources=sources, joint=joint
        )
        golden = make_golden(
            network,
            networks,
            field,
            _sample(crop_set, N_GOLDEN_CROPS, info.crop_px),
            predicts_plasma=spec.predicts_plasma,
            embeddings=embeddings is not None,
        )
        if embeddings is not None:
            spec = spec.model_copy(update={"embeddings": describe_embeddings(embeddings)})
        spec = spec.model_copy(update={"threshold": rates.threshold, "rates_by_center": rates.centers})
        files: dict[str, Path | bytes] = {
            **{graph.name: graph for graph in graphs},
            **segmenter_files,
            **rates.files,
            **({EMBEDDINGS_FILE: embeddings_bytes(embeddings)} if embeddings is not None else {}),
            GOLDEN_FILE: golden,
            CARD_FILE: write_card(
                spec, members, opened.sha256, calibration, rates.card, vocabulary=vocabulary
            ).encode(),
        }
        return write_bundle(out, spec, files, overwrite=overwrite)


def _crop_set(given: Path | None, record: FinishedTraining, vocabulary: Vocabulary) -> CropSet:
    """Open the crop set for parity and golden sample: the one given, or the one of the first member's training."""
    folder = given or Path(record.crops)
    if given is None and not folder.is_dir():
        message = f"{folder}: found no crop set, expected that of the training; pass its current folder with --crops"
        raise InputError(message)
    return open_crop_set(folder, vocabulary)


@dataclass(frozen=True, slots=True)
class _Rates:
    """What a bundle says about its error rates: the threshold, the centers, the files, and the card's words."""

    card: str
    threshold: float | None = None
    centers: Mapping[str, CenterRates] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def _quantify(
    crossfit: Path | None,
    calibration: Calibration | None,
    description: BundleDescription,
    vocabulary: Vocabulary,
    joint: JointRule | None,
    *,
    simulated: bool,
) -> _Rates:
    """Measure the error rates on out-of-fold predictions, or return the reason if that is not possible."""
    if crossfit is None or not (crossfit / OOF_NAME).is_file():
        return _Rates(NOT_MEASURED)
    cells, people = crossfit_cells(crossfit, calibration, description.decision_tau, vocabulary, joint)
    specimen_of = {name: person.specimen for name, person in people.items()}
    try:
        found = fit_quantification(
            cells,
            {name: person.diagnosis for name, person in people.items()},
            vocabulary,
            source=f"out-of-fold predictions of {count_of(cells['patient_id'].n_unique(), 'patient')}",
            aml_diagnoses=description.aml_diagnoses,
            threshold=description.threshold,
            simulated=simulated,
            specimen_of=specimen_of,
        )
    except ValueError as error:
        return _Rates(f"It has no error rates, so that no ratio is corrected: {error}.")
    center_of = {name: person.center for name, person in people.items()}
    centers, files = measure_centers(cells, center_of, vocabulary, found, specimen_of=specimen_of)
    threshold = found.threshold.value if found.threshold else None
    return _Rates(found.card(), threshold, centers, files | {QUANTIFICATION_FILE: found.as_json()})


def _joint(
    trainings: Sequence[Path], calibration: Calibration | None, decision_tau: float | None, vocabulary: Vocabulary
) -> JointOfHeads | None:
    """Return the joint calibration for the class shares of ``decision_tau``; None without one, or without shares."""
    if calibration is None or calibration.joint is None or decision_tau is None:
        return None
    assumed = mean_shares([read_priors(folder / CLASSIFIER_NAME, decision_tau)[1] for folder in trainings])
    return JointOfHeads.of(calibration.joint, calibration.joint.rule(assumed, decision_tau, vocabulary))


def _sample(crop_set: CropSet, n: int, size_px: int) -> ImageArray:
    """Take ``n`` crops evenly from the whole set, cut to the network's size."""
    rows = np.unique(np.linspace(0, len(crop_set.crops) - 1, n).round().astype(np.int64))
    start = (crop_set.stored_px - size_px) // 2
    return np.ascontiguousarray(crop_set.crops[rows, start : start + size_px, start : start + size_px])


def _golden_field(crop_set: CropSet, network: Network, um_per_px: float) -> NDArray[np.float32]:
    """Return the stored crop with the segmenter's best score, at its scale, as an input of at most 128 px per side."""
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
            f"{crop_set.folder}: found no cell on its crops with the segmenter (best score {best_score:.2f}), expected "
            f"at least {_GOLDEN_SCORE}; check that segmenter and crops belong together"
        )
        raise BundleError(message)
    return best


def _export_member(
    folder: Path, record: FinishedTraining, graph: Path, sample: ImageArray, readout: Readout, *, half_weights: bool
) -> Member:
    """Write one member's graph and check its parity with torch on ``sample``."""
    weights = folder / CLASSIFIER_NAME
    info = export_classifier(weights, graph, readout)
    if half_weights:
        halve_weights(graph)
    return Member(folder, record, info, check_parity(weights, graph, sample, readout, half_weights=half_weights))


def _segmenter_files(graph: Graph, network: Network) -> dict[str, Path | bytes]:
    """Return the graph with the license that must accompany it, and its own card if there is one."""
    segmenter = graph.path
    license_text, card = segmenter.with_name("LICENSE"), segmenter.with_name("CARD.md")
    if "AGPL" in network.metadata.get("license", "") and not license_text.is_file():
        message = (
            f"{segmenter}: found the license {network.metadata['license']} but not its text, expected in "
            f"{license_text}; export the segmenter again, which writes it"
        )
        raise BundleError(message)
    folder = Path(SEGMENTER_FILE).parent
    beside = {f"{folder}/{path.name}": path for path in (license_text, card) if path.is_file()}
    return {SEGMENTER_FILE: graph.data, **beside}
