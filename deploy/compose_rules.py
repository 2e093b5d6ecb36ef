"""What this engine needs of a compose file, which no schema says. A rule yields a line for each break of it."""

import re
from collections.abc import Iterator
from typing import Any, Final

import typer.main
from pydantic import ValidationError
from pydantic_settings import PydanticBaseSettingsSource

from bestex import __version__
from bestex.cli import app
from bestex.config import Settings, unknown_settings

AT_LEAST: Final = {"api": 2, "worker": 2, "watcher": 1, "simnet": 1}
"""How many of each role; of `simnet` no more, either: there is one market and one chain."""
HOST_NAMES: Final = ("DATABASE_URL", "PORT", "REDIS_URL")
"""Settings as hosts name them; all others begin with BESTEX_."""
STOP_MARGIN_S: Final = 2.0
"""What a stop needs beside its drain, for the process to end."""
POSTGRES_MINIMUM: Final = 17
DATABASE_FOLDER: Final = "/var/lib/postgresql"
HEADS_FOLDER: Final = "/var/lib/bestex"

Service = dict[str, Any]

_PINNED = re.compile(r".+(:[^:/]*\d+\.\d+[^:/]*|@sha256:[0-9a-f]{64})")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def problems_of_ours(content: dict[str, Any]) -> Iterator[str]:
    """Everything wrong with a compose file that has the right form."""
    services: dict[str, Service] = content.get("services") or {}
    ours = {name: each for name, each in services.items() if _role(each) is not None}
    yield from _roles(services)
    for name, service in services.items():
        for problem in (
            *_image(service),
            *_health(service),
            *_restart(service),
            *_ports(service),
            *_dependencies(service, services),
            *_volumes(service, content.get("volumes") or {}),
        ):
            yield f"services.{name}: {problem}"
    for name, service in ours.items():
        for problem in (*_command(service), *_settings(service), *_stop(service), *_needs(service)):
            yield f"services.{name}: {problem}"
    yield from _databases(services)


def _role(service: Service) -> str | None:
    """The role that a service plays, the first word of its command; None when it is not the engine's."""
    if not str(service.get("image", "")).startswith("bestex:"):
        return None
    command = service.get("command") or ["serve"]  # what the image does without one
    return str((command.split() if isinstance(command, str) else command)[0])


def _roles(services: dict[str, Service]) -> Iterator[str]:
    count = dict.fromkeys(AT_LEAST, 0)
    for service in services.values():
        role = _role(service)
        if role in count:
            count[role] += int((service.get("deploy") or {}).get("replicas") or service.get("scale", 1))
    for role, wanted in AT_LEAST.items():
        if count[role] < wanted:
            yield f"services: {count[role]} of the role {role}, expected at least {wanted}"
    if count["simnet"] > 1:
        yield f"services: {count['simnet']} of the role simnet: all must see one market and one chain"


def _command(service: Service) -> Iterator[str]:
    role = _role(service)
    commands = typer.main.get_command(app)
    if role == "serve":
        yield "`serve` is all roles in one process and shares its database with nobody"
    elif role not in getattr(commands, "commands", {}):
        yield f"bestex has no command `{role}`"


def _image(service: Service) -> Iterator[str]:
    image = str(service.get("image", ""))
    if not _PINNED.fullmatch(image):
        yield f"the image {image or '(none)'} is not pinned to a version, such as name:1.2"
    if image.startswith("bestex:") and image != f"bestex:{__version__}":
        yield f"the image {image} is not this release's, bestex:{__version__}"


def _health(service: Service) -> Iterator[str]:
    health = service.get("healthcheck")
    if not health or health.get("disable") or health.get("test") in (None, "NONE", ["NONE"]):
        yield "no health check"


def _restart(service: Service) -> Iterator[str]:
    if service.get("restart") not in ("always", "unless-stopped"):
        yield "it is not started again when it ends: expected restart: unless-stopped"


def _ports(service: Service) -> Iterator[str]:
    for port in service.get("ports") or []:
        address = port.get("host_ip") if isinstance(port, dict) else str(port).rpartition(":")[0].rpartition(":")[0]
        if address != "127.0.0.1":
            yield f"the port {port} is open to other machines, and there are no keys: expected 127.0.0.1:..."
    if service.get("network_mode") == "host":
        yield "the machine's own network is open to other machines, and there are no keys"


def _dependencies(service: Service, services: dict[str, Service]) -> Iterator[str]:
    needed = service.get("depends_on") or {}
    for name in needed:
        if name not in services:
            yield f"it depends on {name}, which is no service here"
        elif isinstance(needed, list) or needed[name].get("condition") != "service_healthy":
            yield f"it does not wait until {name} is healthy: expected condition: service_healthy"


def _volumes(service: Service, volumes: dict[str, Any]) -> Iterator[str]:
    for source in _mounts(service).values():
        if source and not source.startswith((".", "/", "~")) and source not in volumes:
            yield f"the volume {source} is not among the file's volumes"


def _mounts(service: Service) -> dict[str, str]:
    """Where each volume is mounted: the folder, and what stands there."""
    found: dict[str, str] = {}
    for volume in service.get("volumes") or []:
        if isinstance(volume, dict):
            found[str(volume.get("target", ""))] = str(volume.get("source", ""))
        else:
            source, _, rest = str(volume).partition(":")
            found[rest.partition(":")[0]] = source
    return found


def _settings(service: Service) -> Iterator[str]:
    """Settings that do not exist, and values that they do not take."""
    given = _environment(service)
    for name in unknown_settings(given):
        yield f"{name} is no setting"
    fields = {_variable(field): field for field in Settings.model_fields}
    for name in HOST_NAMES:
        if name in given and name not in fields:
            yield f"{name} is no setting"
    try:
        _Given(**{fields[name]: value for name, value in given.items() if name in fields})  # type: ignore[arg-type]
    except ValidationError as error:
        for each in error.errors():
            where = "".join(f"{_variable(str(part))}: " for part in each["loc"][:1])  # none for a rule over several
            yield where + each["msg"].removeprefix("Value error, ")


class _Given(Settings):
    """The settings as a service gets them: nothing of this process's own environment."""

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: object, init_settings: PydanticBaseSettingsSource, **_: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _variable(field: str) -> str:
    """How a setting is named in an environment."""
    return field.upper() if field.upper() in HOST_NAMES else f"BESTEX_{field.upper()}"


def _environment(service: Service) -> dict[str, str]:
    """What a service gets from the file; not what it takes over from whoever starts it, which has no value here."""
    given = service.get("environment") or {}
    if isinstance(given, list):
        given = dict(each.split("=", 1) for each in given if "=" in each)
    return {str(name): str(value) for name, value in given.items() if value is not None}


def _stop(service: Service) -> Iterator[str]:
    drain_s = float(_environment(service).get("BESTEX_DRAIN_S", Settings.model_fields["drain_s"].default))
    grace = str(service.get("stop_grace_period", "10s"))
    found = _DURATION.fullmatch(grace)
    hours, minutes, seconds = (int(part or 0) for part in (found.groups() if found else (0, 0, 0)))
    if hours * 3600 + minutes * 60 + seconds < drain_s + STOP_MARGIN_S:
        yield f"it is killed {grace} after it was told to stop, and may take {drain_s:g} s: raise stop_grace_period"


def _needs(service: Service) -> Iterator[str]:
    if HEADS_FOLDER not in _mounts(service) and "BESTEX_HEAD_FILE" not in _environment(service):
        yield f"the log's published heads are lost with the container: expected a volume on {HEADS_FOLDER}"
    user = str(service.get("user", ""))
    if user.split(":")[0] in ("root", "0") or service.get("privileged"):
        yield "it runs as root"


def _databases(services: dict[str, Service]) -> Iterator[str]:
    images = {name: str(each.get("image", "")) for name, each in services.items()}
    postgres = [name for name, image in images.items() if re.match(r"(.*/)?postgres:", image)]
    if not postgres:
        yield "services: no PostgreSQL"
    for name in postgres:
        version = re.search(r":(\d+)", images[name])
        if version is not None and int(version[1]) < POSTGRES_MINIMUM:
            yield f"services.{name}: PostgreSQL {version[1]} is too old: {POSTGRES_MINIMUM} or later is needed"
        if DATABASE_FOLDER not in _mounts(services[name]):
            yield f"services.{name}: the database is lost with the container: expected a volume on {DATABASE_FOLDER}"
    if not any(re.match(r"(.*/)?(valkey|redis):", image) for image in images.values()):
        yield "services: neither Valkey nor Redis"
