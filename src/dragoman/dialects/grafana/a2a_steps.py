"""A run's entries -> what A2A's frames tell of them, in order.

    submitted  working
      ( step.message*  ( step.toolCall+  step.complete{tool_use}  step.approval* REMOTE_TOOL_REQUEST*
                         step.toolResult* chart.data* ) )*
      step.message*  step.complete{end_turn}  completed
    …or, from anywhere:  failed | canceled | an error frame

With token streaming (Q16) a message that grows is shown between `message.stream.start` and `message.stream.complete`,
deltas first, and the whole of it as `step.message` before the latter, all under one artifactId. What was shown of a
reply that is then reset is *owed*: if the new try says the same, it goes on under the same id from there; if it says
something else, that message is closed without a `step.message`, which alone makes it one, and another is begun.

What agents of a workflow say to each other is no step.message: of such a reply the step.toolCall is told by which the
word is handed on, and a step.complete; if it is not handed on, it belongs to the step of the reply that follows.
"""

from typing import Any, assert_never

from msgspec import UNSET, Struct

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId
from dragoman.core.operations import Started
from dragoman.core.tunnel import TOOLSET as TUNNEL
from dragoman.dialects.grafana import a2a_artifacts as make
from dragoman.dialects.grafana import a2a_shapes as shapes
from dragoman.dialects.grafana.a2a_shapes import DataPart, TextPart
from dragoman.dialects.grafana.charts import chart_of

Results = list[shapes.Result]
"""What goes into frames."""


class Can(Struct, frozen=True):
    """What a reader can do with frames.

    `remote_tools`: it answers REMOTE_TOOL_REQUEST. It matches these with every step.toolCall it has seen, and waits for
    ever if one is left over (Q17): so it is shown only its own calls. `status_text`: it shows the text of a status.
    """

    token_streaming: bool = False
    remote_tools: bool = False
    status_text: bool = True


class _Step(Struct, frozen=True):
    """A reply that is finished and whose step.complete is still to be said."""

    number: int
    usage: Usage
    internal: bool
    """It said something to other agents alone, and called nothing: only with what follows it makes a step."""


class Steps:
    """What one reader is told of one run. `started` must be set before the first entry."""

    def __init__(self, can: Can) -> None:
        self._can = can
        self._started: Started | None = None
        self._working = False
        self._reply = ""
        """Id of the reply that is being written: the seq where it began."""
        self._replies = 0
        self._model = ""
        self._step: _Step | None = None
        self._calls: dict[CallId, ToolCall] = {}
        self._called: set[CallId] = set()
        """Calls of which a step.toolCall was shown."""
        self._open = ""
        """Id of the message that is shown as it grows, "" if none is."""
        self._shown: list[str] = []
        """Its text so far."""
        self._owed = ""
        self._matched = 0
        """How much of `_owed` the new try has said so far."""
        self._thoughtless = False
        """Thoughts of this reply were shown before it was reset; those of the new try are not."""
        self._entry = 0
        self._artifacts = 0
        self.ended = False

    @property
    def started(self) -> Started:
        if self._started is None:
            raise RuntimeError("entries before the stream was opened")
        return self._started

    def begin(self, started: Started) -> None:
        self._started = started

    def take(self, entry: Entry) -> Results:
        """What is to be told about one entry."""
        self._entry, self._artifacts = entry.seq, 0
        event = entry.event
        match event:
            case ev.RunClaimed() | ev.ReplyStarted():
                return self._work(event, entry)
            case ev.TextAdded(text=text):
                return self._text(text) if self._can.token_streaming else []
            case ev.ThinkingAdded(text=text):
                return self._thought(text) if self._can.token_streaming else []
            case ev.ReplyFinished():
                return self._finish_reply(event)
            case ev.ToolStarted(call=call) | ev.CallAdded(call=call):
                return self._call(call)
            case ev.ToolReturned():
                return self._return(event)
            case ev.ApprovalRequested(call=call):
                asked = make.approval(self.started, event, at=entry.at)
                return [*self._call(call), *self._complete("tool_use"), self._artifact("step.approval", asked)]
            case ev.ClientToolRequested():
                return self._ask_client(event, entry.at)
            case ev.AttemptReset():
                self._reset()
                return []
            case ev.RunCompleted() | ev.RunNeedsClient() | ev.RunFailed() | ev.RunCancelled():
                return self._end(event, entry.at)
            case (
                ev.ConversationCreated()
                | ev.MessagesImported()
                | ev.TurnReceived()
                | ev.ApprovalDecided()
                | ev.ClientToolClaimed()
                | ev.ClientToolAnswered()
                | ev.HandedOver()
                | ev.CancelAsked()
                | ev.TitleGiven()
                | ev.SharingChanged()
                | ev.ArchivingChanged()
                | ev.Unread()
            ):
                return []
            case _:
                assert_never(event)

    def close(self) -> Results:
        """What closes a message that is left open."""
        if not self._open:
            return []
        opened, self._open = self._open, ""
        self._shown, self._owed, self._matched = [], "", 0
        return [make.artifact(self.started, opened, "message.stream.complete")]

    # -- replies ---------------------------------------------------------------------------------------------------

    def _work(self, event: ev.RunClaimed | ev.ReplyStarted, entry: Entry) -> Results:
        told: Results = []
        if isinstance(event, ev.ReplyStarted):
            told = [] if self._step and self._step.internal else self._complete("tool_use")  # the turn goes on
            self._reply, self._model = str(entry.seq), event.model
        if not self._working:
            self._working = True
            told.append(make.status(self.started, "working", at=entry.at))
        return told

    def _text(self, text: str) -> Results:
        if self._owed:
            begins = self._matched
            self._matched = min(begins + len(text), len(self._owed))
            said = self._matched - begins
            if self._owed[begins : self._matched] != text[:said]:
                text = self._owed[:begins] + text
                return [*self.close(), *self._grow(text)]
            if self._matched == len(self._owed):
                self._owed = ""
            text = text[said:]
        return self._grow(text) if text else []

    def _grow(self, text: str) -> Results:
        told = self._opening()
        self._shown.append(text)
        return [*told, *make.delta(self.started, self._open, text, "text")]

    def _thought(self, text: str) -> Results:
        if self._thoughtless or not text:
            return []
        return [*self._opening(), *make.delta(self.started, self._open, text, "thinking")]

    def _opening(self) -> Results:
        if self._open:
            return []
        self._open = self._reply
        return [make.artifact(self.started, self._open, "message.stream.start")]

    def _reset(self) -> None:
        if self._open:
            self._owed = "".join(self._shown)
            self._matched = 0
            self._thoughtless = True

    def _finish_reply(self, event: ev.ReplyFinished) -> Results:
        told: Results = []
        if self._open:
            shown = "".join(self._shown)
            self._owed = ""
            if not event.text.startswith(shown):
                told = self.close()
            elif rest := event.text[len(shown) :]:
                told = self._grow(rest)
        told += self._message(event.text)
        self._thoughtless = False
        self._replies += 1
        heard = self._step.usage if self._step else Usage()
        self._step = _Step(self._replies, heard + event.usage, bool(event.internal) and not event.calls)
        self._calls = {call.id: call for call in event.calls}
        return told

    def _message(self, text: str) -> Results:
        """The whole text as one step.message, or as several if it is very long. Closes the message that is open.

        Whoever streams takes each piece behind the first for news, unless it comes inside a stream of its own.
        """
        started, opened = self.started, self._open
        told: Results = []
        for number, piece in enumerate(make.pieces_of(text), start=1):
            name = (opened or self._reply) if number == 1 else f"{self._reply}.{number}"
            message = make.artifact(started, name, "step.message", TextPart(piece))
            if number == 1:
                told += [message, *self.close()]
            elif opened:
                begun = make.artifact(started, name, "message.stream.start")
                told += [begun, message, make.artifact(started, name, "message.stream.complete")]
            else:
                told.append(message)
        return told or self.close()

    def _complete(self, reason: shapes.StopReason) -> Results:
        """step.complete of the last reply, if it is not said yet."""
        if self._step is None:
            return []
        step, self._step = self._step, None
        usage = shapes.UsageData(step.usage.prompt_tokens, step.usage.completion_tokens, self._model or UNSET)
        data = DataPart(shapes.StepData(f"{self.started.run}-step-{step.number}", reason))
        return [self._artifact("step.complete", data, **{"agent-traceability": {"usage": usage}})]

    # -- tools -----------------------------------------------------------------------------------------------------

    def _call(self, call: ToolCall, *, own: bool = False) -> Results:
        """step.toolCall, once for each call. `own` = the reader itself is to run it."""
        self._calls[call.id] = call
        if call.id in self._called or (self._can.remote_tools and not own):
            return []
        self._called.add(call.id)
        return [self._artifact("step.toolCall", make.tool_call(call))]

    def _ask_client(self, event: ev.ClientToolRequested, at: float) -> Results:
        asked = event.expires_at > 0 and event.toolset != TUNNEL
        told = [*self._call(event.call, own=asked), *self._complete("tool_use")]
        if asked and self._can.remote_tools:
            told.append(make.remote_request(self.started, event, at=at))
        return told

    def _return(self, event: ev.ToolReturned) -> Results:
        call = self._calls.get(event.call_id)
        told = [] if call is None else self._call(call)
        told += self._complete("tool_use")
        told.append(self._artifact("step.toolResult", make.tool_result(event, call.name if call else "")))
        if not event.is_error and (chart := chart_of(call, event.content)):
            told.append(self._artifact("chart.data", DataPart(chart)))
        return told

    # -- ends ------------------------------------------------------------------------------------------------------

    def _end(self, end: ev.RunEnd, at: float) -> Results:
        self.ended = True
        told = self.close()
        text = make.end_text(end)
        if not text:
            told += self._complete("end_turn" if isinstance(end, ev.RunCompleted) else "tool_use")
        elif not self._can.status_text:
            told.append(self._artifact("step.message", TextPart(text)))
        told.append(make.status(self.started, make.state_of(end), at=at, text=text, final=True))
        return told

    def _artifact(self, name: str, part: TextPart | DataPart, **metadata: Any) -> shapes.ArtifactUpdate:
        """Ids are told by the place of their entry: who reads again gets the same ones."""
        self._artifacts += 1
        own = f"{self._entry}-{self._artifacts}"
        return make.artifact(self.started, own, name, part, **metadata)
