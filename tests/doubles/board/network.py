"""Places for boards on a network of their own: network namespaces, by links that may be slow and lose packets."""

import itertools
import json
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from tests.doubles.claims import claim


@dataclass(frozen=True)
class Place:
    """A network namespace and its address, as whoever is linked to it sees it.

    ``link`` is the end of the link that lies in the namespace.
    """

    namespace: str
    address: str
    link: str

    def inside(self, *words: str) -> tuple[str, ...]:
        """A command that runs a program there."""
        return ("nsenter", f"--net=/run/netns/{self.namespace}", *words)

    def limit(self, bytes_per_s: float, queue_bytes: int) -> None:
        """What leaves goes at a rate; what does not fit the queue is lost, as on a bad wireless link."""
        words = ["rate", f"{int(bytes_per_s * 8)}bit", "burst", "6000", "limit", str(queue_bytes)]
        _run(self.inside("tc", "qdisc", "replace", "dev", self.link, "root", "tbf", *words))

    def lost_packets(self) -> int:
        """How many packets did not fit."""
        shown = _run(self.inside("tc", "-s", "-j", "qdisc", "show", "dev", self.link))
        return sum(int(one.get("drops", 0)) for one in json.loads(shown))


class Network:
    """Places from entering to leaving; needs root."""

    def __init__(self) -> None:
        self._ending = ExitStack()
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        self._subnet, claimed = claim("meltnet", range(256))
        self._ending.enter_context(claimed)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def place(self, behind: Place | None = None) -> Place:
        """A new one, linked to this machine or to another place alone."""
        number = next(self._numbers)
        assert number < 64, "a network holds 64 places"
        name = f"mb{self._subnet}n{number}"
        near, far = (f"10.214.{self._subnet}.{number * 4 + n}" for n in (1, 2))
        # Left by a killed test run.
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        _run(["ip", "netns", "add", name])
        self._ending.callback(_run, ["ip", "netns", "delete", name])
        outer = behind.inside() if behind else ()
        _run([*outer, "ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", "eth0", "netns", name])
        _run([*outer, "ip", "address", "add", f"{near}/30", "dev", f"{name}a"])
        _run([*outer, "ip", "link", "set", f"{name}a", "up"])
        made = Place(name, far, "eth0")
        _run(made.inside("ip", "address", "add", f"{far}/30", "dev", "eth0"))
        _run(made.inside("ip", "link", "set", "eth0", "up"))
        _run(made.inside("ip", "link", "set", "lo", "up"))
        return made


def _run(words: Sequence[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout
