"""Full text: what ``q=`` asks for, and the rule by which an event answers it.

A phrase is found where its text stands in one of the event's texts, in any case, with neither a
letter nor a digit before or after it. So ``0abc`` finds ``sg-0abc``, and ``time`` does not find
``timeout``; ``time*`` does.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from deploylog.errors import InvalidFilter
from deploylog.events.event import NewEvent, Resource

#: Characters and phrases of one search.
MAX_LENGTH = 1024
MAX_PHRASES = 32

#: Characters of a word that are compared by the index; a row is compared whole.
MAX_WORD_LENGTH = 64

#: Letters and digits. Everything else, the underscore included, separates words.
_WORD = re.compile(r"[^\W_]+")

#: A quoted phrase, or whatever has neither a blank nor a quotation mark in it.
_PHRASE = re.compile(r'"([^"]*)"|([^\s"]+)')


class Phrase(msgspec.Struct, frozen=True):
    """Words that follow each other in an event."""

    #: In lower case, with single spaces and no final sigma.
    text: str
    #: Whether letters and digits may follow it.
    is_prefix: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The words that an event needs so that the phrase can be in it; at least one."""
        return tuple(words_of(self.text))

    @property
    def is_word(self) -> bool:
        """Whether it is a single word that the index holds as a whole."""
        return self.words == (self.text,) and len(self.text) < MAX_WORD_LENGTH

    def matches(self, event: NewEvent) -> bool:
        """Whether the phrase stands in one of the event's texts."""
        search = _pattern(self.text, self.is_prefix).search
        return any(search(text) for text in texts_of(event))


@lru_cache(maxsize=1024)
def _pattern(text: str, is_prefix: bool) -> re.Pattern[str]:
    words = r"\s+".join(re.escape(part) for part in text.split(" "))
    before = r"(?<![^\W_])" if _is_word(text[0]) else ""
    after = r"(?![^\W_])" if _is_word(text[-1]) and not is_prefix else ""
    return re.compile(f"{before}{words}{after}")


def _is_word(character: str) -> bool:
    return character.isalnum()


def parse_text(text: str) -> tuple[Phrase, ...]:
    """The phrases of ``timeout "access denied" sg-0*``, all of which must be found.

    Raises InvalidFilter.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidFilter(f"q is longer than {MAX_LENGTH} characters", field="q")
    if text.count('"') % 2:
        raise InvalidFilter("q has a quotation mark without its partner", field="q")
    phrases = tuple(_phrase(quoted or word) for quoted, word in _PHRASE.findall(text))
    if len(phrases) > MAX_PHRASES:
        raise InvalidFilter(f"q has more than {MAX_PHRASES} words and phrases", field="q")
    phrases = tuple(dict.fromkeys(phrases))
    # In lower case, a text can be longer.
    if len(render_text(phrases)) > MAX_LENGTH:
        raise InvalidFilter(f"q is longer than {MAX_LENGTH} characters", field="q")
    return phrases


def render_text(phrases: Sequence[Phrase]) -> str:
    """The text that ``parse_text`` parses into these phrases."""
    return " ".join(_rendered(phrase) for phrase in phrases)


def _rendered(phrase: Phrase) -> str:
    text = f"{phrase.text}*" if phrase.is_prefix else phrase.text
    return f'"{text}"' if " " in text else text


#: A sigma at the end of a word has a form of its own, which lower case brings forth as well.
_SIGMA, _FINAL_SIGMA = "\N{GREEK SMALL LETTER SIGMA}", "\N{GREEK SMALL LETTER FINAL SIGMA}"

_AT_THE_END = re.compile(rf"{_FINAL_SIGMA}(?![^\W_])")


def _folded(text: str) -> str:
    """A text in lower case, with one form of a letter."""
    lower = text.lower()
    return _AT_THE_END.sub(_SIGMA, lower) if _FINAL_SIGMA in lower else lower


def spellings(word: str) -> tuple[str, ...]:
    """How a word of a phrase may be in the index, which has both forms of a final sigma."""
    return (word, f"{word[:-1]}{_FINAL_SIGMA}") if word.endswith(_SIGMA) else (word,)


def _phrase(text: str) -> Phrase:
    words = " ".join(_folded(text).split())
    phrase = Phrase(words.removesuffix("*").rstrip(), words.endswith("*"))
    if not phrase.words:
        raise InvalidFilter(f"q: {text!r} has no letter or digit to search for", field="q")
    return phrase


def texts_of(event: NewEvent) -> list[str]:
    """What full text searches, in lower case: message, subject, and the resource's names and id."""
    texts = [event.message, event.subject]
    if (resource := event.resource) is not None:
        texts += [resource.id_value, *resource_names(resource)]
    return [_folded(text) for text in texts if text]


def resource_names(resource: Resource) -> tuple[str, ...]:
    """The resource's names that full text searches."""
    names = (resource.type, resource.name, resource.key, resource.address)
    return tuple(name for name in names if name)


#: What each byte of ASCII becomes before words are split: letters lower case, the rest blanks.
_ASCII = bytes(ord(chr(byte).lower()) if chr(byte).isalnum() else 32 for byte in range(128))
_ASCII += bytes(128)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, in their order, each cut to ``MAX_WORD_LENGTH``."""
    return [word[:MAX_WORD_LENGTH] for word in _split(text)]


def distinct_words(texts: Iterable[str]) -> set[str]:
    """The words of these texts, as ``words_of`` has them."""
    # The end of a line separates words, as the end of a text does.
    text = "\n".join(texts)
    words = set(_split(text if text.isascii() else text.lower()))
    if max(map(len, words), default=0) > MAX_WORD_LENGTH:
        return {word[:MAX_WORD_LENGTH] for word in words}
    return words


def _split(text: str) -> list[str]:
    # Most texts are ASCII, for which this takes a fifth of the time of the expression.
    if text.isascii():
        return text.encode().translate(_ASCII).decode().split()
    return _WORD.findall(text)
