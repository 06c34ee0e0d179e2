"""Whether the doubles are as they were when their own tests last passed.

``tested.sha256`` beside this file is the digest of the folder's content at that time, and is committed. Thus a clean
clone knows as well as a working tree: where the two differ, ``make test`` runs the doubles' tests and writes it anew.
"""

import hashlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
STAMP = HERE / "tested.sha256"


def digest(folder: Path = HERE) -> str:
    """Of the names and contents of all files, but for the stamp and what Python has compiled."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != STAMP.name and path.suffix != ".pyc":
            total.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def main() -> None:
    """Without words, ends with 0 where the tests have passed; with ``--write``, notes that they have."""
    if sys.argv[1:] == ["--write"]:
        STAMP.write_text(f"{digest()}\n")
    elif not STAMP.exists() or STAMP.read_text().strip() != digest():
        sys.exit(1)


if __name__ == "__main__":
    main()
