"""How a command ends when the system or the terminal asks it to: with the signal's exit code, and without a word.

The first request raises in the main thread, so that every block is left in order. A library may turn that into an error
of its own, or it may be raised where nothing is passed on (while an object is removed). So the request is remembered:
whatever was raised afterwards is a consequence, which nobody needs to read, and a request that was lost is repeated.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_SIGNAL = 128
_REPEATED_AFTER_S = 0.1
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_NUMBERS = tuple(int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name))


class _Request:
    """The signal that asked this process to end, None without one, and whether what it raised got lost."""

    number: int | None = None
    is_lost = False
    are_hooks_set = False


def answer_requests_to_end() -> None:
    """Let each of the signals raise in the main thread; a second one that is not Ctrl-C ends the process at once.

    One that is ignored stays so: ``nohup`` starts a command that shall go on when its terminal closes.
    """
    _Request.number, _Request.is_lost = None, False
    for number in _NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    if not _Request.are_hooks_set:
        _Request.are_hooks_set = True
        sys.unraisablehook = _quiet_unraisable(sys.unraisablehook)
        threading.excepthook = _quiet(threading.excepthook)


def code_of_request() -> int | None:
    """Return the exit code of the signal that asked the command to end, None where none did."""
    return None if _Request.number is None else _SIGNAL + _Request.number


def leave_signals_to_the_system() -> None:
    """Let a signal end the process without a word: the command is over, and Python only takes itself down."""
    for number in _NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    is_second = _Request.number is not None and not _Request.is_lost
    _Request.number, _Request.is_lost = _Request.number or number, False
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if is_second:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    sys.exit(_SIGNAL + number)


def _quiet(before: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return ``before`` for as long as nobody asked the process to end."""

    def hook(raised: Any) -> None:  # noqa: ANN401 - two types of Python's own
        if _Request.number is None:
            before(raised)

    return hook


def _quiet_unraisable(before: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return ``before``, but where the request itself got lost: it comes once more, a moment later."""
    tell = _quiet(before)

    def hook(raised: Any) -> None:  # noqa: ANN401
        tell(raised)
        if _Request.number is not None and isinstance(raised.exc_value, KeyboardInterrupt | SystemExit):
            _Request.is_lost = True
            again = threading.Timer(_REPEATED_AFTER_S, _thread.interrupt_main, (_Request.number,))
            again.daemon = True
            again.start()

    return hook
