"""The entry point, also of ``python -m melt``."""

from melt.util.interrupt import leave_when_interrupted


def main() -> None:
    """Imports the command line and gives it over; interrupted before that, melt just ends."""
    leave_when_interrupted()
    from melt.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
