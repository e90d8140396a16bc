"""Who may subscribe to what, see it, change it, and have events sent again."""

from collections.abc import Callable, Sequence

import pytest

from deploylog.api.escape.wire import SHOWN
from deploylog.auth.encryption import Encryptor, load_seal, make_encryption_key
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
from deploylog.events.filters import EVERYTHING, Filter, any_of
from deploylog.events.scope import ROOT, Scope, parse_scope
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.egress import Networks, check_url
from deploylog.subscriptions.delivery.signing import make_secret, parse_secret
from deploylog.subscriptions.secret_store import MAX_SECRETS, SecretStore, check_decryptable
from deploylog.subscriptions.service import MAX_SUBSCRIPTIONS, SubscriptionService
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
from support.factories import attempt, delivery, new_event, now, subscription

#: An id that nothing has.
NOBODYS = "5c5ecbb0-6d2c-4f1f-9d0c-0d6f5f6d3c11"

URL = "https://hooks.example.com/services/T0/B0/very-secret"
TOKEN = "xoxb-very-secret"
HOUR = 3600 * 10**9


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


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = now()

    def __call__(self) -> int:
        return self.now


class Receiver:
    """Takes tests."""

    def __init__(self) -> None:
        self.tested: list[str] = []

    async def test(self, subscription: Subscription) -> Attempt:
        self.tested.append(subscription.id)
        return attempt(0)


def vault(seal: Encryptor | None, clock: Callable[[], int]) -> SecretStore:
    return SecretStore(
        seal,
        check_url=lambda text: check_url(text, Networks()),
        make_secret=make_secret,
        parse_secret=parse_secret,
        clock=clock,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seal() -> Encryptor:
    return load_seal(make_encryption_key())


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


#: Whose credentials are good.
Owners = dict[str, Principal]


@pytest.fixture
def owners() -> Owners:
    return {"owner": OWNER}


class Told:
    """Counts how often it is told of something new."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def subscribing(
    store: Store, seal: Encryptor, clock: Clock, receiver: Receiver, owners: Owners, told: Told
) -> SubscriptionService:
    async def find(owner: Owner) -> Principal | None:
        return owners.get(owner.id)

    return SubscriptionService(
        store.subscriptions,
        store.deliveries,
        store.log,
        vault(seal, clock),
        formats={"escape": SHOWN},
        find_owner=find,
        send_test=receiver.test,
        on_change=told,
        clock=clock,
    )


def new(*, scopes: Sequence[str] = ("project/acme",), **fields: object) -> NewSubscription:
    asked: dict[str, object] = {
        "name": "ops",
        "kind": "webhook",
        "endpoint": EndpointPatch(url=URL),
        "filter": Filter(scopes=tuple(parse_scope(path) for path in scopes)),
    }
    return NewSubscription(**(asked | fields))  # type: ignore[arg-type]


async def created(
    subscribing: SubscriptionService, who: Principal = OWNER, **how: object
) -> Subscription:
    return (await subscribing.create(who, new(**how)))[0]  # type: ignore[arg-type]


async def given_up(store: Store, subscription: Subscription, position: int) -> None:
    """The event at the position is dead_lettered, and the checkpoint is there."""
    await store.deliveries.claim("test", now=0, until=1)
    pending = Pending(
        position=position, lane="a", tries=3, first=now(), dead_lettered=True, error="500"
    )
    told = Delivery(
        subscription=subscription.id, attempts=(attempt(position),), checkpoint=position,
        pending=(pending,),
    )  # fmt: skip
    assert not await store.deliveries.record("test", [told], now=0)


# Subscribing


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
async def test_one_may_subscribe_to_what_one_may_see_something_of(
    subscribing: SubscriptionService,
    store: Store,
    grants: list[str],
    scopes: list[str],
    allowed: bool,
):
    who = principal(*grants)

    try:
        await subscribing.create(who, new(scopes=scopes))
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
async def test_a_credential_that_ends_or_is_nobodys_cannot_own_a_subscription(
    subscribing: SubscriptionService, kind: str, allowed: bool
):
    who = principal("admin:/", kind=kind)

    if allowed:
        assert (await created(subscribing, who)).owner == Owner(kind=kind, id="k1", name="k1")
    else:
        with pytest.raises(Forbidden, match="subscribe with a key"):
            await created(subscribing, who)


async def test_anybody_may_while_no_authentication_is_configured(subscribing: SubscriptionService):
    mine = await created(subscribing, ANONYMOUS, scopes=())

    assert mine.owner.kind == "anonymous"
    assert mine.filter.scopes == ()


async def test_the_whole_log_is_no_scope(subscribing: SubscriptionService):
    mine = await created(subscribing, scopes=["project/acme", "/"])

    assert mine.filter.scopes == ()


async def test_a_target_and_a_secret_are_kept_sealed_only(
    subscribing: SubscriptionService, store: Store, seal: Encryptor
):
    subscription, told = await subscribing.create(OWNER, new())

    [kept] = await store.subscriptions.list()
    assert kept == subscription
    assert told is not None
    assert seal.open(kept.secrets[0].sealed) == told
    assert b"very-secret" not in kept.target
    assert "very-secret" in seal.open(kept.target)
    assert kept.shown == "https://hooks.example.com/…"


async def test_a_secret_that_is_given_is_not_told(
    subscribing: SubscriptionService, seal: Encryptor
):
    secret = make_secret()

    subscription, told = await subscribing.create(OWNER, new(secret=secret))

    assert told is None
    assert seal.open(subscription.secrets[0].sealed) == secret


async def test_without_a_sealing_key_nobody_subscribes(
    subscribing: SubscriptionService, store: Store, clock: Clock
):
    subscribing._vault = vault(None, clock)

    with pytest.raises(NoEncryptionKey):
        await subscribing.create(OWNER, new())

    assert await store.subscriptions.list() == []


SLACK = {"kind": "slack"}
BOT = SLACK | {"endpoint": EndpointPatch(token=TOKEN, channel="#deploys")}


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        ({}, "strict"),
        (SLACK, "strict"),
        (BOT, "per_deployment"),
        (BOT | {"order": "strict"}, "strict"),
    ],
)
async def test_a_bot_has_a_lane_for_each_deployment_unless_asked_otherwise(
    subscribing: SubscriptionService, asked: dict[str, object], order: str
):
    assert (await created(subscribing, **asked)).order == order


@pytest.mark.parametrize(
    ("asked", "shown", "signed"),
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
async def test_of_a_target_only_its_beginning_is_shown(
    subscribing: SubscriptionService, asked: dict[str, object], shown: str, signed: int
):
    mine = await created(subscribing, **asked)

    assert mine.shown == shown
    assert len(mine.secrets) == signed


@pytest.mark.parametrize(
    ("asked", "field"),
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
async def test_what_cannot_be_is_refused_by_the_name_of_its_field(
    subscribing: SubscriptionService, store: Store, asked: dict[str, object], field: str
):
    with pytest.raises(InvalidSubscription) as refused:
        await created(subscribing, **asked)

    assert refused.value.field == field
    assert "very-secret" not in refused.value.message
    assert await store.subscriptions.list() == []


async def test_escapes_format_asks_for_types_that_it_has_only(subscribing: SubscriptionService):
    everything = await created(subscribing, format="escape", filter=EVERYTHING)
    some = await created(
        subscribing,
        format="escape",
        filter=Filter(all_of=(any_of("type", ("state.*", "x")), any_of("actor", ("ann",)))),
    )

    [types] = everything.filter.all_of
    assert types == SHOWN.all_of[0]
    assert all(value.startswith("state.") for value in some.filter.all_of[0].values)
    assert some.filter.all_of[1] == any_of("actor", ("ann",))


@pytest.mark.parametrize("start", ["now", "start", "2"])
async def test_a_subscription_begins_where_it_is_asked_to(
    subscribing: SubscriptionService, store: Store, start: str
):
    events = await store.log.append([new_event() for _ in range(3)])
    checkpoints = {"now": 3, "start": 0, "2": 2}

    mine = await created(subscribing, start=events[1].id if start == "2" else start)

    assert mine.checkpoint == checkpoints[start]


@pytest.mark.parametrize(
    "start", ["soon", NOBODYS, "00000000-0000-7000-8000-000000000001", "beyond"]
)
async def test_a_subscription_cannot_begin_after_what_is_no_event_of_the_log(
    subscribing: SubscriptionService, store: Store, start: str
):
    [first] = await store.log.append([new_event()])
    start = f"{first.id[:-1]}9" if start == "beyond" else start

    with pytest.raises(InvalidCursor) as refused:
        await created(subscribing, start=start)

    assert refused.value.field == "from"


async def test_a_subscription_cannot_begin_after_what_is_forgotten(
    subscribing: SubscriptionService, store: Store
):
    events = await store.log.append([new_event() for _ in range(3)])
    await store.log.prune(now() + HOUR)

    with pytest.raises(CursorExpired):
        await created(subscribing, start=events[0].id)


async def test_there_is_an_end_to_how_many_one_may_have(
    subscribing: SubscriptionService, store: Store
):
    owner = Owner(kind="key", id="owner", name="owner")
    for _ in range(MAX_SUBSCRIPTIONS):
        await store.subscriptions.add(subscription(owner=owner))

    with pytest.raises(Conflict, match="100 are the most"):
        await created(subscribing)

    assert await created(subscribing, OTHER)


# Who sees and does what

_READER = principal("read:/", id="reader")
_STACK_ADMIN = principal("admin:project/acme/stack/1", id="stack-admin")
_ROOT_ADMIN = principal("admin:/", id="root")
_NAMESAKE = principal("read:project/acme", id="owner", kind="bluelink")


@pytest.mark.parametrize(
    ("who", "scopes", "sees"),
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
async def test_one_sees_ones_own_and_those_whose_scopes_one_administers(
    subscribing: SubscriptionService, who: Principal, scopes: list[str], sees: bool
):
    mine = await created(subscribing, scopes=scopes)

    listed = await subscribing.subscriptions(who)

    assert listed == ([mine] if sees else [])
    if sees:
        assert await subscribing.get(who, mine.id.upper()) == mine
    else:
        with pytest.raises(SubscriptionNotFound, match=mine.id):
            await subscribing.get(who, mine.id)


async def test_what_receivers_answer_is_the_owners_alone(
    subscribing: SubscriptionService, store: Store
):
    mine = await created(subscribing)
    [event] = await store.log.append([new_event(scopes=(Scope("project/acme"),))])
    await store.deliveries.claim("me", now=1, until=2)
    told = delivery(mine, attempt(event.position, response="you said: secret"))
    await store.deliveries.record("me", [told], now=1)

    [own] = await subscribing.attempts(OWNER, mine.id, before=None, limit=9)
    [others] = await subscribing.attempts(ADMIN, mine.id, before=None, limit=9)

    assert own.response == "you said: secret"
    assert (others.response, others.status, others.number) == ("", own.status, own.number)


async def test_attempts_and_what_was_given_up_show_others_only_events_that_they_may_see(
    subscribing: SubscriptionService, store: Store
):
    mine = await created(subscribing)
    events = await store.log.append(
        [new_event(scopes=(Scope("project/acme"),), groups=g) for g in (("ops",), (), ("ops",), ())]
    )
    for event in events:
        await given_up(store, mine, event.position)
    positions = [event.position for event in events]

    async def pages(who: Principal) -> tuple[list[int], list[int]]:
        """By one at a time, as far as there are any."""
        attempts, before = [], None
        while page := await subscribing.attempts(who, mine.id, before=before, limit=1):
            attempts.append(page[0].position)
            before = page[0].number
        dead_lettered, after = [], 0
        while left := await subscribing.dead_letters(who, mine.id, after=after, limit=1):
            after = left[0].pending.position
            dead_lettered.append(after)
        return attempts, dead_lettered

    assert await pages(OWNER) == (positions[::-1], positions)
    assert await pages(ADMIN) == (positions[3::-2], positions[1::2])


async def test_what_one_may_not_see_is_as_what_there_is_not(subscribing: SubscriptionService):
    mine, nobodys = await created(subscribing), NOBODYS

    with pytest.raises(SubscriptionNotFound) as unseen:
        await subscribing.get(OTHER, mine.id)
    with pytest.raises(SubscriptionNotFound) as missing:
        await subscribing.get(OTHER, nobodys)

    assert unseen.value.message.replace(mine.id, nobodys) == missing.value.message


#: By the method, what it takes besides.
_ACTIONS: dict[str, dict[str, object]] = {
    "change": {"change": SubscriptionPatch(name="x")},
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
@pytest.mark.parametrize("who", [OWNER, ADMIN, OTHER], ids=lambda who: who.id)
async def test_only_the_owner_says_what_goes_where(
    subscribing: SubscriptionService, told: Told, action: str, who: Principal
):
    mine = await created(subscribing)
    told.times = 0
    refusal: type[DeploylogError] | None = None

    try:
        await getattr(subscribing, action)(who, mine.id, **_ACTIONS[action])
    except DeploylogError as error:
        refusal = type(error)

    for_admin = Forbidden if action in ("change", "rotate_secret") else None
    assert refusal is {"owner": None, "admin": for_admin, "other": SubscriptionNotFound}[who.id]
    # Nothing is resumed that was not paused.
    silent = refusal is not None or action in ("resume", "test", "attempts", "dead_letters")
    assert told.times == (not silent)


# Changing


async def test_a_change_leaves_what_it_does_not_name(
    subscribing: SubscriptionService, seal: Encryptor
):
    mine = await created(subscribing, **BOT)

    changed = await subscribing.change(
        OWNER, mine.id, SubscriptionPatch(endpoint=EndpointPatch(channel="#other"))
    )

    target = seal.open(changed.target)
    assert (TOKEN in target, "#other" in target) == (True, True)
    assert changed.shown == "slack #other"
    assert (changed.name, changed.filter, changed.order) == (mine.name, mine.filter, mine.order)
    assert changed.version == mine.version + 1


async def test_an_address_takes_the_place_of_a_token(
    subscribing: SubscriptionService, seal: Encryptor
):
    mine = await created(subscribing, **BOT)

    changed = await subscribing.change(
        OWNER, mine.id, SubscriptionPatch(endpoint=EndpointPatch(url=URL))
    )

    assert TOKEN not in seal.open(changed.target)
    assert changed.shown == "https://hooks.example.com/…"


async def test_scopes_are_changed_only_to_what_one_may_see(subscribing: SubscriptionService):
    mine = await created(subscribing)

    with pytest.raises(Forbidden):
        await subscribing.change(OWNER, mine.id, SubscriptionPatch(scopes=(Scope("state/acme"),)))
    changed = await subscribing.change(
        OWNER,
        mine.id,
        SubscriptionPatch(
            scopes=(ROOT,), conditions=(any_of("type", ("x",)),), order="per_deployment"
        ),
    )

    assert changed.filter == Filter(all_of=(any_of("type", ("x",)),))
    assert changed.order == "per_deployment"


async def test_a_wrong_change_changes_nothing(subscribing: SubscriptionService):
    mine = await created(subscribing)

    for change in (
        SubscriptionPatch(name=" "),
        SubscriptionPatch(endpoint=EndpointPatch(url="x")),
        SubscriptionPatch(endpoint=EndpointPatch(channel="#x")),
    ):
        with pytest.raises(InvalidSubscription):
            await subscribing.change(OWNER, mine.id, change)

    assert await subscribing.get(OWNER, mine.id) == mine


async def test_a_change_is_made_though_the_courier_is_faster(
    subscribing: SubscriptionService, store: Store
):
    mine = await created(subscribing)
    real, interfered = store.subscriptions.change, []

    async def interfering(subscription: Subscription) -> Subscription:
        if not interfered:
            interfered.append(await real(await store.subscriptions.get(mine.id)))
        return await real(subscription)

    store.subscriptions.change = interfering  # type: ignore[method-assign]
    changed = await subscribing.change(OWNER, mine.id, SubscriptionPatch(name="x"))

    assert (changed.name, changed.version) == ("x", 3)


async def test_pausing_and_resuming_say_so(subscribing: SubscriptionService):
    mine = await created(subscribing)

    paused = await subscribing.pause(ADMIN, mine.id)
    again = await subscribing.pause(OWNER, mine.id)
    resumed = await subscribing.resume(OWNER, mine.id)

    assert (paused.state, paused.reason) == ("paused", "paused by admin")
    assert again == paused
    assert (resumed.state, resumed.reason) == ("active", None)


@pytest.mark.parametrize("state", ["failing", "disabled"])
async def test_resuming_and_another_target_end_what_was_wrong(
    subscribing: SubscriptionService, store: Store, state: str
):
    for how in ("resume", "target"):
        mine = await created(subscribing)
        wrong = {"state": state, "reason": "410", "failing_since": 5}
        await store.subscriptions.change(
            subscription(**{f: getattr(mine, f) for f in mine.__struct_fields__} | wrong)
        )

        if how == "resume":
            changed = await subscribing.resume(OWNER, mine.id)
        else:
            endpoint = EndpointPatch(url="https://other.example/")
            changed = await subscribing.change(OWNER, mine.id, SubscriptionPatch(endpoint=endpoint))

        assert (changed.state, changed.reason, changed.failing_since) == ("active", None, None)


# Secrets


async def test_a_replaced_secret_signs_on_for_a_while(
    subscribing: SubscriptionService, clock: Clock, seal: Encryptor
):
    mine, first = await subscribing.create(OWNER, new())

    clock.now += HOUR
    rotated, second = await subscribing.rotate_secret(OWNER, mine.id, secret=None, overlap=HOUR)
    ends = clock.now + HOUR
    clock.now += HOUR // 2
    again, third = await subscribing.rotate_secret(OWNER, mine.id, secret=None, overlap=24 * HOUR)
    clock.now += HOUR
    last, _ = await subscribing.rotate_secret(OWNER, mine.id, secret=None, overlap=HOUR)

    assert [seal.open(term.sealed) for term in rotated.secrets] == [second, first]
    assert [term.expires for term in rotated.secrets] == [None, ends]
    assert [seal.open(term.sealed) for term in again.secrets] == [third, second, first]
    assert again.secrets[2].expires == ends
    assert first not in [seal.open(term.sealed) for term in last.secrets]


async def test_a_secret_can_end_at_once_and_be_ones_own(
    subscribing: SubscriptionService, seal: Encryptor
):
    mine, _ = await subscribing.create(OWNER, new())
    secret = make_secret()

    rotated, told = await subscribing.rotate_secret(OWNER, mine.id, secret=secret, overlap=0)

    assert told is None
    assert [seal.open(term.sealed) for term in rotated.secrets] == [secret]


async def test_there_is_an_end_to_how_many_secrets_sign(subscribing: SubscriptionService):
    mine = await created(subscribing)
    for _ in range(MAX_SECRETS - 1):
        await subscribing.rotate_secret(OWNER, mine.id, secret=None, overlap=HOUR)

    with pytest.raises(Conflict):
        await subscribing.rotate_secret(OWNER, mine.id, secret=None, overlap=HOUR)


async def test_requests_to_slack_have_no_secret_to_rotate(subscribing: SubscriptionService):
    mine = await created(subscribing, **BOT)

    with pytest.raises(InvalidSubscription):
        await subscribing.rotate_secret(OWNER, mine.id, secret=None, overlap=0)


# Sending again


async def test_an_event_is_sent_again_whether_it_arrived_or_not(
    subscribing: SubscriptionService, store: Store
):
    mine = await created(subscribing)
    events = await store.log.append([new_event(), new_event()])
    await given_up(store, mine, 2)

    for event in events:
        await subscribing.redeliver(OWNER, mine.id, event.id)

    assert [each.position for each in await store.deliveries.pending(mine.id)] == [1, 2]


@pytest.mark.parametrize(
    ("event", "who", "refusal"),
    [
        ({"scopes": ("project/other",)}, OWNER, EventNotFound),
        ({"groups": ("secret",)}, OWNER, EventNotFound),
        ({"groups": ("ops",)}, OWNER, None),
        # The admin is not in the group; the receiver of the other event would not be.
        ({"groups": ("ops",)}, ADMIN, EventNotFound),
        ({"groups": ("secret",)}, principal("admin:/", groups=["secret"]), EventNotFound),
        ({"groups": ("ops",)}, principal("admin:/", groups=["ops"]), None),
        ({"type": "not.asked.for"}, OWNER, None),
    ],
)
async def test_an_event_is_sent_again_only_if_the_owner_may_see_it(
    subscribing: SubscriptionService,
    store: Store,
    event: dict[str, object],
    who: Principal,
    refusal: type[DeploylogError] | None,
):
    wanted = Filter(all_of=(any_of("type", ("resource.*",)),), scopes=(Scope("project/acme"),))
    mine = await created(subscribing, filter=wanted)
    [recorded] = await store.log.append([new_event(**event)])  # type: ignore[arg-type]
    await given_up(store, mine, 1)

    if refusal is None:
        await subscribing.redeliver(who, mine.id, recorded.id)
    else:
        with pytest.raises(refusal):
            await subscribing.redeliver(who, mine.id, recorded.id)

    assert len(await store.deliveries.pending(mine.id)) == (refusal is None)


async def test_an_event_that_escape_has_no_name_for_is_not_sent_to_it(
    subscribing: SubscriptionService, store: Store
):
    mine = await created(subscribing, format="escape")
    [known, unknown] = await store.log.append(
        [new_event("state.deployment.updated"), new_event("resource.create.started")]
    )
    await given_up(store, mine, 2)

    await subscribing.redeliver(OWNER, mine.id, known.id)
    with pytest.raises(InvalidSubscription):
        await subscribing.redeliver(OWNER, mine.id, unknown.id)

    assert [each.position for each in await store.deliveries.pending(mine.id)] == [1]


async def test_nothing_is_sent_for_an_owner_whose_credential_is_gone(
    subscribing: SubscriptionService, store: Store, owners: Owners
):
    mine = await created(subscribing)
    [event] = await store.log.append([new_event()])
    await given_up(store, mine, 1)
    owners.clear()

    with pytest.raises(EventNotFound):
        await subscribing.redeliver(ADMIN, mine.id, event.id)


async def test_an_event_whose_turn_comes_is_not_sent_before(
    subscribing: SubscriptionService, store: Store
):
    mine = await created(subscribing)
    [event] = await store.log.append([new_event()])

    with pytest.raises(Conflict):
        await subscribing.redeliver(OWNER, mine.id, event.id)

    assert await store.deliveries.pending(mine.id) == []


async def test_what_was_given_up_is_listed_and_sent_again(
    subscribing: SubscriptionService, store: Store
):
    mine = await created(subscribing)
    [event] = await store.log.append([new_event()])
    await given_up(store, mine, 1)
    [attempted] = await subscribing.attempts(ADMIN, mine.id, before=None, limit=10)
    [dead_lettered] = await subscribing.dead_letters(ADMIN, mine.id, after=0, limit=10)

    later = await subscribing.redeliver_dead_lettered(ADMIN, mine.id, now())
    earlier = await subscribing.redeliver_dead_lettered(ADMIN, mine.id, 0)

    assert attempted.position == 1
    assert (dead_lettered.event, dead_lettered.pending.error) == (event.id, "500")
    assert (later, earlier) == (0, 1)
    assert await subscribing.dead_letters(ADMIN, mine.id, after=0, limit=10) == []


async def test_what_was_given_up_is_listed_though_it_is_forgotten(
    subscribing: SubscriptionService, store: Store
):
    mine = await created(subscribing)
    await store.log.append([new_event()])
    await given_up(store, mine, 1)
    await store.log.prune(now() + HOUR)

    [dead_lettered] = await subscribing.dead_letters(OWNER, mine.id, after=0, limit=10)

    assert (dead_lettered.event, dead_lettered.pending.position) == (None, 1)


async def test_how_it_stands_is_told(subscribing: SubscriptionService, store: Store):
    mine = await created(subscribing)
    await store.log.append([new_event() for _ in range(3)])
    await given_up(store, mine, 1)

    standing = await subscribing.standing(await subscribing.get(OWNER, mine.id))

    assert (standing.lag, standing.backlog.dead_lettered, standing.backlog.pending) == (2, 1, 0)


async def test_a_test_is_made_of_ones_own(subscribing: SubscriptionService, receiver: Receiver):
    mine = await created(subscribing)

    outcome = await subscribing.test(OWNER, mine.id)

    assert outcome.result == "delivered"
    assert receiver.tested == [mine.id]


@pytest.mark.parametrize("has_seal", [True, False])
async def test_the_service_does_not_start_with_subscriptions_that_it_cannot_open(
    store: Store, subscribing: SubscriptionService, seal: Encryptor, clock: Clock, has_seal: bool
):
    await check_decryptable(store.subscriptions, vault(None, clock))
    made, _ = await subscribing.create(OWNER, new())
    await check_decryptable(store.subscriptions, vault(seal, clock))
    other = load_seal(make_encryption_key()) if has_seal else None

    with pytest.raises(OperatorError) as raised:
        await check_decryptable(store.subscriptions, vault(other, clock))

    assert f"deploylog subscriptions delete {made.id} --store" in raised.value.message
    assert "\n" not in raised.value.message
    await store.subscriptions.delete(made.id)
    await check_decryptable(store.subscriptions, vault(other, clock))
