"""The words on the ratio and its call: which figure is shown large, why it is not corrected, the fixed wording.

The corrected ratio is the large figure, with the counted share next to it; without a correction, the counted share is.
A ratio whose interval is wider than half the scale is no figure at all: the interval stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.patient.lymphoid import is_many
from marrowscope.patient.quantify.threshold import CallRules
from marrowscope.records import MARROW, UNKNOWN
from marrowscope.report.depth_words import depth_words
from marrowscope.report.words import integer
from marrowscope.statistics.intervals import is_wide
from marrowscope.wording import decimals_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from marrowscope.report.words import Words
    from marrowscope.runs.schemas import PatientRow

CALL_SIGNS = {
    "above": "▲",
    "below": "▽",
    "indeterminate": "◇",
    "no_call": "\N{EN DASH}",
    "withheld": "\N{EN DASH}",
    "none": "\N{EN DASH}",
    "not_validated": "\N{EN DASH}",
    "out_of_depth": "\N{EN DASH}",
}
"""A sign next to the words, so that shape and not only color shows the call."""

_NO_CALLS = {"withheld", "none", "not_validated", "out_of_depth"}


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio and its limits (0-1); if there is none, ``share`` and the limits are None."""

    share: float | None
    lower: float | None
    upper: float | None

    @property
    def is_wide(self) -> bool:
        """Whether the interval is too wide for the share to be printed as a figure."""
        return is_wide(self.lower, self.upper)

    @property
    def headline(self) -> float | None:
        """The share where it may stand as a figure."""
        return None if self.is_wide else self.share


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ratio and the call of one patient, in words; ``remarks`` are sentences about how to read the figure."""

    state: str
    standing: Markup | None
    title: str
    figure: str
    interval: Markup | None
    is_corrected: bool
    shown: Ratio
    counted: Ratio
    remarks: tuple[Markup, ...]
    composition: Markup | None
    call: str
    sign: str
    sentence: Markup
    details: tuple[Markup, ...]
    scope: Markup
    threshold_band: tuple[float, float] | None
    threshold_note: Markup | None


def shown_ratio(row: PatientRow) -> Ratio:
    """Return the ratio shown for a patient: the corrected one, or the counted share if there is no correction."""
    if row.corrected_ratio is not None:
        return Ratio(row.corrected_ratio, row.corrected_lower, row.corrected_upper)
    return Ratio(row.cblc_ratio, row.cblc_ratio_lower, row.cblc_ratio_upper)


def call_of(row: PatientRow) -> str:
    """Return the call of a patient: its state where none may be made, ``none`` without a threshold."""
    return str(row.state) if is_unvalidated(row) else row.call or "none"


def verdict(row: PatientRow, words: Words) -> Verdict:
    """Put a row of the patients table in words."""
    shown, is_corrected = shown_ratio(row), row.corrected_ratio is not None
    title = "ratio.corrected" if is_corrected else "ratio.machine" if is_unvalidated(row) else "ratio.raw"
    return Verdict(
        state=row.state or "unknown",
        standing=standing_sentence(row, words),
        title=words.strings(title) if shown.share is not None else words.strings("ratio.heading"),
        figure=_figure(row, shown, words),
        interval=_interval(row, shown, words),
        is_corrected=is_corrected,
        shown=shown,
        counted=Ratio(row.cblc_ratio, row.cblc_ratio_lower, row.cblc_ratio_upper),
        remarks=tuple(remarks(row, words)),
        composition=composition(row, words),
        call=call_of(row),
        sign=CALL_SIGNS.get(call_of(row), "\N{EN DASH}"),
        sentence=call_sentence(row, words),
        details=tuple(_call_details(row, words)),
        scope=scope_sentence([row], words),
        threshold_band=threshold_band(row),
        threshold_note=_threshold_note(row, shown, words),
    )


def composition(row: PatientRow, words: Words) -> Markup | None:
    """Spell out what CBLC is and how many cells of each code were called one; None for an older run.

    Out of depth the counts are left out: their sum over the countable cells is the ratio that must not be made.
    """
    if row.cblc_by_category is None:
        return None
    is_hidden = is_out_of_depth(row)
    parts = " + ".join(
        "/".join(item.codes) + ("" if is_hidden or item.n is None else f" {integer(item.n)}")
        for item in row.cblc_by_category
    )
    return words.text("ratio.composition", parts=parts)


def is_unvalidated(row: PatientRow) -> bool:
    """Whether nothing but the machine's count may be printed; older runs state no standing and print what they have."""
    return row.state in {"not_validated", "out_of_depth"}


def is_out_of_depth(row: PatientRow) -> bool:
    """Whether nothing but counts by category may be printed."""
    return row.state == "out_of_depth"


def standing_sentence(row: PatientRow, words: Words) -> Markup | None:
    """Return what may be printed for a patient and why, in one sentence; None for a run of an older version."""
    if row.state_reason is None:
        return None
    patients = words.count("patient", row.center_n_reviewed or 0)
    known = {"patients": patients, "outside": integer(row.center_n_outside or 0)}
    known |= {"specimen": words.stated("specimen", row.specimen)}
    known |= {"measured": words.stated("specimen", row.center_specimen or MARROW)}
    return words.text(f"state.{row.state_reason}", **known, **depth_words(row, words))


def scope_sentence(rows: Sequence[PatientRow], words: Words) -> Markup:
    """Return what an interval of these patients does not describe: the marrow, the blood, or neither by name."""
    known = {row.specimen.strip().casefold() if row.has_specimen else UNKNOWN for row in rows}
    return words.text(f"ratio.scope.{known.pop() if len(known) == 1 else UNKNOWN}")


def threshold_band(row: PatientRow) -> tuple[float, float] | None:
    """Return the interval of the study threshold (0-1); None if the threshold was given, not learned, or is absent."""
    low, high = row.threshold_lower, row.threshold_upper
    return None if low is None or high is None or low == high else (low, high)


def _threshold_note(row: PatientRow, shown: Ratio, words: Words) -> Markup | None:
    """Return what is shaded on the ratio's scale, or why nothing is; None without a scale or a threshold."""
    if row.threshold is None or shown.share is None:
        return None
    band = threshold_band(row)
    if band is not None:
        return words.text("scale.threshold_band", interval=words.interval(*band))
    return words.text("scale.threshold_given") if row.threshold_lower is None else None


def call_sentence(row: PatientRow, words: Words) -> Markup:
    """Return the call in its fixed wording."""
    call = call_of(row)
    if call == "no_call":
        fields = words.count("field", row.n_fields_counted or 0)
        return words.text("call.no_call", cells=words.count("cell", row.n_countable), fields=fields)
    if call == "withheld":
        return _lymphoid_words(row, words)
    if call in {"none", "out_of_depth"}:
        return words.text(f"call.{call}")
    return words.text(f"call.{call}", t=words.percent(row.threshold))


def lymphoid_sentence(row: PatientRow, words: Words) -> Markup | None:
    """Return the remark on the call where lymphoid cells are many; None if the call is withheld and already says so."""
    is_lymphoid = is_many(row.lymphoid_share, row.specimen)
    return _lymphoid_words(row, words) if is_lymphoid and call_of(row) not in _NO_CALLS else None


def _lymphoid_words(row: PatientRow, words: Words) -> Markup:
    return words.text("call.withheld", x=words.percent(row.lymphoid_share))


def _figure(row: PatientRow, shown: Ratio, words: Words) -> str:
    if shown.share is None:
        return words.strings("ratio.no_ratio")
    if shown.is_wide:
        return words.strings("ratio.no_headline")
    return words.percent(shown.share, 0 if _is_none_called(row) else 1)


def _interval(row: PatientRow, shown: Ratio, words: Words) -> Markup | None:
    if shown.share is None or shown.lower is None:
        return None
    if _is_none_called(row):
        return words.text("ratio.none_called", n=integer(row.n_countable), u=words.percent(shown.upper))
    return words.text("ratio.interval", interval=words.interval(shown.lower, shown.upper))


def _is_none_called(row: PatientRow) -> bool:
    """Tell whether "0 of n" is shown with only the upper limit: as noted, or as counted without a correction."""
    return row.correction_note == "none_called" or (row.corrected_ratio is None and row.n_cblc == 0)


def remarks(row: PatientRow, words: Words) -> list[Markup]:
    """List remarks on the figure: why there is none, why it is not corrected, what is unusual about it."""
    if row.cblc_ratio is None:
        return [words.text("ratio.out_of_depth" if is_out_of_depth(row) else "ratio.no_ratio_why")]
    note = row.correction_note
    told = [words.text("ratio.within_false_positive_rate")] if note == "within_false_positive_rate" else []
    if shown_ratio(row).is_wide:
        told.append(words.text("ratio.too_wide"))
    if row.corrected_ratio is None and not is_unvalidated(row):
        reason = "rates_too_close" if "rates_too_close" in {note, row.call_reason} else "no_rates"
        told.append(words.text(f"ratio.not_corrected.{reason}"))
    return told


def _call_details(row: PatientRow, words: Words) -> list[Markup]:
    call = call_of(row)
    if call == "none":
        return [words.text("call.none_why")]
    if is_unvalidated(row):
        return []
    confidence = row.confidence_above if call != "no_call" else None
    said = None if confidence is None else words.text("call.confidence", p=_confidence(confidence))
    return call_reasons(row, words, confidence=said)


def call_reasons(row: PatientRow, words: Words, *, confidence: Markup | None = None) -> list[Markup]:
    """List the remarks on a call: lymphoid cells, its reason, ``confidence``, where its threshold is from."""
    reason = f"call.reason.{row.call_reason}"
    said = (
        lymphoid_sentence(row, words),
        words.text(reason) if words.has(reason) else None,
        confidence,
        threshold_origin(row, words),
        _earlier_method(row, words),
        _depends_sentence(row, words),
    )
    return [sentence for sentence in said if sentence is not None]


def threshold_origin(row: PatientRow, words: Words) -> Markup | None:
    """Return on which patients the threshold was learned, simulated ones by that word; None if it was given."""
    return learned_on(row.threshold_n_patients, words, simulated=bool(row.threshold_simulated))


def learned_on(n_patients: int | None, words: Words, *, simulated: bool) -> Markup | None:
    """Return the same for a threshold that was learned on ``n_patients``."""
    if n_patients is None:
        return None
    noun = "simulated_patient" if simulated else "patient"
    return words.text("call.learned_on", patients=words.count(noun, n_patients))


def _earlier_method(row: PatientRow, words: Words) -> Markup | None:
    """Return the remark that the threshold was learned on another correction than the patient's; None if not so."""
    if row.threshold_method is None or row.correction is None or row.threshold_method == row.correction:
        return None
    return words.text("call.earlier_method", method=words.name("correction", row.threshold_method))


def _depends_sentence(row: PatientRow, words: Words) -> Markup | None:
    """Return the remark that the call changes within the threshold's interval; None if it does not or there is none."""
    band = threshold_band(row)
    if band is None or not row.call_depends_on_threshold:
        return None
    return words.text("call.depends", interval=words.interval(*band))


def _confidence(share: float) -> str:
    """Print a share of draws, which no line break divides; 0 and 1 are never printed as certain.

    A share is never printed as a limit of a call that it is not at: 94.97% makes none, 95.0% does.
    """
    if share > 0.999:  # noqa: PLR2004
        return ">\N{NO-BREAK SPACE}99.9%"
    if share < 0.001:  # noqa: PLR2004
        return "<\N{NO-BREAK SPACE}0.1%"
    rules = CallRules()
    limits = (rules.confidence_above, rules.confidence_below)
    digits = max(decimals_apart(100 * share, 100 * limit, 1) for limit in limits)
    return f"{100 * share:.{digits}f}%"
