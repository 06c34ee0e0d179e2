"""Models that lie on this machine."""

from dataclasses import dataclass, replace
from pathlib import Path

from melt.models.cache import ModelCache, Progress
from melt.models.formats import FORMATS, format_of, inspect
from melt.models.gguf.split import stem_of
from melt.models.info import Format, ModelInfo
from melt.models.onnx.folder import Folder, read_folder


@dataclass(frozen=True)
class PathRef:
    """A file of the user's, or a folder."""

    path: Path

    @property
    def format(self) -> Format:
        """By what it is."""
        return format_of(self.path)

    @property
    def text(self) -> str:
        """The file's name: results are shared, and where it lies is nobody's business."""
        return self.path.resolve().name if self.path.name in ("", "..") else self.path.name

    @property
    def short(self) -> str:
        """The name without its ending."""
        return self.path.name if self.format == "onnx" else stem_of(self.path.name)

    def check(self) -> None:
        """Read its header, and find it sound."""
        inspect(self.path, self.text)

    def peek(self, cache: ModelCache) -> ModelInfo:
        """Read its header."""
        return replace(inspect(self.path, self.text), short_name=self.short)

    def resolve(self, cache: ModelCache, progress: Progress | None = None) -> ModelInfo:
        """Read its header, and hash it."""
        return FORMATS[self.format].with_files(self.peek(cache), lambda path: cache.sha256_of(path, progress))

    def onnx_folder(self) -> Folder | None:
        """Its graph."""
        return read_folder(self.path) if self.format == "onnx" else None
