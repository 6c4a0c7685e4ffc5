"""What the two pages of a patient's PDF say, as plain values: sentences in one language, numbers, cells to show.

No typesetting and no pixels here: ``patient_document`` gives what ``templates/patient.typ`` prints, so that nothing a
user wrote is ever read as markup. Pictures are filled in by ``pdf.py``.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from marrowscope.report.palette import OTHER, category_color, lineage_color
from marrowscope.report.pdf_axes import blast_axis, ratio_axis, round_up
from marrowscope.report.verdict import CALL_SIGNS, verdict
from marrowscope.report.words import integer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from marrowscope.report.words import Words
    from marrowscope.runs import Manifest

TILE_MM, GAP_MM = 13.6, 1.5
TILES_PER_ROW, TILES_PER_GROUP, GROUPS_PER_ROW = 12, 3, 4
N_CERTAIN, N_LEAST_CERTAIN, N_NEAR_MISSES = 2 * TILES_PER_ROW, TILES_PER_ROW, TILES_PER_ROW
UNCERTAIN_BELOW = 0.7
"""A cell below this probability of its category, or called CBLC with less, is marked."""

TONES = {"above": "above", "below": "below"}
_LONGEST_WORD = 30
_ZERO_WIDTH_SPACE = "\u200b"
_PARAGRAPH = "page.footer"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cells of the galleries, rows of the cells table, each kind the most telling first."""

    certain: tuple[Mapping[str, Any], ...]
    least_certain: tuple[Mapping[str, Any], ...]
    near_misses: tuple[Mapping[str, Any], ...]
    by_category: Mapping[str, tuple[Mapping[str, Any], ...]]

    @property
    def every(self) -> tuple[Mapping[str, Any], ...]:
        """Every chosen cell once."""
        called = (*self.certain, *self.least_certain)
        cells = (*called, *self.near_misses, *(cell for group in self.by_category.values() for cell in group))
        return tuple({cell["cell_id"]: cell for cell in cells}.values())


def choose_cells(cells: pl.DataFrame, categories: Sequence[str]) -> Chosen:
    """Choose the cells to show: most and least certain CBLC, nearest to a call, most certain of each of ``categories``.

    Ties are broken by the cell's id, so that a page is the same each time it is made.
    """
    rows = [row for row in cells.iter_rows(named=True) if row["reject_reason"] is None]
    by_cblc = sorted(rows, key=lambda row: (-(row["p_cblc"] or 0.0), row["cell_id"]))
    by_category = sorted(rows, key=lambda row: (-certainty(row), row["cell_id"]))
    called = tuple(row for row in by_cblc if row["is_cblc"])
    return Chosen(
        certain=called[:N_CERTAIN],
        least_certain=called[N_CERTAIN:][-N_LEAST_CERTAIN:],
        near_misses=tuple(row for row in by_cblc if not row["is_cblc"])[:N_NEAR_MISSES],
        by_category={
            name: tuple(row for row in by_category if row["category"] == name)[:TILES_PER_GROUP] for name in categories
        },
    )


def certainty(cell: Mapping[str, Any]) -> float:
    """Probability of the cell's likeliest category, 0-1."""
    return max(cell["p_category"] or (0.0,))


def patient_document(
    row: Mapping[str, Any], chosen: Chosen, manifest: Manifest, words: Words, fonts: Sequence[str]
) -> dict[str, Any]:
    """Give everything that the template prints of a row of the patients table; ``path`` of each cell is its id."""
    said = verdict(row, words)
    lineage_of = {item["category"]: item["lineage"] for item in row["differential"] or ()}
    shown = lambda cell, key: _tile(cell, lineage_of, words, key)  # noqa: E731
    year, month, day = (int(part) for part in manifest.created_utc[:10].split("-"))
    return {
        "language": words.language.split("-")[0],
        "region": "CN" if words.strings.language == "zh" else None,
        "fonts": list(fonts),
        "date": {"year": year, "month": month, "day": day},
        "title": printable(plain(words.text("page.title_patient", patient=row["patient_id"]))),
        "patient": printable(row["patient_id"]),
        "heading": words.strings("pdf.heading"),
        "research_use": words.strings("research_use"),
        "footer": printable(
            f"{row['patient_id']} · {_bundle_name(manifest)} · marrowscope {manifest.marrowscope_version}"
        ),
        "facts": _facts(row, manifest, words),
        "ratio": _ratio(row, said, words),
        "call": {
            "tone": TONES.get(said.call, "neutral"),
            "sign": CALL_SIGNS.get(said.call, "–"),
            "sentence": plain(said.sentence),
            "lines": [plain(line) for line in said.details],
        },
        "scope": [words.strings("ratio.scope"), words.strings(_PARAGRAPH)],
        "demonstration": (
            f"{words.strings('page.demonstration')}. {words.strings('page.demonstration_more')}"
            if manifest.bundle.get("demonstration")
            else ""
        ),
        "accounting": {"title": words.strings("account.heading"), "rows": _accounting(row, words)},
        "flags": {
            "title": words.strings("flags.heading"),
            "none": words.strings("flags.none"),
            "sentences": [flag_sentence(flag, words) for flag in row["flags"] or ()],
        },
        "differential": _differential(row, words),
        "lineages": _lineages(row, words),
        "me": {"title": words.strings("differential.me"), "lines": _myeloid_to_erythroid(row, words)},
        "blast": _blasts(row, words),
        "tile_mm": TILE_MM,
        "gap_mm": GAP_MM,
        "tiles_per_row": TILES_PER_ROW,
        "tiles_per_group": TILES_PER_GROUP,
        "groups_per_row": GROUPS_PER_ROW,
        "no_image": words.strings("gallery.no_picture"),
        "no_cells": words.strings("none"),
        "galleries": [
            {
                "title": words.strings("pdf.certain"),
                "note": words.strings("pdf.shown", shown=len(chosen.certain), n=integer(row["n_cblc"])),
                "cells": [shown(cell, "p_cblc") for cell in chosen.certain],
            },
            *(
                {"title": words.strings("pdf.least_certain"), "note": words.strings("pdf.least_note"), "cells": cells}
                for cells in ([shown(cell, "p_cblc") for cell in chosen.least_certain],)
                if cells
            ),
            {
                "title": words.strings("gallery.near_heading"),
                "note": words.strings("pdf.near_note"),
                "cells": [shown(cell, "p_cblc") for cell in chosen.near_misses],
            },
        ],
        "categories": {
            "title": words.strings("gallery.heading"),
            "note": words.strings("pdf.categories_note"),
            "groups": [
                {
                    "code": printable(item["category"]),
                    "name": printable(words.category(item["category"])),
                    "n": integer(item["n"]),
                    "cells": [shown(cell, "category") for cell in chosen.by_category[item["category"]]],
                }
                for item in row["differential"] or ()
            ],
        },
        "gallery_note": words.strings("pdf.gallery_note", limit=f"{UNCERTAIN_BELOW:.2f}"),
        "excluded": {"title": words.strings("pdf.excluded"), "lines": _excluded(row, words)},
        "method": {"title": words.strings("method.heading"), "lines": _method(row, words)},
        "provenance": {"title": words.strings("provenance.heading"), "rows": _provenance(manifest, words)},
    }


def plain(text: str) -> str:
    """Give a text of the catalogue without its markup, its values as they were."""
    return Markup(text).striptags()


def printable(text: str | None) -> str:
    """Give a user's text on one line: control characters become spaces, long words may break every 30 characters."""
    kept = "".join(" " if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} else sign for sign in text or "")
    return re.sub(rf"\S{{{_LONGEST_WORD * 2 + 1},}}", _breakable, " ".join(kept.split(" ")).strip())


def _breakable(word: re.Match[str]) -> str:
    found = word.group()
    parts = [found[start : start + _LONGEST_WORD] for start in range(0, len(found), _LONGEST_WORD)]
    return _ZERO_WIDTH_SPACE.join(parts)


def percent_range(low: float, high: float) -> str:
    """Print a range of shares (0-1) as percentages, short for a table."""
    return f"{100 * low:.1f}–{100 * high:.1f}"  # noqa: RUF001


def flag_sentence(flag: Mapping[str, Any], words: Words) -> str:
    """Put a raised flag in words: its name, what was measured, the limit, and in how many fields."""
    name, value, limit = flag["flag"], flag["value"], flag["limit"]
    told = plain(words.text(f"flag.{name}")) if words.has(f"flag.{name}") else name.replace("_", " ")
    if value is not None and limit is not None:
        write = {"few_cells": lambda x: integer(round(x)), "members_disagree": lambda x: f"{x:.2f}"}.get(
            name, words.percent
        )
        told += f" ({plain(words.text('flags.measured', value=write(value), limit=write(limit)))})"
    if flag["n_fields"] is not None:
        told += f" {plain(words.text('flags.in_fields', fields=words.count('field', flag['n_fields'])))}"
    return told


def _facts(row: Mapping[str, Any], manifest: Manifest, words: Words) -> dict[str, Any]:
    age = words.name("age_group", row["age_group"].casefold()) if row["age_group"] else words.strings("none")
    return {
        "left": [
            [words.strings("patient.center"), printable(row["center"])],
            [words.strings("patient.diagnosis"), printable(row["diagnosis"])],
            [words.strings("patient.specimen"), printable(words.name("specimen", row["specimen"].casefold()))],
        ],
        "right": [
            [words.strings("patient.date"), manifest.created_utc[:10]],
            [words.strings("patient.bundle"), printable(_bundle_name(manifest))],
            [words.strings("patient.age_group"), printable(age)],
        ],
    }


def _ratio(row: Mapping[str, Any], said: Any, words: Words) -> dict[str, Any]:  # noqa: ANN401  Verdict
    lines = []
    if row["cblc_ratio"] is not None:
        counted = words.interval(said.counted.lower, said.counted.upper)
        if said.is_corrected:
            lines.append(plain(words.text("ratio.as_counted", p=words.percent(said.counted.share), interval=counted)))
        lines += [plain(remark) for remark in said.remarks]
        if not said.is_corrected:
            lines.append(words.strings("ratio.scope_wilson"))
        low, high = row["ratio_all_unclassified_not_cblc"], row["ratio_all_unclassified_cblc"]
        lines.append(plain(words.text("ratio.bounds", low=words.percent(low), high=words.percent(high))))
    else:
        lines += [plain(remark) for remark in said.remarks]
    return {
        "title": said.title,
        "value": said.figure,
        "interval": plain(said.interval) if said.interval is not None else "",
        "x_of_n": plain(words.text("ratio.x_of_n", x=integer(row["n_cblc"]), n=integer(row["n_countable"]))),
        "axis": ratio_axis(row, said, words),
        "lines": lines,
    }


def _accounting(row: Mapping[str, Any], words: Words) -> list[dict[str, Any]]:
    def line(key: str, n: int, indent: int = 0, *, strong: bool = False) -> dict[str, Any]:
        return {"label": words.strings(key), "n": integer(n), "indent": indent, "strong": strong}

    rejected = [
        {"label": words.name("reason", item["reason"]), "n": f"−{integer(item['n'])}", "indent": 1, "strong": False}  # noqa: RUF001
        for item in row["rejected"] or ()
        if item["n"]
    ]
    return [
        line("account.images", row["n_fields"]),
        line("account.failed", row["n_fields_failed"], 1),
        line("account.contours", row["n_contours"]),
        *rejected,
        line("account.cells", row["n_cells"], strong=True),
        line("account.not_countable", row["n_not_countable"], 1),
        line("account.countable", row["n_countable"], strong=True),
        line("account.cblc", row["n_cblc"], 1, strong=True),
    ]


def _share_row(
    item: Mapping[str, Any], share: float | None, n: int, code: str, name: str, color: str
) -> dict[str, Any]:
    low, high, mark = item["reference_low"], item["reference_high"], item["reference_mark"]
    reference = None if low is None or high is None else [low, high]
    interval = None if share is None else [item["lower"], item["upper"]]
    return {
        "code": printable(code),
        "name": printable(name),
        "color": color,
        "n": integer(n),
        "share": share,
        "interval": interval,
        "text": "–" if share is None else f"{_outside(share, interval, reference)}{100 * share:.1f}%",  # noqa: RUF001
        "interval_text": "" if interval is None else percent_range(*interval),
        "reference": reference,
        "reference_text": "" if reference is None else f"{percent_range(*reference)} {mark or ''}".strip(),
    }


def _outside(share: float, interval: Sequence[float] | None, reference: Sequence[float] | None) -> str:
    """Mark a share outside its reference range: filled where the whole interval is outside, hollow where not."""
    if interval is None or reference is None:
        return ""
    if share > reference[1]:
        return "▲ " if interval[0] > reference[1] else "△ "
    if share < reference[0]:
        return "▼ " if interval[1] < reference[0] else "▽ "
    return ""


def _bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the end of the bars' scale, that of the longest interval or reference range."""
    ends = [side[-1] for row in rows for side in (row["interval"], row["reference"]) if side is not None]
    end = round_up(max(ends, default=0.0))
    return {"max": end, "end": f"{100 * end:.0f}%"}


def _heads(words: Words, first: str, name: str) -> list[str]:
    keys = ("differential.cells", "differential.share", "differential.interval")
    return ["", first, name, *(words.strings(key) for key in keys), "", words.strings("differential.reference")]


def _differential(row: Mapping[str, Any], words: Words) -> dict[str, Any]:
    rows = [
        _share_row(
            item,
            item["share_nucleated"],
            item["n_nucleated"],
            item["category"],
            words.category(item["category"]),
            category_color(item["category"], item["lineage"]),
        )
        for item in row["differential"] or ()
    ]
    lines = []
    if row["reference_source"]:
        lines.append(words.strings("differential.marks"))
        lines.append(f"{words.strings('differential.source')} {printable(row['reference_source'])}")
    else:
        lines.append(words.strings("differential.no_reference"))
    denominators = {"n_countable": integer(row["n_countable"]), "n_nucleated": integer(row["n_nucleated"])}
    lines.append(plain(words.text("differential.denominators", **denominators)))
    return {
        "title": words.strings("differential.heading"),
        "note": plain(words.text("pdf.differential_note", cells=words.count("nucleated", row["n_nucleated"]))),
        "heads": _heads(words, words.strings("differential.code"), ""),
        "rows": rows,
        **_bars(rows),
        "lines": lines,
    }


def _lineages(row: Mapping[str, Any], words: Words) -> dict[str, Any]:
    rows = [
        _share_row(
            item, item["share"], item["n"], "", words.name("lineage", item["lineage"]), lineage_color(item["lineage"])
        )
        for item in row["lineages"] or ()
    ]
    return {"heads": [""] * 8, "rows": rows, **_bars(rows)}


def _myeloid_to_erythroid(row: Mapping[str, Any], words: Words) -> list[str]:
    lines = []
    if row["me_numerator"] is not None:
        counts = {"m": integer(row["me_numerator"]), "e": integer(row["me_denominator"])}
        formula = plain(words.text("differential.me_formula", **counts))
        if row["me_ratio"] is None:
            lines.append(f"{formula}: {words.strings('differential.me_none')}")
        else:
            limits = words.numbers(row["me_lower"], row["me_upper"])
            lines.append(f"{formula} = {row['me_ratio']:.1f} ({words.strings('differential.interval')}: {limits})")
        if row["me_reference_low"] is not None:
            reference = words.numbers(row["me_reference_low"], row["me_reference_high"])
            lines.append(f"{words.strings('differential.reference')}: {reference}")
    if row["adequacy"] is not None:
        adequacy = plain(words.text(f"differential.adequacy.{row['adequacy']}", n=integer(row["n_nucleated"])))
        lines.append(f"{words.strings('differential.adequacy')}: {adequacy}")
    return lines or [words.strings("differential.no_reference")]


def _blasts(row: Mapping[str, Any], words: Words) -> dict[str, Any]:
    title, note = words.strings("blasts.heading"), words.strings("blasts.marks")
    if row["who_least"] is None:
        return {"title": title, "axis": None, "lines": [words.strings("blasts.none")], "note": note}
    least, most = words.percent(row["who_least"]), words.percent(row["who_most"])
    key = "blasts.single" if least == most else "blasts.range"
    values = {"least": least} if least == most else {"least": least, "most": most}
    lead = {
        "n_least": integer(row["who_n_least"]),
        "n_most": integer(row["who_n_most"]),
        "interval": words.interval(row["who_lower"], row["who_upper"]),
    }
    lines = [plain(words.text(key, **values)), plain(words.text("blasts.lead", **lead)), words.strings("blasts.codes")]
    if row["who_declared"] and words.has(f"blasts.declared.{row['who_declared']}"):
        lines.append(words.strings(f"blasts.declared.{row['who_declared']}"))
    return {"title": title, "axis": blast_axis(row), "lines": lines, "note": note}


def _tile(cell: Mapping[str, Any], lineage_of: Mapping[str, str], words: Words, key: str) -> dict[str, Any]:
    category, p = cell["category"] or OTHER, certainty(cell)
    p_cblc = cell["p_cblc"] or 0.0
    uncertain = bool(cell["contradiction"]) or p < UNCERTAIN_BELOW or (cell["is_cblc"] and p_cblc < UNCERTAIN_BELOW)
    label = f"{category} {p_cblc if key == 'p_cblc' else p:.2f}"
    called = words.strings(
        "cell.is_cblc" if cell["is_cblc"] else "cell.is_countable" if cell["is_countable"] else "cell.not_countable"
    )
    told = {"category": category, "p": f"{p:.2f}", "p_cblc": f"{p_cblc:.2f}", "called": called}
    return {
        "path": cell["cell_id"],
        "label": printable(label + (" ?" if uncertain else "")),
        "mark": uncertain,
        "color": category_color(category, lineage_of.get(category, "other")),
        "alt": printable(plain(words.text("cell.called", **told))),
    }


def _excluded(row: Mapping[str, Any], words: Words) -> list[str]:
    """Say in sentences what stands in no percentage, and why."""
    parts = [
        f"{words.name('reason', item['reason'])} {integer(item['n'])}" for item in row["rejected"] or () if item["n"]
    ]
    lines = [
        words.strings(
            "pdf.excluded_contours", n=integer(row["n_rejected"]), reasons="; ".join(parts) or words.strings("none")
        ),
        words.strings("pdf.excluded_cells", n=integer(row["n_not_countable"])),
        words.strings("pdf.excluded_images", n=integer(row["n_fields_failed"]), total=integer(row["n_fields"])),
    ]
    if row["n_contradictions"]:
        lines.append(words.strings("pdf.contradictions", n=integer(row["n_contradictions"])))
    return lines


def _method(row: Mapping[str, Any], words: Words) -> list[str]:
    lines = [words.strings("method.cells")]
    if row["correction"] is not None:
        lines.append(plain(words.text("method.correction", method=row["correction"])))
    lines.append(words.strings("method.call"))
    return lines


def _provenance(manifest: Manifest, words: Words) -> list[list[str]]:
    bundle = manifest.bundle
    runtime = {"backend": manifest.backend, "device": manifest.device, "precision": manifest.precision}
    vocabulary = bundle.get("vocabulary") or {}
    rows = [
        [words.strings("provenance.predicted"), manifest.created_utc],
        [words.strings("provenance.runtime"), plain(words.text("provenance.runtime_on", **runtime))],
        [words.strings("provenance.bundle"), _bundle_name(manifest)],
        [words.strings("pdf.bundle_hash"), str(bundle.get("sha256", ""))],
        *(
            [f"{name}, SHA-256", str(value)]
            for name, value in sorted((bundle.get("files") or {}).items())
            if name.endswith(".onnx")
        ),
        [words.strings("pdf.vocabulary"), f"{vocabulary.get('name', '')} {vocabulary.get('version', '')}"],
        [words.strings("provenance.input"), manifest.input_sha256],
        [words.strings("provenance.config"), manifest.config_sha256],
        [
            words.strings("provenance.versions"),
            ", ".join(
                [f"marrowscope {manifest.marrowscope_version}", *(f"{k} {v}" for k, v in manifest.versions.items())]
            ),
        ],
    ]
    return [[printable(label), printable(value)] for label, value in rows if value.strip()]


def _bundle_name(manifest: Manifest) -> str:
    return " ".join(str(manifest.bundle.get(key, "")) for key in ("name", "version")).strip()
