"""`bestex verify` and `bestex export` on the databases of real engines, through the real command line."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bestex.journal.embedded.process import running_server
from tests.support.engine import command, database_for_module, environment, serving
from tests.support.postgres import PostgresServer, until

FAULTS = {"dropped": 0.1, "price_jump": 0.1, "fork_after_confirmed": 0.05, "lost_status": 0.1}
ORDERS = 40
DONE, VIOLATIONS, REFUSED, UNAVAILABLE = 0, 1, 2, 4
# Positions change through their negatives, because each is unique at every moment.
AWAY = "update bestex.events set position = -position where position >= {0}"
BACK = "update bestex.events set position = -position + {1} where position < 0"


@pytest.fixture(scope="module")
def traded(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a database on which an engine has traded, with troubles; nobody is on it any more."""
    with database_for_module(postgres_server) as dsn:
        with serving(DATABASE_URL=dsn) as engine:
            engine.faults(**FAULTS)
            orders = [engine.order() for _ in range(ORDERS)]
            for order_id in orders:
                engine.until(order_id)
        yield dsn.partition("?")[0].rpartition("/")[2]


@pytest.fixture
async def copy(postgres_server: PostgresServer, traded: str) -> AsyncIterator[str]:
    """The DSN of a copy of that database, to tamper with."""
    async with postgres_server.database(traded) as dsn:
        yield dsn


@pytest.fixture
def bestex(tmp_path: Path) -> "Bestex":
    return Bestex(tmp_path / "data")


class Bestex:
    """The command line, without an engine."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def run(self, *words: str, dsn: str | None = None, **settings: object) -> "subprocess.CompletedProcess[bytes]":
        settings = {"DATA_DIR": self.data_dir} | settings | ({"DATABASE_URL": dsn} if dsn else {})
        return subprocess.run(command(*words), env=environment(**settings), capture_output=True, timeout=60)

    def verify(self, *words: str, dsn: str | None = None, **settings: object) -> tuple[int, dict[str, Any]]:
        """The exit code and the answer."""
        answer = self.run("verify", "--json", *words, dsn=dsn, **settings)
        return answer.returncode, json.loads(answer.stdout or answer.stderr)

    def found(self, *words: str, dsn: str | None = None) -> list[tuple[str, int | None]]:
        """What is found of the log itself: kinds and positions."""
        exit_code, answer = self.verify(*words, dsn=dsn)
        assert exit_code == (DONE if answer["clean"] else VIOLATIONS)
        own = ("hash-chain", "positions", "head", "published-head")
        return [(each["kind"], each.get("position")) for each in answer["findings"] if each["check"] in own]

    def export(self, dsn: str, file: Path) -> Path:
        answer = self.run("export", "--out", str(file), dsn=dsn)
        assert answer.returncode == DONE, answer.stderr
        return file


async def tamper(dsn: str, *statements: str, **values: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            for statement in statements:
                changed = await connection.execute(statement.format(*values.values()))
                assert not changed.endswith(" 0"), statement
    finally:
        await connection.close()


async def head_of(dsn: str) -> dict[str, Any]:
    """The log's head as an engine publishes it."""
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow("select journal_id::text, position, hash from bestex.log_head")
        assert row is not None
        return {"journalId": row[0], "position": row[1], "hash": row[2].hex(), "publishedAt": "2026-11-24T20:00:00Z"}
    finally:
        await connection.close()


def write_head(file: Path, head: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(head))
    return file


COPIED = "order_id, seq + 100, status, attempt, at, detail, sealed, hash from bestex.events where position = 10"
TAMPERINGS = {
    "detail altered": (
        ["update bestex.events set detail = replace(detail, '0.25', '0.26') where position = 1"],
        ("row-changed", 1),
    ),
    "sealed bytes altered": (
        ["update bestex.events set sealed = sealed || '\\x00' where position = 1"],
        ("row-changed", 1),
    ),
    "time altered": (["update bestex.events set at = 'infinity' where position = 20"], ("row-changed", 20)),
    "hash altered": (["update bestex.events set hash = sha256('') where position = 20"], ("hash-changed", 20)),
    "removed": (["delete from bestex.events where position = 20"], ("row-missing", 20)),
    "removed, the others renumbered": (
        ["delete from bestex.events where position = 20", AWAY.format(20), BACK.format(20, -1)],
        ("row-removed", 20),
    ),
    "inserted": (
        [AWAY.format(20), BACK.format(20, 1), f"insert into bestex.events select 20, {COPIED}"],
        ("row-inserted", 20),
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
async def test_a_tampered_row_is_named_in_the_database_and_in_an_export(
    bestex: Bestex, copy: str, tmp_path: Path, how: str
) -> None:
    statements, expected = TAMPERINGS[how]
    await tamper(copy, *statements)
    assert bestex.found(dsn=copy) == [expected]
    assert bestex.found("--export", str(bestex.export(copy, tmp_path / "log.jsonl"))) == [expected]


async def test_a_cut_tail_shows_against_the_head_and_when_that_is_cut_too_against_the_published_one(
    bestex: Bestex, copy: str, tmp_path: Path
) -> None:
    head = await head_of(copy)
    file = write_head(tmp_path / "head.json", head)
    assert bestex.found("--head", str(file), dsn=copy) == []
    last = head["position"]
    await tamper(copy, "delete from bestex.events where position > {0}", after=last - 3)
    assert bestex.found(dsn=copy) == [("tail-cut", last - 2)]
    cut = "select position, hash from bestex.events order by position desc limit 1"
    await tamper(copy, f"update bestex.log_head set (position, hash) = ({cut})")
    assert bestex.found(dsn=copy) == []
    assert bestex.found("--head", str(file), dsn=copy) == [("behind-published", last - 2)]
    export = bestex.export(copy, tmp_path / "log.jsonl")
    assert bestex.found("--export", str(export), "--head", str(file)) == [("behind-published", last - 2)]


async def test_the_head_published_in_the_data_folder_is_used_when_none_is_named(bestex: Bestex, copy: str) -> None:
    head = await head_of(copy)
    file = write_head(bestex.data_dir / "heads" / f"{head['journalId']}.json", head | {"position": 10**6})
    exit_code, answer = bestex.verify(dsn=copy)
    assert (exit_code, answer["headFile"]) == (VIOLATIONS, str(file))
    assert [each["kind"] for each in answer["findings"]] == ["behind-published"]
    named = write_head(bestex.data_dir / "named.json", head)
    assert bestex.verify(dsn=copy, HEAD_FILE=named)[0] == DONE


async def test_of_the_heads_that_several_processes_published_the_furthest_is_used(bestex: Bestex, copy: str) -> None:
    head = await head_of(copy)
    first, second = (bestex.data_dir / "heads" / f"{head['journalId']}.{number}.json" for number in (1, 2))
    write_head(second, head)
    second.with_name(f"{head['journalId']}.3.json").touch()
    assert bestex.verify(dsn=copy)[1]["headFile"] == str(second)
    write_head(first, head | {"position": 10**6})
    exit_code, answer = bestex.verify(dsn=copy)
    assert (exit_code, answer["headFile"]) == (VIOLATIONS, str(first))


async def test_a_real_engine_s_day_is_clean_and_the_summary_says_what_was_checked(bestex: Bestex, copy: str) -> None:
    exit_code, answer = bestex.verify(dsn=copy)
    assert (exit_code, answer["findings"]) == (DONE, [])
    checked = {check["name"]: check["checked"] for check in answer["checks"]}
    assert checked["hash-chain"] == answer["events"] == answer["headPosition"]
    assert checked["projection"] == answer["orders"] == ORDERS
    assert checked["transactions"] == answer["transactions"] >= checked["amounts"] > 0
    assert checked["balances"] >= 2
    shown = bestex.run("verify", dsn=copy)
    assert b"nothing found" in shown.stdout
    assert b"events/s" in shown.stdout


async def test_what_the_chain_did_and_the_log_does_not_say_is_found(bestex: Bestex, copy: str) -> None:
    await tamper(copy, "update sim.transactions set amount_out = amount_out + 1 where error is null")
    _, answer = bestex.verify(dsn=copy)
    assert {each["kind"] for each in answer["findings"]} == {"amount-differs", "balance-differs"}
    shown = bestex.run("verify", dsn=copy)
    assert shown.returncode == VIOLATIONS
    assert b"amount-differs" in shown.stdout


async def test_a_database_without_a_simulated_chain_is_audited_without_it(bestex: Bestex, copy: str) -> None:
    await tamper(copy, "drop schema sim cascade")
    exit_code, answer = bestex.verify(dsn=copy)
    assert (exit_code, answer["transactions"]) == (DONE, 0)
    skipped = {check["name"] for check in answer["checks"] if "skipped" in check}
    assert {"transactions", "outcomes", "amounts", "balances"} <= skipped


def test_verify_does_not_disturb_an_engine_under_load_and_finds_nothing(
    bestex: Bestex, empty_database_url: str
) -> None:
    with serving(DATABASE_URL=empty_database_url, DATA_DIR=bestex.data_dir) as engine:
        engine.faults(**FAULTS)
        orders = []
        for _ in range(4):
            orders += [engine.order() for _ in range(10)]
            exit_code, answer = bestex.verify(dsn=empty_database_url)
            assert (exit_code, answer["findings"]) == (DONE, [])
            assert answer["publishedHead"]["position"] <= answer["headPosition"]
        for order_id in orders:
            engine.until(order_id)
        assert bestex.verify(dsn=empty_database_url)[0] == DONE


async def test_the_snapshot_is_one_whatever_is_written_meanwhile(bestex: Bestex, copy: str) -> None:
    connection = await asyncpg.connect(copy)
    try:
        async with connection.transaction():
            await connection.execute("delete from bestex.events where position > 10")
            exit_code, _ = await asyncio.to_thread(bestex.verify, dsn=copy)
            assert exit_code == DONE
    finally:
        await connection.close()


# --- The embedded server -------------------------------------------------------------------------------------


async def test_the_embedded_server_runs_only_as_long_as_the_audit(bestex: Bestex, tmp_path: Path) -> None:
    bestex.data_dir.mkdir()
    _let_others_in(bestex.data_dir)
    with serving(DATA_DIR=bestex.data_dir) as engine:
        engine.until(engine.order())
        assert bestex.verify()[0] == DONE  # on the engine's own server, which goes on
        engine.until(engine.order())
    pgdata = bestex.data_dir / "postgres"
    await until(lambda: running_server(pgdata) is None)  # its last checkpoint outlasts the engine
    exit_code, answer = bestex.verify()
    assert exit_code == DONE
    assert answer["publishedHead"]["position"] == answer["headPosition"]
    assert running_server(pgdata) is None
    assert bestex.run("export", "--out", str(tmp_path / "log.jsonl")).returncode == DONE
    assert bestex.verify("--export", str(tmp_path / "log.jsonl"))[0] == DONE


def _let_others_in(folder: Path) -> None:
    """The embedded server's account must reach its data."""
    for each in (folder, *folder.parents[:3]):
        each.chmod(0o755)


def test_a_folder_without_a_database_is_refused_and_left_as_it_is(bestex: Bestex) -> None:
    exit_code, answer = bestex.verify()
    assert exit_code == REFUSED
    assert "there is no database in" in answer["title"]
    assert not bestex.data_dir.exists()


# --- What cannot be audited ----------------------------------------------------------------------------------


async def test_an_unreachable_database_is_unavailable(bestex: Bestex) -> None:
    exit_code, answer = bestex.verify(dsn="postgresql://nobody:secret@127.0.0.1:1/none")
    assert exit_code == UNAVAILABLE
    assert answer["title"].startswith("the database at 127.0.0.1:1 cannot be reached")
    assert "secret" not in answer["title"]


async def test_a_database_without_a_journal_is_refused(bestex: Bestex, empty_database_url: str) -> None:
    exit_code, answer = bestex.verify(dsn=empty_database_url)
    assert (exit_code, answer["title"]) == (REFUSED, "the database holds no journal: no engine has run on it")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("delete from bestex.migrations where version > 1", "of an older release"),
        ("insert into bestex.migrations (version, name) values (9999, 'later')", "of a later release"),
        ("delete from bestex.log_head", "bestex.log_head has lost its row"),
    ],
)
async def test_a_database_that_this_release_cannot_judge_is_refused(
    bestex: Bestex, copy: str, statement: str, said: str
) -> None:
    await tamper(copy, statement)
    exit_code, answer = bestex.verify(dsn=copy)
    assert exit_code == REFUSED
    assert said in answer["title"]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"journalId":"x","position":1,"hash":"00"}', "\x00"])
async def test_a_file_that_is_no_published_head_is_refused(
    bestex: Bestex, copy: str, tmp_path: Path, content: str
) -> None:
    (tmp_path / "head.json").write_text(content)
    exit_code, answer = bestex.verify("--head", str(tmp_path / "head.json"), dsn=copy)
    assert exit_code == REFUSED
    assert "head" in answer["title"]


def test_a_file_that_is_not_there_is_refused(bestex: Bestex, tmp_path: Path) -> None:
    for option in ("--export", "--head"):
        assert bestex.run("verify", option, str(tmp_path / "none"), dsn="postgresql:///x").returncode == REFUSED


def test_a_file_that_is_no_export_is_refused_naming_the_line(bestex: Bestex, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("hello\n")
    exit_code, answer = bestex.verify("--export", str(tmp_path / "log.jsonl"))
    assert exit_code == REFUSED
    assert answer["title"].startswith("line 1 cannot be read")


# --- Export --------------------------------------------------------------------------------------------------


async def test_an_export_is_not_overwritten_unless_told_to(bestex: Bestex, copy: str, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("mine")
    refused = bestex.run("export", "--out", str(file), dsn=copy)
    assert refused.returncode == REFUSED
    assert b"--force" in refused.stderr
    assert file.read_text() == "mine"
    assert bestex.run("export", "--out", str(file), "--force", dsn=copy).returncode == DONE
    assert bestex.verify("--export", str(file))[0] == DONE
    assert [each.name for each in tmp_path.iterdir() if "unfinished" in each.name] == []


async def test_an_export_goes_to_stdout_by_default(bestex: Bestex, copy: str, tmp_path: Path) -> None:
    answer = bestex.run("export", dsn=copy)
    assert (answer.returncode, answer.stderr) == (DONE, b"")
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert (lines[0]["type"], lines[-1]["type"], lines[-1]["orders"]) == ("header", "end", ORDERS)


async def test_an_export_that_fails_leaves_no_file(bestex: Bestex, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    assert bestex.run("export", "--out", str(file), dsn="postgresql://127.0.0.1:1/none").returncode == UNAVAILABLE
    assert list(tmp_path.iterdir()) == []
