"""Where a setting comes from, and what is said of one that cannot be used: what, from where, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import headcount
from headcount import ConfigError, Coordinator
from headcount.engine.settings import check_id, gather

URL = "memory://settings"


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A configuration file that HEADCOUNT_CONFIG names."""
    path = tmp_path / "headcount.toml"
    monkeypatch.setenv("HEADCOUNT_CONFIG", str(path))
    return path


@pytest.fixture(autouse=True)
def nobodys_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The files of whoever runs the tests are not looked at."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("headcount.engine.settings.FILES", ("~/.config/headcount.toml",))
    return home


def test_each_source_goes_before_the_next(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Argument, URL query, environment, file, in this order; and it can be told where it came from."""
    file.write_text(
        'url = "memory://file"\nttl = 40\nnamespace = "file"\nmember_id = "file"\nhost = "file"\n'
    )
    monkeypatch.setenv("HEADCOUNT_TTL", "30")
    monkeypatch.setenv("HEADCOUNT_NAMESPACE", "environment")
    monkeypatch.setenv("HEADCOUNT_MEMBER_ID", "environment")
    found = gather({"url": "memory://argument?ttl=20&member_id=query", "member_id": "argument"}, {})

    assert (found.url, found.member_id, found.ttl) == ("memory://argument", "argument", 20.0)
    assert (found.namespace, found.host) == ("environment", "file")
    assert found.sources == {
        "url": "argument url",
        "member_id": "argument member_id",
        "ttl": "URL",
        "namespace": "environment",
        "host": str(file),
    }


def test_the_url_itself_comes_from_wherever_it_is_first(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text('url = "memory://file"\n')
    assert gather({}, {}).url == "memory://file"
    monkeypatch.setenv("HEADCOUNT_URL", "memory://environment")
    assert gather({}, {}).url == "memory://environment"
    assert gather({"url": "memory://argument"}, {}).url == "memory://argument"


def test_what_is_ours_in_the_query_does_not_reach_the_store() -> None:
    """The rest of the query is the store's, and stays in its URL."""
    found = gather({"url": "sqlite:////data/a.db?ttl=5&poll=0.5&member_id=ann"}, {})
    assert found.ttl == 5.0 and found.member_id == "ann"
    assert found.url == "sqlite:////data/a.db?poll=0.5"
    assert gather({"url": "sqlite:///a.db?ttl=5"}, {}).url == "sqlite:///a.db"
    assert gather({"url": "memory://?ttl=5"}, {}).url == "memory://"


def test_the_options_of_a_store_come_from_everywhere_too(file: Path) -> None:
    file.write_text("[options]\ninterval = 3.0\npoll = 0.5\n")
    found = gather({"url": "sqlite:///a.db?poll=0.25"}, {"lock_timeout": 2.0})
    assert found.options == {"interval": 3.0, "poll": "0.25", "lock_timeout": 2.0}


def test_without_a_file_everything_but_the_url_has_a_default() -> None:
    found = gather({"url": URL}, {})
    assert (found.member_id, found.ttl, found.beat, found.namespace, found.on_conflict, found.host) == (
        (None, 15.0, None, "default", "take_over", None)
    )


def test_the_file_of_the_user_is_found_without_being_named(nobodys_home: Path) -> None:
    config = nobodys_home / ".config"
    config.mkdir()
    (config / "headcount.toml").write_text("ttl = 42\n")
    assert gather({"url": URL}, {}).ttl == 42.0


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADCOUNT_MEMBER_ID", "")
    monkeypatch.setenv("HEADCOUNT_TTL", "")
    found = gather({"url": URL}, {})
    assert (found.member_id, found.ttl) == (None, 15.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": None}, r"no store was named: pass a URL such as .*sqlite:///.*or set HEADCOUNT_URL"),
        ({"url": 7}, r"url must be a string, not 7 \(from argument url\)"),
        ({"ttl": "ten"}, r"ttl must be a number of seconds, not 'ten' \(from the argument\)"),
        ({"ttl": 0}, r"ttl must be a number of seconds above 0, not 0 \(from the argument\)"),
        ({"ttl": -1.0}, r"ttl must be a number of seconds above 0, not -1.0"),
        ({"ttl": True}, r"ttl must be a number of seconds above 0, not True"),
        ({"ttl": float("nan")}, r"ttl must be a number of seconds above 0, not nan"),
        ({"ttl": 86_401}, r"ttl must be 86,400 s \(a day\) at most, not 86401 \(from the argument\)"),
        ({"ttl": 1e5, "beat": 1e9}, r"ttl must be 86,400 s"),
        ({"beat": 1e9}, r"beat must be 86,400 s"),
        ({"member_id": 7}, r"member_id must be a string, not 7 \(from the argument\)"),
        ({"member_id": ""}, r"member_id must be 1 to 200 bytes of UTF-8, not 0"),
        (
            {"on_conflict": "takeover"},
            r"one of take_over, fail, wait, share, not 'takeover'.*mean 'take_over'",
        ),
        ({"namespace": "a/b"}, r"namespace 'a/b' \(from the argument\) is not usable: letters, digits"),
        ({"namespace": "n" * 65}, r"64 at most"),
        ({"beat": 6.0}, r"beat=6 \(from the argument\) is more than a third of ttl=15 \(from the default\)"),
        ({"url": f"{URL}?ttl=5&ttl=6"}, r"a setting is twice in the URL, of ttl, ttl: say it once"),
        ({"url": f"{URL}?ttl=soon"}, r"ttl must be a number of seconds, not 'soon' \(from the URL"),
        ({"url": "headcount.db"}, r"looks like scheme://host/path.*sqlite:///headcount.db"),
    ],
)
def test_a_mistake_is_named_with_its_source_and_its_remedy(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Coordinator(**{"url": URL, **given})


def test_a_mistake_in_the_environment_is_said_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADCOUNT_TTL", "soon")
    with pytest.raises(ConfigError, match=r"ttl.*'soon' \(from HEADCOUNT_TTL\)"):
        Coordinator(URL)
    monkeypatch.delenv("HEADCOUNT_TTL")
    for value, what in (("a" * 201, "1 to 200 bytes"), ("a\nb", "cannot be printed")):
        monkeypatch.setenv("HEADCOUNT_MEMBER_ID", value)
        with pytest.raises(ConfigError, match=rf"{what}.*\(from HEADCOUNT_MEMBER_ID\)"):
            Coordinator(URL)


def test_a_mistake_is_found_also_where_something_else_goes_before_it(file: Path) -> None:
    """Else it would be found by the one program that does not override it, at some other time."""
    file.write_text("")
    with pytest.raises(ConfigError, match=r"ttl must be a number of seconds, not '1x' \(from the URL"):
        gather({"url": f"{URL}?ttl=1x", "ttl": 5.0}, {})
    file.write_text('ttl = "abc"\n')
    with pytest.raises(ConfigError, match=r"ttl must be a number.*'abc' \(from .*headcount\.toml\)"):
        gather({"url": URL, "ttl": 5.0}, {})
    file.write_text("ttl = 86400\n")
    assert gather({"url": URL}, {}).ttl == 86_400.0


def test_mistakes_in_the_file_name_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is spelt wrong would else be left out in silence."""
    with pytest.raises(ConfigError, match=r"HEADCOUNT_CONFIG names .*headcount\.toml, which does not exist"):
        Coordinator(URL)
    file.write_text('member-id = "ann"\n')
    with pytest.raises(ConfigError, match=r"headcount\.toml: unknown setting 'member-id'.*mean 'member_id'"):
        Coordinator(URL)
    file.write_text("ttl = true\n")
    with pytest.raises(ConfigError, match=r"ttl.*not True \(from .*headcount\.toml\)"):
        Coordinator(URL)
    file.write_text("ttl = \n")
    with pytest.raises(ConfigError, match=r"headcount\.toml cannot be read: "):
        Coordinator(URL)
    file.write_text("options = 3\n")
    with pytest.raises(ConfigError, match=r"headcount\.toml: options"):
        Coordinator(URL)


@pytest.mark.parametrize("timeout", [0, -1, "5", True, float("nan")])
def test_a_timeout_is_seconds_or_none(timeout: Any) -> None:
    with pytest.raises(ConfigError, match="timeout must be seconds above 0, or None to wait, not"):
        Coordinator(URL, timeout=timeout)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"ann", "member_id must be a str, not bytes"),
        (None, "member_id must be a str, not NoneType"),
        ("", "member_id must be 1 to 200 bytes of UTF-8, not 0"),
        ("a" * 201, "member_id must be 1 to 200 bytes of UTF-8, not 201"),
        ("é" * 101, "member_id must be 1 to 200 bytes of UTF-8, not 202"),
        ("\ud800", r"member_id '\\ud800' cannot be written as UTF-8"),
        ("a\nb", r"member_id 'a\\nb' has a character that cannot be printed"),
        ("\x1fhidden", "has a character that cannot be printed"),
        ("a\u200bb", "has a character that cannot be printed"),
    ],
)
def test_an_id_is_up_to_200_printable_bytes(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_id(value, "member_id")


def test_the_longest_id_and_the_oddest_are_ids() -> None:
    for value in ("a", "é" * 100, "host@site:8774/x#1 (left)"):
        assert check_id(value, "member_id") == value


def test_an_unknown_store_or_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no store has the scheme 'memry'; did you mean 'memory'\?"):
        headcount.connect("memry://x")
    with pytest.raises(ConfigError, match=r"no option 'intervall'; did you mean 'interval'\?"):
        headcount.connect(URL, intervall=1.0)
    with pytest.raises(
        ConfigError, match="the option 'interval' of the memory store is a number, not 'often'"
    ):
        headcount.connect(f"{URL}?interval=often")


def test_no_password_in_any_text() -> None:
    """Not in what a coordinator prints of itself, nor in an error that repeats a URL."""
    secret = "hunter2"
    for url in (f"memory://ann:{secret}@x/y", f"memory://x?password={secret}"):
        coordinator = Coordinator(url)
        assert secret not in repr(coordinator)
        assert secret not in repr(coordinator._settings)
        with pytest.raises(ConfigError) as caught:
            headcount.connect(url)
        assert secret not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        Coordinator(f"postgresql:ann:{secret}@db/x")
    assert secret not in str(caught.value)


def test_the_wait_for_a_lock_is_not_the_timeout_of_a_call() -> None:
    with pytest.raises(ConfigError, match=r"no option 'timeout'; did you mean 'lock_timeout'\?"):
        headcount.connect("sqlite:///a.db?timeout=5")
