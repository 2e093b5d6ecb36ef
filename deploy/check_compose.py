"""Check compose.yaml without a container engine, and with one where there is one. `make compose-check`.

Three looks, each of which sees what the others do not: the Compose Specification's JSON schema (the file's form),
rules of our own (what this engine needs of a deployment), and `docker compose config` (what the tool itself makes
of it). The last one is skipped, and says so, where docker compose is not installed.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import yaml

from deploy.compose_rules import problems_of_ours

SCHEMA: Final = Path(__file__).parent / "compose_spec" / "compose-spec.json"
CONFIG_SECONDS_MAX: Final = 60.0

_VARIABLE = re.compile(r"\$(?:\$|(?P<bare>\w+)|\{(?P<name>\w+)(?::?(?P<how>[-?+])(?P<word>[^}]*))?\})")


class ComposeError(Exception):
    """The file cannot be looked at."""


def read(text: str) -> dict[str, Any]:
    """A compose file's content, its variables as they are where none is set. `ComposeError` when it cannot be read."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ComposeError(f"it is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ComposeError("it is not a mapping")
    return {str(name): _interpolated(value) for name, value in content.items()}


def _interpolated(value: Any) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(_default, value)
    if isinstance(value, dict):
        return {name: _interpolated(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each) for each in value]
    return value


def _default(found: re.Match[str]) -> str:
    if found.group() == "$$":
        return "$"
    return (found["word"] or "") if found["how"] == "-" else ""


def schema_problems(content: dict[str, Any]) -> Iterator[str]:
    """What the Compose Specification does not allow, each with its place in the file."""
    validator = jsonschema.Draft202012Validator(msgspec.json.decode(SCHEMA.read_bytes()))
    for error in validator.iter_errors(content):
        # Of alternatives, the one that fits best says what is wrong.
        best = jsonschema.exceptions.best_match([error])
        place = ".".join(str(part) for part in (best or error).absolute_path)
        yield f"{place or 'the file'}: {(best or error).message[:300]}"


def tool_problem(file: Path) -> tuple[bool, str | None]:
    """Whether `docker compose config` could look at the file, and what it found; or why it could not."""
    docker = shutil.which("docker")
    if docker is None:
        return False, "docker is not installed"
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode != 0:
        return False, "docker is here, its compose plugin is not"
    looked = subprocess.run(
        [docker, "compose", "--file", str(file), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=CONFIG_SECONDS_MAX,
    )
    return True, looked.stderr.strip() or "it refuses the file" if looked.returncode else None


def check(file: Path, say: Callable[[str], None]) -> bool:
    """Whether the file is sound, by all looks; `say` gets a line for each, and one for each problem."""
    try:
        content = read(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, ComposeError) as error:
        say(f"{file.name}: {error}")
        return False
    form = list(schema_problems(content))
    _tell(say, "the Compose Specification's schema", form)
    if form:  # our own rules read what has the right form only
        return False
    ours = list(problems_of_ours(content))
    _tell(say, "what the engine needs", ours)
    looked, trouble = tool_problem(file)
    if looked:
        _tell(say, "docker compose config", [trouble] if trouble else [])
    else:
        say(f"not run  docker compose config: {trouble}")
    return not ours and not (looked and trouble)


def _tell(say: Callable[[str], None], what: str, problems: list[str]) -> None:
    say(f"{'FAILED ' if problems else 'ok     '}  {what}")
    for problem in problems:
        say(f"         {problem}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.check_compose", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", default=Path("compose.yaml"))
    return 0 if check(parser.parse_args().file, print) else 1


if __name__ == "__main__":
    sys.exit(main())
