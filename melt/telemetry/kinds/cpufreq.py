"""Clocks of the processors by the kernel's cpufreq policies."""

from collections.abc import Sequence

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import SLOW_MS, Findings, Precedence, SensorKind, why
from melt.telemetry.source import Inventory, Source

_CLOCK = "/sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq"
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
        hint = "Virtual machines have none, and some phones show them to nobody: throttling is then judged by speed."
        findings.miss("CPU frequency", "no cpufreq policy is to be seen", hint, "frequency_hz")
    return findings


KIND = SensorKind(find, Precedence.KERNEL, globs=(_CLOCK,))
