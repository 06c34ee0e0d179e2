"""What stands in the way of a device's runs is told by `melt doctor`, with the mend."""

import pytest

from melt.doctor.device import check_device
from tests.drivers.faults import Device
from tests.drivers.faulty_devices import DEVICES

pytestmark = pytest.mark.root


@pytest.fixture(params=DEVICES)
def device(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Device:
    made = DEVICES[request.param](request, tmp_path_factory.mktemp("device"))
    for name, seconds in made.patience.items():
        monkeypatch.setattr(name, seconds)
    return made


def test_a_full_disk_is_told_with_what_to_remove(device: Device) -> None:
    device.fill_disk()
    try:
        [room] = [c for c in check_device(device.profile) if c.name == "room"]
    finally:
        device.free_disk()
    assert room.state == "warning"
    assert room.fix.startswith("melt devices clean ")


def test_a_device_that_is_out_of_reach_is_told_with_what_to_look_at(device: Device) -> None:
    device.switch_off()
    try:
        [told] = check_device(device.profile)
    finally:
        device.switch_on()
    assert (told.state, told.name) == ("problem", f"device {device.profile}")
    assert told.found
    assert told.fix
