"""``marrowscope review``: start a station, and look after its database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from marrowscope.cli.command import add_command

if TYPE_CHECKING:
    from marrowscope.review.station import Station

_START = "start"
_PORT = 8760


class _StartsByDefault(TyperGroup):
    """A group whose command ``start`` may be left out: ``marrowscope review RUN``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  Typer's own copy of click
        """Put ``start`` before words that do not begin with a command or ask for help."""
        if args and args[0] not in self.commands and args[0] not in {"-h", "--help"}:
            args = [_START, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_StartsByDefault,
    no_args_is_help=True,
    help="""Review a run's cells in the browser: correct, count and sign. `marrowscope review RUN` starts it.

    Example: marrowscope review runs/first
    """,
)


def start(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders written by `marrowscope predict`.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", show_default="RUN-review", help="Folder of the review's database."),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(show_default="name of the account", help="Your name, as decisions record it.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this computer; 0 takes any free one.")] = _PORT,
    images_from: Annotated[
        Path | None,
        typer.Option(
            show_default="as predicted", help="Folder with the images, if they have moved since the prediction."
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open no browser.")] = False,
) -> None:
    """Start a station for one person on this computer, and open it in the browser.

    Decisions are kept in a database beside the run; the run itself is never changed. The address that is printed works
    once and only on this computer. Ctrl+C ends the station; the next start goes on where it stopped.

    Example: marrowscope review start runs/first --no-browser
    """
    require_review()
    import getpass
    from contextlib import nullcontext

    from marrowscope.disk import locked
    from marrowscope.review.folder import open_folder
    from marrowscope.review.serve import serve

    folder = out or runs[0].resolve().with_name(f"{runs[0].resolve().name}-review")
    held = nullcontext() if out else locked(folder, lambda sentence: typer.echo(sentence, err=True))
    name = reader or getpass.getuser()
    with held, open_folder(folder, runs, lone_reader=name, images_root=images_from) as station:
        serve(station, port=port, on_ready=lambda address: _announce(station, address, folder, opens=not no_browser))


def _announce(station: Station, address: str, folder: Path, *, opens: bool) -> None:
    """Print the address, flushed, since a script may wait for it, and open it."""
    import sys
    import webbrowser

    entrance = f"{address}/enter?token={station.one_time_token()}"
    typer.echo(f"Review database: {folder}")
    typer.echo(f"Open once, on this computer: {entrance}")
    typer.echo("Ctrl+C ends the station.")
    sys.stdout.flush()
    if opens:
        webbrowser.open(entrance)


def require_review() -> None:
    """Raise DependencyError, with the command that installs it, where the extra ``review`` is missing."""
    from importlib.util import find_spec

    from marrowscope.errors import DependencyError

    for module in ("alembic", "argon2", "fastapi", "psycopg", "sqlalchemy", "uvicorn"):
        if find_spec(module) is None:
            message = (
                f"found no module {module}, which the review station needs; in a copy of the repository, run "
                "pip install '.[review]'"
            )
            raise DependencyError(message)


add_command(app, start)
