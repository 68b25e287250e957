"""Settings as a file: there and back, what is wrong in one is named, and nothing is changed by halves."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import stat
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from workers.models import AlertRule, Channel, Installation, Limit, Policy, RootCause, SettingChange
from workers.secrets_at_rest import decrypt
from workers.settings_file import SettingsFileError, load, write
from workers.who import Who

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECRET = "json://relay:s3cret-w0rd@127.0.0.1:9/hook"
BEAT = "https://beat.example.com/t0ken"
PASSPHRASE = "correct horse"
MARA = Who("mara")


@pytest.fixture
def everything(db: None) -> None:
    """One setting of every kind, with every kind of value; none that an installation begins with."""
    for model in (RootCause, AlertRule, Policy):
        model.objects.all().delete()
    Limit.objects.create(name="late_after", seconds=300)
    Limit.objects.create(name="stalled_after", seconds=1200.5)
    RootCause.objects.create(name="Disk", description="The disk was full; “really”.")
    ops = Channel.objects.create(name="ops", address=SECRET, least_severity=3)
    rule = AlertRule.objects.create(
        name="Zombies",
        kind="zombies",
        threshold=3,
        quiet_from="22:00",
        quiet_until="06:30",
        muted_until=NOW,
        muted_reason="a move",
    )
    rule.channels.set([ops])
    Policy.objects.create(name="Clean", action="clean-up", health="zombie", mode=Policy.Mode.ACTIVE)
    installation = Installation.get()
    installation.dead_man_address, installation.report_zone = BEAT, "Europe/Berlin"
    installation.save()
    installation.report_channels.set([ops])


def forget() -> None:
    for model in (Limit, RootCause, AlertRule, Policy, Channel, Installation, SettingChange):
        model.objects.all().delete()


def content(**changes: Any) -> str:
    return json.dumps({"format": "relay-web-settings", "version": 1, **changes})


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsFileError) as caught:
        load(text, MARA, now=NOW)
    assert not SettingChange.objects.exists()
    return caught.value.problems


# -- there and back


def test_what_was_written_is_read_back_the_same(everything: None) -> None:
    text = write(NOW, PASSPHRASE)
    forget()
    load(text, MARA, passphrase=PASSPHRASE, now=NOW)
    again = json.loads(write(NOW, PASSPHRASE))
    before = json.loads(text)
    assert before["policies"][0].pop("mode") == "active"
    assert again["policies"][0].pop("mode") == "shadow", "what acts by itself is promoted by a person who is here"
    for each in (before, again):
        each.pop("secrets")
        each["channels"][0].pop("address")
        each["installation"].pop("dead_man_address")
    assert again == before
    assert decrypt(Channel.objects.get().address) == SECRET
    assert decrypt(Installation.get().dead_man_address) == BEAT
    assert [each.name for each in AlertRule.objects.get().channels.all()] == ["ops"]


def test_an_import_of_what_is_there_changes_nothing(everything: None) -> None:
    Policy.objects.update(mode=Policy.Mode.SHADOW)
    assert load(write(NOW), MARA, now=NOW) == []
    assert decrypt(Channel.objects.get().address) == SECRET, "a file without secrets leaves them"


def test_a_policy_that_acts_becomes_a_shadow(everything: None) -> None:
    (change,) = load(write(NOW), MARA, now=NOW)
    assert (change.setting, change.field) == ("policy Clean", "mode")
    assert Policy.objects.get().mode == "shadow"


def test_what_is_not_in_the_file_stays(everything: None) -> None:
    load(content(limits=[{"name": "late_after", "seconds": 240}]), MARA, now=NOW)
    assert dict(Limit.objects.values_list("name", "seconds")) == {"late_after": 240, "stalled_after": 1200.5}
    assert AlertRule.objects.count() == 1


def test_without_a_passphrase_no_secret_is_in_the_file(everything: None) -> None:
    text = write(NOW)
    assert "address" not in json.loads(text)["channels"][0]
    for written in (text, write(NOW, PASSPHRASE)):
        assert "s3cret" not in written
        assert "t0ken" not in written


def test_a_channel_without_its_secret_comes_in_switched_off(everything: None) -> None:
    text = write(NOW)
    forget()
    load(text, MARA, now=NOW)
    channel = Channel.objects.get()
    assert (channel.enabled, channel.address) == (False, "")


def test_a_report_that_is_set_by_import_is_not_one_that_was_missed(everything: None) -> None:
    text = write(NOW, PASSPHRASE)
    forget()
    load(text, MARA, passphrase=PASSPHRASE, now=NOW)
    assert Installation.get().report_sent_for == (NOW - timedelta(days=8)).date()


# -- what is wrong


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ('{"format": NaN}', "it is not JSON that can be used: NaN is no number"),
        ("[]", "it is no file of settings"),
        ('{"format": "relay-web-settings", "version": 2}', "version: this program reads version 1, not 2"),
        (content(limit=[]), "limit: there are no settings of that name"),
        (content(limits={}), "limits: a list is needed"),
        (content(limits=[{"seconds": 3}]), "limits, number 1: an object with a name is needed"),
        (content(limits=[{"name": "late_after"}]), "limits, number 1 (“late_after”): seconds: it is missing"),
        (content(limits=[{"name": "x", "seconds": 3}]), "limits, number 1 (“x”): name: “x” is no limit; there are"),
        (content(limits=[{"name": "late_after", "seconds": True}]), "seconds: a number is needed, not true"),
        (content(limits=[{"name": "late_after", "seconds": "3"}]), 'seconds: a number is needed, not "3"'),
        (content(limits=[{"name": "late_after", "seconds": 1200}]), "limits: A worker would be stalled after 15 min"),
        (content(root_causes=[{"name": "a"}, {"name": "a"}]), "root_causes, number 2 (“a”): name: it is there twice"),
        (content(root_causes=[{"name": "a" * 81}]), "name: Ensure this value has at most 80 characters"),
        (content(root_causes=[{"name": "a", "words": ""}]), "(“a”): words: there is no such field"),
        (content(channels=[{"name": "a", "address": SECRET}]), "address: a secret stands in a file only encrypted"),
        (content(alert_rules=[{"name": "a", "kind": "x"}]), "(“a”): kind: Value 'x' is not a valid choice."),
        (content(alert_rules=[{"name": "a", "kind": "mass", "channels": ["b"]}]), "there is no channel “b”"),
        (content(alert_rules=[{"name": "a", "kind": "mass", "cycles": 0}]), "cycles: Ensure this value is greater"),
        (
            content(alert_rules=[{"name": "a", "kind": "mass", "quiet_zone": "Mars"}]),
            "quiet_zone: “Mars” is no time zone",
        ),
        (content(installation={"report_hour": 24}), "installation: report_hour: Ensure this value is less"),
        (content(installation={"report_hour": 7.5}), "installation: report_hour: a whole number is needed, not 7.5"),
        (content(installation={"maintenance_until": "2026-11-24T08:00:00"}), "its time zone is missing"),
        (content(installation=[]), "installation: an object is needed"),
        (content(secrets={}), "secrets: salt and proof are missing or damaged"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_changed(text: str, words: str) -> None:
    found = problems(text)
    assert any(words in problem for problem in found), found
    assert not any("s3cret" in problem for problem in found)


def test_all_that_is_wrong_is_named_at_once_and_the_rest_is_not_taken(everything: None) -> None:
    SettingChange.objects.all().delete()
    rows = [{"name": "late_after", "seconds": 60}, {"name": "stalled_after", "seconds": None}]
    found = problems(content(limits=rows, installation={"report_zone": "x", "dead_man_minutes": 0}))
    assert len(found) == 3
    assert Limit.objects.get(name="late_after").seconds == 300


def test_a_wrong_or_missing_passphrase(everything: None) -> None:
    text = write(NOW, PASSPHRASE)
    assert problems(text) == ["secrets: the file holds secrets; their passphrase is needed"]
    with pytest.raises(SettingsFileError, match="not the passphrase"):
        load(text, MARA, passphrase="wrong horse", now=NOW)


def test_a_dead_mans_address_that_cannot_be_called_is_refused_without_saying_it(everything: None) -> None:
    installation = Installation.get()
    installation.dead_man_address = "ftp://t0ken"
    installation.save()
    with pytest.raises(SettingsFileError) as caught:
        load(write(NOW, PASSPHRASE), MARA, passphrase=PASSPHRASE, now=NOW)
    (problem,) = caught.value.problems
    assert problem.startswith("installation: dead_man_address: This is no address")
    assert "t0ken" not in problem


# -- the commands


def run(name: str, *args: str, **options: Any) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(name, *args, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def test_a_file_is_written_and_read_by_command(
    everything: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_SETTINGS_PASSPHRASE", PASSPHRASE)
    file = tmp_path / "settings.json"
    assert "secrets included" in run("export_settings", str(file), "--with-secrets")[1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]
    forget()
    dry, _ = run("import_settings", str(file), "--dry-run")
    assert "limit late_after: added: name: late_after; seconds: 300" in dry
    assert dry.rstrip().endswith("this was a dry run: nothing was changed")
    assert not Limit.objects.exists()
    assert not SettingChange.objects.exists()
    done, _ = run("import_settings", str(file))
    assert done.splitlines()[:-1] == dry.splitlines()[:-1], "the dry run said just what was then done"
    assert Limit.objects.count() == 2
    me = pwd.getpwuid(os.getuid()).pw_name
    assert set(SettingChange.objects.values_list("actor", "address")) == {(me, "command line")}
    assert "s3cret" not in dry + done


def test_what_is_shown_goes_to_the_standard_output(everything: None) -> None:
    out, _ = run("export_settings")
    assert json.loads(out)["limits"] == [
        {"name": "late_after", "seconds": 300.0},
        {"name": "stalled_after", "seconds": 1200.5},
    ]
    assert datetime.fromisoformat(json.loads(out)["exported_at"]) <= timezone.now()


def test_the_passphrase_is_asked_for_twice_at_a_terminal(everything: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    typed = iter([PASSPHRASE, "another horse", PASSPHRASE, PASSPHRASE, "short"])
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(typed))
    with pytest.raises(CommandError, match="differ"):
        run("export_settings", with_secrets=True)
    assert "encrypted" in run("export_settings", with_secrets=True)[0]
    with pytest.raises(CommandError, match="too short"):
        run("export_settings", with_secrets=True)


def test_without_a_terminal_the_variable_is_named(everything: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(CommandError, match="RELAY_SETTINGS_PASSPHRASE"):
        run("export_settings", with_secrets=True)


@pytest.mark.parametrize(
    ("bytes_of_it", "words"),
    [(None, "cannot be read: No such file"), (b"\xff\xfe", "is no text in UTF-8"), (b"{}", "nothing was changed:\n")],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, bytes_of_it: bytes | None, words: str) -> None:
    file = tmp_path / "settings.json"
    if bytes_of_it is not None:
        file.write_bytes(bytes_of_it)
    with pytest.raises(CommandError, match=words) as caught:
        run("import_settings", str(file))
    assert str(file) in str(caught.value), "it names the file"


def test_a_place_that_cannot_be_written(everything: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        run("export_settings", str(tmp_path / "nowhere" / "settings.json"))


def test_whoever_imports_is_told_which_channel_lacks_its_address(everything: None, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    run("export_settings", str(file))
    forget()
    assert "channel ops is off until somebody enters its address" in run("import_settings", str(file))[1]
