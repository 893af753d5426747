"""The resources that ETSI's test descriptions expect of a server, as a module of a device."""

import asyncio

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import ObservableResource, Resource

from device_app.resource_spec import Board, ResourceSpec
from peer.net.link_format import Link, encode
from peer.net.preconditions import PRECONDITIONS, require_preconditions

LARGE = bytes(range(97, 122)) * 60
ACTIONS = dict.fromkeys(("GET", "PUT", "POST", "DELETE"), "Plug:Use")


class Any(Resource):
    """It answers every method; a POST creates a resource elsewhere."""

    ct = 0

    def __init__(self, body: bytes = b"test", **attributes: str) -> None:
        super().__init__()
        self.body = body
        for name, value in attributes.items():
            setattr(self, name, value)

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        asked = "&".join(request.opt.uri_query).encode()
        return aiocoap.Message(payload=self.body + asked, content_format=0)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        require_preconditions(request, await self.render_get(request))
        self.body = request.payload
        return aiocoap.Message()

    async def render_post(self, _request: aiocoap.Message) -> aiocoap.Message:
        answer = aiocoap.Message(code=Code.CREATED)
        answer.opt.location_path = ("location1", "location2", "location3")
        answer.opt.location_query = ("first=1", "second=2")
        return answer

    async def render_delete(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message()


class Separate(Any):
    """Its answer comes after the acknowledgement of the request, whose timer ends earlier."""

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        await asyncio.sleep(2 * request.transport_tuning.EMPTY_ACK_DELAY)
        return await super().render_get(request)


class Formats(Resource):
    """One state in two formats."""

    ct = (0, 41)

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        is_xml = request.opt.accept == 41
        body = b"<x/>" if is_xml else b"x"
        return aiocoap.Message(payload=body, content_format=41 if is_xml else 0)


class Create(Resource):
    """A PUT creates it."""

    def __init__(self) -> None:
        super().__init__()
        self.body: bytes | None = None

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        is_new = self.body is None
        require_preconditions(
            request, None if is_new else aiocoap.Message(payload=self.body or b"")
        )
        self.body = request.payload
        return aiocoap.Message(code=Code.CREATED if is_new else Code.CHANGED)


class Returned(Any):
    """A POST returns the body and its length."""

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=request.payload, content_format=0)


class Links(Resource):
    """Links to the resources below it."""

    ct = 40

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        links = [Link(("path", name), {}) for name in ("sub1", "sub2")]
        return aiocoap.Message(payload=encode(links), content_format=40)


class Observed(ObservableResource):
    """A state that its test changes."""

    ct = 0

    def __init__(self) -> None:
        super().__init__()
        self.body = b"first"
        self.format = 0
        self.is_gone = False
        self.observers = 0

    def update_observation_count(self, newcount: int) -> None:
        self.observers = newcount

    def change(self, body: bytes) -> None:
        self.body = body
        self.updated_state()

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        if self.is_gone:
            return aiocoap.Message(code=Code.NOT_FOUND)
        return aiocoap.Message(payload=self.body, content_format=self.format)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        self.format = int(request.opt.content_format or 0)
        self.change(request.payload)
        return aiocoap.Message()

    async def render_delete(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.is_gone = True
        self.updated_state()
        return aiocoap.Message()


#: The observed resources of the devices that were started, in order.
OBSERVED: list[Observed] = []


def resources(_board: Board) -> list[ResourceSpec]:
    OBSERVED.append(Observed())
    made: dict[str, Resource] = {
        "/test": Any(),
        "/separate": Separate(),
        "/seg1/seg2/seg3": Any(),
        "/query": Any(b"?"),
        "/location-query": Any(),
        "/multi-format": Formats(),
        "/validate": Any(b"valid"),
        "/create1": Create(),
        "/large": Any(LARGE),
        "/large-update": Any(LARGE),
        "/large-create": Any(),
        "/large-post": Returned(),
        "/obs": OBSERVED[-1],
        "/type12": Any(rt="Type1 Type2", if_="If1"),
        "/type23": Any(rt="Type2 Type3", if_="If2"),
        "/type13": Any(rt="Type1 Type3", if_="foo"),
        "/type0": Any(rt=""),
        "/link1": Sized(b"1"),
        "/link2": Any(),
        "/link3": Any(),
        "/path": Links(),
        "/path/sub1": Any(b"sub1"),
        "/path/sub2": Any(b"sub2"),
    }
    return [
        ResourceSpec(
            path,
            resource,
            actions={
                method: action
                for method, action in ACTIONS.items()
                if hasattr(resource, f"render_{method.lower()}")
            },
            options=PRECONDITIONS,
        )
        for path, resource in made.items()
    ]


class Sized(Any):
    """Its link has the size."""

    def get_link_description(self) -> dict[str, str | None]:
        return {"sz": str(len(self.body))}
