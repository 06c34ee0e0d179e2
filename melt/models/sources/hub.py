"""Models from the Hugging Face hub, or a mirror of it (HF_ENDPOINT)."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from melt.errors import ModelError
from melt.models.cache import Made, Progress, place
from melt.models.formats import inspect
from melt.models.gguf.info import a_part
from melt.models.sources.base import CachedRef

_PART = re.compile(r"-([0-9]{5})-of-([0-9]{5})\.gguf$")  # as llama-gguf-split names them


@dataclass(frozen=True)
class HubRef(CachedRef):
    """A file in a hub repository."""

    repo: str
    file: str
    revision: str

    @property
    def text(self) -> str:
        """The reference in full."""
        return f"hf:{self.repo}:{self.file}" + (f"@{self.revision}" if self.revision else "")

    @property
    def short(self) -> str:
        """The file's name without its ending."""
        return Path(self.file).stem

    def make(self, out: Path, progress: Progress | None = None) -> Made:
        """Download it; a file that is no model never enters the cache."""
        made = fetch_from_hub(self, out, progress)
        inspect(out, self.text)
        return made


def parse_hub(text: str, rest: str) -> HubRef:
    """Understand ORG/REPO:FILE[@REVISION], the ``rest`` of a reference behind its scheme.

    Raises:
        ModelError: it is malformed, reaches outside the repository, or names one file of a split model.
    """
    repo, colon, file = rest.partition(":")
    file, _at, revision = file.partition("@")
    path = PurePosixPath(file)
    if not colon or repo.count("/") != 1 or not all(repo.split("/")) or not file:
        raise ModelError(f"{text!r} is no hub reference", "Write hf:org/repo:file.gguf, with @revision if need be.")
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"{text!r} leaves its repository", "Name a file inside it.")
    if path.suffix != ".gguf":
        raise ModelError(f"{text!r} does not name a .gguf file", "melt measures GGUF files.")
    part = _PART.search(path.name)
    if part and int(part[2]) > 1:
        raise a_part(text, int(part[1]), int(part[2]))
    return HubRef(repo, file, revision)


def fetch_from_hub(ref: HubRef, out: Path, progress: Progress | None = None) -> Made:
    """Download a file of a hub repository into ``out``; the hub's own cache is used and kept."""
    from huggingface_hub import hf_hub_download

    options: dict[str, Any] = {"tqdm_class": _bar(progress)}
    try:
        found = Path(str(hf_hub_download(ref.repo, ref.file, revision=ref.revision or None, **options)))
    except Exception as error:  # the errors of its HTTP library are no family of the hub's own
        raise _explained(ref, error) from error
    place(found.resolve(), out)
    return Made(revision=_commit(found))


def _commit(snapshot_file: Path) -> str:
    """The commit that the hub's cache filed this under: .../snapshots/COMMIT/file."""
    parts = snapshot_file.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""


def _bar(progress: Progress | None) -> type:
    """A stand-in for tqdm that prints nothing and passes progress on."""
    from tqdm.std import tqdm  # type: ignore[import-untyped,unused-ignore]

    class Bar(tqdm):  # type: ignore[misc,type-arg,unused-ignore]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.done_bytes = int(kwargs.get("initial") or 0)
            self.whole_bytes = int(kwargs.get("total") or 0)
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.done_bytes += int(n or 0)
            if progress and self.whole_bytes:
                progress(min(self.done_bytes, self.whole_bytes), self.whole_bytes)

    return Bar


def _explained(ref: HubRef, error: Exception) -> ModelError:
    from huggingface_hub import errors

    where = f"{ref.repo}:{ref.file}"
    if isinstance(error, errors.GatedRepoError):
        return ModelError(f"{where} is gated", "Accept its licence on the hub, then set HF_TOKEN.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(f"the hub has no repository {ref.repo}", "Check its name; a private one needs HF_TOKEN.")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{ref.repo} has no revision {ref.revision!r}", "Check the part after @.")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ModelError(
            f"{where} is not cached and the hub cannot be reached",
            "Check the network, HF_ENDPOINT and HF_HUB_OFFLINE.",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return ModelError(f"{ref.repo} has no file {ref.file!r}", "Check the name on its Files page.")
    return ModelError(f"cannot get {where} from the hub: {error}", "Check the network and HF_ENDPOINT.")
