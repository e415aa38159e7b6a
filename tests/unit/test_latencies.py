"""Percentiles from counts on a logarithmic scale."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.readers.activity import GROWTH, LAST, SHORTEST_S, bucket_of, percentile


@given(
    st.lists(st.floats(SHORTEST_S, 60), min_size=1, max_size=300),
    st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_a_percentile_is_right_to_one_step_of_the_scale(times: list[float], share: float) -> None:
    counts = Counter(bucket_of(each) for each in times)
    rank = max(1, -(-int(share * 1_000_000 * len(times)) // 1_000_000))
    exact = sorted(times)[rank - 1]
    found = percentile(counts, share)
    assert found is not None
    assert exact / GROWTH**1.01 <= found <= exact * GROWTH**1.01


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile({}, 0.99) is None


def test_what_is_off_the_scale_stands_at_its_ends() -> None:
    assert [bucket_of(0.0), bucket_of(SHORTEST_S), bucket_of(1e9)] == [0, 0, LAST]
