"""Rules about the repository's own files that no linter checks."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

# In parts, so that this file does not name what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("proxy", "golang", "org"),
        ("repo", "maven", "apache", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("archive", "ubuntu", "com"),
    ]
]
# Folders of one person or one machine.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:root|work|home/\w+|Users/\w+|opt/\w+/(?:simple|files))/")


@pytest.fixture(scope="module")
def texts(repository: Path) -> dict[str, str]:
    """Every file that is or could be committed, by its path in the repository."""
    git = shutil.which("git")
    if git is None or not (repository / ".git").exists():
        pytest.skip("needs a git checkout: only git knows which files belong to the repository")
    listing = subprocess.run(
        [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [repository / name for name in listing.split("\0") if name]
    return {
        str(path.relative_to(repository)): path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.is_file()
    }


def test_no_file_names_a_package_registry(texts: dict[str, str]) -> None:
    named = {name: host for name, text in texts.items() for host in REGISTRY_HOSTS if host in text.lower()}
    assert not named, "each machine uses the registry it is set up for"


def test_no_file_names_a_path_of_the_machine_it_was_written_on(texts: dict[str, str], repository: Path) -> None:
    checkout = f"{repository}/"
    named = {
        name: line.strip()
        for name, text in texts.items()
        for line in text.splitlines()
        if MACHINE_PATH.search(line) or (len(repository.parts) > 2 and checkout in line)
    }
    assert not named


def test_a_machine_path_is_recognised_and_a_web_path_is_not() -> None:
    assert MACHINE_PATH.search("cd " + "/home" + "/alice/bestex")
    assert MACHINE_PATH.search('"' + "/root" + '/.cache"')
    assert not MACHINE_PATH.search("GET /api/orders/execute")
    assert not MACHINE_PATH.search("https://example.com/work/orders")


@pytest.fixture(scope="module")
def pins(repository: Path) -> list[str]:
    """The lines of requirements.txt, continuation lines joined, without comments."""
    text = (repository / "requirements" / "requirements.txt").read_text(encoding="utf-8")
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]


def test_every_requirement_is_pinned_and_hashed(pins: list[str]) -> None:
    pinned = re.compile(r"[a-z0-9-]+==\S+( ; [^-]+?)?( --hash=sha256:[0-9a-f]{64})+")
    assert pins
    assert [line for line in pins if not pinned.fullmatch(line)] == []


def test_every_dependency_has_a_pin(pins: list[str], repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    development = (repository / "requirements" / "dev.in").read_text(encoding="utf-8").splitlines()
    wanted = {*project["dependencies"], *(line for line in development if line and not line.startswith("#"))}
    assert wanted - {line.partition("==")[0] for line in pins} == set(), "run `make lock`"


def test_the_wheel_holds_every_file_of_the_package(repository: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    source = repository / "src"
    files = {
        str(path.relative_to(source)) for path in source.rglob("*") if path.suffix in {".json", ".py", ".sql", ".typed"}
    }
    assert files - set(zipfile.ZipFile(wheel).namelist()) == set()
