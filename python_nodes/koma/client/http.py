"""HTTP calls of the public interface, with the errors of :mod:`koma.client.errors`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from koma.client.errors import (
    CallTimeoutError,
    ClientError,
    ProtocolError,
    RefusedError,
    ServerUnreachableError,
)


class Http:
    """An ``httpx`` client of one server; ``timeout`` in seconds bounds each wait, not a whole transfer."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self.url = url
        self._timeout = timeout
        self._client = httpx.AsyncClient(base_url=url, headers=dict(headers), timeout=timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON body of the answer; raise ``RefusedError`` for an error status."""
        with self._errors(f"{method} {path}"):
            response = await self._client.request(method, path, **options)
        return checked(response)

    async def status(self, path: str) -> tuple[int, Any]:
        """Return status and JSON body of a GET, whatever the status is."""
        with self._errors(f"GET {path}"):
            response = await self._client.get(path)
        return response.status_code, _body(response)

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[httpx.Response]:
        """Open a GET whose body is read by the caller; raise ``RefusedError`` for an error status."""
        with self._errors(f"GET {path}"):
            async with self._client.stream("GET", path) as response:
                if response.is_error:
                    await response.aread()
                    checked(response)
                yield response

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise ServerUnreachableError(self.url, "no connection in time") from error
        except httpx.TimeoutException as error:
            raise CallTimeoutError(what, self._timeout) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServerUnreachableError(self.url, str(error) or type(error).__name__) from error


def checked(response: httpx.Response) -> Any:
    """Return the JSON body, or raise the error that it carries."""
    body = _body(response)
    if response.is_success:
        return body
    raise _error(response, body)


def _error(response: httpx.Response, body: Any) -> ClientError:
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return RefusedError(error)
    return ProtocolError(
        f"{response.request.method} {response.request.url} was answered with {response.status_code}"
    )


def _body(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise ProtocolError(f"the answer of {response.request.url} is not JSON") from error
