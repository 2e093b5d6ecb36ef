"""What every test may use."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import TEMPLATE, PostgresServer, running_postgres
from tests.support.redis import RedisServer, running_redis


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run in."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL, one for each test process. A test that stops it starts it again."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Valkey, one for each test process. A test that stops it starts it again."""
    with running_redis() as server:
        yield server


@pytest.fixture
async def database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database of the test's own, at this release's schema."""
    async with postgres_server.database(TEMPLATE) as dsn:
        yield dsn


@pytest.fixture
async def empty_database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database of the test's own, with nothing in it."""
    async with postgres_server.database("template1") as dsn:
        yield dsn
