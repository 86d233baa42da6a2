"""Templates, filled: everything is escaped, and links keep the language that was asked for."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from federation.audit_page.alert import Alert
from federation.audit_page.instant import iso, utc
from federation.audit_page.words import WORDS, Language
from federation.fingerprint import fingerprint

LANG: Final = "lang"
_HASH_SHOWN: Final = 16


class Sheet:
    """All templates in one language, for one request.

    Attributes:
        language: Of the words.
        asked: Whether the address names the language, so that links must.
        path: Of the request.
        raw_path: As it was sent, for the link to the other language.
        query: Of the request, without the language.
    """

    def __init__(
        self,
        language: Language,
        *,
        asked: bool,
        path: str,
        raw_path: str,
        query: Mapping[str, str],
    ) -> None:
        self.language = language
        self.asked = asked
        self.path = path
        self.raw_path = "/" + raw_path.lstrip("/")
        self.query = query

    def render(self, template: str, /, **facts: object) -> str:
        """Return a page."""
        return _ENVIRONMENT.get_template(template).render(
            **facts, sheet=self, t=self.say, link=self.link, place=place
        )

    def sentence(self, alert: Alert) -> Markup:
        """Return what an alert says."""
        facts = dict(alert.facts)
        if "part" in facts:
            facts["part"] = self.plain(f"part.{facts['part']}")
        return self.say(f"alert.{alert.cause}", **facts)

    def say(self, key: str, /, **facts: object) -> Markup:
        """Return words; text that is put in is escaped, and cannot turn the words around."""
        words = Markup(WORDS[self.language][key])  # noqa: S704 - the table of words is ours
        return words.format(
            **{
                name: Markup("<bdi>{}</bdi>").format(value) if isinstance(value, str) else value
                for name, value in facts.items()
            }
        )

    def plain(self, key: str, /, **facts: object) -> str:
        """Return words for where no markup can stand: a title."""
        return WORDS[self.language][key].format(**facts)

    def link(self, path: str, /, **query: object) -> str:
        """Return an address on this page."""
        kept = {name: str(value) for name, value in query.items() if value not in {None, ""}}
        if self.asked:
            kept[LANG] = self.language
        return f"{path}?{urlencode(kept)}" if kept else path

    @property
    def other(self) -> Language:
        """The other language."""
        return "zh" if self.language == "en" else "en"

    @property
    def turned(self) -> str:
        """The same page in the other language."""
        return f"{self.raw_path}?{urlencode({**self.query, LANG: self.other})}"


def place(*parts: object) -> str:
    """Return a path on this page, whatever stands in its parts."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


def _number(value: float) -> str:
    return f"{value:,}"


def _epsilon(value: float) -> str:
    return f"{value:.3f}"


def _short(digest: str) -> str:
    return digest[:_HASH_SHOWN]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("federation.audit_page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        utc=utc,
        iso=iso,
        number=_number,
        epsilon=_epsilon,
        short=_short,
        fingerprint=fingerprint,
    )
    return environment


_ENVIRONMENT: Final = _environment()


def prepare() -> None:
    """Compile all templates, so that the first page is as quick as the next."""
    for name in _ENVIRONMENT.list_templates():
        _ENVIRONMENT.get_template(name)
