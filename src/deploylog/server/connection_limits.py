"""Limits of connections: what one may cost before its request is complete, and how many may be."""

import resource

import msgspec

from deploylog.server.settings import Settings

#: The highest limit on open files to ask for, and the highest default limit on connections.
_MAX_FILES = 65_536
_MAX_CONNECTIONS = 16_384

#: One in this many open files stays free for the store and for outgoing requests.
_RESERVED = 4


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection may cost before its request is complete."""

    target_bytes: int
    header_bytes: int
    headers: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float
    #: Bytes of a body to read after the response.
    discarded_bytes: int
    connections: int
    #: 0 is no limit.
    connections_per_address: int


def limits_of(settings: Settings) -> Limits:
    """The limits in the settings."""
    return Limits(
        target_bytes=settings.max_target_bytes,
        header_bytes=settings.max_header_bytes,
        headers=settings.max_headers,
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        discarded_bytes=settings.max_body_bytes,
        connections=settings.max_connections or _default_connections(),
        connections_per_address=settings.max_connections_per_address,
    )


def raise_file_limit() -> None:
    """Raise the limit on open files as far as the system allows, up to 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _default_connections() -> int:
    """The number of connections that fit under the limit on open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(min(files - files // _RESERVED, _MAX_CONNECTIONS), 1)
