"""The phone's key, the hosts that it trusts, and the TLS that both sides hold each other to."""

import ssl
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


class Trust:
    """Hosts by their HostID, each with the certificates that it made when it was paired."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._hosts: dict[str, dict[str, Any]] = {}

    @property
    def public_key(self) -> bytes:
        """The phone's, as lockdownd gives it."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)

    def trust(self, record: dict[str, Any]) -> None:
        """Keeps a host; raises KeyError where its record lacks something."""
        self._hosts[record["HostID"]] = {
            k: record[k] for k in ("DeviceCertificate", "HostCertificate", "RootCertificate")
        }

    def trusts(self, host_id: str) -> bool:
        """Whether the host was paired and not forgotten since."""
        return host_id in self._hosts

    def forget(self, host_id: str) -> None:
        """As ``Unpair`` does, or a person who resets Location & Privacy."""
        self._hosts.pop(host_id, None)

    def forget_all(self) -> None:
        """Every host has to be trusted anew."""
        self._hosts.clear()

    def context(self, host_id: str) -> ssl.SSLContext:
        """For a connection that only this host may make."""
        record = self._hosts[host_id]
        own = self._folder / "device.pem"
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        own.write_bytes(record["DeviceCertificate"].strip() + b"\n" + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ALL:@SECLEVEL=0")  # what hosts make themselves is signed as it always was
        context.load_cert_chain(own)
        context.load_verify_locations(cadata=(record["RootCertificate"] + b"\n" + record["HostCertificate"]).decode())
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED
        return context
