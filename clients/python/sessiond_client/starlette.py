"""Middleware for Starlette, FastAPI, and other ASGI applications."""

from __future__ import annotations

from collections.abc import Collection
from typing import Callable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from .client import AsyncClient
from .errors import SessiondError
from .guard import COOKIE_NAME, Guard, Rejection
from .types import Session, Verification


class RequireSession:
    """Lets only requests through that have the token of a live session; websockets too.

    It sets the session as `request.state.session`. It asks sessiond about each request and caches
    nothing: a revoked session is refused as soon as its revocation is acknowledged. A websocket is
    asked about once, before it is accepted.
    """

    def __init__(
        self,
        app: ASGIApp,
        client: AsyncClient,
        *,
        sign_in_path: str | None = None,
        cookie_name: str = COOKIE_NAME,
        allowed_origins: Collection[str] = (),
        exempt_paths: Collection[str] = (),
        ip_address: Callable[[HTTPConnection], str | None] | None = None,
    ) -> None:
        """Creates the middleware of an application; see `Guard` for the arguments.

        `ip_address` returns the end user's address, in the place of the connection's.
        """
        self._app = app
        self._client = client
        self._ip_address = ip_address or _client_host
        self._guard = Guard(
            sign_in_path=sign_in_path,
            cookie_name=cookie_name,
            allowed_origins=allowed_origins,
            exempt_paths=exempt_paths,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds to a request."""
        if scope["type"] == "lifespan" or self._guard.is_exempt(scope["path"]):
            await self._app(scope, receive, send)
            return
        decision = await self._decide(HTTPConnection(scope))
        if isinstance(decision, Rejection):
            await _respond(decision, scope, receive, send)
            return
        state = {**scope.get("state", {}), "session": decision}
        await self._app({**scope, "state": state}, receive, send)

    async def _decide(self, connection: HTTPConnection) -> Session | Rejection:
        def header(name: str) -> str | None:
            # HTTP/2 may split the cookies into several headers.
            values = connection.headers.getlist(name)
            return "; ".join(values) if values else None

        # A websocket has no method. It may change anything, and other sites' pages can open it.
        is_read = connection.scope.get("method") in ("GET", "HEAD")
        token = self._guard.token(header, is_read)
        if isinstance(token, Rejection):
            return token
        return self._guard.session(await self._verify(token, connection), is_read)

    async def _verify(self, token: str, connection: HTTPConnection) -> Verification | SessiondError:
        try:
            return await self._client.verify_token(token, ip_address=self._ip_address(connection))
        except SessiondError as error:
            return error


def _client_host(connection: HTTPConnection) -> str | None:
    return connection.client.host if connection.client else None


async def _respond(rejection: Rejection, scope: Scope, receive: Receive, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http.response"
        if kind not in (scope.get("extensions") or {}):
            # The server responds with 403: it has no way to say more.
            await send({"type": "websocket.close", "code": 1008})
            return
    headers = {**rejection.headers, "Content-Length": str(len(rejection.body))}
    head = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": f"{kind}.start", "status": rejection.status, "headers": head})
    await send({"type": f"{kind}.body", "body": rejection.body})
