"""``keys``: who may do what, kept in the store itself."""

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploylog.auth.store import AccessKeyKind, Credential
from deploylog.cli.options import check_name, choice_of
from deploylog.cli.serve import Config, SecretKeyFile, Store, chosen_secret_key_file, chosen_store
from deploylog.cli.terminal.formatting import plain, render_moment, screen
from deploylog.cli.terminal.table import Column, Listing
from deploylog.errors import InvalidInput, OperatorError
from deploylog.events.access import Grant, parse_grant
from deploylog.events.times import SECOND
from deploylog.server import admin

#: Secrets shorter than this, in characters, can be guessed by who overheard one request.
_GUESSABLE = 32

app = typer.Typer(help="Add, list and revoke keys, on the store itself.", no_args_is_help=True)


class Kind(StrEnum):
    """What an added key is: an API key, or a pair that signs as clients of these do."""

    KEY = "key"
    BLUELINK = "bluelink"
    HUAWEI = "huawei"
    AWS = "aws"


_SIGNERS: dict[Kind, AccessKeyKind] = {
    Kind.BLUELINK: "bluelink",
    Kind.HUAWEI: "huawei",
    Kind.AWS: "aws",
}


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.", callback=check_name)],
    *,
    grant: Annotated[
        list[str],
        typer.Option(
            "--grant",
            help="Right and scope, as read:project/acme; admin:/ is everything. Repeatable.",
        ),
    ],
    group: Annotated[
        list[str] | None, typer.Option("--group", help="Group that it is in; repeatable.")
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            parser=choice_of(Kind),
            help="API key (key), or a pair that signs as Bluelink's clients do (bluelink), Huawei"
            " Cloud's (huawei) or those of AWS (aws).",
        ),
    ] = Kind.KEY,
    id: Annotated[
        str | None, typer.Option("--id", help="Key id of a pair that there is already.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option("--secret-file", help="File of its secret; - is standard input.")
    ] = None,
    secret_key_file: SecretKeyFile = None,
    store: Store = None,
    config: Config = None,
) -> None:
    """Add a key, and print it: it is told this once."""
    url = chosen_store(store, config)
    pair = _taken_over(kind, id, secret_file)
    is_new = not admin.store_exists(url)
    grants, groups = [_grant(text) for text in grant], group or ()
    if kind is Kind.KEY:
        _, key = admin.add_key(url, name=name, groups=groups, grants=grants)
    else:
        sealing = chosen_secret_key_file(secret_key_file, config)
        signer, secret = admin.add_access_key(
            url, kind=_SIGNERS[kind], pair=pair, name=name, groups=groups, grants=grants,
            secret_key_file=sealing,
        )  # fmt: skip
        key = f"keyId: {signer.id}" + (f"\nsecretKey: {secret}" if pair is None else "")
    if is_new:
        print(f"deploylog: there was no store at {url}: made a new one", file=sys.stderr)
    print(key)


def _grant(text: str) -> Grant:
    try:
        return parse_grant(text)
    except InvalidInput as error:
        raise typer.BadParameter(error.message) from error


def _taken_over(kind: Kind, id: str | None, file: Path | None) -> tuple[str, str] | None:
    """The pair that the options name; raises OperatorError for half of one."""
    if id is None and file is None:
        return None
    if kind is Kind.KEY:
        raise OperatorError("--id and --secret-file are for --kind bluelink, huawei or aws")
    if id is None or file is None:
        raise OperatorError("--id and --secret-file go together")
    secret = _read_secret(file)
    if len(secret) < _GUESSABLE:
        print(
            f"deploylog: warning: the secret has less than {_GUESSABLE} characters, and may be"
            " guessed",
            file=sys.stderr,
        )
    return id, secret


def _read_secret(file: Path) -> str:
    """The secret, without the end of its line."""
    try:
        read = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        secret = read.decode().strip()
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise OperatorError(f"the secret in {file} is not text") from None
    if not secret:
        raise OperatorError(f"there is no secret in {file}")
    return secret


@app.command("list")
def list_(*, store: Store = None, config: Config = None) -> None:
    """List keys, the revoked ones too."""
    listing = Listing(
        Column(name="ID", rank=0),
        Column(name="KIND", rank=4),
        Column(name="NAME", rank=2, wraps=True),
        Column(name="GRANTS", rank=1, wraps=True),
        Column(name="GROUPS", rank=5, wraps=True),
        Column(name="CREATED", rank=6),
        Column(name="REVOKED", rank=3),
    )
    for credential in admin.list_credentials(chosen_store(store, config)):
        listing.add(*_row(credential))
    listing.print(screen())


def _row(credential: Credential) -> tuple[str, ...]:
    kind = credential.kind
    grants = " ".join(f"{grant.right}:{grant.scope or '/'}" for grant in credential.grants)
    groups = plain(" ".join(credential.groups))
    created, revoked = map(_moment, (credential.created, credential.revoked))
    return credential.id, kind, plain(credential.name), grants, groups, created, revoked


def _moment(ns: int | None) -> str:
    return render_moment(datetime.fromtimestamp(ns // SECOND, UTC) if ns is not None else None)


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="Id of the key, as keys list shows it.")],
    *,
    store: Store = None,
    config: Config = None,
) -> None:
    """Let a key open nothing any more."""
    admin.revoke_key(chosen_store(store, config), id)


@app.command("rotate-encryption")
def rotate_encryption(
    *, secret_key_file: SecretKeyFile = None, store: Store = None, config: Config = None
) -> None:
    """Re-encrypt every stored secret with the first encryption key."""
    file = chosen_secret_key_file(secret_key_file, config)
    print(f"re-encrypted {admin.rotate_encryption(chosen_store(store, config), file)}")


@app.command("new-encryption-key")
def new_encryption_key() -> None:
    """Print a new encryption key, for a line of the file of encryption keys."""
    print(admin.new_encryption_key())
