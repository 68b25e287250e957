"""The house rules that a reader relies on: imports run one way, and the tree is as DESIGN draws it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: module of workers -> the modules of workers that it may import. Nobody imports views, consumers or commands.
ALLOWED: dict[str, set[str]] = {
    "coordination": {"coordination"},
    "health": {"coordination"},
    "processes": {"coordination"},
    "ownership": {"coordination", "processes"},
    "runs": {"coordination", "health"},
    "finding_kinds": {"remediation"},
    "integrity": {"coordination", "finding_kinds", "health", "runs"},
    "crosscheck": {"coordination", "integrity"},
    "finding_store": {"coordination", "finding_kinds", "integrity", "models", "remediation", "sql"},
    "secrets_at_rest": set(),
    "models": {"finding_kinds", "health", "incidents", "remediation", "secrets_at_rest"},
    "remediation": {"coordination", "health", "models", "ownership", "processes", "queries", "sql", "incident_store"},
    "sql": {"models"},
    "autopilot": {"health", "incidents", "models", "queries", "quiet", "remediation", "sql", "who"},
    "rows": {"coordination", "health", "incidents", "runs", "sql"},
    "incident_store": {"health", "incidents", "models", "sql"},
    "marks": {"models"},
    "fold_store": {
        "coordination",
        "folding",
        "incident_store",
        "incidents",
        "marks",
        "models",
        "runs",
        "spells",
        "sql",
    },
    "ingest": {"coordination", "health", "incident_store", "models", "ownership", "rows", "runs", "sql"},
    "cycle": {
        *("coordination", "health", "models", "runs", "ingest", "ownership", "processes", "sql"),
        *("crosscheck", "finding_kinds", "finding_store", "fold_store", "integrity", "marks"),
        "precautions",
    },
    "precautions": {"coordination"},
    "incidents": {"health"},
    "spells": {"incidents"},
    "folding": {"coordination", "health", "incidents", "spells"},
    "measures": {"health", "incidents"},
    "charts": {"charts"},
    "detection": {"health", "incidents"},
    "lease": {"models"},
    "retirement": {"health", "ingest", "lease", "models", "runs", "sql"},
    "params": {"coordination"},
    "quiet": set(),
    "alerting": {"health", "models", "quiet", "secrets_at_rest", "setting_rules", "sql", "who"},
    "attendant": {"models"},
    "retention": {"models"},
    "watch": set(),
    "database": set(),
    "setup": {"roles"},
    "roles": {"remediation"},
    "export": {"streaming"},
    "streaming": set(),
    "checks": set(),
    "supervisor": set(),
    "vitals": set(),
    "acknowledge": {"incident_store", "models"},
    "queries": {
        *("charts", "coordination", "detection", "finding_kinds", "health", "incidents", "measures", "models"),
        *("params", "remediation", "vitals"),
    },
    "fragments": {"autopilot", "queries", "remediation"},
    "outbox": set(),
    "door": set(),
    "screens": {"params", "queries"},
    "renderings": {"autopilot", "models", "queries", "fragments", "outbox", "remediation", "screens", "vitals"},
    "live": {"models", "queries", "fragments", "outbox", "door", "renderings", "screens", "vitals"},
    "readiness": {"models", "queries"},
    "metrics": {"health", "incidents", "models", "queries", "remediation", "vitals"},
    "log_text": {"coordination"},
    "logs": {"coordination", "models", "params"},
    "log_desk": {"coordination", "models", "logs"},
    "follow": {"coordination", "log_text"},
    "consumers": {"live", "door", "follow", "logs", "params", "screens", "vitals"},
    "templatetags": {
        *("alerting", "autopilot", "charts", "coordination", "health", "incidents", "log_text", "models"),
        *("remediation", "roles"),
    },
    "who": set(),
    "setting_changes": {"models", "secrets_at_rest", "who"},
    "setting_rules": {"health"},
    "settings_file": {"alerting", "models", "reports", "secrets_at_rest", "setting_changes", "setting_rules", "who"},
    "passphrase": set(),
    "system_user": set(),
    "reports": {"charts", "health", "incidents", "measures", "models", "queries"},
    "dead_man": {"models", "queries", "secrets_at_rest"},
    "admin": {
        *("alerting", "health", "incidents", "lease", "models", "queries", "remediation", "reports", "retirement"),
        *("roles", "secrets_at_rest", "setting_changes", "setting_rules", "sql", "who"),
    },
    "views": {
        *("views", "health", "models", "queries", "fragments", "door", "roles", "setup", "remediation", "export"),
        *("acknowledge", "alerting", "autopilot", "charts", "incidents", "logs", "metrics"),
        *("params", "streaming", "who"),
    },
    "demo": {"demo", "coordination"},
}


def imports(source: str, inside: tuple[str, ...]) -> set[str]:
    """The top modules of ``workers`` that a source imports, wherever in it; ``inside`` is its package below workers."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ("workers", *inside)[: len(inside) + 2 - node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("workers.")}
    return {name for name in found if (ROOT / "workers" / name).is_dir() or (ROOT / f"workers/{name}.py").is_file()}


def modules() -> list[Path]:
    return sorted(path for path in (ROOT / "workers").rglob("*.py") if "migrations" not in path.parts)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT / "workers").parts
    top = parts[0].removesuffix(".py")
    used = imports(path.read_text(), parts[:-1]) - {top}
    if top in ALLOWED:
        assert used <= ALLOWED[top], f"{top} must not import {sorted(used - ALLOWED[top])}"
    assert "management" not in used
    assert not used & {"views", "consumers"} or top == "urls", "nobody but the urls imports views or consumers"


def test_the_coordination_package_the_verdict_and_the_charts_know_no_django() -> None:
    packages = [path for name in ("charts", "coordination") for path in (ROOT / "workers" / name).glob("*.py")]
    for path in [*packages, ROOT / "workers/health.py", ROOT / "workers/runs.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert not (module or "").startswith("django"), path


def test_psutil_is_known_by_one_module() -> None:
    users = [path for path in modules() if "import psutil" in path.read_text()]
    assert [path.name for path in users] == ["processes.py"]


def test_a_wrong_edge_would_be_found() -> None:
    """The walk itself sees imports of every form, also inside functions."""
    source = "def f():\n    from .. import ingest\n    from ..views import fleet\n    import workers.models\n"
    assert imports(source, ("coordination",)) >= {"ingest", "views", "models"}


def test_no_tag_of_a_template_is_broken_over_two_lines() -> None:
    """Django takes such a one for text, and the page shows it to people."""
    texts = {path: path.read_text() for path in (ROOT / "templates").rglob("*.html")}
    broken = {path.name for path, text in texts.items() if re.search(r"\{\{[^}]*\n|\{%[^%]*\n", text)}
    assert texts
    assert not broken
