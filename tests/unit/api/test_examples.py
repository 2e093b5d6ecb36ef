"""The examples of the how-to guides are accepted, are those that OpenAPI shows, and are what their commands send."""

import json
import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bestex.api.bodies import ORDER_EXAMPLES
from bestex.api.order_control import read_changes, read_dead_man
from bestex.api.order_request import CLIENT_KINDS, ORDER_FIELDS, read_order
from bestex.api.problems import KINDS
from bestex.cli import app
from bestex.domain.events import DETAIL_TYPES, AttemptStory, QuoteRecord, Timings, Trigger
from bestex.domain.tokens import load_tokens
from tests.support.examples import GUIDES, Example, examples, order_examples
from tests.unit.cli.fake_engine import running_engine
from tests.unit.cli.recorded import ACCEPTED, ORDER

TOKENS = load_tokens()
NOW_US = 1_795_000_000_000_000  # 2026-11-18T11:06:40Z
EXAMPLES = examples()


def test_openapi_shows_the_examples_of_the_guides() -> None:
    assert {name: example.body for name, example in order_examples().items()} == ORDER_EXAMPLES


def test_there_is_an_example_for_each_kind() -> None:
    assert {example.body.get("kind", "market") for example in order_examples().values()} == set(CLIENT_KINDS)


@pytest.mark.parametrize("example", order_examples().values(), ids=order_examples())
def test_each_example_of_an_order_is_accepted(example: Example) -> None:
    order = read_order(json.dumps(example.body).encode(), TOKENS, NOW_US)
    assert order.kind == example.body.get("kind", "market")


def test_the_examples_of_other_bodies_are_accepted() -> None:
    assert read_dead_man(json.dumps(EXAMPLES["deadman"].body).encode()).keeps_stops
    assert read_changes(json.dumps(EXAMPLES["change"].body).encode(), None, NOW_US).limit_price == "225"


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_each_command_of_a_guide_sends_its_body(example: Example) -> None:
    with running_engine() as engine:
        engine.answer("POST /api/orders/execute", ACCEPTED, 202)
        engine.answer("PATCH /api/orders/ORDER_ID", ORDER)
        engine.answer("POST /api/deadman", {"armed": True, "dueAt": ACCEPTED["createdAt"]})
        result = CliRunner().invoke(app, ["--url", engine.url, *example.words])
        assert result.exit_code == 0, result.output
        [(_, _, sent)] = engine.requests
    sent.pop("slippageBps", None)  # always said
    if "timeInForce" in example.body:
        sent["timeInForce"] = "GTT"  # which an expiry alone means
    assert sent == example.body


def test_the_reference_names_every_field_and_every_problem() -> None:
    reference = (GUIDES.parents[1] / "reference" / "api.md").read_text(encoding="utf-8")
    for name in (*ORDER_FIELDS, *KINDS):
        assert f"`{name}`" in reference


def test_every_guide_is_listed_and_every_link_leads_somewhere() -> None:
    docs = GUIDES.parents[1]
    listed = (docs / "README.md").read_text(encoding="utf-8")
    for guide in GUIDES.glob("*.md"):
        assert f"(how-to/orders/{guide.name})" in listed
    for page in [*docs.rglob("*.md"), docs.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+\.md)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} names {target}"


def test_the_reference_names_every_field_of_every_event() -> None:
    reference = (GUIDES.parents[1] / "reference" / "events.md").read_text(encoding="utf-8")
    for detail in (*DETAIL_TYPES.values(), Trigger, AttemptStory, QuoteRecord, Timings):
        for field in detail.__struct_encode_fields__:
            assert f"`{field}`" in reference, f"{detail.__name__}.{field}"


def test_the_reference_names_every_command_and_option() -> None:
    reference = (GUIDES.parents[1] / "reference" / "command-line.md").read_text(encoding="utf-8")
    for name in ("order", "snipe", "cancel", "change", "deadman", "launches", "orders", "show"):
        command = get_command(app).commands[name]  # type: ignore[attr-defined] # a group has them
        assert f"| `{name}" in reference
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert f"`{option}" in reference or f"{option} " in reference, f"{name} {option}"
