"""A config as people read it."""

from pathlib import Path

from dragoman.server.config import load
from dragoman.server.config_show import Shown, show


def test_every_key_is_shown_with_its_origin_and_secrets_are_masked(tmp_path: Path):
    path = tmp_path / "dragoman.toml"
    path.write_text(
        '[models.main]\nkind = "openai"\nurl = "http://h/v1"\nname = "ü"\nkey = "${KEY}"\n'
        'headers = { X-A = "${KEY}" }\n'
        'params = { temperature = 0.2, stop = ["é"], response_format = { type = "text" } }\n'
        '[limits]\nrun = { wall = "90s" }\n'
    )
    loaded = load(tmp_path, cwd=tmp_path, env={"KEY": "sk-hush", "DRAGOMAN_LIMITS_BODY_MB": "2.5"})
    shown = show(loaded)

    assert shown[:14] == (
        Shown("server.listen", '"127.0.0.1:8080"', "default"),
        Shown("server.dialects", "[]", "default"),
        Shown("server.trusted_proxies", "[]", "default"),
        Shown("server.public_url", '""', "default"),
        Shown("server.base_path", '""', "default"),
        Shown("server.cors_origins", "[]", "default"),
        Shown("server.drain", '"25s"', "default"),
        Shown("store.url", '"sqlite:dragoman.db"', "default"),
        Shown("store.password", '""', "default"),
        Shown("store.wakeups", '""', "default"),
        Shown("store.lease", '"15s"', "default"),
        Shown("defaults.project", '"default"', "default"),
        Shown("defaults.model", '"main"', "default"),
        Shown("defaults.agent", '"assistant"', "default"),
    )
    by_key = {item.key: item for item in shown}
    assert by_key["models.main.kind"] == Shown("models.main.kind", '"openai"', str(path))
    assert by_key["models.main.name"] == Shown("models.main.name", '"ü"', str(path))
    assert by_key["models.main.key"] == Shown("models.main.key", '"***"', str(path))
    assert by_key["models.main.headers.X-A"] == Shown("models.main.headers.X-A", '"***"', str(path))
    assert by_key["models.main.timeout.first"] == Shown("models.main.timeout.first", '"1m"', "default")
    params = {key.removeprefix("models.main.params."): item.value for key, item in by_key.items() if ".params." in key}
    assert params == {"temperature": "0.2", "stop": '["é"]', "response_format.type": '"text"'}
    assert by_key["limits.run.wall"] == Shown("limits.run.wall", '"90s"', str(path))
    assert by_key["limits.body_mb"] == Shown("limits.body_mb", "2.5", "$DRAGOMAN_LIMITS_BODY_MB")
    assert "sk-hush" not in str(shown)


def test_a_secret_that_is_not_set_is_shown_as_empty(tmp_path: Path):
    path = tmp_path / "dragoman.toml"
    path.write_text('[models.main]\nkind = "openai"\nurl = "http://h/v1"\nname = "m"\n')

    by_key = {item.key: item.value for item in show(load(tmp_path, cwd=tmp_path, env={}))}
    assert by_key["models.main.key"] == '""'
