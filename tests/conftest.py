"""What all tests share: an environment of their own, people with roles, and a small home on disk."""

from __future__ import annotations

import os
import signal
import tempfile

# Before Django reads the environment: no test may see, or write into, a home or a state that is not its own.
for _name in [name for name in os.environ if name.startswith("RELAY_")]:
    del os.environ[_name]
for _name in ("COMMIT_RELAY_HOME", "CORTEX_HOME", "DATABASE_URL", "SECRET_KEY", "ALLOWED_HOSTS", "DEBUG"):
    os.environ.pop(_name, None)
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="relay-tests-")
os.environ["RELAY_HOST"] = "host-a"
# A shell that starts tests in the background ignores SIGINT for them, and so for whatever they start
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["DJANGO_SETTINGS_MODULE"] = "relay_web.settings"  # named in pyproject.toml, it would be read before this

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import pytest

django.setup()

from .running import Place

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client

    from .repairs import Workshop


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give every test to whichever worker is free, but all that drive the browser to one, and those first."""
    from xdist.scheduler import LoadScopeScheduling

    class BrowserOnOneWorker(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "browser" if nodeid.startswith("tests/browser/") else nodeid

    return BrowserOnOneWorker(config, log)


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Home:
    """A coordination home in a temporary directory, and short ways to write into it as a fleet does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.specs = path / "coordination" / "worker-specs"
        self.made_at = datetime.now(UTC)  # a spec that is written again is that of the same run, also a second later
        (self.specs / "active").mkdir(parents=True)

    def spec(self, worker_id: str = "w-1", directory: str = "active", name: str = "", **values: Any) -> Path:
        """Write a spec of the usual shape; dotted names reach inward: ``execution__started_at``."""
        spec: dict[str, Any] = {
            "worker_id": worker_id,
            "worker_type": "implementation-worker",
            "task_id": f"task-{worker_id}",
            "parent_master": "development-master",
            "status": "running",
            "created_at": iso(self.made_at - timedelta(minutes=30)),
            "context": {},
            "resources": {"time_limit_minutes": 45},
            "execution": {"started_at": iso(self.made_at - timedelta(minutes=5))},
        }
        for key, value in values.items():
            target, *rest = reversed(key.split("__"))
            inner = spec
            for part in reversed(rest):
                inner = inner.setdefault(part, {})
            inner[target] = value
        path = self.specs / directory / f"{name or worker_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(spec))
        return path

    def pm(self, **entries: dict[str, Any]) -> Path:
        """Write pm-state.json with these monitored workers."""
        monitored = {name.replace("_", "-"): value for name, value in entries.items()}
        state = {"pm_daemon": {"pid": 1, "last_loop": iso(datetime.now(UTC))}, "monitored_workers": monitored}
        path = self.path / "coordination" / "pm-state.json"
        replace_file(path, json.dumps(state))
        return path

    def write(self, relative: str, text: str | bytes) -> Path:
        path = self.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def append(self, relative: str, text: str | bytes) -> Path:
        path = self.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)
        return path


def replace_file(path: Path, text: str) -> None:
    """Write as jq and mv do: aside, then renamed into place."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def powerless() -> Iterator[None]:
    """Be a user who may not read everything; root may."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def open_home() -> Iterator[Home]:
    """A home that another user may reach; pytest's own directories are private."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Home(Path(directory) / "home")


@pytest.fixture
def bare_place(tmp_path: Path, home: Home) -> Iterator[Place]:
    """The commands as real processes on the home, and no database yet."""
    place = Place(tmp_path, home.path)
    yield place
    place.stop()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as the migrations make it, to be copied: they take a second each time."""
    place = Place(tmp_path_factory.mktemp("migrated"), None)
    done = place.run("migrate", "-v0")
    assert done.returncode == 0, done.stderr
    return place.database


@pytest.fixture
def place(bare_place: Place, migrated: Path) -> Place:
    """The commands as real processes on the home, with a database of their own in which nothing is yet."""
    shutil.copyfile(migrated, bare_place.database)
    return bare_place


@pytest.fixture
def workshop(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """A home whose workers can be repaired in the test's own thread."""
    from workers.remediation.steps import memory, start, stop

    from .repairs import Workshop

    monkeypatch.setattr(memory, "QUIET", 0.1)
    monkeypatch.setattr(stop, "AGAIN", 0.1)
    monkeypatch.setattr(start, "STEADY", 0.1)
    workshop = Workshop(tmp_path / "home", tmp_path / "state")
    yield workshop
    workshop.close()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' database in a file: the live tail and servers of other processes open it for themselves."""
    from django.db import connections

    path = tmp_path_factory.mktemp("database") / "test.sqlite3"
    connections.settings["default"].setdefault("TEST", {})["NAME"] = str(path)


def person(name: str, *roles: str) -> User:
    """Make somebody with these roles, whose password is their name."""
    from django.contrib.auth.hashers import PBKDF2PasswordHasher
    from django.contrib.auth.models import Group, User

    # One round and not a million: a quarter of a second for everybody in a thousand tests is minutes
    user = User.objects.create(username=name, password=PBKDF2PasswordHasher().encode(name, "salt", 1))
    user.groups.set(Group.objects.filter(name__in=roles))
    if "admin" in roles:
        user.is_staff = True
        user.save(update_fields=["is_staff"])
    return user


def client_of(user: User) -> Client:
    from django.test import Client

    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def viewer(db: None) -> User:
    return person("viewer", "viewer")


@pytest.fixture
def operator(db: None) -> User:
    return person("operator", "operator")


@pytest.fixture
def admin_user(db: None) -> User:
    return person("admin", "admin")


@pytest.fixture
def as_viewer(viewer: User) -> Client:
    return client_of(viewer)


@pytest.fixture
def as_operator(operator: User) -> Client:
    return client_of(operator)


@pytest.fixture
def as_admin(admin_user: User) -> Client:
    return client_of(admin_user)
