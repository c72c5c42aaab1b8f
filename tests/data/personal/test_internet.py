"""E-mail and IP addresses, and what only looks like them."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable

import pytest

Values = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Write to jane.doe@corp.co.uk.", "jane.doe@corp.co.uk"),
        ("<mailto:j+tag@sub.corp.io>", "j+tag@sub.corp.io"),
        ("('o'brien@corp.ie')", "o'brien@corp.ie"),
        ("x@y.museum, and more", "x@y.museum"),
        ("JANE_DOE@CORP.COM!", "JANE_DOE@CORP.COM"),
        ("jörg@müller.de", "jörg@müller.de"),
        ("jane@xn--mller-kva.xn--p1ai", "jane@xn--mller-kva.xn--p1ai"),
        ("почта: иван@пример.рф", "иван@пример.рф"),
        ("用户@例子.广告", "用户@例子.广告"),
        ("邮箱jane@corp.cn谢谢", "jane@corp.cn"),
        ("메일은 jane@corp.kr입니다", "jane@corp.kr"),
        ("ｊａｎｅ＠ｃｏｒｐ．ｃｏｍ", "ｊａｎｅ＠ｃｏｒｐ．ｃｏｍ"),
        ("email=jane@corp.com&x=1", "jane@corp.com"),
        ('{"email":"jane@corp.com"}', "jane@corp.com"),
        ("write to me...jane@corp.com", "jane@corp.com"),
    ],
)
def test_email(values: Values, text: str, address: str) -> None:
    assert values("email", text) == [address]


@pytest.mark.parametrize(
    "text",
    [
        "@property and @app.route('/x')",
        "a @ b.com",
        "see @jane on the site",
        "icon@2x.png",
        "package@1.2.3-beta.next",
        "libssl3@3.2.0",
        "git clone git@github.com:python/cpython",
        "ssh://hg@hg.python.org/cpython",
        "left@right.transpose()",
        "jane@corp",
        "jane@-corp.com",
        "1 @-@ 2 and 3 @,@ 000",
        "foo@bar@baz.com",
        "x" * 65 + "@corp.com",
    ],
)
def test_no_email(values: Values, text: str) -> None:
    assert values("email", text) == []


def test_spelled_out(values: Values) -> None:
    text = "jane (at) corp dot com, bob [at] mail [dot] corp [dot] org, <ann at corp.com>, kim at corp dot net"
    assert values("email", text) == []
    found = values("email", text, obfuscated=True)
    assert found == [
        "jane (at) corp dot com",
        "bob [at] mail [dot] corp [dot] org",
        "ann at corp.com",
        "kim at corp dot net",
    ]
    assert values("email", "Meet me at example.com at noon. Look at dot com.", obfuscated=True) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("from 93.184.216.34 today", "93.184.216.34"),
        ("http://93.184.216.34:8080/x", "93.184.216.34"),
        ("ip 8.8.8.8", "8.8.8.8"),
        ("the server at 10.1.2.3.", "10.1.2.3"),
        ("192.168.1.254", "192.168.1.254"),
        ("jane@93.184.216.34", "93.184.216.34"),
        ("route to 10.0.0.0/8", "10.0.0.0"),
        ("2001:db8::8a2e:370:7334", "2001:db8::8a2e:370:7334"),
        ("[2a00:1450:4001:81b::200e]:443", "2a00:1450:4001:81b::200e"),
        ("6e40:4041:c617:e898:c11:40d2:c669:2eb4", "6e40:4041:c617:e898:c11:40d2:c669:2eb4"),
        ("ip:2a00:1450:4001:81b:0:0:0:200e,", "2a00:1450:4001:81b:0:0:0:200e"),
        ("ping fe80::1ff:fe23:4567:890a%eth0", "fe80::1ff:fe23:4567:890a"),
        ("inet6 ::ffff:192.0.2.128", "::ffff:192.0.2.128"),
        ("1:2:3:4:5:6:77.77.88.88", "1:2:3:4:5:6:77.77.88.88"),
    ],
)
def test_ip_address(values: Values, text: str, address: str) -> None:
    assert values("ip_address", text) == [address]


@pytest.mark.parametrize(
    "text",
    [
        "Section 4.2.1.3 says",
        "4.2.1.3 Scope",
        "version 192.168.1.1",
        "v1.22.333.4",
        "Chrome/91.0.4472.124 Safari/537.36",
        "Chrome/120.0.100.12",
        "package==1.2.103.4",
        "1.2.3.4.5",
        "256.300.1.1",
        "01.02.03.04",
        "127.0.0.1 and 0.0.0.0 and 255.255.255.0 and 224.0.0.1",
        "::1 and ::",
        "std::vector<a::b> x; dead::beef",
        "x[::2] and y[1::3]",
        "at 12:34:56 on 2001:10:05",
        "00:1A:2B:3C:4D:5E",
        "representing times since the year 2262::",
        "on November 5, 2006::",
    ],
)
def test_no_ip_address(values: Values, text: str) -> None:
    assert values("ip_address", text) == []


def test_every_form_of_ipv6(values: Values) -> None:
    draw = random.Random(6)
    for _ in range(60):
        address = ipaddress.IPv6Address(0x2A << 120 | draw.getrandbits(120) & draw.choice((-1, ~(0xFFFFFFFF << 40))))
        for form in (address.compressed, address.exploded, address.compressed.upper()):
            assert values("ip_address", f"<{form}>") == [form]
