"""Terms: the texts under which an event is found.

A term is a field's name, a colon and a value: ``type:deployment.started``, ``scope:project/acme``,
``word:timeout``. Every event has the term ``EVERY`` besides.
"""

from functools import lru_cache

from deploylog.events.event import NewEvent, Resource
from deploylog.events.scope import Scope, prefixes
from deploylog.events.text import distinct_words

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


def after_all(prefix: str) -> str:
    """The least text that is greater than every text which starts with ``prefix``.

    By code points, which is the order of UTF-8, too. A prefix has a colon at least.
    """
    rest = prefix.rstrip("\U0010ffff")
    last = ord(rest[-1]) + 1
    # UTF-8 has no surrogates.
    return rest[:-1] + chr(0xE000 if 0xD800 <= last <= 0xDFFF else last)


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
    if (resource := event.resource) is None:
        texts: tuple[str | None, ...] = (event.message, event.subject)
    else:
        terms += _resource_terms(resource)
        texts = (event.message, event.subject, *_texts_of(resource))
    words = distinct_words(filter(None, texts))
    if len(words) > MAX_WORDS:
        terms.append(WORDY)
    elif words:
        terms += f"word:{' word:'.join(words)}".split(" ")
    return terms


def _texts_of(resource: Resource) -> tuple[str | None, ...]:
    names = resource.type, resource.name, resource.key, resource.address
    return (*names, resource.id_value)


def _resource_terms(resource: Resource) -> list[str]:
    terms = [*_kind_terms(resource.type, resource.name)]
    if resource.id_value is not None:
        terms.append(f"resource_id:{resource.id_value}")
    if resource.key is not None:
        terms.append(f"resource_key:{resource.key}")
    if resource.address is not None:
        terms.append(f"resource_address:{resource.address}")
    return terms


@lru_cache(maxsize=4096)
def _type_terms(type_: str, source: str) -> tuple[str, ...]:
    return (f"type:{type_}", f"source:{source}")


@lru_cache(maxsize=4096)
def _scope_terms(scopes: tuple[Scope, ...]) -> tuple[str, ...]:
    paths = dict.fromkeys(path for scope in scopes for path in prefixes(scope))
    return tuple(f"scope:{path}" for path in paths)


@lru_cache(maxsize=4096)
def _kind_terms(type_: str, name: str) -> tuple[str, ...]:
    return (f"resource_type:{type_}", f"resource_name:{name}")
