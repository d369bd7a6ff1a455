"""Scores and their comparison, against figures worked out by hand or by other means."""

import math
from random import Random

import pytest
from scipy import stats

from agents.evaluator.statistics import RESAMPLES, mid_p_mcnemar, paired_comparison, summarise


def scores(wins: int, losses: int, ties: int) -> tuple[dict[str, float], dict[str, float]]:
    """Baseline and candidate that disagree on `wins` + `losses` items."""
    baseline = [0.0] * wins + [1.0] * losses + [float(i % 2) for i in range(ties)]
    candidate = [1.0] * wins + [0.0] * losses + [float(i % 2) for i in range(ties)]
    return {str(i): s for i, s in enumerate(baseline)}, {str(i): s for i, s in enumerate(candidate)}


def test_the_mean_of_right_and_wrong_has_the_binomial_standard_error() -> None:
    mean, stderr, n = summarise([1.0] * 30 + [0.0] * 70)
    assert (mean, n) == (0.3, 100)
    assert stderr == pytest.approx(math.sqrt(0.3 * 0.7 / 99))


def test_a_single_score_has_no_error_to_show() -> None:
    assert summarise([1.0]) == (1.0, 0.0, 1)


def test_a_clear_gain_has_an_interval_above_zero_around_its_difference() -> None:
    comparison = paired_comparison(*scores(60, 5, 85))
    assert comparison.delta == pytest.approx(55 / 150)
    assert 0.25 < comparison.ci_low < comparison.delta < comparison.ci_high < 0.47
    assert comparison.p_value < 1e-10
    assert (comparison.n, comparison.discordant) == (150, 65)


def test_the_interval_agrees_with_the_normal_approximation_where_that_holds() -> None:
    baseline, candidate = scores(80, 40, 280)
    comparison = paired_comparison(baseline, candidate)
    _, stderr, _ = summarise([candidate[item] - baseline[item] for item in baseline])
    assert comparison.ci_low == pytest.approx(comparison.delta - 1.96 * stderr, abs=0.005)
    assert comparison.ci_high == pytest.approx(comparison.delta + 1.96 * stderr, abs=0.005)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, truth, covered, trials = Random(1), 0.2, 0, 60
    for _ in range(trials):
        draws = rng.choices([(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)], weights=[0.35, 0.15, 0.5], k=120)
        baseline = {str(i): before for i, (before, _) in enumerate(draws)}
        comparison = paired_comparison(baseline, {str(i): after for i, (_, after) in enumerate(draws)})
        covered += comparison.ci_low <= truth <= comparison.ci_high
    assert covered / trials > 0.87


def test_noise_is_no_win() -> None:
    comparison = paired_comparison(*scores(11, 9, 80))
    assert comparison.ci_low < 0 < comparison.ci_high
    assert comparison.p_value > 0.5


def test_the_same_scores_give_the_same_interval_in_any_order() -> None:
    baseline, candidate = scores(10, 3, 30)
    backwards = dict(reversed(baseline.items()))
    assert paired_comparison(baseline, candidate) == paired_comparison(backwards, candidate)


def test_equal_scores_are_a_difference_of_zero_without_width() -> None:
    comparison = paired_comparison(*scores(0, 0, 10))
    assert (comparison.delta, comparison.ci_low, comparison.ci_high, comparison.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_scores_of_different_items_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same items"):
        paired_comparison({"a": 1.0}, {"b": 1.0})


@pytest.mark.parametrize(("wins", "losses"), [(9, 2), (2, 9), (6, 5), (12, 0), (40, 25)])
def test_the_mid_p_value_is_the_exact_one_less_the_point_probability(wins: int, losses: int) -> None:
    n = wins + losses
    exact = stats.binomtest(min(wins, losses), n).pvalue
    assert mid_p_mcnemar(wins, losses) == pytest.approx(exact - stats.binom.pmf(min(wins, losses), n, 0.5))


def test_as_many_wins_as_losses_or_none_at_all_prove_nothing() -> None:
    assert mid_p_mcnemar(7, 7) == pytest.approx(1.0)
    assert mid_p_mcnemar(0, 0) == 1.0


def losses(shift: float, spread: float, n: int, seed: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    """Nats a token of a baseline, and of a candidate that is better by `shift` on the mean."""
    rng = Random(seed)
    baseline = {str(i): rng.gammavariate(2, 1) for i in range(n)}
    return baseline, {item: score - rng.gauss(shift, spread) for item, score in baseline.items()}


def test_a_lower_loss_is_a_negative_difference_with_a_small_p_value() -> None:
    comparison = paired_comparison(*losses(0.1, 0.3, 400))
    assert comparison.ci_low < comparison.delta < comparison.ci_high < 0
    assert comparison.p_value <= 10 / RESAMPLES
    assert comparison.discordant == 400


@pytest.mark.parametrize("seed", range(4))
def test_the_p_value_of_losses_agrees_with_the_paired_t_test_where_that_holds(seed: int) -> None:
    baseline, candidate = losses(0.02, 0.3, 300, seed)
    expected = stats.ttest_rel(list(candidate.values()), list(baseline.values())).pvalue
    assert paired_comparison(baseline, candidate).p_value == pytest.approx(expected, abs=0.02)


def test_a_few_losses_have_the_exact_p_value_of_all_their_signs() -> None:
    baseline = {str(i): 2.0 for i in range(6)}
    candidate = {str(i): 2.0 - 2.0**-i for i in range(6)}
    assert paired_comparison(baseline, candidate).p_value == pytest.approx(2 / 2**6)


def test_losses_give_the_same_figures_in_any_order_and_every_time() -> None:
    baseline, candidate = losses(0.02, 0.3, 50)
    backwards = dict(reversed(baseline.items()))
    assert paired_comparison(baseline, candidate) == paired_comparison(backwards, candidate)


def test_equal_losses_are_a_difference_of_zero_that_proves_nothing() -> None:
    baseline, _ = losses(0, 0, 30)
    comparison = paired_comparison(baseline, baseline)
    assert (comparison.delta, comparison.ci_low, comparison.ci_high, comparison.p_value) == (0.0, 0.0, 0.0, 1.0)
