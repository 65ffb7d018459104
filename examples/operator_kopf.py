"""Keep the power of servers as objects in Kubernetes have it: an operator on kopf.

    pip install '.[cli,simulator]' kopf
    kubectl apply -f examples/operator_kopf.yaml                                       # the kind BareMetalPower
    python -m bms_async.simulator --servers 100 --port 8800 --project-id demo --token demo --job-seconds 1 3
    export BMS_ENDPOINT=http://127.0.0.1:8800 OS_PROJECT_ID=demo OS_TOKEN=demo         # in another terminal
    kopf run --all-namespaces examples/operator_kopf.py
    kubectl apply -f - <<END                                   # in a third one, with the same variables
    {apiVersion: bms.example.com/v1, kind: BareMetalPower, metadata: {name: web-1},
     spec: {serverId: $(bms servers list --ids | head -1), power: "off"}}
    END
    kubectl wait --for=jsonpath='{.status.condition}'=Synced baremetalpower/web-1

An object has the id of a server and `power: "on"` or `"off"`. Handlers only say what is desired, which costs no call;
the reconciler compares, asks for all servers that differ together, waits longer and longer for those that fail, and
repairs what somebody else has changed. The status says how far it is, with the cloud's own words. Deleting an object
leaves its server as it is. Where BMS_RUNS is set, several replicas may run: one acts, and none asks twice.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import anyio
import kopf

from bms_async import BmsClient, Degraded, Progressing, Reconciler, ServerStatus, Synced

KIND = ("bms.example.com", "v1", "baremetalpowers")
STATUSES = {"on": ServerStatus.ACTIVE, "off": ServerStatus.SHUTOFF}
AGAIN = 60.0
"""Seconds after which an object whose server another one has is looked at again."""


@kopf.on.startup(errors=kopf.ErrorsMode.PERMANENT)
async def open_client(memo: kopf.Memo, **_: Any) -> None:
    """Open what the handlers share; wrong settings end the operator at once."""
    memo.owners, memo.sleeping = {}, {}
    async with AsyncExitStack() as stack:
        bms = await stack.enter_async_context(BmsClient.from_env())
        # The reconciler is left first: then there are no more changes, and the task that reads them ends.
        tasks = await stack.enter_async_context(anyio.create_task_group())
        memo.power = await stack.enter_async_context(bms.reconciler())
        tasks.start_soon(wake_up, memo.power, memo)
        memo.stack = stack.pop_all()


@kopf.on.cleanup()
async def close_client(memo: kopf.Memo, **_: Any) -> None:
    """Send nothing more; what the cloud has accepted goes on there."""
    await memo.stack.aclose()


@kopf.on.resume(*KIND)
@kopf.on.create(*KIND)
@kopf.on.update(*KIND, field="spec")
async def want(
    *, spec: kopf.Spec, status: kopf.Status, meta: kopf.Meta, uid: str, patch: kopf.Patch, memo: kopf.Memo, **_: Any
) -> None:
    """Desire what the object says."""
    server_id = spec["serverId"]
    if memo.owners.setdefault(server_id, uid) != uid:
        why = f"another object has server {server_id}; delete one of them"
        patch.status.update({"condition": "Conflict", "message": why})
        raise kopf.TemporaryError(why, delay=AGAIN)
    memo.power.want(STATUSES[spec["power"]], [server_id])
    if status.get("observedGeneration") != meta.get("generation"):
        # What the status says is about an older wish.
        patch.status.update({"condition": "Progressing", "observedGeneration": meta.get("generation")})


@kopf.on.delete(*KIND)
async def forget(*, spec: kopf.Spec, uid: str, memo: kopf.Memo, **_: Any) -> None:
    """Desire nothing of the server any more, also where an operator before this one has desired it, by the journal."""
    if memo.owners.get(spec["serverId"], uid) == uid:
        memo.owners.pop(spec["serverId"], None)
        memo.power.forget([spec["serverId"]])


@kopf.timer(*KIND, interval=1.0)
async def show(
    *, spec: kopf.Spec, status: kopf.Status, uid: str, patch: kopf.Patch, memo: kopf.Memo, **more: Any
) -> None:
    """Wait until the reconciler says something else than the status; kopf patches the object when this returns."""
    # A timer is stopped like a daemon, as its object is deleted or the operator ends.
    stopped: kopf.DaemonStopped = more["stopped"]
    while not stopped:
        if memo.owners.get(spec["serverId"]) == uid:
            shown = describe(memo.power.condition(spec["serverId"]))
            if any(status.get(key) != value for key, value in shown.items()):
                patch.status.update(shown)
                return
        with anyio.CancelScope() as memo.sleeping[uid]:
            await stopped.wait()
    memo.sleeping.pop(uid, None)


async def wake_up(power: Reconciler, memo: kopf.Memo) -> None:
    """Wake the timer of each object whose server has another condition now."""
    async for change in power.changes():
        sleeper = memo.sleeping.pop(memo.owners.get(change.server_id), None)
        if sleeper is not None:
            sleeper.cancel()


def describe(condition: Synced | Progressing | Degraded | None) -> dict[str, Any]:
    """Write a condition as the object's status; None removes a field."""
    if condition is None:
        return {}
    shown: dict[str, Any] = dict.fromkeys(("message", "code", "attempts", "nextTry"))
    shown |= {"condition": type(condition).__name__, "since": condition.since.isoformat(timespec="seconds")}
    match condition:
        case Progressing(why=why):
            shown["message"] = why
        case Degraded(reason=reason, attempts=attempts, next_try=next_try):
            shown |= {"message": str(reason), "code": getattr(reason, "code", None), "attempts": attempts}
            shown["nextTry"] = next_try and next_try.isoformat(timespec="seconds")
    return shown
