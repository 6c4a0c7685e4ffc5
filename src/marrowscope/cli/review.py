"""``marrowscope review``: start a station, look after its database, and take out what people decided.

Longer than 400 lines by the options and help texts of its commands, which read alike and stand in this one file.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from marrowscope.cli.cohort import FORMATS
from marrowscope.cli.command import add_command
from marrowscope.cli.options import BundleOption

if TYPE_CHECKING:
    from marrowscope.review.binding import Rebound
    from marrowscope.review.single_sign_on import SingleSignOn
    from marrowscope.review.station import Station

_PORT = 8760
_EXIT_UNSOUND = 1


class _StartsByDefault(TyperGroup):
    """A group whose command ``start`` may be left out: ``marrowscope review RUN``."""

    default_command = "start"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  Typer's own copy of click
        """Put ``start`` before words that do not begin with a command or ask for help."""
        if args and args[0] not in self.commands and args[0] not in {"-h", "--help"}:
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_StartsByDefault,
    no_args_is_help=True,
    help="""Review a run's cells in the browser: correct, count and sign. `marrowscope review RUN` starts it.

    Example: marrowscope review runs/first
    """,
)

DatabaseArgument = Annotated[
    str,
    typer.Argument(metavar="DB", help="Folder of a review, its SQLite file, or postgresql+psycopg://user@host/name."),
]


def start(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders written by `marrowscope predict`.")],
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
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            "--bundle",
            "-b",
            show_default="as predicted",
            help="Model bundle of a run, if it has moved since the prediction; repeat for runs of several.",
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open no browser.")] = False,
    db: Annotated[
        str | None,
        typer.Option(
            metavar="<url>",
            show_default="SQLite in --out",
            help="PostgreSQL for several people with accounts: postgresql+psycopg://user@host/name.",
        ),
    ] = None,
    accounts: Annotated[
        bool, typer.Option("--accounts", help="Ask for accounts, with SQLite too; always so with --db.")
    ] = False,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="<url>",
            show_default="this computer only",
            help="Address that browsers use, of a proxy on this computer that speaks HTTPS: https://review.example.org.",
        ),
    ] = None,
    oidc_issuer: Annotated[
        str | None,
        typer.Option(
            metavar="<url>",
            show_default="none",
            help="Single sign-on (OpenID Connect), with --public-url; MARROWSCOPE_OIDC_SECRET holds its secret.",
        ),
    ] = None,
    oidc_client: Annotated[
        str, typer.Option(metavar="<name>", help="Name of this station at the single sign-on.")
    ] = "marrowscope",
    runs_root: Annotated[
        Path | None,
        typer.Option(show_default="none", help="Folder below which an admin may add runs while the station works."),
    ] = None,
) -> None:
    """Start a station for one person on this computer, and open it in the browser.

    Decisions are kept in a database beside the run; the run itself is never changed. The address that is printed works
    once and only on this computer. Ctrl+C ends the station; the next start goes on where it stopped. With --db or
    --accounts, everybody enters with a name and a password instead (`marrowscope review account`).

    Example: marrowscope review start runs/first --no-browser
    """
    require_review()
    import getpass
    from contextlib import nullcontext

    from marrowscope.disk import locked
    from marrowscope.errors import ConfigError
    from marrowscope.review.review_folder import open_station
    from marrowscope.review.serve import public_host, serve

    if db is not None and "://" not in db:
        message = (
            f"--db: found {db!r}, expected the address of a database, postgresql+psycopg://user@host/name; a folder "
            "is named with --out"
        )
        raise ConfigError(message)
    host = None if public_url is None else public_host(public_url)
    sign_on = _single_sign_on(oidc_issuer, oidc_client, public_url) if oidc_issuer else None
    folder = out or runs[0].resolve().with_name(f"{runs[0].resolve().name}-review")
    needs_lock = db is None and out is None  # --out is locked by every command that has it
    held = locked(folder, lambda sentence: typer.echo(sentence, err=True)) if needs_lock else nullcontext()
    lone = None if db or accounts or public_url else reader or getpass.getuser()
    with (
        held,
        open_station(
            db or folder,
            runs,
            lone_reader=lone,
            images_root=images_from,
            runs_root=runs_root,
            single_sign_on=sign_on,
            bundles=bundle or (),
        ) as station,
    ):
        _tell_rebound(station)
        _tell_missing(station)
        place = str(folder) if db is None else "PostgreSQL"
        serve(
            station,
            port=port,
            public_host=host,
            on_ready=lambda address: _announce(station, public_url or address, place, opens=not no_browser),
        )


def _single_sign_on(issuer: str, client: str, public_url: str | None) -> SingleSignOn:
    """Set up the single sign-on; its secret stands in no command line, which every process can read."""
    import os
    from importlib.util import find_spec

    from marrowscope.errors import ConfigError, DependencyError

    if find_spec("authlib") is None:
        message = "found no module authlib, which single sign-on needs; run pip install '.[review,oidc]'"
        raise DependencyError(message)
    from marrowscope.review.single_sign_on import Provider, SingleSignOn

    secret = os.environ.get("MARROWSCOPE_OIDC_SECRET")
    if public_url is None or not secret:
        lacking = "no --public-url" if public_url is None else "no MARROWSCOPE_OIDC_SECRET in the environment"
        message = f"--oidc-issuer: found {lacking}, expected both; the provider sends people back to that address"
        raise ConfigError(message)
    return SingleSignOn(Provider(issuer, client, secret, f"{public_url.rstrip('/')}/oidc/back"))


def _tell_missing(station: Station) -> None:
    """Warn where photographs are not where the prediction read them; raises ReviewError where none of a run's are."""
    import polars as pl

    from marrowscope.errors import ReviewError
    from marrowscope.wording import count_of

    for run in station.cells.runs:
        fields = pl.scan_parquet(run.folder / "fields.parquet").filter(pl.col("error").is_null())
        paths = fields.select(pl.col("path").unique(maintain_order=True)).collect()["path"].to_list()
        n_missing, n_looked_for = station.images.missing(paths)
        if not n_missing:
            continue
        message = (
            f"{run.folder}: found {n_looked_for - n_missing} of {count_of(n_looked_for, 'photograph')} looked for "
            f"({paths[0]} ...), expected them where the prediction read them; start the station in the folder where "
            "`marrowscope predict` was called, or name their folder with --images-from"
        )
        if n_missing == n_looked_for:
            raise ReviewError(message)
        typer.echo(f"Warning: {message}", err=True)


def _tell_rebound(station: Station) -> None:
    """Say of each patient that was predicted again what was carried."""
    from marrowscope.wording import count_of

    for patient in station.rebound:
        carried = count_of(patient.n_carried, "decision")
        lost = (
            f"; not carried: {', '.join(named)} (*Predicted again* on the patient's page)"
            if (named := _left(patient))
            else ""
        )
        again = "; it stays signed and locked until it is amended" if patient.was_signed else ""
        typer.echo(f"Predicted again: {patient.patient_id}, {carried} carried to its new cells{lost}{again}.", err=True)


def _left(patient: Rebound) -> list[str]:
    """Name what a new prediction did not take along."""
    from marrowscope.wording import count_of

    found = [count_of(patient.n_not_carried, "decision")] if patient.n_not_carried else []
    for item in patient.left:
        by = f" by {', '.join(item.readers)}"
        found.append(
            {
                "audit": f"a random audit ({item.n} of {count_of(item.of, 'cell')} named)",
                "full_review": f"a full review{by}",
                "signature": f"a signature{by}",
                "fields_checked": f"{count_of(item.n, 'checked field')}{by}",
                "flags_answered": f"{count_of(item.n, 'answered flag')}{by}",
            }[item.kind]
        )
    return found


def _announce(station: Station, address: str, place: str, *, opens: bool) -> None:
    """Print the address, flushed, since a script may wait for it, and open it."""
    import sys
    import webbrowser

    is_alone = station.lone_reader is not None
    entrance = f"{address}/enter?token={station.one_time_token()}" if is_alone else f"{address}/login"
    typer.echo(f"Review database: {place}")
    typer.echo(f"Open once, on this computer: {entrance}" if is_alone else f"Enter at: {entrance}")
    typer.echo("Ctrl+C ends the station.")
    sys.stdout.flush()
    if opens:
        webbrowser.open(entrance)


def verify(
    db: DatabaseArgument,
    *,
    head: Annotated[
        str | None,
        typer.Option(metavar="<hash>", show_default="none", help="Head of the chain that a signed document states."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check the log of a review: name every event that was edited, deleted, moved or added since it was recorded.

    With --head, also say whether the log still holds what a signed document was signed on. Exits with 1 for a fault.

    Example: marrowscope review verify runs/first-review
    """
    require_review()
    import json

    from marrowscope.review.review_folder import open_store
    from marrowscope.wording import count_of

    with open_store(db, reads_only=True) as store:
        faults = store.verify()
        found = store.head_if_one()
        signed_at = store.number_of(head) if head else None
    is_lost = head is not None and signed_at is None
    if as_json:
        named = [{"sequence": fault.sequence, "kind": fault.kind, "sentence": fault.sentence} for fault in faults]
        typer.echo(
            json.dumps(
                {
                    "events": found.sequence if found else None,
                    "head": found.hash if found else None,
                    "faults": named,
                    "signed_at": signed_at,
                },
                indent=2,
            )
        )
    else:
        for fault in faults:
            typer.echo(f"{fault.kind.capitalize()}: {fault.sentence}")
        if is_lost:
            typer.echo(f"Head {head}: found no such event; what was signed is no longer in this log")
        elif head:
            typer.echo(f"Head {head}: it is event {signed_at}")
        if not faults and found:
            typer.echo(f"Sound: {count_of(found.sequence, 'event')}, head {found.hash}")
    if faults or is_lost:
        raise typer.Exit(_EXIT_UNSOUND)


def backup(
    db: DatabaseArgument,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="SQLite file to write; it must not exist.")],
) -> None:
    """Write a backup of a review to one file, while the station works or not.

    Example: marrowscope review backup runs/first-review --out backups/first.sqlite
    """
    require_review()
    from marrowscope.review.review_folder import open_store
    from marrowscope.review.transfer import back_up

    with open_store(db) as store:
        head = back_up(store, out)
    typer.echo(f"Backup: {out}, {head.sequence} events, head {head.hash}")


def restore(
    backup_file: Annotated[Path, typer.Argument(metavar="BACKUP", help="File written by `marrowscope review backup`.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the review to make; it must hold no database.")],
) -> None:
    """Make the folder of a review from a backup; nothing is replaced. Into PostgreSQL: `marrowscope review copy`.

    Example: marrowscope review restore backups/first.sqlite --out runs/first-review
    """
    require_review()
    from marrowscope.review.review_folder import DATABASE_NAME
    from marrowscope.review.transfer import restore as restored

    head = restored(backup_file, out / DATABASE_NAME)
    typer.echo(f"Review: {out}, {head.sequence} events, head {head.hash}")


def copy(
    source: DatabaseArgument,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Empty database, written as DB is.")],
) -> None:
    """Copy a review into another database: from SQLite to PostgreSQL when a department joins in, or back.

    Both have the same events, head and accounts then. A target that holds any of them is refused.

    Example: marrowscope review copy runs/first-review postgresql+psycopg://review@db.example.org/review
    """
    require_review()
    from marrowscope.review.review_folder import open_store
    from marrowscope.review.transfer import copy as copied

    with open_store(source) as origin, open_store(target, makes=True) as aim:
        head = copied(origin, aim)
    typer.echo(f"Copied: {head.sequence} events, head {head.hash}")


def export(
    db: DatabaseArgument,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that was reviewed.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="New or empty folder for the cohort.")],
    file_format: Annotated[
        str, typer.Option("--format", metavar=f"<{FORMATS}>", help="Annotation format.")
    ] = "labelme",
    signed: Annotated[bool, typer.Option("--signed", help="Write signed patients only.")] = False,
    images: Annotated[bool, typer.Option(help="Copy the images next to the annotations.")] = True,
    split: Annotated[
        Path | None,
        typer.Option(
            show_default="split.csv of the cohort that was predicted",
            help="CSV with patient_id and role (train, validation, test): exported patients keep their roles.",
        ),
    ] = None,
) -> None:
    """Write the cells that people named as a cohort, to train on (`marrowscope prepare`) or to evaluate with.

    Disputed and unseen cells have no shape; a list beside the cohort has every cell with its status. The review is only
    read; it must be about this prediction of the run. The cohort carries a split.csv where a split is named; none is
    invented.

    Example: marrowscope review export runs/first-review runs/first --out corrected
    """
    require_review()
    from marrowscope.review.export_cohort import LIST_NAME, SPLIT_NAME, export_review
    from marrowscope.review.review_folder import open_station
    from marrowscope.wording import count_of

    with open_station(db, [run], lone_reader=None, reads_only=True) as station:
        done = export_review(station, out, file_format, signed_only=signed, copy_images=images, split=split)
    counts = ", ".join(f"{n} {status}" for status, n in sorted(done.by_status.items()))
    typer.echo(
        f"{done.folder}: {count_of(done.n_patients, 'patient')}, {count_of(done.n_images, 'image')}, "
        f"{done.n_exhaustive} of them annotated exhaustively"
    )
    typer.echo(f"Cells: {counts}; each stands in {done.folder / LIST_NAME}")
    if done.split_from is None and done.split_missing:
        typer.echo(
            f"Split: none is written: {', '.join(map(str, done.split_missing))} was looked for, and its folder is not "
            "there; name the file with --split, or call this from where the run was predicted"
        )
    elif done.split_from is None:
        typer.echo("Split: none is named, so none is written; name one with --split to keep its roles")
    else:
        typer.echo(f"Split: {done.folder / SPLIT_NAME}, with the roles of {done.split_from}")


def agreement(
    db: DatabaseArgument,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that was reviewed.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="New or empty folder for the tables.")],
) -> None:
    """Compare blinded readers: kappa by category and lineage, their confusions, and their ratios, as CSV.

    Only cells that all compared readers named enter; adjudication does not change what they said.

    Example: marrowscope review agreement runs/first-review runs/first --out readers
    """
    require_review()
    from marrowscope.review.reader_comparison import compare_readers, write_comparison
    from marrowscope.review.review_folder import open_station
    from marrowscope.wording import count_of

    with open_station(db, [run], lone_reader=None, reads_only=True) as station:
        states = {
            name: station.state(name)
            for name, progress in station.progress.patients().items()
            if progress.was_assigned and name in station.cells.rows
        }
        found = compare_readers(states, station.vocabulary)
    write_comparison(found, out)
    for row in found.kappas:
        if not row.name:
            typer.echo(f"{row.readers}, {row.level}: kappa {row.kappa:.3f} on {count_of(row.n_cells, 'cell')}")
    typer.echo(f"Tables: {out}")


def rates(
    db: DatabaseArgument,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that was reviewed.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new bundle.")],
    center: Annotated[
        str | None,
        typer.Option(metavar="<name>", show_default="every center of RUN", help="Measure this center alone."),
    ] = None,
    bundle: BundleOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier bundle in --out.")] = False,
) -> None:
    """Measure a center's error rates on its audited patients, and write the bundle of RUN again with them.

    A center needs 20 patients with a complete look of a random audit, or a full review. Its rates are for its patients
    alone, and `predict` corrects ratios with them once 30 patients were fully reviewed, at most 2 of them with a ratio
    outside the interval. The review is only read.

    Example: marrowscope review rates runs/first-review runs/first --out bundle-measured
    """
    require_review()
    from marrowscope.bundle import load_bundle, refuse_bundle_folder
    from marrowscope.bundle.shipped import bundle_path
    from marrowscope.review.review_folder import open_station
    from marrowscope.studies.site_bundle import (
        measure_sites,
        require_bundle_of_run,
        reviewed_sites,
        with_center_rates,
    )

    refuse_bundle_folder(out, overwrite=overwrite)
    opened = load_bundle(bundle_path(bundle))
    with open_station(db, [run], lone_reader=None, reads_only=True) as station:
        require_bundle_of_run(opened, station)
        sites = reviewed_sites(station, center)
        vocabulary = station.vocabulary
    for site in sites:
        if site.lacks:
            typer.echo(site.lacks, err=True)
    measured = measure_sites(sites, vocabulary, opened.quantification)
    with_center_rates(opened, {name: item.stored for name, item in measured.items()}, out, overwrite=overwrite)
    for name, item in measured.items():
        typer.echo(item.sentence(name))
    typer.echo(f"Bundle: {out}")


class RoleName(StrEnum):
    """The roles of ``review.accounts``."""

    reader = "reader"
    signer = "signer"
    auditor = "auditor"
    admin = "admin"


def account(
    db: DatabaseArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name to enter with.")],
    *,
    role: Annotated[
        list[RoleName] | None, typer.Option(show_default="reader", help="What the account may do; repeat for several.")
    ] = None,
    full_name: Annotated[str, typer.Option(show_default="NAME", help="Name as signed documents print it.")] = "",
    subject: Annotated[
        str | None, typer.Option(show_default="none", help="Name at the single sign-on (OIDC); no password is asked.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking for it.")
    ] = False,
) -> None:
    """Make an account; the database is made where it is not there. The first one should be an admin.

    A reader sees and decides; a signer also signs; an auditor sees and checks the log; an admin makes accounts.

    Example: marrowscope review account runs/first-review ada --role admin --role signer
    """
    require_review()
    import sys

    from marrowscope.review.accounts import add_account, is_made
    from marrowscope.review.review_folder import open_store

    password = None
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif subject is None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    roles = [item.value for item in role or [RoleName.reader]]
    with open_store(db, makes=True) as store:
        if not is_made(store.engine, name, roles, full_name=full_name, password=password, subject=subject):
            add_account(store.engine, name, roles, full_name=full_name, password=password, subject=subject)
    typer.echo(f"Account: {name} ({', '.join(roles)})")


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


add_command(app, start, writes_into_input=False)
add_command(app, verify)
add_command(app, backup)
add_command(app, restore)
add_command(app, copy)
add_command(app, export, makes_a_folder=True)
add_command(app, agreement, makes_a_folder=True)
add_command(app, rates, makes_a_folder=True)
add_command(app, account)
