"""The job of a cell, its model's file and a program's environment: what backends have in common."""

from pathlib import Path
from typing import TYPE_CHECKING

from melt.backends.cores import cpu_mask
from melt.drivers.base import DeviceFile
from melt.errors import RunnerError
from melt.models.formats import FORMATS
from melt.models.refs import parse_ref
from melt.spec.cell import AXES, Cell
from melt.spec.facts import DeviceFacts
from melt.spec.job import Job, Workload

if TYPE_CHECKING:
    from melt.models.info import Format, ModelFile, ModelInfo


def check_format(cell: Cell, wanted: "Format", backend: str) -> None:
    """Raises RunnerError where the cell's model is of a format that the backend does not read."""
    if parse_ref(cell.model).format != wanted:
        rules = FORMATS[wanted]
        raise RunnerError(
            f"{backend} reads {rules.noun}s, and {cell.model} is none",
            f"Name one, for example {rules.example}. In a plan of several engines `exclude` says which go together.",
        )


def model_files(model: "ModelInfo") -> dict[str, DeviceFile]:
    """A GGUF model as it goes to a device, by the keys of a bundle; in several files, all into one folder."""
    others = {f"model/{f.name}": _part(model, f) for f in model.files[1:]}
    return {"model": model_file(model), **others}


def model_file(model: "ModelInfo") -> DeviceFile:
    """The file that an engine is given, which is all of the model or the first of several."""
    if model.files:
        return _part(model, model.files[0])
    path = Path(model.path)
    return DeviceFile(path.name, path, model.sha256, model.file_bytes)


def _part(model: "ModelInfo", file: "ModelFile") -> DeviceFile:
    path = Path(model.path).with_name(file.name)
    return DeviceFile(file.name, path, file.sha256, file.size_bytes, whole_sha256=model.sha256)


def vendor_libraries(cell: Cell, facts: DeviceFacts) -> dict[str, str]:
    """For a program's environment: a phone's GPU and NPU libraries are its maker's, outside the loader's folders."""
    is_accelerated_phone = cell.accelerator != "cpu" and facts.platform == "android"
    return {"LD_LIBRARY_PATH": "/vendor/lib64"} if is_accelerated_phone else {}


def job_for(cell: Cell, facts: DeviceFacts, job_id: str, engine: str) -> Job:
    """The job of a run, its model by the key ``model``; threads default to the physical cores, or to the mask's."""
    mask = cpu_mask(cell.cores, facts)
    fields = {axis.job: getattr(cell, name) for name, axis in AXES.items() if axis.job and cell.means(axis)}
    of_workload = [key for key in fields if key.startswith("workload.")]
    return Job(
        **{key: value for key, value in fields.items() if key not in of_workload},
        workload=Workload(**{key.removeprefix("workload."): fields[key] for key in of_workload}),
        job_id=job_id,
        engine=engine,
        model="model",
        threads=cell.threads or _threads(mask, facts),
        cpu_mask=mask,
    )


def _threads(mask: int | None, facts: DeviceFacts) -> int:
    return mask.bit_count() if mask else facts.physical_cores or facts.logical_cores or 1
