"""A proxy in front of an S3 server that lets some requests fail, as networks and crowded servers do."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

ANSWERS = {
    "slow_down": (503, "SlowDown"),
    "internal_error": (500, "InternalError"),
    "denied": (403, "AccessDenied"),
    "expired": (400, "ExpiredToken"),
    "skewed": (403, "RequestTimeTooSkewed"),
}
"""Faults that are answers: status and S3's code. The others are broken connections:
reset: the request is not even passed on; lost: it is, but its answer never comes back; cut: the answer
ends in the middle; hang: nothing comes until the client gives up."""
PASSING = ("slow_down", "internal_error", "reset", "lost", "cut")
"""Faults that go away when the request is made again, and quickly."""

Rule = Callable[[str, str], str | None]
"""Maps an operation (GET, LIST, PUT, ...) and the path with its query to a fault, or to None."""

_BODY = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>fault</Message></Error>"
_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "date"}


class FaultProxy:
    """Passes requests on unchanged, so that their signatures hold, except for those that fail.

    Args:
        target: address of the server.
        share: of requests that fail at random.
        seed: of the draw.
        kinds: faults that are drawn from.
        rule: for faults that are no chance; it goes first.
    """

    def __init__(
        self, target: str, share: float = 0.0, seed: int = 0, kinds: Sequence[str] = PASSING, rule: Rule | None = None
    ) -> None:
        self.target, self.share, self.kinds, self.rule = target, share, kinds, rule
        self.counts: Counter[str] = Counter()
        """Requests by operation: the HTTP method, or LIST."""
        self.num_bytes: Counter[str] = Counter()
        """Bytes of bodies by operation, both ways."""
        self.faults: Counter[str] = Counter()
        """Requests that failed, by kind."""
        self.num_unsigned = 0
        """Requests without credentials."""
        self.endpoint = ""
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            connector=aiohttp.TCPConnector(limit=0),
        )
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        operation = "LIST" if "list-type" in request.query else request.method
        body = await request.read()
        self.counts[operation] += 1
        self.num_bytes[operation] += len(body)
        self.num_unsigned += "Authorization" not in request.headers
        fault = self._draw(operation, request.raw_path)
        if fault is None:
            return await self._pass_on(request, body, operation)
        self.faults[fault] += 1
        if fault in ANSWERS:
            status, code = ANSWERS[fault]
            return web.Response(status=status, text=_BODY.format(code=code), content_type="application/xml")
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "lost":
            await self._fetch(request, body)
        if fault == "cut":
            return await self._pass_on(request, body, operation, cut=True)
        return _broken_off(request)

    def _draw(self, operation: str, path: str) -> str | None:
        if self.rule and (fault := self.rule(operation, path)):
            return fault
        return self._random.choice(self.kinds) if self._random.random() < self.share else None

    async def _fetch(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {key: value for key, value in request.headers.items() if key.lower() != "expect"}
        url = URL(self.target + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def _pass_on(
        self, request: web.Request, body: bytes, operation: str, cut: bool = False
    ) -> web.StreamResponse:
        status, headers, data = await self._fetch(request, body)
        self.num_bytes[operation] += len(data)
        length = headers.get("Content-Length")
        kept = {key: value for key, value in headers.items() if key.lower() not in _OF_THE_CONNECTION}
        response = web.StreamResponse(status=status, headers=kept)
        if length is not None:
            response.content_length = int(length)
        await response.prepare(request)
        if cut:
            await response.write(data[: len(data) // 2])
            return _broken_off(request, response)
        await response.write_eof(data)
        return response


def _broken_off(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return response or web.Response()
