"""A patient's figures as FHIR: a ``Bundle`` of a ``DiagnosticReport`` and its ``Observation`` resources.

Elements are those that R4 (4.0.1) and R4B share. No code in LOINC or SNOMED CT could be verified for what is measured
here, so every ``code`` is text for the receiver to map. Units are UCUM. The status is ``preliminary``: no person has
confirmed it. The subject is named by its identifier; no Patient is invented. Ids are version 5 UUIDs made from the run
and the patient, so that a run gives the same resources each time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from marrowscope.disk import new_files, write_text
from marrowscope.errors import RunError
from marrowscope.records import UNKNOWN
from marrowscope.report.depth_words import no_flags
from marrowscope.report.differential_rows import category_code, is_marked, shown_categories
from marrowscope.report.fhir_parts import Json, code, integer_part, percent, percent_range, quantity, reference_range
from marrowscope.report.figures import blast_estimate, learned_notes, other_way
from marrowscope.report.pages import page_names
from marrowscope.report.patient_tables import read_patients
from marrowscope.report.pdf_document import flag_sentences
from marrowscope.report.pdf_text import one_line, plain, spelled
from marrowscope.report.problems import PatientProblem, attempt, leave_out, tell
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.report.verdict import (
    Ratio,
    call_reasons,
    call_sentence,
    is_out_of_depth,
    is_unvalidated,
    lymphoid_sentence,
    remarks,
    scope_sentence,
    shown_ratio,
    standing_sentence,
    threshold_band,
    threshold_origin,
)
from marrowscope.report.words import load_words
from marrowscope.runs.parquet import read_table
from marrowscope.statistics.intervals import is_wide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from marrowscope.report.words import Words
    from marrowscope.runs.manifest import Manifest
    from marrowscope.runs.schemas import CategoryShare, LineageShare, PatientRow


def write_fhir(
    run_dir: Path,
    out: Path | None = None,
    *,
    lang: str = "en",
    on_problem: Callable[[PatientProblem], None] | None = None,
) -> list[Path]:
    """Write ``<patient>.json`` for every patient of ``run_dir`` to ``out`` (default ``run_dir/fhir``); gives the paths.

    A patient whose row cannot be read, or whose id FHIR cannot state, has no file and goes to ``on_problem``; without
    it, ReportError is raised at the end. Raises RunError when ``run_dir`` is no finished run, or ``out`` holds a file
    of that name that is not ours; nothing is written then.
    """
    words, manifest = load_words(lang), reportable_manifest(run_dir)
    rows, problems = read_patients(read_table(run_dir / "patients.parquet", "patients"))
    name_of = page_names([row.patient_id for row in rows] + [problem.patient_id for problem in problems], ".json")
    out = out or run_dir / "fhir"
    names = list(name_of.values())
    with new_files(out, "fhir", names) as staging:
        for problem in problems:
            leave_out(names, name_of[problem.patient_id], out)
        for row in rows:
            name = name_of[row.patient_id]
            made = attempt(row.patient_id, partial(_bundle_text, row, manifest, words))
            if isinstance(made, PatientProblem):
                problems.append(made)
                leave_out(names, name, out)
            else:
                write_text(staging / name, made)
    tell(problems, on_problem)
    return [out / name for name in names]


def _bundle_text(row: PatientRow, manifest: Manifest, words: Words) -> str:
    """Return the Bundle of one patient as JSON. Raises RunError for an id with a character that FHIR forbids."""
    if forbidden := sorted({sign for sign in row.patient_id if sign < " " and sign not in "\t\n\r"}):
        message = (
            f"found {', '.join(map(spelled, forbidden))} in the patient_id, expected no control character, which FHIR "
            "forbids in a text; give the patient another id in patients.csv and predict again"
        )
        raise RunError(message)
    return json.dumps(_patient_bundle(row, manifest, words), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _patient_bundle(row: PatientRow, manifest: Manifest, words: Words) -> Json:
    """Make the Bundle (type collection) of one row of the patients table; the report comes first."""
    maker = _Maker.of(row, manifest, words)
    categories = [maker.category(item, row) for item in shown_categories(row)]
    lineages = [maker.lineage(item) for item in row.lineages or ()]
    panel = maker.panel(row, [*categories, *lineages])
    results = [
        maker.standing(row),
        maker.counted_ratio(row),
        maker.corrected_ratio(row),
        maker.call(row),
        maker.myeloid_to_erythroid(row),
        maker.blast_estimate(row),
        maker.flags(row),
        panel,
    ]
    report = maker.report(row, results)
    resources = [report, *results, *categories, *lineages]
    return {
        "resourceType": "Bundle",
        "id": maker.id_of("bundle"),
        "language": words.language,
        "type": "collection",
        "timestamp": manifest.created_utc,
        "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources],
    }


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the resources of one patient; the fields are what they all share."""

    words: Words
    seed: str
    made_by: str
    shared: Json

    @classmethod
    def of(cls, row: PatientRow, manifest: Manifest, words: Words) -> _Maker:
        bundle, patient_id = manifest.bundle, one_line(row.patient_id)
        made_by = one_line(f"marrowscope {manifest.marrowscope_version}, {bundle.name} {bundle.version}")
        hashes = (manifest.input_sha256, manifest.config_sha256, bundle.sha256)
        shared = {
            "language": words.language,
            "status": "preliminary",
            "subject": {"type": "Patient", "identifier": {"value": row.patient_id}, "display": patient_id},
            "issued": manifest.created_utc,
        }
        return cls(words, "\n".join((*hashes, made_by, row.patient_id)), made_by, shared)

    def id_of(self, part: str) -> str:
        """Return the id of one resource, always the same for the same run, patient and part."""
        return str(uuid5(NAMESPACE_OID, f"{self.seed}\n{part}"))

    def report(self, row: PatientRow, results: list[Json]) -> Json:
        """Make the DiagnosticReport; its conclusion is the call, the origin of its threshold, and the research use.

        A patient of a center that is not validated has no conclusion.
        """
        beside = lymphoid_sentence(row, self.words)
        learned = None if row.call is None else threshold_origin(row, self.words)
        said = [call_sentence(row, self.words), *(sentence for sentence in (beside, learned) if sentence is not None)]
        conclusion = " ".join([*(plain(sentence) for sentence in said), self.words.strings("research_use")])
        center = self.words.stated("center", row.center)
        shown = self.words.strings("fhir.specimen_unknown", center=center)
        if row.specimen.strip().casefold() != UNKNOWN:
            shown = self.words.strings(
                "fhir.specimen", specimen=self.words.stated("specimen", row.specimen), center=center
            )
        concluded = {} if is_unvalidated(row) else {"conclusion": conclusion}
        return {
            "resourceType": "DiagnosticReport",
            "id": self.id_of("report"),
            **self.shared,
            "code": code(self.words.strings("fhir.report")),
            "specimen": [{"type": "Specimen", "display": one_line(shown)}],
            "result": [_reference(result) for result in results],
        } | concluded

    def standing(self, row: PatientRow) -> Json:
        """Make the patient's state and its reason as text, with the research-use statement as a note."""
        strings, sentence = self.words.strings, standing_sentence(row, self.words)
        heading = strings("state.heading")
        if sentence is None:
            return self._observation("standing", heading, {}, absent="unknown", notes=[strings("research_use")])
        # The sentence begins with the state in its own words, so the word as such stands apart.
        return self._observation(
            "standing",
            heading,
            {"valueString": plain(sentence)},
            components=[{"code": code(strings("fhir.state")), "valueString": strings(f"state.word.{row.state}")}],
            notes=[strings("research_use")],
        )

    def counted_ratio(self, row: PatientRow) -> Json:
        """Make the ratio as counted, with x, n and Wilson interval; out of depth, there is none of them."""
        if is_out_of_depth(row):
            return self._observation("counted-ratio", self.words.strings("ratio.heading"), {}, absent="not-performed")
        counted = Ratio(row.cblc_ratio, row.cblc_ratio_lower, row.cblc_ratio_upper)
        return self._observation(
            "counted-ratio",
            self.words.strings("ratio.machine" if is_unvalidated(row) else "ratio.raw"),
            percent(counted.headline),
            components=[
                integer_part(self.words.strings("fhir.n_cblc"), row.n_cblc),
                integer_part(self.words.strings("fhir.n_countable"), row.n_countable),
                *(integer_part(f"CBLC, {'/'.join(item.codes)}", item.n) for item in row.cblc_by_category or ()),
                percent_range(self.words.strings("fhir.wilson"), row.cblc_ratio_lower, row.cblc_ratio_upper),
            ],
            absent="not-applicable",
            notes=[self.words.strings("ratio.too_wide")] if counted.is_wide else [],
        )

    def corrected_ratio(self, row: PatientRow) -> Json:
        """Make the corrected ratio, with its interval and the threshold it is compared with."""
        threshold = [{"code": code(self.words.strings("fhir.threshold")), **percent(row.threshold)}]
        if band := threshold_band(row):
            threshold.append(percent_range(self.words.strings("fhir.threshold_interval"), *band))
        confidence = [{"code": code(self.words.strings("fhir.confidence")), **percent(row.confidence_above)}]
        if row.call == "no_call":
            confidence = []  # without a call, the share of draws has no meaning
        return self._observation(
            "corrected-ratio",
            self.words.strings("ratio.corrected"),
            {} if row.corrected_ratio is None else percent(shown_ratio(row).headline),
            components=[
                percent_range(self.words.strings("fhir.interval"), row.corrected_lower, row.corrected_upper),
                *threshold,
                *confidence,
            ],
            absent="not-performed" if row.corrected_ratio is None else "not-applicable",
            notes=[
                *(plain(remark) for remark in remarks(row, self.words)),
                *([] if is_out_of_depth(row) else [plain(scope_sentence([row], self.words))]),
            ],
        )

    def call(self, row: PatientRow) -> Json:
        """Make the call in its fixed wording, with its reason and what it depends on as notes."""
        known = row.call is not None
        value = {"valueString": plain(call_sentence(row, self.words))} if known else {}
        notes = [plain(reason) for reason in call_reasons(row, self.words)] if known else []
        return self._observation("call", self.words.strings("call.heading"), value, absent="not-performed", notes=notes)

    def category(self, item: CategoryShare, row: PatientRow) -> Json:
        """Make one category of the differential, with a note where it was learned from simulated cells only."""
        name = f"{self.words.code(category_code(item.category))}: {self.words.category(item.category)}"
        made = self._share(f"category-{item.category}", name, item, share=item.share_nucleated, n=item.n_nucleated)
        if is_marked(item.category, row.simulated_only or ()):
            made["note"] = [{"text": self.words.strings("learned.footnote")}]
        return made

    def lineage(self, item: LineageShare) -> Json:
        """Make one lineage of the differential."""
        return self._share(
            f"lineage-{item.lineage}", self.words.name("lineage", item.lineage), item, share=item.share, n=item.n
        )

    def panel(self, row: PatientRow, members: list[Json]) -> Json:
        """Make the differential as its cell count, with categories and lineages as members."""
        source = row.reference_source
        notes = [f"{self.words.strings('differential.source')} {source}"] if source else []
        notes += [plain(note) for note in learned_notes(row, self.words)]
        return self._observation(
            "differential",
            self.words.strings("differential.heading"),
            {"valueInteger": row.n_nucleated if row.n_leukocytes is None else row.n_leukocytes},
            notes=notes,
        ) | {"hasMember": [_reference(member) for member in members]}

    def myeloid_to_erythroid(self, row: PatientRow) -> Json:
        """Make the M:E ratio with both counts and its interval."""
        strings = self.words.strings
        counts = [
            integer_part(strings("fhir.n_myeloid"), row.me_numerator),
            integer_part(strings("fhir.n_erythroid"), row.me_denominator),
        ]
        limits = {
            end: quantity(limit, "1")
            for end, limit in (("low", row.me_lower), ("high", row.me_upper))
            if limit is not None
        }
        interval = [{"code": code(strings("fhir.interval")), "valueRange": limits}] if limits else []
        value = {} if row.me_ratio is None else {"valueQuantity": quantity(row.me_ratio, "1")}
        ranges = reference_range(row.me_reference_low, row.me_reference_high, "1", 1.0)
        return (
            self._observation(
                "myeloid-erythroid",
                strings("fhir.me"),
                value,
                components=counts + interval if row.me_numerator is not None else [],
                absent="not-applicable",
            )
            | ranges
        )

    def blast_estimate(self, row: PatientRow) -> Json:
        """Make the myeloid blast estimate as a range, with what its marks mean, or why there is none."""
        strings = self.words.strings
        known, figure = row.who_least is not None, blast_estimate(row, self.words)
        value = percent_range("", row.who_least, row.who_most)["valueRange"] if known else None
        return self._observation(
            "blast-estimate",
            strings("blasts.heading"),
            {"valueRange": value} if known and not is_wide(row.who_lower, row.who_upper) else {},
            components=[
                integer_part(strings("fhir.n_least"), row.who_n_least),
                integer_part(strings("fhir.n_most"), row.who_n_most),
                percent_range(strings("fhir.interval"), row.who_lower, row.who_upper),
                *self._other_way(row),
            ],
            absent="not-applicable",
            notes=[plain(line) for line in figure.lines] + ([plain(figure.note)] if known else []),
        )

    def _other_way(self, row: PatientRow) -> list[Json]:
        """Make the estimate with the promyelocytes, or without them, and its limits; nothing where they are few."""
        if row.who_alt_least is None or row.who_not_learned:
            return []
        which, interval = other_way(row, self.words), self.words.strings("fhir.interval")
        ends = (None, None) if is_wide(row.who_alt_lower, row.who_alt_upper) else (row.who_alt_least, row.who_alt_most)
        return [
            percent_range(which, *ends),
            percent_range(f"{which}, {interval}", row.who_alt_lower, row.who_alt_upper),
        ]

    def flags(self, row: PatientRow) -> Json:
        """Make the quality flags as text."""
        text = "; ".join(flag_sentences(row, self.words)) or no_flags(row, self.words)
        return self._observation("flags", self.words.strings("flags.heading"), {"valueString": text})

    def _share(self, part: str, name: str, item: CategoryShare | LineageShare, *, share: float | None, n: int) -> Json:
        """Make a share of the nucleated cells with its count, interval and reference range."""
        made = self._observation(
            part,
            name,
            percent(share),
            components=[
                integer_part(self.words.strings("fhir.n_cells"), n),
                percent_range(self.words.strings("fhir.interval"), item.lower, item.upper),
            ],
            absent="not-applicable",
        )
        return made | reference_range(item.reference_low, item.reference_high, "%", 100.0, item.reference_mark)

    def _observation(
        self,
        part: str,
        name: str,
        value: Mapping[str, Any],
        *,
        components: list[Json] | None = None,
        absent: str = "unknown",
        notes: Sequence[str] = (),
    ) -> Json:
        """Make an Observation; without a value, it has the reason for the absence instead."""
        found = {key: item for key, item in value.items() if key.startswith("value")}
        made: Json = {
            "resourceType": "Observation",
            "id": self.id_of(part),
            **self.shared,
            "code": code(name),
            "device": {"type": "Device", "display": self.made_by},
            **(found or _absence(absent)),
        }
        if notes:
            made["note"] = [{"text": note} for note in notes]
        if components:
            made["component"] = [item if _has_value(item) else item | _absence(absent) for item in components]
        return made


def _absence(reason: str) -> Json:
    """Return why a value is absent, as a code from FHIR's own list."""
    system = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
    return {"dataAbsentReason": {"coding": [{"system": system, "code": reason}]}}


def _has_value(component: Mapping[str, Any]) -> bool:
    return any(key.startswith("value") for key in component)


def _reference(resource: Mapping[str, Any]) -> Json:
    return {"reference": f"urn:uuid:{resource['id']}", "display": resource["code"]["text"]}
