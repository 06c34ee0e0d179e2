"""Models from the Hugging Face hub, or a mirror of it (HF_ENDPOINT)."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from melt.errors import ModelError
from melt.models.cache import Entry, Made, Progress, hash_file, place
from melt.models.formats import inspect
from melt.models.gguf.split import Part, check_count, not_the_first, part_named, sha256_of_all, stem_of
from melt.models.sources.base import CachedRef

_STEM = "model"  # of files in the cache: it keeps a content once, whatever repositories call it


@dataclass(frozen=True)
class HubRef(CachedRef):
    """A file in a hub repository, or the first of a model in several."""

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
        return stem_of(Path(self.file).name)

    @property
    def part(self) -> Part | None:
        """Which of its model's files it is; None where it is all of it."""
        return part_named(PurePosixPath(self.file).name)

    @property
    def is_folder(self) -> bool:
        """Whether it is a model in several files."""
        return self.part is not None

    @property
    def cache_key(self) -> str:
        """Another than that of its first file alone, which an older melt may have kept."""
        return f"{self.text}#files" if self.is_folder else self.text

    def path_in(self, entry: Entry) -> Path:
        """Its file, or the first of several."""
        return entry.path / replace(self.part, stem=_STEM).name if self.part else entry.path

    def make(self, out: Path, progress: Progress | None = None) -> Made:
        """Download it; what is no model never enters the cache."""
        if self.part:
            return _fetch_all(self, self.part, out, progress)
        made = fetch_from_hub(self, out, progress)
        inspect(out, self.text)
        return made


def parse_hub(text: str, rest: str) -> HubRef:
    """Understand ORG/REPO:FILE[@REVISION], the ``rest`` of a reference behind its scheme.

    Raises:
        ModelError: it is malformed, reaches outside the repository, or names another file of a model than its first.
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
    part = part_named(path.name)
    if part:
        check_count(text, part.count)
        if part.number != 1:
            first = HubRef(repo, str(path.with_name(part.names[0])), revision)
            raise not_the_first(text, part, first.text)
    return HubRef(repo, file, revision)


def _fetch_all(ref: HubRef, part: Part, folder: Path, progress: Progress | None) -> Made:
    """Download all files of a model into a folder, all of one commit."""
    folder.mkdir()
    paths = [folder / name for name in replace(part, stem=_STEM).names]
    made = Made()
    for name, path in zip(part.names, paths, strict=True):
        file = str(PurePosixPath(ref.file).with_name(name))
        made = fetch_from_hub(replace(ref, file=file, revision=made.revision or ref.revision), path, progress)
    if inspect(paths[0], ref.text).n_files != part.count:
        raise ModelError(
            f"{ref.text}: its name says that it is one of {part.count} files, and it holds a whole model",
            "Fetch that file yourself, and name it by its path.",
        )
    return replace(made, sha256=sha256_of_all(map(hash_file, paths)))


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
