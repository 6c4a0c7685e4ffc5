"""The content of the two pages of a patient's PDF, as plain values: sentences in one language, numbers, cells to show.

There is no typesetting here: ``patient_document`` returns what ``templates/patient.typ`` prints, so that nothing a user
wrote is ever read as markup. ``pdf.py`` fills in the pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marrowscope.report.depth_words import no_flags
from marrowscope.report.figures import PatientFigures, counted_cells, denominators, patient_figures
from marrowscope.report.flag_lines import FlagLine, flag_lines
from marrowscope.report.marks import UNCERTAIN_BELOW
from marrowscope.report.pdf_figures import (
    figure_part,
    quotient_part,
    reference_lines,
    scale_legend,
    scale_part,
    shares_part,
)
from marrowscope.report.pdf_gallery import GAP_MM, GROUPS_PER_ROW, TILE_MM, TILES_PER_GROUP, TILES_PER_ROW, Chosen, tile
from marrowscope.report.pdf_text import one_line, plain
from marrowscope.report.verdict import Verdict, is_out_of_depth, verdict
from marrowscope.report.words import integer
from marrowscope.runs.manifest import UsedVocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.report.shown_rows import ShownCell
    from marrowscope.report.words import Words
    from marrowscope.runs.manifest import Manifest
    from marrowscope.runs.schemas import PatientRow, RaisedFlag

_TONES = {"above": "above", "below": "below"}


def patient_document(
    row: PatientRow, chosen: Chosen, manifest: Manifest, words: Words, fonts: Sequence[str]
) -> dict[str, Any]:
    """Return everything the template prints for a row of the patients table; ``path`` of each cell is its id."""
    said = verdict(row, words)
    figures = patient_figures(row, said, words, {})
    year, month, day = (int(part) for part in manifest.created_utc[:10].split("-"))
    return {
        "language": words.language.split("-")[0],
        "region": "CN" if words.strings.language == "zh" else None,
        "fonts": list(fonts),
        "date": {"year": year, "month": month, "day": day},
        "title": one_line(plain(words.text("page.title_patient", patient=row.patient_id))),
        "patient": one_line(row.patient_id),
        "heading": words.strings("pdf.heading"),
        "research_use": words.strings("research_use"),
        "footer": one_line(f"{row.patient_id} · {manifest.bundle.label} · marrowscope {manifest.marrowscope_version}"),
        "facts": _facts(row, manifest, words),
        "ratio": _ratio(row, said, figures, words),
        "call": {
            "tone": _TONES.get(said.call, "neutral"),
            "sign": said.sign,
            "sentence": plain(said.sentence),
            "lines": [plain(line) for line in said.details],
        },
        "scope": [] if is_out_of_depth(row) else [plain(said.scope)],
        "demonstration": (
            [words.strings("page.demonstration"), words.strings("page.demonstration_more")]
            if manifest.bundle.demonstration
            else None
        ),
        "standing": _standing(said, words),
        "accounting": {"title": words.strings("account.heading"), "rows": _accounting(row, words)},
        "flags": {
            "title": words.strings("flags.heading"),
            "none": no_flags(row, words),
            "sentences": flag_sentences(row, words),
        },
        "differential": shares_part(figures.categories, words)
        | {
            "note": plain(
                words.text(
                    "pdf.counts_note" if is_out_of_depth(row) else "pdf.differential_note",
                    cells=counted_cells(row, words),
                )
            ),
            "lines": [plain(note) for note in figures.learned_notes] + reference_lines(figures),
        },
        "lineages": shares_part(figures.lineages, words),
        "me": quotient_part(figures, words),
        "further": [figure_part(figure) for figure in figures.further],
        "tile_mm": TILE_MM,
        "gap_mm": GAP_MM,
        "tiles_per_row": TILES_PER_ROW,
        "tiles_per_group": TILES_PER_GROUP,
        "groups_per_row": GROUPS_PER_ROW,
        "no_image": words.strings("gallery.no_picture"),
        "no_cells": words.strings("none"),
        **_galleries(row, chosen, words),
        "gallery_note": words.strings("pdf.gallery_note", limit=f"{UNCERTAIN_BELOW:.2f}"),
        "excluded": {"title": words.strings("pdf.excluded"), "lines": _excluded(row, words)},
        "method": {"title": words.strings("method.heading"), "lines": _method(row, words)},
        "provenance": {"title": words.strings("provenance.heading"), "rows": _provenance(manifest, words)},
    }


def _galleries(row: PatientRow, chosen: Chosen, words: Words) -> dict[str, Any]:
    lineage_of = {item.category: item.lineage for item in row.differential or ()}

    def tiles(cells: Sequence[ShownCell], key: str) -> list[dict[str, Any]]:
        return [tile(cell, lineage_of, words, key) for cell in cells]

    n_shown = len(chosen.certain) + len(chosen.least_certain)
    shown = words.strings("pdf.shown_uncounted")
    if not is_out_of_depth(row) and row.n_cblc is not None:
        shown = words.strings("pdf.shown", shown=n_shown, n=integer(row.n_cblc))
    parts = [
        (words.strings("pdf.certain"), shown, chosen.certain),
        (words.strings("pdf.least_certain"), words.strings("pdf.least_note"), chosen.least_certain),
        (words.strings("gallery.near_heading"), words.strings("pdf.near_note"), chosen.near_misses),
    ]
    groups = [
        {
            "code": one_line(words.code(item.category)),
            "name": one_line(words.category(item.category)),
            "n": integer(item.n),
            "cells": tiles(chosen.by_category[item.category], "category"),
        }
        for item in row.differential or ()
    ]
    return {
        "galleries": [
            {"title": title, "note": note, "cells": tiles(cells, "p_cblc")}
            for title, note, cells in parts
            if cells or cells is not chosen.least_certain
        ],
        "categories": {
            "title": words.strings("gallery.heading"),
            "note": words.strings("pdf.categories_note"),
            "groups": groups,
        },
    }


def flag_sentences(row: PatientRow, words: Words) -> list[str]:
    """Put each flag of a patient in one line: its name, the measured value, the limit, and the number of fields."""
    return [
        _flag_sentence(flag, line, words)
        for flag, line in zip(row.flags or (), flag_lines(row, (), words), strict=True)
    ]


def _flag_sentence(flag: RaisedFlag, line: FlagLine, words: Words) -> str:
    told = f"{line.name} ({plain(line.measured)})" if line.measured else line.name
    if flag.n_fields is None:
        return told
    return f"{told} {plain(words.text('flags.in_fields', fields=words.count('field', flag.n_fields)))}"


def _facts(row: PatientRow, manifest: Manifest, words: Words) -> dict[str, Any]:
    return {
        "left": [
            [words.strings("patient.center"), one_line(words.stated("center", row.center))],
            [words.strings("patient.diagnosis"), one_line(words.stated("diagnosis", row.diagnosis))],
            [words.strings("patient.specimen"), one_line(words.stated("specimen", row.specimen))],
        ],
        "right": [
            [words.strings("patient.date"), manifest.created_utc[:10]],
            [words.strings("patient.bundle"), one_line(manifest.bundle.label)],
            [words.strings("patient.age_group"), one_line(words.stated("age_group", row.age_group))],
            [words.strings("patient.sex"), one_line(words.stated("sex", row.sex))],
        ],
    }


def _standing(said: Verdict, words: Words) -> dict[str, str] | None:
    if said.standing is None:
        return None
    return {"head": words.strings("state.lead"), "text": plain(said.standing)}


def _ratio(row: PatientRow, said: Verdict, figures: PatientFigures, words: Words) -> dict[str, Any]:
    lines = scale_legend(figures.ratio, words)
    if row.cblc_ratio is not None:
        counted = words.interval(said.counted.lower, said.counted.upper)
        if said.is_corrected:
            lines.append(plain(words.text("ratio.as_counted", p=words.percent(said.counted.share), interval=counted)))
        lines += [plain(remark) for remark in said.remarks]
        if not said.is_corrected:
            lines.append(words.strings("ratio.scope_wilson"))
        low, high = row.ratio_all_unclassified_not_cblc, row.ratio_all_unclassified_cblc
        if row.n_not_countable:
            lines.append(plain(words.text("ratio.bounds", low=words.percent(low), high=words.percent(high))))
    else:
        lines += [plain(remark) for remark in said.remarks]
    if said.composition is not None:
        lines.insert(0, plain(said.composition))
    return {
        "title": said.title,
        "value": said.figure,
        "interval": plain(said.interval) if said.interval is not None else "",
        "x_of_n": (
            ""
            if is_out_of_depth(row) or row.n_cblc is None
            else plain(words.text("ratio.x_of_n", x=integer(row.n_cblc), n=integer(row.n_countable)))
        ),
        "axis": None if figures.ratio is None else scale_part(figures.ratio),
        "lines": lines,
    }


def _accounting(row: PatientRow, words: Words) -> list[dict[str, Any]]:
    def line(key: str, n: int, indent: int = 0, *, strong: bool = False) -> dict[str, Any]:
        return {"label": words.strings(key), "n": integer(n), "indent": indent, "strong": strong}

    rejected = [
        {"label": words.name("reason", item.reason), "n": f"−{integer(item.n)}", "indent": 1, "strong": False}  # noqa: RUF001
        for item in row.rejected or ()
        if item.n
    ]
    return [
        line("account.images", row.n_fields),
        line("account.failed", row.n_fields_failed, 1),
        line("account.contours", row.n_contours),
        *rejected,
        line("account.cells", row.n_cells, strong=True),
        line("account.not_countable", row.n_not_countable, 1),
        line("account.countable", row.n_countable, strong=True),
        *([] if is_out_of_depth(row) or row.n_cblc is None else [line("account.cblc", row.n_cblc, 1, strong=True)]),
    ]


def _excluded(row: PatientRow, words: Words) -> list[str]:
    """Describe in sentences what is in no percentage, and why."""
    parts = [f"{words.name('reason', item.reason)} {integer(item.n)}" for item in row.rejected or () if item.n]
    lines = [
        words.strings(
            "pdf.excluded_contours",
            n=integer(row.n_rejected),
            reasons=words.strings("pdf.separator").join(parts) or words.strings("none"),
        ),
        words.strings("pdf.excluded_cells", n=integer(row.n_not_countable)),
        words.strings("pdf.excluded_images", n=integer(row.n_fields_failed), total=integer(row.n_fields)),
    ]
    if not is_out_of_depth(row):
        lines.append(plain(denominators(row, words)))
    if row.n_contradictions:
        lines.append(words.strings("pdf.contradictions", n=integer(row.n_contradictions)))
    return lines


def _method(row: PatientRow, words: Words) -> list[str]:
    lines = [words.strings("page.footer"), words.strings("method.cells")]
    if row.correction is not None:
        lines.append(plain(words.text("method.correction", method=words.name("correction", row.correction))))
    if row.threshold is not None:
        lines.append(words.strings("method.call"))
    return lines


def _provenance(manifest: Manifest, words: Words) -> list[list[str]]:
    bundle = manifest.bundle
    runtime = {"backend": manifest.backend, "device": manifest.device, "precision": manifest.precision}
    vocabulary = bundle.vocabulary or UsedVocabulary()
    rows = [
        [words.strings("provenance.predicted"), manifest.created_utc],
        [words.strings("provenance.runtime"), plain(words.text("provenance.runtime_on", **runtime))],
        [words.strings("provenance.bundle"), manifest.bundle.label],
        [words.strings("pdf.bundle_hash"), bundle.sha256],
        *([f"{name}, SHA-256", value] for name, value in sorted(bundle.files.items()) if name.endswith(".onnx")),
        [words.strings("pdf.vocabulary"), f"{vocabulary.name} {vocabulary.version}"],
        [words.strings("provenance.input"), manifest.input_sha256],
        [words.strings("provenance.config"), manifest.config_sha256],
        [
            words.strings("provenance.versions"),
            ", ".join(
                [f"marrowscope {manifest.marrowscope_version}", *(f"{k} {v}" for k, v in manifest.versions.items())]
            ),
        ],
    ]
    return [[one_line(label), one_line(value)] for label, value in rows if value.strip()]
