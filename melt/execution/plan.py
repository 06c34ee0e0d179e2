"""A plan on its devices: admitted, made ready, and measured."""

from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from melt.execution.agenda import agenda
from melt.execution.devices import Device, open_device
from melt.execution.executor import Executor, Outcome
from melt.execution.preflight import Preflight, preflight
from melt.execution.progress import Planned, Watcher
from melt.execution.side_by_side import at_once, side_by_side
from melt.models.refs import resolve
from melt.spec.facts import DeviceFacts
from melt.spec.plan import Plan, load_plan
from melt.spec.profile import DeviceProfile
from melt.store.store import Store
from melt.util.locks import in_use


def run(
    plan: Plan | str | Path,
    results: str | Path = "results",
    watcher: Watcher | None = None,
    only: Collection[str] = (),
) -> Outcome:
    """Measures everything in a plan that the results folder does not hold yet.

    Args:
        plan: what to measure, or the YAML file that says it.
        results: the folder that takes the runs; made where missing.
        watcher: is told of progress.
        only: names of devices; the plan's cells of others are left aside.

    Raises:
        MeltError: something is wrong that can be known before any time is spent, or the results folder
            cannot be written. A run that fails is recorded as failed and raises nothing.
    """
    watcher = watcher or Watcher()
    plan = plan if isinstance(plan, Plan) else load_plan(Path(plan))
    store = Store(Path(results))
    store.check_writable()
    if not only and len({cell.device for cell in plan.cells()}) > 1:
        looked_at = preflight(plan)
        if at_once(looked_at):
            return _at_once(looked_at, store, watcher)
    return _here(plan, store, watcher, only)


def _here(plan: Plan, store: Store, watcher: Watcher, only: Collection[str]) -> Outcome:
    """All in this process, in one order."""
    with ExitStack() as stack:
        devices: dict[str, Device] = {}

        def hold(profile: DeviceProfile) -> DeviceFacts:
            devices[profile.name] = _as_known_there(open_device(profile, stack, watcher.say), store)
            return devices[profile.name].facts

        admitted = preflight(plan, hold, only).without_absent()
        admitted.require_ready()
        _say_left_out(admitted, watcher)
        return Executor(_made_ready(admitted, watcher, stack), store, devices, watcher).run_all()


def _at_once(looked_at: Preflight, store: Store, watcher: Watcher) -> Outcome:
    """Devices that are elsewhere side by side; then this machine, which has worked for them meanwhile."""
    admitted = looked_at.without_absent()
    admitted.require_ready()
    _say_left_out(admitted, watcher)
    with ExitStack() as stack:
        admitted = _made_ready(admitted, watcher, stack)
        watcher.plan(agenda(admitted, store), admitted)
        names = at_once(admitted)
        out = Outcome((), (), 0, {}, admitted.left_out)
        for one in side_by_side(admitted.plan, store, names, watcher):
            out += one
        here = [name for name in admitted.facts if name not in names]
        for name in here[:1]:
            watcher.at(name)
        return out + _here(admitted.plan, store, Planned(watcher), here) if here else out


def _say_left_out(admitted: Preflight, watcher: Watcher) -> None:
    for device, reason in {cell.device: reason for cell, reason in admitted.left_out.items()}.items():
        watcher.say(f"left out: {device}: {reason}")


def _as_known_there(device: Device, store: Store) -> Device:
    """A device by the hash that the results folder has of it already, be it the one from before there was a salt."""
    identity = device.facts.identity
    if identity is None or not store.mentions(f'"serial_hash": "{identity}"'):
        return device
    return replace(device, facts=device.facts.model_copy(update={"serial_hash": identity}))


def _made_ready(admitted: Preflight, watcher: Watcher, stack: ExitStack) -> Preflight:
    """The plan with every program built and every model's file here, where it stays until the stack is left."""
    for cell in admitted.cells:
        admitted.backends[cell.backend].prepare(cell, admitted.facts_for(cell), watcher.building)
    asked = dict.fromkeys(c.model for c in admitted.cells)
    models = {name: resolve(admitted.refs[name], progress=watcher.model_progress(name)) for name in asked}
    for model in models.values():
        with suppress(OSError):  # a file that may not be opened is told where it is read
            stack.enter_context(in_use(Path(model.path)))
    return replace(admitted, models=models, to_build=dict.fromkeys(admitted.cells, ""))
