"""From the text of a YAML file to its values, each with the line that it stands in; and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from curate.errors import InputError, UsageError
from curate.io.credentials import CREDENTIALS
from curate.recipe.values import Loose, scalar

Path = tuple[str, ...]
Places = dict[Path, str]  # where each key and item is: FILE line N, or the option or override that gave it

MAX_BYTES = 1_000_000
MAX_DEPTH = 16
_REFERENCE = re.compile(r"\$(?:\$|\{([^}]*)(\}?))")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_SECRET = re.compile(
    r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(?<![A-Z0-9])(?:PASS|PAT|AUTH)(?![A-Z0-9])|(?<=_)PWD(?![A-Z0-9])",
    re.IGNORECASE,
)  # PWD alone is where one is
_NO_SECRET = re.compile(r"TOKENI[SZ]E[RD]?|KEYWORDS?", re.IGNORECASE)


def read_document(text: str, file: str, environ: Mapping[str, str] | None) -> tuple[Any, Places]:
    """The values of a document, and where each is.

    ``${NAME}`` and ``${NAME:-default}`` in values are taken from ``environ``, and ``$$`` is a dollar; with None they
    stay as they are.

    Raises
    ------
    InputError : it is not YAML, or of a kind that is not for recipes. UsageError : a variable that is not set, or
        whose name says that it is secret.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"{file}: {len(text):,} characters are no recipe; at most {MAX_BYTES:,} are read")
    try:
        _refuse_tricks(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, file) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{file} line {line}: not YAML (a character that is not for text, {error.character!r})"
        ) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{file}: not YAML ({error})") from error
    if node is None:
        return None, {}
    reading = _Reading(file, environ)
    return reading.value(node, ()), reading.places


def _not_yaml(error: yaml.MarkedYAMLError, file: str) -> InputError:
    mark = error.problem_mark or error.context_mark
    line = f" line {mark.line + 1}" if mark else ""
    problem = error.problem or error.context or "cannot be read"
    if "\\t" in problem:
        problem = "a tab, where YAML takes spaces only"
    elif "expected a single document" in f"{error.context} {problem}":
        problem = "a second document; a file holds one recipe"
    return InputError(f"{file}{line}: not YAML ({problem})")


def _refuse_tricks(text: str, file: str) -> None:
    """Refuse what recipes need not have and files are made hard to read, or to explode, with."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = f"{file} line {event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(f"{place}: anchors and aliases (& and *) are not for recipes; write it out")
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.NodeEvent) and tag not in (None, "!"):
            raise InputError(f"{place}: tags ({tag}) are not for recipes; leave it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(f"{place}: {depth} brackets within each other are no recipe")


@dataclass
class _Reading:
    """One pass over the nodes of a document."""

    file: str
    environ: Mapping[str, str] | None
    places: Places = field(default_factory=dict)

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.places.setdefault(path, self._place(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(one, (*path, str(i))) for i, one in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _place(self, node: yaml.Node) -> str:
        return f"{self.file} line {node.start_mark.line + 1}"

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{self._place(key)}: a key must be a word")
            below = (*path, key.value)
            if key.value in found:
                before = self.places[below].removeprefix(f"{self.file} ")
                raise InputError(f"{self._place(key)}: key {key.value!r} is there twice ({before} has it too)")
            self.places[below] = self._place(key)
            found[key.value] = self.value(value, below)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if self.environ is not None and "$" in node.value:
            filled, any_name = interpolated(node.value, self.environ, self._place(node))
            return Loose(filled) if any_name else filled
        return scalar(node.value) if node.style is None else node.value


def interpolated(text: str, environ: Mapping[str, str], place: str) -> tuple[str, bool]:
    """Text with the values of variables in it, and whether there were any.

    Raises
    ------
    UsageError : one is not set and has no default, or its name is that of a secret.
    """
    names = []

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        parts = _NAME.fullmatch(match[1])
        if not parts or not match[2]:
            raise UsageError(
                f"{place}: {match[0]} cannot be read; write ${{NAME}} or ${{NAME:-default}}, and $$ for a $"
            )
        name, default = parts[1], parts[2]
        names.append(name)
        if _SECRET.search(_NO_SECRET.sub("", name)):
            raise UsageError(f"{place}: ${{{name}}} sounds like a secret, and {CREDENTIALS}")
        found = environ.get(name, "")
        if not found and default is None:
            how = "is empty" if name in environ else "is not set"
            raise UsageError(f"{place}: the environment variable {name} {how}; set it, or write ${{{name}:-default}}")
        return found or default or ""

    return _REFERENCE.sub(value, text), bool(names)


class _Dumper(yaml.SafeDumper):
    """Quotes what is not read as text: by `scalar`, or elsewhere by YAML 1.1."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and (tag := _TAGS.get(type(scalar(value)))):
            return f"tag:yaml.org,2002:{tag}"
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


def _represented(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Text; escaped where it holds line ends of any kind, which other styles fold."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _represented)
_TAGS = {bool: "bool", int: "int", float: "float", type(None): "null"}


def write_document(values: Mapping[str, Any]) -> str:
    """Values as YAML, in their order, such that `read_document` gives them again."""
    return yaml.dump(
        _escaped(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31, default_flow_style=False
    )


def _escaped(value: Any) -> Any:
    """Dollars of values doubled, for they begin a variable."""
    if isinstance(value, Mapping):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return value.replace("$", "$$") if isinstance(value, str) else value
