"""The house: everything that was put together, and what may be put in the place of the real thing."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from msgspec import Struct

from dragoman.access.credentials import Authenticator
from dragoman.access.minting import Mint
from dragoman.access.ports import AccessStore
from dragoman.access.sealing import Sealer
from dragoman.access.widget_sessions import WidgetSessions
from dragoman.core.names import Clock, ProjectId
from dragoman.core.records import Records
from dragoman.edge.asgi import App
from dragoman.edge.desk import Desk
from dragoman.edge.metrics import Gauge
from dragoman.edge.watching import Watch
from dragoman.models.connected import ConnectedModels
from dragoman.runtime.connectors import Connectors
from dragoman.runtime.context import ContextStep
from dragoman.runtime.conversations import Conversations
from dragoman.runtime.knowledge import KnowledgeBase
from dragoman.runtime.ports import Model, Store
from dragoman.runtime.project_settings import ProjectSettings
from dragoman.runtime.runs import Runs
from dragoman.runtime.sources import Sources
from dragoman.runtime.staging import Stagings
from dragoman.runtime.test_profiles import TestProfiles
from dragoman.runtime.tool_ports import Tools, WorkflowTools
from dragoman.runtime.workflows import Workflows
from dragoman.server.config_shapes import Config
from dragoman.tools.connections.dataset_info import DatasetHandlers
from dragoman.tools.mcp.caller import McpCaller
from dragoman.wire.dialect import Dialect


class Parts(Struct, frozen=True):
    """What may be put in the place of the real thing, each by itself. Models are closed with the house, as its own
    would be; a store stays open, for whoever brought it may open another house on it."""

    clock: Clock | None = None
    store: Store | None = None
    access: AccessStore | None = None
    models: Mapping[str, Model] | None = None
    tools: Tools | None = None
    dialects: tuple[Dialect, ...] | None = None


NO_PARTS = Parts()


class House:
    """Everything that was put together, for the server and the command line to use."""

    def __init__(self, config: Config, home: Path, clock: Clock) -> None:
        self.config = config
        self.home = home
        self.clock = clock
        self.dialects: tuple[Dialect, ...]
        self.store: Store
        self.ephemeral: Store
        """For what must leave nothing behind."""
        self.access: AccessStore
        self.records: Records
        self.authenticator: Authenticator
        self.mint: Mint
        self.sessions: WidgetSessions
        self.sealer: Sealer
        self.models: ConnectedModels
        self.connectors: Connectors
        self.knowledge: KnowledgeBase
        self.context: ContextStep
        self.datasets: DatasetHandlers
        self.tools: Tools
        self.settings: ProjectSettings
        self.sources: Sources
        self.workflows: Workflows
        self.profiles: TestProfiles
        self.stagings: Stagings
        self.mcp: McpCaller
        self.workflow_tools: WorkflowTools
        self.runs: tuple[Runs, ...]
        self.conversations: Conversations
        self.desk: Desk
        self.app: App
        self.watch: Watch
        self.announce: Callable[[str], None] = lambda url: None
        """Tells other processes on this store where we are to be reached."""
        self.take_up: Callable[[], Awaitable[None]]
        """Drives on the runs that a dead process left behind, and from then on those that are found undriven."""
        self.project = ProjectId(config.defaults.project)
        self.recovered = 0
        self.warnings: tuple[str, ...] = ()
        """What in the configuration is allowed and most likely a slip."""
        self.gauges: dict[str, Gauge] = {"live_runs": ("Runs being driven now.", lambda: self.desk.live_runs)}
