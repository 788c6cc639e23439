"""The reference tells every setting, from the same words that users write."""

from __future__ import annotations

from weft.config.check import fields_of, sections
from weft.config.reference import reference
from weft.config.settings import Settings


def test_every_setting_has_a_row_with_its_help() -> None:
    text = reference()
    for name, field in fields_of(Settings).items():
        assert f"| {name} |  |" in text
        assert field.description
    for name, section in sections():
        owner = "tasks.NAME" if name == "tasks" else name
        for setting, field in fields_of(section).items():
            assert f"| {owner} | {setting} | " in text
            assert field.description, f"{name}.{setting} has no docstring"


def test_the_table_has_five_cells_in_every_row() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {6}
    assert "| adapter | rank | a whole number (at least 1) | 16 | Rank r of the update. |" in rows
