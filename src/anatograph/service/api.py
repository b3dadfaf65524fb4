"""Starting the server."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

from anatograph.errors import UserError
from anatograph.execution.memory import workers_that_fit
from anatograph.learning.releases.resolve import resolve_model
from anatograph.service.app import Limits, Service, application


def serve(
    model: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    workers: int = 1,
    max_megabytes: float = 1000.0,
    max_seconds: float = 300.0,
    say: Callable[[str], None] = print,
) -> None:
    """Answer requests until interrupted: ``POST /embed`` with a scan as its body, ``GET /health``.

    The body is a NIfTI, NRRD or MetaImage file or a zip of DICOM files; the answer is JSON, see
    `anatograph.service.answer.answer`.  Each of ``workers`` processes holds the model and embeds one scan at a time;
    one that crashes or exceeds ``max_seconds`` is replaced.  Uploads are deleted once they are answered.  There is no
    encryption and no password: on another address than loopback put a proxy with both in front of it.

    Args:
        model: a model folder or the name of a shipped release; the release that ships if not given.
        host: address to listen on.
        port: port; 0 takes a free one.
        workers: processes; fewer where memory has no room for them.
        max_megabytes: largest upload.
        max_seconds: longest upload, and longest time for a scan.
        say: called with the address, and with warnings.

    Raises:
        UserError: the extra is missing, the model cannot be loaded, or the port is taken.
    """
    try:
        import uvicorn
    except ImportError:
        raise UserError(
            "serve needs the packages starlette and uvicorn; install them with: pip install 'anatograph[serve]'."
        ) from None
    if min(workers, max_megabytes, max_seconds) <= 0:
        raise UserError("Workers, megabytes and seconds must be larger than 0.")
    folder = resolve_model(model)
    fit, sentence = workers_that_fit(workers)
    if sentence:
        say(sentence)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"{host}:{port} cannot be listened on ({error}); give another --port or --host.") from error
    with contextlib.closing(listener):
        service = Service(folder, fit, Limits(max_megabytes, max_seconds))
        try:
            service.start()
            if not _is_loopback(host):
                say(f"warning: {host} can be reached by others, without password or encryption; use a proxy with both")
            shown = f"[{host}]" if ":" in host else host
            say(f"Serving: http://{shown}:{listener.getsockname()[1]}/embed (health: /health)")
            config = uvicorn.Config(application(service, _hosts(host)), log_level="warning", access_log=False,
                                    lifespan="on", timeout_graceful_shutdown=5)  # fmt: skip
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            service.stop()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts(host: str) -> list[str]:
    """Host names that requests may carry: on loopback only its own, so that no web page reaches it by another name."""
    return ["localhost", "127.0.0.1", "[::1]", host] if _is_loopback(host) else ["*"]
