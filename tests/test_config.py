from __future__ import annotations

import logging
import os
import pwd
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosfs import profiles
from cosfs.config import ClientSettings, ConfigFile, Settings, TransferSettings, load_settings, setting_names
from cosfs.errors import ConfigError, UsageError
from cosfs.fuse.logs import default_log_file
from cosfs.fuse.settings import default_cache_dir
from cosfs.units import MIB

CONFIG = """\
# a comment
[default]
region = ap-guangzhou
output=json
cos =
  max_concurrent_requests = 48      # more than usual
  multipart_threshold = 16MB
  multipart_chunksize = 8MB
  max_bandwidth = 50MB/s            ; whole process
  max_buffer_memory = 128MB
  resume = false
  addressing_style = virtual
connect_timeout = 3

[profile work]
region = ap-shanghai
endpoint_url = http://127.0.0.1:9000/
verify_ssl = no

[plain]
region = ap-tokyo

[profile "two words"]
region = ap-seoul
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / ".cos"
    directory.mkdir(mode=0o700)
    (directory / "config").write_text(CONFIG)
    return tmp_path


def load(home: Path, options: dict[str, object] | None = None, **environ: str) -> Settings:
    return load_settings(options or {}, environ={"HOME": str(home), **environ})


# --- settings


def test_home_of_a_user_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    settings = load_settings({"region": "ap-guangzhou"}, environ={})
    assert settings.resume_path == Path("/.cos/resume")
    assert default_cache_dir() == Path("/.cache/cosfs")
    assert default_log_file(Path("/mnt/x")) == Path("/.cos/log/mount-mnt-x.log")


def test_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path)
    regions = str(tmp_path / ".cos" / "cache" / "regions.json")
    assert settings.client == ClientSettings(regions_path=regions)
    assert settings.transfer == TransferSettings()
    assert (settings.profile, settings.output) == ("default", "")
    assert set(settings.sources.values()) == {"default"}


def test_profile_is_read_with_its_nested_block(home: Path) -> None:
    settings = load(home)
    assert settings.client.region == "ap-guangzhou"
    assert settings.client.addressing_style == "virtual"
    assert settings.client.connect_timeout == 3.0
    assert settings.client.max_connections == 256
    assert settings.output == "json"
    assert settings.transfer == TransferSettings(48, 48, 16 * MIB, 8 * MIB, 128 * MIB, 50 * MIB, False)
    assert settings.sources["region"] == "profile"
    assert settings.sources["max_retries"] == "default"


def test_options_win_over_environment_over_profile(home: Path) -> None:
    assert load(home, COS_REGION="ap-env").client.region == "ap-env"
    settings = load(home, {"region": "ap-option", "output": None}, COS_REGION="ap-env", COS_OUTPUT="text")
    assert settings.client.region == "ap-option"
    assert settings.output == "text"
    assert (settings.sources["region"], settings.sources["output"]) == ("option", "environment")
    assert load(home, COS_REGION="").client.region == "ap-guangzhou"


@pytest.mark.parametrize(
    ("profile", "region"), [("work", "ap-shanghai"), ("plain", "ap-tokyo"), ("two words", "ap-seoul")]
)
def test_other_profiles(home: Path, profile: str, region: str) -> None:
    assert load(home, {"profile": profile}).client.region == region
    assert load(home, COS_PROFILE=profile).client.region == region
    assert load(home, {"profile": profile}).sources["profile"] == "option"


def test_endpoint_and_switches(home: Path) -> None:
    client = load(home, {"profile": "work"}).client
    assert client.endpoint_url == "http://127.0.0.1:9000"
    assert not client.verify_ssl
    assert load(home, {"no_verify_ssl": True}).client.verify_ssl is False
    # A switch that is off was not given: it does not hide what the profile says.
    assert load(home, {"no_verify_ssl": False, "profile": "work"}).client.verify_ssl is False
    assert load(home, {"no_sign_request": True}).client.anonymous


def test_every_option_of_the_command_line(tmp_path: Path) -> None:
    client = load(
        tmp_path,
        {
            "endpoint_url": "https://cos.example",
            "ca_bundle": "/etc/ca.pem",
            "proxy": "proxy.example:3128",
            "connect_timeout": 2,
            "read_timeout": 1.5,
            "max_retries": 0,
            "secret_id": "AKID",
        },
    ).client
    assert client.proxy == "http://proxy.example:3128"
    assert (client.connect_timeout, client.read_timeout, client.max_retries) == (2.0, 1.5, 0)
    assert client.ca_bundle == "/etc/ca.pem"


def test_environment(tmp_path: Path) -> None:
    settings = load(tmp_path, COS_APPID="1250000000", COS_CA_BUNDLE="/ca", COS_MAX_CONCURRENT_REQUESTS="100")
    assert (settings.client.appid, settings.client.ca_bundle) == ("1250000000", "/ca")
    assert settings.transfer.max_concurrent_requests == 100
    assert settings.transfer.max_small_requests == 100  # whoever asks for fewer or more means all of them


def test_profile_that_does_not_exist(home: Path) -> None:
    with pytest.raises(ConfigError, match="no profile 'wrok'") as caught:
        load(home, {"profile": "wrok"})
    assert caught.value.hint == "Make it with: cos configure --profile wrok"
    with pytest.raises(ConfigError):
        load(home, COS_PROFILE="wrok")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "xml"}, "--output: must be one of json, jsonl, table, text"),
        ({"region": "ap-x.evil.example/"}, "--region: not a region"),
        ({"endpoint_url": "127.0.0.1:9000"}, "--endpoint-url: not an endpoint"),
        ({"endpoint_url": "http://host/path"}, "--endpoint-url: not an endpoint"),
        ({"endpoint_url": "http://user@host"}, "--endpoint-url: not an endpoint"),
        ({"bucket_endpoints": "b=http://host"}, "--bucket-endpoints: not BUCKET-APPID=URL"),
        ({"bucket_endpoints": "b-1=host"}, "--bucket-endpoints: not an endpoint"),
        ({"endpoint_url": "ftp://host"}, "--endpoint-url: not an endpoint"),
        ({"proxy": "socks5://host:1"}, "--proxy: not a proxy"),
        ({"connect_timeout": "soon"}, "--connect-timeout: not a duration"),
        ({"read_timeout": 0}, "--read-timeout: must be longer"),
        ({"max_retries": -1}, "--max-retries: must be between 0 and 100"),
        ({"max_retries": "x"}, "--max-retries: not a whole number"),
    ],
)
def test_bad_option_is_named(home: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(home, options)
    assert words in str(caught.value)


def test_bad_environment_and_profile_are_named(home: Path) -> None:
    with pytest.raises(ConfigError, match="COS_MAX_CONCURRENT_REQUESTS: must be between 1 and 1024, not 0"):
        load(home, COS_MAX_CONCURRENT_REQUESTS="0")
    with pytest.raises(ConfigError, match="COS_APPID: not an APPID"):
        load(home, COS_APPID="x")
    ConfigFile.locate({"HOME": str(home)}).set("cos.multipart_chunksize", "8 apples")
    with pytest.raises(ConfigError) as caught:
        load(home)
    assert str(caught.value).startswith(
        f"cos.multipart_chunksize in profile 'default' of {home}/.cos/config: not a size: '8 apples'"
    )


def test_all_names_are_settings(home: Path) -> None:
    assert {"region", "output", "endpoint_url", "cos.max_bandwidth"} <= set(setting_names())


# --- the files


@pytest.fixture
def files(home: Path) -> ConfigFile:
    return ConfigFile.locate({"HOME": str(home)})


def test_files_are_where_the_environment_says(tmp_path: Path) -> None:
    environ = {"HOME": "/h", "COS_CONFIG_FILE": "~/c", "COS_SHARED_CREDENTIALS_FILE": str(tmp_path / "s")}
    found = ConfigFile.locate(environ)
    assert (found.config_path, found.credentials_path) == (Path("/h/c"), tmp_path / "s")
    assert ConfigFile.locate(environ, "/other").config_path == Path("/other")
    assert ConfigFile.locate({"HOME": "/h"}).credentials_path == Path("/h/.cos/credentials")


def test_home_is_looked_up_when_asked(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("COS_CONFIG_FILE", raising=False)
    assert ConfigFile.locate().get("region") == "ap-guangzhou"


def test_profiles_and_items(files: ConfigFile) -> None:
    assert files.profiles() == ["default", "work", "plain", "two words"]
    assert files.items("plain") == {"region": "ap-tokyo"}
    assert files.items("default")["cos.max_bandwidth"] == "50MB/s"
    assert files.items("nobody") == {}


@pytest.mark.parametrize(
    ("key", "profile", "value"),
    [
        ("region", "default", "ap-guangzhou"),
        ("region", "work", "ap-shanghai"),
        ("work.region", "default", "ap-shanghai"),
        ("profile.work.region", "default", "ap-shanghai"),
        ("cos.resume", "default", "false"),
        ("default.cos.resume", "work", "false"),
        ("Region", "default", "ap-guangzhou"),
        ("connect-timeout", "default", "3"),
        ("nothing", "default", None),
    ],
)
def test_get(files: ConfigFile, key: str, profile: str, value: str | None) -> None:
    assert files.get(key, profile) == value


@pytest.mark.parametrize("key", ["", ".", "cos", "a b", "re\ngion", "x=y", "[x]"])
def test_names_that_are_none(files: ConfigFile, key: str) -> None:
    with pytest.raises(ConfigError):
        files.set(key, "v")


def test_set_keeps_everything_else(files: ConfigFile) -> None:
    files.set("region", "ap-beijing")
    files.set("default.cos.max_concurrent_requests", "64")
    files.set("cos.max_connections", "7")
    files.set("proxy", "http://p:1")
    text = files.config_path.read_text()
    assert "region = ap-beijing" in text
    assert text.index("max_connections = 7") < text.index("connect_timeout")
    assert text.index("proxy = ") < text.index("[profile work]")
    for line in (
        "# a comment",
        "  max_bandwidth = 50MB/s            ; whole process",
        "region = ap-shanghai",
    ):
        assert line in text.splitlines()
    assert files.get("cos.max_concurrent_requests") == "64"
    assert files.get("region") == "ap-beijing"
    assert files.get("region", "work") == "ap-shanghai"


def test_set_makes_files_that_only_their_owner_can_read(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        files = ConfigFile.locate({"HOME": str(tmp_path)})
        files.set("region", "ap-x")
        files.set("work.cos.max_bandwidth", "1MB/s")
        files.set("secret_id", "AKID")
        files.set("secret_key", "key", "work")
        files.set("assume_role", "qcs::cam::uin/1:roleName/r", "work")
    finally:
        os.umask(old)
    directory = tmp_path / ".cos"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name for path in directory.iterdir()} == {"config", "credentials"}
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (directory / "config").read_text() == (
        "[default]\nregion = ap-x\n\n[profile work]\ncos =\n  max_bandwidth = 1MB/s\n"
    )
    assert (directory / "credentials").read_text() == (
        "[default]\nsecret_id = AKID\n\n[work]\nsecret_key = key\nassume_role = qcs::cam::uin/1:roleName/r\n"
    )


def test_secret_moves_out_of_the_config_file(files: ConfigFile) -> None:
    with files.config_path.open("a") as file:
        file.write("secret_id = misplaced\n")
    assert files.get("secret_id", "two words") == "misplaced"
    files.set("secret_id", "AKID", "two words")
    assert "misplaced" not in files.config_path.read_text()
    assert files.get("secret_id", "two words") == "AKID"


def test_unset(files: ConfigFile) -> None:
    assert files.unset("cos.resume")
    assert files.get("cos.resume") is None
    assert not files.unset("cos.resume")
    assert files.unset("work.region")
    assert files.items("work").keys() == {"endpoint_url", "verify_ssl"}


def test_symlinked_file_stays_a_symlink(files: ConfigFile, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles"
    files.config_path.rename(real)
    files.config_path.symlink_to(real)
    files.set("region", "ap-y")
    assert files.config_path.is_symlink()
    assert "ap-y" in real.read_text()


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_value_with_a_line_break_is_refused(files: ConfigFile, value: str) -> None:
    before = files.config_path.read_text()
    with pytest.raises(ConfigError, match="line break"):
        files.set("region", value)
    assert files.config_path.read_text() == before


@pytest.mark.parametrize("profile", ["", " ", "a]b", "a\nb"])
def test_profile_names_that_cannot_be(files: ConfigFile, profile: str) -> None:
    with pytest.raises(ConfigError):
        files.set("region", "ap-x", profile)


@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters="\n\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
        min_size=1,
    )
)
def test_any_value_comes_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    files = ConfigFile.locate({"HOME": str(tmp_path_factory.mktemp("home"))})
    files.set("proxy", value)
    files.set("cos.max_bandwidth", value)
    assert files.get("proxy") == value
    assert files.get("cos.max_bandwidth") == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"# mine\nregion = ap-x\n[default]\n", "line 2: belongs to no profile"),
        (b"[default]\nnonsense\n", "line 2: neither [profile NAME] nor key = value"),
        (b"\xff\xfe", "it is not UTF-8 text"),
    ],
)
def test_file_that_cannot_be_read(files: ConfigFile, content: bytes, words: str) -> None:
    files.config_path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        files.get("region")
    assert str(files.config_path) in str(caught.value)
    assert words in str(caught.value)


def test_a_home_that_is_no_directory_holds_no_settings() -> None:
    assert ConfigFile.locate({"HOME": "/dev/null"}).get("region") is None


def test_directory_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / ".cos" / "config").mkdir(parents=True)
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ".cos").write_text("a file")
    with pytest.raises(ConfigError):
        ConfigFile.locate({"HOME": str(tmp_path)}).set("region", "ap-x")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the profiles complained of: threads of tests that have ended may log as well."""
    return [record.getMessage() for record in caplog.records if record.name == profiles.__name__]


def test_readable_secrets_are_warned_of_once(
    files: ConfigFile, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "_warned", set())
    files.set("secret_id", "AKID")
    files.items("default")
    assert said(caplog) == []
    files.credentials_path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        files.items("default")
        files.items("default")
    assert said(caplog) == [
        f"{files.credentials_path} can be read by other users of this machine; "
        f"run: chmod 600 {files.credentials_path}"
    ]


@pytest.mark.parametrize("is_config", [False, True])
def test_readable_secrets_are_warned_of_in_files_of_any_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, is_config: bool
) -> None:
    monkeypatch.setattr(profiles, "_warned", set())
    path = tmp_path / "keys"
    path.write_text("[default]\nregion = ap-test\n# secret_key = none\n")
    path.chmod(0o644)
    files = ConfigFile(*((path, tmp_path / "none") if is_config else (tmp_path / "none", path)))
    with caplog.at_level(logging.WARNING):
        files.items("default")
        assert said(caplog) == []
        path.write_text("[default]\n secret_key = s3cret\n")
        assert files.items("default")["secret_key"] == "s3cret"
    assert [text.partition(" can be read")[0] for text in said(caplog)] == [str(path)]
