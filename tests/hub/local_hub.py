"""A Hub on this machine, as much of one as the real client asks for; standard library only.

It stores regular and LFS files, makes commits and serves trees and files. Tokens are roles: "writer" may do all,
"reader" may not write, any other is refused; without one, public repositories can be read. `fail` makes it break at a
step of an upload, and `log` holds all requests.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

OWNER = "tester"
LFS_SUFFIXES = (".safetensors", ".parquet", ".png", ".jpg")


def run(code: str, arguments: list, home: Path, endpoint: str, **environment: str) -> None:
    """Runs Python code in a process of its own, in the folder above the cache `home`, with the Hub that is given. It
    imports the package of this checkout."""
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_TOKEN": "writer",
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_HUB_OFFLINE": "0",
        **environment,
    }
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=home.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **settings},
        stdin=subprocess.DEVNULL,  # nobody is asked whether to trust
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr


class Stored(NamedTuple):
    data: bytes
    lfs: bool

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def entry(self, path: str) -> dict:
        entry = {"type": "file", "path": path, "size": len(self.data), "oid": self.git_oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": 134}
        return entry


class Commit(NamedTuple):
    oid: str
    title: str
    files: dict[str, Stored]


class Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


class LocalHub:
    """Use as a context manager; `endpoint` is its address."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], list[Commit]] = {}
        self.private: set[tuple[str, str]] = set()
        self.uploads: dict[str, bytes] = {}
        self.log: list[str] = []
        self.fail: str | None = None  # "lfs" refuses contents, "commit" breaks the connection at the commit
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()

    def files(self, name: str, kind: str = "model") -> dict[str, bytes]:
        """What a repository holds, without the Hub's own .gitattributes."""
        files = self.repositories[kind, name][-1].files
        return {path: stored.data for path, stored in files.items() if path != ".gitattributes"}

    def commits(self, name: str, kind: str = "model") -> list[str]:
        return [commit.title for commit in self.repositories[kind, name]]

    def url(self, key: tuple[str, str]) -> str:
        return f"{self.endpoint}/{'' if key[0] == 'model' else key[0] + 's/'}{key[1]}"

    def add_commit(self, key: tuple[str, str], title: str, files: dict[str, Stored]) -> Commit:
        commits = self.repositories.setdefault(key, [])
        oid = hashlib.sha1(f"{key} {len(commits)} {title}".encode()).hexdigest()
        commits.append(Commit(oid, title, files))
        return commits[-1]

    # -- requests ---------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict, body: bytes, role: str | None):
        """Returns the status, the body (bytes, or what becomes JSON) and headers of an answer."""
        if role not in (None, "reader", "writer"):
            raise Refused(401, "Invalid credentials in Authorization header")
        if path == "/api/whoami-v2":
            if role is None:
                raise Refused(401, "Invalid username or password.")
            return 200, {"type": "user", "name": OWNER, "orgs": [], "auth": {"accessToken": {"role": role}}}, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if path == "/api/repos/create":
            return self.create(json.loads(body), role)
        if match := re.fullmatch(r"/(?:(?:datasets|spaces)/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            return self.lfs_batch(json.loads(body), role)
        if match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            if self.fail == "lfs":
                raise Refused(400, "the storage is broken")
            assert hashlib.sha256(body).hexdigest() == match[1]
            self.uploads[match[1]] = body
            return 200, b"", {"ETag": f'"{match[1]}"'}
        if match := re.fullmatch(r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/([^/]+)(?:/(.*))?)?", path):
            key = self.existing((match[1], match[2]), role)
            action = getattr(self, f"api_{(match[3] or 'revision').replace('-', '_')}", None)
            if action is None:
                raise Refused(404, f"no such route: {path}")
            return action(key, match[4] or "main", query, body, role)
        if match := re.fullmatch(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(self.existing((match[1] or "model", match[2]), role), match[3], match[4])
        raise Refused(404, f"no such route: {path}")

    def existing(self, key: tuple[str, str], role: str | None) -> tuple[str, str]:
        if key not in self.repositories or (key in self.private and role is None):
            raise Refused(404 if role else 401, "Repository not found", "RepoNotFound")
        return key

    def commit_at(self, key: tuple[str, str], revision: str) -> Commit:
        commits = self.repositories[key]
        if revision == "main":
            return commits[-1]
        if found := [commit for commit in commits if commit.oid == revision]:
            return found[0]
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def must_write(self, role: str | None, namespace: str) -> None:
        if role is None:
            raise Refused(401, "Invalid username or password.")
        if role != "writer" or namespace != OWNER:
            raise Refused(403, f"You don't have the rights to write under the namespace {namespace}")

    def create(self, request: dict, role: str | None):
        namespace = request.get("organization") or OWNER
        self.must_write(role, namespace)
        key = request.get("type") or "model", f"{namespace}/{request['name']}"
        if key in self.repositories:
            raise Refused(409, "You already created this repository")
        assert key[0] != "space" or request["sdk"] == "gradio"
        self.add_commit(key, "initial commit", {".gitattributes": Stored(b"*.safetensors filter=lfs\n", False)})
        if request.get("visibility") == "private":
            self.private.add(key)
        return 200, {"url": self.url(key), "name": key[1], "id": key[1]}, {}

    def lfs_batch(self, request: dict, role: str | None):
        assert role == "writer"
        objects = [{"oid": item["oid"], "size": item["size"]} for item in request["objects"]]
        for item in objects:
            if item["oid"] not in self.uploads:
                item["actions"] = {"upload": {"href": f"{self.endpoint}/lfs/{item['oid']}"}}
        return 200, {"transfer": "basic", "objects": objects}, {}

    def resolve(self, key: tuple[str, str], revision: str, path: str):
        commit = self.commit_at(key, revision)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        stored = commit.files[path]
        etag = stored.sha256 if stored.lfs else stored.git_oid
        return 200, stored.data, {"X-Repo-Commit": commit.oid, "ETag": f'"{etag}"'}

    def api_revision(self, key, revision, query, body, role):
        commit = self.commit_at(key, revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        information = {"id": key[1], "sha": commit.oid, "private": key in self.private, "siblings": siblings}
        return 200, {**information, "tags": [], "downloads": 0, "likes": 0}, {}

    def api_preupload(self, key, revision, query, body, role):
        self.must_write(role, key[1].split("/")[0])
        asked = [item["path"] for item in json.loads(body)["files"]]
        modes = [(path, "lfs" if path.endswith(LFS_SUFFIXES) else "regular") for path in asked]
        return 200, {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes]}, {}

    def api_commit(self, key, revision, query, body, role):
        self.must_write(role, key[1].split("/")[0])
        if self.fail == "commit":
            raise ConnectionAbortedError
        title, files = "", dict(self.repositories[key][-1].files)
        for line in body.splitlines():
            kind, value = (operation := json.loads(line))["key"], operation["value"]
            if kind == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, self.repositories[key][-1].oid):
                    raise Refused(412, "The repository has changed")
            elif kind == "file":
                files[value["path"]] = Stored(base64.b64decode(value["content"]), False)
            elif kind == "lfsFile":
                files[value["path"]] = Stored(self.uploads[value["oid"]], True)
            elif kind == "deletedFile":
                del files[value["path"]]
            else:
                raise Refused(400, f"no such operation: {kind}")
        commit = self.add_commit(key, title, files)
        url = f"{self.url(key)}/commit/{commit.oid}"
        return 200, {"success": True, "commitOid": commit.oid, "commitUrl": url}, {}

    def api_tree(self, key, revision, query, body, role):
        revision, _, folder = revision.partition("/")
        files = self.commit_at(key, revision).files
        start = f"{folder.rstrip('/')}/" if folder else ""
        inside = {path: stored for path, stored in sorted(files.items()) if path.startswith(start)}
        if folder and not inside:
            raise Refused(404, "Entry not found", "EntryNotFound")
        recursive = query.get("recursive", ["false"])[0].lower() in ("1", "true")
        entries = {}
        for path, stored in inside.items():
            parts = path[len(start) :].split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                parent = start + "/".join(parts[:depth])
                entries[parent] = _directory(parent)
            if recursive or len(parts) == 1:
                entries[path] = stored.entry(path)
        return 200, list(entries.values()), {}

    def api_paths_info(self, key, revision, query, body, role):
        try:
            asked = json.loads(body)["paths"]
        except ValueError:
            asked = parse_qs(body.decode()).get("paths", [])
        files = self.commit_at(key, revision).files
        folders = {path for path in asked if any(name.startswith(f"{path.rstrip('/')}/") for name in files)}
        found = [
            files[path].entry(path) if path in files else _directory(path)
            for path in asked
            if path in {*files, *folders}
        ]
        return 200, found, {}


def _directory(path: str) -> dict:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _handler(hub: LocalHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def handle_request(self):
            body = self.body()
            url = urlsplit(self.path)
            hub.log.append(f"{self.command} {self.path}")
            role = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            try:
                answer = hub.answer(self.command, unquote(url.path), parse_qs(url.query), body, role)
            except Refused as refused:
                headers = {"X-Error-Message": str(refused), **({"X-Error-Code": refused.code} if refused.code else {})}
                answer = refused.status, {"error": str(refused)}, headers
            except ConnectionAbortedError:
                self.close_connection = True
                return
            self.send(*answer)

        def send(self, status: int, content, headers: dict[str, str]):
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            if (asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))) and status == 200:
                first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
                headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
                status, data = 206, data[first : last + 1]
            self.send_response(status)
            if not isinstance(content, bytes):
                self.send_header("Content-Type", "application/json")
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = handle_request

    return Handler
