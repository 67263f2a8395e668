"""What commands print to stdout: tables for people, JSON lines for programs, and text of strangers made harmless."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import click


def printable(text: str, limit: int | None = None) -> str:
    r"""Return text that is safe to show: what a terminal would act on instead of showing it is escaped.

    Subjects, sources and keys come from whoever may write to a topic. Escape sequences, line breaks and characters
    that reorder or hide others would let them forge what an operator reads.

    Parameters
    ----------
    text
        Text of unknown origin.
    limit
        Most characters to show; the rest becomes an ellipsis.

    Examples
    --------
    >>> printable("Zoë\x1b[2J")
    'Zoë\\x1b[2J'
    >>> printable("a very long subject", limit=7)
    'a very…'
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _acts(character) else character for character in text)


def _acts(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def print_json(data: Any) -> None:
    """Print one JSON document on one line; ASCII, so that no text in it acts on a terminal."""
    click.echo(json.dumps(data, ensure_ascii=True, allow_nan=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: drawn on a terminal, in aligned columns two spaces apart otherwise.

    The cells are escaped here, so callers hand over texts as they are. Columns of numbers alone stand to the right.
    """
    cells = [[printable("-" if cell is None else str(cell)) for cell in row] for row in rows]
    numeric = [all(_is_number(row[index]) for row in cells) for index in range(len(columns))]
    if sys.stdout.isatty():
        _draw(columns, cells, numeric)
        return
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _draw(columns: Sequence[str], cells: list[list[str]], numeric: list[bool]) -> None:
    # Imported here: only a terminal needs it.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").isdecimal()
