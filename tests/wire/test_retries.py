"""Whether a failed call is sent again, and when: a table, and laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.errors import (
    CallError,
    DecodeError,
    InvalidRequestError,
    ResponseTooLargeError,
    TransportError,
)
from bms_async.errors.calls import error_class
from bms_async.wire import NO_RETRY, RetryPolicy, Safety, may_retry, retry_delay

READ, IDEMPOTENT, UNSAFE = Safety.READ, Safety.IDEMPOTENT, Safety.UNSAFE
ALL = (READ, IDEMPOTENT, UNSAFE)

POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 10_000),
    initial_delay=st.floats(0, 1000),
    max_delay=st.floats(0, 10_000),
)
DRAWS = st.floats(0, 1, exclude_max=True)


def refused(status: int, code: str | None = None) -> CallError:
    return error_class(status, code)(status=status, code=code)


@pytest.mark.parametrize(
    ("error", "repeatable"),
    [
        # Counted out at the door: not done, and always worth another try.
        (refused(429), ALL),
        (refused(400, "BMS.0212"), ALL),
        (refused(503, "APIGW.0308"), ALL),
        (refused(408, "BMS.0212"), ALL),
        # Never delivered, so not done.
        (TransportError("refused", maybe_delivered=False), ALL),
        # Perhaps done: only what may be done twice is sent twice.
        (TransportError("cut", maybe_delivered=True), (READ, IDEMPOTENT)),
        (refused(408), (READ, IDEMPOTENT)),
        (refused(500), (READ, IDEMPOTENT)),
        (refused(502), (READ, IDEMPOTENT)),
        (refused(503), (READ, IDEMPOTENT)),
        (refused(504), (READ, IDEMPOTENT)),
        # Done: asking again for a job would start another.
        (DecodeError("half a body", status=200), (READ,)),
        # The same again would be as large.
        (ResponseTooLargeError(limit=64, status=200), ()),
        # The same again would be refused again.
        (refused(302), ()),
        (refused(400), ()),
        (refused(400, "BMS.0036"), ()),
        (refused(401), ()),
        (refused(403), ()),
        (refused(404), ()),
        (refused(405), ()),
        (refused(409), ()),
        (refused(501), ()),
        (refused(505), ()),
    ],
    ids=str,
)
def test_what_may_be_sent_again(error: CallError, repeatable: tuple[Safety, ...]) -> None:
    assert {safety for safety in Safety if may_retry(safety, error)} == set(repeatable)


@given(status=st.integers(300, 599), code=st.sampled_from([None, "BMS.0212", "BMS.0036", "X"]))
def test_an_unsafe_call_is_never_sent_again_when_it_may_have_been_done(status: int, code: str | None) -> None:
    error = refused(status, code)

    assert not (may_retry(UNSAFE, error) and error.maybe_done)
    assert not may_retry(UNSAFE, error) or may_retry(IDEMPOTENT, error)
    assert not may_retry(IDEMPOTENT, error) or may_retry(READ, error)


@given(policy=POLICIES, attempt=st.integers(1, 10_000), draw=DRAWS)
def test_a_delay_is_never_negative_and_never_above_the_cap(policy: RetryPolicy, attempt: int, draw: float) -> None:
    assert 0 <= retry_delay(policy, attempt=attempt, retry_after=None, jitter=draw) <= policy.max_delay


@given(policy=POLICIES, attempt=st.integers(1, 10_000), asked=st.floats(-100, 1e9), draw=DRAWS)
def test_what_the_cloud_asked_for_wins_whatever_the_cap_up_to_an_hour(
    policy: RetryPolicy, attempt: int, asked: float, draw: float
) -> None:
    assert retry_delay(policy, attempt=attempt, retry_after=asked, jitter=draw) == min(max(asked, 0.0), 3600)


@given(policy=POLICIES, attempt=st.integers(1, 50), draw=DRAWS)
def test_the_room_for_jitter_doubles_with_each_failure_until_the_cap(
    policy: RetryPolicy, attempt: int, draw: float
) -> None:
    now = retry_delay(policy, attempt=attempt, retry_after=None, jitter=draw)
    later = retry_delay(policy, attempt=attempt + 1, retry_after=None, jitter=draw)

    assert later == pytest.approx(min(2 * now, draw * policy.max_delay))


def test_the_first_delay_is_drawn_below_the_base() -> None:
    assert retry_delay(RetryPolicy(initial_delay=0.5), attempt=1, retry_after=None, jitter=0.999) < 0.5
    assert retry_delay(RetryPolicy(initial_delay=0.5), attempt=1, retry_after=None, jitter=0.0) == 0.0


def test_no_retry_is_one_try_and_no_patience() -> None:
    assert (NO_RETRY.attempts, NO_RETRY.rate_limit_attempts) == (1, 0)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("attempts", 0, "at least 1"),
        ("attempts", 1.5, "an int"),
        ("rate_limit_attempts", -1, "at least 0"),
        ("rate_limit_attempts", True, "an int"),
        ("initial_delay", -1, "seconds"),
        ("initial_delay", math.nan, "seconds"),
        ("max_delay", math.inf, "seconds"),
        ("max_delay", "x", "seconds"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_its_argument(name: str, value: object, rule: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"{name}=.*{rule}"):
        RetryPolicy(**{name: value})  # type: ignore[arg-type]
