"""The identity of a deleted record that only its address tells, as OData services name what they removed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

Getter = Callable[[Any, tuple[Any, ...]], Any]
_ENTITY = re.compile(r"\((.+)\)/?$")
_KEY = re.compile(r"(?:\w+=)?('(?:[^']|'')*'|[^,]+)")


def entity_key(address: str) -> str:
    """The key of an OData entity's address, several joined by ``|``; a text that is no address stays.

    Source: OData Version 4.01, Part 2: URL Conventions, 4.3.

    >>> entity_key("https://mes.example/odata/Results(Plant='P''1',No=7)"), entity_key("Results(7)"), entity_key("7")
    ("P'1|7", '7', '7')
    """
    found = _ENTITY.search(address)
    if found is None:
        return address
    keys = [each.strip() for each in _KEY.findall(unquote(found[1]))]
    return "|".join(each[1:-1].replace("''", "'") if each[:1] == "'" else each for each in keys)


def named_when_deleted(own: Getter, is_deleted: Getter, named: list[Getter]) -> Getter:
    """Reads a record's own identity; of a deleted record without one, the first of ``named`` that is there."""

    def get(item: Any, parents: tuple[Any, ...]) -> Any:
        identity = own(item, parents)
        if identity is not None or not is_deleted(item, parents):
            return identity
        said = next((value for value in (each(item, parents) for each in named) if value is not None), None)
        return entity_key(said) if isinstance(said, str) else said

    return get
