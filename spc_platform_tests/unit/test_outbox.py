from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from spc_platform.erp.outbox import Outbox
from spc_platform.errors import LakeError

NOW = datetime(2026, 3, 10, 6, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox.sqlite")


def rows(box: Outbox, *columns: str) -> list[tuple[object, ...]]:
    return box.status().select("job_order_id", "revision", *columns).rows()


def test_a_document_is_entered_once_and_its_change_is_the_next_revision(box: Outbox) -> None:
    assert box.enter({"O2": b"a", "O1": b"a"}, NOW) == ["O1", "O2"]
    assert box.enter({"O1": b"a", "O2": b"b"}, NOW) == ["O2"]
    assert box.enter({"O2": b"a"}, NOW) == ["O2"]
    assert rows(box, "payload_sha256") == [
        ("O1", 1, sha256(b"a").hexdigest()),
        ("O2", 1, sha256(b"a").hexdigest()),
        ("O2", 2, sha256(b"b").hexdigest()),
        ("O2", 3, sha256(b"a").hexdigest()),
    ]


def test_documents_are_entered_all_or_none(tmp_path: Path) -> None:
    def fail_once(step: str) -> None:
        if step == "outbox:half-entered":
            raise RuntimeError(step)

    box = Outbox(tmp_path / "outbox.sqlite", checkpoint=fail_once)
    with pytest.raises(RuntimeError):
        box.enter({"O1": b"a", "O2": b"a"}, NOW)
    assert rows(box) == []


def test_what_was_entered_is_written_with_full_sync_to_a_write_ahead_log(box: Outbox) -> None:
    with box._connection() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_revisions_of_an_order_are_due_one_after_the_other(box: Outbox) -> None:
    for payload in (b"1", b"2"):
        box.enter({"O1": payload}, NOW)
    first = box.next_due(NOW)
    assert first is not None
    assert (first.revision, first.attempts) == (1, 0)
    box.mark_sent(first)
    again = box.next_due(NOW)
    assert again is not None
    assert (again.revision, again.attempts, again.key) == (1, 1, first.key)
    box.acknowledge(first, NOW)
    second = box.next_due(NOW)
    assert second is not None
    assert second.revision == 2
    assert second.key != first.key
    box.refuse(second, "no", NOW)
    assert box.next_due(LATER) is None
    assert rows(box, "state", "last_error") == [("O1", 1, "acknowledged", None), ("O1", 2, "refused", "no")]


def test_a_postponed_summary_holds_back_its_own_order_only(box: Outbox) -> None:
    box.enter({"O1": b"1", "O2": b"1"}, NOW)
    first = box.next_due(NOW)
    assert first is not None
    box.postpone(first, "away", LATER)
    box.enter({"O1": b"2"}, NOW)
    other = box.next_due(NOW)
    assert other is not None
    assert (other.job_order_id, other.revision) == ("O2", 1)
    box.acknowledge(other, NOW)
    assert box.next_due(NOW) is None
    due = box.next_due(LATER)
    assert due is not None
    assert (due.job_order_id, due.revision) == ("O1", 1)


def test_only_the_newest_refused_revision_is_reopened(box: Outbox) -> None:
    for payload in (b"1", b"2"):
        box.enter({"O1": payload}, NOW)
        entry = box.next_due(NOW)
        assert entry is not None
        box.refuse(entry, "no", NOW)
    assert box.reopen(LATER) == 1
    assert rows(box, "state") == [("O1", 1, "refused"), ("O1", 2, "pending")]


def test_an_outbox_of_another_version_or_no_outbox_at_all_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "newer.sqlite") as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(LakeError, match=r"SPC-504.*version 9"):
        Outbox(tmp_path / "newer.sqlite")
    (tmp_path / "text.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 40)
    with pytest.raises(LakeError, match=r"SPC-504.*cannot be used"):
        Outbox(tmp_path / "text.sqlite")


def test_an_outbox_created_by_many_at_once_is_one_outbox(tmp_path: Path) -> None:
    def enter(number: int) -> None:
        Outbox(tmp_path / "outbox.sqlite").enter({f"O{number}": b"a"}, NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(16)))
    assert Outbox(tmp_path / "outbox.sqlite").status().height == 16
