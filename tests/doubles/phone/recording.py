"""What was recorded on a phone, read from ``tests/data/android/<device>/``.

``tree.json`` maps a path to its text, or to ``{"error": errno name}``; ``getprop.txt`` and the ``dumpsys-*`` and
``logcat-*`` files are what the phone's tools printed; ``cmd-battery.txt`` is a session of `cmd battery get`, each
command after a ``$``. ``perfetto-rails.txt`` says that there are power rails. ``box.json`` may hold fields of
`Traits` that differ from what the recording shows. Only ``tree.json`` has to be there.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from tests.telemetry.replay import DATA

Machine = Literal["x86_64", "aarch64"]
PROPERTY = re.compile(r"\[(?P<key>[^]]+)]: \[(?P<value>.*)]")

GET = re.compile(r"^\$ \w+ battery get (?:-f )?(?P<key>\w+)\n(?P<value>-?\w+)$", re.MULTILINE)
CURRENT_MA = re.compile(r"^\s*(?:current now|Battery current ?): (-?\d+)", re.MULTILINE)
LEAST_UA = 10_000  # a phone that runs draws more than 10 mA
STATIC = {"dumpsys-gpu-gpumem": "dumpsys gpu --gpumem", "cmd-gpu-vkjson": "cmd gpu vkjson"}


@dataclass(frozen=True)
class Traits:
    """How a phone behaves, where its recording does not show it.

    Attributes:
        battery: the folder of the battery in sysfs.
        current_sign: the sign that the maker gives to the current of a discharging battery.
        current_unit: the unit that the maker gives it in.
        idle_w: what the phone draws with nothing running, screen and radio included.
        core_w: what each busy core adds.
        charger_w: what a charger gives; None takes it from the recorded battery: 7.5 W if it was plugged in.
        honours_input_suspend: ``power.battery_input.suspended`` cuts the charger off.
        rails: perfetto may record the power rails.
    """

    battery: str = "/sys/class/power_supply/battery"
    current_sign: Literal["negative", "positive"] = "negative"
    current_unit: Literal["uA", "mA"] = "uA"
    idle_w: float = 0.8
    core_w: float = 1.5
    charger_w: float | None = None
    honours_input_suspend: bool = True
    rails: bool = False


@dataclass(frozen=True)
class Recording:
    """A phone as recorded.

    Attributes:
        tree: path to text.
        denied: the paths that the shell user was refused. An error that plain files cannot give counts as that.
        properties: ``getprop``.
        answers: what a command printed.
        get: the keys of ``cmd battery get`` that it knows.
        battery: ``dumpsys battery``, or nothing.
        thermal: ``dumpsys thermalservice``, or nothing.
        log: what ``logcat`` prints.
        traits: the rest.
    """

    tree: dict[str, str]
    denied: frozenset[str]
    properties: dict[str, str]
    answers: dict[str, str]
    get: dict[str, str]
    battery: str
    thermal: str
    log: str
    traits: Traits

    @classmethod
    def load(cls, device: str | Path, variant: str = "") -> Self:
        """A device's recording, by its name under ``tests/data/android`` or by its folder.

        Args:
            device: which.
            variant: what ``STEM-VARIANT.txt`` says takes the place of ``STEM.txt``.
        """
        folder = DATA / "android" / device  # an absolute folder stays itself
        tree: dict[str, Any] = json.loads((folder / "tree.json").read_text(encoding="utf-8"))
        files = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.txt"))}
        if variant:
            end = f"-{variant}"
            files |= {stem.removesuffix(end): text for stem, text in files.items() if stem.endswith(end)}
        recording = cls(
            tree={path: value for path, value in tree.items() if isinstance(value, str)},
            denied=frozenset(p for p, v in tree.items() if not isinstance(v, str) and v.get("error") != "ENOENT"),
            properties={m["key"]: m["value"] for m in PROPERTY.finditer(files.get("getprop", ""))},
            answers={command: files[stem] for stem, command in STATIC.items() if stem in files},
            get={m["key"]: m["value"] for m in GET.finditer(files.get("cmd-battery", ""))},
            battery=files.get("dumpsys-battery", ""),
            thermal=files.get("dumpsys-thermalservice", ""),
            log="".join(text for stem, text in files.items() if stem.startswith("logcat")),
            traits=Traits(rails="perfetto-rails" in files),
        )
        box = folder / "box.json"
        told = json.loads(box.read_text(encoding="utf-8")) if box.exists() else {}
        return recording.with_traits({**recording._current_traits(), **told})

    def with_traits(self, changes: Mapping[str, Any]) -> Self:
        return replace(self, traits=replace(self.traits, **changes))

    def on(self, machine: Machine) -> Self:
        """The recording as a phone with that processor would give it.

        The programs of x86_64 run on the host's own processor, so what tells the processor is left to the host.
        """
        if machine == "aarch64":
            return self
        tree = {p: t for p, t in self.tree.items() if p != "/proc/cpuinfo" and not p.startswith("uname:")}
        abi = {"ro.product.cpu.abi": "x86_64", "ro.product.cpu.abilist": "x86_64", "ro.product.cpu.abilist64": "x86_64"}
        return replace(self, tree=tree, properties=self.properties | abi)

    def _current_traits(self) -> dict[str, str]:
        """The current's sign and unit, as the first recorded current tells them."""
        battery = Traits.battery
        in_text = CURRENT_MA.search(self.battery)
        readings = [
            (self.tree.get(f"{battery}/current_now", ""), self.tree.get(f"{battery}/status", "") == "Charging\n"),
            (self.get.get("current_now", ""), self.get.get("status") == "2"),
            (in_text[1] if in_text else "", "powered: true" in self.battery),
        ]
        for text, charging in readings:
            if re.fullmatch(r"-?\d+", text.strip()) and int(text):
                sign = "positive" if (int(text) < 0) == charging else "negative"
                return {"current_sign": sign, "current_unit": "uA" if abs(int(text)) >= LEAST_UA else "mA"}
        return {}
