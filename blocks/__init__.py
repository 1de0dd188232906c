"""Prefect blocks: credentials, tokens and connection settings; one module per service."""

from blocks.alerts import MailAlert, WebhookAlert
from blocks.bugyo import BugyoCredentials
from blocks.connection import DAILY_AT, TIMEZONE, Connection, Days
from blocks.form import FormBlock, FormModel
from blocks.kingoftime import KingOfTimeCredentials
from blocks.kintone import KintoneCredentials
from blocks.mfexpense import MfExpenseCredentials
from blocks.oauth import OAuthBlock
from blocks.smaregi import SmaregiCredentials
from blocks.smarthr import SmartHRCredentials
from blocks.webhook import WebhookSettings

__all__ = [
    "DAILY_AT",
    "TIMEZONE",
    "BugyoCredentials",
    "Connection",
    "Days",
    "FormBlock",
    "FormModel",
    "KingOfTimeCredentials",
    "KintoneCredentials",
    "MailAlert",
    "MfExpenseCredentials",
    "OAuthBlock",
    "SmaregiCredentials",
    "SmartHRCredentials",
    "WebhookAlert",
    "WebhookSettings",
]
