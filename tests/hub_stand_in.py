"""A stand-in of the hub on loopback: the calls by which huggingface_hub asks, sends and fetches.

Repositories live in memory. Files of the endings in `LARGE` go through the batch calls of git-lfs,
others inside the commit, as on the hub itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from editors import hub as references
from tests.stand_in_server import listening

LARGE = (".ckpt", ".safetensors", ".png", ".parquet")
TOKEN, OWNER = "hf_stand_in", "alice"
Files = dict[str, bytes]


@dataclass
class Repository:
    """One repository.

    Attributes:
        commits: commit -> its files.
        branches: branch or tag -> commit.
    """

    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main") -> str:
        """A new state of a branch."""
        said = json.dumps([branch, len(self.commits), sorted(files)])
        sha = hashlib.sha1(said.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha

    def files(self, branch: str = "main") -> Files:
        return self.commits[self.branches[branch]]

    def sha(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class HubStandIn:
    """The server.

    Attributes:
        url: where it listens.
        repositories: by `owner/name`.
        calls: what was asked of it, such as `POST /api/repos/create`.
        cut: endings of files of which it sends the first half.
        large: sha256 -> content that was sent through git-lfs.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    cut: tuple[str, ...] = ()
    large: Files = field(default_factory=dict)

    def put(self, name: str, files: Files, *, private: bool = False) -> str:
        """A repository with these files; returns its commit."""
        repository = self.repositories.setdefault(name, Repository(private))
        return repository.commit(files)

    @property
    def sent(self) -> list[str]:
        """Calls that would change something."""
        return [call for call in self.calls if call.split()[0] in ("POST", "PUT", "DELETE")]


@contextmanager
def serving(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, token: str = ""
) -> Iterator[HubStandIn]:
    """The stand-in, with huggingface_hub pointed to it and a cache of its own.

    Args:
        folder: of the cache.
        monkeypatch: of the test.
        token: what the machine is logged in with; empty for not at all.
    """
    hub = HubStandIn()
    with listening(type("Handler", (_Handler,), {"hub": hub})) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        # As HF_ENDPOINT and the like, which are read once in a process.
        changed: dict[str, object] = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
            "HF_TOKEN_PATH": str(folder / "token"),
        }
        for name, value in changed.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        forget()
        try:
            yield hub
        finally:
            forget()


def forget() -> None:
    """As a new process, which has asked for nothing yet."""
    close_session()
    references._downloaded.clear()


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.calls.append(f"{self.command} {path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for pattern, answer in _CALLS:
            if match := re.fullmatch(pattern, path):
                answer(self, *match.groups())
                return
        self.json({"error": "the stand-in does not know this call"}, 404)

    def json(self, content: object, status: int = 200, error: str = "") -> None:
        headers = {"X-Error-Code": error} if error else {}
        self.send(json.dumps(content).encode(), status, headers)

    def send(
        self, content: bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @property
    def is_logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repository(self, name: str) -> Repository | None:
        """One that may be read; what is sent otherwise says no more of a private one."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self.is_logged_in):
            status = 404 if self.is_logged_in else 401
            self.json({"error": "Repository not found"}, status, "RepoNotFound")
            return None
        return repository

    def state(self, name: str, revision: str) -> tuple[Repository, str, Files] | None:
        repository = self.repository(name)
        if repository is None:
            return None
        sha = repository.sha(revision)
        if sha is None:
            self.json({"error": f"Invalid rev id: {revision}"}, 404, "RevisionNotFound")
            return None
        return repository, sha, repository.commits[sha]


def _whoami(call: _Handler) -> None:
    if call.is_logged_in:
        call.json({"name": OWNER, "orgs": [{"name": "lab"}]})
    else:
        call.json({"error": "Invalid credentials"}, 401)


def _create(call: _Handler) -> None:
    asked = json.loads(call.body)
    name = f"{asked.get('organization') or OWNER}/{asked['name']}"
    if not call.is_logged_in:
        call.json({"error": "Invalid credentials"}, 401)
    elif asked.get("organization") not in (None, OWNER, "lab"):
        call.json({"error": "You don't have the rights"}, 403)
    elif name in call.hub.repositories:
        call.json({"error": "You already created this model repo"}, 409)
    else:
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        call.hub.put(name, {".gitattributes": b"*.ckpt filter=lfs\n"}, private=private)
        call.json({"url": f"{call.hub.url}/{name}"})


def _info(call: _Handler, name: str, revision: str | None) -> None:
    if state := call.state(name, revision or "main"):
        repository, sha, files = state
        siblings = [{"rfilename": path} for path in files]
        call.json({"id": name, "sha": sha, "private": repository.private, "siblings": siblings})


def _tree(call: _Handler, name: str, revision: str) -> None:
    if state := call.state(name, revision):
        entries: list[dict[str, Any]] = []
        for path, content in state[2].items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 100}
            entries.append(entry)
        call.json(entries)


def _resolve(call: _Handler, name: str, revision: str, path: str) -> None:
    if state := call.state(name, revision):
        _, sha, files = state
        if path not in files:
            call.json({"error": "Entry not found"}, 404, "EntryNotFound")
            return
        content = files[path]
        tag = _sha256(content) if path.endswith(LARGE) else _oid(content)
        headers = {
            "X-Repo-Commit": sha, "ETag": f'"{tag}"', "X-Linked-Size": str(len(content)),
        }  # fmt: skip
        is_cut = call.hub.cut and path.endswith(call.hub.cut) and call.command == "GET"
        call.send(content[: len(content) // 2] if is_cut else content, headers=headers)


def _preupload(call: _Handler, name: str, revision: str) -> None:
    if state := call.state(name, revision):
        files = [
            {
                "path": file["path"], "shouldIgnore": False,
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "oid": _oid(state[2][file["path"]]) if file["path"] in state[2] else None,
            }
            for file in json.loads(call.body)["files"]
        ]  # fmt: skip
        call.json({"files": files})


def _batch(call: _Handler, name: str) -> None:
    del name
    objects = [
        {**wanted, "actions": {"upload": {"href": f"{call.hub.url}/lfs/{wanted['oid']}"}}}
        for wanted in json.loads(call.body)["objects"]
    ]
    call.json({"transfer": "basic", "objects": objects})


def _upload(call: _Handler, oid: str) -> None:
    assert _sha256(call.body) == oid
    call.hub.large[oid] = call.body
    call.json({})


def _commit(call: _Handler, name: str, revision: str) -> None:
    if not call.is_logged_in:
        call.json({"error": "Invalid credentials"}, 401)
        return
    if state := call.state(name, revision):
        repository, _, before = state
        files = dict(before)
        for line in call.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = call.hub.large[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files, revision)
        url = f"{call.hub.url}/{name}/commit/{sha}"
        call.json({"success": True, "commitOid": sha, "commitUrl": url})


def _branch(call: _Handler, name: str, branch: str) -> None:
    if repository := call.repository(name):
        repository.branches.setdefault(branch, repository.branches["main"])
        call.json({})


def _oid(content: bytes) -> str:
    """The name that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_NAME = "([^/]+/[^/]+)"
_CALLS: list[tuple[str, Callable[..., None]]] = [
    (r"/api/whoami-v2", _whoami),
    (r"/api/repos/create", _create),
    (r"/api/validate-yaml", lambda call: call.json({"errors": [], "warnings": []})),
    (rf"/api/(?:models|datasets)/{_NAME}/tree/(.+)", _tree),
    (rf"/api/(?:models|datasets)/{_NAME}/preupload/(.+)", _preupload),
    (rf"/api/(?:models|datasets)/{_NAME}/commit/(.+)", _commit),
    (rf"/api/(?:models|datasets)/{_NAME}/branch/(.+)", _branch),
    (rf"/api/(?:models|datasets)/{_NAME}(?:/revision/(.+))?", _info),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", _batch),
    (r"/lfs/(\w+)", _upload),
    (rf"/(?:datasets/)?{_NAME}/resolve/([^/]+)/(.+)", _resolve),
]
