"""The command line: one module per command or group, assembled in ``main``; ``start`` is what the shell runs."""

from __future__ import annotations

import signal
from typing import NoReturn


def start() -> NoReturn:
    """Load the command line and run it; Ctrl-C while it loads ends the process without a word, as the system does.

    Nothing is begun then that would have to be left in order, and Python's own answer is a page of import lines. An
    interrupt that is ignored stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from marrowscope.cli.main import main

    main()
