"""The `dragoman` command: finds the verb, imports it, and turns whatever goes wrong into one sentence and an exit code.

`dragoman --help` imports no verb: what it prints stands in VERBS, which a test keeps in step with the verbs themselves.
"""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from dragoman import __version__
from dragoman.cli.options import global_options

VERBS: dict[str, str] = {
    "serve": "Run the server.",
    "ask": "Ask one question and print the answer as it comes.",
    "chat": "Talk with the assistant, turn by turn.",
    "demo": "Send each system's documented examples through its own API.",
    "projects": "Projects: the tenants that own everything else.",
    "credentials": "Credentials: who may call, for what, and until when.",
    "workflows": "Workflows: import, check, publish, draw those of a project.",
    "conversations": "Conversations: list, read, export, import, delete.",
    "runs": "Runs: list, look at one's timeline, stop one, approve its calls.",
    "models": "Models: list them, and try one.",
    "tools": "Tools: list them, and call one.",
    "connectors": "Connectors: list, look at, delete those that people set up.",
    "mcp": "MCP servers: list, look at their tools, pin them.",
    "knowledge": "Knowledge: list, import, export, delete what assistants can recall.",
    "sources": "Sources: documents in which agents of workflows search.",
    "test-profiles": "Test profiles: who a simulated user is, and which tools are only played.",
    "simulate": "Simulations: play users against a workflow, and judge it.",
    "doctor": "Check this installation and say how to mend what is wrong.",
    "config": "Configuration: check it, and show where each value is from.",
    "migrate": "Move this home's store into a PostgreSQL database.",
    "version": "Print the version.",
}
"""Every verb with its short help. The module is `module_of` it, its command there `command`."""

COMPLETION = "_DRAGOMAN_COMPLETE"
"""Set by shells; a person sets up completion with `eval "$(_DRAGOMAN_COMPLETE=bash_source dragoman)"`, or zsh, fish."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


def module_of(verb: str) -> str:
    return f"dragoman.cli.{verb.replace('-', '_')}"


class Verbs(click.Group):
    """A group that imports a verb when it is called, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(module_of(cmd_name)).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    "dragoman",
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Begin with: dragoman demo, or dragoman serve and then dragoman ask TEXT --url http://127.0.0.1:8080",
)
@click.version_option(__version__, prog_name="dragoman", message="%(prog)s %(version)s")
@global_options
def cli() -> None:
    """One assistant server that existing assistant clients can talk to unchanged."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 ok, 2 usage, 3 not found, 4 denied, 5 upstream failed, 75 try later,
    78 bad config, 130 interrupted, 1 a fault of ours."""
    arguments = list(sys.argv[1:] if args is None else args)
    if instruction := os.environ.get(COMPLETION):
        from click.shell_completion import shell_complete  # noqa: PLC0415 only a shell asks for it

        return shell_complete(cli, {}, "dragoman", COMPLETION, instruction)
    try:
        with cli.make_context("dragoman", arguments) as context:
            code: object = cli.invoke(context)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough. What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from dragoman.cli.failing import explain  # noqa: PLC0415 only needed when something went wrong

        return explain(error, verbose=any(argument in ("-v", "--verbose", "-vv") for argument in arguments))
