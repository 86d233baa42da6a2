"""`tacit rules`: which rules there are, and what a contract or a run breaks."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.output import AsJson, print_json, print_rich
from privacy.errors import InputError

if TYPE_CHECKING:
    from federation.compliance import Finding, Rule
    from federation.compliance.rule import Language

app = typer.Typer(no_args_is_help=True)
_BROKEN = 1

Target = Annotated[Path, typer.Argument(help="A data contract or a run config (YAML).")]
Rules = Annotated[
    str | None,
    typer.Option(
        "--rules", help="baseline, finance_cn or a file; else the home's rules.yaml, else baseline."
    ),
]
Lang = Annotated[str, typer.Option("--lang", help="en or zh.")]


@app.command("list")
def list_rules(rules: Rules = None, lang: Lang = "en", as_json: AsJson = False) -> None:
    """List the rules: what each looks at, whether it refuses, where it comes from."""
    from federation.compliance import rules_digest, rules_facts, rules_table

    language = _language(lang)
    chosen = _chosen(rules)
    digest = rules_digest(chosen)
    if as_json:
        print_json({"digest": digest, "rules": rules_facts(chosen)})
    else:
        print_rich(rules_table(chosen, digest, language))


@app.command()
def check(target: Target, rules: Rules = None, lang: Lang = "en", as_json: AsJson = False) -> None:
    """Say what a contract or a run breaks, and what mends it. Exit 1 if a rule refuses it."""
    from federation.compliance import findings_facts, findings_table, refused, rules_digest

    language = _language(lang)
    chosen = _chosen(rules)
    findings = _findings(target, chosen)
    broken = bool(refused(findings))
    if as_json:
        print_json(
            {
                "target": str(target),
                "rules": rules_digest(chosen),
                "refused": broken,
                "findings": findings_facts(findings),
            }
        )
    else:
        print_rich(findings_table(findings, language))
    if broken:
        raise typer.Exit(_BROKEN)


def _language(lang: str) -> "Language":
    from federation.compliance.rule import LANGUAGES

    for language in LANGUAGES:
        if lang == language:
            return language
    raise InputError(f"--lang {lang}: choose {' or '.join(LANGUAGES)}.")


def _chosen(rules: str | None) -> "tuple[Rule, ...]":
    from federation.compliance import load_rules
    from federation.home import open_home

    return load_rules(rules, home=open_home().root)


def _findings(target: Path, rules: "tuple[Rule, ...]") -> "tuple[Finding, ...]":
    from pydantic import BaseModel, ConfigDict

    from clients.contract import load_contract
    from clients.frozen import read_yaml
    from federation.compliance import check_contract, plan_findings
    from federation.config import load_project

    class First(BaseModel):
        """What tells the two apart: a contract has a number there, a run config a path."""

        model_config = ConfigDict(frozen=True, strict=True, extra="ignore")
        contract: object

    now = datetime.now(UTC)
    if isinstance(read_yaml(First, target).contract, str):
        return plan_findings(load_project(target), rules, at=now)
    return check_contract(rules, load_contract(target), now)
