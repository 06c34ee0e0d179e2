"""A phone's power rails from a Perfetto trace: the few protobuf fields of its android.power data source.

Field numbers: protos/perfetto/trace/{trace,trace_packet}.proto and trace/power/power_rails.proto of google/perfetto.
A rail's energy is cumulative, in microwatt-seconds since boot, stamped in milliseconds of CLOCK_BOOTTIME.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from melt.spec.profile import Sensors
from melt.telemetry.kinds.base import ANDROID, Findings, Precedence, SensorKind
from melt.telemetry.source import Inventory, InventoryEntry, Source

PREFIX = "rail:"
RAILS = "perfetto rails"  # the inventory's entry
POLL_MS = 250
_PACKET, _SEQUENCE, _POWER_RAILS = 1, 10, 40
_DESCRIPTOR, _ENERGY = 1, 2
_INDEX, _NAME, _SUBSYSTEM = 1, 2, 3
_TIMESTAMP_MS, _ENERGY_UWS = 2, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MAX_RAILS = 64
_MAX_STREAMS = 16
# The bucks of processors, GPU, NPU, interconnect and memory. Regulators that another rail feeds are not among them,
# so that no joule counts twice; nor are the radios and the screen.
_COMPUTE = re.compile(r"^S\d+[MS]_(VDD_(CPU\w*|INT|MIF|TPU|GPU|G3D(_L2)?)|VDDQ_MEM|VDD2[HL](_MEM)?)$")


@dataclass(frozen=True)
class Rail:
    """One rail as its maker names it.

    Each stream of a trace numbers its rails from 0; those of the second are numbered on from ``MAX_RAILS`` here.
    """

    index: int
    name: str
    subsystem: str


@dataclass(frozen=True)
class RailSample:
    """A rail's counter at one moment."""

    index: int
    t_ns: int
    energy_uws: int


def read_rails(trace: bytes) -> tuple[list[Rail], list[RailSample]]:
    """The rails and their samples in order of the trace; what is cut off at its end, or is no such field, is left out.

    A sample that repeats its rail's stamp says nothing new and is left out too. So is a rail whose name an earlier
    stream has: it would be counted twice.
    """
    rails: dict[int, Rail] = {}
    samples: list[RailSample] = []
    last: dict[int, int] = {}
    for first_index, number, value in _rail_messages(trace):
        fields = dict(_fields(value))
        within = fields.get(_INDEX, 0)
        if not isinstance(within, int) or within >= MAX_RAILS:
            continue
        index = first_index + within
        if number == _DESCRIPTOR:
            rails.setdefault(index, Rail(index, _text(fields.get(_NAME)), _text(fields.get(_SUBSYSTEM))))
        stamp, energy = fields.get(_TIMESTAMP_MS), fields.get(_ENERGY_UWS)
        if number == _ENERGY and isinstance(stamp, int) and isinstance(energy, int) and last.get(index) != stamp:
            last[index] = stamp
            samples.append(RailSample(index, stamp * 1_000_000, energy))
    first_of_name: dict[str, int] = {}
    for rail in rails.values():
        first_of_name.setdefault(rail.name, rail.index // MAX_RAILS)
    again = {i for i, r in rails.items() if first_of_name[r.name] != i // MAX_RAILS}
    return [r for i, r in rails.items() if i not in again], [s for s in samples if s.index not in again]


def _rail_messages(trace: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Of each message in a packet's power_rails: what its stream's rails are numbered from, its field and content."""
    streams: dict[int | bytes, int] = {}
    for packet in _messages(trace, (_PACKET,)):
        found = list(_fields(packet))  # the stream's number is written behind what it is the number of
        stream = next((value for number, value in found if number == _SEQUENCE), 0)
        messages = [
            (number, value)
            for n, rails in found
            if n == _POWER_RAILS and isinstance(rails, bytes)
            for number, value in _fields(rails)
        ]
        if messages and (stream in streams or len(streams) < _MAX_STREAMS):
            first_index = MAX_RAILS * streams.setdefault(stream, len(streams))
            yield from ((first_index, number, value) for number, value in messages if isinstance(value, bytes))


def inventory_entry(rails: Sequence[Rail]) -> InventoryEntry:
    """The rails that a phone was seen to give samples of, for its inventory."""
    return InventoryEntry(path=RAILS, text=json.dumps([asdict(r) for r in rails]))


def find(inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
    """Each rail's counter. Perfetto records them beside the sampler, so that there is no probe."""
    rails = [Rail(**row) for row in json.loads(inventory.text(RAILS) or "[]")]
    return Findings(
        sources=[
            Source(
                name=f"{PREFIX}{rail.name}",
                quantity="energy_j",
                scale=1e-6,
                sensor="on-device power monitor",
                site="soc_rail",
                rail=rail.name,
                native_period_s=POLL_MS / 1000,
            )
            for rail in rails
            if rail.name
        ]
    )


def total(sources: Sequence[Source]) -> list[str]:
    """The rails of what computes; they measure the chip however the phone is fed."""
    return [s.name for s in sources if _COMPUTE.match(s.rail)]


def _text(value: int | bytes | None) -> str:
    """A name of a device: printable, and no longer than a name is."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else ""
    return "".join(c for c in text if c.isprintable())[:64]


def _messages(data: bytes, path: tuple[int, ...]) -> Iterator[bytes]:
    """Every message at the end of a path of field numbers."""
    for number, value in _fields(data):
        if number == path[0] and isinstance(value, bytes):
            yield from _messages(value, path[1:]) if len(path) > 1 else (value,)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of one message, as far as it is whole."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            if at > len(data):
                return
            yield number, value
        elif wire in (_FIXED64, _FIXED32, _BYTES):
            size, at = _varint(data, at) if wire == _BYTES else ({_FIXED64: 8, _FIXED32: 4}[wire], at)
            if at + size > len(data):
                return
            yield number, data[at : at + size]
            at += size
        else:
            return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to ten bytes and where it ends; an end beyond the data where it is cut off."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    return 0, len(data) + 1


KIND = SensorKind(find, Precedence.CHIP, platforms=(ANDROID,), total=total)
