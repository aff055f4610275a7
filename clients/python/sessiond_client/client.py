"""The calls of an application's backend."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

import anyio
import httpx

from . import _calls
from ._calls import Id, Keep
from ._deadline import AsyncDeadlineTransport, DeadlineTransport
from ._protocol import (
    NO_RESPONSE,
    RESPONSE_MAX_BYTES,
    Attempts,
    Call,
    Limits,
    Reply,
    http_options,
    reason_of,
)
from .errors import Unavailable
from .types import (
    CreatedSession,
    EventPage,
    InspectedSession,
    RotatedToken,
    Session,
    SessionList,
    Verification,
)

T = TypeVar("T")

KEEP = Keep.KEEP
"""Stands for what `edit_session` leaves as it is."""


class Client:
    """Calls sessiond as the application's backend, with a service key. Threads can share it.

    A call that fails raises `Refusal`, or `Unavailable`: nothing is known. Every call can be
    repeated safely, and is, at most `retries` times. An attempt takes at most `attempt_timeout`
    seconds, and a call with all its attempts `timeout`; only the look-up of the host's name cannot
    be interrupted, and each of its addresses is given that time.
    """

    def __init__(
        self,
        url: str,
        service_key: str,
        *,
        timeout: float = 5.0,
        attempt_timeout: float = 2.0,
        retries: int = 2,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Creates a client of the service listener at this URL.

        Without an SSL context, the authorities that certifi lists are trusted.

        Raises `ValueError` if the URL, the key or a number cannot be one.
        """
        self._limits = Limits(timeout, attempt_timeout, retries)
        options = http_options(url, service_key)
        context = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._http = httpx.Client(transport=DeadlineTransport(context), **options)

    def create_session(
        self,
        *,
        user_id: Id | None = None,
        issuer: str | None = None,
        subject: str | None = None,
        ip_address: str | None = None,
        user_agent: str | None = None,
        expires_at: datetime | None = None,
        max_sessions: int | None = None,
        metadata: dict[str, Any] | None = None,
        issue_token: bool = False,
        idempotency_key: str | None = None,
    ) -> CreatedSession:
        """Creates a session: a sign-in of the user with this id, or this issuer and subject.

        `expires_at` can shorten the session's lifetime, and `max_sessions` says how many live
        sessions the user may have, this one included. The `idempotency_key` lets another call
        repeat this sign-in; it is random if it is absent.

        Refused with `session_limit_reached` if the limit denies it, or with
        `unprocessable_content` if the idempotency key is that of another sign-in.
        """
        call = _calls.create_session(
            idempotency_key,
            user_id=user_id,
            issuer=issuer,
            subject=subject,
            ip_address=ip_address,
            user_agent=user_agent,
            expires_at=expires_at,
            max_sessions=max_sessions,
            metadata=metadata,
            issue_token=issue_token,
        )
        return self._send(call)

    def get_session(self, session_id: Id, user_id: Id) -> Session:
        """Returns a session as this user: at first hand from the near cache.

        Refused with `session_not_found`, or with `not_session_owner` if it is another user's.
        """
        return self._send(_calls.get_session(session_id, user_id))

    def inspect_session(self, session_id: Id) -> InspectedSession:
        """Returns any session with its user agent and metadata, from the database.

        Refused with `session_not_found`.
        """
        return self._send(_calls.inspect_session(session_id))

    def verify_token(self, token: str, *, ip_address: str | None = None) -> Verification:
        """Returns what a session token or JWT is worth that an end user has presented.

        With a live session, this counts as its activity, from that address. A token that is not
        good is no error: see `Verification.status`.
        """
        return self._send(_calls.verify_token(token=token, ip_address=ip_address))

    def edit_session(
        self,
        session_id: Id,
        *,
        name: str | None | Keep = KEEP,
        metadata: dict[str, Any] | None | Keep = KEEP,
        if_match: str | None = None,
    ) -> InspectedSession:
        """Changes name and metadata of a session; None removes them.

        `if_match` is the `etag` of what the caller has seen. With it, the call is attempted once.

        Refused with `session_not_found`, or with `precondition_failed` if name or metadata have
        changed since.
        """
        return self._send(_calls.edit_session(session_id, if_match, name=name, metadata=metadata))

    def record_activity(self, session_id: Id, *, ip_address: str | None = None) -> None:
        """Records that the session was used, from this address.

        Refused with `session_ended` if it is not live, or with `session_not_found`.
        """
        self._send(_calls.record_activity(session_id, ip_address=ip_address))

    def rotate_token(self, session_id: Id) -> RotatedToken:
        """Replaces the session token of a session, or issues its first.

        The one before is good for a short time yet.

        Refused with `session_ended` if the session is not live, or with `session_not_found`.
        """
        return self._send(_calls.rotate_token(session_id))

    def list_user_sessions(
        self,
        user_id: Id,
        *,
        active_only: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionList:
        """Returns a page of a user's sessions: 50, or `limit` (1 to 200).

        `cursor` is the `next_cursor` of the page before.
        """
        return self._send(
            _calls.list_user_sessions(user_id, active_only=active_only, limit=limit, cursor=cursor)
        )

    def revoke_session(self, session_id: Id, *, reason: str | None = None) -> None:
        """Revokes a session. Returns once no node serves it as live.

        Refused with `session_not_found`. A session that was revoked before is no error.
        """
        self._send(_calls.revoke_session(session_id, reason=reason))

    def revoke_all_user_sessions(
        self,
        user_id: Id,
        *,
        reason: str | None = None,
        except_session_id: Id | None = None,
    ) -> int:
        """Revokes all sessions of a user, but for the one that is excepted.

        Returns how many, once no node serves them as live.
        """
        return self._send(
            _calls.revoke_all_user_sessions(
                user_id, reason=reason, except_session_id=except_session_id
            )
        )

    def revoke_sessions(self, ids: Iterable[Id], *, reason: str | None = None) -> int:
        """Revokes sessions by their ids, at most 400; unknown ones are ignored.

        Returns how many, once no node serves them as live.
        """
        return self._send(_calls.revoke_sessions(ids, reason=reason))

    def list_events(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        session_id: Id | None = None,
        user_id: Id | None = None,
    ) -> EventPage:
        """Returns a page of the event feed: 100 events, or `limit` (1 to 1000).

        `after` is the `next_after` of the page before.
        """
        return self._send(_calls.list_events(session_id, user_id, after=after, limit=limit))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({str(self._http.base_url)!r})"

    def _send(self, call: Call[T]) -> T:
        attempts = Attempts(self._limits, call.may_repeat)
        while True:
            try:
                return call.result(self._attempt(call, attempts.deadline()))
            except Unavailable as error:
                wait = attempts.wait_after(error)
                if wait is None:
                    raise
            time.sleep(wait)

    def _attempt(self, call: Call[T], deadline: float) -> Reply:
        timeout = httpx.Timeout(deadline, pool=deadline - time.monotonic())
        try:
            with self._http.stream(**call.request, timeout=timeout) as response:
                body = bytearray()
                for part in response.iter_raw():
                    body += part
                    if len(body) > RESPONSE_MAX_BYTES:
                        break
                return Reply.of(response, bytes(body))
        except NO_RESPONSE as error:
            reason = reason_of(error)
        # Not from httpx's error: that has the request, and with it the service key.
        raise Unavailable(reason)


class AsyncClient:
    """Calls sessiond as the application's backend, with a service key: `Client`, without blocking.

    It belongs to one event loop. Cancelling a call gives it up; a change may then have been made.
    """

    def __init__(
        self,
        url: str,
        service_key: str,
        *,
        timeout: float = 5.0,
        attempt_timeout: float = 2.0,
        retries: int = 2,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Creates a client of the service listener at this URL. See `Client`."""
        self._limits = Limits(timeout, attempt_timeout, retries)
        options = http_options(url, service_key)
        context = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._http = httpx.AsyncClient(transport=AsyncDeadlineTransport(context), **options)

    async def create_session(
        self,
        *,
        user_id: Id | None = None,
        issuer: str | None = None,
        subject: str | None = None,
        ip_address: str | None = None,
        user_agent: str | None = None,
        expires_at: datetime | None = None,
        max_sessions: int | None = None,
        metadata: dict[str, Any] | None = None,
        issue_token: bool = False,
        idempotency_key: str | None = None,
    ) -> CreatedSession:
        """Creates a session: a sign-in of the user with this id, or this issuer and subject.

        See `Client.create_session`.
        """
        call = _calls.create_session(
            idempotency_key,
            user_id=user_id,
            issuer=issuer,
            subject=subject,
            ip_address=ip_address,
            user_agent=user_agent,
            expires_at=expires_at,
            max_sessions=max_sessions,
            metadata=metadata,
            issue_token=issue_token,
        )
        return await self._send(call)

    async def get_session(self, session_id: Id, user_id: Id) -> Session:
        """Returns a session as this user: at first hand from the near cache.

        See `Client.get_session`.
        """
        return await self._send(_calls.get_session(session_id, user_id))

    async def inspect_session(self, session_id: Id) -> InspectedSession:
        """Returns any session with its user agent and metadata, from the database.

        See `Client.inspect_session`.
        """
        return await self._send(_calls.inspect_session(session_id))

    async def verify_token(self, token: str, *, ip_address: str | None = None) -> Verification:
        """Returns what a session token or JWT is worth that an end user has presented.

        See `Client.verify_token`.
        """
        return await self._send(_calls.verify_token(token=token, ip_address=ip_address))

    async def edit_session(
        self,
        session_id: Id,
        *,
        name: str | None | Keep = KEEP,
        metadata: dict[str, Any] | None | Keep = KEEP,
        if_match: str | None = None,
    ) -> InspectedSession:
        """Changes name and metadata of a session; None removes them.

        See `Client.edit_session`.
        """
        return await self._send(
            _calls.edit_session(session_id, if_match, name=name, metadata=metadata)
        )

    async def record_activity(self, session_id: Id, *, ip_address: str | None = None) -> None:
        """Records that the session was used, from this address.

        See `Client.record_activity`.
        """
        await self._send(_calls.record_activity(session_id, ip_address=ip_address))

    async def rotate_token(self, session_id: Id) -> RotatedToken:
        """Replaces the session token of a session, or issues its first.

        See `Client.rotate_token`.
        """
        return await self._send(_calls.rotate_token(session_id))

    async def list_user_sessions(
        self,
        user_id: Id,
        *,
        active_only: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionList:
        """Returns a page of a user's sessions: 50, or `limit` (1 to 200).

        See `Client.list_user_sessions`.
        """
        return await self._send(
            _calls.list_user_sessions(user_id, active_only=active_only, limit=limit, cursor=cursor)
        )

    async def revoke_session(self, session_id: Id, *, reason: str | None = None) -> None:
        """Revokes a session. Returns once no node serves it as live.

        See `Client.revoke_session`.
        """
        await self._send(_calls.revoke_session(session_id, reason=reason))

    async def revoke_all_user_sessions(
        self,
        user_id: Id,
        *,
        reason: str | None = None,
        except_session_id: Id | None = None,
    ) -> int:
        """Revokes all sessions of a user, but for the one that is excepted.

        See `Client.revoke_all_user_sessions`.
        """
        return await self._send(
            _calls.revoke_all_user_sessions(
                user_id, reason=reason, except_session_id=except_session_id
            )
        )

    async def revoke_sessions(self, ids: Iterable[Id], *, reason: str | None = None) -> int:
        """Revokes sessions by their ids, at most 400; unknown ones are ignored.

        See `Client.revoke_sessions`.
        """
        return await self._send(_calls.revoke_sessions(ids, reason=reason))

    async def list_events(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        session_id: Id | None = None,
        user_id: Id | None = None,
    ) -> EventPage:
        """Returns a page of the event feed: 100 events, or `limit` (1 to 1000).

        See `Client.list_events`.
        """
        return await self._send(_calls.list_events(session_id, user_id, after=after, limit=limit))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._http.base_url)!r})"

    async def _send(self, call: Call[T]) -> T:
        attempts = Attempts(self._limits, call.may_repeat)
        while True:
            try:
                return call.result(await self._attempt(call, attempts.deadline()))
            except Unavailable as error:
                wait = attempts.wait_after(error)
                if wait is None:
                    raise
            await anyio.sleep(wait)

    async def _attempt(self, call: Call[T], deadline: float) -> Reply:
        timeout = httpx.Timeout(deadline, pool=deadline - time.monotonic())
        try:
            async with self._http.stream(**call.request, timeout=timeout) as response:
                body = bytearray()
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > RESPONSE_MAX_BYTES:
                        break
                return Reply.of(response, bytes(body))
        except NO_RESPONSE as error:
            reason = reason_of(error)
        # Not from httpx's error: that has the request, and with it the service key.
        raise Unavailable(reason)
