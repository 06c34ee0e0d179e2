"""The conditions of a Linux machine beyond its governor: a Jetson's power modes and locked clocks."""

from melt.drivers.remote.knobs import Conditions, Knob, below, literal
from melt.telemetry.linux_state import power_modes
from melt.telemetry.source import Inventory

# Both are root's, or sudo's where it asks for no password.
_TOOLS = ("nvpmodel", "jetson_clocks")
_SUDO = """if [ "$(id -u)" = 0 ]; then sudo=; else sudo='sudo -n'; fi
"""
# A mode that needs a reboot asks for one, and its empty input is no yes. Clocks that melt has locked are those of a
# mode, and are freed before it goes.
_SET_MODE = """{sudo}if [ -e {kept} ]; then $sudo jetson_clocks --restore {kept} >&2 && rm -f {kept}; fi
said=$($sudo nvpmodel -m {{}} </dev/null 2>&1); r=$?
case $said in
*[Rr]eboot*) echo 'it takes a reboot, which melt does not do: set it by hand' >&2; exit 1 ;;
esac
echo "$said" >&2; exit $r"""
# Errors of what is root's stand among the answers of other users.
_READ_MODE = "nvpmodel -q 2>/dev/null | grep -m 1 -x '[0-9][0-9]*'"
# As jetson_clocks --show has it, which is root's: every cluster's least clock is its greatest, and so is the GPU's.
_READ_CLOCKS = """cd /sys/class/devfreq 2>/dev/null
for least in /sys/devices/system/cpu/cpufreq/policy*/scaling_min_freq *gpu*/min_freq *g[avb]1[01]b*/min_freq; do
  [ -e "$least" ] || continue
  any=yes
  greatest=${least%min_freq}max_freq
  [ "$(cat "$least")" = "$(cat "$greatest")" ] || { echo free; exit; }
done
[ -z "$any" ] || echo locked"""
_SET_CLOCKS = """{sudo}case {{}} in
locked) rm -f {kept}; $sudo jetson_clocks --store {kept} >&2 && $sudo jetson_clocks >&2 ;;
free) if [ -e {kept} ]; then $sudo jetson_clocks --restore {kept} >&2 && rm -f {kept}; fi ;;
esac"""


def linux_knobs(saved: str, root: str = "") -> dict[str, Knob]:
    """What can be set one by one, in the order in which it is: a power mode has clocks of its own.

    Args:
        saved: where what was found is kept on the machine; jetson_clocks keeps its own beside it.
        root: where the machine's /sys is.
    """
    kept = literal(f"{saved}.clocks")
    return {
        "power_mode": Knob(_SET_MODE.format(sudo=_SUDO, kept=kept), _READ_MODE, moves=("clocks",), by_sudo=_TOOLS),
        "clocks": Knob(_SET_CLOCKS.format(sudo=_SUDO, kept=kept), below(root, _READ_CLOCKS), by_sudo=_TOOLS),
    }


def linux_conditions(inventory: Inventory) -> Conditions:
    """What can be set on this machine; without power modes it is no Jetson."""
    modes = power_modes(inventory)
    if not modes:
        return {}
    return {
        "power_mode": {name: {"power_mode": str(number)} for number, name in modes.items()},
        "clocks": {"locked": {"clocks": "locked"}},
    }
