"""One file of a Python package, fetched by its address in the package index; nothing in it is run.

``pip download`` would run a source's build requirements to read its metadata, with whatever they bring.
"""

import hashlib
import os
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from urllib.error import URLError
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import Request, urlopen

INDEX = "https://pypi.org/simple"
_PAGE_BYTES = 16 * 2**20
_CHUNK_BYTES = 2**20
_WAIT_S = 60.0


class FetchError(Exception):
    """Why nothing came, in words; a caller makes of it an error with advice."""


def fetch(name: str, version: str, folder: Path, *, source: bool, limit_bytes: int, sha256: str | None = None) -> Path:
    """A package's file, in ``folder``.

    Args:
        name: the package's.
        version: the one wanted.
        folder: takes the file; made by the caller.
        source: the source distribution, else the wheel for any machine.
        limit_bytes: more than this is not read.
        sha256: what the file must hash to; None where the caller checks what is inside.

    Raises:
        FetchError: the index has no such file or does not answer, or the file is another than it should be.
        OSError: the file cannot be written.
    """
    index = _index()
    plain = re.sub(r"[-_.]+", "-", name).lower()
    file_name = f"{plain.replace('-', '_')}-{version}{'.tar.gz' if source else '-py3-none-any.whl'}"
    page = f"{index.url}/{plain}/"
    try:
        with index.open(page) as answer:
            address = _address(answer.read(_PAGE_BYTES).decode(errors="replace"), answer.url, file_name)
        out, digest = folder / file_name, hashlib.sha256()
        with index.open(address) as answer, out.open("wb") as file:
            while chunk := answer.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
                if file.tell() > limit_bytes:
                    raise FetchError(f"{file_name} is longer than {limit_bytes:,} bytes")
    except (URLError, HTTPException, TimeoutError, ConnectionError, SSLError, ValueError) as e:
        raise FetchError(f"{page}: {getattr(e, 'reason', None) or str(e) or type(e).__name__}") from e
    if sha256 is not None and digest.hexdigest() != sha256:
        raise FetchError(f"{file_name} has SHA-256 {digest.hexdigest()}, not {sha256}")
    return out


class _Links(HTMLParser):
    """The addresses on a page of the simple index (packaging.python.org, Simple repository API)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address of a link."""
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _address(page: str, base: str, file_name: str) -> str:
    links = _Links()
    links.feed(page)
    for link in links.found:
        address = urldefrag(urljoin(base, link)).url
        if unquote(urlsplit(address).path).rpartition("/")[2].lower() == file_name.lower():
            if urlsplit(address).scheme not in {"https", urlsplit(base).scheme}:
                raise ValueError(f"{file_name} lies at an address that is not https")
            return address
    raise ValueError(f"it has no {file_name}")


@dataclass(frozen=True)
class _Index:
    """An index of packages; who asks it is no part of its address, which messages show."""

    url: str
    authorization: str | None

    def open(self, url: str) -> HTTPResponse:
        """What lies at an address; only the index's own host is told who asks."""
        request = Request(url)  # noqa: S310 - a link leads to https, or is of the index's own scheme
        if self.authorization and urlsplit(url).netloc == urlsplit(self.url).netloc:
            request.add_unredirected_header("Authorization", self.authorization)
        answer: HTTPResponse = urlopen(request, timeout=_WAIT_S)  # noqa: S310
        return answer


def _index() -> _Index:
    """The index that pip is set to use, by its environment or its settings."""
    url = os.environ.get("PIP_INDEX_URL")
    if not url:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "get", "global.index-url"]
        url = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or INDEX
    parts = urlsplit(url.rstrip("/"))
    who, _, host = parts.netloc.rpartition("@")
    told = "Basic " + b64encode(unquote(who).encode()).decode() if who else None
    return _Index(urlunsplit(parts._replace(netloc=host)), told)
