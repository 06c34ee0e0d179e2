"""What is read of an iPhone while it works, and how its samples are kept."""

import json
from collections.abc import Mapping
from typing import Any

from melt.spec.profile import Sensors
from melt.telemetry import discovery
from melt.telemetry.kinds import ios_app, ios_battery
from melt.telemetry.kinds.base import IOS
from melt.telemetry.kinds.ios_app import OWN_MEMORY
from melt.telemetry.source import NO_ENERGY, Discovery, Inventory, InventoryEntry

_LATEST_NS = 2**62


def discover(battery: Mapping[str, Any], cores: int | None, update_s: float | None, sensors: Sensors) -> Discovery:
    """The telemetry of an iPhone, and what it cannot give, with reasons.

    Args:
        battery: its IOPMPowerSource.
        cores: its processors, of which utilisation is a share; None where it did not say.
        update_s: how often its gauge was seen to have a new figure; None where that is not known.
        sensors: the profile's.
    """
    entries = {ios_battery.POWER_SOURCE: as_text(battery), ios_app.CORES: cores, ios_battery.UPDATE_S: update_s}
    inventory = Inventory(
        entries=tuple(InventoryEntry(path=k, text=str(v)) for k, v in entries.items() if v is not None)
    )
    discovered = discovery.discover(IOS, inventory, sensors)
    # What its battery lacks is told already.
    absent = tuple(a for a in discovered.absent if a.name != NO_ENERGY or not battery)
    return discovered.model_copy(update={"absent": absent})


def battery_text(battery: Mapping[str, Any]) -> str:
    """A reading of the battery as it is kept."""
    return as_text({k: battery[k] for k in ios_battery.KEYS if k in battery})


def as_text(values: Mapping[str, Any]) -> str:
    """Values of a service as they are kept: numbers and words only."""
    return json.dumps({str(k): v for k, v in values.items() if isinstance(v, bool | int | float | str)})


def own_samples(text: str) -> list[tuple[int, str]]:
    """The samples in the app's own file, each its stamp and its line; what is no such sample is left out."""
    samples = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(row, dict) or row.get("probe") != OWN_MEMORY or not isinstance(row.get("raw"), str):
            continue
        t_ns, t_end_ns = row.get("t_ns"), row.get("t_end_ns")
        if type(t_ns) is int and type(t_end_ns) is int and 0 <= t_ns <= t_end_ns <= _LATEST_NS:
            samples.append((t_ns, sample_line(t_ns, t_end_ns, OWN_MEMORY, row["raw"])))
    return samples


def sample_line(t_ns: int, t_end_ns: int, probe: str, raw: str) -> str:
    """A sample as melt's sampler writes it."""
    return json.dumps({"t_ns": t_ns, "t_end_ns": t_end_ns, "probe": probe, "raw": raw}, separators=(",", ":"))
