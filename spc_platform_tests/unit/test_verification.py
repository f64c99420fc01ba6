"""`spc verify`: the reference cases hold, a broken function is named, and what could not run is never called passed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.errors import ContractError, LakeError
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.spc import constants
from spc_platform.verification import case_files
from spc_platform.verification.case_files import Case, Expected, definitions_sha256, half_of_last_place, load_cases
from spc_platform.verification.computations import COMPUTATIONS
from spc_platform.verification.judging import as_digits, run_cases
from spc_platform.verification.page import verification_page
from spc_platform.verification.qualification import qualification
from spc_platform.verification.strd import load, load_anova

SCHEMA = json.loads((REPOSITORY / "docs" / "reference" / "verification.schema.json").read_text())
NO_LAKE = {"status": "not run", "reason": "no lake", "root": None, "published": None, "problems": []}
NOWHERE = Path("/nonexistent")


def only(*subjects: str) -> list[Case]:
    return [case for case in load_cases() if case.subject in subjects]


@cache
def everything():
    """All cases once, with the external data of this machine if there are any."""
    return run_cases(load_cases(), Settings().shared_data)


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`spc verify` without a lake and with few cases; gives exit code, output and report."""
    monkeypatch.setenv("SPC_DATA", str(tmp_path / "empty"))

    def run(*options: str, cases: list[Case] | None = None, out: Path = tmp_path / "report"):
        chosen = cases if cases is not None else only("constants", "oee")
        monkeypatch.setattr("spc_platform.cli.verify.load_cases", lambda: chosen)
        found = CliRunner().invoke(app, ["verify", "--out", str(out), "--date", "2026-11-21", *options])
        report = json.loads((out / "report.json").read_text()) if (out / "report.json").exists() else None
        return found, report

    return run


def test_every_case_that_runs_agrees_with_its_source():
    wrong = [
        (outcome.case.case_id, outcome.reason, [figure for figure in outcome.figures if not figure.passed])
        for outcome in everything()
        if outcome.status == "failed"
    ]
    assert wrong == []
    assert len(everything()) >= 150
    assert sum(len(outcome.figures) for outcome in everything()) >= 600


@pytest.mark.parametrize(
    "subject",
    [
        "constants", "accuracy", "estimators", "limits", "time_weighted", "multivariate", "rules", "run_lengths",
        "capability", "fitness", "gauge", "hypothesis", "oee",
    ],
)  # fmt: skip
def test_every_subject_has_cases(subject):
    assert len(only(subject)) >= 2


def test_every_computation_is_used_and_every_case_has_one():
    assert {case.compute for case in load_cases()} == set(COMPUTATIONS)


def test_a_figure_is_asked_for_less_than_its_source_prints_only_with_a_reason():
    """Looser than half a unit of the last place is a decision; the case must say why."""
    loose = [
        (case.case_id, expected.name)
        for case in load_cases()
        for expected in case.expected
        if expected.printed is not None
        and not expected.note
        and expected.within > max(half_of_last_place(expected.printed), 1e-9 * abs(float(expected.printed))) * 1.01
    ]
    assert loose == []


def test_certified_figures_are_those_of_the_data_sets_of_nist():
    for case in only("accuracy", "fitness"):
        name = case.inputs.get("data_set")
        printed = {expected.name: float(expected.printed) for expected in case.expected if expected.printed}
        if case.compute == "one_way":
            assert printed == {"f": load_anova(name).f, "residual_sd": load_anova(name).residual_sd}
        elif case.compute == "autocorrelation":
            assert printed == {"autocorrelation": load(name).autocorrelation}
        elif name:
            assert printed == {"mean": load(name).mean, "sd": load(name).sd}


def test_a_broken_constant_fails_by_name_with_exit_code_1(verify, monkeypatch):
    right = constants.d2
    monkeypatch.setattr(constants, "d2", lambda n: right(n) * (1 + 1e-9))
    found, report = verify("--only", "statistics")
    assert found.exit_code == 1
    assert report["verdict"] == "failed"
    failing = {result["id"] for result in report["statistics"]["results"] if result["status"] == "failed"}
    assert {"constants.n5", "constants.closed_forms.n2"} <= failing
    assert "oee.oracle" not in failing
    for name in failing:
        assert name in found.output
    figure = next(
        figure for result in report["statistics"]["results"] if result["id"] == "constants.n5" for figure in result["figures"]
    )
    assert (figure["name"], figure["passed"], figure["achieved_digits"]) == ("d2", False, pytest.approx(9.0, abs=0.1))


def test_the_same_run_with_the_right_constant_passes_with_exit_code_0(verify):
    found, report = verify("--only", "statistics")
    assert (found.exit_code, report["verdict"]) == (0, "passed")
    assert report["statistics"]["figures"]["failed"] == 0


@pytest.mark.parametrize(
    ("place", "subject", "failing"),
    [
        ("spc_platform.spc.sigma.d2", "estimators", "estimators.mr"),
        ("spc_platform.spc.indices.interval_of_cp", "capability", "capability.interval.cp"),
        ("spc_platform.spc.run_lengths.average_run_length", "run_lengths", "run_lengths.western_electric"),
    ],
)
def test_a_function_that_raises_fails_its_cases_and_lets_the_others_run(place, subject, failing, monkeypatch):
    def broken(*_, **__):
        raise ArithmeticError("no such luck")

    monkeypatch.setattr(place, broken)
    some = [case for case in only(subject) if "mewma" not in case.case_id]
    found = {outcome.case.case_id: outcome for outcome in run_cases([*some, *only("oee")], None)}
    assert (found[failing].status, found[failing].reason) == ("failed", "ArithmeticError: no such luck")
    assert found["oee.oracle"].status == "passed"


def test_cases_of_external_data_are_counted_as_not_run_where_the_folder_is_missing(verify):
    needing = [case for case in load_cases() if case.needs]
    assert len(needing) >= 5
    found, report = verify("--only", "statistics", "--data", str(NOWHERE), cases=[*needing, *only("oee")])
    assert found.exit_code == 0
    assert report["statistics"]["cases"] == {"passed": len(only("oee")), "failed": 0, "not_run": len(needing)}
    assert {result["reason"] for result in report["statistics"]["results"] if result["status"] == "not run"} == {
        "data folder missing"
    }
    assert "not run: data folder missing" in found.output
    assert report["statistics"]["data_folder"] is None


def test_a_folder_without_the_file_names_the_file(tmp_path):
    (case,) = [case for case in load_cases() if case.case_id == "limits.c.wafers"]
    (outcome,) = run_cases([case], tmp_path)
    assert (outcome.status, outcome.reason) == ("not run", f"{case.needs} is missing in the data folder")


def test_the_report_follows_its_schema_and_a_date_makes_it_the_same_bytes(verify, tmp_path):
    verify(out=tmp_path / "one")
    verify(out=tmp_path / "two")
    for name in ("report.json", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert report["date"] == "2026-11-21"
    assert report["files"]["status"] == "not run"


def test_the_report_of_all_cases_follows_its_schema_and_prints_every_source():
    report = qualification(everything(), NO_LAKE, "2026-11-21", None)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    page = verification_page(report)
    assert page.count("Source: ") == len(load_cases())
    for word in ("Tested by", "Approved by", report["package_sha256"], report["statistics"]["definitions_sha256"]):
        assert word in page


def test_the_page_is_whole_and_asks_nothing_of_the_network():
    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.outside = [], []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br"):
                self.open.append(tag)
            self.outside += [value for name, value in attrs if name in ("src", "href")]

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    case = replace(only("oee")[0], title="<script>alert(1)</script>")
    reader = Reader()
    page = verification_page(qualification(run_cases([case], None), NO_LAKE | {"problems": ["a < b"]}, "today", None))
    reader.feed(page)
    assert (reader.open, reader.outside) == ([], [])
    assert "<script>" not in page
    assert "a &lt; b" in page


def test_a_changed_definition_changes_the_sum_and_line_ends_do_not(monkeypatch, tmp_path):
    for name, text in {"a.toml": b"x = 1\n", "notes.md": b"not a definition"}.items():
        (tmp_path / name).write_bytes(text)
    monkeypatch.setattr(case_files, "files", lambda _: tmp_path)
    first = definitions_sha256()
    assert first == hashlib.sha256(b"a.toml\n6\nx = 1\n").hexdigest()
    (tmp_path / "a.toml").write_bytes(b"x = 1\r\n")
    assert definitions_sha256() == first
    (tmp_path / "a.toml").write_bytes(b"x = 2\n")
    assert definitions_sha256() != first


def outcome_of(found: object, **expected: object):
    row = Expected(name="x", printed=None, exact=None, within=0.0, required_digits=None, note=None)
    case = Case("s", "S", "s.x", "t", "source", "c", {}, (replace(row, **expected),), None)
    (outcome,) = run_cases([case], None, {"c": lambda: {"x": found}})
    return outcome.status, outcome.figures[0].digits


@pytest.mark.parametrize(
    ("found", "printed", "within", "status"),
    [
        (0.23134, "0.2313", 5e-5, "passed"),
        (0.23136, "0.2313", 5e-5, "failed"),
        (0.125, "0.12", 5e-3, "passed"),
        (float("nan"), "0.12", 5e-3, "failed"),
        (None, "0.12", 5e-3, "failed"),
    ],
)
def test_a_printed_figure_agrees_to_half_a_unit_of_its_last_place(found, printed, within, status):
    assert half_of_last_place(printed) == pytest.approx(within)
    assert outcome_of(found, printed=printed, within=within)[0] == status


def test_lists_agree_exactly_or_not_at_all():
    assert outcome_of([15, 23], exact=[15, 23])[0] == "passed"
    assert outcome_of([15], exact=[15, 23])[0] == "failed"
    assert outcome_of([], exact=[])[0] == "passed"
    assert outcome_of(None, exact=[])[0] == "failed"


def test_digits_are_log_relative_errors():
    assert as_digits(0.0, 5.0) == 16
    assert as_digits(1e-3, 10.0) == pytest.approx(4.0)
    assert as_digits(1e-3, 0.0) == pytest.approx(3.0)
    assert as_digits(1e-300, 1.0) == 15


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ('source = " "\nexpected = { a = "1" }', "names no source"),
        ('source = "x"\nexpected = {}', "expects nothing"),
        ('source = "x"\nexpected = { a = { digits = 3 } }', "needs a value or an exact list"),
        ('source = "x"\nexpected = { a = { value = "1", tolerance = 3 } }', "needs a value or an exact list"),
        ('source = "x"\nexpected = { a = "1" }\ninput = { n = "@none" }', "no data 'none'"),
        ('source = "x"\nexpect = { a = "1" }', "unknown expect"),
    ],
)
def test_a_case_that_says_nothing_checkable_is_refused(case, message, monkeypatch):
    text = f'subject = "s"\ntitle = "S"\n[[case]]\nid = "s.1"\ntitle = "t"\ncompute = "oee"\n{case}\n'
    monkeypatch.setattr(case_files, "_definitions", lambda: [("s.toml", text)])
    with pytest.raises(ContractError, match=rf"SPC-395.*s\.1.*{message}"):
        load_cases()


def test_two_cases_of_one_id_are_refused(monkeypatch):
    text = (
        'subject = "s"\ntitle = "S"\n'
        + 2 * '[[case]]\nid = "s.1"\ntitle = "t"\ncompute = "oee"\nsource = "x"\nexpected = { a = "1" }\n'
    )
    monkeypatch.setattr(case_files, "_definitions", lambda: [("s.toml", text)])
    with pytest.raises(ContractError, match=r"SPC-395.*s\.1 is defined twice"):
        load_cases()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "charts"), "SPC-396.*statistics or files"),
        (("--only", "statistics", "--date", "soon"), "SPC-396.*2026-11-21"),
    ],
)
def test_options_that_say_nothing_are_refused(verify, options, message):
    arguments = [*options] if "--date" in options else [*options, "--date", "2026-11-21"]
    found, report = verify(*arguments)
    assert report is None
    with pytest.raises(ContractError, match=message):
        raise found.exception


def test_files_alone_need_a_lake(verify):
    found, report = verify("--only", "files")
    assert (type(found.exception), report) == (LakeError, None)
    assert "SPC-508" in str(found.exception)


def test_a_report_that_cannot_be_written_says_where(verify, tmp_path):
    (tmp_path / "report").write_text("a file in the way")
    found, report = verify("--only", "statistics", out=tmp_path / "report" / "below")
    assert (type(found.exception), report) == (ContractError, None)
    assert "SPC-398" in str(found.exception)


class TestFiles:
    """Both parts where a lake exists: an altered file fails the report by name."""

    @pytest.fixture
    def lake(self, tmp_path, monkeypatch, verify):
        from spc_platform.engine import Workspace

        monkeypatch.setenv("SPC_DATA", str(tmp_path / "data"))
        workspace = Workspace.open(Settings())
        workspace.lake.commit("spc_limits", workspace.lake.read("spc_limits"))
        return workspace

    def test_unaltered_files_pass(self, lake, verify):
        found, report = verify()
        assert (found.exit_code, report["files"]["status"]) == (0, "passed")
        assert report["statistics"]["status"] == "passed"
        assert "every file is as it was committed" in found.output

    def test_files_alone_compare_no_statistics(self, lake, verify):
        found, report = verify("--only", "files")
        assert (found.exit_code, report["verdict"]) == (0, "passed")
        assert (report["statistics"]["status"], report["statistics"]["results"]) == ("not run", [])
        jsonschema.Draft202012Validator(SCHEMA).validate(report)

    def test_an_altered_file_fails_by_name(self, lake, verify):
        (file,) = Settings().lake_root.rglob("*.parquet")
        file.write_bytes(file.read_bytes() + b"x")
        found, report = verify()
        assert (found.exit_code, report["verdict"], report["statistics"]["status"]) == (1, "failed", "passed")
        assert "spc_limits" in report["files"]["problems"][0]
        assert "spc_limits" in found.output
