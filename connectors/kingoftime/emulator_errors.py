"""KING OF TIME's error answers, in either of its two shapes.

Codes 105, 111 and 303 are the contract's. The others are ours [I]: programs go by the status there.
"""

from __future__ import annotations

from typing import Literal

from starlette.responses import JSONResponse

Shape = Literal["list", "flat"]
"""``{"errors": [{"message", "code"}]}``, or ``{"code", "message"}`` with the code as text."""


class KingOfTimeError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self, shape: Shape) -> JSONResponse:
        """The whole answer."""
        if shape == "flat":
            return JSONResponse({"code": str(self.code), "message": self.message}, self.status)
        said = {"errors": [{"message": self.message, "code": self.code}]}
        return JSONResponse(said, self.status)


def bad_login() -> KingOfTimeError:
    """No token, or one that nobody issued."""
    return KingOfTimeError(401, 111, "Bad Authentication.")


def closed(code: int) -> KingOfTimeError:
    """What is answered in the closed hours."""
    return KingOfTimeError(403, code, "It is unavailable time.")


def forbidden(what: str) -> KingOfTimeError:
    """The token has no right to this, or may not be used from this address."""
    return KingOfTimeError(403, 106, f"Forbidden. {what}")


def bad_request(message: str) -> KingOfTimeError:
    """A parameter is wrong."""
    return KingOfTimeError(400, 1, message)


def not_found() -> KingOfTimeError:
    """There is no such path, or no such thing at it."""
    return KingOfTimeError(404, 2, "Not Found.")


def throttled() -> KingOfTimeError:
    """The requests of this period are used up."""
    return KingOfTimeError(429, 303, "Too Many Requests")
