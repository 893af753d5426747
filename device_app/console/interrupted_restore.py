"""A restore that a power cut has interrupted: found and finished before a file is opened.

The steps are in `pending_restore`, which is imported only if there is one.
"""

import os
from contextlib import suppress

from device_app.settings.paths import Paths
from iam import files


def finish_interrupted(paths: Paths) -> None:
    """Finish a restore that was interrupted; else do nothing.

    Raises:
        AppError: it cannot be finished, or is running now.
    """
    with suppress(OSError), files.acting_as_owner_of(paths.state):
        if not (os.path.lexists(paths.restore_draft) or os.path.lexists(paths.restore_steps)):
            return
    from device_app.console import pending_restore  # noqa: PLC0415 - hardly ever needed

    pending_restore.resume(paths)
