"""Runs cases of the Autobahn test suite against a WebSocket server and prints the verdicts as JSON.

    python -m tests.support.autobahn_cases PORT CONCURRENCY INCLUDE...

The original runs under Python 2.7 only; kosoku drives its case files as they are.
"""

import asyncio
import json
import sys

from kosoku import FailureError, run_fuzzingclient


async def _verdicts(port: str, concurrency: int, include: list[str]) -> dict[str, list[object]]:
    try:
        results = await run_fuzzingclient(
            f"127.0.0.1:{port}", include, None, concurrency=concurrency
        )
    except FailureError as failure:
        results = failure.results
    return {
        each.case_id: [each.behavior.value, each.behavior_close.value, each.remote_close_code]
        for each in results
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_verdicts(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))))
