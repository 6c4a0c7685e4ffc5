"""Every figure of an evaluation: key, title, group, unit, interval, scale, and whether it is a headline.

How a figure is treated (its place, its scale, which figure it repeats) depends on its key and is looked up here; titles
are only printed, never compared. Many figures have variants (matched or all expert cells; counted, corrected or
annotated ratio): the key of a variant is the family's key plus the variant's ending.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from marrowscope.evaluate.frames import ALL_EXPERT, MATCHED

CONFOUNDED_BY_CENTER = "confounded_by_center"
"""Key of the only warning: the pooled figure confounds the disease with the center."""

WARNINGS = frozenset({CONFOUNDED_BY_CENTER})


class Better(StrEnum):
    """In which direction a figure is better: more, less, closer to zero or to one, or none."""

    MORE = "more"
    LESS = "less"
    ZERO = "zero"
    ONE = "one"
    NONE = "none"


class Method(StrEnum):
    """How the interval is computed; the value is printed."""

    BOOTSTRAP = "bootstrap over patients"
    WILSON = "Wilson"
    DELONG = "DeLong"
    OBUCHOWSKI = "Obuchowski, clustered by patient"
    SANDWICH = "cluster-robust, by patient"


@dataclass(frozen=True, slots=True)
class Scale:
    """The range over which a figure is drawn; a value outside is drawn at the end."""

    low: float
    high: float
    better: Better


@dataclass(frozen=True, slots=True)
class Unit:
    """What n counts, in the singular and the plural."""

    one: str
    many: str

    def of(self, n: int) -> str:
        """Return the noun of ``n``."""
        return self.one if n == 1 else self.many


@dataclass(frozen=True, slots=True)
class Headline:
    """A main figure: its short title, and where it is shown.

    ``on_page``: in the page's table of centers. ``in_summary``: in the table of metrics.md and on the terminal.
    ``only_where_measured``: its column is omitted if no center has a value.
    """

    title: str
    on_page: bool = True
    in_summary: bool = True
    only_where_measured: bool = False


@dataclass(frozen=True, slots=True)
class FigureKind:
    """What is known about a figure before it is measured; ``repeats`` is the key of the figure it restates.

    A figure that repeats another counts N0 and M0 as CBLC, which the other does not.
    """

    key: str
    title: str
    group: str
    unit: Unit
    method: Method
    scale: Scale
    headline: Headline | None
    repeats: str


@dataclass(frozen=True, slots=True)
class Variant:
    """The basis of a figure: the endings of its key and of its title, and the variant it ``repeats``."""

    key: str
    title: str
    repeats: Variant | None = None


_CBLC_GROUP, _CATEGORY_GROUP = "CBLC, cell by cell", "Category, cell by cell"
_CALIBRATION_GROUP, _DETECTION_GROUP = "Calibration", "Detection"
_RATIO_GROUP, _INTERVAL_GROUP = "CBLC ratio, patient by patient", "95% interval of the corrected ratio"
_AML_GROUP = "AML against other diagnoses"
_FORCED_GROUP, _CALLS_GROUP = "Forced decision, every patient", "Calls of the run"

CELLS, DETECTIONS, PATIENTS = Unit("cell", "cells"), Unit("detection", "detections"), Unit("patient", "patients")

_SCORE = Scale(0.0, 1.0, Better.MORE)
_ERROR = Scale(0.0, 0.25, Better.LESS)
_LOW_SHARE = Scale(0.0, 1.0, Better.LESS)
_BIAS = Scale(-0.25, 0.25, Better.ZERO)
_CHANGE = Scale(-0.25, 0.25, Better.LESS)
_SHARE = Scale(0.0, 1.0, Better.NONE)
_SLOPE = Scale(0.0, 2.0, Better.ONE)
_LOGIT = Scale(-2.0, 2.0, Better.ZERO)

ON_MATCHED, _ON_ALL_EXPERT = Variant("_matched", f", {MATCHED}"), Variant("_all_expert", f", {ALL_EXPERT}")
OVER = {MATCHED: ON_MATCHED, ALL_EXPERT: _ON_ALL_EXPERT}
"""The variant of a cell figure, by the word that the tables use for the cells it covers."""


def _with_normal(variant: Variant) -> Variant:
    ending = "N0 and M0 counted as CBLC"
    return Variant(f"{variant.key}_n0_and_m0_counted_as_cblc", f"{variant.title}, {ending}", repeats=variant)


COUNTED, CORRECTED = Variant("", ""), Variant("_corrected_ratio", ", corrected ratio")
NO_SEAMS = Variant("_seams_left_out", ", seams left out")
COUNTED_WITH_NORMAL, CORRECTED_WITH_NORMAL = _with_normal(COUNTED), _with_normal(CORRECTED)
BY_PREDICTED, BY_ANNOTATED = (
    Variant("_predicted_ratio", ", predicted ratio"),
    Variant("_annotated_ratio", ", annotated ratio"),
)
BY_ANNOTATED_WITH_NORMAL = _with_normal(BY_ANNOTATED)
CORRECTED_LESS_PREDICTED = Variant("_corrected_predicted", ", corrected - predicted")

_AGREEMENT = (COUNTED, CORRECTED, NO_SEAMS, COUNTED_WITH_NORMAL, CORRECTED_WITH_NORMAL)
_AML = (BY_PREDICTED, CORRECTED, BY_ANNOTATED, BY_ANNOTATED_WITH_NORMAL)

HEADLINES = {
    "cblc_weighted_f1_all_expert": Headline("CBLC weighted F1"),
    "cblc_positive_class_f1_all_expert": Headline("CBLC F1"),
    "category_weighted_f1_all_expert": Headline("category weighted F1"),
    "detection_recall": Headline("detection recall"),
    "detection_precision": Headline("detection precision", on_page=False),
    "ap50": Headline("AP50"),
    "patient_ratio_mae": Headline("ratio MAE"),
    "patient_ratio_mae_corrected_ratio": Headline("corrected MAE", in_summary=False, only_where_measured=True),
    "aml_auc_predicted_ratio": Headline("AML AUC"),
}
"""The main figures in column order; cell figures count a missed cell as wrong."""


def _family(
    key: str,
    title: str,
    scale: Scale,
    group: str,
    *,
    variants: tuple[Variant, ...] = (COUNTED,),
    unit: Unit = PATIENTS,
    method: Method = Method.BOOTSTRAP,
) -> list[FigureKind]:
    return [
        FigureKind(
            key=key + variant.key,
            title=title + variant.title,
            group=group,
            unit=unit,
            method=method,
            scale=scale,
            headline=HEADLINES.get(key + variant.key),
            repeats="" if variant.repeats is None else key + variant.repeats.key,
        )
        for variant in variants
    ]


def _of_cells(
    key: str, title: str, scale: Scale, group: str, *variants: Variant, method: Method = Method.BOOTSTRAP
) -> list[FigureKind]:
    return _family(key, title, scale, group, variants=variants or (COUNTED,), unit=CELLS, method=method)


def _of_calls(key: str, title: str, scale: Scale) -> list[FigureKind]:
    return _family(key, title, scale, _CALLS_GROUP, method=Method.WILSON)


_FIGURES = (
    *_of_cells("cblc_weighted_f1", "CBLC weighted F1", _SCORE, _CBLC_GROUP, ON_MATCHED, _ON_ALL_EXPERT),
    *_of_cells("cblc_positive_class_f1", "CBLC positive-class F1", _SCORE, _CBLC_GROUP, ON_MATCHED, _ON_ALL_EXPERT),
    *_of_cells("cblc_auc", "CBLC AUC", _SCORE, _CBLC_GROUP, ON_MATCHED),
    *_of_cells(
        "cblc_auc_clustered",
        "CBLC AUC, clustered interval",
        _SCORE,
        _CBLC_GROUP,
        ON_MATCHED,
        method=Method.OBUCHOWSKI,
    ),
    *_of_cells("category_weighted_f1", "category weighted F1", _SCORE, _CATEGORY_GROUP, ON_MATCHED, _ON_ALL_EXPERT),
    *_of_cells("category_macro_f1", "category macro F1", _SCORE, _CATEGORY_GROUP, ON_MATCHED, _ON_ALL_EXPERT),
    *_of_cells("category_accuracy", "category accuracy", _SCORE, _CATEGORY_GROUP, ON_MATCHED, _ON_ALL_EXPERT),
    *_of_cells("cblc_calibration_error", "cblc calibration error", _ERROR, _CALIBRATION_GROUP, ON_MATCHED),
    *_of_cells("cblc_brier_score", "cblc Brier score", _ERROR, _CALIBRATION_GROUP, ON_MATCHED),
    *(
        kind
        for key, title, scale in (
            ("cblc_calibration_slope", "cblc calibration slope", _SLOPE),
            ("cblc_calibration_intercept", "cblc calibration intercept", _LOGIT),
            ("cblc_calibration_in_the_large", "cblc calibration in the large", _LOGIT),
        )
        for kind in _of_cells(key, title, scale, _CALIBRATION_GROUP, ON_MATCHED, method=Method.SANDWICH)
    ),
    *_of_cells("category_calibration_error", "category calibration error", _ERROR, _CALIBRATION_GROUP, ON_MATCHED),
    *_of_cells("category_brier_score", "category Brier score", _ERROR, _CALIBRATION_GROUP, ON_MATCHED),
    *_of_cells("detection_recall", "detection recall", _SCORE, _DETECTION_GROUP),
    *_of_cells("detection_recall_cut_cells_included", "detection recall, cut cells included", _SCORE, _DETECTION_GROUP),
    *_of_cells(
        "detection_recall_before_quality_rules", "detection recall, before quality rules", _SCORE, _DETECTION_GROUP
    ),
    *_family("detection_precision", "detection precision", _SCORE, _DETECTION_GROUP, unit=DETECTIONS),
    *_of_cells("ap50", "AP50", _SCORE, _DETECTION_GROUP),
    *_of_cells("ap50_95", "AP50-95", _SCORE, _DETECTION_GROUP),
    *_of_cells("mean_iou_of_matched_contours", "mean IoU of matched contours", _SCORE, _DETECTION_GROUP),
    *_family("patient_ratio_mae", "patient ratio MAE", _ERROR, _RATIO_GROUP, variants=_AGREEMENT),
    *_family("patient_ratio_bias", "patient ratio bias", _BIAS, _RATIO_GROUP, variants=_AGREEMENT),
    *_family("patient_ratio_concordance", "patient ratio concordance", _SCORE, _RATIO_GROUP, variants=_AGREEMENT),
    *_family("patient_ratio_mae", "patient ratio MAE", _CHANGE, _RATIO_GROUP, variants=(CORRECTED_LESS_PREDICTED,)),
    *_family(
        "annotated_ratio_inside_the_interval",
        "annotated ratio inside the interval",
        _SHARE,
        _INTERVAL_GROUP,
        variants=(COUNTED, COUNTED_WITH_NORMAL),
        method=Method.WILSON,
    ),
    *_family("mean_width_of_the_interval", "mean width of the interval", _LOW_SHARE, _INTERVAL_GROUP),
    *_family("aml_auc", "AML AUC", _SCORE, _AML_GROUP, variants=_AML),
    *_family(
        "aml_auc_delong",
        "AML AUC, DeLong interval",
        _SCORE,
        _AML_GROUP,
        variants=_AML,
        method=Method.DELONG,
    ),
    *_family("aml_auc_within_centers", "AML AUC within centers", _SCORE, _AML_GROUP, variants=_AML),
    *_family(
        "aml_sensitivity_at_the_threshold",
        "AML sensitivity at the threshold",
        _SCORE,
        _AML_GROUP,
        variants=_AML,
        method=Method.WILSON,
    ),
    *_family(
        "aml_specificity_at_the_threshold",
        "AML specificity at the threshold",
        _SCORE,
        _AML_GROUP,
        variants=_AML,
        method=Method.WILSON,
    ),
    *_family(
        "forced_decision_error",
        "forced decision error",
        _LOW_SHARE,
        _FORCED_GROUP,
        variants=(BY_PREDICTED, CORRECTED),
        method=Method.WILSON,
    ),
    *_family(
        "forced_decision_error",
        "forced decision error",
        _CHANGE,
        _FORCED_GROUP,
        variants=(CORRECTED_LESS_PREDICTED,),
    ),
    *_of_calls("calls_share_indeterminate", "calls, share indeterminate", _SHARE),
    *_of_calls("calls_share_without_a_call", "calls, share without a call", _SHARE),
    *_of_calls("calls_error_among_decided", "calls, error among decided", _LOW_SHARE),
    *_of_calls("calls_sensitivity_among_decided", "calls, sensitivity among decided", _SCORE),
    *_of_calls("calls_specificity_among_decided", "calls, specificity among decided", _SCORE),
)

CATALOG = {kind.key: kind for kind in _FIGURES}
"""Every figure by its key."""

SUMMARY_FIGURES = {key: headline.title for key, headline in HEADLINES.items() if headline.in_summary}
PAGE_FIGURES = {key: headline.title for key, headline in HEADLINES.items() if headline.on_page}
"""Key and short title of the main figures, in column order."""
