"""The client of sessiond: calls of an application's backend, and middleware that guards its pages.

`Client` and `AsyncClient` have a method for each call of the service listener. The modules `django`
and `starlette` have the middleware `RequireSession`; requests without a live session do not get
through it.
"""

from .client import KEEP, AsyncClient, Client
from .errors import Refusal, SessiondError, Unavailable
from .guard import clear_cookie
from .types import (
    CreatedSession,
    Device,
    Event,
    EventPage,
    FieldError,
    InspectedSession,
    RotatedToken,
    Session,
    SessionList,
    SessionStatus,
    TokenStatus,
    Verification,
)

__all__ = [
    "KEEP",
    "AsyncClient",
    "Client",
    "CreatedSession",
    "Device",
    "Event",
    "EventPage",
    "FieldError",
    "InspectedSession",
    "Refusal",
    "RotatedToken",
    "Session",
    "SessionList",
    "SessionStatus",
    "SessiondError",
    "TokenStatus",
    "Unavailable",
    "Verification",
    "clear_cookie",
]
