"""A stand-in for the Hugging Face hub: what its clients ask of it, answered from memory, and every request noted.

What is asked was found by noting the requests of datasets 5, huggingface_hub 0.36 and 2, transformers 4.57 and 5; how
answers look, in those clients' sources. Of the hub itself nothing was seen: where it answers in another way than its
clients expect, this does not show it. Answered, for REPO an id and REV a commit or ``main``:

* ``GET  /api/{datasets,models}/REPO`` and ``…/revision/REV``: commit, names of files, whether it is gated.
* ``GET  /api/{datasets,models}/REPO/tree/REV[/PATH]``: sizes and hashes; the whole tree on one page, no cursor.
* ``HEAD`` and ``GET /[datasets/]REPO/resolve/REV/FILE``, also with ``Range``: ``ETag`` and ``X-Repo-Commit``; what the
  hub would keep in its large file storage is a redirect to ``/lfs/SHA256`` on another host name, with
  ``X-Linked-ETag`` and ``X-Linked-Size``.
* No such repository: 401, as for who is not logged in; no such revision or file: 404; gated: 401 or, with a token,
  403; each with the ``X-Error-Code`` that tells them apart.
* ``GET /api/agent-harnesses``, from which huggingface_hub 2 makes its ``User-Agent``: an empty list.
* Anything else: 404, and it stands in `HubServer.unknown`.

Left out, for nothing asked for it: ``paths-info``, pages of a tree, the dataset viewer. Left out, too: Xet, commits and
uploads, redirects of renamed repositories.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["datasets", "models"]
Fault = int | Literal["drop"]
"""A status to answer with, or a connection that ends in the middle of the body."""

_LARGE: Final = (".parquet", ".gz", ".safetensors")
_REPO: Final = r"(?P<id>[^/]+/[^/]+)"
_STORED: Final = r"/lfs/(?P<sha>[0-9a-f]{64})"
_ROUTES: Final = (
    ("info", re.compile(rf"/api/(?P<kind>datasets|models)/{_REPO}(/revision/(?P<revision>[^/]+))?")),
    ("tree", re.compile(rf"/api/(?P<kind>datasets|models)/{_REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?")),
    ("file", re.compile(rf"/((?P<kind>datasets)/)?{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")),
    ("large", re.compile(_STORED)),
    ("programs", re.compile(r"/api/agent-harnesses")),
)


@dataclass(frozen=True)
class Request:
    """What was asked, and the status of the answer."""

    method: str
    path: str
    status: int
    range: str | None = None


class Refusal(Exception):
    """An answer that is none: a status, and what its headers say about it."""

    def __init__(self, status: int, code: str | None, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        named = {} if code is None else {"X-Error-Code": code}
        self.headers = {**named, "X-Error-Message": message, **headers}


class HubServer:
    """The stand-in, serving from a thread while the context is open.

    Attributes:
        endpoint: For ``HF_ENDPOINT``.
        requests: What was asked so far, in order.
    """

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._repositories: dict[tuple[str, str], _Repository] = {}
        self._large: dict[str, tuple[str, bytes]] = {}
        self._faults: dict[str, list[Fault]] = {}
        self.lock = threading.Lock()
        self.requests: list[Request] = []
        port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.storage = f"http://localhost:{port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def publish(self, kind: Kind, name: str, files: Mapping[str, bytes], *, gated: bool = False) -> str:
        """Commit files: they are all that there is at the commit, which ``main`` is from now on.

        Returns:
            The commit.
        """
        repository = self._repositories.setdefault((kind, name), _Repository(gated, {}))
        content = [[path, hashlib.sha256(data).hexdigest()] for path, data in sorted(files.items())]
        commit = hashlib.sha1(json.dumps([kind, name, content]).encode()).hexdigest()
        repository.commits[commit] = dict(files)
        for path, sha in content:
            if path.endswith(_LARGE):
                self._large.setdefault(sha, (f"{name}/{path}", files[path]))
        return commit

    def fail(self, ending: str, *faults: Fault) -> None:
        """Answer the next requests for a path that ends like this with faults, one a request, and then as always.

        Of a large file it is the request to the storage, and the path is the one that it was published at first.
        """
        with self.lock:
            self._faults[ending] = list(faults)

    @property
    def unknown(self) -> list[Request]:
        """Requests for what the stand-in does not know."""
        return [asked for asked in self.requests if _route(asked.path) is None]

    def fault(self, path: str) -> Fault | None:
        """The fault that this request is answered with."""
        found = re.fullmatch(_STORED, path)
        if found is None and path.endswith(_LARGE):
            return None  # its content is asked for elsewhere
        name = path if found is None else self.stored(found["sha"])[0]
        with self.lock:
            for ending, faults in self._faults.items():
                if faults and name.endswith(ending):
                    return faults.pop(0)
        return None

    def repository(self, kind: str | None, name: str, *, token: bool) -> _Repository:
        """A repository, or the refusal to name it."""
        found = self._repositories.get((kind or "models", name))
        if found is None:
            raise Refusal(401, "RepoNotFound", "Invalid username or password.")
        if found.gated:
            said = f"Access to {name} is restricted" + (", ask for it on its page." if token else ", please log in.")
            raise Refusal(403 if token else 401, "GatedRepo", said)
        return found

    def stored(self, sha: str) -> tuple[str, bytes]:
        """A large file by its hash: where it is in its repository, and what is in it."""
        return self._large[sha]


@dataclass(frozen=True)
class _Repository:
    gated: bool
    commits: dict[str, dict[str, bytes]]

    def at(self, revision: str | None) -> tuple[str, dict[str, bytes]]:
        """The commit that a revision names, and its files."""
        commit = list(self.commits)[-1] if revision in (None, "main") else str(revision)
        if commit not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, self.commits[commit]


def _route(path: str) -> tuple[str, dict[str, str | None]] | None:
    for name, pattern in _ROUTES:
        if found := pattern.fullmatch(path):
            return name, found.groupdict()
    return None


def _entries(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Of the whole tree, folders too, as its endpoint says it."""
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    found: list[dict[str, Any]] = [{"type": "directory", "path": path, "oid": _oid(path.encode()), "size": 0}
                                   for path in sorted(folders)]  # fmt: skip
    for path, data in sorted(files.items()):
        entry: dict[str, Any] = {"type": "file", "path": path, "oid": _oid(data), "size": len(data)}
        if path.endswith(_LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        found.append(entry)
    return found


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_HEAD(self) -> None:
            self._serve()

        do_GET = do_HEAD

        def log_message(self, *words: Any) -> None:
            """Nothing is printed."""

        def _serve(self) -> None:
            path = unquote(urlsplit(self.path).path)
            fault = hub.fault(path)
            try:
                if isinstance(fault, int):
                    raise Refusal(fault, None, "Made to fail")
                status, data, headers = self._answer(path)
            except Refusal as refusal:
                status, headers = refusal.status, refusal.headers
                data = json.dumps({"error": str(refusal)}).encode()
            with hub.lock:
                hub.requests.append(Request(self.command, path, status, self.headers.get("Range")))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault == "drop":
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.wfile.write(data)

        def _answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
            route = _route(path)
            if route is None:
                raise Refusal(404, None, "The stand-in does not know this")
            name, part = route
            if name == "large":
                return self._part(hub.stored(str(part["sha"]))[1], {})
            if name == "programs":
                return self._part(b'{"standardEnvVars": [], "harnesses": {}}', {})
            given = self.headers.get("Authorization") is not None
            repository = hub.repository(part["kind"], str(part["id"]), token=given)
            commit, files = repository.at(part["revision"])
            if name == "file":
                return self._file(str(part["path"]), commit, files)
            if name == "info":
                known: Any = {
                    "id": part["id"], "sha": commit, "private": False, "gated": False, "disabled": False, "tags": [],
                    "downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in sorted(files)],
                    "lastModified": "2025-01-01T00:00:00.000Z", "createdAt": "2025-01-01T00:00:00.000Z",
                }  # fmt: skip
            else:
                known = self._tree(part["path"] or "", files)
            return 200, json.dumps(known).encode(), {"Content-Type": "application/json"}

        def _tree(self, folder: str, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
            prefix = f"{folder}/" if folder else ""
            found = [entry for entry in _entries(files) if entry["path"].startswith(prefix)]
            if folder and not found:
                raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
            if parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1"):
                return found
            return [entry for entry in found if "/" not in entry["path"].removeprefix(prefix)]

        def _file(self, path: str, commit: str, files: Mapping[str, bytes]) -> tuple[int, bytes, dict[str, str]]:
            headers = {"X-Repo-Commit": commit}
            if path not in files:
                raise Refusal(404, "EntryNotFound", "Entry not found", **headers)
            data = files[path]
            if not path.endswith(_LARGE):
                return self._part(data, {**headers, "ETag": f'"{_oid(data)}"'})
            sha = hashlib.sha256(data).hexdigest()
            headers |= {"X-Linked-ETag": f'"{sha}"', "X-Linked-Size": str(len(data))}
            return 302, b"", {**headers, "Location": f"{hub.storage}/lfs/{sha}"}

        def _part(self, data: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            """All of a file, or the bytes that were asked for."""
            headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if asked is None:
                return 200, data, headers
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            if first > last:
                raise Refusal(416, None, "Beyond the end", **{"Content-Range": f"bytes */{len(data)}"})
            return 206, data[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}

    return Handler
