"""Who a device is: known on this machine by its serial's hash, and told to others by a word that nobody can search for.

A serial has few digits, so its bare hash is as good as the serial. What results keep is hashed again with a salt that
lies in the user's data folder; whoever has the results alone cannot tell which device they are of.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

import platformdirs

from melt.errors import DeviceError
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile

_LENGTH = 16


def data_folder() -> Path:
    """What melt must not lose: ``MELT_DATA``, or the platform's data folder."""
    given = os.environ.get("MELT_DATA")
    return Path(given).absolute() if given else Path(platformdirs.user_data_dir("melt"))


def told(profile: DeviceProfile, facts: DeviceFacts, *, looking: bool = False) -> DeviceFacts:
    """A device's facts as results may keep them; ``identity`` stays with this process.

    Args:
        profile: its ``known_as`` is the word for it on every machine.
        facts: as the driver gives them.
        looking: nothing is made on this machine; without a salt no results can have a salted hash.

    Raises:
        DeviceError: there is no salt and none can be made.
    """
    identity, word = facts.serial_hash, facts.serial_hash
    if profile.known_as:
        word = hashlib.sha256(b"known as " + profile.known_as.encode()).hexdigest()[:_LENGTH]
    elif identity is not None and (salt := _salt(make=not looking)) is not None:
        word = hashlib.sha256(salt + identity.encode()).hexdigest()[:_LENGTH]
    return facts.model_copy(update={"identity": identity, "serial_hash": word})


def _salt(*, make: bool) -> bytes | None:
    path = data_folder() / "salt"
    with suppress(FileNotFoundError):
        return _read(path)
    if not make:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".salt-{os.getpid()}")
        draft.write_text(f"{secrets.token_hex(32)}\n", encoding="ascii")
        draft.chmod(0o600)
        with suppress(FileExistsError):  # of two melts that make one at once the first's holds
            os.link(draft, path)
        draft.unlink()
    except OSError as e:
        raise DeviceError(f"{path}: cannot be written: {e.strerror}", "Set MELT_DATA to a folder that can be.") from e
    return _read(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except FileNotFoundError:
        raise
    except OSError as e:
        raise DeviceError(f"{path}: cannot be read: {e.strerror}", "Set MELT_DATA to a folder of your own.") from e
