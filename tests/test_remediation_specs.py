"""Repairing and setting aside files that cannot be parsed: what happens to their bytes, and the way back."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from workers.coordination import edits, writer
from workers.coordination.parser import _fill_holes, parse_spec
from workers.coordination.reader import LARGEST_SPEC
from workers.coordination.records import Spec
from workers.health import Health
from workers.models import Finding, Remediation, RemediationBatch
from workers.remediation import ask
from workers.remediation.actions import ACTIONS, OF_A_FILE, OF_A_RUN, QUARANTINE, REPAIR_SPEC, objection
from workers.remediation.ground import NotAllowed, Refusal
from workers.remediation.queries import card

from . import factories
from .conftest import person, replace_file
from .repairs import ACTIVE, EVENTS, FAILED, Workshop, ago, snapshot, steps
from .test_remediate_command import Shell, forks, shell
from .test_remediation_pages import buttons

__all__ = ["Shell", "forks", "shell"]
QUARANTINE_FOLDER = "coordination/worker-specs/quarantine"
HOLES = """{ "worker_id" : "w-1",
\t"worker_type": "scan-worker", "status": "%s",\r
  "created_at": "%s",  "skills_required": ,
  "resources": {"token_allocation":,  "unit": "\u00e9 \\" : ,"}, "notes":
,
  "last": }

"""
PATH = f"{ACTIVE}/w-1.json"


def damaged(status: str = "pending") -> bytes:
    return (HOLES % (status, _created())).encode()


@cache
def _created() -> str:
    """The same moment each time: a second later it would be another run."""
    return ago(30)


def write(workshop: Workshop, data: bytes, path: str = PATH) -> bytes:
    workshop.home.write(path, data)
    return data


# -- repair-spec


def test_each_missing_value_becomes_null_and_every_other_byte_stays(workshop: Workshop) -> None:
    before = write(workshop, damaged())
    done = workshop.repair("repair-spec", reason="Nightly")
    assert done.state == "done", done.error
    after = (workshop.path / PATH).read_bytes()
    text = before.decode()
    for old, new in (
        ('"skills_required": ,', '"skills_required": null,'),
        ('"token_allocation":,', '"token_allocation": null,'),
        ('"notes":\n,', '"notes": null\n,'),
        ('"last": }', '"last": null}'),
    ):
        text = text.replace(old, new)
    assert after == text.encode()
    assert isinstance(parse_spec(after, PATH), Spec)
    assert list(steps(done)) == ["mend", "event"]
    (event,) = workshop.events()
    assert (event["type"], event["data"]["worker_id"]) == ("worker_spec_repaired", "w-1")
    assert event["data"]["message"].endswith(f"({PATH}) by kim: Nightly")
    assert not workshop.left_behind()
    workshop.cycle()
    assert workshop.worker().health == "pending"
    assert not Finding.objects.filter(kind="unreadable").exists()


def test_the_preview_shows_the_lines_and_what_it_sets_off(workshop: Workshop) -> None:
    before = write(workshop, damaged())
    planned = workshop.preview("repair-spec")
    (mend, event) = planned.plan["steps"]
    assert mend["detail"] == (
        "Write null for the missing values of “skills_required” (line 3), “token_allocation” (line 4), "
        "“notes” (line 4) and “last” (line 6) in"
    )
    assert mend["shown"]["diff"][:4] == [
        ["-", mend["shown"]["diff"][0][1]],
        ["+", mend["shown"]["diff"][0][1].replace('"skills_required": ,', '"skills_required": null,')],
        ["-", mend["shown"]["diff"][2][1]],
        ["+", mend["shown"]["diff"][3][1]],
    ]
    assert ["-", '"last": }'] in mend["shown"]["diff"]
    assert ["+", '"last": null}'] in mend["shown"]["diff"]
    assert event["kind"] == "event"
    assert "worker daemon may start it" in planned.plan["warnings"][0]
    assert (workshop.path / PATH).read_bytes() == before, "a preview touches nothing"


def test_a_preview_keeps_no_secret(workshop: Workshop) -> None:
    secret = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789"
    line = f'"token": "{secret}", "skills": , "key": "{secret}"'
    write(workshop, b'{"worker_id": "w-1", "worker_type": "x", "status": "pending",\n' + line.encode() + b"}")
    planned = workshop.preview("repair-spec")
    assert secret not in json.dumps(planned.plan)
    workshop.confirm(planned)
    assert (workshop.path / PATH).read_bytes().count(secret.encode()) == 2


def test_undo_gives_the_bytes_back(workshop: Workshop) -> None:
    before = write(workshop, damaged("running"))
    done = workshop.repair("repair-spec")
    undoing = workshop.preview_undo(done)
    assert [step["kind"] for step in undoing.plan["steps"]] == ["unmend", "event"]
    assert ["+", '"last": }'] in undoing.plan["steps"][0]["shown"]["diff"]
    assert undoing.plan["warnings"] == []
    undone = workshop.confirm(undoing)
    assert undone.state == "done", undone.error
    assert (workshop.path / PATH).read_bytes() == before
    assert [event["type"] for event in workshop.events()] == ["worker_spec_repaired", "remediation_undone"]


def test_undo_is_refused_where_somebody_has_changed_it_since(workshop: Workshop) -> None:
    write(workshop, damaged())
    done = workshop.repair("repair-spec")
    path = workshop.path / PATH
    replace_file(path, path.read_text().replace("pending", "running"))
    refused = workshop.preview_undo(done)
    assert refused.state == "refused"
    assert "has been changed since" in refused.error


def test_a_byte_order_mark_in_front_of_it_goes_too_and_comes_back(workshop: Workshop) -> None:
    before = write(workshop, b"\xef\xbb\xbf" + damaged())
    planned = workshop.preview("repair-spec")
    assert "byte order mark" in json.dumps(planned.plan["steps"][0]["shown"])
    done = workshop.confirm(planned)
    assert isinstance(parse_spec((workshop.path / PATH).read_bytes(), PATH), Spec)
    workshop.undo(done)
    assert (workshop.path / PATH).read_bytes() == before


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"worker_id": "w-1", "status": running}', "no JSON value"),
        (b'{"worker_id": "w-1", "x": , "status": running}', "no JSON value"),
        (b'{"worker_id": "w-1", "x": , "status": "pend', "no closing quote"),
        (b"", "the file is empty"),
        (b'{"worker_id": "w-1", "x": ,\xff}', "part of no UTF-8 character"),
        (b'{"a": ' + b'{"x": ,' * 600, "600 values are missing"),
    ],
)
def test_what_is_damaged_by_more_is_refused_with_a_way_out(workshop: Workshop, data: bytes, words: str) -> None:
    write(workshop, data)
    refused = workshop.preview("repair-spec")
    assert refused.state == "refused"
    assert words in refused.error
    assert "correct it in an editor, or move it into quarantine" in refused.error
    assert (workshop.path / PATH).read_bytes() == data


def test_what_would_be_no_spec_is_not_made_into_json(workshop: Workshop) -> None:
    write(workshop, b'{"x": , "y": 1}', f"{FAILED}/w-1.json")
    refused = workshop.preview("repair-spec")
    assert refused.state == "refused"
    assert "and no spec" in refused.error


@pytest.mark.parametrize("action", [REPAIR_SPEC.name, QUARANTINE.name])
def test_a_file_that_changed_between_preview_and_click_is_left_alone(workshop: Workshop, action: str) -> None:
    write(workshop, damaged())
    planned = workshop.preview(action)
    changed = write(workshop, damaged().replace(b"scan", b"test"))
    refused = workshop.confirm(planned)
    assert refused.state == "refused"
    assert "The file has changed since the preview" in refused.error
    assert Remediation.objects.get(instead_of=refused).state == "planned"
    assert (workshop.path / PATH).read_bytes() == changed


@pytest.mark.parametrize("action", [REPAIR_SPEC.name, QUARANTINE.name])
def test_a_file_that_was_mended_or_removed_meanwhile_is_refused(workshop: Workshop, action: str) -> None:
    write(workshop, damaged())
    planned = workshop.preview(action)
    workshop.zombie()
    refused = workshop.confirm(planned)
    assert (refused.state, "can be parsed by now" in refused.error) == ("refused", True)
    write(workshop, damaged())
    planned = workshop.preview(action)
    (workshop.path / PATH).unlink()
    assert "is gone" in workshop.confirm(planned).error


@pytest.mark.parametrize("action", [REPAIR_SPEC.name, QUARANTINE.name])
def test_a_file_that_is_changed_at_the_very_moment_is_left_alone(
    workshop: Workshop, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workshop, damaged())
    planned = workshop.preview(action)
    changed = damaged().replace(b"scan", b"test")
    read = writer.read
    path, looked = workshop.path / PATH, []

    def and_then_somebody_writes(*args: Any) -> bytes | None:
        data = read(*args)
        looked.append(args)
        if len(looked) == 2:  # the first look plans once more, the second is the deed's
            replace_file(path, changed.decode())
        return data

    monkeypatch.setattr(writer, "read", and_then_somebody_writes)
    failed = workshop.confirm(planned)
    assert failed.state == "failed"
    assert path.read_bytes() == changed
    assert not workshop.exists(QUARANTINE_FOLDER) or not list((workshop.path / QUARANTINE_FOLDER).iterdir())
    assert workshop.events() == []


def test_a_link_is_not_followed(workshop: Workshop) -> None:
    before = damaged()
    real = workshop.home.write("elsewhere/w-1.json", before)
    (workshop.path / PATH).symlink_to(real)
    for action in OF_A_FILE:
        refused = workshop.preview(action.name)
        assert (refused.state, "symbolic link" in refused.error) == ("refused", True)
    assert real.read_bytes() == before


@given(st.binary(max_size=60))
@example(b'{"a": ,"b":,\n"c":\r\n}')
@example(b'\xef\xbb\xbf{"\xc3\xa9": , "b": "x: ,"}')
def test_filling_a_file_is_what_its_reading_is_and_goes_back(data: bytes) -> None:
    filled = _fill_holes(data)
    try:
        splices = edits.fill_blanks(data)
    except edits.EditError:
        assert filled is None
        return
    changed = edits.apply(data, splices)
    assert changed == (data if filled is None else filled)
    assert edits.apply(changed, edits.invert(splices)) == data


# -- quarantine


def test_quarantine_moves_the_file_unchanged_and_undo_moves_it_back(workshop: Workshop) -> None:
    before = write(workshop, b'{"worker_id": "w-1", "status": running')
    whole = snapshot(workshop.path)
    planned = workshop.preview("quarantine")
    stamp = int(planned.requested_at.timestamp())
    target = f"{QUARANTINE_FOLDER}/w-1-malformed-{stamp}.json"
    assert [step["target"] for step in planned.plan["steps"]] == [target, EVENTS]
    done = workshop.confirm(planned)
    assert done.state == "done", done.error
    assert (workshop.path / target).read_bytes() == before
    assert not workshop.exists(PATH)
    assert [event["type"] for event in workshop.events()] == ["worker_spec_quarantined"]
    workshop.cycle()
    assert Finding.objects.get(kind="quarantined").path == target
    assert not Finding.objects.filter(kind="unreadable").exists()
    undone = workshop.undo(done)
    assert undone.state == "done", undone.error
    assert snapshot(workshop.path, but=[EVENTS]) == whole


def test_quarantine_overwrites_nothing(workshop: Workshop) -> None:
    write(workshop, b"{")
    planned = workshop.preview("quarantine")
    target = planned.plan["steps"][0]["target"]
    write(workshop, b"earlier", target)
    done = workshop.confirm(planned)
    assert done.state == "done"
    assert (workshop.path / target).read_bytes() == b"earlier"
    assert (workshop.path / target.replace(".json", "-2.json")).read_bytes() == b"{"


def test_undo_of_a_quarantine_is_refused_where_a_new_spec_is_there(workshop: Workshop) -> None:
    write(workshop, b"{")
    done = workshop.repair("quarantine")
    workshop.zombie()
    refused = workshop.preview_undo(done)
    assert refused.state == "refused"
    assert "is there again" in refused.error


def test_what_is_in_quarantine_stays_there(workshop: Workshop) -> None:
    write(workshop, b"{", f"{QUARANTINE_FOLDER}/x-malformed-1.json")
    refused = workshop.preview("quarantine", "x-malformed-1")
    assert "lies in quarantine already" in refused.error


def test_a_name_as_long_as_names_can_be_is_cut_not_refused(workshop: Workshop) -> None:
    name = "w" * 250
    write(workshop, b"{", f"{ACTIVE}/{name}.json")
    done = workshop.repair("quarantine", name)
    assert done.state == "done", done.error
    assert len(Path(done.plan["steps"][0]["target"]).name) <= 255


def test_a_file_that_is_too_large_to_be_read_can_be_set_aside_and_not_repaired(workshop: Workshop) -> None:
    write(workshop, b'{"x": ' + b" " * LARGEST_SPEC + b",}")
    assert "files of more than 4 MiB are not read" in workshop.preview("repair-spec").error
    assert workshop.repair("quarantine").state == "done"


def test_an_archived_file_can_be_repaired_too(workshop: Workshop) -> None:
    path = "coordination/worker-specs/archived/w-1.json"
    write(workshop, damaged("failed"), path)
    done = workshop.repair("repair-spec")
    assert done.state == "done", done.error
    assert done.plan["warnings"] == []
    assert workshop.read(path)["last"] is None


def test_its_processes_are_not_touched(workshop: Workshop) -> None:
    write(workshop, damaged("running"))
    process = workshop.fleet.headless("w-1")
    done = workshop.repair("repair-spec")
    assert done.state == "done"
    assert process.poll() is None
    assert done.evidence is None


# -- who may, and where it stands


@pytest.mark.parametrize("action", OF_A_FILE)
def test_only_unreadable_files_are_a_case(action: Any) -> None:
    for live in (True, False):
        cases = {health for health in Health if not objection(action, factories.build(health, live=live))}
        assert cases == {Health.UNREADABLE}
    assert objection(action, factories.build(Health.HEALTHY)) == (
        "Its file can be parsed, so nothing has to be done about it"
    )


def test_viewers_may_not(workshop: Workshop) -> None:
    write(workshop, damaged())
    worker = workshop.worker_after_cycle()
    for name, allowed in (("viewer", False), ("operator", True), ("admin", True)):
        user = person(name, name)
        asks = ask.Person(name, "browser", user=user)
        for action in OF_A_FILE:
            if allowed:
                ask.draft(action, asks, worker)
            else:
                with pytest.raises(NotAllowed):
                    ask.draft(action, asks, worker)


def test_the_page_of_an_unreadable_run_offers_them_first(workshop: Workshop, as_operator: Client) -> None:
    write(workshop, damaged())
    found = buttons(as_operator, workshop.worker_after_cycle())
    assert list(found) == [action.name for action in (*OF_A_FILE, *OF_A_RUN)]
    assert {name for name, tag in found.items() if "disabled" not in tag} == {"repair-spec", "quarantine"}
    assert "primary" in found["repair-spec"]
    assert "must be repaired first" in found["restart"]
    write(workshop, b"{")
    found = buttons(as_operator, workshop.worker_after_cycle())
    assert "More than missing values" in found["repair-spec"]
    assert "primary" in found["quarantine"]


@pytest.mark.django_db
def test_the_fleet_offers_neither(as_operator: Client) -> None:
    factories.poller()
    worker = factories.add(Health.UNREADABLE)
    page = as_operator.get("/").content.decode()
    row = page[page.index(f'id="run-{worker.pk}"') :]
    row = row[: row.index("</tr>")]
    assert "View file" in row
    assert "checkbox" not in row
    assert 'value="repair-spec"' not in page


@pytest.mark.django_db
def test_the_admin_offers_them_for_many_and_asks_for_no_number(as_admin: Client) -> None:
    factories.poller()
    chosen = [factories.add(Health.UNREADABLE, number).pk for number in range(3)]
    page = as_admin.get("/admin/workers/worker/").content.decode()
    assert '<option value="repair-spec">' in page
    as_admin.post("/admin/workers/worker/", {"action": "quarantine", "_selected_action": chosen})
    batch = RemediationBatch.objects.get()
    assert batch.remediations.count() == 3
    batch.remediations.update(state="planned", plan={"steps": [], "relies_on": {}, "warnings": [], "asks": ""})
    asks = ask.Person("kim", "command line")
    assert ask.confirm_many(batch, asks, expect=None) == []


def test_the_copied_command_names_the_very_file(workshop: Workshop) -> None:
    """The same id may be another's too, as that of a live run; the file is what it is about."""
    path = "coordination/worker-specs/archived/w-1.json"
    workshop.zombie()
    write(workshop, b"{", path)
    workshop.cycle()
    worker = next(each for each in Remediation._meta.get_field("worker").related_model.objects.filter(path=path))
    asked = ask.request(QUARANTINE, workshop.person, worker)
    shown = card(asked.pk, timezone.now())
    assert shown is not None
    assert shown.command.startswith(f"manage.py remediate quarantine {path} --reason ")


def test_a_healthy_worker_cannot_be_asked_for(workshop: Workshop) -> None:
    workshop.zombie()
    worker = workshop.worker_after_cycle()
    for action in OF_A_FILE:
        with pytest.raises(Refusal, match="can be parsed"):
            ask.draft(action, workshop.person, worker)
    assert {action.name for action in OF_A_FILE} <= set(ACTIONS)


# -- the command line


def test_the_command_line_repairs_and_takes_back(shell: Shell) -> None:
    before = damaged()
    path = shell.home.write(PATH, before)
    dry = shell.type("repair-spec", "w-1", "--dry-run")
    assert '+ "last": null}' in dry.stdout
    assert path.read_bytes() == before
    (row,) = shell.json("repair-spec", "w-1", "--reason", "Nightly")
    assert (row["worker_id"], row["action"], row["state"]) == ("w-1", "repair-spec", "done")
    assert [step["kind"] for step in row["steps"]] == ["mend", "event"]
    assert json.loads(path.read_bytes())["last"] is None
    (row,) = shell.json("undo", str(row["id"]))
    assert row["state"] == "done"
    assert path.read_bytes() == before
    assert shell.events() == ["worker_spec_repaired", "remediation_undone"]


def test_the_command_line_takes_many_and_paths_and_says_what_it_refuses(shell: Shell) -> None:
    for number in range(3):
        shell.home.write(f"{ACTIVE}/w-{number}.json", damaged().replace(b"w-1", b"w-%d" % number))
    shell.home.write(f"{ACTIVE}/bad.json", b"{")
    rows = shell.json("repair-spec", "w-0", f"{ACTIVE}/w-1.json", "w-2", "bad", code=3)
    assert [row["state"] for row in rows] == ["done", "done", "done", "refused"]
    (row,) = shell.json(*shlex.split(f"quarantine {ACTIVE}/bad.json"))
    assert row["state"] == "done"
    assert not (shell.home.path / f"{ACTIVE}/bad.json").exists()
