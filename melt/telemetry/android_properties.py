"""A phone's properties, as ``getprop`` tells them."""

import re

from melt.telemetry.source import Inventory

PROPERTIES = "getprop"  # the inventory's entry
KEYS = (
    *("ro.serialno", "ro.boot.serialno", "ro.soc.manufacturer", "ro.soc.model", "ro.board.platform"),
    *("ro.product.manufacturer", "ro.product.model", "ro.product.cpu.abi", "ro.build.fingerprint"),
    *("ro.build.version.release", "ro.build.version.security_patch"),
)
# By name: all of them are more text than an inventory keeps. A value's second line could pass for another property.
COMMAND = f'for p in {" ".join(KEYS)}; do echo "[$p]: [$(getprop $p | head -n 1)]"; done'


def properties(inventory: Inventory) -> dict[str, str]:
    """The rows of ``getprop``: "[key]: [value]"."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*)\]$", inventory.text(PROPERTIES) or "", re.M))
