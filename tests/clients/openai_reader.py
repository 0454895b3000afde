"""Reads an answer with the stream parser of OpenAI's SDK, as it reads one of its own.

    openai_reader.py URL CREDENTIAL PATH      the request's body comes on stdin

One JSON a line: each chunk as the SDK understood it; last, if the stream held an error, {"failed": its message}.
"""

import json
import sys

from openai import APIError, OpenAI, Stream
from openai.types.chat import ChatCompletionChunk


def main(url: str, credential: str, path: str) -> None:
    client = OpenAI(base_url=url, api_key=credential, max_retries=0)
    try:
        chunks = client.post(
            path,
            body=json.load(sys.stdin),
            cast_to=ChatCompletionChunk,
            stream=True,
            stream_cls=Stream[ChatCompletionChunk],
            options={"headers": {"kbn-xsrf": "true"}},
        )
        for chunk in chunks:
            print(chunk.model_dump_json(exclude_unset=True), flush=True)
    except APIError as error:
        print(json.dumps({"failed": error.message}))


main(*sys.argv[1:])
