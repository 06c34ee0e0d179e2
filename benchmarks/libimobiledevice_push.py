"""libimobiledevice's own AFC client, as ideviceinstaller calls it: a file into an app's container, in parts of 1 MiB.

    python -m benchmarks.libimobiledevice_push BUNDLE_ID FILE TARGET [PART_MIB]

Prints the seconds of the transfer alone, as the phone's answer to the last part ends it.
"""

import ctypes
import ctypes.util
import sys
import time
from pathlib import Path

_WRITE_TRUNCATE = 3  # AFC_FOPEN_WRONLY


def main() -> None:
    """See the module."""
    bundle_id, source, target = sys.argv[1:4]
    part_bytes = (int(sys.argv[4]) if len(sys.argv) > 4 else 1) << 20
    library = ctypes.CDLL(ctypes.util.find_library("imobiledevice-1.0") or "libimobiledevice-1.0.so.6")
    device, arrest, afc = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    handle, written, answer = ctypes.c_uint64(), ctypes.c_uint32(), ctypes.c_void_p()
    _check(library.idevice_new(ctypes.byref(device), None))
    _check(library.house_arrest_client_start_service(device, ctypes.byref(arrest), b"melt"))
    _check(library.house_arrest_send_command(arrest, b"VendContainer", bundle_id.encode()))
    _check(library.house_arrest_get_result(arrest, ctypes.byref(answer)))
    _check(library.afc_client_new_from_house_arrest_client(arrest, ctypes.byref(afc)))
    library.afc_remove_path(afc, target.encode())  # of an earlier round
    began = time.perf_counter()
    _check(library.afc_file_open(afc, target.encode(), _WRITE_TRUNCATE, ctypes.byref(handle)))
    with Path(source).open("rb") as content:
        while part := content.read(part_bytes):
            _check(library.afc_file_write(afc, handle, part, len(part), ctypes.byref(written)))
            assert written.value == len(part)
    _check(library.afc_file_close(afc, handle))
    print(time.perf_counter() - began)


def _check(error: int) -> None:
    if error:
        raise SystemExit(f"libimobiledevice: error {error}")


if __name__ == "__main__":
    main()
