"""The genealogy in files that are mapped into memory, so that a trace reads only the links that it follows.

``<root>/<key>/`` holds the adjacency of one state of the links; the key is the hash of what it was made from. It is a copy
that can be made again at any time: a missing, damaged or half-written one is made anew, and older ones are removed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.ipc

from spc_platform.contracts.genealogy import LOT_GENEALOGY
from spc_platform.lake.files import TEMPORARY, below, make_folder, sha256, temporary_path
from spc_platform.production.traceability import Genealogy

_FILES = ("nodes", "edges", "by_child", "refused")
_SIZES = "sizes.json"
FORMAT = "1"
"""Changes when the files or what is computed into them change."""


class GenealogyIndex:
    """Adjacency by key under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, key: str, make: Callable[[], tuple[Genealogy, pl.DataFrame]]) -> tuple[Genealogy, pl.DataFrame]:
        """Genealogy and refused links of a key from their files; made, and kept where the folder may be written."""
        name = sha256("\n".join((FORMAT, key, *LOT_GENEALOGY.names)).encode())
        found = self._read(name)
        if found is not None:
            return found
        made = make()
        with contextlib.suppress(OSError):
            self._write(name, *made)
        return made

    def _read(self, name: str) -> tuple[Genealogy, pl.DataFrame] | None:
        folder = below(self.root, name)
        try:
            sizes = json.loads((folder / _SIZES).read_bytes())
            if sizes != {file: (folder / f"{file}.arrow").stat().st_size for file in _FILES}:
                return None
            nodes, edges, by_child, refused = (_mapped(folder / f"{file}.arrow") for file in _FILES)
        except (OSError, ValueError):
            return None
        return Genealogy(nodes, edges, by_child["by_child"]), refused

    def _write(self, name: str, genealogy: Genealogy, refused: pl.DataFrame) -> None:
        make_folder(self.root)
        folder, temporary = below(self.root, name), temporary_path(self.root)
        temporary.mkdir()
        try:
            frames = (genealogy.nodes, genealogy.edges, genealogy.by_child.to_frame(), refused)
            for file, frame in zip(_FILES, frames, strict=True):
                frame.rechunk().write_ipc(
                    temporary / f"{file}.arrow", compression="uncompressed", record_batch_size=max(1, frame.height)
                )
            sizes = {file: (temporary / f"{file}.arrow").stat().st_size for file in _FILES}
            (temporary / _SIZES).write_text(json.dumps(sizes), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for other in self.root.iterdir():
            if other.name != name and not other.name.startswith(TEMPORARY):
                shutil.rmtree(other, ignore_errors=True)


def _mapped(path: Path) -> pl.DataFrame:
    """A frame whose columns lie in the file: nothing is read before it is asked for. Arrow maps files, polars copies them."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    frame = pl.from_arrow(table, rechunk=False)
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()
