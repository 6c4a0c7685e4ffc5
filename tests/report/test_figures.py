"""A figure is described once, and stands on the page and in the PDF without any other change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.report import figures
from marrowscope.report.figures import Figure, Mark, Scale, blast_estimate, patient_figures, round_up
from marrowscope.report.html import write_report
from marrowscope.report.pdf_document import patient_document
from marrowscope.report.pdf_figures import figure_part, scale_part
from marrowscope.report.pdf_gallery import Chosen
from marrowscope.report.verdict import verdict
from marrowscope.report.words import Words, load_words
from marrowscope.runs.manifest import read_manifest
from marrowscope.runs.parquet import read_table
from marrowscope.runs.schemas import PatientRow, patient_row
from tests.fake_runs import ASSESSED, EMPTY_PATIENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun

WORDS = load_words()
COUNTED = EMPTY_PATIENT | {"cblc_ratio": 0.25, "cblc_ratio_lower": 0.22, "cblc_ratio_upper": 0.28}
BLASTS = {"who_n_least": 30, "who_n_most": 50, "who_least": 0.1, "who_most": 0.15, "who_lower": 0.08, "who_upper": 0.19}


def lymphoid(row: PatientRow, words: Words) -> Figure:
    """Describe a figure that the reports do not have yet."""
    share = row.lymphoid_share or 0.0
    scale = Scale("lymphoid cells", (share, share), estimate=share)
    return Figure("lymphoid", "Lymphoid cells", words.text("join"), scale, (words.text("join"),), words.text("join"))


def test_a_new_figure_stands_on_both_surfaces(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FIGURES", (blast_estimate, lymphoid))
    run = fake_run()
    write_report(run.folder)
    page = (run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8")
    assert '<h2 id="lymphoid">Lymphoid cells</h2>' in page
    assert '<a href="#lymphoid">Lymphoid cells</a>' in page
    assert page.index('<h2 id="blasts">') < page.index('<h2 id="lymphoid">')
    row = patient_row(read_table(run.folder / "patients.parquet", "patients").row(0, named=True))
    chosen = Chosen((), (), (), {item.category: () for item in row.differential})
    document = patient_document(row, chosen, read_manifest(run.folder), WORDS, ["any"])
    assert [part["title"] for part in document["further"]] == ["Myeloid blast estimate", "Lymphoid cells"]


def test_the_ratio_is_described_with_its_threshold_and_the_share_beside_it() -> None:
    row = patient_row(COUNTED | ASSESSED)
    scale = patient_figures(row, verdict(row, WORDS), WORDS, {}).ratio
    assert scale is not None
    assert (scale.estimate, scale.interval, scale.band) == (0.31, (0.22, 0.41), (0.17, 0.26))
    assert scale.marks == (Mark(0.21, "threshold 21.0%"),)
    assert scale.beside is not None
    assert scale.described == (
        "CBLC ratio, corrected for the classifier's errors 31.0%, 95% interval 22.0% to 41.0%; as counted 25.0%, 95% "
        "interval 22.0% to 28.0%; study threshold 21.0%, its interval 17.0% to 26.0%"
    )
    nothing = patient_row(EMPTY_PATIENT)
    assert patient_figures(nothing, verdict(nothing, WORDS), WORDS, {}).ratio is None


def test_an_estimate_of_one_value_is_a_point_in_the_pdf_and_a_range_has_both_ends() -> None:
    part = figure_part(blast_estimate(patient_row(COUNTED | BLASTS), WORDS))
    assert part["lines"][0] == "10.0% to 15.0% of nucleated cells"
    assert (part["axis"]["range"], part["axis"]["estimate"], part["axis"]["max"]) == ((0.1, 0.15), None, 1.0)
    assert [mark["label"] for mark in part["axis"]["marks"]] == ["5%", "10%", "20%"]
    part = figure_part(blast_estimate(patient_row(COUNTED | BLASTS | {"who_n_most": 30, "who_most": 0.1}), WORDS))
    assert part["lines"][0] == "10.0% of nucleated cells"
    assert (part["axis"]["range"], part["axis"]["estimate"]) == (None, 0.1)


def test_without_a_nucleated_cell_there_is_a_sentence_and_no_scale() -> None:
    figure = blast_estimate(patient_row(EMPTY_PATIENT), WORDS)
    assert (figure.value, figure.scale, len(figure.lines)) == (None, None, 1)


def test_every_scale_of_the_pdf_ends_at_100_percent_and_bars_at_a_round_share() -> None:
    for share in (0.015, 0.9):
        part = scale_part(Scale("x", (share / 2, share), estimate=share, marks=(Mark(0.33, ""),)))
        assert (part["max"], part["ticks"][0]["label"], part["ticks"][-1]) == (1.0, "0%", {"at": 1.0, "label": "100%"})
    assert [round_up(value) for value in (0, 0.05, 0.051, 0.6, 0.61, 0.99)] == [0.05, 0.05, 0.1, 0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("specimen", "marks", "named"),
    [
        (
            "marrow",
            ["5%", "10%", "20%"],
            ["5% (WHO 2022: MDS-IB1, ICC 2022: MDS-EB", "10% (WHO: MDS-IB2, ICC: MDS/AML"],
        ),
        ("Blood", ["2%", "5%", "10%", "20%"], ["2% (WHO 2022: MDS-IB1, to 4%; ICC 2022: MDS-EB, to 9%", "to 19%"]),
        ("spleen", [], ["No marks: they apply to marrow and to blood only."]),
        ("meaning", [], ["No marks"]),
    ],
)
def test_the_marks_are_those_of_the_specimen_with_what_each_means(
    specimen: str, marks: list[str], named: list[str]
) -> None:
    figure = blast_estimate(patient_row(COUNTED | BLASTS | {"specimen": specimen}), WORDS)
    assert figure.scale is not None
    assert [mark.label for mark in figure.scale.marks] == marks
    assert all(words in figure.note for words in named)
    known = "no minimum by WHO, except 20% with BCR::ABL1, mutated CEBPA or myelodysplasia-related changes"
    assert (known in figure.note) == bool(marks)
    assert "never to the CBLC ratio" in figure.note


def test_promyelocytes_are_shown_the_other_way_where_there_are_many() -> None:
    alt = {"who_alt_least": 0.22, "who_alt_most": 0.27, "who_alt_lower": 0.2, "who_alt_upper": 0.31}
    told = [str(line) for line in blast_estimate(patient_row(COUNTED | BLASTS | alt), WORDS).lines]
    assert told[-2] == "With promyelocytes: 22.0% to 27.0% (95% sampling limits 20.0% to 31.0%)."
    assert "a rule of this program, not of a classification" in told[-1]
    told = [
        str(line) for line in blast_estimate(patient_row(COUNTED | BLASTS | alt | {"who_declared": "apl"}), WORDS).lines
    ]
    assert told[-2].startswith("Without promyelocytes: 22.0%")
    single = blast_estimate(patient_row(COUNTED | BLASTS | alt | {"who_alt_most": 0.22}), WORDS).lines
    assert single[-2] == "With promyelocytes: 22.0% (95% sampling limits 20.0% to 31.0%)."
    assert len(blast_estimate(patient_row(COUNTED | BLASTS), WORDS).lines) == 2


def test_the_other_way_too_has_no_figure_where_its_limits_are_wide() -> None:
    alt = {"who_alt_least": 0.5, "who_alt_most": 0.5, "who_alt_lower": 0.1, "who_alt_upper": 0.9}
    told = [str(line) for line in blast_estimate(patient_row(COUNTED | BLASTS | alt), WORDS).lines]
    assert told[-2] == "With promyelocytes: no single estimate, 10.0% to 90.0%, wider than half the scale."


def test_proerythroblasts_stand_beside_the_definition_that_counts_them() -> None:
    blank = dict.fromkeys(("share", "lower", "upper", "reference_low", "reference_high", "reference_mark"))
    counts = {"n": 40, "n_countable": 40, "n_nucleated": 40}
    stated = {
        "who_declared": "pure_erythroid_leukaemia",
        "lineages": [blank | {"lineage": "erythroid", "n": 85, "share": 0.85}],
        "differential": [blank | counts | {"category": "R", "lineage": "erythroid", "share_nucleated": 0.4}],
    }
    line = str(blast_estimate(patient_row(COUNTED | BLASTS | stated), WORDS).lines[-1])
    assert "more than 80% erythroid cells, at least 30% proerythroblasts; counted here: 85.0% and 40.0%." in line


def test_in_blood_no_proerythroblast_is_said_to_be_counted() -> None:
    stated = {"who_declared": "pure_erythroid_leukaemia", "specimen": "blood", "n_leukocytes": 50, "n_nucleated": 350}
    line = str(blast_estimate(patient_row(COUNTED | BLASTS | stated), WORDS).lines[-1])
    assert line.startswith("Proerythroblasts are not counted, though pure erythroid leukemia was stated")
    assert "none" not in line


def test_blood_without_a_leukocyte_says_so() -> None:
    row = patient_row(COUNTED | {"specimen": "blood", "n_leukocytes": 0, "n_nucleated": 300})
    (why,) = blast_estimate(row, WORDS).lines
    assert why == "No estimate: no leukocyte among 300 nucleated cells. Blasts in blood are counted of the leukocytes."
    (note,) = figures.learned_notes(row, WORDS)
    assert "there are none among the 300 nucleated cells" in note
    empty = patient_row(COUNTED | {"specimen": "blood", "n_leukocytes": 0, "n_nucleated": 0})
    assert blast_estimate(empty, WORDS).lines == ("No nucleated cells, so there is no estimate.",)
    assert figures.learned_notes(empty, WORDS) == ()


def test_an_estimate_with_limits_wider_than_half_the_scale_is_no_figure() -> None:
    one = {"who_n_least": 1, "who_n_most": 1, "who_least": 1.0, "who_most": 1.0, "who_lower": 0.1467, "who_upper": 1.0}
    figure = blast_estimate(patient_row(COUNTED | one), WORDS)
    assert figure.value == "No single estimate: <strong>14.7% to 100.0%</strong>, wider than half the scale"
    assert figure.scale is not None
    assert (figure.scale.span, figure.scale.estimate, figure.scale.interval) == (None, None, (0.1467, 1.0))
    assert figure.scale.described.startswith("No single estimate, with sampling limits 14.7% to 100.0%; marks at")
    assert figure.lines[0] == "1 cell is called as codes that count. With 95% sampling limits: 14.7% to 100.0%."
    narrow = blast_estimate(patient_row(COUNTED | one | {"who_lower": 0.5}), WORDS)
    assert narrow.value == "<strong>100.0%</strong> of nucleated cells"


def test_many_lymphoid_cells_are_said_not_to_be_in_the_estimate() -> None:
    def told(share: float | None) -> str:
        return " ".join(blast_estimate(patient_row(COUNTED | BLASTS | {"lymphoid_share": share}), WORDS).lines)

    assert "Lymphoid cells 65.0%: lymphoblasts are not in this estimate." in told(0.65)
    assert all("lymphoblasts" not in told(share) for share in (0.3, None))
    blood = COUNTED | BLASTS | {"specimen": "blood", "n_leukocytes": 200}
    lines = [" ".join(blast_estimate(patient_row(blood | {"lymphoid_share": x}), WORDS).lines) for x in (0.45, 0.55)]
    assert ["lymphoblasts" in line for line in lines] == [False, True]


def test_one_cell_is_one_in_both_denominators() -> None:
    row = patient_row(COUNTED | {"n_countable": 1, "n_nucleated": 1})
    assert "divides by 1 countable cell, this differential by 1 nucleated cell." in figures.denominators(row, WORDS)
    row = patient_row(COUNTED | {"n_countable": 1200, "n_nucleated": 1200, "n_leukocytes": 1})
    assert "divides by 1,200 countable cells, this differential by 1 leukocyte." in figures.denominators(row, WORDS)
