"""Prefect blocks: credentials, tokens and connection settings; one module per service."""

from blocks.bugyo import BugyoCredentials
from blocks.connection import CRON_DAILY_0500, TIMEZONE, Connection
from blocks.form import NEEDED, FormBlock, FormModel
from blocks.kintone import KintoneCredentials

__all__ = [
    "CRON_DAILY_0500",
    "NEEDED",
    "TIMEZONE",
    "BugyoCredentials",
    "Connection",
    "FormBlock",
    "FormModel",
    "KintoneCredentials",
]
