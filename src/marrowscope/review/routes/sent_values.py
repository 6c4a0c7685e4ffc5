"""What the routes' requests and answers have in common: how values are sent, and how a record is acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from marrowscope.review.accounts import LONGEST_PASSWORD
from marrowscope.review.database import LARGEST_NUMBER

if TYPE_CHECKING:
    from marrowscope.review.store import Appended

ShortText = Annotated[str, Field(max_length=1000)]
"""A name, or another text of one line."""

SentPassword = Annotated[str, Field(max_length=10 * LONGEST_PASSWORD)]
"""A password as somebody types it: one that is too long is told so, and not cut off."""

EventNumber = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
"""The number of an event; 0 before any."""


class SentValue(BaseModel):
    """The body of a request; a name that nobody asks for is refused."""

    model_config = ConfigDict(extra="forbid")


def acknowledged(appended: Appended) -> dict[str, Any]:
    """Say that something is on disk: the number and the hash of its last event."""
    return {"sequence": appended.head.sequence, "head": appended.head.hash}
