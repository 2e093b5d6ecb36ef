"""The other files of a deployment name what exists, agree with each other, and open nothing to the world."""

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from bestex import __version__
from bestex.cli import app
from bestex.config import Settings, unknown_settings

ROLES = {"api", "worker", "watcher", "simnet"}
UNITS = ("bestex-api@.service", "bestex-worker@.service", "bestex-watcher@.service", "bestex-simnet.service")
DRAIN_S = float(Settings.model_fields["drain_s"].default)


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> str:
    return (repository / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def fly(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "fly.toml").read_text(encoding="utf-8"))


def unit(repository: Path, name: str) -> dict[str, list[str]]:
    """A unit's keys, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in (repository / "deploy" / "systemd" / name).read_text(encoding="utf-8").splitlines():
        key, is_there, value = line.partition("=")
        if is_there and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def variables(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


# --- the image ------------------------------------------------------------------------------------------------


def test_every_file_that_the_image_copies_exists_and_is_not_ignored(dockerfile: str, repository: Path) -> None:
    rules = (repository / ".dockerignore").read_text(encoding="utf-8").splitlines()
    admitted = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (repository / source).exists(), source
        assert any(fnmatch.fnmatch(source, rule) for rule in admitted), f"{source} is in .dockerignore"


def test_no_package_comes_into_the_image_without_its_hash(dockerfile: str) -> None:
    installs = re.findall(r"pip (?:--python \S+ )?(install [^&\n]*?)(?: \\)?$", dockerfile, re.MULTILINE)
    assert len(installs) == 3
    assert all("--require-hashes" in each or each == "install --no-deps dist/*.whl" for each in installs)


def test_the_image_runs_as_nobody_special_and_gets_its_signals_itself(dockerfile: str) -> None:
    final = dockerfile.rpartition("\nFROM ")[2]
    assert "\nUSER bestex\n" in final
    assert final.index("\nRUN ") < final.index("\nUSER ")
    assert '\nENTRYPOINT ["bestex"]\n' in final, "not through a shell, which keeps the signal for itself"
    assert 'CMD ["bestex", "health"]' in final
    assert "health" in commands()


def commands() -> set[str]:
    return set(getattr(typer.main.get_command(app), "commands", {}))


# --- Fly ------------------------------------------------------------------------------------------------------


def test_fly_runs_every_role_and_checks_each(fly: dict[str, Any]) -> None:
    processes = fly["processes"]
    assert {command.split()[0] for command in processes.values()} == ROLES
    checked = {name for service in fly["services"] if service["http_checks"] for name in service["processes"]}
    checked |= {name for check in fly["checks"].values() for name in check["processes"]}
    assert checked == set(processes)


def test_fly_gives_a_stop_its_time_and_the_signal_that_the_engine_knows(fly: dict[str, Any]) -> None:
    assert fly["kill_signal"] == "SIGTERM"
    assert fly["kill_timeout"] > float(fly["env"]["BESTEX_DRAIN_S"])


def test_fly_has_no_password_and_no_door_to_the_public_ports(fly: dict[str, Any]) -> None:
    assert not {"DATABASE_URL", "REDIS_URL"} & set(fly["env"])
    assert "http_service" not in fly
    assert [port["port"] for service in fly["services"] for port in service["ports"]] == [4000]


# --- systemd --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_stops_in_order_comes_back_and_has_no_rights(name: str, repository: Path) -> None:
    found = unit(repository, name)
    [start] = found["ExecStart"]
    assert start.split()[0] == "/opt/bestex/bin/bestex"
    assert start.split()[1] in ROLES
    assert float(found["TimeoutStopSec"][0]) > DRAIN_S
    assert found["Restart"] == ["always"]
    assert found["User"] == ["bestex"]
    assert found["NoNewPrivileges"] == ["true"]
    assert "bestex health" in found["ExecStartPost"][0]


def test_there_is_a_unit_for_each_role(repository: Path) -> None:
    assert {unit(repository, name)["ExecStart"][0].split()[1] for name in UNITS} == ROLES
    assert {path.name for path in (repository / "deploy" / "systemd").glob("*.service")} == set(UNITS)


# --- all of them ----------------------------------------------------------------------------------------------


def named_settings(repository: Path, fly: dict[str, Any]) -> set[str]:
    units = [value for name in UNITS for value in unit(repository, name).get("Environment", [])]
    text = "\n".join([*units, (repository / "deploy" / "systemd" / "bestex.env").read_text(encoding="utf-8")])
    return set(variables(text)) | set(fly["env"])


def test_every_setting_that_these_files_name_exists(repository: Path, fly: dict[str, Any]) -> None:
    assert unknown_settings(named_settings(repository, fly)) == []


def test_every_role_is_a_command() -> None:
    assert commands() >= ROLES


def test_the_image_of_the_compose_file_is_this_release(repository: Path) -> None:
    assert f"image: bestex:{__version__}\n" in (repository / "compose.yaml").read_text(encoding="utf-8")
