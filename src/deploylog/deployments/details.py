"""What a deployment carries besides its place and its tool: version, commits, labels and more.

Everything is optional, and nothing is guessed: a producer says it, or it is absent.
"""

import re
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import replace

from deploylog.errors import InvalidInput
from deploylog.events.event import is_too_deep
from deploylog.events.times import Time, parse_time

#: Characters of a version, of an approver, and of the value of a label.
MAX_TEXT_LENGTH = 256
#: Characters of a URL.
MAX_URL_LENGTH = 2048
#: Commits, artifacts and approvers of one deployment, of each kind.
MAX_ITEMS = 100
#: Labels of one deployment.
MAX_LABELS = 64

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_SHA = re.compile(r"[0-9a-f]{7,64}")
_DIGEST = re.compile(r"[a-z0-9]{2,32}:[0-9A-Za-z+/=_-]{16,256}")
_PURL = re.compile(r"pkg:[A-Za-z][A-Za-z0-9.+-]*/\S+")
_URL = re.compile(r"https?://[^\s/]\S*")

_T = TypeVar("_T", bound=msgspec.Struct)


class Commit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A commit that a deployment contains."""

    #: Lower-case hexadecimal, abbreviated to no fewer than 7 digits.
    sha: str
    #: URL or name of the repository.
    repository: str | None = None
    #: When it was committed: RFC 3339.
    committed: Time | None = None


class Artifact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that was built, and that a deployment deploys."""

    #: Package URL, such as ``pkg:oci/web@sha256:…``.
    purl: str
    #: Algorithm and value, such as ``sha256:…``.
    digest: str | None = None


class AppliedPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The plan that a deployment applies."""

    #: Id of the change set: a UUID.
    id: str | None = None
    #: Digest of the plan, such as ``sha256:…``.
    digest: str | None = None


class Details(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a deployment carries."""

    #: A release, a tag.
    version: str | None = None
    commits: tuple[Commit, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    #: The run in CI: an HTTP URL.
    url: str | None = None
    #: The pull request, merge request or change ticket: an HTTP URL.
    change_request: str | None = None
    approvers: tuple[str, ...] = ()
    plan: AppliedPlan | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    #: Whether its environment is production.
    production: bool | None = None
    #: Whether it bypasses the usual process.
    emergency: bool | None = None
    #: The deployment or incident that made it necessary.
    rework_of: str | None = None
    #: The failed deployment or incident that it recovers from.
    restores: str | None = None


NO_DETAILS = Details()

FIELDS = Details.__struct_fields__


def details_of(value: msgspec.Struct) -> Details:
    """The details of a struct that has the same fields."""
    return Details(**{name: getattr(value, name) for name in FIELDS})


def details_json(details: Details) -> dict[str, Any]:
    """The details that are given, as JSON values."""
    found: dict[str, Any] = msgspec.to_builtins(details)
    return found


def completed(started: Details, ended: Details) -> Details:
    """What the start of a deployment says, completed by what its end says.

    An end never changes what the start has said.
    """
    if ended == NO_DETAILS:
        return started
    missing = {
        name: getattr(ended, name)
        for name in FIELDS
        if name != "labels" and getattr(started, name) in (None, ())
    }
    return replace(started, **missing, labels=ended.labels | started.labels)


def includes(known: Details, asked: Details) -> bool:
    """Whether everything in ``asked`` is in ``known``."""
    return completed(asked, known) == known


def check_details(details: Details) -> None:
    """Raise InvalidInput, naming the field, unless a deployment may carry ``details``."""
    _check_text("version", details.version)
    for field in ("commits", "artifacts", "approvers"):
        if len(getattr(details, field)) > MAX_ITEMS:
            raise InvalidInput(f"{field} must have at most {MAX_ITEMS} items", field=field)
    for number, commit in enumerate(details.commits):
        _check_commit(f"commits.{number}", commit)
    for number, artifact in enumerate(details.artifacts):
        field = f"artifacts.{number}"
        _check_form(f"{field}.purl", artifact.purl, _PURL, "a package URL, such as pkg:oci/web")
        _check_digest(f"{field}.digest", artifact.digest)
    for number, approver in enumerate(details.approvers):
        _check_text(f"approvers.{number}", approver)
    _check_url("url", details.url)
    _check_url("change_request", details.change_request)
    if details.plan is not None:
        _check_plan(details.plan)
    _check_labels(details.labels)
    for field in ("rework_of", "restores"):
        _check_text(field, getattr(details, field), limit=MAX_URL_LENGTH)


def known_details(**values: object) -> Details:
    """The details that are given and valid: others are left out."""
    valid = {name: value for name, value in values.items() if _is_valid(name, value)}
    return msgspec.convert(valid, Details)


def _is_valid(name: str, value: object) -> bool:
    if value is None:
        return False
    try:
        check_details(msgspec.convert({name: value}, Details))
    except (InvalidInput, msgspec.ValidationError):
        return False
    return True


def parse_details(data: bytes) -> Details:
    """Parse and check the details in a JSON object, which may have other members.

    Other JSON has none. Raises InvalidInput.
    """
    # What is too deep is not accepted today, but may be in the store.
    if not data.lstrip().startswith(b"{") or is_too_deep(data):
        return NO_DETAILS
    details = decode_named(data, Details)
    check_details(details)
    return details


_PLACE = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`")
_NAMED = re.compile(r"(?:unknown|missing required) field `(?P<name>[^`]*)`")
_INDEX = re.compile(r"\[(?:\.\.\.)?(?P<index>[0-9]*)\]")


def decode_named(data: bytes, kind: type[_T]) -> _T:
    """Decode JSON; raises InvalidInput that names the field with the wrong type."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(str(error), field=_field_of(str(error))) from error


def _field_of(error: str) -> str | None:
    """The field that an error of msgspec's names: ``commits.0.sha`` for ``$.commits[0].sha``."""
    named, place = _NAMED.search(error), _PLACE.search(error)
    path = _INDEX.sub(lambda found: f".{found['index']}", place["path"]) if place else ""
    field = f"{path}.{named['name']}" if named else path
    return field.strip(".")[:64] or None


def _check_commit(field: str, commit: Commit) -> None:
    _check_form(f"{field}.sha", commit.sha, _SHA, "7 to 64 lower-case hexadecimal digits")
    _check_text(f"{field}.repository", commit.repository, limit=MAX_URL_LENGTH)
    if commit.committed is not None:
        try:
            parse_time(commit.committed)
        except InvalidInput as error:
            name = f"{field}.committed"
            raise InvalidInput(f"{name}: {error.message}", field=name) from error


def _check_plan(plan: AppliedPlan) -> None:
    if plan.id is not None:
        try:
            UUID(plan.id)
        except ValueError as error:
            raise InvalidInput("plan.id must be a UUID", field="plan.id") from error
    _check_digest("plan.digest", plan.digest)


def _check_labels(labels: dict[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise InvalidInput(f"labels must have at most {MAX_LABELS} members", field="labels")
    for name, value in labels.items():
        if not _LABEL.fullmatch(name):
            raise InvalidInput(
                f"labels: {name[:80]!r} must have 1 to 63 letters, digits, and ._/- between them",
                field="labels",
            )
        _check_text(f"labels.{name}", value, may_be_empty=True)


def _check_digest(field: str, digest: str | None) -> None:
    _check_form(field, digest, _DIGEST, "a digest, such as sha256:…")


def _check_url(field: str, url: str | None) -> None:
    _check_text(field, url, limit=MAX_URL_LENGTH)
    _check_form(field, url, _URL, "a URL that starts with https:// or http://")


def _check_form(field: str, text: str | None, form: re.Pattern[str], what: str) -> None:
    if text is not None and (len(text) > MAX_URL_LENGTH or not form.fullmatch(text)):
        raise InvalidInput(f"{field} must be {what}", field=field)


def _check_text(
    field: str, text: str | None, *, limit: int = MAX_TEXT_LENGTH, may_be_empty: bool = False
) -> None:
    if text is None or (may_be_empty and not text):
        return
    if not 1 <= len(text) <= limit:
        raise InvalidInput(f"{field} must have 1 to {limit} characters", field=field)
    if not text.isprintable():
        raise InvalidInput(f"{field} must not contain control characters", field=field)
