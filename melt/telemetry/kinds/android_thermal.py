"""Android's thermal service: whether the phone holds something back, and the temperatures that its maker shows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.bounds import BOUNDS
from melt.telemetry.kinds.base import ANDROID, Findings, Precedence, SensorKind, why
from melt.telemetry.parsers import apply, labelled
from melt.telemetry.source import Inventory, Probe, Site, Source

THERMAL_SERVICE, _STATUS = "dumpsys thermalservice", "Thermal Status"
THERMAL_MS = 2000
# android.hardware.thermal's TemperatureType. 6 to 8 are limits of current and no temperatures; -1 is what its
# maker does not name: differences of two sensors are among them.
SKIN = 3
_SITES: dict[int, Site] = {0: "cpu", 1: "gpu", 2: "battery", SKIN: "skin"}
_NO_TEMPERATURE = (-1, 6, 7, 8)
_LINES = (f"{_STATUS}:", "Current temperatures from HAL:", "Current cooling", "Temperature{", "\tTemperature{")
_Source = partial(Source, probe=THERMAL_SERVICE, native_period_s=1.0)


@dataclass(frozen=True)
class HalTemperature:
    """One line of ``dumpsys thermalservice``; ``kind`` is android.hardware.thermal's TemperatureType."""

    name: str
    kind: int
    value: float
    status: int


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """The phone's own thermal status, and its temperatures."""
    findings, text = Findings(), inventory.text(THERMAL_SERVICE)
    if text is None or _STATUS not in text:
        hint = "Android 10 and newer have it."
        findings.miss(THERMAL_SERVICE, why(inventory, THERMAL_SERVICE), hint, "temperature_c")
        return findings
    command = ("dumpsys", "thermalservice")
    findings.probes.append(Probe(name=THERMAL_SERVICE, exec=command, period_ms=THERMAL_MS, lines=_LINES))
    status = partial(_Source, sensor="Android thermal status", site="cpu")
    findings.sources += [
        status(name="android:throttled", parser="thermal_status", quantity="throttled"),
        status(name="android:thermal_status", parser="thermal_severity", quantity="thermal_status"),
    ]
    for one in {t.name: t for t in hal_temperatures(text)}.values():
        if one.kind not in _NO_TEMPERATURE:
            _find_temperature(findings, text, one)
    return findings


def _find_temperature(findings: Findings, text: str, one: HalTemperature) -> None:
    name = f"android:{one.name}"
    if one.value == 0.0:
        reason = "the phone says exactly 0 degrees, as one that is not fitted does"
        findings.miss(name, reason, quantity="temperature_c")
    elif apply(hal_temperature, text, one.name) is None:
        findings.miss(name, f"the phone says {one.value:g} degrees", quantity="temperature_c")
    else:
        findings.sources.append(
            _Source(
                name=name,
                parser="hal_temperature",
                key=one.name,
                quantity="temperature_c",
                sensor="Android thermal HAL",
                site=_SITES.get(one.kind, "system"),
                rail=one.name,
            )
        )


def hal_temperatures(text: str) -> list[HalTemperature]:
    """What the sensors say now; what Android remembers from before, in a block of its own, is left out."""
    _, _, after = text.partition("Current temperatures from HAL:\n")
    block = re.split(r"^(?![ \t])", after, maxsplit=1, flags=re.M)[0] if after[:1] in (" ", "\t") else ""
    number = r"-?[0-9]+(?:\.[0-9]+)?(?:E-?[0-9]+)?"
    rows = re.findall(
        rf"Temperature\{{mValue=({number}), mType=(-?[0-9]+), mName=([^,}}\n]{{1,64}}), mStatus=([0-9])\}}", block
    )
    return [HalTemperature(name, int(kind), float(value), int(status)) for value, kind, name, status in rows]


def hal_temperature(raw: str, key: str) -> float | None:
    """The temperature of this name."""
    low, high = BOUNDS["temperature_c"]
    return next((t.value for t in hal_temperatures(raw) if t.name == key and low <= t.value <= high), None)


def thermal_status(raw: str, _key: str) -> float | None:
    """Whether it holds something back, as it does from 1, light, on."""
    status = thermal_severity(raw, _key)
    return None if status is None else float(status >= 1)


def thermal_severity(raw: str, _key: str) -> float | None:
    """Android's thermal status, 0 none to 6 shutdown. Phones leave it at 0 while their skin sensor's own says more."""
    status = labelled(raw, _STATUS)
    skin = [t.status for t in hal_temperatures(raw) if t.kind == SKIN]
    return None if status is None else max(status, *skin, 0.0)


KIND = SensorKind(
    find,
    Precedence.KERNEL,
    platforms=(ANDROID,),
    commands={THERMAL_SERVICE: "dumpsys thermalservice"},
    parsers={
        "thermal_status": thermal_status,
        "thermal_severity": thermal_severity,
        "hal_temperature": hal_temperature,
    },
)
