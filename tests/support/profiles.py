"""Profiles as files, as a person writes them."""

from pathlib import Path

import yaml


def write_profile(path: Path, driver: str, **content: object) -> str:
    """Writes the profile that the file is named after; gives the file as a plan names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"name": path.stem, "driver": driver, **content}))
    return str(path)
