"""A phone's conditions: saved on the phone before they are set, put back afterwards, also after a crash of the host.

What a condition sets is a few settings of the phone, each of which can be read and written by itself.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from melt.drivers.adb.shell import quoted, run_command
from melt.drivers.adb.stream import Connection
from melt.errors import DeviceError
from melt.telemetry.base import Absent

_VALUE = re.compile(r"^[A-Za-z0-9._-]{0,64}$")


@dataclass(frozen=True)
class Setting:
    """One thing that a phone can be told; ``{}`` in ``write`` stands for the value, quoted.

    ``keeps`` is the value that holds where the phone does not tell: it can be set but not read, or has no value
    before it is set.
    """

    write: str
    read: str = ""
    unset: str = ""  # how to take the value away again, where it was not set at all
    keeps: str = ""


def _setting(name: str) -> Setting:
    space, key = name.split("/")
    return Setting(f"settings put {space} {key} {{}}", f"settings get {space} {key}", f"settings delete {space} {key}")


SETTINGS: Mapping[str, Setting] = {
    **{
        name: _setting(name)
        for name in (
            "global/stay_on_while_plugged_in",
            "system/screen_brightness_mode",
            "system/screen_brightness",
            "system/screen_off_timeout",
        )
    },
    # Wi-Fi comes back in the same command line: adb may be running over it.
    "airplane_mode": Setting(
        'if [ {} = 1 ]; then cmd connectivity airplane-mode enable; [ "$(settings get global wifi_on)" = 0 ] || '
        "svc wifi enable; else cmd connectivity airplane-mode disable; fi",
        "settings get global airplane_mode_on",
    ),
    "doze": Setting(
        "if [ {} = 1 ]; then dumpsys deviceidle enable; else dumpsys deviceidle disable; fi",
        "dumpsys deviceidle enabled",
    ),
    "fixed_performance": Setting("cmd power set-fixed-performance-mode-enabled {}", keeps="false"),
    "charging_suspended": Setting(
        "setprop power.battery_input.suspended {}", "getprop power.battery_input.suspended", keeps="false"
    ),
    **{
        f"governor/policy{n}": Setting(
            f"echo {{}} > /sys/devices/system/cpu/cpufreq/policy{n}/scaling_governor",
            f"cat /sys/devices/system/cpu/cpufreq/policy{n}/scaling_governor 2>/dev/null",
        )
        for n in range(16)
    },
}
# What a profile may ask for, and the settings that make it so.
CONDITIONS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "stay_awake": {
        "on": {"global/stay_on_while_plugged_in": "15"},
        "off": {"global/stay_on_while_plugged_in": "0"},
    },
    "screen": {
        "dim": {
            "system/screen_brightness_mode": "0",
            "system/screen_brightness": "1",
            "system/screen_off_timeout": "2147483647",  # the largest: a phone without its cable would sleep
        },
    },
    "airplane_mode": {"on": {"airplane_mode": "1"}, "off": {"airplane_mode": "0"}},
    "doze": {"on": {"doze": "1"}, "off": {"doze": "0"}},
    "fixed_performance": {"on": {"fixed_performance": "true"}, "off": {"fixed_performance": "false"}},
    "charging": {"suspended": {"charging_suspended": "true"}, "on": {"charging_suspended": "false"}},
}


class PhoneConditions:
    """What was found is on the phone before anything is changed, so that any host's next run restores it."""

    def __init__(self, connection: Connection, saved: str) -> None:
        self._connection = connection
        self._saved = saved

    def set(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets each condition; what is unknown or refused comes back with its reason.

        A setting that reads as something else after it was written was refused, whatever the phone said.
        """
        refused, plan = [], dict[str, tuple[str, str]]()
        for name, value in wanted.items():
            settings = self._settings_of(name, value)
            if settings is None:
                refused.append(_unknown(name, value))
                continue
            plan |= {setting: (name, raw) for setting, raw in settings.items()}
        found = {setting: self._read(setting) for setting in plan}
        changed = {s: v for s, v in found.items() if v not in ("", plan[s][1])}
        if changed:
            self._save(changed)
        reasons: dict[str, str] = {}
        for setting, (name, raw) in plan.items():
            if found[setting] == "":
                reasons.setdefault(name, "the phone does not tell how it is set now, so it could not be put back")
            elif setting in changed and (reason := self._change(setting, raw)):
                reasons.setdefault(name, reason)
        hint = "This phone's Android does not allow it."
        return (*refused, *(Absent(name=n, reason=r, hint=hint) for n, r in reasons.items()))

    def _change(self, setting: str, raw: str) -> str:
        """Why it was refused; empty where the phone took it and says so."""
        reason = self._write(setting, raw)
        if not reason and SETTINGS[setting].read and (now := self._read(setting)) != raw:
            return f"the phone took {raw!r} and still says {now!r}"
        return reason

    def restore(self) -> None:
        """Puts back what was found, and forgets it; what cannot be put back stays saved for the next time."""
        found = self._found()
        if not found:
            return
        known = {s: v for s, v in found.items() if s in SETTINGS and _VALUE.match(v)}
        failed = {setting: value for setting, value in known.items() if self._write(setting, value)}
        if failed != found:
            run_command(self._connection, f"rm -f {quoted(self._saved)}")
            if failed:
                self._save(failed)

    def _settings_of(self, name: str, value: str) -> Mapping[str, str] | None:
        if name == "governor":
            there = [s for s in SETTINGS if s.startswith("governor/") and self._read(s) not in ("", "null")]
            return dict.fromkeys(there, value) if there and _VALUE.match(value) else None
        return CONDITIONS.get(name, {}).get(value)

    def _read(self, setting: str) -> str:
        one = SETTINGS[setting]
        if not one.read:
            return one.keeps
        value = run_command(self._connection, one.read).text.strip()
        return (value if _VALUE.match(value) else "") or one.keeps

    def _write(self, setting: str, value: str) -> str:
        """Why it was refused; empty where it went through."""
        one = SETTINGS[setting]
        command = one.unset if value == "null" and one.unset else one.write.format(quoted(value))
        done = run_command(self._connection, command)
        if done.code == 0 and "Exception" not in done.stderr + done.text:
            return ""
        lines = (done.stderr.strip() or done.text.strip()).splitlines()
        return lines[0][:200] if lines else f"exit code {done.code}"

    def _found(self) -> dict[str, str]:
        """What is saved on the phone, as far as it is what melt saves."""
        done = run_command(self._connection, f"cat {quoted(self._saved)} 2>/dev/null")
        try:
            return {str(k): str(v) for k, v in dict(json.loads(done.text)["found"]).items()}
        except (ValueError, KeyError, TypeError, RecursionError):
            return {}

    def _save(self, found: Mapping[str, str]) -> None:
        """Before a change; what was found the first time is what is put back."""
        first = {s: v for s, v in self._found().items() if s in SETTINGS and _VALUE.match(v)}
        text = json.dumps({"found": {**found, **first}})
        new = quoted(f"{self._saved}.new")
        done = run_command(self._connection, f"echo {quoted(text)} > {new} && mv {new} {quoted(self._saved)}")
        if done.code != 0:
            raise DeviceError(
                f"{self._connection.name}: what the phone is set to now cannot be saved: {done.stderr.strip()}",
                "Without it nothing could be put back. Is the phone full? melt devices clean NAME",
            )


def _unknown(name: str, value: str) -> Absent:
    if name in CONDITIONS:
        return Absent(name=name, reason=f"{value!r} is no value of it", hint=f"Known: {', '.join(CONDITIONS[name])}.")
    reason = "cannot be set on this phone" if name == "governor" else "not known on Android"
    hint = "It needs root." if name == "governor" else f"Known: {', '.join([*CONDITIONS, 'governor'])}."
    return Absent(name=name, reason=reason, hint=hint)
