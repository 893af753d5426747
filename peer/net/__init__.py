"""The only room of the core with sockets, timers and tasks."""
