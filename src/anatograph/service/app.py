"""The HTTP application: ``POST /embed`` and ``GET /health``."""

from __future__ import annotations

import asyncio
import queue
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatograph._version import __version__
from anatograph.errors import UserError, plain
from anatograph.service.upload import scan_of
from anatograph.service.worker import Outcome, Worker

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LONGEST_QUEUE = 8
"""Uploads that may wait for a worker."""
STATUS = {"done": 200, "refused": 422, "failed": 500, "late": 504}
"""HTTP status of each outcome of a worker."""


@dataclass(frozen=True)
class Limits:
    """What one request may take."""

    megabytes: float
    """Of the upload."""
    seconds: float
    """For the upload to arrive, and again for the scan to be embedded."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Service:
    """Workers, each with one scan at a time, and the counts that ``/health`` shows."""

    def __init__(self, model: Path, workers: int, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.workers = [Worker(model) for _ in range(workers)]
        self.counts: Counter[str] = Counter()
        self.inside = 0
        """Requests between their first byte and their answer."""
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._turn = asyncio.Semaphore(workers)
        self._folder = Path(tempfile.mkdtemp(prefix="anatograph-serve-"))
        """Uploads; readable for this user alone."""

    def start(self) -> None:
        """Load the model in every worker. UserError where it cannot be loaded."""
        for worker in self.workers:
            worker.start()
            self._free.put(worker)

    def stop(self) -> None:
        """End the workers and delete what is left of uploads."""
        for worker in self.workers:
            worker.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def health(self) -> dict[str, Any]:
        """The state of the service."""
        return {
            "status": "ok",
            "anatograph": __version__,
            "workers": len(self.workers),
            "requests": self.inside,
            "answered": dict(self.counts),
            "limits": {"megabytes": self.limits.megabytes, "seconds": self.limits.seconds},
        }

    async def embed(self, request: Request) -> Outcome:
        """Receive a scan, wait for a worker, embed, and delete the upload, whatever happens.

        Raises:
            RefusedError: too many requests, or an upload that is too large, too slow, empty or cut short.
        """
        if self.inside >= len(self.workers) + LONGEST_QUEUE:
            raise RefusedError(503, "The service is busy; try again later.")
        self.inside += 1
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            upload = folder / "upload"
            try:
                async with asyncio.timeout(self.limits.seconds):
                    await self._receive(request, upload)
            except TimeoutError:
                raise RefusedError(408, f"The upload took longer than {self.limits.seconds:g} s.") from None
            async with self._turn:
                return await asyncio.to_thread(self._work, upload, folder)
        finally:
            self.inside -= 1
            await asyncio.to_thread(shutil.rmtree, folder, True)

    async def _receive(self, request: Request, upload: Path) -> None:
        most = int(self.limits.megabytes * 1e6)
        large = RefusedError(413, f"The upload is larger than {self.limits.megabytes:g} MB.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise large
        size = 0
        with upload.open("wb") as file:
            async for block in request.stream():
                size += len(block)
                if size > most:
                    raise large
                file.write(block)
        if size == 0:
            raise RefusedError(400, "The request has no body; send the scan as the body of the request.")

    def _work(self, upload: Path, folder: Path) -> Outcome:
        worker = self._free.get()
        begin = time.monotonic()
        try:
            try:
                scan = scan_of(upload, folder)
            except UserError as error:
                return Outcome("refused", str(error))
            left = max(1.0, self.limits.seconds - (time.monotonic() - begin))
            outcome = worker.embed(scan, folder, left)
            if outcome.kind == "done":
                return outcome
            return Outcome(outcome.kind, plain(str(outcome.value).replace(str(scan), "the scan")))
        finally:
            self._free.put(worker)


def application(service: Service, hosts: list[str]) -> Starlette:
    """The application around a service; requests for other host names than ``hosts`` are refused."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.stop)

    async def embed(request: Request) -> Response:
        # A page in a browser on this machine could otherwise send scans, or anything, without its user knowing.
        if "origin" in request.headers:
            return JSONResponse({"error": "Requests from web pages are not answered."}, 403)
        try:
            outcome = await service.embed(request)
        except RefusedError as error:
            service.counts[str(error.status)] += 1
            headers = {"Retry-After": "10"} if error.status == 503 else None
            return JSONResponse({"error": str(error)}, error.status, headers)
        except ClientDisconnect:
            service.counts["disconnected"] += 1
            return JSONResponse({"error": "The upload was cut short."}, 400)
        status = STATUS[outcome.kind]
        service.counts[str(status)] += 1
        return JSONResponse(outcome.value if outcome.kind == "done" else {"error": outcome.value}, status)

    async def health(_: Request) -> Response:
        return JSONResponse(service.health())

    return Starlette(
        routes=[Route("/embed", embed, methods=["POST"]), Route("/health", health)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        lifespan=lifespan,
    )
