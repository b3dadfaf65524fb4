"""Headless Chromium over its debugging pipe: what a page asks for, complains about, and looks like."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Visit:
    """What a browser did with a page."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)


def visit(browser: str, page: Path, scripts: list[str], profile: Path, picture: Path | None = None) -> Visit:
    """Open a page from disk, evaluate scripts in it one after the other, and note requests and errors."""
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()
    keep = [os.dup2(to_browser, 73), os.dup2(to_us, 74)]
    command = (
        f'exec "{browser}" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run '
        f'--user-data-dir="{profile}" --window-size=1200,1600 --remote-debugging-pipe 3<&73 4>&74 about:blank'
    )
    process = subprocess.Popen(["bash", "-c", command], pass_fds=keep, stderr=subprocess.DEVNULL)
    for end in (to_browser, to_us, *keep):
        os.close(end)
    seen = Visit()
    waiting: dict[int, dict[str, Any]] = {}
    state = {"next": 0, "rest": b""}
    session: str | None = None
    loaded = False

    def receive(deadline: float) -> None:
        nonlocal loaded
        ready, _, _ = select.select([from_browser], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError("the browser does not answer")
        piece = os.read(from_browser, 1 << 20)
        if not piece:
            raise ConnectionError("the browser is gone")
        *whole, state["rest"] = (state["rest"] + piece).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                waiting[message["id"]] = message
            elif message["method"] == "Network.requestWillBeSent":
                seen.requests.append(message["params"]["request"]["url"])
            elif message["method"] == "Runtime.exceptionThrown":
                seen.errors.append(json.dumps(message["params"]["exceptionDetails"])[:500])
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                seen.errors.append(message["params"]["entry"]["text"])
            elif message["method"] == "Runtime.consoleAPICalled" and message["params"]["type"] == "error":
                seen.errors.append(json.dumps(message["params"]["args"])[:500])
            elif message["method"] == "Page.loadEventFired":
                loaded = True

    def ask(method: str, seconds: float = 120, **parameters: Any) -> dict[str, Any]:
        state["next"] += 1
        number = state["next"]
        request: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            request["sessionId"] = session
        os.write(from_us, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while number not in waiting:
            receive(deadline)
        answer = waiting.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    try:
        target = ask("Target.createTarget", url="about:blank")["targetId"]
        session = ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Runtime", "Log", "Page"):
            ask(f"{domain}.enable")
        seen.requests.clear()
        ask("Page.navigate", url=page.resolve().as_uri())
        deadline = time.monotonic() + 120
        while not loaded:
            receive(deadline)
        for script in scripts:
            answer = ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
            seen.answers.append(answer["result"].get("value"))
        if picture is not None:
            shot = ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
            picture.write_bytes(base64.b64decode(shot["data"]))
    finally:
        process.kill()
        process.wait()
        os.close(from_us)
        os.close(from_browser)
    return seen
