"""Terms: the texts under which an event is found.

A term is a field's name, a colon and a value: ``type:deployment.started``, ``scope:project/acme``,
``word:timeout``. Every event has the term ``EVERY`` besides.
"""

from functools import lru_cache

from deploylog.events.event import NewEvent, Resource
from deploylog.events.scope import Scope, prefixes
from deploylog.events.text import resource_names, words_of

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


def is_listed(text: str) -> bool:
    """Whether a term, or every term with this prefix, is stored by its text, however rare."""
    return not text or text.startswith(LISTED)


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
    words = _own_words(event)
    if (resource := event.resource) is not None:
        if resource.id_value is not None:
            terms.append(f"resource_id:{resource.id_value}")
            words.update(words_of(resource.id_value.lower()))
        names = (resource.type, resource.name, resource.key, resource.address)
        known = _known_resource if sum(map(len, resource_names(resource))) < 1024 else _resource
        named, of_names = known(*names)
        terms += named
        words.update(of_names)
    if len(words) > MAX_WORDS:
        terms.append(WORDY)
    else:
        terms += [f"word:{word}" for word in words]
    return terms


def _own_words(event: NewEvent) -> set[str]:
    words = set(words_of(event.message.lower())) if event.message else set()
    if event.subject:
        words.update(words_of(event.subject.lower()))
    return words


@lru_cache(maxsize=4096)
def _type_terms(type_: str, source: str) -> tuple[str, ...]:
    return (f"type:{type_}", f"source:{source}")


@lru_cache(maxsize=4096)
def _scope_terms(scopes: tuple[Scope, ...]) -> tuple[str, ...]:
    paths = dict.fromkeys(path for scope in scopes for path in prefixes(scope))
    return tuple(f"scope:{path}" for path in paths)


def _resource(
    type_: str, name: str, key: str | None, address: str | None
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The terms and the words of a resource's names."""
    resource = Resource(type=type_, name=name, key=key, address=address)
    terms = [f"resource_type:{type_}", f"resource_name:{name}"]
    if key is not None:
        terms.append(f"resource_key:{key}")
    if address is not None:
        terms.append(f"resource_address:{address}")
    words = [word for text in resource_names(resource) for word in words_of(text.lower())]
    return tuple(terms), frozenset(words)


_known_resource = lru_cache(maxsize=4096)(_resource)
