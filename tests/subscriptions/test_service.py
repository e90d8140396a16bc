"""The service: permissions, validation, changes, secrets and redelivery."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import json, structs

from deploylog.api.escape.wire import VISIBLE
from deploylog.auth.encryption import Encryptor, make_encryption_key, parse_encryptor
from deploylog.auth.standard_webhooks import make_secret, parse_secret
from deploylog.deployments.service import DeploymentService, NewDeployment
from deploylog.errors import (
    Conflict,
    CursorExpired,
    DeploylogError,
    EventNotFound,
    Forbidden,
    InvalidCursor,
    InvalidSubscription,
    NoEncryptionKey,
    OperatorError,
    SubscriptionNotFound,
)
from deploylog.events.access import ANONYMOUS, Principal, parse_grant
from deploylog.events.event import Event
from deploylog.events.filters import EVERYTHING, Filter, any_of
from deploylog.events.scope import ROOT, Scope, parse_scope
from deploylog.events.store import Query
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.egress import Networks, check_url
from deploylog.subscriptions.ownership import MAX_SUBSCRIPTIONS
from deploylog.subscriptions.places import EVERYWHERE, Places
from deploylog.subscriptions.secret_store import MAX_SECRETS, SecretStore, check_decryptable
from deploylog.subscriptions.service import SubscriptionService
from deploylog.subscriptions.subscription import (
    Attempt,
    Delivery,
    EndpointPatch,
    NewSubscription,
    Owner,
    Pending,
    Subscription,
    SubscriptionPatch,
)
from support.clocks import WallClock
from support.factories import attempt, delivery, new_event, now, subscription, unique

UNKNOWN_ID = "5c5ecbb0-6d2c-4f1f-9d0c-0d6f5f6d3c11"

URL = "https://hooks.example.com/services/T0/B0/very-secret"
TOKEN = "xoxb-very-secret"
HOUR = 3600 * SECOND

#: What a subscription of a kind has beside the defaults of ``new``.
SLACK: dict[str, Any] = {"kind": "slack"}
GRAFANA: dict[str, Any] = {
    "kind": "grafana", "endpoint": EndpointPatch(url=URL, token="glsa_x"), "filter": EVERYTHING,
}  # fmt: skip
TEMPLATE: dict[str, Any] = {"kind": "template"}


def template(**fields: Any) -> EndpointPatch:
    return EndpointPatch(url=URL, template="{{ event }}", **fields)


BOT: dict[str, Any] = SLACK | {"endpoint": EndpointPatch(token=TOKEN, channel="#deploys")}


def principal(
    *grants: str, id: str = "k1", kind: str = "key", groups: Sequence[str] = ()
) -> Principal:
    return Principal(
        name=id,
        id=id,
        kind=kind,
        groups=frozenset(groups),
        grants=tuple(parse_grant(grant) for grant in grants),
    )


OWNER = principal("read:project/acme", id="owner", groups=("ops",))
ADMIN = principal("admin:project/acme", id="admin")
OTHER = principal("read:project/acme", id="other")


class Receiver:
    """Records the test events that it is sent."""

    def __init__(self) -> None:
        self.tested: list[str] = []

    async def test(self, subscription: Subscription) -> Attempt:
        self.tested.append(subscription.id)
        return attempt(0)


def secret_store(encryptor: Encryptor | None, clock: Callable[[], int]) -> SecretStore:
    return SecretStore(
        encryptor,
        check_url=lambda text: check_url(text, Networks()),
        make_secret=make_secret,
        parse_secret=parse_secret,
        clock=clock,
    )


@pytest.fixture
def encryptor() -> Encryptor:
    return parse_encryptor(make_encryption_key())


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


#: The owners whose credentials are valid.
Owners = dict[str, Principal]


@pytest.fixture
def owners() -> Owners:
    return {"owner": OWNER}


class ChangeCounter:
    """Counts the calls of ``on_change``."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def changes() -> ChangeCounter:
    return ChangeCounter()


@pytest.fixture
def subscriptions(
    store: Store,
    encryptor: Encryptor,
    clock: WallClock,
    receiver: Receiver,
    owners: Owners,
    changes: ChangeCounter,
    deployments: DeploymentService,
) -> SubscriptionService:
    async def find(owner: Owner) -> Principal | None:
        return owners.get(owner.id)

    return SubscriptionService(
        store.subscriptions,
        store.deliveries,
        store.log,
        secret_store(encryptor, clock),
        deployments,
        formats={"escape": VISIBLE},
        find_owner=find,
        send_test=receiver.test,
        on_change=changes,
        clock=clock,
    )


def new(*, scopes: Sequence[str] = ("project/acme",), **fields: object) -> NewSubscription:
    defaults: dict[str, Any] = {
        "name": unique("ops"),
        "kind": "webhook",
        "endpoint": EndpointPatch(url=URL),
        "filter": Filter(scopes=tuple(parse_scope(path) for path in scopes)),
    }
    return NewSubscription(**(defaults | fields))


async def created(
    subscriptions: SubscriptionService, caller: Principal = OWNER, **fields: object
) -> Subscription:
    return (await subscriptions.create(caller, new(**fields)))[0]  # type: ignore[arg-type]


async def dead_letter(store: Store, subscription: Subscription, position: int) -> None:
    """Record a dead letter at the position, and move the checkpoint there."""
    await store.deliveries.claim("test", now=0, until=1)
    pending = Pending(
        position=position, lane="a", tries=3, first=now(), dead_lettered=True, error="500"
    )
    report = Delivery(
        subscription=subscription.id, attempts=(attempt(position),), checkpoint=position,
        pending=(pending,),
    )  # fmt: skip
    assert not await store.deliveries.record("test", [report], now=0)


# Creating


@pytest.mark.parametrize(
    ("grants", "scopes", "allowed"),
    [
        (["read:project/acme"], ["project/acme"], True),
        (["read:project/acme"], ["project/acme/stack/1"], True),
        (["admin:project/acme"], ["project/acme"], True),
        (["read:project/acme/stack/1"], ["project/acme"], True),
        (["read:/"], ["project/acme", "state/acme"], True),
        (["read:project/acme", "read:state/acme"], ["project/acme", "state/acme"], True),
        (["read:project/acme"], ["project/acme", "state/acme"], False),
        (["read:project/acme"], ["project/acme2"], False),
        (["write:project/acme"], ["project/acme"], False),
        ([], ["project/acme"], False),
        (["read:project/acme"], [], True),
        (["read:project/acme"], ["/"], True),
        (["write:/"], [], False),
        ([], [], False),
    ],
)
async def test_a_principal_subscribes_to_scopes_where_it_may_read_something(
    subscriptions: SubscriptionService,
    store: Store,
    grants: list[str],
    scopes: list[str],
    allowed: bool,
):
    caller = principal(*grants)

    try:
        await subscriptions.create(caller, new(scopes=scopes))
        was_allowed = True
    except Forbidden:
        was_allowed = False

    assert was_allowed is allowed
    assert len(await store.subscriptions.list()) == allowed


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        ("key", True),
        ("bluelink", True),
        ("token", False),
        ("secret", False),
        ("unauthenticated", False),
    ],
)
async def test_a_credential_that_expires_or_is_shared_cannot_own_a_subscription(
    subscriptions: SubscriptionService, kind: str, allowed: bool
):
    caller = principal("admin:/", kind=kind)

    if allowed:
        assert (await created(subscriptions, caller)).owner == Owner(kind=kind, id="k1", name="k1")
    else:
        with pytest.raises(Forbidden, match="subscribe with a key"):
            await created(subscriptions, caller)


async def test_an_anonymous_caller_subscribes_while_no_authentication_is_configured(
    subscriptions: SubscriptionService,
):
    mine = await created(subscriptions, ANONYMOUS, scopes=())

    assert mine.owner.kind == "anonymous"
    assert mine.filter.scopes == ()


async def test_a_root_scope_selects_the_whole_log(subscriptions: SubscriptionService):
    mine = await created(subscriptions, scopes=["project/acme", "/"])

    assert mine.filter.scopes == ()


async def test_an_endpoint_and_a_secret_are_stored_encrypted_only(
    subscriptions: SubscriptionService, store: Store, encryptor: Encryptor
):
    subscription, generated = await subscriptions.create(OWNER, new())

    [stored] = await store.subscriptions.list()
    assert stored == subscription
    assert generated is not None
    assert encryptor.decrypt(stored.secrets[0].sealed) == generated
    assert b"very-secret" not in stored.target
    assert "very-secret" in encryptor.decrypt(stored.target)
    assert stored.shown == "https://hooks.example.com/…"


async def test_a_secret_that_the_caller_sets_is_not_returned(
    subscriptions: SubscriptionService, encryptor: Encryptor
):
    secret = make_secret()

    subscription, generated = await subscriptions.create(OWNER, new(secret=secret))

    assert generated is None
    assert encryptor.decrypt(subscription.secrets[0].sealed) == secret


@pytest.mark.parametrize(
    ("fields", "types"),
    [
        (SLACK, ("deployment.completed", "deployment.failed")),
        (BOT, ()),
        (GRAFANA, ("deployment.started", "deployment.completed", "deployment.failed")),
        ({"kind": "webhook"}, ()),
    ],
)
async def test_a_kind_has_types_that_a_filter_without_types_gets(
    subscriptions: SubscriptionService, fields: dict[str, Any], types: tuple[str, ...]
):
    mine = await created(subscriptions, **({"filter": EVERYTHING} | fields))

    assert tuple(value for each in mine.filter.all_of for value in each.values) == types


async def test_types_that_the_caller_names_replace_those_of_the_kind(
    subscriptions: SubscriptionService,
):
    asked = Filter(all_of=(any_of("type", ("resource.*",)),))

    mine = await created(subscriptions, **(SLACK | {"filter": asked}))

    assert mine.filter == asked


async def test_headers_and_templates_are_stored_encrypted_only(
    subscriptions: SubscriptionService,
):
    mine = await created(
        subscriptions, **(TEMPLATE | {"endpoint": template(headers={"X-Key": "very-secret"})})
    )

    assert b"very-secret" not in mine.target
    assert mine.shown == "https://hooks.example.com/…"


async def test_pagerduty_needs_no_url(subscriptions: SubscriptionService):
    mine = await created(subscriptions, kind="pagerduty", endpoint=EndpointPatch(token="key"))

    assert mine.shown == "https://events.pagerduty.com/…"


async def test_subscribing_requires_an_encryption_key(
    subscriptions: SubscriptionService, store: Store, clock: WallClock
):
    subscriptions._secret_store = secret_store(None, clock)

    with pytest.raises(NoEncryptionKey):
        await subscriptions.create(OWNER, new())

    assert await store.subscriptions.list() == []


@pytest.mark.parametrize(
    ("fields", "order"),
    [
        ({}, "strict"),
        (SLACK, "strict"),
        (BOT, "per_deployment"),
        (BOT | {"order": "strict"}, "strict"),
    ],
)
async def test_a_bot_delivers_per_deployment_by_default(
    subscriptions: SubscriptionService, fields: dict[str, Any], order: str
):
    assert (await created(subscriptions, **fields)).order == order


@pytest.mark.parametrize(
    ("fields", "shown", "signed"),
    [
        ({}, "https://hooks.example.com/…", 1),
        (
            {"endpoint": EndpointPatch(url="http://a.example:8080?x=1")},
            "http://a.example:8080/…",
            1,
        ),
        (
            {"endpoint": EndpointPatch(url="https://[2606:4700::1]:444/x")},
            "https://[2606:4700::1]:444/…",
            1,
        ),
        (SLACK, "https://hooks.example.com/…", 0),
        (BOT, "slack #deploys", 0),
        (
            SLACK | {"endpoint": EndpointPatch(token=TOKEN, channel="deploys", icon=":rocket:")},
            "slack #deploys",
            0,
        ),
    ],
)
async def test_an_endpoint_is_redacted(
    subscriptions: SubscriptionService, fields: dict[str, Any], shown: str, signed: int
):
    mine = await created(subscriptions, **fields)

    assert mine.shown == shown
    assert len(mine.secrets) == signed


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " x"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"endpoint": EndpointPatch()}, "url"),
        ({"endpoint": EndpointPatch(url="")}, "url"),
        ({"endpoint": EndpointPatch(url="ftp://example.com/")}, "url"),
        ({"endpoint": EndpointPatch(url="http://127.0.0.1/")}, "url"),
        ({"endpoint": EndpointPatch(url="http://x/" + "x" * 2048)}, "url"),
        ({"endpoint": EndpointPatch(url=URL, token=TOKEN)}, "token"),
        ({"endpoint": EndpointPatch(url=URL, channel="#x")}, "channel"),
        ({"kind": "fax"}, "kind"),
        (GRAFANA | {"endpoint": EndpointPatch(url=URL)}, "token"),
        (GRAFANA | {"endpoint": EndpointPatch(url=URL, token="t", dashboard="a/b")}, "dashboard"),
        (GRAFANA | {"filter": Filter(all_of=(any_of("type", ("build.*",)),))}, "filter.type"),
        ({"kind": "pagerduty", "endpoint": EndpointPatch()}, "token"),
        ({"kind": "template"}, "template"),
        ({"kind": "template", "endpoint": EndpointPatch(url=URL, template="{{ x }}")}, "template"),
        (TEMPLATE | {"endpoint": template(headers={"a b": "c"})}, "headers"),
        (TEMPLATE | {"endpoint": template(headers={"Host": "c"})}, "headers"),
        (TEMPLATE | {"endpoint": template(headers={"X": "c\r\nY: d"})}, "headers"),
        (TEMPLATE | {"endpoint": template(headers={f"X{n}": "" for n in range(21)})}, "headers"),
        (GRAFANA | {"secret": make_secret()}, "secret"),
        ({"endpoint": EndpointPatch(url=URL, username="x")}, "username"),
        ({"endpoint": EndpointPatch(url=URL, icon=":x:")}, "icon"),
        ({"secret": "short"}, "secret"),
        (SLACK | {"endpoint": EndpointPatch()}, "url"),
        (SLACK | {"endpoint": EndpointPatch(token=TOKEN)}, "channel"),
        (SLACK | {"endpoint": EndpointPatch(url=URL, channel="#x")}, "channel"),
        (SLACK | {"endpoint": EndpointPatch(token="a b", channel="#x")}, "token"),
        (SLACK | {"endpoint": EndpointPatch(token="x" * 513, channel="#x")}, "token"),
        (SLACK | {"endpoint": EndpointPatch(token="é", channel="#x")}, "token"),
        (SLACK | {"endpoint": EndpointPatch(token=TOKEN, channel="x" * 81)}, "channel"),
        (SLACK | {"endpoint": EndpointPatch(url=URL, icon="rocket")}, "icon"),
        (SLACK | {"endpoint": EndpointPatch(url=URL, icon="::")}, "icon"),
        (SLACK | {"endpoint": EndpointPatch(url=URL, username="x" * 256)}, "username"),
        (SLACK | {"secret": make_secret()}, "secret"),
        ({"scopes": [f"project/acme/{n}" for n in range(101)]}, "scopes"),
        (
            {"format": "escape", "filter": Filter(all_of=(any_of("type", ("x.*",)),))},
            "filter.type",
        ),
    ],
)
async def test_an_invalid_field_is_refused_by_name(
    subscriptions: SubscriptionService, store: Store, fields: dict[str, Any], field: str
):
    with pytest.raises(InvalidSubscription) as refused:
        await created(subscriptions, **fields)

    assert refused.value.field == field
    assert "very-secret" not in refused.value.message
    assert await store.subscriptions.list() == []


async def test_a_filter_keeps_the_types_of_its_format(
    subscriptions: SubscriptionService,
):
    everything = await created(subscriptions, format="escape", filter=EVERYTHING)
    some = await created(
        subscriptions,
        format="escape",
        filter=Filter(all_of=(any_of("type", ("state.*", "x")), any_of("actor", ("ann",)))),
    )

    [types] = everything.filter.all_of
    assert types == VISIBLE.all_of[0]
    assert all(value.startswith("state.") for value in some.filter.all_of[0].values)
    assert some.filter.all_of[1] == any_of("actor", ("ann",))


@pytest.mark.parametrize("start", ["now", "start", "2"])
async def test_a_subscription_starts_at_the_requested_position(
    subscriptions: SubscriptionService, store: Store, start: str
):
    events = await store.log.append([new_event() for _ in range(3)])
    # "now" is when the log has it that the subscription was created.
    checkpoints = {"now": 4, "start": 0, "2": 2}

    mine = await created(subscriptions, start=events[1].id if start == "2" else start)

    assert mine.checkpoint == checkpoints[start]


@pytest.mark.parametrize(
    "start", ["soon", UNKNOWN_ID, "00000000-0000-7000-8000-000000000001", "beyond"]
)
async def test_a_subscription_cannot_start_after_an_unknown_event(
    subscriptions: SubscriptionService, store: Store, start: str
):
    [first] = await store.log.append([new_event()])
    start = f"{first.id[:-1]}9" if start == "beyond" else start

    with pytest.raises(InvalidCursor) as refused:
        await created(subscriptions, start=start)

    assert refused.value.field == "from"


async def test_a_subscription_cannot_start_after_a_pruned_event(
    subscriptions: SubscriptionService, store: Store
):
    events = await store.log.append([new_event() for _ in range(3)])
    await store.log.prune(now() + HOUR)

    with pytest.raises(CursorExpired):
        await created(subscriptions, start=events[0].id)


async def test_one_owner_has_a_limited_number_of_subscriptions(
    subscriptions: SubscriptionService, store: Store
):
    owner = Owner(kind="key", id="owner", name="owner")
    for _ in range(MAX_SUBSCRIPTIONS):
        await store.subscriptions.add(subscription(owner=owner))

    with pytest.raises(Conflict, match="the limit is 100"):
        await created(subscriptions)

    assert await created(subscriptions, OTHER)


# Permissions

_READER = principal("read:/", id="reader")
_STACK_ADMIN = principal("admin:project/acme/stack/1", id="stack-admin")
_ROOT_ADMIN = principal("admin:/", id="root")
_NAMESAKE = principal("read:project/acme", id="owner", kind="bluelink")


@pytest.mark.parametrize(
    ("caller", "scopes", "sees"),
    [
        (OWNER, ["project/acme"], True),
        (ADMIN, ["project/acme"], True),
        (_ROOT_ADMIN, ["project/acme"], True),
        (OTHER, ["project/acme"], False),
        (_READER, ["project/acme"], False),
        (_STACK_ADMIN, ["project/acme"], False),
        (_STACK_ADMIN, ["project/acme/stack/1"], True),
        (_STACK_ADMIN, ["project/acme/stack/1", "project/acme/stack/2"], False),
        (_NAMESAKE, ["project/acme"], False),
        (OWNER, [], True),
        (ADMIN, [], False),
        (_ROOT_ADMIN, [], True),
    ],
)
async def test_a_principal_sees_its_own_subscriptions_and_those_it_administers(
    subscriptions: SubscriptionService, caller: Principal, scopes: list[str], sees: bool
):
    mine = await created(subscriptions, scopes=scopes)

    listed = await subscriptions.subscriptions(caller)

    assert listed == ([mine] if sees else [])
    if sees:
        assert await subscriptions.get(caller, mine.id.upper()) == mine
    else:
        with pytest.raises(SubscriptionNotFound, match=mine.id):
            await subscriptions.get(caller, mine.id)


async def test_only_the_owner_sees_response_bodies(
    subscriptions: SubscriptionService, store: Store
):
    mine = await created(subscriptions)
    [event] = await store.log.append([new_event(scopes=(Scope("project/acme"),))])
    await store.deliveries.claim("me", now=1, until=2)
    report = delivery(mine, attempt(event.position, response="echo: secret"))
    await store.deliveries.record("me", [report], now=1)

    [own] = await subscriptions.attempts(OWNER, mine.id, before=None, limit=9)
    [others] = await subscriptions.attempts(ADMIN, mine.id, before=None, limit=9)

    assert own.response == "echo: secret"
    assert (others.response, others.status, others.number) == ("", own.status, own.number)


async def test_admins_see_attempts_and_dead_letters_of_readable_events_only(
    subscriptions: SubscriptionService, store: Store
):
    mine = await created(subscriptions)
    events = await store.log.append(
        [new_event(scopes=(Scope("project/acme"),), groups=g) for g in (("ops",), (), ("ops",), ())]
    )
    for event in events:
        await dead_letter(store, mine, event.position)
    positions = [event.position for event in events]

    async def pages(caller: Principal) -> tuple[list[int], list[int]]:
        """The positions on all pages of one row."""
        attempts, before = [], None
        while tried := await subscriptions.attempts(caller, mine.id, before=before, limit=1):
            attempts.append(tried[0].position)
            before = tried[0].number
        dead_lettered, after = [], 0
        while dead := await subscriptions.dead_letters(caller, mine.id, after=after, limit=1):
            after = dead[0].pending.position
            dead_lettered.append(after)
        return attempts, dead_lettered

    assert await pages(OWNER) == (positions[::-1], positions)
    assert await pages(ADMIN) == (positions[3::-2], positions[1::2])


async def test_a_hidden_subscription_looks_like_a_missing_one(subscriptions: SubscriptionService):
    mine, unknown = await created(subscriptions), UNKNOWN_ID

    with pytest.raises(SubscriptionNotFound) as hidden:
        await subscriptions.get(OTHER, mine.id)
    with pytest.raises(SubscriptionNotFound) as missing:
        await subscriptions.get(OTHER, unknown)

    assert hidden.value.message.replace(mine.id, unknown) == missing.value.message


#: By the method, what it takes besides.
_ACTIONS: dict[str, dict[str, Any]] = {
    "change": {"patch": SubscriptionPatch(name="x")},
    "rotate_secret": {"secret": None, "overlap": 0},
    "pause": {},
    "resume": {},
    "delete": {},
    "test": {},
    "redeliver_dead_lettered": {"since": 0},
    "attempts": {"before": None, "limit": 1},
    "dead_letters": {"after": 0, "limit": 1},
}


@pytest.mark.parametrize("action", _ACTIONS)
@pytest.mark.parametrize("caller", [OWNER, ADMIN, OTHER], ids=lambda caller: caller.id)
async def test_only_the_owner_changes_what_is_delivered_and_where(
    subscriptions: SubscriptionService, changes: ChangeCounter, action: str, caller: Principal
):
    mine = await created(subscriptions)
    changes.count = 0
    refusal: type[DeploylogError] | None = None

    try:
        await getattr(subscriptions, action)(caller, mine.id, **_ACTIONS[action])
    except DeploylogError as error:
        refusal = type(error)

    admin_refusal = Forbidden if action in ("change", "rotate_secret") else None
    assert (
        refusal is {"owner": None, "admin": admin_refusal, "other": SubscriptionNotFound}[caller.id]
    )
    # An active subscription has nothing to resume.
    is_silent = refusal is not None or action in ("resume", "test", "attempts", "dead_letters")
    assert changes.count == (not is_silent)


# Changing


async def test_a_patch_leaves_other_fields_as_they_are(
    subscriptions: SubscriptionService, encryptor: Encryptor
):
    mine = await created(subscriptions, **BOT)

    changed = await subscriptions.change(
        OWNER, mine.id, SubscriptionPatch(endpoint=EndpointPatch(channel="#other"))
    )

    target = encryptor.decrypt(changed.target)
    assert (TOKEN in target, "#other" in target) == (True, True)
    assert changed.shown == "slack #other"
    assert (changed.name, changed.filter, changed.order) == (mine.name, mine.filter, mine.order)
    assert changed.version == mine.version + 1


async def test_a_url_replaces_a_token(subscriptions: SubscriptionService, encryptor: Encryptor):
    mine = await created(subscriptions, **BOT)

    changed = await subscriptions.change(
        OWNER, mine.id, SubscriptionPatch(endpoint=EndpointPatch(url=URL))
    )

    assert TOKEN not in encryptor.decrypt(changed.target)
    assert changed.shown == "https://hooks.example.com/…"


async def test_a_patch_sets_only_readable_scopes(subscriptions: SubscriptionService):
    mine = await created(subscriptions)

    with pytest.raises(Forbidden):
        await subscriptions.change(OWNER, mine.id, SubscriptionPatch(scopes=(Scope("state/acme"),)))
    changed = await subscriptions.change(
        OWNER,
        mine.id,
        SubscriptionPatch(
            scopes=(ROOT,),
            filter=Filter(all_of=(any_of("type", ("x",)),)),
            order="per_deployment",
        ),
    )

    assert changed.filter == Filter(all_of=(any_of("type", ("x",)),))
    assert changed.order == "per_deployment"


async def test_an_invalid_patch_changes_nothing(subscriptions: SubscriptionService):
    mine = await created(subscriptions)

    for change in (
        SubscriptionPatch(name=" "),
        SubscriptionPatch(endpoint=EndpointPatch(url="x")),
        SubscriptionPatch(endpoint=EndpointPatch(channel="#x")),
    ):
        with pytest.raises(InvalidSubscription):
            await subscriptions.change(OWNER, mine.id, change)

    assert await subscriptions.get(OWNER, mine.id) == mine


async def test_a_patch_survives_a_concurrent_change(
    subscriptions: SubscriptionService, store: Store
):
    mine = await created(subscriptions)
    change = store.subscriptions.change
    interfered: list[Subscription] = []

    async def interfering(subscription: Subscription) -> Subscription:
        if not interfered:
            interfered.append(await change(await store.subscriptions.get(mine.id)))
        return await change(subscription)

    store.subscriptions.change = interfering  # type: ignore[method-assign]
    changed = await subscriptions.change(OWNER, mine.id, SubscriptionPatch(name="x"))

    assert (changed.name, changed.version) == ("x", 3)


async def test_pausing_and_resuming_set_state_and_reason(subscriptions: SubscriptionService):
    mine = await created(subscriptions)

    paused = await subscriptions.pause(ADMIN, mine.id)
    again = await subscriptions.pause(OWNER, mine.id)
    resumed = await subscriptions.resume(OWNER, mine.id)

    assert (paused.state, paused.reason) == ("paused", "paused by admin")
    assert again == paused
    assert (resumed.state, resumed.reason) == ("active", None)


@pytest.mark.parametrize("state", ["failing", "disabled"])
async def test_resuming_and_a_new_endpoint_clear_the_failure(
    subscriptions: SubscriptionService, store: Store, state: str
):
    for action in ("resume", "endpoint"):
        mine = await created(subscriptions)
        failure = {"state": state, "reason": "410", "failing_since": 5}
        await store.subscriptions.change(
            subscription(**{name: getattr(mine, name) for name in mine.__struct_fields__} | failure)
        )

        if action == "resume":
            changed = await subscriptions.resume(OWNER, mine.id)
        else:
            endpoint = EndpointPatch(url="https://other.example/")
            changed = await subscriptions.change(
                OWNER, mine.id, SubscriptionPatch(endpoint=endpoint)
            )

        assert (changed.state, changed.reason, changed.failing_since) == ("active", None, None)


# Names


async def test_a_subscription_is_found_by_its_name(subscriptions: SubscriptionService):
    mine = await created(subscriptions, name="Ops")

    assert await subscriptions.get(OWNER, "Ops") == mine
    with pytest.raises(SubscriptionNotFound):
        await subscriptions.get(OTHER, "Ops")


async def test_a_name_is_that_of_the_callers_own_subscription(
    subscriptions: SubscriptionService,
):
    theirs = await created(subscriptions, name="ops")
    assert await subscriptions.get(ADMIN, "ops") == theirs

    own = await created(subscriptions, ADMIN, name="ops")

    assert await subscriptions.get(ADMIN, "ops") == own


async def test_a_name_that_several_owners_gave_is_ambiguous(subscriptions: SubscriptionService):
    await created(subscriptions, name="ops")
    await created(subscriptions, OTHER, name="ops")

    with pytest.raises(Conflict, match="use an id"):
        await subscriptions.get(ADMIN, "ops")


async def test_an_owner_has_each_name_once(subscriptions: SubscriptionService):
    await created(subscriptions, name="ops")
    other = await created(subscriptions, name="other")

    for use in (
        created(subscriptions, name="ops"),
        subscriptions.change(OWNER, other.id, SubscriptionPatch(name="ops")),
    ):
        with pytest.raises(Conflict, match="you have a subscription 'ops' already"):
            await use


async def test_names_and_scopes_replace_one_another(subscriptions: SubscriptionService):
    mine = await created(subscriptions)
    places = Places(project="acme", environments=("prod",))

    named = await subscriptions.change(
        OWNER, mine.id, SubscriptionPatch(places=places, allow_missing=True)
    )
    scoped = await subscriptions.change(
        OWNER, mine.id, SubscriptionPatch(scopes=(Scope("project/acme"),))
    )

    assert (named.places, named.filter.scopes) == (places, ("state/acme/prod",))
    assert (scoped.places, scoped.filter.scopes) == (EVERYWHERE, ("project/acme",))


async def test_an_admin_of_the_project_sees_what_is_about_it_by_name(
    subscriptions: SubscriptionService,
):
    mine = await created(
        subscriptions,
        filter=EVERYTHING,
        places=Places(project="acme", environments=("prod",)),
        allow_missing=True,
    )

    assert await subscriptions.get(ADMIN, mine.id) == mine


async def test_a_missing_name_is_refused_unless_it_is_accepted(
    subscriptions: SubscriptionService,
):
    places = Places(project="acme", stacks=("later",))

    with pytest.raises(InvalidSubscription) as refused:
        await created(subscriptions, filter=EVERYTHING, places=places)
    mine = await created(subscriptions, filter=EVERYTHING, places=places, allow_missing=True)

    assert refused.value.field == "project"
    assert mine.filter.scopes == ("project/acme",)


# Secrets


async def test_a_former_secret_signs_during_the_overlap(
    subscriptions: SubscriptionService, clock: WallClock, encryptor: Encryptor
):
    mine, first = await subscriptions.create(OWNER, new())

    clock.ns += HOUR
    rotated, second = await subscriptions.rotate_secret(OWNER, mine.id, secret=None, overlap=HOUR)
    ends = clock.ns + HOUR
    clock.ns += HOUR // 2
    again, third = await subscriptions.rotate_secret(OWNER, mine.id, secret=None, overlap=24 * HOUR)
    clock.ns += HOUR
    last, _ = await subscriptions.rotate_secret(OWNER, mine.id, secret=None, overlap=HOUR)

    assert [encryptor.decrypt(term.sealed) for term in rotated.secrets] == [second, first]
    assert [term.expires for term in rotated.secrets] == [None, ends]
    assert [encryptor.decrypt(term.sealed) for term in again.secrets] == [third, second, first]
    assert again.secrets[2].expires == ends
    assert first not in [encryptor.decrypt(term.sealed) for term in last.secrets]


async def test_a_former_secret_can_expire_at_once_and_the_caller_can_set_the_new_one(
    subscriptions: SubscriptionService, encryptor: Encryptor
):
    mine, _ = await subscriptions.create(OWNER, new())
    secret = make_secret()

    rotated, generated = await subscriptions.rotate_secret(OWNER, mine.id, secret=secret, overlap=0)

    assert generated is None
    assert [encryptor.decrypt(term.sealed) for term in rotated.secrets] == [secret]


async def test_the_number_of_active_secrets_is_limited(subscriptions: SubscriptionService):
    mine = await created(subscriptions)
    for _ in range(MAX_SECRETS - 1):
        await subscriptions.rotate_secret(OWNER, mine.id, secret=None, overlap=HOUR)

    with pytest.raises(Conflict):
        await subscriptions.rotate_secret(OWNER, mine.id, secret=None, overlap=HOUR)


async def test_slack_has_no_secret_to_rotate(subscriptions: SubscriptionService):
    mine = await created(subscriptions, **BOT)

    with pytest.raises(InvalidSubscription):
        await subscriptions.rotate_secret(OWNER, mine.id, secret=None, overlap=0)


# Redelivery


async def test_any_event_can_be_redelivered(subscriptions: SubscriptionService, store: Store):
    mine = await created(subscriptions)
    events = await store.log.append([new_event(), new_event()])
    await dead_letter(store, mine, events[-1].position)

    for event in events:
        await subscriptions.redeliver(OWNER, mine.id, event.id)

    pending = await store.deliveries.pending(mine.id)
    assert [each.position for each in pending] == [event.position for event in events]


@pytest.mark.parametrize(
    ("event", "caller", "refusal"),
    [
        ({"scopes": ("project/other",)}, OWNER, EventNotFound),
        ({"groups": ("secret",)}, OWNER, EventNotFound),
        ({"groups": ("ops",)}, OWNER, None),
        # The admin is not in the group; the receiver of the other event would not be.
        ({"groups": ("ops",)}, ADMIN, EventNotFound),
        ({"groups": ("secret",)}, principal("admin:/", groups=["secret"]), EventNotFound),
        ({"groups": ("ops",)}, principal("admin:/", groups=["ops"]), None),
        ({"type": "not.fields.for"}, OWNER, None),
    ],
)
async def test_an_event_is_redelivered_only_if_caller_and_owner_may_see_it(
    subscriptions: SubscriptionService,
    store: Store,
    event: dict[str, Any],
    caller: Principal,
    refusal: type[DeploylogError] | None,
):
    wanted = Filter(all_of=(any_of("type", ("resource.*",)),), scopes=(Scope("project/acme"),))
    mine = await created(subscriptions, filter=wanted)
    [recorded] = await store.log.append([new_event(**event)])
    await dead_letter(store, mine, recorded.position)

    if refusal is None:
        await subscriptions.redeliver(caller, mine.id, recorded.id)
    else:
        with pytest.raises(refusal):
            await subscriptions.redeliver(caller, mine.id, recorded.id)

    assert len(await store.deliveries.pending(mine.id)) == (refusal is None)


async def test_an_event_without_an_escape_name_is_not_redelivered_in_that_format(
    subscriptions: SubscriptionService, store: Store
):
    mine = await created(subscriptions, format="escape")
    [known, unknown] = await store.log.append(
        [new_event("state.deployment.updated"), new_event("resource.create.started")]
    )
    await dead_letter(store, mine, unknown.position)

    await subscriptions.redeliver(OWNER, mine.id, known.id)
    with pytest.raises(InvalidSubscription):
        await subscriptions.redeliver(OWNER, mine.id, unknown.id)

    pending = await store.deliveries.pending(mine.id)
    assert [each.position for each in pending] == [known.position]


async def test_nothing_is_redelivered_for_an_owner_without_a_credential(
    subscriptions: SubscriptionService, store: Store, owners: Owners
):
    mine = await created(subscriptions)
    [event] = await store.log.append([new_event()])
    await dead_letter(store, mine, event.position)
    owners.clear()

    with pytest.raises(EventNotFound):
        await subscriptions.redeliver(ADMIN, mine.id, event.id)


async def test_an_event_beyond_the_checkpoint_is_not_redelivered(
    subscriptions: SubscriptionService, store: Store
):
    mine = await created(subscriptions)
    [event] = await store.log.append([new_event()])

    with pytest.raises(Conflict):
        await subscriptions.redeliver(OWNER, mine.id, event.id)

    assert await store.deliveries.pending(mine.id) == []


async def test_dead_letters_are_listed_and_redelivered(
    subscriptions: SubscriptionService, store: Store
):
    mine = await created(subscriptions)
    [event] = await store.log.append([new_event()])
    await dead_letter(store, mine, event.position)
    [attempted] = await subscriptions.attempts(ADMIN, mine.id, before=None, limit=10)
    [dead_lettered] = await subscriptions.dead_letters(ADMIN, mine.id, after=0, limit=10)

    later = await subscriptions.redeliver_dead_lettered(ADMIN, mine.id, now())
    earlier = await subscriptions.redeliver_dead_lettered(ADMIN, mine.id, 0)

    assert attempted.position == event.position
    assert (dead_lettered.event, dead_lettered.pending.error) == (event.id, "500")
    assert (later, earlier) == (0, 1)
    assert await subscriptions.dead_letters(ADMIN, mine.id, after=0, limit=10) == []


async def test_a_dead_letter_is_listed_after_its_event_was_pruned(
    subscriptions: SubscriptionService, store: Store
):
    mine = await created(subscriptions)
    [event] = await store.log.append([new_event()])
    await dead_letter(store, mine, event.position)
    await store.log.prune(now() + HOUR)

    [dead_lettered] = await subscriptions.dead_letters(OWNER, mine.id, after=0, limit=10)

    assert (dead_lettered.event, dead_lettered.pending.position) == (None, event.position)


async def test_the_standing_has_lag_and_backlog(subscriptions: SubscriptionService, store: Store):
    mine = await created(subscriptions)
    [first, *_] = await store.log.append([new_event() for _ in range(3)])
    await dead_letter(store, mine, first.position)

    standing = await subscriptions.standing(await subscriptions.get(OWNER, mine.id))

    assert (standing.lag, standing.backlog.dead_lettered, standing.backlog.pending) == (2, 1, 0)


async def test_a_test_event_is_delivered(subscriptions: SubscriptionService, receiver: Receiver):
    mine = await created(subscriptions)

    outcome = await subscriptions.test(OWNER, mine.id)

    assert outcome.result == "delivered"
    assert receiver.tested == [mine.id]


@pytest.mark.parametrize("has_key", [True, False])
async def test_startup_requires_decryptable_subscriptions(
    store: Store,
    subscriptions: SubscriptionService,
    encryptor: Encryptor,
    clock: WallClock,
    has_key: bool,
):
    await check_decryptable(store.subscriptions, secret_store(None, clock))
    created_, _ = await subscriptions.create(OWNER, new())
    await check_decryptable(store.subscriptions, secret_store(encryptor, clock))
    other = parse_encryptor(make_encryption_key()) if has_key else None

    with pytest.raises(OperatorError) as raised:
        await check_decryptable(store.subscriptions, secret_store(other, clock))

    assert f"deploylog subscriptions delete {created_.id} --store" in raised.value.message
    assert "\n" not in raised.value.message
    await store.subscriptions.delete(created_.id)
    await check_decryptable(store.subscriptions, secret_store(other, clock))


# Audit


async def recorded_changes(store: Store) -> list[Event]:
    """What the log says about changes to subscriptions, oldest first."""
    about = Filter(all_of=(any_of("type", ("subscription.*",)),))
    return list(await store.log.read(Query(filter=about, order="oldest", limit=100)))


async def test_every_change_says_who_did_what_from_where_and_no_secret(
    subscriptions: SubscriptionService, store: Store
):
    caller = structs.replace(OWNER, address="192.0.2.7")
    [event] = await store.log.append([new_event()])
    mine, secret = await subscriptions.create(caller, new(start=event.id))
    endpoint = EndpointPatch(url=f"{URL}-2")

    await subscriptions.change(caller, mine.id, SubscriptionPatch(name="new", endpoint=endpoint))
    await subscriptions.pause(caller, mine.id)
    await subscriptions.resume(ADMIN, mine.id)
    _, rotated = await subscriptions.rotate_secret(caller, mine.id, secret=None, overlap=0)
    await subscriptions.redeliver(caller, mine.id, event.id)
    await subscriptions.redeliver_dead_lettered(caller, mine.id, 0)
    await subscriptions.delete(caller, mine.id)

    found = await recorded_changes(store)
    data = [json.decode(each.data) for each in found if each.data]
    assert [each.type.removeprefix("subscription.") for each in found] == [
        "created", "changed", "paused", "reactivated", "secret_rotated", "redelivered",
        "redelivered", "deleted",
    ]  # fmt: skip
    assert {each.actor for each in found} == {OWNER.name, ADMIN.name}
    assert {each["address"] for each in data} == {"192.0.2.7", None}
    assert data[1]["fields"] == ["name", "endpoint"]
    assert data[5]["event"] == event.id
    everything = repr(found)
    assert secret is not None
    assert rotated is not None
    for hidden in ("very-secret", secret, rotated):
        assert hidden not in everything


async def test_only_who_reads_the_whole_log_sees_a_change(
    subscriptions: SubscriptionService, store: Store
):
    await created(subscriptions)

    [change] = await recorded_changes(store)

    assert principal("read:/").visibility.shows(change)
    assert not principal("admin:project/acme", groups=["ops"]).visibility.shows(change)


async def test_what_is_refused_or_changes_nothing_is_not_recorded(
    subscriptions: SubscriptionService, store: Store
):
    mine = await created(subscriptions, name="one")
    other = await created(subscriptions, name="two")
    before = await recorded_changes(store)

    await subscriptions.resume(OWNER, mine.id)
    with pytest.raises(Conflict):
        await subscriptions.create(OWNER, new(name="one"))
    with pytest.raises(Conflict):
        await subscriptions.change(OWNER, other.id, SubscriptionPatch(name="one"))
    with pytest.raises(Forbidden):
        await subscriptions.change(ADMIN, mine.id, SubscriptionPatch(order="per_deployment"))

    assert await recorded_changes(store) == before


# Summaries of deliveries


async def test_what_was_sent_of_a_deployment_is_for_those_who_see_the_subscription(
    subscriptions: SubscriptionService, deployments: DeploymentService, store: Store
):
    mine = await created(subscriptions)
    request = NewDeployment(project="acme", stack="web")
    opened = await deployments.open_deployment(ANONYMOUS, request)
    [secret] = await store.log.append([new_event(scopes=opened.scopes, groups=("ops",))])
    await store.deliveries.claim("test", now=0, until=2)
    started, *_ = await store.log.read(Query(scope=opened.scopes[0], order="oldest"))
    for event in (started, secret):
        report = delivery(mine, attempt(event.position, result="failed", error="500"))
        await store.deliveries.record("test", [report], now=1)

    found = {
        caller.id: (await subscriptions.summaries(caller, opened, shown=1)).sent
        for caller in (OWNER, ADMIN, OTHER)
    }

    [(whom, of_owner)], [(_, of_admin)] = found["owner"], found["admin"]
    assert whom.id == mine.id
    assert (of_owner.events, of_owner.delivered, of_owner.error) == (2, 0, "500")
    # The admin is not in the group of the other event.
    assert of_admin.events == 1
    assert found["other"] == []
