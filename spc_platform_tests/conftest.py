"""What all tests share: what a machine lacks skips with a word on a user's machine and fails in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from spc_platform.settings import Settings


def lacking(message: str) -> NoReturn:
    """Skips a test for what this machine lacks, or fails it where SPC_REQUIRE_SYSTEM says that nothing may be lacking.

    The only skip of the suite: brokers, servers, browsers and data sets that pip cannot install are no defect of the code
    on a user's machine. CI installs them all and sets SPC_REQUIRE_SYSTEM, so that there nothing is ever skipped.
    """
    if os.environ.get("SPC_REQUIRE_SYSTEM"):
        pytest.fail(message)
    pytest.skip(message)


def need(program: str) -> str:
    """Path of a system program; skips (or, where SPC_REQUIRE_SYSTEM is set, fails) when it is missing."""
    path = shutil.which(program)
    if path is None:
        lacking(f"{program} is not installed; install it with the system's package manager to run this test")
    return path


@pytest.fixture
def chromium() -> str:
    return need("chromium")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of external data sets; skips (or, where SPC_REQUIRE_SYSTEM is set, fails) when it is missing."""
    folder = Settings().shared_data
    if not folder.is_dir():
        lacking(f"no external data at {folder}; set SPC_SHARED_DATA or run `spc data fetch`")
    return folder
