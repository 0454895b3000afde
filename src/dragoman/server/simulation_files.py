"""Files of simulations, and of test profiles: TOML or JSON, told apart by their first character.

    workflow = "support.json"            # a file, the id of a version, or a configured name; else the published one
    project = "default"
    [models]
    user = "main"
    judge = "main"
    [profiles.ana]                       # also as rowboat spec 6.3 spells it: mockTools, mockPrompt
    context = "Ana ordered a lamp."
    mock_tools = true
    mock_prompt = "The order is late."
    [scenarios.late]
    description = "You wait for your order."
    [simulations.refund]
    scenario = "late"
    profile = "ana"                      # a name from above, or the id of one that the project keeps
    pass_criteria = "The assistant offers a refund."
    checks = { tools_called = ["get_order"], last_agent = "Billing" }
    says = ["Where is my order?"]        # the first messages as they are
    turns = 5

Every fault is named by its place, all at once.
"""

import tomllib
from collections.abc import Mapping
from typing import Annotated, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from dragoman.core.errors import BadRequest, FieldFault
from dragoman.core.simulations import TURNS, Checks, ProfileDraft, Scenario, Simulation, Suite
from dragoman.runtime.test_profiles import check_profile
from dragoman.server.config_reading import Faults, Reader, nearest

FILE_BYTES_MAX = 1024 * 1024
SIMULATIONS_MAX = 200
TURNS_MAX = 50
REPLIES_MAX = 10_000
TEXT_CHARS_MAX = 10_000
"""Of a scenario, of criteria, of a message."""

_SPELLINGS = {"mockTools": "mock_tools", "mockPrompt": "mock_prompt", "passCriteria": "pass_criteria"}
"""How rowboat spec 6.3 spells keys."""
_KEPT_BESIDES = ("_id", "id", "projectId", "createdAt", "lastUpdatedAt")
"""What a profile that was taken from another server says of itself; it is given anew here."""

S = TypeVar("S", bound=Struct)


class _Profile(Struct, frozen=True):
    name: str = ""
    context: str = ""
    mock_tools: bool = False
    mock_prompt: str = ""


class _Scenario(Struct, frozen=True):
    description: str
    name: str = ""


class _Checks(Struct, frozen=True):
    contains: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()
    last_agent: str = ""
    tools_called: tuple[str, ...] = ()
    tools_not_called: tuple[str, ...] = ()
    replies_max: Annotated[int, Meta(ge=0, le=REPLIES_MAX)] = -1


class _Simulation(Struct, frozen=True):
    scenario: str = ""
    profile: str = ""
    pass_criteria: str = ""
    checks: _Checks = _Checks()
    says: tuple[str, ...] = ()
    turns: Annotated[int, Meta(ge=1, le=TURNS_MAX)] = 0
    description: str = ""


class _Models(Struct, frozen=True):
    user: str = ""
    judge: str = ""


class _File(Struct, frozen=True):
    simulations: dict[str, _Simulation]
    workflow: str = ""
    project: str = ""
    models: _Models = _Models()
    profiles: dict[str, _Profile] = {}
    scenarios: dict[str, _Scenario] = {}


def read_suite(body: bytes, file: str) -> Suite:
    """Raises BadRequest, naming the file and every place in it that is wrong."""
    tree = _tree(body, file)
    faults = Faults()
    for kind in ("profiles", "simulations"):
        tables = tree.get(kind)
        if isinstance(tables, dict):
            tree[kind] = {
                name: _respelled(table, f"{kind}.{name}", faults)
                for name, table in cast("dict[str, object]", tables).items()
            }
    read = _read(tree, _File, faults)
    if read is None:
        raise _refused(file, faults)
    profiles = tuple(_draft(profile, name, f"profiles.{name}", faults) for name, profile in read.profiles.items())
    for name, scenario in read.scenarios.items():
        _check_text(scenario.description, f"scenarios.{name}.description", faults, needed=True)
    if not read.simulations:
        faults.add("simulations", "is empty: there is nothing to simulate")
    if len(read.simulations) > SIMULATIONS_MAX:
        faults.add("simulations", f"has {len(read.simulations)}; {SIMULATIONS_MAX} at most")
    simulations = tuple(_simulation(name, each, read, faults) for name, each in read.simulations.items())
    if faults:
        raise _refused(file, faults)
    return Suite(simulations, profiles, read.workflow, read.project, read.models.user, read.models.judge)


def read_profile(body: bytes, file: str) -> ProfileDraft:
    """One test profile. Raises BadRequest as above."""
    faults = Faults()
    tree = {key: value for key, value in _tree(body, file).items() if key not in _KEPT_BESIDES}
    respelled = _respelled(tree, "", faults)
    read = _read(cast("dict[str, object]", respelled), _Profile, faults)
    if read is None:
        raise _refused(file, faults)
    draft = _draft(read, "", "", faults)
    if faults:
        raise _refused(file, faults)
    return draft


def _tree(body: bytes, file: str) -> dict[str, object]:
    if len(body) > FILE_BYTES_MAX:
        raise BadRequest(f"{file}: has {len(body)} bytes; {FILE_BYTES_MAX} at most.")
    try:
        text = body.decode("utf-8-sig")
        tree = msgspec.json.decode(text) if text.lstrip()[:1] == "{" else tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file}: is not UTF-8 text (byte {error.start}); save it in that encoding.") from None
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadRequest(f"{file}: is neither TOML nor JSON: {error}") from None
    return cast("dict[str, object]", tree)


def _read(tree: Mapping[str, object], shape: type[S], faults: Faults) -> S | None:
    reader = Reader({}, resolve_secrets=False, refused_kinds={})
    read: S | None = reader.read(tree, shape, "")
    faults.extend(reader.faults)
    return None if faults else read


def _respelled(table: object, path: str, faults: Faults) -> object:
    """The table with its keys spelled our way."""
    if not isinstance(table, dict):
        return table
    keys = cast("dict[str, object]", table)
    for theirs, ours in _SPELLINGS.items():
        if theirs in keys and ours in keys:
            faults.add(f"{path}.{theirs}" if path else theirs, f"stands there as {ours} too; take one of them out")
    # Rowboat keeps null where nothing was filled in.
    return {_SPELLINGS.get(key, key): value for key, value in keys.items() if value is not None}


def _draft(profile: _Profile, name: str, path: str, faults: Faults) -> ProfileDraft:
    draft = ProfileDraft(profile.name or name, profile.context, profile.mock_tools, profile.mock_prompt)
    try:
        check_profile(draft)
    except BadRequest as error:
        faults.add(path, error.detail.rstrip("."))
    # Simulations call it by the name of its table.
    return ProfileDraft(name or profile.name, profile.context, profile.mock_tools, profile.mock_prompt)


def _simulation(name: str, table: _Simulation, file: _File, faults: Faults) -> Simulation:
    path = f"simulations.{name}"
    scenario = file.scenarios.get(table.scenario)
    if table.scenario and scenario is None:
        known = nearest(table.scenario, file.scenarios) if file.scenarios else "the file has none"
        faults.add(f"{path}.scenario", f"there is no scenario {table.scenario}; {known}")
    turns = table.turns or (max(TURNS, len(table.says)) if table.scenario else len(table.says))
    if not table.scenario and (not table.says or len(table.says) < turns):
        faults.add(path, f"needs a scenario: says tells what the user says in {len(table.says)} turns, and no more")
    checks = table.checks
    found = Checks(
        checks.contains,
        checks.not_contains,
        checks.last_agent,
        checks.tools_called,
        checks.tools_not_called,
        None if checks.replies_max < 0 else checks.replies_max,
    )
    _check_text(table.pass_criteria, f"{path}.pass_criteria", faults)
    if len(table.says) > TURNS_MAX:
        faults.add(f"{path}.says", f"has {len(table.says)} messages; {TURNS_MAX} at most")
    for number, text in enumerate(table.says):
        _check_text(text, f"{path}.says.{number}", faults, needed=True)
    if not table.pass_criteria.strip() and not found.any:
        faults.add(path, "needs pass_criteria or checks: nothing says when it passes")
    return Simulation(
        name,
        Scenario(table.scenario, scenario.description if scenario else ""),
        table.profile,
        table.pass_criteria.strip(),
        found,
        table.says,
        turns,
        table.description,
    )


def _check_text(text: str, path: str, faults: Faults, *, needed: bool = False) -> None:
    if needed and not text.strip():
        faults.add(path, "is empty")
    if len(text) > TEXT_CHARS_MAX:
        faults.add(path, f"has {len(text)} characters; {TEXT_CHARS_MAX} at most")


def _refused(file: str, faults: Faults) -> BadRequest:
    places = tuple(FieldFault(*fault.split(": ", 1)) if ": " in fault else FieldFault("", fault) for fault in faults)
    return BadRequest(f"{file}: " + "; ".join(faults), faults=places)
