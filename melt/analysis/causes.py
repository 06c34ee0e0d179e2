"""What disturbed a run that has just been made: asked while a plan is at work, of the run alone."""

from melt.analysis.disturbance import causes
from melt.analysis.flags import flags_of
from melt.analysis.observation import observe
from melt.analysis.rows import summary
from melt.analysis.run_record import read
from melt.store.store import Run


def causes_of(run: Run) -> tuple[str, ...]:
    """The flags that say that a run's times are not its own; none of a run that is no measurement."""
    rec = read(run)
    if not rec.ok:
        return ()
    one = summary(rec, observe(rec))
    flags = ",".join(f.name for f in flags_of(rec, one.metrics, one.observed))
    return tuple(filter(None, causes(flags, rec).split(",")))
