"""The manual's table of who may call what is the one that holds."""

from support.cli import ROOT

from federation.registry.access import Method, Role, Scope, scope_of
from federation.registry.guard import _SERVICES


def test_the_manual_has_every_cell_of_the_table() -> None:
    manual = (ROOT / "docs" / "registry.md").read_text("utf-8")
    lines = [line.strip("| \n").split(" | ") for line in manual.splitlines() if line[:2] == "| "]
    head = next(cells for cells in lines if cells[:2] == ["service", "call"])
    roles = [Role(name) for name in head[2:]]
    assert set(roles) == set(Role)
    told = {
        (service, Method(call), role): cell
        for service, call, *cells in (row for row in lines if len(row) == len(head) and row != head)
        for role, cell in zip(roles, cells, strict=True)
    }
    holds = {
        (path.strip("/").rpartition(".")[2], method, role): scope_of(role, method)
        for path, methods in _SERVICES.items()
        for method in methods
        for role in Role
    }
    assert told == {
        key: "no" if scope is Scope.NONE else scope.value for key, scope in holds.items()
    }
