"""The checks of one device: is it there, can it run an engine, what can it measure."""

import sys
from collections.abc import Sequence
from pathlib import Path

from melt.backends import backend_names, load_backend
from melt.drivers import connect
from melt.drivers.base import Driver, ShellDriver
from melt.drivers.profiles import load_profile
from melt.errors import MeltError
from melt.spec.check import LOW_DISK_BYTES, Check
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.telemetry.discovery import kinds_for
from melt.telemetry.limits import beyond_now
from melt.telemetry.needed_time import IDLE_PERIODS, PHASE_PERIODS, stated_period_s
from melt.telemetry.registry import parse
from melt.telemetry.source import Discovery, Source
from melt.telemetry.thermal_band import missing_zones
from melt.toolchain.device_tools import CUDA_FLAGS, DeviceTools, look
from melt.toolchain.on_device import WITH_GPU, built_on_device

LOADED = 0.1  # share of the cores that other work may take before a measurement suffers


def check_device(name: str) -> list[Check]:
    """One device: is it there, can it run an engine, what can it measure.

    Raises:
        ProfileError: there is no such profile.
    """
    profile = load_profile(name)
    try:
        driver = connect(profile)
    except MeltError as e:
        return [Check(f"device {name}", "problem", e.message, e.hint)]
    try:
        return _check_connected(profile, driver)
    except MeltError as e:
        return [Check(f"device {name}", "problem", e.message, e.hint)]
    finally:
        driver.close()


def _check_connected(profile: DeviceProfile, driver: Driver) -> list[Check]:
    facts, found, own = driver.facts(), driver.discover(), driver.checks()
    known = [facts.soc, f"{facts.logical_cores} cores", facts.os_build]
    checks = [Check(f"device {profile.name}", "ok", ", ".join(k for k in known if k))]
    if facts.virtual_machine:
        text = f"a virtual machine ({facts.virtual_machine}): its clock speed and neighbours are out of sight"
        checks.append(Check("hardware", "warning", text, "Measure on the bare machine for numbers to publish."))
    checks += _engines(facts)
    if isinstance(driver, ShellDriver) and facts.platform == "linux":
        checks += gpu_build(look(driver), facts, profile.name)
    checks += _load(facts.logical_cores) if facts.is_host else []
    free = driver.free_bytes()
    fix = f"melt devices clean {profile.name} removes what melt put there."
    checks.append(Check("room", "ok" if free > LOW_DISK_BYTES else "warning", f"{free / 2**30:.1f} GiB free", fix))
    checks += [*own, *_asked_for(profile, driver, found)]
    checks += _limits(profile, driver, found)
    energy = [s for s in found.sources if s.counts_in_total]
    checks += [_energy(energy, found, _is_charging(driver, found), facts.platform)] if energy else []
    checks += [Check(f"sensor {s.name}", "ok", f"{s.sensor}, {s.quantity}") for s in found.sources]
    checks += [Check(f"sensor {a.name}", "warning", f"absent: {a.reason}", a.hint) for a in found.absent]
    return checks


def _asked_for(profile: DeviceProfile, driver: Driver, found: Discovery) -> list[Check]:
    """What the profile names and the device does not have."""
    checks = [
        Check(f"condition {one.name}", "warning", one.reason, one.hint)
        for one in driver.unknown_conditions(profile.conditions)
    ]
    missing = missing_zones(found, profile.thermal)
    fix = "Mend `thermal: zones` in the profile: until then every processor zone is watched."
    return [*checks, Check("thermal band", "warning", missing, fix)] if missing else checks


def _limits(profile: DeviceProfile, driver: Driver, found: Discovery) -> list[Check]:
    """Whether a run would stop itself now."""
    now = beyond_now(profile.limits, found, driver.read)
    fix = "Let it cool, or charge it: no run starts before. `limits` in the profile says where runs stop themselves."
    return [Check("limits", "warning", now.over, fix)] if now.over else []


def _engines(facts: DeviceFacts) -> list[Check]:
    """Those that the device can run; where it can run none, why."""
    found: list[Check] = []
    for backend in backend_names():
        try:
            load_backend(backend).check(facts)
            found.append(Check(f"engine {backend}", "ok", facts.engines.get(backend, "ready")))
        except MeltError as e:
            found.append(Check(f"engine {backend}", "problem", e.message, e.hint))
    return [c for c in found if c.state == "ok"] or found


def gpu_build(tools: DeviceTools, facts: DeviceFacts, name: str) -> list[Check]:
    """Whether a runner for NVIDIA's GPU is there or can be made there; nothing of a device without one."""
    if not tools.nvidia:
        return []
    command = f"melt runner build on-device --device {name}"
    if built_on_device(facts, WITH_GPU):
        return [Check("GPU runner", "ok", "built on the device")]
    try:
        tools.require(CUDA_FLAGS)
    except MeltError as e:
        return [Check("GPU runner", "warning", e.message, f"{e.hint}; then here: {command}")]
    return [
        Check("GPU runner", "warning", f"CUDA {tools.versions['nvcc']} is there, and no runner for it yet", command)
    ]


def _energy(sources: Sequence[Source], found: Discovery, charging: bool, platform: str) -> Check:
    names = ", ".join(s.name for s in sources)
    if charging and all(s.site == "battery" for s in sources):
        fix = " ".join(kind.unplug_hint for kind in kinds_for(platform).values() if kind.unplug_hint)
        return Check("energy", "warning", f"{names}, and the battery is being charged: no joules", fix)
    period_s = stated_period_s(found)
    if not period_s:
        return Check("energy", "ok", names)
    phase_s, idle_s = PHASE_PERIODS * period_s, IDLE_PERIODS * period_s
    text = f"{names}: joules of a phase from {phase_s:.3g} s on, net of idle power with idle_s: {idle_s:.3g} or more"
    return Check("energy", "ok", text)


def _is_charging(driver: Driver, found: Discovery) -> bool:
    sources = [s for s in found.sources if s.quantity == "charging"]
    texts = driver.read([p for p in found.probes if p.name in {s.probe for s in sources}])
    return any(parse(s, texts.get(s.probe, "")) == 1.0 for s in sources)


def _load(cores: int | None) -> list[Check]:
    if not sys.platform.startswith("linux") or not cores:
        return []
    load = float(Path("/proc/loadavg").read_text().split()[0])
    busy = load > cores * LOADED
    fix = "Wait until other work ends, or end it: it would be in the measurement."
    return [Check("background load", "warning" if busy else "ok", f"load average {load:.2f} on {cores} cores", fix)]
