"""Process 1 of the box: starts Google's adbd confined to it, and buries whatever dies.

Each line of its input starts adbd once more; the end of its input ends the box, as does the kernel when the
process above dies. It prints the pids that the host knows it and adbd by. Run as a script with nothing but the
standard library; it stays outside the root that adbd sees, where Python is.
"""

import ctypes
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path

ADBD = "/usr/lib/android-sdk/platform-tools/adbd"
SHELL_USER = 2000
# input, log, adb, sdcard_rw, sdcard_r, inet and readproc, as a phone's shell has them.
SHELL_GROUPS = [1004, 1007, 1011, 1015, 1028, 3003, 3009]
ENVIRONMENT = {
    "PATH": "/product/bin:/system_ext/bin:/system/bin:/system/xbin:/odm/bin:/vendor/bin:/vendor/xbin",
    "ANDROID_ROOT": "/system",
    "ANDROID_DATA": "/data",
    "EXTERNAL_STORAGE": "/sdcard",
    "TMPDIR": "/data/local/tmp",
}
AF_VSOCK = 40
AF_NOT_SUPPORTED = 97
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SOCKET_CALL = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # audit architecture, system call


def refuse_vsock() -> None:
    """From here on, this process and its children are told that vsock does not exist.

    No network namespace confines vsock, and Debian's adbd listens on it: without this, anybody who can reach
    the host by vsock would get a shell.
    """
    architecture, socket_call = SOCKET_CALL[os.uname().machine]
    load, unless_equal, give = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | AF_NOT_SUPPORTED
    program = [  # (code, jump if true, jump if false, constant) over struct seccomp_data
        (load, 0, 0, 4),
        (unless_equal, 0, 5, architecture),
        (load, 0, 0, 0),
        (unless_equal, 0, 3, socket_call),
        (load, 0, 0, 16),
        (unless_equal, 0, 1, AF_VSOCK),
        (give, 0, 0, refuse),
        (give, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HL", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def host_pid() -> int:
    """This process's pid on the host, whose /proc is still the one mounted here."""
    return int(Path("/proc/self").readlink().name)


def start_adbd(folder: Path) -> None:
    if os.fork():
        return
    try:
        os.setsid()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)  # an ignored SIGHUP would be inherited by every shell
        signal.set_wakeup_fd(-1)
        log = os.open(folder / "adbd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        print("adbd", host_pid(), flush=True)
        for descriptor, file in enumerate([os.open(os.devnull, os.O_RDONLY), log, log]):
            os.dup2(file, descriptor)
        os.closerange(3, 1024)
        os.umask(0)
        os.chroot(folder / "root")
        os.chdir("/")
        os.setgroups(SHELL_GROUPS)
        os.setgid(SHELL_USER)
        refuse_vsock()
        os.setuid(SHELL_USER)
        os.execve(ADBD, [ADBD], ENVIRONMENT)
    except OSError as e:
        os.write(2, f"adbd did not start: {e}\n".encode())
    finally:
        os._exit(127)


def bury() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def main() -> None:
    folder = Path(sys.argv[1])
    woken, wakes = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    print("init", host_pid(), flush=True)
    while True:
        ready, _, _ = select.select([0, woken.fileno()], [], [])
        if woken.fileno() in ready:
            woken.recv(4096)
            bury()
        if 0 in ready:
            asked = os.read(0, 4096)
            if not asked:
                return
            for _ in range(asked.count(b"\n")):
                start_adbd(folder)


if __name__ == "__main__":
    main()
