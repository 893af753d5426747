"""Modules of applications: importing them, checking their resources, and calling their handlers."""
