"""Loading a config: defaults, file, environment, faults, and the documented example."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from msgspec import Struct
from msgspec.structs import replace

from dragoman.server.config import BadConfig, Loaded, load, load_config, store_file, workspace_folder
from dragoman.server.config_checks import complete
from dragoman.server.config_reading import fields_of, is_struct, members_of
from dragoman.server.config_shapes import Config, OfflineModel, OpenAIModel, Secret

EXAMPLE = Path(__file__).parents[2] / "docs" / "config.example.toml"
EXAMPLE_ENV = {
    "OPENAI_API_KEY": "k1",
    "TEAM_TOKEN": "k2",
    "PROMETHEUS_TOKEN": "k3",
    "TENANT": "k4",
    "PGPASSWORD": "k5",
    "ELASTICSEARCH_KEY": "k6",
}


def written(folder: Path, text: str, *, mode: int = 0o600) -> Path:
    path = folder / "dragoman.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_no_file_and_no_variables_give_a_config_that_works(tmp_path: Path):
    loaded = load(tmp_path, cwd=tmp_path, env={})

    assert loaded == Loaded(complete(Config(), folder=tmp_path), None, {})
    assert loaded.config.models == {"offline": OfflineModel()}


def test_the_file_is_read_and_the_environment_overrides_it(tmp_path: Path):
    path = written(tmp_path, '[server]\nlisten = "127.0.0.1:1"\n[limits]\nbody_mb = 2\nrun = { steps = 3 }\n')
    loaded = load(tmp_path, cwd=tmp_path, env={"DRAGOMAN_SERVER_LISTEN": "127.0.0.1:2"})

    assert loaded.config.server.listen == "127.0.0.1:2"
    assert loaded.config.limits.body_bytes_max == 2 * 1024 * 1024
    assert (loaded.config.limits.run.steps, loaded.config.limits.run.wall_s) == (3, 600.0)
    assert loaded.file == path
    assert loaded.origins == {
        "server.listen": "$DRAGOMAN_SERVER_LISTEN",
        "limits.body_mb": str(path),
        "limits.run.steps": str(path),
    }


def test_every_fault_is_said_at_once(tmp_path: Path):
    path = written(tmp_path, '[limits]\nbody = 2\n[models.main]\nkind = "openai"\nurl = "http://h"\n[sever]\n')
    with pytest.raises(BadConfig) as caught:
        load_config(tmp_path, cwd=tmp_path, env={"DRAGOMAN_LIMITS_PER_IP_RPM": "lots"})

    assert caught.value.faults == (
        'sever: is not a key of the file; did you mean "server"?',
        "models.main.name: is missing",
        'limits.body: is not a key of [limits]; did you mean "body_mb"?',
        'limits.per_ip_rpm: must be a whole number, not the text "lots"',
    )
    assert caught.value.detail == f"{path} has 4 faults:\n  " + "\n  ".join(caught.value.faults)


def test_a_fault_without_a_file_is_said_too(tmp_path: Path):
    with pytest.raises(BadConfig) as caught:
        load_config(tmp_path, cwd=tmp_path, env={"DRAGOMAN_DEFAULTS_MODEL": "x"})
    assert caught.value.detail == (
        'The configuration has 1 fault:\n  defaults.model: there is no model "x"; known are: offline'
    )


MODEL = '[models.main]\nkind = "openai"\nurl = "http://h/v1"\nname = "m"\nkey = "{key}"\n'


def test_a_secret_comes_from_the_environment(tmp_path: Path):
    written(tmp_path, MODEL.replace("{key}", "${MODEL_KEY}"), mode=0o644)

    assert load_config(tmp_path, cwd=tmp_path, env={"MODEL_KEY": "sk-1"}).models == {
        "main": OpenAIModel(url="http://h/v1", model_name="m", key=Secret("sk-1"))
    }


def test_a_secret_that_is_not_set_is_a_fault_unless_nobody_needs_it(tmp_path: Path):
    path = written(tmp_path, MODEL.replace("{key}", "${MODEL_KEY}"))
    with pytest.raises(BadConfig) as caught:
        load_config(tmp_path, cwd=tmp_path, env={})
    assert caught.value.detail == (
        f"{path} has 1 fault:\n  models.main.key: the environment variable MODEL_KEY is not set"
    )

    config = load_config(tmp_path, cwd=tmp_path, env={}, resolve_secrets=False)
    assert config.defaults.model == "main"


def test_the_password_of_the_store_is_had_by_commands_that_need_no_other_secret(tmp_path: Path):
    written(tmp_path, '[store]\npassword = "${PGPASSWORD}"\n' + MODEL.replace("{key}", "${MODEL_KEY}"))

    config = load_config(tmp_path, cwd=tmp_path, env={"PGPASSWORD": "tr0ub4dor"}, resolve_secrets=False)
    assert config.store.password == Secret("tr0ub4dor")
    assert load_config(tmp_path, cwd=tmp_path, env={}, resolve_secrets=False).store.password == Secret("${PGPASSWORD}")


def test_a_secret_in_clear_is_refused_where_everybody_can_read_it(tmp_path: Path):
    path = written(tmp_path, MODEL.replace("{key}", "sk-1"), mode=0o644)
    with pytest.raises(BadConfig) as caught:
        load_config(tmp_path, cwd=tmp_path, env={})
    assert caught.value.faults == (
        f"models.main.key: stands in clear in a file that everybody on this machine can read; chmod 600 {path},"
        " or put it into the environment and write ${NAME}",
    )
    assert "sk-1" not in caught.value.detail


def test_a_secret_in_clear_is_warned_of_where_a_group_can_read_it_and_fine_where_nobody_else_can(tmp_path: Path):
    path = written(tmp_path, MODEL.replace("{key}", "sk-1"), mode=0o640)
    assert load(tmp_path, cwd=tmp_path, env={}).warnings == (
        f"{path} holds secrets in clear (models.main.key) and its group can read it: chmod 600 {path}",
    )
    path.chmod(0o600)
    assert load(tmp_path, cwd=tmp_path, env={}).warnings == ()


def test_paths_are_relative_to_home_and_absolute_ones_stay(tmp_path: Path):
    config = Config()
    assert store_file(config, tmp_path) == tmp_path / "dragoman.db"
    assert workspace_folder(config, tmp_path) == tmp_path / "workspace"
    written(tmp_path, '[store]\nurl = "sqlite:/srv/x.db"\n[workspace]\nroot = "/srv/w"\n')
    config = load_config(tmp_path, cwd=tmp_path, env={})
    assert store_file(config, tmp_path) == Path("/srv/x.db")
    assert workspace_folder(config, tmp_path) == Path("/srv/w")


# -- the documented example --------------------------------------------------------------------------------------------


def keys_of(shape: Any, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Key paths of all keys, `*` standing for a name of the user's choice; of a union those of each kind."""
    found: set[tuple[str, ...]] = set()
    for field in fields_of(shape):
        path = (*above, field.key)
        if get_origin(field.type) is dict:
            inner = get_args(field.type)[1]
            for kind, member in (members_of(inner) or {"": inner}).items():
                if isinstance(member, type) and issubclass(member, Struct):
                    found |= keys_of(member, (*path, kind or "*"))
                else:
                    found.add(path)
        elif is_struct(field.type):
            found |= keys_of(field.type, path)
        else:
            found.add(path)
    return found


def keys_in(tree: dict[str, Any], free: set[str], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for key, value in tree.items():
        path = (*above, key)
        if isinstance(value, dict) and key not in ("headers", "params", "workflows"):
            if above and above[-1] in free and len(above) == 1:
                path = (*above, value["kind"] if above[0] == "models" else "*")
            found |= keys_in(value, free, path)
        elif not (key == "kind" and above[0] == "models"):
            found.add(path)
    return found


def test_the_example_names_every_key_and_no_other():
    tree = tomllib.loads(EXAMPLE.read_text())

    assert keys_in(tree, {"models", "agents", "connections", "dialects"}) == keys_of(Config)


def test_the_example_loads(tmp_path: Path):
    path = written(tmp_path, EXAMPLE.read_text(), mode=0o644)
    (tmp_path / "script.toml").write_text("")
    loaded = load(tmp_path / "home", file=path, cwd=tmp_path, env=EXAMPLE_ENV)

    assert loaded.warnings == ()
    assert loaded.config.models["main"].fallback == ("rehearsal", "built-in")


def test_the_example_shows_the_defaults_it_says_it_shows(tmp_path: Path):
    """Tables without names of the user's choice stand there with their default values, but for the lists."""
    path = written(tmp_path, EXAMPLE.read_text(), mode=0o644)
    (tmp_path / "script.toml").write_text("")
    config = load_config(tmp_path, file=path, cwd=tmp_path, env=EXAMPLE_ENV)
    plain = Config()

    assert config.limits == plain.limits
    assert replace(config.store, password=Secret("")) == plain.store
    assert config.workspace == plain.workspace
    assert config.server.listen == plain.server.listen
    assert config.defaults.project == plain.defaults.project


def test_every_key_in_the_example_has_a_word_of_explanation():
    lines = EXAMPLE.read_text().splitlines()
    bare = [
        line
        for number, line in enumerate(lines)
        if re.match(r"[a-z_]+ = ", line) and "#" not in line and not lines[number - 1].startswith("#")
    ]

    assert bare == ["fallback = []", "fallback = []"]
