"""A click asks the segmenter of the run: on simulated smears, whose true outlines are known, by the demo's bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely

from marrowscope import geometry
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_file
from marrowscope.predict import PredictConfig, predict
from marrowscope.review.clicked_outline import ClickFinders, open_finder
from marrowscope.review.events import Draft
from marrowscope.review.export_cohort import export_review
from marrowscope.review.run_bundle import find_run_bundle, named_bundle, refuse_other_bundles
from marrowscope.runs.manifest import read_manifest
from marrowscope.simulate import SimulationConfig, simulate_cohort
from tests.review.stations import Browser, enter, open_station

if TYPE_CHECKING:
    from collections.abc import Iterator

    from marrowscope.records import ContourArray
    from marrowscope.review.station import Station

PATIENT, WIDTH, HEIGHT = "P0001", 640, 480


@dataclass
class Reviewed:
    """A station over one simulated field, a browser, and the true outlines of the cells that no edge cuts."""

    station: Station
    browser: Browser
    field_id: str
    truth: list[ContourArray]

    def ask(self, x: float, y: float) -> dict[str, object]:
        response = self.browser.post(
            f"/api/patients/{PATIENT}/outline", {"field_id": self.field_id, "x": float(x), "y": float(y)}
        )
        assert response.status_code == 200, response.text
        answer: dict[str, object] = response.json()
        return answer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clicked")
    config = SimulationConfig(
        patients=1, centers=1, fields=1, seed=5, cells_per_field=(9, 9), width_px=WIDTH, height_px=HEIGHT
    )
    simulate_cohort(root / "cohort", config)
    options = PredictConfig(backend="onnxruntime", threads=1, precision="f32")
    predict([root / "cohort"], load_bundle(demonstration_bundle()), root / "run", config=options)
    return root / "run"


@pytest.fixture(scope="module")
def reviewed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewed]:
    station = open_station(run, tmp_path_factory.mktemp("clicked-review") / "review.sqlite")
    (field,) = station.patient(PATIENT).fields.values()
    shapes = json.loads(Path(field.path).with_suffix(".json").read_text())["shapes"]
    outlines = [np.array(shape["points"]) for shape in shapes]
    whole = [outline for outline in outlines if not geometry.is_cut(outline, WIDTH, HEIGHT, 2)]
    yield Reviewed(station, enter(station), field.field_id, whole)
    station.close()


def inside(outline: ContourArray) -> tuple[float, float]:
    point = shapely.Polygon(outline).representative_point()
    return point.x, point.y


def test_a_click_on_a_missed_cell_gives_its_outline(reviewed: Reviewed, tmp_path: Path) -> None:
    cells = [cell for cell in reviewed.station.state(PATIENT).present if cell.origin == "model"]
    contours = [np.reshape(cell.contour_xy, (-1, 2)) for cell in cells]
    asked = 0
    for outline in reviewed.truth:
        overlaps = [geometry.iou(outline, contour) for contour in contours]
        if max(overlaps) < 0.5:
            continue
        cell = cells[int(np.argmax(overlaps))]
        assert reviewed.ask(*inside(outline)) == {"found": "known", "contour_xy": None}
        reviewed.browser.decide(PATIENT, {"kind": "delete", "cell_id": cell.cell_id})  # as if the run had missed it
        answer = reviewed.ask(*inside(outline))
        assert answer["found"] == "cell"
        found = np.reshape(np.asarray(answer["contour_xy"]), (-1, 2))
        assert geometry.iou(found, outline) >= 0.7
        asked += 1
        value = {"field_id": reviewed.field_id, "contour_xy": answer["contour_xy"], "outlined_by": "segmenter"}
        added = reviewed.browser.decide(PATIENT, {"kind": "add", "new": {**value, "code": "L"}})
        assert added.status_code == 200, added.text
        assert reviewed.ask(*inside(outline))["found"] == "known"
    assert asked >= 5

    export_review(reviewed.station, tmp_path / "out")  # the reader found them, the network outlined them
    (written,) = (tmp_path / "out" / PATIENT).glob("*.json")
    flags = [shape["flags"] for shape in json.loads(written.read_text())["shapes"]]
    assert len(flags) == asked
    assert all(flag.get("network_contour") for flag in flags)


def test_a_click_on_the_background_finds_no_cell(reviewed: Reviewed) -> None:
    cells = reviewed.station.state(PATIENT).cells.values()
    drawn = [*reviewed.truth, *(np.reshape(cell.contour_xy, (-1, 2)) for cell in cells)]
    refused = [cell.contour_xy for cell in reviewed.station.patient(PATIENT).refused]
    taken = shapely.union_all([shapely.Polygon(outline).buffer(15) for outline in [*drawn, *refused]])
    places = np.random.default_rng(3).uniform((5, 5), (WIDTH - 5, HEIGHT - 5), (60, 2))
    empty = [place for place in places if not taken.contains(shapely.Point(place))][:6]
    assert len(empty) == 6
    for x, y in empty:
        assert reviewed.ask(x, y) == {"found": "none", "contour_xy": None}


def test_a_click_beyond_the_field_is_refused(reviewed: Reviewed) -> None:
    body = {"field_id": reviewed.field_id, "x": WIDTH + 1.0, "y": 5.0}
    response = reviewed.browser.post(f"/api/patients/{PATIENT}/outline", body)
    assert response.status_code == 400
    assert "beyond" in response.json()["error"]


def test_a_click_on_a_signed_patient_asks_nobody(station: Station, browser: Browser) -> None:
    station.store.append([Draft("Ada", "P1", "sign", None, None, {"version": 1})])
    body = {"field_id": "P1/field_0", "x": 60.0, "y": 60.0}
    response = browser.post("/api/patients/P1/outline", body)
    assert (response.status_code, "P1' is signed" in response.json()["error"]) == (409, True)


def test_a_click_without_the_runs_bundle_says_so(browser: Browser) -> None:
    body = {"field_id": "P1/field_0", "x": 60.0, "y": 60.0}
    response = browser.post("/api/patients/P1/outline", body)
    assert response.json() == {"found": "no_model", "contour_xy": None}


def test_a_click_without_the_photograph_says_so(station: Station, browser: Browser) -> None:
    for field in station.patient("P1").fields.values():
        Path(field.path).unlink()
    body = {"field_id": "P1/field_0", "x": 60.0, "y": 60.0}
    assert browser.post("/api/patients/P1/outline", body).json() == {"found": "no_picture", "contour_xy": None}


def test_a_bundle_is_found_by_the_name_of_the_command_and_its_hash(run: Path, tmp_path: Path) -> None:
    manifest = read_manifest(run)
    own = tmp_path / "own"
    shutil.copytree(demonstration_bundle(), own)
    stated = manifest.model_copy(update={"command": ("marrowscope", "predict", "--bundle", str(own))})
    assert find_run_bundle(stated).folder == own
    assert find_run_bundle(manifest).folder == demonstration_bundle()  # not named: a shipped one of its hash

    (own / "bundle.toml").write_text((own / "bundle.toml").read_text() + "\n# changed\n")
    assert find_run_bundle(stated).folder == demonstration_bundle()  # the named one is another one now
    other = stated.model_copy(update={"bundle": manifest.bundle.model_copy(update={"sha256": "ab" * 32})})
    with pytest.raises(BundleError, match=r"found no bundle .* with hash abababababab in .*own and the shipped"):
        find_run_bundle(other)


def test_a_bundle_that_was_moved_is_found_where_somebody_says(run: Path, tmp_path: Path) -> None:
    own, moved = tmp_path / "own", tmp_path / "moved"
    shutil.copytree(demonstration_bundle(), moved)
    with (moved / "bundle.toml").open("a") as file:
        file.write("\n# not a shipped one\n")
    manifest = read_manifest(run)
    predicted_by = manifest.bundle.model_copy(update={"sha256": sha256_file(moved / "bundle.toml")})
    manifest = manifest.model_copy(update={"command": ("predict", "-b", str(own)), "bundle": predicted_by})
    field = np.zeros((64, 64, 3), dtype=np.uint8)
    assert ClickFinders().outline(manifest, field, 0.15, (30, 30), []).found == "no_model"
    assert ClickFinders([moved]).outline(manifest, field, 0.15, (30, 30), []).found == "none"

    refuse_other_bundles([moved], [manifest, read_manifest(run)])
    for other in (own, demonstration_bundle()):
        with pytest.raises(BundleError, match=r"that predicted a run here, expected .*; name its folder"):
            refuse_other_bundles([moved, other], [manifest])


def test_a_changed_graph_is_not_opened(run: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(demonstration_bundle(), own)
    graph = own / "segmenter" / "segmenter.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    manifest = read_manifest(run).model_copy(update={"command": ("marrowscope", "predict", "-b", str(own))})
    answer = ClickFinders().outline(manifest, np.zeros((64, 64, 3), dtype=np.uint8), 0.15, (30, 30), [])
    assert answer.found == "no_model"


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("marrowscope", "predict", "cohort"), None),
        (("marrowscope", "predict", "cohort", "--bundle", "my"), Path("my")),
        (("marrowscope", "predict", "cohort", "--bundle=my"), Path("my")),
        (("marrowscope", "predict", "-b", "demo", "cohort"), Path("demo")),
        ((), None),
    ],
)
def test_the_bundle_that_a_command_names(command: tuple[str, ...], named: Path | None) -> None:
    assert named_bundle(command) == named


@pytest.mark.parametrize(
    ("predicted", "here", "opened"),
    [
        ("bf16-segmenter", ("f32", "bf16"), "bf16"),
        ("bf16", ("f32", "bf16"), "bf16"),
        ("bf16-segmenter", ("f32",), "f32"),
        ("int8", ("f32", "bf16"), "f32"),  # of an earlier version
    ],
)
def test_a_click_asks_in_the_precision_that_the_segmenter_predicted_in(
    run: Path, monkeypatch: pytest.MonkeyPatch, predicted: str, here: tuple[str, ...], opened: str
) -> None:
    precisions: list[str] = []

    def note(_graph: object, _backend: str, _device: str, precision: str, **_: object) -> None:
        precisions.append(precision)

    monkeypatch.setattr("marrowscope.bundle.bundle.open_network", note)
    monkeypatch.setattr("marrowscope.review.clicked_outline.capabilities", lambda *_: here)
    open_finder(read_manifest(run).model_copy(update={"precision": predicted}))
    assert precisions == [opened]
