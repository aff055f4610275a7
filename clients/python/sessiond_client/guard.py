"""Whether a request is let through, for middleware of any framework."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Callable, NamedTuple

from .errors import SessiondError, Unavailable
from .types import Session, Verification

COOKIE_NAME = "__Host-session"
"""The name of the session cookie where none is configured."""

TOKEN_MAX_BYTES = 16_000
"""How long a token may be that sessiond is asked about: a request to it has 16 KiB."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750

_INVALID_TOKEN = 'Bearer error="invalid_token"'

_PROBLEMS = {
    "unauthenticated": (401, "Authentication is required"),
    "session_ended": (401, "The session has ended"),
    "cross_site_request": (403, "The request is another site's"),
    "dependency_unavailable": (503, "Sessions cannot be verified at present"),
}


class Rejection(NamedTuple):
    """Holds the response to a request that is not let through."""

    status: int
    """Its status."""
    headers: dict[str, str]
    """Its headers."""
    body: bytes = b""
    """Its body."""


class Guard:
    """Decides whether requests are let through, before and after sessiond was asked.

    An outage is never a logout: then the response is 503, and neither 401 nor a redirect.
    """

    def __init__(
        self,
        *,
        sign_in_path: str | None = None,
        cookie_name: str = COOKIE_NAME,
        allowed_origins: Collection[str] = (),
        exempt_paths: Collection[str] = (),
    ) -> None:
        """Creates a guard.

        Pages (`GET`, `HEAD`) without a live session are redirected to `sign_in_path`, if it is
        set; else, and for other requests, the response is 401. Pages of `allowed_origins`, such as
        `https://app.example`, may change something by the cookie. Requests to `exempt_paths` and
        to `sign_in_path` are let through as they are; `/static/*` exempts what begins with
        `/static/`.
        """
        if isinstance(allowed_origins, str) or isinstance(exempt_paths, str):
            raise TypeError("allowed origins and exempt paths are collections of texts")
        self._sign_in_path = sign_in_path
        self._cookie_name = cookie_name
        self._allowed_origins = frozenset(allowed_origins)
        sign_in = [] if sign_in_path is None else [sign_in_path.partition("?")[0]]
        self._exempt_paths = frozenset([*exempt_paths, *sign_in])
        self._exempt_prefixes = tuple(path[:-1] for path in exempt_paths if path.endswith("*"))

    def is_exempt(self, path: str) -> bool:
        """Returns whether requests to this path are let through as they are."""
        return path in self._exempt_paths or path.startswith(self._exempt_prefixes)

    def token(self, header: Callable[[str], str | None], is_read: bool) -> str | Rejection:
        """Returns the token to ask sessiond about.

        `header` returns the header of a name, in lower case. `is_read` says that the request
        changes nothing: it is `GET` or `HEAD`.
        """
        authorization = header("authorization")
        if authorization is None:
            token = _cookie(header("cookie") or "", self._cookie_name)
            if token is None:
                return self._without_session("unauthenticated", "Bearer", is_read)
            if not (is_read or self._is_same_site(header)):
                return _problem("cross_site_request")
        else:
            token = _bearer(authorization)
        if len(token) > TOKEN_MAX_BYTES or not _TOKEN.fullmatch(token):
            return self._without_session("unauthenticated", _INVALID_TOKEN, is_read)
        return token

    def session(self, outcome: Verification | SessiondError, is_read: bool) -> Session | Rejection:
        """Returns the session of the request, if sessiond says that it is live."""
        retry_after = None
        if isinstance(outcome, Verification):
            if outcome.status == "live" and outcome.session is not None:
                return outcome.session
            if outcome.status == "invalid":
                return self._without_session("unauthenticated", _INVALID_TOKEN, is_read)
            if outcome.status != "live":
                return self._without_session("session_ended", _INVALID_TOKEN, is_read)
        # A refusal is of the application's own credentials, not of the end user's.
        elif isinstance(outcome, Unavailable):
            retry_after = outcome.retry_after
        seconds = 1 if retry_after is None else retry_after
        return _problem("dependency_unavailable", {"Retry-After": str(seconds)})

    def _without_session(self, code: str, challenge: str, is_read: bool) -> Rejection:
        if is_read and self._sign_in_path is not None:
            return Rejection(303, {"Location": self._sign_in_path})
        return _problem(code, {"WWW-Authenticate": challenge})

    def _is_same_site(self, header: Callable[[str], str | None]) -> bool:
        """Returns whether a page of this site, or of one that is allowed, sends the request.

        Browsers send the cookie by themselves, with other sites' requests too.
        """
        if header("sec-fetch-site") == "same-origin":
            return True
        return header("origin") in self._allowed_origins


def clear_cookie(name: str = COOKIE_NAME) -> str:
    """Returns the `Set-Cookie` value that removes the session cookie, for a sign-out."""
    return f"{name}=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"


def _bearer(authorization: str) -> str:
    """Returns the token of an `Authorization` header; nothing, if it has another scheme."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _cookie(cookies: str, name: str) -> str | None:
    for pair in cookies.split(";"):
        found, equals, value = pair.partition("=")
        if equals and found.strip() == name:
            return value.strip()
    return None


def _problem(code: str, headers: dict[str, str] | None = None) -> Rejection:
    """Returns the response with a problem (RFC 9457)."""
    status, title = _PROBLEMS[code]
    problem = {
        "type": f"urn:sessiond:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
    }
    headers = {"Content-Type": "application/problem+json", **(headers or {})}
    return Rejection(status, headers, json.dumps(problem).encode())
