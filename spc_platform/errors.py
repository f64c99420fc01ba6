"""What can go wrong, and whether trying again can help.

Every error carries a code that the documentation explains, and says what, where, why and what to do.
"""

from __future__ import annotations


class SpcError(Exception):
    """Base of all errors raised on purpose. ``code`` is stable; the text names place and remedy."""

    code = "SPC-000"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        if code is not None:
            self.code = code
        super().__init__(f"[{self.code}] {message}")


class TransientError(SpcError):
    """The other side or the network failed in a way that may pass: retried within a deadline."""

    code = "SPC-100"


class PermanentError(SpcError):
    """Retrying cannot help: wrong credentials, missing permission, a hostile or endless answer."""

    code = "SPC-200"


class ContractError(SpcError):
    """Data that breaks a contract as a whole; single bad rows are quarantined instead."""

    code = "SPC-300"


class SiteError(SpcError):
    """The site folder is wrong. Lists every problem found, each with file, line and remedy."""

    code = "SPC-400"


class LakeError(SpcError):
    """A stored file is missing, altered or locked."""

    code = "SPC-500"
