"""Reads a chat's events with httpx-sse until its turn has ended; comes back with Last-Event-ID when it is cut off.

    sse_reader.py URL CREDENTIAL CUT      it hangs up by itself after every CUT events; 0 = it does not

One JSON a line: id, SSE event name, type, data.
"""

import json
import sys
import time

import httpx
from httpx_sse import EventSource, connect_sse

ENDS = ("AGENT_EXECUTION_COMPLETED", "AGENT_EXECUTION_FAILED")
RETRY_S = 0.05


class Reader:
    def __init__(self, cut: int) -> None:
        self._cut = cut
        self.last = ""
        self.ended = False

    def read(self, source: EventSource) -> None:
        source.response.raise_for_status()
        for number, event in enumerate(source.iter_sse(), 1):
            seen = event.json()
            print(json.dumps({"id": event.id, "event": event.event, **seen}), flush=True)
            self.last = event.id
            self.ended = seen["type"] in ENDS
            if self.ended or number == self._cut:
                return


def main(url: str, credential: str, cut: str) -> None:
    reader = Reader(int(cut))
    with httpx.Client(headers={"Authorization": f"Bearer {credential}"}, timeout=20, trust_env=False) as client:
        while not reader.ended:
            headers = {"Last-Event-ID": reader.last} if reader.last else {}
            try:
                with connect_sse(client, "GET", url, headers=headers) as source:
                    reader.read(source)
            except httpx.TransportError:
                time.sleep(RETRY_S)


main(*sys.argv[1:])
