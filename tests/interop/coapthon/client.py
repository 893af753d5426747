"""A CoAP client of CoAPthon3: `coapthon METHOD URI`."""

import sys
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

from coapthon import defines
from coapthon.client.helperclient import HelperClient
from coapthon.messages.request import Request


def main(method: str, uri: str) -> None:
    url = urlsplit(uri)
    request = Request()
    request.destination = (url.hostname, url.port)
    request.code = getattr(defines.Codes, method.upper()).number
    request.uri_path = url.path.lstrip("/")
    request.uri_query = url.query
    request.token = b"ab"
    client = HelperClient(request.destination)
    answers: Queue[Any] = Queue()
    client.send_request(request, callback=answers.put)  # the callback gets separate responses too
    print(answers.get().payload)
    client.stop()


main(*sys.argv[1:])
