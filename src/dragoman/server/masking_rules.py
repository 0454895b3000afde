"""The rules of `[anonymization]`: from tables of the config to what masks texts (elastic spec 5).

    [[anonymization.rules]]
    type = "RegExp"                                          type = "NER"
    entity_class = "EMAIL"                                   model_id = "…"
    pattern = "…"                                            allowed_entity_classes = ["PER"], timeout = "30s"
    enabled = true                                           enabled = true

A rule that is not enabled is read and left out. There is no model here that recognises names: a NER rule that is on
is refused rather than passed over, for whoever wrote it relies on it.
"""

from collections.abc import Mapping
from typing import Any, cast

from msgspec import Struct, field

from dragoman.core.errors import BadRequest
from dragoman.core.masking import Masker, PatternFinder, check_entity
from dragoman.server.config_reading import Faults, Reader
from dragoman.server.config_shapes import Seconds

PATH = "anonymization.rules"
RULES_MAX = 100

NO_NER = (
    "this program has no model that recognises names; take the rule out, set enabled = false,"
    ' or say what to look for with type = "RegExp"'
)


class PatternRule(Struct, frozen=True):
    """`type = "RegExp"`."""

    entity_class: str
    pattern: str
    enabled: bool = True


class NameRule(Struct, frozen=True):
    """`type = "NER"`: what a model takes for the name of a person, an organisation, a place."""

    model_id: str = ""
    allowed_entity_classes: tuple[str, ...] = ("PER", "ORG", "LOC", "MISC")
    timeout_s: Seconds = field(default=Seconds(30), name="timeout")
    enabled: bool = True


_KINDS: Mapping[str, type[PatternRule | NameRule]] = {"RegExp": PatternRule, "NER": NameRule}


def finders(rules: object, faults: Faults) -> tuple[PatternFinder, ...]:
    """What looks for values, in the order of the rules. Notes every fault."""
    if not isinstance(rules, list | tuple):
        faults.add(PATH, "must be a list of tables; write [[anonymization.rules]] before each")
        return ()
    tables = cast("list[object] | tuple[object, ...]", rules)
    if len(tables) > RULES_MAX:
        faults.add(PATH, f"has {len(tables)} rules; {RULES_MAX} at most")
        return ()
    found = [_finder(table, f"{PATH}.{number}", faults) for number, table in enumerate(tables, 1)]
    return tuple(each for each in found if each is not None)


def masker(rules: object, *, key: bytes) -> Masker | None:
    """What masks texts by the rules of a config that was checked; None if there is none. `key` makes the masks: as long
    as it stays the same, so do they."""
    found = finders(rules, Faults())
    return Masker(found, key=key) if found else None


def _finder(table: object, path: str, faults: Faults) -> PatternFinder | None:
    if not isinstance(table, dict):
        faults.add(path, "is a table; write [[anonymization.rules]] and its keys below")
        return None
    fields = cast("dict[str, Any]", table)
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        faults.add(f"{path}.type", f"must be one of: {', '.join(_KINDS)}")
        return None
    rest = {key: value for key, value in fields.items() if key != "type"}
    reader = Reader({}, resolve_secrets=False, refused_kinds={})
    rule: PatternRule | NameRule | None = reader.read(rest, _KINDS[kind], path)
    faults.extend(reader.faults)
    if rule is None or reader.faults or not rule.enabled:
        return None
    if isinstance(rule, NameRule):
        faults.add(path, NO_NER)
        return None
    try:
        check_entity(rule.entity_class)
    except BadRequest as error:
        faults.add(f"{path}.entity_class", error.detail)
        return None
    try:
        return PatternFinder(rule.entity_class, rule.pattern)
    except BadRequest as error:
        faults.add(f"{path}.pattern", error.detail)
        return None
