"""Damage to bytes, as a bad cable, a bad disk or a bad person does it; all of it follows from the random numbers."""

import random
import re
from collections.abc import Callable, Sequence

MOST_BYTES = 200_000
_NUMBERS = (b"-1", b"0", b"1e999", b"-1e308", b"nan", b"9223372036854775808", b"1" * 400, b"0x7f", b"1_0", b"\xd9\xa3")
_WORDS = (
    *(b"null", b"true", b"[]", b"{}", b'""', b"NaN", b"-Infinity", b"\0", b"\xff\xfe", b"\xe2\x80\xae", b"\x1b[31m"),
    *(
        b"../../etc/passwd",
        b"/dev/stdin",
        b"$(reboot)",
        b"<script>",
        b"!!python/object:os.system",
        b"*a",
        b"&a [*a, *a]",
    ),
    *(b"[" * 3000, b'{"a":' * 3000, b"- " * 3000, b"x" * 70_000, b"\r\n" * 50),
)
Damage = Callable[[random.Random, bytes], bytes]


def _span(chance: random.Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    begin = chance.randrange(len(data) + 1)
    return begin, min(len(data), begin + chance.randrange(1, longest))


def _flip(chance: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def _word(chance: random.Random, data: bytes) -> bytes:
    """Of a binary format a whole number that is now a great or a negative one."""
    size = chance.choice((1, 2, 4, 8))
    begin = chance.randrange(max(1, len(data) - size))
    value = chance.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), chance.randrange(2 ** (8 * size))))
    return data[:begin] + value.to_bytes(size, "little") + data[begin + size :]


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _leave_out(chance: random.Random, data: bytes) -> bytes:
    begin, end = _span(chance, data)
    return data[:begin] + data[end:]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    begin, end = _span(chance, data)
    return data[:end] + data[begin:end] * chance.choice((1, 2, 50)) + data[end:]


def _put_in(chance: random.Random, data: bytes) -> bytes:
    begin, _ = _span(chance, data)
    return data[:begin] + chance.choice((*_WORDS, chance.randbytes(chance.randrange(1, 40)))) + data[begin:]


def _number(chance: random.Random, data: bytes) -> bytes:
    """Of a text a number that is now another."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data))
    return _in_place(data, chance.choice(found), chance.choice(_NUMBERS)) if found else data


def _value(chance: random.Random, data: bytes) -> bytes:
    """Of a text a word or a string that is now another thing."""
    found = list(re.finditer(rb'"[^"\n]*"|[A-Za-z_]+', data))
    return _in_place(data, chance.choice(found), chance.choice(_WORDS)) if found else data


def _in_place(data: bytes, found: "re.Match[bytes]", new: bytes) -> bytes:
    return data[: found.start()] + new + data[found.end() :]


def _line(chance: random.Random, data: bytes) -> bytes:
    """A line that is gone, twice there, or elsewhere."""
    lines = data.split(b"\n")
    taken = lines.pop(chance.randrange(len(lines)))
    for _ in range(chance.randrange(3)):
        lines.insert(chance.randrange(len(lines) + 1), taken)
    return b"\n".join(lines)


DAMAGES: Sequence[Damage] = (_flip, _word, _cut, _leave_out, _repeat, _put_in, _number, _value, _line)


def damaged(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with some damage, now and then a piece of another in it."""
    data = chance.choice(seeds)
    if chance.random() < 0.05:
        other = chance.choice(seeds)
        begin, end = _span(chance, other, 2000)
        at, _ = _span(chance, data)
        data = data[:at] + other[begin:end] + data[at:]
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        data = chance.choice(DAMAGES)(chance, data)
    return data[:MOST_BYTES]
