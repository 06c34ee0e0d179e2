"""A simulated iPhone as a process of its own, so that a client's work and the phone's are told apart.

    python -m tests.doubles.iphone [--ios 17] FOLDER BUNDLE_ID [PROGRAM]

Prints the path of usbmuxd's Unix socket and the container of an app of that id, whose program is one of this machine.
Ends with its stdin.
"""

import argparse
import sys
from pathlib import Path

from tests.doubles.iphone.app import App
from tests.doubles.iphone.model import IPHONE_8, IPHONE_13
from tests.doubles.iphone.phone import IPhone

MODELS = {"16": IPHONE_8, "17": IPHONE_13}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ios", choices=MODELS, default="16", help="its major version")
    parser.add_argument("folder", type=Path)
    parser.add_argument("bundle_id")
    parser.add_argument("program", type=Path, nargs="?")
    args = parser.parse_args()
    with IPhone(args.folder, MODELS[args.ios]) as phone:
        app = phone.install(App(args.bundle_id, "0.1.0", args.program))
        path = phone.folder / "usbmuxd.sock"
        phone.usbmuxd.listen_at(path)
        print(path, flush=True)
        print(phone.apps.container(app), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
