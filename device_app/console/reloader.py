"""Applying the configuration and the policies again while the device runs."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from device_app.access.authority import Authority
from device_app.access.policies import Policies, PolicyReloaded
from device_app.errors import ConfigError
from device_app.process.notify import ServiceManager
from device_app.settings import config
from device_app.settings.config import Settings
from device_app.settings.limits import LIMIT_SETTINGS
from device_app.settings.paths import Paths
from iam.limits import IamLimits

_log = logging.getLogger("handfast.reload")
_LIVE = {f"limits.{name}": name for name, one in LIMIT_SETTINGS.items() if one.is_live}


class PolicyReloadAnswer(PolicyReloaded):
    """`policy reload`: the policies in force, and the settings that need a restart."""

    restart_needed: list[str]


class Reloader:
    """Reloads what needs no restart: the policies, and the limits that are marked so."""

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        authority: Authority,
        policies: Policies,
        manager: ServiceManager,
    ) -> None:
        self._paths = paths
        self._started_with = self._loaded = settings
        self._authority = authority
        self._policies = policies
        self._manager = manager
        self._scheduled: set[asyncio.Task[None]] = set()

    async def reload(self) -> PolicyReloadAnswer:
        """Apply the files and return what is in force.

        `restart_needed` lists the settings that have changed since the start and wait for a
        restart. The service manager is told of begin and end. Raises `ConfigError` for a file with
        an error; then nothing has changed.
        """
        self._manager.reloading()
        trouble = "the last reload has failed"
        try:
            answer = await self._reload()
            trouble = ""
        except ConfigError as error:
            trouble = f"the last reload was refused: {error}"
            raise
        finally:
            self._manager.reloaded(trouble)
        return answer

    async def _reload(self) -> PolicyReloadAnswer:
        try:
            settings = await asyncio.to_thread(self._read)
        except ConfigError as error:
            _log.error("the configuration was not reloaded: %s %s", error, error.advice)
            raise
        view = await self._policies.reload()
        changed = config.changed_keys(self._loaded, settings)
        self._authority.adopt_limits(
            _with_live(self._authority.limits, settings.iam_limits, changed)
        )
        self._loaded = settings
        waiting = [
            key for key in config.changed_keys(self._started_with, settings) if key not in _LIVE
        ]
        if waiting:
            _log.warning("these settings take effect after a restart: %s", ", ".join(waiting))
        return {**view, "restart_needed": waiting}

    def _read(self) -> Settings:
        """Read the configuration files. Runs in a thread."""
        report_passed_over(self._paths)
        return config.load(self._paths.config_files)

    def schedule(self) -> None:
        """Reload soon; errors are in the log, in `status` and audited."""
        task = asyncio.create_task(self._quietly(), name="reload")
        self._scheduled.add(task)
        task.add_done_callback(self._scheduled.discard)

    async def close(self) -> None:
        """Wait for the reloads that are scheduled."""
        await asyncio.gather(*self._scheduled, return_exceptions=True)

    async def _quietly(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            return


def report_passed_over(paths: Paths) -> None:
    """Log what is in the folder of configuration files and is not read.

    Raises:
        ConfigError: the folder cannot be read.
    """
    for warning in paths.config_drop_ins.warnings:
        _log.warning("%s", warning)


def _with_live(now: IamLimits, new: IamLimits, changed: Iterable[str]) -> IamLimits:
    names = (_LIVE[key] for key in changed if key in _LIVE)
    return replace(now, **{name: getattr(new, name) for name in names})
