"""What results never keep, since they are shared: the user's folders, this computer's name, how a device is reached.

Texts that come from programs (errors, warnings, a runner's output) may hold any of it, so each goes through here.
"""

import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from melt.models.sources.base import Ref
from melt.spec.plan import Plan, to_yaml
from melt.spec.profile import DeviceProfile
from melt.util.files import cache_folder

_SHORTEST = 4  # letters of a name that is taken out of texts: a shorter one is a part of any word


def scrubber(profile: DeviceProfile, folders: Mapping[Path, str] | None = None) -> Callable[[str], str]:
    """A function that takes out of a text what is nobody's business, and says in its place what it was.

    Args:
        profile: of the device, whose address is told by its name.
        folders: more folders of the user's, each with what stands for it.
    """
    places = {cache_folder(): "MELT_CACHE", Path(tempfile.gettempdir()): "TMPDIR", Path.home(): "~", **(folders or {})}
    texts = {str(folder): word for folder, word in places.items() if len(folder.parts) > 1}
    names = {platform.node(): "this-computer", **dict.fromkeys(_address(profile.address), profile.name)}
    words = {name: word for name, word in names.items() if len(name) >= _SHORTEST and name != word}
    parts = [re.escape(t) for t in sorted(texts, key=len, reverse=True)]
    parts += [rf"(?<![\w.]){re.escape(name)}(?![\w.]*\w)" for name in sorted(words, key=len, reverse=True)]
    found, said = re.compile("|".join(parts)), texts | words
    return lambda text: found.sub(lambda match: said[match[0]], text)


def _address(value: Any) -> Iterator[str]:
    """Every text in an address: hosts, serials, files of keys; users are called root, and the like."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _address(one) if key != "user" else ()
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _address(one)


def plan_as_told(plan: Plan, refs: Mapping[str, Ref], profiles: Mapping[str, DeviceProfile]) -> str:
    """A plan as YAML, with models and devices by the names that results have for them.

    Args:
        plan: as it was given.
        refs: what its models stand for, by how they are written in it.
        profiles: likewise of its devices.
    """
    names = {"model": {k: ref.text for k, ref in refs.items()}, "device": {k: p.name for k, p in profiles.items()}}

    def told(key: str, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(told(key, one) for one in value)
        return names[key].get(value, value) if key in names and isinstance(value, str) else value

    patterns = {
        key: tuple({k: told(k, v) for k, v in one.items()} for one in getattr(plan, key))
        for key in ("include", "exclude")
    }
    lists = {"models": told("model", plan.models), "devices": told("device", plan.devices)}
    return to_yaml(plan.model_copy(update={**lists, **patterns}))
