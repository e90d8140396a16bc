"""What the resources of a plan depend on."""

from typing import Any

import pytest

from deploylog.ingest.terraform.dependencies import MAX_OF_ONE
from support.plans import Json, new_plan, new_resource, parse, parse_one

VPC = {"address": "aws_vpc.main", "mode": "managed", "type": "aws_vpc", "name": "main"}
SUBNET = {"address": "aws_subnet.a", "mode": "managed", "type": "aws_subnet", "name": "a"}


def configured(*resources: Json, **calls: Json) -> dict[str, Json]:
    return {"configuration": {"root_module": {"resources": resources, "module_calls": calls}}}


def stored(*resources: Json, **parts: Json) -> dict[str, Json]:
    return {"prior_state": {"values": {"root_module": {"resources": resources, **parts}}}}


def new_subnet(*actions: str, **parts: Any) -> Json:
    return new_resource(
        *actions, address="aws_subnet.a[0]", type="aws_subnet", name="a", index=0, **parts
    )


@pytest.mark.parametrize(
    "parts",
    [
        {"expressions": {"vpc_id": {"references": ["aws_vpc.main.id", "aws_vpc.main"]}}},
        {"expressions": {"block": [{"deep": {"references": ["aws_vpc.main[0].id"]}}]}},
        {"count_expression": {"references": ["aws_vpc.main.ids"]}},
        {"for_each_expression": {"references": ['aws_vpc.main["x"]']}},
        {"depends_on": ["aws_vpc.main"]},
        {"depends_on": ["data.aws_ami.x", "module.y"], "expressions": {"a": {"references": [
            "var.x", "aws_vpc.main", "aws_vpc.gone", "aws_subnet.a", "each.key",
            "data.aws_vpc.main",
        ]}}},
    ],
)  # fmt: skip
def test_a_new_resource_depends_on_what_its_configuration_names(parts: Json):
    planned = new_subnet("create", after={})

    change = parse_one(planned, **configured(VPC, {**SUBNET, **parts}))

    assert change.depends_on == ("aws_vpc.main",)


def test_within_a_module_the_addresses_are_whole():
    subnet = {**SUBNET, "depends_on": ["aws_vpc.main"]}
    call = {"module": {"resources": [VPC, subnet]}}
    planned = {
        **new_subnet("create", after={}),
        "address": 'module.net["x"].aws_subnet.a[0]',
        "module_address": 'module.net["x"]',
    }

    change = parse_one(planned, **configured(net=call))

    assert change.depends_on == ("module.net.aws_vpc.main",)


def test_an_existing_resource_depends_on_what_the_state_says():
    depends = ["aws_vpc.old", "data.aws_ami.x", "module.m.data.aws_ami.y", "module.data.aws_vpc.z"]
    state = {"address": "aws_subnet.a[0]", "depends_on": depends}
    told = {**SUBNET, "depends_on": ["aws_vpc.main"]}

    change = parse_one(
        new_subnet("update", before={}, after={}), **stored(state), **configured(VPC, told)
    )

    assert change.depends_on == ("aws_vpc.old", "module.data.aws_vpc.z")


def test_without_a_state_the_configuration_says_it():
    told = {**SUBNET, "depends_on": ["aws_vpc.main"]}

    change = parse_one(new_subnet("update", before={}, after={}), **configured(VPC, told))

    assert change.depends_on == ("aws_vpc.main",)


def test_a_resource_in_a_child_module_and_a_deposed_object_are_found():
    child = {"address": "module.m.aws_subnet.a", "depends_on": ["module.m.aws_vpc.main"]}
    deposed = {"address": "aws_subnet.a[0]", "deposed_key": "00", "depends_on": ["aws_vpc.was"]}
    inner = {
        **new_resource("update", before={}, after={}),
        "address": "module.m.aws_subnet.a",
    }

    changes = parse(
        new_plan(
            new_subnet("delete", before={}, deposed="00"),
            inner,
            **stored(deposed, child_modules=[{"resources": [child]}]),
        )
    )

    assert [each.depends_on for each in changes.resources] == [
        ("aws_vpc.was",),
        ("module.m.aws_vpc.main",),
    ]


def test_of_very_many_some_are_reported():
    state = {"address": "aws_subnet.a[0]", "depends_on": [f"aws_vpc.v{n}" for n in range(1000)]}

    change = parse_one(new_subnet("update", before={}, after={}), **stored(state))

    assert len(change.depends_on) == MAX_OF_ONE
