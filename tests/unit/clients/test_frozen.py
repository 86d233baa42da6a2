"""Settings are read the same by both parsers that PyYAML may have, and hostile ones by neither."""

from pathlib import Path

import pytest
import yaml
from pydantic import ConfigDict

from clients import frozen
from clients.frozen import MAX_DEPTH, Frozen, parse_yaml
from privacy.errors import InputError

ROOT = Path(__file__).parents[3]
DEPLOYMENT = ROOT / "configs" / "deployment"
FILES = sorted(
    path for path in (ROOT / "configs").rglob("*.yaml") if not path.is_relative_to(DEPLOYMENT)
)
LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


class Anything(Frozen):
    """Takes whatever is there."""

    model_config = ConfigDict(extra="allow")


@pytest.fixture(name="_loader", params=LOADERS, ids=lambda one: one.__name__)
def _each_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "_LOADER", request.param)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("_loader")
def test_what_is_shipped_reads_as_any_parser_reads_it(path: Path) -> None:
    text = path.read_text("utf-8")
    found = parse_yaml(Anything, text, "file").model_dump()
    assert found == frozen._plain(yaml.safe_load(text), "file", ())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &x 1\nb: *x", "file: line 2: aliases (*name) are not read here; write the value out."),
        ("a: 1\nb:\n  c: 1\n  c: 2", "file: line 4: key c is given twice; keep one."),
        ("a: " + "[" * MAX_DEPTH, "file: is nested too deeply; make it flatter."),
        ("a: " + "[" * 10**5, "file: is nested too deeply; make it flatter."),
        ("a: [1\nb: 2]", "file: line 2: is not YAML"),
        ("a: 1\n\tb: 2", "file: line 2: is not YAML"),
        ("a: 1\n--- \nb: 2", "file: line 2: is not YAML"),
        ("a: \x00", "file: is not YAML that can be read; correct the file."),
        ("a: 2024-13-01", "file: is not YAML that can be read; correct the file."),
        ("a: 2024-12-01", "file: a: expected text, a number, true or false"),
        ("a: !!python/object/apply:os.getcwd []", "file: line 1: is not YAML"),
        ("yes: 1", "file: a key is no text; put quotes around keys such as yes, no and numbers."),
        ("? [a]\n: 1", "file: line 1: is not YAML"),
        ("- a", "file: expected `key: value` lines at the top."),
        ("", "file: expected `key: value` lines at the top."),
    ],
    ids=lambda text: text[:12].encode("unicode_escape").decode(),
)
@pytest.mark.usefixtures("_loader")
def test_what_is_wrong_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as failure:
        parse_yaml(Anything, text, "file")
    assert str(failure.value).startswith(sentence)
    assert "\n" not in str(failure.value)
