"""``/etc/resolv.conf`` and ``/etc/hosts`` as they are found."""

from __future__ import annotations

from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from meshcore.resolve.resolv_conf import ResolvConf, SystemFiles, parse_hosts, parse_resolv_conf


def test_servers_search_list_and_options_are_read_and_bounded() -> None:
    found = parse_resolv_conf(
        "# comment\n; another\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n"
        "nameserver 10.0.0.3\nnameserver 10.0.0.4\ndomain old.test\nsearch a.test. b.test\n"
        "options ndots:99 timeout:0 attempts:3 rotate ndots:x\nsortlist 1.2.3.4\n"
    )

    assert (("10.0.0.1", 53), ("fe80::1%eth0", 53), ("10.0.0.3", 53)) == found.servers
    assert (("a.test", "b.test"), 15, 1.0, 3) == (found.search, found.ndots, found.timeout, found.attempts)


def test_without_a_word_the_server_is_on_this_machine() -> None:
    assert ResolvConf() == parse_resolv_conf("")


def test_a_name_with_enough_dots_is_asked_for_as_it_is_first() -> None:
    conf = ResolvConf(search=("a.test", "b.test"), ndots=2)

    assert ("x.y.a.test", "x.y.b.test", "x.y") == conf.candidates("x.y")
    assert ("x.y.z", "x.y.z.a.test", "x.y.z.b.test") == conf.candidates("x.y.z")
    assert ("x.y.",) == conf.candidates("x.y.")


def test_hosts_have_several_addresses_and_names() -> None:
    found = parse_hosts("127.0.0.1 localhost App # the app\n::1 localhost\n::1 localhost\nbad name\n\n#x\n")

    assert {"localhost": ("127.0.0.1", "::1"), "app": ("127.0.0.1",)} == found


@hypothesis.given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.sampled_from(
                ["nameserver 10.0.0.1", "search a b c d e f g h i j", "options ndots:99999 timeout:-1 attempts:"]
            ),
        )
    )
)
def test_any_text_is_a_file_within_bounds(lines: list[str]) -> None:
    found = parse_resolv_conf("\n".join(lines))
    parse_hosts("\n".join(lines))

    assert 1 <= len(found.servers) <= 3
    assert len(found.search) <= 8
    assert 0 <= found.ndots <= 15
    assert 1 <= found.timeout <= 30
    assert 1 <= found.attempts <= 5


def test_the_files_are_read_again_when_they_change_and_may_be_missing(tmp_path: Path) -> None:
    files = SystemFiles(tmp_path / "resolv.conf", tmp_path / "hosts")
    assert (ResolvConf(), {}) == (files.conf(), files.hosts())

    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.1\n")
    (tmp_path / "hosts").write_text("10.0.0.2 app\n")
    assert (("10.0.0.1", 53),) == files.conf().servers
    assert files.conf() is files.conf()
    assert {"app": ("10.0.0.2",)} == files.hosts()

    (tmp_path / "hosts").unlink()
    assert {} == files.hosts()
