"""This host's adb keys: those of the adb program, made where there are none. adb-shell reads and makes them."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from melt.drivers.adb.direct import Signer
from melt.errors import DeviceError

EXTRA_HINT = "pip install 'melt-bench[adb]', or start an adb server (adb start-server), which needs nothing of it."


def signers() -> Sequence[Signer]:
    """The signers of ``~/.android/adbkey`` and of ``ANDROID_VENDOR_KEYS``, the user's own first.

    Raises:
        DeviceError: adb-shell is not installed, or a key cannot be read or made.
    """
    try:
        from adb_shell.auth.sign_pythonrsa import PythonRSASigner
        from pyasn1.error import PyAsn1Error
    except ImportError as e:
        raise DeviceError(f"speaking to a phone without an adb server needs {e.name}", EXTRA_HINT) from e
    own = _own_key()
    keys: list[Signer] = []
    for path in (own, *_vendor_keys()):
        try:
            public = Path(f"{path}.pub")
            keys.append(PythonRSASigner(public.read_text() if public.exists() else None, path.read_text()))
        except (OSError, ValueError, PyAsn1Error) as e:
            raise DeviceError(f"{path}: cannot be used as an adb key", "Is it the private key of a pair?") from e
    return keys


def _own_key() -> Path:
    from adb_shell.auth import keygen

    folder = Path(os.environ.get("ANDROID_USER_HOME", "") or Path.home() / ".android")
    path = folder / "adbkey"
    try:
        if not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # adb-shell writes with the user's umask; in a folder of our own nobody else sees the key meanwhile.
            with tempfile.TemporaryDirectory(dir=folder) as private:
                made = Path(private) / "adbkey"
                keygen.keygen(str(made))
                made.chmod(0o600)
                made.with_suffix(".pub").replace(folder / "adbkey.pub")
                made.replace(path)
        elif not path.with_suffix(".pub").exists():
            keygen.write_public_keyfile(str(path), str(path.with_suffix(".pub")))
    except OSError as e:
        raise DeviceError(f"{path}: {e.strerror}", "It is the adb program's key; adb keygen makes one.") from e
    return path


def _vendor_keys() -> list[Path]:
    paths: list[Path] = []
    for word in os.environ.get("ANDROID_VENDOR_KEYS", "").split(os.pathsep):
        if word:
            path = Path(word)
            paths += sorted(path.glob("*.adb_key")) if path.is_dir() else [path] if path.exists() else []
    return paths
