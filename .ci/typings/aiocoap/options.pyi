from collections.abc import Iterator, Sequence

from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.optiontypes import BlockOption, OptionType

# An absent option reads as None, or as an empty tuple if it is repeatable. None removes it.
class Options:
    accept: ContentFormat | int | None
    content_format: ContentFormat | int | None
    etag: bytes | None
    etags: Sequence[bytes]
    hop_limit: int | None
    if_match: Sequence[bytes]
    if_none_match: bool
    location_path: Sequence[str]
    location_query: Sequence[str]
    max_age: int | None
    no_response: int | None
    observe: int | None
    request_tag: Sequence[bytes]
    size1: int | None
    size2: int | None
    uri_path: Sequence[str]
    uri_query: Sequence[str]
    @property
    def block1(self) -> BlockOption.BlockwiseTuple | None: ...
    @block1.setter
    def block1(self, value: tuple[int, bool, int] | None) -> None: ...
    @property
    def block2(self) -> BlockOption.BlockwiseTuple | None: ...
    @block2.setter
    def block2(self, value: tuple[int, bool, int] | None) -> None: ...
    def add_option(self, option: OptionType) -> None: ...
    def get_option(self, number: int) -> Sequence[OptionType]: ...
    def option_list(self) -> Iterator[OptionType]: ...
    def encode(self) -> bytes: ...
