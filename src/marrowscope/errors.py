"""All errors of the package, in one tree.

    MarrowscopeError
    ├── InputError            the user's input cannot be used; the command line exits with 2
    │   ├── ConfigError       a setting or configuration file
    │   ├── VocabularyError   an unknown label, a broken vocabulary or mapping file
    │   ├── CohortError       a cohort with faults; carries all of them
    │   ├── ImageError        an image that cannot be read
    │   ├── ScaleError        no micrometers per pixel where a scale is needed
    │   └── BundleError       a model bundle that is damaged, incomplete or does not pass its golden sample
    ├── RunError              a run folder that cannot be continued or read; exits with 2
    │   └── LockLostError     another call took over what this one was writing to
    ├── ReviewError           a review database, or a decision it refuses; exits with 2
    ├── DependencyError       a command needs an extra that is not installed; exits with 2
    ├── ReportError           a report without some patients, all others are complete; exits with 1
    └── TrainingError         training cannot continue (a loss that is not finite, a split without cells); exits with 1

A message is one or two sentences: what was found, what was expected, where, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import Fault


class MarrowscopeError(Exception):
    """Base of all errors that this package raises on purpose."""


class InputError(MarrowscopeError):
    """The user's input cannot be used; the command line prints the message and exits with 2."""


class ConfigError(InputError):
    """A setting or a configuration file is wrong."""


class VocabularyError(InputError):
    """A label is unknown, or a vocabulary or mapping file is broken."""


class ImageError(InputError):
    """An image cannot be read; ``fault`` has the parts of the message, if the reader knows them."""

    def __init__(self, message: str, fault: Fault | None = None) -> None:
        """Keep the fault with the message."""
        super().__init__(message)
        self.fault = fault


class ScaleError(InputError):
    """An image has no micrometers per pixel where a scale is needed."""


class BundleError(InputError):
    """A model bundle is damaged, incomplete, or fails its golden sample."""


class CohortError(InputError):
    """A cohort has faults that would lose data; ``faults`` has all of them."""

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        """Keep the faults with the message."""
        super().__init__(message)
        self.faults = tuple(faults)


class RunError(MarrowscopeError):
    """A run folder cannot be continued or read."""


class LockLostError(RunError):
    """Another call took over the lock of what this one was writing to."""


class ReviewError(MarrowscopeError):
    """A review database cannot be used, or refuses what is to be recorded."""


class DependencyError(MarrowscopeError):
    """A command needs an extra that is not installed."""


class ReportError(MarrowscopeError):
    """A report lacks a patient; all others are written."""


class TrainingError(MarrowscopeError):
    """Training cannot continue."""
