"""An index of Python packages on this machine, as pypi.org's is: a page of links a package (PEP 503)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class PackageIndex:
    """What it serves: of each package the files in its folder, and links to elsewhere."""

    root: Path
    url: str = ""
    elsewhere: dict[str, str] = field(default_factory=dict)
    breaks_off_at: int | None = None  # of a file
    asked_by: list[str | None] = field(default_factory=list)

    def folder(self, name: str) -> Path:
        """The folder of a package's files."""
        (self.root / name).mkdir(parents=True, exist_ok=True)
        return self.root / name

    def page(self, name: str) -> bytes:
        """The links of a package."""
        links = {file.name: f"../../files/{name}/{file.name}#sha256=0" for file in self.folder(name).iterdir()}
        return "\n".join(f'<a href="{escape(to)}">{n}</a>' for n, to in (links | self.elsewhere).items()).encode()


@contextmanager
def serving(root: Path) -> Iterator[PackageIndex]:
    """An index of the packages in a folder, while the context lasts."""
    index = PackageIndex(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked_by.append(self.headers["Authorization"])
            if self.path.startswith("/moved/"):
                self.send_response(301)
                self.send_header("Location", self.path.replace("/moved/", "/simple/"))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            kind, _, rest = self.path.strip("/").partition("/")
            body = index.page(rest) if kind == "simple" else (root / rest).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if kind == "simple" else body[: index.breaks_off_at])

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        index.url = f"http://127.0.0.1:{server.server_port}/simple"
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
