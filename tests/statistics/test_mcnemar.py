import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as of_statsmodels

from stagetransfer.statistics import mcnemar


@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=60).map(np.array),
)
def test_agrees_with_statsmodels(rows):
    y, a, b = rows.T
    right_a, right_b = a == y, b == y
    table = [[(right_a & right_b).sum(), (right_a & ~right_b).sum()]]
    table.append([(~right_a & right_b).sum(), (~right_a & ~right_b).sum()])
    found = mcnemar(y, a, b)
    assert (found.only_a, found.only_b) == (table[0][1], table[1][0])
    assert found.p_value == pytest.approx(of_statsmodels(table, exact=True).pvalue, abs=1e-9)


def test_by_hand():
    found = mcnemar([0] * 7, [0] * 6 + [1], [1] * 6 + [0])
    assert (found.only_a, found.only_b) == (6, 1)
    assert found.p_value == pytest.approx(2 * (1 + 7) / 2**7)


def test_without_any_difference():
    assert mcnemar([0, 1], [0, 0], [0, 2]).p_value == 1


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match=r"must be \(n,\)"):
        mcnemar([0, 1], [0, 1], [0])
