"""The one family of errors that melt shows to people.

Every error carries a message (what is wrong, naming file, line or field) and a hint (what to do).
The command line prints both without a traceback and leaves with the class's ``exit_code``.
"""

from typing import ClassVar


class MeltError(Exception):
    """Something a person can act on.

    Args:
        message: what is wrong, in one sentence that names the file, field or device.
        hint: what to do about it; empty when there is nothing to advise.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class PlanError(MeltError):
    """The plan or the command line asks for something that cannot be."""


class ProfileError(MeltError):
    """A device profile is missing or wrong."""


class ModelError(MeltError):
    """A model reference or file cannot be used."""


class StoreError(MeltError):
    """A results folder cannot be read or written."""


class ReportError(MeltError):
    """A report cannot be made from these results."""


class RunnerError(MeltError):
    """The on-device program or its engine is missing, or cannot be started at all.

    A runner that starts and then fails is a failed run, not an exception.
    """

    exit_code = 3


class DeviceError(MeltError):
    """The device cannot be reached, is busy, or refuses what was asked."""

    exit_code = 3


class TransientDeviceError(DeviceError):
    """A device error that may pass by itself; the only kind that is retried."""


class DeviceGoneError(TransientDeviceError):
    """A device that went away was waited for, and has not come back: the next thing asked of it would wait again."""
