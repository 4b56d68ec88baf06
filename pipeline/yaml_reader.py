"""YAML as this project reads it: floats in every numeric spelling, and a duplicate key is an error.

DVC writes `1e-05` for `-S train.learning_rate=1e-5`, which YAML 1.1 takes for text; YAML 1.2 reads a number, and so
does this reader.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ParamsError

LARGEST = 1_000_000  # bytes; parameters and names take a few thousand
_BITS = 63  # of whole numbers


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 floats; duplicate keys and aliases are errors."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse aliases, which a few lines can multiply to any size."""
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise ParamsError(f"line {line}: aliases (*name) are not read; write the value out")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+.0123456789"),
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if isinstance(key, list | dict):
            raise ParamsError(f"line {line}: {key!r} cannot be a key; write a plain name")
        if key in seen:
            raise ParamsError(f"line {line}: key {key!r} stands twice (first in line {seen[key]}); keep one of them")
        seen[key] = line
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _bounded_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    value = loader.construct_yaml_int(node)
    if value.bit_length() > _BITS:
        raise ParamsError(f"line {node.start_mark.line + 1}: the number has more than {_BITS} bits; give a smaller one")
    return int(value)


def _plain_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = loader.construct_scalar(node)
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
        line = node.start_mark.line + 1
        raise ParamsError(f"line {line}: {text!r} has a character that is no text; take it out")
    return text


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)
_Loader.add_constructor("tag:yaml.org,2002:int", _bounded_int)
_Loader.add_constructor("tag:yaml.org,2002:str", _plain_text)


def read_yaml(path: Path) -> Any:
    """Read one YAML file with this project's spelling of numbers and without duplicate keys.

    Args:
        path: A UTF-8 file, with or without byte order mark, any line ends.

    Returns:
        The plain Python value.

    Raises:
        ParamsError: The file is missing, not UTF-8, empty or not YAML; the message names the file and the line.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ParamsError(f"{path}: has more than {LARGEST} bytes; restore it with git, or write it anew")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's root, or restore it with git") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}); check that it is a readable file") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    try:
        value = yaml.load(text, _Loader)
    except ParamsError as error:
        raise ParamsError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        hint = "; indent with spaces, not tabs" if "\\t" in problem else ""
        raise ParamsError(f"{path}{where}: not valid YAML ({problem}){hint}") from None
    # PyYAML's constructors raise all of these for explicit tags on values that do not fit, such as `!!int ""`
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ParamsError(f"{path}: a value cannot be read ({error})") from None
    if value is None:
        raise ParamsError(f"{path}: the file is empty; restore it with `git checkout {path}`")
    return value
