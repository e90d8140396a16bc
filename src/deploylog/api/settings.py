"""How an API declares its settings: one frozen struct, each field with its help and range."""

from msgspec import Meta

from deploylog.errors import InvalidSettings


def setting(help: str, low: float | None = None, high: float | None = None) -> Meta:
    """What ``Annotated`` says of a field that is a setting; a range has both of its ends."""
    return Meta(description=help, ge=low, le=high)


def names_of(text: str) -> tuple[str, ...]:
    """The names in a list separated by commas, sorted, each once."""
    return tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))


def paths_of(text: str) -> tuple[str, ...]:
    """The paths in a list separated by commas, without a slash at their end."""
    return tuple(path.strip().rstrip("/") for path in text.split(",") if path.strip(" /"))


def check_absolute(name: str, text: str) -> None:
    """Raise InvalidSettings for a path in the setting's list that is not absolute."""
    for path in paths_of(text):
        if not path.startswith("/") or ".." in path.split("/"):
            raise InvalidSettings(f"{name}: {path!r} is not an absolute path")
