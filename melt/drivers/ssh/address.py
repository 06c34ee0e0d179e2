"""How a profile names a host that is reached by SSH."""

from typing import Annotated

from pydantic import Field

from melt.drivers.plugin import Address


class SshAddress(Address):
    """A board or any other Linux host."""

    host: str | None = Field(
        default=None, description="What ssh would take: a Host of ~/.ssh/config, a name or an address."
    )
    user: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
