"""Whose processes are melt's, among those of a device."""

from melt.drivers.remote.driver import strays

LISTING = """\
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/10/exe -> /home/u/.cache/melt/files/ab/melt-runner
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/10/cwd -> /home/u/.cache/melt
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/11/exe -> /usr/bin/python3.11
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/11/cwd -> /home/u/.cache/melt
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/12/exe -> /home/u/.cache/melt/files/cd/llama-bench
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/12/cwd -> /home/u/.cache/melt/jobs/llama-bench.x7
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/13/cwd -> /home/u/.cache/melt-other
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/14/cwd -> /home/u/.cache/melt/files
lrwxrwxrwx 1 u u 0 Nov 23 07:00 /proc/15/exe -> /home/u/.cache/meltxfiles/x
"""


def test_those_whose_program_or_place_of_work_is_in_the_folder() -> None:
    assert strays(LISTING, "/home/u/.cache/melt") == [10, 11, 12]
    assert strays("", "/home/u/.cache/melt") == []
