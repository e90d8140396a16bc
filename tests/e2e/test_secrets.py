"""Secrets: what a plan marks sensitive is in no file, in no log and in no answer."""

import json
from pathlib import Path

from support.backends import store_url_at
from support.plans import Json, new_change, new_plan, new_resource
from support.servers import Running, spawned
from support.waiting import until

#: With what JSON, URLs and terminals write otherwise.
SECRET = 'planted "s3cret" <value>/${x}'

#: In each way that it might be written.
FORMS = tuple(
    form.encode() for form in (SECRET, json.dumps(SECRET)[1:-1], "planted \\u0022s3cret", "s3cret")
)


def plan() -> Json:
    """A plan with the secret in its variables, attributes, outputs, lists and errors."""
    marked = new_resource(
        "update",
        address="t.marked",
        before={"password": SECRET, "list": ["a", [{"deep": SECRET}]], "copy": f"x{SECRET}y"},
        after={"password": SECRET, "list": ["a", [{"deep": SECRET}]], "copy": [SECRET]},
        before_sensitive={"password": True},
        after_sensitive={"password": True, "list": [False, [{"deep": True}]]},
    )
    removed = new_resource("delete", address="t.gone", before={"copy": {SECRET: SECRET}})
    created = new_resource("create", address="t.new", after={"id": SECRET, "json": f'"{SECRET}"'})
    return new_plan(
        marked,
        removed,
        created,
        variables={"password": {"value": SECRET}},
        configuration={"root_module": {"variables": {"password": {"sensitive": True}}}},
        planned_values={"outputs": {"password": {"sensitive": True, "value": SECRET}}},
        prior_state={"values": {"outputs": {"password": {"sensitive": True, "value": SECRET}}}},
        output_changes={
            "password": new_change("create", after=[SECRET], after_sensitive=True),
            "copy": new_change("update", before=SECRET, after=f"{SECRET}!"),
        },
        resource_drift=[new_resource("update", address="t.d", before={"a": SECRET}, after={})],
    )


async def answers(service: Running, folder: Path) -> bytes:
    """Everything that the service says of the plan, staged in both ways."""
    native = await service.post(plan(), "application/json", "/log/v1/changesets?project=acme")
    body = {"directory": str(folder), "blueprintFile": "plan.json"}
    bluelink = await service.post(body, "application/json", "/v1/deployments/changes")
    assert (native.status, bluelink.status) == (202, 202)
    ids = native.json["id"], bluelink.json["data"]["id"]
    said = [native.body, bluelink.body]
    for id in ids:
        said.append((await service.get(f"/v1/deployments/changes/{id}/stream")).body)
        for path in (f"/v1/deployments/changes/{id}", f"/log/v1/changesets/{id}/changes"):
            answer = await service.get(path)
            assert answer.status == 200
            said.append(answer.body)
    paths = ("/log/v1/events?limit=1000", "/log/v1/changesets", "/metrics")
    said += [(await service.get(path)).body for path in paths]
    return b"".join(said)


def kept_in(folder: Path) -> bytes:
    """Everything in the store's files. Whole change sets are compressed there: their answers,
    which are made of nothing else, are looked through instead.
    """
    return b"".join(file.read_bytes() for file in folder.glob("log.db*"))


async def test_a_planted_secret_is_nowhere(tmp_path: Path):
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(plan()))
    (folder / "broken.json").write_text(json.dumps(plan())[:-2])
    store_folder = tmp_path / "store"
    store_folder.mkdir()
    store_url = store_url_at(store_folder / "log.db")

    async with spawned(store_url, plan_folders=str(folder), log_level="debug") as service:
        said = await answers(service, folder)
        broken = await service.post(
            {"directory": str(folder), "blueprintFile": "broken.json"},
            "application/json",
            "/v1/deployments/changes",
        )
        wrong = await service.post(
            new_plan(new_resource("create", after={"p": SECRET}) | {"address": 7}),
            "application/json",
            "/log/v1/changesets?project=acme",
        )
        kept = kept_in(store_folder)
        _, log = await service.end()
    kept += kept_in(store_folder)

    assert (broken.status, wrong.status) == (422, 400)
    assert b"t.marked" in said
    assert b"t.marked" in kept
    for form in FORMS:
        assert form not in said
        assert form not in broken.body + wrong.body
        assert form not in kept
        assert form not in log.encode()


async def test_the_configuration_of_a_request_is_not_kept(tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(new_plan()))
    body = {
        "directory": str(tmp_path),
        "blueprintFile": "plan.json",
        "config": {"blueprintVariables": {"password": SECRET}},
    }

    async with spawned(store_url_at(tmp_path / "log.db"), plan_folders=str(tmp_path)) as service:
        staged = await service.post(body, "application/json", "/v1/deployments/changes")
        id = staged.json["data"]["id"]

        async def ended() -> bool:
            return b'"CHANGES_STAGED"' in (await service.get(f"/v1/deployments/changes/{id}")).body

        await until(ended)
        await service.end()

    kept = kept_in(tmp_path)
    assert all(form not in kept for form in FORMS)
