from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_memory.budget import Budget, Spend, dollars
from shared_memory.database import Database
from shared_memory.errors import BudgetSpent, Conflict
from shared_memory.goal import Limits

LIMITS = Limits(usd=10.0, llm_tokens=100, jobs=3)


@pytest.fixture
def budget(db: Database) -> Budget:
    return Budget(db, "r1", LIMITS)


def test_a_hold_counts_until_it_is_settled_or_released(budget: Budget) -> None:
    budget.reserve("a", 6_000_000, role="trainer")
    with pytest.raises(
        BudgetSpent, match=r"limits.usd is \$10.00: \$0.00 spent, \$6.00 held, and this asks for \$5.00"
    ):
        budget.reserve("b", 5_000_000, role="trainer")
    budget.settle("a", 1_000_000)
    budget.reserve("b", 5_000_000, role="evaluator", tokens=40)
    budget.reserve("c", 4_000_000, role="trainer")
    budget.release("c")
    assert budget.spent() == Spend(
        usd_micro=1_000_000,
        held_usd_micro=5_000_000,
        llm_tokens=0,
        held_llm_tokens=40,
        jobs=2,
        by_role={"trainer": 1_000_000},
    )


def test_jobs_and_tokens_have_caps_too(budget: Budget) -> None:
    with pytest.raises(
        BudgetSpent, match=r"limits.llm_tokens is 100: 0 spent, 0 held, and this asks for 101 more; raise"
    ):
        budget.reserve("t", 0, role="researcher", jobs=0, tokens=101)
    for key in "abc":
        budget.reserve(key, 0, role="trainer")
    with pytest.raises(BudgetSpent, match=r"limits.jobs is 3: 3 spent"):
        budget.reserve("d", 0, role="trainer")
    budget.reserve("talk", 1, role="researcher", jobs=0, tokens=100)
    assert budget.spent().jobs == 3


def test_every_step_can_be_repeated(budget: Budget) -> None:
    for _ in range(2):
        budget.reserve("a", 6_000_000, role="trainer")
    for _ in range(2):
        budget.settle("a", 2_000_000, tokens=7)
    budget.reserve("a", 6_000_000, role="trainer")
    assert budget.spent().usd_micro == 2_000_000
    assert budget.spent().held_usd_micro == 0
    budget.reserve("b", 1, role="trainer")
    for _ in range(2):
        budget.release("b")
    budget.reserve("b", 2, role="trainer")
    assert budget.spent().held_usd_micro == 2


def test_a_bill_above_its_hold_is_booked_as_it_came(budget: Budget) -> None:
    budget.reserve("a", 1_000_000, role="trainer")
    budget.settle("a", 12_000_000)
    assert budget.spent().usd_micro == 12_000_000
    with pytest.raises(BudgetSpent, match=r"\$12.00 spent"):
        budget.reserve("b", 1, role="trainer")
    budget.reserve("free", 0, role="trainer")


def test_what_was_paid_is_not_released_and_what_was_not_reserved_is_not_settled(budget: Budget) -> None:
    budget.reserve("a", 1, role="trainer")
    budget.settle("a", 1)
    with pytest.raises(Conflict, match="was paid for"):
        budget.release("a")
    with pytest.raises(Conflict, match="nothing is reserved"):
        budget.settle("z", 1)
    with pytest.raises(ValueError, match="never negative"):
        budget.reserve("b", -1, role="trainer")


def test_runs_have_budgets_of_their_own(db: Database, budget: Budget) -> None:
    budget.reserve("a", 10_000_000, role="trainer")
    Budget(db, "r2", LIMITS).reserve("a", 10_000_000, role="trainer")


def test_reservations_that_race_stay_under_the_cap(db: Database) -> None:
    budget = Budget(db, "r1", Limits(usd=1.0, jobs=100))
    refused: list[int] = []

    def grab(number: int) -> None:
        try:
            budget.reserve(str(number), 300_000, role="trainer")
        except BudgetSpent:
            refused.append(number)

    threads = [threading.Thread(target=grab, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.spent().held_usd_micro == 900_000
    assert len(refused) == 5


KEYS = st.sampled_from("abcdef")
STEPS = st.one_of(
    st.tuples(
        st.just("reserve"),
        KEYS,
        st.integers(0, 6_000_000),
        st.integers(0, 60),
        st.integers(0, 2),
        st.sampled_from("xy"),
    ),
    st.tuples(st.just("settle"), KEYS, st.integers(0, 8_000_000), st.integers(0, 80)),
    st.tuples(st.just("release"), KEYS),
    st.tuples(st.just("reopen")),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), STEPS), max_size=25))
def test_no_interleaving_of_two_drivers_reserves_beyond_a_cap_or_loses_a_booking(
    steps: list[tuple[bool, tuple[object, ...]]],
) -> None:
    """A plain dict is the model: key → [settled, role, dollars, tokens, jobs]."""
    model: dict[str, list[object]] = {}
    with TemporaryDirectory() as folder:
        drivers = [Database.open(Path(folder) / "db") for _ in range(2)]
        try:
            for driver, (name, *args) in steps:
                if name == "reopen":
                    drivers[driver].close()
                    drivers[driver] = Database.open(Path(folder) / "db")
                else:
                    STEP[str(name)](Budget(drivers[driver], "r1", LIMITS), model, *args)
                for db in drivers:
                    assert Budget(db, "r1", LIMITS).spent() == totals(model)
        finally:
            for db in drivers:
                db.close()


def totals(model: dict[str, list[object]]) -> Spend:
    def total(column: int, settled: bool, role: str = "") -> int:
        return sum(int(str(b[column])) for b in model.values() if b[0] is settled and role in ("", b[1]))

    return Spend(
        usd_micro=total(2, True),
        held_usd_micro=total(2, False),
        llm_tokens=total(3, True),
        held_llm_tokens=total(3, False),
        jobs=total(4, True) + total(4, False),
        by_role={str(b[1]): total(2, True, str(b[1])) for b in model.values() if b[0]},
    )


def reserve(
    budget: Budget, model: dict[str, list[object]], key: str, usd: int, tokens: int, jobs: int, role: str
) -> None:
    before = totals(model)
    fits = (
        (not usd or before.usd_micro + before.held_usd_micro + usd <= LIMITS.usd_micro)
        and (not tokens or before.llm_tokens + before.held_llm_tokens + tokens <= LIMITS.llm_tokens)
        and (not jobs or before.jobs + jobs <= LIMITS.jobs)
    )
    if fits or key in model:
        budget.reserve(key, usd, role=role, jobs=jobs, tokens=tokens)
        model.setdefault(key, [False, role, usd, tokens, jobs])
    else:
        with pytest.raises(BudgetSpent):
            budget.reserve(key, usd, role=role, jobs=jobs, tokens=tokens)


def settle(budget: Budget, model: dict[str, list[object]], key: str, usd: int, tokens: int) -> None:
    if key in model:
        budget.settle(key, usd, tokens)
        model[key] = [True, model[key][1], usd, tokens, model[key][4]]
    else:
        with pytest.raises(Conflict):
            budget.settle(key, usd, tokens)


def release(budget: Budget, model: dict[str, list[object]], key: str) -> None:
    if key in model and model[key][0]:
        with pytest.raises(Conflict):
            budget.release(key)
    else:
        budget.release(key)
        model.pop(key, None)


STEP: dict[str, Callable[..., None]] = {"reserve": reserve, "settle": settle, "release": release}


@pytest.mark.parametrize(
    ("usd_micro", "text"), [(0, "$0.00"), (30_000_000, "$30.00"), (1_234_500_000, "$1,234.50"), (150, "$0.00015")]
)
def test_dollars_read_well(usd_micro: int, text: str) -> None:
    assert dollars(usd_micro) == text
