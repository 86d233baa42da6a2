"""`tacit`: the verbs, and how every failure ends: one sentence, an exit code, no traceback."""

import logging
import os
import sys

import click
import typer

from federation.cli import (
    audit,
    budget,
    coordinator,
    data,
    demo,
    model,
    node,
    registry,
    rules,
    run,
    scenario,
    terms,
)
from federation.cli import federation as federation_cli
from privacy.errors import TacitError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated learning for data that may not be shared: models learn what stays unsaid.",
)
app.command("demo")(demo.demo)
app.add_typer(run.app, name="run", help="Plan, launch, watch and end training runs.")
app.add_typer(federation_cli.app, name="federation", help="Begin one, and say who is in it.")
app.add_typer(coordinator.app, name="coordinator", help="Carry a federation's runs.")
app.add_typer(node.app, name="node", help="Join a federation, and take part in its runs.")
app.add_typer(data.app, name="data", help="Describe, check and gate a member's data.")
app.add_typer(model.app, name="model", help="Explain models, and score with reasons.")
app.add_typer(budget.app, name="budget", help="See what privacy was spent.")
app.add_typer(audit.app, name="audit", help="Verify what was recorded.")
app.add_typer(registry.app, name="registry", help="Serve ledgers and proofs to members.")
app.add_typer(rules.app, name="rules", help="See the rules, and what a contract or run breaks.")
app.add_typer(scenario.app, name="scenario", help="Worked examples, from readings to terms.")
app.add_typer(terms.app, name="terms", help="Grades, limits and premiums from indicators.")

NODE_PACKAGES = frozenset(
    {"fastapi", "flwr", "google", "grpc", "jinja2", "matplotlib", "msgspec", "numpy", "pandas"}
    | {"pyarrow", "pydantic", "safetensors", "sklearn", "starlette", "torch", "uvicorn", "yaml"}
)
STOPPED = 1
INTERRUPTED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Run the command line and exit: 0 done, 1 refused or not verified, 2 wrong usage."""
    logging.raiseExceptions = False  # a log that cannot be written ends in no traceback
    try:
        result = app(standalone_mode=False)
    except TacitError as failure:
        _say(str(failure))
        sys.exit(failure.exit_code)
    except ModuleNotFoundError as failure:
        if (failure.name or "").split(".")[0] not in NODE_PACKAGES:
            raise
        _say(
            "This verb needs what a node has; install it with: pip install 'tacit-fl[node]'. "
            "(The core alone verifies ledgers.)"
        )
        sys.exit(2)
    except click.ClickException as failure:
        failure.show(sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        result = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone
        sys.exit(STOPPED)
    except OSError as failure:
        where = failure.filename or "a file"
        _say(f"{where}: {failure.strerror or failure}; free some space or choose another folder.")
        sys.exit(1)
    if result == INTERRUPTED:
        _say("Stopped by hand; what was committed is kept, nothing is half written.")
        sys.stdout.flush()
        sys.stderr.flush()
        _give_semaphores_back()
        # all is on disk and the workers were ended: no queue of theirs may hold up a Ctrl-C
        os._exit(STOPPED)
    sys.exit(result if isinstance(result, int) else 0)


def _give_semaphores_back() -> None:
    """Give back what the workers' queues were locked by, where there were any.

    It would be given back without us, and said to have leaked, on the terminal, after we are gone.
    """
    known = sys.modules.get("multiprocessing.util")
    if known is None:
        return
    from multiprocessing import active_children

    for worker in active_children():
        worker.kill()  # one that only begins would miss them, and say so
    known._run_finalizers(0)  # noqa: SLF001 - queues are joined by those below 0


def _say(sentence: str) -> None:
    text = " ".join(sentence.split())
    sys.stderr.write(f"tacit: {text}\n")


if __name__ == "__main__":
    main()
