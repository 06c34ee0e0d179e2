"""Perfetto traces as a phone writes them, encoded by Google's own classes (the ``perfetto`` package)."""

from collections.abc import Mapping, Sequence

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace


def rail_trace(
    rails: Mapping[int, tuple[str, str]], samples: Sequence[tuple[int, Mapping[int, int]]], stream: int = 1
) -> bytes:
    """A trace of android.power.

    Args:
        rails: name and subsystem by index; told once, in the first packet.
        samples: milliseconds of CLOCK_BOOTTIME, and each rail's energy in microwatt-seconds by index.
        stream: the number of what wrote the packets; each numbers its rails itself.
    """
    trace = Trace()
    first = trace.packet.add()
    first.trusted_uid = 9999
    described = trace.packet.add()
    for index, (name, subsystem) in rails.items():
        descriptor = described.power_rails.rail_descriptor.add()
        descriptor.index, descriptor.rail_name, descriptor.subsys_name, descriptor.sampling_rate = (
            index,
            name,
            subsystem,
            0,
        )
    for t_ms, energies in samples:
        packet = trace.packet.add()
        packet.timestamp = t_ms * 1_000_000 + 123
        packet.battery.current_ua = -300_000
        for index, energy in energies.items():
            data = packet.power_rails.energy_data.add()
            data.index, data.timestamp_ms, data.energy = index, t_ms, energy
    for packet in trace.packet:
        packet.trusted_packet_sequence_id = stream
    encoded: bytes = trace.SerializeToString()
    return encoded
