"""Commits that need not wait for the disk."""

from __future__ import annotations

from sqlalchemy import Connection, text

_RELAX = text("SET LOCAL synchronous_commit = off")


def relax(db: Connection) -> None:
    """Let this transaction's commit return before it is on the disk.

    For what can be done again: staged pages, and the *outcome* of a request. PostgreSQL loses, if
    the power goes, the last such commits and never one out of the middle; the next ordinary commit
    (every intent is one) makes all before it durable. A lost ``posted`` is still ``pending``, and
    is looked up. Never for an intent, a lease, or the close of a run.
    """
    db.execute(_RELAX)
