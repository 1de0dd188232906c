"""``app-connect``: everything the screens do, for a terminal and for scripts.

Exit status: 0 SUCCESS, 3 一部エラー, 1 ERROR, 2 wrong use.
"""

from deployments.cli.app import main

__all__ = ["main"]
