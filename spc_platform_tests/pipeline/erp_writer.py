"""A delivery that kills itself with SIGKILL at a named point.

``python -m spc_platform_tests.pipeline.erp_writer`` imports what it needs, then reads one line
``[point, root, url, figure]``: it can be started ahead of its use.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from spc_platform.erp.config import read_erp_config
from spc_platform.erp.delivery import DeliveryReport, Erp, deliver
from spc_platform.erp.outbox import Outbox
from spc_platform.lake.files import Checkpoint, no_checkpoint
from spc_platform.settings import Settings

TOKEN_VARIABLE = "TEST_ERP_TOKEN"
ORDERS = ("O 1/7", "O2", "O3")
CONFIG = """
base_url = "http://127.0.0.1:9/api/v1"

[auth]
kind = "bearer"
secret_env = "TEST_ERP_TOKEN"

[limits]
{limits}
"""
QUICK = {"retries": 3, "backoff_s": 0.001, "backoff_max_s": 0.002, "read_s": 0.4, "timeout_s": 2.0, "deadline_s": 3.0}


def settings(root: Path, url: str, **limits: float) -> Settings:
    site = root / "site"
    site.mkdir(parents=True, exist_ok=True)
    listed = "\n".join(f"{key} = {value}" for key, value in {**QUICK, **limits}.items())
    (site / "erp.toml").write_text(CONFIG.format(limits=listed))
    return Settings(site=site, data=root / "data", source_url={"erp": url})


def documents(figure: int) -> dict[str, bytes]:
    return {order: json.dumps({"good": figure, "job_order_id": order}).encode() for order in ORDERS}


def outbox(root: Path, checkpoint: Checkpoint = no_checkpoint) -> Outbox:
    return Outbox(root / "data" / "erp_outbox.sqlite", checkpoint=checkpoint)


def run(
    root: Path,
    url: str,
    figure: int,
    checkpoint: Checkpoint = no_checkpoint,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    **limits: float,
) -> DeliveryReport:
    """Enter summaries that say ``figure`` and deliver."""
    chosen, box = settings(root, url, **limits), outbox(root, checkpoint)
    box.enter(documents(figure), clock())
    with Erp(read_erp_config(chosen), chosen) as erp:
        return deliver(box, erp, clock=clock, checkpoint=checkpoint)


def main() -> None:
    point, root, url, figure = json.loads(sys.stdin.readline())

    def kill(step: str) -> None:
        if step == point:
            os.kill(os.getpid(), signal.SIGKILL)

    run(Path(root), url, figure, kill)


if __name__ == "__main__":
    main()
