"""How a profile names an Android phone."""

from typing import Annotated, Literal

from pydantic import Field

from melt.drivers.plugin import Address


class AdbAddress(Address):
    """An Android phone, by a cable or by Wi-Fi."""

    serial: str | None = Field(default=None, description="As `adb devices` lists it.")
    model: str | None = Field(default=None, description="The ro.product.model meant: 'Pixel 8', 'SM-S911*'.")
    host: str | None = Field(default=None, description="Over the network.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    connector: Literal["auto", "server", "direct"] = Field(
        default="auto",
        description="Through the adb server, or directly; auto takes the server if there is one.",
    )
