"""Where a person reads more about an error: the section of its code on the page of all errors."""

from __future__ import annotations

import os

from connectors.kit.errors import catalogue

PAGES_VARIABLE = "APP_CONNECT_PAGES_URL"
"""Base URL of our own pages; the local stack sets it. Unset = there are no links."""

ERRORS_PAGE = "errors.html"


def anchor(code: str) -> str:
    """The id of a code's section, e.g. ``ac-101``."""
    return code.lower()


def error_link(code: str) -> str | None:
    """The address of an error's section, e.g. ``http://127.0.0.1:4200/…/errors.html#ac-101``.

    Args:
        code: A code of the catalogue.

    Returns:
        ``None`` when no pages are served, or there is no such code.
    """
    base = os.environ.get(PAGES_VARIABLE, "").rstrip("/")
    if not base or code not in catalogue():
        return None
    return f"{base}/{ERRORS_PAGE}#{anchor(code)}"


def with_link(message: str, code: str) -> str:
    """What Prefect shows of a failed run: ``message``, and where to read on when pages are served.

    The history keeps the message alone: it is read in a terminal, too.
    """
    link = error_link(code)
    return f"{message} 詳しくは {link}" if link else message
