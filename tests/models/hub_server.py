"""A small server that answers as the Hugging Face hub does when files are downloaded, and a process that does so."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repo: str, files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serves ``files`` of ``repo``; yields the endpoint and the list of requests as they come."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            requests.append(f"{self.command} {self.path}")
            prefix = f"/{repo}/resolve/"
            revision, _, name = self.path.removeprefix(prefix).partition("/")
            if not self.path.startswith(prefix):
                self.refuse("RepoNotFound")
            elif revision not in ("main", "v1", COMMIT):
                self.refuse("RevisionNotFound")
            elif name not in files:
                self.refuse("EntryNotFound")
            else:
                self.send(files[name], with_body)

        def refuse(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            if code == "EntryNotFound":
                self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send(self, data: bytes, with_body: bool) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_body:
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run_resolve(ref: str, **env: str) -> subprocess.CompletedProcess[str]:
    """In its own process: the hub library reads its environment once, when it is imported."""
    script = (
        "import json, sys\nfrom melt.errors import ModelError\nfrom melt.models import resolve\n"
        "seen = []\n"
        "try:\n    info = resolve(sys.argv[1], progress=lambda done, total: seen.append((done, total)))\n"
        "except ModelError as error:\n    sys.exit(f'{error.message} / {error.hint}')\n"
        "print(json.dumps(info.to_dict() | {'seen': seen}))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, ref],
        env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", **env},
        capture_output=True,
        text=True,
        check=False,
    )
