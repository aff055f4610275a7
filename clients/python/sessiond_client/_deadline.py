"""Transports that bound an attempt as a whole.

httpx bounds each wait by itself, so that a server that drips bytes could take as long as it likes.
These transports take time-outs for connecting, reading and writing as deadlines instead: times as
`time.monotonic` returns them.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import httpcore
import httpx

try:
    from httpcore import AnyIOBackend, AsyncNetworkStream, NetworkStream, SyncBackend
except ImportError:  # httpcore before 0.17
    from httpcore.backends.asyncio import AsyncIOBackend as AnyIOBackend  # type: ignore
    from httpcore.backends.base import AsyncNetworkStream, NetworkStream  # type: ignore
    from httpcore.backends.sync import SyncBackend  # type: ignore

# Those of httpx.
_LIMITS: dict[str, Any] = {
    "max_connections": 100,
    "max_keepalive_connections": 20,
    "keepalive_expiry": 5.0,
}


class DeadlineTransport(httpx.HTTPTransport):
    """Bounds the attempts of a synchronous client."""

    def __init__(self, context: ssl.SSLContext) -> None:
        # httpx has no parameter for the back end.
        self._pool = httpcore.ConnectionPool(context, network_backend=_Backend(), **_LIMITS)


class AsyncDeadlineTransport(httpx.AsyncHTTPTransport):
    """Bounds the attempts of an asynchronous client.

    To cancel them instead could leave connections in the pool of old versions of httpcore.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            context, network_backend=_AsyncBackend(), **_LIMITS
        )


def _time_left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout("the time of the attempt is over")
    return seconds


class _Backend(SyncBackend):
    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> NetworkStream:
        stream = super().connect_tcp(host, port, _time_left(timeout), *args, **kwargs)
        # Without it, as before httpcore 1.0, each body waits 40 ms until its head is acknowledged.
        stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Stream(stream)


class _Stream(NetworkStream):
    def __init__(self, stream: NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _time_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _time_left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _time_left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _AsyncBackend(AnyIOBackend):
    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, _time_left(timeout), *args, **kwargs)
        return _AsyncStream(stream)


class _AsyncStream(AsyncNetworkStream):
    def __init__(self, stream: AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, _time_left(timeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, _time_left(timeout))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> AsyncNetworkStream:
        timeout = _time_left(timeout)
        return _AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
