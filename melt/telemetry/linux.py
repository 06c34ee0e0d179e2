"""What a Linux machine can tell about itself: pure functions of an Inventory read on it once."""

import fnmatch
from collections.abc import Callable, Sequence

from melt.spec.profile import Sensors
from melt.telemetry.kinds import battery, hwmon, rapl, raspberry, tegrastats
from melt.telemetry.kinds.base import SLOW_MS, Found, why
from melt.telemetry.linux_facts import COMMANDS as FACT_COMMANDS
from melt.telemetry.linux_facts import GLOBS as FACT_GLOBS
from melt.telemetry.linux_facts import GPU_NODES, devfreq_node, facts
from melt.telemetry.parsers import parse
from melt.telemetry.source import Absent, Discovery, Inventory, Quantity, Site, Source

__all__ = ["COMMANDS", "INVENTORY_GLOBS", "discover", "facts"]

_POLICY = "/sys/devices/system/cpu/cpufreq/policy*"
_ZONE = "/sys/class/thermal/thermal_zone*"
_DEVFREQ = "/sys/class/devfreq/*"
_FIRMWARE = raspberry.THROTTLED_FILE
_NVMAP = "/sys/kernel/debug/nvmap/iovmm/clients"
INVENTORY_GLOBS = tuple(
    dict.fromkeys(
        (
            *("/proc/meminfo", "/proc/stat", "/proc/vmstat"),
            *(f"{_POLICY}/{f}" for f in ("scaling_cur_freq", "scaling_governor", "cpuinfo_max_freq", "related_cpus")),
            *(f"{_ZONE}/{f}" for f in ("type", "temp")),
            *(f"{_DEVFREQ}/{f}" for f in ("cur_freq", "device/load", "device/of_node/name")),
            *(_FIRMWARE, _NVMAP),
            *rapl.GLOBS,
            *battery.GLOBS,
            *hwmon.GLOBS,
            *FACT_GLOBS,
        )
    )
)
# An inventory's entries that are no files, and the command that gives each; its text is empty where there is none.
COMMANDS = {**FACT_COMMANDS, **raspberry.COMMANDS, tegrastats.NAME: tegrastats.COMMAND}
Total = Callable[[list[Source]], list[str]]  # the names of the sources that one kind of sensor adds up
MAX_POLICIES, MAX_ZONES = 16, 32
CONSTANT_ZONES = ("PMIC-Die",)  # of Jetsons
CPU_TEMPERATURE_CHIPS = ("k10temp", "coretemp", "zenpower")
DEFAULT_PAGE_BYTES, DEFAULT_TICKS_PER_S = 4096, 100


def discover(inventory: Inventory, sensors: Sensors = Sensors()) -> Discovery:  # noqa: B008 - frozen
    """Every probe worth reading, what each means, which sources make the total, and what is missing and why.

    The profile's ``disable`` takes sources out by name or pattern, and its ``total`` names the sources of the
    total instead of the rule in ``_choose_total``.
    """
    found = find_kernel(inventory, sensors.period_ms)
    found.extend(hwmon.find(inventory, sensors.period_ms))
    found.extend(tegrastats.find(inventory, sensors.period_ms, found.sources))
    for kind in (raspberry, rapl, battery):
        found.extend(kind.find(inventory, sensors.period_ms))
    return decide(found, sensors, (hwmon.total, tegrastats.total, raspberry.total, rapl.total, battery.total))


def find_kernel(inventory: Inventory, period_ms: int) -> Found:
    """What every Linux kernel tells of a process, its memory, its clocks and its heat."""
    found = Found()
    _find_process(found, inventory, period_ms)
    _find_system(found, inventory)
    _find_clocks(found, inventory)
    _find_shared_memory(found, inventory)
    _find_temperatures(found, inventory)
    return found


def decide(found: Found, sensors: Sensors, totals: Sequence[Total]) -> Discovery:
    """What is recorded, by the profile, and which sources make the total: the first of ``totals`` that has any."""
    if not any(s.quantity == "temperature_c" for s in found.sources):
        found.miss(
            "temperature", "no thermal zone", "Virtual machines have none: sessions then start without waiting to cool."
        )
    disabled = [s for s in found.sources if _named(s, sensors.disable)]
    kept = [s for s in found.sources if not _named(s, sensors.disable)]
    found.absent += [Absent(name=s.name, reason="disabled in the profile") for s in disabled]
    total = _choose_total(found, kept, sensors.total, totals)
    used = {s.probe for s in kept}
    return Discovery(
        probes=tuple(p for p in found.probes if p.name in used),
        sources=tuple(s.model_copy(update={"counts_in_total": s.name in total}) for s in kept),
        absent=tuple(found.absent),
    )


def _choose_total(found: Found, sources: list[Source], wanted: tuple[str, ...], totals: Sequence[Total]) -> list[str]:
    """One kind of sensor only, so that no joule counts twice: the board's input, else RAPL, else the battery.

    A battery's gauge sees the whole device but gives a new figure only about once a second, too seldom for
    most phases, so it comes after RAPL, which sees the processor and its memory. The site is in the source.
    """
    if wanted:
        able = [s for s in sources if s.quantity in ("power_w", "energy_j")]
        for pattern in wanted:
            if not any(_named(s, (pattern,)) for s in able):
                there = f"There are: {', '.join(s.name for s in able[:MAX_ZONES])}." if able else "There are none."
                found.miss(
                    pattern, "the profile's sensors.total names it, and no such power or energy source is here", there
                )
        return [s.name for s in able if _named(s, wanted)]
    for choose in totals:
        if chosen := choose(sources):
            return chosen
    found.miss("energy", "nothing here measures power", "An external meter, or a device with a sensor, is needed.")
    return []


def _named(source: Source, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(source.name, p) for p in patterns)


def _find_process(found: Found, inventory: Inventory, period_ms: int) -> None:
    page = inventory.number("sysconf:SC_PAGE_SIZE") or DEFAULT_PAGE_BYTES
    status = ("VmHWM:", "VmRSS:", "VmSwap:")
    statm = _kernel("process:rss", "process:statm", "field", "memory_bytes", "process", key="1", scale=page)
    found.add(statm, "/proc/{pid}/statm", period_ms)
    peak = _kernel("process:peak_rss", "process:status", "named", "memory_bytes", "process", key="VmHWM", scale=1024)
    found.add(peak, "/proc/{pid}/status", SLOW_MS, status)
    cpu = _kernel(
        "process:cpu", "process:stat", "process_ticks", "utilisation", "process", scale=_tick_share(inventory)
    )
    found.add(cpu.model_copy(update={"rate": True}), "/proc/{pid}/stat", SLOW_MS)


def _find_system(found: Found, inventory: Inventory) -> None:
    page = inventory.number("sysconf:SC_PAGE_SIZE") or DEFAULT_PAGE_BYTES
    for path in ("/proc/meminfo", "/proc/stat", "/proc/vmstat"):
        if inventory.text(path) is None:
            found.miss(path, why(inventory, path))
    if "MemAvailable:" in (inventory.text("/proc/meminfo") or ""):
        available = _kernel("system:available", "meminfo", "named", "memory_bytes", "system", "MemAvailable", 1024)
        found.add(available, "/proc/meminfo", SLOW_MS // 2, ("MemAvailable:",))
    if inventory.text("/proc/stat") is not None:
        busy = _kernel("system:cpu", "stat", "busy_ticks", "utilisation", "system", scale=_tick_share(inventory))
        found.add(busy.model_copy(update={"rate": True}), "/proc/stat", SLOW_MS, ("cpu ",))
    if "pswpin" in (inventory.text("/proc/vmstat") or ""):
        for way in ("in", "out"):
            swap = _kernel(f"system:swap_{way}", "vmstat", "named", "swap_bytes", "system", f"pswp{way}", page)
            found.add(swap, "/proc/vmstat", SLOW_MS, ("pswpin ", "pswpout "))


def _find_clocks(found: Found, inventory: Inventory) -> None:
    policies = inventory.matching(f"{_POLICY}/scaling_cur_freq")
    for path in policies[:MAX_POLICIES]:
        policy = path.split("/")[-2]
        if inventory.number(path) is None:
            found.miss(f"frequency:{policy}", why(inventory, path))
            continue
        found.add(
            _kernel(f"frequency:{policy}", f"frequency:{policy}", "number", "frequency_hz", "cpu", scale=1e3),
            path,
            SLOW_MS,
        )
    if not policies:
        found.miss(
            "CPU frequency", "no cpufreq policy", "Virtual machines have none: throttling is then judged by speed."
        )
    for path in inventory.matching(f"{_DEVFREQ}/cur_freq"):
        folder = path.rsplit("/", 1)[0]
        node = devfreq_node(inventory, folder)
        if not node.startswith(GPU_NODES):
            continue
        name = f"gpu:{node}"
        found.add(_kernel(f"{name}:frequency", f"{name}:frequency", "number", "frequency_hz", "gpu"), path, SLOW_MS)
        if inventory.number(f"{folder}/device/load") is not None:
            load = _kernel(f"{name}:load", f"{name}:load", "number", "utilisation", "gpu", scale=1e-3)
            found.add(load, f"{folder}/device/load", SLOW_MS)
    for path in inventory.matching(_FIRMWARE):
        found.add(
            _kernel("firmware:throttled", "firmware:throttled", "throttled_bits", "throttled", "cpu"), path, SLOW_MS
        )


def _find_shared_memory(found: Found, inventory: Inventory) -> None:
    """What all programs hold of a Jetson's one memory for its GPU, of which their resident sets tell nothing."""
    if "NvMapMemUsed:" in (inventory.text("/proc/meminfo") or ""):
        used = _kernel("gpu:memory", "gpu:memory", "named", "memory_bytes", "gpu", "NvMapMemUsed", 1024)
        found.add(used, "/proc/meminfo", SLOW_MS, ("NvMapMemUsed:",))
    elif parse(_NVMAP_TOTAL, inventory.text(_NVMAP) or "") is not None:
        found.add(_NVMAP_TOTAL, _NVMAP, SLOW_MS, ("total ",))
    elif "tegra" in (inventory.text("/proc/device-tree/compatible") or ""):
        hint = "Kernels that do not say it in /proc/meminfo tell root alone. See the memory available to the board."
        found.miss("gpu:memory", why(inventory, _NVMAP), hint)


def _find_temperatures(found: Found, inventory: Inventory) -> None:
    zones = inventory.matching(f"{_ZONE}/type")
    taken: set[str] = set()
    for path in zones[:MAX_ZONES]:
        zone = inventory.text(path) or path.split("/")[-2]
        temp = path.removesuffix("type") + "temp"
        name = f"thermal:{zone}" if f"thermal:{zone}" not in taken else f"thermal:{zone}@{path.split('/')[-2]}"
        taken.add(name)
        if zone in CONSTANT_ZONES:
            found.miss(name, "it always says the same: 50 degrees, or 100")
            continue
        if inventory.number(temp) is None:
            found.miss(name, why(inventory, temp))
            if inventory.error(temp) != "EAGAIN":  # a part that is off now may be on when the model runs
                continue
        found.add(_temperature(name, zone), temp, SLOW_MS)
    for path in inventory.matching("/sys/class/hwmon/hwmon*/name"):
        chip, temp = inventory.text(path) or "", path.removesuffix("name") + "temp1_input"
        if chip in CPU_TEMPERATURE_CHIPS and inventory.number(temp) is not None and "thermal:x86_pkg_temp" not in taken:
            found.add(_temperature(f"thermal:{chip}", chip), temp, SLOW_MS)


def _temperature(name: str, zone: str) -> Source:
    lower = zone.lower()
    site: Site = "gpu" if "gpu" in lower else "skin" if "skin" in lower else "cpu" if _is_processor(lower) else "system"
    return _kernel(name, name, "millidegrees", "temperature_c", site, scale=1e-3).model_copy(update={"rail": zone})


def _is_processor(zone: str) -> bool:
    return any(word in zone for word in ("cpu", "x86_pkg", "soc", "tj", "k10temp", "coretemp", "zenpower", "package"))


def _tick_share(inventory: Inventory) -> float:
    """Of a processor tick, the share that it is of one second of every core."""
    cores = sum(
        1 for line in (inventory.text("/proc/stat") or "").splitlines() if line[:3] == "cpu" and line[3:4].isdigit()
    )
    return 1 / ((inventory.number("sysconf:SC_CLK_TCK") or DEFAULT_TICKS_PER_S) * max(1, cores))


def _kernel(
    name: str, probe: str, parser: str, quantity: Quantity, site: Site, key: str = "", scale: float = 1.0
) -> Source:
    return Source(
        name=name,
        probe=probe,
        parser=parser,
        key=key,
        quantity=quantity,
        scale=scale,
        sensor="kernel",
        site=site,
        native_period_s=SLOW_MS / 1000 if quantity == "temperature_c" else 0.01,
    )


_NVMAP_TOTAL = _kernel("gpu:memory", "gpu:memory", "nvmap_total", "memory_bytes", "gpu", scale=1024.0)
