"""The verification report as one self-contained HTML page that prints: no script, no font and no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
@page { size: A4; margin: 15mm 12mm }
body { font: 10pt/1.4 system-ui, sans-serif; color: #1a1a1a; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { font-size: 17pt; margin: 0 0 .3rem } h2 { font-size: 13pt; margin: 1.6rem 0 .4rem; border-bottom: 1px solid #888 }
h3 { font-size: 10.5pt; margin: 1rem 0 .1rem; break-after: avoid } p { margin: .2rem 0 .4rem }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 .6rem } thead { display: table-header-group }
th, td { border: 1px solid #bbb; padding: .15rem .4rem; text-align: left; vertical-align: top; overflow-wrap: anywhere }
th { background: #eee; font-weight: 600 } tr { break-inside: avoid } td.n, th.n { text-align: right; white-space: nowrap }
.source, .note { color: #444; font-size: 9pt }
.verdict { font-size: 12pt; font-weight: 700; padding: .3rem .6rem; display: inline-block }
.passed { color: #14532d } .failed { color: #8b0000; font-weight: 700 } .notrun { color: #6b4e00 }
p.verdict.passed { border: 2px solid #14532d } p.verdict.failed { border: 2px solid #8b0000 }
.sign td { height: 2.6rem } code { font-size: 8.5pt; overflow-wrap: anywhere }
"""

_WORDS = {"passed": "PASSED", "failed": "FAILED", "not run": "NOT RUN"}


def verification_page(report: Mapping[str, Any]) -> str:
    """HTML of a report of ``qualification``: the same report gives the same bytes."""
    statistics = report["statistics"]
    parts = [
        f"<h1>{escape(report['title'])}</h1>",
        f"<p>Date: {escape(report['date'])}</p>",
        f'<p class="verdict {_class(report["verdict"])}">{_WORDS[report["verdict"]]}</p>',
        "<h2>What was verified</h2>",
        _pairs(_identity(report)),
        "<h2>Statistics</h2>",
        *_statistics(statistics),
        "<h2>Files of the lake</h2>",
        *_lake(report["files"]),
        "<h2>Signatures</h2>",
        _signatures(),
        *(["<h2>Every case</h2>", _HOW_TO_READ] if statistics["results"] else []),
        *(part for result in statistics["results"] for part in _case(result)),
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report['title'])}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


_HOW_TO_READ = (
    '<p class="note">Expected figures are printed as their source prints them. Digits are log relative errors, '
    "-log10(|obtained - expected| / |expected|), 16 where both are equal. A printed figure is required to half a unit of its "
    "last place unless a note says otherwise; lists are required exactly. Figures of books and journals were typed from "
    "secondary copies: compare a citation with its original before you rely on it.</p>"
)


def _identity(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    software, machine = report["software"], report["machine"]
    return [
        *((name, version) for name, version in software.items()),
        ("Python", f"{machine['python']} ({machine['implementation']})"),
        ("Platform", f"{machine['platform']}, {machine['architecture']}, {machine['float']}"),
        ("sha256 of the package's code", report["package_sha256"]),
        ("sha256 of the case definitions", report["statistics"]["definitions_sha256"]),
        ("External data", report["statistics"]["data_folder"] or "none"),
    ]


def _statistics(statistics: Mapping[str, Any]) -> Iterable[str]:
    if not statistics["results"]:
        return [f"<p>{_status(statistics['status'])} {escape(statistics['reason'] or '')}</p>"]
    cases, figures = statistics["cases"], statistics["figures"]
    summary = (
        f"<p>{_status(statistics['status'])} "
        f"{cases['passed']} cases passed, {cases['failed']} failed, {cases['not_run']} not run; "
        f"{figures['passed'] + figures['failed']} figures compared, {figures['failed']} of them failed.</p>"
    )
    head = ["Subject", "Cases", "Passed", "Failed", "Not run", "Figures", "Agree"]
    rows = [
        [
            escape(row["title"]),
            *(str(row[name]) for name in ("cases", "passed", "failed", "not_run", "figures", "figures_passed")),
        ]
        for row in statistics["subjects"]
    ]
    failing = [result["id"] for result in statistics["results"] if result["status"] == "failed"]
    named = [f'<p class="failed">Failed: {escape(", ".join(failing))}</p>'] if failing else []
    return [summary, _table(head, rows, numbers_from=1), *named]


def _lake(lake: Mapping[str, Any]) -> Iterable[str]:
    rows = [("Result", _WORDS[lake["status"]]), ("Lake", lake["root"] or "none"), ("Published", lake["published"] or "nothing")]
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in lake["problems"])
    reason = [f"<p>{escape(lake['reason'])}</p>"] if lake["reason"] else []
    return [_pairs(rows), *reason, *([f'<ul class="failed">{problems}</ul>'] if problems else [])]


def _signatures() -> str:
    rows = [[role, "", "", ""] for role in ("Tested by", "Reviewed by", "Approved by")]
    return _table(["", "Name", "Date", "Signature"], rows).replace("<table>", '<table class="sign">')


def _case(result: Mapping[str, Any]) -> Iterable[str]:
    reason = f": {escape(result['reason'])}" if result["reason"] else ""
    yield f"<h3>{escape(result['id'])} {_status(result['status'])}{reason}</h3>"
    yield f'<p>{escape(result["title"])}<br><span class="source">Source: {escape(result["source"])}</span></p>'
    if result["figures"]:
        head = ["Figure", "Expected", "Obtained", "Digits required", "Digits achieved", "Result"]
        yield _table(head, [_figure(figure) for figure in result["figures"]], numbers_from=3)


def _figure(figure: Mapping[str, Any]) -> list[str]:
    note = f'<br><span class="note">{escape(figure["note"])}</span>' if figure["note"] else ""
    required, achieved = figure["required_digits"], figure["achieved_digits"]
    return [
        escape(figure["name"]) + note,
        escape(_text(figure["expected"])),
        escape(_text(figure["obtained"])),
        "exact" if required is None else f"{required:.1f}",
        "" if achieved is None else f"{achieved:.1f}",
        _status("passed" if figure["passed"] else "failed"),
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(part) for part in value) or "none"
    return "nothing" if value is None else f"{value:.15g}" if isinstance(value, float) else str(value)


def _status(status: str) -> str:
    return f'<span class="{_class(status)}">{_WORDS[status]}</span>'


def _class(status: str) -> str:
    return status.replace(" ", "")


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _table(head: list[str], rows: Iterable[list[str]], numbers_from: int = 99) -> str:
    def line(cells: list[str], tag: str) -> str:
        marks = ['class="n"' if number >= numbers_from else "" for number in range(len(cells))]
        return "".join(f"<{tag} {mark}>{cell}</{tag}>".replace(" >", ">") for cell, mark in zip(cells, marks, strict=True))

    body = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in rows)
    return f"<table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"
