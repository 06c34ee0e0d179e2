"""A simulated iPhone as a process of its own, so that a client's work and the phone's are told apart.

    python -m tests.peers.iphone FOLDER BUNDLE_ID [PROGRAM]

Prints the path of usbmuxd's Unix socket and the container of an app of that id, whose program is one of this machine.
Ends with its stdin.
"""

import sys
from pathlib import Path

from tests.peers.iphone.app import App
from tests.peers.iphone.phone import IPhone


def main() -> None:
    """See the module."""
    with IPhone(Path(sys.argv[1])) as phone:
        program = Path(sys.argv[3]) if len(sys.argv) > 3 else None
        app = phone.install(App(sys.argv[2], "0.1.0", program))
        path = phone.folder / "usbmuxd.sock"
        phone.usbmuxd.listen_at(path)
        print(path, flush=True)
        print(phone.apps.container(app), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
