"""Builds the objects of this package on one store, for the daemon or for a command without it."""

from dataclasses import dataclass

from device_app.access.audit_log import AuditLog
from device_app.access.authority import Authority
from device_app.access.clock import Clock, SystemClocks
from device_app.access.registry import Registry
from device_app.access.store_writer import StoreWriter
from iam.access import Access
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from iam.store import Store


@dataclass(frozen=True, slots=True)
class AccessControl:
    """The decisions about access on this device, and all changes. The caller closes the store."""

    store: Store
    clock: Clock
    writer: StoreWriter
    authority: Authority
    audit: AuditLog
    registry: Registry

    @classmethod
    def create(
        cls,
        store: Store,
        access: Access,
        clocks: SystemClocks,
        *,
        limits: IamLimits = DEFAULT_IAM_LIMITS,
    ) -> "AccessControl":
        """Build on an open store, with the roles and policies in force."""
        clock = Clock(clocks, floor=store.time_floor)
        writer = StoreWriter(store, clock)
        authority = Authority(store, clock, access, limits=limits)
        audit = AuditLog(store, writer, clocks, limits=limits)
        registry = Registry(store, writer, authority, audit, clock)
        return cls(store, clock, writer, authority, audit, registry)
