"""What every kind of reference to a model can do: describe itself, and get its model ready."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from melt.models.cache import Entry, Made, ModelCache, Progress
from melt.models.formats import FORMATS, inspect
from melt.models.info import Format, ModelInfo
from melt.models.onnx.folder import Folder


class Ref(Protocol):
    """A reference that was understood. ``text`` is the reference in full, ``short`` what people would call it."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def short(self) -> str: ...  # noqa: D102
    @property
    def format(self) -> Format: ...  # noqa: D102

    def check(self) -> None:
        """Raises ModelError where it names something on this machine that is no model; nothing is fetched or made."""

    def peek(self, cache: ModelCache) -> ModelInfo | None:
        """Describe the model without making or downloading it; None when that cannot be done."""

    def resolve(self, cache: ModelCache, progress: Progress | None = None) -> ModelInfo:
        """Get the model ready on this machine, and describe it.

        Raises:
            ModelError: the network, the disk or the file is at fault.
        """

    def onnx_folder(self) -> Folder | None:
        """Its graph, as it is or as it will be; None where it has none or it is not known yet."""


class CachedRef(ABC):
    """A reference whose model is made or fetched once, and then lies in the cache."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The reference in full."""

    @property
    @abstractmethod
    def short(self) -> str:
        """What people would call the model."""

    @property
    def format(self) -> Format:
        """Of the model."""
        return "gguf"

    @property
    def cache_key(self) -> str:
        """What the cache files the model under."""
        return self.text

    @property
    def is_folder(self) -> bool:
        """Whether it is several files, which lie in the cache as a folder."""
        return self.format == "onnx"

    def path_in(self, entry: Entry) -> Path:
        """What of its cache entry is the model: all of it, or the file that it begins with."""
        return entry.path

    @abstractmethod
    def make(self, out: Path, progress: Progress | None = None) -> Made:
        """Make or fetch the model at ``out``.

        Raises:
            ModelError: the network or the disk is at fault, or what came is no model.
        """

    def check(self) -> None:  # noqa: B027
        """There is nothing on this machine to look at."""

    def describe(self) -> ModelInfo | None:
        """What the model will be, before it is there; None where nobody can know."""
        return None

    def onnx_folder(self) -> Folder | None:
        """Its graph as it will be; None where it has none."""
        return None

    def peek(self, cache: ModelCache) -> ModelInfo | None:
        """Describe the model without making or downloading it; None when that cannot be done."""
        entry = cache.find(self.cache_key)
        if entry:
            return self._from_entry(entry)
        info = self.describe()
        return replace(info, short_name=self.short) if info else None

    def resolve(self, cache: ModelCache, progress: Progress | None = None) -> ModelInfo:
        """Get the model ready in the cache, and describe it."""
        entry = cache.get_or_make(self.cache_key, lambda out: self.make(out, progress), is_folder=self.is_folder)
        info = self._from_entry(entry)
        if not self.is_folder:
            return info
        return FORMATS[self.format].with_files(info, lambda path: cache.sha256_of(path, progress))

    def _from_entry(self, entry: Entry) -> ModelInfo:
        info = inspect(self.path_in(entry), self.text)
        return replace(info, short_name=self.short, sha256=entry.sha256, revision=entry.revision)
