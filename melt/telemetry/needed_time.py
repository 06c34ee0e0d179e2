"""How long a power sensor must see a load before its joules are known."""

from melt.telemetry.source import Discovery

PHASE_PERIODS, IDLE_PERIODS = 20, 12  # effective periods of the sensor


def stated_period_s(discovery: Discovery) -> float:
    """The longest period of the power sensors in a device's total, by what is stated of them and how often they are
    read; 0 where they are counters, or there are none. A run may show a longer one."""
    read_s = {p.name: p.period_ms / 1000 for p in discovery.probes}
    counted = [s for s in discovery.sources if s.counts_in_total and s.quantity == "power_w"]
    return max((max(s.native_period_s, read_s.get(s.probe, 0.0)) for s in counted), default=0.0)
