"""How to reach a host: what OpenSSH's own configuration says of it, and the profile above that."""

import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from melt.drivers.ssh.address import SshAddress
from melt.errors import ProfileError
from melt.spec.profile import DeviceProfile

PORT = 22
MAX_JUMPS = 8
_READ_S = 10.0
_JUMP = re.compile(r"(?:([^@]+)@)?(?:\[([^\]]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class Host:
    """One host on the way, or the device itself."""

    hostname: str
    port: int
    user: str | None
    known_as: str  # in known_hosts: HostKeyAlias, whatever the port, else the host's name
    is_alias: bool
    key_files: tuple[Path, ...]
    only_these_keys: bool  # IdentitiesOnly: the agent is not asked
    known_hosts: tuple[Path, ...]
    jumps: tuple[str, ...]  # the hosts before it, the first one first

    @property
    def entry(self) -> str:
        """Its name in known_hosts."""
        return self.known_as if self.is_alias or self.port == PORT else f"[{self.known_as}]:{self.port}"


def host_of(profile: DeviceProfile) -> Host:
    """The host of a profile.

    Raises:
        ProfileError: it names none, or OpenSSH cannot read its configuration.
    """
    address = SshAddress.of(profile)
    if not address.host:
        raise ProfileError(f"{profile.name}: names no host", "address: {host: ...}, as `ssh` would take it.")
    return read_host(address.host, address.user, address.port)


def read_host(name: str, user: str | None = None, port: int | None = None) -> Host:
    """A host by the name that ``ssh`` would take: user@host:port, host, or a Host of ~/.ssh/config.

    Raises:
        ProfileError: OpenSSH cannot make sense of it.
    """
    options = {**_defaults(name, user), **_effective(name, user, port)}
    hostname = options["hostname"][0]
    files = [Path(w).expanduser() for w in options["identityfile"]]
    if options.get("proxycommand", ["none"])[0] != "none":
        raise ProfileError(f"{name}: is reached by a ProxyCommand, which melt does not run", "ProxyJump is understood.")
    lines = (*options["userknownhostsfile"], *options.get("globalknownhostsfile", []))
    known = [Path(os.devnull if w == "none" else w).expanduser() for line in lines for w in line.split()]
    jumps = options.get("proxyjump", ["none"])[0]
    return Host(
        hostname=hostname,
        port=port or int(options.get("port", [str(PORT)])[0]),
        user=user or options.get("user", [None])[0],
        known_as=options.get("hostkeyalias", [hostname])[0],
        is_alias="hostkeyalias" in options,
        key_files=tuple(f for f in files if f.is_file()),
        only_these_keys=options.get("identitiesonly", ["no"])[0] == "yes",
        known_hosts=tuple(known),
        jumps=() if jumps == "none" else tuple(j.removeprefix("ssh://") for j in jumps.split(","))[:MAX_JUMPS],
    )


def read_jump(text: str) -> Host:
    """A host of ProxyJump: user@host:port, the host maybe in brackets."""
    match = _JUMP.fullmatch(text)
    if match is None:
        raise ProfileError(f"ProxyJump {text}: is no host", "Look at ~/.ssh/config: user@host:port")
    user, bracketed, host, port = match.groups()
    return read_host(bracketed or host, user, int(port) if port else None)


def _defaults(name: str, user: str | None) -> dict[str, list[str]]:
    """What holds where OpenSSH's client is not installed."""
    at, _, host = name.rpartition("@")
    folder = Path.home() / ".ssh"
    defaults = {"hostname": [host], "userknownhostsfile": [str(folder / "known_hosts")]}
    keys = [str(folder / f"id_{kind}") for kind in ("ed25519", "ecdsa", "rsa")]
    return {**defaults, "identityfile": keys, **({"user": [at or str(user)]} if at or user else {})}


def _effective(name: str, user: str | None, port: int | None) -> dict[str, list[str]]:
    """What ``ssh`` itself would do, with its Include, Match and patterns; empty where it is not installed."""
    ssh = shutil.which("ssh")
    if ssh is None:
        return {}
    # A name that begins with a dash would be an option.
    argv = [ssh, *_config(), "-G", *(["-p", str(port)] if port else []), *(["-l", user] if user else []), "--", name]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_READ_S, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ProfileError(f"{name}: ssh cannot be asked how to reach it: {e}", "Try: ssh -G and its name.") from e
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ProfileError(f"{name}: ssh: {said[0][:200]}", "Look at ~/.ssh/config and the profile's address.")
    options: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        options.setdefault(key, []).append(value)
    return options


def _config() -> list[str]:
    """The configuration of the home that HOME names, where that is another than the user's own."""
    home = Path.home()
    if str(home) == pwd.getpwuid(os.getuid()).pw_dir:
        return []
    config = home / ".ssh" / "config"
    return ["-F", str(config) if config.is_file() else "none"]
