"""What both connectors of kintone share in front of the kit."""

from __future__ import annotations

from typing import Any

from connectors.kintone.emulator import KintoneEmulator
from deployments.samples.kintone import DEMO_API_TOKEN
from tests.acceptance.protocol import Case

PAGE = 500
"""Records that a cursor of kintone gives at once at most."""


class KintoneCase(Case):
    """One app with the sample's form and API token."""

    service = "kintone"
    data = r"/k/v1/records(/cursor)?\.json"
    app: Any  # module of the sample: APP_ID, APP_NAME, FIELDS

    def emulator(self) -> KintoneEmulator:
        made = KintoneEmulator()
        app = self.app
        made.add_app(app.APP_ID, app.APP_NAME, app.FIELDS, tokens={DEMO_API_TOKEN: {"view"}})
        return made

    def record(self, number: int) -> dict[str, Any]:
        """A good record."""
        raise NotImplementedError

    def put(self, record: dict[str, Any]) -> str:
        """Put a record in; returns its key."""
        return str(self.partner.seed(self.app.APP_ID, [record])[0])

    def good(self, number: int) -> str:
        return self.put(self.record(number))

    def twin(self, number: int) -> str:
        return self.good(number)

    def crowd(self) -> list[str]:
        return [self.good(number) for number in range(PAGE + 20)]

    def shift(self, keys: list[str]) -> str:
        gone = keys[3]
        self.partner.delete(self.app.APP_ID, int(gone))
        return gone
