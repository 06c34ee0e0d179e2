"""Heat, and where it slowed a run down."""

from melt.spec.metrics import Metric

METRICS = (
    Metric(
        "max_temp_c",
        "°C",
        "hottest sample of any temperature sensor between loading and the last token",
        title="highest temperature",
    ),
    Metric("start_temp_c", "°C", "temperature at the start of the session", title="start temperature"),
    Metric(
        "time_to_throttle_s",
        "s",
        "from the first timed prefill to where decode speed falls and stays down",
        title="time to throttling",
    ),
    Metric("tokens_to_throttle", "tokens", "generated tokens until then", title="tokens to throttling"),
)
