"""What both clients do without I/O: what responses mean, and when to try again."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Generic, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx

from . import _json
from .errors import Refusal, Unavailable
from .types import FieldError

T = TypeVar("T")

RESPONSE_MAX_BYTES = 1024 * 1024
"""How large a response may be."""

FIRST_WAIT = 0.05
"""The wait before the second attempt, where the response names none; it doubles from then on."""

RETRIED = (None, 429, 502, 503, 504)
"""The statuses after which a call is attempted again; None is no response."""

NO_RESPONSE = (httpx.HTTPError, OSError, anyio.EndOfStream)
"""The errors that say so. Old versions of httpcore let those of TLS handshakes through."""


@dataclass(frozen=True)
class Reply:
    """Holds what a client reads of a response."""

    status: int
    etag: str | None
    retry_after: int | None
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, response: httpx.Response, body: bytes) -> Reply:
        """Returns the reply in a response with this body."""
        seconds = response.headers.get("retry-after", "")
        return cls(
            status=response.status_code,
            etag=response.headers.get("etag"),
            # More digits than 64 bits need are no time.
            retry_after=int(seconds) if re.fullmatch("[0-9]{1,20}", seconds) else None,
            body=body,
        )


@dataclass(frozen=True)
class Problem:
    """Describes a problem (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    errors: tuple[FieldError, ...] = ()

    def is_of(self, status: int) -> bool:
        """Returns whether sessiond says it with this status."""
        return self.status == status and self.type == f"urn:sessiond:problem:{self.code}"


@dataclass(frozen=True)
class Call(Generic[T]):
    """Describes a call: each attempt sends the same request."""

    request: dict[str, Any] = field(repr=False)
    """What `stream` of httpx takes."""
    read: Callable[[Reply], T]
    """Returns the result in a reply that reports success; raises `ValueError` if there is none."""
    may_repeat: bool = True

    def result(self, reply: Reply) -> T:
        """Returns the result in a reply, or raises the error that it reports."""
        problem = None
        try:
            if 200 <= reply.status < 300:
                return self.read(reply)
            problem = _json.load(Problem, reply.body)
        except ValueError:
            pass
        if problem is None or not problem.is_of(reply.status):
            reason = f"the response is not sessiond's: status {reply.status}"
        elif 400 <= reply.status < 500 and reply.status not in (408, 429):
            raise Refusal(problem.status, problem.code, problem.title, problem.errors)
        else:
            reason = f"{problem.status} {problem.code}: {problem.title}"
        raise Unavailable(reason, reply.status, reply.retry_after)


@dataclass(frozen=True)
class Limits:
    """Says how long calls may take, in seconds, and how often they are attempted again."""

    timeout: float
    attempt_timeout: float
    retries: int

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and self.attempt_timeout > 0 and self.retries >= 0):
            raise ValueError("time-outs must be more than 0 seconds, and retries 0 or more")


class Attempts:
    """Says when each attempt of a call has to end, and whether there is another."""

    def __init__(self, limits: Limits, may_repeat: bool) -> None:
        self._attempt_timeout = limits.attempt_timeout
        self._end = time.monotonic() + limits.timeout
        self._retries = limits.retries if may_repeat else 0
        self._wait = FIRST_WAIT

    def deadline(self) -> float:
        """Returns when an attempt that begins now has to end, as `time.monotonic` counts."""
        return min(time.monotonic() + self._attempt_timeout, self._end)

    def wait_after(self, error: Unavailable) -> float | None:
        """Returns how many seconds to wait for the next attempt, or None if there is no other."""
        wait: float = self._wait * (1 + random.random() / 2)
        if error.retry_after is not None:
            wait = error.retry_after
        is_late = time.monotonic() + wait >= self._end
        if self._retries == 0 or is_late or error.status not in RETRIED:
            return None
        self._retries -= 1
        self._wait *= 2
        return wait


def http_options(url: str, service_key: str) -> dict[str, Any]:
    """Returns what both clients of httpx are created with.

    Raises `ValueError` if the URL or the key cannot be one. Neither is in the error: if the two
    were confused, it would have the key.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", service_key):
        raise ValueError("the service key must be visible ASCII characters")
    return {
        "base_url": _base_url(url),
        # A compressed response could grow beyond what is allowed.
        "headers": {"Authorization": f"Bearer {service_key}", "Accept-Encoding": "identity"},
        # The service key would go elsewhere, or be replaced by one of the environment's.
        "follow_redirects": False,
        "trust_env": False,
    }


def _base_url(text: str) -> httpx.URL:
    try:
        if re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text) and urlsplit(text).port != 0:
            return httpx.URL(f"{text.rstrip('/')}/service/v1/")
    except (ValueError, httpx.InvalidURL):
        pass
    raise ValueError("the URL must be http(s)://host[:port], and may have a path")


def reason_of(error: Exception) -> str:
    """Returns why there was no response.

    Once there is a connection, the text of an error may have a part of the response in it, and
    with that a secret.
    """
    if isinstance(error, httpx.TimeoutException):
        return "no response in time"
    if isinstance(error, httpx.ConnectError):
        return f"no connection: {error}"
    return f"the connection broke: {type(error).__name__}"
