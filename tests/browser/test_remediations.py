"""What a person at the button does, on the demo fleet's real processes: look, press, watch, take back."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, JSHandle, Locator, Page, expect

from tests.running import Place, lives, read_until, until

from .conftest import complaints_of, live, photograph_failure

SPECS = "coordination/worker-specs"


@dataclass(frozen=True)
class Run:
    """A worker of the demo, as the database has it."""

    key: int
    worker_id: str
    path: str
    pids: tuple[int, ...]


class Demo:
    """The whole product on the demo fleet, as one process tree."""

    def __init__(self, directory: Path) -> None:
        self.place = Place(directory, None)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        process = self.place.start("relay", "--demo", "--port", str(port))
        self.password = read_until(process, r"with the password (\S+)")[1]
        self.home = Path(read_until(process, r"is up in (\S+);")[1])
        self.place.database = self.home.parent / "demo.sqlite3"
        self._states: dict[str, Any] = {}
        until(lambda: self.runs("zombie") and self.runs("stalled"), 60, "the first verdicts")

    def runs(self, health: str, where: str = "live") -> list[Run]:
        """The runs of this health, those with the least progress first: they have the longest to live."""
        found = self.place.query(
            "SELECT id, worker_id, path, processes FROM workers_worker"
            f" WHERE health = '{health}' AND {where} ORDER BY progress_pct, id"
        )
        return [
            Run(key, name, path, tuple(process["pid"] for process in json.loads(processes)))
            for key, name, path, processes in found
        ]

    def emitter_of(self, run: Run) -> bool:
        """Whether a companion rewrites its spec."""
        return (self.home / "agents/workers" / run.worker_id / "heartbeat.pid").exists()

    def remediate(self, command: str) -> Any:
        """Run a copied command as somebody would in a terminal on this host."""
        program, *words = shlex.split(command)
        assert program == "manage.py"
        return self.place.run(
            *words,
            RELAY_DEMO="1",
            COMMIT_RELAY_HOME=str(self.home),
            DATABASE_URL=f"sqlite:///{self.place.database}",
            RELAY_HOST="demo",
        )

    def session_of(self, browser: Browser, role: str) -> Any:
        """What the browser of somebody with this role keeps after signing in."""
        if role not in self._states:
            context = browser.new_context(base_url=self.url)
            page = context.new_page()
            page.goto("/accounts/login/")
            page.get_by_label("User name").fill(role)
            page.get_by_label("Password").fill(self.password)
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator("#tiles")).to_be_visible()
            self._states[role] = context.storage_state()
            context.close()
        return self._states[role]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.place.stop()


@pytest.fixture
def seat(browser: Browser, demo: Demo, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Page]]:
    """A browser of its own for each person, signed in. The test fails on whatever a console complains about."""
    pages: list[tuple[Page, list[str]]] = []

    def sit(role: str) -> Page:
        state = demo.session_of(browser, role)
        context = browser.new_context(
            base_url=demo.url, storage_state=state, viewport={"width": 1440, "height": 900}, timezone_id="UTC"
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        pages.append((page, complaints_of(page)))
        return page

    yield sit
    for number, (page, _) in enumerate(pages):
        photograph_failure(page, request, f"-{number}")
        page.context.close()
    assert not [text for _, complaints in pages for text in complaints]


@pytest.fixture
def operator_page(seat: Callable[[str], Page]) -> Page:
    return seat("operator")


def open_worker(page: Page, run: Run) -> None:
    page.goto(f"/workers/{run.worker_id}/?run={run.key}")
    live(page)
    page.evaluate("window.stayed = true")


def press(page: Page, action: str) -> Locator:
    """Press the button of an action beside a worker; return the card with its preview."""
    page.locator("#remediate").get_by_role("button", name=re.compile(f"^{action}")).click()
    return planned(page)


def planned(page: Page) -> Locator:
    card = page.locator("#preview [data-remediation]")
    expect(card).to_have_attribute("data-state", "planned")
    return card


def confirm(card: Locator, label: str) -> None:
    card.get_by_role("button", name=re.compile(f"^{label} ")).click()


def finished(card: Locator, seconds: float = 20) -> None:
    expect(card).to_have_attribute("data-state", "done", timeout=seconds * 1000)
    assert set(card.locator(".step").evaluate_all("all => all.map(each => each.className)")) == {"step done"}


def texts_of(page: Page, selector: str) -> JSHandle:
    """Every text that an element shows from now on, however briefly."""
    return page.evaluate_handle(
        """(selector) => {
            const seen = new Set();
            new MutationObserver(() => {
                document.querySelectorAll(selector).forEach((each) => seen.add(each.textContent));
            }).observe(document.body, { subtree: true, childList: true, characterData: true });
            return seen;
        }""",
        selector,
    )


def texts_seen(seen: JSHandle) -> set[str]:
    return {re.sub(r"\s+", " ", text).strip() for text in seen.evaluate("(seen) => [...seen]")}


def test_a_stalled_worker_is_restarted(operator_page: Page, demo: Demo) -> None:
    page, run = operator_page, demo.runs("stalled")[0]
    open_worker(page, run)
    card = press(page, "Restart")
    for pid in run.pids:
        expect(card.locator(".pids")).to_contain_text(str(pid))
    expect(card.locator(".pids")).to_contain_text(re.compile("execute.sh|start-worker.sh|claude"))
    expect(card.locator(".diff .out").first).to_contain_text('"status": "running"')
    expect(card.locator(".diff .in").first).to_contain_text('"status": "pending"')
    expect(card.locator(".steps")).to_contain_text(f"start-worker.sh --spec {demo.home}/{run.path}")
    assert all(lives(pid) for pid in run.pids), "a preview touches nothing"
    seen = texts_of(page, "#preview .steps")
    card.get_by_label("Reason, for the record").fill("it hung on the network")
    confirm(card, "Restart")
    finished(card, 60)
    moments = {(text.count("done:"), text.count("running:")) for text in texts_seen(seen)}
    assert len(moments) > 2, "they went done one after the other"
    assert (5, 0) in moments
    expect(page.locator("#head .badge")).to_have_text("●Healthy")
    expect(page.locator("#remediations li").first).to_contain_text("done")
    expect(card).to_contain_text("“it hung on the network”")
    assert page.evaluate("window.stayed"), "all that without a reload"
    assert not any(lives(pid) for pid in run.pids)


def test_a_zombie_is_cleaned_up_from_its_row_and_put_back_byte_for_byte(operator_page: Page, demo: Demo) -> None:
    page = operator_page
    run = next(run for run in demo.runs("zombie") if not demo.emitter_of(run))
    active, failed = demo.home / run.path, demo.home / SPECS / "failed" / f"{run.worker_id}.json"
    before = active.read_bytes()
    page.goto("/?health=zombie")
    live(page)
    row = page.locator(f"#run-{run.key}")
    row.get_by_text("Clean up…").click()
    dialog = page.get_by_role("dialog", name="Remediation")
    card = planned(page)
    expect(dialog).to_be_visible()
    expect(card.locator("h2")).to_contain_text(run.worker_id)
    expect(card).to_contain_text("Zombie worker - no process found")
    assert active.read_bytes() == before
    confirm(card, "Clean up")
    finished(card)
    expect(row.locator(".badge")).to_have_text("–Failed")
    assert not active.exists()
    assert json.loads(failed.read_bytes())["error"] == "Zombie worker - no process found"
    card.get_by_role("button", name="Undo…").click()
    card = planned(page)
    expect(card).to_contain_text("It starts no process")
    confirm(card, "Undo")
    finished(card)
    expect(row.locator(".badge")).to_have_text("◌Zombie")
    assert active.read_bytes() == before
    assert not failed.exists()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.goto("/remediations/?action=clean-up")
    expect(page.locator("tr[data-remediation-row]").first).to_contain_text("undone")


def test_a_healthy_one_is_force_failed_while_somebody_else_looks_on(seat: Callable[[str], Page], demo: Demo) -> None:
    page, other = seat("operator"), seat("viewer")
    run = demo.runs("healthy", "live AND pid IS NOT NULL AND NOT overdue")[0]
    open_worker(page, run)
    open_worker(other, run)
    buttons = other.locator("#remediate button")
    expect(buttons.nth(2)).to_have_text("Force fail Your role may not do that; ask an operator or an admin")
    list_page = seat("viewer")
    list_page.goto("/remediations/")
    live(list_page)
    card = press(page, "Force fail")
    expect(list_page.locator("#pill")).to_contain_text("Something new")
    list_page.locator("#pill a").click()
    row = list_page.locator("tr[data-remediation-row]").first
    expect(row).to_contain_text(run.worker_id)
    expect(row).to_contain_text("planned")
    live(list_page)
    seen = texts_of(other, "#remediate")
    confirm(card, "Force fail")
    finished(card)
    assert not any(lives(pid) for pid in run.pids)
    spec = json.loads((demo.home / SPECS / "failed" / f"{run.worker_id}.json").read_bytes())
    assert spec["status"] == "failed"
    assert spec["error"].startswith("Manual termination")
    expect(row).to_contain_text("done")
    expect(other.locator("#head .badge")).to_have_text("–Failed")
    expect(other.locator("#remediations li").first).to_contain_text("Force fail by operator")
    expect(other.locator("#remediations .outcome").first).to_have_text("done")
    assert any("operator has begun: force fail" in text for text in texts_seen(seen))
    expect(buttons.nth(3)).to_have_text("Recover task Your role may not do that; ask an operator or an admin")
    assert all(buttons.nth(number).is_disabled() for number in range(4)), "a push brings nobody a button"
    assert other.evaluate("window.stayed")


def test_a_task_is_recovered_and_its_new_worker_linked(operator_page: Page, demo: Demo) -> None:
    page = operator_page
    run = demo.runs("failed", "task_id <> '' AND description <> '' AND directory = 'failed'")[0]
    open_worker(page, run)
    card = press(page, "Recover task")
    expect(card.locator(".steps")).to_contain_text("create-task.sh --description")
    expect(card.locator(".steps")).to_contain_text("--priority high")
    confirm(card, "Recover task")
    finished(card)
    link = card.get_by_role("link", name=re.compile("done by"))
    expect(link).to_be_visible()
    expect(card.locator(".lineage a")).to_have_count(2)
    assert page.evaluate("window.stayed"), "it appeared by itself"
    link.click()
    expect(page.locator("#facts")).to_contain_text("high")
    expect(page.locator(".lineage a")).to_have_count(2)


def test_failed_is_archived_and_taken_out_again(operator_page: Page, demo: Demo) -> None:
    page, failed = operator_page, demo.home / SPECS / "failed"
    page.goto("/remediations/")
    page.get_by_role("button", name="Archive failed/…").click()
    card = planned(page)
    live(page)
    before = {path.name: path.read_bytes() for path in failed.glob("*.json")}
    card.locator("details summary").first.click()
    expect(card.locator(".pids")).to_contain_text(min(before))
    confirm(card, "Archive failed")
    finished(card)
    target = max((demo.home / SPECS / "archived").glob("failed-*"))
    assert before.keys() <= {path.name for path in target.iterdir()}
    assert not before.keys() & {path.name for path in failed.iterdir()}
    card.get_by_role("button", name="Undo…").click()
    card = planned(page)
    confirm(card, "Undo")
    finished(card)
    assert {path.name: path.read_bytes() for path in failed.glob("*.json")}.items() >= before.items()


def test_a_preview_that_is_no_longer_true_is_not_carried_out(operator_page: Page, demo: Demo) -> None:
    page = operator_page
    run = next(run for run in demo.runs("late") if not demo.emitter_of(run))
    open_worker(page, run)
    card = press(page, "Force fail")
    path = demo.home / run.path
    spec = json.loads(path.read_bytes())
    spec["execution"]["started_at"] = "2026-01-02T03:04:05Z"
    draft = path.with_name(f".{path.name}.of-a-colleague")
    draft.write_text(json.dumps(spec))
    draft.replace(path)
    confirm(card, "Force fail")
    expect(card).to_have_attribute("data-state", "refused")
    expect(card.get_by_role("alert")).to_contain_text("has changed since the preview, so nothing was done")
    assert json.loads(path.read_bytes()) == spec
    assert all(lives(pid) for pid in run.pids)
    card.get_by_role("link", name="See the new preview").click()
    expect(planned(page)).to_contain_text("In the place of")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#preview [data-remediation]")).to_contain_text("Nothing has happened")


def test_its_command_does_the_same(operator_page: Page, demo: Demo) -> None:
    page, run = operator_page, demo.runs("crashed")[0]
    open_worker(page, run)
    card = press(page, "Clean up")
    card.get_by_role("button", name="Copy as command").click()
    expect(card.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    done = demo.remediate(f"{command} --json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout.splitlines()[-1])
    assert (result["worker_id"], result["action"], result["state"]) == (run.worker_id, "clean-up", "done")
    assert len(result["steps"]) == card.locator(".step").count()
    expect(page.locator("#head .badge")).to_have_text("–Failed")
    expect(page.locator("#remediations li").first).to_contain_text("done")
    confirm(card, "Clean up")
    expect(card).to_have_attribute("data-state", "refused")


def test_many_are_force_failed_behind_the_guard(operator_page: Page, demo: Demo) -> None:
    """More than half of the fleet goes; the last test here, for that reason."""
    page = operator_page
    page.goto("/?health=healthy,late,stalled")
    live(page)
    page.get_by_label("Select all on this page").check()
    page.locator("#selection").get_by_role("button", name="Force fail…").click()
    expect(page).to_have_url(re.compile(r"/remediations/many/\d+/$"))
    live(page)
    rows = page.locator("tr[data-remediation-row]")
    total = rows.count()
    before = [run for health in ("healthy", "late", "stalled") for run in demo.runs(health)]
    # one that ended by itself since the page of the fleet was read is refused
    planned = re.compile(rf"\d of {total} finished: (\d+) planned(, \d refused)?\s*$")
    expect(page.locator(".batch-summary")).to_have_text(planned)
    said = planned.search(page.locator(".batch-summary").inner_text())
    assert said
    many = int(said[1])
    expect(page.get_by_role("alert")).to_contain_text(f"This is {many} of ")
    button = page.get_by_role("button", name="Force fail all that are planned")
    button.click()
    expect(page.get_by_label("Type how many")).to_be_focused()
    page.get_by_label("Type how many").fill(str(many + 1))
    button.click()
    expect(page.get_by_role("alert").first).to_contain_text(f"Give the number {many} to go on")
    assert any(lives(pid) for run in before for pid in run.pids)
    page.get_by_label("Type how many").fill(str(many))
    button.click()
    live(page)
    page.evaluate("window.stayed = true")
    seen = texts_of(page, "[data-remediation-row] .outcome")
    summary = page.locator(".batch-summary")
    ended = re.compile(r"^\s*\d+ of \d+ finished: (\d+ (done|failed|planned|refused)(, )?)+\s*$")
    expect(summary).to_have_text(ended, timeout=60_000)
    said = re.match(r"\s*(\d+) of \d+ finished", summary.inner_text())
    assert said
    expect(summary.locator("progress")).to_have_attribute("value", said[1])
    states = set(rows.locator(".outcome").all_inner_texts())
    if "planned" in summary.inner_text():  # one had changed since its preview, and waits to be confirmed anew
        expect(page.locator("#pill")).to_contain_text("Something new")
    else:
        assert said[1] == str(total)
        expect(button).to_be_hidden()
    assert states <= {"✓ done", "⊘ refused"}, "refused is only one that ended by itself meanwhile"
    assert "◔ running" in texts_seen(seen)
    assert page.evaluate("window.stayed")
    done = {
        key
        for (key,) in demo.place.query(
            "SELECT worker_id FROM workers_remediation WHERE batch_id = 1 AND state = 'done'"
        )
    }
    assert len(done) > total / 2
    assert not [run for run in before if run.key in done and any(lives(pid) for pid in run.pids)]
