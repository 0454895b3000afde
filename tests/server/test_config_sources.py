"""Which file is read, and what variables of the environment change."""

from pathlib import Path

import pytest

from dragoman.server.config_reading import Faults
from dragoman.server.config_sources import BadConfig, Overrides, find_file, read_file


def apply(env: dict[str, str], tree: dict[str, object] | None = None):
    tree = {} if tree is None else tree
    faults = Faults()
    origins = Overrides().apply(tree, env, faults)
    return tree, origins, list(faults)


def test_a_given_file_wins_then_the_current_folder_then_home(tmp_path: Path):
    home, cwd, other = tmp_path / "home", tmp_path / "cwd", tmp_path / "other.toml"
    home.mkdir()
    cwd.mkdir()
    assert find_file(home, file=None, cwd=cwd) is None
    (home / "dragoman.toml").write_text("")
    assert find_file(home, file=None, cwd=cwd) == home / "dragoman.toml"
    (cwd / "dragoman.toml").write_text("")
    assert find_file(home, file=None, cwd=cwd) == cwd / "dragoman.toml"
    other.write_text("")
    assert find_file(home, file=other, cwd=cwd) == other


def test_a_given_file_must_exist(tmp_path: Path):
    with pytest.raises(BadConfig) as caught:
        find_file(tmp_path, file=tmp_path / "no.toml", cwd=tmp_path)
    assert caught.value.detail == f"There is no config file {tmp_path / 'no.toml'}."
    assert caught.value.code == "bad_config"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"[server\n", "{path} is not TOML: Expected ']' at the end of a table declaration (at line 1, column 8)."),
        (b"a = '\xff'", "{path} is not UTF-8 text (byte 5)."),
        (b"#" * (4 * 1024 * 1024 + 1), "{path} is larger than 4194304 bytes; that is no config file."),
    ],
)
def test_what_is_no_config_file_is_said(tmp_path: Path, body: bytes, sentence: str):
    path = tmp_path / "dragoman.toml"
    path.write_bytes(body)
    with pytest.raises(BadConfig) as caught:
        read_file(path)
    assert caught.value.detail == sentence.format(path=path)


def test_a_folder_is_no_config_file(tmp_path: Path):
    with pytest.raises(BadConfig) as caught:
        read_file(tmp_path)
    assert caught.value.detail == f"{tmp_path} cannot be read: Is a directory."


def test_what_stands_in_free_tables_is_not_for_variables():
    tree: dict[str, object] = {"workflows": {"help": {"start": "a"}}}
    assert apply({"DRAGOMAN_WORKFLOWS_HELP_START": "b"}, tree) == ({"workflows": {"help": {"start": "a"}}}, {}, [])
    assert apply({"DRAGOMAN_DEFAULTS_WORKFLOW": "help"})[0] == {"defaults": {"workflow": "help"}}


def test_variables_override_single_keys_and_are_their_origin():
    tree, origins, faults = apply(
        {
            "DRAGOMAN_SERVER_LISTEN": "0.0.0.0:80",
            "DRAGOMAN_LIMITS_PER_IP_RPM": "5",
            "DRAGOMAN_LIMITS_RUN_SAME_CALL": "2",
            "DRAGOMAN_STORE_URL": "",
            "PATH": "/bin",
        },
        {"server": {"listen": "127.0.0.1:1", "dialects": ["grip"]}},
    )

    assert tree == {
        "server": {"listen": "0.0.0.0:80", "dialects": ["grip"]},
        "limits": {"per_ip_rpm": "5", "run": {"same_call": "2"}},
    }
    assert origins == {
        "limits.per_ip_rpm": "$DRAGOMAN_LIMITS_PER_IP_RPM",
        "limits.run.same_call": "$DRAGOMAN_LIMITS_RUN_SAME_CALL",
        "server.listen": "$DRAGOMAN_SERVER_LISTEN",
    }
    assert faults == []


def test_a_model_may_come_from_the_environment_alone():
    tree, _, faults = apply(
        {
            "DRAGOMAN_MODELS_MAIN_KIND": "openai",
            "DRAGOMAN_MODELS_MAIN_URL": "http://127.0.0.1/v1",
            "DRAGOMAN_MODELS_MAIN_NAME": "m",
            "DRAGOMAN_MODELS_MAIN_TIMEOUT_FIRST": "9s",
        }
    )

    assert faults == []
    assert tree == {
        "models": {
            "main": {"kind": "openai", "url": "http://127.0.0.1/v1", "name": "m", "timeout": {"first": "9s"}},
        }
    }


def test_a_name_in_the_file_is_met_whatever_its_spelling():
    tree, origins, _ = apply({"DRAGOMAN_MODELS_GPT_4_X_URL": "u"}, {"models": {"Gpt-4.x": {"kind": "openai"}}})

    assert tree == {"models": {"Gpt-4.x": {"kind": "openai", "url": "u"}}}
    assert origins == {"models.Gpt-4.x.url": "$DRAGOMAN_MODELS_GPT_4_X_URL"}


def test_a_variable_does_not_break_a_tree_of_another_shape():
    tree, _, faults = apply(
        {"DRAGOMAN_LIMITS_RUN_STEPS": "3", "DRAGOMAN_MODELS_MAIN_URL": "u"}, {"limits": 5, "models": "x"}
    )

    assert (tree, faults) == ({"limits": 5, "models": "x"}, [])


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (
            "DRAGOMAN_SERVER_LISTN",
            "$DRAGOMAN_SERVER_LISTN: is not a variable this program reads; did you mean DRAGOMAN_SERVER_LISTEN?",
        ),
        (
            "DRAGOMAN_SEVER_LISTEN",
            "$DRAGOMAN_SEVER_LISTEN: is not a variable this program reads; did you mean DRAGOMAN_SERVER_LISTEN?",
        ),
        (
            "DRAGOMAN_MODELS_MAIN_HEADERS",
            "$DRAGOMAN_MODELS_MAIN_HEADERS: is not a variable this program reads; write DRAGOMAN_MODELS_NAME_KEY, KEY"
            " one of FALLBACK, FILE, KEY, KIND, NAME, TIMEOUT_CONNECT, TIMEOUT_FIRST, TIMEOUT_IDLE, TIMEOUT_TOTAL, URL",
        ),
        (
            "DRAGOMAN_DIALECTS_WORKSPACE",
            "$DRAGOMAN_DIALECTS_WORKSPACE: is not a variable this program reads; write DRAGOMAN_DIALECTS_NAME_KEY,"
            " KEY one of SESSION_FILES, WORKSPACE",
        ),
        (
            "DRAGOMAN_STORE_X_Y_Z_V_W_Q_K_J_B_C",
            "$DRAGOMAN_STORE_X_Y_Z_V_W_Q_K_J_B_C: is not a variable this program reads;"
            " did you mean DRAGOMAN_STORE_WAKEUPS?",
        ),
    ],
)
def test_a_variable_that_looks_like_a_key_and_is_none_is_a_fault(name: str, fault: str):
    assert apply({name: "x"}) == ({}, {}, [fault])


@pytest.mark.parametrize(
    "name", ["DRAGOMAN_HOME", "DRAGOMAN_PEPPER", "DRAGOMAN_SERVICE_HOST", "DRAGOMAN_PORT_8080_TCP_ADDR", "DRAGOMANX"]
)
def test_other_variables_of_the_prefix_are_left_alone(name: str):
    assert apply({name: "x"}) == ({}, {}, [])
