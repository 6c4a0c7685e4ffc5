"""How every command is added: its paths are checked at the door, its lock is held, its usage line is plain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec

import typer
from typer.core import TyperCommand

from marrowscope.cli.addresses import Reads, with_addresses
from marrowscope.cli.one_call import one_call_at_a_time
from marrowscope.cli.paths import with_checked_paths
from marrowscope.cli.same_call import done_once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_P = ParamSpec("_P")


class PlainCommand(TyperCommand):
    """A command in plain words: no braces in its usage line, no words of pydantic about a wrong value."""

    trains = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  Typer's own copy of click
        """Read the words of a call; a value that does not fit is refused with what was found and expected."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            faults: list[Any] = getattr(error.__cause__, "errors", list)()
            if faults:
                from marrowscope.config import rule_of

                error.message = "; ".join(f"found {fault['input']!r}, {_choices(rule_of(fault))}" for fault in faults)
            raise

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  Typer's own copy of click
        """Run the command where there is room for the libraries; without it they end this process, or hang."""
        from marrowscope.machine import refuse_small_address_space

        refuse_small_address_space(trains=self.trains)
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401  Typer's own copy of click
        """Return ``INPUTS...`` and ``[CROPS]`` for what Typer writes ``{INPUTS}...`` and ``[CROPS]``."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


def _choices(rule: str) -> str:
    """Return ``expected marrow or blood`` for what Typer says of a choice: ``'x' is not one of 'marrow', 'blood'.``."""
    _, is_choice, offered = rule.partition(" is not one of ")
    if not is_choice:
        return rule
    *first, last = (name.strip().strip("'") for name in offered.rstrip(".").split(","))
    return f"expected {', '.join(first)} or {last}" if first else f"expected {last}"


class TrainingCommand(PlainCommand):
    """A plain command that loads PyTorch."""

    trains = True


def add_command(
    group: typer.Typer,
    function: Callable[_P, None],
    *,
    name: str | None = None,
    panel: str | None = None,
    writes_into_input: bool = False,
    makes_a_folder: bool = False,
    trains: bool = False,
    addresses: Mapping[str, Reads] | None = None,
) -> None:
    """Add ``function`` to ``group`` under ``name``, its own by default.

    ``writes_into_input`` is for a command that may write inside the folder it reads. ``makes_a_folder`` is for one
    whose ``out`` is a folder that is marked when it is complete, and that follows from its options and the files it
    reads: the same call is then made once, but where it reads a review in PostgreSQL. A station changes what it writes
    without a trace in these, so its commands with a database in ``out`` are not. ``trains`` is for one that loads
    PyTorch, which takes room. ``addresses`` are the parameters that may be addresses of an object store, and what is
    copied of each; ``out`` may be one too then.
    """
    made = done_once(function) if makes_a_folder else function
    checked = with_checked_paths(one_call_at_a_time(made), writes_into_input=writes_into_input)
    kind = TrainingCommand if trains else PlainCommand
    group.command(name, cls=kind, rich_help_panel=panel)(with_addresses(checked, addresses or {}))
