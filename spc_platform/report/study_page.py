"""A study as one self-contained page: no script, no style, font or picture from elsewhere; it prints as it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from spc_platform.report.sections import Section, study_sections

_STYLE = """
:root { color-scheme: light; }
body { font: 14px/1.45 Helvetica, Arial, sans-serif; color: #1c2733; background: #fff; margin: 2rem auto; max-width: 1040px;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.facts { color: #555; margin: 0 0 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 0; } th, td { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid #9aa5b1; font-weight: 600; } tbody td { border-bottom: 1px solid #e6eaee; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; } details { margin-top: 1.6rem; } summary { cursor: pointer; font-weight: 600; }
.warnings td { background: #fff6e5; padding-left: .5rem; }
.scroll { overflow-x: auto; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2, tr, svg { break-inside: avoid; }
  h2 { break-after: avoid; }
  thead { display: table-header-group; } .scroll { overflow: visible; } }
@page { margin: 14mm; }
"""
_POINT_COLUMNS = (
    "number", "sample", "stage", "first_row", "last_row", "n", "value", "cl", "lcl", "ucl", "z", "rules",
    "is_baseline", "is_excluded",
)  # fmt: skip


def study_page(document: Mapping[str, Any]) -> str:
    """HTML of a study's document: the chart as inline SVG, the tables, and every point in a section that opens."""
    from spc_platform.report.study_chart import study_svg

    has_points = any(panel["points"] for panel in document.get("panels", []))
    picture = study_svg(document) if has_points else ""
    points = [_points(panel) for panel in document.get("panels", []) if panel["points"]]
    return page(document, study_sections(document), picture=picture, details=points)


def page(document: Mapping[str, Any], sections: Sequence[Section], *, picture: str = "", details: Sequence[str] = ()) -> str:
    """A page of sections below an optional picture (SVG text); every text is escaped."""
    software, file = document["software"], document["file"]
    title = escape(sections[0].title)
    facts = f"{software['name']} {software['version']} · {file['name']} · {file['rows']} rows · SHA-256 {file['sha256']}"
    body = [
        f"<h1>{title}</h1>",
        f'<p class="facts">{escape(facts)}</p>',
        f'<figure style="margin:0">{picture}</figure>' if picture else "",
        _section(replace(sections[0], title="Summary")),
        *(_section(section) for section in sections[1:]),
        *details,
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _section(section: Section) -> str:
    kind = ' class="warnings"' if section.title == "Warnings" else ""
    note = f"<p>{escape(section.note)}</p>" if section.note else ""
    return f'<h2>{escape(section.title)}</h2><div class="scroll">{_table(section.columns, section.rows, kind)}</div>{note}'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in columns)
    head = f"<thead><tr>{header}</tr></thead>" if any(columns) else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table{kind}>{head}<tbody>{body}</tbody></table>"


def _points(panel: Mapping[str, Any]) -> str:
    shown = [name for name in _POINT_COLUMNS if any(point.get(name) not in (None, [], False) for point in panel["points"])]
    rows = [[_cell(point.get(name)) for name in shown] for point in panel["points"]]
    title = escape(f"Every point of the panel {panel['panel']} ({panel['statistic']}): {len(rows)}")
    table = _table([name.removeprefix("is_").replace("_", " ") for name in shown], rows)
    return f'<details><summary>{title}</summary><div class="scroll">{table}</div></details>'


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)
