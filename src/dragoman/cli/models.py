"""`dragoman models`: ls, test."""

from time import monotonic
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from dragoman.cli.opening import in_house, load_settings
from dragoman.cli.options import global_options, json_option
from dragoman.cli.terminal import dim, note, say, say_json, say_table, shorten
from dragoman.cli.times import fine
from dragoman.core.errors import BackendFailed, NotFound
from dragoman.core.messages import said
from dragoman.runtime.ports import Model, Prompt, ReplyDone, TextPiece, ThinkingPiece
from dragoman.server.config_shapes import ModelTable, OfflineModel, OpenAIModel, ScriptedModel

if TYPE_CHECKING:
    from dragoman.server.house import House

QUESTION = "Answer with the one word: ready"
ANSWER_TOKENS_MAX = 64
"""Enough for one word, and for a model that thinks a little first."""


class Probe(Struct, frozen=True):
    """One tiny call. `first_s` is when the first piece of text came; None where nothing was streamed."""

    streamed: bool
    text: str
    took_s: float
    first_s: float | None
    prompt_tokens: int
    completion_tokens: int


class Listed(Struct, frozen=True):
    name: str
    kind: str
    what: str
    fallback: tuple[str, ...]


@click.group("models", short_help="Models: list them, and try one.")
def command() -> None:
    """Models: what answers. Without any configured there is one, "offline", which is no LLM."""


@command.command("ls")
@json_option
@global_options
def ls(as_json: bool) -> None:
    """List the configured models."""
    config = load_settings(resolve_secrets=False).config
    default = config.defaults.model
    found = [_described(name, table) for name, table in config.models.items()]
    if as_json:
        say_json([{**msgspec.structs.asdict(item), "default": item.name == default} for item in found])
        return
    rows = [
        (f"{item.name}{' *' * (item.name == default)}", item.kind, item.what, " ".join(item.fallback)) for item in found
    ]
    say_table(("NAME", "KIND", "WHAT", "FALLBACK"), rows)
    if default == "offline" and len(found) == 1:
        note("The offline model is no LLM. Configure one under [models.main]; docs/config.example.toml shows how.")


@command.command("test")
@click.argument("name", default="")
@json_option
@global_options
def test(name: str, as_json: bool) -> None:
    """Ask the model NAME (else the default one) twice, at once and streamed, and print how long it took."""

    async def work(house: "House") -> tuple[Probe, Probe]:
        chosen = name or house.config.defaults.model
        if chosen not in house.config.models:
            known = ", ".join(house.config.models)
            raise NotFound(f"There is no model {chosen}; known are: {known}", what="model")
        model, wire_name = await house.models.choose(house.project, chosen)
        whole = await probe(model, wire_name, stream=False)
        return whole, await probe(model, wire_name, stream=True)

    probes = in_house(work, writer=False, resolve_secrets=True)
    if as_json:
        say_json([_probe_json(each) for each in probes])
        return
    for each in probes:
        way = "streamed" if each.streamed else "at once"
        first = f"first text after {fine(each.first_s)}  " if each.first_s is not None else ""
        tokens = f"{each.prompt_tokens} in / {each.completion_tokens} out tokens"
        say(f"ok  {way:<8}  {fine(each.took_s):>7}  {first}{tokens}")
        say(dim(f"    {shorten(each.text)}"))


async def probe(model: Model, wire_name: str, *, stream: bool) -> Probe:
    """Ask once and time it. Raises BackendFailed."""
    prompt = Prompt((said("user", QUESTION),), model_name=wire_name, max_tokens=ANSWER_TOKENS_MAX, key="probe")
    began_s = monotonic()
    first_s: float | None = None
    done: ReplyDone | None = None
    async for piece in model.reply(prompt, stream=stream):
        if isinstance(piece, TextPiece | ThinkingPiece) and first_s is None:
            first_s = monotonic() - began_s
        elif isinstance(piece, ReplyDone):
            done = piece
    if done is None:
        raise BackendFailed("The model ended its answer without saying that it was done.", code="upstream_truncated")
    usage = done.usage
    took_s = monotonic() - began_s
    return Probe(stream, done.text, took_s, first_s, usage.prompt_tokens, usage.completion_tokens)


def _probe_json(each: Probe) -> dict[str, Any]:
    return {
        "streamed": each.streamed,
        "text": each.text,
        "seconds": round(each.took_s, 4),
        "first_seconds": None if each.first_s is None else round(each.first_s, 4),
        "prompt_tokens": each.prompt_tokens,
        "completion_tokens": each.completion_tokens,
    }


def _described(name: str, table: ModelTable) -> Listed:
    match table:
        case OpenAIModel(url=url, model_name=model_name):
            kind, what = "openai", f"{model_name} at {url}"
        case OfflineModel():
            kind, what = "offline", "the built-in router: no LLM, no key, no network"
        case ScriptedModel(file=file):
            kind, what = "scripted", file
    return Listed(name, kind, what, table.fallback)
