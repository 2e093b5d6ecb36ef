"""compose.yaml is sound, and a broken one is told plainly: what is wrong, and where."""

from pathlib import Path

import pytest

from deploy.check_compose import check, read, schema_problems, tool_problem
from deploy.compose_rules import problems_of_ours

"""What is wrong with compose.yaml until the roles are commands."""

BROKEN = {
    "a service's key is misspelt": ("restart: unless-stopped", "restrat: unless-stopped", "services.entrance: "),
    "a role is missing": ("command: [watcher]", "command: [worker]", "0 of the role watcher, expected at least 1"),
    "too few of a role": ("replicas: 2", "replicas: 1", "1 of the role worker, expected at least 2"),
    "two chains": (
        'PORT: "4100"\n',
        'PORT: "4100"\n    scale: 2\n',
        "2 of the role simnet: all must see one market and one chain",
    ),
    "an inline engine": ("command: [watcher]", "command: [serve]", "shares its database with nobody"),
    "a port is open to all": ('"127.0.0.1:${PORT:-4000}:4000"', '"4000:4000"', "the port 4000:4000 is open to other"),
    "a port is open to one network": ('"127.0.0.1:${', '"10.0.0.7:${', "there are no keys: expected 127.0.0.1:"),
    "a role without a health check": (
        "[CMD, bestex, health]",
        "[NONE]",
        "services.watcher: no health check",
    ),
    "a database that is not waited for": (
        "postgres: { condition: service_healthy }",
        "postgres: { condition: service_started }",
        "services.simnet: it does not wait until postgres is healthy",
    ),
    "a service that is not there": (
        "simnet: { condition: service_healthy }",
        "simulator: { condition: service_healthy }",
        "it depends on simulator, which is no service here",
    ),
    "a misspelt setting": ("BESTEX_DRAIN_S", "BESTEX_DRAIN_SECONDS", "BESTEX_DRAIN_SECONDS is no setting"),
    "a setting's value": (
        "${BESTEX_PROFILE:-realistic}",
        "fast",
        "BESTEX_PROFILE: Input should be 'realistic' or 'instant'",
    ),
    "a network that is not declared private": (
        'BESTEX_PRIVATE_NETWORK: "true"',
        'BESTEX_PRIVATE_NETWORK: "false"',
        "listens on this machine's own addresses only",
    ),
    "bullmq without a Redis": (
        "BESTEX_QUEUE: ${BESTEX_QUEUE:-postgres}",
        "REDIS_URL: null\n  BESTEX_QUEUE: bullmq",
        "BESTEX_QUEUE=bullmq needs REDIS_URL",
    ),
    "another database": (
        "postgresql://bestex:",
        "mysql://bestex:",
        "DATABASE_URL: must be a URL such as postgresql://",
    ),
    "killed too early": ("stop_grace_period: 15s", "stop_grace_period: 10s", "may take 10 s: raise stop_grace_period"),
    "a moving image": ("valkey:9.1.1-alpine", "valkey:latest", "the image valkey/valkey:latest is not pinned"),
    "an image without a version": ("image: caddy:2.11.4-alpine", "image: caddy", "the image caddy is not pinned"),
    "another release's image": ("image: bestex:0.1.0", "image: bestex:0.0.9", "the image bestex:0.0.9 is not this"),
    "an old PostgreSQL": ("postgres:18.6-trixie", "postgres:16.14", "PostgreSQL 16 is too old: 17 or later is needed"),
    "no volume for the database": (
        'volumes: ["database:/var/lib/postgresql"]',
        'volumes: ["database:/var/lib/postgresql/data"]',
        "the database is lost with the container",
    ),
    "no volume for the heads": (
        'volumes: ["heads:/var/lib/bestex"]',
        "volumes: []",
        "services.api-1: the log's published heads are lost",
    ),
    "a volume that is not declared": ("\n  heads:\n", "\n  haeds:\n", "the volume heads is not among the file's"),
    "not started again": ("restart: unless-stopped", 'restart: "no"', "it is not started again when it ends"),
    "root": ("  read_only: true\n  tmpfs: [/tmp]", "  user: root\n  tmpfs: [/tmp]", "services.worker: it runs as root"),
}


@pytest.fixture(scope="module")
def compose(repository: Path) -> str:
    return (repository / "compose.yaml").read_text(encoding="utf-8")


def problems(text: str) -> list[str]:
    """By the schema, and where it has none, by our own rules."""
    content = read(text)
    return list(schema_problems(content)) or list(problems_of_ours(content))


def test_the_compose_file_is_sound(compose: str) -> None:
    assert problems(compose) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_what_is_wrong_and_where(name: str, compose: str) -> None:
    before, after, told = BROKEN[name]
    broken = compose.replace(before, after)
    assert broken != compose, "the example no longer fits compose.yaml"
    assert told not in "\n".join(problems(compose))
    assert told in "\n".join(problems(broken))


def test_what_is_no_yaml_is_told_and_nothing_else_is_looked_at(tmp_path: Path) -> None:
    file, said = tmp_path / "compose.yaml", list[str]()
    file.write_text("services: [", encoding="utf-8")
    assert not check(file, said.append)
    assert len(said) == 1
    assert said[0].startswith("compose.yaml: it is not YAML")


def test_a_file_of_the_wrong_form_is_not_looked_at_further(compose: str, tmp_path: Path) -> None:
    file, said = tmp_path / "compose.yaml", list[str]()
    file.write_text(compose.replace("services:", "servcies:"), encoding="utf-8")
    assert not check(file, said.append)
    assert said[0] == "FAILED   the Compose Specification's schema"
    assert "servcies" in said[1]
    assert len(said) == 2


def test_variables_stand_for_their_defaults() -> None:
    read_as = read("a: ['${NOT_SET:-4000}:4000', '${NOT_SET-x}', '$$HOME', '${NOT_SET}', 7]")
    assert read_as == {"a": ["4000:4000", "x", "$HOME", "", 7]}


def docker_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = folder / "docker"
    docker.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_where_docker_compose_is_not_it_is_said_that_it_was_not_run(
    compose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, said = tmp_path / "compose.yaml", list[str]()
    file.write_text(compose, encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    check(file, said.append)
    assert said[-1] == "not run  docker compose config: docker is not installed"
    docker_that("exit 1", tmp_path, monkeypatch)
    check(file, said.append)
    assert said[-1] == "not run  docker compose config: docker is here, its compose plugin is not"


def test_what_docker_compose_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "compose.yaml"
    docker_that('[ "$2" = version ] && exit 0; echo "no such volume" >&2; exit 15', tmp_path, monkeypatch)
    assert tool_problem(file) == (True, "no such volume")
    docker_that("exit 0", tmp_path, monkeypatch)
    assert tool_problem(file) == (True, None)
