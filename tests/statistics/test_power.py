"""How many seeds or groups would settle a comparison: against statsmodels and a simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from stagetransfer.statistics import Interval, needed
from stagetransfer.statistics.power import MOST, POWER, plan, power


def result(estimate, seeds, variances):
    return Interval(estimate, -1.0, 1.0, 0.5, seeds, seeds > 1, variances=variances)


@pytest.mark.parametrize(("effect", "have"), [(0.9, 3), (0.4, 5), (0.25, 10)])
def test_without_spread_of_groups_it_is_the_one_sample_t_test(effect, have):
    """The difference of one seed has the variance 1, so its mean has 1 / have."""
    variances = (1 / have, 0.0, 1 / have)
    solved = TTestPower().solve_power(effect, power=POWER, alpha=0.05)
    found = needed(result(effect, have, variances), groups=60)
    assert found.seeds == math.ceil(solved)
    detectable = TTestPower().solve_power(nobs=have, power=POWER, alpha=0.05)
    assert found.detectable == pytest.approx(detectable, rel=1e-3)
    assert found.groups is None  # all groups agree, so more of them tell nothing


def test_without_spread_of_seeds_groups_take_their_place():
    variances = (0.0, 1 / 60, 1 / 60)
    solved = TTestPower().solve_power(0.3, power=POWER, alpha=0.05)
    found = needed(result(0.3, 3, variances), groups=60)
    assert found.groups == math.ceil(solved)
    assert found.seeds is None


def test_what_was_found_needs_no_more():
    found = needed(result(0.5, 3, (1e-4, 1e-4, 2e-4)), groups=60)
    assert (found.seeds, found.groups) == (3, 60)
    assert found.detectable < 0.5
    text = plan("a - b", result(0.5, 3, (1e-4, 1e-4, 2e-4)), 60, "patients")
    assert "50.0 points" in text
    assert "Holm" in text
    assert "in place of" not in text


def test_groups_beyond_the_most_that_are_advised():
    many = MOST + 1000
    found = needed(result(0.03, 3, (1e-5, 9e-5, 1e-4)), groups=many)
    assert found.groups == many
    assert "Holm" in plan("a - b", result(0.03, 3, (1e-5, 9e-5, 1e-4)), many, "images")


def test_two_patients_and_two_seeds_that_find_nothing():
    tiny = result(0.02, 2, (1e-4, 1e-4, 1e-4))
    found = needed(tiny, groups=2)
    assert found.detectable == math.inf
    assert "inf" not in plan("a - b", tiny, 2, "patients")


def test_a_measured_difference_of_more_than_100_standard_errors_can_be_found():
    found = needed(result(1.0, 2, (1e-5, 1e-5, 1e-5)), groups=2)
    assert (found.seeds, found.groups) == (2, 2)
    assert 100 * 1e-5**0.5 < found.detectable <= 1


def test_from_one_seed_nothing_is_known_about_seeds():
    found = needed(result(0.05, 1, (0.0, 1e-3, 1e-3)), groups=60)
    assert found.seeds is None
    assert 60 < found.groups <= MOST


def test_the_power_is_that_of_simulated_studies():
    """Crossed seeds and groups with an interaction, planned from the variances of a smaller one."""
    of_seed, of_group, of_both, have, then = 0.5, 2.0, 1.5, (3, 40), (8, 60)
    interaction = of_both / math.prod(have)
    v_s, v_g = of_seed / have[0] + interaction, of_group / have[1] + interaction
    variances = (v_s, v_g, v_s + v_g - interaction)
    planned = float(power(0.9, variances, have, then))
    random, found, repeats = np.random.default_rng(0), 0, 4000
    for _ in range(repeats):
        values = 0.9 + random.normal(0, of_both**0.5, then)
        values += random.normal(0, of_seed**0.5, (then[0], 1))
        values += random.normal(0, of_group**0.5, (1, then[1]))
        seeds, groups = values.mean(1), values.mean(0)
        rest = values - seeds[:, None] - groups + values.mean()
        by_seeds, by_groups = seeds.var(ddof=1) / then[0], groups.var(ddof=1) / then[1]
        freedoms = (then[0] - 1) * (then[1] - 1)
        both = (rest**2).sum() / freedoms / math.prod(then)
        variance = max(by_seeds + by_groups - both, by_seeds, by_groups)
        freedom = variance**2 / (by_seeds**2 / (then[0] - 1) + by_groups**2 / (then[1] - 1))
        found += abs(values.mean()) > stats.t.ppf(0.975, freedom) * variance**0.5
    assert 0.6 < planned < 0.95
    assert found / repeats == pytest.approx(planned, abs=0.03)
