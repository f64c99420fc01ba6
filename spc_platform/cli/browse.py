"""`spc browse`: what an OPC UA server has, and a draft of the tags that record it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spc_platform.errors import SiteError
from spc_platform.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(browse)


def browse(
    source: Annotated[str, typer.Argument(help="Source of kind opcua of the site.")],
    under: Annotated[str, typer.Option(help="Address of the node to begin at; the Objects folder unless given.")] = "",
    tags: Annotated[Path | None, typer.Option(help="Write a draft of tags.csv to this new file.")] = None,
    equipment: Annotated[str, typer.Option(help="Work unit of the draft's tags.")] = "",
) -> None:
    """List the variables of an OPC UA server: address, data type, unit, range, access (read, write, history)."""
    from spc_platform.collect.opcua_browse import browse as browse_server
    from spc_platform.collect.opcua_browse import draft_tags
    from spc_platform.site.loader import load_site

    settings = Settings()
    site = load_site(settings.site)
    config = next((each for each in site.sources if each.source_id == source), None)
    if config is None:
        known = ", ".join(each.source_id for each in site.sources if each.kind == "opcua") or "none"
        raise SiteError(f"{site.folder / 'sources.toml'}: no source {source!r}; of kind opcua it has: {known}", code="SPC-464")
    if tags is not None and tags.exists():
        raise SiteError(f"{tags} exists; a draft replaces no file, name another", code="SPC-464")
    nodes = browse_server(config, settings, under=under)
    for node in nodes:
        limits = "" if node.low is None or node.high is None else f"{node.low:g}..{node.high:g}"
        kind = node.data_type if node.is_single else f"{node.data_type}[]"
        typer.echo(f"{node.address}\t{node.path}\t{kind}\t{node.unit}\t{limits}\t{node.access}")
    if tags is not None:
        tags.write_text(draft_tags(source, nodes, equipment), encoding="utf-8")
        typer.echo(f"{tags}: draft of {len(nodes)} variables; set names and units before it becomes tags.csv", err=True)
