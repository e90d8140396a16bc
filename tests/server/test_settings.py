"""Settings: which source wins, and what is said of a bad value."""

from pathlib import Path

import pytest

from deploylog.api.native.settings import NativeSettings
from deploylog.api.rfs.settings import RfsSettings
from deploylog.errors import InvalidSettings
from deploylog.server.settings import load_settings
from deploylog.server.settings.table import RENAMED, SECTIONS, SETTINGS


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "deploylog.toml"
    file.write_text('port = 1\nhost = "toml"\nheartbeat_seconds = 3\n', encoding="utf-8")
    return file


def test_without_any_choice_everything_has_its_default():
    settings = load_settings({}, environ={}, config=None)

    chosen = {
        name: getattr(section, name)
        for section in (settings, *settings.sections.values())
        for name in section.__struct_fields__
    }
    for setting in SETTINGS:
        assert chosen[setting.name] == setting.default
    assert (settings.host, settings.port) == ("127.0.0.1", 8325)


def test_options_win_over_environment_over_file_over_defaults(config: Path):
    environ = {"DEPLOYLOG_PORT": "2", "DEPLOYLOG_HOST": "env"}

    settings = load_settings({"port": 3, "host": None}, environ=environ, config=config)

    assert (settings.port, settings.host, settings.heartbeat_seconds) == (3, "env", 3.0)
    assert settings.section(NativeSettings).max_batch_events == 5_000


def test_every_setting_has_a_field_and_every_field_a_setting():
    fields = [name for section in SECTIONS for name in section.__struct_fields__]

    assert [setting.name for setting in SETTINGS] == list(dict.fromkeys(fields))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_says_what_it_is_for(setting):
    assert setting.help.endswith(".")
    assert setting.env == f"DEPLOYLOG_{setting.name.upper()}"
    assert setting.option == f"--{setting.name.replace('_', '-')}"
    assert isinstance(setting.default, setting.type)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False)])
def test_a_switch_is_read_from_the_environment(text: str, value: bool):
    settings = load_settings({}, environ={"DEPLOYLOG_RFS_STRICT": text}, config=None)

    assert settings.section(RfsSettings).rfs_strict is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "http"),
        ("port", "-1"),
        ("cloudformation_region", ""),
        ("cloudformation_region", "us east"),
        ("cloudformation_account", "1234"),
        ("parallelcluster_region", "mars-1"),
        ("parallelcluster_version", "three"),
        ("port", "65536"),
        ("port", ""),
        ("port", "1.5"),
        ("event_retention_days", "-1"),
        ("event_retention_days", "nan"),
        ("event_retention_days", "inf"),
        ("heartbeat_seconds", "0"),
        ("heartbeat_seconds", "nan"),
        ("max_body_bytes", "10"),
        ("max_decompressed_bytes", "x"),
        ("max_batch_events", "0"),
        ("rfs_strict", "perhaps"),
        ("log_level", "loud"),
        ("oidc_leeway_seconds", "301"),
        ("oidc_audience", "alone"),
        ("oidc_default_grants", "read:/"),
        ("oidc_leeway_seconds", "-1"),
        ("signature_stream_seconds", "299"),
        ("signature_stream_seconds", "86401"),
        ("max_requests_per_second", "-1"),
        ("max_requests_per_second", "nan"),
        ("max_streams_per_principal", "0"),
        ("max_failures_per_minute", "-1"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str):
    with pytest.raises(InvalidSettings) as raised:
        load_settings({}, environ={f"DEPLOYLOG_{name.upper()}": value}, config=None)

    assert name in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "colour"),
        ("port = ", "TOML"),
        ('port = "x"', "port"),
        ("port = [1]", "port"),
        ("[server]\nport = 1", "server"),
        ("\xff", "TOML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, said: str):
    file = tmp_path / "deploylog.toml"
    file.write_text(text, encoding="latin-1")

    with pytest.raises(InvalidSettings) as raised:
        load_settings({}, environ={}, config=file)

    assert said in raised.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InvalidSettings) as raised:
        load_settings({}, environ={}, config=tmp_path / "nowhere.toml")

    assert "nowhere.toml" in raised.value.message


def test_an_issuer_needs_an_audience():
    issuer = {"oidc_issuer": "idp.example"}

    with pytest.raises(InvalidSettings, match="oidc_audience"):
        load_settings(issuer, environ={}, config=None)
    assert load_settings({**issuer, "oidc_audience": "deploylog"}, environ={}, config=None)


def test_settings_cannot_be_changed():
    settings = load_settings({}, environ={}, config=None)

    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("retention_days", "use event_retention_days"),
        ("max_unpacked_bytes", "use max_decompressed_bytes"),
        ("plan_folder", "did you mean plan_folders?"),
        ("colour", "'colour'"),
    ],
)
def test_an_unknown_name_in_the_file_is_refused_with_the_right_one(
    tmp_path: Path, name: str, advice: str
):
    file = tmp_path / "deploylog.toml"
    file.write_text(f"{name} = 1\n", encoding="utf-8")

    with pytest.raises(InvalidSettings) as raised:
        load_settings({}, environ={}, config=file)

    assert name in raised.value.message
    assert advice in raised.value.message


def test_every_former_name_has_a_successor_and_is_no_setting():
    names = {setting.name for setting in SETTINGS}

    assert set(RENAMED.values()) <= names
    assert not set(RENAMED) & names
