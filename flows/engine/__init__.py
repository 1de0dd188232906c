"""What every connector flow shares: store, ledger, stages, run report."""

from flows.engine.model import Mode, Reject, Result, Row, Trigger
from flows.engine.pipeline import Pipeline, Tools
from flows.engine.report import run_name
from flows.engine.run import ModeName, run_connector

__all__ = [
    "Mode",
    "ModeName",
    "Pipeline",
    "Reject",
    "Result",
    "Row",
    "Tools",
    "Trigger",
    "run_connector",
    "run_name",
]
