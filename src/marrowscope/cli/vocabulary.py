"""`marrowscope vocabulary`: the raw codes and their derived categories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.command import add_command
from marrowscope.cli.options import VocabularyOption

if TYPE_CHECKING:
    from marrowscope.records import JsonDict

app = typer.Typer(
    no_args_is_help=True, help="Show the raw codes, their categories, and mappings from other label schemes."
)


def show(
    file: VocabularyOption = None,
    *,
    ranges: Annotated[bool, typer.Option("--ranges", help="Also print the adult marrow reference ranges.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print every raw code with its category, group, lineage and the counts it enters.

    The meanings of the codes and their merging into 16 categories are inferred from public material.

    Example: marrowscope vocabulary show
    """
    from dataclasses import asdict

    from marrowscope.cli.tables import new_table, print_table
    from marrowscope.vocabulary import load_reference_ranges, load_vocabulary

    vocabulary = load_vocabulary(file)
    reference = load_reference_ranges()
    if as_json:
        document: JsonDict = {
            "name": vocabulary.name,
            "version": vocabulary.version,
            "sha256": vocabulary.sha256,
            "categories": vocabulary.categories,
            "codes": [asdict(code) for code in vocabulary.codes.values()],
        }
        if ranges:
            document["reference_ranges"] = {
                "column": reference.column,
                "source": reference.source,
                "ranges": [asdict(row) for row in reference.ranges.values()],
            }
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    title = f"Vocabulary {vocabulary.name}, version {vocabulary.version}, SHA-256 {vocabulary.sha256[:12]}"
    table = new_table(
        "code", "name", "category", "paper group", "lineage", "CBLC", "countable", "NDC", "WHO blast", title=title
    )
    for code in vocabulary.codes.values():
        who_blast = f"if {code.who_blast_if}" if code.who_blast_if else _yes(code.who_blast)
        flags = (_yes(code.cblc), _yes(code.countable), _yes(code.ndc), who_blast)
        table.add_row(code.code, code.name, code.category, code.paper_group, code.lineage, *flags)
    print_table(table)
    if ranges:
        table = new_table(
            "row", "codes", "low", "high", "unit", "mark", title=f"Adult marrow, column {reference.column}"
        )
        for row in reference.ranges.values():
            codes = " ".join(row.codes) + (f" / {' '.join(row.denominator_codes)}" if row.denominator_codes else "")
            table.add_row(row.name, codes, f"{row.low:g}", f"{row.high:g}", row.unit, row.mark)
        print_table(table)
        typer.echo(reference.source)


def mapping(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", show_default="list the built-in ones", help="A built-in mapping or a TOML file."
        ),
    ] = None,
) -> None:
    """Print how the labels of another scheme map to raw codes, and which matches are approximate.

    Example: marrowscope vocabulary mapping munich-marrow-21
    """
    from marrowscope.cli.tables import new_table, print_table
    from marrowscope.vocabulary import load_mapping, mapping_names

    if name is None:
        for known in mapping_names():
            typer.echo(known)
        return
    loaded = load_mapping(name)
    table = new_table(
        "label", "meaning", "raw code or codes", "approximate, or why dropped", title=f"{loaded.name} {loaded.version}"
    )
    for item in loaded.labels.values():
        table.add_row(item.label, item.meaning, item.target or "dropped", item.approximate or item.drop or "")
    print_table(table)
    typer.echo(loaded.source)


def _yes(value: bool) -> str:  # noqa: FBT001 - the value itself is what is printed
    return "yes" if value else "-"


add_command(app, show)
add_command(app, mapping)
