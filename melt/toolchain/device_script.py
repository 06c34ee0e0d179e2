"""The shell script that builds the runner on a device, and leaves nothing behind that a later build could trip over."""

import shlex
from collections.abc import Sequence

from melt.toolchain.build import NOT_OURS

# Here the compiler's name is fixed too, and so is make.
_NOT_OURS = " ".join((*NOT_OURS, "CXX", "MAKEFLAGS", "CMAKE_GENERATOR"))

# One build at a time in the folder. It ends with its host, which it knows by its standard input: with SIGTERM, so that
# make clears away what it was making. Where that did not happen (no power), the folder is built from the start.
_ALONE = """if command -v flock > /dev/null; then
  exec 9> lock
  flock -n 9 || { echo "error: another build is running in $PWD"; exit 1; }
fi
exec 8<&0
(cat <&8; kill -TERM 0) > /dev/null 2>&1 9>&- &
watcher=$!
trap 'exit 143' TERM INT HUP
trap 'rm -f building; kill $watcher 2> /dev/null' EXIT
if [ -e building ]; then rm -rf build; fi
: > building
"""


def build_script(place: str, archive: str, sha256: str, flags: Sequence[str], jobs: int) -> str:
    """POSIX sh: unpacks what is new and builds; what an earlier build made of the same llama.cpp is used again.

    Args:
        place: the build's folder, on the device.
        archive: the sources' archive, on the device.
        sha256: the archive's content.
        flags: CMake's definitions.
        jobs: compilers at a time.
    """
    configure = shlex.join(["cmake", "-G", "Unix Makefiles", "-S", "source/native", "-B", "build", *flags])
    return f"""set -e
exec 2>&1
unset {_NOT_OURS}
mkdir -p {shlex.quote(place)}
cd {shlex.quote(place)}
{_ALONE}if [ "$(cat source/unpacked 2> /dev/null)" != {sha256} ]; then
  rm -rf new
  mkdir new
  tar -xzmf {shlex.quote(archive)} -C new
  if [ -e source/unpacked ]; then
    echo nothing whole > source/unpacked
    rm -rf source/native
    mv new/native source/native
  else
    rm -rf source
    mv new source
  fi
  rm -rf new
  echo {sha256} > source/unpacked
fi
rm -f build/CMakeCache.txt build/melt-runner
{configure} -DLLAMA_CPP_DIR=../llama.cpp
cmake --build build --target melt-runner -j {jobs}
build/melt-runner info > /dev/null
"""
