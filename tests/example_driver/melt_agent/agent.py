"""The program on the device: ``python3 agent.py SOCKET`` runs a script for each connection. Standard library only.

A connection begins with a line of JSON, the script and whether its process ids are wanted. Then come frames, a letter
and the length of what follows: i input, c the input's end; o and e what the script says, x its exit code.
"""

import contextlib
import json
import os
import signal
import socketserver
import struct
import subprocess
import sys
import threading
from typing import IO, Any

FRAME = struct.Struct(">cI")


def send(stream: Any, kind: bytes, content: bytes = b"") -> None:
    stream.write(FRAME.pack(kind, len(content)) + content)
    stream.flush()


def receive(stream: Any) -> "tuple[bytes, bytes] | None":
    head = stream.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    kind, size = FRAME.unpack(head)
    return kind, stream.read(size)


class Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        script = f"echo $$ $$; {request['script']}" if request["ids"] else request["script"]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            ["/bin/sh", "-c", script], bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        ) as child:
            threading.Thread(target=self.answer, args=(child,), daemon=True).start()
            with contextlib.suppress(OSError, ValueError):
                while frame := receive(self.rfile):
                    if frame[0] == b"i" and child.stdin:
                        child.stdin.write(frame[1])
                    elif child.stdin:
                        child.stdin.close()
            with contextlib.suppress(ProcessLookupError):  # whoever asked is gone
                os.killpg(child.pid, signal.SIGKILL)

    def answer(self, child: "subprocess.Popen[bytes]") -> None:
        sending = threading.Lock()

        def bring(kind: bytes, pipe: "IO[bytes] | None") -> None:
            while pipe and (data := pipe.read(65536)):
                with sending, contextlib.suppress(OSError):
                    send(self.wfile, kind, data)

        errors = threading.Thread(target=bring, args=(b"e", child.stderr), daemon=True)
        errors.start()
        bring(b"o", child.stdout)
        errors.join()
        code = child.wait()
        with contextlib.suppress(OSError):
            send(self.wfile, b"x", bytes([128 - code if code < 0 else code]))


class Agent(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    with Agent(sys.argv[1], Connection) as agent:
        agent.serve_forever()
