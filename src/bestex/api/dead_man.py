"""The dead-man switch: unless its caller renews it, the caller's resting orders are cancelled."""

from typing import Any

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from bestex.api.bodies import DeadManBody
from bestex.api.execute import require_json
from bestex.api.order_control import read_dead_man
from bestex.api.orders import OrderReader
from bestex.domain.events import timestamp_text
from bestex.engine.intake import CALLER
from bestex.ports import DeadMan


class DeadManState(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How the switch stands."""

    armed: bool
    due_at: str | None = None  # when it strikes, unless renewed
    keep_stops: bool | None = None


def _state(switch: DeadMan | None) -> DeadManState:
    if switch is None:
        return DeadManState(armed=False)
    return DeadManState(True, timestamp_text(switch.due_us), switch.keeps_stops)


async def _check_body(request: Request[Any, Any, Any]) -> None:
    """Name every bad field before the body is decoded, which stops at the first."""
    content_type = request.headers.get("content-type")
    require_json(content_type.encode("latin-1") if content_type else None)
    read_dead_man(await request.body())


class DeadManRoutes(Controller):
    path = "/api/deadman"
    tags = ("orders",)

    @post("/", status_code=200, summary="Arm or renew the dead-man switch", before_request=_check_body)
    async def arm(
        self, request: Request[Any, Any, Any], data: JSONBody[DeadManBody], reader: NamedDependency[OrderReader]
    ) -> DeadManState:
        """Unless it is renewed in time, the caller's resting orders are cancelled; 0 seconds disarm it."""
        wish = read_dead_man(await request.body())
        if wish.seconds == 0:
            await reader.dead_man.disarm(CALLER)
            return _state(None)
        return _state(await reader.dead_man.arm(CALLER, wish.seconds, wish.keeps_stops))

    @get("/", summary="Whether the dead-man switch is armed, and until when")
    async def switch(self, reader: NamedDependency[OrderReader]) -> DeadManState:
        return _state(await reader.dead_man.switch(CALLER))

    @delete("/", status_code=200, summary="Disarm the dead-man switch")
    async def disarm(self, reader: NamedDependency[OrderReader]) -> DeadManState:
        await reader.dead_man.disarm(CALLER)
        return _state(None)
