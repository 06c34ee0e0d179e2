"""Several devices of a plan at once, each in a process of its own: what one does, the others never wait for.

The processes write to the one results folder, which keeps each run once whoever writes it. Here their words are
gathered for one progress display and one outcome.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from melt.errors import StoreError
from melt.execution.executor import Outcome
from melt.execution.preflight import Preflight
from melt.execution.progress import Watcher
from melt.spec.cell import Cell
from melt.spec.events import parse_event
from melt.spec.plan import Plan
from melt.store.store import Run, Store

if TYPE_CHECKING:
    from melt.drivers.base import Progress

WORKER = (sys.executable, "-m", "melt.execution.worker")
_Word = tuple[str, Mapping[str, Any] | None]  # of which device, and what; None at its end


def at_once(admitted: Preflight) -> tuple[str, ...]:
    """The devices that are measured side by side: none where there is only one beside this machine, which works for
    them meanwhile and is measured by itself."""
    names = tuple(name for name, facts in admitted.facts.items() if not facts.is_host)
    return names if len(names) > 1 else ()


@dataclass
class _Device:
    """What has been heard of one device."""

    name: str
    process: "subprocess.Popen[str]"
    made: list[Run] = field(default_factory=list)
    pushes: dict[str, "Progress | None"] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)  # its outcome, or the error that ended it


def side_by_side(plan: Plan, store: Store, names: Sequence[str], watcher: Watcher) -> list[Outcome]:
    """Measures the plan's cells of some devices, all at once.

    Raises:
        StoreError: the results folder cannot be written.
    """
    words: queue.Queue[_Word] = queue.Queue()
    devices = {name: _start(plan, store, name, words) for name in names}
    try:
        _listen(devices, words, store, watcher)
    finally:
        for one in devices.values():  # at Ctrl-C: each puts its device back, and is waited for
            assert one.process.stdin is not None
            one.process.stdin.close()
        for one in devices.values():
            one.process.wait()
    return [_outcome(one) for one in devices.values()]


def _start(plan: Plan, store: Store, name: str, words: "queue.Queue[_Word]") -> _Device:
    # In a session of its own: Ctrl-C comes to it by the end of its input alone, and once.
    process = subprocess.Popen(
        (*WORKER, name),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    assert process.stdin is not None
    request = {"plan": plan.model_dump(mode="json"), "results": str(store.folder)}
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    threading.Thread(target=_hear, args=(name, process, words), daemon=True).start()
    return _Device(name, process)


def _hear(name: str, process: "subprocess.Popen[str]", words: "queue.Queue[_Word]") -> None:
    assert process.stdout is not None
    with process.stdout as said:
        for line in said:
            with contextlib.suppress(ValueError):  # cut off where the process was killed
                words.put((name, json.loads(line)))
    words.put((name, None))


def _listen(devices: Mapping[str, _Device], words: "queue.Queue[_Word]", store: Store, watcher: Watcher) -> None:
    at_work = set(devices)
    while at_work:
        name, word = words.get()
        watcher.at(name)
        if word is None:
            at_work.discard(name)
        else:
            _pass_on(devices[name], word, store, watcher)


def _pass_on(device: _Device, word: Mapping[str, Any], store: Store, watcher: Watcher) -> None:
    match word["say"]:
        case "begin":
            watcher.begin(Cell.model_validate(word["cell"]), word["session"])
        case "phase":
            watcher.phase(word["name"])
        case "event":
            watcher.event(parse_event(word["line"]))
        case "text":
            watcher.say(word["text"])
        case "push":
            if word["name"] not in device.pushes:
                device.pushes[word["name"]] = watcher.pushing(word["name"])
            if show := device.pushes[word["name"]]:
                show(word["done"], word["total"])
        case "end":
            run = store.run(word["run_id"])
            device.made.append(run)
            watcher.end(run)
        case _:
            device.last = word


def _outcome(device: _Device) -> Outcome:
    """What came of one device; raises StoreError where its results could not be kept."""
    last, made = device.last, tuple(device.made)
    if last.get("say") == "outcome":
        cells = tuple(Cell.model_validate(cell) for cell in last["cells"])
        skipped, not_tried = ({Cell.model_validate(c): r for c, r in last[k]} for k in ("skipped", "not_tried"))
        return Outcome(cells, made, last["already_there"], skipped, not_tried)
    if last.get("kind") == StoreError.__name__:
        raise StoreError(last["message"], last["hint"])
    reason = last.get("message") or f"its process ended with exit code {device.process.returncode}"
    return Outcome(tuple(dict.fromkeys(r.manifest.cell for r in made)), made, 0, {}, {}, {device.name: reason})
