"""What tests of connectors share: connectors over records in memory, and an executor that notes what it was told."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from dragoman.access.sealing import Sealer
from dragoman.core.connectors import Connector, CreateConnector, Executed
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.records import Records
from dragoman.runtime.connector_checks import preconfigured
from dragoman.runtime.connectors import Connectors, Opened
from dragoman.runtime.reach import Reach
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P = ProjectId("p")
CHIEF = Principal(P, "chief", "chief", frozenset({Scope.CHAT_RUN, Scope.RESOURCES_WRITE, Scope.TOOLS_USE}))
MEMBER = Principal(P, "member", "member", frozenset({Scope.CHAT_RUN}))
STRANGER = Principal(ProjectId("q"), "chief", "chief", frozenset({Scope.ADMIN}))

AI = {"apiProvider": "OpenAI", "apiUrl": "http://127.0.0.1:9/v1/chat/completions", "defaultModel": "gpt-4"}
KEY = {"apiKey": "sk-very-secret-key"}


class Executing:
    """Notes what is executed, opened as it comes."""

    def __init__(self) -> None:
        self.executed: list[tuple[Opened, dict[str, Any], str]] = []
        self.without: dict[str, str] = {}

    def lacking(self, type_id: str) -> str:
        return self.without.get(type_id, "")

    async def execute(self, connector: Opened, params: Mapping[str, Any], *, key: str) -> Executed:
        self.executed.append((connector, dict(params), key))
        return Executed(connector.id, True)


class Board:
    """Connectors with all that they stand on."""

    def __init__(self, records: Records | None = None, *, reach: Reach | None = None, key: bytes = b"k") -> None:
        numbers, nonces = count(1), count(1)
        self.clock = FixedClock()
        self.records = records or MemoryRecords(self.clock)
        self.executor = Executing()
        self.reach = reach or Reach()
        self.connectors = Connectors(
            self.records,
            Sealer(key, lambda size: next(nonces).to_bytes(size, "big")),
            self.executor,
            configured=(preconfigured("main", "openai", "gpt-4o"), preconfigured("offline", "offline")),
            reach=self.reach,
            new_id=lambda: f"id{next(numbers)}",
        )

    async def make(
        self, type_id: str = ".server-log", name: str = "one", who: Principal = CHIEF, **more: Any
    ) -> Connector:
        return await self.connectors.create(who, CreateConnector(type_id, name, **more))

    async def make_ai(self, id: str = "ai", **config: Any) -> Connector:
        return await self.make(".gen-ai", id=id, config=AI | config, secrets=KEY)
