"""The documents of a signed version, made of its event alone: HTML to read, FHIR and HL7 v2 for other systems.

Every document names the reader, the time, what was confirmed by eye and what was predicted, and the hash of the signing
event, which is the head of the chain at that moment. No code of LOINC is stated: none could be verified here for these
figures, so every code is text for the receiver to map.
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
from marrowscope.report.environment import template_environment
from marrowscope.report.fhir_parts import code, integer_part, percent, percent_range
from marrowscope.report.words import load_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2

    from marrowscope.report.fhir_parts import Json
    from marrowscope.report.words import Words
    from marrowscope.review.fold import Signature

_HL7_TIME = 14
_SEGMENT_END = "\r"


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


def signed_ratio(value: Mapping[str, Any]) -> SignedRatio:
    """Read the ratio of a signed value."""
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
    ratio, cells, machine = signed_ratio(value), value["cells"], value["figures"]["machine"]
    if value["how"] == "full_review":
        how = [strings("signed.how.full_review", name=value["figures"]["full"]["confirmed_by"])]
    else:
        audit = value["figures"]["audit"]
        n_blind = audit["sizes"][audit["look"]]
        n_before = audit["ratio"]["n_named"] - n_blind
        how = [strings("signed.how.audit", n=n_blind, total=audit["n_cells"])]
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
        strings("signed.machine", x=machine["x"], n=machine["n"]),
        strings(
            "signed.cells",
            named=cells["named_by_eye"],
            present=cells["present"],
            predicted=cells["predicted_only"],
            changed=cells["changed_by_eye"],
            added=cells["added"],
            removed=cells["removed"],
        ),
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
            categories=[
                (name, words.category(name), counts)
                for name, counts in signature.value["categories"].items()
                if any(counts.values())
            ],
            style=Markup(style),  # noqa: S704  our own file
            time=_printed_time(signature),
        )
    )


def page_policy() -> str:
    """Return the content security policy of a signed page: its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"


def signed_fhir(signature: Signature, lang: str = "en") -> str:
    """Return a signed version as a FHIR R4B Bundle: a DiagnosticReport, ``final`` or ``amended``."""
    value, words = signature.value, load_words(lang)
    patient, ratio = value["patient"], signed_ratio(value)
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
        return str(uuid5(NAMESPACE_OID, f"{signature.head_hash}\n{part}"))

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

    counts = [integer_part("x", ratio.x), integer_part("n", ratio.n)] if ratio.x is not None else []
    absent = {"dataAbsentReason": {"text": words.strings("none")}}
    results = [
        observation(
            "ratio",
            words.strings("signed.ratio"),
            percent(ratio.estimate) or absent,
            [
                *counts,
                percent_range("interval, these fields", *ratio.fields),
                percent_range("interval, this smear", *ratio.smear),
            ],
            ratio_sentences(signature, words),
        ),
        *(
            observation(
                f"category-{name}",
                f"{name}: {words.category(name)}",
                {"valueInteger": counted["named_by_eye"]},
                [integer_part(words.strings("signed.predicted"), counted["predicted_only"])],
                [words.strings("signed.named")],
            )
            for name, counted in value["categories"].items()
            if any(counted.values())
        ),
        observation("adequacy", words.strings("signed.adequacy"), {"valueString": value["adequacy"]}, [], []),
        observation("head", words.strings("signed.head"), {"valueString": signature.head_hash}, [], []),
    ]
    conclusion = [words.strings("research_use"), *_reason(value, words)]
    report: Json = {
        "resourceType": "DiagnosticReport",
        "id": identified("report"),
        **shared,
        "code": code(words.strings("signed.title")),
        "result": [{"reference": f"urn:uuid:{item['id']}", "display": item["code"]["text"]} for item in results],
        "conclusion": " ".join(conclusion),
    }
    bundle: Json = {
        "resourceType": "Bundle",
        "id": identified("bundle"),
        "type": "collection",
        "timestamp": signature.time_utc,
        "entry": [{"fullUrl": f"urn:uuid:{item['id']}", "resource": item} for item in (report, *results)],
    }
    return json.dumps(bundle, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def signed_hl7(signature: Signature, lang: str = "en") -> str:
    """Return a signed version as an HL7 v2.5.1 message ORU^R01; OBX-11 is F, or C for an amended version."""
    value, words = signature.value, load_words(lang)
    ratio, status = signed_ratio(value), {"final": "F", "amended": "C"}[value["status"]]
    time = "".join(sign for sign in signature.time_utc if sign.isdigit())[:_HL7_TIME] + "+0000"
    control = signature.head_hash[:20]
    who = escaped(value["full_name"])
    lines = [
        (
            rf"MSH|^~\&|marrowscope|{escaped(value['patient']['center'])}|||{time}||ORU^R01^ORU_R01|{control}|P|2.5.1"
            "||||||UNICODE UTF-8"
        ),
        f"PID|1||{escaped(value['patient']['patient_id'])}",
        (
            f"OBR|1||{control}|{_observed(words.strings('signed.title'))}|||{time}|||||||||||||||{time}|||{status}"
            f"|||||||^{who}"
        ),
    ]

    def add(kind: str, name: str, found: str, unit: str = "", limits: str = "") -> None:
        number = len(lines) - 2
        lines.append(f"OBX|{number}|{kind}|{_observed(name)}||{found}|{unit}|{limits}||||{status}|||{time}||^{who}")

    if ratio.estimate is not None:
        limits = "-".join(f"{100 * limit:.1f}" for limit in ratio.fields)
        add("NM", words.strings("signed.ratio"), f"{100 * ratio.estimate:.1f}", "%")
        add("ST", f"{words.percent(ratio.level)} interval, these fields", limits, "%")
    for sentence in ratio_sentences(signature, words):
        add("TX", words.strings("signed.ratio"), escaped(sentence))
    for name, counted in value["categories"].items():
        if any(counted.values()):
            add("NM", f"{name}: {words.category(name)}, {words.strings('signed.named')}", str(counted["named_by_eye"]))
    add("TX", words.strings("signed.adequacy"), escaped(value["adequacy"]))
    for reason in _reason(value, words):
        add("TX", words.strings("signed.title"), escaped(reason))
    add("ST", words.strings("signed.head"), signature.head_hash)
    add("TX", words.strings("signed.title"), escaped(words.strings("research_use")))
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


def _printed_time(signature: Signature) -> str:
    return signature.time_utc[:19].replace("T", " ")


def _style() -> str:
    return (files("marrowscope.review") / "templates" / "signed.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    return template_environment("marrowscope.review")
