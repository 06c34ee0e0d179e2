"""A phone's battery: what it holds, and how the maker's sysfs and Android's battery service show that."""

import re

from tests.doubles.phone.load import History, boot_ns
from tests.doubles.phone.recording import Recording
from tests.telemetry.replay import Sensor

CHARGER_W = 7.5
LEAST_UAH = 20_000
SAG_V_PER_W = 0.02
CHARGING, DISCHARGING, NOT_CHARGING = 2, 3, 4
STATUS = {CHARGING: "Charging", DISCHARGING: "Discharging", NOT_CHARGING: "Not charging"}


class Battery:
    """Starts from the recorded values and gives what the phone draws beyond what the charger brings.

    Attributes:
        charger_w: what the plugged-in charger brings; 0 without one.
        suspended: the phone has been told to leave the charger alone.
        volts, amps: now; amps are positive while discharging.
    """

    def __init__(self, recording: Recording, start_ns: int) -> None:
        self._recording = recording
        recorded = re.search(r"(\w+) powered: true", recording.battery)
        self._plug = recorded[1] if recorded else "USB"
        given = recording.traits.charger_w
        self.charger_w = given if given is not None else CHARGER_W if recorded else 0.0
        self.suspended = False
        volts = self._start("voltage_now", "voltage", 3850)
        self._open_volts = volts * (1e-6 if volts > 1e5 else 1e-3)  # uV in sysfs, mV in the service
        self._start_charge = self._start("charge_counter", "Charge counter", 3_000_000)
        self._start_temp = self._start("temp", "temperature", 250)
        self._body_c = 0.0
        self._current = History(start_ns, 0.0)
        self.volts, self.amps = self._open_volts, 0.0

    def step(self, now_ns: int, load_w: float, body_c: float) -> None:
        """From now on the phone draws this much; its body is so much warmer than recorded."""
        net_w = load_w - (0.0 if self.suspended else self.charger_w)
        self.volts = self._open_volts - SAG_V_PER_W * net_w
        self.amps = net_w / self.volts
        self._body_c = body_c
        self._current.add(now_ns, self.amps)

    @property
    def charge(self) -> float:
        """In uAh, or mAh where the recording has that; a phone that does not count says 0."""
        scale = 0.0 if not self._start_charge else 1e6 if self._start_charge >= LEAST_UAH else 1e3
        return self._start_charge - scale * self._current.integral(boot_ns()) / 3600

    @property
    def tenths_c(self) -> float:
        return self._start_temp + 10 * self._body_c

    @property
    def status(self) -> int:
        if not self.charger_w or self.suspended:
            return DISCHARGING
        return CHARGING if self.amps < 0 else NOT_CHARGING

    @property
    def current(self) -> float:
        """In the maker's unit and sign."""
        return self._signed(self.amps) * (1e6 if self._recording.traits.current_unit == "uA" else 1e3)

    def sensors(self) -> list[Sensor]:
        """Those of sysfs that the recording has."""
        microvolts = self._start("voltage_now", "voltage", 0) > 1e5
        shown = {
            "current_now": lambda _w, _j: self.current,
            "current_avg": lambda _w, _j: self.current,
            "voltage_now": lambda _w, _j: self.volts * (1e6 if microvolts else 1e3),
            "charge_counter": lambda _w, _j: self.charge,
            "temp": lambda _w, _j: self.tenths_c,
        }
        folder = self._recording.traits.battery
        return [
            Sensor(f"{folder}/{name}", v) for name, v in shown.items() if f"{folder}/{name}" in self._recording.tree
        ]

    def text(self) -> str:
        """`dumpsys battery`."""
        milliamps = round(self._signed(self.amps) * 1e3)
        now: dict[str, int | str] = {
            "[Cc]harge counter": round(self.charge),
            "voltage": round(self.volts * 1e3),
            "temperature": round(self.tenths_c),
            "status": self.status,
            "current now": milliamps,  # Samsung's
            "Battery current ": milliamps,  # OnePlus's
            **{f"{plug} powered": str(on).lower() for plug, on in self._plugs().items()},
        }
        text = self._recording.battery
        for key, value in now.items():
            text = re.sub(rf"(?m)^(\s*{key}:) .*$", rf"\g<1> {value}", text)
        return text

    def answers(self) -> dict[str, str]:
        """`cmd battery get`: a key that the recording has not got is unknown to the phone, and a 0 stays 0."""
        live = {
            "current_now": str(round(self.current)),
            "current_average": str(round(self.current)),
            "counter": str(round(self.charge)),
            "temp": str(round(self.tenths_c)),
            "status": str(self.status),
            **{plug.lower(): str(on).lower() for plug, on in self._plugs().items()},
        }
        known = {"counter": "1", "temp": "1", "status": "1"} | self._recording.get
        return {key: live.get(key, value) if value != "0" else value for key, value in known.items()}

    def _plugs(self) -> dict[str, bool]:
        return {plug: plug == self._plug and self.status != DISCHARGING for plug in ("AC", "USB", "Wireless", "Dock")}

    def _signed(self, amps: float) -> float:
        return -amps if self._recording.traits.current_sign == "negative" else amps

    def _start(self, file: str, key: str, otherwise: float) -> float:
        text = self._recording.tree.get(f"{self._recording.traits.battery}/{file}", "").strip()
        if re.fullmatch(r"-?\d+", text):
            return float(text)
        told = re.search(rf"(?m)^\s*{key}: (-?\d+)", self._recording.battery)
        return float(told[1]) if told else otherwise
