"""Access control of the device: decisions, changes of users and invites, the audit trail."""
