"""A phone's facts from an Inventory: what it is, not how it is doing."""

import re
from collections.abc import Mapping
from typing import Any

from melt.spec.facts import DeviceFacts
from melt.telemetry import android_properties, linux_facts
from melt.telemetry.kinds.android_battery import BATTERY_SERVICE
from melt.telemetry.source import Inventory

SHELL_USER = "id -u"
_SAVER = "battery saver"
LIBRARIES = (
    "/vendor/lib64/libOpenCL.so",
    "/system/vendor/lib64/libOpenCL.so",
    "/vendor/lib64/libQnnHtp.so",
    "/vendor/lib64/libcdsprpc.so",
    "/vendor/lib64/egl/libGLES_mali.so",
    "/vendor/lib64/hw/vulkan.adreno.so",
    "/vendor/lib64/libneuron_adapter.so",
    "/vendor/lib64/libedgetpu_util.so",
)
COMMANDS = {
    android_properties.PROPERTIES: android_properties.COMMAND,
    SHELL_USER: "id -u",
    _SAVER: "if command -v settings >/dev/null; then settings get global low_power 2>/dev/null; fi",
    "libraries": f"for f in {' '.join(LIBRARIES)}; do [ -e $f ] && echo $f; done; true",
    **linux_facts.SYSTEM,
}
_HEALTH = {"2": "good", "3": "overheat", "4": "dead", "5": "over voltage", "6": "failure", "7": "cold"}


def facts(inventory: Inventory, extra: Mapping[str, Any] | None = None) -> DeviceFacts:
    """What the phone says of itself; ``extra`` holds what the driver knows better, by DeviceFacts' own keys."""
    props = android_properties.properties(inventory)
    serial = props.get("ro.serialno") or props.get("ro.boot.serialno")
    values: dict[str, Any] = {
        "platform": "android",
        "soc": _joined(props, "ro.soc.manufacturer", "ro.soc.model") or props.get("ro.board.platform"),
        "product": _joined(props, "ro.product.manufacturer", "ro.product.model"),
        "os_build": props.get("ro.build.fingerprint"),
        "battery_saver": {"0": "off", "1": "on"}.get((inventory.text(_SAVER) or "").strip()),
        "battery_health": _battery_health(inventory),
        "serial_hash": linux_facts.hashed(serial) if serial else None,
        "extra": _extra(inventory, props),
    }
    return linux_facts.facts(inventory, {k: v for k, v in values.items() if v is not None} | dict(extra or {}))


def _joined(props: Mapping[str, str], *keys: str) -> str | None:
    return " ".join(p for k in keys if (p := props.get(k, "").strip())) or None


def _battery_health(inventory: Inventory) -> str | None:
    """The service's word. How much of its capacity is left, Android does not tell adb's shell."""
    match = re.search(r"^\s*health: ([0-9]+)$", inventory.text(BATTERY_SERVICE) or "", re.M)
    return _HEALTH.get(match[1]) if match else None


def _extra(inventory: Inventory, props: Mapping[str, str]) -> dict[str, str]:
    extra = {
        "android": _joined(props, "ro.build.version.release"),
        "security_patch": props.get("ro.build.version.security_patch"),
        "abi": props.get("ro.product.cpu.abi"),
        "root": "yes" if inventory.text(SHELL_USER) == "0" else "no",
        "accelerator_libraries": " ".join((inventory.text("libraries") or "").split()),
    }
    return {k: v for k, v in extra.items() if v}
