"""Scores and their comparison, against figures worked out by hand or by other means."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agents.evaluator.statistics import (
    MCNEMAR,
    RESAMPLES,
    SIGNS,
    SIGNS_BY_CLUSTER,
    chance_within,
    clusters_in,
    expected_maximum,
    holm,
    lead_by_chance,
    mid_p_mcnemar,
    minimum_detectable,
    paired_comparison,
    summarise,
)
from benchmarks import claims

quick = settings(max_examples=30, deadline=None)


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


def test_equal_scores_are_no_difference_of_which_few_items_leave_much_unknown() -> None:
    few, many = paired_comparison(*scores(0, 0, 10)), paired_comparison(*scores(0, 0, 1000))
    assert (few.delta, few.p_value, many.delta) == (0.0, 1.0, 0.0)
    assert few.ci_low == pytest.approx(-few.ci_high)
    assert 0.2 < few.ci_high < 0.3, "10 items without one that differs: three in ten could [rule of three]"
    assert 0.001 < many.ci_high < 0.004


def test_a_few_wins_without_a_loss_are_no_claim_yet() -> None:
    """The bootstrap alone would leave 0 out of the interval: no resample has a loss."""
    for wins in (1, 3, 4):
        comparison = paired_comparison(*scores(wins, 0, 50 - wins))
        assert comparison.p_value > 0.05
        assert comparison.ci_low <= 0 < comparison.ci_high
    assert paired_comparison(*scores(7, 0, 43)).ci_low > 0


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


# Items that share a cluster, and answers that share an item


def passages(groups: int, size: int) -> dict[str, str]:
    return {str(n): f"passage {n // size}" for n in range(groups * size)}


def test_the_clustered_error_is_the_one_worked_out_by_hand() -> None:
    # deviations from the mean of 1/2: +1/2, +1/2 | −1/2, +1/2 | −1/2, −1/2 → sums 1, 0, −1
    mean, stderr, n = summarise([1, 1, 0, 1, 0, 0], ["a", "a", "b", "b", "c", "c"])
    assert (mean, n) == (0.5, 6)
    assert stderr == pytest.approx(math.sqrt((1 + 0 + 1) * 3 / 2) / 6)


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=30), st.integers(2, 4))
@quick
def test_asking_the_same_thing_again_and_again_makes_no_score_surer(values: list[float], copies: int) -> None:
    names = [str(n) for n in range(len(values))]
    once, again = summarise(values, names), summarise(values * copies, names * copies)
    assert once == summarise(values)
    assert again[:2] == pytest.approx(once[:2])


def test_names_of_clusters_that_hold_one_item_each_or_all_of_them_change_nothing() -> None:
    values = [1.0, 0.0, 1.0, 1.0]
    assert summarise(values, ["a", "b", "", ""]) == summarise(values, ["a"] * 4) == summarise(values)
    assert [clusters_in(names) for names in (["a", "b", ""], ["a", "a"], ["a", "a", ""])] == [0, 0, 2]


def test_whole_passages_are_resampled_and_flipped() -> None:
    """Five passages that one side wins as a whole are five wins, not fifty."""
    names = passages(5, 10)
    baseline, candidate = dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0)
    found = paired_comparison(baseline, candidate, names)
    assert found.p_value == pytest.approx(2 / 2**5)
    assert (found.clusters, found.test, found.ci_low) == (5, SIGNS_BY_CLUSTER, 0.0)
    alone = paired_comparison(baseline, candidate)
    assert (alone.clusters, alone.test) == (0, MCNEMAR)
    assert alone.ci_low > 0.85


@pytest.mark.parametrize("k", [2, 8])
def test_chance_within_items_is_told_from_what_sets_them_apart(k: int) -> None:
    """Probabilities from 0 to 1 alike: 1/6 of variance within items, 1/12 between [Miller, on resampling]."""
    rng = np.random.default_rng(k)
    answers = {str(n): (rng.random(k) < p).astype(float).tolist() for n, p in enumerate(rng.random(4000))}
    assert chance_within(answers) == pytest.approx(2 / 3, abs=0.03)
    assert chance_within({"a": [1.0], "b": [0.0]}) is None
    assert chance_within({"a": [1.0, 1.0], "b": [0.0, 0.0]}) == 0.0
    assert chance_within({"a": [1.0, 1.0], "b": [1.0, 1.0]}) == 0.0


# What holds for any scores

binary = st.sampled_from([0.0, 1.0])
fraction = st.sampled_from([0.0, 0.2, 0.6, 1.0])
nats = st.floats(0, 5, allow_nan=False).map(lambda value: round(value, 6))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    score = draw(st.sampled_from([binary, fraction, nats]))
    rows = draw(st.lists(st.tuples(score, score, st.sampled_from(["", "p", "q", "r"])), min_size=1, max_size=40))
    sides = [{str(n): row[side] for n, row in enumerate(rows)} for side in (0, 1)]
    return sides[0], sides[1], {str(n): row[2] for n, row in enumerate(rows)}


@given(pairs())
@quick
def test_an_exchange_of_the_sides_changes_the_signs_alone(given: tuple[dict[str, float], ...]) -> None:
    baseline, candidate, clusters = given
    there = paired_comparison(baseline, candidate, clusters, resamples=200)  # type: ignore[arg-type]
    back = paired_comparison(candidate, baseline, clusters, resamples=200)  # type: ignore[arg-type]
    assert back.delta == -there.delta
    assert (back.mde, back.discordant, back.test) == (there.mde, there.discordant, there.test)
    if abs(there.delta) > 1e-9:  # else chance decides which side is looked at from
        assert (back.ci_low, back.ci_high) == pytest.approx((-there.ci_high, -there.ci_low))
        assert back.p_value == pytest.approx(there.p_value)


@given(pairs(), st.randoms(use_true_random=False))
@quick
def test_the_names_and_the_order_of_items_change_nothing(given: tuple[dict[str, float], ...], random: Random) -> None:
    names = list(given[0])
    random.shuffle(names)
    renamed = [{str(place): side[name] for place, name in enumerate(names)} for side in given]
    there, again = (paired_comparison(*sides, resamples=200) for sides in (given, renamed))  # type: ignore[arg-type]
    assert again.plain() == pytest.approx(there.plain())


@given(pairs())
@quick
def test_interval_and_test_never_contradict_each_other_where_nothing_is_shown(
    given: tuple[dict[str, float], ...],
) -> None:
    found = paired_comparison(*given, resamples=200)  # type: ignore[arg-type]
    assert found.ci_low <= found.ci_high
    assert 0 < found.p_value <= 1
    assert found.p_value < 0.05 or found.ci_low <= 0 <= found.ci_high


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 20))
@quick
def test_a_correction_only_raises_p_values_and_keeps_their_order(p_values: list[float], more: int) -> None:
    corrected = holm(p_values, len(p_values) + more)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    assert [corrected[i] for i in np.argsort(p_values)] == sorted(corrected)
    assert min(corrected) == pytest.approx(min(1, min(p_values) * (len(p_values) + more)))


# Several candidates, and what could have been shown


def test_holm_gives_the_figures_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02]) == [0.02]
    assert holm([0.02], looked_at=10) == pytest.approx([0.2])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("n", "about", "points"),
    [
        (50, {"rate": 0.33}, 26.3),
        (198, {"rate": 0.33}, 13.2),
        (198, {"discordance": 0.3}, 10.9),
        (448, {"rate": 0.33}, 8.8),
        (448, {"discordance": 0.3}, 7.2),
        # it is not said how much is chance within items: four fifths give 4.35
        (448, {"discordance": 0.3, "resamples": 5, "within": 0.8}, 4.4),
        (1319, {"rate": 0.33}, 5.1),
        (1319, {"discordance": 0.3}, 4.2),
    ],
)
def test_the_minimum_detectable_effects_are_the_published_ones(n: int, about: dict[str, float], points: float) -> None:
    assert 100 * minimum_detectable(n, **about) == pytest.approx(points, abs=0.051)  # type: ignore[arg-type]


def test_a_comparison_states_the_effect_that_its_discordance_promises() -> None:
    found = paired_comparison(*scores(70, 64, 314))
    assert found.mde == pytest.approx(minimum_detectable(448, discordance=134 / 448), rel=0.01)
    assert paired_comparison(*scores(0, 0, 50)).mde == pytest.approx(minimum_detectable(50, discordance=0.0))
    baseline, candidate = losses(0.1, 0.3, 400)
    assert paired_comparison(baseline, candidate).mde == pytest.approx(2.8 * 0.3 / 20, rel=0.1)
    assert paired_comparison(baseline, candidate).test == SIGNS
    assert paired_comparison(baseline, baseline).mde is None
    with pytest.raises(ValueError, match="discordance"):
        minimum_detectable(50)


@pytest.mark.parametrize(("n", "points"), [(50, 10.3), (198, 5.1), (448, 3.4)])
def test_the_best_of_ten_equals_leads_by_the_published_points(n: int, points: float) -> None:
    lead = expected_maximum(10) * math.sqrt(0.33 * 0.67 / n)
    assert 100 * lead == pytest.approx(points, abs=0.1)
    assert expected_maximum(1) == pytest.approx(0, abs=1e-6)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi))


def test_the_lead_by_chance_leaves_out_what_is_hard_for_all() -> None:
    assert lead_by_chance([{"a": 1.0, "b": 0.0}] * 3) == 0.0
    assert lead_by_chance([{"a": 1.0, "b": 0.0}]) is None
    assert lead_by_chance([{"a": 1.0}, {"b": 0.0}]) is None
    found = claims.winners_curse(198, runs=150)
    assert found["lead_by_chance"] == pytest.approx(found["shared items"], abs=0.004)
    assert found["items of their own"] == pytest.approx(0.051, abs=0.004)


# The rules that choose and claim, in a small version of benchmarks/claims.py


def test_the_best_of_ten_equals_hardly_ever_wins() -> None:
    found = claims.best_of_ten(99, 99, runs=200)
    assert found["claimed on report items"] <= 0.06
    assert found["claimed on the items that chose"] > 0.08, "what the split of the items is for"


def test_a_true_effect_of_the_stated_size_is_mostly_claimed() -> None:
    assert claims.power(99, 0.25, runs=300)["power"] > 0.7
    assert claims.power(50, 0.02, runs=300)["power"] > 0.7


def test_a_true_gain_of_three_points_mostly_becomes_the_incumbent() -> None:
    found = claims.kept(224, 0.03, runs=300)
    assert found["incumbent rule"] > 0.72
    assert found["an interval above 0"] < 0.3, "an interval is for claims, and would lose most gains"
