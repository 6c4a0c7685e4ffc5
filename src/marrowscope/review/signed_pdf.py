"""A signed version, or a preliminary one, as a PDF for the archive: the content of ``signed_documents`` on A4 pages.

Raises DependencyError where typst, of the extra `pdf`, or a font of the language is missing.
"""

from __future__ import annotations

from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from marrowscope.report.typeset import find_pdf_fonts, typesetting
from marrowscope.report.words import load_words
from marrowscope.review.signed_documents import (
    answered_flags,
    learned_note,
    ratio_sentences,
    shown_categories,
    signed_by,
    title,
)

if TYPE_CHECKING:
    from marrowscope.report.words import Words
    from marrowscope.review.patient_state import Signature

_OF_PATIENT = ("patient_id", "center", "n_fields")


def signed_pdf(signature: Signature, lang: str = "en") -> bytes:
    """Return a version as PDF/A-2a; the same version gives the same bytes with the same fonts."""
    words, fonts = load_words(lang), find_pdf_fonts(lang)
    template = files("marrowscope.review") / "templates" / "signed.typ"
    created = datetime.fromisoformat(signature.time_utc).replace(microsecond=0)  # typst takes none
    document = _document(signature, words) | {"fonts": fonts.families}
    document["date"] = {"year": created.year, "month": created.month, "day": created.day}
    with typesetting(template, fonts, created) as setting:
        return setting.pdf(document)


def _document(signature: Signature, words: Words) -> dict[str, Any]:
    value, strings = signature.value, words.strings
    patient = value["patient"]
    flags = answered_flags(signature, words) or [strings("signed.no_flags")]
    reason = [strings("signed.reason", reason=value["reason"])] if value["reason"] else []
    vocabulary = f"{value['vocabulary']['name']} {value['vocabulary']['version']}"
    return {
        "title": title(signature, words),
        "language": words.strings.language,
        "region": "CN" if words.strings.language == "zh" else None,
        "research_use": strings("research_use"),
        "footer": f"{patient['patient_id']} · {signature.head_hash[:16]}",
        "opening": [strings("signed.patient", **{name: patient[name] for name in _OF_PATIENT})],
        "status": strings(f"signed.status.{value['status']}", version=value["version"]),
        "is_preliminary": value["status"] == "preliminary",
        "signed": [*reason, signed_by(signature, words)],
        "ratio": {"title": strings("signed.ratio"), "sentences": ratio_sentences(signature, words)},
        "categories": {
            "title": strings("signed.category"),
            "head": [strings("signed.category"), strings("signed.named"), strings("signed.predicted")],
            "rows": [
                [f"{key}: {name}", str(counts["named_by_eye"]), str(counts["predicted_only"])]
                for key, name, counts in shown_categories(signature, words)
            ],
            "note": learned_note(signature, words),
        },
        "parts": [
            {"title": strings("signed.adequacy"), "lines": [value["adequacy"] or strings("signed.no_comment")]},
            {
                "title": strings("signed.flags"),
                "lines": flags,
            },
            {
                "title": strings("signed.provenance"),
                "lines": [strings("signed.bundle", bundle=value["bundle"], vocabulary=vocabulary)],
            },
        ],
        "proof": [
            f"{strings('signed.head')}: {signature.head_hash}",
            strings("signed.verify", head=signature.head_hash),
        ],
    }
