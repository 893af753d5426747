"""The process and the system that runs it: log, service manager, watchdog, garbage collector."""
