from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from receiver.ops.activity import Hour
from receiver.ops.console.chart import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, chart_of, rounded_up
from receiver.ops.console.words import ago, length_of_time

LAST = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(
    st.lists(
        st.builds(
            lambda back, source, number: Hour(LAST - timedelta(hours=back), source, "processed", number),
            st.integers(0, 30),
            st.sampled_from(["push", "log"]),
            st.integers(1, 10**9),
        )
    )
)
def test_every_bar_is_inside_the_picture(found: list[Hour]) -> None:
    chart = chart_of(found, last=LAST, hours=24)
    assert [bar.hour for bar in chart.bars] == [LAST - timedelta(hours=back) for back in range(23, -1, -1)]
    assert sum(bar.pushed + bar.recovered for bar in chart.bars) == sum(
        each.deliveries for each in found if each.hour > LAST - timedelta(hours=24)
    )
    for bar in chart.bars:
        assert bar.x >= LEFT
        assert bar.x + bar.width <= WIDTH
        assert TOP - 0.1 <= bar.recovered_y <= bar.pushed_y <= HEIGHT - BOTTOM
        assert abs(bar.pushed_y + bar.pushed_height - (HEIGHT - BOTTOM)) < 0.1
        assert abs(bar.recovered_y + bar.recovered_height - bar.pushed_y) < 0.1


@given(st.integers(0, 10**12))
def test_axis_ends_at_a_round_number_close_to_the_maximum(number: int) -> None:
    top = rounded_up(number)
    assert max(2, number) <= top <= max(2, 2 * number)
    assert top % 2 == 0
    assert len(str(top).strip("0")) == 1


def test_times_are_said_in_their_two_largest_units() -> None:
    assert length_of_time(timedelta(seconds=59)) == "59 s"
    assert length_of_time(timedelta(minutes=61, seconds=5)) == "1 h 1 min"
    assert length_of_time(timedelta(days=2, minutes=5)) == "2 d"
    assert length_of_time(timedelta(seconds=-5)) == "0 s"
    assert "2 min ago" in ago(LAST, LAST + timedelta(minutes=2))
    assert ago(None) == "never"
