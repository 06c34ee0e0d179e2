"""Typed and bounded access to a header's metadata."""

from collections.abc import Mapping
from dataclasses import dataclass

from melt.errors import ModelError
from melt.models.gguf.header import Value
from melt.util.text import plural

MAX_COUNT = 2**31


@dataclass(frozen=True)
class Metadata:
    """Metadata under one key prefix; ``label`` names the file in errors."""

    values: Mapping[str, Value]
    prefix: str
    label: str

    def text(self, key: str) -> str:
        """A string, empty when absent."""
        value = self.values.get(self.prefix + key, "")
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def count(self, key: str, default: int = 0) -> int:
        """A whole number that is not negative; of an array, the largest element."""
        value = self.values.get(self.prefix + key)
        if value is None:
            return default
        if isinstance(value, tuple):
            return max((self._checked(key, element) for element in value), default=default)
        return self._checked(key, value)

    def counts(self, key: str, length: int, default: int = 0) -> tuple[int, ...]:
        """A whole number a layer, given once for all layers or one by one."""
        value = self.values.get(self.prefix + key, default)
        if not isinstance(value, tuple):
            return (self._checked(key, value),) * length
        if len(value) != length:
            raise self._wrong(key, plural(len(value), "value"), f"{plural(length, 'value')}, one a layer")
        return tuple(self._checked(key, element) for element in value)

    def flags(self, key: str, length: int) -> tuple[bool, ...] | None:
        """One flag a layer, or None when the key is absent or no array."""
        value = self.values.get(self.prefix + key)
        if not isinstance(value, tuple):
            return None
        if len(value) != length:
            raise self._wrong(key, plural(len(value), "value"), f"{plural(length, 'value')}, one a layer")
        return tuple(bool(element) for element in value)

    def _checked(self, key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
            raise self._wrong(key, value, "a whole number from 0 to 2^31")
        return value

    def _wrong(self, key: str, value: object, wanted: str) -> ModelError:
        return ModelError(
            f"{self.label}: metadata {self.prefix + key!r} is {str(value)[:80]!r}, not {wanted}",
            "The file is damaged or hostile; download it again, from a source you trust.",
        )
