"""docs/reference/ has every public name, with an example that uses it."""

import ast
import re
from pathlib import Path

from tests.docs.pages import ROOT, text_of

from awx_ratelimit import errors

SOURCE = ROOT / "src/awx_ratelimit"
PAGES = sorted(f"docs/reference/{path.name}" for path in (ROOT / "docs/reference").glob("*.md"))
_SECTION = re.compile(r"^## (.+?)\n\n```python\n(.*?)```\n\n^::: ([\w.]+)$", re.MULTILINE | re.DOTALL)
#: The path of each documented name, with the heading and the example of its section.
SECTIONS = {path: (heading, code) for page in PAGES for heading, code, path in _SECTION.findall(text_of(page))}
#: Names that users import from another module, which documents them.
_ELSEWHERE = ("backends.", "core.", "http.", "runtime.", "errors.")
_SHOWN_ELSEWHERE = {
    "awx_ratelimit.UsageHistory": "awx_ratelimit.keys.UsageHistory",
    "awx_ratelimit.QuotaWarnings": "awx_ratelimit.keys.QuotaWarnings",
    "awx_ratelimit.management.Owner": "awx_ratelimit.console.Owner",
}
_EXPLAINED = ("ExplainedRule", "ExplainedCaller", "ExplainedBudget", "ExplainedLimit")
_OF_KEYS = (
    *("usage_reports.UsageReports", "usage_reports.UsagePeriod", "usage_reports.BusyKey"),
    *("operator_reports.OperatorReports", "operator_reports.ShadowRefusals"),
    *("storage.operator_queries.AccountUsage", "storage.operator_queries.AccountShadows"),
    *("key_tracing.KeyTracing", "models.TracedKey", "usage_export.ExportedHours"),
)
#: Modules for users that have no `__all__`.
_FURTHER = ["awx_ratelimit.adapters.fastapi.limit", "awx_ratelimit.adapters.fastapi.document_limits"]
_FURTHER += [f"awx_ratelimit.adapters.ninja.{name}" for name in ("Throttle", "limit", "on_throttled")]
_FURTHER += [f"awx_ratelimit.http.explain.{name}" for name in ("explain_path", "request_to")]
#: Docstrings of public names say that the arguments are those of these classes.
_FURTHER += ["awx_ratelimit.http.route_limit.RouteLimit", "awx_ratelimit.core.function_limit.FunctionLimit"]
#: What public members return, which tests/docs/test_reference_members.py finds.
_FURTHER += [f"awx_ratelimit.http.explanation.{name}" for name in ("Explanation", *_EXPLAINED)]
_FURTHER += [f"awx_ratelimit.testing.drivers.{name}" for name in ("Driver", "AsgiDriver", "WsgiDriver", "Response")]
_FURTHER += [f"awx_ratelimit.keys.{name}" for name in _OF_KEYS] + ["awx_ratelimit.http.policy.Admission"]


def _public_names() -> set[str]:
    """The path of every name in the `__all__` of a module for users, and of every exception."""
    found = {f"awx_ratelimit.errors.{name}" for name, each in vars(errors).items() if _is_error(each)}
    for path in SOURCE.rglob("*.py"):
        module = str(path.relative_to(SOURCE)).removesuffix(".py").removesuffix("__init__").replace("/", ".")
        if not module.startswith(_ELSEWHERE):
            prefix = f"awx_ratelimit.{module}".rstrip(".")
            found |= {f"{prefix}.{name}" for name in _all_of(path)}
    return found | set(_FURTHER)


def _is_error(each: object) -> bool:
    return isinstance(each, type) and issubclass(each, errors.AwxRateLimitError)


def _all_of(path: Path) -> list[str]:
    """The names in `__all__`, and those that type checkers alone see there."""
    statements = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assign | ast.AugAssign)
    ]
    return [name for node in statements if _is_all(node) for name in ast.literal_eval(node.value)]


def _is_all(node: ast.Assign | ast.AugAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _documented(name: str) -> str:
    """The path under which a page documents a public name."""
    exported = f"awx_ratelimit.{name.rpartition('.')[2]}"
    if name.startswith("awx_ratelimit.errors.") and exported in SECTIONS:
        return exported
    return _SHOWN_ELSEWHERE.get(name, name)


def test_every_public_name() -> None:
    """Every public name has a section in the reference."""
    names = _public_names()

    assert len(names) > 120
    assert {name for name in names if _documented(name) not in SECTIONS} == set()


def test_nothing_but_public_names() -> None:
    """The reference has sections of public names alone."""
    assert set(SECTIONS) - {_documented(name) for name in _public_names()} == set()


def test_every_directive_has_an_example() -> None:
    """Every name that a page inserts stands in a section with an example."""
    inserted = re.findall(r"^::: ([\w.]+)$", "\n".join(map(text_of, PAGES)), re.MULTILINE)

    assert sorted(inserted) == sorted(SECTIONS)


def test_examples() -> None:
    """The heading of a section and its example contain the name."""
    names = {path: path.rpartition(".")[2] for path in SECTIONS}

    assert [path for path, (heading, _) in SECTIONS.items() if heading.rpartition(".")[2] != names[path]] == []
    assert [path for path, (_, code) in SECTIONS.items() if not re.search(rf"\b{names[path]}\b", code)] == []
