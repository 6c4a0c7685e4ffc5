"""The resolution for segmentation: recall, precision, mean IoU and time of one network at several input scales.

    python -m benchmarks.resolution cohort BUNDLE COHORT [--tiles 4x3] [--half 0|1] [--every N] [--both-smoothings]
    python -m benchmarks.resolution plasma BUNDLE FOLDER [--every N]    (images and annotations.coco.json)

The scales are 0.45, 0.30, 0.225 and 0.15 um per px of the network's input: a field of 960 px at 0.15 um per px then has
a long side of 320, 480, 640 and 960 px. A network is trained at one of them (the bundle states which); at every other
scale its cells have a size it never saw, so these figures judge a setting of that network, not a network trained
elsewhere. The contour's smoothing is in network pixels, where it removes the prototypes' stair-steps; with
`--both-smoothings`, a second row keeps its length on the slide instead. Matching and edges follow
`benchmarks/detection.py`; differences are from the trained scale, with a paired bootstrap over patients (over images
for plasma cells, which have no patients). `benchmarks/resolution_time.py` measures the networks' own time.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.detection import PLASMA_CELL_DIAMETER_UM
from marrowscope import geometry
from marrowscope.bundle import load_bundle
from marrowscope.cells.match import match_contours
from marrowscope.cohort import read_cohort
from marrowscope.evaluate.link import EvaluateConfig, touches_edge
from marrowscope.imaging import read_image
from marrowscope.records import Annotation, Field
from marrowscope.segment.segmenter import Segmenter
from marrowscope.statistics.intervals import bootstrap_difference
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.networks import Network
    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.segment.config import SegmenterConfig

SCALES_UM_PER_PX = (0.45, 0.30, 0.225, 0.15)
VOCABULARY = load_vocabulary()
PLASMA_CODE = "P3"
FIGURES = ("recall", "precision", "mean_iou", "recall_cblc")
COUNTS = ("expert", "found", "wrong", "iou", "cblc", "found_cblc", "fields", "ms_outside")


class RememberingNetwork:
    """A network that answers a repeated input without running again: two ways to draw cost one run.

    ``spent`` is the calling thread's time in it, so that the time outside it can be computed.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.backend, self.device, self.precision = network.backend, network.device, network.precision
        self.metadata = network.metadata
        self.spent = 0.0
        self._last: tuple[NDArray[Any], dict[str, NDArray[np.float32]]] | None = None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run once; see ``Network.run``."""
        return self._answer(next(iter(inputs.values())), lambda: self._network.run(inputs))

    def run_images(self, images: ImageArray) -> dict[str, NDArray[np.float32]]:
        """Run once; see ``Network.run_images``."""
        return self._answer(images, lambda: self._network.run_images(images))

    def _answer(
        self, seen: NDArray[Any], run: Callable[[], dict[str, NDArray[np.float32]]]
    ) -> dict[str, NDArray[np.float32]]:
        started = time.thread_time()
        if self._last is None or not np.array_equal(self._last[0], seen):
            self._last = (seen, run())
        self.spent += time.thread_time() - started
        return self._last[1]


def configurations(trained: SegmenterConfig, *, both: bool) -> dict[tuple[float, str], SegmenterConfig]:
    """Return the configuration of each scale with smoothing in network pixels, and if asked with its length in um."""
    chosen = {}
    for scale in SCALES_UM_PER_PX:
        of_scale = trained.model_copy(update={"um_per_px": scale})
        chosen[scale, "px"] = of_scale
        if both and scale != trained.um_per_px:
            smoothing_px = trained.smoothing_px * trained.um_per_px / scale
            chosen[scale, "um"] = of_scale.model_copy(update={"smoothing_px": smoothing_px})
    return chosen


def count_field(
    segmenter: Segmenter, network: RememberingNetwork, image: ImageArray, field: Field, link: EvaluateConfig
) -> NDArray[np.float64]:
    """Count one field at one scale, in the order of COUNTS; ``ms_outside`` is the time outside the network."""
    started = time.thread_time() - network.spent
    contours = [detection.contour_xy for detection in segmenter.detect(image, field.um_per_px or np.nan)]
    ms_outside = 1e3 * (time.thread_time() - network.spent - started)
    matching = match_contours(contours, [annotation.contour_xy for annotation in field.annotations])
    blasts = [VOCABULARY.lookup(annotation.code).cblc for annotation in field.annotations]
    wrong = sum(not touches_edge(contours[index], field, link) for index in matching.unmatched_predicted)
    return np.array(
        [
            len(field.annotations),
            len(matching.pairs),
            wrong,
            sum(pair.iou for pair in matching.pairs),
            sum(blasts),
            sum(blasts[pair.expert] for pair in matching.pairs),
            1,
            ms_outside,
        ],
        dtype=np.float64,
    )


def figures(sums: NDArray[np.float64]) -> dict[str, float]:
    """Convert counts (patients, COUNTS) to the figures of all of them; NaN where there was nothing to find."""
    of = dict(zip(COUNTS, sums.sum(axis=0), strict=True))

    def share(part: float, whole: float) -> float:
        return float(part / whole) if whole else float("nan")

    return {
        "recall": share(of["found"], of["expert"]),
        "precision": share(of["found"], of["found"] + of["wrong"]),
        "mean_iou": share(of["iou"], of["found"]),
        "recall_cblc": share(of["found_cblc"], of["cblc"]),
    }


def score(bundle_path: Path, fields: Sequence[Field], link: EvaluateConfig, *, both: bool) -> dict[str, Any]:
    """Compute figures by center (and of all) and scale, each with its difference from the trained scale and limits."""
    bundle = load_bundle(bundle_path)
    network = RememberingNetwork(bundle.open_segmenter(threads=1))
    shipped = bundle.spec.segmenter
    segmenters = {key: Segmenter(network, config) for key, config in configurations(shipped, both=both).items()}
    several = len({field.center for field in fields}) > 1
    sums: dict[str, dict[tuple[float, str], dict[str, NDArray[np.float64]]]] = {}
    for field in track(fields, "detecting", console=Console(stderr=True)):
        image = read_image(field.path)
        for key, segmenter in segmenters.items():
            counted = count_field(segmenter, network, image, field, link)
            for center in (field.center, "all") if several else (field.center,):
                of_patients = sums.setdefault(center, {}).setdefault(key, {})
                of_patients[field.patient_id] = of_patients.get(field.patient_id, 0) + counted
    return {center: _compare(of_center, shipped.um_per_px) for center, of_center in sorted(sums.items())}


def _compare(
    of_center: Mapping[tuple[float, str], Mapping[str, NDArray[np.float64]]], trained_um_per_px: float
) -> dict[str, Any]:
    """Compute the figures of each scale beside those of the trained one."""
    patients = sorted(next(iter(of_center.values())))
    tables = {key: np.stack([counts[patient] for patient in patients]) for key, counts in of_center.items()}
    reference = tables[trained_um_per_px, "px"]
    totals = dict(zip(COUNTS, reference.sum(axis=0), strict=True))
    scales: dict[str, Any] = {}
    for (scale, smoothing), counts in tables.items():
        row: dict[str, Any] = {"ms_outside": float(counts[:, COUNTS.index("ms_outside")].sum() / totals["fields"])}
        for name, value in figures(counts).items():
            row[name] = [value]
            if counts is not reference and np.isfinite(value):
                statistic, trained = _figure_of(counts, name), _figure_of(reference, name)
                change = bootstrap_difference(patients, statistic, patients, trained, n_resamples=1000)
                row[name] += [change.estimate, change.lower, change.upper]
        scales[f"{scale:g} {smoothing}"] = row
    n = {f"n_{name}": int(totals[name]) for name in ("fields", "expert", "cblc")}
    return {"n_patients": len(patients), **n, "scales": scales}


def _figure_of(counts: NDArray[np.float64], name: str) -> Callable[[NDArray[np.int64]], float]:
    return lambda rows: figures(counts[rows])[name]


def as_table(of_center: Mapping[str, Any], *, only_recall: bool) -> str:
    """Format one center as Markdown; a difference whose interval excludes zero is bold."""
    names = ("recall", "mean_iou") if only_recall else FIGURES
    lines = ["| um per px | smoothing in | " + " | ".join(names) + " | ms outside the network |"]
    lines.append("|" + "---|" * (len(names) + 3))
    for key, row in of_center["scales"].items():
        texts = []
        for name in names:
            value, *change = row[name]
            text = f"{value:.3f}"
            if change:
                difference = f"{change[0]:+.3f} [{change[1]:.3f}, {change[2]:.3f}]"
                text += f" ({f'**{difference}**' if change[1] > 0 or change[2] < 0 else difference})"
            texts.append(text)
        lines.append(f"| {' | '.join(key.split())} | {' | '.join(texts)} | {row['ms_outside']:.1f} |")
    return "\n".join(lines)


def cohort_fields(arguments: argparse.Namespace) -> list[Field]:
    """Read the annotated fields: with ``--half`` every second patient by name, and every N-th of their fields."""
    fields = [field for field in read_cohort(arguments.source, vocabulary=VOCABULARY).fields if field.annotated]
    patients = sorted({field.patient_id for field in fields})
    kept = set(patients if arguments.half is None else patients[arguments.half :: 2])
    return [field for field in fields if field.patient_id in kept and field.um_per_px]


def plasma_fields(folder: Path) -> list[Field]:
    """Read images with their plasma cells; the camera is the center, its scale comes from the median plasma cell."""
    document = json.loads((folder / "annotations.coco.json").read_text(encoding="utf-8"))
    contours_of: dict[int, list[ContourArray]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        parts = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in annotation["segmentation"]]
        contours_of[annotation["image_id"]].append(max(parts, key=geometry.area))
    by_camera: dict[str, list[dict[str, Any]]] = {}
    for image in document["images"]:
        by_camera.setdefault("x".join(map(str, image["camera_size"])), []).append(image)
    fields = []
    for camera, images in by_camera.items():
        diameters_px = [2 * (geometry.area(c) / np.pi) ** 0.5 for image in images for c in contours_of[image["id"]]]
        scale = PLASMA_CELL_DIAMETER_UM / float(np.median(diameters_px))
        for image in images:
            name, contours = image["file_name"], contours_of[image["id"]]
            cells = tuple(Annotation(PLASMA_CODE, contour, index) for index, contour in enumerate(contours))
            size = (image["width"], image["height"])
            fields.append(Field(name, name, camera, folder / name, "", *size, scale, annotated=True, annotations=cells))
    return fields


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("cohort", "plasma"):
        judging = commands.add_parser(name)
        judging.add_argument("bundle", type=Path)
        judging.add_argument("source", type=Path)
        judging.add_argument("--tiles", default="1x1")
        judging.add_argument("--half", type=int, choices=(0, 1))
        judging.add_argument("--every", type=int, default=1)
        judging.add_argument("--both-smoothings", action="store_true")
        judging.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    columns, rows = (int(part) for part in arguments.tiles.split("x"))
    fields = cohort_fields(arguments) if arguments.command == "cohort" else plasma_fields(arguments.source)
    link = EvaluateConfig(tile_columns=columns, tile_rows=rows)
    result = score(arguments.bundle, fields[:: arguments.every], link, both=arguments.both_smoothings)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for center, of_center in result.items():
        print(
            f"\n{center}: " + ", ".join(f"{key} {of_center[key]}" for key in of_center if key.startswith("n_")) + "\n"
        )
        print(as_table(of_center, only_recall=arguments.command == "plasma"))


if __name__ == "__main__":
    main()
