"""What a report does not show of a patient, and the border at which it is caught: no patient blocks another.

Whatever one patient's data raise becomes that patient's record. What concerns every patient (a full disk, a missing
extra, an interrupt) still stops the command.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from marrowscope.errors import DependencyError, MarrowscopeError, ReportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

ProblemKind = Literal["not_written", "without_pictures"]

_OF_THE_MACHINE = frozenset(
    {errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EMFILE, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])}
)
"""Errors of the system that no patient's data cause."""
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class PatientProblem:
    """One patient that is ``not_written``, or written ``without_pictures`` of all cells; ``reason`` is a sentence."""

    patient_id: str
    kind: ProblemKind
    reason: str

    def sentence(self) -> str:
        """Return the problem as one line, its patient named; control characters of an id are escaped."""
        return f"patient {self.patient_id!r}: {' '.join(self.reason.split())}"


def attempt(patient_id: str, work: Callable[[], T]) -> T | PatientProblem:
    """Return what ``work`` returns, or the problem of ``patient_id`` that kept it from returning.

    Raises DependencyError, and OSError where the disk or the system is at fault.
    """
    try:
        return work()
    except DependencyError:
        raise
    except MarrowscopeError as error:
        reason = str(error)
    except MemoryError:
        reason = "found too little memory, expected enough for the fields of one patient; close other programs"
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            raise
        reason = f"found {error}, expected files that can be read; check them and their rights"
    except Exception as error:  # noqa: BLE001  the one border: no patient's data may end the others' reports
        told = f"{type(error).__name__} ({error})"
        reason = f"found data that gave {told}, expected rows as `marrowscope predict` writes them; predict it again"
    return PatientProblem(patient_id, "not_written", reason)


def leave_out(names: list[str], name: str, out: Path) -> None:
    """Take ``name`` from the files that are moved to ``out`` at the end, and remove an earlier one of ours there.

    The earlier file would be taken for this run's; ``disk.new_files`` has refused one that is not ours.
    """
    names.remove(name)
    (out / name).unlink(missing_ok=True)


def tell(problems: Sequence[PatientProblem], on_problem: Callable[[PatientProblem], None] | None) -> None:
    """Return each problem to ``on_problem``; without it, raise ReportError where a patient was not written."""
    if on_problem is not None:
        for problem in problems:
            on_problem(problem)
        return
    missing = [problem.sentence() for problem in problems if problem.kind == "not_written"]
    if missing:
        more = f"; and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        message = f"incomplete: {'; '.join(missing[:_MOST_NAMED])}{more}. All other patients are written"
        raise ReportError(message)
