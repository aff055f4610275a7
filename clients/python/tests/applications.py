"""Guarded applications: they respond to everything with the session that they find."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import django
import httpx
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.test import Client as Browser
from django.test import override_settings
from django.urls import re_path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sessiond_client import AsyncClient, Client, Session
from sessiond_client import django as sessiond_django
from sessiond_client.starlette import RequireSession

# Refusals are tested, and a synchronous client blocks the event loop of a test.
logging.disable(logging.ERROR)

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class Django:
    """An application of Django, with the synchronous client."""

    def __init__(
        self, url: str, key: str, options: Mapping[str, Any], guard: Mapping[str, Any]
    ) -> None:
        values = {f"SESSIOND_{name.upper()}": value for name, value in guard.items()}
        values.update(SESSIOND_URL=url, SESSIOND_KEY=key, SESSIOND_OPTIONS=options)
        self._settings = override_settings(**values)

    async def __aenter__(self) -> Django:
        self._settings.enable()
        self.client: Client | AsyncClient = sessiond_django.client()
        return self

    async def __aexit__(self, *_: object) -> None:
        sessiond_django.client().close()
        self._settings.disable()

    async def send(self, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        environ: dict[str, Any] = {
            f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()
        }
        response = Browser().generic(method, path, **environ)
        return httpx.Response(
            response.status_code, headers=dict(response.items()), content=response.content
        )


class StarletteApplication:
    """An application of Starlette, with the asynchronous client."""

    def __init__(
        self, url: str, key: str, options: Mapping[str, Any], guard: Mapping[str, Any]
    ) -> None:
        self.client: Client | AsyncClient = AsyncClient(url, key, **options)
        middleware = Middleware(RequireSession, client=self.client, **guard)
        route = Route("/{path:path}", _starlette_page, methods=METHODS)
        self.app = Starlette(routes=[route], middleware=[middleware])

    async def __aenter__(self) -> StarletteApplication:
        return self

    async def __aexit__(self, *_: object) -> None:
        assert isinstance(self.client, AsyncClient)
        await self.client.aclose()

    async def send(self, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            return await http.request(method, path, headers=dict(headers))


def _shown(session: Session | None) -> dict[str, str] | None:
    if session is None:
        return None
    return {"user_id": str(session.user_id), "session_id": str(session.id)}


def _django_page(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_shown(getattr(request, "user_session", None)), safe=False)


def _starlette_page(request: Request) -> JSONResponse:
    return JSONResponse(_shown(getattr(request.state, "session", None)))


urlpatterns = [re_path("", _django_page)]

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["sessiond_client.django.RequireSession"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="tests",
)
django.setup()
