"""The classes that masks are made of: `classes.json` of a data folder, or numbers where there is none."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.mask_ids import MaskIds, parse_mask_ids
from pipeline.errors import InputError

KINDS = ("thing", "stuff")
DEFAULT_IGNORE_INDEX = 255
_LARGEST_ID = 255
_FILE_KEYS = ("classes", "name", "ignore_index", "note", "protocol", "mask_ids")
_CLASS_KEYS = ("id", "name", "kind")


@dataclass(frozen=True)
class ClassList:
    """The ground truth classes in the order of their ids, and what the masks hold.

    Attributes:
        names: Of the classes, without blanks around them.
        kinds: "thing" or "stuff" for each, or None.
        ignore_index: The value that means unlabelled.
        note: Free text.
        name: Of the data set.
        protocol: Name of the published protocol; empty for a folder of one's own.
        mask_ids: From the values in the masks to class ids; None where they are the class ids.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...] | None
    ignore_index: int
    note: str = ""
    name: str = ""
    protocol: str = ""
    mask_ids: MaskIds | None = None


def load_classes(path: Path) -> ClassList:
    """Read and validate a `classes.json`.

    The file holds `{"classes": [{"id", "name", "kind"}, ...]}` and optionally `name`, `ignore_index` (255
    when left out), `note`, `protocol` and `mask_ids` (see `parse_mask_ids`). Ids are 0..C-1, each once, in any
    order; blanks around a name do not count, and no name is given twice; `kind` is `thing` or `stuff`, for all classes
    or none.

    Args:
        path: the file.

    Returns:
        The classes, in the order of their ids.

    Raises:
        InputError: naming the file, the value found and the mend.
    """
    return _parse(path, _decode_json(path, _read_text(path)))


def parse_classes(text: str, name: str) -> ClassList:
    """Validate the text of a `classes.json`; see `load_classes`.

    Args:
        text: the JSON text.
        name: what messages call the file.
    """
    return _parse(Path(name), _decode_json(Path(name), text.lstrip("\ufeff")))


def _parse(path: Path, content: dict[str, Any]) -> ClassList:
    _refuse_unknown(path, "", content, _FILE_KEYS)
    entries = content.get("classes")
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path}: "classes" must be a list of at least one class, not {_shown(entries)}')
    for position, entry in enumerate(entries):
        _check_class(path, position, entry)
    _check_ids(path, [entry["id"] for entry in entries])

    entries = sorted(entries, key=lambda entry: entry["id"])
    names = tuple(entry["name"].strip() for entry in entries)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: the class name {_shown(repeated[0])} is used twice; give each class its own name")
    ignore_index = _ignore_index(path, content, len(entries))
    return ClassList(
        names=names,
        kinds=_kinds(path, entries),
        ignore_index=ignore_index,
        note=_text(path, content, "note"),
        name=_text(path, content, "name"),
        protocol=_text(path, content, "protocol"),
        mask_ids=parse_mask_ids(content.get("mask_ids"), len(entries), ignore_index, str(path)),
    )


def default_classes(ids: Iterable[int], ignore_index: int = DEFAULT_IGNORE_INDEX) -> ClassList:
    """Name the classes of a folder without `classes.json` after the values of its masks.

    Args:
        ids: the values that occur in the masks, 0..255.
        ignore_index: the one among them that means unlabelled.

    Returns:
        One class for each value that occurs and is not ignored, called `class` and the value. Where the values are not
        0, 1… without a gap, a table leads from them to the ids 0, 1… in their order.

    Raises:
        InputError: when no value is a class.
    """
    found = {int(i) for i in ids} - {ignore_index}
    if not found:
        raise InputError(
            f"nothing to evaluate: the masks hold no value but {ignore_index}, that is, unlabelled; "
            "correct the masks, or remove them to evaluate without labels"
        )
    if min(found) < 0 or max(found) > _LARGEST_ID:
        raise InputError(
            f"mask values {min(found)}..{max(found)} do not fit 0..{_LARGEST_ID}; save the masks as 8-bit indices"
        )
    values = sorted(found)
    names = tuple(f"class {i}" for i in values)
    if values == list(range(len(values))):
        return ClassList(names=names, kinds=None, ignore_index=ignore_index)
    table = {str(value): i for i, value in enumerate(values)} | {str(ignore_index): None}
    mask_ids = parse_mask_ids(table, len(names), DEFAULT_IGNORE_INDEX, "data.ignore_index")
    return ClassList(names=names, kinds=None, ignore_index=DEFAULT_IGNORE_INDEX, mask_ids=mask_ids)


def state_ignored(text: str, ignore_index: int, name: str) -> str:
    """Say in the text of a `classes.json` which value of the masks is ignored, unless it says so itself.

    Args:
        text: the valid text.
        ignore_index: key `data.ignore_index`.
        name: what messages call the file.

    Raises:
        InputError: the value is a class there.
    """
    content = _decode_json(Path(name), text.lstrip("\ufeff"))
    if ignore_index == DEFAULT_IGNORE_INDEX or "ignore_index" in content:
        return text
    table = content.get("mask_ids") or {str(entry["id"]): entry["id"] for entry in content["classes"]}
    known = table.setdefault(str(ignore_index), None)
    if known is not None:
        of_class = next(entry["name"] for entry in content["classes"] if entry["id"] == known)
        raise InputError(
            f"data.ignore_index: {ignore_index} is the mask value of the class {_shown(of_class)} in {name}; give "
            'another value, or say there with "mask_ids" what the values mean'
        )
    return json.dumps(content | {"mask_ids": table}, ensure_ascii=False, indent=1) + "\n"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _decode_json(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: is not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); correct it there"
        ) from error
    except (KeyError, RecursionError, ValueError) as error:
        if isinstance(error, KeyError):
            reason = f"the key {_shown(error.args[0])} is given twice"
        else:
            reason = "nested too deep" if isinstance(error, RecursionError) else f"cannot be read as JSON ({error})"
        raise InputError(f"{path}: {reason}; keep each key once, as in the documented layout") from error
    if any("\ud800" <= character <= "\udfff" for character in json.dumps(content, ensure_ascii=False)):
        raise InputError(f"{path}: holds half of a character (such as \\ud800), which is no text; write it out")
    if not isinstance(content, dict):
        raise InputError(f'{path}: must be an object with the key "classes", not {_shown(content)}')
    return content


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise KeyError(key)
        content[key] = value
    return content


def _check_class(path: Path, position: int, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise InputError(
            f'{path}: classes[{position}] must be an object such as {{"id": 0, "name": "sky"}}, not {_shown(entry)}'
        )
    _refuse_unknown(path, f"classes[{position}]: ", entry, _CLASS_KEYS)
    if not _is_int(entry.get("id")):
        raise InputError(f"{path}: classes[{position}].id must be a whole number, not {_shown(entry.get('id'))}")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{path}: classes[{position}].name must be a text that is not empty, not {_shown(name)}")
    if not name.isprintable():
        raise InputError(f"{path}: classes[{position}].name {_shown(name)} has a line break or control character")


def _check_ids(path: Path, ids: list[int]) -> None:
    repeated = [i for i, count in Counter(ids).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: the id {repeated[0]} is used twice; give each class its own id")
    missing = sorted(set(range(len(ids))) - set(ids))
    if missing:
        wrong = sorted(set(ids) - set(range(len(ids))))
        raise InputError(
            f"{path}: {len(ids)} classes must have the ids 0..{len(ids) - 1}, but {missing[0]} is missing "
            f"and {wrong[0]} is given; number the classes without gaps, and the mask values with them"
        )
    if len(ids) > _LARGEST_ID:
        raise InputError(f"{path}: {len(ids)} classes leave no mask value to ignore; use at most {_LARGEST_ID}")


def _kinds(path: Path, entries: list[dict[str, Any]]) -> tuple[str, ...] | None:
    if not any("kind" in entry for entry in entries):
        return None
    for entry in entries:
        if entry.get("kind") not in KINDS:
            found = _shown(entry["kind"]) if "kind" in entry else "missing"
            raise InputError(
                f"{path}: the kind of the class {_shown(entry['name'])} is {found}; give every class the "
                'kind "thing" or "stuff", or none of them a kind'
            )
    return tuple(entry["kind"] for entry in entries)


def _ignore_index(path: Path, content: dict[str, Any], classes: int) -> int:
    value = content.get("ignore_index", DEFAULT_IGNORE_INDEX)
    if not _is_int(value) or not classes <= value <= _LARGEST_ID:
        raise InputError(
            f"{path}: ignore_index is {_shown(value)}; it must be a mask value that is no class, a whole "
            f"number in {classes}..{_LARGEST_ID}"
        )
    return int(value)


def _text(path: Path, content: dict[str, Any], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise InputError(f'{path}: "{key}" must be a text, not {_shown(value)}')
    return value


def _refuse_unknown(path: Path, where: str, content: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in content:
        if key not in known:
            raise InputError(f"{path}: {where}unknown key {_shown(key)}; the keys are {', '.join(known)}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
