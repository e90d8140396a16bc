"""*Keys*: who may do what; for those who administer it."""

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.auth.store import Credential
from deploylog.errors import Conflict, DeploylogError, Forbidden, InvalidInput, KeyNotFound
from deploylog.events.access import Principal, parse_grant
from deploylog.ui.page import Again, Page, View


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    #: Newest first; those that were revoked at the end.
    keys: tuple[Credential, ...]
    #: The key that the person uses.
    own: str
    #: Whether nobody needs a key as yet.
    is_open: bool
    form: dict[str, str] = {}
    problem: str | None = None
    #: The key that was made, and its secret: this once.
    created: Credential | None = None
    secret: str | None = None


def is_admin(principal: Principal) -> bool:
    """Whether the principal administers anything."""
    return any(grant.right == "admin" for grant in principal.grants)


async def load(view: View) -> Shown:
    """The keys that the person administers."""
    Parameters(view.query).done()
    keys = await view.services.keys.keys(view.principal)
    return Shown(
        keys=tuple(sorted(keys, key=lambda key: (key.revoked is not None, -key.created))),
        own=view.principal.id if view.principal.kind == "key" else "",
        is_open=view.principal.kind == "anonymous",
    )


async def add(view: View) -> Again:
    """Make the key that the form describes."""
    form = view.form
    try:
        grants = [parse_grant(text) for text in form.get("grants", "").split()]
        created, secret = await view.services.keys.add(
            view.principal,
            name=form.get("name", "").strip(),
            grants=grants,
            groups=form.get("groups", "").split(),
        )
    except (InvalidInput, Forbidden, Conflict) as error:
        return await _refused(view, error)
    return Again(msgspec.structs.replace(await load(view), created=created, secret=secret))


async def revoke(view: View) -> str | Again:
    """Revoke the key that the form names."""
    try:
        await view.services.keys.revoke(view.principal, view.form.get("id", ""))
    except KeyNotFound as error:
        return await _refused(view, error)
    return "keys"


async def _refused(view: View, error: DeploylogError) -> Again:
    shown = msgspec.structs.replace(await load(view), form=dict(view.form), problem=error.message)
    return Again(shown, error)


PAGE = Page(
    path="keys",
    template="keys.html",
    load=load,
    navigation="Keys",
    is_for=is_admin,
    actions={"keys": add, "keys/revoke": revoke},
)
