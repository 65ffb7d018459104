"""The script of Redis and Valkey is the rule book: on drawn histories it answers and keeps what Python does."""

from __future__ import annotations

import importlib.resources
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bms_async.limits.shared.messages import Answer
from bms_async.limits.shared.store import decode_account, decode_ledger
from tests.limits.shared._servers import Server
from tests.limits.shared._steps import Step, play

SCRIPT = importlib.resources.files("bms_async.limits.shared").joinpath("ledger.lua").read_text("utf-8")
LENGTH = 700

# What each changes in the script, and why it matters.
MUTANTS = {
    "a question is dealt with twice": ("question[Q_SEQ] > holder[SEQ] then", "question[Q_SEQ] >= holder[SEQ] then"),
    "an older question counts": ("question[Q_SEQ] < holder[SEQ] then", "false then"),
    "a holder that came back keeps what it had": ("if question[Q_SEQ] > 1 then", "if false then"),
    "slots of the dead come back a timeout too soon": ("holder[ENDS] + terms[T_TIMEOUT]", "holder[ENDS]"),
    "a new account opens too soon": ("terms[T_LEASE] + terms[T_TIMEOUT] + CLOCK_DRIFT + terms", "terms"),
    "a limit that is lost is a new one": ("if is_named then\n", "if false then\n"),
    "another life is the same": (
        "or account[A_LIFE] ~= life then return {VERSION, life, now, now + closed",
        "then return {VERSION, life, now, now + closed",
    ),
    "a clock that went back is not seen": ("if now < ledger[L_SEEN] then", "if false then"),
    "a jump ahead is not seen": ("if question[Q_JUMPED] then", "if false then"),
    "calls end before they ended": ("ceil(ended * GRAINS)", "floor(ended * GRAINS)"),
    "who waits less comes first": ("return one_since < other_since", "return one_since > other_since"),
    "holders are in another order": ("return mine < theirs", "return mine > theirs"),
    "bulk takes the reserve": ("free - taken - reserve", "free - taken"),
    "a reserve may be all there is": ("min(question[Q_RESERVE], ledger", "max(question[Q_RESERVE], ledger"),
    "a negative number frees what is used": ("max(0, min(question[Q_UNUSED], holder[HELD]))", "question[Q_UNUSED]"),
    "an age is believed however long": (
        "min(end_of[1] > 0 and end_of[1] or 0, ledger[L_ADAPTIVE][WINDOW])",
        "end_of[1]",
    ),
    "half a slot": ("floor(for_nobody / 2)", "for_nobody / 2"),
    "a 429 does not shrink": ("* SHRINK_FACTOR", "* 1"),
    "a quota is kept for ever": ("now >= adaptive[FORGET_AT]", "false"),
    "the highest limit counts": ("holders[place][LIMIT] < limit", "holders[place][LIMIT] ~= limit"),
}


class DifferenceError(Exception):
    pass


def compare(client: redis.Redis, script: str, history: Sequence[Step]) -> None:
    """Have a history dealt with by a script, all in one go, and raise where it differs."""
    pipeline, key = client.pipeline(transaction=False), "history"
    pipeline.delete(key)
    for step in history:
        if step.questions is None and step.lost:
            pipeline.hdel(key, f"limit:{step.lost}")
        elif step.questions is None:
            pipeline.delete(key)
        else:
            asked = msgspec.msgpack.encode(step.questions) if step.questions else b""
            pipeline.eval(script, 1, key, step.life, asked, repr(step.now))
        pipeline.hgetall(key)
    replies = pipeline.execute(raise_on_error=False)[1:]
    for number, (step, reply, kept) in enumerate(zip(history, replies[::2], replies[1::2], strict=True)):
        if isinstance(reply, Exception):
            raise DifferenceError(f"step {number}: {reply}")
        try:
            compare_step(number, step, reply, kept)
        except msgspec.DecodeError as error:
            raise DifferenceError(f"step {number}: {error}") from error


def compare_step(number: int, step: Step, reply: Any, kept: dict[bytes, bytes]) -> None:
    if step.questions is not None:
        differ(f"answers of step {number}", list(step.answers), msgspec.msgpack.decode(reply, type=list[Answer]))
    differ(f"account after step {number}", decode_account(step.account), decode_account(kept.pop(b"account", None)))
    ledgers = {name.removeprefix(b"limit:").decode(): decode_ledger(data) for name, data in kept.items()}
    differ(f"limits after {number}", {name: decode_ledger(data) for name, data in step.ledgers.items()}, ledgers)


def differ(what: str, expected: object, got: object) -> None:
    if expected != got:
        raise DifferenceError(f"{what}: Python has\n{expected}\nand Lua\n{got}")


@cache
def histories() -> list[list[Step]]:
    chance = random.Random(7)
    # In some of them many come together.
    return [play(chance.randbytes(LENGTH * (1 if number % 6 else 6))) for number in range(60)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(min_size=LENGTH // 2, max_size=2 * LENGTH))
def test_lua_answers_and_keeps_what_python_does(server: Server, data: bytes) -> None:
    with server.client() as client:
        compare(client, SCRIPT, play(data))


def compare_all(client: redis.Redis, script: str) -> None:
    for history in histories():
        compare(client, script, history)


def test_histories_hold_whatever_can_happen(server: Server) -> None:
    answers = [answer for history in histories() for step in history for answer in step.answers]
    with server.client() as client:
        compare_all(client, SCRIPT)
    assert len(answers) > 1000
    for happens in (
        lambda answer: answer.granted > 0,
        lambda answer: not answer.known,
        lambda answer: answer.scarce,
        lambda answer: answer.closed_for > 0,
        lambda answer: answer.blocked_for > 0,
        lambda answer: len(answer.quota) > 0,
        lambda answer: answer.holders > 2,
        lambda answer: answer.used > answer.capacity,
    ):
        assert sum(map(happens, answers)) > 50


@pytest.mark.parametrize("change", MUTANTS.values(), ids=MUTANTS)
def test_a_script_with_a_mistake_is_caught(valkey: Server, change: tuple[str, str]) -> None:
    before, after = change
    assert SCRIPT.count(before) == 1
    mutant = SCRIPT.replace(before, after)
    with valkey.client() as client, pytest.raises(DifferenceError):
        compare_all(client, mutant)
