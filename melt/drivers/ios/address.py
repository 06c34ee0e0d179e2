"""How a profile names an iPhone."""

from typing import Annotated

from pydantic import Field

from melt.drivers.plugin import Address


class IosAddress(Address):
    """An iPhone, by a cable or by Wi-Fi."""

    udid: str | None = Field(default=None, description="As `melt devices` lists it.")
    model: str | None = Field(default=None, description="The ProductType meant: 'iPhone16,1'.")
    host: str | None = Field(default=None, description="Of a tunnel that root has opened, with its port.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
