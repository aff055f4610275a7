"""The request of each call, and what is read of its response."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable, TypeVar, Union
from uuid import UUID, uuid4

from . import _json
from ._protocol import Call, Reply
from .errors import Refusal
from .types import (
    CreatedSession,
    EventPage,
    FieldError,
    InspectedSession,
    RotatedToken,
    Session,
    SessionList,
    Verification,
)

T = TypeVar("T")

Id = Union[UUID, str]
"""Names a session or a user: a UUID, or its text."""


class Keep(enum.Enum):
    """Stands for a value that stays as it is."""

    KEEP = enum.auto()


@dataclass(frozen=True)
class Revoked:
    """Says how many sessions were revoked."""

    revoked_count: int


def create_session(idempotency_key: str | None, **body: object) -> Call[CreatedSession]:
    key = str(uuid4()) if idempotency_key is None else idempotency_key
    headers = _header("Idempotency-Key", key)
    return Call(_request("POST", "sessions", body, headers=headers), _object(CreatedSession))


def get_session(session_id: Id, user_id: Id) -> Call[Session]:
    # Without a user's id, the node would return anyone's session.
    query = {"user_id": _uuid("user_id", user_id)}
    return Call(_request("GET", _session(session_id), query=query), _object(Session))


def inspect_session(session_id: Id) -> Call[InspectedSession]:
    return Call(_request("GET", _session(session_id)), _inspected)


def verify_token(**body: object) -> Call[Verification]:
    return Call(_request("POST", "sessions/verify", body), _object(Verification))


def edit_session(session_id: Id, if_match: str | None, **edit: object) -> Call[InspectedSession]:
    body = {name: value for name, value in edit.items() if value is not Keep.KEEP}
    headers = {} if if_match is None else _header("If-Match", if_match)
    request = _request("PATCH", _session(session_id), body, headers=headers)
    # What the first attempt has changed would look like another one's change.
    return Call(request, _inspected, may_repeat=if_match is None)


def record_activity(session_id: Id, **body: object) -> Call[None]:
    return Call(_request("POST", f"{_session(session_id)}/activity", body), _nothing)


def rotate_token(session_id: Id) -> Call[RotatedToken]:
    return Call(_request("POST", f"{_session(session_id)}/rotate"), _object(RotatedToken))


def list_user_sessions(user_id: Id, **query: object) -> Call[SessionList]:
    return Call(_request("GET", _sessions_of(user_id), query=query), _object(SessionList))


def revoke_session(session_id: Id, **body: object) -> Call[None]:
    return Call(_request("DELETE", _session(session_id), body), _nothing)


def revoke_all_user_sessions(user_id: Id, **body: object) -> Call[int]:
    return Call(_request("DELETE", _sessions_of(user_id), body), _revoked_count)


def revoke_sessions(ids: Iterable[Id], **body: object) -> Call[int]:
    return Call(_request("POST", "sessions/revoke", {"ids": list(ids), **body}), _revoked_count)


def list_events(session_id: Id | None, user_id: Id | None, **query: object) -> Call[EventPage]:
    # To the node, an empty id is an absent one: all events.
    for name, value in (("session_id", session_id), ("user_id", user_id)):
        query[name] = None if value is None else _uuid(name, value)
    return Call(_request("GET", "events", query=query), _object(EventPage))


def _request(
    method: str,
    path: str,
    body: Mapping[str, object] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Returns what `stream` of httpx takes. What is None is no part of a query."""
    request: dict[str, Any] = {"method": method, "url": path, "headers": headers or {}}
    if query:
        request["params"] = {name: value for name, value in query.items() if value is not None}
    if body is not None:
        request["headers"] = {"Content-Type": "application/json", **request["headers"]}
        request["content"] = _json.dump(body)
    return request


def _session(session_id: Id) -> str:
    return f"sessions/{_uuid('id', session_id)}"


def _sessions_of(user_id: Id) -> str:
    return f"users/{_uuid('user_id', user_id)}/sessions"


def _uuid(field: str, value: Id) -> str:
    """Returns the text of an id. Anything but a UUID could name another call."""
    try:
        return str(UUID(str(value)))
    except ValueError:
        pass
    raise _invalid(field, "must be a UUID")


def _header(name: str, value: str) -> dict[str, str]:
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise _invalid(name, "must be visible ASCII characters")
    return {name: value}


def _invalid(field: str, message: str) -> Refusal:
    """Returns what the node would say of a request that cannot even be sent."""
    errors = (FieldError(field, message),)
    return Refusal(400, "invalid_request", "The request is malformed", errors)


def _object(kind: type[T]) -> Callable[[Reply], T]:
    """Returns what reads a dataclass in a reply."""
    return lambda reply: _json.load(kind, reply.body)


def _inspected(reply: Reply) -> InspectedSession:
    if reply.etag is None:
        raise ValueError("no ETag")
    return InspectedSession(_json.load(Session, reply.body), reply.etag)


def _revoked_count(reply: Reply) -> int:
    return _json.load(Revoked, reply.body).revoked_count


def _nothing(reply: Reply) -> None:
    # A success of something else must not pass for a revocation.
    if reply.status != 204:
        raise ValueError("not 204")
