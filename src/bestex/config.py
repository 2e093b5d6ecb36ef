"""Settings: from the environment, as hosts set them; everything of our own begins with BESTEX_."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def default_data_dir() -> Path:
    """Where the embedded database lives when nothing else is said."""
    return Path("/var/lib/bestex") if os.geteuid() == 0 else Path("~/.local/share/bestex").expanduser()


def unknown_settings(environment: Iterable[str]) -> list[str]:
    """The BESTEX_ names of an environment that name no setting: most likely misspelt."""
    known = {f"BESTEX_{name.upper()}" for name in Settings.model_fields} | {"BESTEX_URL"}  # that one is the client's
    return sorted(name for name in environment if name.startswith("BESTEX_") and name not in known)


Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Every setting with its unit and default."""

    model_config = SettingsConfigDict(env_prefix="BESTEX_", frozen=True, extra="forbid", populate_by_name=True)

    port: int = Field(4000, ge=1, le=65_535, validation_alias=AliasChoices("PORT", "port"))
    host: str = "127.0.0.1"  # the address to listen on; until there are keys, only this machine's own
    allowed_hosts: Words = ()  # Host headers admitted beside this machine's own, comma-separated
    cors_origins: Words = ()  # front ends that may call, such as http://localhost:5173, comma-separated

    private_network: bool = False  # `host` may be reached by others: all of them may trade

    database_url: str | None = Field(None, validation_alias=AliasChoices("DATABASE_URL", "database_url"))
    data_dir: Path = Field(default_factory=default_data_dir)  # of the embedded database, without database_url
    head_file: Path | None = None  # where the log's head is published; None: data_dir/heads/JOURNAL_ID.json
    postgres_user: str = "nobody"  # whom the embedded server runs as when the engine runs as root

    # Of processes that share a database: api, worker, watcher
    queue: Literal["postgres", "bullmq"] = "postgres"  # what tells workers of orders
    redis_url: str | None = Field(None, validation_alias=AliasChoices("REDIS_URL", "redis_url"))
    simnet_url: str = "http://127.0.0.1:4100"  # the simulated market and chain
    health_port: int | None = Field(None, ge=1, le=65_535)  # of a worker or a watcher: /healthz, /readyz, /metrics

    profile: Literal["realistic", "instant"] = "realistic"  # the simulated venues' times
    seed: int = Field(1, ge=0, le=2**63 - 1)  # of the simulated market's nature
    sim_slot_ms: int | None = Field(None, ge=1, le=60_000)  # None: 400, or 4 under `instant`
    sim_launch_every_s: int | None = Field(None, ge=0, le=86_400)  # 0: none are; None: 120, or 0 under `instant`
    sim_faults: str = ""  # such as quote_timeout=0.1,raydium_down=1
    tokens_file: Path | None = None  # the token registry; None: the built-in one

    concurrency: int = Field(1_000, ge=1, le=1_000_000)  # orders executing at once
    intake: int = Field(10_000, ge=1, le=10_000_000)  # orders waiting to be executed
    open_orders: int = Field(100_000, ge=1, le=10_000_000)  # orders accepted and not ended
    watched_orders: int = Field(2_000_000, ge=1, le=100_000_000)  # orders that wait for a price or a launch
    quote_timeout_ms: int = Field(1_000, ge=1, le=60_000)  # each venue's deadline
    quote_grace_ms: int = Field(250, ge=0, le=60_000)  # for the others once one venue has quoted
    retry_attempts: int = Field(3, ge=1, le=3)
    retry_base_ms: int = Field(500, ge=0, le=60_000)  # pause before the second attempt
    retry_factor: float = Field(2.0, ge=1, le=10)
    retry_max_ms: int = Field(10_000, ge=0, le=600_000)
    retry_jitter: float = Field(0.2, ge=0, le=1)  # share of the pause that is random
    rearm_base_ms: int = Field(500, ge=0, le=60_000)  # pause before a watched order that fired in vain may fire again
    rearm_max_ms: int = Field(60_000, ge=0, le=3_600_000)  # each pause is twice the last one, up to this

    drain_s: float = Field(10.0, ge=0, le=3_600)  # the most that a stop takes

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool | None = None  # None: for people on a terminal, JSON elsewhere

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return tuple(filter(None, (word.strip() for word in value.split(",")))) if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("postgresql", "postgres"):
                raise ValueError("must be a URL such as postgresql://user:password@host:5432/database")
            _ = parts.port  # raises for one that is no number
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("redis", "rediss"):
                raise ValueError("must be a URL such as redis://user:password@host:6379/0")
            _ = parts.port  # raises for one that is no number
        return value

    @field_validator("simnet_url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("must be a URL such as http://127.0.0.1:4100")
        _ = parts.port  # raises for one that is no number
        return value

    @model_validator(mode="after")
    def _queue_has_redis(self) -> "Settings":
        if self.queue == "bullmq" and self.redis_url is None:
            raise ValueError("BESTEX_QUEUE=bullmq needs REDIS_URL")
        return self

    @property
    def database_host(self) -> str:
        """Where the external database is, for a person to read: without the password."""
        parts = urlsplit(self.database_url or "")
        return f"{parts.hostname or 'the local socket'}:{parts.port or 5432}"

    @model_validator(mode="after")
    def _local_only(self) -> "Settings":
        if not self.private_network and self.host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(
                "BESTEX_HOST: until there are keys, the engine listens on this machine's own addresses only. Inside a"
                " network of your own, whose every machine may trade, set BESTEX_PRIVATE_NETWORK=true."
            )
        return self
