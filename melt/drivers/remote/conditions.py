"""A device's conditions: saved on it before they are set, put back afterwards, also after a crash of the host.

What a condition sets is a few knobs of the device, each of which can be read and written by itself.
"""

import json
import re
import time
from collections.abc import Iterable, Mapping

from melt.drivers.remote.base import Remote, quoted
from melt.drivers.remote.knobs import Knobs
from melt.drivers.remote.process import run_command
from melt.errors import DeviceError
from melt.telemetry.source import Absent

_EFFECT_S = 5.0
_HEARD_S = 2.0  # a link that is cut is so by then
_VALUE = re.compile(r"^[A-Za-z0-9._-]{0,64}$")


class RemoteConditions:
    """What was found is on the device before anything is changed, so that any host's next run restores it."""

    def __init__(self, remote: Remote, saved: str, knobs: Knobs) -> None:
        self._remote = remote
        self._saved = saved
        self._knobs = knobs
        self._by_name = knobs.known
        self.changed: dict[str, str] = {}  # what was found of the knobs that this host has not put back yet

    def set(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """Sets each condition; what is unknown or refused comes back with its reason.

        A knob that reads as something else after it was written was refused, whatever the device said.
        """
        refused, plan = [], dict[str, tuple[str, str]]()
        for name, value in wanted.items():
            turned = self._turned_by(name, value)
            if turned is None:
                refused.append(self._unknown(name, value))
                continue
            plan |= {knob: (name, raw) for knob, raw in turned.items()}
        before = {knob: self._read(knob) for knob in self._in_order(plan)}
        if changed := {k: v for k, v in before.items() if v not in ("", plan[k][1])}:
            dependent = {k: self._read(k) for one in changed for k in self._by_name[one].moves if k not in plan}
            self._save({k: v for k, v in dependent.items() if v} | changed)
        reasons: dict[str, Absent] = {}
        moved = False
        for knob, value in before.items():
            name, raw = plan[knob]
            if value == "":
                untold = f"the {self._remote.what} does not tell how it is set now, so it could not be put back"
                reasons.setdefault(name, self._refused(name, knob, untold))
                continue
            reason = ""
            if (self._read(knob) if moved else value) != raw:
                moved = True
                reason = self._change(knob, raw)
            if reason := reason or self._without_effect(knob, raw):
                reasons.setdefault(name, self._refused(name, knob, reason))
        return (*refused, *reasons.values())

    def _refused(self, name: str, knob: str, reason: str) -> Absent:
        """A condition that is not set; where it is for want of a password, with the line that has sudo ask for none."""
        programs = self._by_name[knob].by_sudo
        if not programs or not reason.startswith("sudo:"):
            hint = f"This {self._remote.what}'s {self._knobs.system} does not allow it."
            return Absent(name=name, reason=reason, hint=hint)
        script = f"id -un; for p in {quoted(*programs)}; do command -v $p; done"
        user, *paths = run_command(self._remote, script).text.split() or ["USER"]
        line = f"{user} ALL=(root) NOPASSWD: {', '.join(paths)}"
        return Absent(name=name, reason=reason, hint=f"There, by sudo visudo -f /etc/sudoers.d/melt, this line: {line}")

    def unknown(self, wanted: Mapping[str, str]) -> tuple[Absent, ...]:
        """What of it there is not, with what there is; nothing is set."""
        return tuple(self._unknown(n, v) for n, v in wanted.items() if self._turned_by(n, v) is None)

    def _in_order(self, knobs: Iterable[str]) -> list[str]:
        """As the knobs are declared: one may undo another that was set before it, and is read again after it."""
        return sorted(knobs, key=list(self._by_name).index)

    def _change(self, knob: str, raw: str) -> str:
        """Why it was refused; empty where the device took it and says so."""
        reason = self._write(knob, raw)
        if not reason and self._by_name[knob].confirm:
            time.sleep(_HEARD_S)
        if not reason and self._by_name[knob].read and (now := self._read(knob)) != raw:
            return f"the {self._remote.what} took {raw!r} and still says {now!r}"
        if not reason and (confirm := self._by_name[knob].confirm):
            run_command(self._remote, confirm)
        return reason

    def _without_effect(self, knob: str, raw: str) -> str:
        """That a knob says what it was set to, and the device does otherwise; it has a while to follow."""
        one = self._by_name[knob]
        if not one.effect or raw == one.keeps:
            return ""
        deadline = time.monotonic() + _EFFECT_S
        while run_command(self._remote, one.effect).text.strip() != raw:
            if time.monotonic() > deadline:
                return f"the {self._remote.what} says {raw!r}, and does otherwise"
            time.sleep(_EFFECT_S / 10)
        return ""

    def restore(self) -> tuple[Absent, ...]:
        """Puts back what was found, and forgets it; what cannot be put back stays saved for the next time.

        Returns:
            What could not be put back, with the reason.
        """
        saved = self._read_saved()
        known = self._known(saved)
        failed = {k: reason for k in self._in_order(known) if (reason := self._put_back(k, known[k]))}
        self.changed.clear()
        self.changed.update({k: known[k] for k in failed})
        if saved and failed.keys() != saved.keys():
            run_command(self._remote, f"rm -f {quoted(self._saved)}")
            if failed:
                self._save({k: known[k] for k in failed})
        hint = "Set it there by hand; the next run tries again."
        return tuple(Absent(name=k, reason=f"{known[k]}: {r}", hint=hint) for k, r in failed.items())

    def saved(self) -> dict[str, str]:
        """What was found before it was changed, of every knob that is not put back yet."""
        return self._known(self._read_saved())

    def _known(self, saved: Mapping[str, str]) -> dict[str, str]:
        return {k: v for k, v in saved.items() if k in self._by_name and _VALUE.match(v)}

    def _put_back(self, knob: str, value: str) -> str:
        """Why it could not be; empty where it is as it was, as one that could not be set at all is."""
        if self._by_name[knob].read and self._read(knob) == value:
            return ""
        # What was not set at all is there as whatever the device takes that for.
        return self._write(knob, value) if value == "null" else self._change(knob, value)

    def _turned_by(self, name: str, value: str) -> Mapping[str, str] | None:
        if name == "governor":
            there = [k for k in self._governors() if self._read(k) not in ("", "null")]
            return dict.fromkeys(there, value) if there and _VALUE.match(value) else None
        return self._knobs.conditions().get(name, {}).get(value)

    def _governors(self) -> list[str]:
        """One knob a policy that is there."""
        listed = re.findall(
            r"/(policy[0-9]+)/scaling_governor$", run_command(self._remote, self._knobs.policies).text, re.M
        )
        return [k for k in (f"governor/{policy}" for policy in listed) if k in self._by_name]

    def _read(self, knob: str) -> str:
        one = self._by_name[knob]
        if not one.read:
            return one.keeps
        value = run_command(self._remote, one.read).text.strip()
        return (value if _VALUE.match(value) else "") or one.keeps

    def _write(self, knob: str, value: str) -> str:
        """Why it was refused; empty where it went through."""
        one = self._by_name[knob]
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
        first = self.saved()
        found = {**values, **first}
        text = json.dumps({"found": found})
        new = quoted(f"{self._saved}.new")
        done = run_command(self._remote, f"echo {quoted(text)} > {new} && mv {new} {quoted(self._saved)}")
        if done.code != 0:
            name = self._remote.name
            raise DeviceError(
                f"{name}: what it is set to now cannot be saved: {done.stderr.strip()}",
                f"Without it nothing could be put back. Is its disk full? melt devices clean {name} makes room.",
            )
        self.changed.update(found)

    def _unknown(self, name: str, value: str) -> Absent:
        conditions = self._knobs.conditions()
        if name in conditions:
            hint = f"Known: {', '.join(conditions[name])}."
            return Absent(name=name, reason=f"{value!r} is no value of it", hint=hint)
        if name == "governor":
            return Absent(name=name, reason=f"cannot be set on this {self._remote.what}", hint="It needs root.")
        hint = f"Known: {', '.join([*conditions, 'governor'])}."
        return Absent(name=name, reason=f"not known on {self._knobs.system}", hint=hint)
