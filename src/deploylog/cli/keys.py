"""``keys``: who may do what, in the store itself or by way of the server."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploylog.auth.store import AccessKeyKind, Credential, SourceKind
from deploylog.cli.application import new_app
from deploylog.cli.options import (
    Connection,
    SecretKeyFile,
    StoreLocation,
    check_name,
    choice_of,
    expanded,
)
from deploylog.cli.printing import TablePrinting
from deploylog.cli.terminal.formatting import render_moment
from deploylog.cli.terminal.input import read_secret
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.table import Column, Listing
from deploylog.cli.terminal.text import plain
from deploylog.client import KeyState
from deploylog.errors import InvalidInput, OperatorError
from deploylog.events.access import Grant, parse_grant
from deploylog.events.times import SECOND
from deploylog.server import admin

#: A shorter secret, in characters, can be guessed by someone who has seen one signed request.
_MIN_SECRET_LENGTH = 32

app = new_app(
    help="Add, list and revoke keys, in the store itself or by way of the server.",
    no_args_is_help=True,
)

Remote = Annotated[
    bool,
    typer.Option(
        "--remote", help="Ask the server, with a key that administers what the keys may do."
    ),
]


class Kind(StrEnum):
    """The kind of a credential: an API key, an access key that signs requests, or the secret of a
    source's webhooks.
    """

    KEY = "key"
    BLUELINK = "bluelink"
    HUAWEI = "huawei"
    AWS = "aws"
    GITHUB = "github"
    GITLAB = "gitlab"
    HCP_TERRAFORM = "hcp-terraform"
    FLUX = "flux"
    ATLANTIS = "atlantis"
    PULUMI = "pulumi"


_ACCESS_KEY_KINDS: dict[Kind, AccessKeyKind] = {
    Kind.BLUELINK: "bluelink",
    Kind.HUAWEI: "huawei",
    Kind.AWS: "aws",
}

_SOURCE_KINDS: dict[Kind, SourceKind] = {
    Kind.GITHUB: "github",
    Kind.GITLAB: "gitlab",
    Kind.HCP_TERRAFORM: "hcp-terraform",
    Kind.FLUX: "flux",
    Kind.ATLANTIS: "atlantis",
    Kind.PULUMI: "pulumi",
}

_SIGNING_KINDS = _ACCESS_KEY_KINDS | _SOURCE_KINDS


@app.command()
@expanded
def add(
    name: Annotated[
        str, typer.Argument(help="Name of the principal that uses the key.", callback=check_name)
    ],
    *,
    grant: Annotated[
        list[str],
        typer.Option(
            "--grant",
            help="Right and scope, for example read:project/acme. admin:/ grants everything."
            " Repeatable.",
        ),
    ],
    group: Annotated[
        list[str] | None, typer.Option("--group", help="Group of the principal. Repeatable.")
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            parser=choice_of(Kind),
            metavar="KIND",
            help="API key (key); access key for the clients of Bluelink (bluelink), Huawei Cloud"
            " (huawei) or AWS (aws); or secret of the webhooks of github, gitlab, hcp-terraform,"
            " flux, atlantis or pulumi.",
        ),
    ] = Kind.KEY,
    id: Annotated[
        str | None, typer.Option("--id", help="Id of an existing access key to import.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file", help="File with the secret to import. - reads standard input."
        ),
    ] = None,
    secret_key_file: SecretKeyFile = None,
    remote: Remote = False,
    location: StoreLocation,
    connection: Connection,
) -> None:
    """Add a key, and print it.

    The secret is not shown again.

    Example: deploylog keys add ci --grant write:project/acme
    """
    grants, groups = [_grant(text) for text in grant], group or ()
    if remote:
        if kind is not Kind.KEY or id is not None or secret_file is not None:
            raise OperatorError("--remote adds API keys only: add others in the store itself")
        texts = [each.text for each in grants]
        print(connection.call(lambda client: client.keys.add(name, texts, groups)).key)
        return
    url = location.url
    imported = _imported(kind, id, secret_file)
    is_new = not admin.store_exists(url)
    if kind is Kind.KEY:
        _, key = admin.add_key(url, name=name, groups=groups, grants=grants)
    else:
        access_key, secret = admin.add_access_key(
            url, kind=_SIGNING_KINDS[kind], pair=imported, name=name, groups=groups,
            grants=grants, secret_key_file=location.secret_key_file(secret_key_file),
        )  # fmt: skip
        key = f"keyId: {access_key.id}" + (f"\nsecretKey: {secret}" if imported is None else "")
    if is_new:
        log_line(f"created a new store at {admin.store_name(url)}")
    print(key)


def _grant(text: str) -> Grant:
    try:
        return parse_grant(text)
    except InvalidInput as error:
        raise typer.BadParameter(error.message) from error


def _imported(kind: Kind, id: str | None, file: Path | None) -> tuple[str, str] | None:
    """Return the id and the secret to import, if the options name them; raises OperatorError."""
    if id is None and file is None:
        return None
    if kind is Kind.KEY:
        raise OperatorError(
            "--id and --secret-file require --kind bluelink, huawei, aws or that of a source"
        )
    if kind in _SOURCE_KINDS and id is None:
        # Webhooks name no key.
        id, _ = admin.new_key_pair(_SOURCE_KINDS[kind])
    if id is None or file is None:
        raise OperatorError("specify --id and --secret-file together")
    secret = read_secret(file)
    if len(secret) < _MIN_SECRET_LENGTH:
        log_line(
            f"warning: the secret is shorter than {_MIN_SECRET_LENGTH} characters and can be"
            " guessed"
        )
    return id, secret


@app.command("list")
@expanded
def list_(
    *,
    remote: Remote = False,
    printing: TablePrinting,
    location: StoreLocation,
    connection: Connection,
) -> None:
    """List keys, including revoked ones."""
    if remote:
        found = connection.call(lambda client: client.keys.list())
    else:
        found = tuple(map(_state, admin.list_credentials(location.url)))
    printing.print(found, _table)


def _table(keys: Iterable[KeyState]) -> Listing:
    listing = Listing(
        Column(name="ID", rank=0),
        Column(name="KIND", rank=4),
        Column(name="NAME", rank=2, wraps=True),
        Column(name="GRANTS", rank=1, wraps=True),
        Column(name="GROUPS", rank=5, wraps=True),
        Column(name="CREATED", rank=6),
        Column(name="REVOKED", rank=3),
    )
    for key in keys:
        listing.add(
            key.id, key.kind, plain(key.name), " ".join(key.grants), plain(" ".join(key.groups)),
            render_moment(key.created), render_moment(key.revoked),
        )  # fmt: skip
    return listing


def _state(credential: Credential) -> KeyState:
    revoked = credential.revoked
    return KeyState(
        id=credential.id,
        kind=credential.kind,
        name=credential.name,
        grants=tuple(grant.text for grant in credential.grants),
        groups=credential.groups,
        created=_moment(credential.created),
        revoked=_moment(revoked) if revoked is not None else None,
    )


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // SECOND, UTC)


@app.command()
@expanded
def revoke(
    id: Annotated[str, typer.Argument(help="Id of the key, as keys list shows it.")],
    *,
    remote: Remote = False,
    location: StoreLocation,
    connection: Connection,
) -> None:
    """Revoke a key."""
    if remote:
        connection.call(lambda client: client.keys.revoke(id))
    else:
        admin.revoke_key(location.url, id)


@app.command("rotate-encryption")
@expanded
def rotate_encryption(*, secret_key_file: SecretKeyFile = None, location: StoreLocation) -> None:
    """Re-encrypt every stored secret with the first encryption key."""
    file = location.secret_key_file(secret_key_file)
    print(f"re-encrypted {admin.rotate_encryption(location.url, file)}")


@app.command("new-encryption-key")
def new_encryption_key() -> None:
    """Print a new encryption key, to be a line of the encryption key file."""
    print(admin.new_encryption_key())
