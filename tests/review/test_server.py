from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from marrowscope.cells.crop import cut_crop
from marrowscope.imaging import read_image
from marrowscope.review.cell_images import CELL_PICTURE
from tests.fake_runs import UM_PER_PX
from tests.review.stations import READER, enter, new_client

if TYPE_CHECKING:
    from marrowscope.review.station import Station
    from tests.review.stations import Browser


def test_the_worklist_has_a_line_per_patient(browser: Browser) -> None:
    lines = browser.json("/api/worklist")
    assert [(line["patient_id"], line["center"], line["status"]) for line in lines] == [
        ("P1", "A", "new"),
        ("P2", "B", "new"),
    ]
    assert lines[0]["n_reviewed"] == 0
    assert lines[0]["n_cells"] == 22


def test_a_decision_changes_the_cell_and_the_worklist(browser: Browser) -> None:
    cells = browser.json("/api/patients/P1/cells")
    cell_id = cells["cell_id"][3]
    answer = browser.decide("P1", {"kind": "relabel", "cell_id": cell_id, "new": "N2"})
    assert answer.status_code == 200, answer.text
    after = browser.json("/api/patients/P1/cells")
    assert after["sequence"] == answer.json()["sequence"] == cells["sequence"] + 2
    assert (after["code"][3], after["decided_by"][3]) == ("N2", READER)
    assert after["code"][2] is None
    line = browser.json("/api/worklist")[0]
    assert (line["status"], line["n_reviewed"], line["opened_by"]) == ("in_review", 1, [READER])


def test_the_crop_is_the_one_that_the_classifier_sees(browser: Browser, station: Station) -> None:
    frozen = station.patient("P1").frozen[4]
    response = browser.get(f"/crops/P1/{frozen.cell_id}.webp")
    assert response.headers["content-type"] == "image/webp"
    served = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"), dtype=np.float64)
    from pathlib import Path

    image = read_image(Path(station.field("P1", frozen.field_id).path))
    crop = cut_crop(image, np.reshape(frozen.contour_xy, (-1, 2)), UM_PER_PX, CELL_PICTURE)
    assert served.shape == crop.image.shape
    assert np.abs(served - crop.image).mean() < 4


def test_a_field_is_served_whole(browser: Browser) -> None:
    response = browser.get("/fields/P1/P1%2Ffield_0.jpg")
    assert response.status_code == 200
    assert Image.open(io.BytesIO(response.content)).size == (480, 360)
    contours = browser.json("/api/patients/P1/fields/P1%2Ffield_0")
    assert len(contours["cells"]) == 11
    assert [item["reason"] is not None for item in contours["refused"]] == [True]


def test_a_token_opens_one_session_once(station: Station) -> None:
    client, token = new_client(station), station.one_time_token()
    assert client.get(f"/enter?token={token}").status_code == 303
    again = new_client(station).get(f"/enter?token={token}")
    assert again.status_code == 403
    assert "used before" in again.json()["error"]
    assert client.get(f"/enter?token={token}").headers["Location"] == "/"  # the browser that it opened is let in


@pytest.mark.parametrize(("language", "said"), [("en", "Found a token that was used before"), ("zh", "\u4ee4\u724c")])
@pytest.mark.parametrize(("address", "status"), [("/enter?token=old", 403), ("/nowhere", 404), ("/patients/P9", 404)])
def test_a_person_who_opens_an_address_is_refused_on_a_page(
    station: Station, address: str, status: int, language: str, said: str
) -> None:
    client = new_client(station)
    if not address.startswith("/enter"):
        client.get(f"/enter?token={station.one_time_token()}")
    sign = "&" if "?" in address else "?"
    refused = client.get(f"{address}{sign}lang={language}", headers={"Accept": "text/html,*/*;q=0.8"})
    assert refused.status_code == status
    assert refused.headers["Content-Type"].startswith("text/html")
    assert '<a href="/">' in refused.text
    assert "error" in client.get(address, headers={"Accept": "*/*"}).json()
    if status == 403:
        assert said in refused.text


def test_nobody_sees_a_patient_without_a_session(station: Station) -> None:
    client = new_client(station)
    refused = client.get("/api/worklist")
    assert (refused.status_code, refused.json()["error"][:19]) == (401, "nobody has entered ")
    assert client.get("/", headers={"Accept": "text/html"}).headers["location"] == "/login"


def test_the_session_ends_when_its_reader_leaves(browser: Browser) -> None:
    cookie = browser.client.cookies["marrowscope_session"]
    assert browser.post("/api/leave", {}).status_code == 200
    browser.client.cookies.set("marrowscope_session", cookie)
    assert browser.get("/api/worklist").status_code == 401


def test_another_readers_decision_is_not_overwritten_in_silence(browser: Browser, station: Station) -> None:
    cell_id = browser.json("/api/patients/P1/cells")["cell_id"][0]
    seen = browser.json("/api/patients/P1/cells")["sequence"]
    assert browser.decide("P1", {"kind": "relabel", "cell_id": cell_id, "new": "N"}).status_code == 200
    station.lone_reader = "Bo"
    other = enter(station)
    answer = other.decide("P1", {"kind": "relabel", "cell_id": cell_id, "new": "R"}, base=seen)
    assert answer.status_code == 409
    assert [(item["reader"], item["cell_id"], item["new"]) for item in answer.json()["conflicts"]] == [
        (READER, cell_id, "N")
    ]
    assert other.json("/api/patients/P1/cells")["code"][0] == "N"
    answer = other.decide("P1", {"kind": "relabel", "cell_id": cell_id, "new": "R"}, base=answer.json()["sequence"])
    assert answer.status_code == 200


def test_what_cannot_be_is_refused_in_one_sentence(browser: Browser) -> None:
    cell_id = browser.json("/api/patients/P1/cells")["cell_id"][0]
    before = browser.json("/api/patients/P1/cells")["sequence"]
    for event, words in (
        ({"kind": "relabel", "cell_id": "nobody", "new": "N"}, "found cell 'nobody', expected a cell of this patient"),
        ({"kind": "relabel", "cell_id": cell_id, "new": "Q9"}, "found code 'Q9', expected a code of the vocabulary"),
        ({"kind": "sign"}, "found a decision of kind 'sign', expected one of open, relabel"),
        ({"kind": "restore", "cell_id": cell_id}, "which is not removed"),
        ({"kind": "add", "new": {"field_id": "P1/field_0", "contour_xy": [1, 1, 2, 2]}}, "x and y of 3 to 2000 points"),
        ({"kind": "comment", "new": {"text": " "}}, "expected some text"),
    ):
        answer = browser.decide("P1", event)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text
    assert browser.get("/api/patients/nobody/cells").status_code == 404
    assert browser.json("/api/patients/P1/cells")["sequence"] == before


def test_decisions_of_one_request_are_recorded_together_or_not_at_all(browser: Browser) -> None:
    cell_id = browser.json("/api/patients/P1/cells")["cell_id"][0]
    good, bad = ({"kind": "relabel", "cell_id": cell_id, "new": code} for code in ("N", "Q9"))
    assert browser.decide("P1", good, bad).status_code == 400
    assert browser.json("/api/patients/P1/cells")["code"][0] is None


def test_every_code_has_a_hotkey_and_two_names(browser: Browser) -> None:
    vocabulary = browser.json("/api/vocabulary")
    by_code = {code["code"]: code for code in vocabulary["codes"]}
    assert (by_code["N"]["hotkey"], by_code["N0"]["hotkey"], by_code["A"]["hotkey"]) == ("nn", "n0", "a")
    assert by_code["P2"]["names"] == {"en": "plasma cell", "zh": "浆细胞"}


def test_ten_thousand_cells_fit_into_two_megabytes(station: Station, browser: Browser) -> None:
    n = len(station.patient("P1").frozen)
    size = len(browser.get("/api/patients/P1/cells").content)
    assert size / n * 10_000 < 2_000_000
