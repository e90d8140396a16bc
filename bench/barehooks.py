"""The bare loop: signed POSTs with aiohttp, and nothing else, in a process of its own.

Its arguments are the number of requests, how many are in flight, and the URL. It prints the
requests per second.
"""

import asyncio
import sys
import time
from itertools import count

import aiohttp
import uvloop

from bench.samples import EVENT_BODY
from deploylog.auth.standard_webhooks import make_secret, parse_secret, signature_headers


async def _run(number: int, in_flight: int, url: str) -> float:
    secret, numbers = parse_secret(make_secret()), count()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:

        async def send() -> None:
            while (next_ := next(numbers)) < number:
                headers = signature_headers(str(next_), time.time_ns(), EVENT_BODY, [secret])
                headers["content-type"] = "application/cloudevents+json"
                async with http.post(url, data=EVENT_BODY, headers=headers) as response:
                    await response.read()
                    assert response.status == 200

        start = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(in_flight)))
        return number / (time.perf_counter() - start)


if __name__ == "__main__":
    print(uvloop.run(_run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
