"""How well do erythrocytes tell the scale? Each pack's known diameters against the measured ones.

    python benchmarks/erythrocytes.py --data PACKS --simulated COHORT [--every 2]

Known diameters, in px: simulated fields are drawn again and their outlines recorded; smear-boxes has a box around each
erythrocyte (the median of sqrt(w h) of whole ones; boxes are drawn loosely); bccd-masks, blood-control and marrow-cells
state a scale, and 7.5 um is taken. For each pack: images, share with a diameter (at least 3 erythrocytes), and of these
the measured diameter over the known one (median, 90% of the absolute errors, share beyond 20%); then the same of all
erythrocytes of the pack together, and milliseconds of this process per image.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from marrowscope.cells.erythrocyte_size import MIN_ERYTHROCYTES, NORMAL_UM, erythrocyte_diameters_px
from marrowscope.imaging import read_image
from marrowscope.simulate import erythrocytes as simulated_erythrocytes
from marrowscope.simulate.parameters import SimulationConfig, load_parameters
from marrowscope.simulate.writer import iterate_fields, plan_patient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from marrowscope.records import ImageArray

STATED = {"bccd-masks": 0.077, "blood-control": 0.15, "marrow-cells": 0.096}
"""Micrometers per pixel of the packs that state a scale."""
ERYTHROCYTE = 1
MIN_BOXES = 3
LARGE = 0.2

Known = tuple[str, "ImageArray", float]


def of_boxes(folder: Path) -> Iterator[Known]:
    """Give each photograph of a YOLO pack with the median size of its whole erythrocytes."""
    for path in sorted((folder / "images" / "train").glob("*.jpg")):
        image = read_image(path)
        height, width = image.shape[:2]
        lines = (folder / "labels" / "train" / f"{path.stem}.txt").read_text().splitlines()
        boxes = np.array([line.split() for line in lines], dtype=np.float64).reshape(-1, 5)
        kind, x, y, w, h = boxes.T
        whole = (x - w / 2 > 0.01) & (x + w / 2 < 0.99) & (y - h / 2 > 0.01) & (y + h / 2 < 0.99)  # noqa: PLR2004
        chosen = (kind == ERYTHROCYTE) & whole
        if chosen.sum() >= MIN_BOXES:
            sizes = np.sqrt(w[chosen] * width * h[chosen] * height)
            yield f"smear-boxes {width} px", image, float(np.median(sizes))


def of_scale(folder: Path, um_per_px: float) -> Iterator[Known]:
    """Give each photograph of a pack that states its scale."""
    for path in sorted(folder.rglob("*.jpg")):
        yield folder.name, read_image(path), NORMAL_UM / um_per_px


def of_simulation(folder: Path) -> Iterator[Known]:
    """Give each field of a simulated cohort with the median of the drawn diameters, which its truth tables lack."""
    config = SimulationConfig.model_validate(json.loads((folder / "simulation.json").read_text())["config"])
    parameters, drawn = load_parameters(), []
    draw = simulated_erythrocytes._outline  # noqa: SLF001

    def recorded(rng: np.random.Generator, *sizes: float) -> Any:  # noqa: ANN401  what the wrapped function returns
        outline = draw(rng, *sizes)
        drawn.append(2 * np.sqrt(np.mean(np.square(outline, dtype=np.float64))))
        return outline

    setattr(simulated_erythrocytes, "_outline", recorded)  # noqa: B010  a private name, replaced for the record
    for index in range(config.patients):
        plan = plan_patient(config, index, parameters)
        fields = iterate_fields(config, plan, parameters)
        for number, _field in fields:
            known = float(np.median(drawn)) if drawn else None
            drawn.clear()
            if known is not None:
                yield "simulated", read_image(folder / plan.patient_id / f"field_{number:03d}.jpg"), known


def main() -> None:
    """Measure every pack and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--simulated", type=Path)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sources = [of_boxes(options.data / "smear-boxes")]
    sources += [of_scale(options.data / name, scale) for name, scale in STATED.items()]
    if options.simulated:
        sources.append(of_simulation(options.simulated))
    found: dict[str, list[np.ndarray]] = {}
    took, n_images = 0.0, 0
    for source in sources:
        for number, (pack, image, known) in enumerate(source):
            if number % options.every == 0:
                started = time.thread_time()
                diameters = erythrocyte_diameters_px(image)
                took += time.thread_time() - started
                n_images += 1
                found.setdefault(pack, []).append(diameters / known)
    print("| pack | images | with a diameter | measured / known | 90% of errors | beyond 20% | cells | all together |")
    print("|---|---|---|---|---|---|---|---|")
    for pack, ratios in found.items():
        medians = np.array([np.median(ratio) for ratio in ratios if len(ratio) >= MIN_ERYTHROCYTES])
        together = np.concatenate(ratios)
        share = f"{len(medians) / len(ratios):.2f}"
        figures = "| | |"
        if len(medians):
            errors = np.abs(medians - 1)
            figures = f"{np.median(medians):.3f} | {np.quantile(errors, 0.9):.3f} | {np.mean(errors > LARGE):.3f}"
        pooled = f"{np.median(together):.3f}" if len(together) else ""
        print(f"| {pack} | {len(ratios)} | {share} | {figures} | {len(together)} | {pooled} |")
    print(f"{1000 * took / n_images:.1f} ms of this thread per image")


if __name__ == "__main__":
    main()
