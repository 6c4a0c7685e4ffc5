"""The part of a bundle that corrects ratios and makes calls: error rates, threshold and rules, in one hashed file."""

from __future__ import annotations

from pydantic import Field

from marrowscope.config import FrozenModel
from marrowscope.patient.quantify.estimate import METHOD
from marrowscope.patient.quantify.rates import ErrorRates
from marrowscope.patient.quantify.threshold import CallRules, StudyThreshold
from marrowscope.records import BLOOD, MARROW, UNKNOWN, Specimen
from marrowscope.wording import count_of

QUANTIFICATION_FILE = "quantification.json"
SCHEMA_VERSION = 1


class Quantification(FrozenModel):
    """Error rates on held-out patients, and the study threshold learned on their ratios."""

    schema_version: int = SCHEMA_VERSION
    source: str = Field(description="which patients, in words: out-of-fold, or a held-out cohort")
    simulated: bool = Field(default=False, description="every photograph of these patients was simulated")
    rates: ErrorRates
    threshold: StudyThreshold | None = Field(default=None, description="without one, no call is made")
    threshold_missing: str = Field(default="", description="why there is no threshold")
    call_rules: CallRules = Field(default_factory=CallRules)

    def sentence(self) -> str:
        """Describe in words which patients the rates and the threshold come from."""
        rates, drawn = self.rates, ", all simulated" if self.simulated else ""
        words = (
            f"Error rates for the corrected ratio were measured on {self.source}{drawn}: "
            f"{sum(map(sum, rates.counted))} of {count_of(sum(map(sum, rates.annotated)), 'annotated cell')} were "
            "counted."
        )
        if self.threshold is None:
            return f"{words} There is no study threshold: {self.threshold_missing or 'none was learned'}."
        found = self.threshold
        if found.method != METHOD:
            words += f" The threshold was learned on ratios by an earlier method ({found.method}); measure it again."
        if found.lower is None or found.upper is None:
            return f"{words} Study threshold {found.value:.3f}, {found.learned_on}."
        noun = "simulated patient" if self.simulated else "patient"
        named = ", ".join(f"{name} {n}" for name, n in found.n_by_diagnosis.items())
        of_specimen = {None: "", UNKNOWN: ", whose specimen is not stated"}.get(
            found.specimen, f", all {found.specimen}: no call is made on another specimen"
        )
        return (
            f"{words} Study threshold {found.value:.3f} ({found.lower:.3f} to {found.upper:.3f}), learned on "
            f"{count_of(found.n_aml, noun)} with AML and {found.n_other} without "
            f"({named or 'diagnoses not kept'}){of_specimen}."
        )

    @property
    def specimen(self) -> Specimen:
        """The specimen that the threshold was learned on; marrow where there is none, or an older file."""
        learned = self.threshold
        return BLOOD if learned is not None and learned.specimen == BLOOD else MARROW

    def of_specimen(self, specimen: Specimen | None) -> Quantification:
        """Return the same for patients of ``specimen``: without the threshold if it was learned on another one."""
        learned = self.threshold
        if specimen is None or learned is None or learned.holds_for(specimen):
            return self
        missing = f"the study's was learned on {learned.specimen or MARROW}, and these patients' specimen is {specimen}"
        return self.model_copy(update={"threshold": None, "threshold_missing": missing})

    def card(self) -> str:
        """Return the text for a bundle's card: the sentence, and the rates by kind of cell as a Markdown table."""
        lines = [
            self.sentence(),
            "",
            "| category | CBLC | annotated cells | counted | of these called CBLC |",
            "|---|---|---|---|---|",
        ]
        for kind, annotated, counted, called in self.rates.by_kind():
            share = f"{100 * called / counted:.1f}%" if counted else "-"
            lines.append(f"| {kind.category} | {'yes' if kind.cblc else 'no'} | {annotated} | {counted} | {share} |")
        return "\n".join(lines)

    def as_json(self) -> bytes:
        """Return the content of ``quantification.json``."""
        return (self.model_dump_json() + "\n").encode()
