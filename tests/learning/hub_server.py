"""A Hugging Face hub for tests: what its client asks for when it makes a model, uploads a folder and downloads it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HubServer:
    """Models in memory, on the loopback interface; every commit replaces the files that it names."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        """By OWNER/NAME, the files."""
        self.asked: list[str] = []
        """Paths of all requests."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                hub.get(self, body=True)

            def do_HEAD(self) -> None:
                hub.get(self, body=False)

            def do_POST(self) -> None:
                hub.post(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, name: str) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for file, content in sorted(self.models[name].items()):
            digest.update(file.encode() + content)
        return digest.hexdigest()

    def get(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = request.path.split("?")[0]
        self.asked.append(path)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            if name not in self.models:
                return _send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
            files = [{"rfilename": file, "size": len(content)} for file, content in self.models[name].items()]
            if "tree" in parts:
                listed = [{"type": "file", "path": file["rfilename"], "size": file["size"], "oid": "0" * 40}
                          for file in files]  # fmt: skip
                return _send(request, 200, json.dumps(listed).encode())
            about = {"id": name, "modelId": name, "sha": self.commit(name), "siblings": files, "tags": [],
                     "private": False, "downloads": 0, "likes": 0}  # fmt: skip
            return _send(request, 200, json.dumps(about).encode())
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        content = self.models.get(name, {}).get(file)
        if parts[2:3] != ["resolve"] or content is None:
            return _send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(content).hexdigest()
        return _send(request, 200, content if body else b"", {"ETag": f'"{etag}"', "X-Repo-Commit": self.commit(name)},
                     None if body else len(content))  # fmt: skip

    def post(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        self.asked.append(path)
        parts = path.strip("/").split("/")
        sent = _read(request)
        if path == "/api/repos/create":
            about = json.loads(sent)
            name = f"{about.get('organization') or 'someone'}/{about['name']}"
            self.models.setdefault(name, {})
            return _send(request, 200, json.dumps({"url": f"{self.url}/{name}", "name": name, "id": name}).encode())
        name = "/".join(parts[2:4])
        if "preupload" in parts:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for one in json.loads(sent)["files"]]  # fmt: skip
            return _send(request, 200, json.dumps({"files": files}).encode())
        if "commit" in parts:
            for line in sent.decode().splitlines():
                one = json.loads(line)
                if one["key"] == "file":
                    self.models[name][one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            commit = self.commit(name)
            about = {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit, "success": True}
            return _send(request, 200, json.dumps(about).encode())
        return _send(request, 200, b"{}")


def _read(request: BaseHTTPRequestHandler) -> bytes:
    """The body, of stated length or in chunks."""
    if "chunked" not in request.headers.get("Transfer-Encoding", ""):
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    parts = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    content: bytes,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content) if length is None else length))
    request.end_headers()
    request.wfile.write(content)
