"""Administrative calls of the simulator: not counted, without credentials, on the loopback interface only."""

from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.drift import Drift
from bms_async.simulator.core.faults import Script, ScriptedFault
from bms_async.simulator.core.refusals import Refusal
from bms_async.simulator.http.gateway import refuse, respond
from bms_async.simulator.http.requests import read_page
from bms_async.simulator.http.status_page import read_status

__all__ = ["admin_routes"]

_JSON: Final = "application/json"
_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(list[ScriptedFault]).decode
_DECODE_PLAN: Final = msgspec.json.Decoder(list[Drift]).decode


def admin_routes(cloud: Cloud) -> list[Route]:
    """The routes under `/_admin` for one cloud."""

    async def calls(_request: Request) -> Response:
        return respond(cloud, 200, _ENCODE(cloud.call_counts()))

    async def servers(_request: Request) -> Response:
        await cloud.settle()
        return respond(cloud, 200, _ENCODE(cloud.count_servers()))

    async def work(_request: Request) -> Response:
        return respond(cloud, 200, _ENCODE(cloud.activity.power_counts()))

    async def status(_request: Request) -> Response:
        # Without a request id: drawing one would change the ids of later responses.
        return Response(_ENCODE(await read_status(cloud)), headers={"Cache-Control": "no-store"}, media_type=_JSON)

    async def ids(request: Request) -> Response:
        query = dict(request.query_params)
        most = query.pop("limit", "")
        try:
            filters = read_page(query).filters
        except Refusal as refusal:
            return refuse(cloud, refusal)
        limit = int(most) if most.isascii() and most.isdecimal() else cloud.settings.servers
        count, found = await cloud.find(filters, 0, limit)
        return respond(cloud, 200, _ENCODE({"count": count, "ids": [server.id for server in found]}))

    async def reachable(request: Request) -> Response:
        # For readiness checks by HTTP: a simulated server has no address that answers. Without a request id, as below.
        status = 200 if cloud.is_reachable(request.path_params["machine_id"]) else 503
        return Response(b"{}", status, headers={"Cache-Control": "no-store"}, media_type=_JSON)

    async def faults(request: Request) -> Response:
        try:
            script = Script(_DECODE(await request.body()))
        except msgspec.DecodeError as error:
            return refuse(cloud, Refusal(400, "BMS.0001", f"No script of faults: {error}"))
        cloud.faults.append(script)
        return respond(cloud, 200, b"{}")

    async def revoke(_request: Request) -> Response:
        return respond(cloud, 200, _ENCODE({"revoked": cloud.revoke_tokens()}))

    return [
        Route("/_admin/calls", calls),
        Route("/_admin/servers", servers),
        Route("/_admin/servers/ids", ids),
        Route("/_admin/servers/{machine_id}/reachable", reachable),
        Route("/_admin/status", status),
        Route("/_admin/servers/work", work),
        Route("/_admin/faults", faults, methods=["POST"]),
        Route("/_admin/drift", partial(_drift, cloud), methods=["POST"]),
        Route("/_admin/tokens", revoke, methods=["DELETE"]),
    ]


async def _drift(cloud: Cloud, request: Request) -> Response:
    try:
        cloud.drifting.plan(_DECODE_PLAN(await request.body()))
    except ValueError as error:
        return refuse(cloud, Refusal(400, "BMS.0001", f"No plan of drifts: {error}"))
    return respond(cloud, 200, b"{}")
