"""What the client of every service is: somebody who holds connections and closes them."""

from __future__ import annotations

from typing import Self

from connectors.kit._http import ApiClient


class ServiceClient:
    """A client that talks through one `ApiClient`. An async context manager."""

    _http: ApiClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
