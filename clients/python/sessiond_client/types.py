"""What calls return, in the names of the API description."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Optional
from uuid import UUID

# Results are read by these types, and Python 3.9 has no `X | None` to evaluate.

SessionStatus = Literal["live", "revoked", "expired", "idle"]
"""Says whether a session is still good."""

TokenStatus = Literal["live", "revoked", "expired", "idle", "invalid"]
"""Says what a token is worth: the status of its session, or that there is none."""


@dataclass(frozen=True)
class Device:
    """Describes a device."""

    browser: Optional[str]
    """Its browser."""
    system: Optional[str]
    """Its operating system."""
    type: str
    """`desktop`, `mobile`, `tablet`, `tv`, `bot` or `other`."""


@dataclass(frozen=True)
class Session:
    """Describes a session. What is not known is None."""

    id: UUID
    """Its id."""
    user_id: UUID
    """Whose it is."""
    device_info: Optional[str]
    """The device in words, such as `Chrome on macOS`."""
    device: Optional[Device]
    """The device."""
    ip_address: Optional[str]
    """The address of the sign-in."""
    location: Optional[str]
    """The place of that address."""
    created_at: datetime
    """When the user signed in."""
    last_activity_at: datetime
    """When it was used last."""
    expires_at: datetime
    """When its lifetime ends."""
    is_revoked: bool
    """Whether it is revoked."""
    is_current: bool
    """Whether it is the caller's own: never, on the service listener."""
    status: SessionStatus
    """Whether it is still good."""
    revoked_at: Optional[datetime]
    """When it was revoked."""
    revoked_reason: Optional[str]
    """Why it was revoked."""
    name: Optional[str]
    """The user's own name for the device."""
    last_ip_address: Optional[str]
    """The address that it was used from last."""
    user_agent: Optional[str] = None
    """The user agent of the sign-in: by `inspect_session` and in lists."""
    metadata: Optional[dict[str, Any]] = field(default=None, hash=False)
    """What the application keeps with it: the same."""


@dataclass(frozen=True)
class CreatedSession(Session):
    """Describes a session that was created."""

    evicted: tuple[UUID, ...] = ()
    """The sessions that were evicted by the limit."""
    token: Optional[str] = field(default=None, repr=False)
    """The session token, where one was asked for; shown this once."""
    set_cookie: Optional[str] = field(default=None, repr=False)
    """The value of a `Set-Cookie` header with that token, for the browser."""


@dataclass(frozen=True)
class InspectedSession:
    """Describes a session, with the version of its name and metadata."""

    session: Session
    """The session."""
    etag: str
    """What to give `edit_session` as `if_match`."""


@dataclass(frozen=True)
class Verification:
    """Says what a token is worth."""

    status: TokenStatus
    """The status of its session, or `invalid`."""
    session: Optional[Session]
    """The session, unless the token is invalid."""


@dataclass(frozen=True)
class RotatedToken:
    """Holds a session token that has replaced the one before."""

    token: str = field(repr=False)
    """The token; shown this once."""
    set_cookie: str = field(repr=False)
    """The value of a `Set-Cookie` header with it, for the browser."""


@dataclass(frozen=True)
class SessionList:
    """Holds a page of a user's sessions, the newest first."""

    sessions: tuple[Session, ...]
    """The sessions."""
    total_count: int
    """How many the user has; 10000 stands for that many or more."""
    active_count: int
    """How many of them are live: the same."""
    next_cursor: Optional[str]
    """Where the next page begins; None on the last."""


@dataclass(frozen=True)
class Event:
    """Describes what happened to a session."""

    id: int
    """Its place in the feed."""
    type: str
    """`created`, `revoked`, `evicted`, `expired`, `renewed` or `token_reused`."""
    at: datetime
    """When it happened."""
    session_id: UUID
    """The session that it happened to."""
    user_id: UUID
    """Whose session that is."""
    reason: Optional[str]
    """Why it happened."""
    actor: Optional[str]
    """Who did it: `user:<id>`, `service`, `service:<name of the key>` or `system`."""


@dataclass(frozen=True)
class EventPage:
    """Holds a page of the event feed, the oldest first."""

    events: tuple[Event, ...]
    """The events."""
    next_after: int
    """Where the next page begins."""


@dataclass(frozen=True)
class FieldError:
    """Says what is wrong with one field of a request."""

    field: str
    """Its name."""
    message: str
    """What it must be."""
