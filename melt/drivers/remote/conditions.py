"""A device's conditions: saved on it before they are set, put back afterwards, also after a crash of the host.

What a condition sets is a few settings of the device, each of which can be read and written by itself.
"""

import json
import re
from collections.abc import Iterable, Mapping

from melt.drivers.remote.base import Remote, quoted
from melt.drivers.remote.process import run_command
from melt.drivers.remote.settings import Knobs
from melt.errors import DeviceError
from melt.telemetry.source import Absent

_VALUE = re.compile(r"^[A-Za-z0-9._-]{0,64}$")


class RemoteConditions:
    """What was found is on the device before anything is changed, so that any host's next run restores it."""

    def __init__(self, remote: Remote, saved: str, knobs: Knobs) -> None:
        self._remote = remote
        self._saved = saved
        self._knobs = knobs
        self._settings = knobs.known

    def set(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets each condition; what is unknown or refused comes back with its reason.

        A setting that reads as something else after it was written was refused, whatever the device said.
        """
        refused, plan = [], dict[str, tuple[str, str]]()
        for name, value in wanted.items():
            settings = self._settings_of(name, value)
            if settings is None:
                refused.append(self._unknown(name, value))
                continue
            plan |= {setting: (name, raw) for setting, raw in settings.items()}
        before = {setting: self._read(setting) for setting in self._in_order(plan)}
        if changed := {s: v for s, v in before.items() if v not in ("", plan[s][1])}:
            dependent = {s: self._read(s) for one in changed for s in self._settings[one].moves if s not in plan}
            self._save({s: v for s, v in dependent.items() if v} | changed)
        reasons: dict[str, str] = {}
        moved = False
        for setting, value in before.items():
            name, raw = plan[setting]
            if value == "":
                reasons.setdefault(
                    name, f"the {self._remote.what} does not tell how it is set now, so it could not be put back"
                )
            elif (self._read(setting) if moved else value) != raw:
                moved = True
                if reason := self._change(setting, raw):
                    reasons.setdefault(name, reason)
        hint = f"This {self._remote.what}'s {self._knobs.system} does not allow it."
        return (*refused, *(Absent(name=n, reason=r, hint=hint) for n, r in reasons.items()))

    def _in_order(self, settings: Iterable[str]) -> list[str]:
        """As the settings are declared: one may undo another that was set before it, and is read again after it."""
        return sorted(settings, key=list(self._settings).index)

    def _change(self, setting: str, raw: str) -> str:
        """Why it was refused; empty where the device took it and says so."""
        reason = self._write(setting, raw)
        if not reason and self._settings[setting].read and (now := self._read(setting)) != raw:
            return f"the {self._remote.what} took {raw!r} and still says {now!r}"
        return reason

    def restore(self) -> tuple[Absent, ...]:
        """Puts back what was found, and forgets it; what cannot be put back stays saved for the next time.

        Returns:
            What could not be put back, with the reason.
        """
        saved = self._read_saved()
        known = {s: v for s, v in saved.items() if s in self._settings and _VALUE.match(v)}
        failed = {s: reason for s in self._in_order(known) if (reason := self._put_back(s, known[s]))}
        if saved and failed.keys() != saved.keys():
            run_command(self._remote, f"rm -f {quoted(self._saved)}")
            if failed:
                self._save({s: known[s] for s in failed})
        hint = "Set it there by hand; the next run tries again."
        return tuple(Absent(name=s, reason=f"{known[s]}: {r}", hint=hint) for s, r in failed.items())

    def _put_back(self, setting: str, value: str) -> str:
        """Why it could not be; empty where it is as it was, as one that could not be set at all is."""
        if self._settings[setting].read and self._read(setting) == value:
            return ""
        # What was not set at all is there as whatever the device takes that for.
        return self._write(setting, value) if value == "null" else self._change(setting, value)

    def _settings_of(self, name: str, value: str) -> Mapping[str, str] | None:
        if name == "governor":
            there = [s for s in self._governors() if self._read(s) not in ("", "null")]
            return dict.fromkeys(there, value) if there and _VALUE.match(value) else None
        return self._knobs.conditions().get(name, {}).get(value)

    def _governors(self) -> list[str]:
        """One setting a policy that is there."""
        listed = re.findall(
            r"/(policy[0-9]+)/scaling_governor$", run_command(self._remote, self._knobs.policies).text, re.M
        )
        return [s for s in (f"governor/{policy}" for policy in listed) if s in self._settings]

    def _read(self, setting: str) -> str:
        one = self._settings[setting]
        if not one.read:
            return one.keeps
        value = run_command(self._remote, one.read).text.strip()
        return (value if _VALUE.match(value) else "") or one.keeps

    def _write(self, setting: str, value: str) -> str:
        """Why it was refused; empty where it went through."""
        one = self._settings[setting]
        command = one.unset if value == "null" and one.unset else one.write.format(quoted(value))
        done = run_command(self._remote, command)
        if done.code == 0 and "Exception" not in done.stderr + done.text:
            return ""
        lines = (done.stderr.strip() or done.text.strip()).splitlines()
        return lines[0][:200] if lines else f"exit code {done.code}"

    def _read_saved(self) -> dict[str, str]:
        """What is saved on the device, as far as it is what melt saves."""
        done = run_command(self._remote, f"cat {quoted(self._saved)} 2>/dev/null")
        try:
            return {str(k): str(v) for k, v in dict(json.loads(done.text)["found"]).items()}
        except (ValueError, KeyError, TypeError, RecursionError):
            return {}

    def _save(self, values: Mapping[str, str]) -> None:
        """Before a change; what was found the first time is what is put back."""
        first = {s: v for s, v in self._read_saved().items() if s in self._settings and _VALUE.match(v)}
        text = json.dumps({"found": {**values, **first}})
        new = quoted(f"{self._saved}.new")
        done = run_command(self._remote, f"echo {quoted(text)} > {new} && mv {new} {quoted(self._saved)}")
        if done.code != 0:
            name = self._remote.name
            raise DeviceError(
                f"{name}: what it is set to now cannot be saved: {done.stderr.strip()}",
                f"Without it nothing could be put back. Is its disk full? melt devices clean {name} makes room.",
            )

    def _unknown(self, name: str, value: str) -> Absent:
        conditions = self._knobs.conditions()
        if name in conditions:
            hint = f"Known: {', '.join(conditions[name])}."
            return Absent(name=name, reason=f"{value!r} is no value of it", hint=hint)
        if name == "governor":
            return Absent(name=name, reason=f"cannot be set on this {self._remote.what}", hint="It needs root.")
        hint = f"Known: {', '.join([*conditions, 'governor'])}."
        return Absent(name=name, reason=f"not known on {self._knobs.system}", hint=hint)
