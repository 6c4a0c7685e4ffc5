"""The differential of nucleated cells: shares with intervals, lineage totals, M:E, and the myeloid blast estimate.

The denominator is every cell that counts in a nucleated differential (``ndc`` of the vocabulary); it differs from the
ratio's denominator by promegakaryocytes. Where the bundle predicts plasma cells, they are listed apart from the rest of
their category. A prediction gives (category, CBLC, countable) calls, not raw codes. If a call includes codes of both
kinds, its cells count as nucleated, and the blast estimate becomes a range. M:E and adequacy are reported for marrow of
any age, reference ranges only for adult marrow.

Blood has another denominator, the leukocytes: erythroid cells are left out of it and given per 100 leukocytes.

Intervals cover only sampling error (``clusters.share_interval`` with a design effect per share), not the errors of the
classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.statistics.clusters import design_effect, share_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from marrowscope.records import Interval, Patient
    from marrowscope.vocabulary import ReferenceRange, ReferenceRanges, Vocabulary

OTHER = "Other"
PLASMA_PART, REST_PART = "plasma", "other_without_plasma"
"""Keys of the two parts of Other."""
_MYELOID_LINEAGES, _ERYTHROID = ("granulocytic", "monocytic"), "erythroid"
_ME_ROW, _ERYTHROID_ROW = "M:E", "erythroid_total"
_LYMPHOID = "lymphoid"
_MARROW, _BLOOD = "marrow", "blood"
UNDER_300 = "under_300"
"""Adequacy of a marrow differential of fewer cells than any should have; no call is made beside it."""
_CONDITIONS = {
    "apl": "apl",
    "acute promyelocytic leukemia": "apl",
    "acute promyelocytic leukaemia": "apl",
    "aml-m3": "apl",
    "aml m3": "apl",
    "急性早幼粒细胞白血病": "apl",
    "pel": "pure_erythroid_leukaemia",
    "pure erythroid leukemia": "pure_erythroid_leukaemia",
    "pure erythroid leukaemia": "pure_erythroid_leukaemia",
}
"""Stated diagnoses and subtypes, in lower case, that declare a condition of the vocabulary's ``who_blast_if``."""


BLAST_COLUMNS = (
    *("who_declared", "who_n_least", "who_n_most", "who_least", "who_most", "who_lower", "who_upper"),
    *("who_alt_least", "who_alt_most", "who_alt_lower", "who_alt_upper"),
)
"""Columns of the blast estimate, null where nobody knows how well the center's blasts are called."""
_APL = "apl"
MANY_PROMYELOCYTES = {"marrow": 0.10, "blood": 0.02}
"""Share of promyelocytes from which the estimate is given with and without them: our own rule, no classification's.

A promyelocytic leukemia that nobody has stated yet would otherwise show few blasts."""


@dataclass(frozen=True, slots=True)
class _Triple:
    """Facts of a called (category, cblc, countable): whether all, some or none of its codes have each.

    ``surely_alt`` and ``maybe_alt`` are the blasts with promyelocytes, or without them where the patient's are counted.
    """

    nucleated: bool
    surely_blast: bool
    maybe_blast: bool
    surely_alt: bool = False
    maybe_alt: bool = False


def category_lineages(vocabulary: Vocabulary) -> dict[str, str]:
    """Lineage of each category; ``other`` if its codes belong to several lineages."""
    found: dict[str, set[str]] = {category: set() for category in vocabulary.categories}
    for code in vocabulary.codes.values():
        found[code.category].add(code.lineage)
    return {category: next(iter(lineages)) if len(lineages) == 1 else "other" for category, lineages in found.items()}


def declared_condition(patient: Patient) -> str | None:
    """Return the condition for the blast estimate that the stated diagnosis or subtype declares, or None.

    What follows "with" is the genetics, as in "acute promyelocytic leukaemia with PML::RARA fusion" of WHO 2022.
    """
    stated = (patient.diagnosis, patient.extra.get("subtype"))
    names = (" ".join((text or "").casefold().replace("_", " ").split()).partition(" with ")[0] for text in stated)
    return next((_CONDITIONS[name] for name in names if name in _CONDITIONS), None)


def is_adult_marrow(patient: Patient) -> bool:
    """Whether adult marrow reference ranges apply: specimen and age group are stated as marrow and adult."""
    return patient.specimen.casefold() == "marrow" and (patient.age_group or "").casefold() == "adult"


def is_blood(patient: Patient) -> bool:
    """Whether the specimen is stated as blood."""
    return patient.specimen.casefold() == _BLOOD


def nucleated_differential(
    patient: Patient,
    kept: pl.DataFrame,
    vocabulary: Vocabulary,
    ranges: ReferenceRanges | None,
    correlation: float,
) -> dict[str, Any]:
    """Return the patient's columns of the differential.

    ``kept`` are the patient's kept cells, with ``field_id``, ``category``, ``is_cblc`` and ``is_countable``, and with
    ``is_plasma`` where the bundle predicts plasma cells;
    ``correlation`` is the intraclass correlation within fields, pooled over a cohort.
    """
    blood, marrow = is_blood(patient), patient.specimen.casefold() == _MARROW
    condition = declared_condition(patient)
    cells = _with_facts(kept, vocabulary, condition)
    nucleated = cells.filter("nucleated")
    leukocytes = nucleated.filter(pl.col("lineage") != _ERYTHROID)
    counted = leukocytes if blood else nucleated
    interval = _interval_of(counted, correlation)
    known = ranges if is_adult_marrow(patient) else None
    lineage = category_lineages(vocabulary)
    apart = {_ERYTHROID} if blood else set()
    order = sorted(vocabulary.categories, key=lambda category: category == OTHER)
    n_countable = int(cells["is_countable"].sum())
    rows = [
        _category_row((category, lineage[category]), pl.col("category") == category, cells, interval, n_countable)
        | _reference(_range_of_category(known, category, vocabulary))
        | (_NO_SHARE if lineage[category] in apart else {})
        for category in order
    ]
    n_erythroid = len(nucleated) - len(leukocytes)
    return {
        "n_nucleated": len(nucleated),
        "n_leukocytes": len(leukocytes) if blood else None,
        "nrbc_per_100": 100 * n_erythroid / len(leukocytes) if blood and len(leukocytes) else None,
        "cblc_by_category": _cblc_by_category(kept, vocabulary),
        "adequacy": _adequacy(len(nucleated)) if marrow else None,
        "differential": rows,
        "other_parts": _other_parts(cells, interval, n_countable, known, vocabulary),
        "lineages": [
            row | (_share_of_none("share") if row["lineage"] in apart else {})
            for row in _lineage_rows(nucleated, interval, lineage, known)
        ],
        "reference_source": known.source if known else None,
        **(_myeloid_to_erythroid(nucleated, correlation, known) if marrow else {}),
        **(
            _blast_estimate(counted, interval, condition, MANY_PROMYELOCYTES[_BLOOD if blood else _MARROW])
            if blood or marrow
            else dict.fromkeys(BLAST_COLUMNS)
        ),
        "lymphoid_share": float((counted["lineage"] == _LYMPHOID).mean()) if len(counted) else None,  # type: ignore[arg-type]
    }


def _category_row(
    named: tuple[str, str],
    condition: pl.Expr,
    cells: pl.DataFrame,
    interval: Callable[[pl.Expr], Interval],
    n_countable: int,
) -> dict[str, Any]:
    """Count the cells that meet ``condition``; ``named`` are the row's category and lineage."""
    found = cells.filter(condition)
    counted = int(found["is_countable"].sum())
    return {
        "category": named[0],
        "lineage": named[1],
        "n": len(found),
        "n_countable": counted,
        "share": counted / n_countable if n_countable else None,
        "n_nucleated": int(found["nucleated"].sum()),
        **_share(interval(condition), "share_nucleated"),
    }


def _other_parts(
    cells: pl.DataFrame,
    interval: Callable[[pl.Expr], Interval],
    n_countable: int,
    ranges: ReferenceRanges | None,
    vocabulary: Vocabulary,
) -> list[dict[str, Any]] | None:
    """Return a row of the plasma cells and one of the rest of Other; None where plasma cells are not predicted."""
    if "is_plasma" not in cells.columns or cells["is_plasma"].is_null().all():
        return None
    plasma = pl.col("is_plasma").fill_null(value=False)
    rest = (pl.col("category") == OTHER) & ~plasma
    of_plasma = None if ranges is None else _range_of_plasma(ranges, vocabulary)
    return [
        _category_row((PLASMA_PART, PLASMA_PART), plasma, cells, interval, n_countable) | _reference(of_plasma),
        _category_row((REST_PART, "other"), rest, cells, interval, n_countable) | _reference(None),
    ]


def _range_of_plasma(ranges: ReferenceRanges, vocabulary: Vocabulary) -> ReferenceRange | None:
    """Find the reference range of plasma cells: a row all of whose codes are theirs."""
    plasma = set(vocabulary.codes_where(plasma=True))
    return next((row for row in ranges.ranges.values() if row.unit == "percent" and set(row.codes) <= plasma), None)


def _with_facts(kept: pl.DataFrame, vocabulary: Vocabulary, condition: str | None) -> pl.DataFrame:
    """Add ``lineage`` and the facts of its call (``_Triple``) to every cell."""
    facts = _triple_facts(vocabulary, condition)
    lineage = category_lineages(vocabulary)
    keys = list(kept.select("category", "is_cblc", "is_countable").iter_rows())
    found = [facts.get(key, _Triple(nucleated=key[2], surely_blast=False, maybe_blast=False)) for key in keys]
    return kept.with_columns(
        pl.Series("lineage", [lineage[key[0]] for key in keys], dtype=pl.String()),
        *(
            pl.Series(name, [getattr(item, name) for item in found], dtype=pl.Boolean())
            for name in ("nucleated", "surely_blast", "maybe_blast", "surely_alt", "maybe_alt")
        ),
    )


def _triple_facts(vocabulary: Vocabulary, condition: str | None) -> Mapping[tuple[str, bool, bool], _Triple]:
    """Map each (category, cblc, countable) to what its codes have in common."""
    stated = {condition} - {None}
    codes: dict[tuple[str, bool, bool], list[tuple[bool, bool, bool]]] = {}
    for code in vocabulary.codes.values():
        blast, alt = (code.who_blast or code.who_blast_if in conditions for conditions in (stated, stated ^ {_APL}))
        codes.setdefault((code.category, code.cblc, code.countable), []).append((code.ndc, blast, alt))
    return {
        key: _Triple(
            nucleated=any(ndc for ndc, _, _ in facts),
            surely_blast=all(blast for _, blast, _ in facts),
            maybe_blast=any(blast for _, blast, _ in facts),
            surely_alt=all(alt for _, _, alt in facts),
            maybe_alt=any(alt for _, _, alt in facts),
        )
        for key, facts in codes.items()
    }


def _interval_of(nucleated: pl.DataFrame, correlation: float) -> Callable[[pl.Expr], Interval]:
    """Return a function from a condition on cells to the share of nucleated cells that meet it, with its interval."""

    def interval(condition: pl.Expr) -> Interval:
        # In field order; any other order changes the last bit of the sums in the design effect.
        grouped = nucleated.group_by("field_id", maintain_order=True)
        by_field = grouped.agg(condition.sum().alias("x"), pl.len().alias("n"))
        x, n = by_field["x"].to_numpy().astype(np.float64), by_field["n"].to_numpy().astype(np.float64)
        effect = float(design_effect(x, n, correlation)) if len(n) else 1.0
        return share_interval(float(x.sum()), float(n.sum()), effect)

    return interval


def _share_of_none(name: str) -> dict[str, float | None]:
    """Return the columns of a share that does not exist."""
    return {name: None, "lower": None, "upper": None}


_NO_SHARE = _share_of_none("share_nucleated")


def _share(interval: Interval, name: str = "share") -> dict[str, float | None]:
    """Return an interval's columns; null without cells."""
    if np.isnan(interval.estimate):
        return _share_of_none(name)
    return {name: interval.estimate, "lower": interval.lower, "upper": interval.upper}


def _reference(found: ReferenceRange | None) -> dict[str, float | str | None]:
    """Return a range's columns as shares (0-1), null without a range."""
    if found is None:
        return {"reference_low": None, "reference_high": None, "reference_mark": None}
    return {"reference_low": found.low / 100, "reference_high": found.high / 100, "reference_mark": found.mark}


def _range_of_category(ranges: ReferenceRanges | None, category: str, vocabulary: Vocabulary) -> ReferenceRange | None:
    """Find the reference range of a category: a row for one kind of cell that has the category's own codes.

    A row for several categories (monoblasts and promonocytes, 0%) applies to each only if its upper limit is 0, because
    each category's limit is then 0 too.
    """
    if ranges is None or category == OTHER:
        return None
    for row in ranges.ranges.values():
        categories = {vocabulary.codes[code].category for code in row.codes} - {OTHER}
        if row.unit == "percent" and category in categories and (len(categories) == 1 or row.high == 0):
            return row
    return None


def _lineage_rows(
    nucleated: pl.DataFrame,
    interval: Callable[[pl.Expr], Interval],
    lineage: Mapping[str, str],
    ranges: ReferenceRanges | None,
) -> list[dict[str, Any]]:
    """Return each lineage's total; only the erythroid and lymphoid reference ranges cover a whole lineage."""
    names: Sequence[str] = list(dict.fromkeys(sorted(lineage.values(), key=lambda name: name == "other")))
    whole = {_ERYTHROID: _ERYTHROID_ROW, _LYMPHOID: "L"}
    return [
        {
            "lineage": name,
            "n": int((nucleated["lineage"] == name).sum()),
            **_share(interval(pl.col("lineage") == name)),
            **_reference(ranges.ranges.get(whole.get(name, "")) if ranges else None),
        }
        for name in names
    ]


def _myeloid_to_erythroid(
    nucleated: pl.DataFrame, correlation: float, ranges: ReferenceRanges | None
) -> dict[str, Any]:
    """M:E = (granulocytic + monocytic) / erythroid over the named categories; limits come from the myeloid share.

    Cells of ``Other`` (basophils, plasma cells) count on neither side.
    """
    empty = dict.fromkeys(
        ("me_numerator", "me_denominator", "me_ratio", "me_lower", "me_upper", "me_reference_low", "me_reference_high")
    )
    is_myeloid, is_erythroid = pl.col("lineage").is_in(_MYELOID_LINEAGES), pl.col("lineage") == _ERYTHROID
    of_both = nucleated.filter(is_myeloid | is_erythroid)
    n_erythroid = int(of_both.select(is_erythroid.sum()).item())
    n_myeloid = len(of_both) - n_erythroid
    counts = {"me_numerator": n_myeloid, "me_denominator": n_erythroid}
    if n_erythroid == 0:
        return empty | counts
    share = _interval_of(of_both, correlation)(is_myeloid)
    row = ranges.ranges.get(_ME_ROW) if ranges else None
    return counts | {
        "me_ratio": n_myeloid / n_erythroid,
        "me_lower": share.lower / (1 - share.lower),
        "me_upper": share.upper / (1 - share.upper) if share.upper < 1 else None,
        "me_reference_low": row.low if row else None,
        "me_reference_high": row.high if row else None,
    }


def _blast_estimate(
    counted: pl.DataFrame,
    interval: Callable[[pl.Expr], Interval],
    condition: str | None,
    many_promyelocytes: float,
) -> dict[str, Any]:
    """Myeloid blasts over nucleated cells (leukocytes in blood), as a range from certain to possible blasts.

    From a share of ``many_promyelocytes`` on, ``who_alt`` is the same with the promyelocytes, or without them where the
    stated diagnosis counts them.
    """
    main, alt = (_blast_range(interval, name) for name in ("blast", "alt"))
    empty = len(counted) == 0
    promyelocytes = counted.select((pl.col("maybe_alt") != pl.col("maybe_blast")).mean()).item()
    shown = not empty and promyelocytes >= many_promyelocytes
    return {
        "who_declared": condition,
        "who_n_least": int(counted["surely_blast"].sum()),
        "who_n_most": int(counted["maybe_blast"].sum()),
        **{f"who_{end}": None if empty else value for end, value in main.items()},
        **{f"who_alt_{end}": value if shown else None for end, value in alt.items()},
    }


def _blast_range(interval: Callable[[pl.Expr], Interval], which: str) -> dict[str, float]:
    """Return the share of certain blasts and of possible ones, with the outer limits of both intervals."""
    least, most = interval(pl.col(f"surely_{which}")), interval(pl.col(f"maybe_{which}"))
    return {"least": least.estimate, "most": most.estimate, "lower": least.lower, "upper": most.upper}


def _cblc_by_category(kept: pl.DataFrame, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Count the cells called CBLC by category, Other last; a category without CBLC codes has no row."""
    codes: dict[str, list[str]] = {}
    for code in vocabulary.codes_where(cblc=True):
        codes.setdefault(vocabulary.codes[code].category, []).append(code)
    called = kept.filter(pl.col("is_cblc") & pl.col("is_countable"))["category"]
    order = sorted((name for name in vocabulary.categories if name in codes), key=lambda name: name == OTHER)
    return [{"category": name, "codes": codes[name], "n": int((called == name).sum())} for name in order]


def _adequacy(n_nucleated: int) -> str:
    """Adequacy of a marrow differential: 500 cells recommended, 300 the minimum (ICSH guideline, Lee 2008)."""
    if n_nucleated >= 500:  # noqa: PLR2004
        return "500_or_more"
    return "300_to_499" if n_nucleated >= 300 else UNDER_300  # noqa: PLR2004
