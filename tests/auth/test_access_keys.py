"""The credentials that sign: how they are made, of each kind."""

import re

import pytest

from deploylog.auth.access_keys import generate_key_pair, make_access_key, open_secret
from deploylog.auth.encryption import Encryptor, make_encryption_key, parse_encryptor
from deploylog.auth.store import AccessKeyKind
from deploylog.errors import InvalidInput

FORMS: dict[AccessKeyKind, tuple[str, str]] = {
    "bluelink": (r"[0-9a-f]{32}", r"[0-9a-f]{64}"),
    "huawei": (r"[A-Z0-9]{20}", r"[A-Za-z0-9]{40}"),
    "aws": (r"AKIA[A-Z2-7]{16}", r"[A-Za-z0-9+/]{40}"),
}

NOWHERE = ["", "a,b", "a=b", 'a"b', "a b", "ä", "a" * 129, "a\n"]


@pytest.fixture
def seal() -> Encryptor:
    return parse_encryptor(make_encryption_key())


@pytest.mark.parametrize("kind", FORMS)
def test_new_pairs_have_the_vendors_form_and_differ(kind: AccessKeyKind):
    pairs = [generate_key_pair(kind) for _ in range(20)]

    assert len({id for id, _ in pairs} | {secret for _, secret in pairs}) == 40
    id_form, secret_form = FORMS[kind]
    assert all(re.fullmatch(id_form, id) for id, _ in pairs)
    assert all(re.fullmatch(secret_form, secret) for _, secret in pairs)


@pytest.mark.parametrize("kind", FORMS)
def test_a_pair_is_kept_sealed(seal: Encryptor, kind: AccessKeyKind):
    id, secret = generate_key_pair(kind)

    signer = make_access_key(
        kind=kind, id=id, secret=secret, name="a", groups=("b", "a", "b"), grants=(),
        encryptor=seal, now=1,
    )  # fmt: skip

    assert (signer.kind, signer.id, signer.groups) == (kind, id, ("a", "b"))
    assert secret.encode() not in signer.secret
    assert open_secret(signer, seal) == secret


@pytest.mark.parametrize(
    ("kind", "id"),
    [
        *[("bluelink", id) for id in NOWHERE],
        *[(kind, id) for kind in ("huawei", "aws") for id in (*NOWHERE, "a/b", "a;b", "a.b")],
    ],
)
def test_an_id_that_no_header_could_hold_is_refused(seal: Encryptor, kind: AccessKeyKind, id: str):
    with pytest.raises(InvalidInput):
        make_access_key(
            kind=kind, id=id, secret="a", name="a", groups=(), grants=(), encryptor=seal, now=1
        )


@pytest.mark.parametrize("kind", FORMS)
def test_a_secret_is_not_empty(seal: Encryptor, kind: AccessKeyKind):
    with pytest.raises(InvalidInput):
        make_access_key(
            kind=kind, id="a", secret="", name="a", groups=(), grants=(), encryptor=seal, now=1
        )
