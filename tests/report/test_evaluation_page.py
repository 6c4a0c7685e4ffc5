"""The page of an evaluation, from tables written as `marrowscope evaluate` writes them."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from marrowscope.errors import InputError
from marrowscope.evaluate import ALL_CENTERS, EvaluateConfig, Evaluation, LinkedCells, score_center, write_evaluation
from marrowscope.evaluate.across_centers import across_centers
from marrowscope.evaluate.catalog import COUNTED_WITH_NORMAL, PAGE_FIGURES
from marrowscope.evaluate.document import EvaluatedRun, FigureRecord
from marrowscope.evaluate.frames import DETECTION_COLUMNS, EXPERT_COLUMNS, RATIO_COLUMNS, WRITTEN_TABLES
from marrowscope.evaluate.participants import flows
from marrowscope.evaluate.written_tables import normal_codes, read_tables
from marrowscope.report import evaluation_cell_figures, evaluation_page, evaluation_ratio_figures
from marrowscope.report.evaluation_call_figures import CALL_FIGURES
from marrowscope.report.evaluation_page import anchors, write_evaluation_page
from marrowscope.runs.schemas import CALLS
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = load_vocabulary()
DASH = "\N{EN DASH}"
CONFIG = EvaluateConfig(n_resamples=40, threshold=0.3)
RUN = EvaluatedRun(
    created_utc="2026-03-01T10:00:00+00:00",
    marrowscope_version="0",
    bundle={"name": "fake <bundle>", "version": "1", "sha256": "ab" * 32},
    backend="none",
    device="none",
    precision="f32",
    input_sha256="01" * 32,
    config_sha256="ef" * 32,
)


def assessed(truth: float, number: int) -> dict[str, Any]:
    """Make up what a run with error rates and a threshold says of a patient; every fifth one gets no call."""
    lower, upper = max(0.0, truth - 0.1), min(1.0, truth + 0.1)
    call = "no_call" if number % 5 == 4 else "above" if truth > 0.3 else "below"
    row = {"corrected_ratio": truth, "corrected_lower": lower, "corrected_upper": upper, "annotated_inside": True}
    return row | {"run_threshold": 0.3, "confidence_above": round(truth, 2), "call": call, "n_fields_unshared": 0}


def rows_of(
    center: str, names: list[str], seed: int, *, misses: bool = True, calls: bool = True
) -> tuple[list[dict[str, Any]], ...]:
    """Make up cells, detections and ratios of some patients."""
    generator = np.random.default_rng(seed)
    cells: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    ratios: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        place = {"patient_id": name, "center": center, "field_id": f"{name}/f"}
        for index in range(24):
            code = str(generator.choice(["N", "N5", "L2", "N0", "R2"]))
            facts = VOCABULARY.lookup(code)
            called = facts if generator.random() < 0.8 else VOCABULARY.lookup("N1")
            row = place | {"shape_index": index, "code": code, "category": VOCABULARY.category_index(code)}
            row |= {"cblc": facts.cblc, "countable": facts.countable, "normal_blast": code == "N0"}
            is_found = generator.random() < 0.9 if misses else False
            row |= {
                "cut": False,
                "network_contour": False,
                "exhaustive": True,
                "found": is_found,
                "found_before_rules": is_found,
            }
            if is_found:
                p = float(generator.uniform(0.5, 1) if called.cblc else generator.uniform(0, 0.5))
                row |= {"predicted_category": VOCABULARY.category_index(called.code), "iou": 0.9, "p_cblc": p}
                row |= {"predicted_cblc": int(called.cblc), "p_called": float(generator.uniform(0.4, 1))}
                hits = {"score": float(generator.random()), "outcomes": [1] * 8 + [0] * 2, "matched": True}
                found.append(place | hits | {"ignored": False, "network_contour": False, "exhaustive": True})
            cells.append(row)
        truth = float(generator.random())
        ratios.append(
            {
                "patient_id": name,
                "center": center,
                "diagnosis": "AML" if number % 2 else "MDS",
                "n_true_countable": 20,
                "n_true_cblc": round(20 * truth),
                "n_true_normal_blasts": 2,
                "true_ratio": truth,
                "true_ratio_with_normal": min(1.0, truth + 0.1),
                "n_predicted_countable": 20,
                "n_predicted_cblc": round(20 * truth),
                "predicted_ratio": min(1.0, truth * 1.1),
                "run_ratio": min(1.0, truth * 1.1),
            }
            | (assessed(truth, number) if calls else {})
        )
    return cells, found, ratios


def write(folder: Path, centers: dict[str, list[str]], config: EvaluateConfig = CONFIG, **options: bool) -> Path:
    """Write an evaluation of made-up patients by center, and its page; gives index.html."""
    parts = [rows_of(center, names, seed, **options) for seed, (center, names) in enumerate(centers.items())]
    cells, found, ratios = ([row for part in column for row in part] for column in zip(*parts, strict=True))
    expert = pl.DataFrame(cells, schema=EXPERT_COLUMNS)
    detections = pl.DataFrame(found, schema=DETECTION_COLUMNS)
    frame = pl.DataFrame(ratios, schema=RATIO_COLUMNS)
    groups = [(name, pl.col("center") == name) for name in centers]
    if len(centers) > 1:
        groups.append((ALL_CENTERS, pl.lit(value=True)))
    scores = tuple(
        score_center(
            name,
            expert.filter(here),
            detections.filter(here),
            frame.filter(here),
            VOCABULARY.categories,
            config=config,
        )
        for name, here in groups
    )
    linked = LinkedCells(expert, detections, frame, n_fields_only_in_run=2, n_fields_only_in_cohort=0)
    across = across_centers(scores[: len(centers)], frame, config)
    counted = flows(
        linked,
        config,
        n_patients=len(frame) + 2,
        n_rejected_patients={"patient_without_images": 2},
        n_contours=len(detections) + 3,
        n_rejected_contours={"edge": 3, "min_area": 0},
    )
    write_evaluation(Evaluation(scores, linked, config, VOCABULARY.categories, RUN, across, counted), folder)
    return write_evaluation_page(folder)


class Page(HTMLParser):
    """Collects tags, ids, texts and what a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and what it names, leads to or says."""
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values[key] or "" for key in ("src", "href") if key in values]
        if tag == "svg" and values.get("aria-hidden") != "true":
            self.labels.append(values.get("aria-label") or "")

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.words.append(data)


TWO_CENTERS = {"A": [f"A{k}" for k in range(6)], "B <b>|": ["007", "B2"]}


def test_page_stands_alone_and_every_figure_is_said_in_words(tmp_path: Path) -> None:
    text = write(tmp_path / "m", TWO_CENTERS).read_text(encoding="utf-8")
    page = Page(text)
    assert "default-src 'none'" in text
    assert "http" not in re.sub(r'xmlns="http://www.w3.org/2000/svg"|http-equiv', "", text)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert "script" not in page.tags
    assert len(page.labels) == 3 * len(evaluation_page._DRAWINGS) + 4  # four flows
    assert all(len(label) > 40 for label in page.labels)
    assert "For research use only" in text


def test_text_of_users_is_escaped_and_patient_names_stay(tmp_path: Path) -> None:
    page = Page(write(tmp_path / "m", TWO_CENTERS).read_text(encoding="utf-8"))
    assert "b" not in [tag for tag in page.tags if tag == "bundle"]
    assert "B <b>|" in page.words
    assert "007" in page.words  # never read as the number 7
    assert any("fake <bundle>" in words for words in page.words)


def test_every_figure_stands_with_value_interval_and_n(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": ["A1", "A2", "A3"]}).read_text(encoding="utf-8")
    document = json.loads((tmp_path / "m" / "metrics.json").read_text(encoding="utf-8"))
    (center,) = document["centers"]
    words = " ".join(" ".join(Page(text).words).split()).split("Figure Value 95% interval")[1]
    for figure in center["figures"]:
        row = re.search(rf"{re.escape(figure['name'])} (.*?){figure['n']} (cell|patient|detection)", words)
        assert row, figure["name"]
        expected = "not defined" if figure["value"] is None else f"{figure['value']:.3f}"
        assert expected in row[1]
        if figure["lower"] is not None:
            assert f"{figure['lower']:.3f} to {figure['upper']:.3f}" in row[1]
    assert "2 fields of the run without annotation" in text
    assert "fewer than five patients" in text


def test_figures_are_svg_files_that_parse_and_are_safe_to_name(tmp_path: Path) -> None:
    write(tmp_path / "m", TWO_CENTERS)
    files = sorted((tmp_path / "m" / "figures").rglob("*.svg"))
    assert len(files) == 3 * 9 + 4
    for path in files:
        root = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own text
        assert root.attrib["aria-label"]
        assert re.fullmatch(r"[A-Za-z0-9_-]+", path.parent.name)


@pytest.mark.parametrize("names", [["A1"], ["A1", "A2"]])
def test_one_patient_and_one_center_have_a_page(tmp_path: Path, names: list[str]) -> None:
    text = write(tmp_path / "m", {"A": names}).read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    recall = re.search(r"detection recall\s.*?</tr>", text, flags=re.DOTALL)
    assert recall
    assert ("no interval" in recall[0]) == (len(names) == 1)
    assert "all centers" not in Page(text).words
    label = next(label for label in Page(text).labels if label.startswith("Bland-Altman"))
    assert ("upper limit" in label) == (len(names) == 2)


def test_no_matched_cell_leaves_out_what_cannot_be_drawn_and_says_so(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": ["A1", "A2"]}, misses=False).read_text(encoding="utf-8")
    assert "Not drawn, because there are no data: Reliability" in text
    assert "not defined: no cells to measure" in text


def test_normal_blasts_are_repeated_where_there_are_any(tmp_path: Path) -> None:
    words = Page(write(tmp_path / "m", {"A": ["A1", "A2"]}).read_text(encoding="utf-8")).words
    assert any(COUNTED_WITH_NORMAL.title in word for word in words)
    assert not any("No N0 or M0 here" in word for word in words)


def test_repeats_of_equal_figures_are_one_line() -> None:
    first = FigureRecord(
        key="patient_ratio_mae",
        name="",
        value=0.1,
        lower=None,
        upper=None,
        all_negative=None,
        n=2,
        unit="patients",
        n_patients=2,
        marks="",
        interval="",
        group="",
        note="",
        warning=None,
        undefined="",
        same_as="",
    )
    again = {"key": f"patient_ratio_mae{COUNTED_WITH_NORMAL.key}"}
    same = first.model_copy(update=again | {"same_as": first.key})
    (group,) = evaluation_page._groups([first, same])
    assert (group.title, group.figures, group.has_repetitions) == ("CBLC ratio, patient by patient", (first,), True)
    # The words of a note decide nothing.
    other = first.model_copy(update=again | {"note": "no such cell: the same figure"})
    (group,) = evaluation_page._groups([first, other])
    assert (group.figures, group.has_repetitions) == ((first, other), False)


def test_warning_is_a_sentence_once(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": ["A1", "A2"], "B": ["B1"]}).read_text(encoding="utf-8")
    words = "AML against other diagnoses is confounded by center: B (no AML); a difference between centers alone"
    assert text.count(words) == 1
    assert "! confounded by center" in text


def test_anchors_are_safe_and_tell_centers_apart() -> None:
    found = anchors(["A-1", "../x", "..-x", "Ärzte", "", "a b", "case", "CASE", "nul"])
    assert found["A-1"] == "center-A-1"
    assert len({anchor.casefold() for anchor in found.values()}) == len(found)
    assert all(re.fullmatch(r"center-[A-Za-z0-9_-]+", anchor) for anchor in found.values())


def test_labels_of_close_lines_do_not_touch() -> None:
    moved = evaluation_ratio_figures._apart([100.0, 101.0, 102.0], 16)
    assert moved == [85, 101, 117]
    assert evaluation_ratio_figures._apart([10.0, 50.0, 90.0], 16) == [10, 50, 90]
    assert evaluation_ratio_figures._apart([10.0], 16) == [10]


def test_confusion_names_its_worst_errors_and_its_misses(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": ["A1", "A2", "A3"]}).read_text(encoding="utf-8")
    label = next(label for label in Page(text).labels if label.startswith("Confusion"))
    assert re.search(r"\d+ of 72 expert cells with the expert's category", label)
    assert "missed" in label


def table_rows(text: str, caption: str) -> list[list[str]]:
    """Give the words of each row of the first table after ``caption``."""
    table = text.split(caption, 1)[1].split("</table>", 1)[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in table.split("<tr")[1:]]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in cells]


def test_calls_stand_by_diagnosis_as_they_are_in_the_table(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": [f"A{k}" for k in range(10)]}).read_text(encoding="utf-8")
    head, *rows = table_rows(text, "Calls by diagnosis")
    assert head[:7] == ["Diagnosis", "patients", "above", "below", "indeterminate", "no call", "withheld"]
    assert [row[0] for row in rows] == ["AML", "all AML", "MDS", "all other"]
    written = pl.read_csv(tmp_path / "m" / "calls.csv")
    for row, truth in zip(rows, written.iter_rows(named=True), strict=True):
        assert row[2:7] == [str(truth[f"n_{name}"]) for name in CALLS]
        assert row[7:9] == [f"{truth['n_right']} of {truth['n_decided']}", truth["measure"]]
        assert row[9].startswith(f"{truth['right']:.3f}")
    assert written["n_no_call"].sum() > 0


def test_corrected_ratio_interval_and_call_stand_in_the_row_of_a_patient(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": ["A1", "A2"]}).read_text(encoding="utf-8")
    first = pl.read_csv(tmp_path / "m" / "patients.csv").row(0, named=True)
    row = next(row for row in table_rows(text, "the largest difference first") if row[0] == first["patient_id"])
    shown = [f"{100 * first[f'corrected_{name}']:.1f}" for name in ("ratio", "lower", "upper")]
    assert re.findall(r"[0-9.]+", row[-3]) == shown
    assert row[-2:] == ["yes", first["call"]]


def test_corrected_error_has_a_column_over_the_centers(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": ["A1", "A2"]}).read_text(encoding="utf-8")
    head, row, *_ = table_rows(text, "Main figures of every center")
    titles = [title[0].upper() + title[1:] for title in PAGE_FIGURES.values()]
    assert [any(words.startswith(title) for words in head) for title in titles] == [True] * len(titles)
    assert row[1 + titles.index("Corrected MAE")].startswith("0.000")  # made up without an error


def test_curve_of_risk_ends_with_everyone_and_says_so_in_words(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": [f"A{k}" for k in range(12)]}).read_text(encoding="utf-8")
    last = pl.read_csv(tmp_path / "m" / "risk_coverage.csv").sort("n").row(-1, named=True)
    label = next(label for label in Page(text).labels if label.startswith("Risk-coverage curve at A"))
    assert f"12 of 12 decided, certainty {last['certainty']:.3f} or more: {last['n_wrong']} wrong" in label
    root = ET.fromstring((tmp_path / "m/figures/center-A/risk_coverage.svg").read_text(encoding="utf-8"))  # noqa: S314 - our own text
    assert len(root.findall(".//{*}circle")) == len(pl.read_csv(tmp_path / "m" / "risk_coverage.csv"))


def test_run_without_corrected_ratios_and_calls_has_a_page_that_says_so(tmp_path: Path) -> None:
    text = write(tmp_path / "m", {"A": ["A1", "A2", "A3"]}, calls=False).read_text(encoding="utf-8")
    for title in (title for key, (title, _) in CALL_FIGURES.items() if key != "decision_curve"):
        assert title in text.split("Not drawn, because there are no data:")[1].split("</p>")[0]
    assert "The run has no calls, because its bundle states no threshold, or no error rates that hold here." in text
    assert text.count("not defined: no corrected ratio: the run&#39;s bundle has no error rates") >= 5
    assert "Corrected MAE" not in text
    row = next(row for row in table_rows(text, "the largest difference first") if row[0] == "A1")
    assert row[-3] == "none"
    assert set(row[-2:]) == {DASH}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, "found no metrics.json, expected an evaluation folder"),
        ("metrics.json", "{", "cannot be read as JSON"),
        ("metrics.json", '{"schema_version": 9}', "found schema version 9, expected 3; run `marrowscope evaluate`"),
        ("metrics.json", '{"schema_version": 2}', "found schema version 2, expected 3; run `marrowscope evaluate`"),
        ("metrics.json", '{"schema_version": 3}', r"found \d+ faults, the first in run \(expected a value\)"),
        ("patients.csv", None, "cannot be read as a table with patient_id"),
        ("confusion.csv", "a,b\n1,2\n", "cannot be read as a table with center"),
        ("calls.csv", None, "cannot be read as a table with center, group, diagnosis"),
        ("risk_coverage.csv", None, "cannot be read as a table with center, n, n_patients, coverage"),
        (
            "roc.csv",
            "center,curve,false_positive_rate,true_positive_rate,threshold\nA,x,0.1,,0.5\n",
            "found a row without true_positive_rate, expected one in each",
        ),
        (
            "normal_blasts.csv",
            "center,diagnosis,n_patients,n_cells,n_N0,n_found,n_called_cblc\nA,AML,1,2,,3,4\n",
            "found a row without n_N0, expected one in each",
        ),
        (
            "reliability.csv",
            "center,head,bin,n,mean_probability,share,share_lower,share_upper\nA,cblc,0,9,0.5,,,\n",
            "found a row without share, expected one in each",
        ),
        (
            "reliability.csv",
            "center,head,bin,n,mean_probability,share,share_lower,share_upper\nA,cblc,0,9,0.5,0.4,0.1,\n",
            "found one limit of an interval of share without the other, expected both or none",
        ),
        ("normal_blasts.csv", None, "cannot be read as a table"),
        (
            "normal_blasts.csv",
            "center,diagnosis,n_patients,n_cells,n_N0,n_found,n_called_cblc\nA,AML,1,2,one,3,4\n",
            "found a column 'n_N0' of String, expected center, .* and whole numbers in n_<code>",
        ),
        (
            "normal_blasts.csv",
            "center,diagnosis,n_patients,n_cells,note,n_found,n_called_cblc\nA,AML,1,2,5,3,4\n",
            "found a column 'note' of Int64, expected center, .* and whole numbers in n_<code>",
        ),
    ],
)
def test_broken_evaluation_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    write(tmp_path / "m", {"A": ["A1"]})
    if content is None:
        (tmp_path / "m" / name).unlink()
    else:
        (tmp_path / "m" / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        write_evaluation_page(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "detection_recal"}, "'detection_recal' is not a key of the catalog"),
        ({"warning": {"key": "rain", "text": "wet"}}, "'rain' is not a key of the catalog"),
        ({"value": "high"}, "expected a number"),
        ({"titel": "recall"}, "expected no key of this name"),
        ({"key": "ap50"}, "A lacks the main figures detection_recall"),
    ],
)
def test_figure_that_no_evaluation_writes_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path / "m", {"A": ["A1"]})
    path = tmp_path / "m" / "metrics.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    figures = document["centers"][0]["figures"]
    next(figure for figure in figures if figure["key"] == "detection_recall").update(change)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        write_evaluation_page(tmp_path / "m")


def test_curves_of_the_page_are_those_that_are_written(tmp_path: Path) -> None:
    write(tmp_path / "m", {"A": ["A1", "A2", "A3"]})
    assert set(pl.read_csv(tmp_path / "m" / "roc.csv")["curve"]) == set(evaluation_cell_figures._CURVES)


def test_tables_have_the_columns_that_are_listed_and_come_back_as_written(tmp_path: Path) -> None:
    write(tmp_path / "m", {"A": ["001", "A2"]})
    found = read_tables(tmp_path / "m")
    assert set(found) == set(WRITTEN_TABLES)
    assert found["patients.csv"].schema == pl.Schema(RATIO_COLUMNS)
    assert found["patients.csv"]["patient_id"].to_list() == ["001", "A2"]
    assert normal_codes(found["normal_blasts.csv"]) == ["M0", "N0"]
    for name, columns in WRITTEN_TABLES.items():
        assert set(columns) <= set(pl.read_csv(tmp_path / "m" / name).columns)
        if name != "normal_blasts.csv":
            assert list(columns) == pl.read_csv(tmp_path / "m" / name).columns


def test_five_centers_are_summarized_and_fewer_say_that_they_are_too_few(tmp_path: Path) -> None:
    names = {f"Center {number}": [f"{number}-{k}" for k in range(6)] for number in range(5)}
    text = write(tmp_path / "five", names).read_text(encoding="utf-8")
    section = text.split('id="across"')[1].split("</section>")[0]
    assert "Hartung, Knapp, Sidik and Jonkman" in section
    assert re.search(r"patient ratio MAE</th><td class=\"n\">5</td>\s*<td class=\"n\">0\.\d{3}</td>", section)
    document = json.loads((tmp_path / "five" / "metrics.json").read_text(encoding="utf-8"))
    mae = next(row for row in document["across_centers"] if row["key"] == "patient_ratio_mae")
    assert mae["prediction_lower"] < mae["mean_lower"] < mae["mean"] < mae["mean_upper"] < mae["prediction_upper"]
    table = read_tables(tmp_path / "five")["across_centers.csv"].filter(key="patient_ratio_mae")
    assert table["mean"].to_list() == [pytest.approx(mae["mean"])]
    assert "## Centers as a sample of centers" in (tmp_path / "five" / "metrics.md").read_text(encoding="utf-8")
    few = write(tmp_path / "two", dict(list(names.items())[:2])).read_text(encoding="utf-8")
    assert "2 centers of 2 with a value and a variance, at least 5 needed" in few
    assert 'id="across"' not in write(tmp_path / "one", {"Center 1": ["P1"]}).read_text(encoding="utf-8")


def test_subgroups_and_the_decision_curve_are_on_the_page_and_in_every_file(tmp_path: Path) -> None:
    text = write(tmp_path, {"Center 1": [f"P{k}" for k in range(12)]}).read_text(encoding="utf-8")
    _, *rows = table_rows(text, "Subgroups: ratio error, coverage and AUC")
    assert [row[0] for row in rows] == ["diagnosis: AML", "diagnosis: MDS"]
    assert len(list((tmp_path / "figures").glob("*/decision_curve.svg"))) == 1
    tables = read_tables(tmp_path)
    everyone = tables["decision_curve.csv"].filter(rule="everyone", risk=0.5)
    assert everyone["net_benefit"].to_list() == [0.0]
    center = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["centers"][0]
    assert len(center["decision_curve"]) == 5 * 19
    assert [item["value"] for item in center["subgroups"]] == ["AML", "MDS"]
    written = (tmp_path / "metrics.md").read_text(encoding="utf-8")
    assert "| diagnosis: AML | 6 |" in written
    assert "| everyone | 12 |" in written


def test_table_1_and_the_flows_say_who_was_measured(tmp_path: Path) -> None:
    text = write(tmp_path, TWO_CENTERS).read_text(encoding="utf-8")
    head, *rows = table_rows(text, "Table 1.")
    assert [html.unescape(name) for name in head[1:]] == [*sorted(TWO_CENTERS), ALL_CENTERS]
    table = {row[0]: row[1:] for row in rows}
    n = [len(TWO_CENTERS[name]) for name in sorted(TWO_CENTERS)]
    assert table["patients"] == [str(number) for number in (*n, sum(n))]
    assert all(re.fullmatch(r"\d+ \(\d+%\)", cell) for cell in table["diagnosis: AML"])
    assert re.fullmatch(r"[\d.]+ \([\d.]+ to [\d.]+\)", table["annotated CBLC ratio"][-1])
    section = text.split("Flow of patients and cells")[1].split("</details>")[0]
    assert f"{sum(n) + 2} rows of patients.csv" in section
    assert "patient without images: 2" in section
    assert "min area" not in section
    files = sorted(path.name for path in (tmp_path / "figures").glob("flow_*.svg"))
    assert files == [f"flow_{key}.svg" for key in ("contours", "expert_cells", "patients_aml", "patients_ratio")]
    for name in files:
        ET.fromstring((tmp_path / "figures" / name).read_text(encoding="utf-8"))  # noqa: S314 - our own text
    assert read_tables(tmp_path)["table1.csv"].filter(name="patients")["n"].to_list() == [*n, sum(n)]
