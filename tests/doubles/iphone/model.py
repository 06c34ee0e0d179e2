"""Which iPhones are simulated, and what tells one from the other."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """An iPhone as it was sold, with one iOS on it."""

    product_type: str
    hardware: str
    platform: str
    architecture: str
    board_id: int
    chip_id: int
    version: str
    build: str

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor of its iOS."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    @property
    def has_rsd(self) -> bool:
        """Whether its developer services are found by RemoteServiceDiscovery alone."""
        return self.release >= (17, 0)

    @property
    def has_tunnel_service(self) -> bool:
        """Whether lockdownd gives a tunnel to them."""
        return self.release >= (17, 4)

    @property
    def image_type(self) -> str:
        """Of its developer disk image."""
        return "Personalized" if self.has_rsd else "Developer"


IPHONE_8 = Model("iPhone10,4", "D201AP", "t8015", "arm64", 0x0A, 0x8015, "16.7.10", "20H350")
IPHONE_13 = Model("iPhone14,5", "D17AP", "t8110", "arm64e", 0x0A, 0x8110, "17.5.1", "21F90")
IPHONE_13_BEFORE_TUNNELS = Model("iPhone14,5", "D17AP", "t8110", "arm64e", 0x0A, 0x8110, "17.3.1", "21D61")
