"""Power by the kernel's hwmon class (Documentation/hwmon/sysfs-interface): mV, mA, uW, uJ; and Jetson's INA3221.

A Jetson board's rails are known by chip and channel, since two rails may share a label.
"""

import re
from collections.abc import Sequence
from functools import partial

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import LINUX, Findings, Precedence, SensorKind, why
from melt.telemetry.kinds.board_rails import board_total, miss_total, rail_site, with_holders
from melt.telemetry.source import Inventory, Quantity, Site, Source

_INA = "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
_OLD_INA = "/sys/bus/i2c/drivers/ina3221x/*/iio[:_]device*"
_CHIP = "/sys/class/hwmon/hwmon*"
GLOBS = (
    *(
        f"{_INA}/{kind}{n}_{what}"
        for kind, what in (("in", "label"), ("in", "input"), ("curr", "input"))
        for n in "123"
    ),
    *(f"{_INA}/shunt{n}_resistor" for n in "123"),
    f"{_INA}/update_interval",
    *(f"{_OLD_INA}/{file}" for n in "012" for file in (f"rail_name_{n}", f"in_power{n}_input")),
    *(f"{_CHIP}/{f}" for f in ("name", "label", "in1_label", "temp1_input", "temp1_label")),
    *(f"{_CHIP}/power{n}_{f}" for n in "1234" for f in ("input", "average", "label")),
    *(f"{_CHIP}/energy{n}_{f}" for n in "12" for f in ("input", "label")),
)
# INA3221 datasheet (TI SBOS576): the shunt is read in steps of 40 uV, the bus in steps of 8 mV.
SHUNT_STEP_V = 40e-6
NATIVE_PERIOD_S = 0.1
SYSTEM_CHIPS = ("power_meter",)  # ACPI's meter of the whole machine
GPU_CHIPS = ("amdgpu", "i915", "xe", "nouveau")
# An idle rail may read a little below zero, and that is kept.
_Source = partial(Source, sign="load_positive", native_period_s=NATIVE_PERIOD_S)
NO_MONITOR_HINT = "Boards such as NVIDIA's Jetson have one; most PCs do not."


def find(inventory: Inventory, sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Every power rail and chip that hwmon knows."""
    findings, period_ms = Findings(), sensors.period_ms
    for folder in _folders(inventory, f"{_INA}/in*_label"):
        for channel in (1, 2, 3):
            _find_rail(findings, inventory, folder, channel, period_ms)
    for folder in _folders(inventory, f"{_OLD_INA}/rail_name_*"):
        for channel in (0, 1, 2):
            _find_old_rail(findings, inventory, folder, channel, period_ms)
    findings.sources = with_holders(findings.sources)
    for folder in _folders(inventory, f"{_CHIP}/name"):
        if inventory.text(f"{folder}/name") != "ina3221":
            _find_chip(findings, inventory, folder, period_ms)
    rails = [s for s in findings.sources if s.quantity == "power_w"]
    if not total(findings.sources) and not findings.absent:
        miss_total(findings, rails)
    if not rails and not findings.absent:
        findings.miss("hwmon power", "no power monitor", NO_MONITOR_HINT, "power_w")
    return findings


def total(sources: Sequence[Source]) -> list[str]:
    """The rails that together are the whole board, each watt once; empty where none are known to be."""
    power = [s for s in sources if s.quantity == "power_w"]
    return board_total(power) or [s.name for s in power if s.site == "input"][:1]


def _find_rail(findings: Findings, inventory: Inventory, folder: str, channel: int, period_ms: int) -> None:
    label = inventory.text(f"{folder}/in{channel}_label")
    if label is None or label in ("", "NC"):
        return
    chip = folder.split("/")[6]
    name = f"ina3221:{chip}:{channel}:{label}"
    volts, amps = f"{folder}/in{channel}_input", f"{folder}/curr{channel}_input"
    for path in (volts, amps):
        if inventory.number(path) is None:
            denied = inventory.error(path) in ("EACCES", "EPERM")
            hint = f"Let that user read it there: sudo chmod a+r {path}" * denied
            findings.miss(name, why(inventory, path), hint, "power_w")
            return
    shunt_uohm = inventory.number(f"{folder}/shunt{channel}_resistor")
    step_a = SHUNT_STEP_V / (shunt_uohm * 1e-6) if shunt_uohm else None
    step_w = step_a * (inventory.number(volts) or 0) * 1e-3 if step_a else None
    interval_ms = inventory.number(f"{folder}/update_interval")
    period_s = interval_ms * 1e-3 if interval_ms else NATIVE_PERIOD_S
    rail = partial(_Source, sensor="INA3221", rail=label, scale=1e-3, native_period_s=period_s)
    voltage = rail(name=f"{name}:voltage", probe=_probe(f"{name}:voltage"), quantity="voltage_v", site="soc_rail")
    power = rail(
        name=name,
        probe=_probe(name),
        quantity="power_w",
        site=rail_site(label),
        times=voltage.name,
        resolution=step_w,
    )
    findings.add(voltage, volts, period_ms)
    findings.add(power, amps, period_ms)


def _find_old_rail(findings: Findings, inventory: Inventory, folder: str, channel: int, period_ms: int) -> None:
    label = inventory.text(f"{folder}/rail_name_{channel}")
    path = f"{folder}/in_power{channel}_input"
    if label in (None, "", "NC") or inventory.number(path) is None:
        return
    name = f"ina3221:{folder.split('/')[6]}:{channel}:{label}"
    power = _Source(
        name=name,
        probe=_probe(name),
        quantity="power_w",
        scale=1e-3,
        sensor="INA3221",
        site=rail_site(label or ""),
        rail=label or "",
    )
    findings.add(power, path, period_ms)


def _find_chip(findings: Findings, inventory: Inventory, folder: str, period_ms: int) -> None:
    chip = inventory.text(f"{folder}/name") or ""
    quantities: tuple[tuple[str, Quantity], ...] = (("power", "power_w"), ("energy", "energy_j"))
    for kind, quantity in quantities:
        for n in (1, 2, 3, 4):
            paths = [f"{folder}/{kind}{n}_{f}" for f in ("input", "average")]
            path = next((p for p in paths if inventory.number(p) is not None), None)
            if path is None:
                if any(inventory.error(p) for p in paths):
                    reason = why(inventory, next(p for p in paths if inventory.error(p)))
                    findings.miss(f"hwmon:{chip}:{kind}{n}", reason, quantity=quantity)
                continue
            labels = [inventory.text(f"{folder}/{f}") for f in (f"{kind}{n}_label", "label", "in1_label")]
            rail = next((label for label in labels if label), "")
            name = f"hwmon:{folder.rsplit('/', 1)[1]}:{chip}:{rail or f'{kind}{n}'}"
            source = _Source(
                name=name,
                probe=_probe(name),
                quantity=quantity,
                scale=1e-6,
                sensor=chip,
                site=_chip_site(chip, rail),
                rail=rail,
                native_period_s=1.0 if path.endswith("average") else NATIVE_PERIOD_S,
            )
            findings.add(source, path, period_ms)


def _chip_site(chip: str, rail: str) -> Site:
    if chip in GPU_CHIPS:
        return "gpu"
    return "input" if chip in SYSTEM_CHIPS else rail_site(rail)


def _folders(inventory: Inventory, pattern: str) -> list[str]:
    return list(dict.fromkeys(p.rsplit("/", 1)[0] for p in inventory.matching(pattern)))


def _probe(name: str) -> str:
    """A source's name as a probe may be called."""
    return re.sub(r"[^\x21-\x7e]", "_", name)


KIND = SensorKind(find, Precedence.BOARD, platforms=(LINUX,), globs=GLOBS, total=total)
