"""The command line: one typer application, with one module per command or group of commands.

A module ``cli/<name>.py`` defines either one function ``<name>`` (a command) or one ``app = typer.Typer(...)`` (a
group of commands). Its top level imports only light modules (typer, pathlib, typing, the errors); stages, numpy, cv2
and polars are imported inside the function, so that ``marrowscope --help`` stays fast. The function's docstring is its
help text and ends with a paragraph ``Example: marrowscope <name> ...``. Each command is registered here in one line.

Exit codes: 0 done; 1 the work failed or is incomplete; 2 the input, an option or the installation is at fault.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from marrowscope import __version__
from marrowscope.cli import bench, cohort, train, vocabulary
from marrowscope.cli.demo import demo
from marrowscope.cli.doctor import doctor
from marrowscope.cli.evaluate import evaluate
from marrowscope.cli.export import export
from marrowscope.cli.precision import precision
from marrowscope.cli.predict import predict
from marrowscope.cli.prepare import prepare
from marrowscope.cli.quantify import quantify
from marrowscope.cli.report import report
from marrowscope.cli.reproduce import reproduce
from marrowscope.cli.simulate import simulate
from marrowscope.errors import DependencyError, InputError, MarrowscopeError, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130
_NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])})
"""The disk is full, the file exceeds a size limit, or the quota is used up."""
_TRAINING_MODULES = frozenset(
    {"onnx", "onnxscript", "onnxslim", "safetensors", "tensorboard", "timm", "torch", "torchvision", "ultralytics"}
)
"""Modules that the extra ``train`` installs; a command that lacks one reports it in one sentence."""

app = typer.Typer(
    name="marrowscope",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # paragraphs of a docstring flow to the terminal width
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(*, requested: bool) -> None:
    """Print the version and stop, where ``--version`` was given."""
    if requested:
        typer.echo(f"marrowscope {__version__}")
        raise typer.Exit


@app.callback()
def marrowscope(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Measure a patient's ratio of blast-like cells from photographs of a bone marrow smear; every cell can be checked.

    For research use only: it supports a qualified person; it does not diagnose.

    Example: marrowscope demo
    """
    del version


_READ = "From images to a report"
TRAIN = "From annotations to a model"
_CHECK = "Look and check"

app.command(rich_help_panel=_READ)(demo)
app.command(rich_help_panel=_READ)(predict)
app.command(rich_help_panel=_READ)(report)
app.command(rich_help_panel=TRAIN)(simulate)
app.command(rich_help_panel=TRAIN)(prepare)
app.add_typer(train.app, name="train", rich_help_panel=TRAIN)
app.command(rich_help_panel=TRAIN)(export)
app.command(rich_help_panel=TRAIN)(quantify)
app.command(rich_help_panel=TRAIN)(precision)
app.add_typer(bench.app, name="bench", rich_help_panel=_CHECK)
app.command(rich_help_panel=TRAIN)(reproduce)
app.command(rich_help_panel=_CHECK)(doctor)
app.command(rich_help_panel=_CHECK)(evaluate)
app.add_typer(cohort.app, name="cohort", rich_help_panel=_CHECK)
app.add_typer(vocabulary.app, name="vocabulary", rich_help_panel=_CHECK)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (``sys.argv`` if ``arguments`` is None) and exit; print our own errors as one sentence."""
    try:
        app(None if arguments is None else list(arguments))
    except (InputError, RunError, DependencyError) as error:
        _stop(error, _EXIT_BAD_INPUT)
    except MarrowscopeError as error:
        _stop(error, _EXIT_FAILED)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _TRAINING_MODULES:
            raise
        message = (
            f"found no module {error.name}, which training needs; in a copy of the repository, "
            "run pip install '.[train]'"
        )
        _stop(DependencyError(message), _EXIT_BAD_INPUT)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}cannot write any more ({error.strerror}); free some space, then run the same command again"
        _stop(RunError(message), _EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)
    sys.exit(0)


def _stop(error: MarrowscopeError, code: int) -> NoReturn:
    """Print the error on standard error and exit with ``code``."""
    typer.echo(f"Error: {error}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
