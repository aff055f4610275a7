"""What the conformance suite does not show of the clients."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import socket
import threading
import time
import traceback
import unittest
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sessiond_client import (
    AsyncClient,
    Client,
    CreatedSession,
    FieldError,
    Refusal,
    RotatedToken,
    SessiondError,
    Unavailable,
)
from sessiond_client._json import load

CLIENTS: tuple[type[Client] | type[AsyncClient], ...] = (Client, AsyncClient)

KEY = "a-service-key-that-nobody-may-see"

USER = "00000000-0000-4000-8000-00000000000a"

SESSION = b"""{
    "id": "01900000-0000-7000-8000-000000000001",
    "user_id": "00000000-0000-4000-8000-00000000000a",
    "device_info": null, "device": {"browser": null, "system": "macOS", "type": "desktop"},
    "ip_address": null, "location": null, "created_at": "2026-01-02T03:04:05.123456Z",
    "last_activity_at": "2026-01-02T03:04:05.123456Z",
    "expires_at": "2026-01-02T03:04:05.123456Z", "is_revoked": false, "is_current": false,
    "status": "live", "revoked_at": null, "revoked_reason": null, "name": null,
    "last_ip_address": null, "of_a_future_version": [1], "evicted": [],
    "token": "sds_secret", "set_cookie": "__Host-session=sds_secret"
}"""


class ClientTest(unittest.TestCase):
    """Tests both clients."""

    def test_a_url_a_key_or_a_number_that_cannot_be_one_is_refused(self) -> None:
        urls = [
            "",
            KEY,
            "localhost:8081",
            "ftp://node",
            "http://",
            "http://node?x=1",
            "http://node#x",
            "http://a:b@node",
            "http://node:port",
            "http://node:0",
            "http://node:65536",
            "http://two words",
        ]
        keys = ["", "two words", "line\n", "schlüssel"]
        arguments: list[tuple[str, str, dict[str, Any]]] = [
            *((url, KEY, {}) for url in urls),
            *(("http://node", key, {}) for key in keys),
            ("http://node", KEY, {"timeout": 0}),
            ("http://node", KEY, {"attempt_timeout": float("nan")}),
            ("http://node", KEY, {"retries": -1}),
        ]
        for create in CLIENTS:
            for url, key, options in arguments:
                with self.subTest(client=create, url=url, key=key, options=options):
                    with self.assertRaises(ValueError) as raised:
                        create(url, key, **options)
                    self.assertNotIn(KEY, shown(raised.exception))

    def test_the_url_may_have_a_path(self) -> None:
        for create in CLIENTS:
            for url in ("https://node:1/sessions", "https://node:1/sessions/"):
                client = create(url, KEY)
                self.assertIn("'https://node:1/sessions/service/v1/'", repr(client))
                self.assertNotIn(KEY, repr(client))

    def test_a_server_that_drips_bytes_does_not_get_around_the_time_out(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        for response in ([*dripping(head)], [head, *dripping(b" " * 1000)]):
            for create in CLIENTS:
                with self.subTest(client=create, response=response[0]), serving(response) as url:
                    start = time.monotonic()
                    error = self.failure(create, url, attempt_timeout=0.4)
                    self.assertEqual(error.reason, "no response in time")
                    self.assertLess(time.monotonic() - start, 1.5)

    def test_a_response_has_a_largest_size(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
        for create in CLIENTS:
            with self.subTest(client=create), serving([head, b" " * 2_000_000]) as url:
                error = self.failure(create, url)
                self.assertEqual(error.reason, "the response is not sessiond's: status 200")

    def test_a_success_of_something_else_is_no_revocation(self) -> None:
        for create in CLIENTS:
            with self.subTest(client=create), serving([response(b"OK")]) as url:
                self.failure(create, url, lambda client: client.revoke_session(USER))

    def test_secrets_in_a_response_that_is_not_understood_are_not_in_the_error(self) -> None:
        responses = [
            response(b'{"token": "sds_secret", "set_cookie": 1}'),
            response(b'{"token": "sds_secret'),
            b"HTTP/1.1 200 OK\r\nsds_secret\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsds_secret\r\n",
        ]
        for create in CLIENTS:
            for text in responses:
                with self.subTest(client=create, response=text), serving([text]) as url:
                    error = self.failure(create, url, lambda client: client.rotate_token(USER))
                    self.assertNotIn("sds_secret", shown(error))
                    self.assertNotIn(KEY, shown(error))

    def test_errors_have_no_cause_that_has_the_request(self) -> None:
        for create in CLIENTS:
            with self.subTest(client=create):
                error = self.failure(create, "http://127.0.0.1:9")
                self.assertIn("no connection", str(error))
                self.assertIsNone(error.__cause__)
                self.assertIsNone(error.__context__)

    def test_an_id_that_names_something_else_is_refused_unasked(self) -> None:
        calls: list[Callable[[Any], Any]] = [
            lambda client: client.get_session("revoke", USER),
            lambda client: client.get_session(USER, ""),
            lambda client: client.revoke_session("../users"),
            lambda client: client.list_events(user_id=""),
            lambda client: client.create_session(user_id=USER, idempotency_key="line\n"),
        ]
        for create in CLIENTS:
            for number, call in enumerate(calls):
                with self.subTest(client=create, call=number), self.assertRaises(Refusal) as raised:
                    run(create("http://127.0.0.1:9", KEY), call)
                self.assertEqual(raised.exception.code, "invalid_request")

    def test_both_clients_have_the_same_calls(self) -> None:
        for name, method in inspect.getmembers(Client, inspect.isfunction):
            if not name.startswith("_") and name != "close":
                other = inspect.signature(getattr(AsyncClient, name))
                self.assertEqual(inspect.signature(method), other, name)

    def failure(
        self,
        create: type[Client] | type[AsyncClient],
        url: str,
        call: Callable[[Any], Any] = lambda client: client.inspect_session(USER),
        **options: Any,
    ) -> Unavailable:
        """Returns the error of a call."""
        with self.assertRaises(Unavailable) as raised:
            run(create(url, KEY, retries=0, **options), call)
        return raised.exception


class ResultTest(unittest.TestCase):
    """Tests results and errors."""

    def test_secrets_are_not_in_the_text_of_results(self) -> None:
        created = load(CreatedSession, SESSION)
        self.assertEqual(created.token, "sds_secret")
        rotated = RotatedToken("sds_secret", "__Host-session=sds_secret")
        for result in (created, rotated):
            self.assertNotIn("sds_secret", f"{result} {result!r}")

    def test_times_have_a_zone_and_what_is_unknown_is_ignored(self) -> None:
        created = load(CreatedSession, SESSION)
        self.assertEqual(created.created_at.isoformat(), "2026-01-02T03:04:05.123456+00:00")
        self.assertEqual(created.device and created.device.system, "macOS")
        self.assertEqual({created: 1}[created], 1)

    def test_what_is_no_session_is_not_read_as_one(self) -> None:
        changes = [
            (b'"live"', b'"lively"'),
            (b'"live"', b"[]"),
            (b'"id"', b'"ID"'),
            (b"123456Z", b"123456"),
            (b"false", b"0"),
            (b"{", b"["),
            (SESSION, b"[" * 100_000),
            (SESSION, b"\xff"),
        ]
        for old, new in changes:
            with self.subTest(old=old[:9], new=new[:9]), self.assertRaises(ValueError) as raised:
                load(CreatedSession, SESSION.replace(old, new))
            self.assertIsNone(raised.exception.__context__)

    def test_errors_can_be_sent_to_other_processes(self) -> None:
        errors: list[SessiondError] = [
            Refusal(400, "invalid_request", "title", (FieldError("limit", "too high"),)),
            Unavailable("no response in time", 503, 7),
        ]
        for error in errors:
            copy = pickle.loads(pickle.dumps(error))
            self.assertEqual((str(copy), vars(copy)), (str(error), vars(error)))


def run(client: Client | AsyncClient, call: Callable[[Any], Any]) -> Any:
    """Calls, and closes the client."""

    async def run_async(client: AsyncClient) -> Any:
        async with client:
            return await call(client)

    if isinstance(client, AsyncClient):
        return asyncio.run(run_async(client))
    with client:
        return call(client)


def shown(error: BaseException) -> str:
    """Returns all that logs show of an error."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return f"{error} {error!r} {''.join(lines)}"


def response(body: bytes) -> bytes:
    """Returns a response that reports success."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def dripping(text: bytes) -> Iterator[bytes]:
    """Returns the bytes of a text, one by one."""
    return (bytes([byte]) for byte in text)


@contextmanager
def serving(response: Iterable[bytes]) -> Iterator[str]:
    """Serves one request: sends the parts of the response, each 50 ms after the one before."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            try:
                for part in response:
                    connection.sendall(part)
                    time.sleep(0.05)
            except OSError:
                pass  # The client has had enough.

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        thread.join()
        server.close()
