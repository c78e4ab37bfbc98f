"""A hub in a process of the tests: as much of huggingface.co's API as a push asks for.

Repositories are made, small files come within the commit, weights through LFS; what lies in a
repository afterwards is in `repositories`. Without the right token nothing is taken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_aTokenOfTheTests"


class Hub(ThreadingHTTPServer):
    """Repositories by name: their files, and whether they are private."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[str] = []
        self.objects: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        files = self.repositories[repository]
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    self.commits.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""

    def _json(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid credentials in Authorization header"}, 401)
        parts = self.path.split("?")[0].strip("/").split("/")
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path == "/api/validate-yaml":  # the head of a card
            return self._json({"errors": [], "warnings": []})
        if self.path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        repository, what = "/".join(parts[2:4]), parts[4]
        if what == "preupload":
            files = json.loads(body)["files"]
            mode = {True: "lfs", False: "regular"}
            return self._json(
                {
                    "files": [
                        {"path": f["path"], "shouldIgnore": False}
                        | {"uploadMode": mode[f["path"].endswith(".safetensors")]}
                        for f in files
                    ]
                }
            )
        self.server.commit(repository, [json.loads(line) for line in body.splitlines() if line])
        url = f"{self.server.address}/{repository}/commit/c0ffee"
        return self._json({"success": True, "commitOid": "c0ffee", "commitUrl": url})

    def do_PUT(self) -> None:
        content = self._body()
        self.server.objects[hashlib.sha256(content).hexdigest()] = content
        self._json({})

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        repository = "/".join(parts[2:4])
        files = self.server.repositories.get(repository)
        if files is None:
            return self._json({"error": "Repository not found"}, 404)
        if "tree" in parts:
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                for path, content in files.items()
            ]
            return self._json(listed)
        siblings = [{"rfilename": path} for path in files]
        about = {"id": repository, "sha": "0" * 40, "private": self.server.private[repository]}
        return self._json(about | {"siblings": siblings})

    def _create(self, asked: dict[str, Any]) -> None:
        repository = "/".join([asked.get("organization") or "tester", asked["name"]])
        url = f"{self.server.address}/{repository}"
        if repository in self.server.repositories:
            return self._json({"error": "You already created this model repo", "url": url}, 409)
        self.server.repositories[repository] = {}
        self.server.private[repository] = asked.get("visibility") == "private"
        return self._json({"url": url, "id": repository, "name": repository})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            part | {"actions": {"upload": {"href": f"{self.server.address}/put/{part['oid']}"}}}
            for part in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that listens until the block ends."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
