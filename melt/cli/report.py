"""`melt report`."""

from pathlib import Path

import click

EPILOG = """\b
Examples:
  melt report
  melt report results/ --out reports/laptop --open
  melt report results/ /media/phone/results/
"""


@click.command(epilog=EPILOG)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The report's folder.  [default: reports/NAME]")
@click.option("--open", "open_it", is_flag=True, help="Show the report in the browser.")
def report(results: tuple[Path, ...], out: Path | None, open_it: bool) -> None:
    """Write the HTML report of RESULTS, one or more folders of results or of single runs (default: results/).

    NAME is that of the plan, or `report` where the runs come from several. A report that is there is replaced;
    files that melt did not write stay.
    The path of its index.html is the last line.
    """
    from melt.analysis.frames import load
    from melt.report import damage, write_report

    measured = load(*(results or (Path("results"),)))
    for line in damage.lines(measured):
        click.echo(line, err=True)
    index = write_report(measured, out or Path("reports") / _name([m.plan_name for m in measured.manifests.values()]))
    click.echo(str(index))
    if open_it:
        click.launch(index.absolute().as_uri())


def _name(plans: list[str]) -> str:
    """A folder's name from the names of plans, which may hold anything."""
    from melt.report.text import file_name

    return file_name(plans[0]) if len(set(plans)) == 1 else "report"
