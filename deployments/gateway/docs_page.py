"""``/api/docs``: what the API is, drawn here; a browser loads nothing from anybody else.

FastAPI's own page takes its script and its style from a CDN and runs them beside the keys that a
person types into it; this one is text.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from deployments.gateway.consents import templates

ABOUT = """\
ほかのシステムから App Connect の処理を始め、結果を読むための API です。
APIキーは app-connect key issue で発行し、Authorization: Bearer に入れて送ります。
"""

router = APIRouter(include_in_schema=False)


@router.get("/api/v1/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """The API for machines (OpenAPI 3.1)."""
    return JSONResponse(request.app.openapi())


@router.get("/api/docs")
async def docs(request: Request) -> HTMLResponse:
    """The API for people."""
    schema = request.app.openapi()
    page = templates().get_template("api.html")
    return HTMLResponse(page.render(info=schema["info"], entries=_entries(schema)))


def _entries(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "about": operation.get("description", ""),
            "parameters": operation.get("parameters", []),
            "fields": _fields(schema, operation.get("requestBody")),
            "answer": _example(schema, operation["responses"]),
        }
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def _fields(schema: dict[str, Any], body: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The fields of a request's body."""
    if body is None:
        return []
    found = _model(schema, body["content"]["application/json"]["schema"])
    return [{"name": name, **each} for name, each in found.get("properties", {}).items()]


def _example(schema: dict[str, Any], responses: dict[str, Any]) -> str:
    """The names of an answer's fields with their types."""
    good = next(each for status, each in responses.items() if status.startswith("2"))
    wanted = good["content"]["application/json"]["schema"]
    many = wanted.get("type") == "array"
    found = _model(schema, wanted["items"] if many else wanted)
    fields = {name: _type(each) for name, each in found.get("properties", {}).items()}
    return json.dumps([fields] if many else fields, ensure_ascii=False, indent=2) if fields else ""


def _model(schema: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    for each in (wanted, *wanted.get("anyOf", [])):
        if "$ref" in each:
            found: dict[str, Any] = schema["components"]["schemas"][each["$ref"].rpartition("/")[2]]
            return found
    return wanted


def _type(field: dict[str, Any]) -> str:
    kinds = [each.get("type", "object") for each in field.get("anyOf", [field])]
    return " | ".join(dict.fromkeys(kinds))
