"""The conditions of a board: the clock governor, and a Jetson's power modes by nvpmodel."""

from melt.drivers.remote.conditions import Conditions, Setting
from melt.telemetry.base import Inventory
from melt.telemetry.linux_facts import power_modes

# Setting a mode is root's, or sudo's where it asks for no password. A mode that needs a reboot asks for one, and its
# empty input is no yes.
_SET_MODE = """if [ "$(id -u)" = 0 ]; then sudo=; else sudo='sudo -n'; fi
said=$($sudo nvpmodel -m {} </dev/null 2>&1); r=$?
case $said in
*[Rr]eboot*) echo 'it takes a reboot, which melt does not do: set it by hand' >&2; exit 1 ;;
esac
echo "$said" >&2; exit $r"""
SETTINGS = {"power_mode": Setting(_SET_MODE, "nvpmodel -q 2>/dev/null | tail -n 1")}


def board_conditions(inventory: Inventory) -> Conditions:
    """What can be set on this board."""
    modes = power_modes(inventory)
    return {"power_mode": {name: {"power_mode": str(number)} for number, name in modes.items()}} if modes else {}
