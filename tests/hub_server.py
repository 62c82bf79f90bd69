"""A hub on this machine: what huggingface_hub asks of the real one, over HTTP.

It keeps repositories in memory, speaks git-LFS for large files, sends them from another host as
the real one does, and writes down every request.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE = (".safetensors", ".mp4", ".zip", ".bin", ".pkl")
TOKEN = "hf_of_someone"
USER = "someone"


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Repo:
    """A repository: its commits, the newest last, each with all files."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        number = f"{len(self.commits)}{sorted(files)}".encode()
        name = hashlib.sha1(number + b"".join(files[file] for file in sorted(files))).hexdigest()
        self.commits[name] = files
        return name

    def add(self, **files: bytes | None) -> str:
        """Commits changes; None removes a file. Dots in names are written as __."""
        changes = {name.replace("__", "."): content for name, content in files.items()}
        return self.change(changes)

    def change(self, changes: dict[str, bytes | None]) -> str:
        files = {**self.files(), **changes}
        return self.commit({name: found for name, found in files.items() if found is not None})

    def head(self) -> str:
        return list(self.commits)[-1]

    def files(self) -> dict[str, bytes]:
        return self.commits[self.head()]

    def find(self, revision: str) -> str | None:
        if revision == "main":
            return self.head()
        return self.tags.get(revision, revision if revision in self.commits else None)


class HubServer(ThreadingHTTPServer):
    """Serves repositories.

    Attributes:
        repos: By name.
        log: "METHOD /path" of every request, in order, with " RANGE" behind it where one was asked.
        cut_after: Bytes after which the next download of a large file breaks off; 0 for never.
        failing_when_cut: What `failing` is from then on.
        claims: What is said of a file's size in place of the truth, by its name.
        answers: Bodies in place of what `model_info` would say, by repository.
        failing: A status that everything is answered with.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.log: list[str] = []
        self.cut_after = 0
        self.failing_when_cut: int | None = None
        self.claims: dict[str, int] = {}
        self.answers: dict[str, bytes] = {}
        self.failing: int | None = None
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def make(self, name: str, private: bool = False) -> Repo:
        self.repos[name] = Repo(private)
        self.repos[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        return self.repos[name]

    def downloads(self) -> set[str]:
        """The files that were asked for, by HEAD or GET."""
        found = (re.search(r" /[^/]+/[^/]+/resolve/[^/]+/(\S+)", line) for line in self.log)
        return {match[1] for match in found if match}

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._begin()
        if path is None:
            return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(found[1], unquote(found[2] or "main"))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], unquote(found[2]), unquote(found[3]))
        elif found := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            content = self.server.stored[found[1]]
            self._send_file(content, {"ETag": '"cdn"'}, cut=self.command == "GET")
        else:
            self._fail(404)

    def do_PUT(self) -> None:
        path = self._begin()
        body = self._body()
        if path is None:
            return
        oid = path.removeprefix("/lfs/")
        if sha256(body) != oid:
            self._fail(400)
            return
        self.server.stored[oid] = body
        self._send(b"")

    def do_POST(self) -> None:
        path = self._begin()
        body = self._body()
        if path is None:
            return
        if path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif path == "/lfs/verify":
            data = json.loads(body)
            right = len(self.server.stored.get(data["oid"], b"")) == data["size"]
            self._json({}) if right else self._fail(404)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._fail(401, message="Invalid credentials in Authorization header")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._lfs_batch(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            self._preupload(found[1], json.loads(body))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._fail(404)

    def _begin(self) -> str | None:
        """Writes a request down; None where it is answered already."""
        path, asked = urlsplit(self.path).path, self.headers.get("Range")
        self.server.log.append(f"{self.command} {path}{f' {asked}' if asked else ''}")
        if self.server.failing is not None:
            self._fail(self.server.failing)
            return None
        return path

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _repo(self, name: str) -> Repo | None:
        """Finds a repository that whoever asks may see; else answers as the hub does."""
        repo = self.server.repos.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not known):
            self._fail(404 if known else 401, "RepoNotFound")
            return None
        if repo.gated:
            self._fail(403, "GatedRepo")
            return None
        return repo

    def _info(self, name: str, revision: str) -> None:
        if name in self.server.answers:
            self._send(self.server.answers[name], {"Content-Type": "application/json"})
            return
        repo = self._repo(name)
        if repo is None:
            return
        commit = repo.find(revision)
        if commit is None:
            self._fail(404, "RevisionNotFound")
            return
        siblings: list[dict[str, Any]] = [
            {"rfilename": file} for file in sorted(repo.commits[commit])
        ]
        if "blobs" in parse_qs(urlsplit(self.path).query):
            for sibling in siblings:
                content = repo.commits[commit][sibling["rfilename"]]
                sibling["size"] = self.server.claims.get(sibling["rfilename"], len(content))
                sibling["blobId"] = git_sha1(content)
        self._json(
            {
                "_id": "1",
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": repo.private,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": siblings,
            }
        )

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        commit = repo.find(revision)
        if commit is None:
            self._fail(404, "RevisionNotFound")
            return
        content = repo.commits[commit].get(file)
        if content is None:
            self._fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
        elif file.endswith(LARGE):
            oid = sha256(content)
            self.server.stored[oid] = content
            headers = {
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{oid}"',
                "X-Linked-Size": str(len(content)),
                # Another host than the one that was asked, as the hub's is.
                "Location": f"http://localhost:{self.server.server_port}/cdn/{oid}",
            }
            self._send(b"", headers, 302)
        else:
            headers = {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(content)}"'}
            self._send_file(content, headers)

    def _create(self, data: dict[str, Any]) -> None:
        name = f"{data['organization']}/{data['name']}"
        if data["organization"] != USER:
            self._fail(403, message=f"You don't have the rights to create {name}")
        elif name in self.server.repos:
            self._json({"url": f"{self.server.url}/{name}"}, 409)
        else:
            self.server.make(name, data.get("visibility") == "private")
            self._json({"url": f"{self.server.url}/{name}"})

    def _validate(self, card: str) -> None:
        """Looks at a card's front matter: a part of what the hub's own schema asks."""
        data = yaml.safe_load(card.split("---\n")[1])
        wrong = [
            f"{result['dataset']['type']} fails to match"
            for model in data.get("model-index", [])
            for result in model["results"]
            if not re.fullmatch(r"(?:[\w-]+/)?[\w.-]+", result["dataset"]["type"])
        ]
        errors = [{"message": message} for message in wrong]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _preupload(self, name: str, data: dict[str, Any]) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        files = []
        for file in data["files"]:
            path = file["path"]
            there = repo.files().get(path)
            large = path.endswith(LARGE)
            oid = None if there is None else sha256(there) if large else git_sha1(there)
            mode = "lfs" if large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": files})

    def _lfs_batch(self, data: dict[str, Any]) -> None:
        objects = []
        for item in data["objects"]:
            found: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.server.stored:
                upload = {"href": f"{self.server.url}/lfs/{item['oid']}"}
                verify = {"href": f"{self.server.url}/lfs/verify"}
                found["actions"] = {"upload": upload, "verify": verify}
            objects.append(found)
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        if lines[0]["value"].get("parentCommit", repo.head()) != repo.head():
            self._fail(412)
            return
        changes: dict[str, bytes | None] = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.server.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                changes[value["path"]] = None
        commit = repo.change(changes)
        url = f"{self.server.url}/{name}/commit/{commit}"
        self._json({"commitUrl": url, "commitOid": commit})

    def _send_file(self, content: bytes, headers: dict[str, str], cut: bool = False) -> None:
        """Sends a file or the part of it that is asked for; breaks off where that is arranged."""
        begin, status = 0, 200
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            begin, status = int(asked[1]), 206
            size = len(content)
            headers = {**headers, "Content-Range": f"bytes {begin}-{size - 1}/{size}"}
        part = content[begin:]
        if cut and self.server.cut_after:
            after, self.server.cut_after = self.server.cut_after, 0
            self.server.failing = self.server.failing_when_cut
            self._send(part[:after], headers, status, length=len(part))
            self.close_connection = True
        else:
            self._send(part, headers, status)

    def _json(self, data: Any, status: int = 200) -> None:
        self._send(json.dumps(data).encode(), {"Content-Type": "application/json"}, status)

    def _fail(
        self,
        status: int,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        message: str | None = None,
    ) -> None:
        headers = dict(headers or {})
        if code:
            headers["X-Error-Code"] = code
        if message or code:
            headers["X-Error-Message"] = message or str(code)
        self._send(b"", headers, status)

    def _send(
        self,
        body: bytes,
        headers: dict[str, str] | None = None,
        status: int = 200,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
