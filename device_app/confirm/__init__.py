"""How this board asks its user about a client: at a terminal, or over the control socket."""
