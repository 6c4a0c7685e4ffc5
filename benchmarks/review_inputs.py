"""What the calls of ``marrowscope review`` and ``cohort import --cells`` read, for ``long_commands.py``.

A station of 22 patients of one center, each reviewed in full, and one more that two blinded readers named; photographs
of single cells in a folder per class; and a browser that names, confirms and signs a patient.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.review.station import Station

N_PATIENTS = 23
BLINDED = "P0001"
_COMMENT_LENGTH = slice(4, 6)
_DOCUMENTS = ("html", "json", "hl7", "pdf")
_CODES = {"Other": "V", "E": "E", "M": "M", "L": "L2"}
"""A raw code of the categories whose name is none."""


def unmark(cohort: Path) -> None:
    """Take the mark of simulation out of every photograph: a center's rates are not measured on marked ones."""
    for path in cohort.glob("*/*.jpg"):
        data = path.read_bytes()
        end = 4 + int.from_bytes(data[_COMMENT_LENGTH], "big")
        path.write_bytes(data[:2] + data[end:])


def write_cells(cohort: Path, out: Path) -> None:
    """Write a photograph of each annotated cell that is not cut by the edge, in a folder named by its code."""
    import cv2  # noqa: PLC0415 - only where it is called
    import numpy as np  # noqa: PLC0415

    half = 48
    for labels in sorted(cohort.glob("*/*.json")):
        document = json.loads(labels.read_text(encoding="utf-8"))
        image = cv2.imread(str(labels.with_name(document["imagePath"])))
        if image is None:
            continue  # no simulated photograph
        for number, shape in enumerate(document["shapes"]):
            x, y = np.array(shape["points"]).mean(axis=0).round().astype(int)
            if half <= x < image.shape[1] - half and half <= y < image.shape[0] - half:
                path = out / shape["label"] / f"{labels.parent.name}_{number:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), image[y - half : y + half, x - half : x + half])


def review_all(run: Path, folder: Path) -> None:
    """Make the review of ``run`` in ``folder``: two blinded readers of one patient, all others reviewed in full."""
    from marrowscope.review.decisions import Decision  # noqa: PLC0415
    from marrowscope.review.events import Draft  # noqa: PLC0415
    from marrowscope.review.review_folder import open_station  # noqa: PLC0415

    shutil.rmtree(folder, ignore_errors=True)
    with open_station(folder, [run], lone_reader="Ada") as station:
        station.store.append([Draft("Dee", BLINDED, "assign", None, None, {"readers": ["Ada", "Bo"]})])
        for reader in ("Ada", "Bo"):
            station.decide(BLINDED, reader, _names(station, BLINDED), 0, is_blinded=True)
        for patient_id in station.cells.rows:
            if patient_id != BLINDED:
                decisions = [*_names(station, patient_id), Decision("full_review")]
                station.decide(patient_id, "Ada", decisions, station.store.head().sequence)


def _names(station: Station, patient_id: str) -> list[Any]:
    """Return decisions that name every cell as the model called it."""
    from marrowscope.review.decisions import Decision  # noqa: PLC0415

    cells = station.state(patient_id).cells.values()
    return [
        Decision("relabel", cell.cell_id, _CODES.get(cell.model_category or "Other", cell.model_category or "V"))
        for cell in cells
    ]


def use_station(entrance: str) -> list[str]:
    """Enter a station, review its first patient in full and sign it; returns a sentence for each refused request.

    What an earlier call had signed stays. Every kind of document is opened.
    """
    import httpx2 as httpx  # noqa: PLC0415 - of the tests

    refused: list[str] = []

    def taken(answer: Any) -> Any:  # noqa: ANN401 - JSON
        if answer.is_error:
            found = answer.json()["error"] if "json" in answer.headers.get("Content-Type", "") else answer.text
            refused.append(f"{answer.status_code}: {found}")
        return answer

    address = entrance.partition("/enter")[0]
    with httpx.Client(base_url=address, timeout=60, follow_redirects=True) as client:
        if taken(client.get(entrance)).is_error:
            return refused
        client.headers["X-CSRF-Token"] = client.get("/api/session").json()["csrf"]
        first = client.get("/api/worklist").json()[0]
        patient = first["patient_id"]
        at = f"/api/patients/{patient}"
        cells = taken(client.get(f"{at}/cells")).json()
        if not cells.get("is_locked"):
            events: list[dict[str, object]] = [
                {"kind": "relabel", "cell_id": cell_id, "new": _CODES.get(category, category)}
                for cell_id, category in zip(cells["cell_id"], cells["model_category"], strict=True)
            ]
            events += [
                {"kind": "full_review"},
                {"kind": "comment", "new": {"text": "Enough cells.", "about": "adequacy"}},
            ]
            events += [
                {"kind": "flag_answered", "new": {"flag": flag, "answer": "Looked at."}} for flag in first["flags"]
            ]
            taken(client.post(f"{at}/events", json={"base": cells["sequence"], "events": events}))
            seen = client.get(f"{at}/cells").json()["sequence"]
            taken(client.post(f"{at}/sign", json={"base": seen}))
        taken(client.get(f"/crops/{patient}/{cells['cell_id'][0]}.webp"))
        for kind in _DOCUMENTS:
            taken(client.get(f"{at}/signed/1.{kind}"))
    return refused
