"""A Linux machine's facts from an Inventory: what it is, not how it is doing."""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from typing import Any

from melt.spec.facts import DeviceFacts
from melt.telemetry.kinds import battery
from melt.telemetry.linux_state import STATE_GLOBS, mode_cpus, power_modes, state
from melt.telemetry.source import Inventory

_CPU = "/sys/devices/system/cpu"
# What no file tells: the runner's own inventory knows these words, and a shell these commands.
SYSTEM = {
    "uname:machine": "uname -m",
    "uname:release": "uname -r",
    "sysconf:SC_PAGE_SIZE": "getconf PAGE_SIZE",
    "sysconf:SC_CLK_TCK": "getconf CLK_TCK",
}
GLOBS = (
    *SYSTEM,
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/sys/kernel/osrelease", "/sys/hypervisor/type"),
    *(f"/proc/device-tree/{f}" for f in ("model", "compatible", "serial-number")),
    *("/etc/os-release", "/etc/nv_tegra_release", "/etc/machine-id"),
    *(f"/sys/class/dmi/id/{f}" for f in ("product_name", "sys_vendor", "chassis_type")),
    *(f"{_CPU}/cpu[0-9]*/topology/{f}" for f in ("core_id", "physical_package_id")),
    *(f"{_CPU}/cpufreq/policy*/{f}" for f in ("related_cpus", "cpuinfo_max_freq")),
    *STATE_GLOBS,
    "/usr/local/cuda/version.json",
    *battery.GLOBS,
)
COMMANDS = {  # an inventory's entries that are no files, and the command that gives each
    "jetpack": "dpkg-query -W -f='${Version}' nvidia-jetpack 2>/dev/null || true",
    "fan": "if command -v nvfancontrol >/dev/null; then nvfancontrol -q 2>/dev/null; fi",
}
ARM_CORES = {  # ARM's MIDR part numbers (implementer 0x41), as in Linux arch/arm64/include/asm/cputype.h
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}
VIRTUAL_VENDORS = ("QEMU", "VMware", "innotek", "Xen", "Amazon EC2", "Google", "Microsoft Corporation", "Parallels")
SERIAL_SALT = b"melt"


def facts(inventory: Inventory, extra: Mapping[str, Any] | None = None) -> DeviceFacts:
    """What the machine says of itself; ``extra`` holds what the driver knows better, by DeviceFacts' own keys."""
    cpuinfo = _cpuinfo(inventory)
    memory = _meminfo(inventory)
    release = _os_release(inventory)
    product = inventory.text("/proc/device-tree/model") or _dmi(inventory)
    values: dict[str, Any] = {
        "platform": "linux",
        "machine": inventory.text("uname:machine") or platform.machine(),
        "soc": _soc(inventory, cpuinfo),
        "product": product,
        "os_build": inventory.text("/etc/nv_tegra_release") or release.get("PRETTY_NAME"),
        "kernel": inventory.text("uname:release") or inventory.text("/proc/sys/kernel/osrelease"),
        "cpu_features": tuple((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split()),
        "logical_cores": _logical_cores(inventory),
        "physical_cores": _physical_cores(inventory),
        "ram_bytes": memory.get("MemTotal"),
        "available_bytes": memory.get("MemAvailable"),
        "swap_bytes": memory.get("SwapTotal"),
        "clusters": _clusters(inventory),
        "online_cpus": online_cpus(inventory),
        **state(inventory),
        "power_modes": tuple(power_modes(inventory).values()),
        "mode_cpus": mode_cpus(inventory),
        "battery_capacity_j": battery.capacity_j(inventory),
        "battery_health": battery.health(inventory),
        "virtual_machine": _virtual_machine(inventory, cpuinfo),
        "serial_hash": _serial_hash(inventory),
        "extra": _extra(inventory),
    }
    return DeviceFacts(**{**values, **(extra or {})})


def _cpuinfo(inventory: Inventory) -> dict[str, str]:
    """The first processor's lines, and the board's at the end."""
    pairs: dict[str, str] = {}
    for line in (inventory.text("/proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            pairs.setdefault(key.strip(), value.strip())
    return pairs


def _meminfo(inventory: Inventory) -> dict[str, int]:
    rows = re.findall(r"^(\w+):\s+([0-9]{1,15}) kB", inventory.text("/proc/meminfo") or "", re.M)
    return {key: int(kib) * 1024 for key, kib in rows}


def _os_release(inventory: Inventory) -> dict[str, str]:
    rows = re.findall(r"^(\w+)=(.*)$", inventory.text("/etc/os-release") or "", re.M)
    return {key: value.strip("\"'") for key, value in rows}


def _dmi(inventory: Inventory) -> str | None:
    parts = [inventory.text(f"/sys/class/dmi/id/{f}") for f in ("sys_vendor", "product_name")]
    return " ".join(p for p in parts if p) or None


def _soc(inventory: Inventory, cpuinfo: Mapping[str, str]) -> str | None:
    name = cpuinfo.get("model name")
    if name and "ARM" not in name.split():
        return name
    # The last of the device tree's "compatible" names is the chip: "nvidia,tegra234", "brcm,bcm2711".
    chips = [c for c in (inventory.text("/proc/device-tree/compatible") or "").split("\0") if c]
    core = ARM_CORES.get(cpuinfo.get("CPU part", ""))
    return " ".join(p for p in (chips[-1] if chips else None, core) if p) or name


def online_cpus(inventory: Inventory) -> tuple[int, ...]:
    """The numbers of the processors that are on: a board's may be off, the first ones too. Empty where nobody tells."""
    return tuple(
        int(n) for n in re.findall(r"^processor\s*:\s*([0-9]{1,5})$", inventory.text("/proc/cpuinfo") or "", re.M)
    )


def _logical_cores(inventory: Inventory) -> int | None:
    count = len(re.findall(r"^processor\s*:", inventory.text("/proc/cpuinfo") or "", re.M))
    return count or len(inventory.matching(f"{_CPU}/cpu*/topology/core_id")) or None


def _physical_cores(inventory: Inventory) -> int | None:
    """Pairs of package and core: by the topology files, else by cpuinfo, else every processor is a core."""
    cores = set()
    for path in inventory.matching(f"{_CPU}/cpu*/topology/core_id"):
        package = inventory.text(path.removesuffix("core_id") + "physical_package_id")
        if core := inventory.text(path):  # of a processor that is off it cannot be read
            cores.add((package, core))
    if not cores:
        text = inventory.text("/proc/cpuinfo") or ""
        packages = re.findall(r"^physical id\s*: (\d+)", text, re.M)
        cores = set(zip(packages, re.findall(r"^core id\s*: (\d+)", text, re.M), strict=False))
    return len(cores) or _logical_cores(inventory)


def _clusters(inventory: Inventory) -> tuple[tuple[int, ...], ...]:
    """The processors of one top clock, slowest first: where each has a clock of its own, equals are one cluster."""
    by_clock: dict[float, tuple[int, ...]] = {}
    online = online_cpus(inventory)
    for path in inventory.matching(f"{_CPU}/cpufreq/policy*/related_cpus"):
        cpus = tuple(int(w) for w in (inventory.text(path) or "").split() if re.fullmatch(r"[0-9]{1,5}", w))
        cpus = tuple(cpu for cpu in cpus if not online or cpu in online)
        top_khz = inventory.number(path.removesuffix("related_cpus") + "cpuinfo_max_freq")
        if cpus and top_khz is not None:
            by_clock[top_khz] = tuple(sorted((*by_clock.get(top_khz, ()), *cpus)))
    return tuple(cpus for _, cpus in sorted(by_clock.items()))


def _extra(inventory: Inventory) -> dict[str, str]:
    """What a board's maker installs: JetPack's version, CUDA's, the fan's profile."""
    fan = re.search(r"FAN_PROFILE:([\w-]{1,40})", inventory.text("fan") or "")
    values = {
        "jetpack": (inventory.text("jetpack") or "").split("\n")[0][:80],
        "cuda": _cuda(inventory.text("/usr/local/cuda/version.json") or ""),
        "fan": fan[1] if fan else "",
    }
    return {name: value for name, value in values.items() if value}


def _cuda(text: str) -> str:
    """The version that CUDA's own list of its parts says; empty where it says none."""
    try:
        return str(json.loads(text)["cuda"]["version"])[:40]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _virtual_machine(inventory: Inventory, cpuinfo: Mapping[str, str]) -> str | None:
    kind = inventory.text("/sys/hypervisor/type")
    if kind:
        return kind
    vendor = inventory.text("/sys/class/dmi/id/sys_vendor") or ""
    flagged = "hypervisor" in cpuinfo.get("flags", "").split()
    named = next((v for v in VIRTUAL_VENDORS if vendor.startswith(v)), None)
    if named and (flagged or named in ("QEMU", "VMware", "innotek", "Xen")):
        return vendor
    return "hypervisor" if flagged else None


def _serial_hash(inventory: Inventory) -> str | None:
    """The board's own serial number: boards that were set up from one image share the machine-id."""
    serial = inventory.text("/proc/device-tree/serial-number") or inventory.text("/etc/machine-id")
    return hashed(serial) if serial else None


def hashed(serial: str) -> str:
    """A serial as melt keeps it: the same device has the same hash, and the serial cannot be read from it."""
    return hashlib.sha256(SERIAL_SALT + serial.encode()).hexdigest()[:16]
