"""The conditions of a phone, and the knobs of Android that make each of them so."""

from collections.abc import Mapping

from melt.drivers.remote.base import Remote
from melt.drivers.remote.conditions import RemoteConditions
from melt.drivers.remote.knobs import Conditions, Knob, Knobs

UNDO_S = 20  # less than a command of melt's waits for its answer
_PENDING = "/data/local/tmp/.melt-airplane"


def airplane_mode(undo_s: int) -> Knob:
    """Wi-Fi comes back in the same command line: adb may be running over it. Whether it was on is asked before, since
    some phones say no as soon as airplane mode is set. Where it does not come back, nobody could undo it from afar: the
    phone does so itself, unless it is told soon that it is still heard."""
    undo = (
        f'sleep {undo_s}; [ "$(cat {_PENDING} 2>/dev/null)" = "$0" ] && '  # and not of a later time, or of none
        f"cmd connectivity airplane-mode disable && rm -f {_PENDING}"
    )
    return Knob(
        f"wifi=$(settings get global wifi_on); if [ {{}} = 1 ]; then echo $$ > {_PENDING}; "
        f"setsid sh -c '{undo}' $$ </dev/null >/dev/null 2>&1 & cmd connectivity airplane-mode enable; "
        '[ "$wifi" = 0 ] || svc wifi enable; else cmd connectivity airplane-mode disable; fi',
        "settings get global airplane_mode_on",
        confirm=f"rm -f {_PENDING}",
    )


def _setting(name: str) -> Knob:
    space, key = name.split("/")
    return Knob(f"settings put {space} {key} {{}}", f"settings get {space} {key}", f"settings delete {space} {key}")


KNOBS: Mapping[str, Knob] = {
    **{
        name: _setting(name)
        for name in (
            "global/stay_on_while_plugged_in",
            "system/screen_brightness_mode",
            "system/screen_brightness",
            "system/screen_off_timeout",
        )
    },
    "airplane_mode": airplane_mode(UNDO_S),
    "doze": Knob(
        "if [ {} = 1 ]; then dumpsys deviceidle enable; else dumpsys deviceidle disable; fi",
        "dumpsys deviceidle enabled",
    ),
    "fixed_performance": Knob("cmd power set-fixed-performance-mode-enabled {}", keeps="false"),
    # Few phones honour it, and the others keep the property all the same: the battery says whether it is charged.
    "charging_suspended": Knob(
        "setprop power.battery_input.suspended {}",
        "getprop power.battery_input.suspended",
        keeps="false",
        effect="case $(dumpsys battery | grep -m1 ' status: ') in *2|*5) echo false ;; *) echo true ;; esac",
    ),
}
# What a profile may ask for, and the knobs that make it so.
CONDITIONS: Conditions = {
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


def phone_conditions(remote: Remote, saved: str) -> RemoteConditions:
    """Those of a phone."""
    return RemoteConditions(remote, saved, Knobs("Android", KNOBS, lambda: CONDITIONS))
