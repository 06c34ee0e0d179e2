"""This machine itself."""

from melt.drivers.local.driver import connect

__all__ = ["connect"]
