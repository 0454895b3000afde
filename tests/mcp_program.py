"""An MCP server for tests that speaks over stdin and stdout and is there at once: the standard library alone, in the
revision 2025-06-18. `tests.mcp_server` is one made with the SDK, which takes seconds to import.

    python mcp_program.py             ends when its stdin does
    python mcp_program.py stubborn    starts a child, writes both process ids to $PIDS, and ends only when killed
    python mcp_program.py leaving     starts a child, and ends when its stdin does: the child stays
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REVISION = "2025-06-18"
PNG = bytes(range(60))
_ANYTHING = {"type": "object"}
NAMES = ("big", "echo", "environment", "fail", "find_ticket", "key", "picture", "wait")


class Failed(Exception):
    """A tool says that it could not."""


def texts(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}]


def call(name: str, arguments: dict[str, Any], meta: dict[str, Any]) -> list[dict[str, Any]]:
    match name:
        case "echo":
            return texts(arguments["text"])
        case "find_ticket":
            return texts(json.dumps({"number": arguments["number"], "state": "open"}))
        case "picture":
            image = {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
            return [*texts("a picture"), image]
        case "key":
            return texts(f"{meta.get('dragoman/key')} None ")
        case "big":
            return texts("x" * arguments["size"])
        case "environment":
            return texts(" ".join(sorted(os.environ)))
        case "wait":
            time.sleep(arguments["seconds"])
            return texts("done")
        case "fail":
            raise Failed(arguments["text"])
        case _:
            raise Failed(f"Unknown tool: {name}")


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            info = {"name": "helpdesk", "version": "1"}
            return {"protocolVersion": REVISION, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [{"name": name, "inputSchema": _ANYTHING} for name in NAMES]}
        case "tools/call":
            try:
                return {"content": call(params["name"], params.get("arguments", {}), params.get("_meta", {}))}
            except Failed as error:
                return {"content": texts(str(error)), "isError": True}
        case _:
            return {}


def main(words: list[str]) -> None:
    if words:
        child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        Path(os.environ["PIDS"]).write_text(f"{os.getpid()} {child.pid}")
    if "stubborn" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked and "method" in asked:
            result = answer(asked["method"], asked.get("params", {}))
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
    while "stubborn" in words:
        signal.pause()


def command(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-S", __file__, *words)


if __name__ == "__main__":
    main(sys.argv[1:])
