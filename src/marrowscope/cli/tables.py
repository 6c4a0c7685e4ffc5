"""Tables on the terminal: long cells wrap instead of being cut off, and piped output is wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_PIPED_WIDTH = 160


def new_table(*columns: str, title: str) -> Table:
    """Create an empty table of ``columns`` whose cells wrap on a narrow terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print to standard output. Cells may contain user text, in which the caller has escaped markup."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    console.print(table)
