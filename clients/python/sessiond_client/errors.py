"""Why a call has failed. Neither the service key nor a token is in an error."""

from __future__ import annotations

from .types import FieldError


class SessiondError(Exception):
    """Says why a call has failed: it is a `Refusal`, or sessiond is `Unavailable`."""


class Refusal(SessiondError):
    """Says that sessiond has understood the request, and does not do it."""

    def __init__(
        self, status: int, code: str, title: str, errors: tuple[FieldError, ...] = ()
    ) -> None:
        """Creates the error of a problem (RFC 9457)."""
        super().__init__(status, code, title, errors)
        self.status = status
        """The status of the response: 400 to 499."""
        self.code = code
        """The kind of problem, such as `session_not_found`."""
        self.title = title
        """A sentence for people."""
        self.errors = errors
        """Which fields of the request are wrong, and why."""

    def __str__(self) -> str:
        return f"sessiond refused the request: {self.status} {self.code}: {self.title}"


class Unavailable(SessiondError):
    """Says that nothing is known, which is not the same as "no session".

    After a call that changes something, the change may or may not have been made; repeating the
    call is safe.
    """

    def __init__(
        self, reason: str, status: int | None = None, retry_after: int | None = None
    ) -> None:
        """Creates the error of this reason."""
        super().__init__(reason, status, retry_after)
        self.reason = reason
        """What has happened, for logs."""
        self.status = status
        """The status of the response; None, if there was none."""
        self.retry_after = retry_after
        """After how many seconds to try again, where the response says so."""

    def __str__(self) -> str:
        return f"sessiond is unavailable: {self.reason}"
