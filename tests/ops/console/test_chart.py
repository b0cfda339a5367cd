from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from receiver.ops.console.chart import HEIGHT, KINDS, chart_of, rounded_up
from receiver.ops.console.words import ago, length_of_time, seconds
from receiver.ops.traffic import Part

LAST = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(
    st.lists(
        st.builds(Part, st.just(LAST), *(st.integers(0, 10**9) for _ in range(5))),
        max_size=60,
    )
)
def test_every_bar_is_inside_the_picture(parts: list[Part]) -> None:
    chart = chart_of(parts)
    assert [bar.part for bar in chart.bars] == parts
    assert chart.is_empty is not any(part.total for part in parts)
    for bar in chart.bars:
        assert 0 <= bar.x <= chart.width - chart.bar_width
        assert [piece.kind for piece in bar.pieces] == [kind for kind in KINDS if getattr(bar.part, kind)]
        bottom = float(HEIGHT)
        for piece in bar.pieces:
            assert abs(piece.y + piece.height - bottom) < 0.1
            bottom = piece.y
        assert bottom >= -0.1


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


def test_latencies_are_said_as_they_are_measured() -> None:
    assert seconds(timedelta(milliseconds=42)) == "42 ms"
    assert seconds(timedelta(seconds=1.26)) == "1.3 s"
    assert seconds(timedelta(minutes=3)) == "3 min"
