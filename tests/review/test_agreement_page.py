"""The agreement page: the command's tables, figures with their numbers, and nothing of a patient read blinded."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest

from marrowscope.report.strings import load_strings
from marrowscope.review.accounts import add_account, utc_now
from marrowscope.review.agreement_figures import bland_altman_figure, confusion_figure, in_order, kappa_figure
from marrowscope.review.decisions import Decision
from marrowscope.review.guard import COOKIE
from marrowscope.review.kept_comparisons import KeptComparisons
from marrowscope.review.reader_comparison import ReaderComparison, compare_opinions, compare_readers, comparison_tables
from marrowscope.review.routes import agreement_page
from marrowscope.review.sessions import begin_session
from marrowscope.vocabulary import load_vocabulary
from tests.review.stations import Browser, new_client, open_station
from tests.review.test_reader_comparison import read_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from marrowscope.review.station import Station
    from marrowscope.vocabulary import Vocabulary
    from tests.fake_runs import FakeRun

PAIR = ("ada", "bo")


@pytest.fixture
def station(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Station]:
    """Give a station with two readers of P1, one of whom may sign."""
    station = open_station(fake_run().folder, tmp_path / "review" / "review.sqlite", reader=None)
    for name, roles in (("ada", ["reader"]), ("bo", ["reader", "signer"]), ("dee", ["signer"])):
        add_account(station.store.engine, name, roles)
    station.assign(["P1"], PAIR, "dee")
    cells = [cell.cell_id for cell in station.patient("P1").frozen]
    for reader, codes in zip(PAIR, (("N", "N", "R", "N5"), ("N", "N1", "R", "N5")), strict=True):
        named = [Decision("relabel", cell, code) for cell, code in zip(cells, codes, strict=False)]
        station.decide("P1", reader, named, 0, is_blinded=True)
    yield station
    station.close()


def entered(station: Station, name: str) -> Browser:
    client = new_client(station)
    client.cookies.set(COOKIE, begin_session(station.store.engine, name, utc_now()))
    return Browser(client)


@pytest.fixture
def found() -> ReaderComparison:
    """Give the comparison of two readers on three patients."""
    states = {
        "P1": read_by("P1", c0="N N", c1="N N1", c2="N5 N5", c3="L2 L"),
        "P2": read_by("P2", c0="N N", c1="R N5", c2="N5 N5"),
        "P3": read_by("P3", c0="N2 N2", c1="N N", c2="N5 N2", c3="N5 N5"),
    }
    return compare_readers(states, load_vocabulary())


def test_page_and_tables_are_those_of_the_command(station: Station) -> None:
    dee = entered(station, "dee")
    page = dee.get("/agreement?lang=en").text
    expected = comparison_tables(compare_readers({"P1": station.state("P1")}, station.vocabulary))
    for name, text in expected.items():
        answer = dee.get(f"/agreement/{name}")
        assert (answer.text, answer.headers["content-type"]) == (text, "text/csv; charset=utf-8")
        assert f'href="/agreement/{name}"' in page
    assert dee.get("/agreement/other.csv").status_code == 404
    kappa = next(row for row in expected["kappa.csv"].splitlines() if '"ada, bo",category,,' in row)
    assert f"<b>{float(kappa.split(',')[4]):.2f}</b>" in page
    x, n = next(row.split(",")[2:4] for row in expected["ratios.csv"].splitlines() if row.startswith("P1,ada"))
    assert f'<td>ada</td><td class="n">{x} of {n}</td>' in page
    assert "style=" not in page, "the policy would drop it"
    assert "阅片者一致性" in dee.get("/agreement?lang=zh").text


def test_the_page_computes_anew_only_what_a_decision_changed(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []

    def counted(opinions: Mapping[str, Mapping[str, Mapping[str, str]]], vocabulary: Vocabulary) -> ReaderComparison:
        compared.append(opinions)
        return compare_opinions(opinions, vocabulary)

    monkeypatch.setattr(agreement_page, "compare_opinions", counted)
    dee, bo = entered(station, "dee"), entered(station, "bo")
    before = dee.get("/agreement?lang=en").text
    assert dee.get("/agreement?lang=en").text == before
    dee.get("/agreement/kappa.csv")
    dee.get("/agreement?lang=zh")
    assert len(compared) == 1
    station.decide("P2", "dee", [Decision("comment", None, {"text": "seen"})], station.store.head().sequence)
    dee.get("/agreement")
    assert len(compared) == 1, "P2 was never assigned"
    bo.get("/agreement")
    assert len(compared) == 2, "what bo may see compared is less"
    cell = station.patient("P1").frozen[0].cell_id
    station.decide("P1", "ada", [Decision("relabel", cell, "L2")], 0, is_blinded=True)
    after = dee.get("/agreement?lang=en").text
    assert (len(compared), after == before) == (3, False)
    expected = comparison_tables(compare_readers({"P1": station.state("P1")}, station.vocabulary))
    assert dee.get("/agreement/kappa.csv").text == expected["kappa.csv"]


def test_few_comparisons_are_kept_and_the_one_asked_for_last_stays() -> None:
    kept, made = KeptComparisons(most=2), []

    def get(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key.upper()

        return kept.get(key, make)

    assert [get(key) for key in "abaca"] == ["A", "B", "A", "C", "A"]
    assert made == ["a", "b", "c"]
    get("b")
    assert made == ["a", "b", "c", "b"], "b was asked for longest ago when c came"


def test_who_read_a_patient_blinded_is_not_shown_it_before_it_is_signed(station: Station) -> None:
    bo = entered(station, "bo")
    page = bo.get("/agreement?lang=en").text
    assert "Left out, because you read them blinded and they are not signed yet: 1." in page
    assert "No cell has been named by two blinded readers yet" in page
    assert bo.get("/agreement/confusion.csv").text.count("\n") == 1
    station.assign(["P1"], [], "dee")
    assert bo.get("/agreement/confusion.csv").text.count("\n") == 1, "nor after the assignment has ended"
    assert entered(station, "dee").get("/agreement/confusion.csv").text.count("\n") > 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_figures_state_the_numbers_of_the_rows(found: ReaderComparison, language: str) -> None:
    t, rows = load_strings(language), in_order(found.kappas)
    drawing = kappa_figure(rows, t)
    text = drawing.inline()
    defined = [row for row in rows if not math.isnan(row.kappa)]
    assert [(row.name, row.level) for row in rows[:2]] == [("", "category"), ("", "lineage")]
    assert all(row.name for row in rows[2:])
    assert sum(row.name == "not a cell" for row in rows) == 0, "nobody used it"
    assert all(f">{row.kappa:.2f}" in text for row in defined)
    assert text.count("<circle") + text.count("<rect") == len(defined)
    tiles = confusion_figure(found.confusions, load_vocabulary().categories, t).inline()
    assert sum(int(n) for n in re.findall(r"<title>(\d+) / ", tiles)) == sum(row.n_cells for row in found.confusions)
    plot = bland_altman_figure(PAIR, found.ratios, found.ratio_agreement, t)
    assert plot is not None
    bias = next(row.value for row in found.ratio_agreement if row.measure == "bias")
    assert f"{100 * bias:+.1f}%" in plot.inline()
    assert plot.inline().count("<circle") == 3
    assert bland_altman_figure(PAIR, found.ratios, (), t) is None, "fewer than three patients have no limits"
    assert "style=" not in text + tiles + plot.inline()


def test_a_name_with_markup_is_text_in_a_figure() -> None:
    opinions = {f"c{k}": {"<b>": "N", "b&o": code} for k, code in enumerate(("N", "N1", "N"))}
    state = read_by("P1")
    object.__setattr__(state, "opinions", opinions)
    found = compare_readers({"P1": state}, load_vocabulary())
    tiles = confusion_figure(found.confusions, load_vocabulary().categories, load_strings("en")).inline()
    assert "<b>" not in tiles
    assert "&lt;b&gt;" in tiles
