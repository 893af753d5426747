from collections.abc import Iterable

class Link:
    href: str
    attr_pairs: list[tuple[str, str | None]]
    def __init__(
        self,
        href: str,
        attr_pairs: list[tuple[str, str | None]] | None = ...,
        **kwargs: str | None,
    ) -> None: ...

class LinkFormat:
    links: list[Link]
    def __init__(self, links: Iterable[Link] | None = ...) -> None: ...

def parse(linkformat: str) -> LinkFormat: ...
