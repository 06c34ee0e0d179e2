"""This process's memory, read between timed regions."""


def _kib_fields(path: str, wanted: dict[str, str]) -> dict[str, int]:
    found = {}
    try:
        with open(path) as f:  # noqa: PTH123 - the device program keeps its imports few
            for line in f:
                name, _, rest = line.partition(":")
                if name in wanted:
                    found[wanted[name]] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return found  # absent, not zero: the event then lacks the key
    return found


def process_memory(pss: bool) -> dict[str, int]:
    """Resident set, its peak, and where asked the proportional set; bytes. What cannot be read is left out.

    Reading PSS walks the page tables (milliseconds for a large model), so it is asked for only after
    the timed region.
    """
    found = _kib_fields("/proc/self/status", {"VmRSS": "rss_bytes", "VmHWM": "peak_rss_bytes"})
    if pss:
        found |= _kib_fields("/proc/self/smaps_rollup", {"Pss": "pss_bytes"})
    return found


def anonymous_bytes() -> int | None:
    """This process's resident memory that no file stands behind; None where it cannot be read."""
    return _kib_fields("/proc/self/status", {"RssAnon": "anonymous"}).get("anonymous")


def mapped_bytes(folder: str) -> int | None:
    """Bytes of files in a folder that this process still has mapped; None where it cannot be read."""
    found = 0
    try:
        with open("/proc/self/maps") as f:  # noqa: PTH123
            for line in f:
                parts = line.rstrip("\n").split(maxsplit=5)
                if len(parts) == 6 and parts[5].startswith(f"{folder}/"):
                    start, end = (int(at, 16) for at in parts[0].split("-"))
                    found += end - start
    except (OSError, ValueError):
        return None
    return found
