"""The state of a Linux machine that changes how fast it is: its governor, clocks, modes, and what feeds it."""

import re

from melt.spec.facts import STATE
from melt.telemetry.kinds import battery
from melt.telemetry.kinds.devfreq import GPU_NODES, devfreq_node
from melt.telemetry.source import Inventory

_CPU = "/sys/devices/system/cpu"
# What ``state`` is read from.
STATE_GLOBS = (
    *(f"{_CPU}/cpufreq/policy*/scaling_{f}" for f in ("governor", "min_freq", "max_freq")),
    *(f"{_CPU}/{f}" for f in ("cpufreq/policy*/energy_performance_preference", "cpufreq/boost")),
    *(f"{_CPU}/intel_pstate/no_turbo", "/sys/firmware/acpi/platform_profile"),
    *(f"/sys/class/devfreq/*/{f}" for f in ("min_freq", "max_freq", "device/of_node/name")),
    *(f"/sys/class/power_supply/*/{f}" for f in ("type", "scope", "present", "online")),
    *("/var/lib/nvpmodel/status", "/etc/nvpmodel.conf"),
)


def state(inventory: Inventory) -> dict[str, str]:
    """Those of the facts that a condition or a person may move, as far as the machine tells them."""
    values = {name: _STATE[name](inventory) for name in STATE if name in _STATE}
    return {name: value for name, value in values.items() if value is not None}


def _governor(inventory: Inventory) -> str | None:
    governors = {inventory.text(p) for p in inventory.matching(f"{_CPU}/cpufreq/policy*/scaling_governor")}
    return ", ".join(sorted(g for g in governors if g)) or None


def clocks(inventory: Inventory) -> str | None:
    """Whether the processors' and the GPU's clocks are held at one frequency each, as jetson_clocks does.

    "locked", "free", or what of them is locked; None where the device tells no limits.
    """
    held: dict[str, list[bool]] = {}
    for path in inventory.matching(f"{_CPU}/cpufreq/policy*/scaling_min_freq"):
        _note(held, "cpu", inventory, path, path.removesuffix("min_freq") + "max_freq")
    for folder in _gpus(inventory):
        _note(held, "gpu", inventory, f"{folder}/min_freq", f"{folder}/max_freq")
    locked = [name for name, of_name in held.items() if all(of_name)]
    if not held:
        return None
    return "locked" if len(locked) == len(held) else f"{locked[0]} locked" if locked else "free"


def _gpus(inventory: Inventory) -> list[str]:
    """The folders of what sets a GPU's clock."""
    folders = [path.rsplit("/", 1)[0] for path in inventory.matching("/sys/class/devfreq/*/min_freq")]
    return [f for f in folders if devfreq_node(inventory, f).startswith(GPU_NODES)]


def _note(held: dict[str, list[bool]], name: str, inventory: Inventory, low: str, high: str) -> None:
    lowest, highest = inventory.number(low), inventory.number(high)
    if lowest is not None and highest is not None:
        held.setdefault(name, []).append(lowest == highest)


def _power_mode(inventory: Inventory) -> str | None:
    """Jetson's mode by name: the status file holds "pmode:0002", the configuration names the numbers."""
    status = re.search(r"pmode:([0-9]{1,4})\b", inventory.text("/var/lib/nvpmodel/status") or "")
    if not status:
        return None
    return power_modes(inventory).get(int(status[1]), str(int(status[1])))


def power_modes(inventory: Inventory) -> dict[int, str]:
    """A Jetson's modes by number; none on other machines."""
    names = re.findall(
        r"POWER_MODEL\s+ID=(\d{1,3})\s+NAME=([A-Za-z0-9_.+-]{1,40})\s*>", inventory.text("/etc/nvpmodel.conf") or ""
    )
    return {int(number): name for number, name in names}


def mode_cpus(inventory: Inventory) -> dict[str, tuple[int, ...]]:
    """Of each of a Jetson's modes the processors that it turns on, where it says so of any."""
    text = inventory.text("/etc/nvpmodel.conf") or ""
    modes = re.findall(r"POWER_MODEL\s+ID=\d{1,3}\s+NAME=([A-Za-z0-9_.+-]{1,40})\s*>([^<]*)", text)
    on = {name: re.findall(r"^CPU_ONLINE\s+CORE_(\d{1,3})\s+1\s*$", block, re.M) for name, block in modes}
    return {name: tuple(sorted(map(int, cpus))) for name, cpus in on.items() if cpus}


def _clock_cap(inventory: Inventory) -> str | None:
    """The highest clocks that are allowed, each once: of the processors, then of the GPU."""
    khz = {inventory.number(p) for p in inventory.matching(f"{_CPU}/cpufreq/policy*/scaling_max_freq")}
    said = [f"{', '.join(f'{k * 1e-6:.2f}' for k in sorted(k for k in khz if k))} GHz"] if khz - {None, 0} else []
    hz = {inventory.number(f"{folder}/max_freq") for folder in _gpus(inventory)}
    said += [f"GPU {', '.join(f'{h * 1e-9:.2f}' for h in sorted(h for h in hz if h))} GHz"] if hz - {None, 0} else []
    return "; ".join(said) or None


def _turbo(inventory: Inventory) -> str | None:
    off = inventory.number(f"{_CPU}/intel_pstate/no_turbo")
    boost = inventory.number(f"{_CPU}/cpufreq/boost") if off is None else 1 - off
    return None if boost is None else "on" if boost else "off"


def _energy_preference(inventory: Inventory) -> str | None:
    found = {inventory.text(p) for p in inventory.matching(f"{_CPU}/cpufreq/policy*/energy_performance_preference")}
    return ", ".join(sorted(word.strip() for word in found if word)) or None


def _platform_profile(inventory: Inventory) -> str | None:
    return (inventory.text("/sys/firmware/acpi/platform_profile") or "").strip() or None


def _supply(inventory: Inventory) -> str | None:
    """What feeds a machine that has a battery; None of any other, and where it does not tell."""
    if not battery.batteries(inventory):
        return None
    online = [inventory.number(p) for p in inventory.matching("/sys/class/power_supply/*/online")]
    known = [o for o in online if o is not None]
    return ("mains" if any(known) else "battery") if known else None


_STATE = {
    "governor": _governor,
    "clocks": clocks,
    "power_mode": _power_mode,
    "clock_cap": _clock_cap,
    "turbo": _turbo,
    "energy_preference": _energy_preference,
    "platform_profile": _platform_profile,
    "supply": _supply,
}
