"""Sign-off: the checklist, the signature, an amendment, and the documents of every signed version and of none yet."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from marrowscope.errors import DependencyError
from marrowscope.report.words import load_words
from marrowscope.review.accounts import utc_now
from marrowscope.review.guard import SEE, SIGN, RefusedError, unblinded
from marrowscope.review.patient_state import Signature
from marrowscope.review.routes.sent_values import EventNumber, SentValue, acknowledged
from marrowscope.review.sessions import Session
from marrowscope.review.sign import checklist, preliminary_value
from marrowscope.review.signed_documents import page_policy, preliminary, signed_fhir, signed_hl7, signed_html
from marrowscope.review.signed_pdf import signed_pdf

router = APIRouter()
_LONGEST_REASON = 4000


class SentSignature(SentValue):
    """A signature; ``base`` is the last event that the signer saw."""

    base: EventNumber


class SentAmendment(SentValue):
    """Why a signed result is opened again."""

    reason: str = Field(max_length=_LONGEST_REASON)


@router.get("/api/patients/{patient_id}/checklist")
def patient_checklist(
    request: Request,
    patient_id: str,
    session: Annotated[Session, Depends(SEE)],
    lang: Literal["en", "zh"] = "en",
) -> dict[str, Any]:
    """Return what must be done before the patient is signed, and what was."""
    chart, words = unblinded(request, patient_id, session).chart(patient_id), load_words(lang)
    items = [{"key": item.key, "done": item.is_done, "sentence": item.sentence(words)} for item in checklist(chart)]
    return {"sequence": chart.state.sequence, "signed": chart.state.is_locked, "items": items}


@router.post("/api/patients/{patient_id}/sign")
def sign(
    request: Request,
    patient_id: str,
    sent: Annotated[SentSignature, Body()],
    session: Annotated[Session, Depends(SIGN)],
) -> dict[str, Any]:
    """Sign the patient; no decision is recorded afterwards, unless it is amended."""
    appended = unblinded(request, patient_id, session).sign(patient_id, session.reader, session.full_name, sent.base)
    version = appended.events[-1].new["version"]
    return {**acknowledged(appended), "version": version}


@router.post("/api/patients/{patient_id}/amend")
def amend(
    request: Request,
    patient_id: str,
    sent: Annotated[SentAmendment, Body()],
    session: Annotated[Session, Depends(SIGN)],
) -> dict[str, Any]:
    """Open a signed patient again, with a reason; the signed version stays."""
    appended = unblinded(request, patient_id, session).amend(patient_id, session.reader, sent.reason)
    return acknowledged(appended)


@router.get("/api/patients/{patient_id}/signed/{version}.{kind}")
def document(  # noqa: PLR0917  FastAPI names them
    request: Request,
    patient_id: str,
    version: int,
    kind: str,
    session: Annotated[Session, Depends(SEE)],
    lang: Literal["en", "zh"] = "en",
) -> Response:
    """Return a signed version as a document: ``html``, ``pdf``, ``json`` (FHIR) or ``hl7``."""
    signature = unblinded(request, patient_id, session).signed_version(patient_id, version)
    if signature is None:
        raise RefusedError(
            404, f"patient {patient_id!r}: found no signed version {version}, expected one of those signed"
        )
    return _document(signature, kind, f"signed-{version}", lang)


@router.get("/api/patients/{patient_id}/preliminary.{kind}")
def preliminary_document(
    request: Request,
    patient_id: str,
    kind: str,
    session: Annotated[Session, Depends(SEE)],
    lang: Literal["en", "zh"] = "en",
) -> Response:
    """Return a patient that is not signed as a preliminary document, of the kinds of a signed version."""
    station = unblinded(request, patient_id, session)
    chart = station.chart(patient_id)
    if chart.state.is_locked:
        raise RefusedError(
            409, f"patient {patient_id!r}: found a signed result, expected none; open the signed version"
        )
    value = preliminary_value(chart, session.full_name, station.store.head())
    version = preliminary(value, session.reader, utc_now().isoformat())
    return _document(version, kind, "preliminary", lang)


def _document(version: Signature, kind: str, name: str, lang: str) -> Response:
    if kind == "html":
        return HTMLResponse(signed_html(version, lang), headers={"Content-Security-Policy": page_policy()})
    if kind == "json":
        return _download(signed_fhir(version, lang), "application/fhir+json; charset=utf-8", f"{name}.json")
    if kind == "hl7":
        return _download(signed_hl7(version, lang), "x-application/hl7-v2+er7; charset=utf-8", f"{name}.hl7")
    if kind == "pdf":
        try:
            return _download(signed_pdf(version, lang), "application/pdf", f"{name}.pdf")
        except DependencyError as error:
            raise RefusedError(501, str(error)) from error
    raise RefusedError(404, f"found no document of kind {kind!r}, expected html, pdf, json or hl7")


def _download(content: str | bytes, media_type: str, name: str) -> Response:
    return Response(
        content, headers={"Content-Disposition": f'attachment; filename="{name}"', "Content-Type": media_type}
    )
