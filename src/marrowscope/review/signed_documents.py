"""The documents of a signed version, made of its event alone: HTML to read, FHIR and HL7 v2 for other systems.

Every document names the reader, the time, what was confirmed by eye and what was predicted, and the hash of the signing
event, which is the head of the chain at that moment. The same documents are made of a patient that is not signed, as
preliminary: they say so, and conclude nothing. No code of LOINC is stated: none could be verified here for these
figures, so every code is text for the receiver to map. ``signed_pdf.py`` sets the PDF.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from markupsafe import Markup

from marrowscope import __version__
from marrowscope.report.cohort_page import learned_sentence
from marrowscope.report.differential_rows import SIMULATED_MARK
from marrowscope.report.environment import template_environment
from marrowscope.report.fhir_parts import code, integer_part, percent, percent_range
from marrowscope.report.words import load_words
from marrowscope.review.patient_state import Signature
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2

    from marrowscope.report.fhir_parts import Json
    from marrowscope.report.words import Words

_DAY = len("2026-11-30")
_HL7_TIME = 14
_SEGMENT_END = "\r"
_HL7_STATUS = {"preliminary": "P", "final": "F", "amended": "C"}


@dataclass(frozen=True, slots=True)
class SignedRatio:
    """The ratio of a signed version, 0-1; None where no countable cell was left. x and n only after a full review."""

    estimate: float | None
    x: int | None
    n: int | None
    fields: tuple[float, float]
    smear: tuple[float, float]
    level: float
    found_cells_only: bool


def preliminary(value: Mapping[str, Any], reader: str, time_utc: str) -> Signature:
    """Return what stands in the place of a signature where there is none; its head is that of the chain by then."""
    head = value["head_before"]
    return Signature(value["version"], head["sequence"], reader, time_utc, head["hash"], value)


def signed_ratio(value: Mapping[str, Any]) -> SignedRatio | None:
    """Read the ratio of a signed value; None where neither an audit nor a full review gives one yet."""
    if value["how"] is None:
        return None
    ratio = value["figures"]["full" if value["how"] == "full_review" else "audit"]["ratio"]
    fields, smear = ratio["fields"], ratio["smear"]
    return SignedRatio(
        estimate=fields["estimate"],
        x=ratio.get("x"),
        n=ratio.get("n"),
        fields=(fields["lower"], fields["upper"]),
        smear=(smear["lower"], smear["upper"]),
        level=ratio.get("level") or fields["level"],
        found_cells_only=ratio["found_cells_only"],
    )


def ratio_sentences(signature: Signature, words: Words) -> list[str]:
    """Return what a signed version says of the ratio, in the order to print it."""
    value, strings = signature.value, words.strings
    ratio = signed_ratio(value)
    return [*(_stated_ratio(ratio, value, words) if ratio else [strings("signed.how.none")]), *_counts(value, words)]


def _stated_ratio(ratio: SignedRatio, value: Mapping[str, Any], words: Words) -> list[str]:
    strings = words.strings
    if value["how"] == "full_review":
        name = value["figures"]["full"]["confirmed_by"]
        day = value.get("full_review_utc")
        how = [
            strings("signed.how.full_review", name=name)
            if day is None  # signed by a version that did not state it
            else strings("signed.how.full_review_on", name=name, day=day[:_DAY])
        ]
    else:
        audit = value["figures"]["audit"]
        n_blind = audit["sizes"][audit["look"]]
        n_before = audit["ratio"]["n_named"] - n_blind
        is_all = audit["ratio"]["n_named"] == audit["n_cells"]
        how = [strings("signed.how.audit_all" if is_all else "signed.how.audit", n=n_blind, total=audit["n_cells"])]
        how += [strings("signed.how.audit_before", n=n_before)] if n_before else []
    counted = [strings("signed.x_of_n", x=ratio.x, n=ratio.n)] if ratio.x is not None else []
    interval = strings(
        "signed.interval",
        share=words.percent(ratio.estimate),
        fields=words.interval(*ratio.fields),
        smear=words.interval(*ratio.smear),
        level=words.percent(ratio.level),
    )
    return [
        *counted,
        interval,
        *how,
        strings("signed.found_only" if ratio.found_cells_only else "signed.missed_checked"),
    ]


def _counts(value: Mapping[str, Any], words: Words) -> list[str]:
    strings, cells, machine = words.strings, value["cells"], value["figures"]["machine"]
    n_undisclosed = value.get("undisclosed", 0)
    return [
        *([strings("signed.machine", x=machine["x"], n=machine["n"])] if machine else []),
        strings(
            "signed.cells",
            named=cells["named_by_eye"],
            present=cells["present"],
            predicted=cells["predicted_only"],
            changed=cells["changed_by_eye"],
            added=cells["added"],
            removed=cells["removed"],
        ),
        *_confirmed(value, words),
        *([strings("signed.undisclosed", n=n_undisclosed)] if n_undisclosed else []),
    ]


def _confirmed(value: Mapping[str, Any], words: Words) -> list[str]:
    """Name everybody who decided about cells, with the days; nothing of a version that did not state them."""
    if not (confirmed := value.get("confirmed")):
        return []
    readers = []
    for item in confirmed:
        days = dict.fromkeys((item["first_utc"][:_DAY], item["last_utc"][:_DAY]))
        cells = words.count("cell", item["n_cells"])
        readers.append(
            words.strings("signed.confirmed.reader", name=item["reader"], cells=cells, days=" - ".join(days))
        )
    return [words.strings("signed.confirmed", readers="; ".join(readers))]


def signed_by(signature: Signature, words: Words) -> str:
    """Return who signed a version and when; of a preliminary one, for whom it was made."""
    key = "signed.as_of" if signature.value["status"] == "preliminary" else "signed.by"
    time = signature.time_utc[:19].replace("T", " ")
    return words.strings(key, name=signature.value["full_name"], time=time)


def title(signature: Signature, words: Words) -> str:
    """Return the title of a version's documents."""
    is_preliminary = signature.value["status"] == "preliminary"
    return words.strings("signed.title.preliminary" if is_preliminary else "signed.title")


def shown_categories(signature: Signature, words: Words) -> list[tuple[str, str, Mapping[str, int]]]:
    """Return key, name and counts of the categories that a cell has, those of today's vocabulary in its order."""
    categories = signature.value["categories"]
    order = [*load_vocabulary().categories, *sorted(categories)]
    shown = sorted((name for name, counts in categories.items() if any(counts.values())), key=order.index)
    return [
        (
            name,
            f"{words.category(name)} {SIMULATED_MARK}" if _is_marked(name, signature.value) else words.category(name),
            categories[name],
        )
        for name in shown
    ]


def learned_note(signature: Signature, words: Words) -> str | None:
    """Say what the bundle learned from simulated cells only, as the run stated it; None where it stated nothing."""
    return learned_sentence(signature.value.get("simulated_only", ()), words.strings)


def _is_marked(name: str, value: Mapping[str, Any]) -> bool:
    """Tell whether the machine alone called cells of a category that it learned from simulated cells only."""
    return bool(value["categories"][name]["predicted_only"]) and name in value.get("simulated_only", ())


def answered_flags(signature: Signature, words: Words) -> list[str]:
    """Return each flag of the patient by name, with its answer."""
    return [
        f"{words.name('flag', item['flag'])}: {item['answer'] or words.strings('signed.no_answer')}"
        for item in signature.value["flags"]
    ]


def signed_html(signature: Signature, lang: str = "en") -> str:
    """Return a signed version as one page that stands alone: no script, no picture, nothing from outside."""
    words, style = load_words(lang), _style()
    return (
        _templates()
        .get_template("signed.html.j2")
        .render(
            value=signature.value,
            signature=signature,
            words=words,
            t=words.strings,
            sentences=ratio_sentences(signature, words),
            categories=shown_categories(signature, words),
            learned=learned_note(signature, words),
            style=Markup(style),  # noqa: S704  our own file
            title=title(signature, words),
            flags=answered_flags(signature, words),
            signed_by=signed_by(signature, words),
        )
    )


def page_policy() -> str:
    """Return the content security policy of a signed page: its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"


def signed_fhir(signature: Signature, lang: str = "en") -> str:
    """Return a version as a FHIR R4B Bundle: a DiagnosticReport, ``preliminary``, ``final`` or ``amended``.

    A preliminary report has no conclusion.
    """
    value, words = signature.value, load_words(lang)
    patient, ratio, is_signed = value["patient"], signed_ratio(value), value["status"] != "preliminary"
    learned = learned_note(signature, words)
    shared: Json = {
        "status": value["status"],
        "subject": {
            "type": "Patient",
            "identifier": {"value": patient["patient_id"]},
            "display": patient["patient_id"],
        },
        "issued": signature.time_utc,
        "performer": [{"type": "Practitioner", "display": value["full_name"]}],
    }
    made_by = {"type": "Device", "display": f"marrowscope {__version__}, {value['bundle']}"}

    def identified(part: str) -> str:
        of = [signature.head_hash, part] if is_signed else [signature.head_hash, patient["patient_id"], part]
        return str(uuid5(NAMESPACE_OID, "\n".join(of)))

    def observation(part: str, name: str, found: Json, components: list[Json], notes: list[str]) -> Json:
        return {
            "resourceType": "Observation",
            "id": identified(part),
            **shared,
            "code": code(name),
            "device": made_by,
            **found,
            **({"component": components} if components else {}),
            **({"note": [{"text": note} for note in notes]} if notes else {}),
        }

    absent: Json = {"dataAbsentReason": {"text": words.strings("none")}}
    results = [
        observation(
            "ratio",
            words.strings("signed.ratio"),
            (percent(ratio.estimate) if ratio else None) or absent,
            _ratio_parts(ratio) if ratio else [],
            ratio_sentences(signature, words),
        ),
        *(
            observation(
                f"category-{name}",
                f"{name}: {words.category(name)}",
                {"valueInteger": counted["named_by_eye"]},
                [integer_part(words.strings("signed.predicted"), counted["predicted_only"])],
                [words.strings("signed.named"), *([learned] if learned and _is_marked(name, value) else [])],
            )
            for name, counted in value["categories"].items()
            if any(counted.values())
        ),
        observation(
            "adequacy",
            words.strings("signed.adequacy"),
            {"valueString": value["adequacy"]} if value["adequacy"] else absent,
            [],
            [],
        ),
        observation("head", words.strings("signed.head"), {"valueString": signature.head_hash}, [], []),
    ]
    conclusion = " ".join([words.strings("research_use"), *_reason(value, words)])
    report: Json = {
        "resourceType": "DiagnosticReport",
        "id": identified("report"),
        **shared,
        "code": code(title(signature, words)),
        "result": [{"reference": f"urn:uuid:{item['id']}", "display": item["code"]["text"]} for item in results],
        **({"conclusion": conclusion} if is_signed else {}),
    }
    bundle: Json = {
        "resourceType": "Bundle",
        "id": identified("bundle"),
        "type": "collection",
        "timestamp": signature.time_utc,
        "entry": [{"fullUrl": f"urn:uuid:{item['id']}", "resource": item} for item in (report, *results)],
    }
    return json.dumps(bundle, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _ratio_parts(ratio: SignedRatio) -> list[Json]:
    counts = [integer_part("x", ratio.x), integer_part("n", ratio.n)] if ratio.x is not None else []
    return [
        *counts,
        percent_range("interval, these fields", *ratio.fields),
        percent_range("interval, this smear", *ratio.smear),
    ]


def signed_hl7(signature: Signature, lang: str = "en") -> str:
    """Return a version as an HL7 v2.5.1 message ORU^R01; OBX-11 is P, F, or C for an amended version."""
    value, words = signature.value, load_words(lang)
    ratio, status, named = signed_ratio(value), _HL7_STATUS[value["status"]], title(signature, words)
    time = "".join(sign for sign in signature.time_utc if sign.isdigit())[:_HL7_TIME] + "+0000"
    control = signature.head_hash[:20]
    who = escaped(value["full_name"])
    lines = [
        (
            rf"MSH|^~\&|marrowscope|{escaped(value['patient']['center'])}|||{time}||ORU^R01^ORU_R01|{control}|P|2.5.1"
            "||||||UNICODE UTF-8"
        ),
        f"PID|1||{escaped(value['patient']['patient_id'])}",
        (f"OBR|1||{control}|{_observed(named)}|||{time}|||||||||||||||{time}|||{status}|||||||^{who}"),
    ]

    def add(kind: str, name: str, found: str, unit: str = "", limits: str = "") -> None:
        number = len(lines) - 2
        lines.append(f"OBX|{number}|{kind}|{_observed(name)}||{found}|{unit}|{limits}||||{status}|||{time}||^{who}")

    if ratio is not None and ratio.estimate is not None:
        limits = "-".join(f"{100 * limit:.1f}" for limit in ratio.fields)
        add("NM", words.strings("signed.ratio"), f"{100 * ratio.estimate:.1f}", "%")
        add("ST", f"{words.percent(ratio.level)} interval, these fields", limits, "%")
    for sentence in ratio_sentences(signature, words):
        add("TX", words.strings("signed.ratio"), escaped(sentence))
    for name, counted in value["categories"].items():
        if any(counted.values()):
            add("NM", f"{name}: {words.category(name)}, {words.strings('signed.named')}", str(counted["named_by_eye"]))
    if learned := learned_note(signature, words):
        add("TX", words.strings("signed.category"), escaped(learned))
    if value["adequacy"]:
        add("TX", words.strings("signed.adequacy"), escaped(value["adequacy"]))
    for reason in _reason(value, words):
        add("TX", named, escaped(reason))
    add("ST", words.strings("signed.head"), signature.head_hash)
    add("TX", named, escaped(words.strings("research_use")))
    return _SEGMENT_END.join(lines) + _SEGMENT_END


def escaped(text: str) -> str:
    """Escape the delimiters of HL7 v2, and the ends of lines, which would end the segment."""
    text = text.replace("\\", "\\E\\")
    for sign, escape in (("|", "F"), ("^", "S"), ("&", "T"), ("~", "R")):
        text = text.replace(sign, f"\\{escape}\\")
    return "\\.br\\".join(text.splitlines())


def _observed(name: str) -> str:
    """Return an identifier with text alone: a code that cannot be verified is not guessed."""
    return f"^{escaped(name)}"


def _reason(value: Mapping[str, Any], words: Words) -> list[str]:
    return [words.strings("signed.reason", reason=value["reason"])] if value["reason"] else []


def _style() -> str:
    return (files("marrowscope.review") / "templates" / "signed.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    return template_environment("marrowscope.review")
