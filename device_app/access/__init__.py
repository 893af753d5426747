"""Who may do what on this device: decisions, changes of users and invites, the audit trail."""
