"""Sections as tables of a terminal, 100 characters wide when there is no terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spc_platform.report.sections import MOST_SIGNALS, Section, study_sections

WIDTH = 100
_LEFT = {
    "stage",
    "panel",
    "rule",
    "which says",
    "sample",
    "estimator",
    "remark",
    "side",
    "name",
    "source",
    "material",
    "laboratory",
    "",
}


def study_text(document: Mapping[str, Any]) -> str:
    """The study as text."""
    return sections_text(study_sections(document))


def sections_text(sections: Sequence[Section]) -> str:
    """Sections one below the other; nothing of a file is read as markup."""
    is_terminal = sys.stdout.isatty()
    width = max(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH) if is_terminal else WIDTH
    console = Console(file=StringIO(), width=width, highlight=False, force_terminal=is_terminal, emoji=False, markup=False)
    for section in sections:
        console.print(Text(section.title, style="bold"))
        console.print(_table(section))
        if section.note:
            console.print(Text(section.note))
    file = console.file
    return file.getvalue() if isinstance(file, StringIO) else ""


def _table(section: Section) -> Table:
    shown = section.rows[:MOST_SIGNALS]
    plain = not any(section.columns)
    table = Table(box=None if plain else box.SIMPLE_HEAD, show_header=not plain, pad_edge=True, padding=(0, 1))
    if not section.columns:
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
    for name in section.columns:
        table.add_column(name, justify="left" if name in _LEFT or plain else "right", overflow="fold")
    for row in shown:
        table.add_row(*(Text(cell) for cell in row))
    if len(section.rows) > len(shown):
        table.add_row(Text(f"and {len(section.rows) - len(shown)} more: --format json or html lists all"))
    table.add_row("")
    return table
