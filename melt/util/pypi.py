"""One file of a Python package, fetched by its address in the package index; nothing in it is run.

``pip download`` would run a source's build requirements to read its metadata, with whatever they bring.
"""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

if TYPE_CHECKING:
    import requests

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
    import requests  # a fifth of a second

    plain = re.sub(r"[-_.]+", "-", name).lower()
    file_name = f"{plain.replace('-', '_')}-{version}{'.tar.gz' if source else '-py3-none-any.whl'}"
    index = _index()
    page = f"{index.url}/{plain}/"
    out, digest = folder / file_name, hashlib.sha256()
    try:
        with index.session() as session:
            with session.get(page, stream=True, timeout=_WAIT_S) as links:
                links.raise_for_status()
                text = next(links.iter_content(_PAGE_BYTES), b"").decode(errors="replace")
                address = _address(text, links.url, file_name)
            with session.get(address, stream=True, timeout=_WAIT_S) as answer, out.open("wb") as file:
                answer.raise_for_status()
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                    if file.tell() > limit_bytes:
                        raise FetchError(f"{file_name} is longer than {limit_bytes:,} bytes")
    except requests.RequestException as e:
        raise FetchError(f"{page}: {_words(e)}") from e
    if sha256 is not None and digest.hexdigest() != sha256:
        raise FetchError(f"{file_name} has SHA-256 {digest.hexdigest()}, not {sha256}")
    return out


def _words(error: "requests.RequestException") -> str:
    """What went wrong, without the names of the library's own parts that stand before it."""
    if error.response is not None:
        return f"it answers {error.response.status_code} {error.response.reason}"
    inner = str(getattr(error.args[0], "reason", error) if error.args else error)
    return inner.partition("): ")[2] or inner or type(error).__name__


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
        try:
            address = urldefrag(urljoin(base, link)).url
            parts = urlsplit(address)
        except ValueError:
            continue
        if unquote(parts.path).rpartition("/")[2].lower() == file_name.lower():
            if parts.scheme not in {"https", urlsplit(base).scheme}:
                raise FetchError(f"{base}: {file_name} lies at an address that is not https")
            return address
    raise FetchError(f"{base} has no {file_name}")


@dataclass(frozen=True)
class _Index:
    """An index of packages; who asks it is no part of its address, which messages show."""

    url: str
    login: tuple[str, str] | None

    def session(self) -> "requests.Session":
        """Tells who asks to the index's own host alone, and trusts what pip is told to trust."""
        import requests

        login, host = self.login, urlsplit(self.url).netloc

        class OfHost(requests.auth.HTTPBasicAuth):
            def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
                at_home = urlsplit(r.url or "").netloc == host
                return super().__call__(r) if at_home else r  # type: ignore[no-untyped-call]

        session = requests.Session()
        session.auth = OfHost(*login) if login else None
        session.verify = os.environ.get("PIP_CERT") or True
        return session


def _index() -> _Index:
    """The index that pip is set to use, by its environment or its settings.

    Raises:
        FetchError: that is no address.
    """
    url = os.environ.get("PIP_INDEX_URL")
    if not url:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "get", "global.index-url"]
        url = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or INDEX
    try:
        parts = urlsplit(url.rstrip("/"))
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("https", "http") or not parts.hostname:  # what it is may hold a password
        raise FetchError("the package index that pip is set to use has no address that begins with https:// or http://")
    who, _, host = parts.netloc.rpartition("@")
    user, _, password = who.partition(":")
    return _Index(urlunsplit(parts._replace(netloc=host)), (unquote(user), unquote(password)) if who else None)
