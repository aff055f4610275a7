"""What the conformance suite does not show of the middleware."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

import httpx
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from starlette.requests import HTTPConnection

from sessiond_client import AsyncClient, Client, Verification, clear_cookie
from sessiond_client import django as sessiond_django
from sessiond_client._json import load
from sessiond_client.guard import TOKEN_MAX_BYTES, Guard
from sessiond_client.starlette import RequireSession
from sessiond_client.types import Session

from .applications import Django, StarletteApplication
from .test_client import KEY, SESSION

# Nobody listens there: a request that sessiond were asked about would be 503.
URL = "http://127.0.0.1:9"

LIVE = Verification("live", load(Session, SESSION))


class MiddlewareTest(unittest.IsolatedAsyncioTestCase):
    """Tests the middleware of both frameworks."""

    async def respond(
        self, path: str, headers: dict[str, str], **guard: Any
    ) -> list[httpx.Response]:
        """Returns the responses of both applications."""
        responses = []
        for create in (Django, StarletteApplication):
            async with create(URL, KEY, {"retries": 0}, guard) as application:
                responses.append(await application.send("GET", path, headers))
        return responses

    async def test_exempt_paths_and_the_sign_in_are_not_guarded(self) -> None:
        guard = {"exempt_paths": ["/about", "/static/*"], "sign_in_path": "/sign-in?next=1"}
        for path in ("/about", "/static/a/b.css", "/sign-in", "/sign-in?x=1"):
            for response in await self.respond(path, {}, **guard):
                self.assertEqual((response.status_code, response.json()), (200, None), path)
        for path in ("/about/", "/about/x", "/static", "/sign-in/x"):
            for response in await self.respond(path, {}, **guard):
                self.assertEqual(response.status_code, 303, path)

    async def test_a_token_that_no_request_has_room_for_is_refused_unasked(self) -> None:
        for token, status in (("x" * TOKEN_MAX_BYTES, 503), ("x" * (TOKEN_MAX_BYTES + 1), 401)):
            for response in await self.respond("/", {"authorization": f"Bearer {token}"}):
                self.assertEqual(response.status_code, status)

    async def test_a_token_of_other_characters_is_refused_unasked(self) -> None:
        for headers in ({"authorization": "Bearer x y"}, {"cookie": '__Host-session="x"'}):
            for response in await self.respond("/", headers):
                self.assertEqual(response.status_code, 401, headers)

    async def test_a_cookie_is_found_among_others_by_its_whole_name(self) -> None:
        for cookies in ("session=x", "x__Host-session=x", "__Host-session", ""):
            for response in await self.respond("/", {"cookie": cookies}):
                self.assertEqual(response.headers["www-authenticate"], "Bearer", cookies)
        for response in await self.respond("/", {"cookie": "a;b=1; __Host-session = x==; c"}):
            self.assertEqual(response.status_code, 503)


class GuardTest(unittest.TestCase):
    """Tests what no framework takes part in."""

    def test_a_text_is_no_collection_of_texts(self) -> None:
        for name in ("allowed_origins", "exempt_paths"):
            with self.assertRaises(TypeError):
                Guard(**{name: "/static/*"})

    def test_the_cookie_is_removed_as_it_was_set(self) -> None:
        removed = "__Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"
        self.assertEqual(clear_cookie(), removed)
        self.assertTrue(clear_cookie("sid").startswith("sid=; "))


class DjangoTest(unittest.TestCase):
    """Tests the decorator and the settings of Django."""

    def setUp(self) -> None:
        values = override_settings(SESSIOND_URL=URL, SESSIOND_KEY=KEY)
        values.enable()
        self.addCleanup(values.disable)
        patched = mock.patch.object(Client, "verify_token", return_value=LIVE)
        self.verify_token = patched.start()
        self.addCleanup(patched.stop)

    def respond(self, **environ: Any) -> tuple[int, bytes]:
        """Responds by a view that is guarded."""

        @sessiond_django.require_session
        def view(request: HttpRequest, greeting: str) -> HttpResponse:
            session: Session = getattr(request, "user_session")
            return HttpResponse(f"{greeting}, {session.status}")

        response = view(RequestFactory().get("/", **environ), greeting="Hello")
        assert isinstance(response, HttpResponse)
        return response.status_code, response.content

    def test_a_single_view_can_be_guarded(self) -> None:
        self.assertEqual(self.respond()[0], 401)
        self.assertEqual(self.respond(HTTP_AUTHORIZATION="Bearer x"), (200, b"Hello, live"))
        self.verify_token.assert_called_once_with("x", ip_address="127.0.0.1")

    def test_another_address_can_be_the_users(self) -> None:
        with override_settings(SESSIOND_IP_ADDRESS=f"{__name__}.forwarded_for"):
            self.respond(HTTP_AUTHORIZATION="Bearer x", HTTP_X_FORWARDED_FOR="192.0.2.7")
        self.verify_token.assert_called_once_with("x", ip_address="192.0.2.7")

    def test_a_socket_has_no_address(self) -> None:
        self.respond(HTTP_AUTHORIZATION="Bearer x", REMOTE_ADDR="")
        self.verify_token.assert_called_once_with("x", ip_address=None)


class StarletteTest(unittest.IsolatedAsyncioTestCase):
    """Tests what is not HTTP."""

    def setUp(self) -> None:
        patched = mock.patch.object(AsyncClient, "verify_token", return_value=LIVE)
        self.verify_token = patched.start()
        self.addCleanup(patched.stop)
        self.seen: list[Any] = []

    async def open(self, *headers: tuple[str, str], **scope: Any) -> list[Any]:
        """Opens a websocket; returns what the server is told."""
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.seen.append(scope.get("state"))
            await send({"type": "websocket.accept"})

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        def forwarded_for(connection: HTTPConnection) -> str | None:
            return connection.headers.get("x-forwarded-for")

        async with AsyncClient(URL, KEY) as client:
            allowed = ["https://app.example"]
            guarded = RequireSession(
                app, client, sign_in_path="/", allowed_origins=allowed, ip_address=forwarded_for
            )
            pairs = [(name.encode(), value.encode()) for name, value in headers]
            scope = {"type": "websocket", "path": "/live", "headers": pairs, **scope}
            await guarded(scope, receive, send)
        return sent

    async def test_a_websocket_of_a_live_session_is_accepted(self) -> None:
        headers = (("authorization", "Bearer x"), ("x-forwarded-for", "192.0.2.7"))
        sent = await self.open(*headers, state={"a": 1})
        self.assertEqual(sent, [{"type": "websocket.accept"}])
        self.assertEqual(self.seen, [{"a": 1, "session": LIVE.session}])
        self.verify_token.assert_awaited_once_with("x", ip_address="192.0.2.7")

    async def test_a_websocket_without_a_session_is_refused_before_it_is_accepted(self) -> None:
        self.assertEqual(await self.open(), [{"type": "websocket.close", "code": 1008}])
        start, body = await self.open(extensions={"websocket.http.response": {}})
        self.assertEqual((start["type"], start["status"]), ("websocket.http.response.start", 401))
        self.assertIn(b"unauthenticated", body["body"])
        self.assertEqual(self.seen, [])

    async def test_another_sites_page_opens_no_websocket_by_the_cookie(self) -> None:
        for origin, kind in (
            ("https://other.example", "websocket.close"),
            ("https://app.example", "websocket.accept"),
        ):
            sent = await self.open(("cookie", "__Host-session=x"), ("origin", origin))
            self.assertEqual(sent[0]["type"], kind)

    async def test_cookies_in_several_headers_are_read(self) -> None:
        cookies = (("cookie", "a=1"), ("cookie", "__Host-session=x"))
        sent = await self.open(*cookies, ("sec-fetch-site", "same-origin"))
        self.assertEqual(sent, [{"type": "websocket.accept"}])

    async def test_the_start_of_the_application_is_not_guarded(self) -> None:
        await self.open(type="lifespan")
        self.assertEqual(self.seen, [None])


def forwarded_for(request: HttpRequest) -> str | None:
    """Returns the address that a proxy reports."""
    return request.META.get("HTTP_X_FORWARDED_FOR")
