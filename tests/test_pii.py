"""Addresses, keys and tokens are masked where they are, and what looks like them is left."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import UsageError
from curate.features.edits import edited
from curate.filters import MASKS, masked

LETTERS = "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8bC0dF"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow{}==\n-----END RSA PRIVATE KEY-----"


def after(text, names=tuple(MASKS)):
    texts = pa.array([text], pa.large_string())
    edits, _ = masked(texts, names)
    return edited(texts, edits.lists(1)).to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to me@example.com.", "write to <EMAIL>."),
        ("<first.last+tag@mail.example.co.uk>", "<<EMAIL>>"),
        ("邮箱test@example.com。谢谢", "邮箱<EMAIL>。谢谢"),
        ("é a@b.org é x@y.net", "é <EMAIL> é <EMAIL>"),
        ("mailto:a_b-c@sub.domain.info?subject=x", "mailto:<EMAIL>?subject=x"),
        ("O'Brien@example.ie, Jr.", "<EMAIL>, Jr."),
        ("from 8.8.8.8 to 10.0.0.1", "from <IP> to 10.0.0.1"),
        ("http://93.184.215.14:8080/x", "http://<IP>:8080/x"),
        ("ip=1.1.1.1, then 208.67.222.222.", "ip=<IP>, then <IP>."),
        ("addr 2606:4700:4700::1111 up", "addr <IP> up"),
        ("2001:4860:4860:0:0:0:0:8888", "<IP>"),
        ("id AKIA" + "ABCDEFGHIJKLMNOP", "id <KEY>"),
        ("token=ghp_" + LETTERS + "abcd", "token=<KEY>"),
        ("github_pat_" + LETTERS, "<KEY>"),
        ("'xoxb-123456789012-abcdefGHIJ'", "'<KEY>'"),
        ("AIza" + LETTERS + "xyz", "<KEY>"),
        ("export KEY=sk-proj-" + LETTERS, "export KEY=<KEY>"),
        ("sk-ant-api03-" + LETTERS, "<KEY>"),
        ("Bearer eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4 ok", "Bearer <KEY> ok"),
        (f"a {PEM.format(LETTERS)} b", "a <KEY> b"),
        (f"{PEM.format(LETTERS)}\n{PEM.format(LETTERS)}", "<KEY>\n<KEY>"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE" + LETTERS, "<KEY>"),  # cut off
        ("https://user:pw@host.example.com/", "https://user:<EMAIL>/"),
    ],
)
def test_what_names_someone_or_opens_a_door_is_masked(text, expected) -> None:
    assert after(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "@app.route('/') def f(): ...", "thanks @user and @some.one", "user@localhost", "a @ b.com", "x@y",
        "logo@2x.png", "npm i lodash@4.17.21", "git@github.com:owner/name.git", "matrix A@B.T is",
        "foo@example.com@bar", "version 1.2.3.4", "v1.2.3.4", "Version: 6.1.7.2", "(>= 1.15.7.2)", "== 4.0.0.1",
        "1.2.3.4.5", "on 2024.01.02.03", "192.168.0.1 and 127.0.0.1 and 10.1.2.3", "300.1.1.1", "1.2.3.400",
        "01.02.03.04", "\n1.3.3.2. Adm", "5.2.2.1 Ins", "2001:db8::1", "fe80::1", "at 12:30:45", "std::vector::x",
        "a::b", "2024:01:02", "2001:10", "face::b00c", "sk-fading-circle-loader-animation", "sk-learn", "AKIA",
        "AKIAabcdefghijklmnop", "ghp_short", "eyJust saying", "the PRIVATE KEY is", "-----BEGIN PUBLIC KEY-----",
        "task-1234567890ABCDEFGHIJ", "hf_hub_download",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_left(text) -> None:
    assert after(text) == text


def test_masks_are_counted_by_kind_and_can_be_chosen() -> None:
    texts = pa.chunked_array([["a@b.org", None], ["8.8.8.8 c@d.net", ""]])
    edits, counts = masked(texts)
    assert counts == {"email": 2, "ip": 1, "keys": 0}
    assert edits.docs.tolist() == [0, 2, 2]
    assert edited(texts, edits.lists(4)).to_pylist() == ["<EMAIL>", None, "<IP> <EMAIL>", ""]
    assert masked(texts, ["ip"])[1] == {"ip": 1}
    with pytest.raises(UsageError, match="did you mean 'email'"):
        masked(texts, ["e-mail"])


@given(st.lists(st.sampled_from(["a@b.org", "8.8.8.8", "é", " ", ".", "漢", "@", ":", "sk-", "\n", "x"]), max_size=30))
@settings(max_examples=50)
def test_masking_what_is_masked_changes_nothing(pieces) -> None:
    once = after("".join(pieces))
    assert after(once) == once


@pytest.mark.parametrize(
    "piece",
    ["@", "a@a.", "a.b@", "1.1.1.", "2001:", "eyJ", "eyJaaaaaaaa.", "sk-", "a@" + "b." * 9, "8.8.8.8 ", "漢@b.c",
     "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "a" * 70, "v "],
)  # fmt: skip
def test_one_large_hostile_document_comes_to_an_end(piece) -> None:
    """In time that is its square it would take hours."""
    edits, counts = masked(pa.array(["8.8.8.8 a@b.org sk-" + piece * (2_000_000 // len(piece))]))
    assert edits.texts[:1] == ["<IP>"]
    assert counts["ip"] >= 1
