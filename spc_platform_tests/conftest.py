"""What all tests share: missing system packages skip with a word on a user's machine and fail in CI."""

from __future__ import annotations

import os
import shutil

import pytest

from spc_platform.settings import Settings


def need(program: str) -> str:
    """Path of a system program; skips (or, where SPC_REQUIRE_SYSTEM is set, fails) when it is missing."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed; install it with the system's package manager to run this test"
        if os.environ.get("SPC_REQUIRE_SYSTEM"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture
def chromium() -> str:
    return need("chromium")


@pytest.fixture(scope="session")
def shared_data():
    """The folder of external data sets; tests that need it skip with a clear word when it is absent."""
    folder = Settings().shared_data
    if not folder.is_dir():
        pytest.skip(f"no external data at {folder}; set SPC_SHARED_DATA or run `spc data fetch`")
    return folder
