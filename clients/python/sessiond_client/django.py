"""Middleware and a decorator for Django, and the client that they ask.

The settings are

- `SESSIOND_URL` and `SESSIOND_KEY`: the service listener, and a service key;
- `SESSIOND_OPTIONS`: other arguments of `Client`, such as `{"timeout": 3.0}`;
- `SESSIOND_SIGN_IN_PATH`, `SESSIOND_COOKIE_NAME`, `SESSIOND_ALLOWED_ORIGINS` and
  `SESSIOND_EXEMPT_PATHS`: the arguments of `Guard`;
- `SESSIOND_IP_ADDRESS`: a function that returns the end user's address of a request, or its dotted
  path; `REMOTE_ADDR`, if it is absent.
"""

from __future__ import annotations

from functools import lru_cache, wraps
from typing import Any, Callable

from django.conf import settings
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from .client import Client
from .errors import SessiondError
from .guard import COOKIE_NAME, Guard, Rejection
from .types import Session, Verification


class RequireSession:
    """Lets only requests through that have the token of a live session.

    It sets the session as `request.user_session`. It asks sessiond about each request and caches
    nothing: a revoked session is refused as soon as its revocation is acknowledged.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Creates the middleware, as Django does."""
        self._get_response = get_response
        # What is wrong with the settings is reported when the application starts.
        client()
        _guard()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Responds to a request."""
        rejection = None if _guard().is_exempt(request.path) else _reject(request)
        return self._get_response(request) if rejection is None else rejection


def require_session(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Lets only requests through to this view that have the token of a live session.

    It does what `RequireSession` does, for one view, which is not async.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        rejection = _reject(request)
        return view(request, *args, **kwargs) if rejection is None else rejection

    return guarded


@lru_cache(maxsize=None)
def client() -> Client:
    """Returns the client of this process, as the settings have it."""
    options = getattr(settings, "SESSIOND_OPTIONS", {})
    return Client(settings.SESSIOND_URL, settings.SESSIOND_KEY, **options)


@lru_cache(maxsize=None)
def _guard() -> Guard:
    return Guard(
        sign_in_path=getattr(settings, "SESSIOND_SIGN_IN_PATH", None),
        cookie_name=getattr(settings, "SESSIOND_COOKIE_NAME", COOKIE_NAME),
        allowed_origins=getattr(settings, "SESSIOND_ALLOWED_ORIGINS", ()),
        exempt_paths=getattr(settings, "SESSIOND_EXEMPT_PATHS", ()),
    )


def _reject(request: HttpRequest) -> HttpResponse | None:
    """Sets the session of a request, or returns the response to one that is not let through."""
    decision = _decide(request)
    if isinstance(decision, Rejection):
        return HttpResponse(decision.body, status=decision.status, headers=decision.headers)
    setattr(request, "user_session", decision)
    return None


def _decide(request: HttpRequest) -> Session | Rejection:
    is_read = request.method in ("GET", "HEAD")
    token = _guard().token(request.headers.get, is_read)
    if isinstance(token, Rejection):
        return token
    return _guard().session(_verify(token, request), is_read)


def _verify(token: str, request: HttpRequest) -> Verification | SessiondError:
    address_of = getattr(settings, "SESSIOND_IP_ADDRESS", _remote_address)
    if isinstance(address_of, str):
        address_of = import_string(address_of)
    try:
        return client().verify_token(token, ip_address=address_of(request))
    except SessiondError as error:
        return error


def _remote_address(request: HttpRequest) -> str | None:
    return request.META.get("REMOTE_ADDR") or None


def _forget(*, setting: str, **_: object) -> None:
    """Makes tests see the settings that they override."""
    if setting.startswith("SESSIOND_"):
        client.cache_clear()
        _guard.cache_clear()


setting_changed.connect(_forget)
