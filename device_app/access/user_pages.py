"""The users by name, page by page."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from device_app.limits import USERS_PAGE_DEFAULT
from iam.model import State, User, differing
from iam.store import Store


class UserPages:
    """The users in the order of their names (by code points), without sorting them for each page.

    A page shows the users as they are when it is made. If users are added or renamed in between,
    later pages take that into account, and earlier ones do not.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state: State | None = None
        self._names: list[str] = []

    def page(self, after: str, count: int) -> list[User]:
        """Return the first `count` users whose names come after a text; "" comes first."""
        names, users = self._current(), self._store.state.users
        begin = bisect_right(names, after)
        return [users[name] for name in names[begin : begin + count]]

    def each(self) -> Iterator[User]:
        """Yield all users, reading a page at a time; none is kept while the caller waits."""
        after = ""
        while page := self.page(after, USERS_PAGE_DEFAULT):
            yield from page
            after = page[-1].name

    def _current(self) -> list[str]:
        """The sorted names of the store's state; a change moves only what it touched."""
        before, state = self._state, self._store.state
        if before is None or before is state:
            self._names = sorted(state.users) if before is None else self._names
        else:
            for was, now in differing(before, state):
                if was is not None and was.name not in state.users:
                    del self._names[bisect_left(self._names, was.name)]
                if now is not None and now.name not in before.users:
                    insort(self._names, now.name)
        self._state = state
        return self._names
