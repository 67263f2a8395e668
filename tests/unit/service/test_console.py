"""What commands print: tables that scripts can read, and text of strangers made harmless."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farpoint.console import print_json, print_table, printable


@given(st.text())
def test_nothing_printable_acts_on_a_terminal(text: str) -> None:
    """Whatever the text, no control, formatting or line-breaking character is left in it."""
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 東京 🚲", "Zoë 東京 🚲"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_acts_is_escaped(text: str, shown: str) -> None:
    """Letters of all the world stay; what a terminal would act on is written out."""
    assert printable(text) == shown


def test_tables_are_aligned_columns_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns stand two spaces apart, numbers to the right, missing values as a dash, hostile cells on one line."""
    print_table(("name", "size"), [("a", 7), ("longer\nname", 1234), ("c", None)])
    assert capsys.readouterr().out.splitlines() == [
        "name          size",
        "a                7",
        "longer\\nname  1234",
        "c                -",
    ]


def test_an_empty_table_has_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    """A table without rows still says what its columns are."""
    print_table(("name", "size"), [])
    assert capsys.readouterr().out == "name  size\n"


def test_json_is_one_ascii_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A document is one line of ASCII that reads back as it was."""
    data = {"subject": "Zoë\x1b[2J\u2028\x9b"}
    print_json(data)
    out = capsys.readouterr().out
    assert out.isascii()
    assert out.count("\n") == 1
    assert json.loads(out) == data
