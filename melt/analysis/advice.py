"""What disturbed the runs of some results, in words, and what to do about it: the same on the page and the terminal."""

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from melt.analysis.disturbance import DISTURBING
from melt.analysis.stats import ROUNDS_FOR_VERDICT
from melt.util.text import plural


@dataclass(frozen=True)
class Advice:
    """``what`` disturbed how many runs, ``lacking`` what cannot be said for it (or nothing), and what ``to_do``."""

    what: str
    lacking: str
    to_do: str


def advice(runs: pd.DataFrame, cells: pd.DataFrame) -> Advice | None:
    """Advice on the disturbed runs of some results; None where none was disturbed."""
    ok = runs[runs["status"] == "ok"]
    disturbed = ok[ok["disturbed"] != ""]
    if disturbed.empty:
        return None
    causes = Counter(cause for joined in disturbed["disturbed"] for cause in joined.split(","))
    listed = ", ".join(f"{cause.replace('_', ' ')} ({n})" for cause, n in causes.most_common())
    what = f"{len(disturbed)} of {plural(len(ok), 'session')} disturbed: {listed}. No median, line or verdict has them."
    few = cells[(cells["n_sessions"] > cells["n_clean"]) & (cells["n_clean"] < ROUNDS_FOR_VERDICT)]
    lacking = (
        f"{len(few)} of {plural(len(cells), 'cell')} therefore {'has' if len(few) == 1 else 'have'} fewer than "
        f"{ROUNDS_FOR_VERDICT} undisturbed sessions, of which no difference is told."
        if len(few)
        else ""
    )
    steps = list(dict.fromkeys(step for cause, _ in causes.most_common() for step in DISTURBING[cause]))
    to_do = f"{'; '.join(steps)}. Then the same command measures the disturbed sessions again and keeps the others."
    return Advice(what, lacking, to_do[:1].upper() + to_do[1:])
