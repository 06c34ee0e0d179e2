"""Brings the files of a model that lie apart on the device, each by its content, into one folder under their names."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from channel import JobError

_PREFIX = "melt-model."


def gather(model: str, files: Mapping[str, str], near: str) -> str:
    """The model's path in a folder where each file has its name.

    Nothing is made where they lie so already. Else the folder is made beside ``near`` and removed at the end; its
    files are hard links, because ONNX Runtime reads no weights through a link that leads out of the graph's folder.

    Raises:
        JobError: a name would leave the folder, or the folder cannot be made.
    """
    home = Path(model).parent
    if all(os.path.abspath(home / name) == os.path.abspath(place) for name, place in files.items()):  # noqa: PTH100
        return model
    try:
        for left in Path(near).absolute().parent.glob(f"{_PREFIX}*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=Path(near).absolute().parent))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name, place in {Path(model).name: model, **files}.items():
            target = folder / name
            if target == folder or not Path(os.path.abspath(target)).is_relative_to(folder):  # noqa: PTH100
                raise JobError("bad_job", f"{name!r} would lie outside the model's folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(place, target)
        return str(folder / Path(model).name)
    except OSError as e:
        raise JobError("model_load", f"the model's files cannot be brought together: {e}") from e


def _link(place: str, target: Path) -> None:
    try:
        os.link(place, target)
    except OSError:
        shutil.copyfile(place, target)
