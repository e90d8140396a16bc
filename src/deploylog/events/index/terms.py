"""Terms: the texts under which an event is found.

A term is a field's name, a colon and a value: ``type:deployment.started``, ``scope:project/acme``,
``word:timeout``. Every event has the term ``EVERY`` besides.
"""

from collections.abc import Iterator
from functools import lru_cache

from deploylog.events.event import NewEvent, Resource
from deploylog.events.scope import Scope, prefixes
from deploylog.events.text import texts_of, words_of

#: The term of every event.
EVERY = ""

#: The term of an event that no group restricts.
PUBLIC = "public:"

#: The term of an event with more words than the index holds. It may contain any word.
WORDY = "wordy:"

#: Distinct words of one event that the index holds.
MAX_WORDS = 512

#: Fields whose terms are few, or worth listing: they are stored by their text, however rare.
LISTED = ("type:", "source:", "actor:", "resource_type:", "group:", PUBLIC, WORDY)


def term(field: str, value: str) -> str:
    """The term of a field's value."""
    return f"{field}:{value}"


def is_listed(of: str) -> bool:
    """Whether a term is stored by its text even when few events have it."""
    return not of or of.startswith(LISTED)


def terms_of(event: NewEvent) -> list[str]:
    """Every term of an event, some of them perhaps twice."""
    terms = [
        EVERY,
        *_type_terms(event.type, event.source),
        *_scope_terms(event.scopes),
    ]
    if event.groups:
        terms += [f"group:{group}" for group in event.groups]
    else:
        terms.append(PUBLIC)
    if event.actor is not None:
        terms.append(f"actor:{event.actor}")
    if event.subject is not None:
        terms.append(f"subject:{event.subject}")
    if event.resource is not None:
        terms += _resource_terms(event.resource)
    terms += _word_terms(event)
    return terms


@lru_cache(maxsize=4096)
def _type_terms(type_: str, source: str) -> tuple[str, ...]:
    return (f"type:{type_}", f"source:{source}")


@lru_cache(maxsize=4096)
def _scope_terms(scopes: tuple[Scope, ...]) -> tuple[str, ...]:
    paths = dict.fromkeys(path for scope in scopes for path in prefixes(scope))
    return tuple(f"scope:{path}" for path in paths)


def _resource_terms(resource: Resource) -> Iterator[str]:
    yield f"resource_type:{resource.type}"
    yield f"resource_name:{resource.name}"
    if resource.key is not None:
        yield f"resource_key:{resource.key}"
    if resource.address is not None:
        yield f"resource_address:{resource.address}"
    if resource.id_value is not None:
        yield f"resource_id:{resource.id_value}"


def _word_terms(event: NewEvent) -> list[str]:
    words: set[str] = set()
    for text in texts_of(event):
        words.update(words_of(text))
    if len(words) <= MAX_WORDS:
        return [f"word:{word}" for word in words]
    return [WORDY]
