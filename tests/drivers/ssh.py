"""What tests of the SSH driver share: a server whose key is known, and what is opened to it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from melt.drivers.base import DeviceFile
from melt.drivers.ssh.connect import open_way
from melt.drivers.ssh.driver import SshDriver
from melt.drivers.ssh.remote import SshRemote
from melt.spec.profile import DeviceProfile
from tests.doubles.sshd import Sshd
from tests.drivers.conftest import enrol_all, ssh_profile_of

MIB = 2**20


@pytest.fixture
def profile(board: Sshd) -> DeviceProfile:
    found = ssh_profile_of(board)
    enrol_all(found)
    return found


@pytest.fixture
def driver(profile: DeviceProfile) -> Iterator[SshDriver]:
    opened = SshDriver(profile)
    yield opened
    opened.close()


@pytest.fixture
def remote(profile: DeviceProfile) -> Iterator[SshRemote]:
    opened = SshRemote(open_way(profile), "board")
    yield opened
    opened.close()


def a_file(folder: Path, size: int) -> DeviceFile:
    content = os.urandom(size)
    path = folder / "model.gguf"
    path.write_bytes(content)
    return DeviceFile(path.name, path, hashlib.sha256(content).hexdigest(), size)
