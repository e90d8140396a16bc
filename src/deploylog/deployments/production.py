"""Which deployments are to production: as they say, or by the name of their environment."""

from fnmatch import fnmatchcase

import msgspec


class ProductionRule(msgspec.Struct, frozen=True, kw_only=True):
    """The environments that are production, for deployments that do not say it themselves."""

    #: Names, in any case, in which ``*`` and ``?`` stand for other characters.
    patterns: tuple[str, ...]

    def applies(self, environment: str | None, said: bool | None) -> bool | None:
        """Whether a deployment is to production; ``None`` if nothing tells."""
        if said is not None:
            return said
        if environment is None:
            return None
        name = environment.casefold()
        return any(fnmatchcase(name, pattern.casefold()) for pattern in self.patterns)


def parse_patterns(text: str) -> ProductionRule:
    """Parse a list of patterns, separated by commas."""
    patterns = (pattern.strip() for pattern in text.split(","))
    return ProductionRule(patterns=tuple(pattern for pattern in patterns if pattern))
