"""Tables, escapes and widths."""

from __future__ import annotations

import pytest

from cli.output import Column, Output, Table, printable, table, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("café 文件", "café 文件"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\x00b\x7f\x9b", "a\\0b\\x7f\\x9b"),
        ("txt\u202egpj", "txt\\u202egpj"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
        ("non\u00a0breaking", "non\u00a0breaking"),
        ("bad\udcff", "bad\\xff"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_width_counts_columns() -> None:
    assert width("abc") == 3
    assert width("文件") == 4
    assert width("e\u0301") == 1
    assert width("\u2708\ufe0f") == 2  # a variation selector takes none


def test_table_looks_as_the_plan_draws_it(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    columns = [Column("Key"), Column("Size", right=True), Column("Last Modified")]
    table(Output(), columns, [("file1.txt", "1.2 MB", "2025-12-17 10:30:00"), ("文", "0 B", "")])
    assert capsysbinary.readouterr().out.decode().splitlines() == [
        "┌───────────┬────────┬─────────────────────┐",
        "│ Key       │   Size │ Last Modified       │",
        "├───────────┼────────┼─────────────────────┤",
        "│ file1.txt │ 1.2 MB │ 2025-12-17 10:30:00 │",
        "│ 文        │    0 B │                     │",
        "└───────────┴────────┴─────────────────────┘",
    ]


def test_long_cell_of_a_later_batch_is_not_cut(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    drawn = Table(Output(), [Column("Key")])
    drawn.rows([("a",)])
    drawn.rows([("a-much-longer-key",)])
    drawn.end()
    assert "│ a-much-longer-key │" in capsysbinary.readouterr().out.decode()


def test_empty_table_has_a_head(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    table(Output(), [Column("Key")], [])
    assert capsysbinary.readouterr().out.decode().splitlines() == ["┌─────┐", "│ Key │", "├─────┤", "└─────┘"]


def test_table_on_a_narrow_terminal_folds_its_cells(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.output.screen_width", lambda: 24)
    drawn = Table(Output(), [Column("Key"), Column("When")])
    drawn.rows([("x" * 30, "2026-11-23 09:36")])
    drawn.rows([("文件文件文件文件", "")])
    drawn.end()
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines == [
        "┌──────────┬───────────┐",
        "│ Key      │ When      │",
        "├──────────┼───────────┤",
        "│ xxxxxxxx │ 2026-11-2 │",
        "│ xxxxxxxx │ 3 09:36   │",
        "│ xxxxxxxx │           │",
        "│ xxxxxx   │           │",
        "│ 文件文件 │           │",
        "│ 文件文件 │           │",
        "└──────────┴───────────┘",
    ]
    assert {width(line) for line in lines} == {24}
