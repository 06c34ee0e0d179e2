"""Clocks of the processors by the kernel's cpufreq policies."""

from collections.abc import Sequence

from melt.spec.profile import Sensors
from melt.telemetry.android_properties import PROPERTIES
from melt.telemetry.kinds.base import SLOW_MS, Findings, Precedence, SensorKind, why
from melt.telemetry.source import Inventory, Source

_FOLDER = "/sys/devices/system/cpu/cpufreq"  # its error is EISDIR, where it may be listed
_CLOCK = f"{_FOLDER}/policy*/scaling_cur_freq"
MAX_POLICIES = 16


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Each policy's clock now."""
    findings = Findings()
    policies = inventory.matching(_CLOCK)
    for path in policies[:MAX_POLICIES]:
        name = f"frequency:{path.split('/')[-2]}"
        if inventory.number(path) is None:
            findings.miss(name, why(inventory, path), quantity="frequency_hz")
            continue
        clock = Source(name=name, quantity="frequency_hz", scale=1e3, sensor="kernel", site="cpu", native_period_s=0.01)
        findings.add(clock, path, SLOW_MS)
    if not policies:
        is_denied = inventory.error(_FOLDER) in ("EACCES", "EPERM")
        reason = why(inventory, _FOLDER) if is_denied else "no cpufreq policy is to be seen"
        is_phone = inventory.text(PROPERTIES) is not None
        whose = "Some phones show them to nobody" if is_phone or is_denied else "Virtual machines have none"
        findings.miss("CPU frequency", reason, f"{whose}: throttling is then judged by speed.", "frequency_hz")
    return findings


KIND = SensorKind(find, Precedence.KERNEL, globs=(_CLOCK, _FOLDER))
