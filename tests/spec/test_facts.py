"""A device's own words have a length."""

from melt.spec.facts import MAX_EXTRA_CHARS, MAX_FACT_CHARS, DeviceFacts


def test_a_fact_is_a_line_and_a_short_one() -> None:
    told = DeviceFacts(
        platform="linux",
        machine="aarch64",
        soc="Orin\nand a second line",
        kernel="k" * 65_536,
        os_build="",
        extra={"cuda": "c" * 65_536, "fan": "quiet\nprofile"},
    )
    assert (told.soc, told.os_build) == ("Orin", "")
    assert told.kernel == "k" * MAX_FACT_CHARS
    assert told.extra == {"cuda": "c" * MAX_EXTRA_CHARS, "fan": "quiet\nprofile"}
    assert DeviceFacts.model_validate_json(told.model_dump_json()) == told
